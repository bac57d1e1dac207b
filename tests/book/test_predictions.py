"""A guess is recorded, and shown with the truth."""

from __future__ import annotations

import re

import pytest
from minimae_book import predict, reveal
from minimae_book import predictions as module

from notebooks import build


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_guesses", {})


def texts(figure) -> str:
    return " | ".join(text.get_text() for text in figure.texts)


def test_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    predict("kept", 60, ask="How many of 196 patches stay?")
    assert capsys.readouterr().out == "How many of 196 patches stay?\nYour guess: 60\n"
    figure = reveal("kept", 49, unit="patches")
    assert texts(figure) == "the answer: 49 patches | your guess: 60"
    assert "the answer: 49 % kept | " in texts(reveal("kept", 49, unit="kept (%)"))
    (axes,) = figure.axes
    assert axes.get_xlim()[0] < 49 < 60 < axes.get_xlim()[1]
    assert sorted(line.get_xdata()[0] for line in axes.lines if line.get_marker() in "oD") == [49, 60]


@pytest.mark.parametrize("value", [0, -3.5, 1e9])
def test_a_guess_that_is_right_has_a_scale_too(value: float) -> None:
    predict("same", value, ask="?")
    low, high = reveal("same", value).axes[0].get_xlim()
    assert low < value < high


def test_the_units_leave_room_for_the_scale() -> None:
    for script in build.chapters():
        for unit in re.findall(r'book.reveal\(.*unit="([^"]*)"', script.read_text(encoding="utf-8")):
            assert len(unit) < 40, f"{script.stem}: the unit {unit!r} covers the scale"


def test_a_word() -> None:
    predict("where", "outline", ask="Where?")
    assert texts(reveal("where", "inside")) == "your guess: outline | the answer: inside"
    predict("where", "inside", ask="Where?")
    assert "inside  ✓" in texts(reveal("where", "inside"))


def test_a_curve() -> None:
    predict("times", [5, 12, 100], ask="?")
    (axes,) = reveal("times", [11, 26, 100], x=[10, 25, 100], unit="time").axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[11, 26, 100], [5, 12, 100]]
    assert list(axes.lines[1].get_xdata()) == [10, 25, 100] and axes.get_ylabel() == "time"


def test_without_a_guess_the_truth_stands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    predict("kept", None, ask="How many?")
    assert "none yet" in capsys.readouterr().out
    assert texts(reveal("kept", 49)) == "the answer: 49"
    assert texts(reveal("never asked", "yes")) == "your guess: none | the answer: yes"
    assert len(reveal("never sketched", [1, 2]).axes[0].lines) == 1


def test_a_guess_of_another_kind() -> None:
    with pytest.raises(TypeError, match=r"a number, a word or a list of numbers, not \{\}"):
        predict("kept", {}, ask="?")
    with pytest.raises(TypeError, match=r"not \['x', 'y'\]"):
        predict("kept", ["x", "y"], ask="?")
    assert texts(reveal("kept", 49)) == "the answer: 49", "nothing was recorded"
    predict("kept", "many", ask="?")
    with pytest.raises(TypeError, match="the answer to 'kept' is a number, your guess many is a word: predict again"):
        reveal("kept", 49)
    predict("times", [1, 2], ask="?")
    with pytest.raises(ValueError, match="3 numbers are expected for 'times', your guess has 2"):
        reveal("times", [1, 2, 3])
