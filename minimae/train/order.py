"""Which images a step takes: an endless sequence of shuffled epochs, divided among the processes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import count

import torch
from torch import Tensor

from ..random import permutation
from .distributed import World, world
from .settings import Settings

Order = Iterator[tuple[Tensor, Tensor]]  # of each forward pass: the index of its images in the dataset, and their epochs, int64 b


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, images: int) -> Tensor:
    """The shuffled order of one epoch; cached, because every step of the epoch uses it."""
    return permutation(seed, "order", epoch, images)


def batch_at(position: int, count: int, images: int, seed: int) -> tuple[Tensor, Tensor]:
    """The images at positions [position, position + count) of an endless sequence of shuffled epochs: index ``b``, epochs ``b``.

    A batch may cross the end of an epoch, so every batch is full and no image is dropped.
    """
    index, epochs = [], []
    while count:
        epoch, offset = divmod(position, images)
        part = epoch_order(seed, epoch, images)[offset : offset + count]
        index.append(part)
        epochs.append(torch.full_like(part, epoch))
        position, count = position + len(part), count - len(part)
    return torch.cat(index), torch.cat(epochs)


def from_step(step: int, settings: Settings, images: int, process: World | None = None) -> Order:
    """The images of every forward pass of this process from optimizer step ``step`` on, without end.

    An item has ``batch`` images, or fewer when each is seen in several views.
    """
    process = process or world()
    part = settings.batch // settings.repeats
    for number in count(step * settings.accumulate):
        yield batch_at((number * process.size + process.rank) * part, part, images, settings.seed)
