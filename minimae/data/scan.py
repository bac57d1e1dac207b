"""Find the image files below a folder: hidden ones are left out, links are followed, but never in a circle."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from .optional import need

# What Pillow registers besides pictures: videos, drawings that need another program, and containers that it does not read by itself.
NO_PICTURES = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"})

Identity = tuple[int, int]  # device and number of a folder, the same whatever link leads to it


@cache
def suffixes() -> frozenset[str]:
    """The endings of all files that Pillow reads as pictures here, those of its plugins included: .jpg, .jfif, .webp …"""
    Image = need("PIL.Image", why="reading image files")
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in known.items() if kind in Image.OPEN and kind not in NO_PICTURES)


def scan(root: Path) -> tuple[list[str], Counter[str]]:
    """Names below a folder of all image files in it, sorted; and how many other files there are, by their ending.

    Strings instead of Paths, because ImageNet has 1.3 million files. A folder is read once per class, whatever links lead to it, and
    links to another class or above the root are not followed.
    """
    above = _above(root)
    seen = above | {_identity(root / name) for name in folders_in(root)}
    found: list[str] = []
    others: Counter[str] = Counter()
    for name in _files(root, "", above, seen):
        suffix = os.path.splitext(name)[1].lower()
        if suffix in suffixes():
            found.append(name)
        else:
            others[suffix or "no ending"] += 1
    return sorted(found, key=lambda name: name.split(os.sep)), others


def holds_pictures(root: Path) -> bool:
    """Whether there is an image file in a folder or below it."""
    above = _above(root)
    return any(os.path.splitext(name)[1].lower() in suffixes() for name in _files(root, "", above, set(above)))


def folders_in(root: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones and links to a folder above are left out."""
    with os.scandir(root) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".") and os.path.isdir(entry)]
    above = _above(root) if any(os.path.islink(root / name) for name in names) else set()
    return sorted(name for name in names if _identity(root / name) not in above)


def class_of(name: str) -> str | None:
    """The class folder of a file by its name below the root; None where it lies in the root itself."""
    owner, sep, _ = name.partition(os.sep)
    return owner if sep else None


def _files(root: Path, below: str, above: set[Identity], seen: set[Identity]) -> Iterator[str]:
    """Names below ``root`` of the files in ``root/below`` and deeper. Raises OSError for a folder that may not be read."""
    with os.scandir(root / below) as entries:
        for entry in entries:
            name = below + entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_file(follow_symlinks=False) or not os.path.isdir(entry):
                yield name
                continue
            known = _identity(Path(entry))
            if known in (above if not below else seen):  # in the root itself, two links may lead to one folder
                continue
            seen.add(known)
            yield from _files(root, name + os.sep, above, seen)


def _above(root: Path) -> set[Identity]:
    """The folder and all its parents."""
    root = root.resolve()
    return {_identity(folder) for folder in (root, *root.parents)}


def _identity(folder: Path) -> Identity:
    status = os.stat(folder)
    return status.st_dev, status.st_ino
