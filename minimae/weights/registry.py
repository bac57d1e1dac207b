"""Weights by name or by file: those that come with the project, those of a run, and what others have saved (:mod:`minimae.weights`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import MinimaeError
from ..model.mae import MAE
from ..model.masking import keep_count
from ..model.sizes import SIZES, Size
from ..model.targets import TARGETS
from ..suggest import nearest
from ..tasks.pretrain import Pretrain, Pretrained, rebuild, tensors_of

if TYPE_CHECKING:
    from ..tasks.finetune import Classifier
    from .classified import Classified
    from .layouts import Layout

OWN_DATA = "your own images"  # the data of a model from your own loop
FOLDERS = (Path(__file__).parents[1] / "_sample" / "weights", Path(__file__).parents[2] / "data" / "weights")


def export(trained: Pretrained | Classified, path: Path, *, half: bool = True) -> None:
    """Write a trained model as one safetensors file: half precision or float32, with recipe, size and statistics as JSON in its head.

    Raises MinimaeError when it cannot be written.
    """
    own = tensors_of(trained) if isinstance(trained, Pretrained) else trained.classifier.state_dict()
    own = {name.replace("_orig_mod.", ""): value for name, value in own.items()}  # of a part that torch.compile has wrapped
    weights = {name: (value.half() if half else value.float()).cpu().contiguous().clone() for name, value in own.items()}  # tied ones twice
    temporary = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(weights, temporary, minimae=json.dumps(describe(trained)))
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise MinimaeError(f"cannot write {path} ({error}); what was there before is untouched") from None


def write_safetensors(tensors: dict[str, Tensor], path: Path, **metadata: str) -> None:
    """The library makes files that only their owner can read; this one gets the mode of an ordinary file."""
    path.touch()
    mode = path.stat().st_mode
    save_file(tensors, path, metadata=metadata)
    path.chmod(mode)


def describe(trained: Pretrained | Classified) -> dict[str, Any]:
    """What is needed to use these weights: recipe, size, statistics, and whether the decoder is trained; or the classes."""
    statistics = [x.tolist() for x in trained.statistics]
    if isinstance(trained, Pretrained):
        about = {"settings": asdict(trained.recipe), "size": asdict(trained.model.size), "decoder": trained.decoder}
    else:
        about = {"kind": "finetune", "size": asdict(trained.size), "classes": list(trained.classes), "pool": trained.classifier.pool}
        about["data"] = trained.data
    return {**about, "statistics": statistics}


def read_export(path: Path) -> Pretrained:
    """Read pre-trained weights that :func:`export` wrote, as float32. Raises MinimaeError with the file's name when it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["minimae"])
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise MinimaeError(f"{path} is damaged, or was not written by minimae ({error})") from None
    return rebuild(about, weights, path)


def shipped() -> dict[str, Path]:
    """Names and files of the weights that come with the project."""
    return {path.stem: path for folder in FOLDERS if folder.is_dir() for path in sorted(folder.glob("*.safetensors"))}


def load(source: str | Path | Mapping[str, Any] | nn.Module, **options: Any) -> Pretrained | Classified:
    """Weights that come with the project or that the authors publish, by name; a run folder, its checkpoint under any name or an
    exported file; another library's file or folder; tensors by name, or a live model. Never runs code from a file.

    options: those of :func:`minimae.weights.reading.read`, for weights from elsewhere.
    Raises MinimaeError when there is nothing of that name, when it is damaged, or when it cannot be fetched.
    """
    from .named import NAMED, load_named
    from .own import with_options
    from .reading import read

    if not isinstance(source, str | Path):
        return read(source, **options)
    known, path = shipped(), Path(source).expanduser()
    if str(source) in known:
        return with_options(read_export(known[str(source)]), options)
    if str(source) in NAMED:
        return load_named(str(source), **options)
    if not path.exists() and len(path.parts) == 1 and not path.suffix:
        near = nearest(str(source), [*known, *NAMED])
        raise MinimaeError(f"there is no checkpoint at {path}, and no weights of that name, neither shipped nor published{near}")
    return read(path, **options)


def load_pretrained(source: str | Path | Mapping[str, Any] | nn.Module, **options: Any) -> Pretrained:
    """A pre-trained model, as :func:`load` finds it. Raises MinimaeError for a classifier."""
    trained = load(source, **options)
    if not isinstance(trained, Pretrained):
        raise MinimaeError(
            f"{source} is a classifier, and a pre-trained model is needed; train it with minimae finetune, measure it with minimae "
            f"evaluate, or read it with minimae.load({str(source)!r})"
        )
    return trained


def recipe_of(size: Size, *, target: str = "normalised", ratio: float = 0.75, data: str = "imagenet", **fields: Any) -> Pretrain:
    """A recipe that describes a model trained without one."""
    names = ("patch", "width", "depth", "heads", "decoder_width", "decoder_depth", "decoder_heads", "image")
    near = next((name for name, s in SIZES.items() if (s.width, s.depth) == (size.width, size.depth)), "base")
    shape = {name: getattr(size, name) for name in names}
    return Pretrain(data=data, size=near, target=target, ratio=ratio, **shape, **fields)  # type: ignore[arg-type]


def save(
    model: MAE | Classifier | Pretrained | Classified, path: str | Path, layout: Layout = "minimae", *, statistics: Any = None,
    half: bool = False, encoder_only: bool = False, **about: Any,
) -> Path:  # fmt: skip
    """Write a model, from a loop of your own or loaded, so that :func:`minimae.load` or another library can read it.

    path: a .safetensors file (.pth too for the layouts of others), or a folder for huggingface. layout: whose names the parameters get.
    half: half precision, in our own layout. encoder_only: leave the decoder out, in the layouts of others. statistics: mean and standard
    deviation of each channel of the pixels in [0, 1], by which the images were normalised (``images.statistics``); a loaded model has
    them already. about: ratio and data of a MAE; classes, the names, of a classifier.
    Raises ValueError for statistics that do not fit the model, MinimaeError when the file cannot be written.

    >>> import minimae
    >>> mae = minimae.MAE("nano", patch=7)
    >>> path = minimae.save(mae, "mine.safetensors", statistics=([0.29], [0.35]))
    >>> minimae.load(path).model.size == mae.size
    True
    """
    from ..tasks.finetune import Classifier
    from .classified import Classified
    from .statistics import checked_statistics

    path = Path(path).expanduser()
    inside: Any = model
    while isinstance(inside, nn.Module) and isinstance(within := getattr(inside, "_orig_mod", getattr(inside, "module", None)), nn.Module):
        inside = within  # of torch.compile, or of several processes
    model = inside
    if layout == "minimae" and path.suffix != ".safetensors":
        raise ValueError(f"a model is saved as a .safetensors file, not as {path.name!r}")
    if isinstance(model, MAE | Classifier):
        size = model.size if isinstance(model, MAE) else model.encoder.size
        if statistics is None:
            raise ValueError("statistics=(mean, std) is missing: what the images were normalised by, for example images.statistics")
        model = wrapped(model, checked_statistics(statistics, size.channels), about)
    elif not isinstance(model, Pretrained | Classified):
        raise ValueError(f"a MAE, a Classifier or what minimae.load returned can be saved, not {type(model).__name__}")
    elif statistics is not None or about:
        raise ValueError("what minimae.load returned has its statistics already: leave the options out")
    if layout != "minimae":
        from .writing import convert

        return convert(model, path, layout, encoder_only=encoder_only)
    export(model, path, half=half)
    return path


def wrapped(model: MAE | Classifier, statistics: tuple[Tensor, Tensor], about: dict[str, Any]) -> Pretrained | Classified:
    """A bare model with what belongs to it."""
    from .classified import Classified

    known = ("ratio", "data") if isinstance(model, MAE) else ("classes", "data")
    if strange := sorted(set(about) - set(known)):
        raise ValueError(f"{', '.join(strange)} is nothing to keep with a {type(model).__name__}; {' and '.join(known)} can be")
    if not isinstance(model, MAE):
        classes, wanted = about.pop("classes", ()), model.head.out_features
        if not isinstance(classes, list | tuple) or len(classes) not in (0, wanted):
            raise ValueError(f"classes are a list of the {wanted} names that belong to the head, not {classes!r}")
        return Classified(model, statistics, tuple(map(str, classes)), **about)
    keep_count(model.size.grid[0] * model.size.grid[1], about.get("ratio", 0.75))
    target = next((name for name, kind in TARGETS.items() if type(model.target) is kind), None)
    if target is None:
        raise ValueError(f"a target of your own ({type(model.target).__name__}) cannot be kept; {', '.join(TARGETS)} can")
    tokens = model.encoder.mask_token is not None
    about = {"data": OWN_DATA, **about, "target": target, "loss_on": model.loss_on, "mask_tokens_in_encoder": tokens}
    return Pretrained(model, recipe_of(model.size, **about), statistics)
