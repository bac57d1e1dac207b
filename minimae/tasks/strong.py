"""Strong augmentation for training with labels: RandAugment and random erasing (paper, Tables 9 and 11).

RandAugment is torchvision's, one image at a time, with torch's random numbers set from a hash of (seed, epoch, sample id) and put back
afterwards. So an image looks the same in every batch, worker, process and restart (with the same torchvision), and nobody else's random
numbers move. Erasing is ours, for a whole batch on the device.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ..augment import Augmentation, crop_boxes, flipped
from ..data.optional import need
from ..noise import hashed, uniforms

LAYERS, CHANCE = 2, 0.5  # two operations one after the other, each with this probability: what "rand-m9-mstd0.5" means in timm
LEVELS = 100  # steps that a magnitude between 0 and 10 is rounded to
GREY = 128  # what comes in from outside the image
RECTANGLE = Augmentation(scale=(0.02, 1 / 3), aspect=(0.3, 3.3), flip=False)  # what is erased (Zhong et al., arXiv 1708.04896)
BANK = 2**20  # places from which the noise of an erased rectangle may be taken


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

    Erased are between 2 % and a third of the area, with an aspect between 0.3 and 3.3: the distribution of torchvision's RandomErasing.
    On the device, and nothing waits for it. The images given stay as they are.
    """
    height, width = images.shape[-2:]
    boxes = crop_boxes(ids, (height, width), RECTANGLE, seed=seed, epoch=epoch, stream="erase")
    top, left, tall, wide = boxes[:, :, None, None].unbind(1)
    rows, columns = (torch.arange(side, device=ids.device)[None] for side in (height, width))
    inside = ((rows >= top[:, 0]) & (rows < (top + tall)[:, 0]))[:, :, None] & ((columns >= left[:, 0]) & (columns < (left + wide)[:, 0]))[
        :, None
    ]
    u = uniforms(seed, "erased", epoch, ids, 2)
    happens = u[:, 0] < probability
    values = images[0].numel()
    noise = noise_bank(values, ids.device).unfold(0, values, 1)[(u[:, 1] * BANK).long()].view_as(images)
    return torch.where((happens[:, None, None] & inside)[:, None], noise.to(images), images)


@lru_cache(maxsize=4)
def noise_bank(values: int, device: torch.device) -> Tensor:
    """Normal noise in a row, always the same; an image takes ``values`` of it from some place on: float32 ``BANK + values``."""
    u = uniforms(0, "erased", 0, torch.zeros(1, dtype=torch.int64, device=device), 2 * (BANK + values))[0].double().unflatten(0, (2, -1))
    return ((-2 * (1 - u[0]).log()).sqrt() * (2 * math.pi * u[1]).cos()).float()


@dataclass(frozen=True)
class Finish:
    """What workers do with the crops of images that are read from files, so that nobody waits for it later: flip, then RandAugment."""

    flip: bool
    how: tuple[float, float]
    seed: int

    def __call__(self, crops: Tensor, ids: Tensor, epochs: Tensor) -> Tensor:
        """uint8 ``b h w c``, sample ids and epochs ``b`` → the same, changed."""
        crops = rearrange(crops, "b h w c -> b c h w")
        if self.flip:
            crops = flipped(crops, ids, seed=self.seed, epoch=epochs)
        return rearrange(randaugment(crops, ids, self.how, seed=self.seed, epoch=epochs), "b c h w -> b h w c").contiguous()


def epochs_of(epoch: int | Tensor, ids: Tensor) -> list[int]:
    """The epoch of each sample, as a list."""
    return epoch.tolist() if isinstance(epoch, Tensor) and epoch.dim() else [int(epoch)] * len(ids)
