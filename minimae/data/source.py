"""A set of images in memory, as uint8, with what is known about them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..devices import send
from ..model.patches import Pair
from ..random import permutation
from .labels import as_labels
from .types import Batch, Statistics

VALUES = 400_000_000  # statistics use at most this many pixel values: seven hundred photographs, or all of CIFAR
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # the usual mean and standard deviation of red, green and blue
WORDNET = re.compile(r"n\d{8}")  # names of ImageNet's classes
HISTOGRAM = 1 << 22  # pixels of one channel that are counted at a time: no copy of the whole set is made


@dataclass(frozen=True, eq=False)
class Images:
    """Images of one size, whole in memory.

    pixels: uint8 ``N c height width``. labels: int64 ``N``, or None; what :func:`.labels.as_labels` takes becomes that. classes: names,
    by label.
    ids: int64 ``N``, the sample ids that address all randomness; a subset keeps the ids of its images.
    skipped: files that could not be read and were left out on request, each with the reason. notes: what else was left out or held out.
    fixed_statistics: mean and standard deviation to normalise by, where they are not those of the pixels.
    Semantic masks, instances and boxes belong to :class:`minimae.data.shapes.Scenes`.
    """

    name: str
    pixels: Tensor
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    ids: Tensor | None = None
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
        given: Any = self.classes
        if isinstance(given, str) or len(set(given)) < len(given):
            raise ValueError(f"{self.name}: classes are the names of all classes, each once, not {self.classes!r}")
        object.__setattr__(self, "classes", tuple(self.classes))
        if self.labels is not None:
            object.__setattr__(self, "labels", as_labels(self.name, self.labels, len(self.pixels), self.classes))
        if self.ids is None:
            object.__setattr__(self, "ids", torch.arange(len(self.pixels)))
        elif not isinstance(self.ids, Tensor):
            raise ValueError(f"{self.name}: ids are an int64 tensor, one for each image, not {type(self.ids).__name__}")
        elif self.ids.dtype != torch.int64 or self.ids.shape != (len(self.pixels),):
            raise ValueError(f"{self.name}: ids are int64, one for each image, not {self.ids.dtype} {tuple(self.ids.shape)}")

    def __len__(self) -> int:
        return len(self.pixels)

    def summary_of(self, place: int) -> tuple[int, int, float]:
        """Height, width and mean value of an image: enough to recognise it, however it was decoded."""
        return *self.image, float(self.pixels[place].double().mean())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({in_a_line(self, self.image)})"

    @property
    def channels(self) -> int:
        return self.pixels.shape[1]

    @property
    def image(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[2], self.pixels.shape[3]

    @cached_property
    def statistics(self) -> Statistics:
        """Mean and standard deviation per channel, of pixels in [0, 1]: two float32 ``c``, on the CPU. Exact, from a histogram.

        A set with more than ``VALUES`` values is sampled with a fixed seed.
        """
        if self.fixed_statistics is not None:
            return self.fixed_statistics
        counts = torch.zeros(self.channels, 256, dtype=torch.int64)
        for places in sampled(len(self), self.pixels[0].numel()).split(max(1, HISTOGRAM // self.pixels[0, 0].numel())):
            first, last = int(places[0]), int(places[-1]) + 1  # in most cases all of them, so nothing is copied
            part = self.pixels[first:last] if last - first == len(places) else self.pixels[places.to(self.pixels.device)]
            counts += torch.stack([torch.bincount(x.flatten(), minlength=256) for x in part.unbind(1)]).cpu()
        return from_histogram(counts)

    def at(self, places: Tensor, epochs: Tensor, repeats: int = 1) -> Batch:
        """The images at these places ``b``, each in its own epoch ``b``; with ``repeats``, that many views of each side by side.

        View v of epoch e has the crop and the mask of epoch ``e·repeats + v``.
        """
        views = torch.arange(repeats, device=epochs.device).repeat(len(places))
        epochs = epochs.repeat_interleave(repeats) * repeats + views
        where = self.pixels.device
        places, epochs = send(places.repeat_interleave(repeats), where), send(epochs, where)
        assert self.ids is not None
        return Batch(self.pixels[places], None if self.labels is None else self.labels[places], self.ids[places], epochs)

    def to(self, device: torch.device) -> Images:
        """The same, with everything on a device."""
        pixels, labels, ids = (None if x is None else x.to(device) for x in (self.pixels, self.labels, self.ids))
        assert pixels is not None
        return replace(self, pixels=pixels, labels=labels, ids=ids)

    def subset(self, index: Tensor | Sequence[int]) -> Images:
        """The images at these places, or those for which a mask of booleans is true, with their own sample ids."""
        index = as_places(index, len(self))
        labels = None if self.labels is None else self.labels[index]
        assert self.ids is not None
        return replace(self, pixels=self.pixels[index], labels=labels, ids=self.ids[index])

    def few(self, count: int, *, seed: int = 0) -> Images:
        """``count`` images chosen by the seed, the same number of each class (as nearly as it goes)."""
        if self.labels is None:
            raise ValueError(f"{self.name} has no labels to choose by")
        if not 1 <= count <= len(self):
            raise ValueError(f"{self.name} has {len(self)} images; {count} cannot be chosen")
        return self.subset(choose(self.labels, len(self), count, seed=seed))


def as_places(index: Any, count: int) -> Tensor:
    """Which of ``count`` images: their places, or a boolean for each → int64. Raises ValueError for anything else."""
    places = torch.arange(count)[index] if isinstance(index, slice) else torch.as_tensor(index)
    if places.dtype == torch.bool and places.shape == (count,):
        return places.nonzero()[:, 0]
    whole = not (places.is_floating_point() or places.is_complex() or places.dtype == torch.bool)
    if places.shape == (0,):
        return places.long()
    if places.dim() != 1 or not whole:
        given = f"{str(places.dtype).removeprefix('torch.')} {tuple(places.shape)}"
        raise ValueError(f"images are chosen by their places, or by a boolean for each of the {count}; {given} was given")
    low, high = int(places.min()), int(places.max())
    if low < -count or high >= count:
        raise ValueError(f"there are {count} images, with places from 0 to {count - 1}; {high if high >= count else low} was asked for")
    return places.long()


def in_a_line(images: Any, image: Pair | None) -> str:
    """A set of images in one line: name, number, channels, size, classes."""
    kinds = f"{len(images.classes)} classes" if images.classes else "labels" if images.labels is not None else "no labels"
    shape = "sizes vary" if image is None else f"{image[0]} × {image[1]}"
    return f"{images.name}: {len(images):,} images, {images.channels} × {shape}, {kinds}"


def sampled(count: int, values: int) -> Tensor:
    """Indices of the images used for statistics, when each has this many values: int64, sorted. All images in most cases."""
    most = max(1, VALUES // values)
    return torch.arange(count) if count <= most else permutation(0, "split", 3, count)[:most].sort().values


def from_histogram(counts: Tensor) -> Statistics:
    """How often each value 0 … 255 occurs in each channel, ``c 256`` → mean and standard deviation of pixels in [0, 1]."""
    counts = counts.double()
    share, value = counts / counts.sum(1, keepdim=True), torch.arange(256, dtype=torch.float64) / 255
    mean = share @ value
    deviation = (share * (value - mean[:, None]).square()).sum(1).sqrt()
    return mean.float(), deviation.clamp(min=1e-3).float()


def imagenet_statistics(classes: tuple[str, ...], channels: int | None = None) -> Statistics | None:
    """ImageNet's mean and standard deviation for colour images of its classes, which are called n01440764 …; else None."""
    if channels == 1 or not classes or not all(WORDNET.fullmatch(name) for name in classes):
        return None
    return torch.tensor(IMAGENET[0]), torch.tensor(IMAGENET[1])


def held_out(labels: Tensor, share: float, *, seed: int = 0) -> Tensor:
    """Which images are held out to test on: that share of each class, chosen by the seed. labels int64 ``N`` → bool ``N``.

    At least one of each class that has two, and never all of a class.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of the images that is held out lies between 0 and 1 (0.2), not {share}")
    order = permutation(seed, "split", 2, len(labels))
    test = torch.zeros(len(labels), dtype=torch.bool)
    for c in labels.unique():
        members = order[labels[order] == c]
        test[members[: min(len(members) - 1, max(1, round(share * len(members))))]] = True
    return test


def choose(labels: Tensor | None, total: int, count: int, *, seed: int = 0) -> Tensor:
    """Places of ``count`` out of ``total`` images, picked by the seed: int64 ``count``.

    With labels ``total`` the same number of each class, as nearly as it goes. A smaller count picks a part of a larger one.
    """
    order = permutation(seed, "split", 0, total)
    if labels is None:
        return order[:count]
    labels = labels.cpu()[order]
    turn = torch.empty_like(labels)  # this image is the how-many-th of its class
    for c in labels.unique():
        turn[labels == c] = torch.arange(int((labels == c).sum()))
    return order[turn.argsort(stable=True)[:count]]
