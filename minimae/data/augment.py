"""Random crops, flips and colours as functions of (seed, epoch, sample id), on the device (paper, Table 1e and Table 8).

A crop is a pair of small matrices: ``resized = rows @ image @ columns``. They hold the antialiased bicubic weights of each image's own
rectangle, so two matrix products crop and resize a whole batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..devices import constant_tensor, to_device, wide
from ..model.patches import Pair
from ..random import uniforms
from .types import Batch

TRIES = 10  # a rectangle that does not fit is drawn again; after ten tries the largest in the middle is taken, as torchvision does
GREY = (0.2989, 0.587, 0.114)  # weights of red, green and blue in brightness (ITU-R BT.601), as in torchvision
HUE = 0.25  # the hue moves by at most this share of the strength, in turns: 0.1 at a strength of 0.4
EVALUATION = 224 / 256  # the paper evaluates 224 pixels in the middle of an image whose short side was resized to 256 (Table 9)


@dataclass(frozen=True)
class Augmentation:
    """What happens to a training image (Table 1e).

    scale: range of the share of the area that a random crop keeps; None takes the middle (:func:`middle_boxes`), which is the whole
    image if it has the right shape. aspect: range of width over height. fixed: instead, a crop of fixed size at a random position; its
    sides are this share of the largest part with the right shape (0.875: 224 of 256 pixels). jitter: the strength of :func:`jitter`.
    """

    scale: tuple[float, float] | None = (0.2, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    fixed: float | None = None
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if self.fixed is not None and not 0 < self.fixed <= 1:
            raise ValueError(f"a crop of fixed size is a share of the shorter side between 0 and 1 (0.875), not {self.fixed}")
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"a crop keeps a share of the area between 0 and 1, smaller bound first, not {self.scale}")
        _check_strength(self.jitter)
        if not 0 < self.aspect[0] <= self.aspect[1]:
            raise ValueError(f"an aspect range is two positive numbers, the smaller first, not {self.aspect}")


def crop_boxes(
    ids: Tensor,
    image: Pair | Tensor,
    augmentation: Augmentation,
    *,
    seed: int,
    epoch: int | Tensor,
    stream: str = "crop",
    size: Pair | None = None,
) -> Tensor:
    """Rectangles (top, left, height, width) in pixels: ids ``b`` → float32 ``b 4``.

    image: height and width of all images, or of each: ``b 2``. size: what the crops are resized to; the crop of fixed size and the
    middle take its shape (by default a square, and the whole image). A random crop is distributed as torchvision's RandomResizedCrop:
    area uniform in ``scale``, aspect log-uniform, position uniform.
    """
    sizes = _sizes(image, ids)
    if augmentation.fixed is not None:
        shape = sizes.new_ones(1, 2) if size is None else _sizes(size, ids[:1]) / min(size)
        part = (augmentation.fixed * (sizes / shape).amin(1, keepdim=True) * shape).round().clamp(min=1)
        corner = (uniforms(seed, "crop", epoch, ids, 2) * (sizes - part + 1)).floor()
        return torch.cat([corner, part], dim=1)
    if augmentation.scale is None:
        return torch.cat([torch.zeros_like(sizes), sizes], dim=1) if size is None else middle_boxes(sizes, size)
    height, width = sizes[:, :1], sizes[:, 1:]
    u = uniforms(seed, stream, epoch, ids, 4 * TRIES).unflatten(1, (TRIES, 4))
    (low, high), (narrow, broad) = augmentation.scale, (math.log(x) for x in augmentation.aspect)
    area = height * width * (low + u[..., 0] * (high - low))
    aspect = (narrow + u[..., 1] * (broad - narrow)).exp()
    tall, wide = (area / aspect).sqrt().round(), (area * aspect).sqrt().round()
    fits = (tall >= 1) & (tall <= height) & (wide >= 1) & (wide <= width)
    top, left = (u[..., 2] * (height - tall + 1)).floor(), (u[..., 3] * (width - wide + 1)).floor()
    first = fits.float().argmax(1)[:, None, None].expand(-1, 1, 4)
    boxes = torch.stack([top, left, tall, wide], dim=-1).gather(1, first)[:, 0]
    return torch.where(fits.any(1)[:, None], boxes, _widest(height, width, augmentation.aspect))


def _sizes(image: Pair | Tensor, ids: Tensor) -> Tensor:
    """Height and width of all images, or of each → float32 ``b 2``. Filled on the ids' device: a copy from the host would block."""
    if isinstance(image, Tensor):
        return image.to(ids.device).float().expand(len(ids), 2)
    return torch.stack([torch.full((len(ids),), float(side), device=ids.device) for side in image], dim=1)


def _widest(height: Tensor, width: Tensor, aspect: tuple[float, float]) -> Tensor:
    """The largest boxes in the middle with an aspect in this range: height and width ``b 1`` → ``b 4``."""
    tall = torch.minimum(height, (width / aspect[0]).round())
    wide = torch.minimum(width, (height * aspect[1]).round())
    return torch.cat([((height - tall) / 2).floor(), ((width - wide) / 2).floor(), tall, wide], dim=1)


def middle_boxes(sizes: Tensor, image: Pair, *, share: float = 1.0) -> Tensor:
    """The largest part in the middle that has the shape of ``image``: heights and widths ``b 2`` → float32 ``b 4``.

    share: each side of an image larger than ``image`` is cut to this share; a smaller one is shown in full, because cutting would only
    enlarge it more. The same as torchvision's ``Resize(round(image / share))`` and ``CenterCrop(image)``: the resized image and the
    corner of the crop are in whole pixels.
    """
    sides, wanted = (x.to(wide(x.device)) for x in (sizes, _sizes(image, sizes)))
    ratio, which = (sides / wanted).min(1, keepdim=True)  # the side that limits the part
    target = wanted.gather(1, which)
    target = torch.where(ratio > 1, (target / share).round(), target)
    grid = (target * sides / sides.gather(1, which)).floor()  # torchvision cuts the long side off, and does not round it
    corner = ((grid - wanted) / 2).round()
    return torch.cat([corner * sides / grid, wanted * sides / grid], dim=1).float()


def resize_matrix(start: Tensor, length: Tensor, source: int, target: int, *, edges: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Antialiased bicubic weights that resize ``source[start : start + length]`` to ``target`` pixels: ``b`` → ``b target source``.

    The kernel is Keys' cubic with a = −0.5 (Pillow's), widened when the crop is larger than the target.
    edges: first and last pixel that may have weight, ``b`` and ``b``; by default the whole pixels that the crop touches.
    """
    low, high = (start.floor(), (start.to(wide(start.device)) + length).ceil()) if edges is None else edges
    scale = (length / target)[:, None, None]
    out = torch.arange(target, device=start.device, dtype=torch.float32)[None, :, None] + 0.5
    pixel = torch.arange(source, device=start.device, dtype=torch.float32)[None, None, :] + 0.5
    start, length = start[:, None, None], length[:, None, None]
    x = ((pixel - start - out * scale) / scale.clamp(min=1.0)).abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    weight = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    weight = weight * ((pixel > low[:, None, None]) & (pixel < high[:, None, None]))
    return weight / weight.sum(-1, keepdim=True)


def augment(pixels: Tensor, ids: Tensor, augmentation: Augmentation, *, seed: int, epoch: int | Tensor, size: Pair | None = None) -> Tensor:
    """uint8 images ``b c height width`` → float32 in [0, 1], cropped, resized to ``size`` (default: as they were), flipped, recoloured."""
    height, width = pixels.shape[-2:]
    rows, columns = (height, width) if size is None else size
    images = pixels.float() / 255
    cropped = augmentation.scale is not None or augmentation.fixed is not None
    if cropped or (rows, columns) != (height, width):
        box = crop_boxes(ids, (height, width), augmentation, seed=seed, epoch=epoch, size=(rows, columns))
        down = resize_matrix(box[:, 0], box[:, 2], height, rows)
        across = resize_matrix(box[:, 1], box[:, 3], width, columns)
        images = (down[:, None] @ images @ across[:, None].transpose(-2, -1)).clamp(0, 1)
    if augmentation.flip:
        images = flipped(images, ids, seed=seed, epoch=epoch)
    return images if augmentation.jitter == 0 else jitter(images, ids, augmentation.jitter, seed=seed, epoch=epoch)


def augmented(batch: Batch, augmentation: Augmentation, *, seed: int, size: Pair) -> Tensor:
    """A batch → float32 images in [0, 1], ``b c height width``: cropped if they are still whole, flipped, recoloured."""
    if batch.boxes is not None:
        augmentation = replace(augmentation, scale=None, fixed=None)
    return augment(batch.pixels, batch.ids, augmentation, seed=seed, epoch=batch.epochs, size=size)


def flipped(images: Tensor, ids: Tensor, *, seed: int, epoch: int | Tensor) -> Tensor:
    """Images ``b c height width``, half of them turned left to right."""
    turn = uniforms(seed, "flip", epoch, ids, 1)[:, 0] < 0.5
    return torch.where(turn[:, None, None, None], images.flip(-1), images)


def jitter(images: Tensor, ids: Tensor, strength: float, *, seed: int, epoch: int | Tensor) -> Tensor:
    """Colour jitter: images in [0, 1], ``b c height width`` → each with its own brightness, contrast, saturation and hue, in this order.

    Factors are uniform in [1 − strength, 1 + strength]; the hue turns by up to a quarter of the strength. Saturation and hue need three
    channels. An ablation that does not help (Table 1e). The paper does not give its strength; 0.4 is common.
    """
    _check_strength(strength)
    u = (2 * uniforms(seed, "jitter", epoch, ids, 4) - 1)[:, :, None, None, None] * strength
    images = blend(images, torch.zeros_like(images), 1 + u[:, 0])
    images = blend(images, grey(images).mean((1, 2, 3), keepdim=True), 1 + u[:, 1])
    if images.shape[1] != 3:
        return images
    return turn_hue(blend(images, grey(images), 1 + u[:, 2]), u[:, 3, 0] * HUE)


def blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """``other`` at factor 0, the images at factor 1, extrapolated above; clipped to [0, 1]."""
    return (factor * images + (1 - factor) * other).clamp(0, 1)


def grey(images: Tensor) -> Tensor:
    """Brightness ``b 1 height width``; for images that are not in colour, their mean over the channels."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    weights = constant_tensor(GREY, images.device, images.dtype)[:, None, None]
    return (images * weights).sum(1, keepdim=True)


def turn_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Red, green and blue ``b 3 height width`` with the hue turned by ``b 1 1`` full turns; value and saturation stay."""
    red, green, blue = images.unbind(1)
    value, low = images.amax(1), images.amin(1)
    chroma = value - low
    safe = torch.where(chroma > 0, chroma, 1.0)
    sixth = torch.where(value == red, (green - blue) / safe, torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe))
    peaks = constant_tensor((5, 3, 1), images.device)[None, :, None, None]
    k = (peaks + (sixth + 6 * turns)[:, None]).remainder(6)  # how far each channel is from its peak, around the circle of colours
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)


def _check_strength(strength: float) -> None:
    if not 0 <= strength <= 1:
        raise ValueError(f"colour jitter has a strength between 0 (off) and 1 (0.4 is usual), not {strength}")


def normalise(images: Tensor, statistics: tuple[Tensor, Tensor]) -> Tensor:
    """Images in [0, 1] (or uint8) ``b c height width`` → mean 0 and standard deviation 1 by the dataset's statistics, per channel.

    Raises ValueError for other integers, whose range is unknown.
    """
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ValueError(f"images are uint8, or floats in [0, 1], not {images.dtype}: convert them with images.to(torch.uint8)")
    images = images.float() / 255 if images.dtype == torch.uint8 else images
    mean, std = (to_device(x, images.device)[:, None, None] for x in statistics)
    return (images - mean) / std
