"""Our own files: checkpoints of runs, and safetensors files with recipe, size and statistics in their header."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import MinimaeError
from ..model.mae import MAE
from ..model.masking import keep_count
from ..model.patches import Pair
from ..model.positions import resize_positions
from ..model.sizes import SIZES, Size
from ..model.targets import TARGETS
from ..model.vit import Encoder
from ..tasks.finetune import Classifier, finetuned_of
from ..tasks.partial import at_image
from ..tasks.pretrain import Pretrain, Pretrained, rebuild, tensors_of
from ..train.checkpoint import check_run, load_weights
from ..train.settings import from_dict
from .classified import Classified
from .facts import Facts, checked_statistics, sides
from .files import Source, whole, write_safetensors

OWN_DATA = "your own images"  # the data of a model from your own loop


def read(source: Source, options: Mapping[str, Any]) -> Pretrained | Classified:
    """The model of a run or of a file that :func:`minimae.save` wrote. options: only ``image`` and ``strict`` can be given."""
    if source.checkpoint is None and not source.metadata:
        raise MinimaeError(
            f"{source.name} has our names, but no description of the model: write it with minimae.save(model, path, statistics=…), "
            "or use minimae export or the folder of the run"
        )
    path = Path(source.name)
    trained = read_export(source.metadata, source.tensors, path) if source.checkpoint is None else read_checkpoint(source.checkpoint, path)
    if wrong := sorted(name for name, value in options.items() if value is not None and name not in ("image", "strict")):
        raise MinimaeError(f"these weights describe themselves: leave out {', '.join(wrong)}")
    return trained if options.get("image") is None else at(trained, options["image"])


def read_checkpoint(state: dict[str, Any], path: Path) -> Pretrained | Classified:
    """The model of a run. Raises MinimaeError for a linear probe, which has a head but no model of its own."""
    kind = state.get("kind")
    check_run(state, kind, path)
    if kind == "pretrain":
        return rebuild(state, state["model"], path)
    if kind == "finetune":
        classifier, about = finetuned_of(state, path)
        return Classified(classifier, about["statistics"], tuple(about["classes"]), about["data"])
    raise MinimaeError(f"{path} holds a {kind} run, not an encoder or a classifier: give the weights that it was trained on")


def read_export(about: dict[str, Any], tensors: dict[str, Tensor], path: Path) -> Pretrained | Classified:
    """The model of a safetensors file of ours."""
    if about.get("kind") != "finetune":
        return rebuild(about, tensors, path)
    try:
        classifier = Classifier(Encoder(from_dict(Size, about["size"])), len(tensors["head.bias"]), pool=about["pool"])
        mean, std = (torch.as_tensor(x) for x in about["statistics"])
    except (KeyError, TypeError, ValueError) as error:
        raise MinimaeError(f"{path} does not describe its model in a way this version knows ({error})") from None
    load_weights(classifier, tensors, path)
    return Classified(classifier.eval(), (mean, std), tuple(about["classes"]), about.get("data", ""))


def write(trained: Pretrained | Classified, path: Path, *, half: bool) -> None:
    """Write one safetensors file. Raises MinimaeError when it cannot be written."""
    tensors = tensors_of(trained) if isinstance(trained, Pretrained) else trained.classifier.state_dict()
    tensors = {name.replace("_orig_mod.", ""): value for name, value in tensors.items()}  # of a part that torch.compile has wrapped
    tensors = {name: (x.half() if half else x.float()).cpu().contiguous().clone() for name, x in tensors.items()}  # shared ones twice
    with whole(path) as partial:
        write_safetensors(tensors, partial, minimae=json.dumps(metadata_of(trained)))


def metadata_of(trained: Pretrained | Classified) -> dict[str, Any]:
    """What is needed to use these weights: size, statistics, and recipe or classes."""
    about: dict[str, Any] = {"size": asdict(trained.size), "statistics": [x.tolist() for x in trained.statistics]}
    if isinstance(trained, Pretrained):
        return about | {"settings": asdict(trained.recipe), "decoder": trained.decoder}
    return about | {"kind": "finetune", "classes": list(trained.classes), "pool": trained.classifier.pool, "data": trained.data}


def facts_of(metadata: Mapping[str, Any]) -> Facts:
    """Facts from our metadata in a file or folder of another layout."""
    size, settings = metadata["size"], metadata.get("settings", {})
    return Facts(
        heads=size["heads"], decoder_heads=size["decoder_heads"], image=sides(size["image"]), eps=size.get("eps", 1e-6),
        target=settings.get("target"), ratio=settings.get("ratio"), statistics=tuple(metadata["statistics"]), 
        classes=tuple(metadata.get("classes", ())),
    )  # fmt: skip


def complete(facts: Facts, ours: Facts) -> Facts:
    """Facts from a folder that we wrote and another library may have rewritten; our metadata adds what has no field there."""
    numbered = facts.classes == tuple(map(str, range(len(facts.classes))))  # how we write classes without names
    target = ours.target if ours.target == "pca" and facts.target == "pixels" else facts.target
    return replace(facts, statistics=facts.statistics or ours.statistics, target=target, classes=() if numbered else facts.classes)


def at(trained: Pretrained | Classified, image: int | Pair) -> Pretrained | Classified:
    """A copy of the model for images of another size in pixels: positions of encoder and decoder are resized."""
    size = resized(trained.size, image)
    if isinstance(trained, Classified):
        classifier = copy.deepcopy(trained.classifier)
        classifier.encoder = at_image(classifier.encoder, image)
        return replace(trained, classifier=classifier)
    tensors = tensors_of(trained)
    for name in [name for name in tensors if name.endswith("positions")]:
        tensors[name] = resize_positions(tensors[name], trained.size.grid, size.grid)
    return rebuild(metadata_of(trained) | {"size": asdict(size)}, tensors, Path("these weights"))


def resized(size: Size, image: int | Pair) -> Size:
    """The same model for another image size. Raises MinimaeError when the patch does not divide it."""
    try:
        return replace(size, image=image)
    except ValueError as error:
        raise MinimaeError(str(error)) from None


def recipe_of(size: Size, *, target: str = "normalised", ratio: float = 0.75, data: str = "imagenet", **fields: Any) -> Pretrain:
    """A recipe that describes a model trained without one."""
    names = ("patch", "width", "depth", "heads", "decoder_width", "decoder_depth", "decoder_heads", "image")
    near = next((name for name, s in SIZES.items() if (s.width, s.depth) == (size.width, size.depth)), "base")
    shape = {name: getattr(size, name) for name in names}
    return Pretrain(data=data, size=near, target=target, ratio=ratio, **shape, **fields)  # type: ignore[arg-type]


def trained_model(model: Any, statistics: Any, metadata: dict[str, Any]) -> Pretrained | Classified:
    """A model from a loop of the user's own, with its statistics and metadata, or one that was loaded. Raises ValueError otherwise."""
    while isinstance(model, nn.Module) and isinstance(inner := getattr(model, "_orig_mod", getattr(model, "module", None)), nn.Module):
        model = inner  # of torch.compile, or of several processes
    if isinstance(model, Pretrained | Classified):
        if statistics is not None or metadata:
            raise ValueError("what minimae.load returned has its statistics already: leave the options out")
        return model
    if not isinstance(model, MAE | Classifier):
        raise ValueError(f"a MAE, a Classifier or what minimae.load returned can be saved, not {type(model).__name__}")
    if statistics is None:
        raise ValueError("statistics=(mean, std) is missing: what the images were normalised by, for example images.statistics")
    size = model.size if isinstance(model, MAE) else model.encoder.size
    statistics = checked_statistics(statistics, size.channels)
    known = ("ratio", "data") if isinstance(model, MAE) else ("classes", "data")
    if strange := sorted(set(metadata) - set(known)):
        raise ValueError(f"{', '.join(strange)} cannot be saved with a {type(model).__name__}; {' and '.join(known)} can")
    if not isinstance(model, MAE):
        classes, count = metadata.pop("classes", ()), model.head.out_features
        if not isinstance(classes, list | tuple) or len(classes) not in (0, count):
            raise ValueError(f"classes are a list of the {count} names that belong to the head, not {classes!r}")
        return Classified(model, statistics, tuple(map(str, classes)), **metadata)
    if hasattr(model.encoder, "vit"):
        raise ValueError("the encoder of this MAE is a model of timm: save that one, with torch.save(vit.state_dict(), path)")
    keep_count(size.grid[0] * size.grid[1], metadata.get("ratio", 0.75))  # a ValueError for a ratio that hides all or nothing
    target = next((name for name, kind in TARGETS.items() if type(model.target) is kind), None)
    if target is None:
        raise ValueError(f"a target of your own ({type(model.target).__name__}) cannot be saved; {', '.join(TARGETS)} can")
    tokens = model.encoder.mask_token is not None
    fields = {"data": OWN_DATA, **metadata, "target": target, "loss_on": model.loss_on, "mask_tokens_in_encoder": tokens}
    return Pretrained(model, recipe_of(size, **fields), statistics)
