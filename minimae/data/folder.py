"""Your own pictures: a folder of images, with or without classes and splits.

The folder may be ``root/<class>/*.jpg``, ``root/{train,val,test}/<class>/*.jpg``, and pictures directly in ``root`` or
``root/{train,val,test}``, which then have no labels. Labels follow the sorted names of the classes. A sample id is the index of a
file in the sorted list of the split: it stays the same as long as no file is added or removed.
Hidden files are left out. Links are followed, but never in a circle.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .choose import held_out
from .files import ImageFiles
from .optional import need

SPLITS = {"train": ("train",), "val": ("val",), "test": ("test", "val")}  # without a test folder, val is the test split
CALLED = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test",
}  # fmt: skip
# What Pillow registers besides pictures: videos, drawings that need another program, and containers that it does not read by itself.
NO_PICTURES = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"})


def files_of(
    name: str, root: Path, names: Sequence[str], labels: Sequence[int] | None = None, classes: tuple[str, ...] = (), **more: Any
) -> ImageFiles:
    """Image files by their names below ``root``, with a label for each. Their sample ids are 0, 1, 2 …"""
    index = torch.arange(len(names))
    encoded = np.array([os.fsencode(name) for name in names])
    return ImageFiles(name, root, encoded, index, None, labels, classes, index, **more)  # type: ignore[arg-type]


def listing(root: Path, split: str = "train") -> ImageFiles:
    """Find the pictures of one split of a folder, without opening them.

    Raises FileNotFoundError when the folder, the split or the pictures are not there, ValueError for an empty class, for
    classes that are not those of the training split, for pictures beside class folders, and for folders that could be
    classes or splits.
    """
    if split not in SPLITS:
        raise ValueError(f"a folder has the splits {', '.join(SPLITS)}, not {split!r}")
    if not root.is_dir():
        raise no_folder(root)
    parts = splits_of(root)
    folder = _folder_of(root, parts, split)
    classes = folders_in(folder)
    if split != "train" and "train" in parts and classes != (trained := folders_in(root / parts["train"])):
        sides = ((parts["train"], set(trained) - set(classes)), (folder.name, set(classes) - set(trained)))
        differ = "; ".join(f"only in {side}: {', '.join(sorted(names))}" for side, names in sides if names)
        raise ValueError(f"{root / parts['train']} and {folder} must have the same classes; {differ}")
    names, others = scan(folder)
    notes = _notes(root, parts, others)
    if not names:
        raise FileNotFoundError(f"no pictures in {folder} (looked for .jpg, .png and all that Pillow reads){'; '.join(('', *notes))}")
    labels = _labels(folder, names, classes) if classes else None
    return files_of(root.resolve().name, folder, names, labels, tuple(classes), notes=notes)


def no_folder(root: Path) -> FileNotFoundError:
    """The error for a folder that is not there. It adds the absolute path if that differs."""
    if root.exists():
        return FileNotFoundError(f"{root} is a file, and a folder of pictures was expected")
    whole = root.resolve()
    return FileNotFoundError(f"no folder {root}" + (f" (looked for {whole})" if whole != root else ""))


def splits_of(root: Path) -> dict[str, str]:
    """The folders of a root that are splits: train, val or test → the folder's name. Empty if all are classes, or there are none."""
    named: dict[str, str] = {}
    for name in folders_in(root):
        split = CALLED.get(name.lower())
        if split in named:
            raise ValueError(f"{root} holds {named[split]} and {name}, two folders for one split: remove or rename one")
        if split is not None:
            named[split] = name
    others = [name for name in folders_in(root) if name not in named.values() and _has_pictures(root / name)]
    if not named or not others:
        return named
    divided = [name for name in named.values() if any(_has_pictures(root / name / inner) for inner in folders_in(root / name))]
    if not divided:  # bus, car and train: classes
        return {}
    if named.get("train") in divided and len(named) > 1:
        return named
    raise ValueError(
        f"{root} holds {divided[0]}, with folders in it as a split, and beside it {others[0]} with pictures, as a class: it is not clear "
        f"whether {divided[0]} is a split or a class; move {others[0]} out of {root}, or the pictures of {divided[0]} out of its folders"
    )


def _folder_of(root: Path, parts: dict[str, str], split: str) -> Path:
    if not parts and split == "train":
        return root
    folder = next((parts[name] for name in SPLITS[split] if name in parts), None)
    if folder is not None:
        return root / folder
    if parts:
        beside = ", ".join(parts.values())
        raise FileNotFoundError(f"{root} has no folder {' or '.join(SPLITS[split])} beside {beside}, so there is no {split} split")
    raise FileNotFoundError(f"{root} has no folders train and {split}, so there is no {split} split: move the images into such folders")


def _labels(folder: Path, names: list[str], classes: list[str]) -> list[int]:
    """The label of each picture: the index of its class folder in sorted order."""
    label_of = {name: label for label, name in enumerate(classes)}
    owners = [name.split(os.sep, 1)[0] for name in names]
    beside = next((name for name in names if os.sep not in name), None)
    if beside is not None:
        raise ValueError(f"{folder} holds class folders, and pictures beside them such as {beside}: move those into a class")
    if empty := sorted(set(classes) - set(owners)):
        raise ValueError(f"no pictures in {folder / empty[0]}: fill or remove that class folder")
    return [label_of[owner] for owner in owners]


def with_test_part(files: ImageFiles, split: str, share: float, *, seed: int = 0) -> ImageFiles:
    """The training or test split of files without a test part, chosen by the seed. Files keep their sample ids."""
    if files.labels is None:
        raise ValueError(f"{files.root} has no class folders, so no labels; accuracy needs one folder per class")
    test = held_out(files.labels, share, seed=seed)
    held = f"{int(test.sum()):,} of {len(test):,} pictures, {share:.0%} of each class"
    note = f"{files.root} has no test part: {held}, are held out to test on; they are the same every time"
    return replace(files.subset(test if split == "test" else ~test), notes=(*files.notes, note))


def _notes(root: Path, parts: dict[str, str], others: Counter[str]) -> tuple[str, ...]:
    """Files and folders that were ignored, one line each."""
    notes = []
    if others:
        kinds = ", ".join(f"{suffix} {count:,}" for suffix, count in others.most_common(5)) + (", …" if len(others) > 5 else "")
        notes.append(f"{root}: left out files whose names are not those of pictures: {kinds}")
    beside = [name for name in folders_in(root) if name not in parts.values() and _has_pictures(root / name)] if parts else []
    if beside:
        notes.append(f"{root}: left out these folders beside {', '.join(parts.values())}: {', '.join(beside[:5])}")
    return tuple(notes)


@cache
def suffixes() -> frozenset[str]:
    """The extensions of all files that Pillow reads as pictures here, including those of its plugins: .jpg, .jfif, .webp …"""
    Image = need("PIL.Image", why="reading image files")
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in known.items() if kind in Image.OPEN and kind not in NO_PICTURES)


def scan(root: Path) -> tuple[list[str], Counter[str]]:
    """Names below a folder of all image files in it, sorted; and how many other files there are, by extension.

    Strings instead of Paths, because ImageNet has 1.3 million files.
    """
    names: list[str] = []
    others: Counter[str] = Counter()
    for name in _files(root):
        if (suffix := os.path.splitext(name)[1].lower()) in suffixes():
            names.append(name)
        else:
            others[suffix or "no ending"] += 1
    return sorted(names, key=lambda name: name.split(os.sep)), others


def folders_in(root: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones and links to a folder above are left out."""
    above = _above(root)
    names = [name for name in next(os.walk(root, onerror=_raise))[1] if not name.startswith(".")]
    return sorted(name for name in names if _identity(root / name) not in above)


def _has_pictures(root: Path) -> bool:
    """Whether there is an image file in a folder or below it."""
    return any(os.path.splitext(name)[1].lower() in suffixes() for name in _files(root))


def _files(root: Path) -> Iterator[str]:
    """Names below ``root`` of the files in it. Raises OSError for a folder that may not be read.

    A folder is read once per class, whatever links lead to it. Links to another class or above the root are not followed.
    """
    above = _above(root)
    seen = set(above)
    for folder, inner, files in os.walk(root, followlinks=True, onerror=_raise):
        below = os.path.relpath(folder, root) + os.sep if folder != str(root) else ""
        known = seen if below else above  # in the root itself, two links may lead to one folder
        new = {name: _identity(Path(folder, name)) for name in inner if not name.startswith(".")}
        inner[:] = []
        for name, identity in new.items():
            if identity not in known:
                seen.add(identity)
                inner.append(name)
        yield from (below + name for name in files if not name.startswith("."))


def _above(root: Path) -> set[tuple[int, int]]:
    """The identities of a folder and all its parents."""
    root = root.resolve()
    return {_identity(folder) for folder in (root, *root.parents)}


def _identity(folder: Path) -> tuple[int, int]:
    """Device and number of a folder: the same whatever link leads to it."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _raise(error: OSError) -> None:
    raise error
