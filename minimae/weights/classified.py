"""A trained classifier with its statistics and class names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data.augment import normalise
from ..data.pixels import as_pixels
from ..errors import reason
from ..model.checks import check_batch
from ..model.sizes import Size
from ..tasks.finetune import Classifier


@dataclass(frozen=True, eq=False)
class Classified:
    """A classifier, the statistics that normalise its images, the names of its classes (or none), and its data set's name.

    Methods take images ``N c height width``, as :func:`minimae.data.pixels.as_pixels` does, of any size that the patch divides.
    """

    classifier: Classifier
    statistics: tuple[Tensor, Tensor]
    classes: tuple[str, ...] = ()
    data: str = ""

    def __repr__(self) -> str:
        count, names = self.classifier.head.out_features, reason(", ".join(self.classes) or "without names", 60)
        return f"Classified({self.size},\n  {count} classes ({names}), pool={self.classifier.pool!r}, data={self.data!r})"

    @property
    def size(self) -> Size:
        """The size of its encoder."""
        return self.classifier.encoder.size

    @torch.no_grad()
    def logits(self, images: Any, *, batch: int = 500) -> Tensor:
        """float32 ``N classes``, on the CPU."""
        model = self.classifier.eval()
        return torch.cat([model(x).float().cpu() for x in self._inputs(images, batch)])

    def predict(self, images: Any, *, batch: int = 500) -> Tensor:
        """The most probable class of each image: int64 ``N``."""
        return self.logits(images, batch=batch).argmax(1)

    @torch.no_grad()
    def features(self, images: Any, *, batch: int = 500) -> Tensor:
        """The input of its head: the mean of the patch tokens or the class token, after the last norm. float32 ``N d``, on the CPU."""
        model, features = self.classifier.eval(), []
        for x in self._inputs(images, batch):
            tokens, c = model.encoder(x), model.encoder.size.class_tokens
            features.append(model.norm((tokens[:, c:] if model.pool == "mean" else tokens[:, :c]).mean(1)))
        return torch.cat(features).float().cpu()

    def _inputs(self, images: Any, batch: int) -> Iterator[Tensor]:
        """Normalised batches, on the model's device and in its type."""
        check_batch(batch)
        to = self.classifier.head.weight
        for x in as_pixels(images, self.size.channels).split(batch):
            yield normalise(x.to(to.device), self.statistics).to(to.dtype)
