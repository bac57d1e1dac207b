"""What surrounds the steps of a run: its checkpoints, log and threads, the check of its losses, and when it stops."""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..devices import allow_sync, on_device
from ..errors import Interrupted, MinimaeError
from .distributed import all_reduce_mean, broadcast, world
from .folder import Checkpoints
from .log import Logs, Point, to_terminal
from .optim import layer_lrs
from .resume import compare, extended, how_to_continue
from .schedule import epochs_done
from .step import EagerStep, Prefetch
from .stopping import Agreement, stop_requests
from .task import Task
from .threads import training as threads_for_training

Callback = Callable[[Task, Point], "dict[str, float] | None"]
ADVICE = "Try a lower --base-lr, --clip 1, a longer --warmup-epochs, or --precision fp32"
PROFILED = {"skip_first": 2, "wait": 0, "warmup": 1, "active": 3, "repeat": 1}  # steps, of a run with --profile


class Run:
    """Everything about a run except its steps. Every process has one, and they act together.

    ``with run`` sets the number of threads, shows the progress bar, and turns Ctrl-C and SIGTERM into :attr:`stop`.
    state: what a checkpoint holds besides tensors.
    """

    def __init__(
        self, task: Task, step: EagerStep, out: Path | None, steps: int, window: int, *, resume: bool, quiet: bool,
        callbacks: Sequence[Callback],
    ) -> None:  # fmt: skip
        self.task, self.computes, self.out, self.steps, self.window, self.callbacks = task, step, out, steps, window, callbacks
        self.settings, self.epoch_steps, self.quiet = step.settings, task.images / window, quiet or not world().main
        self.state: dict[str, Any] = {"kind": task.kind, "settings": asdict(self.settings), **task.metadata()}
        self.state |= {"processes": world().size, "step": 0, "seconds": 0.0, "history": [], "threads": None}
        self.checkpoints = Checkpoints(out, self.settings, epoch_steps=self.epoch_steps)
        periods = [callback.every for callback in callbacks if hasattr(callback, "every")]
        self.periods: list[float] = json.loads(broadcast(json.dumps(periods)))  # only the first process may have callbacks
        if resume:
            self.restore()
        self.threads = threads_for_training(
            task.model, self.settings, stored=self.state["threads"], say=(lambda text: None) if self.quiet else None
        )
        self.state["threads"] = self.threads.count  # it affects the last digits, so a resumed run takes the same number
        self.losses: list[tuple[Tensor, Tensor]] = []  # of the steps since they were last read, with the ids of their last images
        self.loss, self.norm = math.nan, None  # type: float, Tensor | None
        self.logs = Logs(out, self.window, self.state, wandb=self.settings.wandb, expected=None if quiet else task.expected())

    def restore(self) -> None:
        """Continue from the newest checkpoint."""
        saved = self.checkpoints.restore(
            self.task.kind, self.task.model, self.computes.optimizer, self.computes.scaler,
            check=lambda saved: compare(saved, self.state, self.out),
        )  # fmt: skip
        self.state |= {name: saved[name] for name in ("step", "seconds", "history", "threads") if name in saved}
        if world().main and (news := extended(saved, self.settings, self.task.images, world().size)):
            to_terminal(news)

    @property
    def step(self) -> int:
        return int(self.state["step"])

    def __enter__(self) -> Run:
        pause = 0.5 if sys.stderr.isatty() else 30.0  # a log file needs an occasional line, not an animation
        with ExitStack() as stack:
            stack.enter_context(self.threads)
            bar: Any = tqdm(total=self.steps, initial=self.step, disable=self.quiet, unit="step", dynamic_ncols=True, mininterval=pause)
            self.bar = stack.enter_context(bar)
            stack.enter_context(self.logs)
            stack.enter_context(on_device(self.computes.device))
            self.profiler = stack.enter_context(profiler(self.out)) if self.settings.profile and world().main else None
            self.signals = stack.enter_context(stop_requests())
            self.contexts = stack.pop_all()
        mean = partial(all_reduce_mean, device=torch.device("cpu")) if world().size > 1 else None
        self.agreement = Agreement(self.signals, self.checkpoints.overdue, mean)
        self.started = self.logged = time.perf_counter()
        self.before, self.logged_step, self.waited = self.state["seconds"], self.step, 0.0
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.contexts.__exit__(kind, error, trace)

    @property
    def stop(self) -> bool:
        """Whether all processes stop now."""
        return self.agreement.stop

    def stop_requested(self) -> bool:
        """Whether to stop, after each forward pass: the processes agree on it about once a second."""
        return self.agreement.passed()

    def logs_at(self, step: int) -> bool:
        """Whether a point is logged after this many steps."""
        ends = (epochs_done(step, self.epoch_steps, every) is not None for every in self.periods)
        return step % self.settings.log_every == 0 or step == self.steps or any(ends)

    def saves(self) -> bool:
        """Whether it is time for a checkpoint."""
        self.agreement.passed()
        return self.agreement.take_save() or self.checkpoints.planned(self.step)

    def add(self, loss: Tensor, norm: Tensor | None, batches: Prefetch) -> None:
        """Count a step. Its loss stays on the device."""
        self.losses.append((loss.detach().clone(), batches.ids))  # cloned: a recorded step overwrites it
        self.norm = norm
        self.state["threads"] = self.threads.step(batches.waited)
        self.state["step"], self.state["seconds"] = self.step + 1, self.before + time.perf_counter() - self.started
        self.bar.update()
        if self.profiler is not None:
            self.profiler.step()

    def log(self, lr: float, batches: Prefetch) -> None:
        """Log a point, with what the callbacks measure. The host waits for the device."""
        loss, now = self.read_losses(), time.perf_counter()
        seconds, waited = now - self.logged, batches.waited
        point: Point = {"step": self.step, "epoch": self.step / self.epoch_steps, "loss": loss, "lr": lr}
        point["images_per_s"] = (self.step - self.logged_step) * self.window / seconds
        point["waiting"] = (waited - self.waited) / seconds  # the share of the time spent waiting for images
        point |= layer_lrs(self.computes.optimizer, lr)
        point |= self.read_norm()
        for callback in self.callbacks:
            point |= {name: float(value) for name, value in (callback(self.task, point) or {}).items()}
        self.state["history"].append(point)
        self.bar.set_postfix_str(self.logs.point(point), refresh=False)
        self.logged, self.logged_step, self.waited = time.perf_counter(), self.step, waited
        if self.callbacks:
            self.task.model.train()  # a callback may have evaluated it
            self.threads.skip()

    def read_losses(self) -> float:
        """The last loss, its mean over all processes; every process calls it, and the host waits for the device.

        Raises MinimaeError that names the first step whose loss is not finite.
        """
        with allow_sync(self.computes.device):
            means = all_reduce_mean(*(loss for loss, _ in self.losses), device=self.computes.device) if self.losses else []
            for step, (mean, (loss, ids)) in enumerate(zip(means, self.losses, strict=True), self.step - len(means)):
                if not math.isfinite(mean):
                    images = ", images " + ", ".join(str(i) for i in ids[:4].tolist()) + ", …" if not loss.isfinite() else ""
                    where = f"step {step} (epoch {step / self.epoch_steps:.2f}{images})"
                    raise MinimaeError(f"the loss became {mean} at {where}; {self.checkpoints.kept()}. {ADVICE}")
        self.loss = means[-1] if means else self.loss
        self.losses.clear()
        return self.loss

    def read_norm(self) -> dict[str, float]:
        """The gradient norm of the last step, if it was measured and is finite: an fp16 step that overflowed has none."""
        if self.norm is None:
            return {}
        with allow_sync(self.computes.device):
            whole = self.norm.full_tensor() if hasattr(self.norm, "full_tensor") else self.norm
            [norm] = all_reduce_mean(whole, device=self.computes.device)
        return {"gradient_norm": norm} if math.isfinite(norm) else {}

    def save(self) -> None:
        """Write a checkpoint, after a check that all losses and weights are finite."""
        if self.out is None:
            return
        with allow_sync(self.computes.device):
            self.read_losses()
            if not weights_are_finite(self.task.model):
                kept = self.checkpoints.kept()
                raise MinimaeError(f"weights are not finite after step {self.step}, though all losses were; {kept}. {ADVICE}")
            self.checkpoints.save(self.task.model, self.computes.optimizer, self.computes.scaler, self.state)
        self.threads.skip()

    def end(self) -> None:
        """Write the last checkpoint. Raises Interrupted if the run was stopped."""
        self.save()
        if self.stop:
            stopped = how_to_continue(self.task.kind, self.step, self.steps, self.out)
            raise Interrupted(f"stopped. {stopped}", (self.signals or [signal.SIGTERM])[0])


def weights_are_finite(model: nn.Module) -> bool:
    """Whether all weights are finite, in every process: a finite loss can have a gradient that is not."""
    values = [value for value in model.state_dict().values() if value.is_floating_point()]
    local = [value.to_local() if hasattr(value, "to_local") else value for value in values]
    spoiled = torch.stack([value.isfinite().all() for value in local]).logical_not().any()
    return not all_reduce_mean(spoiled, device=spoiled.device)[0]


def profiler(out: Path | None) -> Any:
    """torch's profiler over a few early steps; it writes ``trace.json`` into the folder. Raises MinimaeError without a folder."""
    if out is None:
        raise MinimaeError("--profile writes a trace into the folder of the run: give --out")
    schedule = torch.profiler.schedule(**PROFILED)
    return torch.profiler.profile(schedule=schedule, on_trace_ready=lambda done: done.export_chrome_trace(str(out / "trace.json")))
