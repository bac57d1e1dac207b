"""Maps of several scales from the single map of a plain ViT: the simple feature pyramid (Li et al., ViTDet, arXiv 2203.16527, Section 3).

A detector looks for small and large objects on maps of different strides. A plain ViT has one stride, its patch size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from einops import rearrange
from torch import Tensor, nn


class Norm2d(nn.LayerNorm):
    """LayerNorm over the channels at every position of a map: ``b c h w`` → ``b c h w``."""

    def forward(self, x: Tensor) -> Tensor:
        return rearrange(super().forward(rearrange(x, "b c h w -> b h w c")), "b h w c -> b c h w")


def doublings(patch: int, stride: int) -> int:
    """How often a map of stride ``patch`` is doubled to reach ``stride``, or the power of two nearest to it; negative: halved."""
    return round(math.log2(patch / stride))


def level(d: int, times: int, channels: int) -> nn.Sequential:
    """One level: ``b d h w`` doubled ``times`` times, or halved if that is negative → ``b channels (h·2^times) (w·2^times)``.

    Transposed convolutions double a map and halve its width, max pooling halves it; then a 1×1 and a 3×3 convolution, each with a norm.
    """
    steps: list[nn.Module] = [nn.MaxPool2d(2**-times)] if times < 0 else []
    for i in range(times):
        steps += [Norm2d(d), nn.GELU()] if i else []
        steps.append(nn.ConvTranspose2d(d, d // 2, kernel_size=2, stride=2))
        d //= 2
    steps += [nn.Conv2d(d, channels, 1, bias=False), Norm2d(channels)]
    steps += [nn.Conv2d(channels, channels, 3, padding=1, bias=False), Norm2d(channels)]
    return nn.Sequential(*steps)


class Pyramid(nn.Module):
    """One map of stride ``patch`` → one of every stride, by name: ``b d h w`` → {"4": ``b channels …``, "8": …}.

    A patch that is not a power of two gives the strides nearest to these: 14 gives 3.5, 7, 14 and 28.
    """

    def __init__(self, d: int, patch: int, *, strides: Sequence[int] = (4, 8, 16, 32), channels: int = 256) -> None:
        super().__init__()
        self.out_channels = channels
        self.levels = nn.ModuleDict({str(stride): level(d, doublings(patch, stride), channels) for stride in strides})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {stride: level(x) for stride, level in self.levels.items()}
