"""Your own arrays: any channels, any number type, any size. They become Images, uint8 like all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from .images import Images
from .labels import as_labels
from .pixels import as_tensor, holds_pictures, is_picture

Range = tuple[Sequence[float], Sequence[float]]
Order = Literal["first", "last"]
GREY = ("1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L")  # modes of Pillow with one channel of grey
FEW = 4  # common numbers of channels: grey, grey with alpha, colour, colour with alpha; images have more pixels than that


def channel_range(array: Any, *, percentiles: tuple[float, float] = (0.5, 99.5), channels: Order | None = None) -> Range:
    """Lowest and highest value of each channel of an array (as :func:`from_array` takes it), leaving out the outermost percent."""
    array = shaped("the array", array, channels)
    values = np.moveaxis(array, 1, 0).reshape(array.shape[1], -1)
    low, high = np.percentile(values[:, :: max(1, values.shape[1] // 1_000_000)], percentiles, axis=1)
    return tuple(low.tolist()), tuple(high.tolist())


def from_array(
    name: str,
    array: Any,
    labels: Any = None,
    classes: tuple[str, ...] = (),
    *,
    value_range: Range | None = None,
    channels: Order | None = None,
) -> Images:
    """An array ``N c height width``, or ``N height width`` for one channel, or a list of PIL images of one size, → Images.

    channels: "first" for ``N c height width``, "last" for ``N height width c``. Needed where the shape alone leaves a doubt; up to four
    channels first, of images larger than that, leave none.

    uint8 stays as it is. Other numbers are mapped to 0 … 255, each channel from its own ``value_range`` (lowest and highest; what lies
    outside is cut off), by default that of :func:`channel_range`. Give the test images the range of the training images.
    labels: ``N`` integers from 0, or names that are in ``classes`` (:func:`.labels.as_labels`).

    Raises ValueError for other shapes, for values that are not finite, for a range that is empty, and for labels that do not fit.
    """
    array = shaped(name, array, channels)
    if array.dtype != np.uint8:
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are not finite (nan or infinite): fill or leave out those images first")
        low, high = bounds(name, value_range or channel_range(array, channels="first"))
        if len(low) != array.shape[1] or len(high) != array.shape[1]:
            raise ValueError(f"{name} has {array.shape[1]} channel(s), but the range is given for {len(low)} and {len(high)}")
        if not (high > low).all():
            if value_range is not None:
                raise ValueError(f"{name}: value_range is (lowest, highest), the lower ones first, not {value_range}")
            flat = [int(i) for i in np.flatnonzero(~(high > low).reshape(-1))]
            raise ValueError(f"{name}: channel(s) {', '.join(map(str, flat))} have the same lowest and highest value: leave them out")
        array = np.concatenate(
            [
                np.rint((part - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
                for part in np.array_split(array, -(-len(array) // 256))
            ]
        )
    targets = None if labels is None else as_labels(name, labels, len(array), classes)
    return Images(name, torch.from_numpy(np.ascontiguousarray(array)), targets, classes)


def bounds(name: str, value_range: Any) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest values, ``c 1 1`` each. One number for either stands for one channel."""
    try:
        low, high = (np.atleast_1d(np.asarray(x, np.float64)) for x in value_range)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: value_range is (lowest, highest), with a number for each channel, not {value_range!r}") from None
    return low.reshape(-1, 1, 1), high.reshape(-1, 1, 1)


def shaped(name: str, array: Any, channels: Order | None = None) -> np.ndarray:
    """Any accepted array as ``N c height width``. Raises ValueError for other numbers of axes, and when two axes could be the channels."""
    if channels not in (None, "first", "last"):
        raise ValueError(f"{name}: channels are 'first' (N c height width) or 'last' (N height width c), not {channels!r}")
    if holds_pictures(array):
        colour = any(x.mode not in GREY for x in (array if isinstance(array, list | tuple) else [array]) if is_picture(x))
        array, channels = as_tensor(array, 3 if colour else 1), "first"
    if isinstance(array, torch.Tensor):
        array = (array.float() if array.dtype == torch.bfloat16 else array).detach().cpu().numpy()
    if np.ma.is_masked(array) or (isinstance(array, list | tuple) and any(np.ma.is_masked(x) for x in array)):
        raise ValueError(f"{name} holds masked values: fill them first (array.filled(0), for example)")
    array = np.asarray(array)
    if array.ndim not in (3, 4) or array.dtype.kind not in "uif" or not array.size:
        raise ValueError(f"{name}: an array of numbers N c height width (or N height width) was wanted, not {array.dtype} {array.shape}")
    if array.ndim == 3:
        if channels is not None or array.shape[2] <= FEW:
            raise ValueError(
                f"{name}: an array of three axes is N height width, and {array.shape} would be {len(array)} grey images of "
                f"{array.shape[1]}×{array.shape[2]} pixels: for one image add the axis N, array[None]; for grey images add channels, "
                "array[:, None] with channels='first'"
            )
        return array[:, None]
    _, a, b, c = array.shape
    if channels is None and not (a <= FEW and (min(b, c) > FEW or b == c > a)):
        raise ValueError(
            f"{name}: {array.shape} is {a} channel(s) of {b}×{c} pixels, or {c} channel(s) of {a}×{b}: say which with channels='first' "
            "or channels='last'"
        )
    return np.moveaxis(array, 3, 1) if channels == "last" else array
