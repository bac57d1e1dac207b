"""Whether a run may be resumed with the given settings and images, and the messages about it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from ..errors import MinimaeError
from .identity import differences
from .schedule import lr_at, scaled_lr
from .settings import Settings

# Settings that may change on resume. Images are compared by their identity, not by the name or folder in ``data``.
FREE = {"data", "log_every", "save_every", "keep", "keep_every", "compile", "graph", "shard", "wandb", "threads"}


def compare(stored: dict[str, Any], given: dict[str, Any], out: Path | None) -> None:
    """Raises MinimaeError that lists the settings, or else the images, in which a run and its checkpoint differ.

    The number of processes may change if an optimizer step takes the same number of images: batch × accumulate × processes. Epochs may
    increase.
    """
    theirs, ours = json.loads(json.dumps(stored["settings"])), json.loads(json.dumps(given["settings"]))
    before, now = stored.get("processes", 1), given["processes"]
    free = set(FREE)
    if images_per_step(theirs, before) == images_per_step(ours, now):
        free |= {"batch", "accumulate"}
    if ours["epochs"] > theirs.get("epochs", ours["epochs"]):
        free |= {"epochs"}
    differ = [f"{k}: {theirs.get(k)} → {ours[k]}" for k in ours if k not in free and ours[k] != theirs.get(k, ours[k])]
    if now != before and "batch" not in free:
        differ.append(f"processes: {before} → {now}, which makes another batch × accumulate × processes")
    if differ:
        raise MinimaeError(f"{out} was trained with other settings ({', '.join(differ)}); resume with the same, or start a new run")
    if images := differences(stored, given):
        raise MinimaeError(
            f"{out} was trained on other images ({'; '.join(images)}): give the same --data, --limit and --labels, or start a new run "
            "with another --out"
        )


def images_per_step(settings: dict[str, Any], processes: int) -> int:
    return int(settings.get("batch", 1) * settings.get("accumulate", 1) * processes)


def extended(stored: dict[str, Any], settings: Settings, images: int, processes: int) -> str | None:
    """How more epochs than before change the schedule; None without more epochs."""
    before, step = float(stored["settings"]["epochs"]), stored["step"]
    if not settings.epochs > before:
        return None
    window = settings.batch * settings.accumulate * processes
    ends, lrs = [], []
    for epochs in (before, settings.epochs):
        steps = max(1, round(epochs * images / window))
        ends.append(steps)
        how = {"warmup": settings.warmup_epochs * images / window, "peak": scaled_lr(settings.base_lr, window), "floor": settings.floor_lr}
        lrs.append(lr_at(min(step, steps) + 1, steps=steps + 1, **how))
    return (
        f"extended from {before:g} to {settings.epochs:g} epochs: the cosine now ends at step {ends[1]:,} instead of {ends[0]:,}, "
        f"so at step {step:,} the learning rate goes from {lrs[0]:.3g} to {lrs[1]:.3g}; the warm-up stays as it was"
    )


def how_to_continue(kind: str, step: int, steps: int, out: Path | None) -> str:
    """Where a stopped run is, and the command that continues it."""
    if out is None:
        return "Nothing was saved (no --out)"
    folder = shlex.quote(str(out))
    how = f"minimae pretrain --resume {folder}" if kind == "pretrain" else f"minimae {kind} --out {folder} --resume"
    return f"Saved at step {step} of {steps}; continue with: {how}"
