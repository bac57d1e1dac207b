"""Started by torchrun from test_distributed.py: one process of a small pre-training run. Not a test by itself.

Arguments: the folder of the run, a JSON object of recipe fields, and what to do: "run", "resume", "auto" (resume when restarted), "count"
(the exchanges of gradients). The fields die, who and signal end or disturb process ``who`` in its ``die``-th step.
Rank 0 writes the weights at the end to weights.pt. A checkpoint is written in every step.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

from minimae import data
from minimae.errors import Interrupted
from minimae.tasks.pretrain import Pretrain, PretrainTask, build
from minimae.train import distributed, loop, run
from minimae.train.folder import can_resume
from minimae.train.loop import fit
from minimae.train.stopping import Agreement

SMALL = dict(size="nano", width=32, depth=2, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2, patch=7, crop=None, flip=False)


class Mortal(PretrainTask):
    """Pre-training in which process ``who`` sends itself a signal in its ``die``-th step, once in the life of the folder."""

    die, who, number, mark, steps = -1, -1, 0, Path(), 0

    def after_step(self) -> None:
        self.steps += 1
        if self.steps == self.die and distributed.world().rank == self.who and not self.mark.exists():
            self.mark.write_text("once")
            if self.number:
                os.kill(os.getpid(), self.number)
            else:  # from here on the disk is full for this process
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def counting(wrap: Any) -> Any:
    """DDP that tells at the end how often gradients were exchanged."""

    def wrap_and_count(model: nn.Module, *, shard: bool) -> nn.Module:
        wrapped, calls = wrap(model, shard=shard), []

        wrapped.register_comm_hook(None, lambda state, bucket: (calls.append(1), default_hooks.allreduce_hook(None, bucket))[1])
        atexit.register(lambda: print("exchanges", len(calls)))
        return wrapped

    return wrap_and_count


def main(folder: Path, fields: dict, how: str) -> None:
    torch.set_num_threads(1)
    distributed.join(os.environ, "cpu", timeout=200)
    die, who, number = fields.pop("die", -1), fields.pop("who", 1), fields.pop("signal", signal.SIGKILL)
    recipe = Pretrain(**{**SMALL, "warmup_epochs": 0.0, "log_every": 1, "save_every": 0.0, **fields})
    images = data.load("fashion", "train").subset(range(96))
    task = Mortal(recipe, images, build(recipe, images))
    task.die, task.who, task.number, task.mark = die, who, number, folder / "once"
    if how == "count":
        loop.wrap_distributed = counting(loop.wrap_distributed)
    run.Agreement = partial(Agreement, seconds=0.0)  # type: ignore[misc, assignment]  # they agree in every pass
    resume = how == "resume" or (how == "auto" and can_resume(folder))
    try:
        result = fit(task, recipe, folder, resume=resume, quiet=True)
    except Interrupted as stop:
        print("interrupted:", stop.args[0])
        distributed.leave()
        return
    if distributed.world().main:
        state = torch.load(folder / "checkpoint.pt", weights_only=True)
        torch.save({"model": state["model"], "losses": [p["loss"] for p in result.history]}, folder / "weights.pt")
        print("steps", result.steps, "checkpoints", sorted(path.name for path in folder.glob("checkpoint*")))
    distributed.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3])
