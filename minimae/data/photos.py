"""Natural photographs that scikit-image and scikit-learn bring along, cut into crops of many scales.

Seven colour photographs, thousands of crops: enough to see a masked autoencoder learn texture and edges, offline. A part of each
photograph (a third at one side) is set aside: test crops come from there, training crops from the rest, and no pixel is in both.
The label is the photograph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..random import uniforms
from .decoding import read_file
from .images import Images
from .optional import folder_of, need

COUNTS = {"train": 4_200, "test": 700}
TEST_IDS = 1_000_000_000  # sample ids of test crops start here, so that no two crops share one


@dataclass(frozen=True)
class Photograph:
    """Where a photograph lies in its library, and which third of it is for testing: left, right or lower, where there is much to see."""

    library: str
    file: str
    held_out: str = "right"


PHOTOGRAPHS = {
    "astronaut": Photograph("skimage", "data/astronaut.png"),
    "chelsea": Photograph("skimage", "data/chelsea.png", "left"),
    "china": Photograph("sklearn", "datasets/images/china.jpg", "lower"),
    "coffee": Photograph("skimage", "data/coffee.png"),
    "flower": Photograph("sklearn", "datasets/images/flower.jpg", "lower"),
    "motorcycle": Photograph("skimage", "data/motorcycle_left.png"),  # the right one of the stereo pair shows the same
    "rocket": Photograph("skimage", "data/rocket.jpg", "lower"),
}


def photograph(name: str) -> Tensor:
    """A whole photograph: uint8 ``h w c`` in RGB. Reads the file in the library's folder; no network, no import of the library.

    Raises ImportError when the library is not installed, FileNotFoundError when it came without the picture.
    """
    if name not in PHOTOGRAPHS:
        raise ValueError(f"unknown photograph {name!r}; known: {', '.join(PHOTOGRAPHS)}")
    known = PHOTOGRAPHS[name]
    path = folder_of(known.library, why=f"the photograph {name!r}", extra="book") / known.file
    if not path.is_file():
        raise FileNotFoundError(f'{known.library} is installed without {path}: pip install --force-reinstall "minimae[book]"')
    return torch.from_numpy(np.array(read_file(path, channels=3)))


def region(name: str, split: str, height: int, width: int) -> tuple[int, int, int, int]:
    """The part (top, left, height, width) of a photograph of ``height`` × ``width`` pixels that belongs to a split."""
    side = PHOTOGRAPHS[name].held_out
    if side == "lower":
        cut = 2 * height // 3
        return (0, 0, cut, width) if split == "train" else (cut, 0, height - cut, width)
    cut = width // 3 if side == "left" else 2 * width // 3
    left_part, right_part = (0, 0, height, cut), (0, cut, height, width - cut)
    return right_part if (side == "left") == (split == "train") else left_part


def squares(ids: Tensor, part: tuple[int, int, int, int], image: int, *, seed: int = 0) -> Tensor:
    """Square crops (top, left, side) inside a part of a photograph: ids ``b`` → int64 ``b 3``, in pixels.

    The side is log-uniform between ``image`` and the largest that fits (a small part may force enlarging), the place uniform.
    """
    top, left, height, width = part
    largest = min(height, width)
    u = uniforms(seed, "photos", 0, ids, 3)
    smallest = min(image, largest)
    side = (smallest * (largest / smallest) ** u[:, 0]).round().clamp(smallest, largest)
    y = top + (u[:, 1] * (height - side + 1)).floor()
    x = left + (u[:, 2] * (width - side + 1)).floor()
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
    Image = need("PIL.Image", why="resizing photographs")
    names = tuple(PHOTOGRAPHS)
    ids = torch.arange(count) + (TEST_IDS if split == "test" else 0)
    labels = torch.arange(count) % len(names)
    pixels = torch.empty(count, 3, image, image, dtype=torch.uint8)
    for label, name in enumerate(names[:count]):
        whole = photograph(name).numpy()
        part = region(name, split, *whole.shape[:2])
        places = (labels == label).nonzero()[:, 0]
        for place, (top, left, side) in zip(places, squares(ids[places], part, image, seed=seed).tolist(), strict=True):
            # Cut first, then resize: a resize with a box would look beyond the edge, into the other split.
            crop = Image.fromarray(whole[top : top + side, left : left + side])
            pixels[place] = torch.from_numpy(np.array(crop.resize((image, image), Image.Resampling.BICUBIC))).permute(2, 0, 1)
    return Images("photos", pixels, labels, names, ids)
