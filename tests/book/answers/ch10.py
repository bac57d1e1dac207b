"""Classic wrong answers to the exercises of chapter 10. The solutions are taken from the notebook."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from minimae.data.mixing import partners
from minimae.train.optim import layer_of


def _groups(classifier, weight_decay, layer_decay, scale=None, plain=None, frozen=False):
    """Groups of one parameter, perhaps with a classic mistake."""
    depth = len(classifier.encoder.blocks)
    scale = scale or (lambda k, layer: k ** (depth + 1 - layer))
    plain = plain or (lambda name, p: p.dim() <= 1 or name.endswith(("_token", "positions")))
    return [
        {"params": [p], "weight_decay": 0.0 if plain(name, p) else weight_decay, "lr_scale": scale(layer_decay, layer_of(name, depth))}
        for name, p in classifier.named_parameters()
        if p.requires_grad or frozen
    ]


def _targets(labels, classes, *, smoothing=0.0, shares=None, mix=None):
    target = F.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes
    if shares is None:
        return target
    own = shares.own[:, None]
    return own * target + (1 - own) * partners(target) if mix is None else mix(own, target)


def _others_only(labels, classes, *, smoothing=0.0, shares=None):
    hard = _targets(labels, classes, shares=shares)
    return hard * (1 - smoothing) + smoothing / (classes - 1) * (hard == 0)


def _looping(labels, classes, *, smoothing=0.0, shares=None):
    return torch.stack([_targets(label[None], classes, smoothing=smoothing)[0] for label in labels])


def _paste(images, box, order, share=1 - 10 / 48):
    top, left, bottom, right = box
    made = images.clone()
    made[:, :, top:bottom, left:right] = images[order][:, :, top:bottom, left:right]
    return made, share


def _in_place(images, box):
    top, left, bottom, right = box
    images[:, :, top:bottom, left:right] = images[[1, 0, 3, 2]][:, :, top:bottom, left:right]
    return images, 1 - 10 / 48


ANSWERS = {
    "ch10_classify": {
        "wrong": {
            "all tokens": (lambda x, norm, head: head(norm(x.mean(1))), "the class token is in your mean"),
            "class token": (lambda x, norm, head: head(norm(x[:, 0])), "classifies the class token"),
            "the last": (lambda x, norm, head: head(norm(x[:, :-1].mean(1))), "left out the last"),
            "no norm": (lambda x, norm, head: head(x[:, 1:].mean(1)), "the norm is missing"),
            "norm first": (lambda x, norm, head: head(norm(x[:, 1:]).mean(1)), "after the mean"),
            "no mean": (lambda x, norm, head: head(norm(x[:, 1:])), "logits b classes"),
        }
    },
    "ch10_layer_groups": {
        "wrong": {
            "upside down": (lambda c, w, k: _groups(c, w, k, scale=lambda k, i: k**i), "upside down"),
            "one too few": (lambda c, w, k: _groups(c, w, k, scale=lambda k, i: k ** (4 - i)), "one too few"),
            "one too many": (lambda c, w, k: _groups(c, w, k, scale=lambda k, i: k ** (6 - i)), "one too many"),
            "a product": (lambda c, w, k: _groups(c, w, k, scale=lambda k, i: k * (5 - i)), "not a product"),
            "no decay": (lambda c, w, k: _groups(c, w, k, scale=lambda k, i: 1.0), "depends on the layer"),
            "biases": (lambda c, w, k: _groups(c, w, k, plain=lambda name, p: name.endswith(("_token", "positions"))), "biases and norms"),
            "positions": (lambda c, w, k: _groups(c, w, k, plain=lambda name, p: p.dim() <= 1), "the class token and the positions"),
            "nothing decayed": (lambda c, w, k: _groups(c, w, k, plain=lambda name, p: True), "is a matrix"),
            "frozen": (lambda c, w, k: _groups(c, w, k, frozen=True), "is frozen"),
            "a part": (lambda c, w, k: _groups(c, w, k)[:-1], "in no group"),
            "twice": (lambda c, w, k: 2 * _groups(c, w, k), "two groups"),
            "a parameter": (lambda c, w, k: [g | {"params": g["params"][0]} for g in _groups(c, w, k)], "must be a list .* not Parameter"),
            "names": (lambda c, w, k: [g | {"params": ["head"]} for g in _groups(c, w, k)], "no parameter of the classifier, but 'head'"),
            "nearly": (lambda c, w, k: _groups(c, w, k, scale=lambda k, i: k ** (5 - i) + 2e-6), r"its share is 0\.\d{6}, not 0\.\d{6}$"),
            "lr": (lambda c, w, k: [{"params": [p], "weight_decay": w, "lr": k} for p in c.parameters()], "no 'lr_scale'"),
        }
    },
    "ch10_soft_targets": {
        "wrong": {
            "not smoothed": (lambda y, n, smoothing=0.0, shares=None: _targets(y, n, shares=shares), "not smoothed"),
            "swapped": (lambda y, n, **how: _targets(y, n, **how, mix=lambda own, t: (1 - own) * t + own * partners(t)), "swapped"),
            "the others only": (_others_only, "the right one included"),
            "not mixed": (lambda y, n, smoothing=0.0, shares=None: _targets(y, n, smoothing=smoothing), "mix the targets"),
            "reversed": (lambda y, n, **how: _targets(y, n, **how, mix=lambda own, t: own * t + (1 - own) * t.flip(0)), "reversed batch"),
            "sum": (lambda y, n, smoothing=0.0, shares=None: _targets(y, n, shares=shares) + smoothing / n, "sum to 1"),
            "a loop": (_looping, "treats all images at once, without a loop"),
        }
    },
    "ch10_paste": {
        "wrong": {
            "a ring": (lambda x, box: _paste(x, box, [3, 0, 1, 2]), "ring"),
            "reversed": (lambda x, box: _paste(x, box, [3, 2, 1, 0]), "reversed"),
            "rows and columns": (lambda x, box: _paste(x, (box[1], box[0], box[3], box[2]), [1, 0, 3, 2]), "exchanged"),
            "the other share": (lambda x, box: _paste(x, box, [1, 0, 3, 2], 10 / 48), "share of the rectangle"),
            "rounded": (lambda x, box: _paste(x, box, [1, 0, 3, 2], 0.792), r"0\.79167, not 0\.79200"),
            "in place": (_in_place, "clone"),
        }
    },
}
