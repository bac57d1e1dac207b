"""A checkpoint file: a dictionary of tensors and plain values, written whole or not at all. Loading never runs code from the file."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from ..errors import MinimaeError, reason
from .distributed import sharded_like

CHECKPOINT = "checkpoint.pt"  # the newest of a run
FORMAT = "minimae-1"
TENSORS = ("model", "optimiser")  # the large entries of a checkpoint
REQUIRED = {"settings": dict, "step": int, "history": list}  # what every run stores besides tensors


class Damaged(MinimaeError):
    """A checkpoint that cannot be read: truncated, damaged, or not plain data."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Inside, write to the temporary file; at the end it is renamed to ``path``. After an error ``path`` stays as it was."""
    temporary = path.with_name(path.name + ".partial")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` to ``path`` atomically. Raises MinimaeError for a full disk or a folder that cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, open(temporary, "wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch's zip writer turns a full disk into a RuntimeError
        before = f"the previous checkpoint is untouched: {path}" if path.exists() else "there was none before"
        raise MinimaeError(f"could not save {path} ({error}); {before}. Free some space or choose another --out") from error


def load_plain(file: Path | IO[bytes], source: Path) -> Any:
    """Tensors and plain values from a file of torch.save, on the CPU. ``source`` is named in errors.

    The tensors of a path are mapped, not read: only those that are used cost memory and time. Raises Damaged for everything else.
    """
    mapped = isinstance(file, Path) and zipfile.is_zipfile(file)
    try:
        if mapped and (part := damaged_part(file, file.stat().st_mtime_ns)):  # type: ignore[arg-type, union-attr]
            raise ValueError(f"{part} differs from its checksum")
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except PermissionError as error:
        raise MinimaeError(f"cannot read {source} ({error.strerror})") from None
    except pickle.UnpicklingError:
        raise Damaged(f"{source} is not a checkpoint of tensors and plain values; it was not loaded") from None
    except Exception as error:  # damaged bytes make torch's reader fail in many ways
        raise Damaged(f"{source} is truncated or damaged ({reason(error)}): {instead_of(source)}, or train again") from None


@cache
def damaged_part(path: Path, changed: int) -> str | None:
    """The first part of a file of torch.save that differs from its checksum, which torch does not check. changed: when it was written."""
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def instead_of(path: Path) -> str:
    """What to use when this checkpoint is damaged: the latest others in its folder."""
    others = [p for start in ("checkpoint", "epoch") for p in path.parent.glob(f"{start}-*.pt") if zipfile.is_zipfile(p)]
    others.sort(key=os.path.getmtime)
    return f"use {' or '.join(p.name for p in others[-2:])} beside it" if others else "use another checkpoint"


def load_checkpoint(path: Path, kind: str | None = None) -> dict[str, Any]:
    """Read a checkpoint, or that of a run's folder, to the CPU; ``kind`` names its task. Weights and moments are read when they are used.

    Raises MinimaeError, with the file's name, when it is missing or from another task; Damaged when it is truncated or not a checkpoint.
    """
    path = path / CHECKPOINT if path.is_dir() else path
    if not path.is_file():
        raise MinimaeError(f"there is no checkpoint at {path}")
    state = load_plain(path, path)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise Damaged(f"{path} was not written by minimae (format {FORMAT})")
    check_run(state, kind, path)
    return {name: value if name in TENSORS else copy.deepcopy(value) for name, value in state.items()}  # copies are not mapped


def check_run(state: dict[str, Any], kind: str | None, path: Path) -> None:
    """Raises MinimaeError for a run of another kind, and Damaged when a run of this kind lacks something. None skips the check."""
    if kind is None:
        return
    if state.get("kind") != kind:
        raise MinimaeError(f"{path} holds a {state.get('kind')} run, but a {kind} run was expected")
    wrong = [name for name, wanted in REQUIRED.items() if not isinstance(state.get(name), wanted)]
    if wrong:
        raise Damaged(f"{path} does not describe a run (no proper {', '.join(wrong)}): use another checkpoint, or train again")


def load_weights(model: nn.Module, weights: dict[str, torch.Tensor], source: str | Path) -> None:
    """Copy weights into a model, sharded or not, strictly.

    Raises MinimaeError that lists what is missing, unexpected or of another shape.
    """
    own = model.state_dict()
    faults = {
        "missing": sorted(own.keys() - weights.keys()),
        "unexpected": sorted(weights.keys() - own.keys()),
        "of another shape": sorted(
            f"{k} {tuple(weights[k].shape)} ≠ {tuple(own[k].shape)}"
            for k in own.keys() & weights.keys() if weights[k].shape != own[k].shape
        ),
    }  # fmt: skip
    if any(faults.values()):
        words = "; ".join(f"{what}: {', '.join(names[:4])}{' …' if len(names) > 4 else ''}" for what, names in faults.items() if names)
        raise MinimaeError(f"{source} is a checkpoint of another model ({words}); use the size and options it was trained with")
    model.load_state_dict({name: sharded_like(value, own[name]) for name, value in weights.items()})
