"""Decide which patches the encoder may see (paper, Section 3 "Masking", Table 1f and Figure 6).

A mask is two lists of indices, the kept patches ``b k`` and the masked patches ``b m``, with k + m = n. In binary form
1 means removed and 0 kept. A mask is a function of (seed, epoch, sample id), or you supply it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor

from ..random import uniforms
from .patches import Pair, pair

BLOCKS = 32  # rectangles tried by block_mask; it fills the rest patch by patch


@dataclass(frozen=True, eq=False)
class Mask:
    """Indices of the visible and the masked patches of each image: keep int64 ``b k``, masked int64 ``b m``, both shuffled."""

    keep: Tensor
    masked: Tensor

    @property
    def n(self) -> int:
        """Number of patches in an image."""
        return self.keep.shape[1] + self.masked.shape[1]

    @property
    def restore(self) -> Tensor:
        """``b n``: the index of each patch of the image in the shuffled order [kept | masked] (the unshuffle)."""
        return torch.cat([self.keep, self.masked], dim=1).argsort(dim=1)

    @property
    def binary(self) -> Tensor:
        """float32 ``b n`` in image order: 1 removed, 0 kept."""
        ones = torch.ones_like(self.masked, dtype=torch.float32)
        return torch.zeros(len(ones), self.n, device=ones.device).scatter(1, self.masked, ones)

    def to(self, device: torch.device | str) -> Mask:
        """The same mask on another device."""
        return replace(self, keep=self.keep.to(device), masked=self.masked.to(device))


def keep_count(n: int, ratio: float) -> int:
    """How many of n patches stay visible at a mask ratio in (0, 1): n·(1 − ratio), rounded half up.

    49 of 196 and 64 of 256 at 75 %. Raises ValueError when nothing or everything would be kept.
    """
    if not 0 < ratio < 1:
        percent = f"; did you mean {ratio / 100:g}?" if 1 < ratio < 100 else ""
        raise ValueError(f"mask ratio must lie between 0 and 1 (0.75 in the paper), not {ratio}{percent}")
    keep = math.floor(round(n * (1 - ratio), 6) + 0.5)  # the inner round undoes 10 · (1 − 0.9) = 0.99…98
    if not 1 <= keep < n:
        advice = f"choose a ratio between {1 / n:.4g} and {1 - 1 / n:.4g}, or smaller patches" if n > 1 else "choose smaller patches"
        raise ValueError(f"a mask ratio of {ratio} keeps {keep} of {n} patches; at least one must be kept and one masked: {advice}")
    return keep


def mask_from_noise(noise: Tensor, keep: int) -> Mask:
    """Keep the patches with the ``keep`` smallest numbers of noise ``b n`` (Section 3, "Implementation")."""
    order = noise.float().argsort(dim=1, stable=True)
    return Mask(order[:, :keep], order[:, keep:])


def random_mask(noise: Tensor, grid: Pair, ratio: float) -> Mask:
    """Uniform sampling without replacement, from one number per patch (noise ``b n``). The paper's default."""
    return mask_from_noise(noise[:, : grid[0] * grid[1]], keep_count(grid[0] * grid[1], ratio))


def block_mask(noise: Tensor, grid: Pair, ratio: float) -> Mask:
    """Large rectangles are removed until the ratio is reached (Figure 6, middle; block-wise sampling of BEiT).

    noise ``b (n + 4·BLOCKS)``: one number per patch to break ties, four per rectangle (area, aspect, row, column).
    A rectangle covers from 8 % of the image to all that is left to mask; the last one is trimmed to the exact count.
    """
    (h, w), n = grid, grid[0] * grid[1]
    ties, boxes = noise[:, :n], rearrange(noise[:, n : n + 4 * BLOCKS], "b (rounds four) -> rounds four b", four=4)
    to_mask = n - keep_count(n, ratio)
    row = torch.arange(h, device=noise.device)[None, :, None]
    column = torch.arange(w, device=noise.device)[None, None, :]
    turn = noise.new_full((len(noise), h, w), float(BLOCKS))  # which rectangle covered a patch first
    for i, (area, aspect, top, left) in enumerate(boxes):
        open_ = (to_mask - (turn < BLOCKS).sum((1, 2))).clamp(min=0).float()
        size = 0.08 * n + area * (open_ - 0.08 * n).clamp(min=0)
        ratio_hw = torch.exp((2 * aspect - 1) * math.log(1 / 0.3))
        tall = (size * ratio_hw).sqrt().round().clamp(1, h)
        wide = (size / ratio_hw).sqrt().round().clamp(1, w)
        r0, c0 = (top * (h - tall + 1)).floor(), (left * (w - wide + 1)).floor()
        tall, wide, r0, c0, more = (v[:, None, None] for v in (tall, wide, r0, c0, open_ > 0))
        inside = (row >= r0) & (row < r0 + tall) & (column >= c0) & (column < c0 + wide) & more
        turn = torch.where(inside & (turn == BLOCKS), float(i), turn)
    return mask_from_noise(-(rearrange(turn, "b h w -> b (h w)") + ties), n - to_mask)


def grid_mask(noise: Tensor, grid: Pair, ratio: float) -> Mask:
    """Keep one patch in every s×s square, on a regular lattice (Figure 6, right); s is 2 for 75 % and below.

    noise ``b (n + 1)``: one number per patch, and one that shifts the lattice. Where the lattice misses the exact count
    (odd grids, other ratios), random patches are added or removed.
    """
    w, n = grid[1], grid[0] * grid[1]
    stride = max(2, round((1 - ratio) ** -0.5))  # a stride of 1 would be random sampling
    shift = (noise[:, n] * stride**2).long()[:, None]
    index = torch.arange(n, device=noise.device)[None]
    on_lattice = (index // w % stride == shift // stride) & (index % w % stride == shift % stride)
    return mask_from_noise(noise[:, :n] + (~on_lattice), keep_count(n, ratio))


SAMPLERS: dict[str, Callable[[Tensor, Pair, float], Mask]] = {"random": random_mask, "block": block_mask, "grid": grid_mask}


def make_mask(ids: Tensor, grid: Pair, *, ratio: float = 0.75, sampling: str = "random", seed: int = 0, epoch: int | Tensor = 0) -> Mask:
    """The mask of each sample id ``b`` in an epoch: a pure function of (seed, epoch, sample id).

    ids: an integer for each image, such as its index in the dataset. An id gets the same mask in every batch and on every device.
    """
    if sampling not in SAMPLERS:
        raise ValueError(f"unknown sampling {sampling!r}; choose one of {', '.join(SAMPLERS)}")
    n = grid[0] * grid[1]
    extra = {"random": 0, "block": 4 * BLOCKS, "grid": 1}[sampling]
    return SAMPLERS[sampling](uniforms(seed, "mask", epoch, ids, n + extra), grid, ratio)


def user_mask(removed: Tensor, grid: Pair, *, patch: int | Pair | None = None) -> Mask:
    """Your own mask: 1 or True is removed, 0 or False is kept.

    removed: for each patch, ``b n`` or ``b h w``; or with ``patch`` for each pixel, ``b (h p1) (w p2)``: a patch is removed
    if any of its pixels is. All images of a batch must keep the same number of patches.
    """
    (h, w), given = grid, tuple(removed.shape)
    if not bool(((removed == 0) | (removed == 1)).all()):
        raise ValueError("a mask holds 0 (kept) and 1 (removed) only; threshold yours first, for example mask > 0.5")
    if patch is not None:
        p1, p2 = pair(patch)
        if removed.dim() != 3 or given[1:] != (h * p1, w * p2):
            raise ValueError(f"a pixel mask for a {h}×{w} grid of {p1}×{p2} patches is b {h * p1} {w * p2}, not {given}")
        removed = rearrange(removed.bool(), "b (h p1) (w p2) -> b (h w) (p1 p2)", p1=p1, p2=p2).any(-1)
    elif removed.dim() == 3 and given[1:] == (h, w):
        removed = rearrange(removed, "b h w -> b (h w)")
    elif removed.dim() != 2 or given[1] != h * w:
        raise ValueError(f"a patch mask for a {h}×{w} grid is b {h} {w} or b {h * w}, not {given}; for pixels give patch=")
    counts = (~removed.bool()).sum(1)
    if not len(counts):
        raise ValueError("a mask is for at least one image, and this one is for none")
    if counts.unique().numel() != 1:
        i = int((counts != counts[0]).nonzero()[0])
        raise ValueError(
            f"image {i} keeps {int(counts[i])} patches and image 0 keeps {int(counts[0])}: images of one batch must keep "
            "the same number; pass them in batches of equal count, or one by one"
        )
    k = int(counts[0])
    if not 1 <= k < h * w:
        raise ValueError(f"this mask keeps {k} of {h * w} patches; keep at least one and mask at least one, or pass mask=None")
    return mask_from_noise(removed.float(), k)


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """Pick tokens ``b n d`` by index ``b k`` → ``b k d``; or from one table ``n d`` shared by the batch → ``b k d``."""
    b, k = index.shape
    if tokens.dim() == 3:  # one flat row index is a plain copy of rows, faster than gather on every device
        index = index + tokens.shape[1] * torch.arange(b, device=index.device)[:, None]
        tokens = tokens.flatten(0, 1)
    return tokens.index_select(0, index.flatten()).unflatten(0, (b, k))
