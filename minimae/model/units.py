"""Two changes to masking that came after the paper: larger units, and predicting only some of the hidden patches.

They leave the model as it is: both only change which indices a mask holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..random import uniforms
from .masking import Mask, keep_count, make_mask
from .patches import Pair


@dataclass(frozen=True, eq=False)
class PartialMask(Mask):
    """A mask for an image of ``patches`` patches. ``masked`` lists only those to predict, ``b m``, so k + m may be smaller."""

    patches: int

    @property
    def n(self) -> int:
        return self.patches


def coarse_grid(grid: Pair, unit: int) -> Pair:
    """Rows and columns of units of ``unit`` × ``unit`` patches. Raises ValueError when they do not fill the grid."""
    if unit < 1 or grid[0] % unit or grid[1] % unit:
        sides = [str(side) for side in range(1, min(grid) + 1) if grid[0] % side == 0 == grid[1] % side]
        raise ValueError(f"units of {unit}×{unit} patches do not fill a grid of {grid[0]}×{grid[1]}: choose {' or '.join(sides)}")
    return grid[0] // unit, grid[1] // unit


def predicted_count(grid: Pair, *, ratio: float, unit: int = 1, share: float = 1.0) -> int:
    """How many of the hidden patches are predicted. Raises ValueError when none is, or when the masks are impossible."""
    h, w = coarse_grid(grid, unit)
    hidden = (h * w - keep_count(h * w, ratio)) * unit**2
    if not (0 < share <= 1 and (count := round(share * hidden))):
        raise ValueError(f"predict is the share of the {hidden} hidden patches that is predicted, above 0 and at most 1, not {share}")
    return count


def make_partial_mask(
    ids: Tensor, grid: Pair, *, ratio: float = 0.75, sampling: str = "random", seed: int = 0, epoch: int | Tensor = 0, unit: int = 1,
    predict: float = 1.0,
) -> PartialMask:  # fmt: skip
    """Like :func:`minimae.model.masking.make_mask`, with two more options.

    unit: squares of unit × unit patches are hidden or kept whole, 2 or 4 (Pixio, arXiv 2512.15715). predict: the share of the hidden
    patches that is predicted, different ones in each epoch: 1/3 in CrossMAE (arXiv 2401.14391), a quarter of all.
    """
    mask = make_mask(ids, coarse_grid(grid, unit), ratio=ratio, sampling=sampling, seed=seed, epoch=epoch)
    keep, masked = (patches_of(index, grid, unit) for index in (mask.keep, mask.masked))
    count = predicted_count(grid, ratio=ratio, unit=unit, share=predict)
    if count < masked.shape[1]:
        chosen = uniforms(seed, "predict", epoch, ids, masked.shape[1]).argsort(dim=1, stable=True)[:, :count]
        masked = masked.gather(1, chosen)
    return PartialMask(keep, masked, grid[0] * grid[1])


def patches_of(index: Tensor, grid: Pair, unit: int) -> Tensor:
    """Indices of units ``b k`` → indices of all patches in them ``b (k unit²)``."""
    columns, step = grid[1] // unit, torch.arange(unit, device=index.device)
    first = (index // columns * grid[1] + index % columns) * unit
    return (first[:, :, None] + (step[:, None] * grid[1] + step).flatten()).flatten(1)
