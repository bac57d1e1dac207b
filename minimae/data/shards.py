"""Shards: tar files in WebDataset's layout (``00000042.jpg``, ``00000042.cls``), and the index that finds an image without a scan.

A folder holds ``000000.tar …``, beside each a ``000000.json`` with its checksum and the position of each image, and ``index.json``, which
joins them. The json is written last: a shard without one is not finished. Any reader of WebDataset can use the tar files.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .folder import SPLITS

FORMAT = 2  # version 1 had no checksum of the index, no split and no sources; it is still read
INDEX = "index.json"
BLOCK = 512  # a tar file is made of blocks of 512 bytes
PARTIAL = ".partial"
REPACK = "run `minimae data pack` again (whole shards are kept)"
SHARD = re.compile(r"\d{6,}\.tar(\.partial)?")


@dataclass(frozen=True)
class Shard:
    """A finished tar file: its name, length in bytes, checksum, and number of images.

    stamp: a digest of the sizes and times of the pictures that it was made from. source: a digest of their bytes.
    """

    file: str
    bytes: int
    sha256: str
    images: int
    stamp: str = ""
    source: str = ""


@dataclass(frozen=True)
class Index:
    """Where each image is stored. recipe: how they were packed. ids, offsets, lengths, labels: of each image, shard after shard.

    skipped: damaged files that were left out on request, each with the reason.
    """

    name: str
    recipe: dict[str, Any]
    classes: tuple[str, ...]
    shards: tuple[Shard, ...]
    ids: list[int]
    offsets: list[int]
    lengths: list[int]
    labels: list[int] | None
    skipped: tuple[str, ...] = ()
    split: str = ""
    format: int = FORMAT

    def part(self, number: int) -> Index:
        """The index of one of the shards. It does not list the files that were left out."""
        ends = list(accumulate((shard.images for shard in self.shards), initial=0))
        rows, labels = slice(ends[number], ends[number + 1]), self.labels
        return replace(
            self, shards=(self.shards[number],), ids=self.ids[rows], offsets=self.offsets[rows], lengths=self.lengths[rows],
            labels=None if labels is None else labels[rows], skipped=(),
        )  # fmt: skip


@contextmanager
def _whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write under another name, sync and rename, so that a file called ``path`` is always whole. After an error nothing is left."""
    temporary = path.with_name(path.name + PARTIAL)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_shard(path: Path, samples: Iterable[tuple[int, bytes, int | None]]) -> tuple[Shard, list[int], list[int], list[int]]:
    """Samples (id, JPEG, label) → a tar file, and the ids, offsets and lengths of its images.

    The same samples give the same bytes: no times, no owners. Raises OSError, on a full disk for example.
    """
    ids: list[int] = []
    offsets: list[int] = []
    lengths: list[int] = []
    with _whole_file(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample, data, label in samples:
            for row, value in ((ids, sample), (offsets, tar.offset + BLOCK), (lengths, len(data))):  # type: ignore[attr-defined]
                row.append(value)
            _add(tar, f"{sample:08d}.jpg", data)
            if label is not None:
                _add(tar, f"{sample:08d}.cls", str(label).encode())
    return Shard(path.name, path.stat().st_size, checksum(path), len(ids)), ids, offsets, lengths


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def write_index(path: Path, index: Index) -> None:
    """Write an index (of a folder, or of one shard) with its checksum."""
    content = {**asdict(index), "format": FORMAT}
    with _whole_file(path) as file:
        file.write(json.dumps({**content, "sha256": _own_checksum(content)}, separators=(",", ":")).encode())


def _own_checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def read_index(path: Path) -> Index:
    """Read an index. Raises FileNotFoundError without one, ValueError if it is damaged, inconsistent or of another version."""
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: run `minimae data pack`")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] not in (1, FORMAT):
            raise ValueError("another format")
        if content["format"] == FORMAT and content.pop("sha256") != _own_checksum(content):
            raise ValueError("its checksum is another")
        shards = tuple(Shard(**shard) for shard in content.pop("shards"))
        index = Index(**{**content, "classes": tuple(content["classes"]), "skipped": tuple(content["skipped"])}, shards=shards)
        check(index)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged or of another version ({error}): {REPACK}") from None
    return index


def check(index: Index) -> None:
    """Raises ValueError if counts, ids, labels, classes, names of shards or offsets of an index contradict each other."""
    names = [shard.file for shard in index.shards]
    if len(set(names)) != len(names) or any(Path(name).name != name or not name.endswith(".tar") for name in names):
        raise ValueError("its shards are not named, each once, as files of this folder")
    if len(set(index.classes)) != len(index.classes) or not all(isinstance(name, str) for name in index.classes):
        raise ValueError("its class names are not all different")
    images = [_whole(shard.images, "a number of images") for shard in index.shards]
    lists = {"ids": index.ids, "offsets": index.offsets, "lengths": index.lengths, "labels": index.labels}
    numbers = {key: np.array([_whole(x, key) for x in values], np.int64) for key, values in lists.items() if values is not None}
    if {len(values) for values in numbers.values()} != {sum(images)}:
        raise ValueError("its lists differ in length")
    if len(np.unique(numbers["ids"])) != len(numbers["ids"]):
        raise ValueError("a sample id occurs twice")
    if (index.labels is None) != (not index.classes):
        raise ValueError("it has labels without classes, or classes without labels")
    if index.labels and (most := int(numbers["labels"].max())) >= len(index.classes):
        raise ValueError(f"label {most} is beyond its {len(index.classes)} classes, which are counted from 0")
    for shard, (first, last) in zip(index.shards, pairwise(accumulate(images, initial=0))):
        starts, lengths = numbers["offsets"][first:last], numbers["lengths"][first:last]
        ends = starts + lengths
        inside = not len(starts) or (starts[0] >= BLOCK and ends[-1] + 2 * BLOCK <= shard.bytes and (starts[1:] >= ends[:-1] + BLOCK).all())
        if not inside or not (lengths > 0).all():
            raise ValueError(f"its images overlap in {shard.file}, or lie outside of it")


def _whole(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"{value!r} among its {what}")
    return value


def joined(parts: list[Index]) -> Index:
    """The index of a folder from those of its shards."""
    lists: dict[str, Any] = {key: [x for part in parts for x in getattr(part, key)] for key in ("ids", "offsets", "lengths")}
    labels = None if parts[0].labels is None else [x for part in parts for x in part.labels or []]
    shards, skipped = (tuple(x for part in parts for x in getattr(part, key)) for key in ("shards", "skipped"))
    return replace(parts[0], **lists, labels=labels, shards=shards, skipped=skipped, format=FORMAT)


def packed(root: Path) -> bool:
    """Whether a folder holds shards, by their names: ImageNet's own tar files, which may lie beside its classes, have other names."""
    return any((root / split / INDEX).is_file() or _shards_in(root / split) for split in SPLITS)


def _shards_in(folder: Path) -> bool:
    return any(SHARD.fullmatch(path.name) for path in folder.glob("*.tar*"))


def split_folder(root: Path, split: str) -> Path:
    """The folder of one split of packed images. Raises FileNotFoundError where there is none, or where packing did not finish."""
    if split not in SPLITS:
        raise ValueError(f"shards have the splits {', '.join(SPLITS)}, not {split!r}")
    found = next((root / s for s in SPLITS[split] if (root / s / INDEX).is_file()), None)
    if found is None:
        begun = next((root / s for s in SPLITS[split] if _shards_in(root / s)), None)
        if begun is not None:
            raise FileNotFoundError(f"{begun} has shards but no {INDEX}: packing did not finish; run `minimae data pack` again")
        raise FileNotFoundError(f"{root} has no shards of the split {split}: make them with `minimae data pack`")
    return found
