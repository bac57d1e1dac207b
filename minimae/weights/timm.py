"""timm's VisionTransformer: its config, a live model read part by part, and its use as an MAE's encoder without conversion."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import MinimaeError
from ..model.checks import check_images, checked_mask
from ..model.masking import Mask, take
from ..model.sizes import SIZES, Size
from .facts import Facts, sides, unsupported
from .layouts import fresh_decoder, square

# Parts of a model and of a block whose class decides what is computed, and values that do; an absent part counts as None.
PARTS: dict[str, str] = {"norm_pre": "Identity", "patch_embed.norm": "Identity", "reg_token": "none", "attn_pool": "none"}
VALUES = {"patch_embed.dynamic_img_pad": False, "pos_drop.p": 0.0, "head_drop.p": 0.0, "patch_drop.prob": 0.0}
BLOCK_PARTS = {
    "": "Block", "attn": "Attention", "mlp": "Mlp", "mlp.act": "GELU", "norm1": "LayerNorm", "norm2": "LayerNorm",
    "attn.q_norm": "Identity", "attn.k_norm": "Identity", "attn.norm": "Identity", "attn.gate": "Identity", "mlp.norm": "Identity",
    "ls1": "Identity", "ls2": "Identity",
}  # fmt: skip
BLOCK_VALUES = {"mlp.act.approximate": "none", "attn.attn_drop.p": 0.0, "attn.proj_drop.p": 0.0, "mlp.drop1.p": 0.0}


def facts_of_config(config: Mapping[str, Any], source: str) -> Facts:
    """Facts from the config.json that timm writes: the architecture's name states the heads."""
    name = str(config["architecture"]).partition(".")[0]
    match = re.fullmatch(r"vit_(tiny|small|base|large|huge)_patch\d+_\d+", name)
    if match is None:
        raise MinimaeError(f"{source} is a {name} of timm, which is not one of its plain ViTs (vit_base_patch16_224 and the like)")
    args, pretrained = dict(config.get("model_args") or {}), config.get("pretrained_cfg") or {}
    heads, image = args.pop("num_heads", SIZES[match[1]].heads), args.pop("img_size", None) or (pretrained.get("input_size") or [None])[-2:]
    pool = args.pop("global_pool", None) or config.get("global_pool") or "token"
    for harmless in ("embed_dim", "depth", "patch_size", "num_classes", "in_chans", "no_embed_class", "dynamic_img_size"):
        args.pop(harmless, None)  # seen in the tensors, or of no consequence
    if args:
        raise MinimaeError(f"{source}: its model_args set {', '.join(f'{k} = {v!r}' for k, v in args.items())}, which is not known here")
    return Facts(
        heads=heads, image=sides(image) if image != [None] else None, statistics=statistics_of(pretrained), pool=pool_of(pool, source),
        classes=tuple(map(str, config.get("label_names") or ())),
    )  # fmt: skip


def statistics_of(pretrained_cfg: Any) -> tuple[list[float], list[float]] | None:
    """Mean and std in a pretrained_cfg, if it has them."""
    stated = dict(pretrained_cfg or {})
    return (list(stated["mean"]), list(stated["std"])) if {"mean", "std"} <= stated.keys() else None


def pool_of(name: str, source: str) -> str:
    """Our name for timm's global_pool. Raises MinimaeError for one that is not supported."""
    if name not in ("token", "avg"):
        raise unsupported(source, "global_pool", name, "'token' or 'avg'")
    return "class" if name == "token" else "mean"


def facts_of(model: Any) -> Facts:
    """Facts about a live VisionTransformer. Raises MinimaeError for one that is built differently from ours."""
    source = type(model).__name__
    try:
        first, image = model.blocks[0], sides(model.patch_embed.img_size)
        heads, eps, width = first.attn.num_heads, first.norm1.eps, first.attn.qkv.in_features
        faults = list(differences(model, heads, eps, width))
    except (AttributeError, IndexError, TypeError):
        raise MinimaeError(f"{source} is not a VisionTransformer of timm, and not a model of Hugging Face transformers") from None
    for name, value, ours in faults:
        raise unsupported(source, name, value, ours)
    pool = None if type(model.head).__name__ == "Identity" else pool_of(model.global_pool, source)
    if pool == "mean" and type(model.fc_norm).__name__ == "Identity":
        raise unsupported(source, "fc_norm", False, "the norm after the mean")
    if pool == "mean" and getattr(model, "pool_include_prefix", False):
        raise unsupported(source, "pool_include_prefix", True, "the mean of the patch tokens alone")
    return Facts(heads=heads, image=image, eps=eps, statistics=statistics_of(getattr(model, "pretrained_cfg", None)), pool=pool)


def differences(model: Any, heads: int, eps: float, width: int) -> Iterator[tuple[str, Any, str]]:
    """Everything that differs from our encoder: name, value, and ours."""
    norms = {"norm.eps": eps, "fc_norm.eps": eps}
    same = {"norm1.eps": eps, "norm2.eps": eps, "attn.num_heads": heads, "attn.qkv.out_features": 3 * width, "attn.qkv.in_features": width}
    for part in (model, *model.blocks):
        classes, values = (PARTS, VALUES | norms) if part is model else (BLOCK_PARTS, BLOCK_VALUES | same)
        for path, kind in classes.items():
            value = attribute(part, path)
            if value is not None and type(value).__name__ != kind:
                yield path or "block", type(value).__name__, "none" if kind == "Identity" else kind
        for path, ours in values.items():
            value = attribute(part, path)
            if value is not None and value != ours:
                yield path, value, repr(ours)
        if part is not model and abs(float(part.attn.scale) - (width // heads) ** -0.5) > 1e-9:
            yield "the scale of attention", float(part.attn.scale), "1 / √e"


def attribute(part: Any, path: str) -> Any:
    """A nested part of a module, by its path; None if there is none."""
    return reduce(lambda value, name: getattr(value, name, None), path.split("."), part) if path else part


class TimmEncoder(nn.Module):
    """A live VisionTransformer of timm as the encoder of an MAE: ``mae.encoder = TimmEncoder(vit)``; see docs/elsewhere.md.

    The blocks see the class token, registers and visible patches only. Nothing is copied: gradients reach ``vit``, which is what you keep.
    Registers, layer scale and norms of queries and keys stay as they are. ``size`` describes it, for :class:`minimae.MAE`; decoder:
    ``decoder_width``, ``decoder_depth``, ``decoder_heads``.
    Raises ValueError for a model without class token or positions of its own, or that drops patches itself.
    """

    def __init__(self, vit: Any, **decoder: int) -> None:
        super().__init__()
        name = type(vit).__name__
        if not getattr(vit, "has_class_token", False) or getattr(vit, "pos_embed", None) is None:
            raise ValueError(f"{name} is not a VisionTransformer of timm with a class token and learned positions, which the decoder needs")
        if attribute(vit, "patch_drop.prob"):
            raise ValueError(f"{name} drops patches itself: build it with patch_drop_rate=0, because the mask removes them")
        self.vit, self.mask_token = vit, None
        embed, block, width, depth = vit.patch_embed, vit.blocks[0], vit.embed_dim, len(vit.blocks)
        self.size = Size(
            width, depth, block.attn.num_heads, **{**fresh_decoder(width, depth), **decoder}, patch=square(tuple(embed.patch_size)),
            image=square(tuple(embed.img_size)), channels=embed.proj.in_channels, mlp_ratio=block.mlp.fc1.out_features // width,
        )  # fmt: skip

    def embed(self, images: Tensor, mask: Mask | None = None) -> Tensor:
        """Images ``b c height width`` → tokens before the first block: class token, registers, and the patches that the mask keeps."""
        check_images(images, self.size.channels)
        tokens = self.vit._pos_embed(self.vit.patch_embed(images))
        if mask is not None:
            first, patches = tokens[:, : self.vit.num_prefix_tokens], tokens[:, self.vit.num_prefix_tokens :]
            b, n = patches.shape[:2]
            if len(checked_mask(mask, {}).keep) != b or mask.n != n:
                raise ValueError(f"this mask is for {len(mask.keep)} images of {mask.n} patches; the batch has {b} of {n}")
            tokens = torch.cat([first, take(patches, mask.keep)], dim=1)
        embedded: Tensor = self.vit.norm_pre(tokens)
        return embedded

    def without_registers(self, tokens: Tensor) -> Tensor:
        return torch.cat([tokens[:, :1], tokens[:, self.vit.num_prefix_tokens :]], dim=1) if self.vit.num_prefix_tokens > 1 else tokens

    def forward(self, images: Tensor, mask: Mask | None = None) -> Tensor:
        """Images → latent ``b t d`` after the last norm, as :class:`minimae.Encoder` gives it."""
        norm = self.vit.fc_norm if isinstance(self.vit.norm, nn.Identity) else self.vit.norm  # the former when it is after the mean
        latent: Tensor = norm(self.features(images, mask)[-1])
        return latent

    def features(self, images: Tensor, mask: Mask | None = None) -> list[Tensor]:
        """The tokens ``b t d`` after every block, before the last norm: one tensor per block."""
        outputs = [self.embed(images, mask)]
        for block in self.vit.blocks:
            outputs.append(block(outputs[-1]))
        return [self.without_registers(tokens) for tokens in outputs[1:]]
