"""Labels (lists, arrays, tensors of any type, class names) → int64 without loss, or a one-line error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_labels(name: str, labels: Any, count: int, classes: Sequence[str] = ()) -> Tensor:
    """One label for each of ``count`` images → int64 ``count``, on the device where they were.

    Integers and booleans are taken as they are, and floats if all of them are whole. Names are looked up in ``classes``.
    Raises ValueError, with ``name``, for another number of labels or of axes, and for labels that are fractions, missing (nan, None,
    masked), negative, beyond the classes, or names that are no class.
    """
    if not isinstance(labels, Tensor):
        labels = _from_numpy(name, labels, classes)
    if labels.dim() != 1:
        hint = "; turn one-hot rows into numbers with argmax(1)" if labels.dim() == 2 else ""
        raise ValueError(f"{name}: labels are {count} integers from 0, not an array of shape {tuple(labels.shape)}{hint}")
    if len(labels) != count:
        raise ValueError(f"{name}: {count} images but {len(labels)} labels; labels are {count} integers from 0")
    if labels.is_complex():
        raise ValueError(f"{name}: labels are {count} integers from 0, not {labels.dtype}")
    if labels.dtype == torch.int64 and labels.device.type == "cuda":
        return labels  # checked before they went to the device; checking again would make the host wait
    if labels.is_floating_point():
        _refuse(name, labels, labels.floor() != labels, "is no whole number")  # nan is not equal to itself
        _refuse(name, labels, labels.abs() >= 2**53, "is too large to be a whole number without doubt")
    whole = labels.long()
    _refuse(name, labels, whole < 0, f"is negative: labels are {count} integers from 0, not from {int(whole.min()) if count else 0}")
    if classes:
        _refuse(name, labels, whole >= len(classes), f"is beyond the {len(classes)} classes, which are counted from 0")
    return whole


def _from_numpy(name: str, labels: Any, classes: Sequence[str]) -> Tensor:
    if np.ma.is_masked(labels):
        where = int(np.flatnonzero(np.ma.getmaskarray(labels))[0])
        raise ValueError(f"{name}: the label of image {where} is masked: leave such images out")
    array = np.asarray(labels)
    if array.dtype.kind in "UTO" and all(isinstance(label, str) for label in array.flat):
        return _from_names(name, [str(label) for label in array.flat], classes).reshape(array.shape)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name}: labels are integers from 0, or names of classes, not {_kind(array)}")
    if array.dtype.kind == "u":
        array = array.astype(np.int64) if array.dtype.itemsize < 8 or not array.size or array.max() < 2**63 else array.astype(np.float64)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=True, order="C"))


def _from_names(name: str, labels: list[str], classes: Sequence[str]) -> Tensor:
    """Labels by name. They need ``classes``, because an order taken from the names that occur could differ in the test images."""
    if not classes:
        example = ", ".join(repr(label) for label in sorted(set(labels))[:3])
        raise ValueError(f"{name}: labels are names ({example}); give the names of all classes in their order too, classes=(…)")
    number = {c: i for i, c in enumerate(classes)}
    strange = next((label for label in labels if label not in number), None)
    if strange is not None:
        raise ValueError(f"{name}: the label {strange!r} is none of the {len(classes)} classes {', '.join(classes[:10])}")
    return torch.tensor([number[label] for label in labels], dtype=torch.int64)


def _kind(array: np.ndarray) -> str:
    odd = next((x for x in array.flat if not isinstance(x, (int, np.integer))), None) if array.dtype.kind == "O" else None
    return f"{odd!r}" if array.dtype.kind == "O" else str(array.dtype)


def _refuse(name: str, labels: Tensor, wrong: Tensor, why: str) -> None:
    if wrong.any():
        where = int(wrong.nonzero()[0])
        raise ValueError(f"{name}: label {labels[where].item()} (image {where}) {why}")
