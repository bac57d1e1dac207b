"""Guess first, then look: a guess is recorded before the truth is shown, and both are drawn together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .figures.style import BLUE, LINE, ORANGE, WIDTH, figure, plain

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
    several = isinstance(answer, Sequence)
    try:
        for value in answer if several else [answer]:  # type: ignore[attr-defined]
            float(value + 0)  # "3" is no number
    except (TypeError, ValueError):
        raise TypeError(f"a guess is a number, a word or a list of numbers, not {answer!r}") from None
    return "a list of numbers" if several else "a number"


def _text(answer: Answer) -> str:
    if isinstance(answer, str):
        return answer
    if isinstance(answer, Sequence):
        return ", ".join(f"{value:,.10g}" for value in answer)
    return f"{answer:,.10g}"


def _words(guess: Answer | None, truth: str) -> Figure:
    """Both words in one line, each in its colour; if they are the same, the guess was right."""
    said = "none" if guess is None else f"{guess}{'  ✓' if guess == truth else ''}"
    return _line((f"your guess: {said}", ORANGE), (f"the answer: {truth}", BLUE))[0]


def _numbers(guess: float | None, truth: float, unit: str) -> Figure:
    """The smaller number, a scale with a mark for each, and the larger one, in one line. The unit follows the answer."""
    named = f"{_text(truth)} % {unit[:-4]}" if unit.endswith(" (%)") else f"{_text(truth)} {unit}".strip()
    marks = [(float(truth), f"the answer: {named}", BLUE, "o", 10)]
    if guess is not None:
        marks = sorted([*marks, (float(guess), f"your guess: {_text(guess)}", ORANGE, "D", 6)])
    fig, left, right = _line(*((words, colour) for _, words, colour, *_ in marks))
    axes = fig.add_axes((left, 0, right - left, 1))
    axes.set_axis_off()
    low, high = marks[0][0], marks[-1][0]
    room = 0.12 * (high - low) or 0.1 * abs(low) or 1.0
    axes.set(xlim=(low - room, high + room), ylim=(-1, 1))
    axes.axhline(0, color=LINE, linewidth=1.5, zorder=0)
    for value, _, colour, marker, size in marks:
        axes.plot(value, 0, marker, color=colour, markersize=size, zorder=3 if marker == "D" else 2, clip_on=False)
    return fig


def _line(*parts: tuple[str, str]) -> tuple[Figure, float, float]:
    """A figure one line high with a text at either end, each with its colour; and what is free between them, as shares of the width."""
    fig = figure(WIDTH, 0.34)
    fig.set_layout_engine("none")
    texts = [fig.text(0.01 + 0.98 * i, 0.5, words, ha=side, va="center", color=colour, fontsize=10)
             for i, ((words, colour), side) in enumerate(zip(parts, ("left", "right")))]  # fmt: skip
    ends = [text.get_window_extent() for text in texts]
    left, right = ends[0].x1 / fig.bbox.width, ends[1].x0 / fig.bbox.width if len(ends) > 1 else 0.7
    return fig, left + 0.02, max(right - 0.02, left + 0.06)


def _curves(guess: Sequence[float] | None, truth: Sequence[float], x: Sequence[float], unit: str, xlabel: str) -> Figure:
    fig = figure(WIDTH, 2.8)
    axes = plain(fig.subplots())
    axes.plot(x, list(truth), "o-", color=BLUE, linewidth=2, label="the answer")
    if guess is not None:
        axes.plot(x, list(guess), "D--", color=ORANGE, linewidth=1.5, markersize=5, label="your sketch")
    axes.set_xticks(x if len(x) <= 12 else axes.get_xticks())
    axes.set(xlabel=xlabel, ylabel=unit)
    axes.legend(frameon=False, fontsize=10)
    return fig
