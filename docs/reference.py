"""The pages of the API reference: one for each room, and on them every public module once. ``conf.py`` writes them into docs/api."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOMES = {"minimae": ROOT, "minimae_book": ROOT / "notebooks"}  # the folder that holds each package
READING_ORDER = ["patches", "masking", "positions", "sizes", "vit", "decoder", "targets", "mae"]  # of minimae.model

# Page: the package it describes, its title, and its first words. A module belongs to the page of the longest package that holds it.
PAGES = {
    "minimae": ("minimae", "The package", "What `from minimae import …` gives, and the small modules that all others use."),
    "model": (
        "minimae.model",
        "The model",
        "The core, in reading order: what chapters 01 to 06 build. The [glossary](../glossary.md) explains the axis letters.",
    ),
    "data": ("minimae.data", "Data", "Images by name, from files, or drawn; crops and flips that are functions of seed, epoch and sample."),
    "train": ("minimae.train", "Training", "The loop, for one process or many, and what it needs (chapter 07)."),
    "tasks": ("minimae.tasks", "Tasks", "Pre-training, fine-tuning, probes, k-NN, features, reconstruction (chapters 07 to 10)."),
    "weights": ("minimae.weights", "Weights", "Other libraries' weights, and ours for them: [how to use it](../weights.md)."),
    "recipes": ("minimae.recipes", "Recipes", "Named settings, each with its source and its cost."),
    "cli": ("minimae.cli", "Command line", "One module for a command. `minimae help COMMAND` lists its options."),
    "book": ("minimae_book", "The book", "What only the chapters use: predictions, checks, figures."),
    "evidence": (
        "minimae_book.evidence",
        "Evidence",
        "The paper's claims, tested at a scale that a reader can repeat: [what came of each](../evidence.md).",
    ),
    "bench": ("minimae_book.bench", "Benchmarks", "A training step beside the same model in two libraries: [results](../benchmarks.md)."),
}


def modules() -> Iterator[str]:
    """The names of all public modules of both packages."""
    for package, home in HOMES.items():
        for path in sorted((home / package).rglob("*.py")):
            name = ".".join(path.relative_to(home).with_suffix("").parts).removesuffix(".__init__")
            if not any(part.startswith("_") for part in name.split(".")):
                yield name


def page_of(module: str) -> str:
    """The page that a module belongs to."""
    fitting = {package: page for page, (package, *_) in PAGES.items() if f"{module}.".startswith(f"{package}.")}
    return fitting[max(fitting, key=len)]


def order(module: str) -> tuple[int, str]:
    """Packages come before their modules; the core stands in reading order, everything else by name."""
    last = module.rpartition(".")[2]
    first = READING_ORDER.index(last) if module.startswith("minimae.model.") and last in READING_ORDER else len(READING_ORDER)
    return (-1 if module in [package for package, *_ in PAGES.values()] else first), module


def page(name: str) -> str:
    """The Markdown of one page."""
    _, title, words = PAGES[name]
    sections = [f"# {title}\n\n{words}\n"]
    for module in sorted((m for m in modules() if page_of(m) == name), key=order):
        sections.append(f"## {module}\n\n```{{eval-rst}}\n.. automodule:: {module}\n   :ignore-module-all:\n```\n")
    return "\n".join(sections)


def commands(names: Iterable[str] | None = None) -> str:
    """The Markdown of the page of the command line: what ``minimae help COMMAND`` prints. names: by default those of all commands."""
    from minimae.cli.commands import COMMANDS
    from minimae.cli.program import usage

    sections = [f"# The commands\n\nWhat `minimae help COMMAND` prints.\n\n```text\n{usage()}\n```\n"]
    for name in COMMANDS if names is None else names:
        done = subprocess.run(
            [sys.executable, "-m", "minimae", *name.split(), "--help"], capture_output=True, text=True, check=True,
            env={**os.environ, "COLUMNS": "80", "PYTHONPATH": os.pathsep.join(map(str, HOMES.values())), "NO_COLOR": "1"},
        )  # fmt: skip
        sections.append(f"## minimae {name}\n\n```text\n{done.stdout.strip()}\n```\n")
    return "\n".join(sections)


def write(folder: Path) -> None:
    """Write all pages into a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "commands.md").write_text(commands(), encoding="utf-8")
    for name in PAGES:
        (folder / f"{name}.md").write_text(page(name), encoding="utf-8")
