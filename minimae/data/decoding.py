"""The bytes of an image file → its size at once, and its pixels when they are wanted: no larger than needed."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from .files import eight_bits
from .optional import need

ORIENTATION = 0x0112  # the EXIF tag that tells how the camera was held
SCALES = (8, 4, 2)  # a JPEG can be decoded at these fractions of its size, in a fraction of the time


@dataclass
class Header:
    """An opened picture of which only the header is read. height and width: as it is seen, upright.

    plain: a JPEG in colour or grey that lies upright, which every decoder can read as it is.
    """

    picture: Any
    height: int
    width: int
    turn: int
    plain: bool


def read_header(data: bytes) -> Header:
    """Open the bytes of an image file. Raises what Pillow raises (a dozen types) when they are no image."""
    Image = need("PIL.Image", why="reading image files")
    try:
        picture = Image.open(io.BytesIO(data))
    except Image.UnidentifiedImageError:  # it tells an address in memory, which is never the same
        raise ValueError("not an image, or of a format that Pillow does not know") from None
    jpeg = picture.format in ("JPEG", "MPO")
    if not jpeg:  # rare: Pillow tells the orientation of other formats only after reading all of them
        picture.load()
    turn = int(picture.getexif().get(ORIENTATION, 1))
    width, height = picture.size if turn < 5 else picture.size[::-1]
    return Header(picture, height, width, turn, jpeg and turn == 1 and picture.mode in ("RGB", "L"))


def decode(header: Header, scale: int = 1) -> Any:
    """The picture, upright, as a Pillow image in RGB; at 1/2, 1/4 or 1/8 of its size where ``scale`` says so and the file can.

    Ask :func:`scale_of` first: a file that cannot is decoded whole. A header is good for one decoding.
    Raises what Pillow raises when the file is damaged or cut off.
    """
    from PIL import ImageOps

    picture = header.picture
    if scale > 1:
        width, height = picture.size
        picture.draft("RGB", (max(1, width // scale), max(1, height // scale)))
    picture.load()
    if 1 < header.turn < 9:
        ImageOps.exif_transpose(picture, in_place=True)
    return eight_bits(picture).convert("RGB")


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
