"""Images in files: read when needed, or all read into memory, decoded in threads. Also resizing and recolouring of such a tensor."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..model.patches import Pair, pair
from .access import SystemFailure, file_bytes
from .choose import as_index
from .decoding import Header, damage, decode, is_grey, read_header
from .images import Images
from .labels import as_labels
from .optional import need
from .types import DamagedImage, ImageDataset, Statistics
from .views import evaluated

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # the usual mean and standard deviation of red, green and blue
WORDNET = re.compile(r"n\d{8}")  # names of ImageNet's classes
SMALL = 8192  # bytes of a file below which threads would only wait for each other: 32-pixel JPEGs take twice as long
GREY = (0.299, 0.587, 0.114)  # red, green and blue in a grey value (ITU-R BT.601, as Pillow does it)


@dataclass(frozen=True, eq=False, repr=False)
class ImageFiles(ImageDataset):
    """Images that are read when needed. Attributes as in :class:`.types.ImageDataset`, and more.

    root, files: names of the files below ``root``, as an array of bytes, whose memory worker processes share.
    file: int64 ``N``, the index of each image's file. span: int64 ``N 2``, its offset and length in bytes; None if a file is an image.
    channels: 1 (grey) or 3; files of the other kind are converted. bits: how many bits of deeper pictures are used, see :mod:`.decoding`.
    buffer: uint8, the bytes of all files if they are in memory; ``span`` then refers to them.
    """

    name: str
    root: Path
    files: np.ndarray
    file: Tensor
    span: Tensor | None
    labels: Tensor | None
    classes: tuple[str, ...]
    ids: Tensor
    channels: int = 3
    bits: int | None = None
    notes: tuple[str, ...] = ()
    buffer: Tensor | None = None
    fixed_statistics: Statistics | None = None
    threads: ClassVar[int] = 8

    def __post_init__(self) -> None:
        if len(self) == 0:
            raise ValueError(f"{self.name} holds no images")
        if self.bits is not None and not 8 <= self.bits <= 32:
            raise ValueError(f"bits are between 8 and 32, not {self.bits}")
        if self.labels is not None:
            object.__setattr__(self, "labels", as_labels(self.name, self.labels, len(self), self.classes))

    def picture(self, index: int, *, reduced: bool = False) -> Any:
        """The image as a Pillow image, upright, with ``channels`` channels. Raises DamagedImage.

        reduced: a large JPEG is decoded at an eighth of its size: quick, and accurate enough for a mean.
        """
        header = self._header(index)
        scale = 8 if reduced and header.height * header.width > 512 * 512 else 1
        with damage(self.where(index)):
            return decode(header, scale, channels=self.channels, bits=self.bits)

    def read(self, index: int) -> Tensor:
        picture = self.picture(index)
        return torch.from_numpy(np.array(picture)).reshape(picture.height, picture.width, self.channels).permute(2, 0, 1)

    def size_of(self, index: int) -> tuple[int, int]:
        """Height and width of an image, upright. Reads its bytes; of a JPEG it decodes only the header. Raises DamagedImage."""
        header = self._header(index)
        return header.height, header.width

    def summary_of(self, index: int) -> tuple[int, int, float]:
        try:
            return *self.size_of(index), float(np.asarray(self.picture(index, reduced=True)).mean())
        except DamagedImage:
            return 0, 0, 0.0

    def _header(self, index: int) -> Header:
        data = self.bytes_of(index)
        with damage(self.where(index)):
            return read_header(data)

    def buffered(self) -> ImageFiles:
        """The same images with the bytes of all files in memory."""
        data = [self.bytes_of(i) for i in range(len(self))]
        lengths = torch.tensor([len(x) for x in data])
        span = torch.stack([lengths.cumsum(0) - lengths, lengths], dim=1)
        return replace(self, buffer=torch.frombuffer(bytearray().join(data), dtype=torch.uint8), span=span)

    def path_of(self, index: int) -> Path:
        """The file that holds an image."""
        return self.root / os.fsdecode(self.files[int(self.file[index])])

    def where(self, index: int) -> str:
        """Where an image is stored, for messages: a file, or a shard and the name in it."""
        path = self.path_of(index)
        return f"{path}, {int(self.ids[index]):08d}.jpg" if path.suffix == ".tar" else str(path)

    def bytes_of(self, index: int) -> bytes:
        """The bytes of the image's file. Raises SystemFailure when they cannot be read, or when a shard is truncated."""
        path = self.path_of(index)
        if self.span is None:
            return file_bytes(path)
        offset, length = self.span[index].tolist()
        if self.buffer is not None:
            return self.buffer[offset : offset + length].numpy().tobytes()
        data = file_bytes(path, offset, length)
        if len(data) != length:
            raise SystemFailure(f"the shard {path} was cut off: pack it again (whole shards are kept)")
        return data

    def subset(self, index: Tensor | Sequence[int]) -> ImageFiles:
        index = as_index(index, len(self))
        labels, span = (None if x is None else x[index] for x in (self.labels, self.span))
        return replace(self, file=self.file[index], span=span, labels=labels, ids=self.ids[index])


def with_channels(files: ImageFiles, channels: int | None) -> ImageFiles:
    """The same with 1 or 3 channels; by default 1 if every image is grey, which opens files until one is not.

    Images of ImageNet's classes (n01440764 …) get ImageNet's statistics, if they are in colour.
    """
    if channels is None:
        channels = 1 if all(is_grey(files.bytes_of(i)) for i in range(len(files))) else 3
    known = channels == 3 and files.classes and all(WORDNET.fullmatch(name) for name in files.classes)
    return replace(files, channels=channels, fixed_statistics=(torch.tensor(IMAGENET[0]), torch.tensor(IMAGENET[1])) if known else None)


class SizesDiffer(ValueError):
    """Pictures of several sizes where one size is required."""


def read_images(files: ImageFiles, *, image: int | Pair | None = None, skip_corrupt: bool = False) -> Images:
    """Decode all files into memory.

    image: height and width of all; each is resized as for evaluation (:func:`.views.evaluated`). By default they stay as they are.
    Raises DamagedImage (with ``skip_corrupt`` such files are listed in ``skipped``), SizesDiffer, and SystemFailure for a file that the
    system cannot read: missing, not permitted, too many open files.
    """
    kept: list[int] = []
    skipped: list[str] = []
    pixels = np.empty((0, 0, 0, 0), np.uint8)
    threads = 1 if len(files.bytes_of(0)) < SMALL else min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        for index, picture in enumerate(pool.map(lambda i: _read(files, i, image, skip_corrupt), range(len(files)))):
            if isinstance(picture, str):
                skipped.append(picture)
                continue
            if not kept:  # memory is allocated as it is filled
                pixels = np.empty((len(files), files.channels, *picture.shape[:2]), np.uint8)
            if picture.shape[:2] != pixels.shape[2:]:
                pool.shutdown(cancel_futures=True)
                both = ((kept[0], pixels.shape[2:]), (index, picture.shape[:2]))
                sizes = ", ".join(f"{files.where(i)} has {height}×{width} pixels" for i, (height, width) in both)
                raise SizesDiffer(f"image sizes differ: {sizes}; give one size for all, for example image=64 (--image 64)")
            pixels[len(kept)] = picture.transpose(2, 0, 1) if picture.ndim == 3 else picture
            kept.append(index)
    if not kept:
        raise ValueError(f"none of {len(files)} image files could be read; the first: {skipped[0]}")
    whole = files.subset(kept)
    return Images(
        files.name, torch.from_numpy(pixels[: len(kept)]), whole.labels, whole.classes, whole.ids, tuple(skipped), files.notes,
        files.fixed_statistics,
    )  # fmt: skip


def _read(files: ImageFiles, index: int, image: int | Pair | None, skip_corrupt: bool) -> np.ndarray | str:
    """An image → uint8 ``height width`` (grey) or ``height width 3``; or, when it is damaged and may be skipped, the reason."""
    try:
        picture = files.picture(index)
    except DamagedImage as error:
        if skip_corrupt:
            return str(error)
        raise DamagedImage(f"{error}; repair or remove it, or leave such files out with --skip-corrupt") from error
    return np.array(picture if image is None else evaluated(picture, pair(image)))


def convert(pixels: Tensor, channels: int) -> Tensor:
    """uint8 ``N c height width`` → the same with 1 or 3 channels: colour to grey by weights, grey to colour by repeating."""
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (colour), not {channels}")
    if pixels.shape[1] == channels:
        return pixels
    if channels == 3:
        return pixels.repeat(1, 3, 1, 1)
    weights = torch.tensor(GREY, device=pixels.device)[:, None, None]
    return torch.cat([(part * weights).sum(1, keepdim=True).round().byte() for part in pixels.split(1024)])


def resize(pixels: Tensor, image: int | Pair) -> Tensor:
    """uint8 ``N c height width`` → ``N c h w`` of ``image`` pixels, as evaluation sees them. Equal to reading files of these pixels.

    Pillow resizes on the host. The result is on the device of the pixels.
    """
    if tuple(pixels.shape[-2:]) == pair(image):
        return pixels
    Image = need("PIL.Image", why="resizing images")
    planes = pixels.flatten(0, 1).numpy(force=True)  # Pillow resizes each channel by itself, too
    resized = np.stack([np.asarray(evaluated(Image.fromarray(plane), pair(image))) for plane in planes])
    return torch.from_numpy(resized).unflatten(0, pixels.shape[:2]).to(pixels.device)
