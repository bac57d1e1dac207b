"""Sharded checkpoints of versions up to 0.5: a folder with a part from every process, written by torch.distributed.checkpoint.

They are only read here, and as plain data: torch's own reader unpickles the file ``.metadata``, which can run any command.
"""

from __future__ import annotations

import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import MinimaeError, reason
from .checkpoint import Damaged, check_run, load_plain

STATE, METADATA = "state.pt", ".metadata"


class Plain:
    """Placeholder for each of torch's classes in the metadata: it holds the stored values, and does nothing."""

    def __init__(self, *values: Any) -> None:
        self.values = values

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {"values": state})


METADATA_CLASSES = {
    "torch.distributed.checkpoint.metadata": (
        "Metadata", "MetadataIndex", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata", "TensorProperties",
        "StorageMeta", "_MEM_FORMAT_ENCODING",
    ),
    "torch.distributed.checkpoint.filesystem": ("_StorageInfo",),
    "torch.serialization": ("_get_layout",),
    "pathlib": ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"),
    "pathlib._local": ("PosixPath", "WindowsPath"),
}  # fmt: skip


class MetadataReader(pickle.Unpickler):
    """Reads the metadata without importing or calling anything that it names."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch", "Size"):
            return tuple
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if name in METADATA_CLASSES.get(module, ()):
            return Plain
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def load_about(folder: Path, kind: str | None) -> dict[str, Any]:
    """What a sharded checkpoint holds besides tensors. Raises as :func:`.checkpoint.load_checkpoint` does."""
    state = load_plain(folder / STATE, folder / STATE)
    if not isinstance(state, dict):
        raise Damaged(f"{folder / STATE} was not written by minimae")
    check_run(state, kind, folder)
    return state


def load_parts(folder: Path, kind: str | None) -> dict[str, Any]:
    """A sharded checkpoint in the form of an ordinary one: whole tensors, moments by the number of their parameter."""
    state = load_about(folder, kind)
    try:
        tree = load_tensors(folder)
        return {**state, "model": tree["model"], "optimiser": numbered(tree["optimiser"]), "scaler": {}}
    except MinimaeError:
        raise
    except Exception as error:  # damaged metadata can fail anywhere
        raise Damaged(f"{folder} is not a sharded checkpoint of plain data, or damaged ({reason(error)}); it was not loaded") from None


def load_tensors(folder: Path) -> dict[str, Any]:
    """All that was saved in parts, each tensor put together, as the nested dictionaries and lists that it was."""
    with open(folder / METADATA, "rb") as file:
        metadata = MetadataReader(file).load()
    flat: dict[str, Any] = {}
    filled: dict[str, int] = {}
    for index, info in metadata.storage_data.items():
        name, path = index.fqn, folder / Path(info.relative_path).name  # no part lies outside the folder
        with open(path, "rb") as part:
            part.seek(info.offset)
            value = load_plain(BytesIO(part.read(info.length)), path)
        size = getattr(metadata.state_dict_metadata[name], "size", None)
        if size is None:
            flat[name] = value
            continue
        place = tuple(slice(start, start + length) for start, length in zip(index.offset, value.shape, strict=True))
        flat.setdefault(name, torch.empty(size, dtype=value.dtype))[place] = value
        filled[name] = filled.get(name, 0) + value.numel()
    short = [name for name, count in filled.items() if count != flat[name].numel()]
    if short or flat.keys() != metadata.planner_data.keys():
        raise Damaged(f"{folder} lacks parts of {', '.join(short[:3]) or 'what it lists'}: use another checkpoint, or train again")
    return nested({path: flat[name] for name, path in metadata.planner_data.items()})


def nested(flat: dict[tuple[Any, ...], Any]) -> Any:
    """Values by their path → dictionaries in dictionaries; those whose keys are numbers become lists."""
    if list(flat) == [()]:
        return flat[()]
    groups: dict[Any, dict[tuple[Any, ...], Any]] = {}
    for path, value in flat.items():
        groups.setdefault(path[0], {})[path[1:]] = value
    tree = {key: nested(group) for key, group in groups.items()}
    return [tree[i] for i in range(len(tree))] if all(isinstance(key, int) for key in tree) else tree


def numbered(optimizer: dict[str, Any]) -> dict[str, Any]:
    """The state of an optimizer by the names of its parameters → by their numbers, as torch's optimizers store it."""
    names = [name for group in optimizer["param_groups"] for name in group["params"]]
    number = {name: i for i, name in enumerate(names)}
    groups = [{**group, "params": [number[name] for name in group["params"]]} for group in optimizer["param_groups"]]
    moments: dict[int, dict[str, Tensor]] = {number[name]: values for name, values in optimizer.get("state", {}).items()}
    return {"state": moments, "param_groups": groups}
