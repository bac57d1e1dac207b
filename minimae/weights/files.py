"""Opening files of weights: no code in them is run, and no more is allocated than the file holds."""

from __future__ import annotations

import argparse
import json
import pickle
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import MinimaeError, reason
from ..train.checkpoint import CHECKPOINT, FORMAT, instead_of, load_checkpoint
from .facts import Facts
from .state_dict import find_weights

FOLDER = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
NO_WEIGHTS = {".onnx": "a program", ".pt2": "a program", ".json": "a JSON file", ".yaml": "a recipe", ".yml": "a recipe"}


@dataclass(frozen=True, eq=False)
class Source:
    """The contents of a file, folder or live model: tensors by name, and metadata.

    config, preprocessor: JSON files of the library that wrote a folder. metadata: our own. args: the options of the authors' code.
    checkpoint: the whole state of a run of ours, in place of tensors. facts: of a live model.
    """

    name: str
    tensors: dict[str, Tensor]
    config: dict[str, Any] = field(default_factory=dict)
    preprocessor: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    args: dict[str, Any] = field(default_factory=dict)
    checkpoint: dict[str, Any] | None = None
    facts: Facts | None = None


def open_weights(path: Path, *, key: str | None = None, prefix: str | None = None) -> Source:
    """Read .safetensors, torch's .pth, .pt and .bin, a folder with config.json and weights, or a run folder of ours.

    key, prefix: see :func:`minimae.weights.state_dict.find_weights`.
    Raises MinimaeError, with the file's name, when it is missing, damaged, or would have to run code.
    """
    if path.is_dir():
        return open_folder(path, key=key, prefix=prefix)
    if not path.is_file():
        raise MinimaeError(f"there are no weights at {path}")
    if path.suffix in NO_WEIGHTS:
        raise MinimaeError(f"{path} is {NO_WEIGHTS[path.suffix]}, not weights: name a run folder, or a file of weights")
    if path.suffix == ".safetensors":
        if key is not None:
            raise MinimaeError(f"{path} is a safetensors file, which holds tensors alone: key= (--key) has no meaning there")
        tensors, strings = read_safetensors(path)
        metadata = parse_json(strings.get("minimae", "{}"), path)
        return Source(str(path), find_weights(tensors, str(path), key=None, prefix=prefix), metadata=metadata)
    state = read_pickle(path)
    if state.get("format") == FORMAT:
        return Source(str(path), {}, checkpoint=load_checkpoint(path))
    metadata = parse_json(state["minimae"], path) if isinstance(state.get("minimae"), str) else {}
    args = vars(state["args"]) if isinstance(state.get("args"), argparse.Namespace) else {}
    return Source(str(path), find_weights(state, str(path), key=key, prefix=prefix), metadata=metadata, args=args)


def open_folder(folder: Path, *, key: str | None, prefix: str | None) -> Source:
    """A folder as Hugging Face transformers saves it, with weights in one file or several; or a run folder of ours."""
    if (folder / CHECKPOINT).is_file() and not (folder / "config.json").is_file():
        return open_weights(folder / CHECKPOINT)
    file = next((folder / name for name in FOLDER if (folder / name).is_file()), None)
    if file is None:
        raise MinimaeError(f"{folder} holds no weights: expected one of {', '.join((*FOLDER, CHECKPOINT))}")
    files = [folder / name for name in ("config.json", "preprocessor_config.json")]
    config, preprocessor = (parse_json(path.read_bytes(), path) if path.is_file() else {} for path in files)
    listed = parse_json(file.read_bytes(), file).get("weight_map", {}) if file.suffix == ".json" else {"": file.name}
    tensors: dict[str, Tensor] = {}
    for part in sorted(set(listed.values())):
        if Path(part).name != part:
            raise MinimaeError(f"{file} points outside its folder ({part}); it was not followed")
        tensors |= read_safetensors(folder / part)[0] if part.endswith(".safetensors") else read_pickle(folder / part)
    tensors = find_weights(tensors, str(folder), key=key, prefix=prefix)
    return Source(str(folder), tensors, config, preprocessor, metadata=config.get("minimae", {}))


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, and the strings in the header. The library checks all sizes against the file before it reads."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 (not a dictionary)
    except (SafetensorError, OSError) as error:
        raise MinimaeError(f"{path} is damaged ({error}): fetch or copy it again") from None


def write_safetensors(tensors: dict[str, Tensor], path: Path, **metadata: str) -> None:
    """The library makes files that only their owner can read; this one gets the mode of an ordinary file."""
    path.touch()
    mode = path.stat().st_mode
    save_file(tensors, path, metadata=metadata)
    path.chmod(mode)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``: what is written there then replaces ``path``. Raises MinimaeError when that fails."""
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise MinimaeError(f"cannot write {path} ({error}); what was there before is untouched") from None
    finally:
        if partial.exists():
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink()


def check_absent(path: Path) -> None:
    """Raises MinimaeError when something exists at this path."""
    if path.exists():
        raise MinimaeError(f"{path} already exists: choose another name, or remove it")


class Ignored:
    """Stands for a value that is not needed (a path, a numpy number): it takes any arguments and does nothing."""

    def __init__(self, *values: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def allowed_classes() -> list[Any]:
    """Classes allowed beside tensors: the authors' options, which are read, and paths and numpy numbers, which are ignored."""
    systems = ("Posix", "Windows", "PurePosix", "PureWindows", "")
    paths = [f"{module}.{system}Path" for module in ("pathlib", "pathlib._local") for system in systems]
    numbers = [f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")]
    kinds = ("Bool", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float16", "Float32", "Float64", "Str")
    names = [*paths, *numbers, "numpy.dtype", "numpy.ndarray", *(f"numpy.dtypes.{kind}DType" for kind in kinds), "_codecs.encode"]
    return [argparse.Namespace, Ignored, *((Ignored, name) for name in names)]


def read_pickle(path: Path) -> dict[Any, Any]:
    """What torch.save wrote. Only tensors and plain values are accepted, mapped from the disk rather than copied into memory."""
    check_zip(path)
    try:
        with torch.serialization.safe_globals(allowed_classes()):
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        code = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line or "global" in line), "more than tensors")
        raise MinimaeError(
            f"{path} would run Python code when opened ({reason(code, 160)}); it was not opened. "
            "Ask for a .safetensors file, or convert it where you trust it"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise MinimaeError(f"{path} is truncated or damaged ({reason(error)}): fetch or copy it again, or {instead_of(path)}") from None
    if not isinstance(state, Mapping):
        raise MinimaeError(f"{path} holds {type(state).__name__}, not a dictionary of tensors")
    return dict(state)


def check_zip(path: Path) -> None:
    """torch has saved uncompressed zip archives since version 1.6. Raises MinimaeError for anything else, before it is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [entry.filename for entry in archive.infolist() if entry.file_size > entry.compress_size]
            total = sum(entry.file_size for entry in archive.infolist())
    except PermissionError as error:
        raise MinimaeError(f"cannot read {path} ({error.strerror})") from None
    except (zipfile.BadZipFile, OSError) as error:
        if (kind := picture_kind(path)) is not None:
            raise MinimaeError(f"{path} is a picture ({kind}), not weights: name a run folder, or a file of weights") from None
        raise MinimaeError(
            f"{path} is damaged, or was not saved by torch 1.6 or newer ({error}): fetch it again, save it again with a newer torch, "
            f"or {instead_of(path)}"
        ) from None
    if packed or total > path.stat().st_size:
        raise MinimaeError(f"{path} would unpack into more than it holds ({(packed or ['overlapping parts'])[0]}); it was not opened")


def picture_kind(path: Path) -> str | None:
    """JPEG, PNG … for a picture; None for any other file."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return picture.format
    except Exception:  # Pillow raises a dozen types for what is no picture, and one for a picture that is too large
        return None


def parse_json(text: str | bytes, path: Path) -> dict[str, Any]:
    """A JSON object. Raises MinimaeError with the file's name for anything else."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise MinimaeError(f"{path} is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise MinimaeError(f"{path} holds {type(value).__name__}, not a JSON object")
    return value
