"""Six shapes as signed distances: how far a point lies outside the outline (negative: inside).

A shape is a function of coordinates ``x`` (to the right) and ``y`` (down), each any shape of tensor. All fit into the unit circle.
Outside of corners the value is that of the nearest straight edge, prolonged: the outline itself is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

HOLE, NOTCH, BAR = 0.52, 0.45, 0.3  # inner radius of the ring, radius of the star's notches, half the width of the cross's bars
REACH = math.sqrt(1 - BAR**2)  # half the length of those bars


def disc(x: Tensor, y: Tensor) -> Tensor:
    """The unit disc."""
    return torch.hypot(x, y) - 1


def square(x: Tensor, y: Tensor) -> Tensor:
    """A square with its corners on the unit circle."""
    return torch.maximum(x.abs(), y.abs()) - math.sqrt(0.5)


def triangle(x: Tensor, y: Tensor) -> Tensor:
    """An equilateral triangle, tip up: what three half-planes have in common."""
    return torch.maximum(y, x.abs() * math.sqrt(0.75) - y / 2) - 0.5


def star(x: Tensor, y: Tensor) -> Tensor:
    """A star of five points: folded into one of ten equal wedges, its outline is a straight line from tip to notch."""
    fifth = math.tau / 5
    angle = torch.atan2(x, -y).remainder(fifth)
    angle, radius = torch.minimum(angle, fifth - angle), torch.hypot(x, y)
    from_tip, aside = radius * angle.cos() - 1, radius * angle.sin()
    run, rise = 1 - NOTCH * math.cos(fifth / 2), NOTCH * math.sin(fifth / 2)
    return (aside * run + from_tip * rise) / math.hypot(run, rise)


def ring(x: Tensor, y: Tensor) -> Tensor:
    """A disc with a round hole."""
    return (torch.hypot(x, y) - (1 + HOLE) / 2).abs() - (1 - HOLE) / 2


def cross(x: Tensor, y: Tensor) -> Tensor:
    """Two bars of equal length at a right angle."""
    x, y = x.abs(), y.abs()
    return torch.minimum(torch.maximum(x - REACH, y - BAR), torch.maximum(x - BAR, y - REACH))


# Each outline with its area, so that shapes of different kinds can be drawn equally large.
OUTLINES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], float]] = {
    "disc": (disc, math.pi),
    "square": (square, 2.0),
    "triangle": (triangle, math.sqrt(27) / 4),
    "star": (star, 5 * NOTCH * math.sin(math.tau / 10)),
    "ring": (ring, math.pi * (1 - HOLE**2)),
    "cross": (cross, 4 * BAR * (2 * REACH - BAR)),
}
