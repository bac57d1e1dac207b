"""Is this loss normal? The expected loss of a masked autoencoder, and the likely causes when a run's loss differs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# Below this share of the loss of predicting zero we suspect a leak, when three quarters are hidden. Rules of thumb, far below all our
# results; smooth pictures have predictable pixels, so the bound is lower there.
SUSPICIOUS = {"normalised": 0.1, "pixels": 0.02, "pca": 0.02}

PATIENCE = 5  # logged points in a row: one batch alone is noisy

NOT_LEARNING = (
    "the learning rate (lr = base lr × images per optimizer step / 256: with accumulation and all processes); parameters that the "
    "optimizer does not have; positions that are all zero, so that every masked patch gets the same prediction; a target whose patch "
    "vectors are ordered otherwise than (row, column, channel); images that were normalised twice or not at all"
)
LEAK = (
    "the encoder sees what it should predict (an inverted mask: 1 is removed, 0 is kept; or no mask at all); the loss counts "
    "visible patches; the same masks in every epoch on few images; a target computed from the prediction; images that are almost all flat"
)


class Band(NamedTuple):
    """The loss is expected to lie in [low, high]; high is infinite where nothing can be said yet."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.3g} to {self.high:.4g}" if math.isfinite(self.high) else f"{self.low:.3g} or more"


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What decides the band of a run.

    target: pixels, normalised or pca. values: in one target vector (p1·p2·c for pixels). warmup: images seen until the lr reaches its peak.
    ratio: the share that is hidden. baseline: what predicting the mean scores on these images, when that was measured
    (:func:`minimae.tasks.pretrain.baseline_loss`); pictures with flat patches score lower than the formula says.
    curve: points (images seen, loss) of runs of the same task, if there are any; the band is then that curve ± ``tolerance``.
    """

    target: str
    values: int
    warmup: float
    ratio: float = 0.75
    baseline: float | None = None
    curve: Sequence[tuple[float, float]] = ()
    tolerance: float = 0.2

    def __post_init__(self) -> None:
        if self.target not in SUSPICIOUS:
            raise ValueError(f"unknown target {self.target!r}; choose one of {', '.join(SUSPICIOUS)}")
        if list(self.curve) != sorted(set(self.curve)) or any(seen <= 0 for seen, _ in self.curve):
            raise ValueError("a curve is points (images seen > 0, loss) in rising order of the images seen")

    @property
    def zero(self) -> float | None:
        """What predicting zero scores: the measured baseline, or (n − 1) / n for n normalised values; None when that is not known."""
        if self.baseline is not None:
            return self.baseline
        return (self.values - 1) / self.values if self.target == "normalised" else None

    def at(self, seen: float) -> Band:
        """The band after this many images."""
        zero = self.zero
        low = 0.0 if zero is None else SUSPICIOUS[self.target] * min(1.0, self.ratio / 0.75) * zero
        high = math.inf if zero is None or seen <= self.warmup else zero
        if self.curve and seen > self.warmup and self.curve[0][0] <= seen <= self.curve[-1][0]:
            near = interpolate(self.curve, seen)
            low, high = max(low, (1 - self.tolerance) * near), min(high, (1 + self.tolerance) * near)
        return Band(low, high)


def interpolate(curve: Sequence[tuple[float, float]], seen: float) -> float:
    """The loss between two points of a curve, interpolated linearly over the logarithm of the images seen."""
    seen_images, losses = zip(*curve)
    return float(np.interp(math.log(seen), np.log(seen_images), losses))


class Watch:
    """Warns about the loss of one run, at most twice: once when it stays above its band, once when it stays below."""

    def __init__(self, expectation: Expectation) -> None:
        self.expectation = expectation
        self.counts = {"above": 0, "below": 0}  # logged points in a row
        self.warned: set[str] = set()

    def __call__(self, seen: float, loss: float) -> str | None:
        """Images seen and a loss → a warning, or None."""
        band = self.expectation.at(seen)
        outside = {"above": loss > band.high, "below": loss < band.low}
        for side in self.warned ^ outside.keys():
            self.counts[side] = self.counts[side] + 1 if outside[side] else 0
            if self.counts[side] == PATIENCE:
                self.warned.add(side)
                return self.describe(side, band, seen, loss)
        return None

    def describe(self, side: str, band: Band, seen: float, loss: float) -> str:
        """What is expected, what it means, and the likely causes."""
        e = self.expectation
        where = f"the loss is {loss:.4f} after {seen:,.0f} images, {side} the expected {band} ({PATIENCE} logged points in a row)"
        zero = "" if e.zero is None else f" Predicting {'zero' if e.baseline is None else 'the mean'} scores {e.zero:.4f}."
        if e.zero is not None and loss > e.zero:
            return f"{where}.{zero} So it does not learn. Likely: {NOT_LEARNING}."
        if e.zero is not None and loss < e.at(0).low:
            return f"{where}.{zero} That is too good: something leaks. Likely: {LEAK}."
        return f"{where}: it is off the reference curve of this task.{zero} Likely: learning rate, warm-up, decay, or changed code."
