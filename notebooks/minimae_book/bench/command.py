"""``minimae bench``: images per second, share of the machine's peak rate, and memory, beside the same model in two libraries."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from minimae.cli import allocator
from minimae.cli.options import pick_device
from minimae.cli.report import environment
from minimae.devices import set_device
from minimae.model.patches import pair
from minimae.model.sizes import Size, size
from minimae.train import threads
from minimae.train.precision import backends, resolve
from minimae.train.settings import Precision

from .cases import Setting, TaskName
from .ceilings import Ceilings
from .results import Row, as_json, keep, kept, measure, summary, table

NOT_ON_A_GPU = "Measured on a CPU; the rows of a GPU (CUDA graphs, MFU) have not been run."


@dataclass(frozen=True, kw_only=True)
class BenchCommand:
    """Time training from pixels to update, interleaved with the same model in timm and in transformers, eager and compiled."""

    size: tuple[str, ...] = ("base",)
    """Named sizes, one after another; image, patch and channels below override parts of them."""
    image: int | None = None
    """Height and width of the images in pixels."""
    patch: int | None = None
    """Height and width of a patch in pixels."""
    channels: int | None = None
    """Channels of the images."""
    batch: int | None = None
    """Images in a step; by default 256 on a GPU, 8 or (small images) 64 on a CPU."""
    ratio: float = 0.75
    """Share of the patches that is hidden in pre-training."""
    tasks: tuple[TaskName, ...] = ("pretrain", "features", "finetune")
    """What is timed."""
    device: str = "auto"
    """cpu, cuda, cuda:1 …; auto takes the GPU if there is one."""
    precision: Precision = "auto"
    """auto is bf16 autocast on a GPU with bf16 units, float32 elsewhere."""
    steps: int | None = None
    """Steps of each model in a round; by default 20 on a GPU, 2 on a CPU."""
    rounds: int = 5
    """In every round each model has its turn; the table shows medians over the rounds."""
    compile: bool = True
    """Time compiled models too; compiling takes minutes on a CPU."""
    quick: bool = False
    """Pre-training alone, three rounds, nothing compiled as a whole: four sizes in about two minutes of a large GPU."""
    only: tuple[str, ...] = ()
    """Rows whose name contains one of these words, and ours in eager mode; by default all. Each row keeps its model in memory."""
    threads: int | None = None
    """Threads on a CPU; by default torch's own choice."""
    seed: int = 0
    """Decides the weights and the images."""
    out: Path | None = None
    """A JSON file for the results; an earlier run of the same command on this machine is replaced there, others stay."""

    def __call__(self) -> None:
        for name in ("batch", "steps", "rounds", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, not {value}")
        if self.device.startswith(("mps", "xpu")):
            raise ValueError(f"minimae bench runs on cpu and cuda, not on {self.device}: it cannot measure memory there")
        kept(self.out)
        device = torch.device(set_device(pick_device(self.device)))
        if self.threads is not None:
            threads.fix(self.threads)
        changes = {name: getattr(self, name) for name in ("image", "patch", "channels") if getattr(self, name) is not None}
        sizes = {name: size(name, **changes) for name in self.size}
        command = replace(self, tasks=("pretrain",), rounds=3) if self.quick else self
        for name, resolved in sizes.items():
            command.one(name, resolved, device)
            gc.collect()

    def one(self, name: str, resolved: Size, device: torch.device) -> None:
        """Time one size; print and save the results."""
        gpu = device.type == "cuda"
        batch = self.batch or (256 if gpu else 8 if max(pair(resolved.image)) > 64 else 64)
        setting = Setting(resolved, batch, device, resolve(self.precision, device, scaler=False), self.ratio, self.seed)
        machine = describe_machine(device)
        steps = self.steps or (20 if gpu else 2)
        print(f"{name}: {resolved}\nbatch {batch}, {setting.precision}, on {machine['device']} ({machine['processor']})", flush=True)
        rows: list[Row] = []
        tops: dict[str, Ceilings] = {}
        for task in self.tasks:
            how: dict[str, Any] = {"rounds": self.rounds, "steps": steps, "compiled": self.compile, "only": self.only, "quick": self.quick}
            with backends(device):
                found, tops[task] = measure(setting, task, **how, say=lambda text: print(text, flush=True))
            rows += found
        print(f"\n{table(rows)}\n")
        for what, top in tops.items():
            print(f"{what}: a plain matrix product reaches {top.matmul:.4g} TFLOP/s, a copy {top.copy:.4g} GB/s")
        print(*summary(rows), sep="\n")
        if not gpu:
            print(NOT_ON_A_GPU)
        if self.out is not None:
            ceilings = {task: {"matmul TFLOP/s": round(top.matmul, 4), "copy GB/s": round(top.copy, 2)} for task, top in tops.items()}
            run = {"command": self.command(name, batch, steps), "size": str(resolved), "precision": setting.precision, "machine": machine}
            keep(self.out, {**run, "ceilings": ceilings, "rows": as_json(rows), "note": "" if gpu else NOT_ON_A_GPU})
            print(f"results in {self.out}")

    def command(self, size: str, batch: int, steps: int) -> str:
        """The command that repeats the run of one size."""
        words = [f"minimae bench --size {size} --batch {batch} --steps {steps} --rounds {self.rounds}"]
        for name in ("image", "patch", "channels", "device", "precision", "ratio", "threads", "seed", "tasks", "only"):
            value = getattr(self, name)
            if value != getattr(BenchCommand, name):
                words.append(f"--{name} {' '.join(shlex.quote(v) for v in value) if isinstance(value, tuple) else value}")
        words += ["--no-compile"] * (not self.compile) + ["--quick"] * self.quick
        return " ".join(words)


def describe_machine(device: torch.device) -> dict[str, str]:
    """Processor, GPU, versions of the compared libraries, and the settings of memory allocation on a CPU."""
    machine = environment(str(device))
    for name in ("timm", "transformers"):
        try:
            machine[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            machine[name] = "not installed"
    chosen = ", ".join(f"{name}={value}" for name, value in allocator.set_by_user(os.environ).items())
    return machine | {"memory allocator": chosen or ("freed memory is kept" if allocator.kept() else "the system's defaults")}
