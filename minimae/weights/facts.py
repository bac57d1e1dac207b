"""Metadata beside weights that changes what they compute: every such field is read, or refused by name.

Heads, the norms' eps, the target, the mask ratio and the statistics cannot be read from the tensors. Each source states some of them:
config.json and preprocessor_config.json of Hugging Face transformers, timm's config.json, a live model, the options in the authors'
checkpoints, the names of the authors' published files, and our own metadata.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any

from ..errors import MinimaeError
from ..model.patches import Pair, pair
from .statistics import IMAGENET

Numbers = tuple[Any, Any]

# Fields of a Hugging Face config that do not affect a forward pass of these models: bookkeeping, initialisation, text generation.
HARMLESS = frozenset(
    """_attn_implementation _attn_implementation_autoset _attn_implementation_internal _commit_hash _name_or_path architectures
    attn_implementation auto_map bad_words_ids begin_suppress_tokens bos_token_id chunk_size_feed_forward cross_attention_hidden_size
    decoder_start_token_id diversity_penalty do_sample dtype early_stopping encoder_no_repeat_ngram_size encoder_stride eos_token_id
    exponential_decay_length_penalty finetuning_task forced_bos_token_id forced_eos_token_id id2label initializer_range is_encoder_decoder
    label2id length_penalty max_length min_length minimae model_type no_repeat_ngram_size num_beam_groups num_beams num_labels
    num_return_sequences output_attentions output_hidden_states output_scores pad_token_id pooler_act pooler_output_size prefix
    problem_type remove_invalid_values repetition_penalty return_dict return_dict_in_generate sep_token_id suppress_tokens
    task_specific_params temperature tf_legacy_loss tie_encoder_decoder tie_word_embeddings tokenizer_class top_k top_p torch_dtype
    torchscript transformers_version typical_p use_bfloat16 use_cache""".split()  # noqa: SIM905
)
# Fields for which only one value is supported. The pooler's weights, if there are any, are refused as tensors that are not known.
FIXED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("gelu", "gelu_python"), "qkv_bias": (True,), "is_decoder": (False,), "add_cross_attention": (False,),
    "pruned_heads": ({}, []), "hidden_dropout_prob": (0, 0.0), "attention_probs_dropout_prob": (0, 0.0),
}  # fmt: skip
# Fields that are compared with the shapes of the tensors, or read: with the values that the library takes where they are not named.
READ: dict[str, Any] = {
    "hidden_size": None, "num_hidden_layers": None, "intermediate_size": None, "num_channels": None, "patch_size": None,
    "decoder_hidden_size": None, "decoder_num_hidden_layers": None, "decoder_intermediate_size": None, "head_dim": None,
    "num_attention_heads": 12, "decoder_num_attention_heads": 16, "image_size": 224, "layer_norm_eps": 1e-12, "norm_pix_loss": False,
    "mask_ratio": 0.75,
}  # fmt: skip
COMPARED = [name for name, value in READ.items() if value is None]
PICTURES = frozenset(
    """_processor_class crop_pct crop_size data_format default_to_square device disable_grouping do_center_crop do_convert_rgb do_resize
    feature_extractor_type image_processor_type input_data_format processor_class resample return_tensors size size_divisor""".split()  # noqa: SIM905
)
TIMM_HEADS = {"tiny": 3, "small": 6, "base": 12, "large": 16, "huge": 16}
PUBLISHED = {"base": (768, 12), "large": (1024, 16), "huge": (1280, 16)}  # width and heads of the authors' models


@dataclass(frozen=True)
class Facts:
    """What a source states; None where it states nothing. compared: sizes by field name, to be compared with the tensors."""

    heads: int | None = None
    decoder_heads: int | None = None
    image: Pair | None = None
    eps: float = 1e-6
    target: str | None = None
    ratio: float | None = None
    statistics: Numbers | None = None
    classes: tuple[str, ...] = ()
    pool: str | None = None
    compared: dict[str, Any] = field(default_factory=dict)


def differs(source: str, name: str, value: Any, ours: str) -> MinimaeError:
    """The error for a field whose value is not supported."""
    return MinimaeError(f"{source} was built with {name} {value!r}; ours has {ours}, so it would compute something else")


def of_huggingface(config: Mapping[str, Any], preprocessor: Mapping[str, Any], source: str, *, strict: bool) -> Facts:
    """Facts from config.json and preprocessor_config.json (or a live model's config)."""
    kind = config.get("model_type", "vit_mae")
    if kind not in ("vit", "vit_mae"):
        raise differs(source, "model_type", kind, "'vit' or 'vit_mae'")
    for name, values in FIXED.items():
        only_trains = name.endswith("dropout_prob") and not strict
        if name in config and config[name] not in values and config[name] is not None and not only_trains:
            raise differs(source, name, config[name], repr(values[0]))
    unknown = [name for name in config if name not in HARMLESS | FIXED.keys() | READ.keys() and config[name] is not None]
    if unknown and strict:
        raise MinimaeError(
            f"{source}: its config sets {', '.join(f'{name} = {config[name]!r}' for name in unknown[:4])}, which is not known here and may "
            "change what is computed. With strict=False (--no-strict) it is left out"
        )
    stated = {**READ, **{name: value for name, value in config.items() if value is not None}}
    if kind == "vit" and config.get("problem_type") not in (None, "single_label_classification"):
        raise differs(source, "problem_type", config["problem_type"], "one class for each image")
    ratio = typed(float, stated, "mask_ratio", source)
    if kind == "vit_mae" and not 0 < ratio < 1:
        raise differs(source, "mask_ratio", ratio, "a share between 0 and 1")
    labels = typed(dict, {"id2label": config.get("id2label") or {}}, "id2label", source)
    return Facts(
        heads=typed(int, stated, "num_attention_heads", source), decoder_heads=typed(int, stated, "decoder_num_attention_heads", source),
        image=typed(sides, stated, "image_size", source), eps=typed(float, stated, "layer_norm_eps", source),
        target="normalised" if stated["norm_pix_loss"] else "pixels", ratio=ratio,
        statistics=of_preprocessor(preprocessor, source, strict=strict), pool="class",
        classes=tuple(str(labels.get(str(i), labels.get(i, i))) for i in range(len(labels))),
        compared={name: config[name] for name in COMPARED if config.get(name) is not None},
    )  # fmt: skip


def of_preprocessor(preprocessor: Mapping[str, Any], source: str, *, strict: bool) -> Numbers | None:
    """Mean and standard deviation of pixels in [0, 1], whatever scale the library uses. None without a file."""
    if not preprocessor:
        return None
    p = dict(preprocessor)
    rescale, factor, normalised = p.pop("do_rescale", True), p.pop("rescale_factor", 1 / 255), p.pop("do_normalize", True)
    mean, deviation = p.pop("image_mean", None), p.pop("image_std", None)
    unknown = [name for name, value in p.items() if name not in PICTURES and value not in (None, False)]
    if unknown and strict:
        raise MinimaeError(
            f"{source}: its preprocessor_config sets {', '.join(f'{name} = {p[name]!r}' for name in unknown[:4])}, which is not known "
            "here and may change the pixels. With strict=False (--no-strict) it is left out"
        )
    scale = 255 * float(factor) if rescale else 255.0  # of the values that are normalised there, for pixels in [0, 1] here
    if not normalised:
        mean, deviation = 0.0, 1.0
    if mean is None or deviation is None:
        raise MinimaeError(f"{source}: its preprocessor_config has no image_mean and image_std: give statistics=(mean, std)")
    return scaled(mean, scale), scaled(deviation, scale)


def scaled(values: Any, scale: float) -> Any:
    """One number or a list of them, divided by a scale; as they are when that is 1, to the bit."""
    if abs(scale - 1) < 1e-9:
        return values
    return [value / scale for value in values] if isinstance(values, list | tuple) else values / scale


def of_timm_config(config: Mapping[str, Any], source: str) -> Facts:
    """Facts from the config.json that timm writes: the architecture's name states the heads."""
    name = str(config["architecture"]).partition(".")[0]
    match = re.fullmatch(r"vit_(tiny|small|base|large|huge)_patch\d+_\d+", name)
    if match is None:
        raise MinimaeError(f"{source} is a {name} of timm, which is not one of its plain ViTs (vit_base_patch16_224 and the like)")
    args, pretrained = dict(config.get("model_args") or {}), config.get("pretrained_cfg") or {}
    heads, image = args.pop("num_heads", TIMM_HEADS[match[1]]), args.pop("img_size", None) or (pretrained.get("input_size") or [None])[-2:]
    pool = args.pop("global_pool", None) or config.get("global_pool") or "token"
    for known in ("embed_dim", "depth", "patch_size", "num_classes", "in_chans", "no_embed_class", "dynamic_img_size"):
        args.pop(known, None)  # seen in the tensors, or of no consequence
    if args:
        raise MinimaeError(f"{source}: its model_args set {', '.join(f'{k} = {v!r}' for k, v in args.items())}, which is not known here")
    statistics = (pretrained["mean"], pretrained["std"]) if {"mean", "std"} <= pretrained.keys() else None
    return Facts(
        heads=heads, image=sides(image) if image != [None] else None, statistics=statistics, pool=timm_pool(pool, source),
        classes=tuple(map(str, config.get("label_names") or ())),
    )  # fmt: skip


def timm_pool(name: str, source: str) -> str:
    """Our name of timm's global_pool. Raises MinimaeError for one that is not supported."""
    if name not in ("token", "avg"):
        raise differs(source, "global_pool", name, "'token' or 'avg'")
    return "class" if name == "token" else "mean"


def of_args(args: Mapping[str, Any]) -> Facts:
    """Facts from the options that the authors' code saves beside its weights."""
    match = re.fullmatch(r"(?:mae_)?vit_(base|large|huge)_patch\d+(?:_dec512d8b)?", str(args.get("model")))
    heads = PUBLISHED[match[1]][1] if match else None
    norm, ratio = args.get("norm_pix_loss"), args.get("mask_ratio")
    return Facts(
        heads=heads, decoder_heads=16 if match else None, ratio=float(ratio) if isinstance(ratio, float) and 0 < ratio < 1 else None,
        target=None if norm is None else "normalised" if norm else "pixels", statistics=IMAGENET if match else None,
    )  # fmt: skip


def of_name(name: str, width: int) -> Facts:
    """Facts from the name of a file that the authors publish, when the weights have its width."""
    match = re.fullmatch(r"mae_(pretrain|visualize|finetuned)_vit_(base|large|huge)(_full|_ganloss)?\.pth", name)
    if match is None or PUBLISHED[match[2]][0] != width:
        return Facts()
    target = "pixels" if match[1] == "visualize" else "normalised"
    return Facts(heads=PUBLISHED[match[2]][1], decoder_heads=16, target=target, statistics=IMAGENET)


def of_ours(about: Mapping[str, Any]) -> Facts:
    """Facts from our own metadata."""
    size, settings = about["size"], about.get("settings", {})
    return Facts(
        heads=size["heads"], decoder_heads=size["decoder_heads"], image=sides(size["image"]), eps=size.get("eps", 1e-6),
        target=settings.get("target"), ratio=settings.get("ratio"), statistics=tuple(about["statistics"]), 
        classes=tuple(about.get("classes", ())),
    )  # fmt: skip


def after_us(facts: Facts, ours: Facts) -> Facts:
    """What a folder states now that we wrote and another library may have written again; from us what it has no place for."""
    numbered = facts.classes == tuple(map(str, range(len(facts.classes))))  # how we write classes without names
    target = ours.target if ours.target == "pca" and facts.target == "pixels" else facts.target
    return replace(facts, statistics=facts.statistics or ours.statistics, target=target, classes=() if numbered else facts.classes)


def sides(value: Any) -> Pair | None:
    """Height and width of an image in a config: a number, or a list of two. Raises TypeError for anything else."""
    if value is None:
        return None
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, list | tuple) and len(value) == 2)):
        raise TypeError(value)
    return pair(tuple(value) if isinstance(value, list) else value)


def typed(kind: Any, stated: Mapping[str, Any], name: str, source: str) -> Any:
    """A value of a config as ``kind``. Raises MinimaeError that names the field when it is something else."""
    try:
        return kind(stated[name])
    except (TypeError, ValueError, OverflowError):
        names = {int: "a whole number", float: "a number", dict: "an object"}
        wanted = names.get(kind, "a number of pixels, or a list of height and width")
        raise MinimaeError(f"{source}: its config sets {name} to {stated[name]!r}; expected {wanted}") from None


def agreed(option: str, given: Any, stated: Any, source: str) -> Any:
    """The given value, or the stated one. Raises MinimaeError when both exist and differ."""
    for number in (given, stated):
        if number is not None and (isinstance(number, bool) or not isinstance(number, Integral) or number < 1):
            raise MinimaeError(f"{source}: {option} is a whole number from 1, not {number!r}")
    if given is not None and stated is not None and given != stated:
        raise MinimaeError(f"{source} states {option} {stated}, and {option}={given} was given: leave it out, or correct the config")
    return stated if given is None else given


def compare_sizes(compared: Mapping[str, Any], found: Mapping[str, Any], source: str) -> None:
    """Raises MinimaeError when a config states another size than the tensors have."""
    for name, value in compared.items():
        have = found.get(name)
        same = have is None or (typed(sides, compared, name, source) == sides(have) if name == "patch_size" else value == have)
        if not same:
            raise MinimaeError(f"{source}: its config states {name} {value!r}, but its weights have {have!r}: they do not belong together")
