"""The identity of a run's images: enough to recognise them under any path, and to refuse others."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

LOOKED_AT = 16  # images whose contents are compared
CLOSE = 0.5  # of 255: tolerance of a picture's mean, because decoders round differently


def identity(source: Any) -> dict[str, Any]:
    """A set of images in memory or in files → its number of images and classes, digests of ids and labels, and some contents.

    It contains no path: a moved set is the same, whether read from files or held in memory. Contents are height,
    width and mean value of ``LOOKED_AT`` images spread over the set.
    """
    count = len(source)
    places = sorted({round(i * (count - 1) / (LOOKED_AT - 1)) for i in range(LOOKED_AT)})
    return {
        "images": count,
        "classes": len(source.classes),
        "ids": digest(tensor_bytes(source.ids)),
        "labels": None if source.labels is None else digest(tensor_bytes(source.labels)),
        "contents": [list(source.summary_of(place)) for place in places],
    }


def tensor_bytes(values: Tensor) -> bytes:
    return values.cpu().to(torch.int64).numpy().tobytes()


def digest(data: bytes) -> str:
    """16 hexadecimal digits for some bytes."""
    return hashlib.sha256(data).hexdigest()[:16]


def differences(stored: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """How the images of a checkpoint and those given now differ, in words. Older checkpoints know only their statistics and classes."""
    old, new = stored.get("images"), given.get("images")
    words = []
    if isinstance(old, dict) and isinstance(new, dict):
        words += [f"{name}: {old.get(name)} → {new[name]}" for name in ("images", "classes") if old.get(name) != new[name]]
        if not words:  # where these differ, so does all the rest
            words += [f"other {name}" for name in ("ids", "labels") if old.get(name) != new[name]]
            words += [] if alike(old.get("contents"), new["contents"], close=CLOSE) else ["other contents"]
    for name, wanted in (("classes", given.get("classes")), ("statistics", given.get("statistics"))):
        if name in stored and wanted is not None and not alike(stored[name], wanted):
            words.append(f"{name}: {shown(stored[name])} → {shown(wanted)}")
    return words


def alike(old: Any, new: Any, *, close: float = 1e-4) -> bool:
    """Whether two nested sequences are equal, floats up to a tolerance."""
    if isinstance(old, Tensor) or isinstance(new, Tensor):
        old, new = (x.tolist() if isinstance(x, Tensor) else x for x in (old, new))
    if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        return len(old) == len(new) and all(alike(a, b, close=close) for a, b in zip(old, new, strict=True))
    if isinstance(old, float) and isinstance(new, float):
        return math.isclose(old, new, rel_tol=1e-4, abs_tol=close)
    return bool(old == new)


def shown(values: Sequence[Any]) -> str:
    """A few of these values, short."""
    flat = [x for part in values for x in (part.tolist() if isinstance(part, Tensor) else [part])]
    words = [f"{x:.4g}" if isinstance(x, float) else str(x) for x in flat[:6]]
    return ", ".join(words) + (" …" if len(flat) > 6 else "")
