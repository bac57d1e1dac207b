"""Turn the values at two marks into a comparison, and the comparisons of a claim into its verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any

from .claims import Expect, Place, X
from .statistics import LEVEL, Effect, binomial, holm, paired, welch

SMALL = 0.5  # percentage points: a smaller effect counts as none (the paper mentions effects from half a point on)
YES, NO, UNDECIDED = "yes", "no", "undecided"
HOLDS, PARTLY, NOT = "holds", "holds partly", "does not hold"
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Mark:
    """The measurements at one point: a value for every seed, in percent or as a multiple.

    changes: what differs from the recipe and the evaluation at the head of the result.
    images: test images of an accuracy; 0 for other measures.
    right: a digit (0 … 9, a, b …) for each test image: how many of the seeds classify it correctly. Empty where this was not kept.
    """

    measure: str
    line: str
    x: X
    values: tuple[float, ...]
    changes: dict[str, Any] = field(default_factory=dict)
    images: int = 0
    right: str = ""

    @property
    def place(self) -> Place:
        return self.measure, self.line, self.x

    @property
    def mean(self) -> float:
        return mean(self.values)

    @property
    def std(self) -> float:
        """Standard deviation over the seeds, unbiased; 0 for one seed."""
        return stdev(self.values) if len(self.values) > 1 else 0.0

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return self.std / math.sqrt(len(self.values))


def shares(mark: Mark) -> list[float]:
    """For each test image, the share of the seeds that classify it correctly."""
    return [DIGITS.index(digit) / len(mark.values) for digit in mark.right]


def effect(first: Mark, second: Mark) -> Effect:
    """The difference between two marks. It is uncertain because seeds and test images are few."""
    if first.right and second.right:
        return welch(first.values, second.values, paired(shares(first), shares(second)))
    if first.images and second.images:
        return welch(first.values, second.values, binomial(first.mean, second.mean, images=min(first.images, second.images)))
    return welch(first.values, second.values)


@dataclass(frozen=True)
class Finding:
    """A comparison and its outcome: the difference of the means with its 95 % interval, and whether it is as claimed.

    measure, threshold: what is compared, and the smallest difference at which it is as claimed.
    p: the p-value of the outcome, or for "undecided" the smaller of both, after Holm's correction. With a single seed
    there is neither an interval nor a p-value.
    """

    says: str
    measure: str
    threshold: float
    difference: float
    low: float | None
    high: float | None
    p: float | None
    outcome: str

    @property
    def ok(self) -> bool:
        return self.outcome == YES

    @property
    def numbers(self) -> str:
        """The difference with its interval."""
        interval = "a single seed" if self.low is None or self.high is None else f"from {signed(self.low)} to {signed(self.high)}"
        return f"{signed(self.difference)}, {interval}"

    def __str__(self) -> str:
        return f"{self.outcome:9} {self.says}: {self.numbers}"


def signed(x: float) -> str:
    """+1.2, -0.3; never -0.0."""
    return f"{round(x, 1) + 0.0:+.1f}"


def tests(expect: Expect, found: Effect) -> tuple[float, float]:
    """Two p-values: one is small when the comparison is as claimed, the other when that is excluded."""
    if expect.within is not None:  # two one-sided tests
        return max(found.above(-expect.within), found.below(expect.within)), min(found.above(expect.within), found.below(-expect.within))
    if expect.slack is not None:
        return found.above(-expect.slack), found.below(-expect.slack)
    return found.above(expect.by), found.below(expect.by + (SMALL if expect.first[0].endswith("(%)") else 0.0))


def judge(expects: Sequence[Expect], marks: Mapping[Place, Mark]) -> tuple[Finding, ...]:
    """The outcomes of all comparisons of a claim. Each is shown, excluded, or undecided; Holm's correction counts them all."""
    pairs = [(marks[expect.first], marks[expect.second]) for expect in expects]
    if min(len(mark.values) for pair in pairs for mark in pair) < 2:  # one seed decides nothing
        gaps = [round(first.mean - second.mean, 3) for first, second in pairs]
        return tuple(Finding(e.says, e.first[0], e.threshold, gap, None, None, None, UNDECIDED) for e, gap in zip(expects, gaps))
    effects = [effect(first, second) for first, second in pairs]
    shown, excluded = (holm(values) for values in zip(*(tests(e, found) for e, found in zip(expects, effects))))
    findings = []
    for expect, found, yes, no in zip(expects, effects, shown, excluded, strict=True):
        low, high = found.interval()
        outcome = YES if yes <= (1 - LEVEL) / 2 else NO if no <= (1 - LEVEL) / 2 else UNDECIDED
        gap, low, high = (round(x, 3) for x in (found.difference, low, high))
        findings.append(Finding(expect.says, expect.first[0], expect.threshold, gap, low, high, float(f"{min(yes, no):.2g}"), outcome))
    return tuple(findings)


def verdict(findings: Sequence[Finding]) -> str:
    """holds: all comparisons are as claimed. holds partly: some are. does not hold: all are excluded. Otherwise undecided."""
    outcomes = [finding.outcome for finding in findings]
    if YES in outcomes:
        return HOLDS if set(outcomes) == {YES} else PARTLY
    return NOT if set(outcomes) == {NO} else UNDECIDED
