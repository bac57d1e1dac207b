"""In which precision a model computes, and that nothing else does."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..data.source import Batch
from ..precision import exact

if TYPE_CHECKING:
    from .loop import Task


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """bf16 where the device has it (or what was asked for), float32 elsewhere."""
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    name = ("bf16" if bf16 else "fp32") if precision == "auto" else precision
    if name == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype={"bf16": torch.bfloat16, "fp16": torch.float16}[name])


def inputs(task: Task, batch: Batch) -> tuple[Tensor, ...]:
    """What ``task`` prepares of a batch, in float32 even inside autocast: only the model computes in half precision."""
    with exact(batch.pixels.device):
        prepared = task.prepare(batch)
    wrong = [str(x.dtype) for x in prepared if x.is_floating_point() and x.dtype != torch.float32]
    if wrong:
        raise TypeError(f"a task prepares float32 tensors and indices, not {', '.join(wrong)}")
    return prepared
