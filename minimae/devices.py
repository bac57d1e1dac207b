"""Tools for GPUs: full precision for pixels and targets, and no waits of the host for the device."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Inside, products on this device are float32 ones: no autocast to half precision, and no TF32.

    Autocast would crop images in bfloat16 (8 bits), and TF32 with 11 bits; a pixel of 8 bits would be off by one or more.
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


def is_gpu(device: torch.device) -> bool:
    """Whether this is a real GPU: tensors on simulated ones exist too."""
    return device.type == "cuda" and torch.cuda.is_available()


def use(device: str) -> str:
    """Make a GPU named with its number the current one of this process; → its name. See :func:`current`."""
    if device.startswith("cuda:"):
        torch.cuda.set_device(torch.device(device))
    return device


def current(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Inside, streams, events, graphs and page-locked memory belong to this GPU unless another one is named."""
    return torch.cuda.device(device) if is_gpu(device) else contextlib.nullcontext()


@contextlib.contextmanager
def waiting(device: torch.device) -> Iterator[None]:
    """Inside, the host may wait for the device, even under ``torch.cuda.set_sync_debug_mode("error")``: for intended reads."""
    if not is_gpu(device) or not (before := torch.cuda.get_sync_debug_mode()):  # setting it warns, so do not touch the default
        yield
        return
    torch.cuda.set_sync_debug_mode("default")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def constants(values: Sequence[float], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers as a tensor, filled in on the device: ``torch.tensor`` would copy them from the host and block it."""
    return torch.stack([torch.full((), value, dtype=dtype, device=device) for value in values])


def send(x: Tensor, device: torch.device) -> Tensor:
    """A tensor on the device. From the host to a GPU it goes through page-locked memory, so that the host need not wait."""
    if is_gpu(device) and x.device.type == "cpu":
        x = x.pin_memory()
    return x.to(device, non_blocking=device.type == "cuda")


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters are."""
    return next(model.parameters()).device


def cores(share: int = 1) -> int:
    """The cores that each of ``share`` processes on this machine has when they divide them."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, available // share)
