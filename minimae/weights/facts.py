"""Facts about weights that the tensors do not contain: stated by their source, or given by the user."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import torch

from ..data.files import IMAGENET
from ..data.types import Statistics
from ..errors import MinimaeError, counted, reason
from ..model.patches import Pair, pair


@dataclass(frozen=True)
class Facts:
    """What a source states; None for what it does not state. image: height and width that the positions are for."""

    heads: int | None = None
    decoder_heads: int | None = None
    image: Pair | None = None
    eps: float = 1e-6
    target: str | None = None
    ratio: float | None = None
    statistics: tuple[Any, Any] | None = None
    classes: tuple[str, ...] = ()
    pool: str | None = None


def merge(stated: Facts, given: Mapping[str, Any], source: str) -> Facts:
    """The stated facts, replaced by those that the user gives (not None). Raises MinimaeError for heads that contradict each other."""
    for option in ("heads", "decoder_heads"):
        values = [value for value in (given[option], getattr(stated, option)) if value is not None]
        for value in values:
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise MinimaeError(f"{source}: {option} is a whole number from 1, not {value!r}")
        if len(set(values)) == 2:
            raise MinimaeError(f"{source} states {option} {values[1]}, and {option}={values[0]} was given: leave it out or correct that")
    return replace(stated, **{name: value for name, value in given.items() if value is not None})


def unsupported(source: str, name: str, value: Any, ours: str) -> MinimaeError:
    """The error for a field or part whose value our model does not support."""
    return MinimaeError(f"{source} was built with {name} {value!r}; ours has {ours}, so the outputs would differ")


def sides(value: Any) -> Pair | None:
    """Height and width in a config: a number, or a list of two. Raises TypeError for anything else."""
    if value is None:
        return None
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, list | tuple) and len(value) == 2)):
        raise TypeError(value)
    return pair(tuple(value) if isinstance(value, list) else value)


def normalisation(stated: Any, channels: int, source: str) -> Statistics:
    """The statistics of the images, as stated or given; without any, ImageNet's for three channels, with a warning."""
    if stated is None and channels != 3:
        raise MinimaeError(f"{source} does not state what its {counted(channels, 'channel')} were normalised by: give statistics="
                           "(mean, std) (minimae convert … --to minimae --mean … --std …)")  # fmt: skip
    if stated is None:
        warn(f"{source}: no statistics of the images are stated, so ImageNet's are assumed. Give statistics=(mean, std)")
    try:
        return checked_statistics(IMAGENET if stated is None else stated, channels)
    except ValueError as error:
        raise MinimaeError(f"{source}: {error}") from None


def checked_statistics(stated: Any, channels: int) -> Statistics:
    """Mean and std of each channel, of pixels in [0, 1]: float32, on the CPU. Raises ValueError for anything else."""
    try:
        mean, std = (torch.as_tensor(x, dtype=torch.float32).cpu() for x in stated)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"statistics are two, (mean, std), each with a number for every channel; not {reason(str(stated), 80)}") from None
    mean, std = (x.expand(channels) if x.dim() == 0 else x.flatten() for x in (mean, std))
    if len(mean) != channels or len(std) != channels:
        raise ValueError(f"means and stds are needed for {counted(channels, 'channel')}, not for {len(mean)} and {len(std)}")
    given = f"{mean.tolist()} and {std.tolist()} were given"
    if not bool(torch.stack([mean, std]).isfinite().all() and (std > 0).all()):
        raise ValueError(f"a standard deviation is greater than 0, and both are finite; {given}")
    if bool((mean > 1).any()):
        raise ValueError(f"statistics are those of pixels in [0, 1], where no mean is above 1; {given}: divide by 255")
    return mean.clone(), std.clone()


def warn(text: str) -> None:
    """A warning that points at the line outside this package that led to it."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __name__.partition(".")[0]:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, stacklevel=level)
