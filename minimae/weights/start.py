"""Pre-training from trained weights, ours or others', instead of random ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..data.types import ImageDataset
from ..errors import MinimaeError
from ..model.mae import MAE
from ..model.patches import pair
from ..model.sizes import Size
from ..model.targets import PCATarget

if TYPE_CHECKING:
    from ..tasks.pretrain import Pretrain, Pretrained
    from .classified import Classified

SHAPE = {"width": "--width", "depth": "--depth", "heads": "--heads", "patch": "--patch", "channels": "--channels", "mlp_ratio": "--size"}


def load_start(recipe: Pretrain, size: Size) -> Pretrained | Classified:
    """The weights that a recipe starts from (``recipe.init``), with positions for its images.

    Raises MinimaeError when they cannot be read, and for an encoder of another size, with the options that would fit.
    """
    from .registry import load

    assert recipe.init is not None
    try:
        found = load(recipe.init)
    except MinimaeError as error:
        hint = f"; or convert them first: minimae convert {recipe.init} start.safetensors --to minimae" if "(--" in str(error) else ""
        raise MinimaeError(f"--init: {error}{hint}") from None
    theirs = found.size
    theirs, size = (replace(s, patch=pair(s.patch)) for s in (theirs, size))
    differ = {name: getattr(theirs, name) for name in SHAPE if getattr(theirs, name) != getattr(size, name)}
    if differ:
        what = ", ".join(f"{name} {shown(value)} (the recipe: {shown(getattr(size, name))})" for name, value in differ.items())
        options = " ".join(f"{SHAPE[name]} {shown(value)}" for name, value in differ.items() if name != "mlp_ratio")
        images = " Their number of channels is that of the images they were trained on." if "channels" in differ else ""
        raise MinimaeError(f"{recipe.init} does not fit this recipe: its encoder has {what}. Add {options}{images}")
    from .own import at

    return at(found, size.image)


def shown(value: Any) -> str:
    """A number, or one side of a square."""
    return str(value) if isinstance(value, int) else str(value[0]) if value[0] == value[1] else f"{value[0]}×{value[1]}"


def starter(recipe: Pretrain, images: ImageDataset) -> Callable[[MAE], str]:
    """The argument ``start`` of :func:`minimae.tasks.pretrain.pretrain` for a recipe with ``init``. Raises as :func:`load_start`."""
    found = load_start(recipe, recipe.size_for(images))
    return lambda model: start_from(model, found, recipe, images.statistics)


def start_from(model: MAE, found: Pretrained | Classified, recipe: Pretrain, statistics: tuple[Tensor, Tensor]) -> str:
    """Copy trained weights into a fresh model, in place → what was taken and what is fresh, to be printed.

    The decoder is taken too if ``recipe.init_decoder`` asks for it and theirs is trained, of the same size and for the same target.
    """
    encoder, absent = encoder_of(found)
    missing = copy_into(model.encoder, encoder.state_dict(), absent)
    taken, fresh = ["the encoder"], [f"the encoder's {name}" for name in missing]
    reason = why_not(model, found, recipe)
    if reason is None:
        copy_into(model.decoder, found.model.decoder.state_dict(), ())  # type: ignore[union-attr]
        taken.append("the decoder")
    else:
        fresh.append(f"the decoder ({reason})")
    text = f"starts from {' and '.join(taken)} of {recipe.init}" + (f"; fresh: {', '.join(fresh)}" if fresh else "")
    if not all(torch.allclose(a.cpu(), b.cpu(), atol=1e-3) for a, b in zip(statistics, found.statistics, strict=True)):
        text += f"\nimages are normalised by their own statistics ({listed(statistics)}); the weights' were {listed(found.statistics)}"
    if (eps := found.size.eps) != model.size.eps:
        text += f"\nthe norms add {model.size.eps} to the variance, and those of the weights added {eps}"
    return text


def encoder_of(found: Pretrained | Classified) -> tuple[nn.Module, tuple[str, ...]]:
    """The loaded encoder, and its missing parameters: a classifier of the mean has its norm after the mean."""
    if hasattr(found, "model"):
        return found.model.encoder, ()
    classifier = found.classifier
    if classifier.pool == "mean":
        return classifier.encoder, ("norm.weight", "norm.bias")
    encoder: Any = classifier.encoder
    encoder.norm = classifier.norm
    return encoder, ()


def copy_into(part: nn.Module, theirs: dict[str, Tensor], absent: tuple[str, ...]) -> list[str]:
    """Copy the weights that exist, in place → the names of those that stay fresh."""
    own = part.state_dict()
    missing = [name for name in own if name not in theirs or name in absent]
    with torch.no_grad():
        for name, value in own.items():
            if name not in missing:
                value.copy_(theirs[name])
    return missing


def why_not(model: MAE, found: Any, recipe: Pretrain) -> str | None:
    """Why the decoder is not taken; None when it is."""
    if not recipe.init_decoder:
        return "as asked"
    if not hasattr(found, "model") or not found.decoder:
        return "these weights have none"
    ours, theirs = model.size, found.model.size
    shape = ("decoder_width", "decoder_depth", "decoder_heads")
    if any(getattr(ours, name) != getattr(theirs, name) for name in shape):
        return "theirs is " + " × ".join(str(getattr(theirs, name)) for name in shape) + " (width × depth × heads)"
    if (model.decoder.mask_token is None) != (found.model.decoder.mask_token is None):
        return "theirs takes its mask tokens elsewhere"
    if found.recipe.target != recipe.target or isinstance(model.target, PCATarget):
        return f"theirs predicts {found.recipe.target}, and this recipe {recipe.target}"
    return None


def listed(statistics: tuple[Tensor, Tensor]) -> str:
    """Mean and standard deviation of each channel, as text."""
    return ", ".join(f"{mean:.3f} ± {std:.3f}" for mean, std in zip(*(x.tolist() for x in statistics), strict=True))
