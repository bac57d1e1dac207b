"""Guess first, then look: a guess is recorded before the truth is shown, and both are drawn together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .figures.style import BLUE, ORANGE, figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Answer = float | str | Sequence[float]
_guesses: dict[str, Answer | None] = {}  # for this notebook session; nothing is written to disk


def predict(key: str, guess: Answer | None, *, ask: str) -> None:
    """Record the reader's guess under ``key``: a number, a word, or a list of numbers (a sketched curve); None means no guess.

    Raises TypeError for anything else.
    """
    if guess is not None:
        _kind(guess)
    _guesses[key] = guess
    print(f"{ask}\nYour guess: {'none yet' if guess is None else _text(guess)}")


def reveal(key: str, truth: Answer, *, unit: str = "", x: Sequence[float] | None = None, xlabel: str = "") -> Figure:
    """The guess that was recorded under ``key`` and the truth, in one figure: two marks on a line, two words, or two curves.

    ``unit`` says what the numbers are; ``x`` and ``xlabel`` are the horizontal axis of curves. Without a guess only the truth is drawn.
    Raises TypeError if guess and truth are of different kinds, and ValueError if a sketch has the wrong number of points.
    """
    guess = _guesses.get(key)
    kind = _kind(truth)
    if guess is not None and _kind(guess) != kind:
        raise TypeError(f"the answer to {key!r} is {kind}, your guess {_text(guess)} is {_kind(guess)}: predict again, then reveal")
    if isinstance(truth, str):
        return _words(guess, truth)
    if isinstance(truth, Sequence):
        across = list(range(len(truth))) if x is None else list(x)
        if guess is not None and len(guess) != len(truth):  # type: ignore[arg-type]
            raise ValueError(f"{len(truth)} numbers are expected for {key!r}, your guess has {len(guess)}")  # type: ignore[arg-type]
        return _curves(guess, truth, across, unit, xlabel)  # type: ignore[arg-type]
    return _numbers(guess, truth, unit)  # type: ignore[arg-type]


def _kind(answer: object) -> str:
    if isinstance(answer, str):
        return "a word"
    if isinstance(answer, Sequence):
        return "a list of numbers"
    try:
        float(answer)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(f"a guess is a number, a word or a list of numbers, not {answer!r}") from None
    return "a number"


def _text(answer: Answer) -> str:
    if isinstance(answer, str):
        return answer
    if isinstance(answer, Sequence):
        return ", ".join(f"{value:,.10g}" for value in answer)
    return f"{answer:,.10g}"


def _words(guess: Answer | None, truth: str) -> Figure:
    """The two words one below the other, each in its colour; if they are the same, the guess was right."""
    fig = figure(6.4, 0.85)
    axes = fig.subplots()
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    said = "none" if guess is None else f"{guess}  {'✓' if guess == truth else ''}"
    for y, colour, name, word in ((0.75, ORANGE, "your guess", said), (0.25, BLUE, "the answer", truth)):
        axes.text(0.2, y, name, ha="right", va="center", fontsize=10, color="#555555")
        axes.text(0.23, y, word, ha="left", va="center", fontsize=12, fontweight="bold", color=colour)
    return fig


def _numbers(guess: float | None, truth: float, unit: str) -> Figure:
    """Two marks on one line, the guess above it and the truth below, so that the labels never overlap."""
    fig = figure(6.4, 1.35)
    axes = fig.subplots()
    values = [float(truth)] if guess is None else [float(truth), float(guess)]
    room = 0.25 * (max(values) - min(values)) or 0.1 * abs(values[0]) or 1.0
    low, high = min(values) - room, max(values) + room
    for value, colour, name, marker, up in zip(values, (BLUE, ORANGE), ("the answer", "your guess"), "oD", (-1, 1)):
        axes.plot(value, 0, marker, color=colour, markersize=10 if up < 0 else 7, clip_on=False, zorder=2 + up)
        place, across = ("top" if up < 0 else "bottom"), (value - low) / (high - low)
        side = "left" if across < 0.3 else "right" if across > 0.7 else "center"
        offset = (0, 12 * up)
        label = f"{name}: {_text(value)}"
        axes.annotate(label, (value, 0), xytext=offset, textcoords="offset points", ha=side, va=place, fontsize=10, color=colour)
    axes.set(xlim=(low, high), ylim=(-1, 1), yticks=[])
    axes.spines[["top", "left", "right", "bottom"]].set_visible(False)
    axes.axhline(0, color="#BBBBBB", linewidth=1, zorder=0)
    axes.tick_params(axis="x", labelsize=8, colors="#555555")
    axes.set_xlabel(unit, fontsize=9)
    return fig


def _curves(guess: Sequence[float] | None, truth: Sequence[float], x: Sequence[float], unit: str, xlabel: str) -> Figure:
    fig = figure(6.4, 3.0)
    axes = plain(fig.subplots())
    axes.plot(x, list(truth), "o-", color=BLUE, linewidth=2, label="the answer")
    if guess is not None:
        axes.plot(x, list(guess), "D--", color=ORANGE, linewidth=1.5, markersize=5, label="your sketch")
    axes.set_xticks(x if len(x) <= 12 else axes.get_xticks())
    axes.set(xlabel=xlabel, ylabel=unit)
    axes.legend(frameon=False, fontsize=9)
    return fig
