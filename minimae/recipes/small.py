"""Recipes for small data: the main job, the book, and the shipped weights."""

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
# About two hours of one CPU core, fine-tuning included: a small network, small batches, many steps.
CIFAR10_HOUR = replace(CIFAR10, size="nano", decoder_depth=1, batch=128, epochs=60, warmup_epochs=3, base_lr=4e-3, crop=(0.4, 1.0))
PHOTOS = Pretrain(data="photos", size="micro", patch=8, batch=128, epochs=100, warmup_epochs=10)
# Photographs of 64 pixels as 256 patches: about as many as the paper's, so that a quarter of them still shows the object.
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
CIFAR10_HOUR_TUNED = Finetune(batch=128, epochs=16, warmup_epochs=1, base_lr=4e-3, layer_decay=0.85, drop_path=0.0, crop=(0.6, 1.0))
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

    A run sees about 100,000 images, in 20 to 500 epochs of small batches, because few pictures otherwise give few steps. The base
    learning rate keeps the peak the same for every batch size.
    """
    batch = 32 if images >= 128 else 16 if images >= 64 else 8
    epochs = min(500, max(20, round(100_000 / images)))
    return replace(PHOTOS, data="", image=64, batch=batch, epochs=epochs, warmup_epochs=epochs / 10, base_lr=PEAK * 256 / batch)


def entries() -> list[Entry]:
    """All of them."""
    clothes, cifar, mine = FASHION.size_at(28, 1), size("tiny", patch=4, image=32), my_pictures(200)
    ours, marks = {"source": "ours (docs/choices.md)"}, "none; others report 89.8 to 91.2 % for a ViT-T"
    rows: list[tuple[str, str, Any, Any, int, dict[str, str]]] = [
        ("fashion-demo", "main job: a small encoder of clothes", FASHION, clothes, 10_000,
         ours | {"ran": "main job: 84.3 % k-NN, 87.3 % probe, 83.2 % tuned on 1,000 labels"}),
        ("fashion-nano", "the shipped encoder of clothes", FASHION_NANO, FASHION_NANO.size_at(28, 1), 60_000,
         ours | {"ran": "data/weights/fashion-nano.md: 86.8 % k-NN, 85.0 % probe, 86.1 % tuned on 1,000 labels"}),
        ("fashion-finetune", "fine-tune it on 1,000 labels", FEW_LABELS, clothes, 1000,
         ours | {"ran": "main job: 83.2 %", "start": "fashion-demo"}),
        ("fashion-scratch", "the same network from scratch on 1,000 labels", SCRATCH, clothes, 1000, ours | {"ran": "main job: 75.5 %"}),
        ("fashion-knn", "nearest neighbours of the demo's encoder", Knn(pool="tokens"), clothes, 12_000,
         ours | {"ran": "main job: 84.3 %", "start": "fashion-demo"}),
        ("cifar10-tiny", "pre-train a tiny encoder on CIFAR-10", CIFAR10, cifar, 50_000, {}),
        ("cifar10-finetune", "fine-tune it on all labels", CIFAR10_TUNED, cifar, 50_000,
         {"source": "ours, parts of Table 9", "result": marks, "start": "cifar10-tiny"}),
        ("cifar10-scratch", "the same network from scratch", CIFAR10_SCRATCH, cifar, 50_000,
         {"source": "ours, parts of Table 11", "result": "none; others report 89 to 91 % for a ViT"}),
        ("cifar10-probe", "linear probe of it", CIFAR10_PROBE, cifar, 50_000,
         {"source": "ours, after Table 10", "result": "none; others report 44 to 49 %", "start": "cifar10-tiny"}),
        ("cifar10-hour", "pre-train on CIFAR-10, an hour of one core", CIFAR10_HOUR, CIFAR10_HOUR.size_at(32, 3), 50_000,
         ours | {"ran": "docs/cifar10.md: 52.0 % k-NN"}),
        ("cifar10-hour-finetune", "fine-tune it, an hour of one core", CIFAR10_HOUR_TUNED, CIFAR10_HOUR.size_at(32, 3), 50_000,
         {"ran": "docs/cifar10.md: 83.77 %", "start": "cifar10-hour"}),
        ("cifar10-knn", "nearest neighbours of it", Knn(), cifar, 60_000, {"start": "cifar10-tiny"}),
        ("photos-micro", "pre-train on crops of seven photographs", PHOTOS, PHOTOS.size_at(96, 3), 4200, {}),
        ("photos-tiny", "pre-train a tiny encoder on photographs (Tiny-ImageNet)", PHOTOS_TINY, PHOTOS_TINY.size_at(64, 3), 50_000,
         {"ran": "data/weights/photos-tiny.md: loss 0.348 in 6 minutes of one H200"}),
        ("my-pictures", "pre-train on a folder of your own (--data), 20 pictures or more", mine, mine.size_at(64, 3), 200, ours),
        ("shapes-micro", "pre-train on drawn scenes", SHAPES, SHAPES.size_at(64, 3), 2000, {}),
    ]  # fmt: skip
    for minutes, (goal, start, tuning) in RACES.items():
        name, what = f"cifar10-{minutes}min", f"pre-training for {goal:.0f} % in {minutes} minutes (minimae race)"
        rows.append((name, what, start, start.size_at(32, 3), 50_000, {}))
        others = {"start": name, "result": "none; others report 89.8 % after 2,000 + 100 epochs"}
        rows.append((f"{name}-finetune", "fine-tune it on all labels", tuning, start.size_at(32, 3), 50_000, others))
    return [Entry(name=n, what=w, recipe=r, size=s, images=i, **more) for n, w, r, s, i, more in rows]
