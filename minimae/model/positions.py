"""Where a patch is: fixed two-dimensional sine-cosine positions (paper, Section 3 and Appendix A.1).

Attention ignores order: a token carries its position only in the vector that is added to it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from .patches import Pair


def sincos_1d(coordinates: Tensor, d: int) -> Tensor:
    """Coordinates ``n`` → ``n d``: sines, then cosines, at d/2 frequencies from 1 down to almost 1/10000."""
    frequencies = 10000.0 ** -(torch.arange(d // 2, dtype=torch.float64) / (d // 2))
    angles = coordinates.to(torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def sincos_2d(d: int, grid: Pair) -> Tensor:
    """A zero row for the class token, then one row per patch of the grid: float32 ``(1 + n) d``.

    The first half of the channels encodes the column, the second half the row. Computed in float64.
    Raises ValueError unless d is a multiple of 4 (sine and cosine, column and row).
    """
    if d % 4:
        raise ValueError(f"sine-cosine positions need a width that is a multiple of 4, not {d}; {d + 4 - d % 4} would do")
    h, w = grid
    column = repeat(sincos_1d(torch.arange(w), d // 2), "w d -> (h w) d", h=h)
    row = repeat(sincos_1d(torch.arange(h), d // 2), "h d -> (h w) d", w=w)
    return torch.cat([torch.zeros(1, d, dtype=torch.float64), torch.cat([column, row], dim=1)]).float()


def resize_positions(positions: Tensor, old: Pair, new: Pair) -> Tensor:
    """Positions ``(1 + n) d`` of one grid → those of another, by bicubic interpolation; the class row is unchanged."""
    if old == new:
        return positions
    if len(positions) != 1 + old[0] * old[1]:
        raise ValueError(f"{len(positions)} positions do not belong to a class token and a grid of {old[0]}×{old[1]}")
    image = rearrange(positions[1:], "(h w) d -> 1 d h w", h=old[0])
    image = F.interpolate(image, size=new, mode="bicubic", align_corners=False)
    return torch.cat([positions[:1], rearrange(image, "1 d h w -> (h w) d")])
