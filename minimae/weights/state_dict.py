"""Where in a checkpoint the weights are: training tools wrap them in dictionaries and put prefixes before their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from ..errors import MinimaeError

# One name that every model of a layout has: anything before it is a wrapper's prefix.
ANCHOR = re.compile(r"^(?P<prefix>.*?)(?:patch_embed\.proj|encoder\.project|(?:vit\.)?embeddings\.patch_embeddings\.projection)\.weight$")
TRAINING = {"optimizer", "optimiser", "optimizer_states", "scaler", "lr_scheduler", "scheduler"}  # these hold tensors, but no weights
COUNTERS = {"n_averaged"}  # of torch's moving average


def find_weights(checkpoint: Mapping[Any, Any], source: str, *, key: str | None, prefix: str | None) -> dict[str, Tensor]:
    """The weights under ``key``, with ``prefix`` removed from their names. Half precision becomes float32.

    Without key and prefix they are found if only one choice is possible. Otherwise raises MinimaeError that lists the choices.
    """
    sets = dict(tensor_sets(checkpoint))
    if not sets:
        raise MinimaeError(f"{source} holds no tensors, only {', '.join(map(str, list(checkpoint)[:6])) or 'nothing'}")
    if key is None:
        models = {name: tensors for name, tensors in sets.items() if prefixes(tensors)} or sets
        if len(models) > 1:
            raise MinimaeError(f"{source} holds several sets of weights: {sizes(models)}. Choose one with key= (--key)")
        (tensors,) = models.values()
    elif key in sets:
        tensors = sets[key]
    else:
        raise MinimaeError(f"{source} has no weights under {key!r}; it holds {sizes(sets)}")
    tensors = without_prefix(tensors, source, prefix)
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def tensor_sets(state: Mapping[Any, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dictionary inside that holds tensors, by the keys that lead to it, joined by dots; the outermost is ""."""
    if tensors := {str(name): value for name, value in state.items() if isinstance(value, Tensor)}:
        yield ".".join(path), tensors
    for name, value in state.items():
        if isinstance(value, Mapping) and str(name) not in TRAINING and len(path) < 3:
            yield from tensor_sets(value, (*path, str(name)))


def prefixes(names: Iterable[str]) -> list[str]:
    """The prefixes in these names, one for each model."""
    return sorted({match["prefix"] for name in names if (match := ANCHOR.match(name))})


def without_prefix(tensors: dict[str, Tensor], source: str, prefix: str | None) -> dict[str, Tensor]:
    """The tensors of one model by their own names. Raises MinimaeError when the choice is ambiguous."""
    if prefix is not None:
        prefix = prefix if not prefix or prefix.endswith(".") else f"{prefix}."
        chosen = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        if not chosen:
            raise MinimaeError(f"no name in {source} begins with {prefix!r}; they begin with {beginnings(tensors)}")
        return chosen
    models = prefixes(tensors)
    if len(models) > 1:
        raise MinimaeError(
            f"{source} holds several models, whose names begin with {', '.join(map(repr, models))}. Choose one with prefix= (--prefix)"
        )
    if not models or not models[0]:
        return tensors
    if others := [name for name in tensors if not name.startswith(models[0]) and name not in COUNTERS]:
        raise MinimaeError(
            f"{source}: the model's names begin with {models[0]!r}, and there are others ({beginnings(others)}). "
            f"To take the model alone, give prefix={models[0]!r} (--prefix {models[0]})"
        )
    return {name.removeprefix(models[0]): tensor for name, tensor in tensors.items() if name not in COUNTERS}


def sizes(sets: Mapping[str, Mapping[str, Tensor]]) -> str:
    """The names of the sets, each with its number of tensors."""
    names = [f"{name or 'at the top'} ({len(tensors)} tensors)" for name, tensors in sets.items()]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def beginnings(names: Iterable[str]) -> str:
    """The first parts of the names, with their counts."""
    counts = Counter(name[: name.find(".") + 1] or name for name in names)
    return ", ".join(f"{first} ({count})" for first, count in list(counts.items())[:8])
