"""Weights that come with the project: safetensors in half precision, with all that is needed to use them inside the file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .errors import MinimaeError
from .suggest import nearest
from .tasks.pretrain import Pretrained, load_pretrained, rebuild

FOLDERS = (Path(__file__).parent / "_sample" / "weights", Path(__file__).parents[1] / "data" / "weights")


def export(trained: Pretrained, path: Path, *, half: bool = True) -> None:
    """Write a trained model as one safetensors file: half precision or float32, with recipe, size and statistics as JSON in its head.

    Raises MinimaeError when it cannot be written.
    """
    about = {
        "settings": asdict(trained.recipe),
        "size": asdict(trained.model.size),
        "statistics": [x.tolist() for x in trained.statistics],
        "decoder": trained.decoder,
    }
    weights = {name: (value.half() if half else value).contiguous() for name, value in trained.model.state_dict().items()}
    temporary = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(weights, temporary, metadata={"minimae": json.dumps(about)})
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise MinimaeError(f"cannot write {path} ({error}); what was there before is untouched") from None


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
    """A trained model: shipped weights by name, an exported file, a run folder, or its checkpoint. Never runs code from a file."""
    known, path = shipped(), Path(name)
    if str(name) in known:
        return read_export(known[str(name)])
    if path.suffix == ".safetensors" and path.is_file():
        return read_export(path)
    if not path.exists() and len(path.parts) == 1 and not path.suffix:
        raise MinimaeError(f"there is no checkpoint at {path}, and no shipped weights of that name{nearest(str(name), known)}")
    return load_pretrained(path)
