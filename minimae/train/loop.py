"""The training loop. One, for every task: it reads like the page of the book that explains it."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..data.types import Batch
from ..devices import allow_sync, device_of, on_device
from ..errors import Interrupted, MinimaeError
from ..random import hash_bits
from . import distributed
from .cuda_graph import Captured, capturable, capture
from .folder import Checkpoints, locked
from .log import Logs, to_terminal
from .losses import Losses, check_weights
from .optim import set_lr
from .order import from_step
from .precision import autocast, backends, mixed
from .resume import compare, extended, how_to_continue
from .schedule import lr_at, scaled_lr
from .settings import Settings
from .stopping import Agreement, stop_requests
from .task import Result, Task, exact_inputs
from .threads import training as threads_for_training


def fit(
    task: Task, settings: Settings, out: Path | None = None, *, resume: bool = False, quiet: bool = False, callbacks: Any = ()
) -> Result:
    """Train ``task.model``; with ``out``, keep metrics and checkpoints there.

    The model is trained in place. With FSDP2 it is replaced at the end by an ordinary one, whole on every process: use ``task.model``.

    Under torchrun every process calls it, and they train one model. ``resume`` continues a run from its newest checkpoint: on a CPU to
    the same bits as if it had never stopped, on as many threads. Raises MinimaeError for other images or settings than the run had, for
    a loss or weights that are not finite (they are never saved), and for a folder that another run is using; Interrupted after a stop
    request. callbacks: each is called with the task and every logged point; the numbers that it returns join the point.
    """
    with locked(out):
        return train(task, settings, out, resume=resume, quiet=quiet, callbacks=callbacks)


def train(task: Task, settings: Settings, out: Path | None, *, resume: bool, quiet: bool, callbacks: Any = ()) -> Result:
    """The body of :func:`fit`, with the folder locked."""
    task.settings = settings
    model, device, here = task.model, device_of(task.model), distributed.world()
    window = settings.batch * settings.accumulate * here.size
    steps = settings.steps(task.images, here.size)
    epoch_steps = task.images / window
    peak, warmup = scaled_lr(settings.base_lr, window), settings.warmup_epochs * epoch_steps
    if settings.compile:
        for block in distributed.blocks_of(model):
            block.compile()
    shard = settings.shard and here.size > 1
    empty = distributed.empty_copy(model) if shard else model
    wrapped = distributed.wrap_distributed(model, shard=shard)
    optimizer = task.optimizer(peak)
    precision, scaler = mixed(settings, device)
    checkpoints = Checkpoints(out, settings, epoch_steps=epoch_steps)
    state: dict[str, Any] = {"kind": task.kind, "settings": asdict(settings), **task.metadata(), "processes": here.size}
    state |= {"step": 0, "seconds": 0.0, "history": [], "threads": None}
    if resume:
        kept = checkpoints.restore(task.kind, model, optimizer, scaler, check=lambda kept: compare(kept, state, out))
        state |= {name: kept.get(name, state[name]) for name in ("step", "seconds", "history", "threads")}
        if here.main and (news := extended(kept, settings, task.images, here.size)):
            to_terminal(news)
    silent = (lambda text: None) if quiet or not here.main else None
    threads = threads_for_training(model, settings, stored=state["threads"], say=silent)
    state["threads"] = threads.count  # it affects the last digits, so a resumed run takes the same number
    if settings.graph:
        capturable(optimizer)

    model.train()
    losses = Losses(state["step"], device)

    def save() -> None:
        if out is None:
            return
        with allow_sync(device):
            losses.read(epoch_steps, checkpoints.kept())  # what is not finite is never saved
            check_weights(model, state["step"], checkpoints.kept())
            checkpoints.save(model, optimizer, scaler, state)

    started = logged = time.perf_counter()
    before, last, waited = state["seconds"], state["step"], 0.0
    replay: Captured | None = None
    pause = 0.5 if sys.stderr.isatty() else 30.0  # a log file wants a line now and then, not an animation
    told: dict[str, Any] = {"history": state["history"], "main": here.main, "wandb": settings.wandb, "config": asdict(settings)}
    logs = Logs(out, steps, window, step=last, **told, expected=None if quiet else task.expected())
    feed = task.loader(from_step(last, settings, task.images))
    # Last: an error above is printed on a line of its own, and not behind the bar.
    bar = tqdm(total=steps, initial=last, disable=quiet or not here.main, unit="step", dynamic_ncols=True, mininterval=pause)
    with threads, bar, logs, closing(feed), on_device(device), stop_requests() as asked:  # type: ignore[type-var]
        agreement = partial(distributed.all_reduce_mean, device=torch.device("cpu")) if here.size > 1 else None
        together = Agreement(asked, checkpoints.overdue, agreement)
        while state["step"] < steps and not together.stop:
            step = state["step"]
            # The cosine ends one step after the last: at its end the rate is 0, and a step at that rate changes nothing.
            lr = lr_at(step + 1, steps=steps + 1, warmup=warmup, peak=peak, floor=settings.floor_lr)
            set_lr(optimizer, lr)
            torch.manual_seed(int(hash_bits(settings.seed, "step", step, torch.tensor([here.rank]), 1)))  # for drop path
            if settings.graph:
                batch = next(feed)
                prepared = exact_inputs(task, batch)
                replay = replay or record(task, settings, optimizer, prepared)
                loss, ids = replay(*prepared), batch.ids  # forward, backward, and the optimizer's step
            else:
                made = gradients(task, wrapped, feed, settings, precision, scaler, together)
                if made is None:
                    break
                loss, ids = made
                update(model, optimizer, scaler, settings)
            task.after_step()
            losses.add(loss, ids)

            state["threads"] = threads.step(getattr(feed, "waited", 0.0))
            now = time.perf_counter()
            state["step"], state["seconds"] = step + 1, before + now - started
            bar.update()
            if (step + 1) % settings.log_every == 0 or step + 1 == steps:
                mean = losses.read(epoch_steps, checkpoints.kept())  # on a GPU the host waits here
                speed, waits = (step + 1 - last) * window / (now - logged), getattr(feed, "waited", 0.0)
                point = {"step": step + 1, "epoch": (step + 1) / epoch_steps, "loss": mean, "lr": lr, "images_per_s": speed}
                point["waiting"] = (waits - waited) / (now - logged)  # the share of the time in which no images were there
                for callback in callbacks:
                    point |= callback(task, point) or {}
                state["history"].append(point)
                bar.set_postfix_str(logs.point(point), refresh=False)
                logged, last, waited = now, step + 1, waits
            together.passed()
            if together.take_save() or checkpoints.planned(step + 1):
                save()
                threads.skip()
        save()
        if together.stop:
            stopped = how_to_continue(task.kind, state["step"], steps, out)
            raise Interrupted(f"stopped. {stopped}", (asked or [signal.SIGTERM])[0])
    task.model = distributed.unwrapped(model, empty)  # type: ignore[misc]
    return Result(steps, steps * window, state["seconds"], state["history"])


def gradients(
    task: Task, model: nn.Module, feed: Iterator[Batch], settings: Settings, precision: str, scaler: Any, together: Agreement
) -> tuple[Tensor, Tensor] | None:
    """The forward and backward passes of one optimizer step → its mean loss, on the device, and the ids of the last images.

    None when the run is to stop between two passes: a step can take longer than the time that is left. The resumed run repeats it.
    """
    total = torch.zeros((), device=device_of(task.model))
    for micro in range(settings.accumulate):
        if micro and together.passed():
            return None
        batch = next(feed)
        with distributed.sync_gradients(model, last=micro + 1 == settings.accumulate), backends(total.device):
            inputs = exact_inputs(task, batch)
            with autocast(total.device, precision):
                loss = task.loss(model, *inputs) / settings.accumulate
            scaler.scale(loss).backward()
        total += loss.detach()
    return total, batch.ids


def update(model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, settings: Settings) -> None:
    """The optimizer's step with the gradients that are there, and none afterwards."""
    if settings.clip is not None:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)


def record(task: Task, settings: Settings, optimizer: torch.optim.Optimizer, prepared: tuple[Tensor, ...]) -> Captured:
    """The step of this task as a CUDA graph. Raises MinimaeError without a GPU, or with several processes."""
    if distributed.world().size > 1:
        raise MinimaeError("--graph is for one process: leave it out, or start without torchrun")
    model, device, (precision, idle) = task.model, device_of(task.model), mixed(settings, device_of(task.model))

    def step(*tensors: Tensor) -> Tensor:
        with backends(device):
            with autocast(device, precision):
                loss = task.loss(model, *tensors)
            loss.backward()
        update(model, optimizer, idle, settings)
        return loss.detach()

    return capture(step, *prepared, model=model, optimizer=optimizer)
