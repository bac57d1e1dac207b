"""The words of a command line → a command, ready to be called. Whatever does not fit is a ValueError of one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import os
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import tyro

from .commands import COMMANDS, FinetuneCommand, KnnCommand, PretrainCommand, TrainProbeCommand
from .recipes import RECIPES, SCRATCH, Entry, entry
from .suggest import nearest
from .tasks.pretrain import Pretrain
from .training.settings import from_dict
from .training.state import saved_settings
from .words import first_words, folder_to_resume, with_words

WITH_RECIPE = {"pretrain": ("pretrain",), "finetune": ("finetune", "partial", "scratch"), "probe": ("probe",), "knn": ("knn",)}
# What other programs call an option, where the words of the two names have nothing in common.
ELSEWHERE = {"lr": "base-lr", "learning-rate": "base-lr", "output": "out", "model": "size", "masking": "sampling", "n-epochs": "epochs"}


def parse(arguments: Sequence[str]) -> Any:
    """Command line → a command, ready to be called. Raises ValueError for what is not known, SystemExit(0) after ``--help``."""
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
        raise ValueError(f"minimae pretrain wants a recipe: {known}")
    base: Any = from_dict(Pretrain, saved_settings(folder, "pretrain")) if folder else (chosen or entry("fashion-demo")).recipe
    if folder and chosen is None and (words := first_words(folder, "pretrain")):
        return replace(understood(words), recipe=base, resume=None)  # with the images and options it was started with
    return PretrainCommand(recipe=base, name=chosen.name if chosen else "")


def continued(name: str, rest: list[str]) -> Any:
    """Fine-tuning or a probe as it was started in the folder that is to be resumed; None where that is not asked for or not known."""
    folder = folder_to_resume(rest)
    words = first_words(folder, name) if folder else []
    if not folder or not words:
        return None
    started = understood(words)
    if not isinstance(started, FinetuneCommand | TrainProbeCommand):
        return None
    return replace(started, recipe=from_dict(type(started.recipe), saved_settings(folder, name)))


def resumed(chosen: Entry | None, rest: list[str]) -> Path | None:
    """The folder after ``--resume``. Raises ValueError when there is none."""
    for i, word in enumerate(rest):
        option, sign, value = word.partition("=")
        if option == "--resume":
            value = value if sign else next(iter(rest[i + 1 : i + 2]), "")
            if not value or value.startswith("-"):
                run = f"runs/{chosen.name}" if chosen else "runs/NAME"
                raise ValueError(f"--resume wants the folder of the run: minimae pretrain --resume {run}")
            return Path(value)
    return None


def read(name: str, command: Any, rest: list[str], *, default: Any = None) -> Any:
    """Let tyro read the options of a command, and put what it has to say about them into one line."""
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


def one_line(box: str) -> str:
    """What tyro draws a box around: its first part, without the frame."""
    lines = [re.sub(r"^[─-]+$", "", line.strip("│|╭╮╰╯+ ")) for line in box.splitlines()]
    body = itertools.takewhile(bool, itertools.dropwhile(lambda line: not line, lines[1:]))
    text = re.sub(r"^Error parsing recipe: ", "", " ".join(body))
    return re.sub(r"\s+([.,])(?=\s|$)", r"\1", text).rstrip(".")


def options(name: str, command: Any, default: Any = None) -> dict[str, list[str]]:
    """The options of a command, each with the values to choose from (none where any value goes), as its help lists them."""
    shown, how = io.StringIO(), {} if default is None else {"default": default}
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(shown):
        tyro.cli(command, args=["--help"], prog=f"minimae {name}", description="", **how)
    found: dict[str, list[str]] = {}
    for line in shown.getvalue().splitlines():
        row = re.match(r"[│|]? {0,2}(-.*)", line)
        if row:
            names = row[1].split("  ")[0]  # what comes after two spaces is the text
            choices = re.search(r"\{((?:[\w-]+,)+[\w-]+)\}", names)
            found |= {option: choices[1].split(",") if choices else [] for option in re.findall(r"--[a-z][a-z0-9-]*", names)}
    return found


def unknown(name: str, command: Any, words: list[str], *, default: Any = None) -> str:
    """What to say about words that a command does not know: which one of its options was probably meant."""
    known = options(name, command, default)
    strange = [word for word in words if word.startswith("-") or "=" in word] or words[:1]
    found = []
    for word in strange:
        option, sign, value = word.partition("=")
        meant = similar(option, known)
        if meant is None:
            found.append(f"minimae {name} has no option {option}" if word.startswith("-") else f"{word!r} is one word too many")
        elif meant == option:  # it is an option, and what follows it does not fit
            found.append(f"{option} takes no value {value!r}")
        else:
            wrong = f"minimae {name} has no option {option}" if word.startswith("-") else f"{word!r} is no option"
            found.append(f"{wrong}; did you mean {meant}{sign}{value}?")
    return "; ".join(found) + ("" if found[-1].endswith("?") else f" (minimae {name} --help lists the options)")


def similar(word: str, known: Iterable[str]) -> str | None:
    """The option that was probably meant: the same letters, a shared word (``--mask-ratio`` → ``--ratio``), or nearly the same letters."""
    bare = word.lstrip("-").replace("_", "-").lower()
    names = [option.removeprefix("--") for option in known]
    bare = ELSEWHERE.get(bare, bare)
    if bare in names or len(begun := [name for name in names if name.startswith(bare)]) == 1:
        return f"--{bare if bare in names else begun[0]}"
    parts = bare.split("-")

    def shared(option: str) -> tuple[float, int]:
        other = option.split("-")
        common = [part for part in parts if part in other]
        return len(common) / len({*parts, *other}), -parts.index(common[0]) if common else -len(parts)

    close = get_close_matches(bare, names, n=1, cutoff=0.75)
    best = max(names, key=shared, default="")
    if not close and best and shared(best)[0] >= 1 / 3:
        close = [best]
    close = close or get_close_matches(bare, names, n=1, cutoff=0.6)
    return f"--{close[0]}" if close else None


def check_seeds(command: Any) -> None:
    """A seed is an integer of 64 bits. Raises ValueError for a larger one, in the command or in its recipe."""
    for f in dataclasses.fields(command):
        value = getattr(command, f.name)
        if dataclasses.is_dataclass(value):
            check_seeds(value)
        elif f.name == "seed" and not -(2**63) <= value < 2**63:
            raise ValueError(f"--seed takes a whole number of 64 bits, from -2^63 to 2^63 - 1, not {value}")
