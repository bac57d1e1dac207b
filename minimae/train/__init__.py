"""One loop for every task: schedule, optimizers, checkpoints, logging."""

from typing import TYPE_CHECKING

from ..lazy import submodules

if not TYPE_CHECKING:  # minimae.train.NAME without importing it first
    __getattr__, __dir__ = submodules(__name__, __path__)
