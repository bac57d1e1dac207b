"""Checks of the model's inputs. Each error is one line: what was given, what was wanted, and how to fix it."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from torch import Tensor


def shape_advice(given: tuple[int, ...], channels: int) -> str | None:
    """How to turn a shape into ``b channels height width``; None when it is one already."""
    if 0 in given:
        return "it is empty"
    if len(given) == 4 and given[1] == channels:
        return None
    if len(given) == 4 and given[3] == channels:
        return "the channels come last; move them: images.permute(0, 3, 1, 2), in numpy transpose"
    if len(given) == 3 and given[0] == channels:
        return "the batch axis is missing; add it: images[None]"
    if len(given) == 3 and given[2] == channels:
        return "the channels come last and the batch axis is missing: images.permute(2, 0, 1)[None], in numpy transpose"
    if len(given) == 3 and channels == 1:
        return "the channel axis is missing; add it: images[:, None]"
    if len(given) == 2 and channels == 1:
        return "batch and channel axis are missing; add them: images[None, None]"
    if len(given) == 4 and min(given[1], given[3]) <= 16:
        have = given[1] if given[1] <= given[3] else given[3]
        grey = " (grey can be repeated)" if have == 1 else ""
        return f"convert the images to {channels} channel(s){grey}, or build the model with channels={have}"
    return "bring the axes into this order"


def check_sides(what: str, value: Any) -> None:
    """Raises ValueError unless this is a number of pixels, or a pair of them."""
    sides = list(value) if isinstance(value, list | tuple) else [value, value]
    if len(sides) != 2 or any(isinstance(x, bool) or not isinstance(x, Integral) for x in sides):
        raise ValueError(f"{what} is a whole number of pixels, or a pair (height, width), not {value!r}")


def check_batch(batch: Any) -> None:
    """Raises ValueError unless this is a number of images."""
    if isinstance(batch, bool) or not isinstance(batch, Integral) or batch < 1:
        raise ValueError(f"batch is a whole number of images from 1, not {batch!r}")


def check_images(images: Any, channels: int) -> None:
    """Raises ValueError unless these are float images ``b channels height width``."""
    check_shape(images, channels)
    if not images.is_floating_point():
        wanted = "normalise them first, minimae.data.augment.normalise(images, statistics)"
        raise ValueError(f"the model takes float images, normalised, not {images.dtype}: {wanted}")


def check_shape(images: Any, channels: int) -> None:
    """Raises ValueError unless this is a tensor ``b channels height width``."""
    if not isinstance(images, Tensor):
        kind = type(images).__name__
        raise ValueError(f"images are a tensor b {channels} height width, not {kind}: torch.from_numpy makes one of an array")
    if (advice := shape_advice(tuple(images.shape), channels)) is not None:
        raise ValueError(f"the model takes images of shape b {channels} height width, not {tuple(images.shape)}: {advice}")


def checked_mask(mask: Any, drawn: dict[str, Any]) -> Any:
    """The mask that was given. Raises ValueError for anything else, and for one that comes with options for drawing another."""
    if isinstance(mask, int | float):
        raise ValueError(f"the second argument is a mask, not {mask}: for a random one write ratio={mask}")
    if not hasattr(mask, "keep"):
        raise ValueError(f"a mask is what make_mask or user_mask returns, not {type(mask).__name__}")
    if drawn:
        raise ValueError(f"a mask was given, so {', '.join(drawn)} would change nothing: give one or the other")
    return mask
