"""Every set of images by name or folder: :func:`load` gives pixels of one size in memory, :func:`open_images` what a run trains on."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import nearest
from ..lazy import submodules
from ..model.checks import check_sides
from ..model.patches import Pair, pair
from . import fashion, files, folder, photos, shapes, standard
from .arrays import channel_range, from_array
from .choose import choose
from .images import Images
from .opening import open_images
from .shapes import Scenes
from .standard import STANDARD

DOWNLOADS = Path("data/downloads")  # under the current directory

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

__all__ = ["DOWNLOADS", "NAMES", "Images", "Scenes", "channel_range", "from_array", "load", "open_images", "splits"]


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
    """A named set (see ``NAMES``) or a folder of pictures → Images. A folder named like a set is ``./cifar10`` or a Path.

    root: where datasets lie and are downloaded to; by default ``data/downloads`` under the current directory.
    image: height and width in pixels, or one number for both. Every picture is shown as evaluation sees it (:func:`.views.evaluated`):
    the middle of it, resized. Sets of varied sizes want it. To train on crops of whole pictures use :func:`open_images`.
    Scenes that are not square come without masks and boxes.
    channels: 1 (grey) or 3 (colour). bits: how many bits of deeper pictures in a folder are used (:mod:`.depth`).
    download: fetch what is missing. skip_corrupt: leave damaged files out and list them in ``skipped``.
    limit: at most that many images, as many of each class as it goes, always the same ones; of ``shapes`` that many are drawn.
    Raises ValueError for an unknown name, split or value and for damaged data, FileNotFoundError for what is not there.
    """
    if image is not None:
        check_sides("image", image)
    if not isinstance(name, str | Path):
        raise ValueError(f"a set of images is a name or a folder, not {name!r}")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
        raise ValueError(f"limit is a whole number of images, not {limit!r}")
    root = DOWNLOADS if root is None else Path(root)
    for what, least in (("image", None if image is None else min(pair(image))), ("limit", limit)):
        if least is not None and least < 1:
            raise ValueError(f"{what} must be at least 1, not {image if what == 'image' else limit}")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (colour), not {channels}")
    if isinstance(name, Path) or name not in NAMES:
        where = Path(name).expanduser()
        if isinstance(name, str) and not where.exists() and not name.startswith((".", "~")) and len(where.parts) == 1:
            raise ValueError(f"unknown dataset {name!r}, and there is no such folder{nearest(name, NAMES)}")
        images = folder.folder(where, split, image=image, channels=channels, bits=bits, skip_corrupt=skip_corrupt, limit=limit)
        print(*images.notes, sep="\n", end="\n" * bool(images.notes), file=sys.stderr)
        return images
    if split not in splits(name):
        raise ValueError(f"{name} has the splits {', '.join(splits(name))}, not {split!r}")
    if name in STANDARD:
        images = standard.standard(name, split, root, image=image, download=download, skip_corrupt=skip_corrupt, limit=limit)
    elif name == "photos":
        images = photos.photos(split, **({} if image is None else {"image": max(pair(image))}))
    elif name == "shapes":
        images = shapes.shapes(split=split, count=limit, **({} if image is None else {"image": max(pair(image))}))
    else:
        images = fashion.sample(split) if name == "fashion" else fashion.complete(split, root, download=download)
    return _as_wanted(images, image, channels, limit)


def _as_wanted(images: Images, image: int | Pair | None, channels: int | None, limit: int | None) -> Images:
    """Choose, resize and convert what came in another number, size or colour."""
    if limit is not None and limit < len(images):
        images = images.subset(choose(images.labels, len(images), limit).sort().values)
    pixels = images.pixels if image is None else files.resize(images.pixels, image)
    if isinstance(images, Scenes) and pixels.shape[2:] != images.pixels.shape[2:]:  # their masks and boxes are those of the whole scene
        images = Images(images.name, images.pixels, images.labels, images.classes, images.ids)
    pixels = pixels if channels is None else files.convert(pixels, channels)
    return images if pixels is images.pixels else replace(images, pixels=pixels)


if not TYPE_CHECKING:  # minimae.data.NAME without importing it first
    __getattr__, __dir__ = submodules(__name__, __path__)
