"""How certain a difference is: Welch's t over the seeds, the test set's own uncertainty, and Holm's correction for several comparisons.

Welch, Biometrika 34 (1947); Satterthwaite, Biometrics Bulletin 2 (1946); Holm, Scandinavian Journal of Statistics 6 (1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, variance

LEVEL = 0.95  # of intervals; tests are one-sided at 2.5 %, so that a test and an interval agree


@dataclass(frozen=True)
class Effect:
    """A difference of two means with its standard error and the degrees of freedom of Student's t."""

    difference: float
    error: float
    freedom: float

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Lowest and highest value of the true difference that the measurements allow, at this level of confidence."""
        from scipy.stats import t

        margin = self.error * float(t.ppf((1 + level) / 2, self.freedom)) if self.error else 0.0
        return self.difference - margin, self.difference + margin

    def above(self, threshold: float) -> float:
        """The one-sided p-value of the hypothesis that the true difference is at most ``threshold``."""
        from scipy.stats import t

        if not self.error:
            return float(self.difference <= threshold)
        return float(t.sf((self.difference - threshold) / self.error, self.freedom))

    def below(self, threshold: float) -> float:
        """The one-sided p-value of the hypothesis that the true difference is at least ``threshold``."""
        return Effect(-self.difference, self.error, self.freedom).above(-threshold)


def welch(first: Sequence[float], second: Sequence[float], *others: tuple[float, float]) -> Effect:
    """The difference of the means of two samples, accuracies over seeds, whose variances may differ.

    others: further variances of the difference, such as that of a finite test set, each with its degrees of freedom.
    Raises ValueError for a sample of one, whose variance is unknown.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError("an interval needs at least two seeds")
    parts = [*((variance(sample) / len(sample), len(sample) - 1.0) for sample in (first, second)), *others]
    total = math.fsum(part for part, _ in parts)
    freedom = total**2 / math.fsum(part**2 / degrees for part, degrees in parts) if total else math.inf
    return Effect(mean(first) - mean(second), math.sqrt(total), freedom)


def binomial(*accuracies: float, images: int) -> tuple[float, float]:
    """Variance of a difference of two accuracies in percent, because the test images are a sample; and its degrees of freedom.

    It treats the two as measured on separate images. On the same images it is too large, since both fail on the hard ones.
    """
    return sum(a * (100 - a) for a in accuracies) / images, images - 1.0


def paired(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """The same from the results for each test image: the share of seeds that classify it correctly. Both lists cover the same images."""
    differences = [100 * (a - b) for a, b in zip(first, second, strict=True)]
    return variance(differences) / len(differences), len(differences) - 1.0


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for their number: the chance that any of them is small by luck stays that of a single test."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    corrected, largest = [0.0] * len(values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[i]))
        corrected[i] = largest
    return corrected
