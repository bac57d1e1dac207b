"""The size of a model from the shapes of its tensors: what can be seen there, and what has to be told."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, replace

import torch
from torch import Tensor

from ..errors import MinimaeError
from ..model.patches import Pair
from ..model.positions import sincos_2d
from ..model.sizes import SIZES, Size
from .facts import Facts, compare_sizes
from .layouts import Layout

USUAL_DECODER = {"decoder_width": 512, "decoder_depth": 8, "decoder_heads": 16}  # Table 1 of the paper


def size_of(tensors: Mapping[str, Tensor], layout: Layout, facts: Facts, source: str) -> Size:
    """The size of the model that these tensors belong to, at the image size they were trained for.

    The number of heads cannot be read from weights and must be stated. Raises MinimaeError when it is not, when what is stated differs
    from the tensors, and for other architectures.
    """
    big = layout == "huggingface"
    token, positions, projection, up = essentials(tensors, big=big)
    width, channels = int(token.shape[-1]), int(projection.shape[1])
    patch: Pair = int(projection.shape[2]), int(projection.shape[3])
    depth = count(tensors, "vit.encoder.layer" if big else "blocks")
    image = image_of(positions, patch, facts.image)
    decoder = decoder_of(tensors, facts, width, depth, big=big)
    found = {
        "hidden_size": width, "num_hidden_layers": depth, "intermediate_size": len(up), "num_channels": channels, "patch_size": list(patch),
        "head_dim": None if facts.heads is None else width // facts.heads,
    }  # fmt: skip
    if decoder_name(big) in tensors:
        wide = tensors[f"{'decoder.decoder_layers.0.intermediate.dense' if big else 'decoder_blocks.0.mlp.fc1'}.weight"].shape[0]
        names = {"decoder_hidden_size": "decoder_width", "decoder_num_hidden_layers": "decoder_depth"}
        found |= {theirs: decoder[ours] for theirs, ours in names.items()} | {"decoder_intermediate_size": int(wide)}
        if wide != 4 * decoder["decoder_width"]:
            raise MinimaeError(f"{source}: its decoder_intermediate_size is {wide}; ours is 4 × the decoder's width")
    compare_sizes(facts.compared, found, source)
    if len(up) % width:
        raise MinimaeError(f"{source}: its intermediate_size is {len(up)}; ours is a multiple of the width, which is {width}")
    if facts.heads is None:
        raise MinimaeError(unknown_heads(width, depth, "heads", "an encoder", next((s.heads for s in same(width, depth)), None)))
    try:
        return Size(
            width, depth, facts.heads, **decoder, patch=square(patch), image=square(image), channels=channels,
            mlp_ratio=len(up) // width, eps=facts.eps,
        )  # fmt: skip
    except ValueError as error:
        raise MinimaeError(f"{source}: {error}") from None


def essentials(tensors: Mapping[str, Tensor], *, big: bool) -> list[Tensor]:
    """Class token, positions, patch projection, and the first layer of the first MLP. Raises MinimaeError when one is missing."""
    names = {
        "class token": "vit.embeddings.cls_token" if big else "cls_token",
        "positions": "vit.embeddings.position_embeddings" if big else "pos_embed",
        "patch projection": f"{'vit.embeddings.patch_embeddings.projection' if big else 'patch_embed.proj'}.weight",
        "first block": f"{'vit.encoder.layer.0.intermediate.dense' if big else 'blocks.0.mlp.fc1'}.weight",
    }
    absent = [f"{what} ({name})" for what, name in names.items() if name not in tensors]
    if absent:
        raise MinimaeError(f"these weights have no {', no '.join(absent)}: it is not a plain ViT with a class token")
    found = [tensors[name] for name in names.values()]
    if found[2].dim() != 4:
        raise MinimaeError(f"the patch projection has the shape {tuple(found[2].shape)}, not that of a convolution (d, c, p1, p2)")
    return found


def count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """How many blocks there are."""
    found = {int(m[1]) for name in tensors if (m := re.match(rf"{re.escape(prefix)}\.(\d+)\.", name))}
    return len(found)


def square(sides: Pair) -> int | Pair:
    """One number where both sides are equal."""
    return sides[0] if sides[0] == sides[1] else sides


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


def same(width: int, depth: int) -> list[Size]:
    """Named sizes with this width and depth."""
    return [s for s in SIZES.values() if (s.width, s.depth) == (width, depth)]


def unknown_heads(width: int, depth: int, option: str, what: str, usual: int | None) -> str:
    """The message when heads were not stated, with the number that the paper's model of this width has."""
    hint = "" if usual is None else f". {usual} is usual at this width"
    dashed = option.replace("_", "-")
    return (
        f"how many heads {what} of width {width} with {depth} blocks has cannot be seen in its weights: "
        f"give {option}= (--{dashed}){hint}"
    )


def decoder_name(big: bool) -> str:
    return "decoder.decoder_embed.weight" if big else "decoder_embed.weight"


def decoder_of(tensors: Mapping[str, Tensor], facts: Facts, width: int, depth: int, *, big: bool) -> dict[str, int]:
    """Width, depth and heads of the decoder; without one, those of the named size, or of the paper, for a fresh one."""
    if decoder_name(big) not in tensors:
        named = same(width, depth)
        return {key: value for key, value in asdict(named[0]).items() if key in USUAL_DECODER} if named else dict(USUAL_DECODER)
    d = int(tensors[decoder_name(big)].shape[0])
    blocks = count(tensors, "decoder.decoder_layers" if big else "decoder_blocks")
    if facts.decoder_heads is None:
        raise MinimaeError(unknown_heads(d, blocks, "decoder_heads", "a decoder", 16 if d == 512 else None))
    return {"decoder_width": d, "decoder_depth": blocks, "decoder_heads": facts.decoder_heads}


def resized(size: Size, image: int | Pair) -> Size:
    """The same model for another image. Raises MinimaeError when the patch does not divide it."""
    try:
        return replace(size, image=image)
    except ValueError as error:
        raise MinimaeError(str(error)) from None
