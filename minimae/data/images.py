"""Images in memory, as uint8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..devices import to_device
from .choose import as_index
from .labels import as_labels
from .types import Batch, ImageDataset, Statistics, count_values

COUNTED = 1 << 22  # pixels of one channel that are counted at a time, so that the whole set is never copied


@dataclass(frozen=True, eq=False, repr=False)
class Images(ImageDataset):
    """Images of one size, all in memory. Attributes as in :class:`.types.ImageDataset`, and two more.

    pixels: uint8 ``N c height width``. labels: anything that :func:`.labels.as_labels` takes. ids: by default 0 … N−1.
    skipped: files that could not be read and were left out on request, each with the reason.
    Semantic masks, instances and boxes belong to :class:`minimae.data.shapes.Scenes`.
    """

    name: str
    pixels: Tensor
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    ids: Tensor = None  # type: ignore[assignment]
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fixed_statistics: Statistics | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.pixels, Tensor):
            raise ValueError(f"{self.name}: pixels are a tensor, not {type(self.pixels).__name__}; minimae.data.from_array takes arrays")
        if self.pixels.dtype != torch.uint8 or self.pixels.dim() != 4:
            raise ValueError(f"{self.name}: pixels are uint8 N c height width, not {self.pixels.dtype} {tuple(self.pixels.shape)}")
        if len(self.pixels) == 0:
            raise ValueError(f"{self.name} holds no images")
        classes: Any = self.classes
        if isinstance(classes, str) or len(set(classes)) < len(classes):
            raise ValueError(f"{self.name}: classes are the names of all classes, each once, not {self.classes!r}")
        object.__setattr__(self, "classes", tuple(self.classes))
        if self.labels is not None:
            object.__setattr__(self, "labels", as_labels(self.name, self.labels, len(self.pixels), self.classes))
        ids: Any = self.ids
        if ids is None:
            object.__setattr__(self, "ids", torch.arange(len(self.pixels)))
        elif not isinstance(ids, Tensor) or ids.dtype != torch.int64 or ids.shape != (len(self.pixels),):
            kind = f"{ids.dtype} {tuple(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
            raise ValueError(f"{self.name}: ids are an int64 tensor, one for each image, not {kind}")

    @property
    def channels(self) -> int:
        return self.pixels.shape[1]

    @property
    def image(self) -> tuple[int, int]:  # type: ignore[override]
        """Height and width in pixels."""
        return self.pixels.shape[2], self.pixels.shape[3]

    def size_of(self, index: int) -> tuple[int, int]:
        return self.image

    def _size_in_words(self) -> str:
        return f"{self.image[0]} × {self.image[1]}"

    def read(self, index: int) -> Tensor:
        return self.pixels[index]

    def histogram(self, index: Tensor) -> Tensor:
        counts = torch.zeros(self.channels, 256, dtype=torch.int64)
        for part in index.split(max(1, COUNTED // self.pixels[0, 0].numel())):
            first, last = int(part[0]), int(part[-1]) + 1  # in most cases all of them, so nothing is copied
            counts += count_values(self.pixels[first:last] if last - first == len(part) else self.pixels[part.to(self.pixels.device)])
        return counts

    def batch(self, index: Tensor, epochs: Tensor, repeats: int = 1) -> Batch:
        """The images with these indices ``b``, each in its own epoch ``b``; with ``repeats``, that many views of each side by side.

        View v of epoch e has the crop and the mask of epoch ``e·repeats + v``.
        """
        views = torch.arange(repeats, device=epochs.device).repeat(len(index))
        epochs = epochs.repeat_interleave(repeats) * repeats + views
        device = self.pixels.device
        index, epochs = to_device(index.repeat_interleave(repeats), device), to_device(epochs, device)
        return Batch(self.pixels[index], None if self.labels is None else self.labels[index], self.ids[index], epochs)

    def to(self, device: torch.device) -> Images:
        """The same images, with pixels, labels and ids on a device."""
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, pixels=self.pixels.to(device), labels=labels, ids=self.ids.to(device))

    def subset(self, index: Tensor | Sequence[int]) -> Images:
        index = as_index(index, len(self))
        return replace(self, pixels=self.pixels[index], labels=None if self.labels is None else self.labels[index], ids=self.ids[index])
