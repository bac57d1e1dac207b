"""Classic wrong answers to the exercises of chapter 09. The solutions are taken from the notebook."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn


def _scaled(x, by, over=0):
    return (x - by.mean(over, keepdim=True)) / (by.std(over, keepdim=True) + 1e-6)


def _no_guard(train, test):
    return (train - train.mean(0)) / train.std(0), (test - train.mean(0)) / train.std(0)


def _standardised_in_place(train, test):
    train.sub_(train.mean(0)).div_(train.std(0).clamp(min=1e-3))
    return train, test


def _probe(*, mode="eval", freeze=True, norm=None, std=0.01, own_copy=True, forward=None, returns=True):
    """A probe with one mistake."""

    class Wrong(nn.Module):
        def __init__(self, encoder, classes, *, pool="class"):
            super().__init__()
            self.encoder, self.pool = copy.deepcopy(encoder) if own_copy else encoder, pool
            self.encoder.requires_grad_(not freeze)
            self.norm = (norm or (lambda d: nn.BatchNorm1d(d, affine=False, eps=1e-6)))(encoder.size.width)
            self.head = nn.Linear(encoder.size.width, classes)
            nn.init.normal_(self.head.weight, std=std)
            nn.init.zeros_(self.head.bias)

        def train(self, mode_=True):
            if mode == "always eval":
                super().train(False)
            else:
                super().train(mode_)
                if mode == "eval":
                    self.encoder.eval()
            return self if returns else None

        def forward(self, images):
            with torch.no_grad():
                tokens = self.encoder(images)
            if forward:
                return forward(self, tokens)
            return self.head(self.norm(tokens[:, 0] if self.pool == "class" else tokens[:, 1:].mean(1)))

    return Wrong


def _ratio(update=lambda w, g, d: g + d * w, factor=lambda w, u, g, t: t * w.norm() / u.norm(), *, biases=False, guard=True, decayed=False):
    """A trust ratio with one mistake."""

    def wrong(weight, gradient, *, weight_decay, trust):
        if weight.dim() <= 1 and not biases:
            return gradient + weight_decay * weight if decayed else gradient
        u = update(weight, gradient, weight_decay)
        if guard and (weight.norm() == 0 or (u.norm() == 0 and guard is True)):
            return u
        return u * factor(weight, u, gradient, trust)

    return wrong


def _in_place(weight, gradient, *, weight_decay, trust):
    gradient.add_(weight_decay * weight)
    return gradient.mul_(trust * weight.norm() / gradient.norm())


def _only_biases_in_place(weight, gradient, *, weight_decay, trust):
    if weight.dim() <= 1:
        return gradient.add_(weight_decay * weight)
    return _ratio()(weight, gradient, weight_decay=weight_decay, trust=trust)


def _decay_after(weight, gradient, *, weight_decay, trust):
    return _ratio(lambda w, g, d: g)(weight, gradient, weight_decay=0, trust=trust) + weight_decay * weight


def _backward(weight, features, labels, penalty):
    weight = weight.clone().requires_grad_()
    (F.cross_entropy(features @ weight.T, labels) + penalty * weight.square().sum()).backward()
    return weight.grad


def _grad(weight, features, labels, penalty):
    return torch.func.grad(lambda w: F.cross_entropy(features @ w.T, labels) + penalty * w.square().sum())(weight)


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
            "test as it is": (lambda a, b: (_scaled(a, a), b), "the training vectors are right; the test vectors need"),
            "in place": (_standardised_in_place, r"an input has changed \(a float32 tensor of shape \(40, 4\)\)"),
            "one set": (lambda a, b: _scaled(a, a), "two tensors"),
        }
    },
    "ch09_linear_probe": {
        "wrong": {
            "not frozen": (_probe(freeze=False), "not frozen"),
            "the given encoder": (_probe(own_copy=False), "freeze your copy"),
            "training mode": (_probe(mode="train"), "training mode with the probe"),
            "always eval": (_probe(mode="always eval"), r"super\(\).train\(mode\)"),
            "train returns nothing": (_probe(returns=False), "return self"),
            "affine": (_probe(norm=lambda d: nn.BatchNorm1d(d, eps=1e-6)), "affine=False"),
            "LayerNorm": (_probe(norm=nn.LayerNorm), "nn.BatchNorm1d"),
            "eps": (_probe(norm=lambda d: nn.BatchNorm1d(d, affine=False)), "1e-6"),
            "large weights": (_probe(std=0.1), r"N\(0, 0.01\), and its bias at 0; yours have std 0\.0989"),
            "no norm": (_probe(forward=lambda s, t: s.head(t[:, 0] if s.pool == "class" else t[:, 1:].mean(1))), "norm is missing"),
            "class token in the mean": (
                _probe(forward=lambda s, t: s.head(s.norm(t[:, 0] if s.pool == "class" else t.mean(1)))), "class token is part of the mean",
            ),
            "no gradient": (
                _probe(forward=lambda s, t: s.head(s.norm(t[:, 0] if s.pool == "class" else t[:, 1:].mean(1))).detach()), "no gradient",
            ),
            "always the mean": (_probe(forward=lambda s, t: s.head(s.norm(t[:, 1:].mean(1)))), "self.pool"),
        }
    },
    "ch09_trust_ratio": {
        "wrong": {
            "SGD": (_ratio(factor=lambda w, u, g, t: 1.0), "SGD"),
            "upside down": (_ratio(factor=lambda w, u, g, t: t * u.norm() / w.norm()), "upside down"),
            "unit update": (_ratio(factor=lambda w, u, g, t: t / u.norm()), "norm of the weights is missing"),
            "no trust": (_ratio(factor=lambda w, u, g, t: w.norm() / u.norm()), "trust is missing"),
            "no decay": (_ratio(lambda w, g, d: g), "weight decay is missing"),
            "decay afterwards": (_decay_after, "before scaling"),
            "norm of the gradient": (_ratio(factor=lambda w, u, g, t: t * w.norm() / g.norm()), "whole update"),
            "biases scaled": (_ratio(biases=True), "a bias should not be scaled: return its gradient as it is"),
            "biases decayed": (_ratio(decayed=True), "a bias has no weight decay: return its gradient as it is"),
            "biases decayed in place": (_only_biases_in_place, "an input has changed"),
            "0 / 0": (_ratio(guard="weights"), "norm of zero"),
            "no exception": (_ratio(guard=False), "weights of zero should not be scaled: return the update as it is"),
            "in place": (_in_place, "changed"),
        }
    },
    "ch09_slope": {
        "wrong": {
            "sign": (lambda w, x, y, p: -_wrong(w, x, y).T @ x / len(x) + 2 * p * w, "sign"),
            "a sum": (lambda w, x, y, p: _wrong(w, x, y).T @ x + 2 * p * w, "mean"),
            "no penalty": (lambda w, x, y, p: _wrong(w, x, y).T @ x / len(x), "penalty is missing"),
            "half": (lambda w, x, y, p: _wrong(w, x, y).T @ x / len(x) + p * w, "factor of 2"),
            "backward": (_backward, "it calls backward"),
            "grad": (_grad, "it calls grad"),
            "transposed": (lambda w, x, y, p: x.T @ _wrong(w, x, y), "shape of the weights"),
        }
    },
}
