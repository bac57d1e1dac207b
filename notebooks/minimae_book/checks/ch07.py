"""Checks of chapter 07: pre-training."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from minimae.model.mae import MAE
from minimae.model.sizes import size

from ..verdict import Verdict, failed, passed
from .comparing import named_mistake


def ch07_peak_lr(f: Callable[..., Any]) -> Verdict:
    """base lr × all images of a step / 256."""
    base, batch, accumulate, processes = 1.5e-4, 32, 16, 4
    right, got = base * batch * accumulate * processes / 256, f(base, batch, accumulate, processes)
    mistakes = {
        base * batch / 256: "accumulated passes and the other GPUs take part in the step too: count all its images",
        base * batch * accumulate / 256: "every process brings its own images: multiply by processes",
        base * batch * processes / 256: "accumulated passes count too: they end in the same step",
        base * batch * accumulate * processes: "the base rate is for 256 images: divide by 256",
        base: "that is the base rate, for 256 images; scale it by the images of a step",
    }
    if abs(got - right) < 1e-12:
        return passed("2,048 images a step, so eight times the base rate: 1.2e-3")
    named_mistake(got, mistakes, tolerance=1e-12)
    return failed(f"32 images, 16 passes, 4 processes, base {base:g}: the peak is {right:g}, and you say {got:g}")


def ch07_exempt_names(f: Callable[..., Any]) -> Verdict:
    """Names of the parameters that weight decay leaves alone."""
    model = MAE(size("nano", width=16, depth=1, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2, image=8))
    got = f(model)
    if not isinstance(got, (set, frozenset, list, tuple)) or not all(isinstance(name, str) for name in got):
        return failed("names were expected: a set of strings such as {'encoder.norm.bias', …}")
    own = dict(model.named_parameters())
    right = {name for name, p in own.items() if p.requires_grad and p.dim() <= 1}
    missing, extra = sorted(right - set(got)), sorted(set(got) - right)
    if not missing and not extra:
        return passed("biases and norms are left alone; matrices and tokens decay")
    if any("positions" in name for name in extra):
        return failed("the positions are frozen (requires_grad is False): they belong to no group, so not to this one either")
    if any(name.endswith("_token") for name in extra):
        return failed("class token and mask token have three axes, and decay in pre-training, as in the authors' code")
    if any(own[name].dim() > 1 for name in extra if name in own):
        return failed(f"{extra[0]} is a matrix: matrices do decay; return the others")
    if missing and all(name.endswith("weight") for name in missing):
        return failed(f"biases are included, but the norms' scales are missing ({missing[0]}): count axes, do not go by names")
    return failed(f"missing: {', '.join(missing[:3]) or 'none'}; too many: {', '.join(extra[:3]) or 'none'}")


def ch07_accumulate(f: Callable[..., Any]) -> Verdict:
    """Gradients of several parts, as if they had been one batch."""
    generator = torch.Generator().manual_seed(0)
    rows, targets = torch.randn(12, 3, generator=generator), torch.randn(12, generator=generator)
    weight = nn.Parameter(torch.randn(3, generator=generator))

    def loss_of(part: torch.Tensor) -> torch.Tensor:
        return (rows[part] @ weight - targets[part]).square().mean()

    def gradient(indices: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(loss_of(indices), weight)[0]

    parts, before = list(torch.arange(12).split(3)), torch.full((3,), 5.0)
    weight.grad = before.clone()
    f(loss_of, parts, weight)
    right = gradient(torch.arange(12))
    got: Any = weight.grad
    if got is None:
        return failed("weight.grad is None at the end: call backward() on the loss of each part")

    def same(value: torch.Tensor) -> bool:
        return torch.allclose(got, value, atol=1e-5)

    if same(right):
        return passed("four small batches equal the big one")
    if same(right * 4) or same(right * 4 + before):
        return failed("four times too large: each loss is a mean of its own part, so divide it by the number of parts")
    if same(right + before):
        return failed("what was in weight.grad before is still in it: set it to None before the first part")
    if same(gradient(parts[-1])) or same(gradient(parts[-1]) / 4):
        return failed("only the last part is in it: clear the old gradient once, before the first part, not before each")
    if same(right / 3):
        return failed("divided by the number of images in a part: divide by the number of parts instead")
    return failed("this is not the gradient of the mean over all parts: compare with one backward() of the whole batch")


def ch07_careful_save(f: Callable[..., Any]) -> Verdict:
    """A file is written completely, or the old file stays."""

    class Full(OSError):
        """The disk is full."""

    def whole(file: Any) -> None:
        file.write(b"new and complete")

    def half(file: Any) -> None:
        file.write(b"new and hal")
        file.flush()
        raise Full

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        f(path, whole)
        if not path.is_file() or path.read_bytes() != b"new and complete":
            return failed("nothing went wrong, and still the file does not hold what was written: close it, then rename it to path")
        if len(list(Path(folder).iterdir())) > 1:
            return failed("a second file is left behind after saving: rename the temporary file instead of copying it")
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
            return failed("the failure went unnoticed: let the exception through, or nobody will know that nothing was saved")
        if len(list(Path(folder).iterdir())) > 1:
            return failed("the half-written file was left behind after the failure: remove it")
    return passed("whole, or not there")
