"""Cut an image into patches, and put the patches back (paper, Section 3, "Masking").

Axes: ``b`` batch, ``c`` channels, ``h w`` rows and columns of the grid, ``p1 p2`` those of a patch, ``n`` patches in an image.
"""

from __future__ import annotations

from einops import rearrange
from torch import Tensor

Pair = tuple[int, int]


def pair(value: int | Pair) -> Pair:
    """``16`` means ``(16, 16)``; a pair (rows, columns) stays as it is."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def grid_of(image: int | Pair, patch: int | Pair) -> Pair:
    """Rows and columns of patches ``(h, w)`` in an image of ``(height, width)`` pixels.

    Raises ValueError, with the nearest sizes that would work, when the patch does not divide the image.
    """
    (height, width), (p1, p2) = pair(image), pair(patch)
    if min(height, width, p1, p2) < 1:
        raise ValueError(f"image {height}×{width} and patch {p1}×{p2} must be at least 1 pixel each way")
    if height % p1 or width % p2:
        down, up = (height // p1, width // p2), (-(-height // p1), -(-width // p2))
        near = [f"{rows * p1}×{columns * p2}" for rows, columns in ((down, up) if min(down) else (up,))]
        raise ValueError(
            f"an image of {height}×{width} pixels cannot be cut into patches of {p1}×{p2}: "
            f"resize or crop it to {' or '.join(near)}, or choose a patch size that divides it"
        )
    return height // p1, width // p2


def patchify(images: Tensor, patch: int | Pair) -> Tensor:
    """Images ``b c (h p1) (w p2)`` → patches ``b n (p1 p2 c)``, row by row (n = h·w).

    A patch vector lists its pixels row by row, the channels of a pixel side by side. Raises ValueError as :func:`grid_of` does.
    """
    p1, p2 = pair(patch)
    grid_of((images.shape[-2], images.shape[-1]), patch)
    return rearrange(images, "b c (h p1) (w p2) -> b (h w) (p1 p2 c)", p1=p1, p2=p2)


def unpatchify(patches: Tensor, patch: int | Pair, grid: Pair) -> Tensor:
    """Patches ``b n (p1 p2 c)`` → images ``b c (h p1) (w p2)``: the exact inverse of :func:`patchify`.

    Raises ValueError when n is not h·w or the patch vector does not hold whole pixels.
    """
    (p1, p2), (h, w) = pair(patch), grid
    n, values = patches.shape[-2:]
    if n != h * w:
        raise ValueError(f"{n} patches do not fill a grid of {h}×{w} = {h * w}")
    if values % (p1 * p2):
        raise ValueError(f"{values} values are not a whole number of channels for a patch of {p1}×{p2} pixels")
    return rearrange(patches, "b (h w) (p1 p2 c) -> b c (h p1) (w p2)", h=h, w=w, p1=p1, p2=p2)
