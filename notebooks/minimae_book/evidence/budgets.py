"""How much computing a claim gets: a minute in the tests, up to an hour of one core, half an hour on a GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from minimae.errors import nearest
from minimae.recipes import FASHION, FEW_LABELS, SCRATCH
from minimae.tasks.finetune import Finetune
from minimae.tasks.pretrain import Pretrain

TUNED, PROBE = "fine-tuned (%)", "linear probe (%)"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The scale at which the claims are tested. Every claim changes one thing in ``pretrain`` and runs the same evaluations."""

    name: str
    what: str
    """One line: data, model, length."""
    pretrain: Pretrain
    mask_epochs: float
    """Length of the runs that compare masks; a high ratio needs more time to pay off (docs/evidence.md)."""
    tune: Finetune
    scratch: Finetune
    """From scratch the same network has its own, better recipe."""
    labels: int
    """Labelled images for fine-tuning, except where their number is varied."""
    ladder: tuple[int, ...]
    """Numbers of labels."""
    epochs: tuple[float, ...]
    ratios: tuple[int, ...] = (10, 25, 50, 75, 90)
    """In percent."""
    depths: tuple[int, ...] = (1, 2, 4)
    """Depths or widths of the decoder; the first is that of ``pretrain``."""
    widths: tuple[int, ...] = (32, 64, 128)
    blocks: tuple[float, ...]
    """Blocks that are tuned."""
    dense: Pretrain
    """Pre-training on ``shapes``."""
    scenes: int
    """Training scenes for the linear head on each patch."""
    sources: tuple[str, ...] = ("photos", "shapes")
    """Other sets to pre-train on, drawn at the size and in the channels of ``pretrain.data``."""
    channels: int
    limit: int | None = None
    """Use at most this many images of each split."""
    test: int | None = None
    """Measure accuracy on at most this many test images."""
    probe_labels: int | None = None
    """Labelled images for the linear probe; None takes all."""
    judges: tuple[str, ...] = (TUNED, PROBE)
    """The evaluations of the encoders in a comparison."""
    seeds: tuple[int, ...] = (0, 1, 2)


NANO = replace(FASHION, image=28, epochs=20.0, warmup_epochs=2.0)
TINY = Pretrain(data="cifar10", size="tiny", patch=4, image=32, batch=512, epochs=40.0, warmup_epochs=4.0, base_lr=1e-3, graph=True)

LAPTOP = Budget(
    name="laptop",
    what="10,000 embedded images of Fashion-MNIST, 0.5 M parameters, 20 epochs (masks: 40); two CPU cores",
    pretrain=NANO, mask_epochs=40.0, tune=FEW_LABELS, scratch=SCRATCH, labels=1000, ladder=(100, 300, 1000, 3000),
    epochs=(5.0, 10.0, 20.0, 40.0, 80.0), blocks=(0, 0.5, 1, 2, 3, 4), channels=1, scenes=500,
    dense=replace(NANO, data="shapes", image=64, patch=8, epochs=60.0, warmup_epochs=6.0, base_lr=4e-3),
)  # fmt: skip

# Learning rates: the best of three or four with 10,000 labels, on 10,000 other training images and a seed that no result uses.
_MANY = replace(FEW_LABELS, batch=100, epochs=15.0, warmup_epochs=2.0, base_lr=1e-2)
FULL = replace(
    LAPTOP,
    name="full",
    what="all 60,000 + 10,000 images of Fashion-MNIST, 0.5 M parameters, 20 epochs, up to all labels; two CPU cores",
    pretrain=replace(NANO, data="fashion-full"), mask_epochs=20.0, tune=_MANY, scratch=replace(_MANY, base_lr=2.5e-3, layer_decay=1.0),
    labels=10_000, ladder=(1000, 10_000, 60_000),
)  # fmt: skip

_SMALL = replace(NANO, width=24, heads=2, depth=2, decoder_width=16, batch=32, epochs=1.0, warmup_epochs=0.0, log_every=5)
_FEW = replace(FEW_LABELS, epochs=2.0, warmup_epochs=0.0)
SMOKE = Budget(
    name="smoke",
    what="300 embedded images, a tiny network, one epoch: shows that everything runs, and says nothing about the claim",
    pretrain=_SMALL, mask_epochs=1.0, tune=_FEW, scratch=replace(_FEW, base_lr=5e-3, layer_decay=1.0), labels=100, ladder=(50, 100),
    epochs=(0.5, 1.0), ratios=(25, 75), depths=(1, 2), widths=(16, 32), blocks=(0, 0.5, 1, 2), channels=1, scenes=20,
    dense=replace(_SMALL, data="shapes", image=64, patch=16), limit=300, seeds=(0, 1),
)  # fmt: skip

_TUNED = Finetune(batch=250, epochs=50.0, warmup_epochs=5.0, base_lr=2e-3, layer_decay=0.75, crop=(0.4, 1.0), graph=True)
GPU = Budget(
    name="gpu",
    what="CIFAR-10, ViT-T/4 (6.2 M parameters with its decoder), 40 epochs; one GPU. Not yet run",
    pretrain=TINY, mask_epochs=40.0, tune=_TUNED, scratch=replace(_TUNED, base_lr=1e-3, layer_decay=1.0), labels=5000,
    ladder=(500, 2000, 5000, 20_000), epochs=(10.0, 20.0, 40.0, 80.0, 160.0), depths=(4, 1, 2, 8), widths=(64, 128, 256),
    blocks=(0, 0.5, 1, 2, 4, 8, 12), channels=3, scenes=1000,
    dense=replace(TINY, data="shapes", image=64, patch=8, batch=250, epochs=300.0, warmup_epochs=20.0),
)  # fmt: skip

_PHOTOS = replace(NANO, data="cifar10", image=32, patch=4, width=64, heads=2, depth=4, decoder_width=48, epochs=5.0, warmup_epochs=0.5)
COLOUR = replace(
    LAPTOP,
    name="colour",
    what="20,000 colour photographs of CIFAR-10 in 64 patches, 0.24 M parameters, 5 epochs, probe on 5,000 labels; two CPU cores",
    pretrain=_PHOTOS, mask_epochs=5.0, judges=(PROBE,), limit=20_000, test=5000, probe_labels=5000, ladder=(500, 1000, 3000),
    ratios=(25, 50, 75, 90), epochs=(2.5, 5.0, 10.0, 20.0), widths=(24, 48, 96), blocks=(0, 0.5, 1, 2, 4), channels=3, seeds=tuple(range(10)),
)  # fmt: skip

BUDGETS = {budget.name: budget for budget in (SMOKE, LAPTOP, COLOUR, FULL, GPU)}


def budget_named(name: str, *, data: str | None = None, seeds: int | None = None) -> Budget:
    """A budget by name; data: a folder or another set to use instead of its own; seeds: use only this many, the first ones.

    A folder that is called like the budget's own set counts as that set; otherwise ``what`` begins with the data's name.
    Raises ValueError with the nearest known name, and for a number of seeds that the budget does not have.
    """
    if name not in BUDGETS:
        raise ValueError(f"unknown budget {name!r}{nearest(name, BUDGETS)}")
    found = BUDGETS[name]
    if seeds is not None and not 1 <= seeds <= len(found.seeds):
        raise ValueError(f"the budget {name} has {len(found.seeds)} seeds, so --seeds must be between 1 and that, not {seeds}")
    found = replace(found, seeds=found.seeds[:seeds])
    if data is None:
        return found
    what = found.what if Path(data).name == found.pretrain.data else f"{data}, at the scale of: {found.what}"
    return replace(found, what=what, pretrain=replace(found.pretrain, data=data))
