"""Output for every terminal: in any encoding, and into a pipe whose reader may leave early (``minimae recipes | head``)."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any

# Replacements for characters that an encoding lacks; any other becomes its escape, so that a file name stays readable.
SPELLED = {"×": "x", "…": "...", "–": "-", "—": "-", "→": "->", "←": "<-", "±": "+/-", "≤": "<=", "≥": ">=", "≠": "!=", "·": "*"}
SPELLED |= {"²": "^2", "’": "'", "“": '"', "”": '"', "•": "*", "★": "*", "─": "-", "│": "|", "╭": "+", "╮": "+", "╰": "+", "╯": "+"}


def spelled(error: UnicodeError) -> tuple[str | bytes, int]:
    """An error handler for encoding: ASCII in place of what the terminal cannot show."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(SPELLED.get(c) or c.encode("ascii", "backslashreplace").decode() for c in characters), error.end


codecs.register_error("minimae", spelled)


class Output:
    """A text stream whose reader may close it. Later output is discarded; with ``ends``, the program then exits with 0."""

    def __init__(self, stream: Any, *, ends: bool) -> None:
        self.stream, self.ends = stream, ends
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="minimae")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with self.closed_pipe_handled():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self.closed_pipe_handled():
            self.stream.flush()

    @contextlib.contextmanager
    def closed_pipe_handled(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            with contextlib.suppress(OSError, ValueError):  # otherwise Python tries to write the rest once more as it exits
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
            if not isinstance(error, BrokenPipeError) and error.errno != errno.EINVAL:  # Windows calls a broken pipe an invalid argument
                raise
            if self.ends:
                raise SystemExit(0) from None


@contextlib.contextmanager
def any_terminal() -> Iterator[None]:
    """Inside, standard output and standard error take every character, and a closed pipe is not an error."""
    with contextlib.ExitStack() as stack:
        if sys.stdout is not None:
            stack.enter_context(contextlib.redirect_stdout(Output(sys.stdout, ends=True)))
            stack.callback(sys.stdout.flush)  # here, where a closed pipe is handled, not when Python exits
        if sys.stderr is not None:
            stack.enter_context(contextlib.redirect_stderr(Output(sys.stderr, ends=False)))
        yield
