"""Images from the user, in any container → one tensor of known type, range and shape. Every public function uses it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..model.checks import shape_advice

TOLERANCE = 1e-4  # rounding may leave a value this far outside [0, 1]


def as_pixels(images: Any, channels: int) -> Tensor:
    """Images → uint8 or float32 in [0, 1], ``N channels height width``.

    images: a tensor or numpy array ``N c height width`` (for one channel also ``N height width``), a list of arrays ``c height width``,
    a PIL image, or a list of PIL images (upright, converted to grey or RGB). Integers of any type are pixel values 0 … 255; floats of
    any type lie in [0, 1].

    Raises ValueError that says what was given, what was wanted and what to do: for other shapes, types and ranges, for NaN, and for
    masked arrays in which a value is masked.
    """
    pixels = as_tensor(images, channels)
    if channels == 1 and pixels.dim() == 3:
        pixels = pixels[:, None]
    if (advice := shape_advice(tuple(pixels.shape), channels)) is not None:
        raise ValueError(f"images of shape N {channels} height width are wanted, not {tuple(pixels.shape)}: {advice}")
    return checked_range(pixels)


def as_tensor(images: Any, channels: int) -> Tensor:
    """A tensor of what was given, whatever its shape; pictures of PIL become uint8 ``N c height width``."""
    if hasattr(images, "pixels") and isinstance(images.pixels, Tensor):  # Images, or a Batch
        images = images.pixels
    if isinstance(images, Tensor):
        return images.detach()
    if str(getattr(images, "dtype", None)) == "object" and getattr(images, "ndim", 0) == 1:
        images = list(images)  # a column of pandas, or an array of pictures
    if is_picture(images):
        return of_picture(images, channels)[None]
    if isinstance(images, list | tuple) and any(is_picture(x) or isinstance(x, Tensor | np.ndarray) for x in images):
        return stacked([of_picture(x, channels) if is_picture(x) else as_tensor(x, channels) for x in images])
    return of_array(images)


def is_picture(image: Any) -> bool:
    """Whether it is an image of PIL, without importing it."""
    return any(f"{base.__module__}.{base.__qualname__}" == "PIL.Image.Image" for base in type(image).__mro__)


def holds_pictures(images: Any) -> bool:
    """Whether it is a PIL image, or a list of them: their order of axes is known."""
    return is_picture(images) or (isinstance(images, list | tuple) and len(images) > 0 and is_picture(images[0]))


def of_picture(image: Any, channels: int) -> Tensor:
    """A PIL image → ``c height width``, upright, in grey or RGB. One of more than 8 bits keeps its numbers."""
    from PIL import ImageOps

    if channels not in (1, 3):
        raise ValueError(f"a PIL image becomes 1 or 3 channels, and {channels} are wanted: give an array N {channels} height width")
    image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return of_array(np.array(image))[None].repeat(channels, 1, 1)
    array = np.array(image.convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(array)[None] if channels == 1 else torch.from_numpy(array).permute(2, 0, 1)


def stacked(images: list[Tensor]) -> Tensor:
    """Images of one shape and type, side by side. Raises ValueError when they differ."""
    kinds = sorted({(str(tuple(x.shape)), str(x.dtype).removeprefix("torch.")) for x in images})
    if len(kinds) > 1:
        found = ", ".join(f"{shape} {dtype}" for shape, dtype in kinds[:3])
        raise ValueError(f"images of one batch must have one size and type; these have {found}: resize them, or pass them one by one")
    return torch.stack(images)


def of_array(array: Any) -> Tensor:
    """A numpy array, or what becomes one → a tensor. Raises ValueError for masked values and for what is not numbers."""
    if np.ma.isMaskedArray(array) and np.ma.getmaskarray(array).any():
        masked = int(np.ma.getmaskarray(array).sum())
        raise ValueError(f"{masked:,} values of this masked array are masked: fill them first, for example array.filled(0)")
    try:
        array = np.asarray(array)
    except ValueError as error:
        raise ValueError(f"images must form one array; these do not ({error})") from None
    if array.dtype.kind not in "uif":
        raise ValueError(f"images are uint8, integers 0 … 255 or floats in [0, 1]; {described(array)} was given")
    if array.dtype.kind in "ui" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)  # torch has few unsigned types
    elif array.dtype.kind == "f":
        array = array.astype(np.float32) if array.dtype.itemsize != 4 or not array.dtype.isnative else array
    return torch.from_numpy(np.ascontiguousarray(array))


def described(array: np.ndarray) -> str:
    """Type and shape in a few words."""
    return f"an array of {array.dtype} {array.shape}" if array.ndim else f"{array.dtype} {str(array)[:40]!r}"


def checked_range(pixels: Tensor) -> Tensor:
    """uint8 as it is, other integers 0 … 255 as uint8, floats in [0, 1] as float32. Raises ValueError for anything else."""
    kind = str(pixels.dtype).removeprefix("torch.")
    if pixels.dtype == torch.uint8:
        return pixels
    if pixels.dtype == torch.bool or pixels.is_complex():
        raise ValueError(f"images are uint8, integers 0 … 255 or floats in [0, 1], not {kind}")
    pixels = pixels.float() if pixels.is_floating_point() else pixels.long()  # torch computes with few unsigned types
    low, high = (float(x) for x in pixels.aminmax())
    if not (low == low and high == high):
        count = int((~pixels.isfinite()).flatten(1).any(1).sum())
        raise ValueError(f"{count} of these {len(pixels)} images hold NaN: fill or leave them out first")
    if not pixels.is_floating_point():
        if low < 0 or high > 255:
            raise ValueError(f"integers are pixel values 0 … 255; these {kind} run from {low:g} to {high:g}: scale them to 0 … 255 first")
        return pixels.to(torch.uint8)
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        advice = "divide by 255" if low >= 0 and high <= 255 else "do not normalise them first, that is done here; scale them to [0, 1]"
        raise ValueError(f"float images lie in [0, 1]; these run from {low:.4g} to {high:.4g}: {advice}")
    return pixels
