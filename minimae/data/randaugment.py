"""Strong augmentation for training with labels: RandAugment and random erasing (paper, Tables 9 and 11).

RandAugment is the authors': timm's ``rand-m9-mstd0.5-inc1``, with Pillow's operations, one image at a time on the host. All that is random
is a function of (seed, epoch, sample id), so an image looks the same in every batch, worker, process and restart. Erasing is done for
a whole batch, on the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ..random import uniforms
from .augment import flipped

LAYERS, CHANCE = 2, 0.5  # two operations one after the other, each with this probability: what "rand-m9-mstd0.5" means in timm
OPERATIONS = (
    "autocontrast", "equalize", "invert", "rotate", "posterize", "solarize", "solarize_add", "color", "contrast", "brightness",
    "sharpness", "shear_x", "shear_y", "translate_x", "translate_y",
)  # fmt: skip
AREA, ASPECT, TRIES = (0.02, 1 / 3), (0.3, 1 / 0.3), 10  # of an erased rectangle (Zhong et al., arXiv 1708.04896, and timm)
BANK = 2**20  # places from which the noise of an erased rectangle may be taken


class Step(NamedTuple):
    """One operation on one image. magnitude: between 0 (nothing, for most) and 10. sign: 1 or −1, for operations with a direction."""

    operation: str
    magnitude: float
    sign: int


def draw_steps(ids: Tensor, how: tuple[float, float], *, seed: int, epoch: int | Tensor) -> list[list[Step]]:
    """What happens to each image: ids ``b`` → at most two steps each. how: the mean magnitude and its standard deviation."""
    u = uniforms(seed, "randaugment", epoch, ids, 5 * LAYERS).double().unflatten(1, (LAYERS, 5))
    normal = (-2 * (1 - u[..., 2]).log()).sqrt() * (2 * math.pi * u[..., 3]).cos()
    magnitude, operation = (how[0] + how[1] * normal).clamp(0, 10), (u[..., 1] * len(OPERATIONS)).long()
    drawn = torch.stack([u[..., 0], operation, magnitude, u[..., 4]], dim=-1).tolist()
    return [[Step(OPERATIONS[int(o)], m, -1 if s > 0.5 else 1) for happens, o, m, s in image if happens < CHANCE] for image in drawn]


def operate(picture: Any, step: Step, fill: tuple[int, ...]) -> Any:
    """One step on a Pillow image, grey or RGB; pixels from beyond its edges have the colour ``fill``, 0 to 255 for each channel."""
    from PIL import Image, ImageEnhance, ImageOps

    name, level, moved = step.operation, step.magnitude / 10, step.sign * step.magnitude / 10
    bicubic, affine = Image.Resampling.BICUBIC, Image.Transform.AFFINE
    if name in ("autocontrast", "equalize", "invert"):
        return getattr(ImageOps, name)(picture)
    if name == "posterize":  # by hand: at magnitude 10 no bit is kept, which newer versions of Pillow refuse
        table = [value & -(2 ** (4 + int(4 * level))) for value in range(256)]
        return picture.point(table * len(picture.getbands()))
    if name == "solarize":
        return ImageOps.solarize(picture, 256 - int(256 * level))
    if name == "solarize_add":
        table = [min(255, value + int(110 * level)) if value < 128 else value for value in range(256)]
        return picture.point(table * len(picture.getbands()))
    if name == "rotate":
        return picture.rotate(30 * moved, bicubic, fillcolor=fill)
    matrix = {
        "shear_x": (1, 0.3 * moved, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, 0.3 * moved, 1, 0),
        "translate_x": (1, 0, 0.45 * moved * picture.width, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, 0.45 * moved * picture.height),
    }.get(name)
    if matrix is not None:
        return picture.transform(picture.size, affine, matrix, bicubic, fillcolor=fill)
    return getattr(ImageEnhance, name.capitalize())(picture).enhance(max(0.1, 1 + 0.9 * moved))


def mean_colour(statistics: tuple[Tensor, Tensor]) -> tuple[int, ...]:
    """The mean of a data set as a colour, 0 to 255 for each channel: what RandAugment fills with."""
    return tuple(min(255, round(255 * value)) for value in statistics[0].tolist())


def randaugment(
    images: Tensor, ids: Tensor, how: tuple[float, float], *, seed: int, epoch: int | Tensor, fill: tuple[int, ...]
) -> Tensor:
    """RandAugment (Cubuk et al., arXiv 1909.13719): uint8 ``b c height width`` → uint8, or float in [0, 1] → float in [0, 1].

    how: magnitude, of 10, and its standard deviation, (9, 0.5) in the paper. epoch: one number, or ``b``. fill: see :func:`mean_colour`.
    It works on the host, through uint8, so it waits for images on a GPU. Raises ValueError unless there are 1 or 3 channels.
    """
    from PIL import Image

    channels = images.shape[1]
    if channels not in (1, 3):
        raise ValueError(f"RandAugment takes images of 1 or 3 channels, not {channels}")
    pixels = images if images.dtype == torch.uint8 else (images * 255).round().clamp(0, 255).to(torch.uint8)
    shown = rearrange(pixels.cpu(), "b c h w -> b h w c").numpy()
    changed = np.empty_like(shown, order="C")
    for row, array, steps in zip(changed, shown, draw_steps(ids, how, seed=seed, epoch=epoch), strict=True):
        picture = Image.fromarray(np.ascontiguousarray(array[..., 0] if channels == 1 else array))
        for step in steps:
            picture = operate(picture, step, fill)
        row[...] = np.asarray(picture).reshape(row.shape)
    made = rearrange(torch.from_numpy(changed), "b h w c -> b c h w").to(images.device)
    return made if images.dtype == torch.uint8 else made.float() / 255


def erase(images: Tensor, ids: Tensor, probability: float, *, seed: int, epoch: int | Tensor) -> Tensor:
    """Random erasing of normalised images, float ``b c height width``: in some, a rectangle becomes noise of standard deviation 1.

    Erased are between 2 % and a third of the area, as timm does with ``mode="pixel"`` and one rectangle. It runs on the device without
    waits. The images given stay as they are.
    """
    height, width = images.shape[-2:]
    top, left, tall, wide = rectangles(ids, height, width, seed=seed, epoch=epoch)[:, :, None].unbind(1)
    row, column = (torch.arange(side, device=ids.device) for side in (height, width))
    inside = ((row >= top) & (row < top + tall))[:, :, None] & ((column >= left) & (column < left + wide))[:, None, :]
    u = uniforms(seed, "erased", epoch, ids, 2)
    happens = u[:, 0] < probability
    values = images[0].numel()
    noise = noise_bank(values, ids.device).unfold(0, values, 1)[(u[:, 1] * BANK).long()].view_as(images)
    return torch.where((happens[:, None, None] & inside)[:, None], noise.to(images), images)


def rectangles(ids: Tensor, height: int, width: int, *, seed: int, epoch: int | Tensor) -> Tensor:
    """What would be erased of each image: ids ``b`` → float32 ``b 4`` (top, left, height, width).

    Area uniform, aspect (height over width) log-uniform, place uniform. One that is not smaller than the image is drawn again;
    after ten tries it has no area.
    """
    u = uniforms(seed, "erase", epoch, ids, 4 * TRIES).unflatten(1, (TRIES, 4))
    narrow, broad = (math.log(bound) for bound in ASPECT)
    area = height * width * (AREA[0] + u[..., 0] * (AREA[1] - AREA[0]))
    aspect = (narrow + u[..., 1] * (broad - narrow)).exp()
    tall, wide = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    top, left = (u[..., 2] * (height - tall + 1)).floor(), (u[..., 3] * (width - wide + 1)).floor()
    fits = (tall < height) & (wide < width)
    boxes = torch.stack([top, left, tall, wide], dim=-1) * fits[..., None]
    return boxes.gather(1, fits.float().argmax(1)[:, None, None].expand(-1, 1, 4))[:, 0]


@lru_cache(maxsize=4)
def noise_bank(values: int, device: torch.device) -> Tensor:
    """Normal noise in a row, always the same; an image takes ``values`` of it from some place on: float32 ``BANK + values``."""
    u = uniforms(0, "erased", 0, torch.zeros(1, dtype=torch.int64, device=device), 2 * (BANK + values))[0].double().unflatten(0, (2, -1))
    return ((-2 * (1 - u[0]).log()).sqrt() * (2 * math.pi * u[1]).cos()).float()


@dataclass(frozen=True)
class WorkerTransform:
    """Changes that the host makes to crops before they go to the device, so that no step waits: flip, then RandAugment."""

    flip: bool
    how: tuple[float, float]
    seed: int
    fill: tuple[int, ...]

    def __call__(self, crops: Tensor, ids: Tensor, epochs: Tensor) -> Tensor:
        """uint8 ``b h w c``, sample ids and epochs ``b`` → the same, changed."""
        crops = rearrange(crops, "b h w c -> b c h w")
        if self.flip:
            crops = flipped(crops, ids, seed=self.seed, epoch=epochs)
        changed = randaugment(crops, ids, self.how, seed=self.seed, epoch=epochs, fill=self.fill)
        return rearrange(changed, "b c h w -> b h w c").contiguous()
