"""Checks of chapter 07: pre-training."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minimae.model.mae import MAE
from minimae.model.sizes import size
from minimae.train.schedule import lr_at

from ..verdict import Verdict, failed, passed
from .comparing import close, named_mistake, one_number, random


def ch07_peak_lr(f: Callable[..., Any]) -> Verdict:
    """base lr × all images of a step / 256."""
    base, batch, accumulate, processes = 1.5e-4, 32, 16, 4
    right, got = base * batch * accumulate * processes / 256, one_number(f(base, batch, accumulate, processes))
    mistakes = {
        base * batch / 256: "accumulated passes and the other GPUs take part in the step too: count all its images",
        base * batch * accumulate / 256: "every process brings its own images: multiply by processes",
        base * batch * processes / 256: "accumulated passes count too: they end in the same step",
        base * batch * accumulate * processes: "the base rate is for 256 images: divide by 256",
        base: "that is the base rate, for 256 images; scale it by the images of a step",
    }
    if abs(got - right) < 1e-8:
        return passed("2,048 images a step, so eight times the base rate: 1.2e-3")
    named_mistake(got, mistakes.items(), same=partial(close, tolerance=1e-8))
    return failed(f"32 images, 16 passes, 4 processes, base {base:g}: the peak is {right:g}, and you say {got:g}")


def ch07_exempt_names(f: Callable[..., Any]) -> Verdict:
    """Names of the parameters that weight decay leaves alone."""
    model = MAE(size("nano", width=16, depth=1, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2, image=8))
    model.encoder.project.bias.requires_grad_(False)
    got = f(model)
    if not isinstance(got, (set, frozenset, list, tuple)) or not all(isinstance(name, str) for name in got):
        return failed("names were expected: a set of strings such as {'encoder.norm.bias', …}")
    own = dict(model.named_parameters())
    right = {name for name, p in own.items() if p.requires_grad and p.dim() <= 1}
    missing, extra = sorted(right - set(got)), sorted(set(got) - right)
    if not missing and not extra:
        return passed("biases and norms are left alone; matrices and tokens decay")
    if fixed := [name for name in extra if name in own and not own[name].requires_grad]:
        return failed(f"{fixed[0]} is fixed (requires_grad is False): it belongs to no group, so not to this one either")
    if any(name.endswith("_token") for name in extra):
        return failed("class token and mask token have three axes, and decay in pre-training, as in the authors' code")
    if any(own[name].dim() > 1 for name in extra if name in own):
        return failed(f"{extra[0]} is a matrix: matrices do decay; return the others")
    if missing and all(name.endswith("weight") for name in missing):
        return failed(f"biases are included, but the norms' scales are missing ({missing[0]}): count axes, do not go by names")
    return failed(f"missing: {', '.join(missing[:3]) or 'none'}; too many: {', '.join(extra[:3]) or 'none'}")


def ch07_lr_at(f: Callable[..., Any]) -> Verdict:
    """Warm-up and cosine, with and without a floor, at whole and fractional steps."""
    runs: list[dict[str, Any]] = [
        {"steps": 100, "warmup": 10, "peak": 2.0},
        {"steps": 100, "warmup": 0, "peak": 1.0, "floor": 0.25},
        {"steps": 60, "warmup": 7.5, "peak": 3e-3, "floor": 1e-3},
    ]
    points = (0, 1, 5, 7.25, 10, 30, 55, 59, 60)
    wrong: dict[str, Callable[..., float]] = {
        "there is no warm-up: in the first `warmup` steps the rate rises in a straight line from 0 to the peak": _cosine,
        "the cosine runs from step 0: its progress is counted from the end of the warm-up, (step − warmup) / (steps − warmup)": _from_zero,
        "the cosine ends at 0, but the rate should end at `floor`": lambda s, floor=0.0, **run: lr_at(s, **run),
        "the floor is added on top, so the rate starts above the peak: it falls from peak to floor": lambda s, floor=0.0, **run: floor * (s >= run["warmup"]) + lr_at(s, **run),
        "the rate is cut off at `floor`: let it fall from `peak` to `floor` in the whole rest of the run": _cut_off,
        "it falls in a straight line: half a cosine is 0.5 · (1 + cos(π · progress))": _straight,
        "the angle runs from 0 to 1, and should run from 0 to π: cos(math.pi * progress)": lambda s, **run: _cosine(s, **run, turn=1.0) if s >= run["warmup"] else lr_at(s, **run),
        "the rate goes below zero: 1 + cos lies between 0 and 2, so halve it": lambda s, **run: _cosine(s, **run, lift=0.0) if s >= run["warmup"] else lr_at(s, **run),
        "the rate changes only at whole steps or once an epoch: `step` is a number like any other, so do not round it": lambda s, **run: lr_at(int(s), **run),
    }  # fmt: skip
    got = [[one_number(f(step, **run)) for step in points] for run in runs]
    right = [[lr_at(step, **run) for step in points] for run in runs]

    def same(values: list[list[float]]) -> bool:
        return all(abs(a - b) < 1e-6 for mine, theirs in zip(got, values) for a, b in zip(mine, theirs))

    if same(right):
        return passed("up in a straight line, down in half a cosine, at every step")
    for message, mistake in wrong.items():
        if same([[mistake(step, **run) for step in points] for run in runs]):
            return failed(message)
    i, j = next((i, j) for i in range(len(runs)) for j in range(len(points)) if not abs(got[i][j] - right[i][j]) < 1e-6)
    given = ", ".join(f"{name}={value:g}" for name, value in runs[i].items())
    return failed(f"at step {points[j]:g} with {given} the rate is {right[i][j]:.8g}, and yours is {got[i][j]:.8g}")


def _cosine(step: float, *, steps: int, warmup: float, peak: float, floor: float = 0.0, turn: float = math.pi, lift: float = 1.0) -> float:
    """The second part of the schedule, also where the first belongs."""
    return floor + (peak - floor) * 0.5 * (lift + math.cos(turn * (step - warmup) / (steps - warmup)))


def _from_zero(step: float, *, steps: int, warmup: float, peak: float, floor: float = 0.0) -> float:
    return peak * step / warmup if step < warmup else floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _cut_off(step: float, *, steps: int, warmup: float, peak: float, floor: float = 0.0) -> float:
    rate = lr_at(step, steps=steps, warmup=warmup, peak=peak)
    return rate if step < warmup else max(floor, rate)


def _straight(step: float, *, steps: int, warmup: float, peak: float, floor: float = 0.0) -> float:
    return peak * step / warmup if step < warmup else peak + (floor - peak) * (step - warmup) / (steps - warmup)


class Rows:
    """A task of three weights whose batches are rows of numbers, and whose steps can be computed by hand."""

    def __init__(self) -> None:
        self.model = nn.Linear(3, 1, bias=False).double()
        with torch.no_grad():
            self.model.weight.copy_(torch.tensor([[0.5, -1.0, 2.0]]))
        self.batches = [random(4, 3, seed=seed).double() for seed in range(8)]

    def loss_of(self, batch: Tensor) -> Tensor:
        loss: Tensor = (self.model(batch)[:, 0] - batch.sum(1)).square().mean()
        return loss

    def after(self, accumulate: int, way: str = "right") -> tuple[list[float], Tensor]:
        """The losses of two steps, and the weights after them, in the right way or in a wrong one."""
        weight, old, losses = self.model.weight.detach().clone(), torch.zeros(1, 3).double(), []
        for step in range(2):
            parts = self.batches[step * accumulate : (step + 1) * accumulate] if way != "one batch" else self.batches[step : step + 1] * accumulate
            total = torch.zeros(1, 3).double()
            each = []
            for part in parts:
                off = part @ weight[0] - part.sum(1)
                each.append(float(off.square().mean()))
                slope = 2 * (off[:, None] * part).mean(0, keepdim=True)
                total = slope / accumulate if way == "last" else total + slope / (1 if way == "sum" else accumulate)
                if way.startswith("steps inside"):
                    weight = weight - 0.1 * (slope / accumulate if way == "steps inside" else total)
            losses.append(sum(each) / accumulate)
            old = total + (old if way == "kept" else 0)
            weight = weight if way == "no step" or way.startswith("steps inside") else weight - 0.1 * old
        return losses, weight


def ch07_training_step(f: Callable[..., Any]) -> Verdict:
    """Two steps of plain gradient descent on three weights, without and with accumulation."""
    mistakes = {
        "no step": "the weights have not moved: compute the gradients with loss.backward(), then call optimizer.step()",
        "kept": "the second step uses the gradients of the first as well: backward() adds to .grad, so call optimizer.zero_grad() once a step",
        "sum": "with accumulate=4 the gradient is four times too large: each loss is a mean of its own batch, so divide it by accumulate",
        "last": "only the last of four batches counts: clear the gradients once a step, not before each batch",
        "one batch": "the same batch was used again: call next(batches) for each pass",
        "steps inside": "optimizer.step() was called after each batch: with accumulate=4, four batches make one step",
    }
    mistakes["steps inside, kept"] = mistakes["steps inside"]
    for accumulate in (1, 4):
        task = Rows()
        optimizer, batches = torch.optim.SGD(task.model.parameters(), lr=0.1), iter(task.batches)
        ways = {way: task.after(accumulate, way) for way in mistakes} | {"right": task.after(accumulate)}
        start = torch.cat([p.detach().clone() for p in task.model.parameters()])
        said = [f(task, optimizer, batches, accumulate) for _ in range(2)]
        weight = task.model.weight.detach()
        if torch.equal(weight, start):
            return failed(mistakes["no step"])
        if not torch.allclose(weight, ways["right"][1]):
            for way, message in mistakes.items():
                if torch.allclose(weight, ways[way][1]):
                    return failed(message)
            return failed(f"after two steps with accumulate={accumulate} the weights differ from gradient descent on the mean loss of all batches")
        if any(isinstance(loss, Tensor) and loss.requires_grad for loss in said):
            return failed("the step is right, but the returned loss keeps the whole graph in memory: return loss.detach(), or a number")
        for loss, mean in zip(said, ways["right"][0]):
            if not abs(float(loss) - mean) < 1e-5:
                return failed(f"the step is right, but it should return the mean loss of its batches: {mean:.6f}, not {float(loss):.6f}")
    return passed("one step for any number of batches")


def ch07_careful_save(f: Callable[..., Any]) -> Verdict:
    """A file is written completely, or the old file stays."""

    class Full(Exception):
        """The disk is full."""

    def whole(file: Any) -> None:
        file.write(b"new and complete")
        file.flush()
        whole_files = (other for other in path.parent.rglob("*") if other.is_file() and other.read_bytes() == b"new and complete")
        written.extend(other.stat().st_ino for other in whole_files if other != path)

    def half(file: Any) -> None:
        file.write(b"new and hal")
        file.flush()
        raise Full

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        for old in (None, b"the old one"):
            if old:
                path.write_bytes(old)
            written: list[int] = []  # files in the folder, by their number in the file system, which a rename does not change
            f(path, whole)
            if not path.is_file() or path.read_bytes() != b"new and complete":
                return failed("the write succeeded, but the file at path does not hold what was written: close it, then rename it to path")
            if others := [other.name for other in path.parent.iterdir() if other != path]:
                return failed(f"a second file, {others[0]}, is left behind after saving: rename the file that was written, and keep no copy")
        renamed = path.stat().st_ino in written
        path.write_bytes(b"the old one")
        swallowed = True
        try:
            f(path, half)
        except Full:
            swallowed = False
        if not path.is_file():
            return failed("after a failure there is no file at all: the old one must stay until the new one is complete")
        if path.read_bytes() != b"the old one":
            return failed("the old file was destroyed when a write failed half-way: write to another file, rename it at the end")
        if swallowed:
            return failed("the exception was lost: let it through, so that the caller learns that nothing was saved")
        if len(list(path.parent.iterdir())) > 1:
            return failed("the half-written file was left behind after the failure: remove it, whatever the exception was")
        if not written:
            return failed("`write` did not write into another file in the folder of `path`: open one there, and rename it at the end")
        if not renamed:
            return failed("the file that `write` wrote was copied to path, and a kill during the copy would leave half a file: rename it instead")
    return passed("the file is complete, or the old one is still there")
