"""Shared by the checks: fixed inputs, comparisons, and messages about returned values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Mistake(Exception):
    """What is wrong with the reader's function; it becomes the verdict."""


def random(*shape: int, seed: int = 0) -> Tensor:
    """Fixed normal numbers; the reader's random state is not changed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def near(a: object, b: Tensor) -> bool:
    """Equal shape, and equal values up to rounding."""
    return isinstance(a, Tensor) and a.shape == b.shape and torch.allclose(a.to(b.dtype), b, atol=1e-5)


def expect(got: Any, shape: tuple[int, ...], words: str = "") -> None:
    """Raises Mistake unless it is a tensor of this shape. words: what was expected."""
    if not isinstance(got, Tensor):
        raise Mistake(f"{words or 'a tensor was expected'}, not {type(got).__name__}")
    if tuple(got.shape) != shape:
        raise Mistake(f"{words or 'the shape should be'}{': ' if words else ' '}{shape}, not {tuple(got.shape)}")


def named_mistake(got: Any, mistakes: dict[float, str], *, tolerance: float = 1e-5) -> None:
    """Raises Mistake with the message that belongs to the number that was returned, if it is one of these."""
    for value, message in mistakes.items():
        if abs(float(got) - value) < tolerance:
            raise Mistake(message)
