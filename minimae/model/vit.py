"""A plain vision transformer that can encode the visible patches alone (paper, Section 3 "MAE encoder").

``t`` counts tokens, the class token first: t = 1 + k with a mask, 1 + n without. ``d`` is the width, ``e`` one head's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .checks import check_images, checked_mask
from .masking import Mask, take
from .patches import Pair, grid_of, patchify
from .positions import resize_positions, sincos_2d
from .sizes import Size, resolve


def initialise(module: nn.Module) -> None:
    """Xavier-uniform Linear weights, zero biases; LayerNorm starts at 1 and 0 (as in the authors' released code).

    Changes only nn.Linear and nn.LayerNorm; positions and tokens keep their values.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)


def drop_path(x: Tensor, probability: float, training: bool) -> Tensor:
    """Drop a residual branch for whole samples (stochastic depth) and scale up the others; does nothing outside training."""
    if not training or probability == 0.0:
        return x
    alive = torch.rand(len(x), 1, 1, device=x.device) >= probability
    return x * (alive.to(x.dtype) / (1.0 - probability))


class Attention(nn.Module):
    """Multi-head self-attention with a fused qkv projection: ``b t d`` → ``b t d``."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)

    def split(self, x: Tensor, queries: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values ``b heads t e``. With ``queries=q`` only the last q tokens are queries."""
        if queries is None:
            q, k, v = rearrange(self.qkv(x), "b t (three heads e) -> three b heads t e", three=3, heads=self.heads)
            return q, k, v
        d = x.shape[-1]
        weight, bias = self.qkv.weight, self.qkv.bias
        q = rearrange(F.linear(x[:, -queries:], weight[:d], bias[:d]), "b queries (heads e) -> b heads queries e", heads=self.heads)
        k, v = rearrange(F.linear(x, weight[d:], bias[d:]), "b t (two heads e) -> two b heads t e", two=2, heads=self.heads)
        return q, k, v

    def forward(self, x: Tensor, queries: int | None = None) -> Tensor:
        mixed = F.scaled_dot_product_attention(*self.split(x, queries))
        return self.out(rearrange(mixed, "b heads t e -> b t (heads e)"))

    def weights(self, x: Tensor) -> Tensor:
        """Attention weights ``b heads t t``; each row sums to 1. For figures: the forward pass never computes this matrix."""
        q, k, _ = self.split(x)
        return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)


class MLP(nn.Module):
    """Two layers with an exact GELU between them: ``b t d`` → ``b t d``."""

    def __init__(self, d: int, ratio: int = 4) -> None:
        super().__init__()
        self.up = nn.Linear(d, ratio * d)
        self.down = nn.Linear(ratio * d, d)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


class Block(nn.Module):
    """A pre-norm transformer block: ``b t d`` → ``b t d``; with ``queries=q`` only the last q tokens: → ``b q d``."""

    def __init__(self, d: int, heads: int, *, mlp_ratio: int = 4, drop: float = 0.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(d, eps=eps)
        self.attention = Attention(d, heads)
        self.norm2 = nn.LayerNorm(d, eps=eps)
        self.mlp = MLP(d, mlp_ratio)
        self.drop = drop

    def forward(self, x: Tensor, queries: int | None = None) -> Tensor:
        kept = x if queries is None else x[:, -queries:]
        x = kept + drop_path(self.attention(self.norm1(x), queries), self.drop, self.training)
        return x + drop_path(self.mlp(self.norm2(x)), self.drop, self.training)


class Encoder(nn.Module):
    """Patches in, latent tokens out: images ``b c (h p1) (w p2)`` → ``b t d``.

    The class token joins after masking, with a zero position. Positions are fixed sine-cosine values, resized for other images.
    Drop path grows linearly over the blocks up to ``drop``. mask_tokens: encode masked patches as learned tokens (Table 1c).
    """

    def __init__(self, size: Size | str, *, drop: float = 0.0, mask_tokens: bool = False) -> None:
        super().__init__()
        self.size = size = resolve(size)
        d = size.width
        self.project = nn.Linear(size.values, d)
        self.class_token = nn.Parameter(torch.empty(1, size.class_tokens, d))
        self.mask_token = nn.Parameter(torch.empty(1, 1, d)) if mask_tokens else None
        self.blocks = nn.ModuleList(Block(d, size.heads, mlp_ratio=size.mlp_ratio, eps=size.eps) for _ in range(size.depth))
        self.spread_drop_path(drop)
        self.norm = nn.LayerNorm(d, eps=size.eps)
        initialise(self)
        for token in (self.class_token, self.mask_token):
            if token is not None:
                nn.init.normal_(token, std=0.02)
        self.positions = nn.Parameter(sincos_2d(d, size.grid), requires_grad=False)

    def spread_drop_path(self, probability: float) -> None:
        """Let the drop path grow linearly from 0 in the first block to ``probability`` in the last."""
        for i, block in enumerate(self.blocks):
            block.drop = probability * i / max(1, len(self.blocks) - 1)  # type: ignore[assignment]

    def positions_for(self, grid: Pair) -> Tensor:
        """The positions ``(1 + n) d`` for a grid, resized if it differs from the encoder's own."""
        return resize_positions(self.positions, self.size.grid, grid)

    def embed(self, images: Tensor, mask: Mask | None = None) -> Tensor:
        """Images → tokens ``b t d`` before the first block. Only visible patches are projected."""
        check_images(images, self.size.channels)
        grid = grid_of((images.shape[2], images.shape[3]), self.size.patch)
        patches, positions = patchify(images, self.size.patch), self.positions_for(grid)
        b, n = patches.shape[:2]
        if mask is None:
            tokens = self.project(patches) + positions[1:]
        elif checked_mask(mask, {}).keep.shape[0] != b or mask.n != n:
            raise ValueError(f"this mask is for {mask.keep.shape[0]} images of {mask.n} patches; the batch has {b} of {n}")
        else:
            tokens = self.project(take(patches, mask.keep)) + take(positions[1:], mask.keep)
            if self.mask_token is not None:
                tokens = torch.cat([tokens, self.mask_token + take(positions[1:], mask.masked)], dim=1)
        first = (self.class_token + positions[:1]).expand(b, -1, -1)
        return torch.cat([first, tokens], dim=1)

    def forward(self, images: Tensor, mask: Mask | None = None) -> Tensor:
        """Images → latent ``b t d`` after the last norm. Without a mask the whole image is encoded, in image order."""
        x = self.embed(images, mask)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def features(self, images: Tensor, mask: Mask | None = None) -> list[Tensor]:
        """The tokens ``b t d`` after every block, before the last norm: one tensor per block."""
        outputs = [self.embed(images, mask)]
        for block in self.blocks:
            outputs.append(block(outputs[-1]))
        return outputs[1:]
