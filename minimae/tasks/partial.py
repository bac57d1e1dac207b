"""Partial fine-tuning: only the last blocks learn, the others stay as they were pre-trained (paper, Section 4.3 and Figure 9)."""

from __future__ import annotations

import copy
from dataclasses import replace

from torch import Tensor, nn

from ..model.patches import Pair, grid_of, pair
from ..model.positions import resize_positions
from ..model.vit import Block, Encoder, drop_path


class HalfBlock(nn.Module):
    """A block whose MLP learns and whose attention is frozen: ``b t d`` → ``b t d``, with the same parameter names.

    Only the half that learns has drop path: the frozen half computes the same in every step.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2, self.mlp = block.norm1, block.attention, block.norm2, block.mlp
        self.drop = block.drop

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + drop_path(self.mlp(self.norm2(x)), self.drop, self.training)


def check_blocks(blocks: float) -> None:
    """Raises ValueError unless blocks is 0, 0.5 or a whole number."""
    if blocks != 0.5 and (blocks < 0 or blocks != int(blocks)):
        raise ValueError(f"partial fine-tuning takes 0, 0.5 (the MLP of the last block) or a whole number of blocks, not {blocks}")


def freeze(encoder: Encoder, blocks: float) -> list[nn.Module]:
    """Let only the last ``blocks`` blocks of an encoder learn, in place; → the parts that must stay in eval mode (no drop path).

    0: none. 0.5: the MLP of the last block, with its norm. The encoder's depth: everything, tokens, positions and patch projection too.
    Gradients stop below the first part that learns. Raises ValueError for other fractions and for more blocks than there are.
    """
    check_blocks(blocks)
    depth = len(encoder.blocks)
    if blocks > depth:
        raise ValueError(f"this encoder has {depth} blocks; {blocks:g} cannot be tuned: choose 0, 0.5, or 1 to {depth}")
    if blocks == depth:
        return []
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    frozen = list(encoder.blocks[: depth - (1 if blocks == 0.5 else int(blocks))])
    for block in encoder.blocks[len(frozen) :]:
        learned = [block.norm2, block.mlp] if blocks == 0.5 else [block]
        for part in learned:
            part.requires_grad_(True)  # type: ignore[union-attr, operator]
    if blocks == 0.5 and isinstance(last := encoder.blocks[depth - 1], Block):
        encoder.blocks[depth - 1] = HalfBlock(last)
    return frozen


def at_image(encoder: Encoder, image: int | Pair) -> Encoder:
    """A copy of the encoder for images of another size in pixels: positions are resized once, bicubically.

    Raises ValueError when the patch size does not divide the image.
    """
    encoder = copy.deepcopy(encoder)
    if pair(image) == pair(encoder.size.image):
        return encoder
    grid = grid_of(image, encoder.size.patch)
    learned = encoder.positions.requires_grad
    positions = resize_positions(encoder.positions.detach(), encoder.size.grid, grid)
    encoder.positions = nn.Parameter(positions, requires_grad=learned)
    encoder.size = replace(encoder.size, image=image)
    return encoder
