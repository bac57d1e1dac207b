"""Features of whole images from a frozen encoder: one vector for each image."""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

from ..data.augment import normalise
from ..data.images import Images
from ..devices import device_of
from ..model.vit import Encoder
from ..train.precision import evaluating
from ..train.settings import Precision

Pool = Literal["mean", "class", "blocks", "tokens"]


@torch.no_grad()
def extract(
    encoder: Encoder,
    images: Images | Tensor,
    statistics: tuple[Tensor, Tensor],
    *,
    pool: Pool = "mean",
    batch: int = 500,
    precision: Precision = "auto",
) -> Tensor:
    """Features of whole, unmasked images: → float32 ``N values``, on the CPU. The encoder is put in eval mode.

    images: a dataset in memory, or pixels ``N c height width``, uint8 or float in [0, 1], of any size that the patch divides.
    pool: the mean of the patch tokens after the last norm (d values), the class token (d), blocks: the patch means after every block,
    side by side (depth·d), or all patch tokens, side by side (n·d). precision: on a GPU, as in training; on a CPU always float32.
    """
    encoder.eval()
    device, c, found = device_of(encoder), encoder.size.class_tokens, []
    for part in (images if isinstance(images, Tensor) else images.pixels).split(batch):
        x = normalise(part.to(device), statistics)
        with evaluating(device, precision):
            tokens = encoder.features(x) if pool == "blocks" else [encoder(x)]
        if pool == "tokens":
            found.append(rearrange(tokens[0][:, c:], "b n d -> b (n d)"))
        else:
            found.append(tokens[0][:, :c].mean(1) if pool == "class" else torch.cat([each[:, c:].mean(1) for each in tokens], dim=1))
    return torch.cat(found).float().cpu()


def pixel_features(images: Images, statistics: tuple[Tensor, Tensor]) -> Tensor:
    """The baseline: raw pixels, normalised, ``N (c height width)``."""
    return rearrange(normalise(images.pixels, statistics), "b c height width -> b (c height width)")
