"""Attention within windows, so that the cost of a large picture grows with its area, not with the square of its area (after ViTDet).

``s`` counts the patches of one window. A patch attends to the patches of its window and to the class token; the class token attends to
everything. Where one window covers the grid, this is full attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from .patches import Pair
from .vit import Attention, Block, drop_path


def cut(x: Tensor, grid: Pair, window: Pair) -> Tensor:
    """Patches ``b heads n e`` of a grid → those of every window, ``(b windows) heads s e``; zeros fill the windows at the edges."""
    h, w = grid
    x = F.pad(rearrange(x, "b heads (h w) e -> b heads h w e", h=h), (0, 0, 0, -w % window[1], 0, -h % window[0]))
    return rearrange(x, "b heads (h s1) (w s2) e -> (b h w) heads (s1 s2) e", s1=window[0], s2=window[1])


def join(x: Tensor, grid: Pair, window: Pair) -> Tensor:
    """Windows ``(b windows) heads s e`` → patches ``b heads n e``: the inverse of :func:`cut`."""
    (h, w), (s1, s2) = grid, window
    x = rearrange(x, "(b h w) heads (s1 s2) e -> b heads (h s1) (w s2) e", h=-(-h // s1), w=-(-w // s2), s1=s1)
    return rearrange(x[:, :, :h, :w], "b heads h w e -> b heads (h w) e")


def window_attention(attention: Attention, x: Tensor, grid: Pair, side: int) -> Tensor:
    """Attention within windows of ``side`` × ``side`` patches: tokens ``b (c + n) d``, c class tokens first → ``b (c + n) d``."""
    q, k, v = attention.split(x)
    c = x.shape[1] - grid[0] * grid[1]
    window = min(side, grid[0]), min(side, grid[1])
    windows = -(-grid[0] // window[0]) * -(-grid[1] // window[1])
    keys, values = (
        torch.cat(
            [repeat(part[:, :, :c], "b heads c e -> (b windows) heads c e", windows=windows), cut(part[:, :, c:], grid, window)], dim=2
        )
        for part in (k, v)
    )
    real = cut(x.new_ones(1, 1, grid[0] * grid[1], 1), grid, window)[..., 0].bool()  # windows 1 s: padding is never a key
    real = repeat(F.pad(real, (c, 0), value=True), "windows 1 t -> (b windows) 1 1 t", b=len(x))
    patches = F.scaled_dot_product_attention(cut(q[:, :, c:], grid, window), keys, values, attn_mask=real)
    mixed = torch.cat([F.scaled_dot_product_attention(q[:, :, :c], k, v), join(patches, grid, window)], dim=2)
    return attention.out(rearrange(mixed, "b heads t e -> b t (heads e)"))


def block_in_windows(block: Block, x: Tensor, *, grid: Pair, side: int) -> Tensor:
    """A block whose attention stays within windows: ``b (1 + n) d`` → ``b (1 + n) d``."""
    x = x + drop_path(window_attention(block.attention, block.norm1(x), grid, side), block.drop, block.training)
    return x + drop_path(block.mlp(block.norm2(x)), block.drop, block.training)


def full_blocks(depth: int, count: int) -> list[int]:
    """Which blocks attend to everything: the last of each of ``count`` equal parts. With 12 blocks and 4 parts: 2, 5, 8 and 11."""
    if not 0 <= count <= depth:
        raise ValueError(f"{count} of {depth} blocks cannot attend to the whole picture: choose 0 to {depth}")
    return [(part + 1) * depth // count - 1 for part in range(count)]


def in_windows(blocks: Iterable[nn.Module], grid: Pair, side: int, *, full: int = 4) -> list[Callable[[Tensor], Tensor]]:
    """The blocks of an encoder as functions of tokens; all but ``full`` of them, evenly spaced, attend within windows of ``side`` patches.

    Raises ValueError for blocks of another library, for windows without patches, and for more full blocks than the encoder has.
    """
    blocks = list(blocks)
    if side < 1:
        raise ValueError(f"a window has at least one patch on a side, not {side}")
    everything = full_blocks(len(blocks), full)
    if not all(isinstance(block, Block) for block in blocks):
        raise ValueError("windows need an encoder of minimae: convert these weights first with minimae convert")
    return [
        block if i in everything else partial(block_in_windows, block, grid=grid, side=side)  # type: ignore[arg-type]
        for i, block in enumerate(blocks)
    ]
