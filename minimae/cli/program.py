"""The program ``minimae``: run a command, and report any error that has a cause outside the code in one line."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence

from .. import __version__
from ..data.optional import missing
from ..data.workers import death_of_a_worker, from_dead_worker
from ..errors import Interrupted, MinimaeError, reason
from ..train.distributed import leave
from ..train.threads import restored
from .allocator import keep_freed_memory
from .commands import COMMANDS, command_class
from .parsing import parse
from .terminal import any_terminal

USAGE = """minimae {version}: masked autoencoders

minimae COMMAND --help lists the options of a command:
{commands}

pretrain, probe, finetune and knn take the name of a recipe, or a file with one,
first; minimae recipes lists the recipes. After an error, MINIMAE_TRACEBACK=1
shows where it came from."""


def usage() -> str:
    """The list of commands, at most 80 characters wide."""
    lines = []
    for name in COMMANDS:
        says = re.split(r"[.;:](?:\s|$)", " ".join((command_class(name).__doc__ or "").split()))[0]
        lines.append(textwrap.fill(f"{name:16}{says}", 80, initial_indent="  ", subsequent_indent=" " * 18))
    return USAGE.format(version=__version__, commands="\n".join(lines))


@restored()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command → 0 when it went well, 2 after one clear line on standard error.

    Without arguments it takes those of the process, and keeps freed memory. The number of threads is restored.
    """
    if arguments is None:
        keep_freed_memory(os.environ)
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["help"] and len(words) > 1:
        words = [*words[1:], "--help"]
    started = time.perf_counter()
    with any_terminal():
        try:
            with only_the_first_prints():
                if not words or words[0] in ("-h", "--help", "help"):
                    print(usage())
                elif words[0] in ("--version", "-V"):
                    print(__version__)
                else:
                    parse(words)()
                sys.stdout.flush()
            return 0
        except Interrupted as stop:
            print(f"minimae: {stop} (after {time.perf_counter() - started:.0f} s)", file=sys.stderr)
            return 0 if stop.args[1:] == (15,) else 2
        except KeyboardInterrupt:
            print("minimae: stopped", file=sys.stderr)
        except Exception as error:
            text = message(error)
            if os.environ.get("MINIMAE_TRACEBACK") or not text:
                raise
            print(f"minimae: {text}", file=sys.stderr)
        finally:
            leave()
        return 2


@contextlib.contextmanager
def only_the_first_prints() -> Iterator[None]:
    """Of several processes, only the first writes to standard output; all report errors."""
    if os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1":
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def message(error: Exception) -> str:
    """The message for an error with a cause outside the code; "" for one that should print its traceback."""
    if isinstance(error, ImportError):
        return missing(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.strerror}: {error.filename}"
    if isinstance(error, MinimaeError | ValueError | OSError):
        return str(error) or type(error).__name__
    if isinstance(error, OverflowError):
        return f"a number is too large ({error})"
    if isinstance(error, MemoryError) or "not enough memory" in str(error) or "out of memory" in str(error):
        return f"there is not enough memory ({reason(error)}): lower --batch, --image or the size of the model"
    if isinstance(error, RuntimeError) and from_dead_worker(error):
        return death_of_a_worker(error)
    return ""
