"""Recipes against the clock: CIFAR-10, a network of at most 6 M parameters, one GPU, and a fixed number of minutes in all.

The number of epochs follows from the step's operations, at the rate that pre-training a ViT-T with patches of 4 must reach on one
H200 (40,000 images/s, about 35 TFLOP/s), for nine tenths of the time. Crops, flips, erasing and mixing run on the device; there is no
RandAugment, which runs on a CPU. **Not yet run on a GPU**: the accuracies are goals.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..model.sizes import Size
from ..tasks.finetune import Finetune
from ..tasks.pretrain import Pretrain
from .entries import Entry, step_flops

IMAGES = 50_000
RATE = 40_000  # images of pre-training a second that one H200 must reach with ViT-T/4
VIT_T = Pretrain(data="cifar10", size="tiny", patch=4, image=32)


@dataclass(frozen=True, kw_only=True)
class Race:
    """Pre-training and fine-tuning to be done within ``minutes``, with an accuracy of at least ``goal`` percent."""

    minutes: int
    goal: float
    pretrain: Pretrain
    tune: Finetune

    @property
    def name(self) -> str:
        return f"cifar10-{self.minutes}min"

    @property
    def size(self) -> Size:
        return self.pretrain.size_at(32, 3)

    def planned_seconds(self, images: int = IMAGES) -> dict[str, float]:
        """The seconds of both parts at the rate above."""
        rate = RATE * step_flops(VIT_T, VIT_T.size_at(32, 3))
        parts = {"pre-training": self.pretrain, "fine-tuning": self.tune}
        return {name: part.epochs * images * step_flops(part, self.size) / rate for name, part in parts.items()}


_PRE = replace(VIT_T, decoder_depth=2, batch=512, epochs=100.0, warmup_epochs=5.0, base_lr=1e-3, graph=True)
_TUNE = Finetune(
    batch=500, epochs=50.0, warmup_epochs=3.0, base_lr=2e-3, layer_decay=0.75, drop_path=0.05, crop=(0.4, 1.0), mixup=0.8, cutmix=1.0,
    graph=True,
)  # fmt: skip
RACES = {
    race.minutes: race
    for race in (
        Race(minutes=5, goal=90.0, pretrain=_PRE, tune=_TUNE),
        Race(minutes=15, goal=94.0, pretrain=replace(_PRE, epochs=320.0, warmup_epochs=10.0),
             tune=replace(_TUNE, epochs=140.0, warmup_epochs=5.0, drop_path=0.1, erasing=0.1)),
        Race(minutes=45, goal=96.0, pretrain=replace(_PRE, epochs=1000.0, warmup_epochs=20.0),
             tune=replace(_TUNE, epochs=400.0, warmup_epochs=10.0, drop_path=0.1, erasing=0.25)),
    )
}  # fmt: skip


def entries() -> list[Entry]:
    """Both halves of every race, so that they can be run alone too."""
    return [
        half
        for race in RACES.values()
        for half in (
            Entry(name=race.name, what=f"pre-training for {race.goal:.0f} % in {race.minutes} minutes (minimae race)",
                  recipe=race.pretrain, size=race.size, images=IMAGES),
            Entry(name=f"{race.name}-finetune", what="fine-tune it on all labels", recipe=race.tune, start=race.name, size=race.size,
                  images=IMAGES, result="none; others: 89.8 % after 2,000 + 100 epochs"),
        )
    ]  # fmt: skip
