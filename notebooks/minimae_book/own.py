"""Later cells use what the reader wrote, if it is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .verdict import Verdict

T = TypeVar("T")


def use(check: Callable[..., Verdict], own: T, solution: T) -> T:
    """The reader's function or class if it passes the check, otherwise the book's; a printed line says which.

    check: from ``minimae_book.check``. own: what the reader wrote. solution: the book's solution or the package's function.
    """
    verdict = check(own)
    if verdict.ok:
        print(f"The chapter goes on with your {own.__name__}.")  # type: ignore[attr-defined]
        return own
    state = "not right yet" if verdict.written else "not written yet"
    print(f"Your {own.__name__} is {state}: the chapter goes on with the book's.")  # type: ignore[attr-defined]
    return solution
