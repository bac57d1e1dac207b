"""What a run keeps while it trains, and how it goes on from it: one file, or one folder with a part from every process.

One process, and DDP, write ``checkpoint.pt``. FSDP2 writes ``checkpoint-STEP/`` with torch.distributed.checkpoint, which can be read by
another number of processes. Both appear only when they are whole; the one from before is removed after that, not earlier.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import MinimaeError
from .checkpoint import load_checkpoint, load_weights, save_checkpoint
from .distributed import agree, world
from .settings import Settings

CHECKPOINT, METRICS, SHARDS = "checkpoint.pt", "metrics.jsonl", "checkpoint-"
FREE = {"log_every", "save_every", "compile", "graph", "shard", "wandb", "threads"}  # may change when a run goes on


def save_run(out: Path | None, model: nn.Module, optimiser: Any, scaler: Any, state: dict[str, Any], *, shard: bool) -> None:
    """Write checkpoint and metrics; every process calls it. Raises MinimaeError in all of them when one could not write."""
    if out is None:
        return
    error: MinimaeError | None = None
    try:
        if shard:
            save_shards(out, model, optimiser, state)
        elif world().main:
            tensors = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "scaler": scaler.state_dict()}
            save_checkpoint(out / CHECKPOINT, {**state, **tensors})
        if world().main:
            write_metrics(out / METRICS, state["history"])
    except MinimaeError as failed:
        error = failed
    except (OSError, RuntimeError) as failed:  # torch's zip writer turns a full disk into a RuntimeError
        error = MinimaeError(f"could not save into {out} ({failed}); what was there before is untouched")
    if agree(error is not None, device=device_of(model))[0]:
        raise error or MinimaeError(f"another process could not save into {out}; its own message says why")


def save_shards(out: Path, model: nn.Module, optimiser: Any, state: dict[str, Any]) -> None:
    """Each process writes its part; the folder gets its name when all have."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict import get_state_dict

    folder = out / f"{SHARDS}{state['step']:08d}"
    partial = folder.with_name(folder.name + ".partial")
    made = True
    if world().main:
        shutil.rmtree(partial, ignore_errors=True)
        with contextlib.suppress(OSError):
            partial.mkdir(parents=True, exist_ok=True)
        made = partial.is_dir()
    if agree(not made, device=device_of(model))[0]:
        raise MinimaeError(f"could not make the folder {partial}; what was there before is untouched")
    weights, moments = get_state_dict(model, optimiser)
    try:
        dcp.save({"model": weights, "optimiser": moments}, checkpoint_id=str(partial))
    except CheckpointException as failed:  # all processes hear of it
        if world().main:
            shutil.rmtree(partial, ignore_errors=True)
        whose = ", ".join(f"process {rank}: {error[0]}" for rank, error in failed.failures.items())
        raise MinimaeError(f"could not save into {out} ({whose}); what was there before is untouched") from failed
    if world().main:
        torch.save(state, partial / "state.pt")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        for old in out.glob(f"{SHARDS}*"):
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)


def save_whole(out: Path, model: nn.Module, state: dict[str, Any]) -> None:
    """At the end of a sharded run: gather the weights and write them as ``checkpoint.pt``, which every command can read."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if world().main:
        save_checkpoint(out / CHECKPOINT, {**state, "model": weights, "optimiser": {}, "scaler": {}})
    agree(0.0, device=device_of(model))


def saved_steps(out: Path) -> dict[Path, int]:
    """The whole sharded checkpoints in a run's folder, with their steps."""
    return {path: int(path.name[len(SHARDS) :]) for path in out.glob(f"{SHARDS}*") if path.name[len(SHARDS) :].isdigit()}


def saved_settings(out: Path, kind: str) -> dict[str, Any]:
    """The recipe of the run in a folder, as one process would run it: with several, each step took ``accumulate`` × their number.

    Raises MinimaeError when there is no run, or one of another kind.
    """
    state = newest_state(out, kind)
    settings = dict(state["settings"])
    settings["accumulate"] *= state.get("processes", 1)
    return settings


def newest_state(out: Path, kind: str) -> dict[str, Any]:
    """What the newest checkpoint in a folder holds; of a sharded one, what is not in the shards."""
    shards = saved_steps(out)
    if not shards:
        return load_checkpoint(out / CHECKPOINT, kind)
    state = torch.load(max(shards, key=lambda path: shards[path]) / "state.pt", weights_only=True)
    if state["kind"] != kind:
        raise MinimaeError(f"{out} holds a run of {state['kind']}, not of {kind}")
    return dict(state)


def can_resume(out: Path) -> bool:
    """Whether there is something in the folder to go on from."""
    return (out / CHECKPOINT).is_file() or bool(saved_steps(out))


def restore(
    model: nn.Module, kind: str, settings: Settings, optimiser: Any, scaler: Any, out: Path | None, *, processes: int = 1
) -> dict[str, Any]:
    """Put model and optimiser back to where the checkpoint in ``out`` was; → the rest of what it holds.

    The settings must be those it was trained with, but the number of processes may be another as long as an optimiser step takes
    as many images: batch × accumulate × processes. Raises MinimaeError otherwise.
    """
    if out is None:
        raise MinimaeError("resuming wants the folder of the run")
    shards = saved_steps(out)
    newest = max(shards, key=lambda path: shards[path]) if shards else None
    state = torch.load(newest / "state.pt", weights_only=True) if newest else load_checkpoint(out / CHECKPOINT, kind)
    compare(state, settings, processes, out)
    if newest is not None:
        load_shards(newest, model, optimiser)
        return dict(state)
    load_weights(model, state.pop("model"), out / CHECKPOINT)
    moments = state.pop("optimiser")
    optimiser.load_state_dict(moments)
    if scale := state.pop("scaler"):  # empty when the run so far needed no scaler: on another device
        scaler.load_state_dict(scale)
    state.pop("format")
    return state


def load_shards(folder: Path, model: nn.Module, optimiser: Any) -> None:
    """Read a sharded checkpoint into a model that may be sharded otherwise, or not at all."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    weights, moments = get_state_dict(model, optimiser)
    found: dict[str, Any] = {"model": weights, "optimiser": moments}
    dcp.load(found, checkpoint_id=str(folder))
    set_state_dict(model, optimiser, model_state_dict=found["model"], optim_state_dict=found["optimiser"])


def compare(state: dict[str, Any], settings: Settings, processes: int, out: Path) -> None:
    """Raises MinimaeError that lists the settings which differ from those of a checkpoint."""
    given, theirs = json.loads(json.dumps(asdict(settings))), json.loads(json.dumps(state["settings"]))
    free = set(FREE)
    if window(given, processes) == window(theirs, state.get("processes", 1)):
        free |= {"batch", "accumulate"}
    differ = [f"{k}: {theirs.get(k)} → {given[k]}" for k in given if k not in free and given[k] != theirs.get(k, given[k])]
    if processes != state.get("processes", 1) and "batch" not in free:
        differ.append(f"processes: {state.get('processes', 1)} → {processes}, which makes another batch × accumulate × processes")
    if differ:
        raise MinimaeError(f"{out} was trained with other settings ({', '.join(differ)}); resume with the same, or start a new run")


def window(settings: dict[str, Any], processes: int) -> int:
    """Images of one optimiser step."""
    return int(settings["batch"] * settings["accumulate"] * processes)


def write_metrics(path: Path, history: list[dict[str, float]]) -> None:
    """One JSON object a line. Rewritten with the checkpoint, so that both always tell of the same step."""
    temporary = path.with_name(path.name + ".partial")
    try:
        temporary.write_text("".join(json.dumps(point) + "\n" for point in history), encoding="utf-8")
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters are."""
    return next(model.parameters()).device
