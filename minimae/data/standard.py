"""The usual small datasets by name, through torchvision: read from a folder, or downloaded into it when that is asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange

from ..model.patches import Pair
from .access import from_system
from .files import from_files
from .folder import Listing
from .images import Images
from .optional import need


@dataclass(frozen=True)
class Standard:
    """How torchvision calls a dataset, in which folder below the root it lies, and how it calls the splits."""

    cls: str
    folder: str
    splits: dict[str, dict[str, Any]]


_TRAIN = {"train": {"train": True}, "test": {"train": False}}
STANDARD = {
    "cifar10": Standard("CIFAR10", "cifar-10-batches-py", _TRAIN),
    "cifar100": Standard("CIFAR100", "cifar-100-python", _TRAIN),
    "stl10": Standard(
        "STL10", "stl10_binary", {"train": {"split": "train"}, "test": {"split": "test"}, "unlabelled": {"split": "unlabeled"}}
    ),
    "imagenette": Standard("Imagenette", "imagenette2", {"train": {"split": "train"}, "test": {"split": "val"}}),
    "flowers102": Standard("Flowers102", "flowers-102", {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}}),
    "pets": Standard("OxfordIIITPet", "oxford-iiit-pet", {"train": {"split": "trainval"}, "test": {"split": "test"}}),
}
VARIED = ("imagenette", "flowers102", "pets")  # pictures of many sizes


def standard(
    name: str,
    split: str,
    root: Path,
    *,
    image: int | Pair | None = None,
    download: bool = False,
    skip_corrupt: bool = False,
    limit: int | None = None,
) -> Images:
    """One split of a standard dataset. Imagenette, Flowers and Pets hold pictures of many sizes: for them ``image`` is the size
    to decode to, and ``limit`` spares the decoding of the rest. The CIFARs and STL-10 come whole, as they are.

    Raises FileNotFoundError, with the folder and the command that fetches it, when the dataset is not below ``root``.
    """
    if name not in VARIED:
        dataset = _open(name, split, root, download)
        classes = tuple(dataset.classes)
        layout = "n c h w -> n c h w" if name == "stl10" else "n h w c -> n c h w"
        pixels = torch.from_numpy(rearrange(dataset.data, layout).copy())
        labels = None if split == "unlabelled" else torch.tensor(list(dataset.labels if name == "stl10" else dataset.targets))
        return Images(name, pixels, None if labels is None else labels.long(), classes)
    found = listed(name, split, root, download=download)
    paths = [found.root / file for file in found.names]
    return from_files(name, paths, found.labels, found.classes, image=image, skip_corrupt=skip_corrupt, limit=limit)


def listed(name: str, split: str, root: Path, *, download: bool = False) -> Listing:
    """The files of one split of a standard dataset whose pictures have many sizes. Raises as :func:`standard` does."""
    dataset = _open(name, split, root, download)
    classes = tuple(c if isinstance(c, str) else c[0] for c in dataset.classes)  # Imagenette has several names for a class
    if name == "imagenette":
        paths, targets = [Path(p) for p, _ in dataset._samples], [label for _, label in dataset._samples]
    else:
        paths, targets = [Path(p) for p in (dataset._image_files if name == "flowers102" else dataset._images)], dataset._labels
    return Listing(root, [os.path.relpath(path, root) for path in paths], list(targets), classes, list(range(len(paths))))


def _open(name: str, split: str, root: Path, download: bool) -> Any:
    """torchvision's dataset object, or an error that says what to do."""
    known = STANDARD[name]
    datasets = need("torchvision.datasets", why=name)
    if name == "flowers102":
        need("scipy.io", why="flowers102", extra="book")  # its labels are Matlab files
    try:
        return getattr(datasets, known.cls)(root, download=download, **known.splits[split])
    except (OSError, RuntimeError) as error:  # RuntimeError is how torchvision says "not found or damaged"
        if from_system(error) and not isinstance(error, FileNotFoundError):
            raise
        if download:
            raise OSError(f"{name} could not be downloaded into {root} ({error}); or put it into {root / known.folder} yourself") from error
        raise FileNotFoundError(
            f"{name} is not, or not wholly, in {root / known.folder}: fetch it with `minimae data {name} --download`, "
            "or say where it is with --data-root (root= in Python)"
        ) from error
