"""Checks of chapter 11: which mask, how much?"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import pvariance, stdev, variance
from typing import Any

import torch

from ..evidence.statistics import holm, welch
from ..verdict import Verdict, failed, passed
from .comparing import described, named_mistake, one_number


def ch11_welch(f: Callable[..., Any]) -> Verdict:
    """Exercise 2: Welch's t-test, with and without a further source of error."""
    a, b, further = [81.0, 83.5, 82.0, 80.1], [79.0, 84.0, 80.5], (0.9, 6.0)
    for others in ((), (further,)):
        got, right = f(a, b, *others), welch(a, b, *others)
        for name in ("difference", "error", "freedom"):
            if not hasattr(got, name):
                return failed(f"Effect(difference, error, freedom) was expected, not {type(got).__name__}")
            if not isinstance(value := getattr(got, name), float | int):
                return failed(f"an Effect of three floats was expected, but its {name} is {described(value)}: use float(…)")

        def same(value: float, wanted: float) -> bool:
            return math.isclose(value, wanted, rel_tol=1e-4)  # float32 is enough

        if not same(got.difference, right.difference):
            return failed("swapped: the difference is the mean of the first minus that of the second" if same(got.difference, -right.difference)
                          else f"the difference of the means is {right.difference:.6f}, not {got.difference:.6f}")  # fmt: skip
        parts = [(variance(a) / 4, 3.0), (variance(b) / 3, 2.0), *others]
        total = sum(part for part, _ in parts)
        if not same(got.error, right.error):
            named_mistake(got.error, (
                (total, "that is the squared standard error: take the root"),
                (sum(math.sqrt(part) for part, _ in parts), "independent errors add as squares: √(e₁² + e₂²), not e₁ + e₂"),
                (math.hypot(stdev(a), stdev(b)), "those are the variances of single runs: divide each by its number of seeds"),
                (math.sqrt(pvariance(a) / 4 + pvariance(b) / 3), "the variance divides by n − 1, not by n: use `variance`"),
                (math.sqrt(sum(part for part, _ in parts[:2])), "`others` are missing: add their squared errors and their degrees of freedom to both sums"),
            ), same=same)  # fmt: skip
            return failed(f"the standard error of {a} and {b} with others={others} is {right.error:.6f}, not {got.error:.6f}")
        denominators, own = [part**2 / degrees for part, degrees in parts], sum(part for part, _ in parts[:2])
        if not same(got.freedom, right.freedom):
            named_mistake(got.freedom, (
                (5.0, "n₁ + n₂ − 2 degrees of freedom suppose equal variances: use Satterthwaite's formula"),
                (2.0, "the smaller n − 1 is too careful: use Satterthwaite's formula"),
                (total / sum(denominators), "the upper part of the fraction is squared: (v₁ + v₂)²"),
                (total**2 / sum(part**2 / n for (part, _), n in zip(parts, (4, 3, 6))), "divide v² by n − 1, the degrees of freedom, not by n"),
                (own**2 / sum(denominators[:2]), "`others` are missing from the degrees of freedom: they belong in both sums of the fraction"),
                (total**2 / sum(denominators[:2]), "`others` are missing from the denominator of the degrees of freedom"),
                (own**2 / sum(denominators), "`others` are missing from the numerator of the degrees of freedom"),
                (total**2 / sum(part**2 / (degrees - i // 2) for i, (part, degrees) in enumerate(parts)),
                 "the pairs in `others` hold degrees of freedom, not numbers of values: do not subtract 1"),
            ), same=same)  # fmt: skip
            return failed(f"the degrees of freedom of {a} and {b} with others={others} are {right.freedom:.6f}, not {got.freedom:.6f}")
    try:
        freedom = f([81.0, 81.0, 81.0], [80.0, 80.0]).freedom
    except ZeroDivisionError:
        freedom = math.nan
    if freedom != math.inf:
        return failed("[81, 81, 81] and [80, 80] have no spread: v₁ + v₂ is 0, and the formula would be 0 / 0. Return math.inf degrees of freedom")
    return passed("difference, standard error and degrees of freedom are right, also with a further source of error")


def ch11_holm(f: Callable[..., Any]) -> Verdict:
    """Exercise 3: Holm's correction."""
    for values in ([0.012, 0.2, 0.004, 0.011], [0.3, 0.02, 0.021], [0.04], [0.9, 0.6]):
        before, k = list(values), len(values)
        got = f(values)
        if values != before:
            return failed("the list that was given has changed: build a new one")
        if not isinstance(got, list | tuple) or len(got) != k:
            return failed(f"a list of {k} corrected values was expected, not {described(got)}")

        def same(given: Any, wanted: list[float]) -> bool:
            return all(abs(float(a) - b) < 1e-6 for a, b in zip(given, wanted))

        order, right = sorted(range(k), key=lambda i: before[i]), holm(before)
        if same(got, right):
            continue
        factors = [before[i] * (k - order.index(i)) for i in range(k)]
        named_mistake(got, (
            ([min(1.0, k * p) for p in before], "this is Bonferroni's correction, k for all: Holm multiplies the next smallest by k − 1, and so on"),
            (sorted(right), "the values are right, but sorted: return them in the order in which they were given"),
            ([min(1.0, p) for p in factors], "a corrected value may not be smaller than that of a smaller p-value: keep the largest so far"),
            ([max(factors[j] for j in order[: order.index(i) + 1]) for i in range(k)], "a p-value is at most 1: use min(1.0, …)"),
            ([min(1.0, p * (1 + order.index(i))) for i, p in enumerate(before)], "the wrong way round: the *smallest* value is multiplied by k"),
            (before, "nothing was corrected"),
        ), same=same)  # fmt: skip
        return failed(f"for {before} it should be {[round(p, 6) for p in right]}, not {[round(float(p), 6) for p in got]}")
    return passed("each value is corrected for its rank, and the order is kept")


def ch11_in_touch(f: Callable[..., Any]) -> Verdict:
    """Share of hidden patches with a visible neighbour."""
    hidden = torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(0)) < 0.6  # every mistake below gives a different share
    got = one_number(f(hidden))

    def near(corners: bool = False, wrap: bool = False, inverse: bool = False, outside: bool = False) -> torch.Tensor:
        seen = hidden if inverse else ~hidden
        steps = [(0, 1), (0, -1), (1, 0), (-1, 0)] + ([(1, 1), (1, -1), (-1, 1), (-1, -1)] if corners else [])
        found = torch.zeros_like(hidden)
        for down, right in steps:
            moved = seen.roll((down, right), (1, 2))
            if not wrap:
                if down:
                    moved[:, 0 if down > 0 else -1, :] = outside
                if right:
                    moved[:, :, 0 if right > 0 else -1] = outside
            found |= moved
        return found

    def same(value: torch.Tensor, among: torch.Tensor = hidden) -> bool:
        return abs(got - float(value.sum() / among.sum())) < 1e-5

    if same(near() & hidden):
        return passed("in a random mask of 75 % on a large grid it is about 1 − 0.75⁴ = 68 %")
    if same(near(wrap=True) & hidden):
        return failed("the picture does not wrap around: roll moves the last row to the opposite edge; pad instead")
    if same(near(outside=True) & hidden):
        return failed("beyond the edge there are no neighbours: pad with False there, not with True")
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
    right, among = int((near() & hidden).sum()), int(hidden.sum())
    if abs(got - float(((near() & hidden).sum((1, 2)) / hidden.sum((1, 2))).mean())) < 1e-5:
        return failed("that is the mean of each image's share: count over all images together")
    if got in (right, among - right) or abs(got - 100 * right / among) < 1e-3:
        return failed(f"{got:g} is a count or a percentage: return the share, a number from 0 to 1")
    return failed(f"{right} of {among} hidden patches have a visible neighbour, a share of {right / among:.4f}; you say {got:.4f}")


def ch11_cheapest(f: Callable[..., Any]) -> Verdict:
    """The cheapest setting within some slack of the best."""
    means = {"a": 82.5, "c": 84.1, "e": 81.7, "d": 83.6, "b": 83.2}  # in this order, each mistake below gives another list
    costs = {"a": 1.0, "b": 0.9, "c": 0.7, "d": 0.5, "e": 0.4}
    slacks, right = (0.6, 1.0, 0.0, 5.0), ["d", "d", "c", "e"]
    got = [f(dict(means), dict(costs), slack) for slack in slacks]
    if got == right:
        return passed("first choose what is good enough, then the cheapest of it")
    if got == ["c"] * 4:
        return failed("that is the best one, whatever it costs: the cheapest *within slack of it* was expected")
    if got == ["e"] * 4:
        return failed("that is the cheapest of all: it must also be at most `slack` below the best")
    if got == ["c", "b", "c", "a"]:
        return failed("that is the most expensive of those that are good enough")
    if got == ["c", "c", "c", "a"]:
        return failed("that is the first in the dictionary that is good enough, not the cheapest of them")
    if all(isinstance(value, float | int) for value in got):
        return failed("you returned a number: the *key* of the setting was expected")
    slack, wanted, yours = next(case for case in zip(slacks, right, got) if case[1] != case[2])
    return failed(f"with the means {means}, the costs {costs} and a slack of {slack}, {wanted!r} was expected, not {yours!r}")
