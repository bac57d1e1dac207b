"""Pictures of more than eight bits → eight, from the range that the file states or the caller gives. It is never guessed."""

from __future__ import annotations

from typing import Any

import numpy as np

GREY = ("1", "L", "LA", "La")
BITS, LARGEST, FORMAT = 258, 281, 339  # the TIFF tags BitsPerSample, MaxSampleValue and SampleFormat


def eight_bits(picture: Any, bits: int | None = None) -> Any:
    """A Pillow image of any mode → "L" (grey) or "RGB".

    Whole numbers of more than eight bits are grey values from 0 to 2^bits − 1; floats are grey values from 0 to 1. Of 16-bit colour
    Pillow keeps the upper eight bits. Raises ValueError for numbers outside that range, and for whole numbers without ``bits``.
    """
    from PIL import Image

    if picture.mode == "F" or picture.mode.startswith("I"):
        values = np.asarray(picture)
        return Image.fromarray(_floats(values) if picture.mode == "F" else _integers(values, bits))
    if picture.mode in ("La", "RGBa"):  # colours that are multiplied by their transparency
        picture = picture.convert("LA" if picture.mode == "La" else "RGBA")
    return picture.convert("L" if picture.mode in GREY else "RGB")


def _floats(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # also nan
        raise ValueError(
            f"float pictures hold grey values from 0 to 1, this one from {low:g} to {high:g}: scale it, or read it as an array and use "
            "minimae.data.from_array with value_range"
        )
    return np.rint(values.astype(np.float64) * 255).astype(np.uint8)


def _integers(values: np.ndarray, bits: int | None) -> np.ndarray:
    if bits is None:
        raise ValueError("it holds 32-bit numbers, and the file does not state their range: give their number with bits= (--bits)")
    low, high, top = int(values.min()), int(values.max()), 2**bits - 1
    if low < 0 or high > top:
        raise ValueError(
            f"it holds numbers from {low} to {high}, and {bits} bits go from 0 to {top}: give the right bits= (--bits), or read it as "
            "an array and use minimae.data.from_array with value_range"
        )
    return np.rint(values.astype(np.float64) * 255 / top).astype(np.uint8)


def stated_bits(picture: Any, data: bytes) -> int | None:
    """How many bits per value the file states; None if it states none. data: the bytes of the file.

    In formats other than PNG and TIFF, Pillow scales deeper pictures to 16 bits.
    """
    if picture.format == "TIFF":
        largest, bits = picture.tag_v2.get(LARGEST), picture.tag_v2.get(BITS, (1,))[0]
        if largest is not None:
            return int(np.max(largest)).bit_length()
        return int(bits) if bits <= 16 else None
    if picture.format == "PNG":
        return data[24]  # of the header, which always comes first
    return 16 if picture.mode.startswith("I") else 8


def check_signs(picture: Any) -> None:
    """Raises ValueError for a TIFF of signed bytes, whose negative values Pillow reads as large ones."""
    if picture.format == "TIFF" and 2 in picture.tag_v2.get(FORMAT, ()) and 8 in picture.tag_v2.get(BITS, ()):
        raise ValueError("it holds signed bytes, -128 to 127: save it with unsigned ones, or use minimae.data.from_array with value_range")


def check_bits(picture: Any, bits: int | None, stated: int | None) -> None:
    """Raises ValueError for impossible ``bits``, and for ``bits`` with 16-bit colour, which Pillow reduces to eight."""
    if bits is None:
        return
    if not 8 <= bits <= 32:
        raise ValueError(f"bits are between 8 and 32, not {bits}")
    if bits != 16 and stated == 16 and picture.mode in ("RGB", "RGBA", "LA"):
        raise ValueError(f"16-bit colour is read in its full range only, and bits={bits} was given: convert it to 8 bits first")
