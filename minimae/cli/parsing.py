"""The words of a command line → a command, ready to be called. Errors are a ValueError of one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tyro

from ..data import NAMES, load
from ..data.folder import listing
from ..recipes import RECIPES, SCRATCH, Entry, entry, my_pictures
from ..suggest import nearest
from ..tasks.pretrain import Pretrain
from ..train.settings import from_dict
from ..train.state import saved_settings
from .commands import COMMANDS, FinetuneCommand, KnnCommand, PretrainCommand, TrainProbeCommand
from .meant import one_line, unknown
from .words import first_words, folder_to_resume, with_words

WITH_RECIPE = {"pretrain": ("pretrain",), "finetune": ("finetune", "partial", "scratch"), "probe": ("probe",), "knn": ("knn",)}


def parse(arguments: Sequence[str]) -> Any:
    """Command line → a command, ready to be called. Raises ValueError for unknown words, SystemExit(0) after ``--help``."""
    arguments = [at_home(word) for word in arguments]
    return with_words(understood(arguments), arguments)


def understood(arguments: list[str]) -> Any:
    """The command that the words stand for."""
    words = 2 if " ".join(arguments[:2]) in COMMANDS else 1
    name, rest = " ".join(arguments[:words]), arguments[words:]
    if name not in COMMANDS:
        raise ValueError(f"unknown command {name!r}{nearest(name, COMMANDS)}")
    chosen = named_recipe(name, rest) if name in WITH_RECIPE else None
    command: Any = COMMANDS[name]
    if name == "pretrain":
        return read(name, command, rest, default=pretraining(chosen, rest))
    if name in ("finetune", "probe") and chosen is None and (started := continued(name, rest)) is not None:
        return read(name, type(started), rest, default=started)
    if name == "finetune":
        scratch = "--scratch" in rest or (chosen is not None and chosen.kind == "scratch")
        base: Any = chosen.recipe if chosen else SCRATCH if scratch else FinetuneCommand().recipe
        return read(name, command, rest, default=FinetuneCommand(recipe=base, name=chosen.name if chosen else "", scratch=scratch))
    if chosen is not None:
        command = KnnCommand if name == "knn" else TrainProbeCommand
        return read(name, command, rest, default=command(weights=tyro.MISSING, recipe=chosen.recipe, name=chosen.name))
    return read(name, command, rest)


def at_home(word: str) -> str:
    """``--out=~/x`` → ``--out=HOME/x``: shells expand a ~ only where a word begins."""
    option, sign, value = word.partition("=") if word.startswith("-") else ("", "", word)
    home = os.path.expanduser(value)
    if home.startswith("~"):
        if not os.path.exists(value):
            raise ValueError(f"{value}: ~ stands for a home folder, and there is no user of that name here")
        home = os.path.abspath(value)
    return option + sign + home


def named_recipe(command: str, rest: list[str]) -> Entry | None:
    """The recipe that is named first, taken off the rest. Raises ValueError for an unknown one, or when another command is meant for it."""
    if not rest or rest[0].startswith("-"):
        return None
    if "=" in rest[0]:
        raise ValueError(unknown(command, COMMANDS[command], rest[:1]))
    chosen = entry(rest.pop(0), of=[e.name for e in RECIPES.values() if e.kind in WITH_RECIPE[command]])
    if chosen.kind not in WITH_RECIPE[command]:
        right = next(c for c, kinds in WITH_RECIPE.items() if chosen.kind in kinds)
        raise ValueError(f"{chosen.name} is a recipe for minimae {right}, not for {command}")
    return chosen


def pretraining(chosen: Entry | None, rest: list[str]) -> PretrainCommand:
    """The defaults of ``minimae pretrain``: those of a named recipe, or of the run in a folder."""
    folder = resumed(chosen, rest)
    if chosen is None and folder is None and not {"-h", "--help"} & set(rest):
        known = ", ".join(name for name, e in RECIPES.items() if e.kind == "pretrain")
        raise ValueError(f"minimae pretrain needs a recipe: {known}")
    if folder:
        base: Any = from_dict(Pretrain, saved_settings(folder, "pretrain"))
    elif chosen and chosen.name == "my-pictures":
        base = for_my_pictures(rest)
    else:
        base = (chosen or entry("fashion-demo")).recipe
    if folder and (words := first_words(folder, "pretrain")):  # with the images and options it was started with
        started = understood(words)
        return replace(started, recipe=base, resume=None, name=chosen.name if chosen else started.name)
    return PretrainCommand(recipe=base, name=chosen.name if chosen else "")


def continued(name: str, rest: list[str]) -> Any:
    """Fine-tuning or a probe as first started in the folder to resume; None without --resume, or if it is unknown."""
    folder = folder_to_resume(rest)
    words = first_words(folder, name) if folder else []
    if not folder or not words:
        return None
    started = understood(words)
    if not isinstance(started, FinetuneCommand | TrainProbeCommand):
        return None
    return replace(started, recipe=from_dict(type(started.recipe), saved_settings(folder, name)))


def for_my_pictures(rest: list[str]) -> Pretrain:
    """The recipe ``my-pictures`` for as many pictures as there are in ``--data``. Raises ValueError when that is missing."""
    if {"-h", "--help"} & set(rest):
        return my_pictures(200)
    name, limit = value_of("--data", rest), value_of("--limit", rest)
    if not name:
        raise ValueError("my-pictures needs your folder of pictures: minimae pretrain my-pictures --data FOLDER")
    count = len(load(name)) if name in NAMES else len(listing(Path(name)).names)
    return my_pictures(min(count, int(limit)) if limit and limit.isdecimal() and int(limit) else count)


def value_of(option: str, rest: list[str]) -> str | None:
    """The value of an option: "" when it stands there without one, None when the option is not there."""
    for i, word in enumerate(rest):
        name, sign, value = word.partition("=")
        if name == option:
            value = value if sign else next(iter(rest[i + 1 : i + 2]), "")
            return "" if value.startswith("-") else value
    return None


def resumed(chosen: Entry | None, rest: list[str]) -> Path | None:
    """The folder after ``--resume``. Raises ValueError when there is none."""
    folder = value_of("--resume", rest)
    if folder == "":
        run = f"runs/{chosen.name}" if chosen else "runs/NAME"
        raise ValueError(f"--resume needs the folder of the run: minimae pretrain --resume {run}")
    return None if folder is None else Path(folder)


def read(name: str, command: Any, rest: list[str], *, default: Any = None) -> Any:
    """Let tyro parse the options of a command, and put its errors into one line."""
    how: dict[str, Any] = {} if default is None else {"default": default}
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            how |= {"prog": f"minimae {name}", "description": description(command, default)}
            made, left = tyro.cli(command, args=rest, return_unknown_args=True, **how)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ValueError(f"{one_line(errors.getvalue())} (minimae {name} --help lists the options)") from None
    recipe, known = getattr(made, "name", ""), getattr(default, "name", "")
    if name in WITH_RECIPE and recipe != known:
        if recipe in RECIPES:
            raise ValueError(f"the recipe comes first: minimae {name} {recipe} …")
        left = [recipe, *left]
    if left:
        raise ValueError(unknown(name, command, left, default=default))
    check_seeds(made)
    return made


def description(command: Any, default: Any) -> str:
    """The docstring of a command, in lines that fit a terminal."""
    text = " ".join((command.__doc__ or "").split())
    if isinstance(default, PretrainCommand):
        text += f" The defaults below are those of {default.name or 'fashion-demo'}."
    return textwrap.fill(text, 80, subsequent_indent="  ")  # tyro joins lines, unless they are indented


def check_seeds(command: Any) -> None:
    """A seed is an integer of 64 bits. Raises ValueError for a larger one, in the command or in its recipe."""
    for f in dataclasses.fields(command):
        value = getattr(command, f.name)
        if dataclasses.is_dataclass(value):
            check_seeds(value)
        elif f.name == "seed" and not -(2**63) <= value < 2**63:
            raise ValueError(f"--seed takes a whole number of 64 bits, from -2^63 to 2^63 - 1, not {value}")
