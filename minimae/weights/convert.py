"""Turn tensors in the layout of a library into a model of ours, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ..errors import MinimaeError, counted, reason
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
from .facts import Facts, merge, normalisation, unsupported, warn
from .files import Source, check_absent, whole, write_safetensors
from .layouts import Names, to_ours, to_theirs

Pool = Literal["mean", "class"]
Layout = Literal["minimae", "official", "huggingface", "timm"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
NAMES: dict[str, Names] = {"official": official.NAMES, "timm": official.NAMES, "huggingface": huggingface.NAMES}


def detect(names: Iterable[str]) -> Layout:
    """The layout that these names belong to. Raises MinimaeError for other names, and lists some of them."""
    known = set(names)
    if any("embeddings.patch_embeddings.projection.weight" in name for name in known):
        return "huggingface"
    if "patch_embed.proj.weight" in known:
        return "official" if any(name.startswith("decoder_") for name in known) else "timm"
    raise MinimaeError(f"these names belong to no known layout ({', '.join(LAYOUTS)}): {', '.join(sorted(known)[:5])}, …")


def read(source: Source, options: Mapping[str, Any]) -> Pretrained | Classified:
    """A model from weights in another library's layout. options: those of :func:`minimae.load`."""
    strict: bool = options["strict"]
    layout = detect(source.tensors)
    names, tensors = NAMES[layout], source.tensors
    if layout == "huggingface":
        tensors = huggingface.names_of_files(tensors)
    given = {name: options[name] for name in ("heads", "decoder_heads", "target", "statistics")}
    given["image"] = None if options["original_image"] is None else pair(options["original_image"])
    facts = merge(facts_of(source, layout, tensors, strict=strict), given, source.name)
    decoder, size = names.has_decoder(tensors), names.size_of(tensors, facts, source.name)
    if layout == "huggingface":
        huggingface.check_sizes(source.config, size, source.name, decoder=decoder)
    check_expected(size, options, source.name)
    final_size = size if options["image"] is None else native.resized(size, options["image"])
    statistics = normalisation(facts.statistics, size.channels, source.name)
    trained: Pretrained | Classified
    if f"{names.parts['head']}.weight" in tensors:
        pool = pool_of(tensors, facts, source.name)
        if pool == "class":  # for a single token, a norm after pooling is the token's own norm
            tensors = {name.replace("fc_norm.", "norm."): value for name, value in tensors.items()}
        count = len(tensors[f"{names.parts['head']}.weight"])
        classes = facts.classes if len(facts.classes) == count else ()
        trained = Classified(Classifier(Encoder(final_size), count, pool=pool).eval(), statistics, classes, source.metadata.get("data", ""))
        part: nn.Module = trained.classifier
    else:
        recipe = recipe_of(source, facts, final_size, decoder=decoder)
        trained = Pretrained(MAE(final_size, target=recipe.target, loss_on=recipe.loss_on).eval(), recipe, statistics, decoder=decoder)
        part = trained.model if decoder else trained.model.encoder
    prefix = "encoder." if isinstance(part, Encoder) else ""
    table = {name: theirs_of(f"{prefix}{name}", layout, trained) for name in part.state_dict()}
    check_names(tensors, table, source.name, strict=strict)
    weights = {ours: to_ours(ours, [tensors[n] for n in theirs]) for ours, theirs in table.items() if set(theirs) <= tensors.keys()}
    for name in [name for name in weights if name.endswith("positions")]:
        rows = weights[name]
        if len(rows) == size.grid[0] * size.grid[1]:  # timm's no_embed_class: the class token has no position
            rows = torch.cat([torch.zeros_like(rows[:1]), rows])
        weights[name] = resize_positions(rows, size.grid, final_size.grid)
    try:
        part.load_state_dict(weights, strict=False)  # the names are checked already
    except RuntimeError as error:
        shape = str(error).splitlines()[-1].strip()
        raise MinimaeError(f"{source.name}: other shapes than in a model of this size ({shape})") from None
    return trained


def theirs_of(name: str, layout: Layout, trained: Pretrained | Classified) -> tuple[str, ...]:
    """Their names for a parameter of ours: a head on the class token uses the encoder's norm."""
    if isinstance(trained, Classified) and trained.classifier.pool == "class" and name.startswith("norm."):
        name = f"encoder.{name}"
    return NAMES[layout].of(name)


def facts_of(source: Source, layout: Layout, tensors: Mapping[str, Tensor], *, strict: bool) -> Facts:
    """What the source states about its weights, wherever it states it. Raises MinimaeError for metadata of the wrong type."""
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


def pool_of(tensors: Mapping[str, Tensor], facts: Facts, source: str) -> Pool:
    """What the head reads: as stated, or by the name of its norm."""
    if facts.pool == "mean" and "fc_norm.weight" not in tensors:
        raise unsupported(source, "fc_norm", False, "the norm after the mean")
    return "mean" if "fc_norm.weight" in tensors and facts.pool != "class" else "class"


def check_expected(size: Size, options: Mapping[str, Any], source: str) -> None:
    """Patch size and channels are part of the weights: raises MinimaeError when others are expected."""
    if options["patch"] is not None and pair(options["patch"]) != pair(size.patch):
        (a, b), (c, d) = pair(size.patch), pair(options["patch"])
        raise MinimaeError(f"{source} has patches of {a}×{b} pixels, and a projection of no others; for {c}×{d} take other ones")
    if options["channels"] not in (None, size.channels):
        raise MinimaeError(
            f"{source} takes {counted(size.channels, 'channel')}, not {options['channels']}: convert the images (grey can be repeated), or "
            "pre-train on your own channels"
        )


def recipe_of(source: Source, facts: Facts, size: Size, *, decoder: bool) -> Pretrain:
    """The recipe of a pre-trained model: ours as stored, with what another library has changed; or one that describes it."""
    if "settings" in source.metadata:
        recipe: Pretrain = from_dict(Pretrain, source.metadata["settings"])
        fields: dict[str, Any] = {"target": facts.target or recipe.target, "ratio": facts.ratio or recipe.ratio}
        return replace(recipe, **fields)
    if decoder and facts.target is None:
        warn(f"{source.name}: no target of the decoder is stated, so normalised pixels are assumed. Give target= (--target)")
    return native.recipe_of(size, target=facts.target or "normalised", ratio=facts.ratio or 0.75)


def check_names(tensors: Mapping[str, Tensor], table: Mapping[str, tuple[str, ...]], source: str, *, strict: bool) -> None:
    """Raises MinimaeError (or warns, when not strict) with what is missing and what is left over."""
    wanted = {name for names in table.values() for name in names}
    lists = (("missing", sorted(wanted - tensors.keys())), ("not known here", sorted(tensors.keys() - wanted)))
    faults = "; ".join(
        f"{what}: {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}" for what, names in lists if names
    )
    if faults and strict:
        raise MinimaeError(f"{source} does not fit this model ({faults}). With strict=False (--no-strict) the rest is taken")
    if faults:
        warn(f"{source}: {faults}")


def write(trained: Pretrained | Classified, out: Path, layout: Layout, *, encoder_only: bool) -> None:
    """Write a model in another library's layout; see :func:`minimae.save`. Nothing is half-written."""
    check_absent(out)
    decoder = isinstance(trained, Pretrained) and trained.decoder and not encoder_only
    if isinstance(trained, Pretrained):
        model: nn.Module = trained.model
        check_writable(trained, layout, decoder=decoder, encoder_only=encoder_only)
    else:
        model = trained.classifier
        if layout == "huggingface" and trained.classifier.pool == "mean":
            raise MinimaeError("transformers' classifier reads the class token, and this one the mean of the patches; convert it to timm")
    if trained.size.class_tokens > 1:
        raise MinimaeError(f"the layout {layout} has one class token, and this model {trained.size.class_tokens}: keep minimae's layout")
    if layout != "huggingface" and trained.size.eps != 1e-6:
        warn(f"readers of this layout use eps 1e-6 in their norms, and this model has {trained.size.eps}: the outputs there will differ")
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        name = name.replace("_orig_mod.", "")  # of a part that torch.compile has wrapped
        if name.startswith(("encoder.", "norm.", "head.")) or (decoder and name.startswith("decoder.")):
            tensors |= to_theirs(name, value.cpu(), theirs_of(name, layout, trained), trained.size)
    metadata = {name: value for name, value in native.metadata_of(trained).items() if name not in ("decoder", "kind", "pool")}
    config = huggingface.config_of(trained, decoder=decoder) if layout == "huggingface" else {}
    if not config and out.suffix not in (".safetensors", ".pth", ".pt", ".bin"):
        raise MinimaeError(f"{out} has the extension {out.suffix!r}: .safetensors or .pth was expected")
    with whole(out) as partial:
        if config:
            partial.mkdir(exist_ok=True)
            for file, values in (("config", config | {"minimae": metadata}), ("preprocessor_config", huggingface.preprocessor_of(trained))):
                (partial / f"{file}.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
            write_safetensors(tensors, partial / "model.safetensors", format="pt")
        elif out.suffix == ".safetensors":
            write_safetensors(tensors, partial, format="pt", minimae=json.dumps(metadata))
        else:  # the authors' readers find the weights under "model"
            torch.save({"model": tensors, "minimae": json.dumps(metadata)}, partial)


def check_writable(trained: Pretrained, layout: Layout, *, decoder: bool, encoder_only: bool) -> None:
    """Raises MinimaeError, or warns, for parts of a pre-trained model that the layout has no names for."""
    if layout == "timm" and decoder:
        raise MinimaeError("timm has no decoder: convert the encoder alone (--encoder-only), or choose official or huggingface")
    if decoder and trained.recipe.target == "pca":
        raise MinimaeError(f"the layout {layout} cannot hold the principal components of this target: leave the decoder out")
    if trained.recipe.mask_tokens_in_encoder:
        raise MinimaeError(f"the layout {layout} cannot hold mask tokens in the encoder (Table 1c)")
    if trained.pictures is not None and not encoder_only:
        warn(f"the layout {layout} cannot hold the second decoder, which reconstructs pixels: it is left out")
