"""Switches that make a GPU faster and change no code: TF32 for what stays in float32, and cuDNN's choice of algorithm."""

from __future__ import annotations

import torch


def flags(device: torch.device | str, *, tf32: bool = True) -> None:
    """Set the switches for this device; any number of times gives the same. On a CPU nothing is touched.

    TF32 keeps float32's range and 10 bits of its fraction in matrix products (``tf32=False`` keeps all 23). bf16 and fp16 autocast
    are not affected. Set through the older of torch's two interfaces: inductor still asks it, and mixing both is an error.
    """
    if torch.device(device).type != "cuda":
        return
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
