"""Import submodules on first use: ``import minimae`` stays light, and ``minimae.data.load`` works."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches


def submodules(
    package: str, path: Iterable[str], *, hidden: Iterable[str] = (), functions: Mapping[str, str] | None = None
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package with this name and path. Both list its public submodules, for completion too.

    hidden: further names that can be imported but are not listed. functions: names of functions, with the submodule that has them.
    """
    names = {module.name for module in pkgutil.iter_modules(path) if not module.name.startswith("_")}

    functions = functions or {}

    def get(name: str) -> object:
        if name in functions:
            return getattr(importlib.import_module(f"{package}.{functions[name]}"), name)
        if name in names or name in hidden:
            return importlib.import_module(f"{package}.{name}")
        close = get_close_matches(name, listed(), n=1)
        raise AttributeError(f"module {package!r} has no attribute {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))

    def listed() -> list[str]:
        return sorted(names | functions.keys() | vars(sys.modules[package]).keys())

    return get, listed
