"""The functions of ``minimae.…``: those of the book's modules (``minimae.model.masking.make_mask``) with checked arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .. import random
from . import masking, patches, positions, sizes, targets, vit
from .checks import checked


def enough_noise(extra: int) -> Callable[..., str | None]:
    """A check for one random number for each patch, and ``extra`` more."""

    def check(noise: Tensor, grid: tuple[int, int], **_: Any) -> str | None:
        wanted = grid[0] * grid[1] + extra
        return None if noise.shape[1] >= wanted else f"noise has {noise.shape[1]} numbers for each image, and this grid needs {wanted}"

    return check


def some_kept(noise: Tensor, keep: int) -> str | None:
    n = noise.shape[1]
    return None if 1 <= keep < n else f"keep is the number of visible patches, between 1 and {n - 1}, not {keep}"


def same_batch(tokens: Tensor, index: Tensor) -> str | None:
    good = tokens.dim() == 2 or len(tokens) == len(index)
    return None if good else f"tokens of {len(tokens)} images and indices of {len(index)} do not belong together"


def same_shape(predicted: Tensor, target: Tensor) -> str | None:
    shapes = tuple(predicted.shape), tuple(target.shape)
    return None if shapes[0] == shapes[1] else f"predicted and target must have one shape, not {shapes[0]} and {shapes[1]}"


grid_of, patchify, unpatchify = checked(patches.grid_of), checked(patches.patchify), checked(patches.unpatchify)
keep_count, make_mask, user_mask = checked(masking.keep_count), checked(masking.make_mask), checked(masking.user_mask)
mask_from_noise, take = checked(masking.mask_from_noise, some_kept), checked(masking.take, same_batch)
random_mask, grid_mask = checked(masking.random_mask, enough_noise(0)), checked(masking.grid_mask, enough_noise(1))
block_mask = checked(masking.block_mask, enough_noise(4 * masking.BLOCKS))
uniforms = checked(random.uniforms)
sincos_1d, sincos_2d = checked(positions.sincos_1d), checked(positions.sincos_2d)
resize_positions = checked(positions.resize_positions)
flops, parameters = checked(sizes.flops), checked(sizes.parameters)
patch_loss, patch_statistics = checked(targets.patch_loss, same_shape), checked(targets.patch_statistics)
drop_path = checked(vit.drop_path)
