"""A set of images too large for memory: a list of where each lies, read when it is needed.

It comes from class folders as ImageNet's (``train/<class>/*.JPEG``, ``val/<class>/*.JPEG``) or from the shards that
:mod:`.pack` makes of them. Both give the same images the same places, labels and sample ids, hence the same order, crops and masks.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .access import SystemFailure, file_bytes, system_failure
from .decoding import read_header
from .folder import SPLITS, listing
from .labels import as_labels
from .shards import INDEX, read_index
from .source import choose
from .verify import wrong_split

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation of red, green and blue that everybody uses
MOST_OPEN = 512  # files held open by one process, and no more than a quarter of those that the system allows it


def most_open() -> int:
    """How many files this process may hold open for reading: the system's limit is 256 on macOS and 1,024 on most Linux systems."""
    try:
        import resource
    except ImportError:  # Windows
        return MOST_OPEN
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_OPEN if limit == resource.RLIM_INFINITY else max(1, min(MOST_OPEN, limit // 4))


class Handles:
    """Files kept open for reading, each process its own: a copy in another process starts with none."""

    def __init__(self) -> None:
        self.open: dict[str, int] = {}

    def __reduce__(self) -> tuple[type[Handles], tuple[()]]:
        return Handles, ()

    def read(self, path: str, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset`` on; fewer where the file ends. Raises SystemFailure."""
        try:
            if not hasattr(os, "pread"):
                with open(path, "rb") as file:
                    file.seek(offset)
                    return file.read(length)
            if path not in self.open:
                self.open[path] = self._opened(path)
            return os.pread(self.open[path], length, offset)  # moves no file position, so a forked process may share the file
        except OSError as error:
            raise system_failure(path, error) from error

    def _opened(self, path: str) -> int:
        """A file number. The file that has been open longest is closed for it where there are too many."""
        while len(self.open) >= most_open():
            os.close(self.open.pop(next(iter(self.open))))
        try:
            return os.open(path, os.O_RDONLY)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or not self.open:
                raise
            self.close()  # others in this process hold the rest
            return os.open(path, os.O_RDONLY)

    def close(self) -> None:
        while self.open:
            os.close(self.open.popitem()[1])

    def __del__(self) -> None:
        self.close()


@dataclass(frozen=True, eq=False)
class Stream:
    """Images that are read when they are needed.

    root, files: the files, as bytes of their names below ``root`` (an array: worker processes then share its memory).
    file: int64 ``N``, in which file an image lies. span: int64 ``N 2``, at which offset and how many bytes; None where a file is an image.
    labels: int64 ``N`` or None. classes: names, by label. ids: int64 ``N``, the sample ids that address all randomness.
    statistics: mean and deviation per channel of pixels in [0, 1], two float32 ``c``; by default those of ImageNet.
    """

    name: str
    root: Path
    files: np.ndarray
    file: Tensor
    span: Tensor | None
    labels: Tensor | None
    classes: tuple[str, ...]
    ids: Tensor
    statistics: tuple[Tensor, Tensor] = field(default_factory=lambda: (torch.tensor(IMAGENET[0]), torch.tensor(IMAGENET[1])))
    channels: int = 3
    handles: Handles = field(default_factory=Handles, repr=False)

    def __post_init__(self) -> None:
        if len(self) == 0:
            raise ValueError(f"{self.name} holds no images")
        if self.labels is not None:
            object.__setattr__(self, "labels", as_labels(self.name, self.labels, len(self), self.classes))

    def __len__(self) -> int:
        return len(self.ids)

    def path_of(self, place: int) -> Path:
        """The file in which an image lies."""
        return self.root / os.fsdecode(self.files[int(self.file[place])])

    def where(self, place: int) -> str:
        """Where an image lies, for messages: a file, or a shard and the name in it."""
        path = self.path_of(place)
        return str(path) if self.span is None else f"{path}, {int(self.ids[place]):08d}.jpg"

    def bytes_of(self, place: int) -> bytes:
        """The bytes of the image's file. Raises SystemFailure when they cannot be had, or when a shard was cut off."""
        path = self.path_of(place)
        if self.span is None:
            return file_bytes(path)
        offset, length = self.span[place].tolist()
        data = self.handles.read(str(path), offset, length)
        if len(data) != length:
            raise SystemFailure(f"the shard {path} was cut off: pack it again (whole shards are kept)")
        return data

    def size_of(self, place: int) -> tuple[int, int]:
        """Height and width of an image, upright. Reads its bytes, but decodes only the header."""
        header = read_header(self.bytes_of(place))
        return header.height, header.width

    def subset(self, index: Tensor | Sequence[int]) -> Stream:
        """The images at these places, with their own sample ids."""
        index = torch.as_tensor(index, dtype=torch.int64)
        labels, span = (None if x is None else x[index] for x in (self.labels, self.span))
        return replace(self, file=self.file[index], span=span, labels=labels, ids=self.ids[index], handles=Handles())

    def few(self, count: int, *, seed: int = 0) -> Stream:
        """``count`` images chosen by the seed, the same number of each class (as nearly as it goes)."""
        if self.labels is None:
            raise ValueError(f"{self.name} has no labels to choose by")
        if not 1 <= count <= len(self):
            raise ValueError(f"{self.name} has {len(self)} images; {count} cannot be chosen")
        return self.subset(choose(self.labels, len(self), count, seed=seed))

    def limited(self, limit: int | None) -> Stream:
        """At most that many images, as many of each class as it goes, always the same ones."""
        if limit is None or limit >= len(self):
            return self
        return self.subset(choose(self.labels, len(self), limit).sort().values)


def open_folder(root: Path, split: str = "train") -> Stream:
    """The images of one split of a folder, found but not opened. Raises as :func:`.folder.listing` does."""
    found = listing(root, split)
    names = np.array([os.fsencode(name) for name in found.names])
    labels = None if found.labels is None else torch.tensor(found.labels)
    places = torch.arange(len(names))
    return Stream(root.resolve().name, found.root, names, places, None, labels, found.classes, places)


def open_shards(root: Path, split: str = "train") -> Stream:
    """The images of one split of a folder that :func:`.pack.pack` made, in the order of their sample ids.

    Raises FileNotFoundError without an index or a shard, ValueError for an index that cannot be read, a shard whose length is not
    what the index says, or classes that are not those of the training split.
    """
    folder = _split_folder(root, split)
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
    return Stream(index.name, folder, names, files[order], span, labels, index.classes, ids[order])


def open_stream(root: Path, split: str = "train", *, limit: int | None = None) -> Stream:
    """Shards where there are some, otherwise a folder of pictures. Raises as :func:`open_shards` and :func:`open_folder` do."""
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root} (looked for {root.resolve()})")
    return (open_shards if packed(root) else open_folder)(root, split).limited(limit)


def packed(root: Path) -> bool:
    """Whether a folder holds shards."""
    return any(True for split in ("train", "val", "test") for _ in (root / split).glob("*.tar"))


def _split_folder(root: Path, split: str) -> Path:
    if split not in SPLITS:
        raise ValueError(f"shards have the splits {', '.join(SPLITS)}, not {split!r}")
    found = next((root / s for s in SPLITS[split] if (root / s / INDEX).is_file()), None)
    if found is None:
        begun = next((root / s for s in SPLITS[split] if any((root / s).glob("*.tar*"))), None)
        if begun is not None:
            raise FileNotFoundError(f"{begun} has shards but no {INDEX}: packing did not finish; run `minimae data pack` again")
        raise FileNotFoundError(f"{root} has no shards of the split {split}: make them with `minimae data pack`")
    return found
