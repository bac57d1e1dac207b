"""The bytes of an image file → its size from the header, and its pixels on request, no larger than needed.

Every picture that this package reads from a file comes through here, so it looks the same whichever command reads it: upright, eight
bits, grey or RGB. What Pillow reads is read; transparency is dropped.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .access import file_bytes, from_system, system_failure
from .depth import GREY, check_bits, check_signs, eight_bits, stated_bits
from .optional import need

ORIENTATION = 0x0112  # the EXIF tag for how the camera was held
SCALES = (8, 4, 2)  # a JPEG can be decoded at these fractions of its size, in a fraction of the time
NO_IMAGE = "not an image, or of a format that Pillow does not know"


@dataclass
class Header:
    """An opened picture of which only the header is read. height and width: as it is seen, upright.

    plain: a JPEG in colour or grey that lies upright, which can be read at a fraction of its size. bits: of a number, as the file
    states it.
    """

    picture: Any
    height: int
    width: int
    turn: int
    plain: bool
    bits: int | None


def read_header(data: bytes) -> Header:
    """Open the bytes of an image file. Raises what Pillow raises (a dozen types) when they are no image."""
    picture = _opened(io.BytesIO(data))
    jpeg, bits = picture.format in ("JPEG", "MPO"), stated_bits(picture, data)
    if not jpeg:  # Pillow knows the orientation of other formats only after reading all of them
        picture.load()
    turn = int(picture.getexif().get(ORIENTATION, 1))
    width, height = picture.size if turn < 5 else picture.size[::-1]
    return Header(picture, height, width, turn, jpeg and turn == 1 and picture.mode in ("RGB", "L"), bits)


def header_size(path: Path) -> tuple[int, int] | None:
    """Height and width in the header of an image file, as stored (before any rotation); None if it is not an image."""
    try:
        with _opened(path) as picture:
            return picture.height, picture.width
    except OSError as error:
        if from_system(error):
            raise system_failure(path, error) from error
        return None
    except Exception:  # Pillow raises a dozen types
        return None


def is_grey(data: bytes) -> bool:
    """Whether an image file is grey, by its header. True for a file that is not an image: reading it raises the error."""
    try:
        mode = _opened(io.BytesIO(data)).mode
    except Exception:  # Pillow raises a dozen types
        return True
    return mode in GREY or mode == "F" or mode.startswith("I")


def _opened(file: Any) -> Any:
    Image = need("PIL.Image", why="reading image files")
    try:
        return Image.open(file)
    except Image.UnidentifiedImageError:  # its message contains a memory address, which changes every time
        raise ValueError(NO_IMAGE) from None


def decode(header: Header, scale: int = 1, *, channels: int | None = 3, bits: int | None = None) -> Any:
    """The picture, upright, as a Pillow image; at 1/2, 1/4 or 1/8 of its size where ``scale`` says so and the file can.

    channels: 1 (grey), 3 (RGB), or None for what the file holds. bits: how many bits of deeper pictures are used, by default those
    that the file states (:mod:`.depth`). Ask :func:`scale_of` first: a file that cannot is decoded whole. A header can be used for one
    decoding. Raises what Pillow raises when the file is damaged or cut off, ValueError for numbers whose range is not known.
    """
    from PIL import ImageOps

    picture = header.picture
    if scale > 1:
        width, height = picture.size
        picture.draft("RGB", (max(1, width // scale), max(1, height // scale)))
    picture.load()
    check_bits(picture, bits, header.bits)
    check_signs(picture)
    if 1 < header.turn < 9:
        ImageOps.exif_transpose(picture, in_place=True)
    done = eight_bits(picture, bits or header.bits)
    return done if channels is None else done.convert("L" if channels == 1 else "RGB")


def read_file(path: Path, *, channels: int | None = None, bits: int | None = None) -> Any:
    """An image file → a Pillow image, as :func:`decode` gives it.

    Raises SystemFailure for a file that cannot be read, and ValueError with its name when the picture is incomplete.
    """
    data = file_bytes(path)
    try:
        return decode(read_header(data), channels=channels, bits=bits)
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises a dozen types for damaged files
        raise ValueError(f"{path} cannot be read as a picture ({error})") from error


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
