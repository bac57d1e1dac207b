"""Where the loss should be, and what is said when it is not there."""

from __future__ import annotations

import math

import pytest
import torch

from minimae.model.targets import NormalisedTarget
from minimae.train.loss_bands import PATIENCE, SUSPICIOUS, Band, Expectation, Watch, interpolate

B16 = Expectation(target="normalised", values=768, warmup=40 * 1_281_167)
LATE = 800 * 1_281_167.0


def speak(expectation: Expectation, losses: list[float], *, seen: float = LATE) -> list[str]:
    watch = Watch(expectation)
    return [said for loss in losses if (said := watch(seen, loss)) is not None]


def test_predicting_zero_scores_what_is_said() -> None:
    target = NormalisedTarget(768)(torch.randn(50, 4, 768))
    assert float(target.square().mean()) == pytest.approx(B16.zero or 0, abs=1e-5), "(n − 1) / n, for the unbiased variance"


# (name, target, values in a patch, images seen, loss) of our own runs: data/weights, docs/weights.md
OURS = [("fashion-nano", "normalised", 16, 720_000, 0.383), ("photos-tiny", "normalised", 48, 10_300_416, 0.348),
        ("photos-tiny, plain pixels", "pixels", 48, 3_449_856, 0.152)]  # fmt: skip


@pytest.mark.parametrize(("name", "target", "values", "seen", "loss"), OURS, ids=[one[0] for one in OURS])
def test_finished_runs_lie_in_their_band(name: str, target: str, values: int, seen: int, loss: float) -> None:
    expectation = Expectation(target=target, values=values, warmup=0)
    band = expectation.at(seen)
    assert band.low < loss < band.high and not speak(expectation, [loss] * 20, seen=seen), name


def test_nothing_is_expected_of_a_warm_up_but_that_it_does_not_leak() -> None:
    assert B16.at(1000).high == math.inf and B16.at(LATE).high == B16.zero
    assert speak(B16, [3.0] * 20, seen=1000) == [] and len(speak(B16, [0.01] * 20, seen=1000)) == 1
    assert str(B16.at(1000)) == "0.0999 or more" and str(Band(0.1, 0.5)) == "0.1 to 0.5"


def test_what_was_measured_goes_before_the_formula() -> None:
    flat = Expectation(target="normalised", values=49, warmup=0, baseline=0.6)
    assert flat.zero == 0.6 and flat.at(1e6).high == 0.6
    assert Expectation(target="pixels", values=768, warmup=0).zero is None, "how much pixels vary is not known before they are seen"
    assert Expectation(target="pixels", values=768, warmup=0).at(1e6) == Band(0.0, math.inf)


def test_less_hidden_is_easier() -> None:
    half = Expectation(target="normalised", values=768, warmup=0, ratio=0.375)
    assert half.at(1).low == pytest.approx(B16.at(1).low / 2)
    more = Expectation(target="normalised", values=768, warmup=0, ratio=0.9)
    assert more.at(1).low == B16.at(1).low


def test_a_curve_narrows_the_band_where_it_reaches() -> None:
    curve = ((1e6, 0.8), (1e8, 0.4))
    assert interpolate(curve, 1e6) == 0.8 and interpolate(curve, 1e7) == pytest.approx(0.6) and interpolate(curve, 1e8) == 0.4
    e = Expectation(target="normalised", values=768, warmup=0, curve=curve, tolerance=0.1)
    assert e.at(1e7) == Band(pytest.approx(0.54), pytest.approx(0.66))
    assert e.at(1e9) == Expectation(target="normalised", values=768, warmup=0).at(1e9), "beyond its end it says nothing"
    [said] = speak(e, [0.7] * 9, seen=1e7)
    assert "above the expected 0.54 to 0.66" in said and "off the reference curve" in said


def test_one_batch_is_noise_and_a_warning_is_said_once() -> None:
    high, fine = 1.2, 0.5
    assert speak(B16, [high] * (PATIENCE - 1) + [fine] + [high] * (PATIENCE - 1)) == []
    [said] = speak(B16, [high] * PATIENCE + [fine] * 3 + [high] * 30)
    assert "the loss is 1.2000 after 1,024,933,600 images, above the expected 0.0999 to 0.9987" in said
    assert "does not learn" in said and "Predicting zero scores 0.9987" in said and "base lr" in said


def test_a_leak_is_reported_with_its_likely_causes() -> None:
    [said] = speak(B16, [0.05] * 30)
    assert "too good: something leaks" in said and "inverted mask" in said
    assert len(speak(B16, [0.05] * 10 + [1.5] * 10)) == 2, "each side once"


@pytest.mark.parametrize("target", SUSPICIOUS)
def test_every_target_has_a_bound(target: str) -> None:
    assert Expectation(target=target, values=12, warmup=0, baseline=1.0).at(10).low == pytest.approx(SUSPICIOUS[target])


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="unknown target 'pixel'; choose one of normalised, pixels, pca"):
        Expectation(target="pixel", values=12, warmup=0)
    for curve in (((2.0, 1.0), (1.0, 1.0)), ((0.0, 1.0),), ((1.0, 1.0), (1.0, 1.0))):
        with pytest.raises(ValueError, match="in rising order"):
            Expectation(target="pixels", values=12, warmup=0, curve=curve)
