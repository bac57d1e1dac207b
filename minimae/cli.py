"""The command line: ``minimae COMMAND --help``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from . import __version__
from .commands import COMMANDS, FinetuneCommand, PretrainCommand
from .errors import Interrupted, MinimaeError
from .recipes import PRETRAIN, SCRATCH, recipe
from .suggest import nearest
from .tasks.pretrain import load_pretrained


def usage() -> str:
    """The list of commands, one line each."""
    lines = [f"  {name:13}{(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
    names = "\n".join(f"  {name}" for name in PRETRAIN)
    return (
        f"minimae {__version__}: masked autoencoders\n\nminimae COMMAND --help tells the options of a command:\n"
        + "\n".join(lines)
        + f"\n\nRecipes for pretrain:\n{names}\n\nAfter an error, MINIMAE_TRACEBACK=1 shows where it came from."
    )


def parse(arguments: Sequence[str]) -> Any:
    """Command line → a command, ready to be called. Raises ValueError for a name that is not known."""
    name, rest = arguments[0], list(arguments[1:])
    if name not in COMMANDS:
        raise ValueError(f"unknown command {name!r}{nearest(name, COMMANDS)}")
    options: dict[str, Any] = {"prog": f"minimae {name}", "args": rest}
    if name == "finetune" and "--scratch" in rest:
        return tyro.cli(FinetuneCommand, default=FinetuneCommand(weights=tyro.MISSING, recipe=SCRATCH), **options)
    if name != "pretrain":
        return tyro.cli(COMMANDS[name], **options)
    chosen = rest.pop(0) if rest and not rest[0].startswith("-") else None
    if chosen is None and not any(a in ("-h", "--help") or a.startswith("--resume") for a in rest):
        raise ValueError(f"minimae pretrain wants a recipe: {', '.join(PRETRAIN)}")
    folder = next((Path(a.partition("=")[2] or rest[i + 1]) for i, a in enumerate(rest) if a.startswith("--resume")), None)
    base = load_pretrained(folder).recipe if folder else recipe(chosen or "fashion-demo")
    default = PretrainCommand(recipe=base, out=Path("runs") / (chosen or "pretrain"))
    listed = f"{PretrainCommand.__doc__} Recipes: {', '.join(PRETRAIN)}. The defaults below are those of {chosen or 'fashion-demo'}."
    return tyro.cli(PretrainCommand, default=default, description=listed, **options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it went well, 2 after one clear line on standard error."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] in ("--version", "-V"):
        print(__version__)
        return 0
    started = time.perf_counter()
    try:
        parse(arguments)()
    except Interrupted as stop:
        text, number = stop.args
        print(f"minimae: {text} (after {time.perf_counter() - started:.0f} s)", file=sys.stderr)
        return 0 if number == 15 else 2
    except KeyboardInterrupt:
        print("minimae: stopped", file=sys.stderr)
        return 2
    except (MinimaeError, ValueError, OSError) as error:
        if os.environ.get("MINIMAE_TRACEBACK"):
            raise
        print(f"minimae: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
