"""How each library calls and shapes the parameters of the same model.

minimae: our own names. official: the authors' code, and timm, whose ViT it is built on. huggingface: ViTMAE and ViT of the big library.
A layout is a table from our names to theirs; reading and writing use the same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

from ..errors import MinimaeError
from ..model.patches import pair
from ..model.sizes import Size

Layout = Literal["minimae", "official", "huggingface", "timm"]
LAYOUTS: tuple[Layout, ...] = ("minimae", "official", "huggingface", "timm")
Change = Literal["same", "leading axis", "convolution"]


@dataclass(frozen=True)
class Place:
    """Where a parameter of ours is in another layout. names: one, or those of queries, keys and values. change: of its shape."""

    names: tuple[str, ...]
    change: Change = "same"


# Parts of a block, and parts around the blocks: ours → (official and timm, huggingface).
BLOCK = {
    "norm1": ("norm1", "layernorm_before"),
    "attention.qkv": ("attn.qkv", "attention.attention.*"),
    "attention.out": ("attn.proj", "attention.output.dense"),
    "norm2": ("norm2", "layernorm_after"),
    "mlp.up": ("mlp.fc1", "intermediate.dense"),
    "mlp.down": ("mlp.fc2", "output.dense"),
}
QKV = ("query", "key", "value")
ENCODER = {
    "encoder.class_token": ("cls_token", "vit.embeddings.cls_token"),
    "encoder.positions": ("pos_embed", "vit.embeddings.position_embeddings"),
    "encoder.project": ("patch_embed.proj", "vit.embeddings.patch_embeddings.projection"),
    "encoder.blocks": ("blocks", "vit.encoder.layer"),
}
DECODER = {
    "decoder.embed": ("decoder_embed", "decoder.decoder_embed"),
    "decoder.mask_token": ("mask_token", "decoder.mask_token"),
    "decoder.positions": ("decoder_pos_embed", "decoder.decoder_pos_embed"),
    "decoder.blocks": ("decoder_blocks", "decoder.decoder_layers"),
    "decoder.norm": ("decoder_norm", "decoder.decoder_norm"),
    "decoder.predict": ("decoder_pred", "decoder.decoder_pred"),
}
ENDS = {  # what follows the blocks: of an encoder; of a classifier of the mean, and of the class token
    "encoder": {"encoder.norm": ("norm", "vit.layernorm")},
    "mean": {"norm": ("fc_norm", ""), "head": ("head", "")},
    "class": {"norm": ("norm", "vit.layernorm"), "head": ("head", "classifier")},
}
End = Literal["encoder", "mean", "class"]

# transformers 5 calls the same parts by other names in memory, and some (5.23) write the decoder's blocks under a name that its own
# renaming has bent: theirs → as the published files have it.
NEWER = {
    "vit.layers.": "vit.encoder.layer.",
    "decoder.decoder_encoder.layer.": "decoder.decoder_layers.",
    "attention.q_proj.": "attention.attention.query.",
    "attention.k_proj.": "attention.attention.key.",
    "attention.v_proj.": "attention.attention.value.",
    "attention.o_proj.": "attention.output.dense.",
    "mlp.fc1.": "intermediate.dense.",
    "mlp.fc2.": "output.dense.",
}


def table(layout: Layout, size: Size, *, end: End = "encoder", decoder: bool = False) -> dict[str, Place]:
    """Our parameter names → where they are in a layout. end: what follows the encoder's blocks. decoder: whether it has one.

    Raises MinimaeError for what a layout has no place for.
    """
    if layout == "huggingface" and end == "mean":
        raise MinimaeError("the big library's classifier reads the class token, and this one the mean of the patches: convert it to timm")
    if layout == "timm" and decoder:
        raise MinimaeError("timm has no decoder: convert the encoder alone (--encoder-only), or choose official or huggingface")
    column = 1 if layout == "huggingface" else 0
    found: dict[str, Place] = {}
    parts = ENCODER | ENDS[end] | (DECODER if decoder else {})
    for ours, names in parts.items():
        theirs = names[column]
        if ours.endswith("token"):
            found[ours] = Place((theirs,))
        elif ours.endswith("positions"):
            found[ours] = Place((theirs,), "leading axis")
        elif ours.endswith("blocks"):
            for i in range(size.depth if ours.startswith("encoder") else size.decoder_depth):
                for part, block_names in BLOCK.items():
                    for kind in ("weight", "bias"):
                        whole = f"{theirs}.{i}.{block_names[column]}.{kind}"
                        split = tuple(whole.replace("*", letter) for letter in QKV) if "*" in whole else (whole,)
                        found[f"{ours}.{i}.{part}.{kind}"] = Place(split)
        else:
            change: Change = "convolution" if ours == "encoder.project" else "same"
            found[f"{ours}.weight"] = Place((f"{theirs}.weight",), change)
            found[f"{ours}.bias"] = Place((f"{theirs}.bias",))
    if layout == "minimae":
        return {ours: Place((ours,)) for ours in found}
    return found


def to_ours(place: Place, tensors: Mapping[str, Tensor]) -> Tensor:
    """Their tensor or tensors → ours."""
    found = torch.cat([tensors[name] for name in place.names]) if len(place.names) > 1 else tensors[place.names[0]]
    if place.change == "leading axis" and found.dim() == 3:
        return found[0]
    if place.change == "convolution" and found.dim() == 4:  # theirs runs channels, rows, columns; ours rows, columns, channels
        return rearrange(found, "d c p1 p2 -> d (p1 p2 c)")
    return found


def to_theirs(place: Place, tensor: Tensor, size: Size) -> dict[str, Tensor]:
    """Our tensor → theirs, by name."""
    if len(place.names) > 1:
        return {name: part.contiguous() for name, part in zip(place.names, tensor.chunk(len(place.names)), strict=True)}
    if place.change == "leading axis":
        tensor = tensor[None]
    elif place.change == "convolution":
        p1, p2 = pair(size.patch)
        tensor = rearrange(tensor, "d (p1 p2 c) -> d c p1 p2", p1=p1, p2=p2)
    return {place.names[0]: tensor.contiguous()}


def detect(names: Iterable[str]) -> Layout:
    """The layout that these names belong to. Raises MinimaeError that shows some of them when it is none of ours."""
    given = set(names)
    if "encoder.project.weight" in given:
        return "minimae"
    if any("embeddings.patch_embeddings.projection.weight" in name for name in given):
        return "huggingface"
    if "patch_embed.proj.weight" in given:
        return "official" if any(name.startswith("decoder_") for name in given) else "timm"
    some = ", ".join(sorted(given)[:5])
    raise MinimaeError(f"these names belong to no layout that is known ({', '.join(LAYOUTS)}): {some}, …")


def usual(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The big library's tensors under the names that it uses in files, whichever version they come from."""
    found = {}
    for name, tensor in tensors.items():
        if not name.startswith(("vit.", "decoder.", "classifier.")):
            name = f"vit.{name}"
        for new, old in NEWER.items():
            name = name.replace(new, old)
        found[name] = tensor
    return found
