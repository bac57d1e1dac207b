"""Named recipes: frozen values, each with its source and what it costs. Every field can be overridden on the command line."""

from __future__ import annotations

from dataclasses import replace

from .suggest import nearest
from .tasks.finetune import Finetune
from .tasks.pretrain import Pretrain

# The main job, on two CPU cores. Patch 7 makes 16 tokens of a 28-pixel image, so four are visible. Small batches, many
# steps and no augmentation did best in the trials of docs/choices.md.
FASHION = Pretrain(
    data="fashion",
    size="nano",
    patch=7,
    depth=4,
    decoder_depth=1,
    batch=128,
    epochs=40,
    warmup_epochs=4,
    base_lr=5e-3,
    crop=None,
    flip=False,
)

PRETRAIN = {
    "fashion-demo": FASHION,
    "fashion-nano": replace(FASHION, data="fashion-full", patch=4, depth=6, epochs=12, warmup_epochs=0.5, base_lr=4e-3),
    "cifar10-tiny": Pretrain(data="cifar10", size="tiny", patch=4, batch=512, epochs=400, warmup_epochs=20),
    "photos-micro": Pretrain(data="photos", size="micro", patch=8, batch=128, epochs=100, warmup_epochs=10),
    "shapes-micro": Pretrain(data="shapes", size="micro", patch=8, batch=128, epochs=100, warmup_epochs=10),
}

# A thousand labels. From scratch, the same network does best with one lr for all layers, and a lower one.
FEW_LABELS = Finetune()
SCRATCH = replace(FEW_LABELS, base_lr=5e-3, layer_decay=1.0)


def recipe(name: str) -> Pretrain:
    """A pre-training recipe by name. Raises ValueError with the nearest known name."""
    if name not in PRETRAIN:
        raise ValueError(f"unknown recipe {name!r}{nearest(name, PRETRAIN)}")
    return PRETRAIN[name]
