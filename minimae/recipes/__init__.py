"""Named recipes: frozen values, each with its source and its cost. Every field can be overridden on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import nearest
from ..lazy import submodules
from ..tasks.pretrain import Pretrain
from ..train.settings import Settings
from . import dense, files, imagenet, small
from .entries import Cost, Entry, Knn, for_processes, step_flops
from .files import write_recipe
from .small import FASHION, FEW_LABELS, SCRATCH, my_pictures
from .text import brief, describe_entry, describe_run, list_entries

__all__ = [
    "FASHION", "FEW_LABELS", "PRETRAIN", "RECIPES", "SCRATCH", "Cost", "Entry", "Knn", "brief", "describe", "describe_run",
    "entry", "for_processes", "known", "listing", "my_pictures", "read_recipe", "recipe", "step_flops", "write_recipe",
]  # fmt: skip

RECIPES: dict[str, Entry] = {e.name: e for e in (*small.entries(), *imagenet.entries(), *dense.entries())}
PRETRAIN: dict[str, Pretrain] = {name: e.recipe for name, e in RECIPES.items() if isinstance(e.recipe, Pretrain)}


def recipe(name: str) -> Pretrain:
    """A pre-training recipe by name. Raises ValueError with the nearest known name."""
    if name not in PRETRAIN:
        raise ValueError(f"unknown recipe {name!r}{nearest(name, PRETRAIN)}")
    return PRETRAIN[name]


def entry(name: str, *, of: Iterable[str] | None = None) -> Entry:
    """Any recipe by name, with its source, cost and result. Raises ValueError with the nearest known name (among ``of``)."""
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}{nearest(name, of or RECIPES)}")
    return RECIPES[name]


def read_recipe(path: str | Path) -> Entry:
    """The recipe of a YAML or JSON file, as :func:`write_recipe` writes it; see :mod:`minimae.recipes.files` for what it raises."""
    return files.read_recipe(Path(path), RECIPES)


def known(name: str, images: int = 0) -> Entry | None:
    """The entry of a recipe, or None for an unknown name; ``my-pictures`` is sized for this many images."""
    listed = RECIPES.get(name)
    return replace(listed, recipe=my_pictures(images)) if listed and name == "my-pictures" and images else listed


def describe(name: str, recipe: Settings | Knn | None = None, *, images: int | None = None, processes: int = 1) -> str:
    """A recipe as text: source, expected result, cost, and every field.

    recipe: a changed copy; its changes are marked, and the cost is for the copy. images: the number in one epoch. processes: how many train
    together.
    """
    listed = entry(name)
    return describe_entry(listed.changed(recipe or listed.recipe, images), listed, processes)


def listing() -> str:
    """All recipes as text, one per line."""
    return list_entries(RECIPES.values())


if not TYPE_CHECKING:  # minimae.recipes.NAME without importing it first
    submodule, __dir__ = submodules(__name__, __path__)

    def __getattr__(name: str) -> object:
        if name in ("ABLATIONS", "Variant"):  # until version 0.8
            return getattr(import_module("minimae.recipes.ablations"), name)
        return submodule(name)
