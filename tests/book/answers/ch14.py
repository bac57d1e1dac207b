"""Answers to the exercises of chapter 14: the classic wrong ones, and what the check must say to each."""

import math

import torch

from minimae.tasks.prompt import mask_losses, overlap
from minimae.tasks.promptable import CrossAttention, TwoWay

ROWS = torch.arange(4)


def fourier(points, frequencies, *, scale=2, turn=2 * math.pi):
    angles = turn * (scale * points - (scale - 1)) @ frequencies
    return angles.sin(), angles.cos()


class Step(TwoWay):
    """Wrong ways to take the step, by name."""

    way = ""

    def forward(self, tokens, patches, tokens_at, patches_at, seen):
        way, before = self.way, tokens
        if way == "read first":
            tokens = tokens + self.read(tokens, patches, tokens_at, patches_at)
        tokens = tokens + self.among(tokens, tokens, tokens_at, tokens_at, None if way == "padding" else seen)
        if way != "read first":
            read = self.read(tokens, patches, tokens_at, patches_at)
            tokens = read if way == "replaces" else tokens + read
        if way != "no MLP":
            thought = self.mlp(tokens if way == "no norm" else self.norm(tokens))
            tokens = thought if way in ("MLP replaces", "replaces") else tokens + thought
        if way == "patches unchanged":
            return tokens, patches
        written = self.write(
            patches, before if way == "old tokens" else tokens, patches_at, tokens_at, None if way == "padding in write" else seen
        )
        patches = written if way == "patches replaced" else patches + written
        return (patches, tokens) if way == "swapped" else (tokens, patches)


class Bare(torch.nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.read = CrossAttention(d, heads)


def wrong(name):
    return type("MyTwoWayStep", (Step,), {"way": name})


def picked(logits, quality):
    return logits[torch.arange(len(logits)), quality.argmax(1)]


def parts(out, masks):
    """The losses ``b 3`` and the squared errors of the quality ``b 3``."""
    return mask_losses(out.logits, masks), (out.quality - overlap(out.logits > 0, masks)).square()


def best(out, masks):
    losses, _ = parts(out, masks)
    return losses.argmin(1)


ANSWERS = {
    "ch14_fourier": {
        "wrong": {
            "only sines": (lambda p, f: fourier(p, f)[0], "half the width"),
            "cosines first": (lambda p, f: torch.cat(fourier(p, f)[::-1], -1), "swapped"),
            "alternating": (lambda p, f: torch.stack(fourier(p, f), -1).flatten(-2), "alternate"),
            "from 0 to 1": (lambda p, f: torch.cat(fourier(p, f, scale=1), -1), "−1 to 1"),
            "no 2π": (lambda p, f: torch.cat(fourier(p, f, turn=1), -1), "2π is missing"),
            "half a turn": (lambda p, f: torch.cat(fourier(p, f, turn=math.pi), -1), "full turn"),
            "the sine of a sine": (lambda p, f: torch.cat(fourier(p, f), -1).sin(), "values are not"),
        }
    },
    "ch14_two_way": {
        "wrong": {
            "other parts": (Bare, "leave __init__"),
            "reads the image first": (wrong("read first"), "before they attend to each other"),
            "reads padding": (wrong("padding"), "not masked"),
            "forgets the MLP": (wrong("no MLP"), "MLP is missing"),
            "no norm": (wrong("no norm"), "without the norm"),
            "replaces instead of adding": (wrong("replaces"), "replaces what was there"),
            "the MLP replaces": (wrong("MLP replaces"), "MLP replaces"),
            "patches unchanged": (wrong("patches unchanged"), "patches are unchanged"),
            "patches read old tokens": (wrong("old tokens"), "before the step"),
            "patches replaced": (wrong("patches replaced"), "replaces the patches"),
            "patches read padding": (wrong("padding in write"), "attend to the padding"),
            "swapped": (wrong("swapped"), "swapped"),
        }
    },
    "ch14_pick": {
        "wrong": {
            "a threshold for probabilities": (lambda x, q: picked(x, q) > 0.5, "belongs to probabilities"),
            "the worst": (lambda x, q: picked(x, -q) > 0, "the worst"),
            "one index for all": (lambda x, q: x[:, int(q[0].argmax())] > 0, "one index for all"),
            "the union": (lambda x, q: x.amax(1) > 0, "union"),
            "logits": (picked, "is bool"),
            "every index for every image": (lambda x, q: x[:, q.argmax(1)] > 0, "every image for every image"),
            "keeps the axis": (lambda x, q: picked(x, q)[:, None] > 0, "length 1"),
        }
    },
    "ch14_prompt_loss": {
        "wrong": {
            "trains all three": (lambda o, m: sum(part.mean() for part in parts(o, m)), "the same blur"),
            "the best of the batch": (lambda o, m: parts(o, m)[0].min() + parts(o, m)[1].mean(), "whole batch"),
            "the worst": (lambda o, m: parts(o, m)[0].amax(1).mean() + parts(o, m)[1].mean(), "worst mask"),
            "picked by quality": (
                lambda o, m: parts(o, m)[0][ROWS, o.quality.argmax(1)].mean() + parts(o, m)[1].mean(), "picked by its expected quality"
            ),
            "one quality": (lambda o, m: parts(o, m)[0].amin(1).mean() + parts(o, m)[1][ROWS, best(o, m)].mean(), "only the best mask"),
            "no quality": (lambda o, m: parts(o, m)[0].amin(1).mean(), "learns nothing"),
            "summed": (lambda o, m: parts(o, m)[0].amin(1).mean() + parts(o, m)[1].sum(1).mean(), "not summed"),
            "absolute": (lambda o, m: parts(o, m)[0].amin(1).mean() + parts(o, m)[1].sqrt().mean(), "squared"),
            "one for each image": (lambda o, m: parts(o, m)[0].amin(1) + parts(o, m)[1].mean(1), "one number"),
        }
    },
}  # fmt: skip
