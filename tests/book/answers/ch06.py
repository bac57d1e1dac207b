"""Classic wrong answers to the exercises of chapter 06. The solutions are taken from the notebook."""

from __future__ import annotations

import torch


def _losses(predicted, target):
    return (predicted - target).square().mean(-1)


def _count(variances, share):
    held = variances.cumsum(0) / variances.sum()
    return int((held < share).sum()) + 1


def _variances(rows):
    centred = rows - rows.mean(0)
    return torch.linalg.eigvalsh(centred.T @ centred)


ANSWERS = {
    "ch06_loss_of_ignorance": {
        "wrong": {
            "one": (lambda p1, p2, c: 1.0, "unbiased"),
            "upside down": (lambda p1, p2, c: p1 * p2 * c / (p1 * p2 * c - 1), "upside down"),
            "forgets the channels": (lambda p1, p2, c: (p1 * p2 - 1) / (p1 * p2), "channels"),
            "squares only": (lambda p1, p2, c: (p1 * p1 * c - 1) / (p1 * p1 * c), "square"),
            "what is missing": (lambda p1, p2, c: 1 / (p1 * p2 * c), "difference from 1"),
        }
    },
    "ch06_masked_loss": {
        "wrong": {
            "over all patches": (lambda p, t, m: _losses(p, t).mean(), "all"),
            "over visible patches": (lambda p, t, m: (_losses(p, t) * (1 - m)).sum() / (1 - m).sum(), "visible"),
            "divided by all": (lambda p, t, m: (_losses(p, t) * m).mean(), "number of all"),
            "a sum": (lambda p, t, m: (_losses(p, t) * m).sum(), "sum"),
            "not squared": (lambda p, t, m: ((p - t).abs().mean(-1) * m).sum() / m.sum(), "absolute"),
            "patch by patch": (lambda p, t, m: _losses(p, t) * m, "single number"),
            "returns nothing": (lambda p, t, m: None, "return"),
        }
    },
    "ch06_coefficients_for": {
        "wrong": {
            "one too few": (lambda rows, share: _count(_variances(rows).flip(0), share) - 1, "one too few"),
            "one too many": (lambda rows, share: _count(_variances(rows).flip(0), share) + 1, "one too many"),
            "smallest first": (lambda rows, share: _count(_variances(rows), share), "smallest"),
            "not centred": (lambda rows, share: _count(torch.linalg.eigvalsh(rows.T @ rows).flip(0), share), "mean was not subtracted"),
            "squares them": (lambda rows, share: _count(_variances(rows).flip(0) ** 2, share), "squared"),
            "takes roots": (lambda rows, share: _count(_variances(rows).flip(0).clamp(min=0).sqrt(), share), "roots"),
        }
    },
}
