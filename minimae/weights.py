"""Weights by name or by file: those that come with the project, those of a run, and what others have saved (:mod:`minimae.interop`)."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .errors import MinimaeError
from .patches import pair
from .positions import resize_positions
from .suggest import nearest
from .tasks.pretrain import Pretrained, load_pretrained, rebuild, tensors_of
from .training.loop import CHECKPOINT

if TYPE_CHECKING:
    from .interop.reading import Classified

FOLDERS = (Path(__file__).parent / "_sample" / "weights", Path(__file__).parents[1] / "data" / "weights")


def export(trained: Pretrained, path: Path, *, half: bool = True) -> None:
    """Write a trained model as one safetensors file: half precision or float32, with recipe, size and statistics as JSON in its head.

    Raises MinimaeError when it cannot be written.
    """
    about = describe(trained)
    weights = {name: (value.half() if half else value).contiguous() for name, value in tensors_of(trained).items()}
    temporary = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(weights, temporary, metadata={"minimae": json.dumps(about)})
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise MinimaeError(f"cannot write {path} ({error}); what was there before is untouched") from None


def describe(trained: Pretrained) -> dict[str, Any]:
    """What has to be known to use these weights: recipe, size, statistics, and whether the decoder is trained."""
    statistics = [x.tolist() for x in trained.statistics]
    return {"settings": asdict(trained.recipe), "size": asdict(trained.model.size), "statistics": statistics, "decoder": trained.decoder}


def read_export(path: Path) -> Pretrained:
    """Read what :func:`export` wrote, as float32. Raises MinimaeError with the file's name when it is damaged or something else."""
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


def load(name: str | Path) -> Pretrained:
    """A pre-trained model, as :func:`load_any` finds it. Raises MinimaeError for a classifier, which has no place where one is wanted."""
    found = load_any(name)
    if not isinstance(found, Pretrained):
        raise MinimaeError(f"{name} is a classifier, and a pre-trained model is wanted here; minimae.load({str(name)!r}) reads it")
    return found


def load_any(name: str | Path, **options: Any) -> Pretrained | Classified:
    """Weights that come with the project or that the authors publish, by name; a run folder, its checkpoint or an exported file; or
    another library's file or folder. Never runs code from a file.

    options: those of :func:`minimae.interop.load`, for weights from elsewhere.
    Raises MinimaeError when there is nothing of that name, when it is damaged, or when it cannot be fetched.
    """
    from .interop import load as load_foreign
    from .interop.named import NAMED, load_named

    known, path = shipped(), Path(name).expanduser()
    if str(name) in known:
        return with_options(read_export(known[str(name)]), options)
    if str(name) in NAMED:
        return load_named(str(name), **options)
    if not path.exists() and len(path.parts) == 1 and not path.suffix:
        near = nearest(str(name), [*known, *NAMED])
        raise MinimaeError(f"there is no checkpoint at {path}, and no weights of that name, neither shipped nor published{near}")
    if path.suffix == ".safetensors" and path.is_file() and ours(path):
        return with_options(read_export(path), options)
    if path.name == CHECKPOINT or not (path.is_file() or (path / "config.json").is_file()):
        return with_options(load_pretrained(path), options)
    return load_foreign(path, **options)


def with_options(trained: Pretrained, options: dict[str, Any]) -> Pretrained:
    """Our own weights tell all about themselves: of the options for others', only another image size means something here."""
    left = sorted(options.keys() - {"image", "strict"})
    if left:
        raise MinimaeError(f"these weights say themselves what {', '.join(left)} would tell: leave that out")
    image, size = options.get("image"), trained.model.size
    if image is None or pair(image) == pair(size.image):
        return trained
    try:
        larger = replace(size, image=image)
    except ValueError as error:
        raise MinimaeError(str(error)) from None
    about = {**describe(trained), "size": asdict(larger)}
    tensors = tensors_of(trained)
    for name in [name for name in tensors if name.endswith("positions")]:
        tensors[name] = resize_positions(tensors[name], size.grid, larger.grid)
    return rebuild(about, tensors, Path("these weights"))


def ours(path: Path) -> bool:
    """Whether a safetensors file is in our own layout (a damaged one counts, so that its reader tells)."""
    try:
        with safe_open(path, framework="pt") as file:
            return "encoder.project.weight" in file.keys()  # noqa: SIM118 (not a dictionary)
    except (SafetensorError, OSError):
        return True
