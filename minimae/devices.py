"""Tools for GPUs: full precision for pixels and targets, and no transfers that make the host wait."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Inside, matrix products on this device are computed in float32: no autocast to half precision, no TF32.
    Autocast would crop images in bfloat16 (8 bits) and TF32 with 11 bits, so 8-bit pixels would be off by one or more.
    """
    before = torch.get_float32_matmul_precision()
    with torch.autocast(device.type, enabled=False):
        if device.type != "cuda" or before == "highest":
            yield
            return
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


exact = full_precision  # the old name, until 0.8: chapter 06 of version 0.6 imports it


def is_gpu(device: torch.device) -> bool:
    """Whether this is a real GPU; tests also have simulated ones."""
    return device.type == "cuda" and torch.cuda.is_available()


def set_device(device: str) -> str:
    """Make a numbered GPU ("cuda:1") the current one of this process → its name."""
    if device.startswith("cuda:"):
        torch.cuda.set_device(torch.device(device))
    return device


def on_device(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Inside, new streams, events, graphs and page-locked memory belong to this GPU."""
    return torch.cuda.device(device) if is_gpu(device) else contextlib.nullcontext()


@contextlib.contextmanager
def allow_sync(device: torch.device) -> Iterator[None]:
    """Inside, the host may wait for the device, even under ``torch.cuda.set_sync_debug_mode("error")``: for intended reads."""
    if not is_gpu(device) or not (before := torch.cuda.get_sync_debug_mode()):  # setting the mode warns, so leave the default alone
        yield
        return
    torch.cuda.set_sync_debug_mode("default")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def wide(device: torch.device) -> torch.dtype:
    """float64, or float32 on MPS, which has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def constant_tensor(values: Sequence[float], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor of numbers, filled in on the device: ``torch.tensor`` would copy them from the host, and the host would wait."""
    return torch.stack([torch.full((), value, dtype=dtype, device=device) for value in values])


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """A tensor on the device. Copies to a GPU go through page-locked memory, so the host does not wait."""
    if is_gpu(device) and x.device.type == "cpu":
        x = x.pin_memory()
    return x.to(device, non_blocking=device.type == "cuda")


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters are."""
    return next(model.parameters()).device


def cores(share: int = 1) -> int:
    """The number of cores for each of ``share`` processes that divide this machine among them."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, available // share)
