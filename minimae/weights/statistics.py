"""Statistics that the images were normalised by: stated, given, or assumed with a warning."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import torch
from torch import Tensor

from ..errors import MinimaeError, reason
from ..model.sizes import Size

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation of its pixels, which the authors' models expect
Statistics = tuple[Tensor, Tensor]


def found_statistics(stated: tuple[Any, Any] | None, size: Size, source: str) -> Statistics:
    """Mean and standard deviation per channel, as given or stated; otherwise ImageNet's for three channels, with a warning."""
    if stated is None and size.channels == 3:
        warn(f"{source}: no statistics of the images are stated, so ImageNet's are assumed. Give statistics=(mean, std)")
        stated = IMAGENET
    if stated is None:
        raise MinimaeError(
            f"what {size.channels} channel(s) were normalised by is not in the weights: give statistics=(mean, std) (--mean … --std …)"
        )
    try:
        return checked_statistics(stated, size.channels)
    except ValueError as error:
        raise MinimaeError(f"{source}: {error}") from None


def checked_statistics(stated: Any, channels: int) -> Statistics:
    """Mean and standard deviation of each channel, of pixels in [0, 1]: float32, on the CPU. Raises ValueError for what cannot be that."""
    try:
        mean, deviation = (torch.as_tensor(x, dtype=torch.float32).cpu() for x in stated)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"statistics are two, (mean, std), each with a number for every channel; not {reason(str(stated), 80)}") from None
    mean, deviation = (x.expand(channels) if x.dim() == 0 else x.flatten() for x in (mean, deviation))
    if len(mean) != channels or len(deviation) != channels:
        raise ValueError(f"these weights take {channels} channel(s); statistics for {len(mean)} and {len(deviation)} were given")
    given = f"{mean.tolist()} and {deviation.tolist()} were given"
    if not (bool(mean.isfinite().all()) and bool(deviation.isfinite().all()) and bool((deviation > 0).all())):
        raise ValueError(f"a standard deviation is greater than 0, and both are finite; {given}")
    if bool((mean > 1).any()):
        raise ValueError(f"statistics are those of pixels in [0, 1], where no mean is above 1; {given}: divide by 255 what is of 0 … 255")
    return mean.clone(), deviation.clone()


def warn(text: str) -> None:
    """A warning that points at the line outside this package that led to it."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __name__.partition(".")[0]:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, stacklevel=level)
