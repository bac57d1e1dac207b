"""Fine-tuning: the decoder is thrown away and the whole encoder learns the labels (paper, Section 4 and Table 9)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..augment import Augmentation, augment, normalise
from ..data.source import Images
from ..patches import pair
from ..training.loop import Part, Plan, Result, device_of, fit
from ..training.optimisers import adamw, layer_groups
from ..training.settings import Settings
from ..vit import Encoder
from .knn import accuracy


@dataclass(frozen=True, kw_only=True)
class Finetune(Settings):
    """Everything that decides a fine-tuning run. The defaults suit the small networks of the book and a thousand labels."""

    batch: int = 50
    epochs: float = 30.0
    warmup_epochs: float = 5.0
    base_lr: float = 2e-2
    floor_lr: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.999)
    layer_decay: float = 0.75
    """The lr shrinks by this factor from each layer to the one below it; 1 gives every layer the same."""
    drop_path: float = 0.1
    label_smoothing: float = 0.1
    crop: tuple[float, float] | None = (0.8, 1.0)
    flip: bool = True


class Classifier(nn.Module):
    """An encoder, the mean of its patch tokens (the class token is left out), a norm, and a linear head.

    Images ``b c height width`` → logits ``b classes``. The encoder's own last norm is replaced by one after the mean.
    """

    def __init__(self, encoder: Encoder, classes: int, *, drop_path: float = 0.0) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.encoder.norm = nn.Identity()  # type: ignore[assignment]
        self.encoder.mask_token = None
        self.encoder.positions.requires_grad_(True)
        self.encoder.spread_drop_path(drop_path)
        d = encoder.size.width
        self.norm = nn.LayerNorm(d, eps=1e-6)
        self.head = nn.Linear(d, classes)
        nn.init.trunc_normal_(self.head.weight, std=2e-5)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.encoder(images)[:, 1:].mean(1)))
        return logits


@dataclass
class FinetuneTask:
    """The step of fine-tuning: crop, flip, normalise, classify."""

    recipe: Finetune
    source: Images
    statistics: tuple[Tensor, Tensor]
    model: Classifier
    kind: str = field(default="finetune", init=False)

    def __post_init__(self) -> None:
        if self.source.labels is None:
            raise ValueError(f"{self.source.name} has no labels to fine-tune on")
        self.images = len(self.source)
        self.device = device_of(self.model)
        self.run: nn.Module = self.model

    def optimiser(self, lr: float) -> torch.optim.Optimizer:
        return adamw(layer_groups(self.model, self.recipe.weight_decay, self.recipe.layer_decay), lr, self.recipe.betas)

    def about(self) -> dict[str, Any]:
        return {"statistics": self.statistics, "classes": list(self.source.classes), "data": self.source.name}

    def feed(self, plan: Plan) -> Iterator[Part]:
        return plan  # the images are here already

    def after_step(self) -> None:
        pass

    def loss(self, places: Tensor, epochs: Tensor) -> Tensor:
        r, source = self.recipe, self.source
        assert source.ids is not None and source.labels is not None
        pixels, ids, labels, epochs = (
            x.to(self.device) for x in (source.pixels[places], source.ids[places], source.labels[places], epochs)
        )
        recipe = Augmentation(scale=r.crop, flip=r.flip)
        images = augment(pixels, ids, recipe, seed=r.seed, epoch=epochs, size=pair(self.model.encoder.size.image))
        return F.cross_entropy(self.run(normalise(images, self.statistics)), labels, label_smoothing=r.label_smoothing)


def finetune(
    recipe: Finetune,
    encoder: Encoder,
    images: Images,
    statistics: tuple[Tensor, Tensor],
    out: Path | None = None,
    *,
    resume: bool = False,
    quiet: bool = False,
) -> tuple[Classifier, Result]:
    """Fine-tune a copy of the encoder on labelled images; the encoder that was given stays as it is."""
    torch.manual_seed(recipe.seed)
    classes = max(len(images.classes), 0 if images.labels is None else int(images.labels.max()) + 1)
    model = Classifier(encoder, classes, drop_path=recipe.drop_path).to(device_of(encoder))
    task = FinetuneTask(recipe, images, statistics, model)
    return model, fit(task, recipe, out, resume=resume, quiet=quiet)


@torch.no_grad()
def classify(model: Classifier, images: Images, statistics: tuple[Tensor, Tensor]) -> Tensor:
    """The class of each whole image: int64 ``N``."""
    model.eval()
    parts = (normalise(pixels.to(device_of(model)), statistics) for pixels in images.pixels.split(500))
    return torch.cat([model(x).argmax(1).cpu() for x in parts])


def finetuned_accuracy(model: Classifier, images: Images, statistics: tuple[Tensor, Tensor]) -> float:
    """Top-1 accuracy in percent, after the last epoch."""
    assert images.labels is not None
    return accuracy(classify(model, images, statistics), images.labels)
