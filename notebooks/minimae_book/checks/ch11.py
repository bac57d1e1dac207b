"""Checks of chapter 11: which mask, how much?"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import pstdev, stdev
from typing import Any

import torch

from ..verdict import Verdict, failed, passed


def ch11_margin(f: Callable[..., Any]) -> Verdict:
    """Twice the standard error of the difference of two means."""
    a, b = [81.0, 83.5, 82.0, 80.1], [79.0, 84.0, 80.5]
    got = f(a, b)

    def same(value: float) -> bool:
        return abs(float(got) - value) < 1e-4

    first, second = stdev(a) / 2, stdev(b) / math.sqrt(3)
    if same(2 * math.hypot(first, second)):
        return passed("and it shrinks with the root of the number of seeds: four times as many halve it")
    if same(math.hypot(first, second)):
        return failed("that is one standard error: twice that was expected")
    if same(2 * (first + second)):
        return failed("independent errors add as squares: √(e₁² + e₂²), not e₁ + e₂")
    if same(2 * math.hypot(stdev(a), stdev(b))):
        return failed("those are the stds of single runs: the standard error of a mean is the std / √(number of seeds)")
    if same(2 * math.hypot(pstdev(a) / 2, pstdev(b) / math.sqrt(3))):
        return failed("divide the squares by n − 1, not by n: the mean was taken from the same values (statistics.stdev)")
    if same(2 * math.hypot(stdev(a) / 4, stdev(b) / 3)):
        return failed("the standard deviation is divided by the *root* of the number of seeds")
    return failed(f"2 · √(s²/n + t²/m) of these lists is {2 * math.hypot(first, second):.3f}, not {float(got):.3f}")


def ch11_in_touch(f: Callable[..., Any]) -> Verdict:
    """Share of hidden patches with a visible neighbour."""
    hidden = torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(0)) < 0.6  # every mistake below gives a different share
    before = hidden.clone()
    got = f(hidden)
    if not torch.equal(before, hidden):
        return failed("the mask that was given has changed: work on a copy")
    if got is None or (isinstance(got, torch.Tensor) and got.numel() != 1):
        return failed("one number was expected for the whole batch")

    def near(corners: bool = False, wrap: bool = False, inverse: bool = False) -> torch.Tensor:
        seen = hidden if inverse else ~hidden
        steps = [(0, 1), (0, -1), (1, 0), (-1, 0)] + ([(1, 1), (1, -1), (-1, 1), (-1, -1)] if corners else [])
        found = torch.zeros_like(hidden)
        for down, right in steps:
            moved = seen.roll((down, right), (1, 2))
            if not wrap:
                moved[:, 0 if down > 0 else -1, :] &= down == 0
                moved[:, :, 0 if right > 0 else -1] &= right == 0
            found |= moved
        return found

    def same(value: torch.Tensor, among: torch.Tensor = hidden) -> bool:
        return abs(float(got) - float(value.sum() / among.sum())) < 1e-5

    if same(near() & hidden):
        return passed("in a random mask of 75 % on a large grid it is about 1 − 0.75⁴ = 68 %")
    if same(near(wrap=True) & hidden):
        return failed("the picture does not wrap around: roll moves the last row to the opposite edge; pad instead")
    if same(near(corners=True) & hidden):
        return failed("corners count as neighbours: only above, below, left and right were expected")
    if same(near() & hidden, torch.ones_like(hidden)):
        return failed("the share of *all* patches: divide by the number of hidden ones")
    if same(near(), hidden) or same(near(), torch.ones_like(hidden)):
        return failed("visible patches with a visible neighbour were counted, too")
    if same(near(inverse=True) & hidden):
        return failed("hidden patches with a *hidden* neighbour were counted")
    if same(near(inverse=True) & ~hidden, ~hidden):
        return failed("inverted: those are visible patches with a hidden neighbour")
    right = int((near() & hidden).sum())
    return failed(f"{right} of {int(hidden.sum())} hidden patches have a visible neighbour, you say {float(got):.3f} of them")


def ch11_cheapest(f: Callable[..., Any]) -> Verdict:
    """The cheapest setting within some slack of the best."""
    means = {"a": 82.5, "b": 83.2, "c": 84.1, "d": 83.6, "e": 81.7}
    costs = {"a": 1.0, "b": 0.9, "c": 0.7, "d": 0.5, "e": 0.4}
    got = [f(dict(means), dict(costs), slack) for slack in (0.6, 1.0, 0.0, 5.0)]
    if got == ["d", "d", "c", "e"]:
        return passed("first choose what is good enough, then the cheapest of it")
    if got == ["c"] * 4:
        return failed("that is the best one, whatever it costs: the cheapest *within slack of it* was expected")
    if got == ["e"] * 4:
        return failed("that is the cheapest of all: it must also be at most `slack` below the best")
    if got == ["c", "b", "c", "a"]:
        return failed("that is the most expensive of those that are good enough")
    if all(isinstance(value, float | int) for value in got):
        return failed("you returned a number: the *key* of the setting was expected")
    return failed(f"with a slack of 0.6 it should be 'd' (83.6, cost 0.5), with 0 'c', the best; you say {got[0]!r} and {got[2]!r}")
