"""A live model of timm: its configuration is read from its modules, and what ours does not support is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import MinimaeError
from .facts import Facts, differs, sides, timm_pool


def of_timm(model: Any) -> Facts:
    """Facts about a VisionTransformer of timm. Raises MinimaeError for one that is built otherwise than ours."""
    source = type(model).__name__
    try:
        blocks, embed = list(model.blocks), model.patch_embed
        first, image = blocks[0], embed.img_size
        heads, eps = first.attn.num_heads, first.norm1.eps
        faults = list(differences(model, blocks, embed, heads, eps))
    except (AttributeError, IndexError, TypeError):
        raise MinimaeError(f"{source} is not a VisionTransformer of timm, and not a model of Hugging Face transformers") from None
    for name, value, ours in faults:
        raise differs(source, name, value, ours)
    named = getattr(model, "pretrained_cfg", None) or {}
    statistics = (list(named["mean"]), list(named["std"])) if {"mean", "std"} <= dict(named).keys() else None
    return Facts(heads=heads, image=sides(image), eps=eps, statistics=statistics, pool=pool_of(model, source))


def differences(model: Any, blocks: list[Any], embed: Any, heads: int, eps: float) -> Iterator[tuple[str, Any, str]]:
    """Everything that differs from our encoder: name, value, and ours."""
    nothing = "Identity"
    for name, part in (("norm_pre", model.norm_pre), ("patch_embed.norm", embed.norm)):
        if type(part).__name__ != nothing:
            yield name, type(part).__name__, "none"
    for name in ("reg_token", "attn_pool"):
        if getattr(model, name, None) is not None:
            yield name, type(getattr(model, name)).__name__, "none"
    if getattr(embed, "dynamic_img_pad", False):
        yield "dynamic_img_pad", True, "no padding"
    for name, part in (("pos_drop", model.pos_drop), ("head_drop", getattr(model, "head_drop", None)), ("patch_drop", model.patch_drop)):
        if (rate := getattr(part, "p", getattr(part, "prob", 0.0))) and rate > 0:
            yield name, rate, "no dropout"
    for block in blocks:
        yield from differences_of_block(block, heads, eps)
    for name in ("norm", "fc_norm"):
        part = getattr(model, name, None)
        if getattr(part, "eps", eps) != eps:
            yield f"the eps of {name}", part.eps, f"one eps for all norms ({eps})"  # type: ignore[union-attr]


def differences_of_block(block: Any, heads: int, eps: float) -> Iterator[tuple[str, Any, str]]:
    attn, mlp, act = block.attn, block.mlp, block.mlp.act
    kinds = (("block", block, "Block"), ("attention", attn, "Attention"), ("MLP", mlp, "Mlp"), ("activation", act, "GELU"))
    for what, part, wanted in kinds:
        if type(part).__name__ != wanted:
            yield what, type(part).__name__, wanted
    if getattr(act, "approximate", "none") != "none":
        yield "an approximate GELU", act.approximate, "the exact one"
    parts = {"q_norm": attn.q_norm, "k_norm": attn.k_norm, "ls1": block.ls1, "ls2": block.ls2}
    parts |= {"attn.norm": getattr(attn, "norm", None), "mlp.norm": getattr(mlp, "norm", None), "attn.gate": getattr(attn, "gate", None)}
    for name, part in parts.items():
        if part is not None and type(part).__name__ != "Identity":
            yield name, type(part).__name__, "none"
    if attn.num_heads != heads or attn.qkv.out_features != 3 * attn.qkv.in_features:
        yield "heads", f"{attn.num_heads} of width {attn.qkv.out_features // 3 // attn.num_heads}", "the same heads in every block"
    if abs(float(attn.scale) - (attn.qkv.in_features // heads) ** -0.5) > 1e-9:
        yield "the scale of attention", float(attn.scale), "1 / √e"
    for name in ("norm1", "norm2"):
        if (norm := getattr(block, name)).eps != eps or "LayerNorm" not in type(norm).__name__:
            yield name, f"{type(norm).__name__} with eps {norm.eps}", f"LayerNorm with one eps for all ({eps})"
    for name, part in (("attn_drop", attn.attn_drop), ("proj_drop", attn.proj_drop), ("mlp.drop", mlp.drop1)):
        if part.p > 0:
            yield name, part.p, "no dropout"


def pool_of(model: Any, source: str) -> str | None:
    """The input of its classifier: mean or class; None when it has none. The mean must be taken before the norm, as the paper does."""
    if type(model.head).__name__ == "Identity":
        return None
    pool = timm_pool(model.global_pool, source)
    if pool == "mean" and type(model.fc_norm).__name__ == "Identity":
        raise differs(source, "fc_norm", False, "the norm after the mean")
    if pool == "mean" and getattr(model, "pool_include_prefix", False):
        raise differs(source, "pool_include_prefix", True, "the mean of the patch tokens alone")
    return pool
