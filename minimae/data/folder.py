"""Your own pictures: a folder of images, with or without classes and splits.

Understood are ``root/<class>/*.jpg``, ``root/{train,val,test}/<class>/*.jpg``, and pictures lying flat in ``root`` or
``root/{train,val,test}``, which then have no labels. Labels follow the sorted names of the classes, and a sample id is the place
of its file in the sorted list of the split: stable as long as no file is added or removed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .choose import held_out
from .files import from_files
from .images import Images
from .scan import class_of, folders_in, holds_pictures, scan

SPLITS = {"train": ("train",), "val": ("val",), "test": ("test", "val")}  # without a test folder, val is tested on
CALLED = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test",
}  # fmt: skip
HOLD_OUT = 0.2  # share of each class for testing, where a folder has no test part


@dataclass(frozen=True)
class Listing:
    """The image files of one split: their names below ``root`` (sorted), a label for each or None, and the names of the classes.

    ids: the sample id of each. notes: what was left out or held out, a line each.
    """

    root: Path
    names: list[str]
    labels: list[int] | None
    classes: tuple[str, ...]
    ids: list[int]
    notes: tuple[str, ...] = ()

    def part(self, keep: list[bool], note: str) -> Listing:
        """Some of the files, which keep their sample ids."""
        which = [i for i, kept in enumerate(keep) if kept]
        labels = None if self.labels is None else [self.labels[i] for i in which]
        names, ids = [self.names[i] for i in which], [self.ids[i] for i in which]
        return replace(self, names=names, labels=labels, ids=ids, notes=(*self.notes, note))


def no_folder(root: Path) -> FileNotFoundError:
    """The error for a folder that is not there; it names the whole path too where that is another one."""
    whole = root.resolve()
    return FileNotFoundError(f"no folder {root}" + (f" (looked for {whole})" if whole != root else ""))


def folder(
    root: Path,
    split: str = "train",
    *,
    hold_out: float | None = None,
    name: str | None = None,
    **how: Any,
) -> Images:
    """Read the pictures of one split from a folder into memory; ``how`` is that of :func:`.files.from_files`.

    Raises as :func:`listing` and :func:`.files.from_files` do.
    """
    found = listing(root, split, hold_out=hold_out)
    paths = [found.root / file for file in found.names]
    return from_files(name or root.resolve().name, paths, found.labels, found.classes, ids=found.ids, notes=found.notes, **how)


def listing(root: Path, split: str = "train", *, hold_out: float | None = None, seed: int = 0) -> Listing:
    """Find the pictures of one split of a folder, without opening them.

    hold_out: where class folders come without a test part, this share of each class (0.2) is the test split, chosen by the seed, and the
    others are the training split. By default all pictures are the training split, and there is no other.

    Raises FileNotFoundError when the folder, the split or the pictures are not there, ValueError for an empty class, for
    classes that are not those of the training split, for pictures that lie beside class folders, and for folders of which it is not
    clear whether they are classes or splits.
    """
    if split not in SPLITS:
        raise ValueError(f"a folder has the splits {', '.join(SPLITS)}, not {split!r}")
    if not root.is_dir():
        raise no_folder(root)
    parts = splits_of(root)
    if hold_out is not None and not any(name in parts for name in SPLITS["test"]) and split != "val":
        return _with_test_part(listing(root), split, hold_out, seed)
    found = _folder_of(root, parts, split)
    classes = folders_in(found)
    if split != "train" and "train" in parts and classes != folders_in(root / parts["train"]):
        raise ValueError(_difference(root / parts["train"], found))
    names, others = scan(found)
    notes = _notes(root, parts, others)
    if not names:
        raise FileNotFoundError(f"no pictures in {found} (looked for .jpg, .png and all others that Pillow reads){'; '.join(('', *notes))}")
    labels = _labels(found, names, classes) if classes else None
    return Listing(found, names, labels, tuple(classes), list(range(len(names))), notes)


def splits_of(root: Path) -> dict[str, str]:
    """The folders of a root that are splits: train, val or test → the folder's name. Empty where all are classes, or there are none."""
    named: dict[str, str] = {}
    for name in folders_in(root):
        meant = CALLED.get(name.lower())
        if meant in named:
            raise ValueError(f"{root} holds {named[meant]} and {name}, two folders for one split: remove or rename one")
        if meant is not None:
            named[meant] = name
    others = [name for name in folders_in(root) if name not in named.values() and holds_pictures(root / name)]
    if not named or not others:
        return named
    divided = [name for name in named.values() if any(holds_pictures(root / name / inner) for inner in folders_in(root / name))]
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
    found = next((parts[name] for name in SPLITS[split] if name in parts), None)
    if found is not None:
        return root / found
    if parts:
        beside = ", ".join(parts.values())
        raise FileNotFoundError(f"{root} has no folder {' or '.join(SPLITS[split])} beside {beside}, so there is no {split} split")
    raise FileNotFoundError(f"{root} has no folders train and {split}, so there is no {split} split: move the images into such folders")


def _labels(found: Path, names: list[str], classes: list[str]) -> list[int]:
    """The label of each picture: the index of its class folder in sorted order."""
    owners = [class_of(name) for name in names]
    if None in owners:
        beside = names[owners.index(None)]
        raise ValueError(f"{found} holds class folders, and pictures beside them such as {beside}: move those into a class")
    if empty := sorted(set(classes) - set(owners)):
        raise ValueError(f"no pictures in {found / empty[0]}: fill or remove that class folder")
    label_of: dict[str | None, int] = {name: label for label, name in enumerate(classes)}
    return [label_of[owner] for owner in owners]


def _with_test_part(found: Listing, split: str, share: float, seed: int) -> Listing:
    """The training or the test split of a folder without one."""
    if found.labels is None:
        raise ValueError(f"{found.root} has no class folders, so no labels; accuracy needs one folder per class")
    test = held_out(torch.tensor(found.labels), share, seed=seed)
    held = f"{int(test.sum()):,} of {len(test):,} pictures, {share:.0%} of each class"
    note = f"{found.root} has no test part: {held}, are held out to test on; they are the same every time"
    return found.part(test.tolist() if split == "test" else (~test).tolist(), note)


def _notes(root: Path, parts: dict[str, str], others: Counter[str]) -> tuple[str, ...]:
    """Files and folders that were ignored, one line each."""
    notes = []
    if others:
        kinds = ", ".join(f"{suffix} {count:,}" for suffix, count in others.most_common(5)) + (", …" if len(others) > 5 else "")
        notes.append(f"{root}: left out {others.total():,} file(s) whose names are not those of pictures ({kinds})")
    beside = [name for name in folders_in(root) if name not in parts.values() and holds_pictures(root / name)] if parts else []
    if beside:
        notes.append(f"{root}: left out the folder(s) {', '.join(beside[:5])} beside {', '.join(parts.values())}")
    return tuple(notes)


def _difference(train: Path, other: Path) -> str:
    ours, theirs = set(folders_in(train)), set(folders_in(other))
    sides = ((train, ours - theirs), (other, theirs - ours))
    parts = [f"only in {where.name}: {', '.join(sorted(names))}" for where, names in sides if names]
    return f"{train} and {other} must have the same classes; {'; '.join(parts)}"
