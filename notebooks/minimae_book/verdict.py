"""The result of a check of an exercise."""

from __future__ import annotations

import html
from dataclasses import dataclass

SIGNS = {True: "✓", False: "✗", None: "…"}
SOLUTION = "○"  # never green: the reader has not written it
COLOURS = {True: "#009E73", False: "#D55E00", None: "#767676"}


@dataclass(frozen=True)
class Verdict:
    """Right (``ok`` is True), wrong (False) or not written yet (``written`` is False), and one sentence that explains it.

    solution: the book's own solution was checked, not the reader's function. A verdict is what a check *returns*, not an exception: the
    notebook continues. Notebooks show it with a bar in its colour, terminals as text.
    """

    ok: bool
    text: str
    written: bool = True
    solution: bool = False

    @property
    def word(self) -> str:
        return "solution" if self.solution else "right" if self.ok else "wrong" if self.written else "not written yet"

    def __repr__(self) -> str:
        return f"{self.sign} {self.word}: {self.text}"

    def _repr_html_(self) -> str:
        colour, said = COLOURS[self._state], html.escape(self.text)
        style = f"border-left: 4px solid {colour}; padding: .4em .8em; margin: .3em 0"
        return f'<div style="{style}"><b>{self.sign} {self.word}</b>: {said}</div>'

    @property
    def sign(self) -> str:
        return SOLUTION if self.solution else SIGNS[self._state]

    @property
    def _state(self) -> bool | None:
        return self.ok if self.written and not self.solution else None


def passed(text: str) -> Verdict:
    """The exercise is solved; ``text`` says what the reader's function can do now."""
    return Verdict(True, text)


def failed(text: str) -> Verdict:
    """The exercise is not solved; ``text`` names the mistake."""
    return Verdict(False, text)


def unwritten() -> Verdict:
    """The stub is still there."""
    return Verdict(False, "replace the line `raise NotImplementedError` by your own code, then run both cells again", written=False)
