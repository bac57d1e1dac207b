"""Which parameter gets which weight decay and which share of the learning rate (paper, Tables 8 to 10)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def adamw(groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    """AdamW over these groups, with torch's fused step."""
    return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for AdamW: weight matrices and tokens are decayed; biases and 1-D parameters are not.

    The class token and the mask tokens are decayed in pre-training, as the authors do. Frozen parameters are left out.
    """
    learned = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in learned if p.dim() > 1]
    exempt = [p for p in learned if p.dim() <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]


def layer_groups(classifier: nn.Module, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Groups for fine-tuning: the lr of layer i of a depth-L encoder is scaled by ``layer_decay ** (L + 1 − i)``.

    Layer 0 is tokens, positions and patch projection; block i is layer i + 1; norm and head are layer L + 1 (scale 1).
    ``classifier.encoder`` is the encoder. Class token and positions are not decayed here. Each group carries ``lr_scale``.
    """
    depth = len(classifier.encoder.blocks)  # type: ignore[union-attr, arg-type]
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in classifier.named_parameters():
        if not parameter.requires_grad:
            continue
        layer = layer_of(name, depth)
        plain = parameter.dim() <= 1 or name.endswith(("_token", "positions"))
        group = groups.setdefault((layer, plain), {"params": [], "weight_decay": 0.0 if plain else weight_decay})
        group["params"].append(parameter)
        group["lr_scale"] = layer_decay ** (depth + 1 - layer)
    return list(groups.values())


def layer_of(name: str, depth: int) -> int:
    """The layer id of a parameter of a classifier, for layer-wise lr decay."""
    if name.startswith("encoder.blocks."):
        return int(name.split(".")[2]) + 1
    if name.startswith(("encoder.project", "encoder.class_token", "encoder.mask_token", "encoder.positions")):
        return 0
    return depth + 1


def layer_lrs(optimizer: torch.optim.Optimizer, lr: float) -> dict[str, float]:
    """The learning rates of the layers, named by their share of ``lr``, for the log, if there are several."""
    scales = sorted({group.get("lr_scale", 1.0) for group in optimizer.param_groups})
    return {f"lr_x{scale:.3g}": lr * scale for scale in scales} if len(scales) > 1 else {}


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its share of this learning rate; the layer's scale multiplies the whole of it, the floor included."""
    for group in optimizer.param_groups:
        value = lr * group.get("lr_scale", 1.0)
        if isinstance(group["lr"], Tensor):  # a tensor lr lets compiled and captured steps read it
            group["lr"].fill_(value)
        else:
            group["lr"] = value
