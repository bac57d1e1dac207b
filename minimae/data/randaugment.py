"""RandAugment (Cubuk et al., arXiv 1909.13719) by timm, which the paper's authors used, one image at a time in the workers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..random import seeded
from .optional import need

MOST = 9.9999  # at 10 timm's posterize keeps no bit, which newer versions of Pillow refuse


@dataclass(frozen=True)
class RandAugment:
    """A transform for workers: crops uint8 ``b h w c``, sample ids ``b``, epochs ``b`` → changed crops. Functions of (seed, epoch, id).

    magnitude: out of 10, and its standard deviation; (9, 0.5) in the paper. fill: the colour of pixels from beyond the edges
    (:func:`mean_colour`). Raises ImportError without timm, ValueError for a magnitude that is not whole.
    """

    magnitude: tuple[float, float]
    seed: int
    fill: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.magnitude[0] != int(self.magnitude[0]):
            raise ValueError(f"RandAugment's magnitude is a whole number from 0 to 10, not {self.magnitude[0]}")
        if len(self.fill) not in (1, 3):
            raise ValueError(f"RandAugment takes images of 1 or 3 channels, not {len(self.fill)}")
        _operations(self.magnitude, self.fill, 224)

    def __call__(self, crops: Tensor, ids: Tensor, epochs: Tensor) -> Tensor:
        from PIL import Image

        operations = _operations(self.magnitude, self.fill, min(crops.shape[1:3]))
        changed = np.empty(crops.shape, np.uint8)
        for row, crop, sample, epoch in zip(changed, crops.numpy(), ids.tolist(), epochs.tolist(), strict=True):
            picture = Image.fromarray(crop if crop.shape[-1] == 3 else crop[..., 0])
            with seeded(self.seed, epoch, sample, stream="randaugment"):
                row[...] = np.asarray(operations(picture)).reshape(row.shape)
        return torch.from_numpy(changed)


@lru_cache(maxsize=4)
def _operations(magnitude: tuple[float, float], fill: tuple[int, ...], side: int) -> Any:
    """timm's ``rand-m9-mstd0.5-inc1`` for images whose shorter side has ``side`` pixels, with the authors' settings."""
    timm = need("timm.data.auto_augment", why="RandAugment")
    from PIL import Image

    hparams = {"translate_const": int(side * 0.45), "img_mean": fill, "interpolation": Image.Resampling.BICUBIC, "magnitude_max": MOST}
    return timm.rand_augment_transform(f"rand-m{magnitude[0]:.0f}-mstd{magnitude[1]:g}-inc1", hparams)


def mean_colour(statistics: tuple[Tensor, Tensor]) -> tuple[int, ...]:
    """The mean of a data set as a colour, 0 to 255 for each channel."""
    return tuple(min(255, round(255 * value)) for value in statistics[0].tolist())
