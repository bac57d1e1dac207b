"""Loading weights, by name or from any source, and saving them in any layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import MinimaeError, nearest
from ..model.checks import check_sides
from ..model.mae import MAE
from ..model.patches import Pair
from ..model.vit import Encoder
from ..tasks.finetune import Classifier
from ..tasks.pretrain import Pretrained
from . import convert, native, timm
from .classified import Classified
from .convert import LAYOUTS, Layout
from .files import Source, open_weights
from .official import PUBLISHED, published_file
from .state_dict import find_weights

__all__ = ["LAYOUTS", "load", "load_pretrained", "save", "shipped"]

FOLDERS = (Path(__file__).parents[1] / "_sample" / "weights", Path(__file__).parents[2] / "data" / "weights")


def shipped() -> dict[str, Path]:
    """Names and files of the weights that come with the project."""
    return {path.stem: path for folder in FOLDERS if folder.is_dir() for path in sorted(folder.glob("*.safetensors"))}


def load(
    source: str | Path | Mapping[str, Any] | nn.Module, *, image: int | Pair | None = None, original_image: int | Pair | None = None,
    patch: int | Pair | None = None, channels: int | None = None, heads: int | None = None, decoder_heads: int | None = None,
    target: str | None = None, statistics: tuple[Any, Any] | None = None, strict: bool = True, key: str | None = None,
    prefix: str | None = None,
) -> Pretrained | Classified:  # fmt: skip
    """Trained weights → a pre-trained model with its recipe and statistics, or a classifier when they have a head.

    source: a name, shipped ("fashion-nano") or the authors' ("mae-base", downloaded); a run folder, its checkpoint under any name, or an
    exported file; another library's file or folder; tensors by name; or a live model of timm or Hugging Face transformers.

    image: another image size in pixels; positions are resized, bicubically in two dimensions. The other options concern other libraries.
    key: the entry of a file that holds the weights (``state_dict``, ``teacher``, ``model_ema``); prefix: the prefix of their names
    (``backbone.``). Both are found where only one choice is possible. patch, channels: what you expect; others are refused.
    heads, decoder_heads, original_image (where positions are no square grid), target (what the decoder was trained to predict) and
    statistics (mean and std of the channels in [0, 1]) cannot be seen in weights, and are read where the source states them. Otherwise
    heads must be given, the target is assumed to be normalised, and statistics of three channels ImageNet's, with a warning.
    strict: refuse weights in which something is missing or left over; otherwise a warning lists it, and what is missing is fresh.

    Never runs code from a file. Raises MinimaeError that says what was found and what was expected.

    >>> import torch, minimae
    >>> minimae.load("fashion-nano").features(torch.rand(8, 1, 28, 28)).shape
    torch.Size([8, 96])
    """
    options = {name: value for name, value in locals().items() if name != "source"}
    for what in ("image", "patch", "original_image"):
        if options[what] is not None:
            check_sides(what, options[what])
    if isinstance(source, str | Path):
        if str(source) in PUBLISHED:
            options["target"] = target or PUBLISHED[str(source)].target
        opened = open_weights(find_file(source), key=key, prefix=prefix)
    elif isinstance(source, nn.Module):
        opened = open_model(source)
    elif isinstance(source, Mapping):
        opened = Source("these tensors", find_weights(source, "these tensors", key=key, prefix=prefix))
    else:
        raise MinimaeError(f"weights are a name, a file, a folder, tensors by name or a live model, not {type(source).__name__}")
    if opened.checkpoint is not None or "encoder.project.weight" in opened.tensors:
        return native.read(opened, options)
    return convert.read(opened, options)


def find_file(source: str | Path) -> Path:
    """The file of shipped or published weights of this name, or the path. Raises MinimaeError for an unknown name, with the nearest."""
    name, path = str(source), Path(source).expanduser()
    if name in shipped():
        return shipped()[name]
    if name in PUBLISHED:
        return published_file(name)
    if not path.exists() and len(path.parts) == 1 and not path.suffix:
        near = nearest(name, [*shipped(), *PUBLISHED])
        raise MinimaeError(f"there is no checkpoint at {path}, and no weights of that name, neither shipped nor published{near}")
    return path


def open_model(model: Any) -> Source:
    """Tensors and facts of a live model of timm or Hugging Face transformers."""
    name = type(model).__name__
    if isinstance(model, MAE | Encoder | Classifier):
        raise MinimaeError(f"this {name} is already one of our models: use it directly, or save it with minimae.save")
    tensors = {name: tensor.detach().clone().float() for name, tensor in model.state_dict().items()}
    if hasattr(getattr(model, "config", None), "to_dict"):
        config = model.config.to_dict()
        return Source(name, tensors, config, metadata=config.get("minimae", {}))
    return Source(name, tensors, facts=timm.facts_of(model))


def load_pretrained(source: str | Path | Mapping[str, Any] | nn.Module, **options: Any) -> Pretrained:
    """A pre-trained model, as :func:`load` finds it. Raises MinimaeError for a classifier."""
    trained = load(source, **options)
    if not isinstance(trained, Pretrained):
        needed = f"{source} is a classifier, and a pre-trained model is needed; train it with minimae finetune, measure it with minimae "
        raise MinimaeError(f"{needed}evaluate, or read it with minimae.load({str(source)!r})")
    return trained


def save(
    model: MAE | Classifier | Pretrained | Classified, path: str | Path, layout: Layout = "minimae", *, statistics: Any = None,
    half: bool = False, encoder_only: bool = False, **metadata: Any,
) -> Path:  # fmt: skip
    """Write a model, from a loop of your own or loaded, so that :func:`load` or another library can read it. → the path.

    path: a .safetensors file (.pth too in other layouts), or a folder for huggingface. layout: the library whose names to use. statistics:
    mean and std of each channel of the pixels in [0, 1], by which the images were normalised (``images.statistics``); a loaded model has
    them already. half: half precision, in our own layout. encoder_only: leave the decoder out, in other layouts. metadata: ratio and data
    of a MAE; classes (the names) and data of a classifier. What a layout cannot hold (recipe, statistics, heads) is stored beside the
    tensors, so that loading gives the same bits.
    Raises ValueError for what does not fit the model, MinimaeError for what a layout cannot hold or a file that cannot be written.

    >>> import minimae
    >>> mae = minimae.MAE("nano", patch=7)
    >>> path = minimae.save(mae, "mine.safetensors", statistics=([0.29], [0.35]))
    >>> minimae.load(path).model.size == mae.size
    True
    """
    path = Path(path).expanduser()
    if layout not in LAYOUTS:
        raise MinimaeError(f"unknown layout {layout!r}; choose one of {', '.join(LAYOUTS)}")
    if unused := "half" if half and layout != "minimae" else "encoder_only" if encoder_only and layout == "minimae" else None:
        raise ValueError(f"{unused} has no meaning in the layout {layout}: leave it out")
    if layout == "minimae" and path.suffix != ".safetensors":
        raise ValueError(f"a model is saved as a .safetensors file, not as {path.name!r}")
    trained = native.trained_model(model, statistics, metadata)
    if layout == "minimae":
        native.write(trained, path, half=half)
    else:
        convert.write(trained, path, layout, encoder_only=encoder_only)
    return path
