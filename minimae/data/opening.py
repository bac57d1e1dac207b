"""A set of images to train on or to evaluate: in memory where all have one size, otherwise read when they are needed.

The choice affects the speed only: statistics, crops and evaluation are the same.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from .choose import held_out
from .files import SizesDiffer
from .folder import HOLD_OUT, folder, listing
from .standard import VARIED, listed
from .stream import ImageFiles, of_files, open_shards, packed
from .types import ImageDataset

ReadFrom = Literal["auto", "memory", "files"]

ROOM = 2e9  # images are held in memory up to this many bytes of pixels
LARGEST = 512 * 512  # and up to this many pixels each: larger ones are cheaper to crop while decoding


def open_images(
    name: str | Path,
    split: str = "train",
    *,
    root: Path | None = None,
    image: int | tuple[int, int] | None = None,
    channels: int | None = None,
    bits: int | None = None,
    read_from: ReadFrom = "auto",
    labelled: bool = False,
    download: bool = False,
    skip_corrupt: bool = False,
    limit: int | None = None,
) -> ImageDataset:
    """A named set, a folder of pictures or one of packed shards → images to train on or to evaluate.

    They keep the size that they are stored in: training crops from that, and evaluation resizes it. image: the size of the model, for
    the sets that are drawn for one. channels: 1 or 3, by default those of the pictures. read_from: memory holds the pixels of images of
    one size, and the files of others; files reads them when they are needed; auto takes memory for images of one size that fit.
    labelled: hold out a part of each class to test on where a folder has no test part, see :func:`.folder.listing`. The others are
    those of :func:`minimae.data.load`.
    """
    from . import DOWNLOADS, NAMES, load  # they import this module

    root = DOWNLOADS if root is None else root
    if not isinstance(name, Path) and name in NAMES and name not in VARIED:
        if read_from == "files":
            raise ValueError(f"--read-from files is for folders and packed shards; {name} is read into memory")
        drawn: dict[str, Any] = {"image": image} if name in ("photos", "shapes") else {}
        return load(name, split, root=root, channels=channels, download=download, skip_corrupt=skip_corrupt, limit=limit, **drawn)
    if not isinstance(name, Path) and name in VARIED:
        found = listed(name, split, root, download=download)
        return _kept(of_files(name, found, channels=channels, bits=bits).limited(limit), read_from)
    path = Path(name).expanduser()
    if not path.is_dir():
        return load(name, split)  # raises, with the nearest known name
    if packed(path):
        shards = replace(_shards(path, split, channels, labelled), name=path.resolve().name)
        return _kept(shards.limited(limit), read_from)
    found = listing(path, split, hold_out=HOLD_OUT if labelled else None)
    stream = of_files(path.resolve().name, found, channels=channels, bits=bits).limited(limit)
    if read_from != "files" and _fits(stream, read_from):
        how: dict[str, Any] = {"channels": stream.channels, "bits": bits, "skip_corrupt": skip_corrupt, "limit": limit}
        try:
            images = folder(path, split, hold_out=HOLD_OUT if labelled else None, **how)
        except SizesDiffer:
            pass
        else:
            return replace(images, fixed_statistics=stream.fixed_statistics)
    return _kept(stream, read_from)


def _kept(stream: ImageFiles, read_from: ReadFrom) -> ImageFiles:
    return stream.kept() if read_from == "memory" else stream


def _fits(stream: ImageFiles, read_from: ReadFrom) -> bool:
    """Whether the pixels of these images could be held in memory, if all have the size of the first that can be read."""
    height, width = stream.first_size()
    return height * width <= LARGEST and (read_from == "memory" or len(stream) * height * width * stream.channels <= ROOM)


def _shards(root: Path, split: str, channels: int | None, labelled: bool) -> ImageFiles:
    """Packed shards; where there is no test part and one is needed, a part of the training images."""
    there = any((root / name).is_dir() for name in ("test", "val"))
    if not labelled or there or split == "val":
        return open_shards(root, split, channels=channels)
    stream = open_shards(root, "train", channels=channels)
    if stream.labels is None:
        return stream
    test = held_out(stream.labels, HOLD_OUT)
    part = stream.subset((test if split == "test" else ~test).nonzero()[:, 0])
    return replace(part, notes=(f"{root} has no test part: {int(test.sum()):,} of {len(test):,} images are held out to test on",))
