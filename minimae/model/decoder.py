"""Predict the patches that the encoder did not see (paper, Section 3 "MAE decoder").

The paper first unshuffles the tokens into image order. Attention ignores order, so we skip that: the tokens stay as
[class | visible | mask tokens], and each gets the position of its own patch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .checks import checked_mask
from .masking import Mask, take
from .patches import Pair
from .positions import resize_positions, sincos_2d
from .sizes import Size, resolve
from .vit import Block, initialise


class Decoder(nn.Module):
    """Latent tokens ``b t d`` and a mask → predictions for the masked patches, ``b m values``.

    t is 1 + k, or 1 + n when the encoder already added mask tokens. values: width of the target, by default p1·p2·c.
    """

    def __init__(self, size: Size | str, *, values: int | None = None, mask_token: bool = True) -> None:
        super().__init__()
        self.size = size = resolve(size)
        d = size.decoder_width
        self.embed = nn.Linear(size.width, d)
        self.mask_token = nn.Parameter(torch.empty(1, 1, d)) if mask_token else None
        self.blocks = nn.ModuleList(Block(d, size.decoder_heads, eps=size.eps) for _ in range(size.decoder_depth))
        self.norm = nn.LayerNorm(d, eps=size.eps)
        self.predict = nn.Linear(d, size.values if values is None else values)
        initialise(self)
        if self.mask_token is not None:
            nn.init.normal_(self.mask_token, std=0.02)
        self.positions = nn.Parameter(sincos_2d(d, size.grid), requires_grad=False)

    def tokens(self, latent: Tensor, mask: Mask, grid: Pair) -> Tensor:
        """The full set of tokens ``b (1 + k + m) d'``: [class | visible | masked], positions added."""
        x = self.embed(latent)
        if self.mask_token is not None:
            x = torch.cat([x, self.mask_token.to(x.dtype).expand(len(x), mask.masked.shape[1], -1)], dim=1)
        class_index = mask.keep.new_zeros(len(mask.keep), self.size.class_tokens)
        index = torch.cat([class_index, mask.keep + 1, mask.masked + 1], dim=1)
        return x + take(resize_positions(self.positions, self.size.grid, grid), index)

    def forward(self, latent: Tensor, mask: Mask, *, grid: Pair | None = None, every: bool = False) -> Tensor:
        """→ ``b m values`` in the order of ``mask.masked``; with ``every=True`` → ``b n values`` in image order.

        In the last block all tokens are keys and values, but only those to predict are queries: exact, and cheaper.
        """
        x = self.tokens(latent, checked_mask(mask, {}), self.size.grid if grid is None else grid)
        queries = mask.n if every else mask.masked.shape[1]
        for block in self.blocks[:-1]:
            x = block(x)
        predicted = self.predict(self.norm(self.blocks[-1](x, queries=queries)))
        return take(predicted, mask.restore) if every else predicted
