"""Named recipes: frozen values, each with its source and what it costs. Every field can be overridden on the command line."""

from __future__ import annotations

from .suggest import nearest
from .tasks.finetune import Finetune
from .tasks.pretrain import Pretrain

PRETRAIN = {
    "fashion-demo": Pretrain(data="fashion", size="nano"),
    "fashion-nano": Pretrain(data="fashion-full", size="nano"),
    "cifar10-tiny": Pretrain(data="cifar10", size="tiny", patch=4, batch=512, epochs=400, warmup_epochs=20),
    "photos-micro": Pretrain(data="photos", size="micro", patch=8, batch=128, epochs=100, warmup_epochs=10),
    "shapes-micro": Pretrain(data="shapes", size="micro", patch=8, batch=128, epochs=100, warmup_epochs=10),
}

FEW_LABELS = Finetune()


def recipe(name: str) -> Pretrain:
    """A pre-training recipe by name. Raises ValueError with the nearest known name."""
    if name not in PRETRAIN:
        raise ValueError(f"unknown recipe {name!r}{nearest(name, PRETRAIN)}")
    return PRETRAIN[name]
