"""Messages for a faulty command line: tyro's errors in one line, and the option that was probably meant."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import tyro

from ..errors import nearest

# Other programs' names for options, where they share no word with ours.
ELSEWHERE = {"lr": "base-lr", "learning-rate": "base-lr", "output": "out", "model": "size", "masking": "sampling", "n-epochs": "epochs"}


def one_line(box: str) -> str:
    """The first part of tyro's boxed message, without the frame."""
    lines = [re.sub(r"^[─-]+$", "", line.strip("│|╭╮╰╯+ ")) for line in box.splitlines()]
    body = [*itertools.takewhile(bool, itertools.dropwhile(lambda line: not line, lines[1:]))]
    if body and (missing := re.match(r"Missing from (.+):$", body[0])):
        return f"{missing[1]} needs {missing_arguments(box)}"
    text = re.sub(r"\s+([.,])(?=\s|$)", r"\1", re.sub(r"^Error parsing recipe: ", "", " ".join(body))).rstrip(".")
    if choice := re.match(r"invalid choice '(.*)' for argument '(\S+)'\. Expected one of \((.+)\)", text):
        value, option, known = choice.groups()
        return f"{option} has no {value!r}{nearest(value, [name.strip(chr(39)) for name in known.split(', ')])}".rstrip(".")
    return text


def missing_arguments(box: str) -> str:
    """The missing arguments in tyro's box, each with its help: names are indented by four columns, and help by eight."""
    arguments: list[list[str]] = []
    rows = re.findall(r"^[│| ] ( {4}| {8})(\S.*?)[│|\s]*$", box.split("For full helptext")[0], re.MULTILINE)
    for indent, words in rows:
        if len(indent) == 4:
            arguments.append([words])
        else:
            arguments[-1].append(words)
    texts = [" ".join(lines).removesuffix("(required)").rstrip(" .") for _, *lines in arguments]
    return "; ".join(f"{name} ({text})" for (name, *_), text in zip(arguments, texts))


def options(name: str, command: Any, default: Any = None) -> dict[str, list[str]]:
    """The options of a command, each with its choices (none where any value goes), as its help lists them."""
    shown, given = io.StringIO(), {} if default is None else {"default": default}
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(shown):
        tyro.cli(command, args=["--help"], prog=f"minimae {name}", description="", **given)
    listed: dict[str, list[str]] = {}
    for row in re.findall(r"^[│|]? {0,2}(-.*?)(?:  |$)", shown.getvalue(), re.MULTILINE):  # two spaces end the names
        choices = re.search(r"\{((?:[\w-]+,)+[\w-]+)\}", row)
        listed |= {option: choices[1].split(",") if choices else [] for option in re.findall(r"--[a-z][a-z0-9-]*", row)}
    return listed


def unknown(name: str, words: list[str], known: Iterable[str]) -> str:
    """The message for words that a command with these options does not know."""
    messages = []
    for word in [word for word in words if word.startswith("-") or "=" in word] or words[:1]:
        option, sign, value = word.partition("=")
        meant = similar(option, known)
        wrong = f"minimae {name} has no option {option}" if word.startswith("-") else f"{word!r} is no option"
        if word.startswith("-") and os.path.exists(word):
            messages.append(f"{wrong}; for the file of this name, write ./{word}")
        elif meant is None:
            messages.append(wrong if word.startswith("-") else f"{word!r} is one word too many")
        elif meant == option:  # it is an option, and what follows it does not fit
            messages.append(f"{option} takes no value {value!r}")
        else:
            messages.append(f"{wrong}; did you mean {meant}{sign}{value}?")
    return "; ".join(messages) + ("" if messages[-1].endswith("?") else f" (minimae {name} --help lists the options)")


def similar(word: str, known: Iterable[str]) -> str | None:
    """The option that was probably meant: the one that begins with these letters, or the one with the most similar name."""
    names = [option.removeprefix("--") for option in known]
    bare = word.lstrip("-").replace("_", "-").lower()
    bare = ELSEWHERE.get(bare, bare)
    begun = [name for name in names if name.startswith(bare)]
    close = [bare] if bare in names else begun if len(begun) == 1 else get_close_matches(bare, names, n=1, cutoff=0.6)
    return f"--{close[0]}" if close else None
