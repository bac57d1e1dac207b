"""Sharded checkpoints of versions up to 0.5: a folder with a part from every process, written by torch.distributed.checkpoint.

They are only read here, and as plain data: torch's own reader unpickles the file ``.metadata``, which can run any command.
"""

from __future__ import annotations

import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from ..errors import MinimaeError, reason
from .checkpoint import Damaged, check_run, load_plain

STATE, METADATA = "state.pt", ".metadata"


class Plain:
    """Stands for every class and function that the metadata names: it holds the stored values, and does nothing."""

    def __init__(self, *values: Any) -> None:
        self.values = values

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {"values": state})


class MetadataReader(pickle.Unpickler):
    """Reads the metadata without importing or calling anything that it names."""

    def find_class(self, module: str, name: str) -> Any:
        known = getattr(torch, name, None) if module == "torch" else None
        return tuple if (module, name) == ("torch", "Size") else known if isinstance(known, torch.dtype) else Plain


def load_sharded(folder: Path, kind: str | None, *, tensors: bool = True) -> dict[str, Any]:
    """A sharded checkpoint in the form of an ordinary one: whole tensors, moments by the number of their parameter.

    Without ``tensors``, only its other contents. Raises as :func:`.checkpoint.load_checkpoint` does.
    """
    state = load_plain(folder / STATE, folder / STATE)
    if not isinstance(state, dict):
        raise Damaged(f"{folder / STATE} was not written by minimae")
    check_run(state, kind, folder)
    if not tensors:
        return state
    try:
        tree = load_tensors(folder)
        return {**state, "model": tree["model"], "optimiser": by_number(tree["optimiser"]), "scaler": {}}
    except MinimaeError:
        raise
    except Exception as error:  # damaged metadata can fail anywhere
        raise Damaged(f"{folder} is not a sharded checkpoint of plain data, or damaged ({reason(error)}); it was not loaded") from None


def load_tensors(folder: Path) -> dict[str, Any]:
    """All that was saved in parts, each tensor put together, as the nested dictionaries and lists that it was."""
    with open(folder / METADATA, "rb") as file:
        metadata = MetadataReader(file).load()
    values: dict[str, Any] = {}
    filled: dict[str, int] = {}
    for index, info in metadata.storage_data.items():
        name, path = index.fqn, folder / Path(info.relative_path).name  # no part lies outside the folder
        with open(path, "rb") as part:
            part.seek(info.offset)
            value = load_plain(BytesIO(part.read(info.length)), path)
        size = getattr(metadata.state_dict_metadata[name], "size", None)
        if size is None:
            values[name] = value
            continue
        region = tuple(slice(start, start + length) for start, length in zip(index.offset, value.shape, strict=True))
        values.setdefault(name, torch.empty(size, dtype=value.dtype))[region] = value
        filled[name] = filled.get(name, 0) + value.numel()
    short = [name for name, count in filled.items() if count != values[name].numel()]
    if short or values.keys() != metadata.planner_data.keys():
        raise Damaged(f"{folder} lacks parts of {', '.join(short[:3]) or 'what it lists'}: use another checkpoint, or train again")
    return nested({path: values[name] for name, path in metadata.planner_data.items()})  # type: ignore[no-any-return]


def nested(flat: dict[tuple[Any, ...], Any]) -> Any:
    """Values by their path → dictionaries in dictionaries; those whose keys are numbers become lists."""
    if list(flat) == [()]:
        return flat[()]
    groups: dict[Any, dict[tuple[Any, ...], Any]] = {}
    for path, value in flat.items():
        groups.setdefault(path[0], {})[path[1:]] = value
    tree = {key: nested(group) for key, group in groups.items()}
    return [tree[i] for i in range(len(tree))] if all(isinstance(key, int) for key in tree) else tree


def by_number(optimizer: dict[str, Any]) -> dict[str, Any]:
    """The state of an optimizer by the names of its parameters → by their numbers, as torch's optimizers store it."""
    number = {name: i for i, name in enumerate(name for group in optimizer["param_groups"] for name in group["params"])}
    groups = [{**group, "params": [number[name] for name in group["params"]]} for group in optimizer["param_groups"]]
    return {"state": {number[name]: values for name, values in optimizer.get("state", {}).items()}, "param_groups": groups}
