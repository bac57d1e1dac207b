"""What is said when a command of several parts is stopped: a part knows how to continue itself, not the whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minimae.errors import Interrupted


@contextmanager
def same_command(out: Path, kept: str) -> Iterator[None]:
    """Inside, a stopped run is reported with what continues the whole command. kept: what is in ``out`` by then, in a few words."""
    try:
        yield
    except Interrupted as stop:
        raise Interrupted(f"stopped; start the same command again to continue: {kept} in {out}", *stop.args[1:]) from None
