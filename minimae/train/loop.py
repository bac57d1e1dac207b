"""One training loop, for every task and every mode."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch

from ..random import hash_bits
from .distributed import blocks_of, empty_copy, unwrapped, world, wrap_distributed
from .folder import locked
from .optim import set_lr
from .order import from_step
from .run import Callback, Run
from .schedule import lr_at, scaled_lr
from .settings import Settings
from .step import EagerStep, GraphStep, Prefetch
from .task import Result, Task, device_of  # noqa: F401  chapter 08 of version 0.6 imports device_of from here


def fit(
    task: Task, settings: Settings, out: Path | None = None, *, resume: bool = False, quiet: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Result:  # fmt: skip
    """Train ``task.model``; with ``out``, keep metrics and checkpoints there. Under torchrun every process calls it: they train one model.

    resume: continue from the newest checkpoint, on a CPU with as many threads to the same bits as if the run had never stopped.
    callbacks: each is called with the task and every logged point; numbers that it returns join the point.
    Raises MinimaeError for other images or settings than the run had, for a loss or weights that are not finite (they are never saved),
    and for a folder that another run is using; Interrupted after Ctrl-C or SIGTERM.
    """
    with locked(out):
        task.settings = settings
        window = settings.images_per_step(world().size)
        steps, epoch_steps = settings.steps(task.images, world().size), task.images / window
        peak, warmup = scaled_lr(settings.base_lr, window), settings.warmup_epochs * epoch_steps
        for block in blocks_of(task.model) if settings.compile else ():
            block.compile()
        whole = empty_copy(task.model) if settings.shard and world().size > 1 else task.model
        model = wrap_distributed(task.model, shard=settings.shard)
        optimizer = task.optimizer(peak)
        step = (GraphStep if settings.graph else EagerStep)(task, model, optimizer, settings)
        run = Run(task, step, out, steps, window, resume=resume, quiet=quiet, callbacks=callbacks)
        batches = Prefetch(task.loader(from_step(run.step, settings, task.images)), step.device)
        task.model.train()
        with closing(batches), run:
            while run.step < steps and not run.stop:
                # The cosine ends one step after the last: at its end the rate is 0, and a step at that rate changes nothing.
                lr = lr_at(run.step + 1, steps=steps + 1, warmup=warmup, peak=peak, floor=settings.floor_lr)
                set_lr(optimizer, lr)
                torch.manual_seed(step_seed(settings.seed, run.step))
                result = step(batches, stop=run.stop_requested, norm=run.logs_at(run.step + 1))
                if result is None:  # a stop was requested between two passes
                    break
                task.after_step()
                run.add(*result, batches)  # nothing here waits for the device
                if run.logs_at(run.step):
                    run.log(lr, batches)
                if run.saves():
                    run.save()
            run.end()
        task.model = unwrapped(task.model, whole)
        return Result(steps, steps * window, run.state["seconds"], run.state["history"])


def step_seed(seed: int, step: int) -> int:
    """The seed of a step's random numbers (drop path) in this process."""
    return int(hash_bits(seed, "step", step, torch.tensor([world().rank]), 1))
