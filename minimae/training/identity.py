"""What a run was made of: enough to recognise its images again wherever they lie, and to refuse others."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

LOOKED_AT = 32  # images whose contents are compared


def identity(source: Any) -> dict[str, Any]:
    """A set of images in memory or in files → its number of images, classes, and digests of ids, labels and some contents.

    No path is part of it: a set that was moved is the same. Contents are those of ``LOOKED_AT`` images spread over the set.
    """
    count = len(source)
    places = sorted({round(i * (count - 1) / (LOOKED_AT - 1)) for i in range(LOOKED_AT)})
    in_memory = hasattr(source, "pixels")
    contents = [source.pixels[i].cpu().numpy().tobytes() if in_memory else file_bytes(source, i) for i in places]
    return {
        "images": count,
        "read from": "memory" if in_memory else "files",
        "classes": len(source.classes),
        "ids": digest(tensor_bytes(source.ids)),
        "labels": None if source.labels is None else digest(tensor_bytes(source.labels)),
        "contents": digest(*contents),
    }


def tensor_bytes(values: Tensor) -> bytes:
    return values.cpu().to(torch.int64).numpy().tobytes()


def file_bytes(source: Any, place: int) -> bytes:
    """The bytes of an image; none where it cannot be read, which is reported when it is trained on."""
    try:
        data: bytes = source.bytes_of(place)
        return data
    except (OSError, ValueError):
        return b""


def digest(*parts: bytes) -> str:
    """16 hexadecimal digits for some bytes."""
    made = hashlib.sha256()
    for part in parts:
        made.update(len(part).to_bytes(8, "little") + part)
    return made.hexdigest()[:16]


def differences(stored: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """How the images of a checkpoint and those given now differ, in words. Older checkpoints know only their statistics and classes."""
    old, new = stored.get("images"), given.get("images")
    words = []
    if isinstance(old, dict) and isinstance(new, dict):
        for name in ("images", "read from", "classes"):
            if old.get(name) != new[name]:
                words.append(f"{name}: {old.get(name)} → {new[name]}")
        if not words:  # of other images everything differs
            words += [f"other {name}" for name in ("ids", "labels", "contents") if old.get(name) != new[name]]
    for name, wanted in (("classes", given.get("classes")), ("statistics", given.get("statistics"))):
        if name in stored and wanted is not None and not alike(stored[name], wanted):
            words.append(f"{name}: {shown(stored[name])} → {shown(wanted)}")
    return words


def alike(old: Any, new: Any) -> bool:
    """Whether two nested sequences are equal, numbers to four digits: they may have been computed otherwise."""
    if isinstance(old, Tensor) or isinstance(new, Tensor):
        old, new = (x.tolist() if isinstance(x, Tensor) else x for x in (old, new))
    if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        return len(old) == len(new) and all(alike(a, b) for a, b in zip(old, new, strict=True))
    if isinstance(old, float) and isinstance(new, float):
        return math.isclose(old, new, rel_tol=1e-4, abs_tol=1e-4)
    return bool(old == new)


def shown(values: Sequence[Any]) -> str:
    """A few of these values, short."""
    flat = [x for part in values for x in (part.tolist() if isinstance(part, Tensor) else [part])]
    words = [f"{x:.4g}" if isinstance(x, float) else str(x) for x in flat[:6]]
    return ", ".join(words) + (" …" if len(flat) > 6 else "")
