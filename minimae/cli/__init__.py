"""The command line: one file per command. Nothing below imports this package."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, see :func:`minimae.cli.program.main`: the book's commands import this package, so the program is loaded late."""
    from .program import main

    return main(arguments)
