"""Strong augmentation for training with labels: RandAugment and random erasing (paper, Tables 9 and 11).

Both are torchvision's transforms, one image at a time, with torch's random numbers set from a hash of (seed, epoch, sample id) and
put back afterwards. So an image looks the same in every batch, worker, process and restart (with the same torchvision), and nobody
else's random numbers move.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..data.optional import need
from ..noise import hashed

LAYERS, CHANCE = 2, 0.5  # two operations one after the other, each with this probability: what "rand-m9-mstd0.5" means in timm
LEVELS = 100  # steps that a magnitude between 0 and 10 is rounded to
GREY = 128  # what comes in from outside the image
ERASED = (0.02, 1 / 3)  # share of the area (Zhong et al., arXiv 1708.04896)


def transforms() -> Any:
    """torchvision's transforms, imported when they are needed."""
    return need("torchvision.transforms.v2", why="strong augmentation")


@contextlib.contextmanager
def addressed(seed: int, stream: str, epoch: int, sample: int) -> Iterator[None]:
    """Inside, torch's random numbers on the CPU depend on this address alone; outside, nothing has happened.

    Only the CPU's generator is touched: the ones of the devices belong to drop path.
    """
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(int(hashed(seed, stream, epoch, torch.tensor([sample]), 1)))
    try:
        yield
    finally:
        torch.set_rng_state(before)


def randaugment_one(image: Tensor, magnitude: float, deviation: float, *, seed: int, epoch: int, sample: int) -> Tensor:
    """RandAugment of one image, uint8 ``c height width`` (1 or 3 channels) → the same (Cubuk et al., arXiv 1909.13719).

    magnitude: between 0 (nothing) and 10 (the strongest). Each operation draws its own from a normal distribution of that mean and
    ``deviation``. The strength of an operation at a magnitude, and the choice of operations, are torchvision's.
    """
    v2 = transforms()
    with addressed(seed, "randaugment", epoch, sample):
        for _ in range(LAYERS):
            level = round((magnitude + deviation * float(torch.randn(()))) * LEVELS / 10)
            happens = float(torch.rand(())) < CHANCE
            if happens:
                one = v2.RandAugment(
                    num_ops=1,
                    magnitude=min(max(level, 0), LEVELS),
                    num_magnitude_bins=LEVELS + 1,
                    interpolation=v2.InterpolationMode.BILINEAR,
                    fill=GREY,
                )
                image = one(image)
    return image


def randaugment(images: Tensor, ids: Tensor, how: tuple[float, float], *, seed: int, epoch: int | Tensor) -> Tensor:
    """RandAugment of a batch: uint8 ``b c height width`` → uint8, or float in [0, 1] → float in [0, 1] (through uint8).

    how: magnitude and its deviation, (9, 0.5) in the paper. epoch: one number, or ``b``.
    """
    if images.shape[1] not in (1, 3):
        raise ValueError(f"RandAugment takes images of 1 or 3 channels, not {images.shape[1]}")
    pixels = images if images.dtype == torch.uint8 else (images * 255).round().clamp(0, 255).to(torch.uint8)
    changed = torch.stack(
        [
            randaugment_one(image, *how, seed=seed, epoch=e, sample=i)
            for image, e, i in zip(pixels.cpu(), epochs_of(epoch, ids), ids.tolist(), strict=True)
        ]
    ).to(images.device)
    return changed if images.dtype == torch.uint8 else changed.float() / 255


def erase(images: Tensor, ids: Tensor, probability: float, *, seed: int, epoch: int | Tensor) -> Tensor:
    """Random erasing of a batch of normalised images, float ``b c height width``: in some, a rectangle becomes noise of deviation 1.

    Erased are between 2 % and a third of the area, with an aspect between 0.3 and 3.3. The images given stay as they are.
    """
    v2 = transforms()
    images = images.clone()
    for place, (e, i) in enumerate(zip(epochs_of(epoch, ids), ids.tolist(), strict=True)):
        with addressed(seed, "erase", e, i):
            if float(torch.rand(())) >= probability:
                continue
            box = v2.RandomErasing(p=1.0, scale=ERASED, value="random").make_params([images[place]])
        if box["v"] is not None:
            rows, columns = slice(box["i"], box["i"] + box["h"]), slice(box["j"], box["j"] + box["w"])
            images[place, :, rows, columns] = box["v"].to(images)
    return images


def epochs_of(epoch: int | Tensor, ids: Tensor) -> list[int]:
    """The epoch of each sample, as a list."""
    return epoch.tolist() if isinstance(epoch, Tensor) and epoch.dim() else [int(epoch)] * len(ids)
