"""A small folder of real JPEGs laid out as ImageNet, made from the photographs of scikit-image and scikit-learn: to rehearse on."""

from __future__ import annotations

from pathlib import Path

import torch

from ..random import uniforms
from .decoding import encode
from .optional import need
from .photos import PHOTOGRAPHS, TEST_IDS, photograph, region

SIZES = ((375, 500), (333, 500), (500, 375), (500, 500), (300, 400))  # height and width that are common in ImageNet


def make_folder(
    root: Path, *, classes: int = 4, train: int = 16, val: int = 4, share: float = 1.0, quality: int = 95, seed: int = 0
) -> Path:
    """Write ``root/{train,val}/n00000001 …/*.JPEG``: ``train`` and ``val`` images of each class; returns ``root``.

    Each class is one of seven photographs in turn, each image a part of it, at sizes as in ImageNet times ``share``. No part is in
    both splits. The same arguments write the same files. Raises ImportError when the photographs are not installed.
    """
    if min(classes, train, val) < 1 or not 0 < share <= 8:
        raise ValueError(f"classes {classes}, train {train} and val {val} must be at least 1, and share {share} between 0 and 8")
    Image = need("PIL.Image", why="making a rehearsal folder")
    names = list(PHOTOGRAPHS)
    for label in range(classes):
        name = names[label % len(names)]
        whole = photograph(name).numpy()
        for split, count, first in (("train", train, 0), ("val", val, TEST_IDS)):
            top, left, height, width = region(name, "train" if split == "train" else "test", *whole.shape[:2])
            folder = root / split / f"n{label + 1:08d}"
            folder.mkdir(parents=True, exist_ok=True)
            ids = first + label * 100_000 + torch.arange(count)
            for i, (size, room, down, across) in enumerate(uniforms(seed, "photos", 1, ids, 4).tolist()):
                wanted = [max(8, round(share * side)) for side in SIZES[int(size * len(SIZES))]]
                part = (0.5 + 0.5 * room) * min(height / wanted[0], width / wanted[1])
                tall, wide = (max(1, int(part * side)) for side in wanted)
                y, x = top + int(down * (height - tall + 1)), left + int(across * (width - wide + 1))
                picture = Image.fromarray(whole[y : y + tall, x : x + wide]).resize((wanted[1], wanted[0]), Image.Resampling.BICUBIC)
                (folder / f"n{label + 1:08d}_{i}.JPEG").write_bytes(encode(picture, quality))
    return root
