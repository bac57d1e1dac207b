"""Shards: tar files in WebDataset's layout (``00000042.jpg``, ``00000042.cls``), and the index that finds an image without a scan.

A folder holds ``000000.tar …``, beside each a ``000000.json`` with its checksum and what lies where (written last: a shard without
one is not finished), and ``index.json``, all of these in one. Any reader of WebDataset can use the tar files as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FORMAT = 1
INDEX = "index.json"
BLOCK = 512  # a tar file is made of blocks of 512 bytes
PARTIAL = ".partial"


@dataclass(frozen=True)
class Shard:
    """A finished tar file: its name, length in bytes, checksum, and number of images."""

    file: str
    bytes: int
    sha256: str
    images: int


@dataclass(frozen=True)
class Index:
    """What lies where. recipe: how it was packed. ids, offsets, lengths, labels: one for each image, shard after shard.

    skipped: files that were left out because they could not be read, each with the reason.
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


def write_shard(path: Path, samples: Iterable[tuple[int, bytes, int | None]]) -> tuple[Shard, list[int], list[int], list[int]]:
    """Samples (id, JPEG, label) → a tar file, and the ids, offsets and lengths of its images.

    It is written under another name, synced and renamed, so that a file called ``path`` is always whole. The same samples give
    the same bytes: no times, no owners. Raises OSError (a full disk, say) and leaves nothing behind.
    """
    temporary = path.with_name(path.name + PARTIAL)
    digest, at = hashlib.sha256(), 0
    ids: list[int] = []
    offsets: list[int] = []
    lengths: list[int] = []
    try:
        with open(temporary, "wb") as file:
            for sample, data, label in samples:
                parts = [(f"{sample:08d}.jpg", data)] + ([] if label is None else [(f"{sample:08d}.cls", str(label).encode())])
                ids.append(sample)
                offsets.append(at + BLOCK)
                lengths.append(len(data))
                for name, content in parts:
                    at += _write(file, digest, _member(name, content))
            at += _write(file, digest, bytes(2 * BLOCK))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return Shard(path.name, at, digest.hexdigest(), len(ids)), ids, offsets, lengths


def _write(file: Any, digest: Any, content: bytes) -> int:
    file.write(content)
    digest.update(content)
    return len(content)


def _member(name: str, content: bytes) -> bytes:
    """One file of a tar archive: its header, the content, and zeros up to a whole block."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % BLOCK)


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while part := file.read(1 << 20):
        digest.update(part)
    return digest.hexdigest()


def write_index(path: Path, index: Index) -> None:
    """Write an index (of a folder, or of one shard) under another name, and rename it."""
    temporary = path.with_name(path.name + PARTIAL)
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump({"format": FORMAT, **asdict(index)}, file, separators=(",", ":"))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_index(path: Path) -> Index:
    """Raises FileNotFoundError when there is none, ValueError when it is damaged or of another version."""
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: run `minimae data pack`")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise ValueError("another format")
        shards = tuple(Shard(**shard) for shard in content.pop("shards"))
        index = Index(**{**content, "classes": tuple(content["classes"]), "skipped": tuple(content["skipped"])}, shards=shards)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged or of another version ({error}): remove it and run `minimae data pack` again") from None
    counts = {sum(shard.images for shard in shards), *(len(x) for x in (index.ids, index.offsets, index.lengths))}
    if len(counts | ({len(index.labels)} if index.labels is not None else set())) != 1:
        raise ValueError(f"{path} is damaged (its lists differ in length): remove it and run `minimae data pack` again")
    return index


def joined(parts: list[Index]) -> Index:
    """The index of a folder from those of its shards."""
    first = parts[0]

    def together(lists: list[list[int]]) -> list[int]:
        return [x for one in lists for x in one]

    return Index(
        first.name,
        first.recipe,
        first.classes,
        tuple(shard for part in parts for shard in part.shards),
        together([part.ids for part in parts]),
        together([part.offsets for part in parts]),
        together([part.lengths for part in parts]),
        None if first.labels is None else together([part.labels or [] for part in parts]),
        tuple(file for part in parts for file in part.skipped),
    )
