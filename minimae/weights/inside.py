"""Where in a file the weights are: checkpoints wrap them in dictionaries, and training tools add prefixes to the names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from ..errors import MinimaeError

# One name that every model of a layout has: anything before it is a wrapper's prefix.
ANCHOR = re.compile(r"^(?P<prefix>.*?)(?:patch_embed\.proj|encoder\.project|(?:vit\.)?embeddings\.patch_embeddings\.projection)\.weight$")
TRAINING = {"optimizer", "optimiser", "optimizer_states", "scaler", "lr_scheduler", "scheduler"}  # these hold tensors, but no weights
BESIDE = {"n_averaged"}  # a counter of torch's moving average


def groups(state: Mapping[Any, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dictionary inside that holds tensors, by the keys that lead to it, joined by dots; the outermost is ""."""
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if tensors:
        yield ".".join(path), tensors
    if len(path) < 3:
        for name, value in state.items():
            if isinstance(value, Mapping) and str(name) not in TRAINING:
                yield from groups(value, (*path, str(name)))


def chosen(state: Mapping[Any, Any], source: str, *, key: str | None, prefix: str | None) -> dict[str, Tensor]:
    """The weights in a file: those under ``key``, with ``prefix`` removed from their names. Half precision becomes float32.

    Without them the weights are found if only one choice is possible. Otherwise raises MinimaeError that lists the choices.
    """
    found = dict(groups(state))
    if not found:
        raise MinimaeError(f"{source} holds no tensors, only {', '.join(map(str, list(state)[:6])) or 'nothing'}")
    if key is not None:
        if key not in found:
            raise MinimaeError(f"{source} has no weights under {key!r}; it holds {listed(found)}")
        tensors = found[key]
    else:
        models = {name: each for name, each in found.items() if prefixes(each)} or found
        if len(models) > 1:
            raise MinimaeError(f"{source} holds several sets of weights: {listed(models)}. Choose one with key= (--key)")
        (tensors,) = models.values()
    tensors = unprefixed(tensors, source, prefix)
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def listed(found: Mapping[str, Mapping[str, Tensor]]) -> str:
    """Groups with their number of tensors."""
    names = [f"{name or 'at the top'!s} ({len(tensors)} tensors)" for name, tensors in found.items()]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def prefixes(tensors: Mapping[str, Tensor]) -> list[str]:
    """The prefixes of the models in these tensors."""
    return sorted({match["prefix"] for name in tensors if (match := ANCHOR.match(name))})


def unprefixed(tensors: dict[str, Tensor], source: str, prefix: str | None) -> dict[str, Tensor]:
    """The tensors of one model by their own names. Raises MinimaeError when the choice is ambiguous."""
    found = prefixes(tensors)
    if prefix is not None:
        prefix = prefix if not prefix or prefix.endswith(".") else f"{prefix}."
        inside = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        if not inside:
            raise MinimaeError(f"no name in {source} begins with {prefix!r}; they begin with {beginnings(tensors)}")
        return inside
    if len(found) > 1:
        raise MinimaeError(
            f"{source} holds several models, whose names begin with {', '.join(map(repr, found))}. Choose one with prefix= (--prefix)"
        )
    if not found or not found[0]:
        return tensors
    outside = {name: tensor for name, tensor in tensors.items() if not name.startswith(found[0]) and name not in BESIDE}
    if outside:
        raise MinimaeError(
            f"{source}: the model's names begin with {found[0]!r}, and there are others ({beginnings(outside)}). "
            f"To take the model alone, give prefix={found[0]!r} (--prefix {found[0]})"
        )
    return {name.removeprefix(found[0]): tensor for name, tensor in tensors.items() if name not in BESIDE}


def beginnings(tensors: Mapping[str, Tensor]) -> str:
    """The first parts of the names, with their counts."""
    counts: dict[str, int] = {}
    for name in tensors:
        first = f"{name.split('.')[0]}." if "." in name else name
        counts[first] = counts.get(first, 0) + 1
    return ", ".join(f"{first} ({count})" for first, count in list(counts.items())[:8])
