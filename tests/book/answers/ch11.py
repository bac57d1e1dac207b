"""Classic wrong answers to the exercises of chapter 11. The solutions are taken from the notebook."""

from __future__ import annotations

import math
from statistics import pstdev, stdev

import torch


def _errors(a, b, spread=stdev):
    return spread(a) / math.sqrt(len(a)), spread(b) / math.sqrt(len(b))


def _near(hidden, corners=False, wrap=True):
    seen = ~hidden if wrap else torch.nn.functional.pad(~hidden, (1, 1, 1, 1), value=False)
    steps = [(0, 1), (0, -1), (1, 0), (-1, 0)] + ([(1, 1), (1, -1), (-1, 1), (-1, -1)] if corners else [])
    found = sum(seen.roll(step, (1, 2)) for step in steps) > 0
    return found if wrap else found[:, 1:-1, 1:-1]


def _share(part, whole):
    return float(part.sum() / whole.sum())


ANSWERS = {
    "ch11_margin": {
        "wrong": {
            "once": (lambda a, b: math.hypot(*_errors(a, b)), "one standard error"),
            "added": (lambda a, b: 2 * sum(_errors(a, b)), "squares"),
            "single runs": (lambda a, b: 2 * math.hypot(stdev(a), stdev(b)), "single runs"),
            "by n": (lambda a, b: 2 * math.hypot(*_errors(a, b, pstdev)), "n − 1"),
            "no root": (lambda a, b: 2 * math.hypot(stdev(a) / len(a), stdev(b) / len(b)), "root"),
        }
    },
    "ch11_in_touch": {
        "wrong": {
            "round the edge": (lambda h: _share(_near(h) & h, h), "edge"),
            "corners": (lambda h: _share(_near(h, corners=True, wrap=False) & h, h), "corners"),
            "of all": (lambda h: _share(_near(h, wrap=False) & h, torch.ones_like(h)), "all"),
            "inverted": (lambda h: _share(_near(~h, wrap=False) & ~h, ~h), "inverted"),
            "per image": (lambda h: (_near(h, wrap=False) & h).float().mean((1, 2)), "one number"),
        }
    },
    "ch11_cheapest": {
        "wrong": {
            "the best": (lambda m, c, s: max(m, key=m.get), "whatever it costs"),
            "the cheapest": (lambda m, c, s: min(c, key=c.get), "cheapest of all"),
            "most expensive": (lambda m, c, s: max((k for k in m if m[k] >= max(m.values()) - s), key=c.get), "most expensive"),
            "a number": (lambda m, c, s: max(m.values()), "key"),
        }
    },
}
