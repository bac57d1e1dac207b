"""The bytes of an image file → its size from the header, and its pixels on request, no larger than needed.

Every picture that this package reads from a file comes through here, so all commands see the same pixels: upright, eight bits, grey or
RGB, without transparency. Pictures of more than eight bits are scaled from the range that the file states or the caller gives; it is
never guessed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MinimaeError
from .access import file_bytes
from .optional import need
from .types import DamagedImage

ORIENTATION = 0x0112  # the EXIF tag for how the camera was held
BITS, LARGEST, FORMAT = 258, 281, 339  # the TIFF tags BitsPerSample, MaxSampleValue and SampleFormat
SCALES = (8, 4, 2)  # a JPEG can be decoded at these fractions of its size, in a fraction of the time
NO_IMAGE = "not an image, or of a format that Pillow does not know"
GREY = ("1", "L", "LA", "La")  # modes of Pillow; those of more than eight bits are F and I…
AS_ARRAY = "or read it as an array and use minimae.data.from_array with value_range"


@dataclass
class Header:
    """An opened picture; of a JPEG only the header is read. height and width: upright. bits: per value, as the file states it.

    plain: a JPEG in colour or grey that is stored upright, so it can be decoded at a fraction of its size.
    """

    picture: Any
    height: int
    width: int
    turn: int
    plain: bool
    bits: int | None


@contextmanager
def damage(where: str = "") -> Iterator[None]:
    """Turn whatever Pillow raises for a damaged file (a dozen types) into DamagedImage. where: names the file in the message."""
    try:
        yield
    except (MemoryError, MinimaeError, ImportError):
        raise
    except Exception as error:
        reason = NO_IMAGE if type(error).__name__ == "UnidentifiedImageError" else str(error) or type(error).__name__
        raise DamagedImage(f"{where} cannot be read as a picture ({reason})" if where else reason) from error


@damage()
def read_header(data: bytes) -> Header:
    """Open the bytes of an image file. Raises DamagedImage when they are not an image."""
    picture = _opened(data)
    jpeg, bits = picture.format in ("JPEG", "MPO"), _stated_bits(picture, data)
    if not jpeg:  # Pillow knows the orientation of other formats only after reading all of them
        picture.load()
    turn = int(picture.getexif().get(ORIENTATION, 1))
    turn = turn if 1 <= turn <= 8 else 1  # others have no meaning
    width, height = picture.size if turn < 5 else picture.size[::-1]
    return Header(picture, height, width, turn, jpeg and turn == 1 and picture.mode in ("RGB", "L"), bits)


def is_grey(data: bytes) -> bool:
    """Whether an image file is grey, by its header. True for a file that is not an image: reading it raises the error."""
    try:
        mode = _opened(data).mode
    except Exception:  # Pillow raises a dozen types
        return True
    return mode in GREY or mode[0] in "FI"


def _opened(data: bytes) -> Any:
    Image = need("PIL.Image", why="reading image files")
    try:
        return Image.open(io.BytesIO(data))
    except Image.UnidentifiedImageError:  # its message contains a memory address, which changes every time
        raise DamagedImage(NO_IMAGE) from None


@damage()
def decode(header: Header, scale: int = 1, *, channels: int | None = 3, bits: int | None = None) -> Any:
    """The picture, upright, as a Pillow image; at 1/2, 1/4 or 1/8 of its size if ``scale`` asks for it and :func:`scale_of` allows it.

    channels: 1 (grey), 3 (RGB), or None for those of the file. bits: how many bits of deeper pictures are used, by default those
    that the file states. A Header can be decoded only once. Raises DamagedImage, also for numbers outside the known range.
    """
    from PIL import ImageOps

    picture = header.picture
    if scale > 1:
        width, height = picture.size
        picture.draft("RGB", (max(1, width // scale), max(1, height // scale)))
    picture.load()
    _check_depth(picture, bits, header.bits)
    if header.turn > 1:
        ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode[0] in "FI":
        picture = _eight_bits(picture, bits or header.bits)
    if picture.mode in ("La", "RGBa"):  # colours that are multiplied by their transparency
        picture = picture.convert("LA" if picture.mode == "La" else "RGBA")
    grey = picture.mode in GREY if channels is None else channels == 1
    return picture.convert("L" if picture.mode in GREY else "RGB").convert("L" if grey else "RGB")


def read_file(path: Path, *, channels: int | None = None, bits: int | None = None) -> Any:
    """An image file → a Pillow image, as :func:`decode` gives it. Raises SystemFailure, and DamagedImage with the path."""
    if bits is not None and not 8 <= bits <= 32:
        raise ValueError(f"bits are between 8 and 32, not {bits}")
    data = file_bytes(path)
    with damage(str(path)):
        return decode(read_header(data), channels=channels, bits=bits)


def scale_of(header: Header, height: float, width: float, *, wanted: tuple[int, int]) -> int:
    """By how much a plain JPEG may be reduced while it is decoded, so that a part of ``height`` × ``width`` keeps the ``wanted`` pixels."""
    if not header.plain:
        return 1
    room = min(height / wanted[0], width / wanted[1])
    return next((scale for scale in SCALES if scale <= room), 1)


def encode(picture: Any, quality: int) -> bytes:
    """A Pillow image in RGB → the bytes of a JPEG, without metadata; the same picture gives the same bytes."""
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=quality)
    return written.getvalue()


def _eight_bits(picture: Any, bits: int | None) -> Any:
    """A grey picture of floats from 0 to 1, or of whole numbers from 0 to 2^bits − 1 → one of eight bits."""
    from PIL import Image

    values, floats = np.asarray(picture), picture.mode == "F"
    low, high = values.min().item(), values.max().item()
    if bits is None and not floats:
        raise ValueError("it holds 32-bit numbers, and the file does not state their range: give their number with bits= (--bits)")
    top = 1 if floats or bits is None else 2**bits - 1
    if not (low >= 0 and high <= top):  # also nan
        if floats:
            raise ValueError(f"float pictures hold grey values from 0 to 1, this one from {low:g} to {high:g}: scale it, {AS_ARRAY}")
        raise ValueError(
            f"it holds numbers from {low} to {high}, and {bits} bits go from 0 to {top}: give the right bits= (--bits), {AS_ARRAY}"
        )
    return Image.fromarray(np.rint(values.astype(np.float64) * 255 / top).astype(np.uint8))


def _stated_bits(picture: Any, data: bytes) -> int | None:
    """How many bits per value the file states; None if it states none.

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


def _check_depth(picture: Any, bits: int | None, stated: int | None) -> None:
    """Raises ValueError for ``bits`` with 16-bit colour (Pillow keeps its upper eight), and for signed bytes."""
    if bits not in (None, 16) and stated == 16 and picture.mode in ("RGB", "RGBA", "LA"):
        raise ValueError(f"16-bit colour is read in its full range only, and bits={bits} was given: convert it to 8 bits first")
    if picture.format == "TIFF" and 2 in picture.tag_v2.get(FORMAT, ()) and 8 in picture.tag_v2.get(BITS, ()):
        raise ValueError(f"it holds signed bytes, -128 to 127, which Pillow reads as 0 to 255: save it with unsigned ones, {AS_ARRAY}")
