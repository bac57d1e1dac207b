"""Weights of another layout → a model of ours, with everything that is needed to use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import MinimaeError, reason
from ..model.checks import check_sides
from ..model.mae import MAE
from ..model.patches import Pair, pair
from ..model.positions import resize_positions
from ..model.sizes import Size
from ..model.vit import Encoder
from ..tasks.finetune import Classifier
from ..tasks.pretrain import Pretrain, Pretrained
from ..train.settings import from_dict
from . import registry as exported
from .classified import Classified
from .facts import Facts, after_us, agreed, differs, of_args, of_huggingface, of_name, of_ours, of_timm_config
from .files import Opened, open_weights
from .inside import chosen
from .layouts import LAYOUTS, End, Layout, detect, table, to_ours, usual
from .live import of_timm
from .own import of_export, of_run, with_options
from .shapes import resized, size_of
from .statistics import Statistics, found_statistics, warn


def read(
    source: str | Path | Mapping[str, Any] | nn.Module,
    *,
    layout: Layout | None = None,
    image: int | Pair | None = None,
    patch: int | Pair | None = None,
    channels: int | None = None,
    heads: int | None = None,
    decoder_heads: int | None = None,
    original_image: int | Pair | None = None,
    target: str | None = None,
    statistics: tuple[Any, Any] | None = None,
    strict: bool = True,
    key: str | None = None,
    prefix: str | None = None,
) -> Pretrained | Classified:
    """Weights in any known layout → a pre-trained model, or a classifier when they have a head.

    source: a file, a folder, tensors by name, or a live model of timm or of Hugging Face transformers. layout: by default it is detected.
    key: the entry of a file that holds the weights (``state_dict``, ``teacher``, ``model_ema``); prefix: the prefix of their names
    (``backbone.``). Both are found where only one choice is possible. image: another image size in pixels than the weights were trained
    for; positions of encoder and decoder are then resized, bicubically in two dimensions. patch, channels: what you expect; weights of
    other ones are refused with the reason.

    What weights do not show: heads, decoder_heads; original_image (where positions are no square grid); target, what the decoder
    was trained to predict; statistics, mean and standard deviation of the channels in [0, 1]. They are read where the source states them.
    Otherwise heads must be given, the target is assumed to be normalised, and statistics of three channels ImageNet's, with a warning.
    strict: refuse weights in which something is missing or left over; otherwise a warning lists it, and what is missing is fresh.

    Raises MinimaeError that says what was found and what was wanted.
    """
    for what, value in (("image", image), ("patch", patch), ("original_image", original_image)):
        if value is not None:
            check_sides(what, value)
    opened = opened_from(source, key=key, prefix=prefix)
    foreign = {
        "layout": layout, "patch": patch, "channels": channels, "heads": heads, "decoder_heads": decoder_heads,
        "original_image": original_image, "target": target, "statistics": statistics,
    }  # fmt: skip
    if opened.run is not None:
        return with_options(of_run(opened.run, opened.source), {**foreign, "image": image, "key": key, "prefix": prefix})
    tensors = opened.tensors
    if layout is not None and layout not in LAYOUTS:
        raise MinimaeError(f"unknown layout {layout!r}; choose one of {', '.join(LAYOUTS)}")
    layout = layout or detect(tensors)
    if layout == "minimae":
        if opened.about:
            return with_options(of_export(opened.about, tensors, opened.source), {**foreign, "image": image})
        raise MinimaeError(
            f"{opened.source} has our names, but not what belongs to them: write it with minimae.save(model, path, statistics=…), "
            "or use minimae export or the folder of the run"
        )
    if layout == "huggingface":
        tensors = usual(tensors)
    facts = facts_of(opened, layout, tensors, strict=strict)
    facts = replace(
        facts,
        heads=agreed("heads", heads, facts.heads, opened.source),
        decoder_heads=agreed("decoder_heads", decoder_heads, facts.decoder_heads, opened.source),
        image=facts.image if original_image is None else pair(original_image),
    )
    size = size_of(tensors, layout, facts, opened.source)
    refuse_others(size, patch, channels, opened.source)
    end, decoder = parts_of(tensors, layout)
    if end == "mean" and facts.pool == "class":  # for a single token the order of norm and pooling does not matter
        tensors, end = {name.replace("fc_norm.", "norm."): value for name, value in tensors.items()}, "class"
    if end == "class" and facts.pool == "mean":
        raise differs(opened.source, "fc_norm", False, "the norm after the mean")
    places = table("official" if layout == "timm" else layout, size, end=end, decoder=decoder)
    weights = taken(tensors, places, opened.source, strict=strict)
    after = size if image is None else resized(size, image)
    for name in ("encoder.positions", "decoder.positions"):
        if name in weights:
            rows = weights[name]
            if len(rows) == size.grid[0] * size.grid[1]:  # timm's no_embed_class: the class token has no position
                rows = torch.cat([torch.zeros_like(rows[:1]), rows])
            weights[name] = resize_positions(rows, size.grid, after.grid)
    known = found_statistics(statistics or facts.statistics, size, opened.source)
    if end == "encoder":
        return pretrained(weights, after, opened, facts, target, known, decoder=decoder, strict=strict)
    return classified(weights, after, end, known, facts, opened.source, strict=strict)


def opened_from(source: str | Path | Mapping[str, Any] | nn.Module, *, key: str | None, prefix: str | None) -> Opened:
    """Tensors of whatever was given."""
    if isinstance(source, str | Path):
        return open_weights(Path(source).expanduser(), key=key, prefix=prefix)
    if isinstance(source, nn.Module):
        model: Any = source
        tensors = {name: tensor.detach().clone().float() for name, tensor in source.state_dict().items()}
        if hasattr(getattr(model, "config", None), "to_dict"):
            config = model.config.to_dict()
            return Opened(type(source).__name__, tensors, config, about=config.get("minimae", {}))
        if isinstance(source, MAE | Encoder | Classifier):
            raise MinimaeError(f"this {type(source).__name__} is already one of our models: use it directly, or save it with minimae.save")
        return Opened(type(source).__name__, tensors, facts=of_timm(model))
    if not isinstance(source, Mapping):
        raise MinimaeError(f"weights are a name, a file, a folder, tensors by name or a live model, not {type(source).__name__}")
    return Opened("these tensors", chosen(source, "these tensors", key=key, prefix=prefix))


def facts_of(opened: Opened, layout: Layout, tensors: Mapping[str, Tensor], *, strict: bool) -> Facts:
    """What the source states about its weights, wherever it does. Raises MinimaeError for what is not of the kind that stands there."""
    try:
        return stated(opened, layout, tensors, strict=strict)
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        what = f"{type(error).__name__}: {reason(error)}"
        raise MinimaeError(f"{opened.source}: what stands beside its weights is not as its library writes it ({what})") from None


def stated(opened: Opened, layout: Layout, tensors: Mapping[str, Tensor], *, strict: bool) -> Facts:
    """What the source states about its weights."""
    if layout == "huggingface" and opened.config:  # that library may have changed what we wrote beside our own
        facts = of_huggingface(opened.config, opened.preprocessor, opened.source, strict=strict)
        return after_us(facts, of_ours(opened.about)) if opened.about else facts
    if opened.about:
        return of_ours(opened.about)
    if opened.facts is not None:
        return opened.facts
    if "architecture" in opened.config:
        return of_timm_config(opened.config, opened.source)
    if opened.args:
        return of_args(opened.args)
    return of_name(Path(opened.source).name, int(tensors["cls_token"].shape[-1])) if "cls_token" in tensors else Facts()


def refuse_others(size: Size, patch: int | Pair | None, channels: int | None, source: str) -> None:
    """Patch size and channels are part of the weights: raises MinimaeError that says so when others are wanted."""
    if patch is not None and pair(patch) != pair(size.patch):
        a, b = pair(size.patch), pair(patch)
        raise MinimaeError(
            f"{source} has patches of {a[0]}×{a[1]} pixels: its projection takes {size.values} values, "
            f"and there is none for {b[0]}×{b[1]}. Choose weights with that patch, or resize the images"
        )
    if channels is not None and channels != size.channels:
        raise MinimaeError(
            f"{source} takes {size.channels} channel(s), not {channels}: its projection has weights for no other. Convert the images to "
            f"{size.channels} channel(s) (grey can be repeated), or pre-train on your own channels"
        )


def parts_of(tensors: Mapping[str, Tensor], layout: Layout) -> tuple[End, bool]:
    """What follows the blocks, and whether there is a decoder."""
    if layout == "huggingface":
        return ("class" if "classifier.weight" in tensors else "encoder"), "decoder.decoder_embed.weight" in tensors
    end: End = "encoder"
    if "head.weight" in tensors:
        end = "mean" if "fc_norm.weight" in tensors else "class"
    return end, "decoder_embed.weight" in tensors


def taken(tensors: Mapping[str, Tensor], places: Mapping[str, Any], source: str, *, strict: bool) -> dict[str, Tensor]:
    """Our tensors. Raises MinimaeError (or warns, when not strict) with what is missing and what is left over."""
    wanted = {name for place in places.values() for name in place.names}
    missing, extra = sorted(wanted - tensors.keys()), sorted(tensors.keys() - wanted)
    if missing or extra:
        lists = (("missing", missing), ("not known here", extra))
        words = "; ".join(
            f"{what}: {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}" for what, names in lists if names
        )
        if strict:
            raise MinimaeError(f"{source} does not fit this model ({words}). With strict=False (--no-strict) the rest is taken")
        warn(f"{source}: {words}")
    return {ours: to_ours(place, tensors).float() for ours, place in places.items() if set(place.names) <= tensors.keys()}


def fill(model: nn.Module, weights: dict[str, Tensor], source: str, *, strict: bool) -> None:
    """Copy weights in. Raises MinimaeError for other shapes; what is missing (allowed when not strict) stays fresh."""
    own = model.state_dict()
    other = [f"{k} {tuple(v.shape)} ≠ {tuple(own[k].shape)}" for k, v in weights.items() if k in own and own[k].shape != v.shape]
    if other:
        raise MinimaeError(f"{source}: other shapes than in a model of this size: {', '.join(other[:6])}")
    model.load_state_dict(weights, strict=strict)


def pretrained(
    weights: dict[str, Tensor], size: Size, opened: Opened, facts: Facts, target: str | None, statistics: Statistics, *,
    decoder: bool, strict: bool,
) -> Pretrained:  # fmt: skip
    """A masked autoencoder, whose decoder is fresh when the weights have none."""
    if opened.about:
        recipe: Pretrain = from_dict(Pretrain, opened.about["settings"])
        stands: dict[str, Any] = {"target": facts.target or recipe.target, "ratio": facts.ratio or recipe.ratio}
        recipe = replace(recipe, **stands)
    else:
        target = target or facts.target
        if decoder and target is None:
            warn(f"{opened.source}: no target of the decoder is stated, so normalised pixels are assumed. Give target= (--target)")
        recipe = exported.recipe_of(size, target=target or "normalised", ratio=facts.ratio or 0.75)
    model = MAE(size, target=recipe.target, loss_on=recipe.loss_on)
    fill(model if decoder else model.encoder, weights if decoder else inner(weights), opened.source, strict=strict)
    return Pretrained(model.eval(), recipe, statistics, decoder=decoder)


def inner(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors by its own names."""
    return {name.removeprefix("encoder."): value for name, value in weights.items()}


def classified(
    weights: dict[str, Tensor], size: Size, end: End, statistics: Statistics, facts: Facts, source: str, *, strict: bool
) -> Classified:
    """A classifier of the mean of the patches, or of the class token."""
    if "head.bias" not in weights:
        raise MinimaeError(f"{source} has a head without a bias; ours has one")
    classes = len(weights["head.bias"])
    classifier = Classifier(Encoder(size), classes, pool="class" if end == "class" else "mean")
    fill(classifier, weights, source, strict=strict)
    return Classified(classifier.eval(), statistics, facts.classes if len(facts.classes) == classes else ())
