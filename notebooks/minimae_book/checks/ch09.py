"""Checks of chapter 09: probing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minimae.model.sizes import size
from minimae.model.vit import Encoder
from minimae.tasks.probe_train import LinearProbe
from minimae.train.lars import scaled_by_trust_ratio

from ..verdict import Verdict, failed, passed
from .comparing import expect, loaded, named_mistake, near, random, trains, without_autograd


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
    got = [part.float() for part in got]

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
    if same(got[0], scaled(train, train)):
        return failed("the training vectors are right; the test vectors need the same shift and scale: the mean and std of the training vectors")
    return failed("the training vectors should have mean 0 and standard deviation 1 in each feature")


def ch09_linear_probe(cls: type[nn.Module]) -> Verdict:
    """What is frozen and in which mode, then the logits with the package's weights, in training and eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = Encoder(size("nano", image=(12, 16), patch=4, depth=2, width=24, heads=3), drop=0.9)
        for name, parameter in encoder.named_parameters():
            if name != "positions":
                nn.init.normal_(parameter, std=0.3)
        given = copy.deepcopy(encoder)
        probe = cls(given, 40)
    if fault := _frozen(probe, given):
        return failed(fault)
    images = random(6, 1, 12, 16)
    for pool in ("class", "mean"):
        package = LinearProbe(encoder, 40, pool=pool)
        own = loaded(cls(encoder, 40, pool=pool), package, "correct __init__")
        for mode in (True, False):
            package.train(mode)
            if own.train(mode) is not own:
                return failed("train must return the probe itself: end it with `return self`")
            if any(part.training for part in own.encoder.modules()):
                return failed("the encoder changes into training mode with the probe: call self.encoder.eval() in train, after super().train(mode)")
            if own.norm.training != mode:
                return failed("norm and head must still change their mode: call super().train(mode)")
            got, wanted = own(images), package(images)
            if near(got, wanted):
                trains(own.named_parameters(), got)
                continue
            expect(got, (6, 40), f"pool={pool!r}: for 6 images and 40 classes")
            tokens = encoder.eval()(images).detach()
            named_mistake(got, (
                (package.head(tokens[:, 0] if pool == "class" else tokens[:, 1:].mean(1)), "the norm is missing: self.head(self.norm(features))"),
                (package.head(package.norm(tokens.mean(1))), "the class token is part of the mean: the patch tokens are rows 1 to n"),
                (package.head(package.norm(tokens[:, 1:].mean(1) if pool == "class" else tokens[:, 0])), "self.pool is not used, or the other way round"),
            ), where=f"pool={pool!r}")  # fmt: skip
            return failed(f"pool={pool!r}: the shape is right, but the numbers differ from the package's")
    return passed("frozen in its gradients and in its mode, and equal to the package's probe")


def _frozen(probe: Any, given: Encoder) -> str | None:
    """What is wrong with a new probe, or None."""
    if not isinstance(probe, nn.Module):
        return f"a layer was expected, a subclass of nn.Module, not {type(probe).__name__}"
    if missing := [name for name in ("encoder", "norm", "head") if name not in dict(probe.named_children())]:
        return f"self.{missing[0]} is missing"
    norm: Any = probe.norm
    head: Any = probe.head
    if any(p.requires_grad for name, p in probe.named_parameters() if name.startswith("encoder.")):
        return "the encoder is not frozen: self.encoder.requires_grad_(False)"
    if not given.project.weight.requires_grad:
        return "the encoder that was given was frozen itself: freeze your copy, self.encoder"
    if not isinstance(norm, nn.BatchNorm1d):
        return f"self.norm should be an nn.BatchNorm1d, not {type(norm).__name__}"
    if norm.affine:
        return "this BatchNorm has a scale and a shift of its own: affine=False"
    if norm.eps != 1e-6:
        return f"the eps of the BatchNorm should be 1e-6, not {norm.eps}"
    if not 0.008 < (std := float(head.weight.detach().std())) < 0.012 or head.bias.any():
        return f"the weights of the head start at N(0, 0.01), and its bias at 0; yours have std {std:.4f}, and the bias has values up to {float(head.bias.detach().max()):.4f}"
    if any(not p.requires_grad for p in head.parameters()):
        return "the head is frozen too: only the encoder should be"
    return None


def ch09_trust_ratio(f: Callable[..., Any]) -> Verdict:
    """The scaled gradient of a matrix, with and without decay, and the exceptions."""
    weight, gradient, bias = 2 * random(3, 5), 40 * random(3, 5, seed=1), random(5, seed=2)
    for decay, trust in ((0.0, 0.001), (30.0, 0.01)):
        got, update = f(weight, gradient, weight_decay=decay, trust=trust), gradient + decay * weight
        expect(got, (3, 5), "the update has the shape of the gradient")
        got, ratio, same = got.float(), weight.norm() / update.norm(), partial(torch.allclose, rtol=1e-4)
        if same(got, update * trust * ratio):
            continue
        named_mistake(got, (
            (update, "the update has kept its own norm, as in SGD: multiply by trust · ‖w‖ / ‖update‖"),
            (update * trust / ratio, "the ratio is upside down: multiply by the norm of the weights, divide by that of the update"),
            (update * trust * ratio / weight.norm(), "the norm of the weights is missing: large matrices should take large steps"),
            (update * ratio, "the trust is missing: at lr 1 the matrix would move by its whole norm"),
            (gradient * trust * weight.norm() / gradient.norm(), "the weight decay is missing: scale gradient + weight_decay · weight"),
            (gradient * trust * weight.norm() / gradient.norm() + decay * weight, "add the weight decay before scaling, not after it"),
            (update * trust * weight.norm() / gradient.norm(), "divide by the norm of the whole update, the weight decay included"),
        ), same=same)  # fmt: skip
        return failed("(gradient + weight_decay · weight) · trust · ‖w‖ / ‖gradient + weight_decay · weight‖ was expected")
    zero = torch.zeros(3, 5)
    for what, w, g, instead in (
        ("a bias", bias, bias.flip(0), "its gradient"),
        ("weights of zero", zero, gradient, "the update"),
        ("a gradient of zero", weight, zero, "the update"),
    ):
        got, wanted = f(w, g, weight_decay=0.0, trust=0.001), scaled_by_trust_ratio(w, g, weight_decay=0.0, trust=0.001)
        if not (isinstance(got, Tensor) and got.isfinite().all()):
            return failed(f"{what}: the result is not finite, because it divides by a norm of zero")
        if not near(got, wanted):
            return failed(f"a matrix is right; {what} should not be scaled: return {instead} as it is")
    if not near(f(bias, bias.flip(0), weight_decay=0.1, trust=0.001), bias.flip(0)):
        return failed("a bias has no weight decay: return its gradient as it is")
    return passed("the norm of the update follows that of the weights, not that of the gradient")


def ch09_slope(f: Callable[..., Any]) -> Verdict:
    """The gradient of the probe's loss with respect to its weights."""
    generator = torch.Generator().manual_seed(0)
    weight, features = torch.randn(4, 6, generator=generator), torch.randn(20, 6, generator=generator)
    labels, penalty = torch.randint(4, (20,), generator=generator), 0.3
    without_autograd(f)
    got = f(weight, features, labels, penalty)
    expect(got, (4, 6), "the gradient has the shape of the weights, classes d")
    got = got.detach().float()
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
