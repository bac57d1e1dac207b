"""Whether a run may be resumed with the given settings and images, and the messages about it."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.types import ImageDataset
from ..errors import MinimaeError
from .schedule import lr_at, scaled_lr
from .settings import Settings

# Settings that may change on resume. Images are compared by their identity, not by the name or folder in ``data``.
FREE = {"data", "log_every", "save_every", "keep", "keep_every", "compile", "graph", "shard", "wandb", "threads", "profile"}
LOOKED_AT = 16  # images whose contents are compared
CLOSE = 0.5  # of 255: tolerance of an image's mean, because decoders round differently


def compare(stored: dict[str, Any], given: dict[str, Any], out: Path | None) -> None:
    """Raises MinimaeError that lists the settings, or else the images, in which a run and its checkpoint differ.

    The number of processes may change if an optimizer step takes the same number of images: batch × accumulate × processes. Epochs may
    increase.
    """
    old, new = json.loads(json.dumps(stored["settings"])), json.loads(json.dumps(given["settings"]))
    before, now = stored.get("processes", 1), given["processes"]
    free = set(FREE)
    if old.get("batch", 1) * old.get("accumulate", 1) * before == new["batch"] * new["accumulate"] * now:
        free |= {"batch", "accumulate"}
    if new["epochs"] > old.get("epochs", new["epochs"]):
        free |= {"epochs"}
    differ = [f"{k}: {old.get(k)} → {new[k]}" for k in new if k not in free and new[k] != old.get(k, new[k])]
    if now != before and "batch" not in free:
        differ.append(f"processes: {before} → {now}, which changes batch × accumulate × processes")
    if differ:
        raise MinimaeError(f"{out} was trained with other settings ({', '.join(differ)}); resume with the same, or start a new run")
    if images := differences(stored, given):
        raise MinimaeError(
            f"{out} was trained on other images ({'; '.join(images)}): give the same images, --limit and --labels, or start a new run "
            "with another --out"
        )


def extended(stored: dict[str, Any], settings: Settings, images: int, processes: int) -> str | None:
    """How additional epochs change the schedule; None if there are none."""
    before, step = float(stored["settings"]["epochs"]), stored["step"]
    if not settings.epochs > before:
        return None
    window = settings.images_per_step(processes)
    warmup, peak = settings.warmup_epochs * images / window, scaled_lr(settings.base_lr, window)
    ends = [max(1, round(epochs * images / window)) for epochs in (before, settings.epochs)]
    lrs = [lr_at(min(step, end) + 1, steps=end + 1, warmup=warmup, peak=peak, floor=settings.floor_lr) for end in ends]
    return (
        f"extended from {before:g} to {settings.epochs:g} epochs: the cosine now ends at step {ends[1]:,} instead of {ends[0]:,}, "
        f"so at step {step:,} the learning rate goes from {lrs[0]:.3g} to {lrs[1]:.3g}; the warm-up stays as it was"
    )


def how_to_continue(kind: str, step: int, steps: int, out: Path | None) -> str:
    """Where a stopped run is, and how to continue it."""
    if out is None:
        return "Nothing was saved (no --out)"
    folder = shlex.quote(out.as_posix())
    others = ("finetune", "probe", "segment", "detect", "prompt")
    commands = {"pretrain": f"pretrain --resume {folder}"} | {n: f"{n} --out {folder} --resume" for n in others}
    how = f"minimae {commands[kind]}" if kind in commands else "fit(…, resume=True)"
    return f"Saved at step {step} of {steps}; continue with: {how}"


def identity(dataset: ImageDataset) -> dict[str, Any]:
    """Enough to recognise these images under any path, and to refuse others: counts, digests of ids and labels, some contents.

    A dataset that was moved counts as the same, in files or in memory. Contents are height, width and mean value of ``LOOKED_AT`` images
    spread over the set.
    """
    last = len(dataset) - 1
    return {
        "images": len(dataset),
        "classes": len(dataset.classes),
        "ids": digest(dataset.ids),
        "labels": None if dataset.labels is None else digest(dataset.labels),
        "contents": [list(dataset.summary_of(i)) for i in sorted({round(i * last / (LOOKED_AT - 1)) for i in range(LOOKED_AT)})],
    }


def digest(values: Tensor) -> str:
    """16 hexadecimal digits for some integers."""
    return hashlib.sha256(values.cpu().to(torch.int64).numpy().tobytes()).hexdigest()[:16]


def differences(stored: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """How the images of a checkpoint and those given now differ, in words. Older checkpoints have only their statistics and classes."""
    old, new = stored.get("images"), given.get("images")
    words = []
    if isinstance(old, dict) and isinstance(new, dict):
        words += [f"{name}: {old.get(name)} → {new[name]}" for name in ("images", "classes") if old.get(name) != new[name]]
        if not words:  # where these differ, so does all the rest
            words += [f"other {name}" for name in ("ids", "labels") if old.get(name) != new[name]]
            words += [] if alike(old.get("contents"), new["contents"], close=CLOSE) else ["other contents"]
    for name, wanted in (("classes", given.get("classes")), ("statistics", given.get("statistics"))):
        if name in stored and wanted is not None and not alike(stored[name], wanted):
            words.append(f"{name}: {shown(stored[name])} → {shown(wanted)}")
    return words


def alike(old: Any, new: Any, *, close: float = 1e-4) -> bool:
    """Whether two nested sequences are equal, floats up to a tolerance."""
    if isinstance(old, Tensor) or isinstance(new, Tensor):
        old, new = (x.tolist() if isinstance(x, Tensor) else x for x in (old, new))
    if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        return len(old) == len(new) and all(alike(a, b, close=close) for a, b in zip(old, new, strict=True))
    if isinstance(old, float) and isinstance(new, float):
        return math.isclose(old, new, rel_tol=1e-4, abs_tol=close)
    return bool(old == new)


def shown(values: Any) -> str:
    """The first six of these values, as short text."""
    flat = [x for part in values for x in (part.tolist() if isinstance(part, Tensor) else [part])]
    words = [f"{x:.4g}" if isinstance(x, float) else str(x) for x in flat[:6]]
    return ", ".join(words) + (" …" if len(flat) > 6 else "")
