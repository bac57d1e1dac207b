"""Your own pictures: a folder of images, with or without classes and splits.

Understood are ``root/<class>/*.jpg``, ``root/{train,val,test}/<class>/*.jpg``, and pictures lying flat in ``root`` or
``root/{train,val,test}``, which then have no labels. Labels follow the sorted names of the classes, and a sample id is the place
of its file in the sorted list of the split: stable as long as no file is added or removed.
"""

from __future__ import annotations

import os
from pathlib import Path

from .files import from_files
from .source import Images

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
SPLITS = {"train": ("train",), "val": ("val",), "test": ("test", "val")}  # without a test folder, val is tested on


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

    Raises FileNotFoundError when the folder, the split or the pictures are not there, ValueError for an empty class, for
    classes that are not those of the training split, for pictures that lie beside class folders, and as :func:`.files.from_files` does.
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
    paths, labels = _walk(found), None
    if classes:
        beside = [p for p in paths if p.parent == found]
        if beside:
            raise ValueError(f"{found} holds class folders, and pictures beside them such as {beside[0].name}: move those into a class")
        names = [p.relative_to(found).parts[0] for p in paths]
        empty = sorted(set(classes) - set(names))
        if empty:
            raise ValueError(f"no pictures in {found / empty[0]}: fill or remove that class folder")
        label_of = {c: label for label, c in enumerate(classes)}
        labels = [label_of[c] for c in names]
    if not paths:
        raise FileNotFoundError(f"no pictures in {found} (looked for {', '.join(SUFFIXES)})")
    return from_files(
        name or root.name, paths, labels, tuple(classes), image=image, channels=channels, skip_corrupt=skip_corrupt, limit=limit
    )


def _folders(root: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones left out."""
    return sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _walk(root: Path) -> list[Path]:
    """All image files below a folder, sorted by their path in it; hidden files and folders left out, links followed."""
    found = []
    for where, folders, files in os.walk(root, followlinks=True):
        folders[:] = [f for f in folders if not f.startswith(".")]
        found += [Path(where, f) for f in files if not f.startswith(".") and Path(f).suffix.lower() in SUFFIXES]
    return sorted(found, key=lambda p: p.relative_to(root).parts)


def _difference(train: Path, other: Path) -> str:
    ours, theirs = set(_folders(train)), set(_folders(other))
    sides = ((train, ours - theirs), (other, theirs - ours))
    parts = [f"only in {where.name}: {', '.join(sorted(names))}" for where, names in sides if names]
    return f"{train} and {other} must have the same classes; {'; '.join(parts)}"
