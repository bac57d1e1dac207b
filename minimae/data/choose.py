"""Choosing images: an index as users write it, a balanced subset, and the held-out test images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..random import permutation


def as_index(index: Any, count: int) -> Tensor:
    """Which of ``count`` images: their indices, a slice, or a boolean for each → int64. Raises ValueError for anything else."""
    chosen = torch.arange(count)[index] if isinstance(index, slice) else torch.as_tensor(index)
    if chosen.dtype == torch.bool and chosen.shape == (count,):
        return chosen.nonzero()[:, 0]
    if chosen.shape == (0,):
        return chosen.long()
    if chosen.dim() != 1 or chosen.dtype == torch.bool or chosen.is_floating_point() or chosen.is_complex():
        given = f"{str(chosen.dtype).removeprefix('torch.')} {tuple(chosen.shape)}"
        raise ValueError(f"images are chosen by their indices, or by a boolean for each of the {count}; {given} was given")
    low, high = int(chosen.min()), int(chosen.max())
    if low < -count or high >= count:
        raise ValueError(f"there are {count} images, with indices from 0 to {count - 1}, and no index {high if high >= count else low}")
    return chosen.long()


def choose(labels: Tensor | None, total: int, count: int, *, seed: int = 0) -> Tensor:
    """Indices of ``count`` out of ``total`` images, chosen by the seed: int64 ``count``. A larger choice contains a smaller one.

    With labels ``total``, the same number of each class, as nearly as possible.
    """
    if count < 1:
        raise ValueError(f"limit must be at least 1, not {count}")
    order = permutation(seed, "split", 0, total)
    if labels is None:
        return order[:count]
    labels = labels.cpu()[order]
    rank = torch.empty_like(labels)  # of this image within its class
    for c in labels.unique():
        rank[labels == c] = torch.arange(int((labels == c).sum()))
    return order[rank.argsort(stable=True)[:count]]


def held_out(labels: Tensor, share: float, *, seed: int = 0) -> Tensor:
    """Which images are held out for testing: this share of each class, chosen by the seed. labels int64 ``N`` → bool ``N``.

    Holds out at least one image of each class that has two, and never a whole class.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of held-out images is between 0 and 1 (0.2), not {share}")
    order = permutation(seed, "split", 2, len(labels))
    test = torch.zeros(len(labels), dtype=torch.bool)
    for c in labels.unique():
        members = order[labels[order] == c]
        test[members[: min(len(members) - 1, max(1, round(share * len(members))))]] = True
    return test
