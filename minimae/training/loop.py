"""The training loop. One, for every task: it reads like the page of the book that explains it."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..data.source import Batch
from ..devices import current, waiting
from ..errors import Interrupted, MinimaeError
from ..noise import hashed, permutation
from ..threads import training as threads_for_training
from . import distributed
from .bands import Expectation
from .graphs import Captured, capturable, capture
from .logs import Logs
from .optimisers import set_lr
from .precision import autocast, backends, inputs, mixed
from .schedule import lr_at, scaled_lr
from .settings import Settings
from .state import CHECKPOINT, METRICS, device_of, restore, save_run, save_whole

__all__ = ["CHECKPOINT", "METRICS", "Plan", "Result", "Task", "autocast", "batch_at", "device_of", "fit", "plan"]

Plan = Iterator[tuple[Tensor, Tensor]]  # images of one forward pass after another: places int64 b, and the epoch of each int64 b


class Task(Protocol):
    """What the loop asks of a task: a model, its parameter groups, a number of images, and the loss of some of them.

    ``run`` is what the task calls for a forward pass: the model, or what stands for it when several processes train it.
    """

    kind: str
    images: int
    run: nn.Module

    @property
    def model(self) -> nn.Module: ...

    def optimiser(self, lr: float) -> torch.optim.Optimizer: ...

    def about(self) -> dict[str, Any]:
        """What a checkpoint needs besides the weights, so that the model can be used without its data."""
        ...

    def feed(self, plan: Plan) -> Iterator[Batch]:
        """The images of each part of the plan, on the device: taken from memory, or read ahead by workers."""
        ...

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """A batch as the model will see it: changed, normalised, masked; tensors whose shapes never change."""
        ...

    def score(self, *prepared: Tensor) -> Tensor:
        """The mean loss of what was prepared."""
        ...

    def loss(self, batch: Batch) -> Tensor:
        """The mean loss of these images: the score of their :func:`inputs`."""
        ...

    def expected(self) -> Expectation | None:
        """Where the loss should be, if that is known."""
        ...

    def after_step(self) -> None:
        """Called after each step of the optimiser: where a moving average of the weights is kept."""
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


def plan(first: int, settings: Settings, images: int, here: distributed.World) -> Plan:
    """The parts that this process takes of every optimiser step, from step ``first`` on, without end.

    A part is what is read for one forward pass: ``batch`` images, or fewer when each is seen in several views.
    """
    part = settings.batch // settings.repeats
    for number in count(first * settings.accumulate):
        yield batch_at((number * here.size + here.rank) * part, part, images, settings.seed)


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
    """Train ``task.model``; with ``out``, keep metrics and an atomic checkpoint there.

    The model is trained in place. With FSDP2 it is replaced at the end by an ordinary one, whole on every process: use ``task.model``.

    Under torchrun every process calls it, and they train one model. ``resume`` continues a run from its checkpoint: on a CPU to the
    same bits as if it had never stopped. Raises MinimaeError for a loss that is not finite (the last good state is kept) and
    Interrupted after a stop request.
    """
    model, device, here = task.model, device_of(task.model), distributed.world()
    window = settings.batch * settings.accumulate * here.size
    steps = settings.steps(task.images, here.size)
    epoch_steps = task.images / window
    peak, warmup = scaled_lr(settings.base_lr, window), settings.warmup_epochs * epoch_steps
    if settings.compile:
        for block in (block for blocks in distributed.block_lists(model) for block in blocks):
            block.compile()
    shard = settings.shard and here.size > 1
    empty = distributed.without_weights(model) if shard else model
    task.run = distributed.spread(model, shard=shard)
    optimiser = task.optimiser(peak)
    precision, scaler = mixed(settings, device)
    state: dict[str, Any] = {"kind": task.kind, "settings": asdict(settings), **task.about(), "processes": here.size}
    state |= {"step": 0, "seconds": 0.0, "history": [], "threads": None}
    if resume:
        kept = restore(model, task.kind, settings, optimiser, scaler, out, processes=here.size)
        state |= {name: kept[name] for name in ("step", "seconds", "history")} | {"threads": kept.get("threads")}
    silent = (lambda text: None) if quiet or not here.main else None
    threads = threads_for_training(model, settings, stored=state["threads"], say=silent)
    state["threads"] = threads.count  # it decides the last digits, so a run goes on with as many
    if settings.graph:
        capturable(optimiser)

    def save() -> None:
        with waiting(device):
            save_run(out, model, optimiser, scaler, state, shard=shard)

    model.train()
    started = saved = logged = time.perf_counter()
    before, last, waited = state["seconds"], state["step"], 0.0
    replay: Captured | None = None
    pause = 0.5 if sys.stderr.isatty() else 30.0  # a log file wants a line now and then, not an animation
    bar = tqdm(total=steps, initial=last, disable=quiet or not here.main, unit="step", dynamic_ncols=True, mininterval=pause)
    told: dict[str, Any] = {"history": state["history"], "main": here.main, "wandb": settings.wandb, "config": asdict(settings)}
    logs = Logs(out, steps, window, step=last, **told, expected=None if quiet else task.expected())
    feed = task.feed(plan(last, settings, task.images, here))
    with threads, bar, logs, closing(feed), current(device), stop_requests() as asked:  # type: ignore[type-var]
        while state["step"] < steps:
            step = state["step"]
            lr = lr_at(step + 1, steps=steps, warmup=warmup, peak=peak, floor=settings.floor_lr)
            set_lr(optimiser, lr)
            torch.manual_seed(int(hashed(settings.seed, "step", step, torch.tensor([here.rank]), 1)))  # for drop path
            total = torch.zeros((), device=device)
            for micro in range(0 if settings.graph else settings.accumulate):
                batch = next(feed)
                with distributed.talking(task.run, last=micro + 1 == settings.accumulate), backends(device):
                    with autocast(device, precision):
                        loss = task.loss(batch) / settings.accumulate
                    scaler.scale(loss).backward()
                total += loss.detach()
            if settings.graph:
                batch = next(feed)
                prepared = inputs(task, batch)
                replay = replay or record(task, settings, optimiser, prepared)
                total = replay(*prepared)  # forward, backward, and the optimiser's step
            # On a GPU the loss is read every log_every steps only: reading it makes the host wait.
            logging = (step + 1) % settings.log_every == 0 or step + 1 == steps
            if logging or device.type == "cpu":
                [mean] = distributed.agree(total, device=device)
                if not math.isfinite(mean):
                    if device.type == "cpu":  # read before the update, so the weights are still good; a GPU keeps its last checkpoint
                        save()
                    raise MinimaeError(not_finite(mean, step, step / epoch_steps, batch, out))
            if not settings.graph:
                update(model, optimiser, scaler, settings)
            task.after_step()

            state["threads"] = threads.step(getattr(feed, "waited", 0.0))
            now = time.perf_counter()
            state["step"], state["seconds"] = step + 1, before + now - started
            bar.update()
            if logging:
                speed, waits = (step + 1 - last) * window / (now - logged), getattr(feed, "waited", 0.0)
                point = {"step": step + 1, "epoch": (step + 1) / epoch_steps, "loss": mean, "lr": lr, "images_per_s": speed}
                point["waiting"] = (waits - waited) / (now - logged)  # the share of the time in which no images were there
                state["history"].append(point)
                bar.set_postfix_str(logs.point(point), refresh=False)
                logged, last, waited = now, step + 1, waits
            overdue = here.main and now - saved > settings.save_every
            stop, late = distributed.agree(bool(asked), overdue, device=torch.device("cpu"))
            if stop or late:
                save()
                saved = now
                threads.skip()
            if stop:
                raise Interrupted(f"stopped. {how_to_continue(task.kind, step + 1, steps, out)}", (asked or [signal.SIGTERM])[0])
        save()
        if shard and out is not None:
            save_whole(out, model, state)
    task.model = task.run = distributed.ordinary(model, empty)  # type: ignore[misc]
    return Result(steps, steps * window, state["seconds"], state["history"])


def update(model: nn.Module, optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler, settings: Settings) -> None:
    """The optimiser's step with the gradients that are there, and none afterwards."""
    if settings.clip is not None:
        scaler.unscale_(optimiser)
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
    scaler.step(optimiser)
    scaler.update()
    optimiser.zero_grad(set_to_none=True)


def record(task: Task, settings: Settings, optimiser: torch.optim.Optimizer, prepared: tuple[Tensor, ...]) -> Captured:
    """The step of this task as a CUDA graph. Raises MinimaeError without a GPU, or with several processes."""
    if distributed.world().size > 1:
        raise MinimaeError("--graph is for one process: leave it out, or start without torchrun")
    model, device, (precision, idle) = task.model, device_of(task.model), mixed(settings, device_of(task.model))

    def step(*tensors: Tensor) -> Tensor:
        with backends(device):
            with autocast(device, precision):
                loss = task.score(*tensors)
            loss.backward()
        update(model, optimiser, idle, settings)
        return loss.detach()

    return capture(step, *prepared, model=model, optimiser=optimiser)


def how_to_continue(kind: str, step: int, steps: int, out: Path | None) -> str:
    """Where a stopped run is, and the command that continues it."""
    if out is None:
        return "Nothing was saved (no --out)"
    how = f"minimae pretrain --resume {out}" if kind == "pretrain" else f"the same command and --resume (--out {out})"
    return f"Saved at step {step} of {steps}; continue with: {how}"


def not_finite(loss: float, step: int, epoch: float, batch: Batch, out: Path | None) -> str:
    """What happened, where, and what to try."""
    kept = f"the last good state is kept in {out / CHECKPOINT}" if out else "nothing was saved (no --out)"
    named = ", ".join(str(int(i)) for i in batch.ids[:4])
    return (
        f"the loss became {loss} at step {step} (epoch {epoch:.2f}, images {named}, …); {kept}. "
        "Try a lower --base-lr, --clip 1, a longer --warmup-epochs, or --precision fp32"
    )
