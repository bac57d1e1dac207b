"""The files that describe a run: numbers as JSON, figures as PNG, and one page with everything."""

from __future__ import annotations

import json
import os
import platform
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from minimae_book.page import html_page, metrics_part, picture, pretraining_parts, table  # noqa: F401 (what commands need for a report)

from .. import __version__
from ..data.types import ImageDataset
from ..errors import MinimaeError
from ..tasks.pretrain import Pretrained
from ..train.task import Result

ENVIRONMENT, COMMAND = "environment.json", "command"  # the file in the run's folder, and its entry for the command line


def environment(device: str) -> dict[str, str]:
    """The machine and the versions: what a reader needs to judge a measurement."""
    return {
        "minimae": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "threads": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
    }


def processor() -> str:
    """The processor's name, with its number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{named[0] if named else platform.processor() or 'unknown'}, {os.cpu_count()} cores"


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def prepare(out: Path, recipe: Any, device: str, words: Sequence[str] = (), *, text: str = "", again: bool = False) -> None:
    """Make the run folder and note recipe, environment and the ``words`` of the command. Raises MinimaeError if it cannot be written.

    text: the recipe with source and cost, for recipe.txt. again: called after the last step of a run that may have been resumed; the words
    stay those that started it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        words = (first_words(out) if again else []) or words
        write_json(out / "recipe.json", asdict(recipe))
        write_json(out / ENVIRONMENT, environment(device) | ({COMMAND: shlex.join(["minimae", *words])} if words else {}))
        if text:
            (out / "recipe.txt").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise MinimaeError(f"cannot write into {out} ({error.strerror}); choose another folder with --out") from None


def first_words(folder: Path, command: str | None = None) -> list[str]:
    """The arguments that started the run in a folder; none if they are unknown or belong to another command."""
    try:
        words = shlex.split(json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))[COMMAND])[1:]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # an older run, or an edited file
        return []
    return words if command is None or words[:1] == [command] else []


def write_page(out: Path, title: str, parts: Sequence[str], recipe: Any, device: str) -> Path:
    """Write one page with these parts, the recipe and the environment; it opens without a server and can be mailed; → its path."""
    facts = {"Recipe": {name: str(value) for name, value in asdict(recipe).items()}, "Environment": environment(device)}
    folded = [f"<details><summary>{name}</summary>{table([('name', 'value'), *rows.items()])}</details>" for name, rows in facts.items()]
    path = out / "report.html"
    path.write_text(html_page(title, [*parts, *folded]), encoding="utf-8")
    return path


def report_pretraining(
    out: Path, trained: Pretrained, train: ImageDataset, test: ImageDataset, result: Result, *, device: str, **given: Any
) -> tuple[Path, str]:
    """Write the page of a pre-training run, with its figures; → its path, and the verdict on the loss.

    The trained model is moved to the CPU. given: the options of :func:`minimae_book.page.pretraining_parts`.
    """
    trained.model.cpu()
    parts, verdict = pretraining_parts(out, trained, train, test, result, **given)
    return write_page(out, f"Pre-training on {train.name}", parts, trained.recipe, device), verdict
