"""A set of images too large for memory: a list of where each lies, read when it is needed.

It comes from class folders as ImageNet's (``train/<class>/*.JPEG``, ``val/<class>/*.JPEG``) or from the shards that
:mod:`.pack` makes of them. Both give the same images the same places, labels and sample ids, hence the same order, crops and masks.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .access import SystemFailure, file_bytes
from .decoding import decode, is_grey, read_header
from .folder import Listing, listing, no_folder
from .handles import FileCache
from .labels import as_labels
from .shards import INDEX, packed, read_index, split_folder
from .source import Statistics, as_places, choose, from_histogram, imagenet_statistics, in_a_line, sampled
from .verify import wrong_split
from .workers import cores


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images that are read when needed.

    root, files: the files, as bytes of their names below ``root`` (an array: worker processes then share its memory).
    file: int64 ``N``, the index of each image's file. span: int64 ``N 2``, its offset and length in bytes; None where a file is an image.
    labels: int64 ``N`` or None. classes: names, by label. ids: int64 ``N``, the sample ids that address all randomness.
    channels: 1 (grey) or 3; files of the other kind are converted. bits: how many bits of deeper pictures are used, see :mod:`.depth`.
    held: uint8, the bytes of all files one after another, where they are kept in memory; ``span`` then refers to them.
    fixed_statistics: mean and standard deviation to normalise by, where they are not those of the pixels.
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
    handles: FileCache = field(default_factory=FileCache, repr=False)

    def __post_init__(self) -> None:
        if len(self) == 0:
            raise ValueError(f"{self.name} holds no images")
        if self.labels is not None:
            object.__setattr__(self, "labels", as_labels(self.name, self.labels, len(self), self.classes))

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({in_a_line(self, None).replace('sizes vary', 'read as they are needed')})"

    @cached_property
    def statistics(self) -> Statistics:
        """Mean and standard deviation per channel, of pixels in [0, 1]: two float32 ``c``. Those of the same images in memory, to the bit.

        A set with more than ``source.VALUES`` values is sampled with a fixed seed. Files that cannot be read are left out.
        """
        if self.fixed_statistics is not None:
            return self.fixed_statistics
        height, width = self.first_size()
        places = sampled(len(self), height * width * self.channels).tolist()
        with ThreadPoolExecutor(min(8, cores())) as pool:
            counts = torch.from_numpy(np.sum(list(pool.map(self._histogram, places)), axis=0))
        if not counts.any():
            raise ValueError(f"{self.name}: none of {len(places)} images could be read, the first is {self.where(places[0])}")
        return from_histogram(counts)

    def _histogram(self, place: int) -> np.ndarray:
        """How often each value occurs in each channel of an image: ``c 256``."""
        counts = np.zeros((self.channels, 256), np.int64)
        data = self.bytes_of(place)
        with suppress(Exception):  # Pillow raises a dozen types; training names the damaged images
            picture = decode(read_header(data), channels=self.channels, bits=self.bits)
            counts += np.array(picture.histogram()).reshape(self.channels, 256)
        return counts

    @cached_property
    def image(self) -> tuple[int, int] | None:
        """Height and width of all images where they have one size, else None. Opens them until one differs; leaves damaged ones out."""
        first = self.first_size()
        return first if all(self._size(place) in (first, None) for place in range(len(self))) else None

    def first_size(self) -> tuple[int, int]:
        """Height and width of the first image that can be read. Raises ValueError when none of the first hundred can."""
        sizes = (self._size(place) for place in range(min(100, len(self))))
        found = next((size for size in sizes if size is not None), None)
        if found is None:
            raise ValueError(f"{self.name}: none of the first {min(100, len(self))} images can be read, such as {self.where(0)}")
        return found

    def _size(self, place: int) -> tuple[int, int] | None:
        data = self.bytes_of(place)
        try:
            header = read_header(data)
        except Exception:  # Pillow raises a dozen types
            return None
        return header.height, header.width

    def summary_of(self, place: int) -> tuple[int, int, float]:
        """Height, width and mean value of an image: enough to recognise it, in memory too. All zero for a damaged one."""
        data = self.bytes_of(place)
        try:
            header = read_header(data)
            scale = 1 if header.height * header.width <= 512 * 512 else 8  # quick, and accurate enough for large images
            return header.height, header.width, float(np.asarray(decode(header, scale, channels=self.channels, bits=self.bits)).mean())
        except Exception:  # Pillow raises a dozen types
            return 0, 0, 0.0

    def kept(self) -> ImageFiles:
        """The same with the bytes of all files in memory: read once, and the same images."""
        data = [self.bytes_of(place) for place in range(len(self))]
        lengths = torch.tensor([len(x) for x in data])
        span = torch.stack([lengths.cumsum(0) - lengths, lengths], dim=1)
        return replace(self, held=torch.frombuffer(bytearray(b"".join(data)), dtype=torch.uint8), span=span, handles=FileCache())

    def path_of(self, place: int) -> Path:
        """The file in which an image lies."""
        return self.root / os.fsdecode(self.files[int(self.file[place])])

    def where(self, place: int) -> str:
        """Where an image lies, for messages: a file, or a shard and the name in it."""
        path = self.path_of(place)
        return str(path) if self.span is None else f"{path}, {int(self.ids[place]):08d}.jpg"

    def bytes_of(self, place: int) -> bytes:
        """The bytes of the image's file. Raises SystemFailure when they cannot be read, or when a shard is truncated."""
        path = self.path_of(place)
        if self.span is None:
            return file_bytes(path)
        offset, length = self.span[place].tolist()
        if self.held is not None:
            return self.held[offset : offset + length].numpy().tobytes()
        data = self.handles.read(str(path), offset, length)
        if len(data) != length:
            raise SystemFailure(f"the shard {path} was cut off: pack it again (whole shards are kept)")
        return data

    def size_of(self, place: int) -> tuple[int, int]:
        """Height and width of an image, upright. Reads its bytes, but decodes only the header."""
        header = read_header(self.bytes_of(place))
        return header.height, header.width

    def subset(self, index: Tensor | Sequence[int]) -> ImageFiles:
        """The images at these places, with their own sample ids."""
        index = as_places(index, len(self))
        labels, span = (None if x is None else x[index] for x in (self.labels, self.span))
        return replace(self, file=self.file[index], span=span, labels=labels, ids=self.ids[index], handles=FileCache())

    def few(self, count: int, *, seed: int = 0) -> ImageFiles:
        """``count`` images chosen by the seed, the same number of each class (as nearly as it goes)."""
        if self.labels is None:
            raise ValueError(f"{self.name} has no labels to choose by")
        if not 1 <= count <= len(self):
            raise ValueError(f"{self.name} has {len(self)} images; {count} cannot be chosen")
        return self.subset(choose(self.labels, len(self), count, seed=seed))

    def limited(self, limit: int | None) -> ImageFiles:
        """At most that many images, as many of each class as it goes, always the same ones."""
        if limit is None or limit >= len(self):
            return self
        return self.subset(choose(self.labels, len(self), limit).sort().values)


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
    labels = None if found.labels is None else torch.tensor(found.labels)
    fixed = imagenet_statistics(found.classes, channels)
    stream = ImageFiles(name, found.root, names, torch.arange(len(names)), None, labels, found.classes, torch.tensor(found.ids),
                    channels or 3, bits, found.notes, fixed_statistics=fixed)  # fmt: skip
    return stream if channels is not None else _coloured(stream)


def _coloured(stream: ImageFiles) -> ImageFiles:
    """The same with one channel if every image is grey. Opens them until one is not."""
    grey = all(is_grey(stream.bytes_of(place)) for place in range(len(stream)))
    return replace(stream, channels=1, fixed_statistics=None, handles=FileCache()) if grey else stream


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
