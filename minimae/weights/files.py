"""Opening weights that somebody else has saved: nothing in them is run, and nothing is allocated that the file does not hold."""

from __future__ import annotations

import argparse
import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import MinimaeError, reason
from ..train.checkpoint import CHECKPOINT, FORMAT
from .facts import Facts
from .inside import chosen

CONFIGS = ("config.json", "preprocessor_config.json")
FOLDER = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")


@dataclass(frozen=True, eq=False)
class Opened:
    """The contents of a file or folder: tensors by name, and metadata.

    config, preprocessor: of the library that wrote the folder. about: our own metadata. args: the options of
    the authors' code. run: a whole checkpoint of our own training, in place of tensors. facts: of a live model.
    """

    source: str
    tensors: dict[str, Tensor]
    config: dict[str, Any] = field(default_factory=dict)
    preprocessor: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    args: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] | None = None
    facts: Facts | None = None


def open_weights(path: Path, *, key: str | None = None, prefix: str | None = None) -> Opened:
    """Read .safetensors, torch's .pth, .pt and .bin, a folder with config.json and weights, or the folder of a run of ours.

    key: the entry of the file that holds the weights, as ``state_dict`` or ``teacher.backbone``. prefix: the prefix of their names. Both
    are found where only one choice is possible.
    Raises MinimaeError, with the file's name, when it is missing, damaged, or would have to run code.
    """
    if path.is_dir():
        return open_folder(path, key=key, prefix=prefix)
    if not path.is_file():
        raise MinimaeError(f"there are no weights at {path}")
    if path.suffix == ".safetensors":
        tensors, metadata = open_safetensors(path)
        if key is not None:
            raise MinimaeError(f"{path} is a safetensors file, which holds tensors alone: key= (--key) has no meaning there")
        about = parsed(metadata.get("minimae", "{}"), path)
        return Opened(str(path), chosen(tensors, str(path), key=None, prefix=prefix), about=about)
    return open_pickle(path, key=key, prefix=prefix)


def open_folder(folder: Path, *, key: str | None, prefix: str | None) -> Opened:
    """A folder as Hugging Face transformers saves it: config.json, and weights in one file or several; or that of a run of ours."""
    if (folder / CHECKPOINT).is_file() and not (folder / "config.json").is_file():
        return open_pickle(folder / CHECKPOINT)
    found = next((folder / name for name in FOLDER if (folder / name).is_file()), None)
    if found is None:
        raise MinimaeError(f"{folder} holds no weights: expected one of {', '.join((*FOLDER, CHECKPOINT))}")
    read = {name: parsed(path.read_bytes(), path) for name in CONFIGS if (path := folder / name).is_file()}
    config, preprocessor = (read.get(name, {}) for name in CONFIGS)
    if found.suffix == ".json":
        tensors: dict[str, Tensor] = {}
        for part in sorted(set(parsed(found.read_bytes(), found).get("weight_map", {}).values())):
            if Path(part).name != part:
                raise MinimaeError(f"{found} points outside its folder ({part}); it was not followed")
            part_tensors, _ = open_safetensors(folder / part) if part.endswith(".safetensors") else (read_pickle(folder / part), {})
            tensors |= part_tensors
    elif found.suffix == ".safetensors":
        tensors, _ = open_safetensors(found)
    else:
        tensors = dict(read_pickle(found))
    tensors = chosen(tensors, str(folder), key=key, prefix=prefix)
    return Opened(str(folder), tensors, config, preprocessor, about=config.get("minimae", {}))


def open_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, and the strings in the head. The library checks all sizes against the file before it reads."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 (not a dictionary)
    except (SafetensorError, OSError) as error:
        raise MinimaeError(f"{path} is damaged ({error}): fetch or copy it again") from None


def open_pickle(path: Path, *, key: str | None = None, prefix: str | None = None) -> Opened:
    """A file of torch.save: another's, or a checkpoint of ours under any name."""
    state = read_pickle(path)
    if state.get("format") == FORMAT:
        return Opened(str(path), {}, run=dict(state))
    about = parsed(state["minimae"], path) if isinstance(state.get("minimae"), str) else {}
    args = vars(state["args"]) if isinstance(state.get("args"), argparse.Namespace) else {}
    return Opened(str(path), chosen(state, str(path), key=key, prefix=prefix), about=about, args=args)


class Beside:
    """Placeholder for a value that is not needed (a path, a numpy number): it takes any arguments and does nothing."""

    def __init__(self, *given: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def harmless() -> list[Any]:
    """Classes allowed beside tensors: the authors' options, which are read, and paths and numpy numbers, which are ignored."""
    systems = ("Posix", "Windows", "PurePosix", "PureWindows", "")
    paths = [f"{module}.{system}Path" for module in ("pathlib", "pathlib._local") for system in systems]
    numbers = [f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")]
    kinds = ("Bool", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float16", "Float32", "Float64", "Str")
    names = [*paths, *numbers, "numpy.dtype", "numpy.ndarray", *(f"numpy.dtypes.{kind}DType" for kind in kinds), "_codecs.encode"]
    return [argparse.Namespace, Beside, *((Beside, name) for name in names)]


def read_pickle(path: Path) -> Mapping[Any, Any]:
    """What torch.save wrote. Only tensors and plain values are accepted, mapped from the disk rather than copied into memory."""
    check_zip(path)
    try:
        with torch.serialization.safe_globals(harmless()):
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        wanted = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line or "global" in line), "more than tensors")
        raise MinimaeError(
            f"{path} would run Python code when opened ({reason(wanted, 160)}); it was not opened. "
            "Ask for a .safetensors file, or convert it where you trust it"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise MinimaeError(f"{path} is truncated or damaged ({reason(error)}): fetch or copy it again") from None
    if not isinstance(state, Mapping):
        raise MinimaeError(f"{path} holds {type(state).__name__}, not a dictionary of tensors")
    return state


def check_zip(path: Path) -> None:
    """What torch has saved since version 1.6 is a zip archive that is not compressed. Anything else is refused before it is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [entry.filename for entry in archive.infolist() if entry.file_size > entry.compress_size]
            total = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError) as error:
        if (kind := kind_of_picture(path)) is not None:
            raise MinimaeError(f"{path} is a picture ({kind}), not weights: name a run folder, or a file of weights") from None
        raise MinimaeError(
            f"{path} is damaged, or was not saved by torch 1.6 or newer ({error}): fetch it again, or save it again with a newer torch"
        ) from None
    if packed or total > path.stat().st_size:
        raise MinimaeError(f"{path} would unpack into more than it holds ({(packed or ['overlapping parts'])[0]}); it was not opened")


def kind_of_picture(path: Path) -> str | None:
    """JPEG, PNG … for a file that is a picture by its first bytes; None for any other."""
    from PIL import Image

    try:
        with Image.open(path) as found:
            return found.format
    except Exception:  # Pillow raises a dozen types for what is no picture, and one for a picture that is too large
        return None


def parsed(text: str | bytes, path: Path) -> dict[str, Any]:
    """JSON that must be an object."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise MinimaeError(f"{path} is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise MinimaeError(f"{path} holds {type(found).__name__}, not a JSON object")
    return found
