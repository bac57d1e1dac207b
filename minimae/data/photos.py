"""Natural photographs that come with scikit-image and scikit-learn, cut into crops of many scales.

Seven colour photographs give thousands of crops, enough to see a masked autoencoder learn texture and edges, offline. A third of each
photograph, at one side, is set aside: test crops come from there, training crops from the rest, and no pixel is in both.
The label is the photograph. :func:`make_folder` writes them as a small ImageNet of real JPEGs, to try commands on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..random import uniforms
from .decoding import encode, read_file
from .images import Images
from .optional import folder_of, need

COUNTS = {"train": 4_200, "test": 700}
TEST_IDS = 1_000_000_000  # sample ids of test crops start here, so that no two crops share one
PHOTOGRAPHS = {  # the library, the file in it, and the side set aside for testing
    "astronaut": ("skimage", "data/astronaut.png", "right"),
    "chelsea": ("skimage", "data/chelsea.png", "left"),
    "china": ("sklearn", "datasets/images/china.jpg", "lower"),
    "coffee": ("skimage", "data/coffee.png", "right"),
    "flower": ("sklearn", "datasets/images/flower.jpg", "lower"),
    "motorcycle": ("skimage", "data/motorcycle_left.png", "right"),  # the right one of the stereo pair shows the same
    "rocket": ("skimage", "data/rocket.jpg", "lower"),
}
SIZES = ((375, 500), (333, 500), (500, 375), (500, 500), (300, 400))  # height and width that are common in ImageNet


def photograph(name: str) -> Tensor:
    """A whole photograph: uint8 ``h w c`` in RGB. Reads the file in the library's folder; no network, no import of the library.

    Raises ImportError when the library is not installed, FileNotFoundError when it lacks the picture.
    """
    if name not in PHOTOGRAPHS:
        raise ValueError(f"unknown photograph {name!r}; known: {', '.join(PHOTOGRAPHS)}")
    library, file, _ = PHOTOGRAPHS[name]
    path = folder_of(library, why=f"the photograph {name!r}") / file
    if not path.is_file():
        raise FileNotFoundError(f'{library} is installed without {path}: pip install --force-reinstall "minimae[book]"')
    return torch.from_numpy(np.array(read_file(path, channels=3)))


def region(name: str, split: str, height: int, width: int) -> tuple[int, int, int, int]:
    """The part (top, left, height, width) of a photograph of ``height`` × ``width`` pixels that belongs to a split."""
    side = PHOTOGRAPHS[name][2]
    if side == "lower":
        cut = 2 * height // 3
        return (0, 0, cut, width) if split == "train" else (cut, 0, height - cut, width)
    cut = width // 3 if side == "left" else 2 * width // 3
    return (0, cut, height, width - cut) if (side == "left") == (split == "train") else (0, 0, height, cut)


def squares(ids: Tensor, part: tuple[int, int, int, int], image: int, *, seed: int = 0) -> Tensor:
    """Square crops (top, left, side) inside a part of a photograph: ids ``b`` → int64 ``b 3``, in pixels.

    The side is log-uniform between ``image`` and the largest that fits (a small part may force enlarging), the position uniform.
    """
    top, left, height, width = part
    largest = min(height, width)
    smallest = min(image, largest)
    u = uniforms(seed, "photos", 0, ids, 3)
    side = (smallest * (largest / smallest) ** u[:, 0]).round().clamp(smallest, largest)
    y, x = top + (u[:, 1] * (height - side + 1)).floor(), left + (u[:, 2] * (width - side + 1)).floor()
    return torch.stack([y, x, side], dim=1).long()


def photos(split: str = "train", *, image: int = 96, count: int | None = None, seed: int = 0) -> Images:
    """``count`` crops (default: 4,200 for train, 700 for test) of ``image`` × ``image`` pixels, the photographs in turn.

    A crop is a function of (seed, sample id, image): the first hundred are the same whatever the count.
    """
    if split not in COUNTS:
        raise ValueError(f"photos has the splits {', '.join(COUNTS)}, not {split!r}")
    count = COUNTS[split] if count is None else count
    if min(count, image) < 1:
        raise ValueError(f"count {count} and image {image} must be at least 1")
    names = tuple(PHOTOGRAPHS)
    ids = torch.arange(count) + (TEST_IDS if split == "test" else 0)
    labels = torch.arange(count) % len(names)
    pixels = torch.empty(count, image, image, 3, dtype=torch.uint8)
    for label, name in enumerate(names[:count]):
        whole = photograph(name).numpy()
        index = (labels == label).nonzero()[:, 0]
        crops = squares(ids[index], region(name, split, *whole.shape[:2]), image, seed=seed)
        for i, (top, left, side) in zip(index, crops.tolist(), strict=True):
            pixels[i] = torch.from_numpy(np.array(_resized(whole[top : top + side, left : left + side], image, image)))
    return Images("photos", pixels.permute(0, 3, 1, 2).contiguous(), labels, names, ids)


def _resized(crop: np.ndarray, height: int, width: int) -> Any:
    """A crop as a Pillow image. It is cut first: a resize with a box would look beyond the edge, into the other split."""
    Image = need("PIL.Image", why="resizing photographs")
    return Image.fromarray(crop).resize((width, height), Image.Resampling.BICUBIC)


def make_folder(
    root: Path, *, classes: int = 4, train: int = 16, val: int = 4, share: float = 1.0, quality: int = 95, seed: int = 0
) -> Path:
    """Write ``root/{train,val}/n00000001 …/*.JPEG``: ``train`` and ``val`` images of each class; returns ``root``.

    Each class is one of the seven photographs in turn, each image a part of it, at sizes as in ImageNet times ``share``. No part is in
    both splits. The same arguments write the same files. Raises ImportError when the photographs are not installed.
    """
    if min(classes, train, val) < 1 or not 0 < share <= 8:
        raise ValueError(f"classes {classes}, train {train} and val {val} must be at least 1, and share {share} between 0 and 8")
    for label in range(classes):
        name, wnid = list(PHOTOGRAPHS)[label % len(PHOTOGRAPHS)], f"n{label + 1:08d}"
        whole = photograph(name).numpy()
        for folder, split, count, first in (("train", "train", train, 0), ("val", "test", val, TEST_IDS)):
            top, left, height, width = region(name, split, *whole.shape[:2])
            (root / folder / wnid).mkdir(parents=True, exist_ok=True)
            ids = first + label * 100_000 + torch.arange(count)
            for i, (size, room, down, across) in enumerate(uniforms(seed, "photos", 1, ids, 4).tolist()):
                h, w = (max(8, round(share * side)) for side in SIZES[int(size * len(SIZES))])
                scale = (0.5 + 0.5 * room) * min(height / h, width / w)
                tall, wide = max(1, int(scale * h)), max(1, int(scale * w))
                y, x = top + int(down * (height - tall + 1)), left + int(across * (width - wide + 1))
                picture = _resized(whole[y : y + tall, x : x + wide], h, w)
                (root / folder / wnid / f"{wnid}_{i}.JPEG").write_bytes(encode(picture, quality))
    return root
