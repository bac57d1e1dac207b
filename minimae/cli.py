"""The command line: ``minimae COMMAND --help``."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from . import __version__
from .commands import COMMANDS, FinetuneCommand, KnnCommand, PretrainCommand, TrainProbeCommand
from .errors import Interrupted, MinimaeError
from .recipes import RECIPES, SCRATCH, Entry, entry
from .suggest import nearest
from .tasks.pretrain import Pretrain
from .training.distributed import leave
from .training.settings import from_dict
from .training.state import saved_settings

WITH_RECIPE = {"pretrain": ("pretrain",), "finetune": ("finetune", "partial", "scratch"), "probe": ("probe",), "knn": ("knn",)}


def usage() -> str:
    """The list of commands, one line each."""
    lines = [f"  {name:15}{(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
    return (
        f"minimae {__version__}: masked autoencoders\n\nminimae COMMAND --help tells the options of a command:\n"
        + "\n".join(lines)
        + "\n\npretrain, probe, finetune and knn take the name of a recipe first; minimae recipes lists them.\n"
        "After an error, MINIMAE_TRACEBACK=1 shows where it came from."
    )


def parse(arguments: Sequence[str]) -> Any:
    """Command line → a command, ready to be called. Raises ValueError for a name that is not known."""
    words = 2 if " ".join(arguments[:2]) in COMMANDS else 1
    name, rest = " ".join(arguments[:words]), list(arguments[words:])
    if name not in COMMANDS:
        raise ValueError(f"unknown command {name!r}{nearest(name, COMMANDS)}")
    options: dict[str, Any] = {"prog": f"minimae {name}"}
    chosen = named_recipe(name, rest) if name in WITH_RECIPE else None
    if name == "pretrain":
        return parse_pretrain(chosen, rest, options)
    if name == "finetune":
        scratch = "--scratch" in rest or (chosen is not None and chosen.kind == "scratch")
        base = chosen.recipe if chosen else SCRATCH if scratch else FinetuneCommand().recipe
        default: Any = FinetuneCommand(recipe=base, name=chosen.name if chosen else "", scratch=scratch)  # type: ignore[arg-type]
        return tyro.cli(FinetuneCommand, default=default, args=rest, **options)
    if chosen is not None:
        command: Any = KnnCommand if name == "knn" else TrainProbeCommand
        return tyro.cli(command, default=command(weights=tyro.MISSING, recipe=chosen.recipe, name=chosen.name), args=rest, **options)
    return tyro.cli(COMMANDS[name], args=rest, **options)


def named_recipe(command: str, rest: list[str]) -> Entry | None:
    """The recipe that is named first, taken off the rest. Raises ValueError when another command is meant for it."""
    if not rest or rest[0].startswith("-"):
        return None
    chosen = entry(rest.pop(0), of=[e.name for e in RECIPES.values() if e.kind in WITH_RECIPE[command]])
    if chosen.kind not in WITH_RECIPE[command]:
        right = next(c for c, kinds in WITH_RECIPE.items() if chosen.kind in kinds)
        raise ValueError(f"{chosen.name} is a recipe for minimae {right}, not for {command}")
    return chosen


def parse_pretrain(chosen: Entry | None, rest: list[str], options: dict[str, Any]) -> Any:
    """The command of a named recipe, or of the run in a folder."""
    if chosen is None and not any(a in ("-h", "--help") or a.startswith("--resume") for a in rest):
        known = ", ".join(name for name, e in RECIPES.items() if e.kind == "pretrain")
        raise ValueError(f"minimae pretrain wants a recipe: {known}")
    name = chosen.name if chosen else ""
    folder = next((Path(a.partition("=")[2] or rest[i + 1]) for i, a in enumerate(rest) if a.startswith("--resume")), None)
    base: Any = from_dict(Pretrain, saved_settings(folder, "pretrain")) if folder else (chosen or entry("fashion-demo")).recipe
    default = PretrainCommand(recipe=base, name=name)
    listed = f"{PretrainCommand.__doc__} minimae recipes lists them. The defaults below are those of {name or 'fashion-demo'}."
    return tyro.cli(PretrainCommand, default=default, description=listed, args=rest, **options)


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
        with contextlib.ExitStack() as ends:
            if os.environ.get("RANK", "0") != "0":  # of several processes, the first speaks; errors are told by all
                ends.enter_context(contextlib.redirect_stdout(ends.enter_context(open(os.devnull, "w"))))
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
    except RuntimeError as error:
        from .data.workers import death_of_a_worker, tells_a_death

        if os.environ.get("MINIMAE_TRACEBACK") or not tells_a_death(error):
            raise
        print(f"minimae: {death_of_a_worker(error)}", file=sys.stderr)
        return 2
    finally:
        leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
