"""Where float32 means float32: pixels, targets and statistics are computed in full precision, whatever the model is trained with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Inside, products on this device are float32 ones: no autocast to half precision, and no TF32.

    Autocast would crop images in bfloat16 (8 bits), TF32 would do it with 11 bits; a pixel of 8 bits is then off by one or more.
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
