"""The precision of a model, and of nothing else: autocast, its loss scaler, and TF32 for what stays in float32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from .settings import Settings

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve(precision: str, device: torch.device, *, scaler: bool = True) -> str:
    """What auto means on this device, fp32, bf16 or fp16; other names are returned unchanged.

    auto is bf16 on a GPU with bf16 units. Older ones (T4, V100) would emulate it, slowly: there it is fp16, or fp32 where the loss
    scaler that fp16 needs cannot be used. Elsewhere it is fp32.
    """
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "fp32"
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    return "fp16" if scaler else "fp32"


def mixed(settings: Settings, device: torch.device) -> tuple[str, torch.amp.GradScaler]:
    """The precision of a run on this device, and the loss scaler: it does nothing unless the precision is fp16.

    Recorded steps (``graph``) and FSDP2 (``shard``) have no scaler, so auto is never fp16 there.
    """
    name = resolve(settings.precision, device, scaler=not (settings.graph or settings.shard))
    return name, torch.amp.GradScaler(device.type, enabled=name == "fp16")


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Autocast to this precision for a forward pass; :func:`resolve` says what auto is."""
    name = resolve(precision, device)
    return contextlib.nullcontext() if name == "fp32" else torch.autocast(device.type, dtype=HALF[name])


@contextlib.contextmanager
def backends(device: torch.device) -> Iterator[None]:
    """Inside, a model's float32 products on a GPU are TF32 ones: 10 of the 23 bits of the fraction. Afterwards everything is restored.

    This uses the older of torch's two interfaces: inductor still reads it, and mixing both is an error.
    """
    if device.type != "cuda":
        yield
        return
    cudnn, products = torch.backends.cudnn, torch.get_float32_matmul_precision()
    before = cudnn.allow_tf32, cudnn.benchmark
    torch.set_float32_matmul_precision("high")
    cudnn.allow_tf32, cudnn.benchmark = True, True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        cudnn.allow_tf32, cudnn.benchmark = before


@contextlib.contextmanager
def evaluating(device: torch.device, precision: str = "auto") -> Iterator[None]:
    """The precision of evaluation: the training precision on a GPU, float32 elsewhere."""
    with contextlib.nullcontext() if device.type != "cuda" else autocast(device, precision), backends(device):
        yield
