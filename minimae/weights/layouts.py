"""Translate names and shapes between layouts, and find the size of the model that tensors belong to."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from einops import rearrange
from torch import Tensor

from ..errors import MinimaeError
from ..model.patches import Pair, pair
from ..model.positions import sincos_2d
from ..model.sizes import SIZES, Size
from .facts import Facts

PAPER_DECODER = {"decoder_width": 512, "decoder_depth": 8, "decoder_heads": 16}  # Table 1 of the paper
OF_BLOCK = re.compile(r"(?P<blocks>(?:encoder|decoder)\.blocks)\.(?P<i>\d+)\.(?P<layer>.+)\.(?P<kind>weight|bias)")


@dataclass(frozen=True)
class Names:
    """Our names → a library's. parts: of tensors and layers; block: of the layers of a block, with * for query, key and value."""

    parts: Mapping[str, str]
    block: Mapping[str, str]

    def of(self, ours: str) -> tuple[str, ...]:
        """Their name of a parameter of ours, or their three names of queries, keys and values."""
        if match := OF_BLOCK.fullmatch(ours):
            theirs = f"{self.parts[match['blocks']]}.{match['i']}.{self.block[match['layer']]}.{match['kind']}"
            return tuple(theirs.replace("*", part) for part in ("query", "key", "value")) if "*" in theirs else (theirs,)
        if ours in self.parts:
            return (self.parts[ours],)
        layer, _, kind = ours.rpartition(".")
        return (f"{self.parts[layer]}.{kind}",)

    def has_decoder(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether these tensors, by their names, include a decoder."""
        return self.of("decoder.embed.weight")[0] in tensors

    def size_of(self, tensors: Mapping[str, Tensor], facts: Facts, source: str) -> Size:
        """The size of the model that these tensors, by their names, belong to, at the image size they were trained for.

        Raises MinimaeError when heads are unknown, when the image contradicts the positions, and for other architectures.
        """
        needed = {
            "class token": "encoder.class_token", "positions": "encoder.positions", "patch projection": "encoder.project.weight",
            "first block": "encoder.blocks.0.mlp.up.weight",
        }  # fmt: skip
        if absent := [f"{what} ({self.of(name)[0]})" for what, name in needed.items() if self.of(name)[0] not in tensors]:
            raise MinimaeError(f"these weights have no {', no '.join(absent)}: this is not a plain ViT with a class token")
        token, positions, projection, up = (tensors[self.of(name)[0]] for name in needed.values())
        if projection.dim() != 4:
            raise MinimaeError(f"the patch projection has the shape {tuple(projection.shape)}, not that of a convolution (d, c, p1, p2)")
        width, depth = int(token.shape[-1]), self.depth(tensors, "encoder.blocks")
        patch = int(projection.shape[2]), int(projection.shape[3])
        image = image_of(positions, patch, facts.image)
        if len(up) % width:
            raise MinimaeError(f"{source}: its intermediate_size is {len(up)}; ours is a multiple of the width, which is {width}")
        decoder = self.decoder_of(tensors, facts, source) if self.has_decoder(tensors) else fresh_decoder(width, depth)
        if facts.heads is None:
            usual = next((s.heads for s in SIZES.values() if (s.width, s.depth) == (width, depth)), None)
            raise unknown_heads(width, depth, "heads", "an encoder", usual)
        try:
            return Size(
                width, depth, facts.heads, **decoder, patch=square(patch), image=square(image), channels=int(projection.shape[1]),
                mlp_ratio=len(up) // width, eps=facts.eps, class_tokens=token.shape[1] if token.dim() == 3 else 1,
            )  # fmt: skip
        except ValueError as error:
            raise MinimaeError(f"{source}: {error}") from None

    def depth(self, tensors: Mapping[str, Tensor], blocks: str) -> int:
        """How many blocks there are."""
        return len({match[1] for name in tensors if (match := re.match(rf"{re.escape(self.parts[blocks])}\.(\d+)\.", name))})

    def decoder_of(self, tensors: Mapping[str, Tensor], facts: Facts, source: str) -> dict[str, int]:
        """Width, depth and heads of the decoder."""
        width, up = (len(tensors[self.of(name)[0]]) for name in ("decoder.embed.weight", "decoder.blocks.0.mlp.up.weight"))
        depth = self.depth(tensors, "decoder.blocks")
        if up != 4 * width:
            raise MinimaeError(f"{source}: its decoder_intermediate_size is {up}; ours is 4 × the decoder's width")
        if facts.decoder_heads is None:
            raise unknown_heads(width, depth, "decoder_heads", "a decoder", 16 if width == 512 else None)
        return {"decoder_width": width, "decoder_depth": depth, "decoder_heads": facts.decoder_heads}


def fresh_decoder(width: int, depth: int) -> dict[str, int]:
    """Width, depth and heads of a decoder for an encoder without one: from the named size or the paper."""
    named = next((asdict(s) for s in SIZES.values() if (s.width, s.depth) == (width, depth)), PAPER_DECODER)
    return {name: named[name] for name in PAPER_DECODER}


def unknown_heads(width: int, depth: int, option: str, what: str, usual: int | None) -> MinimaeError:
    """The error when heads are not stated, with the number that the paper's model of this width has."""
    hint = "" if usual is None else f". {usual} is usual at this width"
    return MinimaeError(
        f"how many heads {what} of width {width} with {depth} blocks has cannot be seen in its weights: "
        f"give {option}= (--{option.replace('_', '-')}){hint}"
    )


def image_of(positions: Tensor, patch: Pair, stated: Pair | None) -> Pair:
    """Height and width in pixels of the image that these positions are for: as stated, as sine-cosine positions show, or a square.

    There is a row for the class token, or none (timm's no_embed_class). Raises MinimaeError when it is unknown.
    """
    rows = positions.reshape(-1, positions.shape[-1])
    n = len(rows)
    if stated is not None:
        patches = (stated[0] // patch[0]) * (stated[1] // patch[1])
        if patches not in (n, n - 1):
            raise MinimaeError(f"an image of {stated[0]}×{stated[1]} has {patches} patches; there are {n - 1} positions")
        return stated
    for h in (h for h in range(1, n) if (n - 1) % h == 0 and rows.shape[1] % 4 == 0):
        if torch.allclose(rows.float(), sincos_2d(rows.shape[1], (h, (n - 1) // h)), atol=1e-3):
            return h * patch[0], (n - 1) // h * patch[1]
    side = math.isqrt(n - 1) if math.isqrt(n - 1) ** 2 == n - 1 else math.isqrt(n)
    if side * side not in (n, n - 1):
        raise MinimaeError(f"{n - 1} positions do not form a square grid: give the image that they are for, original_image=(height, width)")
    return side * patch[0], side * patch[1]


def square(sides: Pair) -> int | Pair:
    """One number where both sides are equal."""
    return sides[0] if sides[0] == sides[1] else sides


def to_ours(name: str, tensors: list[Tensor]) -> Tensor:
    """Their tensor, or three for queries, keys and values → our tensor of this name, in float32."""
    tensor = torch.cat(tensors).float()
    if name.endswith("positions") and tensor.dim() == 3:
        return tensor[0]
    if name.endswith("project.weight") and tensor.dim() == 4:  # their axes: channels, rows, columns; ours: rows, columns, channels
        return rearrange(tensor, "d c p1 p2 -> d (p1 p2 c)")
    return tensor


def to_theirs(name: str, tensor: Tensor, theirs: tuple[str, ...], size: Size) -> dict[str, Tensor]:
    """Our tensor of this name → theirs, by name."""
    if name.endswith("positions"):
        tensor = tensor[None]
    elif name.endswith("project.weight"):
        p1, p2 = pair(size.patch)
        tensor = rearrange(tensor, "d (p1 p2 c) -> d c p1 p2", p1=p1, p2=p2)
    return {name: part.contiguous() for name, part in zip(theirs, tensor.chunk(len(theirs)), strict=True)}
