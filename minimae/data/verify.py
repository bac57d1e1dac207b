"""Whether packed shards are whole: each against its checksum and its index, and the indexes against themselves and each other."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from .shards import FORMAT, INDEX, Index, checksum, read_index

SPLITS = ("train", "val", "test")


def verify(out: Path, *, quiet: bool = False) -> list[str]:
    """Everything below ``out`` that differs from what was packed, one line each; empty when nothing does.

    Raises FileNotFoundError when there are no shards.
    """
    folders = [folder for folder in (out, *(out / split for split in SPLITS)) if any(folder.glob("*.tar*")) or (folder / INDEX).is_file()]
    if not folders:
        raise FileNotFoundError(f"{out} holds no shards")
    wrong, classes = [], {}
    for folder in folders:
        try:
            index = read_index(folder / INDEX)
        except (OSError, ValueError) as error:
            wrong.append(str(error))
            continue
        classes[folder] = index.classes
        if index.format != FORMAT:
            wrong.append(f"{folder / INDEX} is of an earlier version and has no checksum")
        if wrong_split(index, folder):
            wrong.append(f"{folder} holds the split {index.split}")
        if not index.ids:
            wrong.append(f"{folder} holds no images")
        for number in tqdm(range(len(index.shards)), desc=f"verify {folder}", unit="shard", disable=quiet, dynamic_ncols=True):
            wrong += damage(folder, index.part(number))
        listed = {shard.file for shard in index.shards}
        wrong += [f"{path} is in no index" for path in sorted(folder.glob("*.tar*")) if path.name not in listed]
    if len(set(classes.values())) > 1:
        wrong.append(f"{' and '.join(map(str, classes))} have different classes")
    return wrong


def wrong_split(index: Index, folder: Path) -> bool:
    """Whether training images are in the test split, or test images in the training split."""
    return folder.name in SPLITS and bool(index.split) and (index.split == "train") != (folder.name == "train")


def damage(folder: Path, index: Index) -> Iterator[str]:
    """What is wrong with one shard, compared with its part of the folder's index."""
    [shard] = index.shards
    path = folder / shard.file
    try:
        if not path.is_file():
            yield f"{path} is missing"
        elif path.stat().st_size != shard.bytes:
            yield f"{path} has {path.stat().st_size:,} bytes, not {shard.bytes:,}"
        elif checksum(path) != shard.sha256:
            yield f"{path} has another checksum"
        elif (found := mismatch(path, index)) is not None:
            yield found
        beside = path.with_suffix(".json")
        if beside.is_file() and replace(read_index(beside), skipped=(), format=index.format) != index:
            yield f"{beside} differs from {folder / INDEX}"
    except (OSError, ValueError) as error:
        yield str(error)


def mismatch(path: Path, index: Index) -> str | None:
    """How a tar file differs from its index in ids, offsets, lengths and labels; None when they agree."""
    labels: list[int] | list[None] = index.labels or [None] * len(index.ids)
    wanted = zip(index.ids, index.offsets, index.lengths, labels)
    try:
        with tarfile.open(path, "r:") as tar, open(path, "rb") as file:
            members = iter(tar)
            for sample, offset, length, label in wanted:
                image = next(members, None)
                if image is None or (image.name, image.offset_data, image.size) != (f"{sample:08d}.jpg", offset, length):
                    return f"{path} does not hold {sample:08d}.jpg where the index says"
                if label is not None:
                    member = next(members, None)
                    if member is None or member.name != f"{sample:08d}.cls" or _text(file, member) != str(label):
                        return f"{path} holds another label for {sample:08d}.jpg than the index"
            if next(members, None) is not None:
                return f"{path} holds more than the index says"
    except tarfile.TarError as error:
        return f"{path} is no whole tar file ({error})"
    return None


def _text(file: BinaryIO, member: tarfile.TarInfo) -> str:
    file.seek(member.offset_data)
    return file.read(min(member.size, 64)).decode(errors="replace")
