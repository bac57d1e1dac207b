"""Hugging Face transformers: its names, its configs (every field is read, or refused by name), and folders for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import MinimaeError
from ..model.patches import pair
from ..model.sizes import Size
from ..tasks.pretrain import Pretrained
from .classified import Classified
from .facts import Facts, sides, unsupported
from .layouts import Names

NAMES = Names(
    parts={
        "encoder.class_token": "vit.embeddings.cls_token", "encoder.positions": "vit.embeddings.position_embeddings",
        "encoder.project": "vit.embeddings.patch_embeddings.projection", "encoder.blocks": "vit.encoder.layer",
        "encoder.norm": "vit.layernorm", "norm": "vit.layernorm", "head": "classifier", "decoder.embed": "decoder.decoder_embed",
        "decoder.mask_token": "decoder.mask_token", "decoder.positions": "decoder.decoder_pos_embed",
        "decoder.blocks": "decoder.decoder_layers", "decoder.norm": "decoder.decoder_norm", "decoder.predict": "decoder.decoder_pred",
    },
    block={
        "norm1": "layernorm_before", "attention.qkv": "attention.attention.*", "attention.out": "attention.output.dense",
        "norm2": "layernorm_after", "mlp.up": "intermediate.dense", "mlp.down": "output.dense",
    },
)  # fmt: skip
# transformers 5 has other names in memory, and some versions (5.23) write the decoder's blocks under a mangled one: theirs → as in files.
NEWER = {
    "vit.layers.": "vit.encoder.layer.", "decoder.decoder_encoder.layer.": "decoder.decoder_layers.",
    "attention.q_proj.": "attention.attention.query.", "attention.k_proj.": "attention.attention.key.",
    "attention.v_proj.": "attention.attention.value.", "attention.o_proj.": "attention.output.dense.", "mlp.fc1.": "intermediate.dense.",
    "mlp.fc2.": "output.dense.",
}  # fmt: skip
# Fields of a config that do not affect a forward pass of these models: bookkeeping, initialisation, text generation.
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
# Fields for which only one value is supported. The pooler's weights, if there are any, are refused as unknown tensors.
FIXED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("gelu", "gelu_python"), "qkv_bias": (True,), "is_decoder": (False,), "add_cross_attention": (False,),
    "pruned_heads": ({}, []), "hidden_dropout_prob": (0, 0.0), "attention_probs_dropout_prob": (0, 0.0),
}  # fmt: skip
# Fields that are read, with the library's defaults. Those without one are compared with the shapes of the tensors.
READ: dict[str, Any] = {
    "hidden_size": None, "num_hidden_layers": None, "intermediate_size": None, "num_channels": None, "patch_size": None,
    "decoder_hidden_size": None, "decoder_num_hidden_layers": None, "decoder_intermediate_size": None, "head_dim": None,
    "num_attention_heads": 12, "decoder_num_attention_heads": 16, "image_size": 224, "layer_norm_eps": 1e-12, "norm_pix_loss": False,
    "mask_ratio": 0.75,
}  # fmt: skip
IMAGES = frozenset(
    """_processor_class crop_pct crop_size data_format default_to_square device disable_grouping do_center_crop do_convert_rgb do_resize
    feature_extractor_type image_processor_type input_data_format processor_class resample return_tensors size size_divisor""".split()  # noqa: SIM905
)


def names_of_files(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The library's tensors under the names that it uses in files, whichever version they come from."""
    renamed = {}
    for name, tensor in tensors.items():
        name = name if name.startswith(("vit.", "decoder.", "classifier.")) else f"vit.{name}"
        for new, old in NEWER.items():
            name = name.replace(new, old)
        renamed[name] = tensor
    return renamed


def facts_of(config: Mapping[str, Any], preprocessor: Mapping[str, Any], source: str, *, strict: bool) -> Facts:
    """Facts from config.json and preprocessor_config.json (or a live model's config)."""
    kind = config.get("model_type", "vit_mae")
    if kind not in ("vit", "vit_mae"):
        raise unsupported(source, "model_type", kind, "'vit' or 'vit_mae'")
    for name, values in FIXED.items():
        only_trains = name.endswith("dropout_prob") and not strict
        if config.get(name) is not None and config[name] not in values and not only_trains:
            raise unsupported(source, name, config[name], repr(values[0]))
    refuse_unknown(config, HARMLESS | FIXED.keys() | READ.keys(), f"{source}: its config", "what is computed", strict=strict)
    if kind == "vit" and config.get("problem_type") not in (None, "single_label_classification"):
        raise unsupported(source, "problem_type", config["problem_type"], "one class for each image")
    stated = {**READ, "id2label": {}, **{name: value for name, value in config.items() if value is not None}}
    ratio, labels = typed(float, stated, "mask_ratio", source), typed(dict, stated, "id2label", source)
    if kind == "vit_mae" and not 0 < ratio < 1:
        raise unsupported(source, "mask_ratio", ratio, "a share between 0 and 1")
    return Facts(
        heads=typed(int, stated, "num_attention_heads", source), decoder_heads=typed(int, stated, "decoder_num_attention_heads", source),
        image=typed(sides, stated, "image_size", source), eps=typed(float, stated, "layer_norm_eps", source),
        target="normalised" if stated["norm_pix_loss"] else "pixels", ratio=ratio,
        statistics=facts_of_preprocessor(preprocessor, source, strict=strict), pool="class",
        classes=tuple(str(labels.get(str(i), labels.get(i, i))) for i in range(len(labels))),
    )  # fmt: skip


def refuse_unknown(config: Mapping[str, Any], known: Any, source: str, what: str, *, strict: bool) -> None:
    """Raises MinimaeError for unknown fields that are set, when strict."""
    if strict and (unknown := [f"{name} = {value!r}" for name, value in config.items() if name not in known and value is not None]):
        raise MinimaeError(
            f"{source} sets {', '.join(unknown[:4])}, which is not known here and may change {what}. With strict=False (--no-strict) "
            "it is left out"
        )


def typed(kind: Any, config: Mapping[str, Any], name: str, source: str) -> Any:
    """A field of a config, of type ``kind``. Raises MinimaeError, with the field's name, when it is of another type."""
    try:
        return kind(config[name])
    except (TypeError, ValueError, OverflowError):
        kinds = {int: "a whole number", float: "a number", dict: "an object"}
        wanted = kinds.get(kind, "a number of pixels, or a list of height and width")
        raise MinimaeError(f"{source}: its config sets {name} to {config[name]!r}; expected {wanted}") from None


def facts_of_preprocessor(preprocessor: Mapping[str, Any], source: str, *, strict: bool) -> tuple[Any, Any] | None:
    """Mean and std of pixels in [0, 1], whatever scale the library uses. None if there is no file."""
    if not preprocessor:
        return None
    known = IMAGES | {"do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"}
    active = {name: value for name, value in preprocessor.items() if value is not False}
    refuse_unknown(active, known, f"{source}: its preprocessor_config", "the pixels", strict=strict)
    # What is normalised there is on this scale, and here it is in [0, 1].
    scale = 255 * float(preprocessor.get("rescale_factor", 1 / 255)) if preprocessor.get("do_rescale", True) else 255.0
    mean, std = preprocessor.get("image_mean"), preprocessor.get("image_std")
    if not preprocessor.get("do_normalize", True):
        mean, std = 0.0, 1.0
    if mean is None or std is None:
        raise MinimaeError(f"{source}: its preprocessor_config has no image_mean and image_std: give statistics=(mean, std)")
    if abs(scale - 1) < 1e-9:
        return mean, std  # to the bit
    return tuple([value / scale for value in x] if isinstance(x, list | tuple) else x / scale for x in (mean, std))  # type: ignore[return-value]


def sizes_of(size: Size, *, decoder: bool) -> dict[str, Any]:
    """The size of a model, from the fields of a config."""
    sizes = {
        "hidden_size": size.width, "num_hidden_layers": size.depth, "intermediate_size": size.mlp_ratio * size.width,
        "num_channels": size.channels, "patch_size": pair(size.patch), "head_dim": size.width // size.heads,
    }  # fmt: skip
    if decoder:
        sizes |= {"decoder_hidden_size": size.decoder_width, "decoder_num_hidden_layers": size.decoder_depth,
                  "decoder_intermediate_size": 4 * size.decoder_width}  # fmt: skip
    return sizes


def check_sizes(config: Mapping[str, Any], size: Size, source: str, *, decoder: bool) -> None:
    """Raises MinimaeError when the size in a config differs from that of the tensors."""
    for name, value in sizes_of(size, decoder=decoder).items():
        stated = config.get(name)
        if stated is not None and (typed(sides, config, name, source) if name == "patch_size" else stated) != value:
            what = f"its config states {name} {stated!r}, but its weights have {value!r}"
            raise MinimaeError(f"{source}: {what}: they do not belong together")


def config_of(trained: Pretrained | Classified, *, decoder: bool) -> dict[str, Any]:
    """config.json. Raises MinimaeError for patches or images that are not square."""
    s, pretrained = trained.size, isinstance(trained, Pretrained)
    for what, (height, width) in (("patches", pair(s.patch)), ("images", pair(s.image))):
        if height != width:
            raise MinimaeError(f"the ViT of transformers takes square {what} in its config, not {height}×{width}")
    config = sizes_of(s, decoder=pretrained) | {
        "image_size": pair(s.image)[0], "patch_size": pair(s.patch)[0], "num_attention_heads": s.heads, "layer_norm_eps": s.eps,
        "hidden_act": "gelu", "qkv_bias": True, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    del config["head_dim"]  # follows from the others
    if isinstance(trained, Pretrained):
        architecture = "ViTMAEForPreTraining" if decoder else "ViTMAEModel"
        return config | {"model_type": "vit_mae", "architectures": [architecture], "decoder_num_attention_heads": s.decoder_heads,
                         "mask_ratio": trained.recipe.ratio, "norm_pix_loss": trained.recipe.target == "normalised"}  # fmt: skip
    names = trained.classes or tuple(map(str, range(trained.classifier.head.out_features)))
    return config | {"model_type": "vit", "architectures": ["ViTForImageClassification"], "id2label": dict(enumerate(names)),
                     "label2id": {name: i for i, name in enumerate(names)}}  # fmt: skip


def preprocessor_of(trained: Pretrained | Classified) -> dict[str, Any]:
    """preprocessor_config.json: how the library should prepare images."""
    height, width = pair(trained.size.image)
    mean, std = (x.tolist() for x in trained.statistics)
    return {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255,
        "size": {"height": height, "width": width}, "resample": 3, "image_mean": mean, "image_std": std,
    }  # fmt: skip
