"""One shard of a folder of pictures: which pictures go in, how they are shrunk, and whether a finished shard still fits them.

The short side becomes 256 pixels (smaller pictures stay as they are). That turns the 140 GB of ImageNet into about 22, and makes
decoding cheap.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import MinimaeError
from ..random import permutation
from .access import SystemFailure, file_bytes, shown, system_failure
from .decoding import decode, encode, read_header, scale_of
from .files import ImageFiles
from .shards import Index, Shard, read_index, write_index, write_shard
from .verify import damage


def shrink(data: bytes, *, side: int, quality: int, bits: int | None = None) -> bytes:
    """The bytes of an image file → an upright JPEG whose short side has ``side`` pixels (antialiased bicubic); grey stays grey.

    bits: how many bits of deeper pictures are used, by default those that the file states (:mod:`.decoding`).
    A plain JPEG that is no larger is returned unchanged, if it can be decoded. Raises DamagedImage.
    """
    header = read_header(data)
    small = min(header.height, header.width) <= side
    # A much larger JPEG is first decoded at half its size or less, with at least twice the wanted pixels.
    scale = 1 if small else scale_of(header, header.height, header.width, wanted=(2 * side, 2 * side))
    picture = decode(header, scale, channels=None, bits=bits)
    if small:
        return data if header.plain else encode(picture, max(quality, 95))
    from PIL import Image

    height, width = header.height, header.width
    # The long side is cut off, not rounded, as torchvision does it: resize 256, centre crop 224 stays what it was.
    size = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
    whole = (0, 0, width / scale, height / scale)  # a reduced picture may end within its last pixel
    return encode(picture.resize(size, Image.Resampling.BICUBIC, box=whole), quality)


@dataclass(frozen=True)
class Job:
    """One shard to make: its path, its pictures, and its index if all pictures are sound. skip: leave damaged pictures out."""

    path: Path
    root: Path
    files: list[str]
    index: Index
    skip: bool

    def stamp(self) -> str:
        """A digest of the sizes and times of the pictures. Raises SystemFailure when one is missing."""
        digest = hashlib.sha256()
        for name in self.files:
            try:
                status = os.stat(self.root / name)
            except OSError as error:
                raise system_failure(self.root / name, error) from error
            if not stat.S_ISREG(status.st_mode):
                raise SystemFailure(f"{shown(self.root / name)} is not a regular file, so it holds no picture: remove it")
            digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def shrunk(self, path: Path, digest: Any = None) -> bytes:
        """What is packed for a picture; its bytes go into the digest. Raises MinimaeError for a damaged one."""
        data = file_bytes(path)
        if digest is not None:
            add(digest, data)
        try:
            recipe = self.index.recipe
            return shrink(data, side=recipe["side"], quality=recipe["quality"], bits=recipe.get("bits"))
        except MemoryError:
            raise
        except Exception as error:  # Pillow raises a dozen types for damaged files
            raise Damaged(f"{shown(path)} cannot be read ({error})") from None

    def unchanged(self, shard: Shard) -> bool:
        """Whether the pictures are those that were packed: by size and time, or by their bytes if the times differ."""
        if shard.stamp in ("", self.stamp()):  # "" in shards of earlier versions
            return True
        digest = hashlib.sha256()
        for name in self.files:
            add(digest, file_bytes(self.root / name))
        return digest.hexdigest() == shard.source


class Damaged(MinimaeError):
    """A picture that cannot be decoded."""


def add(digest: Any, data: bytes) -> None:
    """Add the bytes of a file and their number to a digest, so that it shows where each file ends."""
    digest.update(len(data).to_bytes(8, "big"))
    digest.update(data)


def make(job: Job) -> Index:
    """Write one shard and the index beside it. Damaged pictures are left out and listed, if the job says so.

    Raises SystemFailure when a picture cannot be read, MinimaeError for a damaged one, and OSError when writing fails.
    """
    skipped: list[str] = []
    stamp, source = job.stamp(), hashlib.sha256()
    label_of = dict(zip(job.index.ids, job.index.labels or []))

    def samples() -> Iterator[tuple[int, bytes, int | None]]:
        for name, sample in zip(job.files, job.index.ids):
            try:
                small = job.shrunk(job.root / name, source)
            except Damaged as error:
                if not job.skip:
                    raise MinimaeError(f"{error}; repair or remove it, or leave such files out with --skip-corrupt") from None
                skipped.append(str(error))
            else:
                yield sample, small, label_of.get(sample)

    shard, ids, offsets, lengths = write_shard(job.path, samples())
    shard = replace(shard, stamp=stamp, source=source.hexdigest())
    labels = None if job.index.labels is None else [label_of[i] for i in ids]
    made = {"shards": (shard,), "ids": ids, "offsets": offsets, "lengths": lengths, "labels": labels, "skipped": tuple(skipped)}
    index = replace(job.index, **made)  # type: ignore[arg-type]
    write_index(job.path.with_suffix(".json"), index)
    return index


def finished(job: Job) -> Index | None:
    """The index of an intact shard made from the current pictures; None when it must be made again.

    Pictures that were left out are tried again. Raises ValueError for other settings, SystemFailure as :func:`make` does.
    """
    try:
        index = read_index(job.path.with_suffix(".json"))
    except (FileNotFoundError, ValueError):
        return None
    wanted = job.index
    if index.recipe != wanted.recipe:
        difference = _difference(index.recipe, wanted.recipe)
        raise ValueError(f"{job.path.parent} holds shards of {difference}: choose another folder, or remove them")
    packed, [shard] = set(index.ids), index.shards
    rows = [i for i, sample in enumerate(wanted.ids) if sample in packed]
    labels = None if wanted.labels is None else [wanted.labels[i] for i in rows]
    of_job = (shard.file, index.ids, index.labels, index.classes) == (job.path.name, [wanted.ids[i] for i in rows], labels, wanted.classes)
    if not of_job or index.split not in ("", wanted.split) or next(damage(job.path, shard, index), None) is not None:
        return None
    left_out = [job.root / name for name, sample in zip(job.files, wanted.ids) if sample not in packed]
    if left_out and (not job.skip or any(map(partial(_readable, job), left_out))):
        return None
    return index if job.unchanged(shard) else None


def _readable(job: Job, path: Path) -> bool:
    try:
        job.shrunk(path)
    except Damaged:
        return False
    return True


def _difference(packed: dict[str, Any], wanted: dict[str, Any]) -> str:
    """How the settings or pictures of existing shards differ from those of this call, as text."""
    keys = [key for key in {**packed, **wanted} if packed.get(key) != wanted.get(key) and key != "files"]
    if not keys:
        return "other pictures (some were added, removed or renamed since)"
    theirs, ours = (", ".join(f"{key} {recipe.get(key)}" for key in keys) for recipe in (packed, wanted))
    return f"other settings ({theirs}, not {ours})"


def jobs_of(files: ImageFiles, split: str, target: Path, recipe: dict[str, Any], *, skip_corrupt: bool = False) -> list[Job]:
    """The shards of a folder of pictures, shuffled: a function of file names and settings alone."""
    order = permutation(0, "split", 0, len(files)).tolist()
    names = [os.fsdecode(name) for name in files.files]
    listed = "\0".join([*names, "", *files.classes])
    recipe = {**recipe, "files": hashlib.sha256(os.fsencode(listed)).hexdigest()}
    jobs = []
    for number, first in enumerate(range(0, len(order), recipe["shard_size"])):
        ids = order[first : first + recipe["shard_size"]]
        labels = None if files.labels is None else files.labels[ids].tolist()
        index = Index(files.name, recipe, files.classes, (), ids, [], [], labels, split=split)
        jobs.append(Job(target / f"{number:06d}.tar", files.root, [names[i] for i in ids], index, skip_corrupt))
    return jobs
