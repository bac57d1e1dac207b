"""Errors that a person can act on: the command line prints them as one line and leaves with code 2."""

from __future__ import annotations

import textwrap


class MinimaeError(Exception):
    """Something outside the code is wrong: a file, a disk, a run that diverged."""


class Interrupted(MinimaeError):
    """The run was stopped from outside, after saving."""


def reason(error: BaseException | str, limit: int = 120) -> str:
    """The first line of an error, in at most ``limit`` characters: what is longer ends after a whole word, with "…"."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    short = textwrap.shorten(lines[0], limit, placeholder=" …")
    return short if short != "…" else lines[0][: limit - 1] + "…"  # one long word: a path
