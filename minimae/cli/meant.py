"""Suggest the intended option for a mistyped word on the command line, and put tyro's message into one line."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import tyro

# Other programs' names of options that share no word with ours.
ELSEWHERE = {"lr": "base-lr", "learning-rate": "base-lr", "output": "out", "model": "size", "masking": "sampling", "n-epochs": "epochs"}


def one_line(box: str) -> str:
    """The first part of tyro's boxed message, without the frame."""
    lines = [re.sub(r"^[─-]+$", "", line.strip("│|╭╮╰╯+ ")) for line in box.splitlines()]
    body = [*itertools.takewhile(bool, itertools.dropwhile(lambda line: not line, lines[1:]))]
    if body and (missing := re.match(r"Missing from (.+):$", body[0])):
        return f"{missing[1]} needs {lacking(box)}"
    text = re.sub(r"^Error parsing recipe: ", "", " ".join(body))
    return re.sub(r"\s+([.,])(?=\s|$)", r"\1", text).rstrip(".")


def lacking(box: str) -> str:
    """The arguments in tyro's box of missing ones, each with what it is: names stand four columns in, and their texts eight."""
    found: list[list[str]] = []
    for line in box.split("For full helptext")[0].splitlines():
        row = re.match(r"[│| ] ( {4}| {8})(\S.*?)[│|\s]*$", line)
        if row and len(row[1]) == 4:
            found.append([row[2]])
        elif row:
            found[-1].append(row[2])
    texts = [" ".join(words).removesuffix("(required)").rstrip(" .") for _, *words in found]
    return "; ".join(f"{name} ({text})" for (name, *_), text in zip(found, texts, strict=True))


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
    """The message for unknown words of a command: which option was probably meant."""
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
