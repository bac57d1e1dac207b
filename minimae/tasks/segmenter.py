"""Semantic segmentation with a plain ViT: a class for every pixel, from the map of the encoder's tokens (paper, Section 5, Table 5).

The paper uses UperNet, a decoder of several hundred lines. A linear layer per patch, or a mask transformer, is enough to use the tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from ..model.patches import Pair, pair
from ..model.vit import Block, Encoder, initialise
from .maps import for_maps, pad_to_patch, spatial_maps

Head = Literal["mask", "linear"]


class LinearHead(nn.Module):
    """One linear layer classifies every patch: maps ``b d h w`` → logits ``b classes h w``."""

    def __init__(self, d: int, classes: int) -> None:
        super().__init__()
        self.classify = nn.Linear(d, classes)
        nn.init.trunc_normal_(self.classify.weight, std=0.02)
        nn.init.zeros_(self.classify.bias)

    def forward(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.classify(rearrange(maps, "b d h w -> b h w d"))
        return rearrange(logits, "b h w classes -> b classes h w")


class MaskTransformer(nn.Module):
    """One learned token for each class joins the patches for two more blocks; its mask is its similarity to every patch.

    Maps ``b d h w`` → logits ``b classes h w``. The similarity is the cosine, and a norm over the classes learns its scale (Segmenter,
    Strudel et al., ICCV 2021, arXiv 2105.05633, Section 3.2).
    """

    def __init__(self, d: int, classes: int, *, heads: int, depth: int = 2, drop: float = 0.0) -> None:
        super().__init__()
        self.enter = nn.Linear(d, d)
        self.class_tokens = nn.Parameter(torch.empty(1, classes, d))
        self.blocks = nn.ModuleList(Block(d, heads, drop=drop) for _ in range(depth))
        self.norm = nn.LayerNorm(d)
        self.patch_side, self.class_side = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)
        self.mask_norm = nn.LayerNorm(classes)
        for part in (self.enter, *self.blocks):
            initialise(part)
        for weight in (self.class_tokens, self.patch_side.weight, self.class_side.weight):
            nn.init.trunc_normal_(weight, std=0.02)

    def forward(self, maps: Tensor) -> Tensor:
        b, _, h, w = maps.shape
        patches = self.enter(rearrange(maps, "b d h w -> b (h w) d"))
        x = torch.cat([patches, repeat(self.class_tokens, "1 classes d -> b classes d", b=b)], dim=1)
        for block in self.blocks:
            x = block(x)
        patches, classes = self.norm(x).split([h * w, self.class_tokens.shape[1]], dim=1)
        patches, classes = F.normalize(self.patch_side(patches), dim=-1), F.normalize(self.class_side(classes), dim=-1)
        masks: Tensor = self.mask_norm(patches @ classes.transpose(1, 2))
        return rearrange(masks, "b (h w) classes -> b classes h w", h=h)


class Segmenter(nn.Module):
    """An encoder and a head: images ``b c height width`` of any size → logits ``b classes height width``.

    image: height and width of training crops; positions are resized to them once. frozen: only the head learns, and the encoder stays
    in eval mode. recompute: gradient checkpointing in the encoder, see :func:`.maps.spatial_maps`.
    """

    def __init__(
        self, encoder: Encoder, classes: int, *, head: Head = "mask", image: int | Pair | None = None, drop_path: float = 0.0,
        frozen: bool = False, recompute: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder = for_maps(encoder, image).requires_grad_(not frozen)
        size, self.recompute, self.frozen = encoder.size, recompute, frozen
        self.encoder.spread_drop_path(drop_path)
        self.head = LinearHead(size.width, classes) if head == "linear" else MaskTransformer(size.width, classes, heads=size.heads)
        self.classes = classes

    def train(self, mode: bool = True) -> nn.Module:  # type: ignore[override]  # as text it could not stand in a notebook
        """As usual, but a frozen encoder stays in eval mode."""
        super().train(mode)
        self.encoder.train(mode and not self.frozen)
        return self

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        padded = pad_to_patch(images, self.encoder.size.patch)
        [tokens] = spatial_maps(self.encoder, padded, recompute=self.recompute and not self.frozen)
        logits = F.interpolate(self.head(tokens).float(), size=padded.shape[-2:], mode="bilinear", align_corners=False)
        return logits[..., :height, :width]


def pixel_loss(logits: Tensor, labels: Tensor, ignore: int = 255) -> Tensor:
    """Mean cross-entropy of the pixels whose label counts: logits ``b classes height width``, labels ``b height width``.

    0 where none counts: a random crop may show only ignored pixels.
    """
    total = F.cross_entropy(logits.float(), labels.long(), ignore_index=ignore, reduction="sum")
    return total / (labels != ignore).sum().clamp(min=1)


def windows(length: int, size: int) -> Iterator[int]:
    """The starts of windows of ``size`` that cover ``length`` evenly and share at least a third with the next."""
    if length <= size:
        yield 0
        return
    count = 1 + -(-(length - size) // max(1, 2 * size // 3))
    yield from (round(i * (length - size) / (count - 1)) for i in range(count))


def sliding(model: Segmenter, images: Tensor, window: int | Pair) -> Tensor:
    """Logits ``b classes height width``: the mean over overlapping windows of the size of the training crops.

    One window at a time is computed, so memory does not grow with the picture, except for its logits.
    """
    (height, width), (high, wide) = images.shape[-2:], pair(window)
    total, count = images.new_zeros(len(images), model.classes, height, width), images.new_zeros(1, 1, height, width)
    for top in windows(height, high):
        for left in windows(width, wide):
            part = (..., slice(top, top + high), slice(left, left + wide))
            total[part] += model(images[part])
            count[part] += 1
    return total / count
