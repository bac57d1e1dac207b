"""From values to a verdict, to a file, and back; and that a rerun is held against what was recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from minimae_book.evidence.results import Outcome, compared, read, recorded, save
from minimae_book.evidence.verdicts import NO, YES, Finding, Mark
from minimae_book.figures.results import claim_panels

from minimae.errors import MinimaeError

HIGH, LOW = ("a (%)", "MAE", 1), ("a (%)", "MAE", 2)


def outcome(*findings: bool, values: tuple[float, ...] = (80.0, 81.0, 82.0)) -> Outcome:
    return Outcome(
        claim="c", says="It holds.", source="Table 1", axis="x", paper={"a (%)": {"MAE": [(1, 84.9), ("x", 2.0)]}}, paper_axis="",
        budget="laptop", scale="small", command="minimae reproduce c", seeds=(0, 1, 2),
        marks=(Mark(*HIGH, values), Mark("b", "MAE", "x", (1.0,))),
        findings=tuple(Finding(f"finding {i}", "a (%)", 0.0, 1.0, 0.5, 1.5, 0.01, YES if ok else NO) for i, ok in enumerate(findings)),
        recipe={"batch": 3},
        environments=({"torch": "2"},), seconds={"pre-training": 3, "questions": 4},
    )  # fmt: skip


def test_mean_deviation_and_error_are_numpys() -> None:
    values = (80.0, 81.5, 79.0)
    mark = Mark(*HIGH, values)
    assert mark.mean == pytest.approx(np.mean(values)) and mark.std == pytest.approx(np.std(values, ddof=1))
    assert mark.error == pytest.approx(np.std(values, ddof=1) / np.sqrt(3))
    assert Mark(*HIGH, (5.0,)).error == 0


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    before = outcome(True, False)
    save(before, tmp_path / "deep" / "c.json")
    assert read(tmp_path / "deep" / "c.json") == before
    assert before.at(HIGH).mean == 81.0 and [m.x for m in before.line("b")] == ["x"] and before.measures == ["a (%)", "b"]
    with pytest.raises(KeyError):
        before.at(LOW)
    assert "1: 81.0 ± 1.0" in before.table()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"verdict": "holds", "marks": []}'])
def test_a_file_that_is_no_result_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(MinimaeError, match="c.json is not a result of minimae reproduce"):
        read(tmp_path / "c.json")


def test_what_was_not_recorded_names_the_command() -> None:
    with pytest.raises(MinimaeError, match="minimae reproduce nothing --budget gpu makes it"):
        recorded("nothing", "gpu")


def test_a_rerun_is_held_against_the_recorded_result() -> None:
    same, words = compared(outcome(True), outcome(True))
    assert same and words.startswith("as recorded with the package: no mean is farther than 0.00")
    near, words = compared(outcome(True, values=(81.0, 82.0, 83.0)), outcome(True))
    assert near and "1.00" in words
    far, words = compared(outcome(True, values=(90.0, 91.0, 92.0)), outcome(True))
    assert not far and words.startswith("not as recorded: a (%), MAE, 1 is 91.0, 10.0 from the recorded mean")
    timed = replace(outcome(True), marks=(*outcome(True).marks, Mark("time of a step", "MAE", 1, (9.0,))))
    assert compared(timed, outcome(True))[0], "times are another machine's"


def test_the_figure_has_a_panel_for_each_measure_and_the_paper_beside_it() -> None:
    ours = {"tuned": {"MAE": [(10, 80.0, 0.5), (75, 84.0, 0.2)]}, "cost": {"MAE": [("with", 2.0, 0.0), ("without", 1.0, 0.0)]}}
    fig = claim_panels(ours, {"tuned": {"MAE": [(10, 83.2), (75, 84.9)]}}, axis="ratio")
    titles = [axes.get_title() for axes in fig.axes]
    assert titles == ["measured here", "the paper", "measured here"]
    drawn = [line.get_ydata().tolist() for line in fig.axes[1].lines]
    assert [83.2, 84.9] in drawn and [80.0, 84.0] in [line.get_ydata().tolist() for line in fig.axes[0].lines]
    assert len(claim_panels(ours, {}, axis="ratio").axes) == 2


def test_the_figure_shows_each_difference_with_its_interval() -> None:
    ours = {"tuned (%)": {"MAE": [(10, 80.0, 0.5), (75, 84.0, 0.2)]}, "cost": {"MAE": [(10, 2.0, 0.0), (75, 1.0, 0.0)]}}
    effects = {"tuned (%)": [("75 above 10", "yes", 0.0, 4.0, 3.0, 5.0), ("75 above 90", "undecided", 0.0, 1.0, -1.0, 3.0)]}
    fig = claim_panels(ours, {"tuned (%)": {"MAE": [(10, 83.2)]}}, axis="ratio", effects=effects)
    shown = fig.axes[2]
    assert [label.get_text() for label in shown.get_yticklabels()] == ["75 above 10: yes", "75 above 90: undecided"]
    bars = [bar.get_segments()[0][:, 0].tolist() for bar in shown.collections]
    assert bars == [[3.0, 5.0], [-1.0, 3.0]]
    assert [axes.get_title() for axes in fig.axes] == ["measured here", "the paper", "differences, with 95 % intervals", "measured here"]
