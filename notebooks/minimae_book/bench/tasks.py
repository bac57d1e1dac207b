"""Tasks in which our loop trains other libraries' models, with the same images, crops, flips and normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from minimae.data.augment import normalise
from minimae.data.types import Batch
from minimae.model.sizes import Size
from minimae.tasks.finetune import Classifier, FinetuneTask
from minimae.tasks.loading import changed
from minimae.tasks.pretrain import PretrainTask
from minimae.train.optim import adamw, decay_groups


class Pooled(nn.Module):
    """A body that gives tokens, and the mean of its patch tokens: images → ``b d``."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.body(images)
        return tokens[:, 1:].mean(1)


class Sized(nn.Module):
    """A rival for pre-training, in place of our model: images → its loss, with its own masks."""

    def __init__(self, module: nn.Module, size: Size) -> None:
        super().__init__()
        self.module, self.size = module, size

    def forward(self, images: Tensor) -> Tensor:
        loss: Tensor = self.module(images)
        return loss


class RivalTask(PretrainTask):
    """Our pre-training with another model: the same crops, flips and normalisation; the model draws its masks."""

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        images = changed(batch, self.recipe.augmentation, seed=self.recipe.seed, size=self.image)
        return (normalise(images, self.statistics),)

    def loss(self, model: nn.Module, *inputs: Tensor) -> Tensor:
        loss: Tensor = model(*inputs)
        return loss


class TunedTask(FinetuneTask):
    """Our fine-tuning, with one learning rate for all layers, because the rivals name their layers differently."""

    def optimizer(self, lr: float) -> torch.optim.Optimizer:
        return adamw(decay_groups(self.classifier, self.recipe.weight_decay), lr, self.recipe.betas)


class Tuned(nn.Module):
    """A rival for fine-tuning, in place of our :class:`Classifier`: images → logits ``b classes``."""

    def __init__(self, body: nn.Module, classifier: Classifier) -> None:
        super().__init__()
        self.encoder, self.norm, self.head, self.pool = Pooled(body), classifier.norm, classifier.head, "mean"
        self.encoder.size = classifier.encoder.size  # type: ignore[assignment]

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.encoder(images)))
        return logits
