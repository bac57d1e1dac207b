"""Recipes for small data: the main job, and those of the book and of the shipped weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..model.sizes import size
from ..tasks.finetune import Finetune
from ..tasks.pretrain import Pretrain
from ..tasks.probe_train import Probe
from .entries import Entry, Knn

# The main job, on two CPU cores. Patch 7 makes 16 tokens of a 28-pixel image, so four are visible. Small batches, many
# steps and no augmentation did best in the trials of docs/choices.md.
FASHION = Pretrain(
    data="fashion", size="nano", patch=7, depth=4, decoder_depth=1, batch=128, epochs=40, warmup_epochs=4, base_lr=5e-3, crop=None,
    flip=False,
)  # fmt: skip
FASHION_NANO = replace(FASHION, data="fashion-full", patch=4, depth=6, epochs=12, warmup_epochs=0.5, base_lr=4e-3)
CIFAR10 = Pretrain(data="cifar10", size="tiny", patch=4, batch=512, epochs=400, warmup_epochs=20)
PHOTOS = Pretrain(data="photos", size="micro", patch=8, batch=128, epochs=100, warmup_epochs=10)
# Photographs of 64 pixels as 256 patches: about as many as the paper's, so that a quarter of them still shows what is there.
PHOTOS_TINY = Pretrain(
    data="tiny-imagenet", size="tiny", image=64, patch=4, decoder_width=128, decoder_depth=4, decoder_heads=4, batch=1024, epochs=206,
    warmup_epochs=5, base_lr=4e-4,
)  # fmt: skip
SHAPES = Pretrain(data="shapes", size="micro", patch=8, batch=128, epochs=100, warmup_epochs=10)
PEAK = 1e-3  # learning rate of a small network on few pictures

# A thousand labels. From scratch, the same network does best with one lr for all layers, and a lower one.
FEW_LABELS = Finetune()
SCRATCH = replace(FEW_LABELS, base_lr=5e-3, layer_decay=1.0)

# All labels of CIFAR-10: the parts of Table 9 at the size of 32 pixels; the crop keeps more, and few pixels are erased less often.
CIFAR10_TUNED = Finetune(
    batch=256, accumulate=4, epochs=100, warmup_epochs=5, base_lr=1e-3, layer_decay=0.75, drop_path=0.1, crop=(0.4, 1.0),
    randaugment=(9.0, 0.5), mixup=0.8, cutmix=1.0, erasing=0.25,
)  # fmt: skip
CIFAR10_SCRATCH = replace(CIFAR10_TUNED, epochs=300, warmup_epochs=20, layer_decay=1.0, ema=0.999)
CIFAR10_PROBE = Probe(batch=1024, crop=(0.4, 1.0), pool="mean")


# Against the clock, on one H200: minutes → accuracy to reach in percent, pre-training, fine-tuning. **Not yet run on a GPU.** All changes
# of the images run on the device: crops, flips, erasing, mixing; no RandAugment, which runs on a CPU.
RACE = Pretrain(
    data="cifar10", size="tiny", patch=4, image=32, decoder_depth=2, batch=512, epochs=100.0, warmup_epochs=5.0, base_lr=1e-3, graph=True
)
RACE_TUNED = Finetune(
    batch=500, epochs=50.0, warmup_epochs=3.0, base_lr=2e-3, layer_decay=0.75, drop_path=0.05, crop=(0.4, 1.0), mixup=0.8, cutmix=1.0,
    graph=True,
)  # fmt: skip
RACES = {
    5: (90.0, RACE, RACE_TUNED),
    15: (94.0, replace(RACE, epochs=320.0, warmup_epochs=10.0),
         replace(RACE_TUNED, epochs=140.0, warmup_epochs=5.0, drop_path=0.1, erasing=0.1)),
    45: (96.0, replace(RACE, epochs=1000.0, warmup_epochs=20.0),
         replace(RACE_TUNED, epochs=400.0, warmup_epochs=10.0, drop_path=0.1, erasing=0.25)),
}  # fmt: skip


def my_pictures(images: int) -> Pretrain:
    """A recipe for a folder of 20 to 10,000 pictures: batch, epochs and learning rate follow their number.

    A run sees about 100,000 images in small batches, because few pictures otherwise give few steps. The base learning rate keeps the
    peak the same for every batch size.
    """
    batch = 32 if images >= 128 else 16 if images >= 64 else 8
    epochs = min(500, max(20, round(100_000 / images)))
    return replace(PHOTOS, data="", image=64, batch=batch, epochs=epochs, warmup_epochs=epochs / 10, base_lr=PEAK * 256 / batch)


def entries() -> list[Entry]:
    """All of them."""
    demo: dict[str, Any] = {"size": FASHION.size_at(28, 1), "source": "ours (docs/choices.md)"}
    cifar: dict[str, Any] = {"size": size("tiny", patch=4, image=32), "images": 50_000}
    mine, marks = my_pictures(200), "none; others' marks for a ViT-T: 89.8 to 91.2 %"
    races = [
        half
        for minutes, (goal, start, tuning) in RACES.items()
        for half in (
            Entry(name=f"cifar10-{minutes}min", what=f"pre-training for {goal:.0f} % in {minutes} minutes (minimae race)", recipe=start,
                  size=RACE.size_at(32, 3), images=50_000),
            Entry(name=f"cifar10-{minutes}min-finetune", what="fine-tune it on all labels", recipe=tuning, start=f"cifar10-{minutes}min",
                  size=RACE.size_at(32, 3), images=50_000, result="none; others: 89.8 % after 2,000 + 100 epochs"),
        )
    ]  # fmt: skip
    return [
        Entry(name="fashion-demo", what="the main job: a small encoder of clothes", recipe=FASHION, images=10_000,
              ran="README: 84.3 % k-NN, 87.3 % probe, 83.2 % tuned on 1,000 labels", **demo),
        Entry(name="fashion-nano", what="the shipped encoder of clothes", recipe=FASHION_NANO, source=demo["source"],
              ran="data/weights/fashion-nano.md: 86.8 % k-NN, 85.0 % probe, 86.1 % tuned on 1,000 labels",
              size=FASHION_NANO.size_at(28, 1), images=60_000),
        Entry(name="fashion-finetune", what="fine-tune it on 1,000 labels", recipe=FEW_LABELS, ran="README: 83.2 %",
              start="fashion-demo", images=1000, **demo),
        Entry(name="fashion-scratch", what="the same network from scratch on 1,000 labels", recipe=SCRATCH, ran="README: 75.5 %",
              images=1000, **demo),
        Entry(name="fashion-knn", what="nearest neighbours of the demo's encoder", recipe=Knn(pool="tokens"), ran="README: 84.3 %",
              start="fashion-demo", images=12_000, **demo),
        Entry(name="cifar10-tiny", what="pre-train a tiny encoder on CIFAR-10", recipe=CIFAR10, **cifar),
        Entry(name="cifar10-finetune", what="fine-tune it on all labels", recipe=CIFAR10_TUNED, source="ours, parts of Table 9",
              result=marks, start="cifar10-tiny", **cifar),
        Entry(name="cifar10-scratch", what="the same network from scratch", recipe=CIFAR10_SCRATCH, source="ours, parts of Table 11",
              result="none; others' marks for a ViT: 89 to 91 %", **cifar),
        Entry(name="cifar10-probe", what="linear probe of it", recipe=CIFAR10_PROBE, source="ours, after Table 10",
              result="none; others' marks: 44 to 49 %", start="cifar10-tiny", **cifar),
        Entry(name="cifar10-knn", what="nearest neighbours of it", recipe=Knn(), start="cifar10-tiny", **cifar | {"images": 60_000}),
        Entry(name="photos-micro", what="pre-train on crops of seven photographs", recipe=PHOTOS, size=PHOTOS.size_at(96, 3), images=4200),
        Entry(name="photos-tiny", what="pre-train a tiny encoder on photographs (Tiny-ImageNet)", recipe=PHOTOS_TINY, images=50_000,
              ran="data/weights/photos-tiny.md: loss 0.348 in 6 minutes of one H200", size=PHOTOS_TINY.size_at(64, 3)),
        Entry(name="my-pictures", what="pre-train on a folder of your own (--data), 20 pictures or more", recipe=mine,
              source=demo["source"], size=mine.size_at(64, 3), images=200),
        Entry(name="shapes-micro", what="pre-train on drawn scenes", recipe=SHAPES, size=SHAPES.size_at(64, 3), images=2000),
        *races,
    ]  # fmt: skip
