"""Checks of arguments. Each error is one line: which argument, what was expected, what was given, and how to fix it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from numbers import Integral, Real
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")
FROM_NUMPY = "torch.from_numpy converts an array"


def is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(map(is_whole, value))


def is_grid(value: Any) -> bool:
    return is_pair(value) and min(value) > 0


def is_ids(value: Any) -> bool:
    return has_axes(1)(value) and not value.is_floating_point()


def has_axes(*axes: int) -> Callable[[Any], bool]:
    """A check for a tensor with one of these numbers of axes; any number if none is given."""
    return lambda value: isinstance(value, Tensor) and value.dim() in (axes or (value.dim(),))


# Arguments of the public functions by name: what is expected, and a test of it.
WHOLE = ("a whole number", is_whole)
GRID = ("rows and columns of patches: size.grid, or a pair as (14, 14)", is_grid)
PIXELS = ("pixels: a number as 16, or a pair (rows, columns)", lambda v: is_grid(v) or (is_whole(v) and v > 0))
ARGUMENTS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "n": WHOLE, "keep": WHOLE, "seed": WHOLE, "count": WHOLE, "d": WHOLE,
    "grid": GRID, "old": GRID, "new": GRID,
    "image": PIXELS, "patch": PIXELS,
    "ratio": ("a share between 0 and 1, as 0.75", lambda v: isinstance(v, Real)),
    "epoch": ("a whole number, or a tensor of one for each image", lambda v: isinstance(v, Integral | Tensor)),
    "s": ('a minimae.Size: minimae.size("base")', lambda v: hasattr(v, "decoder_width")),
    "ids": ("a tensor of sample ids, one integer for each image: torch.arange(len(images))", is_ids),
    "noise": ("a tensor of random numbers b n, one for each patch", has_axes(2)),
    "images": ("a tensor b c height width", has_axes(4)),
    "patches": ("a tensor b n (p1 p2 c)", has_axes(2, 3)),
    "removed": ("a tensor b n, b h w, or of pixels", has_axes(2, 3)),
    "tokens": ("a tensor b n d, or n d", has_axes(2, 3)),
    "index": ("a tensor of indices b k", has_axes(2)),
    "positions": ("a tensor (1 + n) d", has_axes(2)),
    "coordinates": ("a tensor of coordinates n", has_axes(1)),
    "predicted": ("a tensor b m values", has_axes()),
    "target": ("a tensor b m values", has_axes()),
    "x": ("a tensor b t d", has_axes()),
}  # fmt: skip


def shown(value: Any) -> str:
    """A value in a few words."""
    if hasattr(value, "shape"):
        return f"{type(value).__name__} {str(getattr(value, 'dtype', '')).removeprefix('torch.')} {tuple(value.shape)}"
    return f"{type(value).__name__} {str(value)[:40]!r}"


def checked(function: Callable[P, R], fit_together: Callable[..., str | None] | None = None) -> Callable[P, R]:
    """The function with checked arguments. Raises ValueError before it is called.

    fit_together: from all arguments, what is inconsistent, or None.
    """
    parameters, name = inspect.signature(function).parameters, function.__name__
    optional = {key for key, parameter in parameters.items() if "None" in str(parameter.annotation)}

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not torch.compiler.is_compiling():
            arguments = inspect.signature(function).bind(*args, **kwargs).arguments
            for key, value in arguments.items():
                wanted, is_good = ARGUMENTS.get(key, ("", lambda v: True))
                if not is_good(value) and not (value is None and key in optional):
                    hint = f"; {FROM_NUMPY}" if wanted.startswith("a tensor") and type(value).__module__ == "numpy" else ""
                    raise ValueError(f"{name}: {key} is {wanted}{hint}; not {shown(value)}")
            if fit_together is not None and (fault := fit_together(**arguments)) is not None:
                raise ValueError(f"{name}: {fault}")
        return function(*args, **kwargs)

    call.__module__ = "minimae"  # where pickle finds it
    return call


# Inputs of the model


def shape_advice(shape: tuple[int, ...], channels: int) -> str | None:
    """How to turn a shape into ``b channels height width``; None when it is one already."""
    is_c = [side == channels for side in shape]
    match len(shape):
        case _ if 0 in shape:
            return "it is empty"
        case 4 if is_c[1]:
            return None
        case 4 if is_c[3]:
            return "the channels come last; move them: images.permute(0, 3, 1, 2), in numpy transpose"
        case 4 if (have := min(shape[1], shape[3])) <= 16:
            grey = " (grey can be repeated)" if have == 1 else ""
            return f"convert the images to channels={channels}{grey}, or build the model with channels={have}"
        case 3 if is_c[0]:
            return "the batch axis is missing; add it: images[None]"
        case 3 if is_c[2]:
            return "the channels come last and the batch axis is missing: images.permute(2, 0, 1)[None], in numpy transpose"
        case 3 if channels == 1:
            return "the channel axis is missing; add it: images[:, None]"
        case 2 if channels == 1:
            return "batch and channel axis are missing; add them: images[None, None]"
    return "bring the axes into this order"


def check_sides(what: str, value: Any) -> None:
    """Raises ValueError unless this is a number of pixels, or a pair of them."""
    if not (is_whole(value) or is_pair(value)):
        raise ValueError(f"{what} is a whole number of pixels, or a pair (height, width), not {value!r}")


def check_batch(batch: Any) -> None:
    """Raises ValueError unless this is a number of images."""
    if not is_whole(batch) or batch < 1:
        raise ValueError(f"batch is a whole number of images from 1, not {batch!r}")


def check_shape(images: Any, channels: int) -> None:
    """Raises ValueError unless this is a tensor ``b channels height width``."""
    if not isinstance(images, Tensor):
        raise ValueError(f"images are a tensor b {channels} height width, not {type(images).__name__}: {FROM_NUMPY}")
    if (advice := shape_advice(tuple(images.shape), channels)) is not None:
        raise ValueError(f"the model takes images of shape b {channels} height width, not {tuple(images.shape)}: {advice}")


def check_images(images: Any, channels: int) -> None:
    """Raises ValueError unless these are float images ``b channels height width``."""
    check_shape(images, channels)
    if not images.is_floating_point():
        wanted = "normalise them first, minimae.data.augment.normalise(images, statistics)"
        raise ValueError(f"the model takes float images, normalised, not {images.dtype}: {wanted}")


def checked_mask(mask: Any, options: dict[str, Any]) -> Any:
    """The given mask. Raises ValueError unless it is one, and when options of :meth:`MAE.draw` are given too."""
    if isinstance(mask, int | float):
        raise ValueError(f"the second argument is a mask, not {mask}: for a random one write ratio={mask}")
    if not hasattr(mask, "keep"):
        raise ValueError(f"a mask is what make_mask or user_mask returns, not {type(mask).__name__}")
    if options:
        raise ValueError(f"a mask was given, so {', '.join(options)} would change nothing: give one or the other")
    return mask
