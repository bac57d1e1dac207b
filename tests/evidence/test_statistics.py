"""Intervals and p-values agree with scipy's, Holm's correction with brute force, and luck alone convinces as seldom as it should."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minimae_book.evidence.claims import Expect
from minimae_book.evidence.statistics import Effect, binomial, holm, paired, welch
from minimae_book.evidence.verdicts import HOLDS, NO, NOT, PARTLY, UNDECIDED, YES, Finding, Mark, effect, judge, verdict
from scipy import stats

values = st.lists(st.floats(50, 90).map(lambda x: round(x, 2)), min_size=2, max_size=12).filter(lambda sample: len(set(sample)) > 1)


@given(values, values, st.floats(-20, 20))
@settings(max_examples=60, deadline=None)
def test_welch_is_scipys(first: list[float], second: list[float], threshold: float) -> None:
    found = welch(first, second)
    scipys = stats.ttest_ind(first, second, equal_var=False)
    assert found.difference / found.error == pytest.approx(scipys.statistic, rel=1e-6, abs=1e-9)
    assert found.freedom == pytest.approx(scipys.df) and found.interval() == pytest.approx(tuple(scipys.confidence_interval()))
    shifted = [value - threshold for value in first]
    for p, alternative in ((found.above(threshold), "greater"), (found.below(threshold), "less")):
        assert p == pytest.approx(stats.ttest_ind(shifted, second, equal_var=False, alternative=alternative).pvalue, abs=1e-6)
    assert found.above(threshold) + found.below(threshold) == pytest.approx(1)
    assert (found.above(threshold) < 0.025) == (found.interval()[0] > threshold), "an interval and its test agree"


def test_without_any_spread_the_difference_is_certain_and_one_seed_says_nothing() -> None:
    found = welch((2.5, 2.5), (1.0, 1.0))
    assert found.interval() == (1.5, 1.5) and (found.above(1.0), found.above(2.0), found.below(2.0)) == (0.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="at least two seeds"):
        welch((1.0,), (1.0, 2.0))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_holm_is_the_closed_test_of_bonferroni(ps: list[float]) -> None:
    """By brute force: a hypothesis falls when Bonferroni rejects every set of hypotheses that contains it."""
    indices = range(len(ps))
    sets = [s for size in range(1, len(ps) + 1) for s in combinations(indices, size)]
    expected = [max(min(1.0, len(s) * min(ps[i] for i in s)) for s in sets if one in s) for one in indices]
    assert holm(ps) == pytest.approx(expected)


def test_luck_alone_convinces_in_one_claim_of_forty() -> None:
    """Four settings that are all the same, three seeds each, unequal noise: the first is named best by at least one comparison."""
    draw = np.random.default_rng(0).normal(80, (0.5, 0.3, 0.8, 0.5), (1200, 3, 4)).transpose(0, 2, 1).tolist()
    expects = [Expect("", ("a (%)", "MAE", 0), ("a (%)", "MAE", i)) for i in (1, 2, 3)]
    corrected = alone = 0
    for samples in draw:
        marks = {("a (%)", "MAE", i): Mark("a (%)", "MAE", i, tuple(sample)) for i, sample in enumerate(samples)}
        corrected += YES in {found.outcome for found in judge(expects, marks)}
        alone += any(welch(samples[0], other).above(0) < 0.025 for other in samples[1:])
    assert corrected / 1200 < 0.025 + 3 * 0.0045 < alone / 1200 + 0.005, "without the correction it would be about twice as often"


def test_the_same_images_tell_more_than_others_would() -> None:
    """Two classifiers on 400 images, of which some are hard for both: the spread of the difference over 600 test sets is as estimated."""
    rng = np.random.default_rng(1)
    hard = rng.beta(2, 1, (600, 400))
    first, second = (rng.random((600, 400)) < np.clip(hard + gain, 0, 1) for gain in (0.05, 0.0))
    differences = 100 * (first.mean(1) - second.mean(1))
    estimated = np.mean([paired(a.astype(float).tolist(), b.astype(float).tolist())[0] for a, b in zip(first[:100], second[:100])])
    assert estimated == pytest.approx(differences.var(ddof=1), rel=0.15)
    assert binomial(100 * first.mean(), 100 * second.mean(), images=400)[0] > 1.15 * estimated


def test_what_is_known_about_the_test_images_is_used() -> None:
    seeds = {"values": (80.0, 81.0, 82.0)}
    kept = [Mark("a (%)", "MAE", x, images=4, right=right, **seeds) for x, right in ((1, "3303"), (2, "3210"))]
    by_image = [100 * np.subtract([1, 1, 0, 1], [1, 2 / 3, 1 / 3, 0])]
    assert effect(*kept) == welch(*(mark.values for mark in kept), (np.var(by_image, ddof=1) / 4, 3.0))
    counted = [Mark("a (%)", "MAE", x, images=2000, **seeds) for x in (1, 2)]
    assert effect(*counted).error == pytest.approx(np.sqrt(2 * (1 / 3 + 81 * 19 / 2000)))
    assert effect(*(Mark("IoU", "MAE", x, **seeds) for x in (1, 2))).error == pytest.approx(np.sqrt(2 / 3))


HIGH, LOW = ("a (%)", "MAE", 1), ("a (%)", "MAE", 2)


def outcome(expect: Expect, gap: float, spread: float) -> str:
    marks = {HIGH: Mark(*HIGH, (80 + gap - spread, 80 + gap + spread) * 2), LOW: Mark(*LOW, (80 - spread, 80 + spread) * 2)}
    return judge([expect], marks)[0].outcome


@pytest.mark.parametrize(
    ("kind", "gap", "spread", "expected"),
    [
        ({}, 2.0, 0.5, YES), ({}, 0.6, 0.5, UNDECIDED), ({}, -2.0, 0.5, NO), ({}, 0.0, 0.1, NO), ({}, 0.3, 0.1, YES),
        ({"by": 1.0}, 2.0, 0.2, YES), ({"by": 1.0}, 1.2, 0.5, UNDECIDED), ({"by": 1.0}, 0.9, 0.1, NO),
        ({"slack": 1.0}, 0.0, 0.2, YES), ({"slack": 1.0}, 5.0, 0.2, YES), ({"slack": 1.0}, -0.9, 0.5, UNDECIDED),
        ({"slack": 1.0}, -2.0, 0.2, NO), ({"within": 1.0}, 0.0, 0.2, YES), ({"within": 1.0}, 5.0, 0.2, NO),
        ({"within": 1.0}, -5.0, 0.2, NO), ({"within": 1.0}, 0.0, 2.0, UNDECIDED), ({"within": 1.0}, 0.9, 0.5, UNDECIDED),
    ],
)  # fmt: skip
def test_shown_excluded_or_undecided(kind: dict[str, float], gap: float, spread: float, expected: str) -> None:
    assert outcome(Expect("", HIGH, LOW, **kind), gap, spread) == expected


def test_costs_have_no_smallest_effect() -> None:
    places = ("time (× without)", "MAE", 1), ("time (× without)", "MAE", 2)
    marks = {place: Mark(*place, values) for place, values in zip(places, ((1.3, 1.31), (1.0, 1.01)))}
    assert judge([Expect("", *places, by=0.5)], marks)[0].outcome == NO


def test_a_single_seed_decides_nothing() -> None:
    found = judge([Expect("high above low", HIGH, LOW)], {HIGH: Mark(*HIGH, (90.0,)), LOW: Mark(*LOW, (10.0,))})[0]
    assert found.outcome == UNDECIDED and found.low is None and "single seed" in str(found)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ((YES, YES), HOLDS), ((YES, NO), PARTLY), ((YES, UNDECIDED), PARTLY), ((NO, NO), NOT), ((NO, UNDECIDED), UNDECIDED),
        ((UNDECIDED,), UNDECIDED),
    ],
)  # fmt: skip
def test_the_verdict_counts_the_outcomes(outcomes: tuple[str, ...], expected: str) -> None:
    assert verdict([Finding("", "", 0.0, 1.0, 0.0, 2.0, 0.01, one) for one in outcomes]) == expected


def test_more_comparisons_ask_for_more() -> None:
    """The same difference convinces alone, and not as one of twelve that show nothing."""
    places = [("a (%)", "MAE", i) for i in range(14)]
    marks = {p: Mark(*p, (80.0, 81.0, 82.0)) for p in places} | {places[0]: Mark(*places[0], (83.5, 84.5, 85.5))}
    claimed, others = Expect("", places[0], places[1]), [Expect("", places[i], places[i + 1]) for i in range(1, 13)]
    assert judge([claimed], marks)[0].outcome == YES and judge([claimed, *others], marks)[0].outcome == UNDECIDED
    assert Effect(1.0, 0.1, 5).interval(0.9)[0] > Effect(1.0, 0.1, 5).interval()[0]
