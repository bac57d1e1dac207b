"""A set of images too large for memory: a list of where each is stored, read when it is needed.

It comes from class folders like ImageNet's (``train/<class>/*.JPEG``, ``val/<class>/*.JPEG``), or from the shards that :mod:`.pack`
makes of them. Both give an image the same index, label and sample id, and so the same crops and masks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from .access import SystemFailure, file_bytes
from .choose import as_index
from .decoding import Header, decode, is_grey, read_header
from .folder import Listing, listing, no_folder
from .labels import as_labels
from .shards import INDEX, packed, read_index, split_folder
from .types import DamagedImage, ImageDataset, Statistics
from .verify import wrong_split

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # the usual mean and standard deviation of red, green and blue
WORDNET = re.compile(r"n\d{8}")  # names of ImageNet's classes


@dataclass(frozen=True, eq=False, repr=False)
class ImageFiles(ImageDataset):
    """Images that are read when needed. Attributes as in :class:`.types.ImageDataset`, and more.

    root, files: names of the files below ``root``, as an array of bytes, whose memory worker processes share.
    file: int64 ``N``, the index of each image's file. span: int64 ``N 2``, its offset and length in bytes; None if a file is an image.
    channels: 1 (grey) or 3; files of the other kind are converted. bits: how many bits of deeper pictures are used, see :mod:`.decoding`.
    held: uint8, the bytes of all files if they are in memory; ``span`` then refers to them.
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
    held: Tensor | None = None
    fixed_statistics: Statistics | None = None
    threads: ClassVar[int] = 8

    def __post_init__(self) -> None:
        if len(self) == 0:
            raise ValueError(f"{self.name} holds no images")
        if self.labels is not None:
            object.__setattr__(self, "labels", as_labels(self.name, self.labels, len(self), self.classes))

    def picture(self, index: int, *, reduced: bool = False) -> Any:
        """The image as a Pillow image, upright, with ``channels`` channels. Raises DamagedImage.

        reduced: a large JPEG is decoded at an eighth of its size: quick, and accurate enough for a mean.
        """
        header = self._header(index)
        scale = 8 if reduced and header.height * header.width > 512 * 512 else 1
        with self._named(index):
            return decode(header, scale, channels=self.channels, bits=self.bits)

    def read(self, index: int) -> Tensor:
        picture = self.picture(index)
        return torch.from_numpy(np.array(picture)).reshape(picture.height, picture.width, self.channels).permute(2, 0, 1)

    def size_of(self, index: int) -> tuple[int, int]:
        """Height and width of an image, upright. Reads its bytes, but decodes only the header. Raises DamagedImage."""
        header = self._header(index)
        return header.height, header.width

    def summary_of(self, index: int) -> tuple[int, int, float]:
        try:
            return *self.size_of(index), float(np.asarray(self.picture(index, reduced=True)).mean())
        except DamagedImage:
            return 0, 0, 0.0

    def _header(self, index: int) -> Header:
        data = self.bytes_of(index)
        with self._named(index):
            return read_header(data)

    @contextmanager
    def _named(self, index: int) -> Iterator[None]:
        """Errors name the image."""
        try:
            yield
        except DamagedImage as error:
            raise DamagedImage(f"{self.where(index)} cannot be read ({error})") from error

    def kept(self) -> ImageFiles:
        """The same images with the bytes of all files in memory."""
        data = [self.bytes_of(i) for i in range(len(self))]
        lengths = torch.tensor([len(x) for x in data])
        span = torch.stack([lengths.cumsum(0) - lengths, lengths], dim=1)
        return replace(self, held=torch.frombuffer(bytearray(b"".join(data)), dtype=torch.uint8), span=span)

    def path_of(self, index: int) -> Path:
        """The file that holds an image."""
        return self.root / os.fsdecode(self.files[int(self.file[index])])

    def where(self, index: int) -> str:
        """Where an image is stored, for messages: a file, or a shard and the name in it."""
        path = self.path_of(index)
        return str(path) if self.span is None else f"{path}, {int(self.ids[index]):08d}.jpg"

    def bytes_of(self, index: int) -> bytes:
        """The bytes of the image's file. Raises SystemFailure when they cannot be read, or when a shard is truncated."""
        path = self.path_of(index)
        if self.span is None:
            return file_bytes(path)
        offset, length = self.span[index].tolist()
        if self.held is not None:
            return self.held[offset : offset + length].numpy().tobytes()
        data = file_bytes(path, offset, length)
        if len(data) != length:
            raise SystemFailure(f"the shard {path} was cut off: pack it again (whole shards are kept)")
        return data

    def subset(self, index: Tensor | Sequence[int]) -> ImageFiles:
        index = as_index(index, len(self))
        labels, span = (None if x is None else x[index] for x in (self.labels, self.span))
        return replace(self, file=self.file[index], span=span, labels=labels, ids=self.ids[index])


def open_folder(
    root: Path, split: str = "train", *, channels: int | None = None, bits: int | None = None, hold_out: float | None = None
) -> ImageFiles:
    """The images of one split of a folder, found but not decoded. Raises as :func:`.folder.listing` does.

    channels: 1 or 3; by default 1 when every file is grey, else 3. hold_out: see :func:`.folder.listing`.
    """
    found = listing(root, split, hold_out=hold_out)
    return of_files(root.resolve().name, found, channels=channels, bits=bits)


def of_files(name: str, found: Listing, *, channels: int | None = None, bits: int | None = None) -> ImageFiles:
    """The images of a listing. Those of ImageNet's classes have ImageNet's statistics."""
    names = np.array([os.fsencode(file) for file in found.names])
    labels: Any = found.labels  # become a tensor
    fixed = imagenet_statistics(found.classes, channels)
    stream = ImageFiles(name, found.root, names, torch.arange(len(names)), None, labels, found.classes, torch.tensor(found.ids),
                    channels or 3, bits, found.notes, fixed_statistics=fixed)  # fmt: skip
    return stream if channels is not None else _coloured(stream)


def _coloured(stream: ImageFiles) -> ImageFiles:
    """The same with one channel if every image is grey. Opens them until one is not."""
    grey = all(is_grey(stream.bytes_of(i)) for i in range(len(stream)))
    return replace(stream, channels=1, fixed_statistics=None) if grey else stream


def open_shards(root: Path, split: str = "train", *, channels: int | None = None) -> ImageFiles:
    """The images of one split of a folder that :func:`.pack.pack` made, in the order of their sample ids.

    Raises FileNotFoundError without an index or a shard, ValueError for an index that cannot be read, a shard whose length is not
    what the index says, or classes that are not those of the training split.
    """
    folder = split_folder(root, split)
    index = read_index(folder / INDEX)
    if wrong_split(index, folder):
        raise ValueError(f"{folder} holds shards of the split {index.split}: move them back, or pack again")
    train = root / "train" / INDEX
    if folder.name != "train" and train.is_file() and (wanted := read_index(train).classes) != index.classes:
        differ = sorted(set(wanted) ^ set(index.classes))
        raise ValueError(f"{train.parent} and {folder} must have the same classes; only in one: {', '.join(differ)}")
    for shard in index.shards:
        path = folder / shard.file
        if not path.is_file():
            raise FileNotFoundError(f"the shard {path} is missing: pack again (finished shards are kept)")
        if (size := path.stat().st_size) != shard.bytes:
            raise ValueError(f"the shard {path} has {size:,} bytes, not {shard.bytes:,}: pack again (finished shards are kept)")
    ids = torch.tensor(index.ids)
    order = ids.argsort()
    files = torch.arange(len(index.shards)).repeat_interleave(torch.tensor([shard.images for shard in index.shards]))
    span = torch.tensor([index.offsets, index.lengths]).T[order].contiguous()
    labels = None if index.labels is None else torch.tensor(index.labels)[order]
    names = np.array([os.fsencode(shard.file) for shard in index.shards])
    fixed = imagenet_statistics(index.classes, channels)
    stream = ImageFiles(
        index.name, folder, names, files[order], span, labels, index.classes, ids[order], channels or 3, fixed_statistics=fixed
    )
    return stream if channels is not None else _coloured(stream)


def open_stream(root: Path, split: str = "train", *, limit: int | None = None) -> ImageFiles:
    """Shards where there are some, otherwise a folder of pictures. Raises as :func:`open_shards` and :func:`open_folder` do."""
    if not root.is_dir():
        raise no_folder(root)
    return (open_shards if packed(root) else open_folder)(root, split).limited(limit)


def imagenet_statistics(classes: tuple[str, ...], channels: int | None = None) -> Statistics | None:
    """ImageNet's mean and standard deviation for colour images of its classes, which are called n01440764 …; else None."""
    if channels == 1 or not classes or not all(WORDNET.fullmatch(name) for name in classes):
        return None
    return torch.tensor(IMAGENET[0]), torch.tensor(IMAGENET[1])
