"""Each task is a recipe type and a step for the loop."""

from typing import TYPE_CHECKING

from ..lazy import submodules

if not TYPE_CHECKING:  # minimae.tasks.NAME without importing it first
    __getattr__, __dir__ = submodules(__name__, __path__)
