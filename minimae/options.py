"""Options that several commands share: where images come from, and where the work is done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import data
from .data.source import Images
from .errors import MinimaeError
from .training.loop import CHECKPOINT


def pick_device(name: str) -> str:
    """auto is the GPU if there is one. Raises ValueError for a device this machine does not have."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"the device {name!r} cannot be used here ({str(error).splitlines()[0][:100]}); try --device cpu") from None
    return name


def new_run(out: Path, resume: bool, option: str = "--resume") -> None:
    """Refuse to write over a run. Raises MinimaeError that tells how to continue it."""
    if not resume and (out / CHECKPOINT).exists():
        raise MinimaeError(f"{out} already holds a run: continue it with {option}, or choose another folder with --out")


def describe(images: Images) -> str:
    """A set of images in one line."""
    kinds = f"{len(images.classes)} classes" if images.classes else "no labels"
    return f"{images.name}: {len(images):,} images, {images.channels} × {images.image[0]} × {images.image[1]}, {kinds}"


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where images come from and where the work is done."""

    data_root: Path = data.DOWNLOADS
    """Folder of downloaded data sets."""
    download: bool = False
    """Fetch the data set if it is missing."""
    skip_corrupt: bool = False
    """Leave damaged images out, and list them."""
    limit: int | None = None
    """Use at most this many images of each split."""
    device: str = "auto"
    """cpu, cuda, cuda:1 …; auto takes the GPU if there is one."""

    def load(self, name: str, split: str, *, image: int | None = None, channels: int | None = None) -> Images:
        images = data.load(
            name,
            split,
            root=self.data_root,
            image=image,
            channels=channels,
            download=self.download,
            skip_corrupt=self.skip_corrupt,
            limit=self.limit,
        )
        if images.skipped:
            print(f"{name} ({split}): left out {len(images.skipped)} damaged file(s):", *images.skipped[:20], sep="\n  ")
        return images

    def test_images(self, name: str, train: Images, **how: Any) -> Images:
        """The test split; where a folder has none, the training images (said aloud)."""
        try:
            return self.load(name, "test", **how)
        except (FileNotFoundError, ValueError) as error:
            print(f"no test images ({error}); pictures are shown of training images")
            return train
