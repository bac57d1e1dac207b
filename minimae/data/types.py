"""What every set of images offers, in memory or in files, and what training takes from it: batches and statistics."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor

from ..random import permutation
from .choose import choose

Statistics = tuple[Tensor, Tensor]  # mean and standard deviation per channel, of pixels in [0, 1]: float32 c
Self = TypeVar("Self", bound="ImageDataset")

VALUES = 400_000_000  # statistics use at most this many pixel values: seven hundred photographs, or all of CIFAR
FIRST = 100  # if none of the first hundred images can be read, something else is wrong


class Batch(NamedTuple):
    """Images of one forward pass: pixels uint8 ``b c height width``, labels int64 ``b`` or None, sample ids and epochs int64 ``b``.

    boxes: float32 ``b 4`` (top, left, height, width), the visible part of images that were cropped when read; None where the
    pixels are the whole images.
    """

    pixels: Tensor
    labels: Tensor | None
    ids: Tensor
    epochs: Tensor
    boxes: Tensor | None = None


class DamagedImage(ValueError):
    """An image whose bytes are there but cannot be decoded. Only such an image may be left out on request."""


class ImageDataset(ABC):
    """A set of images: in memory (:class:`.images.Images`), in files (:class:`.files.ImageFiles`) or behind a torch Dataset
    (:class:`.torch_dataset.TorchImages`).

    name: for messages. labels: int64 ``N``, or None. classes: their names, by label. ids: int64 ``N``, the sample ids that all
    randomness is a function of; a subset keeps the ids of its images. channels: of every image. notes: what was left out or held out,
    a line each. fixed_statistics: mean and standard deviation to normalise with, instead of those of the pixels.

    A subclass has these attributes, 1 or 3 channels, and two methods: :meth:`read` and :meth:`subset`.
    """

    name: str
    labels: Tensor | None
    classes: tuple[str, ...]
    ids: Tensor
    notes: tuple[str, ...] = ()
    fixed_statistics: Statistics | None = None
    threads: ClassVar[int] = 1  # that may call ``read`` at the same time

    @property
    @abstractmethod
    def channels(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> Tensor:
        """One whole image, uint8 ``c height width``. Raises DamagedImage."""

    @abstractmethod
    def subset(self: Self, index: Tensor | Sequence[int]) -> Self:
        """The images with these indices, or those for which a boolean mask is true. They keep their sample ids."""

    def size_of(self, index: int) -> tuple[int, int]:
        """Height and width of an image. Raises DamagedImage."""
        height, width = self.read(index).shape[1:]
        return height, width

    def where(self, index: int) -> str:
        """Where an image comes from, for messages."""
        return f"image {index} of {self.name}"

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        kinds = f"{len(self.classes)} classes" if self.classes else "labels" if self.labels is not None else "no labels"
        return f"{type(self).__name__}({self.name}: {len(self):,} images, {self.channels} × {self._size_in_words()}, {kinds})"

    def _size_in_words(self) -> str:
        return "read when needed"

    @cached_property
    def image(self) -> tuple[int, int] | None:
        """Height and width of all images if they have one size, else None. Opens images until one differs; ignores damaged ones."""
        first = self.first_size()
        return first if all(self._size(i) in (first, None) for i in range(len(self))) else None

    def first_size(self) -> tuple[int, int]:
        """Height and width of the first image that can be read. Raises ValueError when none of the first hundred can."""
        first = range(min(FIRST, len(self)))
        size = next((size for i in first if (size := self._size(i)) is not None), None)
        if size is None:
            raise ValueError(f"{self.name}: none of the first {len(first)} images can be read, such as {self.where(0)}")
        return size

    def _size(self, index: int) -> tuple[int, int] | None:
        try:
            return self.size_of(index)
        except DamagedImage:
            return None

    @cached_property
    def statistics(self) -> Statistics:
        """Mean and standard deviation per channel, of pixels in [0, 1]: two float32 ``c``, on the CPU. Exact, from a histogram.

        A set with more than ``VALUES`` pixel values is sampled, with a fixed seed. Damaged images are left out. The same images give
        the same bits in memory and in files.
        """
        if self.fixed_statistics is not None:
            return self.fixed_statistics
        height, width = self.first_size()
        index = sampled(len(self), height * width * self.channels)
        counts = self.histogram(index)
        if not counts.any():
            raise ValueError(f"{self.name}: none of {len(index)} images could be read, the first is {self.where(int(index[0]))}")
        return from_histogram(counts)

    def histogram(self, index: Tensor) -> Tensor:
        """How often each value occurs in each channel of these images: int64 ``c 256``."""
        counts = torch.zeros(self.channels, 256, dtype=torch.int64)
        with ThreadPoolExecutor(self.threads) as pool:
            for one in pool.map(self._histogram, index.tolist()):
                counts += one
        return counts

    def _histogram(self, index: int) -> Tensor:
        try:
            return count_values(self.read(index)[None])
        except DamagedImage:
            return torch.zeros(self.channels, 256, dtype=torch.int64)

    def summary_of(self, index: int) -> tuple[int, int, float]:
        """Height, width and mean value: enough to recognise an image, however it is stored. All zero for a damaged image."""
        try:
            pixels = self.read(index)
        except DamagedImage:
            return 0, 0, 0.0
        return pixels.shape[1], pixels.shape[2], float(pixels.double().mean())

    def balanced_subset(self: Self, count: int, *, seed: int = 0) -> Self:
        """``count`` images chosen by the seed, the same number of each class as nearly as possible. A larger count contains a smaller."""
        if self.labels is None:
            raise ValueError(f"{self.name} has no labels to choose by")
        if not 1 <= count <= len(self):
            raise ValueError(f"{self.name} has {len(self)} images; {count} cannot be chosen")
        return self.subset(choose(self.labels, len(self), count, seed=seed))

    def limited(self: Self, limit: int | None) -> Self:
        """At most ``limit`` images, evenly from all classes and always the same, in their order."""
        if limit is None or limit >= len(self):
            return self
        return self.subset(choose(self.labels, len(self), limit).sort().values)

    def few(self: Self, count: int, *, seed: int = 0) -> Self:
        """Deprecated: the old name of :meth:`balanced_subset`."""
        warnings.warn("few() is now balanced_subset()", DeprecationWarning, stacklevel=2)
        return self.balanced_subset(count, seed=seed)


def sampled(count: int, values: int) -> Tensor:
    """Indices of the images that statistics use, when each image has this many values: int64, sorted. All images in most cases."""
    most = max(1, VALUES // values)
    return torch.arange(count) if count <= most else permutation(0, "split", 3, count)[:most].sort().values


def count_values(pixels: Tensor) -> Tensor:
    """uint8 ``N c height width`` → how often each value occurs in each channel: int64 ``c 256``, on the CPU."""
    return torch.stack([torch.bincount(x.flatten(), minlength=256) for x in pixels.unbind(1)]).cpu()


def from_histogram(counts: Tensor) -> Statistics:
    """How often each value 0 … 255 occurs in each channel, ``c 256`` → mean and standard deviation of pixels in [0, 1]."""
    counts = counts.double()
    share, value = counts / counts.sum(1, keepdim=True), torch.arange(256, dtype=torch.float64) / 255
    mean = share @ value
    std = (share * (value - mean[:, None]).square()).sum(1).sqrt()
    return mean.float(), std.clamp(min=1e-3).float()
