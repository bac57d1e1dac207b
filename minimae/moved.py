"""Old names, until version 0.8: ``from minimae.masking import random_mask`` still works, with a DeprecationWarning."""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODEL = ("patches", "masking", "positions", "vit", "decoder", "targets", "mae", "sizes", "checks", "calls")
TRAIN = {"optimisers": "optim", "bands": "loss_bands", "graphs": "cuda_graph", "logs": "log"}
MOVED = {
    **{f"minimae.{room}.{old}": f"minimae.train.{new}" for room in ("training", "train") for old, new in TRAIN.items()},
    **{f"minimae.{name}": f"minimae.model.{name}" for name in MODEL},
    **{f"minimae.{name}": f"minimae.data.{name}" for name in ("augment", "pixels")},
    **{f"minimae.data.{old}": f"minimae.data.{new}" for old, new in (("source", "images"), ("arrays", "pixels"), ("rehearsal", "photos"))},
    "minimae.noise": "minimae.random",
    "minimae.jitter": "minimae.data.augment",
    "minimae.training": "minimae.train",
    "minimae.interop.exporting": "minimae.weights.export",
    "minimae.weights.exporting": "minimae.weights.export",
    "minimae.interop": "minimae.weights",
    "minimae.book": "minimae_book",
    "minimae.plots": "minimae_book.figures",
    "minimae.reproduce": "minimae_book.evidence",
    "minimae.recipes.ablations": "minimae_book.evidence.ablations",
    "minimae.recipes.races": "minimae_book.evidence.race",
    "minimae.tasks.mixing": "minimae.data.mixing",
    "minimae.tasks.dense": "minimae_book.evidence.dense",
}


def new_name(name: str) -> str | None:
    """Where a module of this old name is now; None for any other name."""
    return next((new + name.removeprefix(old) for old, new in MOVED.items() if f"{name}.".startswith(f"{old}.")), None)


class OldNames:
    """Finds and loads moved modules: the first entry of ``sys.meta_path``."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if (new := new_name(name)) is None:
            return None
        warnings.warn(f"{name} is now {new}", DeprecationWarning, stacklevel=2)
        return ModuleSpec(name, self, origin=new)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(str(spec.origin))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """The module has already run under its new name. It keeps that name."""
        module.__spec__ = module.__spec__.loader_state  # type: ignore[union-attr]


def renamed(old: str, new: str) -> property:
    """An attribute under its old name, with a DeprecationWarning."""

    def get(self: Any) -> Any:
        warnings.warn(f"{type(self).__name__}.{old} is now {new}", DeprecationWarning, stacklevel=2)
        return getattr(self, new)

    return property(get)


def redirect() -> set[str]:
    """Let the import system find moved modules → their old names below ``minimae``."""
    # First, because the usual search by path would load minimae.training.loop a second time.
    sys.meta_path.insert(0, OldNames())  # type: ignore[arg-type]
    return {name.removeprefix("minimae.") for name in MOVED}
