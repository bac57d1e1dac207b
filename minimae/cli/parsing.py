"""Turn the words of a command line into a command, ready to be called. Errors are a ValueError of one line."""

from __future__ import annotations

import contextlib
import io
import os
import pkgutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tyro

from ..data import NAMES, open_images
from ..data.stream import open_stream
from ..errors import nearest
from ..recipes import RECIPES, SCRATCH, Entry, entry, my_pictures, read_recipe
from ..recipes.files import SUFFIXES
from ..train.folder import saved_settings
from ..train.settings import from_dict
from .commands import COMMANDS, DATA_FIRST, RECIPE_KINDS, RENAMED, TRAIN_PROBE, command_class, command_for
from .mistakes import one_line, options, unknown

HELP = {"-h", "--help"}


def parse(arguments: Sequence[str]) -> Any:
    """Command line → a command, ready to be called. Raises ValueError for unknown words, SystemExit(0) after ``--help``."""
    words = with_new_names([with_home(word) for word in arguments])
    command = understood(words)
    return replace(command, words=tuple(words)) if hasattr(command, "words") else command


def with_home(word: str) -> str:
    """``--out=~/x`` → ``--out=HOME/x``: shells expand a ~ only at the start of a word."""
    option, sign, value = word.partition("=") if word.startswith("-") else ("", "", word)
    home = os.path.expanduser(value)
    if home.startswith("~"):
        if not os.path.exists(value):
            raise ValueError(f"{value}: ~ stands for a home folder, and there is no user of that name here")
        home = os.path.abspath(value)
    return option + sign + home


def with_new_names(words: list[str]) -> list[str]:
    """Replace old names of commands and options by the new ones, with a notice on standard error."""
    for old, new in RENAMED.items():
        parts = old.split()
        i = 0 if words[: len(parts)] == parts else words.index(old) if old in words[1:] else None
        if i is not None:
            print(f"minimae: {old} is now {new}; the old name will be removed in version 0.8", file=sys.stderr)
            words[i : i + len(parts)] = new.split()
    return words


def understood(words: Sequence[str], saved: Any = None) -> Any:
    """The command of these words. saved: the recipe of a run to resume, which replaces the named one."""
    count = 2 if " ".join(words[:2]) in COMMANDS else 1
    name, rest = " ".join(words[:count]), list(words[count:])
    if name not in COMMANDS:
        raise ValueError(f"unknown command {name!r}{nearest(name, COMMANDS)}")
    default = defaults(name, rest, saved) if name in RECIPE_KINDS else None
    return read(name, command_class(name) if default is None else type(default), rest, default)


def defaults(name: str, rest: list[str], saved: Any = None) -> Any:
    """The command before its options are read: with the named recipe, or with the options of the run to resume; None means defaults.

    Removes the recipe's name from ``rest``.
    """
    file = rest[0] if rest and rest[0].endswith(SUFFIXES) and not rest[0].startswith("-") else None
    chosen = named_recipe(name, rest, saved is not None)
    folder = None if saved else folder_to_resume(name, chosen, rest)
    if folder is not None:
        started = with_its_batch(as_started(name, folder), rest)
        other = value_of("--out", rest)
        if other and Path(other).resolve() != folder.resolve():
            raise ValueError(f"--resume continues the run in {folder}, and --out names {other}: leave one of them out")
        if chosen and started.name and chosen.name != started.name:
            raise ValueError(f"the run in {folder} is one of {started.name}, not {chosen.name}: leave the recipe out, or start a new run")
        return replace(started, name=chosen.name) if chosen else started
    if name == "pretrain" and chosen is None:
        if saved is None and not HELP & set(rest):
            known = ", ".join(known for known, e in RECIPES.items() if e.kind == name)
            raise ValueError(f"minimae pretrain needs a recipe: {known}")
        saved = saved or entry("fashion-demo").recipe
    if chosen is not None and chosen.name == "my-pictures" and file is None and saved is None:
        saved = for_my_pictures(rest)
    recipe = saved or (chosen.recipe if chosen else SCRATCH if name == "finetune" and "--scratch" in rest else None)
    if recipe is None:
        return None
    given: dict[str, Any] = {"recipe": recipe, "name": chosen.name if chosen else ""}
    if name == "pretrain" and file is not None:
        given["out"] = Path("runs") / Path(file).stem
    if name in ("knn", "probe"):
        given["weights"] = tyro.MISSING
    if chosen is not None and chosen.kind == "scratch":
        given["scratch"] = True
    return pkgutil.resolve_name(TRAIN_PROBE)(**given) if name == "probe" else command_class(name)(**given)


def named_recipe(command: str, rest: list[str], resumed: bool = False) -> Entry | None:
    """The recipe or file that is named first, removed from the rest. Raises ValueError if it is unknown or another command's."""
    if command in DATA_FIRST:  # the option stays among the rest
        return entry(word, of=[e.name for e in RECIPES.values() if e.kind == command]) if (word := value_of("--recipe", rest)) else None
    if not rest or rest[0].startswith("-"):
        return None
    if "=" in rest[0]:
        raise ValueError(unknown(command, rest[:1], options(command, command_class(command))))
    word = rest.pop(0)
    if not word.endswith(SUFFIXES):
        chosen = entry(word, of=[e.name for e in RECIPES.values() if e.kind in RECIPE_KINDS[command]])
    elif resumed and not Path(word).is_file():  # the run has a copy of its recipe
        return None
    else:
        chosen = read_recipe(word)
    if chosen.kind not in RECIPE_KINDS[command]:
        raise ValueError(f"{word} is a recipe for minimae {command_for(chosen)}, not for {command}")
    return chosen


def folder_to_resume(name: str, chosen: Entry | None, rest: list[str]) -> Path | None:
    """The folder of ``pretrain --resume FOLDER``, or of ``--out FOLDER --resume``. Raises ValueError when pretrain names none."""
    if name == "pretrain":
        folder = value_of("--resume", rest)
        if folder == "":
            raise ValueError(f"--resume needs the folder of the run: minimae pretrain --resume runs/{chosen.name if chosen else 'NAME'}")
    else:
        folder = value_of("--out", rest) if "--resume" in rest and name != "knn" else None
    return Path(folder) if folder else None


def as_started(name: str, folder: Path) -> Any:
    """The command that started the run in a folder: its images, its options, and its recipe as saved there."""
    from .report import first_words

    module = "probe_train" if name == "probe" else name
    saved = from_dict(pkgutil.resolve_name(f"minimae.tasks.{module}:{name.title()}"), saved_settings(folder, name))
    words = first_words(folder, name)
    if not words:
        return defaults(name, [], saved)
    return replace(understood(words, saved), recipe=saved, **({"resume": None} if name == "pretrain" else {}))


def with_its_batch(started: Any, rest: list[str]) -> Any:
    """The same images per optimizer step with the ``--batch`` of these words: several processes had shared it, and saved their part."""
    recipe, batch = started.recipe, value_of("--batch", rest) or ""
    window = recipe.batch * recipe.accumulate
    if not batch.isdecimal() or not int(batch) or window % int(batch) or value_of("--accumulate", rest):
        return started
    return replace(started, recipe=replace(recipe, accumulate=window // int(batch)))


def for_my_pictures(rest: list[str]) -> Any:
    """The recipe ``my-pictures``, sized for the pictures in ``--data``. Raises ValueError when that is missing."""
    if HELP & set(rest):
        return my_pictures(200)
    name, limit = value_of("--data", rest), value_of("--limit", rest)
    if not name:
        raise ValueError("my-pictures needs your folder of pictures: minimae pretrain my-pictures --data FOLDER")
    given: dict[str, Any] = {"download": "--download" in rest, "root": value_of("--data-root", rest) or None}
    count = len(open_images(name, **given)) if name in NAMES else len(open_stream(Path(name)))
    return my_pictures(min(count, int(limit)) if limit and limit.isdecimal() and int(limit) else count)


def value_of(option: str, rest: list[str]) -> str | None:
    """The value of an option: "" when the option has none, None when the option is missing."""
    for word, following in zip(rest, [*rest[1:], "-"]):
        name, sign, value = word.partition("=")
        if name == option:
            value = value if sign else following
            return "" if value.startswith("-") else value
    return None


def read(name: str, command: Any, rest: list[str], default: Any = None) -> Any:
    """Let tyro read the options of a command. Its errors become a ValueError of one line."""
    text = " ".join((command.__doc__ or "").split())
    if name == "pretrain":
        text += f" The defaults below are those of {default.name or 'fashion-demo'}."
    given: dict[str, Any] = {} if default is None else {"default": default}
    given["description"] = textwrap.fill(text, 80, subsequent_indent="  ")  # tyro joins lines, unless they are indented
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            made, left = tyro.cli(command, args=rest, return_unknown_args=True, prog=f"minimae {name}", **given)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ValueError(f"{one_line(errors.getvalue())} (minimae {name} --help lists the options)") from None
    recipe = getattr(made, "name", "")
    if name in RECIPE_KINDS and recipe != getattr(default, "name", ""):
        if recipe in RECIPES:
            raise ValueError(f"the recipe comes first: minimae {name} {recipe} …")
        left = [recipe, *left]
    if left:
        raise ValueError(unknown(name, left, options(name, command, default)))
    if not -(2**63) <= getattr(made, "seed", 0) < 2**63:
        raise ValueError(f"--seed takes a whole number of 64 bits, from -2^63 to 2^63 - 1, not {made.seed}")
    return made
