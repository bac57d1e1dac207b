"""Old names of modules, until version 0.8: ``from minimae.masking import random_mask`` still works, with a DeprecationWarning."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

MODEL = ("patches", "masking", "positions", "vit", "decoder", "targets", "mae", "sizes")
MOVED = {f"minimae.{name}": f"minimae.model.{name}" for name in MODEL} | {
    "minimae.noise": "minimae.random",
    "minimae.augment": "minimae.data.augment",
    "minimae.training": "minimae.train",
    "minimae.interop": "minimae.weights",
    "minimae.book": "minimae_book",
    "minimae.plots": "minimae_book.figures",
    "minimae.reproduce": "minimae_book.evidence",
    "minimae.recipes.ablations": "minimae_book.evidence.ablations",
    "minimae.recipes.races": "minimae_book.evidence.race",
    "minimae.tasks.dense": "minimae_book.evidence.dense",
}


def new_name(name: str) -> str | None:
    """Where a module of this old name is now; None for any other name."""
    for old, new in MOVED.items():
        if name == old or name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    return None


class OldNames:
    """Finds and loads moved modules: an entry of ``sys.meta_path``."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if (new := new_name(name)) is None:
            return None
        warnings.warn(f"{name} is now {new}", DeprecationWarning, stacklevel=2)
        return ModuleSpec(name, self)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(str(new_name(spec.name)))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """The module has run under its new name already, which it keeps."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def redirect() -> set[str]:
    """Let the import system find moved modules → their names below ``minimae``."""
    sys.meta_path.append(OldNames())  # type: ignore[arg-type]
    return {name.removeprefix("minimae.") for name in MOVED}
