"""The peak rates of the machine: a plain matrix product, and a plain copy. A model cannot be faster than the first."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from minimae.train.precision import autocast

from .timing import seconds

# Dense matrix products with float32 accumulation, TFLOP/s from the makers' data sheets: (bf16 or fp16, float32 as TF32).
# The first name that occurs in torch's name of the GPU is used. Cards called NVL are slower, and not in the table.
PEAKS: dict[str, tuple[float, float | None]] = {
    "B200": (2250.0, 1100.0),
    "H200": (989.0, 494.0),
    "H100 PCIe": (756.0, 378.0),
    "H100": (989.0, 494.0),
    "A100": (312.0, 156.0),
    "L40S": (362.0, 183.0),
    "L4": (121.0, 60.0),
    "A10": (125.0, 62.5),
    "V100-PCIE": (112.0, None),
    "V100": (125.0, None),
    "T4": (65.0, None),
}

SIZES = {"cpu": (2048, 1 << 26), "cuda": (8192, 1 << 30)}  # side of the matrices, bytes to copy


@dataclass(frozen=True)
class Ceilings:
    """matmul: TFLOP/s of a square matrix product in the precision of the run. copy: GB/s, read and written bytes together."""

    matmul: float
    copy: float


def ceilings(device: torch.device | str, precision: str = "auto", *, side: int | None = None, repeats: int = 5) -> Ceilings:
    """Measure both: the best of several repeats. side: of the matrices, by default 2048 on a CPU and 8192 on a GPU."""
    device = torch.device(device)
    default, size = SIZES["cuda" if device.type == "cuda" else "cpu"]
    n = side or default
    a, b = (torch.randn(n, n, device=device) for _ in range(2))
    with autocast(device, precision):
        a, b = (x.to((a[:1, :1] @ b[:1, :1]).dtype) for x in (a, b))  # the precision in which autocast multiplies
    product = torch.empty_like(a)
    source = torch.ones(size if side is None else 8 * side * side, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    count = 20 if device.type == "cuda" else 1
    matmul = min(seconds(lambda: torch.mm(a, b, out=product), count, device) for _ in range(1 + repeats))
    copy = min(seconds(lambda: target.copy_(source), count, device) for _ in range(1 + repeats))
    return Ceilings(2 * n**3 / matmul / 1e12, 2 * len(source) / copy / 1e9)


def peak(name: str, precision: str) -> float | None:
    """TFLOP/s from the data sheet of a GPU in the table, by torch's name for it; None for other devices."""
    known = next((values for key, values in PEAKS.items() if re.search(rf"\b{key}\b(?! NVL)", name)), None)
    if known is None:
        return None
    if precision == "bf16" and known[1] is None:  # V100 and T4 have no bf16
        return None
    return known[1] if precision == "fp32" else known[0]
