"""The functions of ``minimae.…`` with checked arguments: an error names the wrong one, what was wanted and how to write it.

The functions themselves (``minimae.model.masking.make_mask``) are those of the book, with fewer checks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from numbers import Integral, Real
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from .. import random as noise
from . import masking, patches, positions, sizes, targets, vit

P = ParamSpec("P")
R = TypeVar("R")
Advice = str | None  # what was wanted, and how to write it; None for a good value


def is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(is_whole(x) and x > 0 for x in value)


def is_whole(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral)


def tensor(shape: str, *, dims: tuple[int, ...] = ()) -> Callable[[Any], Advice]:
    """A check for a tensor with one of these numbers of axes."""

    def check(value: Any) -> Advice:
        if not isinstance(value, Tensor):
            return f"a tensor {shape}" + ("; torch.from_numpy makes one of an array" if type(value).__module__ == "numpy" else "")
        return None if not dims or value.dim() in dims else f"a tensor {shape}"

    return check


def grid(value: Any) -> Advice:
    return None if is_pair(value) else "rows and columns of patches: size.grid, or a pair as (14, 14)"


def pixels(value: Any) -> Advice:
    good = is_pair(value) or (is_whole(value) and value > 0)
    return None if good else "pixels: a number as 16, or a pair (rows, columns)"


def ids(value: Any) -> Advice:
    good = isinstance(value, Tensor) and value.dim() == 1 and not value.is_floating_point()
    how = f"torch.arange({value}) for {value} images" if isinstance(value, int) and not isinstance(value, bool) else "torch.arange(8) for 8"
    return None if good else f"a tensor of sample ids, one integer for each image: {how}"


def ratio(value: Any) -> Advice:
    return None if isinstance(value, Real) else "a share between 0 and 1, as 0.75"


def whole(value: Any) -> Advice:
    return None if is_whole(value) else "a whole number"


def epoch(value: Any) -> Advice:
    return None if isinstance(value, Integral | Tensor) else "a whole number, or a tensor of one for each image"


def a_size(value: Any) -> Advice:
    return None if isinstance(value, sizes.Size) else 'a minimae.Size: minimae.size("base")'


ARGUMENTS: dict[str, Callable[[Any], Advice]] = {
    "ids": ids, "grid": grid, "old": grid, "new": grid, "image": pixels, "ratio": ratio, "s": a_size, "epoch": epoch,
    "n": whole, "keep": whole, "seed": whole, "count": whole, "d": whole,
    "patch": pixels,
    "noise": tensor("of random numbers b n, one for each patch", dims=(2,)), "images": tensor("b c height width", dims=(4,)),
    "patches": tensor("b n (p1 p2 c)", dims=(2, 3)), "removed": tensor("b n, b h w, or of pixels", dims=(2, 3)),
    "tokens": tensor("b n d, or n d", dims=(2, 3)), "index": tensor("of indices b k", dims=(2,)),
    "positions": tensor("(1 + n) d", dims=(2,)),
    "places": tensor("of positions n", dims=(1,)), "predicted": tensor("b m values"), "target": tensor("b m values"), "x": tensor("b t d"),
}  # fmt: skip
EXTRA = {"random_mask": 0, "block_mask": 4 * masking.BLOCKS, "grid_mask": 1}  # numbers of noise beyond one for each patch


def together(name: str, given: dict[str, Any]) -> Advice:
    """What two arguments must have in common."""
    if name in EXTRA:
        wanted, have = given["grid"][0] * given["grid"][1] + EXTRA[name], given["noise"].shape[1]
        if have < wanted:
            return f"noise has {have} numbers for each image, and this grid needs {wanted}"
    if name == "mask_from_noise" and not 1 <= given["keep"] < given["noise"].shape[1]:
        return f"keep is the number of visible patches, between 1 and {given['noise'].shape[1] - 1}, not {given['keep']}"
    if name == "patch_loss" and given["predicted"].shape != given["target"].shape:
        return f"predicted and target must have one shape, not {tuple(given['predicted'].shape)} and {tuple(given['target'].shape)}"
    if name == "take" and given["tokens"].dim() == 3 and len(given["tokens"]) != len(given["index"]):
        return f"tokens of {len(given['tokens'])} images and indices of {len(given['index'])} do not belong together"
    return None


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The function, with its arguments checked by their names. Raises ValueError before it is called."""
    signature, name = inspect.signature(function), function.__name__
    checks = {argument: check for argument, check in ARGUMENTS.items() if argument in signature.parameters}
    optional = {argument for argument in checks if "None" in str(signature.parameters[argument].annotation)}

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not torch.compiler.is_compiling():
            given = signature.bind(*args, **kwargs).arguments
            for argument, check in checks.items():
                value = given.get(argument)
                if argument not in given or (value is None and argument in optional):
                    continue
                if (advice := check(value)) is not None:
                    raise ValueError(f"{name}: {argument} is {advice}; not {shown(value)}")
            if (advice := together(name, given)) is not None:
                raise ValueError(f"{name}: {advice}")
        return function(*args, **kwargs)

    call.__module__ = "minimae"  # pickle finds this one by that name
    return call


def shown(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, Tensor) or hasattr(value, "shape"):
        return f"{type(value).__name__} {str(getattr(value, 'dtype', '')).removeprefix('torch.')} {tuple(value.shape)}"
    return f"{type(value).__name__} {str(value)[:40]!r}"


grid_of, patchify, unpatchify = checked(patches.grid_of), checked(patches.patchify), checked(patches.unpatchify)
keep_count, make_mask, user_mask = checked(masking.keep_count), checked(masking.make_mask), checked(masking.user_mask)
mask_from_noise, take = checked(masking.mask_from_noise), checked(masking.take)
random_mask, block_mask, grid_mask = checked(masking.random_mask), checked(masking.block_mask), checked(masking.grid_mask)
uniforms = checked(noise.uniforms)
sincos_1d, sincos_2d = checked(positions.sincos_1d), checked(positions.sincos_2d)
resize_positions = checked(positions.resize_positions)
flops, parameters = checked(sizes.flops), checked(sizes.parameters)
patch_loss, patch_statistics = checked(targets.patch_loss), checked(targets.patch_statistics)
drop_path = checked(vit.drop_path)
