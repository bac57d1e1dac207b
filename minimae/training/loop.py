"""The training loop. One, for every task: it reads like the page of the book that explains it."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..errors import Interrupted, MinimaeError
from ..noise import hashed, permutation
from .checkpoint import load_checkpoint, load_weights, save_checkpoint
from .optimisers import set_lr
from .schedule import lr_at, scaled_lr
from .settings import Settings

CHECKPOINT, METRICS = "checkpoint.pt", "metrics.jsonl"


class Task(Protocol):
    """What the loop asks of a task: a model, its parameter groups, a number of images, and the loss of some of them."""

    kind: str
    images: int

    @property
    def model(self) -> nn.Module: ...

    def groups(self) -> list[dict[str, Any]]: ...

    def about(self) -> dict[str, Any]:
        """What a checkpoint needs besides the weights, so that the model can be used without its data."""
        ...

    def loss(self, places: Tensor, epochs: Tensor) -> Tensor:
        """The mean loss of the images at these places ``b``, each in its own epoch ``b``."""
        ...


@dataclass(frozen=True)
class Result:
    """How a run ended: optimiser steps, images seen, seconds in the loop, and the logged points (step, loss, lr, images/s)."""

    steps: int
    seen: int
    seconds: float
    history: list[dict[str, float]]

    @property
    def loss(self) -> float:
        """Mean loss of the last twentieth of the logged points: one batch alone is noisy."""
        last = self.history[-max(1, len(self.history) // 20) :]
        return sum(point["loss"] for point in last) / len(last)


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, images: int) -> Tensor:
    """The shuffled order of one epoch; remembered, because every step of the epoch asks for it."""
    return permutation(seed, "order", epoch, images)


def batch_at(position: int, count: int, images: int, seed: int) -> tuple[Tensor, Tensor]:
    """The images at positions [position, position + count) of an endless row of shuffled epochs: places ``b``, epochs ``b``.

    A batch may reach over the end of an epoch, so every batch is full and no image is dropped.
    """
    places, epochs = [], []
    while count:
        epoch, offset = divmod(position, images)
        part = epoch_order(seed, epoch, images)[offset : offset + count]
        places.append(part)
        epochs.append(torch.full_like(part, epoch))
        position, count = position + len(part), count - len(part)
    return torch.cat(places), torch.cat(epochs)


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters are."""
    return next(model.parameters()).device


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """bf16 where the device has it (or what was asked for), float32 elsewhere."""
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    name = ("bf16" if bf16 else "fp32") if precision == "auto" else precision
    if name == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype={"bf16": torch.bfloat16, "fp16": torch.float16}[name])


@contextlib.contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM ask the loop to stop after the step it is in; a second Ctrl-C stops at once."""
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    try:
        before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: nobody can ask
        before = {}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def fit(task: Task, settings: Settings, out: Path | None = None, *, resume: bool = False, quiet: bool = False) -> Result:
    """Train ``task.model`` in place; with ``out``, keep metrics and an atomic checkpoint there.

    ``resume`` continues a run from its checkpoint: on a CPU to the same bits as if it had never stopped.
    Raises MinimaeError for a loss that is not finite (the last good state is kept) and Interrupted after a stop request.
    """
    model, device = task.model, device_of(task.model)
    window = settings.batch * settings.accumulate
    steps = settings.steps(task.images)
    epoch_steps = task.images / window
    peak, warmup = scaled_lr(settings.base_lr, window), settings.warmup_epochs * epoch_steps
    optimiser = torch.optim.AdamW(task.groups(), lr=peak, betas=settings.betas, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
    state: dict[str, Any] = {"kind": task.kind, "settings": asdict(settings), **task.about(), "step": 0, "seconds": 0.0, "history": []}
    if resume:
        state = restore(task, settings, optimiser, scaler, out)
    if settings.compile:
        for part in model.modules():
            if isinstance(part, nn.ModuleList):
                for block in part:
                    block.compile()

    def save() -> None:
        if out is not None:
            tensors = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "scaler": scaler.state_dict()}
            save_checkpoint(out / CHECKPOINT, {**state, **tensors})
            write_metrics(out / METRICS, state["history"])

    model.train()
    started = saved = logged = time.perf_counter()
    before, last = state["seconds"], state["step"]
    pause = 0.5 if sys.stderr.isatty() else 30.0  # a log file wants a line now and then, not an animation
    bar = tqdm(total=steps, initial=state["step"], disable=quiet, unit="step", dynamic_ncols=True, mininterval=pause)
    with bar, stop_requests() as asked:
        while state["step"] < steps:
            step = state["step"]
            lr = lr_at(step + 1, steps=steps, warmup=warmup, peak=peak, floor=settings.floor_lr)
            set_lr(optimiser, lr)
            torch.manual_seed(int(hashed(settings.seed, "step", step, torch.zeros(1), 1)))  # for drop path and mixing
            total = torch.zeros((), device=device)
            for micro in range(settings.accumulate):
                position = step * window + micro * settings.batch
                places, epochs = batch_at(position, settings.batch, task.images, settings.seed)
                with autocast(device, settings.precision):
                    loss = task.loss(places, epochs) / settings.accumulate
                scaler.scale(loss).backward()
                total += loss.detach()
            # On a GPU the loss is read every log_every steps only: reading it makes the host wait.
            reading = device.type == "cpu" or (step + 1) % settings.log_every == 0 or step + 1 == steps
            if reading and not math.isfinite(float(total)):
                if device.type == "cpu":  # read before the update, so the weights are still good; a GPU keeps its last checkpoint
                    save()
                raise MinimaeError(not_finite(float(total), step, step / epoch_steps, places, out))
            if settings.clip is not None:
                scaler.unscale_(optimiser)
                nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            scaler.step(optimiser)
            scaler.update()
            optimiser.zero_grad(set_to_none=True)

            now = time.perf_counter()
            state["step"], state["seconds"] = step + 1, before + now - started
            bar.update()
            if (step + 1) % settings.log_every == 0 or step + 1 == steps:
                speed = (step + 1 - last) * window / (now - logged)
                point = {"step": step + 1, "epoch": (step + 1) / epoch_steps, "loss": float(total), "lr": lr, "images_per_s": speed}
                state["history"].append(point)
                bar.set_postfix_str(f"loss {point['loss']:.4f}, lr {lr:.2e}, {speed:,.0f} images/s", refresh=False)
                logged, last = now, step + 1
            if asked:
                save()
                how = f"minimae pretrain --resume {out}" if task.kind == "pretrain" else f"the same command and --resume (--out {out})"
                where = f"Saved at step {step + 1} of {steps}; continue with: {how}" if out else "Nothing was saved (no --out)"
                raise Interrupted(f"stopped. {where}", asked[0])
            if now - saved > settings.save_every and reading:
                save()
                saved = now
        save()
    model.eval()
    return Result(steps, steps * window, state["seconds"], state["history"])


def restore(task: Task, settings: Settings, optimiser: Any, scaler: Any, out: Path | None) -> dict[str, Any]:
    """Put model and optimiser back to where the checkpoint in ``out`` was. The settings must be those it was trained with."""
    if out is None:
        raise MinimaeError("resuming wants the folder of the run")
    state = load_checkpoint(out / CHECKPOINT, task.kind)
    given = json.loads(json.dumps(asdict(settings)))
    theirs = json.loads(json.dumps(state["settings"]))
    free = {"log_every", "save_every", "compile"}
    differ = [f"{k}: {theirs.get(k)} → {given[k]}" for k in given if k not in free and given[k] != theirs.get(k)]
    if differ:
        raise MinimaeError(f"{out} was trained with other settings ({', '.join(differ)}); resume with the same, or start a new run")
    load_weights(task.model, state.pop("model"), out / CHECKPOINT)
    optimiser.load_state_dict(state.pop("optimiser"))
    scaler.load_state_dict(state.pop("scaler"))
    state.pop("format")
    return state


def write_metrics(path: Path, history: list[dict[str, float]]) -> None:
    """One JSON object a line. Rewritten with the checkpoint, so that both always tell of the same step."""
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text("".join(json.dumps(point) + "\n" for point in history))
    temporary.replace(path)


def not_finite(loss: float, step: int, epoch: float, places: Tensor, out: Path | None) -> str:
    """What happened, where, and what to try."""
    kept = f"the last good state is kept in {out / CHECKPOINT}" if out else "nothing was saved (no --out)"
    images = ", ".join(str(int(i)) for i in places[:4])
    return (
        f"the loss became {loss} at step {step} (epoch {epoch:.2f}, images {images}, …); {kept}. "
        "Try a lower --base-lr, --clip 1, a longer --warmup-epochs, or --precision fp32"
    )
