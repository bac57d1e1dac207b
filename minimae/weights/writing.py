"""A model of ours → the layout of another library: one file, or the big library's folder."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from ..errors import MinimaeError
from ..model.patches import pair
from ..tasks.pretrain import Pretrained
from . import registry as exported
from .classified import Classified
from .layouts import LAYOUTS, End, Layout, table, to_theirs
from .statistics import warn


def convert(trained: Pretrained | Classified, out: Path, layout: Layout, *, encoder_only: bool = False) -> Path:
    """Write a model in a layout: a file whose ending decides its format (.safetensors, or .pth), or a folder for huggingface.

    encoder_only: leave the decoder out. Beside the tensors goes what the layout has no place for (recipe, statistics, heads), so that
    the way back gives the same bits.
    Raises MinimaeError for what the layout cannot hold, or when it cannot be written; nothing is half-written.
    """
    if layout not in LAYOUTS:
        raise MinimaeError(f"unknown layout {layout!r}; choose one of {', '.join(LAYOUTS)}")
    if out.exists():
        raise MinimaeError(f"{out} is there already: choose another name, or remove it")
    if isinstance(trained, Pretrained) and trained.pictures is not None and not encoder_only:
        warn(f"the layout {layout} has no place for the second decoder, which draws the pictures: it is left out")
    eps = (trained.size if isinstance(trained, Classified) else trained.model.size).eps
    if layout != "huggingface" and eps != 1e-6:
        warn(f"the readers of this layout norm with eps 1e-6, and this model with {eps}: its outputs there will differ")
    tensors, about = renamed(trained, layout, encoder_only=encoder_only)
    if layout == "huggingface":
        return write_folder(out, tensors, config_of(trained, about, encoder_only=encoder_only), preprocessor_of(trained))
    return write_file(out, tensors, about)


def renamed(trained: Pretrained | Classified, layout: Layout, *, encoder_only: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by their names, and what is known about them."""
    statistics = [x.tolist() for x in trained.statistics]
    if isinstance(trained, Classified):
        classifier = trained.classifier
        size, own = classifier.encoder.size, classifier.state_dict()
        end: End = "class" if classifier.pool == "class" else "mean"
        decoder, about = False, dict[str, Any](classes=list(trained.classes))
    else:
        size, own, end = trained.model.size, trained.model.state_dict(), "encoder"
        decoder, about = trained.decoder and not encoder_only, {"settings": asdict(trained.recipe)}
        if decoder and trained.recipe.target == "pca":
            advice = "leave the decoder out (--encoder-only)"
            raise MinimaeError(f"the layout {layout} has no place for the principal components of this target: {advice}")
        if trained.recipe.mask_tokens_in_encoder:
            raise MinimaeError(f"a model with mask tokens in its encoder (Table 1c) has no place in the layout {layout}")
    places = table(layout, size, end=end, decoder=decoder)
    found: dict[str, Tensor] = {}
    for name, place in places.items():
        found |= to_theirs(place, own[name].detach().cpu(), size)
    return found, {**about, "size": asdict(size), "statistics": statistics}


def write_file(out: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> Path:
    """One file; the authors' readers find the weights under ``model``, and safetensors' readers find them bare."""
    temporary = out.with_name(out.name + ".partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".safetensors":
            exported.write_safetensors(tensors, temporary, format="pt", minimae=json.dumps(about))
        elif out.suffix in (".pth", ".pt", ".bin"):
            torch.save({"model": tensors, "minimae": json.dumps(about)}, temporary)
        else:
            raise MinimaeError(f"{out} has the ending {out.suffix!r}: .safetensors or .pth was wanted")
        os.replace(temporary, out)
    except (OSError, RuntimeError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise MinimaeError(f"cannot write {out} ({error}); nothing was written") from None
    return out


def write_folder(out: Path, tensors: dict[str, Tensor], config: dict[str, Any], preprocessor: dict[str, Any]) -> Path:
    """The big library's folder, which gets its name when it is whole."""
    temporary = out.with_name(out.name + ".partial")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, values in (("config.json", config), ("preprocessor_config.json", preprocessor)):
            (temporary / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        exported.write_safetensors(tensors, temporary / "model.safetensors", format="pt")
        temporary.rename(out)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise MinimaeError(f"cannot write {out} ({error}); nothing was written") from None
    return out


def config_of(trained: Pretrained | Classified, about: dict[str, Any], *, encoder_only: bool) -> dict[str, Any]:
    """config.json: the sizes by the big library's names."""
    pretraining = isinstance(trained, Pretrained)
    s = trained.size
    for what, value in (("patches", s.patch), ("images", s.image)):
        if not isinstance(value, int) and pair(value)[0] != pair(value)[1]:
            raise MinimaeError(f"the big library's ViT takes square {what} in its config, not {value[0]}×{value[1]}")
    config: dict[str, Any] = {
        "model_type": "vit_mae" if pretraining else "vit", "image_size": pair(s.image)[0], "patch_size": pair(s.patch)[0],
        "num_channels": s.channels, "hidden_size": s.width, "num_hidden_layers": s.depth, "num_attention_heads": s.heads,
        "intermediate_size": s.mlp_ratio * s.width, "layer_norm_eps": s.eps, "hidden_act": "gelu", "qkv_bias": True,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "minimae": about,
    }  # fmt: skip
    if isinstance(trained, Pretrained):
        whole = trained.decoder and not encoder_only
        config |= {
            "architectures": ["ViTMAEForPreTraining" if whole else "ViTMAEModel"], "decoder_hidden_size": s.decoder_width,
            "decoder_num_hidden_layers": s.decoder_depth, "decoder_num_attention_heads": s.decoder_heads,
            "decoder_intermediate_size": 4 * s.decoder_width, "mask_ratio": trained.recipe.ratio,
            "norm_pix_loss": trained.recipe.target == "normalised",
        }  # fmt: skip
    else:
        names = trained.classes or tuple(map(str, range(trained.classifier.head.out_features)))
        config |= {"architectures": ["ViTForImageClassification"], "id2label": dict(enumerate(names))}
        config["label2id"] = {name: i for i, name in enumerate(names)}
    return config


def preprocessor_of(trained: Pretrained | Classified) -> dict[str, Any]:
    """preprocessor_config.json: how the big library should prepare images."""
    s = trained.size
    height, width = pair(s.image)
    mean, deviation = (x.tolist() for x in trained.statistics)
    return {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255,
        "size": {"height": height, "width": width}, "resample": 3, "image_mean": mean, "image_std": deviation,
    }  # fmt: skip
