"""Our own weights: checkpoints of runs under any name, and exported files. They describe themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import MinimaeError
from ..model.patches import Pair, pair
from ..model.positions import resize_positions
from ..model.sizes import Size
from ..model.vit import Encoder
from ..tasks.finetune import Classifier, finetuned_of
from ..tasks.partial import at_image
from ..tasks.pretrain import Pretrained, rebuild, tensors_of
from ..train.checkpoint import check_run, load_weights
from ..train.settings import from_dict
from .classified import Classified
from .shapes import resized


def of_run(state: Mapping[str, Any], source: str) -> Pretrained | Classified:
    """The model of a training checkpoint. Raises MinimaeError for a linear probe, which is a head without a model of its own."""
    kind = state.get("kind")
    check_run(dict(state), kind, Path(source))
    if kind == "pretrain":
        return rebuild(dict(state), state["model"], Path(source))
    if kind == "finetune":
        classifier, about = finetuned_of(dict(state), Path(source))
        return Classified(classifier, about["statistics"], tuple(about["classes"]), about["data"])
    raise MinimaeError(f"{source} holds a {kind} run, which has no model of its own: load the weights that it was trained on")


def of_export(about: Mapping[str, Any], tensors: dict[str, Tensor], source: str) -> Pretrained | Classified:
    """The model of a file that :func:`minimae.weights.registry.export` wrote."""
    if about.get("kind") != "finetune":
        return rebuild(dict(about), tensors, Path(source))
    try:
        classifier = Classifier(Encoder(from_dict(Size, about["size"])), len(tensors["head.bias"]), pool=about["pool"])
        mean, deviation = (torch.as_tensor(x) for x in about["statistics"])
    except (KeyError, TypeError, ValueError) as error:
        raise MinimaeError(f"{source} does not describe its model in a way this version knows ({error})") from None
    load_weights(classifier, tensors, source)
    return Classified(classifier.eval(), (mean, deviation), tuple(about["classes"]), about.get("data", ""))


def with_options(found: Pretrained | Classified, options: Mapping[str, Any]) -> Pretrained | Classified:
    """Our checkpoints describe themselves, so only ``image`` can be changed. Raises MinimaeError for other options."""
    left = sorted(name for name, value in options.items() if value is not None and name not in ("image", "strict"))
    if left:
        raise MinimaeError(f"these weights describe themselves, so {', '.join(left)} can only be wrong: leave that out")
    image = options.get("image")
    return found if image is None else at(found, image)


def at(found: Pretrained | Classified, image: int | Pair) -> Pretrained | Classified:
    """The same model for images of another size in pixels: positions of encoder and decoder are resized."""
    if isinstance(found, Classified):
        resized(found.size, image)
        found.classifier.encoder = at_image(found.classifier.encoder, image)
        return found
    size = found.model.size
    if pair(image) == pair(size.image):
        return found
    larger = resized(size, image)
    statistics = [x.tolist() for x in found.statistics]
    about = {"settings": asdict(found.recipe), "size": asdict(larger), "statistics": statistics, "decoder": found.decoder}
    tensors = tensors_of(found)
    for name in [name for name in tensors if name.endswith("positions")]:
        tensors[name] = resize_positions(tensors[name], size.grid, larger.grid)
    return rebuild(about, tensors, Path("these weights"))
