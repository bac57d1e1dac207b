"""The command that started a run is stored in its folder, so that ``--resume`` alone continues with the same images and options."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

ENVIRONMENT, COMMAND = "environment.json", "command"  # the file in the run's folder, and its entry for the command


def with_words(command: Any, words: Sequence[str]) -> Any:
    """Store the command line in a command that trains; return others unchanged."""
    if hasattr(command, "words"):
        return replace(command, words=tuple(words))
    if hasattr(getattr(command, "run", None), "words"):
        return replace(command, run=replace(command.run, words=tuple(words)))
    return command


def first_words(folder: Path, command: str | None = None) -> list[str]:
    """The arguments that started the run in a folder; none if they are unknown or belong to another command."""
    try:
        words = shlex.split(json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))[COMMAND])[1:]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # an older run, or an edited file
        return []
    return words if command is None or words[:1] == [command] else []


def folder_to_resume(rest: Sequence[str]) -> Path | None:
    """The folder of ``--out FOLDER --resume``, which continues fine-tuning or a probe; None without these options."""
    given = dict(zip(rest, [*rest[1:], ""], strict=True)) | dict(word.split("=", 1) for word in rest if word.startswith("--out="))
    asked = "--resume" in rest or "--run.resume" in rest
    return Path(given["--out"]) if asked and given.get("--out") else None
