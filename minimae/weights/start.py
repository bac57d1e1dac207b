"""Pre-training from trained weights, ours or others', instead of random ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..data.types import ImageDataset
from ..errors import MinimaeError
from ..model.mae import MAE
from ..model.patches import pair
from ..model.sizes import Size
from ..model.targets import PCATarget
from ..tasks.pretrain import Pretrain, Pretrained
from .classified import Classified
from .native import at
from .registry import load

ENCODER = ("width", "depth", "heads", "patch", "channels", "mlp_ratio", "class_tokens")
DECODER = ("decoder_width", "decoder_depth", "decoder_heads")


def starter(recipe: Pretrain, images: ImageDataset) -> Callable[[MAE], str]:
    """The argument ``start`` of :func:`minimae.tasks.pretrain.pretrain` for a recipe with ``init``. Raises as :func:`load_start`."""
    trained = load_start(recipe, recipe.size_for(images))
    return lambda model: start_from(model, trained, recipe, images.statistics)


def load_start(recipe: Pretrain, size: Size) -> Pretrained | Classified:
    """The weights that a recipe starts from (``recipe.init``), with positions for its images.

    Raises MinimaeError when they cannot be read, and for an encoder of another size, with the options that would fit.
    """
    assert recipe.init is not None
    try:
        trained = load(recipe.init)
    except MinimaeError as error:
        hint = f"; or convert them first: minimae convert {recipe.init} start.safetensors --to minimae" if "(--" in str(error) else ""
        raise MinimaeError(f"--init: {error}{hint}") from None
    theirs, ours = (replace(s, patch=pair(s.patch)) for s in (trained.size, size))
    if differ := [name for name in ENCODER if getattr(theirs, name) != getattr(ours, name)]:
        what = ", ".join(f"{name} {shown(getattr(theirs, name))} (the recipe: {shown(getattr(ours, name))})" for name in differ)
        options = " ".join(f"--{name} {shown(getattr(theirs, name))}" for name in differ if name != "mlp_ratio").replace("_", "-")
        images = " Their number of channels is that of the images they were trained on." if "channels" in differ else ""
        raise MinimaeError(f"{recipe.init} does not fit this recipe: its encoder has {what}. Add {options}{images}")
    return at(trained, size.image)


def shown(value: Any) -> str:
    """A number, or one side of a square."""
    return str(value) if isinstance(value, int) else str(value[0]) if value[0] == value[1] else f"{value[0]}×{value[1]}"


def start_from(model: MAE, trained: Pretrained | Classified, recipe: Pretrain, statistics: tuple[Tensor, Tensor]) -> str:
    """Copy trained weights into a fresh model, in place → what was taken and what is fresh, to be printed.

    The decoder is taken too if ``recipe.init_decoder`` asks for it and theirs was trained, with the same size and target.
    """
    if isinstance(trained, Pretrained):
        weights = trained.model.encoder.state_dict()
    else:  # a classifier of the mean has its norm after the mean
        norm = {} if trained.classifier.pool == "mean" else trained.classifier.norm.state_dict(prefix="norm.")
        weights = trained.classifier.encoder.state_dict() | norm
    taken, fresh = ["the encoder"], [f"the encoder's {name}" for name in copy_into(model.encoder, weights)]
    reason = why_decoder_is_fresh(model, trained, recipe)
    if isinstance(trained, Pretrained) and reason is None:
        copy_into(model.decoder, trained.model.decoder.state_dict())
        taken.append("the decoder")
    else:
        fresh.append(f"the decoder ({reason})")
    text = f"starts from {' and '.join(taken)} of {recipe.init}" + (f"; fresh: {', '.join(fresh)}" if fresh else "")
    if not all(torch.allclose(a.cpu(), b.cpu(), atol=1e-3) for a, b in zip(statistics, trained.statistics, strict=True)):
        text += f"\nimages are normalised by their own statistics ({listed(statistics)}); the weights used {listed(trained.statistics)}"
    if (eps := trained.size.eps) != model.size.eps:
        text += f"\nthe norms add {model.size.eps} to the variance, and those of the weights added {eps}"
    return text


def copy_into(part: nn.Module, weights: dict[str, Tensor]) -> list[str]:
    """Copy the given weights, in place → the names of those that stay fresh."""
    return part.load_state_dict({name: weights[name] for name in part.state_dict() if name in weights}, strict=False).missing_keys


def why_decoder_is_fresh(model: MAE, trained: Pretrained | Classified, recipe: Pretrain) -> str | None:
    """Why the decoder is not taken; None when it is."""
    if not recipe.init_decoder:
        return "as asked"
    if not isinstance(trained, Pretrained) or not trained.decoder:
        return "these weights have none"
    theirs = trained.model
    if any(getattr(model.size, name) != getattr(theirs.size, name) for name in DECODER):
        return "theirs is " + " × ".join(str(getattr(theirs.size, name)) for name in DECODER) + " (width × depth × heads)"
    if (model.decoder.mask_token is None) != (theirs.decoder.mask_token is None):
        return "theirs takes its mask tokens elsewhere"
    if trained.recipe.target != recipe.target:
        return f"theirs predicts {trained.recipe.target}, and this recipe {recipe.target}"
    return "the components of pca are fitted anew" if isinstance(model.target, PCATarget) else None


def listed(statistics: tuple[Tensor, Tensor]) -> str:
    """Mean and standard deviation of each channel, as text."""
    return ", ".join(f"{mean:.3f} ± {std:.3f}" for mean, std in zip(*(x.tolist() for x in statistics), strict=True))
