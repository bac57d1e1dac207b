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

from ..errors import MinimaeError

INSIDE = ("model", "state_dict", "model_state_dict")  # where a checkpoint keeps its weights
WRAPPERS = ("module.", "_orig_mod.")  # what DDP and torch.compile put before every name
FOLDER = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")


@dataclass(frozen=True, eq=False)
class Opened:
    """What a file or folder holds: tensors by name, the library's config if there is one, and what we wrote beside them ourselves."""

    source: str
    tensors: dict[str, Tensor]
    config: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


def open_weights(path: Path) -> Opened:
    """Read .safetensors, torch's .pth, .pt and .bin, or a folder with config.json and weights.

    Raises MinimaeError, with the file's name, when it is missing, damaged, or would have to run code.
    """
    if path.is_dir():
        return open_folder(path)
    if not path.is_file():
        raise MinimaeError(f"there are no weights at {path}")
    if path.suffix == ".safetensors":
        tensors, metadata = open_safetensors(path)
        return Opened(str(path), unwrapped(tensors, path), about=parsed(metadata.get("minimae", "{}"), path))
    return open_pickle(path)


def open_folder(folder: Path) -> Opened:
    """A folder as the big library saves it: config.json, and weights in one file or several."""
    found = next((folder / name for name in FOLDER if (folder / name).is_file()), None)
    if found is None:
        raise MinimaeError(f"{folder} holds no weights: one of {', '.join(FOLDER)} was wanted")
    config: dict[str, Any] = {}
    for name in ("config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            config |= parsed((folder / name).read_text(encoding="utf-8"), folder / name)
    if found.suffix == ".json":
        tensors: dict[str, Tensor] = {}
        for part in sorted(set(parsed(found.read_text(encoding="utf-8"), found).get("weight_map", {}).values())):
            if Path(part).name != part:
                raise MinimaeError(f"{found} points outside its folder ({part}); it was not followed")
            tensors |= open_weights(folder / part).tensors
    else:
        tensors = open_weights(found).tensors
    return Opened(str(folder), tensors, config, config.get("minimae", {}))


def open_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, and the strings in the head. The library checks all sizes against the file before it reads."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 (not a dictionary)
    except (SafetensorError, OSError) as error:
        raise MinimaeError(f"{path} is damaged ({error}): fetch or copy it again") from None


def open_pickle(path: Path) -> Opened:
    """A file of torch.save. Only tensors and plain values are accepted, mapped from the disk rather than copied into memory."""
    check_zip(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # the authors keep their options beside the weights
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        wanted = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line or "global" in line), "more than tensors")
        raise MinimaeError(
            f"{path} wants to run Python code when it is opened ({wanted[:160]}); it was not opened. "
            "Ask for a .safetensors file, or convert it where you trust it"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise MinimaeError(f"{path} is truncated or damaged ({reason}): fetch or copy it again") from None
    if not isinstance(state, Mapping):
        raise MinimaeError(f"{path} holds {type(state).__name__}, not a dictionary of tensors")
    about = parsed(state["minimae"], path) if isinstance(state.get("minimae"), str) else {}
    inner = next((state[name] for name in INSIDE if isinstance(state.get(name), Mapping)), state)
    tensors = {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
    if not tensors:
        raise MinimaeError(f"{path} holds no tensors, only {', '.join(map(str, list(inner)[:6])) or 'nothing'}")
    return Opened(str(path), unwrapped(tensors, path), about=about)


def check_zip(path: Path) -> None:
    """What torch has saved since version 1.6 is a zip archive that is not compressed. Anything else is refused before it is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [entry.filename for entry in archive.infolist() if entry.file_size > entry.compress_size]
            total = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError) as error:
        raise MinimaeError(
            f"{path} is damaged, or was not saved by torch 1.6 or newer ({error}): fetch it again, or save it again with a newer torch"
        ) from None
    if packed or total > path.stat().st_size:
        raise MinimaeError(f"{path} would unpack into more than it holds ({(packed or ['overlapping parts'])[0]}); it was not opened")


def unwrapped(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Names without what wrappers put before them; half precision becomes float32."""
    for prefix in WRAPPERS:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    if not tensors:
        raise MinimaeError(f"{path} holds no tensors")
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def parsed(text: str, path: Path) -> dict[str, Any]:
    """JSON that must be an object."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise MinimaeError(f"{path} is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise MinimaeError(f"{path} holds {type(found).__name__}, not a JSON object")
    return found
