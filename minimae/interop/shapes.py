"""The size of a model from the shapes of its tensors: what can be seen there, and what has to be told."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from torch import Tensor

from ..errors import MinimaeError
from ..patches import Pair, pair
from ..sizes import SIZES, Size
from .layouts import Layout

USUAL_DECODER = {"decoder_width": 512, "decoder_depth": 8, "decoder_heads": 16}  # Table 1 of the paper


def size_of(
    tensors: Mapping[str, Tensor], layout: Layout, config: Mapping[str, Any], *, heads: int | None, decoder_heads: int | None
) -> Size:
    """The size of the model that these tensors belong to, at the image size they were trained for.

    Heads leave no trace in the weights: they are taken from what is given, from the config, or from the named size with
    the same width and depth. Raises MinimaeError when they cannot be known, and for models that are built otherwise.
    """
    big = layout == "huggingface"
    names = {
        "class token": "vit.embeddings.cls_token" if big else "cls_token",
        "positions": "vit.embeddings.position_embeddings" if big else "pos_embed",
        "patch projection": f"{'vit.embeddings.patch_embeddings.projection' if big else 'patch_embed.proj'}.weight",
        "first block": f"{'vit.encoder.layer.0.intermediate.dense' if big else 'blocks.0.mlp.fc1'}.weight",
    }
    absent = [f"{what} ({name})" for what, name in names.items() if name not in tensors]
    if absent:
        raise MinimaeError(f"these weights have no {', no '.join(absent)}: it is not a plain ViT with a class token")
    token, positions, projection, up = (tensors[name] for name in names.values())
    if projection.dim() != 4:
        raise MinimaeError(f"the patch projection has the shape {tuple(projection.shape)}, not that of a convolution (d, c, p1, p2)")
    width, channels = int(token.shape[-1]), int(projection.shape[1])
    patch: Pair = int(projection.shape[2]), int(projection.shape[3])
    depth = count(tensors, "vit.encoder.layer" if big else "blocks")
    image = image_of(int(positions.shape[-2]) - 1, patch, config.get("image_size"))
    decoder = decoder_of(tensors, config, width, depth, decoder_heads, big=big)
    return Size(
        width, depth, heads or config.get("num_attention_heads") or known_heads(width, depth), **decoder,
        patch=square(patch), image=square(image), channels=channels, mlp_ratio=int(up.shape[0]) // width,
    )  # fmt: skip


def count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """How many blocks there are."""
    found = {int(m[1]) for name in tensors if (m := re.match(rf"{re.escape(prefix)}\.(\d+)\.", name))}
    return len(found)


def square(sides: Pair) -> int | Pair:
    """One number where both sides are equal."""
    return sides[0] if sides[0] == sides[1] else sides


def image_of(n: int, patch: Pair, told: Any) -> Pair:
    """Height and width in pixels of an image of n patches, as it was told or of a square. Raises MinimaeError when neither fits."""
    if told is not None:
        height, width = pair(tuple(told) if isinstance(told, list) else told)
        if (height // patch[0]) * (width // patch[1]) == n:
            return height, width
        raise MinimaeError(
            f"an image of {height}×{width} has {(height // patch[0]) * (width // patch[1])} patches; there are {n} positions"
        )
    side = math.isqrt(n)
    if side * side != n:
        raise MinimaeError(f"{n} positions are no square grid: say for which image they are (original_image=(height, width))")
    return side * patch[0], side * patch[1]


def known_heads(width: int, depth: int) -> int:
    """The heads of the named size with this width and depth."""
    found = next((s.heads for s in SIZES.values() if (s.width, s.depth) == (width, depth)), None)
    if found is None:
        raise MinimaeError(
            f"how many heads an encoder of width {width} with {depth} blocks has cannot be seen in its weights: give --heads"
        )
    return found


def decoder_of(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], width: int, depth: int, heads: int | None, *, big: bool
) -> dict[str, int]:
    """Width, depth and heads of the decoder; without one, those of the named size, or of the paper."""
    name = "decoder.decoder_embed.weight" if big else "decoder_embed.weight"
    named = next((s for s in SIZES.values() if (s.width, s.depth) == (width, depth)), None)
    if name not in tensors:
        usual = {key: value for key, value in asdict(named).items() if key in USUAL_DECODER} if named else USUAL_DECODER
        return dict(usual)
    d = int(tensors[name].shape[0])
    blocks = count(tensors, "decoder.decoder_layers" if big else "decoder_blocks")
    heads = heads or config.get("decoder_num_attention_heads")
    if heads is None:
        same = named if named is not None and named.decoder_width == d else None
        heads = same.decoder_heads if same else USUAL_DECODER["decoder_heads"] if d == USUAL_DECODER["decoder_width"] else None
    if heads is None:
        raise MinimaeError(f"how many heads a decoder of width {d} has cannot be seen in its weights: give --decoder-heads")
    return {"decoder_width": d, "decoder_depth": blocks, "decoder_heads": heads}


def resized(size: Size, image: int | Pair) -> Size:
    """The same model for another image. Raises MinimaeError when the patch does not divide it."""
    try:
        return replace(size, image=image)
    except ValueError as error:
        raise MinimaeError(str(error)) from None
