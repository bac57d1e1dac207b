"""Classic wrong answers to the exercises of chapter 07. The solutions are taken from the notebook."""

from __future__ import annotations

import io
import math
import shutil
import tempfile
from pathlib import Path


def _step(divide=True, clear="before", step="after", batch="each", returned="mean"):
    """A training step with one of the classic mistakes."""

    def wrong(task, optimizer, batches, accumulate):
        total, first = 0.0, None
        if clear == "before":
            optimizer.zero_grad()
        for _ in range(accumulate):
            first = next(batches) if first is None or batch == "each" else first
            if clear == "inside":
                optimizer.zero_grad()
            loss = task.loss_of(first) / (accumulate if divide else 1)
            loss.backward()
            total = total + (loss if returned == "graph" else loss.detach())
            if step.startswith("inside"):
                optimizer.step()
            if step == "inside":
                optimizer.zero_grad()
        if step == "after":
            optimizer.step()
        return total if returned != "last" else loss.detach()

    return wrong


def _schedule(warm=True, begin=True, floor=True, shape="cosine"):
    """A schedule with one of the classic mistakes."""

    def wrong(step, *, steps, warmup, peak, floor=0.0, keeps_floor=floor):
        if warm and step < warmup:
            return peak * step / warmup
        low = floor if keeps_floor else 0.0
        progress = (step - warmup) / (steps - warmup) if begin else step / steps
        if shape == "straight":
            return peak + (low - peak) * progress
        return low + (peak - low) * 0.5 * (1 + math.cos((1 if shape == "degrees" else math.pi) * progress))

    return wrong


def _cut_off(step, *, steps, warmup, peak, floor=0.0):
    rate = _schedule()(step, steps=steps, warmup=warmup, peak=peak)
    return rate if step < warmup else max(floor, rate)


def _rounded(step, **run):
    return round(_schedule()(step, **run), 3)


def _no_one_dimensional_rule(model):
    return {name for name, p in model.named_parameters() if name.endswith("bias") and p.requires_grad}


def _one_axis(model):
    return [name for name, p in model.named_parameters() if p.dim() <= 1]


def _tokens_too(model):
    return {n for n, p in model.named_parameters() if p.requires_grad and (p.dim() <= 1 or n.endswith("_token"))}


def _frozen_too(model):
    return {n for n, p in model.named_parameters() if p.dim() <= 1 or not p.requires_grad}


def _the_others(model):
    return {n for n, p in model.named_parameters() if p.requires_grad and p.dim() == 2}


def _in_place(path, write):
    with open(path, "wb") as file:
        write(file)


def _leaves_a_half(path, write):
    temporary = path.with_name("other")
    with open(temporary, "wb") as file:
        write(file)
    temporary.replace(path)


def _swallows(path, write):
    temporary = path.with_name("other")
    try:
        with open(temporary, "wb") as file:
            write(file)
        temporary.replace(path)
    except Exception:
        temporary.unlink()


def _some_failures(path, write):
    temporary = path.with_name("other")
    try:
        with open(temporary, "wb") as file:
            write(file)
        temporary.replace(path)
    except OSError:
        temporary.unlink()
        raise


def _collects(path, write):
    buffer = io.BytesIO()
    write(buffer)
    path.write_bytes(buffer.getvalue())


def _elsewhere(path, write):
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "other"
        with open(temporary, "wb") as file:
            write(file)
        shutil.move(temporary, path)


def _copies(path, write, removed=True):
    temporary = path.with_name("other")
    try:
        with open(temporary, "wb") as file:
            write(file)
        shutil.copy(temporary, path)
    finally:
        if removed:
            temporary.unlink()


def _removes_first(path, write):
    path.unlink(missing_ok=True)
    _leaves_a_half(path, write)


ANSWERS = {
    "ch07_peak_lr": {
        "wrong": {
            "one forward pass only": (lambda base, b, a, p: base * b / 256, "all its images"),
            "forgets accumulation": (lambda base, b, a, p: base * b * p / 256, "accumulated"),
            "forgets the processes": (lambda base, b, a, p: base * b * a / 256, "processes"),
            "close": (lambda base, b, a, p: 0.001201, "the peak is 0.0012, and you say 0.001201"),
            "forgets 256": (lambda base, b, a, p: base * b * a * p, "256"),
        }
    },
    "ch07_exempt_names": {
        "wrong": {
            "goes by the name": (_no_one_dimensional_rule, "norms"),
            "tokens too": (_tokens_too, "three axes"),
            "the frozen too": (_frozen_too, "positions is fixed"),
            "a frozen bias": (_one_axis, "encoder.project.bias is fixed"),
            "the others": (_the_others, "matrices do decay"),
        }
    },
    "ch07_lr_at": {
        "wrong": {
            "no warm-up": (_schedule(warm=False), "no warm-up"),
            "cosine from step 0": (_schedule(begin=False), "from step 0"),
            "no floor": (_schedule(floor=False), "ends at 0"),
            "a straight line": (_schedule(shape="straight"), "straight line: half a cosine"),
            "no pi": (_schedule(shape="degrees"), "to π"),
            "a constant": (lambda step, *, steps, warmup, peak, floor=0.0: peak, "at step 0 with steps=100"),
            "max": (_cut_off, "cut off at `floor`"),
            "rounded": (_rounded, r"at step 30 with steps=100, warmup=10, peak=2 the rate is 1.7660444, and yours is 1.766$"),
            "not a number": (lambda step, **run: math.nan, "yours is nan"),
            "whole steps": (lambda step, **run: _schedule()(int(step), **run), "do not round"),
        }
    },
    "ch07_training_step": {
        "wrong": {
            "no step": (_step(step="never"), "have not moved"),
            "gradients kept": (_step(clear="never"), "gradients of the first"),
            "not divided": (_step(divide=False), "divide it by accumulate"),
            "cleared in the loop": (_step(clear="inside"), "only the last"),
            "one batch": (_step(batch="one"), r"next\(batches\)"),
            "a step for each batch": (_step(step="inside"), "four batches make one step"),
            "a step for each batch, gradients kept": (_step(step="inside, kept"), "four batches make one step"),
            "returns the graph": (_step(returned="graph"), "detach"),
            "returns the last loss": (_step(returned="last"), "mean loss of its batches"),
            "returns NaN": (lambda *given: _step()(*given) * math.nan, r"mean loss of its batches: \d\.\d{6}, not nan"),
        }
    },
    "ch07_careful_save": {
        "wrong": {
            "writes in place": (_in_place, "old file was destroyed"),
            "leaves half a file": (_leaves_a_half, "left behind"),
            "swallows the failure": (_swallows, "exception was lost"),
            "removes the old one first": (_removes_first, "no file at all"),
            "only some failures": (_some_failures, "whatever the exception"),
            "collects first": (_collects, "another file in the folder of `path`"),
            "another folder": (_elsewhere, "another file in the folder of `path`"),
            "a copy": (_copies, "was copied to path"),
            "a copy that stays": (lambda path, write: _copies(path, write, removed=False), "a second file, other, is left behind"),
        }
    },
}
