"""Images from the user, in any container, of any type and size → one tensor, or Images. Every public function uses these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..model.checks import shape_advice
from .decoding import GREY
from .images import Images

Range = tuple[Sequence[float], Sequence[float]]
Order = Literal["first", "last"]

TOLERANCE = 1e-4  # rounding may leave a value this far outside [0, 1]
FEW = 4  # common numbers of channels: grey, grey with alpha, colour, colour with alpha; images have more pixels than that
WANTED = "images are uint8, integers 0 … 255 or floats in [0, 1]"


def as_pixels(images: Any, channels: int) -> Tensor:
    """Images → uint8 or float32 in [0, 1], ``N channels height width``.

    images: a tensor or numpy array ``N c height width`` (for one channel also ``N height width``), a list of arrays ``c height width``,
    a PIL image, or a list of PIL images (upright, converted to grey or RGB). Integers of any type are pixel values 0 … 255; floats of
    any type lie in [0, 1].

    Raises ValueError for other shapes, types and ranges, for NaN, and for masked values; the message says what was given and expected.
    """
    pixels = as_tensor(images, channels)
    if channels == 1 and pixels.dim() == 3:
        pixels = pixels[:, None]
    if (advice := shape_advice(tuple(pixels.shape), channels)) is not None:
        raise ValueError(f"images of shape N {channels} height width are expected, not {tuple(pixels.shape)}: {advice}")
    kind = str(pixels.dtype).removeprefix("torch.")
    if pixels.dtype == torch.uint8:
        return pixels
    if pixels.dtype == torch.bool or pixels.is_complex():
        raise ValueError(f"{WANTED}, not {kind}")
    pixels = pixels.float() if pixels.is_floating_point() else pixels.long()  # torch computes with few unsigned types
    low, high = (float(x) for x in pixels.aminmax())
    if low != low or high != high:
        count = int((~pixels.isfinite()).flatten(1).any(1).sum())
        raise ValueError(f"{count} of these {len(pixels)} images hold NaN: fill or leave them out first")
    if not pixels.is_floating_point():
        if low < 0 or high > 255:
            raise ValueError(f"integers are pixel values 0 … 255; these {kind} run from {low:g} to {high:g}: scale them to 0 … 255 first")
        return pixels.to(torch.uint8)
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        advice = "divide by 255" if low >= 0 and high <= 255 else "do not normalise them first, the model does that; scale them to [0, 1]"
        raise ValueError(f"float images lie in [0, 1]; these run from {low:.4g} to {high:.4g}: {advice}")
    return pixels


def as_tensor(images: Any, channels: int) -> Tensor:
    """Images in any container → a tensor of the same shape and values. PIL images become ``N c height width``."""
    images = getattr(images, "pixels", images)  # of Images, or of a Batch
    if isinstance(images, Tensor):
        return images.detach()
    if str(getattr(images, "dtype", None)) == "object" and getattr(images, "ndim", 0) == 1:
        images = list(images)  # a column of pandas, or an array of pictures
    if is_picture(images):
        return _from_picture(images, channels)[None]
    if not isinstance(images, list | tuple) or not any(is_picture(x) or isinstance(x, Tensor | np.ndarray) for x in images):
        return _from_array(images)
    tensors = [_from_picture(x, channels) if is_picture(x) else as_tensor(x, channels) for x in images]
    kinds = sorted({f"{tuple(x.shape)} {str(x.dtype).removeprefix('torch.')}" for x in tensors})
    if len(kinds) > 1:
        given = ", ".join(kinds[:3])
        raise ValueError(f"images of one batch must have one size and type; these have {given}: resize them, or pass them one by one")
    return torch.stack(tensors)


def is_picture(image: Any) -> bool:
    """Whether it is an image of PIL, without importing it."""
    return any(f"{base.__module__}.{base.__qualname__}" == "PIL.Image.Image" for base in type(image).__mro__)


def holds_pictures(images: Any) -> bool:
    """Whether it is a PIL image, or a list of them: their order of axes is known."""
    return is_picture(images) or (isinstance(images, list | tuple) and len(images) > 0 and is_picture(images[0]))


def _from_picture(image: Any, channels: int) -> Tensor:
    """A PIL image → ``c height width``, upright, in grey or RGB. One of more than 8 bits keeps its numbers."""
    from PIL import ImageOps

    if channels not in (1, 3):
        raise ValueError(f"a PIL image becomes 1 or 3 channels, and {channels} are expected: give an array N {channels} height width")
    image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return _from_array(np.array(image)).expand(channels, -1, -1)
    array = np.array(image.convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(array.reshape(*array.shape[:2], channels)).permute(2, 0, 1)


def _from_array(array: Any) -> Tensor:
    """A numpy array, or anything that becomes one → a tensor. Raises ValueError for masked values and for arrays that are not numeric."""
    if np.ma.is_masked(array):
        masked = int(np.ma.getmaskarray(array).sum())
        raise ValueError(f"{masked:,} values of this masked array are masked: fill them first, for example array.filled(0)")
    try:
        array = np.asarray(array)
    except ValueError as error:
        raise ValueError(f"images must form one array; these do not ({error})") from None
    if array.dtype.kind not in "uif":
        given = f"an array of {array.dtype} {array.shape}" if array.ndim else f"{array.dtype} {str(array)[:40]!r}"
        raise ValueError(f"{WANTED}; {given} was given")
    kind = np.float32 if array.dtype.kind == "f" else array.dtype if array.dtype.itemsize == 1 else np.int64  # torch has few unsigned types
    return torch.from_numpy(np.ascontiguousarray(array, dtype=kind))


def from_array(
    name: str,
    array: Any,
    labels: Any = None,
    classes: tuple[str, ...] = (),
    *,
    value_range: Range | None = None,
    channels: Order | None = None,
) -> Images:
    """An array ``N c height width``, or ``N height width`` for one channel, or a list of PIL images of one size → Images.

    channels: "first" for ``N c height width``, "last" for ``N height width c``. Required where the shape is ambiguous; up to
    four channels first, in images larger than that, are recognised.
    uint8 stays as it is. Other numbers are mapped to 0 … 255, each channel from its own ``value_range`` (lowest and highest; values
    outside are clipped), by default that of :func:`channel_range`. Give the test images the range of the training images.
    labels: ``N`` integers from 0, or names that are in ``classes`` (:func:`.labels.as_labels`).

    Raises ValueError for other shapes, for values that are not finite, for a range that is empty, and for labels that do not fit.
    """
    array = _four_axes(name, array, channels)
    if array.dtype != np.uint8:
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are not finite (nan or infinite): fill or leave out those images first")
        low, high = _bounds(name, value_range or channel_range(array, channels="first"), array.shape[1])
        if not (high > low).all():
            if value_range is not None:
                raise ValueError(f"{name}: value_range is (lowest, highest), the lower ones first, not {value_range}")
            raise ValueError(f"{name}: leave out the constant channels: {', '.join(map(str, np.flatnonzero(~(high > low))))}")
        parts = np.array_split(array, -(-len(array) // 256))  # in float64, a part takes little memory
        array = np.concatenate([np.rint((part - low) / (high - low) * 255).clip(0, 255).astype(np.uint8) for part in parts])
    return Images(name, torch.from_numpy(np.ascontiguousarray(array)), labels, classes)


def channel_range(array: Any, *, percentiles: tuple[float, float] = (0.5, 99.5), channels: Order | None = None) -> Range:
    """Lowest and highest value of each channel of an array (as :func:`from_array` takes it), without the outermost percentiles."""
    array = _four_axes("the array", array, channels)
    values = np.moveaxis(array, 1, 0).reshape(array.shape[1], -1)
    low, high = np.percentile(values[:, :: max(1, values.shape[1] // 1_000_000)], percentiles, axis=1)
    return tuple(low.tolist()), tuple(high.tolist())


def _bounds(name: str, value_range: Any, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest values, ``c 1 1`` each. A single number counts as one channel."""
    try:
        low, high = (np.asarray(x, np.float64).reshape(-1, 1, 1) for x in value_range)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: value_range is (lowest, highest), with a number for each channel, not {value_range!r}") from None
    if len(low) != channels or len(high) != channels:
        raise ValueError(f"{name} has channels={channels}, but the range is given for {len(low)} and {len(high)}")
    return low, high


def _four_axes(name: str, array: Any, channels: Order | None = None) -> np.ndarray:
    """Any accepted array as ``N c height width``. Raises ValueError for other numbers of axes, and when two axes could be the channels."""
    if channels not in (None, "first", "last"):
        raise ValueError(f"{name}: channels are 'first' (N c height width) or 'last' (N height width c), not {channels!r}")
    if holds_pictures(array):
        grey = all(x.mode in GREY or x.mode[0] in "FI" for x in (array if isinstance(array, list | tuple) else [array]) if is_picture(x))
        array, channels = as_tensor(array, 1 if grey else 3), "first"
    if isinstance(array, Tensor):
        array = (array.float() if array.dtype == torch.bfloat16 else array).detach().cpu().numpy()
    if np.ma.is_masked(array) or (isinstance(array, list | tuple) and any(np.ma.is_masked(x) for x in array)):
        raise ValueError(f"{name} holds masked values: fill them first (array.filled(0), for example)")
    array = np.asarray(array)
    if array.ndim not in (3, 4) or array.dtype.kind not in "uif" or not array.size:
        raise ValueError(f"{name}: an array of numbers N c height width (or N height width) is expected, not {array.dtype} {array.shape}")
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
            f"{name}: {array.shape} is {a} channels of {b}×{c} pixels, or {c} channels of {a}×{b}: say which "
            "with channels='first' or channels='last'"
        )
    return np.moveaxis(array, 3, 1) if channels == "last" else array
