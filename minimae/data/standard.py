"""The usual small datasets by name, through torchvision: read from a folder, or downloaded into it on request."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .files import ImageFiles
from .folder import files_of
from .images import Images
from .optional import need


@dataclass(frozen=True)
class Standard:
    """torchvision's name of a dataset, its folder below the root, and torchvision's arguments for each split."""

    cls: str
    folder: str
    splits: dict[str, dict[str, Any]]


def _splits(**theirs: str) -> dict[str, dict[str, Any]]:
    return {split: {"split": name} for split, name in theirs.items()}


_TRAIN = {"train": {"train": True}, "test": {"train": False}}
STANDARD = {
    "cifar10": Standard("CIFAR10", "cifar-10-batches-py", _TRAIN),
    "cifar100": Standard("CIFAR100", "cifar-100-python", _TRAIN),
    "stl10": Standard("STL10", "stl10_binary", _splits(train="train", test="test", unlabelled="unlabeled")),
    "imagenette": Standard("Imagenette", "imagenette2", _splits(train="train", test="val")),
    "flowers102": Standard("Flowers102", "flowers-102", _splits(train="train", val="val", test="test")),
    "pets": Standard("OxfordIIITPet", "oxford-iiit-pet", _splits(train="trainval", test="test")),
}
VARIED = ("imagenette", "flowers102", "pets")  # pictures of many sizes


def standard(name: str, split: str, root: Path, *, download: bool = False) -> Images:
    """One split of a standard dataset whose pictures have one size: the CIFARs and STL-10.

    Raises FileNotFoundError, with the folder and the command that fetches it, when the dataset is not below ``root``.
    """
    dataset = _open(name, split, root, download)
    stl10 = name == "stl10"
    pixels = dataset.data if stl10 else np.moveaxis(dataset.data, 3, 1)
    labels = None if split == "unlabelled" else dataset.labels if stl10 else dataset.targets
    return Images(name, torch.from_numpy(pixels.copy()), labels, tuple(dataset.classes))


def listed(name: str, split: str, root: Path, *, download: bool = False) -> ImageFiles:
    """The files of one split of a standard dataset whose pictures have many sizes. Raises as :func:`standard` does."""
    dataset = _open(name, split, root, download)
    classes = tuple(c if isinstance(c, str) else c[0] for c in dataset.classes)  # Imagenette has several names for a class
    if name == "imagenette":
        paths, labels = zip(*dataset._samples, strict=True)
    else:
        paths, labels = dataset._image_files if name == "flowers102" else dataset._images, dataset._labels
    return files_of(name, root, [os.path.relpath(path, root) for path in paths], labels, classes)


def _open(name: str, split: str, root: Path, download: bool) -> Any:
    """torchvision's dataset. Raises an error that says what to do."""
    known = STANDARD[name]
    datasets = need("torchvision.datasets", why=name)
    if name == "flowers102":
        need("scipy.io", why="flowers102")  # its labels are Matlab files
    try:
        return getattr(datasets, known.cls)(root, download=download, **known.splits[split])
    except (OSError, RuntimeError) as error:  # RuntimeError is how torchvision says "not found or damaged"
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError):  # the system refused
            raise
        folder = root / known.folder
        if download:
            raise OSError(f"{name} could not be downloaded into {root} ({error}); or put it into {folder} yourself") from error
        raise FileNotFoundError(
            f"{name} is missing or incomplete in {folder}: fetch it with `minimae data {name} --download`, "
            "or say where it is with --data-root (root= in Python)"
        ) from error
