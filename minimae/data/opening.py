"""Open sets of images by name or folder: :func:`load` gives pixels of one size in memory, :func:`open_images` what a run trains on."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import nearest
from ..model.checks import check_sides
from ..model.patches import Pair, pair
from .fashion import complete, sample
from .files import ImageFiles, SizesDiffer, convert, read_images, resize, with_channels
from .images import Images
from .photos import photos
from .shapes import shapes
from .standard import STANDARD, VARIED, listed, standard
from .stream import open_stream
from .types import ImageDataset

ReadFrom = Literal["auto", "memory", "files"]

DOWNLOADS = Path("data/downloads")  # under the current directory
HOLD_OUT = 0.2  # share of each class for testing, where a folder has no test part
IN_MEMORY = 2e9  # images are held in memory up to this many bytes of pixels
LARGEST = 512 * 512  # and up to this many pixels each: larger ones are cheaper to crop while decoding

NAMES = {
    "fashion": "10,000 + 2,000 grey photographs of clothes, 28 px, 10 classes; comes with minimae",
    "fashion-full": "60,000 + 10,000: the complete Fashion-MNIST, 30 MB to fetch",
    "photos": "4,200 + 700 crops of seven colour photographs, 96 px; comes with scikit-image and scikit-learn",
    "shapes": "2,000 + 500 drawn scenes, 64 px, 6 classes, with semantic masks, instance masks and boxes; made on the spot",
    "cifar10": "50,000 + 10,000 colour photographs, 32 px, 10 classes, 170 MB to fetch",
    "cifar100": "50,000 + 10,000 colour photographs, 32 px, 100 classes, 170 MB to fetch",
    "stl10": "5,000 + 8,000 colour photographs, 96 px, 10 classes, and 100,000 without labels (split unlabelled), 2.6 GB to fetch",
    "imagenette": "9,469 + 3,925 colour photographs of varied size, 10 easy classes of ImageNet, 1.5 GB to fetch",
    "flowers102": "1,020 + 1,020 (val) + 6,149 photographs of flowers of varied size, 102 classes, 350 MB to fetch",
    "pets": "3,680 + 3,669 photographs of cats and dogs of varied size, 37 breeds, 800 MB to fetch",
}


def splits(name: str) -> tuple[str, ...]:
    """The splits of a named set."""
    return tuple(STANDARD[name].splits) if name in STANDARD else ("train", "test")


def load(
    name: str | Path,
    split: str = "train",
    *,
    root: str | Path | None = None,
    image: int | Pair | None = None,
    channels: int | None = None,
    bits: int | None = None,
    download: bool = False,
    skip_corrupt: bool = False,
    limit: int | None = None,
) -> Images:
    """A named set (see ``NAMES``) or a folder of pictures → Images. For a folder named like a set write ``./cifar10`` or a Path.

    root: the folder where named sets are stored and downloaded to; by default ``data/downloads`` under the current directory.
    image: height and width in pixels, or one number for both. Every picture becomes what evaluation sees (:func:`.views.evaluated`):
    its middle, resized. Sets with pictures of several sizes need this option. To train on crops of whole pictures use :func:`open_images`.
    Scenes that are not square come without masks and boxes.
    channels: 1 (grey) or 3 (colour). bits: how many bits of deeper pictures in a folder are used, if their files do not state it.
    download: fetch what is missing. skip_corrupt: leave damaged files out and list them in ``skipped``.
    limit: at most this many images, evenly from all classes and always the same; for ``shapes``, this many are drawn.
    Raises ValueError for an unknown name, split or value and for damaged data, FileNotFoundError for missing data.
    """
    images = _find(name, split, root=root, image=image, channels=channels, bits=bits, download=download, limit=limit)
    if isinstance(images, Images):
        return images
    print(*images.notes, sep="\n", end="\n" * bool(images.notes), file=sys.stderr)
    return read_images(images, image=image, skip_corrupt=skip_corrupt)


def open_images(
    name: str | Path,
    split: str = "train",
    *,
    image: int | Pair | None = None,
    read_from: ReadFrom = "auto",
    skip_corrupt: bool = False,
    **options: Any,
) -> ImageDataset:
    """A named set, a folder of pictures or one of packed shards → images to train on or to evaluate, in the size they are stored in.

    Training crops from that size, and evaluation resizes it. image: the size of the model, for the sets that are drawn for one.
    read_from: "memory" holds the pixels of images of one size, and the files of others; "files" reads them when they are needed; "auto"
    takes memory for images of one size that fit. This affects the speed only: statistics, crops and evaluation are the same.
    options: those of :func:`load`, and ``labelled``: hold out a part of each class to test on where a folder has no test part
    (:func:`.stream.open_stream`).
    """
    if read_from not in get_args(ReadFrom):
        raise ValueError(f"read_from is {', '.join(get_args(ReadFrom))}, not {read_from!r}")
    whole = isinstance(name, str) and name in NAMES and name not in VARIED
    if whole and read_from == "files":
        raise ValueError(f"--read-from files is for folders and packed shards; {name} is read into memory")
    images = _find(name, split, image=image if not whole or name in ("photos", "shapes") else None, **options)
    if isinstance(images, Images):
        return images
    if read_from != "files" and images.span is None and _fits(images, read_from):
        try:
            return read_images(images, skip_corrupt=skip_corrupt)
        except SizesDiffer:
            pass
    return images.buffered() if read_from == "memory" else images


def _fits(files: ImageFiles, read_from: ReadFrom) -> bool:
    """Whether the pixels of these images can be held in memory, if all have the size of the first that can be read."""
    height, width = files.first_size()
    return height * width <= LARGEST and (read_from == "memory" or len(files) * height * width * files.channels <= IN_MEMORY)


def _find(
    name: str | Path,
    split: str,
    *,
    root: str | Path | None = None,
    image: int | Pair | None = None,
    channels: int | None = None,
    bits: int | None = None,
    labelled: bool = False,
    download: bool = False,
    limit: int | None = None,
) -> Images | ImageFiles:
    """Images of one size, resized, limited and converted; or files that are not decoded yet."""
    _check(name, image, limit, channels)
    if isinstance(name, Path) or name not in NAMES:
        path = Path(name).expanduser()
        if isinstance(name, str) and not path.exists() and not name.startswith((".", "~")) and len(path.parts) == 1:
            raise ValueError(f"unknown dataset {name!r}, and there is no such folder{nearest(name, NAMES)}")
        files = open_stream(path, split, channels=channels, bits=bits, hold_out=HOLD_OUT if labelled else None, limit=limit)
        return replace(files, name=path.resolve().name)
    if split not in splits(name):
        raise ValueError(f"{name} has the splits {', '.join(splits(name))}, not {split!r}")
    root = DOWNLOADS if root is None else Path(root)
    if name in VARIED:
        return with_channels(listed(name, split, root, download=download), channels).limited(limit)
    size: dict[str, Any] = {} if image is None else {"image": max(pair(image))}
    if name == "photos":
        images = photos(split, **size)
    elif name == "shapes":
        images = shapes(split=split, count=limit, **size)
    elif name == "fashion":
        images = sample(split)
    else:
        images = (complete if name == "fashion-full" else standard)(name, split, root, download=download)
    images = images.limited(limit)
    if image is not None and images.image != pair(image):
        images = Images(name, resize(images.pixels, image), images.labels, images.classes, images.ids)
    return images if channels is None else replace(images, pixels=convert(images.pixels, channels))


def _check(name: Any, image: Any, limit: Any, channels: int | None) -> None:
    if not isinstance(name, str | Path):
        raise ValueError(f"a set of images is a name or a folder, not {name!r}")
    if image is not None:
        check_sides("image", image)
        if min(pair(image)) < 1:
            raise ValueError(f"image must be at least 1, not {image}")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
        raise ValueError(f"limit is a whole number of images, not {limit!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (colour), not {channels}")
