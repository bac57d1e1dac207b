"""From the names and shapes of one layout to those of another, and the size of the model that tensors belong to.

Each library's module has a :class:`Names`; reading and writing use the same one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

from ..errors import MinimaeError
from ..model.patches import Pair, pair
from ..model.positions import sincos_2d
from ..model.sizes import SIZES, Size
from .facts import Facts

Pool = Literal["mean", "class"]
PAPER_DECODER = {"decoder_width": 512, "decoder_depth": 8, "decoder_heads": 16}  # Table 1 of the paper


@dataclass(frozen=True)
class Names:
    """A library's names. parts: of tensors and layers, by ours; block: of the layers of a block; qkv: what a * in them stands for."""

    parts: Mapping[str, str]
    block: Mapping[str, str]
    qkv: tuple[str, ...] = ("",)

    def of_block(self, which: str, i: int, layer: str) -> tuple[str, ...]:
        """Their name or names of one layer of a block, ``encoder.blocks`` or ``decoder.blocks``."""
        name = f"{self.parts[which]}.{i}.{self.block[layer]}"
        return tuple(name.replace("*", part) for part in self.qkv) if "*" in name else (name,)

    def table(self, size: Size, *, pool: Pool | None, decoder: bool) -> dict[str, tuple[str, ...]]:
        """Our parameter names → theirs, one or three. pool: of a classifier; None without a head. decoder: whether there is one."""
        absent = ("norm", "head") if pool is None else ("encoder.norm",)
        found: dict[str, tuple[str, ...]] = {}
        for ours, theirs in self.parts.items():
            if (ours.startswith("decoder.") and not decoder) or ours in absent:
                continue
            if ours.endswith(("token", "positions")):
                found[ours] = (theirs,)
                continue
            layers: dict[str, tuple[str, ...]] = {ours: (theirs,)}
            if ours == "norm" and pool == "class":
                layers = {ours: (self.parts["encoder.norm"],)}
            elif ours.endswith("blocks"):
                depth = size.depth if ours.startswith("encoder") else size.decoder_depth
                layers = {f"{ours}.{i}.{layer}": self.of_block(ours, i, layer) for i in range(depth) for layer in self.block}
            for name, names in layers.items():
                found |= {f"{name}.{kind}": tuple(f"{each}.{kind}" for each in names) for kind in ("weight", "bias")}
        return found

    def size_of(self, tensors: Mapping[str, Tensor], facts: Facts, source: str) -> Size:
        """The size of the model that these tensors belong to, at the image size they were trained for.

        Raises MinimaeError when heads are unknown, when the image contradicts the positions, and for other architectures.
        """
        token, positions, projection, up = self.essentials(tensors)
        width, depth = int(token.shape[-1]), self.count(tensors, "encoder.blocks")
        patch = int(projection.shape[2]), int(projection.shape[3])
        image = image_of(positions, patch, facts.image)
        if len(up) % width:
            raise MinimaeError(f"{source}: its intermediate_size is {len(up)}; ours is a multiple of the width, which is {width}")
        decoder = self.decoder_of(tensors, facts, width, depth, source)
        named = next((s for s in SIZES.values() if (s.width, s.depth) == (width, depth)), None)
        if facts.heads is None:
            raise unknown_heads(width, depth, "heads", "an encoder", None if named is None else named.heads)
        try:
            return Size(
                width, depth, facts.heads, **decoder, patch=square(patch), image=square(image), channels=int(projection.shape[1]),
                mlp_ratio=len(up) // width, eps=facts.eps,
            )  # fmt: skip
        except ValueError as error:
            raise MinimaeError(f"{source}: {error}") from None

    def essentials(self, tensors: Mapping[str, Tensor]) -> list[Tensor]:
        """Class token, positions, patch projection, and the first layer of the first MLP. Raises MinimaeError when one is missing."""
        names = {
            "class token": self.parts["encoder.class_token"], "positions": self.parts["encoder.positions"],
            "patch projection": f"{self.parts['encoder.project']}.weight",
            "first block": f"{self.of_block('encoder.blocks', 0, 'mlp.up')[0]}.weight",
        }  # fmt: skip
        absent = [f"{what} ({name})" for what, name in names.items() if name not in tensors]
        if absent:
            raise MinimaeError(f"these weights have no {', no '.join(absent)}: it is not a plain ViT with a class token")
        found = [tensors[name] for name in names.values()]
        if found[2].dim() != 4:
            raise MinimaeError(f"the patch projection has the shape {tuple(found[2].shape)}, not that of a convolution (d, c, p1, p2)")
        return found

    def count(self, tensors: Mapping[str, Tensor], which: str) -> int:
        """How many blocks there are."""
        return len({match[1] for name in tensors if (match := re.match(rf"{re.escape(self.parts[which])}\.(\d+)\.", name))})

    def has_decoder(self, tensors: Mapping[str, Tensor]) -> bool:
        return f"{self.parts.get('decoder.embed')}.weight" in tensors

    def decoder_of(self, tensors: Mapping[str, Tensor], facts: Facts, width: int, depth: int, source: str) -> dict[str, int]:
        """Width, depth and heads of the decoder; without one, those for a fresh one."""
        if not self.has_decoder(tensors):
            return fresh_decoder(width, depth)
        d, blocks = len(tensors[f"{self.parts['decoder.embed']}.weight"]), self.count(tensors, "decoder.blocks")
        up = len(tensors[f"{self.of_block('decoder.blocks', 0, 'mlp.up')[0]}.weight"])
        if up != 4 * d:
            raise MinimaeError(f"{source}: its decoder_intermediate_size is {up}; ours is 4 × the decoder's width")
        if facts.decoder_heads is None:
            raise unknown_heads(d, blocks, "decoder_heads", "a decoder", 16 if d == 512 else None)
        return {"decoder_width": d, "decoder_depth": blocks, "decoder_heads": facts.decoder_heads}


def fresh_decoder(width: int, depth: int) -> dict[str, int]:
    """Width, depth and heads of a decoder for an encoder without one: those of the named size, or of the paper."""
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
    rows = positions[0] if positions.dim() == 3 else positions
    n = len(rows)
    if stated is not None:
        patches = (stated[0] // patch[0]) * (stated[1] // patch[1])
        if patches not in (n, n - 1):
            raise MinimaeError(f"an image of {stated[0]}×{stated[1]} has {patches} patches; there are {n - 1} positions")
        return stated
    if rows.shape[1] % 4 == 0:
        for h in (h for h in range(1, n) if (n - 1) % h == 0):
            if torch.allclose(rows.float(), sincos_2d(rows.shape[1], (h, (n - 1) // h)), atol=1e-3):
                return h * patch[0], (n - 1) // h * patch[1]
    side = math.isqrt(n - 1) if math.isqrt(n - 1) ** 2 == n - 1 else math.isqrt(n)
    if side * side not in (n, n - 1):
        raise MinimaeError(f"{n - 1} positions are no square grid: say for which image they are (original_image=(height, width))")
    return side * patch[0], side * patch[1]


def square(sides: Pair) -> int | Pair:
    """One number where both sides are equal."""
    return sides[0] if sides[0] == sides[1] else sides


def to_ours(name: str, tensors: list[Tensor]) -> Tensor:
    """Their tensor, or those of queries, keys and values → ours of this name."""
    tensor = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
    if name.endswith("positions") and tensor.dim() == 3:
        return tensor[0]
    if name == "encoder.project.weight" and tensor.dim() == 4:  # theirs runs channels, rows, columns; ours rows, columns, channels
        return rearrange(tensor, "d c p1 p2 -> d (p1 p2 c)")
    return tensor


def to_theirs(name: str, tensor: Tensor, theirs: tuple[str, ...], size: Size) -> dict[str, Tensor]:
    """Our tensor of this name → theirs, by name."""
    if name.endswith("positions"):
        tensor = tensor[None]
    elif name == "encoder.project.weight":
        p1, p2 = pair(size.patch)
        tensor = rearrange(tensor, "d (p1 p2 c) -> d c p1 p2", p1=p1, p2=p2)
    return {name: part.contiguous() for name, part in zip(theirs, tensor.chunk(len(theirs)), strict=True)}
