"""Tensors in the layout of a library → a model of ours, and back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..errors import MinimaeError, reason
from ..model.mae import MAE
from ..model.patches import pair
from ..model.positions import resize_positions
from ..model.sizes import Size
from ..model.vit import Encoder
from ..tasks.finetune import Classifier
from ..tasks.pretrain import Pretrain, Pretrained
from ..train.settings import from_dict
from . import huggingface, native, official, timm
from .classified import Classified
from .facts import Facts, Statistics, merge, normalisation, unsupported, warn
from .files import Source, write_safetensors
from .layouts import Names, Pool, to_ours, to_theirs

Layout = Literal["minimae", "official", "huggingface", "timm"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
NAMES: dict[str, Names] = {"official": official.NAMES, "timm": official.NAMES, "huggingface": huggingface.NAMES}


def check_layout(layout: str | None) -> None:
    """Raises MinimaeError for an unknown layout."""
    if layout is not None and layout not in LAYOUTS:
        raise MinimaeError(f"unknown layout {layout!r}; choose one of {', '.join(LAYOUTS)}")


def detect(names: Iterable[str]) -> Layout:
    """The layout that these names belong to. Raises MinimaeError that shows some of them for any other."""
    given = set(names)
    if any("embeddings.patch_embeddings.projection.weight" in name for name in given):
        return "huggingface"
    if "patch_embed.proj.weight" in given:
        return "official" if any(name.startswith("decoder_") for name in given) else "timm"
    raise MinimaeError(f"these names belong to no layout that is known ({', '.join(LAYOUTS)}): {', '.join(sorted(given)[:5])}, …")


def read(source: Source, layout: Layout | None, options: Mapping[str, Any]) -> Pretrained | Classified:
    """The model of weights in another library's layout. options: those of :func:`minimae.load`."""
    strict: bool = options["strict"]
    layout = layout or detect(source.tensors)
    tensors = huggingface.names_of_files(source.tensors) if layout == "huggingface" else source.tensors
    names = NAMES[layout]
    given = {name: options[name] for name in ("heads", "decoder_heads", "target", "statistics")}
    image = None if options["original_image"] is None else pair(options["original_image"])
    facts = merge(facts_of(source, layout, tensors, strict=strict), given | {"image": image}, source.name)
    decoder, pool = names.has_decoder(tensors), pool_of(tensors, layout)
    size = names.size_of(tensors, facts, source.name)
    if layout == "huggingface":
        huggingface.check_sizes(source.config, size, source.name, decoder=decoder)
    check_expected(size, options, source.name)
    if pool == "mean" and facts.pool == "class":  # for a single token the order of norm and pooling does not matter
        tensors, pool = {name.replace("fc_norm.", "norm."): value for name, value in tensors.items()}, "class"
    if pool == "class" and facts.pool == "mean":
        raise unsupported(source.name, "fc_norm", False, "the norm after the mean")
    weights = renamed(tensors, names.table(size, pool=pool, decoder=decoder), source.name, strict=strict)
    new_size = size if options["image"] is None else native.resized(size, options["image"])
    for name in ("encoder.positions", "decoder.positions"):
        if (rows := weights.get(name)) is not None:
            if len(rows) == size.grid[0] * size.grid[1]:  # timm's no_embed_class: the class token has no position
                rows = torch.cat([torch.zeros_like(rows[:1]), rows])
            weights[name] = resize_positions(rows, size.grid, new_size.grid)
    statistics = normalisation(facts.statistics, size.channels, source.name)
    if pool is None:
        return build_mae(weights, new_size, source, facts, statistics, decoder=decoder, strict=strict)
    return build_classifier(weights, new_size, pool, source, facts, statistics, strict=strict)


def facts_of(source: Source, layout: Layout, tensors: Mapping[str, Tensor], *, strict: bool) -> Facts:
    """What the source states about its weights, wherever it does. Raises MinimaeError for metadata of the wrong type."""
    try:
        if layout == "huggingface" and source.config:
            facts = huggingface.facts_of(source.config, source.preprocessor, source.name, strict=strict)
            return native.complete(facts, native.facts_of(source.metadata)) if source.metadata else facts
        if source.metadata:
            return native.facts_of(source.metadata)
        if source.facts is not None:
            return source.facts
        if "architecture" in source.config:
            return timm.facts_of_config(source.config, source.name)
        if source.args:
            return official.facts_of_args(source.args)
        return official.facts_of_name(Path(source.name).name, int(tensors["cls_token"].shape[-1])) if "cls_token" in tensors else Facts()
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        what = f"{type(error).__name__}: {reason(error)}"
        raise MinimaeError(f"{source.name}: the metadata beside its weights is not as its library writes it ({what})") from None


def pool_of(tensors: Mapping[str, Tensor], layout: Layout) -> Pool | None:
    """What the head reads, by the names of its norm; None without a head."""
    if f"{NAMES[layout].parts['head']}.weight" not in tensors:
        return None
    return "mean" if "fc_norm.weight" in tensors else "class"


def check_expected(size: Size, options: Mapping[str, Any], source: str) -> None:
    """Patch size and channels are part of the weights: raises MinimaeError that says so when others are expected."""
    patch, channels = options["patch"], options["channels"]
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


def renamed(tensors: Mapping[str, Tensor], table: Mapping[str, tuple[str, ...]], source: str, *, strict: bool) -> dict[str, Tensor]:
    """Our tensors. Raises MinimaeError (or warns, when not strict) with what is missing and what is left over."""
    wanted = {name for names in table.values() for name in names}
    lists = (("missing", sorted(wanted - tensors.keys())), ("not known here", sorted(tensors.keys() - wanted)))
    faults = "; ".join(
        f"{what}: {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}" for what, names in lists if names
    )
    if faults and strict:
        raise MinimaeError(f"{source} does not fit this model ({faults}). With strict=False (--no-strict) the rest is taken")
    if faults:
        warn(f"{source}: {faults}")
    return {
        ours: to_ours(ours, [tensors[name] for name in names]).float() for ours, names in table.items() if set(names) <= tensors.keys()
    }


def fill(model: nn.Module, weights: dict[str, Tensor], source: str, *, strict: bool) -> None:
    """Copy weights in. Raises MinimaeError for other shapes; what is missing (allowed when not strict) stays fresh."""
    own = model.state_dict()
    other = [f"{k} {tuple(v.shape)} ≠ {tuple(own[k].shape)}" for k, v in weights.items() if k in own and own[k].shape != v.shape]
    if other:
        raise MinimaeError(f"{source}: other shapes than in a model of this size: {', '.join(other[:6])}")
    model.load_state_dict(weights, strict=strict)


def build_mae(
    weights: dict[str, Tensor], size: Size, source: Source, facts: Facts, statistics: Statistics, *, decoder: bool, strict: bool
) -> Pretrained:
    """A masked autoencoder, whose decoder is fresh when the weights have none."""
    if source.metadata:
        recipe: Pretrain = from_dict(Pretrain, source.metadata["settings"])
        fields: dict[str, Any] = {"target": facts.target or recipe.target, "ratio": facts.ratio or recipe.ratio}
        recipe = replace(recipe, **fields)
    else:
        if decoder and facts.target is None:
            warn(f"{source.name}: no target of the decoder is stated, so normalised pixels are assumed. Give target= (--target)")
        recipe = native.recipe_of(size, target=facts.target or "normalised", ratio=facts.ratio or 0.75)
    model = MAE(size, target=recipe.target, loss_on=recipe.loss_on)
    if decoder:
        fill(model, weights, source.name, strict=strict)
    else:
        fill(model.encoder, {name.removeprefix("encoder."): value for name, value in weights.items()}, source.name, strict=strict)
    return Pretrained(model.eval(), recipe, statistics, decoder=decoder)


def build_classifier(
    weights: dict[str, Tensor], size: Size, pool: Pool, source: Source, facts: Facts, statistics: Statistics, *, strict: bool
) -> Classified:
    """A classifier of the mean of the patches, or of the class token."""
    if "head.bias" not in weights:
        raise MinimaeError(f"{source.name} has a head without a bias; ours has one")
    classes = len(weights["head.bias"])
    classifier = Classifier(Encoder(size), classes, pool=pool)
    fill(classifier, weights, source.name, strict=strict)
    return Classified(classifier.eval(), statistics, facts.classes if len(facts.classes) == classes else ())


def write(trained: Pretrained | Classified, out: Path, layout: Layout, *, encoder_only: bool) -> None:
    """Write a model in another library's layout; see :func:`minimae.save`. Nothing is half-written."""
    if out.exists():
        raise MinimaeError(f"{out} is there already: choose another name, or remove it")
    pool: Pool | None = None
    if isinstance(trained, Pretrained):
        model: nn.Module = trained.model
        decoder = trained.decoder and not encoder_only
        check_writable(trained, layout, decoder=decoder, encoder_only=encoder_only)
    else:
        model, decoder, pool = trained.classifier, False, trained.classifier.pool
        if layout == "huggingface" and pool == "mean":
            raise MinimaeError("transformers' classifier reads the class token, and this one the mean of the patches: convert it to timm")
    if layout != "huggingface" and trained.size.eps != 1e-6:
        warn(f"the readers of this layout norm with eps 1e-6, and this model with {trained.size.eps}: its outputs there will differ")
    own, tensors = model.state_dict(), dict[str, Tensor]()
    for name, theirs in NAMES[layout].table(trained.size, pool=pool, decoder=decoder).items():
        tensors |= to_theirs(name, own[name].detach().cpu(), theirs, trained.size)
    metadata = {name: value for name, value in native.metadata_of(trained).items() if name in ("settings", "size", "statistics", "classes")}
    partial = out.with_name(out.name + ".partial")
    config = huggingface.config_of(trained, decoder=decoder) if layout == "huggingface" else {}
    if not config and out.suffix not in (".safetensors", ".pth", ".pt", ".bin"):
        raise MinimaeError(f"{out} has the ending {out.suffix!r}: .safetensors or .pth was wanted")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if config:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            for file, values in (("config", config | {"minimae": metadata}), ("preprocessor_config", huggingface.preprocessor_of(trained))):
                (partial / f"{file}.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
            write_safetensors(tensors, partial / "model.safetensors", format="pt")
        elif out.suffix == ".safetensors":
            write_safetensors(tensors, partial, format="pt", minimae=json.dumps(metadata))
        else:  # the authors' readers find the weights under "model"
            torch.save({"model": tensors, "minimae": json.dumps(metadata)}, partial)
        os.replace(partial, out)
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True) if partial.is_dir() else partial.unlink(missing_ok=True)
        raise MinimaeError(f"cannot write {out} ({error}); nothing was written") from None


def check_writable(trained: Pretrained, layout: Layout, *, decoder: bool, encoder_only: bool) -> None:
    """Raises MinimaeError, or warns, for parts of a pre-trained model that the layout has no names for."""
    if layout == "timm" and decoder:
        raise MinimaeError("timm has no decoder: convert the encoder alone (--encoder-only), or choose official or huggingface")
    if decoder and trained.recipe.target == "pca":
        raise MinimaeError(
            f"the layout {layout} has no place for the principal components of this target: leave the decoder out (--encoder-only)"
        )
    if trained.recipe.mask_tokens_in_encoder:
        raise MinimaeError(f"a model with mask tokens in its encoder (Table 1c) has no place in the layout {layout}")
    if trained.pictures is not None and not encoder_only:
        warn(f"the layout {layout} has no place for the second decoder, which draws the pictures: it is left out")
