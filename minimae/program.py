"""Settings of the process that the command line makes, and ``import minimae`` does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import wraps

from .allocator import keep_freed_memory
from .threads import restored

Main = Callable[[Sequence[str] | None], int]


def program(main: Main) -> Callable[..., int]:
    """A ``main(arguments)`` that keeps freed memory when it is the program itself (no arguments given: those of the process), and that
    leaves the number of threads as it was when another program calls it."""

    @wraps(main)
    def whole(arguments: Sequence[str] | None = None) -> int:
        if arguments is None:
            keep_freed_memory(os.environ)
        with restored():
            return main(arguments)

    return whole
