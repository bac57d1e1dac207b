"""Classic wrong answers to the exercises of chapter 09. The solutions are taken from the notebook."""

from __future__ import annotations

import torch.nn.functional as F


def _scaled(x, by, over=0):
    return (x - by.mean(over, keepdim=True)) / (by.std(over, keepdim=True) + 1e-6)


def _no_guard(train, test):
    return (train - train.mean(0)) / train.std(0), (test - train.mean(0)) / train.std(0)


def _step(update, velocity, weight, lr, momentum=0.9):
    velocity = momentum * velocity + update
    return weight - lr * velocity, velocity


def _in_place(w, g, v, lr, momentum, trust):
    v.mul_(momentum).add_(g * trust * w.norm() / g.norm())
    return w - lr * v, v


def _wrong(weight, features, labels):
    return (features @ weight.T).softmax(1) - F.one_hot(labels, len(weight))


ANSWERS = {
    "ch09_one_scale": {
        "wrong": {
            "by itself": (lambda a, b: (_scaled(a, a), _scaled(b, b)), "own statistics"),
            "one for all": (lambda a, b: (_scaled(a, a, (0, 1)), _scaled(b, a, (0, 1))), "one mean and one std"),
            "rows": (lambda a, b: (_scaled(a, a, 1), _scaled(b, b, 1)), "not each feature"),
            "centred": (lambda a, b: (a - a.mean(0), b - a.mean(0)), "the scale is not"),
            "variance": (lambda a, b: ((a - a.mean(0)) / a.var(0), (b - a.mean(0)) / a.var(0)), "variance"),
            "0 / 0": (_no_guard, "not a number"),
            "one set": (lambda a, b: _scaled(a, a), "two tensors"),
        }
    },
    "ch09_lars_step": {
        "wrong": {
            "SGD": (lambda w, g, v, lr, m, t: _step(g, v, w, lr), "SGD"),
            "upside down": (lambda w, g, v, lr, m, t: _step(g * t * g.norm() / w.norm(), v, w, lr), "upside down"),
            "unit gradient": (lambda w, g, v, lr, m, t: _step(g * t / g.norm(), v, w, lr), "length of the weights is missing"),
            "no trust": (lambda w, g, v, lr, m, t: _step(g * w.norm() / g.norm(), v, w, lr), "trust"),
            "no momentum": (lambda w, g, v, lr, m, t: _step(g * t * w.norm() / g.norm(), v, w, lr, 0.0), "forgotten"),
            "in place": (_in_place, "changed"),
        }
    },
    "ch09_slope": {
        "wrong": {
            "sign": (lambda w, x, y, p: -_wrong(w, x, y).T @ x / len(x) + 2 * p * w, "sign"),
            "a sum": (lambda w, x, y, p: _wrong(w, x, y).T @ x + 2 * p * w, "mean"),
            "no penalty": (lambda w, x, y, p: _wrong(w, x, y).T @ x / len(x), "penalty is missing"),
            "half": (lambda w, x, y, p: _wrong(w, x, y).T @ x / len(x) + p * w, "factor of 2"),
            "transposed": (lambda w, x, y, p: x.T @ _wrong(w, x, y), "shape of the weights"),
        }
    },
}
