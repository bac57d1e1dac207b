"""Recipes as files, YAML or JSON. A file names the recipe that it changes, and the fields that it replaces."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..data.optional import need
from ..errors import MinimaeError, nearest, reason
from .entries import Entry

SUFFIXES = (".yaml", ".yml", ".json")


def write_recipe(entry: Entry, path: Path) -> None:
    """Write every field of a recipe. Raises MinimaeError when the file cannot be written; ImportError for YAML without pyyaml."""
    values = {"recipe": entry.name, **asdict(entry.recipe)}
    if path.suffix not in SUFFIXES:
        raise MinimaeError(f"a recipe is written as .yaml or .json, not as {path.name}")
    if path.suffix == ".json":
        text = json.dumps(values, indent=2) + "\n"
    else:
        text = yaml().safe_dump(values, sort_keys=False, default_flow_style=None)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MinimaeError(f"cannot write {path} ({error.strerror})") from None


def read_recipe(path: Path, entries: dict[str, Entry]) -> Entry:
    """The recipe of a file, with the source and result of the one that it changes.

    Raises MinimaeError for a file that cannot be read, ValueError for unknown names and for values that a field does not take.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else yaml().safe_load(text)
    except OSError as error:
        raise MinimaeError(f"cannot read the recipe {path} ({error.strerror})") from None
    except ImportError:
        raise
    except Exception as error:  # whatever the parser raises
        raise MinimaeError(f"{path} is not valid {path.suffix[1:].upper()} ({reason(error)})") from None
    if not isinstance(values, dict) or not isinstance(name := values.pop("recipe", None), str):
        raise ValueError(f"{path} does not name the recipe that it changes: add a line such as recipe: fashion-demo")
    if name not in entries:
        raise ValueError(f"{path}: unknown recipe {name!r}{nearest(name, entries)}")
    base, kinds = entries[name], get_type_hints(type(entries[name].recipe))
    for field, value in values.items():
        if field not in kinds:
            raise ValueError(f"{path}: unknown field {field!r}{nearest(str(field), kinds)}")
        try:
            values[field] = converted(value, kinds[field])
        except TypeError:
            raise ValueError(f"{path}: {field} takes {in_words(kinds[field])}, not {value!r}") from None
    try:
        return base.changed(replace(base.recipe, **values))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def in_words(kind: Any) -> str:
    """What a field of this type takes."""
    names = {float: "a number", int: "a whole number", bool: "true or false", str: "text", NoneType: "null"}
    kinds, origin = get_args(kind), get_origin(kind)
    if origin is tuple:
        return f"a list of {len(kinds)} numbers"
    return names[kind] if kind in names else " or ".join(str(each) if origin is Literal else in_words(each) for each in kinds)


def converted(value: Any, kind: Any) -> Any:
    """A value from a file, converted to the type of its field. Raises TypeError when it does not fit."""
    kinds, origin = get_args(kind), get_origin(kind)
    if origin in (Union, UnionType):
        for each in kinds:
            with suppress(TypeError):
                return converted(value, each)
    elif origin is tuple:
        if isinstance(value, list) and len(value) == len(kinds):
            return tuple(map(converted, value, kinds))
    elif origin is Literal:
        if value in kinds:
            return value
    elif kind is float and type(value) in (int, float, str):  # YAML reads 1e-3 as text
        with suppress(ValueError, OverflowError):
            return float(value)
    elif type(value) is kind or (value is None and kind is NoneType):
        return value
    raise TypeError


def yaml() -> Any:
    """PyYAML. Raises ImportError with the command that installs it."""
    return need("yaml", why="a recipe in YAML (JSON needs no library)")
