"""Read the package's own source in pieces, inside a notebook, so that the text shows the code that runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from textwrap import dedent
from typing import Any


@dataclass(frozen=True)
class Excerpt:
    """Some lines of a function, and their source file. Notebooks show it in colour, terminals as text."""

    title: str
    code: str

    def __repr__(self) -> str:
        return f"{self.title}\n\n{self.code}"

    def _repr_markdown_(self) -> str:
        return f"*{self.title}*\n\n```python\n{self.code}\n```"


def excerpt(function: Callable[..., Any], first: str, last: str) -> Excerpt:
    """The lines of a function from the first that holds ``first`` to the next that holds ``last``.

    Raises ValueError when no line holds one of them: the source has changed, and the text that quotes it must change too.
    """
    lines = inspect.getsource(function).splitlines()
    begin = next((i for i, line in enumerate(lines) if first in line), None)
    end = None if begin is None else next((i for i in range(begin, len(lines)) if last in lines[i]), None)
    if begin is None or end is None:
        raise ValueError(f"{function.__name__} has no line with {first!r}, or none with {last!r} after it")
    title = f"{function.__module__.replace('.', '/')}.py, in {function.__qualname__}"
    return Excerpt(title, dedent("\n".join(lines[begin : end + 1])).rstrip())
