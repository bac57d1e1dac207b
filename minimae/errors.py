"""Errors that a user can act on, each one line long: the command line prints them and exits with code 2."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from difflib import get_close_matches


class MinimaeError(Exception):
    """Something outside the code is wrong: a file, a disk, a run that diverged."""


class Interrupted(MinimaeError):
    """The run was stopped from outside, after saving. Its arguments are a text and, if known, the signal."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def reason(error: BaseException | str, limit: int = 120) -> str:
    """The first line of an error, cut after a whole word to at most ``limit`` characters."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    short = textwrap.shorten(lines[0], limit, placeholder=" …")
    return short if short != "…" else lines[0][: limit - 1] + "…"  # one long word: a path


def counted(number: int, noun: str) -> str:
    """ "1 channel", "1,234 channels"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: "; did you mean 'base'? Known: nano, base."."""
    names = list(known)
    close = get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    guess = f"; did you mean {close[0]!r}?" if close else "."
    return f"{guess} Known: {', '.join(names)}."
