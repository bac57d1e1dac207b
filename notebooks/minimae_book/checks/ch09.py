"""Checks of chapter 09: probing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..verdict import Verdict, failed, passed
from .comparing import expect


def _pair(got: Any, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> str | None:
    """What is wrong with two returned tensors, or None."""
    if not (isinstance(got, tuple | list) and len(got) == 2 and all(isinstance(part, Tensor) for part in got)):
        return "two tensors were expected: return both, with a comma between them"
    if (found := tuple(tuple(part.shape) for part in got)) != shapes:
        return f"the shapes should be {shapes[0]} and {shapes[1]}, not {found[0]} and {found[1]}"
    return None


def ch09_one_scale(f: Callable[..., Any]) -> Verdict:
    """Two sets of vectors, standardised by the first."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.tensor([1.0, 10.0, 0.1, 3.0])
    train, test = torch.randn(40, 4, generator=generator) * wide + 5, torch.randn(30, 4, generator=generator) * wide * 2 + 4
    got = f(train, test)
    if fault := _pair(got, ((40, 4), (30, 4))):
        return failed(fault)

    def scaled(x: Tensor, by: Tensor, over: int | tuple[int, ...] = 0) -> Tensor:
        return (x - by.mean(over, keepdim=True)) / by.std(over, keepdim=True)

    def same(a: Tensor, b: Tensor) -> bool:
        return torch.allclose(a, b, rtol=0.05, atol=0.05)

    if same(got[0], scaled(train, train)) and same(got[1], scaled(test, train)):
        constant = torch.cat([train, torch.full((40, 1), 2.0)], dim=1)
        if not all(part.isfinite().all() for part in f(constant, constant)):
            return failed("a constant feature has std 0, and 0 / 0 is not a number: add something small, or clamp")
        return passed("the test vectors are standardised by the training statistics")
    if same(got[0], scaled(train, train)) and same(got[1], scaled(test, test)):
        return failed("the test vectors were standardised by their own statistics: use those of the training vectors for both")
    if same(got[0], scaled(train, train, (0, 1))):
        return failed("that is one mean and one std for everything: each feature has its own, so reduce over the vectors only")
    if same(got[0], scaled(train, train, 1)):
        return failed("each vector was standardised, not each feature: the mean goes over dimension 0")
    if same(got[0], train - train.mean(0)):
        return failed("the mean is gone, the scale is not: divide by the standard deviation of each feature")
    if same(got[0], (train - train.mean(0)) / train.var(0)):
        return failed("that divides by the variance: the standard deviation is its square root")
    return failed("the training vectors should have mean 0 and standard deviation 1 in each feature")


def ch09_lars_step(f: Callable[..., Any]) -> Verdict:
    """One step of LARS for a matrix."""
    generator = torch.Generator().manual_seed(0)
    weight, gradient, velocity = (torch.randn(3, 5, generator=generator) * s for s in (2.0, 40.0, 0.002))
    before, lr, momentum, trust = [t.clone() for t in (weight, gradient, velocity)], 6.4, 0.9, 0.001
    got = f(weight, gradient, velocity, lr, momentum, trust)
    if any(not torch.equal(a, b) for a, b in zip(before, (weight, gradient, velocity))):
        return failed("an input was changed: make new tensors instead of writing in place")
    if fault := _pair(got, ((3, 5), (3, 5))):
        return failed(fault)
    update = gradient * trust * weight.norm() / gradient.norm()

    def is_step(update: Tensor, keep: float = momentum) -> bool:
        new = keep * velocity + update
        return torch.allclose(got[1], new, rtol=1e-3) and torch.allclose(got[0], weight - lr * new, rtol=1e-4, atol=1e-6)

    if is_step(update):
        return passed("the step's length follows that of the weights, not that of the gradient")
    if is_step(gradient):
        return failed("that is SGD with momentum: the gradient has kept its own length")
    if is_step(gradient * trust * gradient.norm() / weight.norm()):
        return failed("upside down: multiply by the length of the weights and divide by that of the gradient")
    if is_step(gradient * trust / gradient.norm()):
        return failed("the length of the weights is missing: a long matrix takes long steps")
    if is_step(gradient * weight.norm() / gradient.norm()):
        return failed("the trust of 0.001 is missing: at lr 1 the matrix would move by its whole length")
    if is_step(update, 0.0):
        return failed("the velocity is forgotten: new velocity = momentum · velocity + scaled gradient")
    if torch.allclose(got[1], momentum * velocity + (1 - momentum) * update, rtol=1e-3):
        return failed("no (1 − momentum) before the gradient: LARS adds it whole, like SGD")
    if torch.allclose(got[0], weight + lr * (momentum * velocity + update), rtol=1e-4):
        return failed("uphill: the step goes *against* the velocity")
    return failed("velocity ← momentum · velocity + gradient · trust · ‖w‖ / ‖g‖, then weight ← weight − lr · velocity")


def ch09_slope(f: Callable[..., Any]) -> Verdict:
    """The gradient of the probe's loss with respect to its weights."""
    generator = torch.Generator().manual_seed(0)
    weight, features = torch.randn(4, 6, generator=generator), torch.randn(20, 6, generator=generator)
    labels, penalty = torch.randint(4, (20,), generator=generator), 0.3
    got = f(weight, features, labels, penalty)
    expect(got, (4, 6), "the gradient has the shape of the weights, classes d")
    right = (features @ weight.T).softmax(1) - F.one_hot(labels, 4)
    fit, pull = right.T @ features / 20, 2 * penalty * weight

    def same(value: Tensor) -> bool:
        return torch.allclose(got, value, rtol=1e-3, atol=1e-5)

    if same(fit + pull):
        return passed("prediction minus label, times the input")
    if same(-fit + pull) or same(-fit - pull):
        return failed("the sign: softmax minus labels, so that a step *against* the gradient raises the right class")
    if same(20 * fit + pull):
        return failed("the loss is the *mean* over the images: divide by their number")
    if same(fit):
        return failed("the penalty is missing: it pulls each weight towards 0 with 2 · penalty · w")
    if same(fit + penalty * weight):
        return failed("the penalty is on the square of the weights: its derivative has a factor of 2")
    if same((features @ weight.T - F.one_hot(labels, 4)).T @ features / 20 + pull):
        return failed("those are logits: probabilities are their softmax")
    return failed("(softmax − one-hot), transposed, times the features, divided by their number, plus 2 · penalty · weight")
