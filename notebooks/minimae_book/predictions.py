"""Guess first, then look: a guess is recorded before the truth is shown, and both are drawn together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .figures.style import BLUE, LINE, ORANGE, WIDTH, figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Answer = float | str | Sequence[float]
LETTER = 0.081  # inches, the mean width of a letter of 10 points
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
    """Both words in one line, each in its colour; if they are the same, the guess was right."""
    fig = figure(WIDTH, 0.34)
    axes = _line(fig)
    said = "none" if guess is None else f"{guess}{'  ✓' if guess == truth else ''}"
    axes.text(0, 0.5, f"your guess: {said}", ha="left", va="center", color=ORANGE)
    axes.text(1, 0.5, f"the answer: {truth}", ha="right", va="center", color=BLUE, fontweight="bold")
    return fig


def _line(fig: Figure) -> Axes:
    """Axes without a frame from edge to edge of a figure that is one line high."""
    fig.set_layout_engine("none")
    axes = fig.add_axes((0.01, 0, 0.98, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    return axes


def _numbers(guess: float | None, truth: float, unit: str) -> Figure:
    """One line of text and marks: the smaller number, a scale with a mark for each, the larger number. The unit follows the answer."""
    room = 0.08 * WIDTH / LETTER  # of the scale, in letters of text
    named = f"{_text(truth)} % {unit[:-4]}" if unit.endswith(" (%)") else f"{_text(truth)} {unit}".strip()
    marks = [(float(truth), f"the answer: {named}", BLUE, "o")]
    if guess is not None:
        marks = sorted([*marks, (float(guess), f"your guess: {_text(guess)}", ORANGE, "D")])
    room = max(room, WIDTH / LETTER - 4 - sum(len(words) for _, words, *_ in marks))
    fig = figure(WIDTH, 0.34)
    axes = _line(fig)
    for i, (_, words, colour, _) in enumerate(marks):
        axes.text(i, 0.5, words, ha="right" if i else "left", va="center", color=colour)
    low = (LETTER * (len(marks[0][1]) + 2)) / WIDTH
    high = low + LETTER * room / WIDTH
    axes.plot([low, high], [0.5, 0.5], color=LINE, linewidth=1.5)
    for value, _, colour, marker in reversed(marks):
        share = 0.5 if len(marks) < 2 or marks[0][0] == marks[1][0] else (value - marks[0][0]) / (marks[1][0] - marks[0][0])
        axes.plot(low + (0.08 + 0.84 * share) * (high - low), 0.5, marker, color=colour, markersize=9 if marker == "o" else 6)
    return fig


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
