"""Colour jitter as a pure function of (seed, epoch, sample id), on the device: an ablation, and it does not help (paper, Table 1e)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..devices import constant_tensor
from ..random import uniforms

GREY = (0.2989, 0.587, 0.114)  # weights of red, green and blue in brightness (ITU-R BT.601), as torchvision has them
HUE = 0.25  # the hue moves by at most this share of the strength, in turns: 0.1 at a strength of 0.4


def check_strength(strength: float) -> None:
    """Raises ValueError for a strength of colour jitter outside [0, 1]."""
    if not 0 <= strength <= 1:
        raise ValueError(f"colour jitter has a strength between 0 (off) and 1 (0.4 is usual), not {strength}")


def jitter(images: Tensor, ids: Tensor, strength: float, *, seed: int, epoch: int | Tensor) -> Tensor:
    """Images in [0, 1], ``b c height width`` → the same, each with its own brightness, contrast, saturation and hue, in this order.

    Factors are uniform in [1 − strength, 1 + strength], the hue turns by up to a quarter of the strength. Images of another number of
    channels than 3 have no saturation and no hue. The paper does not say how strong its jitter was; 0.4 is common.
    """
    check_strength(strength)
    u = (2 * uniforms(seed, "jitter", epoch, ids, 4) - 1)[:, :, None, None, None] * strength
    images = blend(images, torch.zeros_like(images), 1 + u[:, 0])
    images = blend(images, grey(images).mean((1, 2, 3), keepdim=True), 1 + u[:, 1])
    if images.shape[1] != 3:
        return images
    return turn_hue(blend(images, grey(images), 1 + u[:, 2]), u[:, 3, 0] * HUE)


def blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """``other`` at factor 0, the images at factor 1, beyond them above; held in [0, 1]."""
    return (factor * images + (1 - factor) * other).clamp(0, 1)


def grey(images: Tensor) -> Tensor:
    """Brightness ``b 1 height width``; of images that are not colour, their mean over the channels."""
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
    places = constant_tensor((5, 3, 1), images.device)[None, :, None, None]
    k = (places + (sixth + 6 * turns)[:, None]).remainder(6)  # how far each channel is from its peak, around the circle of colours
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)
