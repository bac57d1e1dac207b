"""Classic wrong answers to the exercises of chapter 11. The solutions are taken from the notebook."""

from __future__ import annotations

import math
from dataclasses import astuple, replace
from statistics import mean, pvariance, variance

import torch
from minimae_book.evidence.statistics import Effect, welch


def _welch(a, b, *others, spread=variance, single=False, freedom=None, power=2, less=1):
    parts = [(spread(x) / (1 if single else len(x)), len(x) - less) for x in (a, b)] + list(others)
    total = sum(part for part, _ in parts)
    degrees = total**power / sum(part**2 / each for part, each in parts) if freedom is None else freedom
    return Effect(mean(a) - mean(b), math.sqrt(total), degrees)


def _freedom(a, b, *others, above=True, below=True, less=0):
    """Welch's interval with a mistake in what the others add to the degrees of freedom."""
    parts = [(variance(x) / len(x), len(x) - 1) for x in (a, b)] + [(part, degrees - less) for part, degrees in others]
    over, under = parts if above else parts[:2], parts if below else parts[:2]
    return _changed(a, b, *others, freedom=sum(part for part, _ in over) ** 2 / sum(part**2 / degrees for part, degrees in under))


def _changed(a, b, *others, **changes):
    return replace(welch(a, b, *others), **changes)


def _holm(values, factor=None, keep=True, top=1.0):
    k, found, largest = len(values), list(values), 0.0
    for rank, i in enumerate(sorted(range(k), key=lambda i: values[i])):
        p = min(top, (factor or (lambda k, rank: k - rank))(k, rank) * values[i])
        largest = max(largest, p) if keep else p
        found[i] = largest
    return found


def _near(hidden, corners=False, wrap=True):
    seen = ~hidden if wrap else torch.nn.functional.pad(~hidden, (1, 1, 1, 1), value=False)
    steps = [(0, 1), (0, -1), (1, 0), (-1, 0)] + ([(1, 1), (1, -1), (-1, 1), (-1, -1)] if corners else [])
    found = sum(seen.roll(step, (1, 2)) for step in steps) > 0
    return found if wrap else found[:, 1:-1, 1:-1]


def _edged(hidden):
    return _near(torch.nn.functional.pad(hidden, (1, 1, 1, 1), value=False))[:, 1:-1, 1:-1]


def _share(part, whole):
    return float(part.sum() / whole.sum())


ANSWERS = {
    "ch11_welch": {
        "wrong": {
            "swapped": (lambda a, b, *o: welch(b, a, *o), "swapped"),
            "no root": (lambda a, b, *o: _changed(a, b, *o, error=welch(a, b, *o).error ** 2), "take the root"),
            "added": (lambda a, b, *o: _changed(a, b, *o, error=sum(math.sqrt(variance(x) / len(x)) for x in (a, b))), "add as squares"),
            "single runs": (lambda a, b, *o: _welch(a, b, *o, single=True), "single runs"),
            "by n": (lambda a, b, *o: _welch(a, b, *o, spread=pvariance), "n − 1, not by n: use `variance`"),
            "pooled": (lambda a, b, *o: _welch(a, b, *o, freedom=len(a) + len(b) - 2), "suppose equal variances"),
            "the smaller": (lambda a, b, *o: _welch(a, b, *o, freedom=2), "too careful"),
            "not squared": (lambda a, b, *o: _welch(a, b, *o, power=1), "is squared"),
            "n for n − 1": (lambda a, b, *o: _welch(a, b, *o, less=0), "the degrees of freedom, not by n"),
            "no others": (lambda a, b, *o: welch(a, b), "`others` are missing"),
            "others not above": (lambda a, b, *o: _freedom(a, b, *o, above=False), "missing from the numerator"),
            "others not below": (lambda a, b, *o: _freedom(a, b, *o, below=False), "missing from the denominator"),
            "others in the error only": (lambda a, b, *o: _freedom(a, b, *o, above=False, below=False), "they belong in both sums"),
            "others less 1": (lambda a, b, *o: _freedom(a, b, *o, less=1), "do not subtract 1"),
            "a bit off": (lambda a, b, *o: _changed(a, b, *o, freedom=welch(a, b, *o).freedom * 1.0002), r"are (\d\.\d{6}), not (?!\1)"),
            "no spread": (_welch, "no spread: .* math.inf"),
            "tensors": (lambda *a: Effect(*map(torch.tensor, astuple(welch(*a)))), "three floats .* difference is a float32 tensor"),
            "a tuple": (lambda a, b, *o: (1.0, 2.0, 3.0), "was expected, not tuple"),
        }
    },
    "ch11_holm": {
        "wrong": {
            "Bonferroni": (lambda v: _holm(v, factor=lambda k, rank: k), "Bonferroni"),
            "sorted": (lambda v: sorted(_holm(v)), "but sorted"),
            "not monotone": (lambda v: _holm(v, keep=False), "the largest so far"),
            "above 1": (lambda v: _holm(v, top=9.0), "at most 1"),
            "upside down": (lambda v: _holm(v, factor=lambda k, rank: rank + 1, keep=False), "the wrong way round"),
            "nothing": (lambda v: list(v), "nothing was corrected"),
            "in place": (lambda v: v.sort() or _holm(v), "has changed"),
            "a tensor": (lambda v: torch.tensor(_holm(v)), "a list of 4 corrected values was expected, not a float32 tensor"),
        }
    },
    "ch11_in_touch": {
        "wrong": {
            "round the edge": (lambda h: _share(_near(h) & h, h), "edge"),
            "corners": (lambda h: _share(_near(h, corners=True, wrap=False) & h, h), "corners"),
            "of all": (lambda h: _share(_near(h, wrap=False) & h, torch.ones_like(h)), "all"),
            "inverted": (lambda h: _share(_near(~h, wrap=False) & ~h, ~h), "inverted"),
            "per image": (lambda h: (_near(h, wrap=False) & h).float().mean((1, 2)), "one number was expected, .* tensor of shape"),
            "mean of shares": (lambda h: sum(_share(_near(x, wrap=False) & x, x) for x in h.split(1)) / 3, "mean of each image's share"),
            "beyond the edge": (lambda h: _share(_edged(h) & h, h), "beyond the edge"),
            "percent": (lambda h: 100 * _share(_near(h, wrap=False) & h, h), "a number from 0 to 1"),
            "a count": (lambda h: (_near(h, wrap=False) & h).sum(), "47 is a count"),
            "half": (lambda h: 0.5, "47 of 56 hidden patches .* a share of 0.8393; you say 0.5000"),
        }
    },
    "ch11_cheapest": {
        "wrong": {
            "the best": (lambda m, c, s: max(m, key=m.get), "whatever it costs"),
            "the cheapest": (lambda m, c, s: min(c, key=c.get), "cheapest of all"),
            "most expensive": (lambda m, c, s: max((k for k in m if m[k] >= max(m.values()) - s), key=c.get), "most expensive"),
            "the first": (lambda m, c, s: next(k for k in m if m[k] >= max(m.values()) - s), "the first in the dictionary"),
            "the last": (lambda m, c, s: [k for k in m if m[k] >= max(m.values()) - s][-1], "slack of 1.0, 'd' was expected, not 'b'"),
            "a number": (lambda m, c, s: max(m.values()), "key"),
        }
    },
}
