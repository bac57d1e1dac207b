"""Labels (lists, arrays, tensors of any type, class names) → int64 without loss, or a one-line error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_labels(name: str, labels: Any, count: int, classes: Sequence[str] = ()) -> Tensor:
    """One label for each of ``count`` images → int64 ``count``, on the device of the labels.

    Integers, booleans and whole floats keep their values. Names are looked up in ``classes``.
    Raises ValueError, with ``name``, for a wrong number of labels or axes, and for labels that are fractions, missing (nan, None,
    masked), negative, beyond the classes, or unknown names.
    """
    wanted = f"labels are {count} integers from 0"
    if not isinstance(labels, Tensor):
        labels = _from_numpy(name, labels, classes)
    if labels.dim() != 1 or labels.is_complex():
        hint = "; turn one-hot rows into numbers with argmax(1)" if labels.dim() == 2 else ""
        raise ValueError(f"{name}: {wanted}, not an array of {labels.dtype} of shape {tuple(labels.shape)}{hint}")
    if len(labels) != count:
        raise ValueError(f"{name}: {count} images but {len(labels)} labels; {wanted}")
    if labels.dtype == torch.int64 and labels.device.type == "cuda":
        return labels  # checked before they went to the device; checking again would make the host wait
    whole = labels.long()
    checks = [
        (whole < 0, f"is negative: {wanted}"),
        (whole >= (len(classes) or torch.inf), f"is beyond the {len(classes)} classes, which are counted from 0"),
    ]
    if labels.is_floating_point():  # nan is not equal to itself
        checks[:0] = [(labels.floor() != labels, "is not a whole number"), (labels.abs() >= 2**53, "is too large to be exact")]
    for wrong, why in checks:
        if wrong.any():
            first = int(wrong.nonzero()[0])
            raise ValueError(f"{name}: label {labels[first].item()} (image {first}) {why}")
    return whole


def _from_numpy(name: str, labels: Any, classes: Sequence[str]) -> Tensor:
    if np.ma.is_masked(labels):
        first = int(np.flatnonzero(np.ma.getmaskarray(labels))[0])
        raise ValueError(f"{name}: the label of image {first} is masked: leave such images out")
    array = np.asarray(labels)
    if array.dtype.kind in "UTO" and all(isinstance(label, str) for label in array.flat):
        return _from_names(name, [str(label) for label in array.flat], classes).reshape(array.shape)
    if array.dtype.kind not in "biuf":
        kinds = str if any(isinstance(x, str) for x in array.flat) else (int, np.integer)
        odd = [repr(x) for x in array.flat if not isinstance(x, kinds)] if array.dtype.kind == "O" else [str(array.dtype)]
        if odd:
            raise ValueError(f"{name}: labels are integers from 0, or names of classes, not {odd[0]}")
    if array.dtype.kind in "uO":  # torch has few unsigned types; 2⁶³ and more become floats, which are refused as too large
        array = array.astype(np.float64 if array.size and array.max() >= 2**63 else np.int64)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=True, order="C"))


def _from_names(name: str, labels: list[str], classes: Sequence[str]) -> Tensor:
    """Labels by name. ``classes`` is required: an order taken from the names that occur could differ in the test images."""
    if not classes:
        example = ", ".join(repr(label) for label in sorted(set(labels))[:3])
        raise ValueError(f"{name}: labels are names ({example}); give the names of all classes in their order too, classes=(…)")
    if (unknown := next((label for label in labels if label not in classes), None)) is not None:
        raise ValueError(f"{name}: the label {unknown!r} is none of the {len(classes)} classes {', '.join(classes[:10])}")
    number = {c: i for i, c in enumerate(classes)}
    return torch.tensor([number[label] for label in labels], dtype=torch.int64)
