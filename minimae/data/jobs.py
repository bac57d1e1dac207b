"""One shard of a folder of pictures, yet to be made: which pictures, how they are shrunk, and whether they have changed since.

The short side becomes 256 pixels (a picture that has fewer stays as it is), which turns the 140 GB of ImageNet into about 22 and
makes decoding cheap.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..random import permutation
from .access import SystemFailure, file_bytes, shown, system_failure
from .decoding import decode, encode, read_header, scale_of
from .folder import Listing
from .shards import Shard


def shrink(data: bytes, *, side: int, quality: int, bits: int | None = None) -> bytes:
    """The bytes of an image file → a JPEG in which the short side has ``side`` pixels (antialiased bicubic), upright; grey stays grey.

    bits: how many bits of deeper pictures are used, by default those that the file states (:mod:`.depth`).
    A plain JPEG that is no larger stays byte for byte as it is; it is decoded to see that it is whole. Raises what Pillow raises
    for a damaged file. A JPEG more than four times as large is decoded at half size or less first, with at least twice the pixels wanted.
    """
    header = read_header(data)
    small = min(header.height, header.width) <= side
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
    """One shard to be made: which images of the listing, where to, and how. skip: leave damaged pictures out."""

    name: str
    split: str
    path: Path
    root: Path
    files: list[str]
    ids: list[int]
    labels: list[int] | None
    classes: tuple[str, ...]
    recipe: dict[str, Any]
    skip: bool

    def stamp(self) -> str:
        """A digest of the sizes and times of the pictures. Raises SystemFailure when one is gone."""
        digest = hashlib.sha256()
        for name in self.files:
            try:
                about = os.stat(self.root / name)
            except OSError as error:
                raise system_failure(self.root / name, error) from error
            if not stat.S_ISREG(about.st_mode):
                raise SystemFailure(f"{shown(self.root / name)} is not a regular file, so it holds no picture: remove it")
            digest.update(f"{about.st_size} {about.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def shrunk(self, data: bytes) -> bytes:
        """What is packed of a picture. Raises what Pillow raises for a damaged one."""
        return shrink(data, side=self.recipe["side"], quality=self.recipe["quality"], bits=self.recipe.get("bits"))

    def readable(self, path: Path) -> bool:
        """Whether a picture is whole (now)."""
        data = file_bytes(path)
        try:
            self.shrunk(data)
        except Exception:  # Pillow raises a dozen types for damaged files
            return False
        return True

    def unchanged(self, shard: Shard) -> bool:
        """Whether the pictures are those that were packed: by size and time, and by their bytes where a copy has another time."""
        if shard.stamp in ("", self.stamp()):  # "" in shards of earlier versions
            return True
        digest = hashlib.sha256()
        for name in self.files:
            add(digest, file_bytes(self.root / name))
        return digest.hexdigest() == shard.source


def add(digest: Any, data: bytes) -> None:
    """Add the bytes of a file to a digest, so that it also says where one file ends and the next begins."""
    digest.update(len(data).to_bytes(8, "big"))
    digest.update(data)


def jobs_of(
    found: Listing, split: str, split_folder: Path, name: str, *, side: int, quality: int, shard_size: int,
    bits: int | None = None, skip_corrupt: bool = False,
) -> list[Job]:  # fmt: skip
    """The shards of a listing: a function of the listing and the settings alone, and not of who makes them."""
    order = permutation(0, "split", 0, len(found.names)).tolist()
    listed = "\0".join([*found.names, "", *found.classes])
    digest = hashlib.sha256(os.fsencode(listed)).hexdigest()
    recipe = {"side": side, "quality": quality, "shard_size": shard_size, "files": digest} | ({} if bits is None else {"bits": bits})
    jobs = []
    for number, first in enumerate(range(0, len(order), shard_size)):
        places = order[first : first + shard_size]
        labels = None if found.labels is None else [found.labels[i] for i in places]
        names = [found.names[i] for i in places]
        path = split_folder / f"{number:06d}.tar"
        jobs.append(Job(name, split, path, found.root, names, places, labels, found.classes, recipe, skip_corrupt))
    return jobs
