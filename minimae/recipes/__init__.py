"""Named recipes: frozen values, each with its source and what it costs. Every field can be overridden on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import nearest
from ..lazy import submodules
from ..tasks.pretrain import Pretrain
from ..train.settings import Settings
from . import imagenet, races, small
from .ablations import ABLATIONS, Variant
from .entries import PEAK, SHARE, Cost, Entry, Knn, for_processes, step_flops
from .small import FASHION, FEW_LABELS, SCRATCH, my_pictures
from .telling import brief, describe_entry, tell

__all__ = [
    "ABLATIONS", "FASHION", "FEW_LABELS", "PRETRAIN", "RECIPES", "SCRATCH", "Cost", "Entry", "Knn", "Variant",
    "brief", "describe", "entry", "for_processes", "known", "listing", "my_pictures", "recipe", "step_flops", "tell",
]  # fmt: skip

RECIPES: dict[str, Entry] = {e.name: e for e in (*small.entries(), *races.entries(), *imagenet.entries())}
PRETRAIN: dict[str, Pretrain] = {name: e.recipe for name, e in RECIPES.items() if isinstance(e.recipe, Pretrain)}


def recipe(name: str) -> Pretrain:
    """A pre-training recipe by name. Raises ValueError with the nearest known name."""
    if name not in PRETRAIN:
        raise ValueError(f"unknown recipe {name!r}{nearest(name, PRETRAIN)}")
    return PRETRAIN[name]


def entry(name: str, *, of: Iterable[str] | None = None) -> Entry:
    """Any recipe by name, with all that stands beside it. Raises ValueError with the nearest known name (``of`` these)."""
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}{nearest(name, of or RECIPES)}")
    return RECIPES[name]


def known(name: str, images: int = 0) -> Entry | None:
    """The entry of a recipe, None where there is no such name; ``my-pictures`` as it is for this many images."""
    listed = RECIPES.get(name)
    return replace(listed, recipe=my_pictures(images)) if listed and name == "my-pictures" and images else listed


def describe(name: str, recipe: Settings | Knn | None = None, *, images: int | None = None, processes: int = 1) -> str:
    """A recipe as text: source, expected result, cost, and every field, as it will run.

    recipe: what the command line made of it; what was changed is marked, and the cost is that of the changed one. images: how many one
    epoch has here. processes: how many train together.
    """
    listed = entry(name)
    resolved = listed if recipe is None and images is None else listed.changed(recipe or listed.recipe, images)
    return describe_entry(resolved, listed, processes)


def listing() -> str:
    """All recipes, one a line: what they do, what the paper reports, what they cost, whether they were run here."""
    head = f"{'recipe':28}{'source':31}{'PFLOP':>12}{'GPU h':>9}  result"
    lines = [head]
    for e in RECIPES.values():
        result = e.ran or (e.result if e.result.startswith("none") else f"the paper: {e.result}; not run here")
        lines.append(f"{e.name:28}{e.source:31}{e.cost.total / 1e15:12,.4g}{e.cost.gpu_hours:9.3g}  {e.what}; {result}")
    gpu = f"one H200 at {SHARE:.0%} of {PEAK / 1e12:.0f} TFLOP/s, which small networks do not reach"
    note = f"PFLOP: 10^15 operations, matmuls only. GPU h: {gpu}."
    return "\n".join([*lines, note])


if not TYPE_CHECKING:  # minimae.recipes.NAME without importing it first
    __getattr__, __dir__ = submodules(__name__, __path__)
