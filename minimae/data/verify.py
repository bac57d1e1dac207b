"""Check packed shards: each against its checksum and its index, and the indexes against each other."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from .folder import SPLITS
from .shards import FORMAT, INDEX, Index, Shard, checksum, read_index


def verify(out: Path, *, quiet: bool = False) -> list[str]:
    """Everything below ``out`` that differs from what was packed, one per line.

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
            wrong += _damage(folder, index.part(number))
        listed = {shard.file for shard in index.shards}
        wrong += [f"{path} is in no index" for path in sorted(folder.glob("*.tar*")) if path.name not in listed]
    if len(set(classes.values())) > 1:
        wrong.append(f"{' and '.join(map(str, classes))} have different classes")
    return wrong


def wrong_split(index: Index, folder: Path) -> bool:
    """Whether a folder for training holds test images, or the reverse."""
    return folder.name in SPLITS and bool(index.split) and (index.split == "train") != (folder.name == "train")


def _damage(folder: Path, index: Index) -> Iterator[str]:
    """The damage of one shard, and whether its own index differs from its part of the folder's."""
    [shard] = index.shards
    try:
        yield from damage(folder / shard.file, shard, index)
        beside = (folder / shard.file).with_suffix(".json")
        if beside.is_file() and replace(read_index(beside), skipped=(), format=index.format) != index:
            yield f"{beside} differs from {folder / INDEX}"
    except (OSError, ValueError) as error:
        yield str(error)


def damage(path: Path, shard: Shard, index: Index) -> Iterator[str]:
    """What is wrong with a shard, compared with its index."""
    if not path.is_file():
        yield f"{path} is missing"
    elif (size := path.stat().st_size) != shard.bytes:
        yield f"{path} has {size:,} bytes, not {shard.bytes:,}"
    elif checksum(path) != shard.sha256:
        yield f"{path} has another checksum"
    else:
        yield from mismatch(path, index)


def mismatch(path: Path, index: Index) -> Iterator[str]:
    """How a tar file differs from its index in ids, offsets, lengths and labels: the first difference."""
    labels: list[int] | list[None] = index.labels or [None] * len(index.ids)
    try:
        with tarfile.open(path, "r:") as tar:
            members = iter(tar)
            for sample, offset, length, label in zip(index.ids, index.offsets, index.lengths, labels):
                image = next(members, None)
                if image is None or (image.name, image.offset_data, image.size) != (f"{sample:08d}.jpg", offset, length):
                    yield f"{path} does not hold {sample:08d}.jpg where the index says"
                    return
                member = None if label is None else next(members, None)
                file = None if member is None or member.name != f"{sample:08d}.cls" else tar.extractfile(member)
                if label is not None and (file is None or file.read(64) != str(label).encode()):
                    yield f"{path} holds another label for {sample:08d}.jpg than the index"
                    return
            if next(members, None) is not None:
                yield f"{path} holds more than the index says"
    except tarfile.TarError as error:
        yield f"{path} is no whole tar file ({error})"
