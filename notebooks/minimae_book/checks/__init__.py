"""The checks of the exercises, one module per chapter: ``check.ch05_unshuffle(your_function)`` → a Verdict, never a traceback."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

import torch

from minimae.errors import nearest

from ..verdict import Verdict, failed, unwritten
from .comparing import Mistake, described, stopped

Check = Callable[..., Verdict]


class Checks:
    """All checks by name. A check calls the reader's function on small inputs of its own and reports the result."""

    def __dir__(self) -> list[str]:
        return sorted(names())

    def __getattr__(self, name: str) -> Check:
        chapter = name.split("_", 1)[0]
        if name not in names():
            raise AttributeError(f"there is no check {name!r}{nearest(name, names())}")
        return careful(getattr(importlib.import_module(f"{__name__}.{chapter}"), name))


def names() -> list[str]:
    """The names of all checks, chapter by chapter."""
    chapters = [info.name for info in pkgutil.iter_modules(__path__)]
    modules = {chapter: importlib.import_module(f"{__name__}.{chapter}") for chapter in chapters}
    return [name for chapter, module in modules.items() for name in vars(module) if name.startswith(f"{chapter}_")]


IN_PLACE = ("ch07_careful_save",)  # exercises whose function returns nothing


def careful(check: Check) -> Check:
    """The check, with errors of the reader's function, a forgotten ``return`` and tensors changed in place turned into verdicts."""
    call: dict[str, Any] = {}  # arguments of the call that failed

    def guarded(function: Any) -> Any:
        @wraps(function, assigned=("__name__", "__doc__"), updated=())
        def guard(*args: Any, **kwargs: Any) -> Any:
            given = [(value, value.detach().clone()) for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
            try:
                value = function(*args, **kwargs)
            except Exception:
                call.update(args=args, kwargs=kwargs)
                raise
            if value is None and check.__name__ not in IN_PLACE:
                raise Mistake("the function returned nothing: does it end with `return`?")
            for tensor, before in given:
                if not torch.equal(tensor, before):
                    raise Mistake(f"an input has changed ({described(before)}): make a new tensor, or work on a clone")
            return value

        return guard

    @wraps(check)
    def checked(*functions: Any) -> Verdict:
        call.clear()
        try:
            verdict = check(*map(guarded, functions))
        except NotImplementedError:
            return unwritten()
        except Mistake as mistake:
            return failed(str(mistake))
        except Exception as error:
            return failed(stopped(error, functions, **call))
        ours = all(getattr(function, "__name__", "").startswith("solution_") for function in functions)
        return replace(verdict, solution=ours and verdict.ok)

    return checked
