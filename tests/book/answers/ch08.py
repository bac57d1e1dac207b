"""Classic wrong answers to the exercises of chapter 08. The solutions are taken from the notebook."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange

from minimae.data.augment import normalise


def _extract(*, mode="eval", scale=True, cat=True, tokens=None, kinds=None):
    """An extractor with one mistake."""

    @torch.no_grad()
    def wrong(encoder, pixels, statistics, *, pool="mean", batch=500):
        encoder.train(mode == "train")
        found = []
        for part in pixels.split(batch):
            x = normalise(part, statistics) if scale else part.float() / 255
            t = tokens(encoder, x) if tokens else encoder(x)
            right = {"mean": t[:, 1:].mean(1), "class": t[:, 0], "tokens": rearrange(t[:, 1:], "b n d -> b (n d)")}
            found.append({**right, **(kinds(t) if kinds else {})}[pool])
        return torch.cat(found) if cat else found[-1]

    return wrong


def _batches(parts):
    """A right extractor, except for the batches."""

    @torch.no_grad()
    def wrong(encoder, pixels, statistics, *, pool="mean", batch=500):
        return torch.cat([_with_gradients(encoder, part, statistics, pool=pool) for part in parts(pixels, batch)])

    return wrong


def _with_gradients(encoder, pixels, statistics, *, pool="mean", batch=500):
    t = encoder.eval()(normalise(pixels, statistics))
    return {"mean": t[:, 1:].mean(1), "class": t[:, 0], "tokens": t[:, 1:].flatten(1)}[pool]


def _knn(*, centred=True, own=False, unit=True, weigh=None, k=None, temperature=None, sign=1, result="class"):
    """A classifier with one mistake."""

    def wrong(train, labels, test, **given):
        count, t = k or given["k"], temperature or given["temperature"]
        centre = train.mean(0) if centred else 0
        train, test = train - centre, test - (test.mean(0) if own else centre)
        if unit:
            train, test = F.normalize(train, dim=1), F.normalize(test, dim=1)
        cosine, index = (sign * test @ train.T).topk(count, dim=1)
        if result == "indices":
            return index[:, 0]
        votes = ((cosine / t).exp() if weigh is None else weigh(cosine))[:, :, None] * F.one_hot(labels[index])
        return votes.sum(1).argmax(1) if result == "class" else labels[index]

    return wrong


def _distance(train, labels, test, *, k, temperature):
    near, index = (-torch.cdist(test, train)).topk(k, dim=1)
    return ((near / temperature).exp()[:, :, None] * F.one_hot(labels[index])).sum(1).argmax(1)


def _whole_mean(patches, hidden):
    return torch.where(hidden[:, :, None], patches.mean((1, 2), keepdim=True), patches)


def _in_place(patches, hidden):
    patches[hidden] = patches[hidden].mean(-1, keepdim=True)
    return patches


def _map(weights, rows, columns, grid):
    return weights[:, :, rows, columns].reshape(*weights.shape[:2], *grid)


ANSWERS = {
    "ch08_extract": {
        "wrong": {
            "training mode": (_extract(mode="train"), "training mode"),
            "not normalised": (_extract(scale=False), "not normalised"),
            "the last batch": (_extract(cat=False), "torch.cat"),
            "class token in the mean": (_extract(kinds=lambda t: {"mean": t.mean(1)}), "class token is part of the mean"),
            "before the norm": (_extract(tokens=lambda encoder, x: encoder.features(x)[-1]), "before the last norm"),
            "always the mean": (_extract(kinds=lambda t: {"class": t[:, 1:].mean(1)}), "pool='class': that is the mean"),
            "always the class token": (_extract(kinds=lambda t: {"mean": t[:, 0]}), "pool='mean': that is the class token"),
            "last patch": (_extract(kinds=lambda t: {"class": t[:, -1]}), "last patch: the class token is row 0"),
            "number by number": (_extract(kinds=lambda t: {"tokens": rearrange(t[:, 1:], "b n d -> b (d n)")}), r"the order is b \(d n\)"),
            "a list": (lambda *a, **k: [_extract()(*a, **k)], "not a list: torch.cat"),
            "all at once": (_batches(lambda x, batch: [x]), "given 5 images at once"),
            "two parts": (_batches(lambda x, batch: x.chunk(batch)), "given 3 images at once"),
            "first patch": (_extract(kinds=lambda t: {"class": t[:, 1]}), "first patch"),
            "one row off": (_extract(kinds=lambda t: {"tokens": t[:, :-1].flatten(1)}), "last patch is missing"),
            "all tokens": (_extract(kinds=lambda t: {"tokens": t.flatten(1)}), r"\(5, 288\), not \(5, 312\)"),
            "with gradients": (_with_gradients, "gradients"),
        }
    },
    "ch08_knn_predict": {
        "wrong": {
            "not centred": (_knn(centred=False), "mean was not subtracted"),
            "its own mean": (_knn(own=True), "own mean"),
            "long vectors": (_knn(unit=False), "different lengths"),
            "distance": (_distance, "distance"),
            "equal votes": (_knn(weigh=torch.ones_like), "same vote"),
            "the cosine": (_knn(weigh=lambda c: c), "cosine itself"),
            "multiplied": (lambda *a, k, temperature: _knn()(*a, k=k, temperature=1 / temperature), "was not divided by the temperature"),
            "no temperature": (_knn(temperature=1.0), "was not divided by the temperature"),
            "the farthest": (_knn(sign=-1), "farthest"),
            "the nearest only": (_knn(k=1), "nearest neighbour"),
            "k fixed": (_knn(k=7), "use both arguments"),
            "indices": (_knn(result="indices"), "indices"),
            "no vote": (_knn(result="labels"), "vote"),
        }
    },
    "ch08_flat_patches": {
        "wrong": {
            "black": (lambda p, h: p * ~h[:, :, None], "mean of the patch"),
            "one mean for all": (_whole_mean, "one mean for the whole picture"),
            "inverted": (lambda p, h: torch.where(h[:, :, None], p, p.mean(-1, keepdim=True)), "inverted"),
            "in place": (_in_place, "has changed"),
        }
    },
    "ch08_class_map": {
        "wrong": {
            "a column": (lambda w, grid: _map(w, slice(1, None), 0, grid), "column"),
            "shifted": (lambda w, grid: _map(w, 0, slice(0, -1), grid), "shifted"),
            "flat": (lambda w, grid: w[:, :, 0, 1:], "b heads h w was expected"),
        }
    },
    "ch08_two_directions": {
        "wrong": {
            "not centred": (lambda x: x @ torch.linalg.svd(x, full_matrices=False).Vh[:2].T, "mean was not subtracted"),
            "columns of Vh": (lambda x: (x - x.mean(0)) @ torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[:, :2], "transposed"),
            "left vectors": (lambda x: torch.linalg.svd(x - x.mean(0), full_matrices=False).U[:, :2], "left singular"),
            "smallest": (lambda x: (x - x.mean(0)) @ torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[-2:].T, "smallest"),
            "mean left in": (lambda x: x @ torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[:2].T, "subtract it there too"),
        }
    },
}
