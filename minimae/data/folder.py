"""Your own pictures: a folder of images, with or without classes and splits.

Understood are ``root/<class>/*.jpg``, ``root/{train,val,test}/<class>/*.jpg``, and pictures lying flat in ``root`` or
``root/{train,val,test}``, which then have no labels. Labels follow the sorted names of the classes, and a sample id is the place
of its file in the sorted list of the split: stable as long as no file is added or removed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import from_files
from .source import Images

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
SPLITS = {"train": ("train",), "val": ("val",), "test": ("test", "val")}  # without a test folder, val is tested on


@dataclass(frozen=True)
class Listing:
    """The image files of one split: their names below ``root`` (sorted), a label for each or None, and the names of the classes."""

    root: Path
    names: list[str]
    labels: list[int] | None
    classes: tuple[str, ...]


def folder(
    root: Path,
    split: str = "train",
    *,
    image: int | None = None,
    channels: int | None = None,
    skip_corrupt: bool = False,
    limit: int | None = None,
    name: str | None = None,
) -> Images:
    """Read the pictures of one split from a folder.

    Raises as :func:`listing` and :func:`.files.from_files` do.
    """
    found = listing(root, split)
    paths = [found.root / name for name in found.names]
    how: dict[str, Any] = {"image": image, "channels": channels, "skip_corrupt": skip_corrupt, "limit": limit}
    return from_files(name or root.name, paths, found.labels, found.classes, **how)


def listing(root: Path, split: str = "train") -> Listing:
    """Find the pictures of one split of a folder, without opening them.

    Raises FileNotFoundError when the folder, the split or the pictures are not there, ValueError for an empty class, for
    classes that are not those of the training split, and for pictures that lie beside class folders.
    """
    if split not in SPLITS:
        raise ValueError(f"a folder has the splits {', '.join(SPLITS)}, not {split!r}")
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root} (looked for {root.resolve()})")
    inside, has_splits = _folders(root), (root / "train").is_dir()
    if has_splits:
        found = next((root / s for s in SPLITS[split] if s in inside), None)
        if found is None:
            raise FileNotFoundError(f"{root} has no folder {' or '.join(SPLITS[split])} beside train, so there is no {split} split")
    elif split != "train":
        raise FileNotFoundError(f"{root} has no folders train and {split}, so there is no {split} split: move the images into such folders")
    else:
        found = root
    classes = _folders(found)
    if has_splits and split != "train" and classes != _folders(root / "train"):
        raise ValueError(_difference(root / "train", found))
    names, labels = _walk(found), None
    if classes:
        owners = [name.partition(os.sep) for name in names]
        beside = next((file for file, sep, _ in owners if not sep), None)
        if beside is not None:
            raise ValueError(f"{found} holds class folders, and pictures beside them such as {beside}: move those into a class")
        empty = sorted(set(classes) - {owner for owner, _, _ in owners})
        if empty:
            raise ValueError(f"no pictures in {found / empty[0]}: fill or remove that class folder")
        label_of = {c: label for label, c in enumerate(classes)}
        labels = [label_of[owner] for owner, _, _ in owners]
    if not names:
        raise FileNotFoundError(f"no pictures in {found} (looked for {', '.join(SUFFIXES)})")
    return Listing(found, names, labels, tuple(classes))


def _folders(root: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones left out."""
    return sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _walk(root: Path) -> list[str]:
    """Names below a folder of all image files in it, sorted; hidden files and folders left out, links followed.

    Strings, and no Path for each: ImageNet has 1.3 million files.
    """
    found = []
    for where, folders, files in os.walk(root, followlinks=True):
        folders[:] = [f for f in folders if not f.startswith(".")]
        below = os.path.relpath(where, root)
        start = "" if below == "." else below + os.sep
        found += [start + f for f in files if not f.startswith(".") and os.path.splitext(f)[1].lower() in SUFFIXES]
    return sorted(found, key=lambda name: name.split(os.sep))


def _difference(train: Path, other: Path) -> str:
    ours, theirs = set(_folders(train)), set(_folders(other))
    sides = ((train, ours - theirs), (other, theirs - ours))
    parts = [f"only in {where.name}: {', '.join(sorted(names))}" for where, names in sides if names]
    return f"{train} and {other} must have the same classes; {'; '.join(parts)}"
