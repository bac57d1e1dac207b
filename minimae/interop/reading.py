"""Weights of another layout → a model of ours, with everything that is needed to use it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import MinimaeError
from ..mae import MAE
from ..patches import Pair, pair
from ..positions import resize_positions
from ..sizes import SIZES, Size
from ..tasks.finetune import Classifier
from ..tasks.pretrain import Pretrain, Pretrained, rebuild
from ..training.settings import from_dict
from ..vit import Encoder
from .files import Opened, open_weights
from .layouts import End, Layout, detect, table, to_ours, usual
from .shapes import resized, size_of

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation of its pixels, which all of these models expect
Statistics = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Classified:
    """A classifier with what it needs to be used: names of the classes (or none) and the statistics its images were normalised by."""

    classifier: Classifier
    statistics: Statistics
    classes: tuple[str, ...] = ()


def load(
    source: str | Path | Mapping[str, Tensor] | nn.Module,
    *,
    layout: Layout | None = None,
    image: int | Pair | None = None,
    patch: int | Pair | None = None,
    channels: int | None = None,
    heads: int | None = None,
    decoder_heads: int | None = None,
    original_image: int | Pair | None = None,
    target: str = "normalised",
    statistics: tuple[Any, Any] | None = None,
    strict: bool = True,
) -> Pretrained | Classified:
    """Weights in any known layout → a pre-trained model, or a classifier when they have a head.

    source: a file, a folder, tensors by name, or a live model of timm or of the big library. layout: by default it is detected.
    image: another image size in pixels than the weights were trained for; positions of encoder and decoder are then resized, bicubically
    in two dimensions. patch, channels: what you expect; weights of other ones are refused with the reason. heads, decoder_heads,
    original_image (of positions that are no square grid): where they cannot be seen in the weights. target: what the
    decoder was trained to predict. statistics: mean and deviation of the channels, by default ImageNet's for three channels.
    strict: refuse weights in which something is missing or left over; otherwise a warning lists it, and what is missing is fresh.

    Raises MinimaeError that says what was found and what was wanted.
    """
    opened = opened_from(source)
    tensors = opened.tensors
    layout = layout or detect(tensors)
    if layout == "minimae":
        if opened.about:
            return rebuild(opened.about, tensors, Path(opened.source))
        raise MinimaeError(f"{opened.source} has our names, but not what belongs to them: use minimae export, or the run's folder")
    if layout == "huggingface":
        tensors = usual(tensors)
        check_config(opened.config, opened.source)
    told = dict(opened.config)
    about = opened.about
    if about:  # we wrote it ourselves: nothing has to be guessed
        s = about["size"]
        told |= {"num_attention_heads": s["heads"], "decoder_num_attention_heads": s["decoder_heads"], "image_size": s["image"]}
    if original_image is not None:
        told["image_size"] = original_image
    size = size_of(tensors, layout, told, heads=heads, decoder_heads=decoder_heads)
    refuse_others(size, patch, channels, opened.source)
    end, decoder = parts_of(tensors, layout)
    places = table("official" if layout == "timm" else layout, size, end=end, decoder=decoder)
    weights = taken(tensors, places, opened.source, strict=strict)
    after = size if image is None else resized(size, image)
    for name in ("encoder.positions", "decoder.positions"):
        if name in weights:
            weights[name] = resize_positions(weights[name], size.grid, after.grid)
    known = found_statistics(statistics, opened, size)
    if end == "encoder":
        return pretrained(weights, after, about, target, known, decoder=decoder, source=opened.source, strict=strict)
    return classified(weights, after, end, known, opened, strict=strict)


def opened_from(source: str | Path | Mapping[str, Tensor] | nn.Module) -> Opened:
    """Tensors of whatever was given."""
    if isinstance(source, str | Path):
        return open_weights(Path(source).expanduser())
    if isinstance(source, nn.Module):
        model: Any = source
        config = model.config.to_dict() if hasattr(model, "config") else of_timm(model)
        tensors = {name: tensor.detach().clone() for name, tensor in source.state_dict().items()}
        return Opened(type(source).__name__, tensors, config, config.get("minimae", {}))
    return Opened("these tensors", dict(source))


def of_timm(model: Any) -> dict[str, Any]:
    """What a live timm model knows about itself, in the words of a config. Raises MinimaeError for one that is built otherwise."""
    try:
        block, embed = model.blocks[0], model.patch_embed
        found = {"num_attention_heads": block.attn.num_heads, "image_size": list(embed.img_size)}
        eps, act = block.norm1.eps, type(block.mlp.act).__name__
    except (AttributeError, IndexError, TypeError):
        raise MinimaeError(f"{type(model).__name__} is not a VisionTransformer of timm, and not a model of the big library") from None
    if eps != 1e-6 or act != "GELU":
        raise MinimaeError(f"this model norms with eps {eps} and uses {act}; ours is built with 1e-6 and GELU, so its outputs would differ")
    for name in ("mean", "std"):
        if name in (getattr(model, "pretrained_cfg", None) or {}):
            found[f"image_{name}"] = list(model.pretrained_cfg[name])
    return found


def check_config(config: Mapping[str, Any], source: str) -> None:
    """Raises MinimaeError for a config that describes another kind of model than ours."""
    wanted = {"hidden_act": "gelu", "qkv_bias": True}
    for name, value in wanted.items():
        if config.get(name, value) != value:
            raise MinimaeError(f"{source} was built with {name} {config[name]!r}; ours has {value!r}, so its outputs would differ")


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
        warnings.warn(f"{source}: {words}", stacklevel=3)
    return {ours: to_ours(place, tensors).float() for ours, place in places.items() if set(place.names) <= tensors.keys()}


def found_statistics(given: tuple[Any, Any] | None, opened: Opened, size: Size) -> Statistics:
    """Mean and deviation per channel, as given, as stored beside the weights, or ImageNet's."""
    told = given or opened.about.get("statistics")
    if told is None and {"image_mean", "image_std"} <= opened.config.keys():
        told = (opened.config["image_mean"], opened.config["image_std"])
    if told is None and size.channels == 3:
        told = IMAGENET
    if told is None:
        raise MinimaeError(f"what {size.channels} channel(s) were normalised by is not in the weights: give statistics=(mean, deviation)")
    mean, deviation = (torch.as_tensor(x, dtype=torch.float32).flatten() for x in told)
    if len(mean) != size.channels or len(deviation) != size.channels:
        raise MinimaeError(f"these weights take {size.channels} channel(s); statistics for {len(mean)} and {len(deviation)} were given")
    return mean, deviation


def fill(model: nn.Module, weights: dict[str, Tensor], source: str, *, strict: bool) -> None:
    """Copy weights in. Raises MinimaeError for other shapes; what is missing (allowed when not strict) stays fresh."""
    own = model.state_dict()
    other = [f"{k} {tuple(v.shape)} ≠ {tuple(own[k].shape)}" for k, v in weights.items() if k in own and own[k].shape != v.shape]
    if other:
        raise MinimaeError(f"{source}: other shapes than in a model of this size: {', '.join(other[:6])}")
    model.load_state_dict(weights, strict=strict)


def pretrained(
    weights: dict[str, Tensor], size: Size, about: dict[str, Any], target: str, statistics: Statistics, *,
    decoder: bool, source: str, strict: bool,
) -> Pretrained:  # fmt: skip
    """A masked autoencoder, whose decoder is fresh when the weights have none."""
    if about:
        recipe: Pretrain = from_dict(Pretrain, about["settings"])
    else:
        names = ("patch", "width", "depth", "heads", "decoder_width", "decoder_depth", "decoder_heads", "image")
        nearest = next((name for name, s in SIZES.items() if (s.width, s.depth) == (size.width, size.depth)), "base")
        fields = {name: getattr(size, name) for name in names}
        recipe = Pretrain(data="imagenet", size=nearest, target=target, **fields)  # type: ignore[arg-type]
    model = MAE(size, target=recipe.target, loss_on=recipe.loss_on)
    fill(model if decoder else model.encoder, weights if decoder else inner(weights), source, strict=strict)
    return Pretrained(model.eval(), recipe, statistics, decoder=decoder)


def inner(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors by its own names."""
    return {name.removeprefix("encoder."): value for name, value in weights.items()}


def classified(weights: dict[str, Tensor], size: Size, end: End, statistics: Statistics, opened: Opened, *, strict: bool) -> Classified:
    """A classifier of the mean of the patches, or of the class token."""
    if "head.bias" not in weights:
        raise MinimaeError(f"{opened.source} has a head without a bias; ours has one")
    classes = len(weights["head.bias"])
    classifier = Classifier(Encoder(size), classes, pool="class" if end == "class" else "mean")
    fill(classifier, weights, opened.source, strict=strict)
    names = opened.config.get("id2label") or {}
    listed = tuple(str(names.get(str(i), names.get(i, i))) for i in range(classes)) if names else tuple(opened.about.get("classes", ()))
    return Classified(classifier.eval(), statistics, listed)
