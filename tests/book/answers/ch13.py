"""Classic wrong answers to the exercises of chapter 13. The solutions are taken from the notebook."""

from __future__ import annotations

from minimae.model.masking import keep_count
from minimae.model.sizes import block_flops


def _halved(window, processes, fits):
    batch = window // processes
    while batch > fits:
        batch //= 2
    return batch, window // processes // batch


def _largest(window, processes, fits):
    return next((b, window // processes // b) for b in range(fits, 0, -1) if window // processes % b == 0)


def _count(s, ratio, *, forward=None, tokens="visible", extra=1, seen="all", project="", predict="", queries=True, narrow=True, joins=True,
           factor=2):  # fmt: skip
    """A training step with a mistake; forward: how many forward passes a step is said to be."""
    n = s.grid[0] * s.grid[1]
    k = keep_count(n, ratio)
    m, d, t = n - k, s.decoder_width, extra + (n if tokens == "all" else k)
    every = extra + (k if seen == "visible" else n)
    projection = 2 * (n if project == "all" else k) * s.values * s.width
    total = projection + s.depth * block_flops(t, s.width) + (2 * (t if joins else k) * s.width * d if narrow else 0)
    total += (s.decoder_depth - 1) * block_flops(every, d) + block_flops(every, d, queries=m if queries else None)
    total += 2 * (n if predict == "all" else m) * d * s.values
    return (forward * total if forward else 3 * total - projection) // (2 // factor)


def _bytes(a, b, c):
    """Bytes for each parameter: in one process, in several with DDP, and with sharding."""
    return lambda parameters, processes, shard: parameters * (c if shard else a if processes == 1 else b)


ANSWERS = {
    "ch13_split_step": {
        "wrong": {
            "halves": (_halved, "lost|also divides"),
            "one batch": (lambda w, p, f: (w // p, 1), "does not fit"),
            "forgets the processes": (lambda w, p, f: _largest(w, 1, f), "own part"),
            "exchanged": (lambda w, p, f: _largest(w, p, f)[::-1], "reverse"),
            "loses images": (lambda w, p, f: (min(f, w // p), max(1, w // p // f)), "are lost"),
            "rounds up": (lambda w, p, f: (min(f, w // p), -(-(w // p) // f)), "more than the step has"),
            "floats": (lambda w, p, f: (b := _largest(w, p, f)[0], w / p / b), "must be integers"),
            "one image at a time": (lambda w, p, f: (1, w // p), "also divides"),
        }
    },
    "ch13_step_flops": {
        "wrong": {
            "forward only": (lambda s, r=0.75: _count(s, r, forward=1), "forward pass only"),
            "twice": (lambda s, r=0.75: _count(s, r, forward=2), "two products"),
            "three forward passes": (lambda s, r=0.75: _count(s, r, forward=3), "into the pixels"),
            "encoder sees all": (lambda s, r=0.75: _count(s, r, tokens="all"), "only the visible patches and"),
            "no class token": (lambda s, r=0.75: _count(s, r, extra=0), "class token is missing"),
            "decoder sees visible": (lambda s, r=0.75: _count(s, r, seen="visible"), "decoder works on all"),
            "projects all": (lambda s, r=0.75: _count(s, r, project="all"), "patches are projected"),
            "predicts all": (lambda s, r=0.75: _count(s, r, predict="all"), "masked patches are predicted"),
            "all queries": (lambda s, r=0.75: _count(s, r, queries=False), "queries=m"),
            "no change of width": (lambda s, r=0.75: _count(s, r, narrow=False), "changes the width"),
            "multiply-adds": (lambda s, r=0.75: _count(s, r, factor=1), "two operations"),
            "the class token stays": (lambda s, r=0.75: _count(s, r, joins=False), r"1 \+ k tokens, not on k"),
            "the ratio is not used": (lambda s, r=0.75: _count(s, 0.75), "`ratio` is not used"),
            "one size only": (
                lambda s, r=0.75: _count(s, r) + (r == 0.5), r"\('nano'\), 0.5\), with n = 49 and k = 25, .*,184 .*,185, 1.000000 times"
            ),
            "something else": (lambda s, r=0.75: 10**9, "needs 57,143,857,152 operations, and you count 1,000,000,000, 0.0175"),
        }
    },
    "ch13_roofline_seconds": {
        "wrong": {
            "larger sum": (lambda o, p, b: max(sum(f for f, _ in o) / p, sum(m for _, m in o) / b), "larger of two sums"),
            "adds both": (lambda o, p, b: sum(f / p + m / b for f, m in o), "at the same time"),
            "min": (lambda o, p, b: sum(min(f / p, m / b) for f, m in o), "max, not min"),
            "computing only": (lambda o, p, b: sum(f / p for f, _ in o), "moving the bytes"),
            "moving only": (lambda o, p, b: sum(m / b for _, m in o), "computing takes time"),
            "the slowest": (lambda o, p, b: max(max(f / p, m / b) for f, m in o), "add the times of all"),
            "exchanged": (lambda o, p, b: sum(max(f / b, m / p) for f, m in o), "take 11.6 s together, and you say"),
            "one peak": (lambda o, p, b: sum(max(f / 1e12, m / b) for f, m in o), r"peak 1e\+13 .* take 4.4 s together, and you say 11.6"),
        }
    },
    "ch13_state_bytes": {
        "wrong": {
            "weights only": (_bytes(4, 4, 0.5), "weights alone"),
            "one moment": (_bytes(12, 12, 1.5), "one of four"),
            "no moments": (_bytes(8, 8, 1), "two moments"),
            "DDP divides": (_bytes(16, 2, 2), "whole copy"),
            "never divides": (_bytes(16, 16, 16), "a part of all four"),
            "half weights": (_bytes(14, 14, 1.75), "float32"),
        }
    },
    "ch13_waiting_share": {
        "wrong": {
            "below zero": (lambda g, c, n: 1 - n * c / g, "less than 0"),
            "working": (lambda g, c, n: min(1.0, n * c / g), "works"),
            "of the working time": (lambda g, c, n: max(0.0, g / (n * c) - 1), "whole time"),
            "in percent": (lambda g, c, n: 100 * max(0.0, 1 - n * c / g), "in percent"),
            "a difference": (lambda g, c, n: abs(1 - n * c / g), "with 16 cores .* a share of 0 of the time; you say 1$"),
            "something else": (lambda g, c, n: 0.5, "a share of 0.25 of the time; you say 0.5"),
        }
    },
}  # fmt: skip
