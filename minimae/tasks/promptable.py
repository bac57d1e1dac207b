"""A promptable segmenter on an encoder: points and boxes in, three masks and their expected quality out.

After Segment Anything (Kirillov et al., ICCV 2023, arXiv 2304.02643, Section 3 and Appendix A), at a small scale. A click may mean
the whole object or a part of it, so every prompt gets three masks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..devices import full_precision
from ..model.patches import Pair, pair
from ..model.vit import MLP, Encoder, initialise
from .maps import for_maps, spatial_maps

MASKS = 3
NEGATIVE, POSITIVE, TOP_LEFT, BOTTOM_RIGHT, NOTHING = range(5)  # kinds of points; a box is its two corners, NOTHING is masked padding


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts for b objects: points float32 ``b p 2`` (x to the right, y down, in pixels of the model's image), kinds int64 ``b p``."""

    points: Tensor
    kinds: Tensor

    def __add__(self, more: Prompts) -> Prompts:
        """Both, side by side."""
        return Prompts(torch.cat([self.points, more.points], dim=1), torch.cat([self.kinds, more.kinds], dim=1))


@dataclass(frozen=True, eq=False)
class Masks:
    """The result of a prompt: logits ``b 3 h w`` of three masks, four for each patch in height and width; above 0 is inside.

    quality: the expected IoU of each mask with the object, ``b 3``. patches: the encoded image ``b n d``, which the next
    prompt on the same image can use.
    """

    logits: Tensor
    quality: Tensor
    patches: Tensor

    @property
    def picked(self) -> Tensor:
        """The index of the mask with the highest expected IoU: int64 ``b``."""
        return self.quality.argmax(1)

    def inside(self, image: Pair) -> Tensor:
        """The three masks at the size of the image: bool ``b 3 height width``."""
        return F.interpolate(self.logits, size=image, mode="bilinear", align_corners=False) > 0

    def chosen(self, image: Pair) -> Tensor:
        """The picked mask at the size of the image: bool ``b height width``."""
        return Masks(self.logits[torch.arange(len(self.logits)), self.picked][:, None], self.quality, self.patches).inside(image)[:, 0]


class FourierPositions(nn.Module):
    """Points in the unit square ``… 2`` → ``… d``: sines and cosines at random frequencies, drawn once and kept."""

    frequencies: Tensor

    def __init__(self, d: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(2, d // 2))

    def forward(self, points: Tensor) -> Tensor:
        with full_precision(points.device):
            angles = 2 * math.pi * (2 * points.float() - 1) @ self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class CrossAttention(nn.Module):
    """Queries ``b q d`` attend to a context ``b t d`` → ``b q d``. Positions are added to queries and keys, but not to values.

    seen: bool ``b t``, the tokens of the context that may be attended to; by default all.
    """

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.context_norm = nn.LayerNorm(d), nn.LayerNorm(d)
        self.q, self.k, self.v, self.out = (nn.Linear(d, d) for _ in range(4))

    def forward(self, x: Tensor, context: Tensor, x_at: Tensor, context_at: Tensor, seen: Tensor | None = None) -> Tensor:
        x, context = self.norm(x), self.context_norm(context)
        parts = self.q(x + x_at), self.k(context + context_at), self.v(context)
        q, k, v = (rearrange(part, "b t (heads e) -> b heads t e", heads=self.heads) for part in parts)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=None if seen is None else seen[:, None, None])
        return self.out(rearrange(mixed, "b heads t e -> b t (heads e)"))


class TwoWay(nn.Module):
    """One step of the decoder: prompt tokens ``b t d`` attend to each other and to the patches ``b n d``; then the reverse."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.among, self.read, self.write = (CrossAttention(d, heads) for _ in range(3))
        self.norm, self.mlp = nn.LayerNorm(d), MLP(d, ratio=2)

    def forward(self, tokens: Tensor, patches: Tensor, tokens_at: Tensor, patches_at: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        tokens = tokens + self.among(tokens, tokens, tokens_at, tokens_at, seen)
        tokens = tokens + self.read(tokens, patches, tokens_at, patches_at)
        tokens = tokens + self.mlp(self.norm(tokens))
        patches = patches + self.write(patches, tokens, patches_at, tokens_at, seen)
        return tokens, patches


class Promptable(nn.Module):
    """An encoder and a light prompt decoder.

    image: its size in pixels, by default the encoder's. frozen: whether the encoder stays as it is. width, depth, heads: those of the
    decoder, with ``depth`` two-way steps.
    """

    def __init__(
        self, encoder: Encoder, *, width: int = 96, depth: int = 2, heads: int = 4, frozen: bool = True, image: int | Pair | None = None
    ) -> None:
        super().__init__()
        self.encoder = for_maps(encoder, image).requires_grad_(not frozen)
        self.neck = nn.Sequential(nn.Linear(encoder.size.width, width), nn.LayerNorm(width))
        self.tokens = nn.Parameter(torch.empty(1 + MASKS, width))  # one for the quality, one for each mask
        self.kinds = nn.Embedding(NOTHING + 1, width)
        self.where = FourierPositions(width)
        self.steps = nn.ModuleList(TwoWay(width, heads) for _ in range(depth))
        self.last = CrossAttention(width, heads)
        self.norm = nn.LayerNorm(width)
        half, quarter = width // 2, width // 4
        twice = [nn.ConvTranspose2d(width, half, 2, stride=2), nn.ReLU(), nn.ConvTranspose2d(half, quarter, 2, stride=2), nn.ReLU()]
        self.upscale = nn.Sequential(*twice)
        self.weights = nn.ModuleList(mlp(width, quarter) for _ in range(MASKS))
        self.quality = mlp(width, MASKS)
        for part in (self.neck, self.steps, self.last, self.weights, self.quality):
            initialise(part)
        for layer in self.modules():
            if isinstance(layer, CrossAttention):  # equal queries and keys: at first, a point attends to the patches near it
                layer.k.load_state_dict(layer.q.state_dict())
        for values in (self.tokens, self.kinds.weight):
            nn.init.normal_(values, std=1.0)

    def encode(self, images: Tensor) -> Tensor:
        """Normalised images ``b c height width`` → patches ``b n d``, in image order."""
        return rearrange(spatial_maps(self.encoder, images)[0], "b d h w -> b (h w) d")

    def embed(self, prompts: Prompts, width: int, height: int) -> tuple[Tensor, Tensor, Tensor]:
        """Prompts → tokens [quality | masks | points] ``b t d``, their positions ``b t d``, and which of them are real: bool ``b t``."""
        real = prompts.kinds != NOTHING
        at = self.where(prompts.points / prompts.points.new_tensor([width, height]))
        tokens = torch.cat([self.tokens.expand(len(real), -1, -1), self.kinds(prompts.kinds)], dim=1)
        return tokens, F.pad(at, (0, 0, 1 + MASKS, 0)), F.pad(real, (1 + MASKS, 0), value=True)

    def forward(self, images: Tensor, prompts: Prompts) -> Masks:
        """Images ``b c height width``, or patches ``b n d`` that :meth:`encode` made of them, and a prompt for each → three masks each."""
        patches = self.encode(images) if images.dim() == 4 else images
        (height, width), grid = pair(self.encoder.size.image), self.encoder.size.grid
        tokens, tokens_at, seen = self.embed(prompts, width, height)
        x, x_at = self.neck(patches), self.where(centres(grid, device=patches.device)).expand(len(patches), -1, -1)
        for step in self.steps:
            tokens, x = step(tokens, x, tokens_at, x_at, seen)
        tokens = self.norm(tokens + self.last(tokens, x, tokens_at, x_at))
        fine = self.upscale(rearrange(x, "b (h w) d -> b d h w", h=grid[0], w=grid[1]))
        weights = torch.stack([layer(tokens[:, 1 + i]) for i, layer in enumerate(self.weights)], dim=1)
        logits = torch.einsum("b m d, b d h w -> b m h w", weights, fine).float()
        return Masks(logits, self.quality(tokens[:, 0]).float().sigmoid(), patches)


def mlp(d: int, values: int) -> nn.Sequential:
    """Three layers, ``b d`` → ``b values``."""
    return nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d), nn.ReLU(), nn.Linear(d, values))


def centres(grid: Pair, *, device: torch.device) -> Tensor:
    """The centre of every patch (x, y) in the unit square: float32 ``n 2``, row by row."""
    rows, columns = ((torch.arange(side, device=device) + 0.5) / side for side in grid)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1).flip(-1)
