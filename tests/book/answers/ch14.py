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


class InPlace(TwoWay):
    def forward(self, tokens, patches, tokens_at, patches_at, seen):
        tokens += self.among(tokens, tokens, tokens_at, tokens_at, seen)
        tokens += self.read(tokens, patches, tokens_at, patches_at)
        tokens += self.mlp(self.norm(tokens))
        patches += self.write(patches, tokens, patches_at, tokens_at, seen)
        return tokens, patches


class Arguments(TwoWay):
    """Wrong arguments of a cross-attention."""

    def forward(self, tokens, patches, tokens_at, patches_at, seen):
        way = self.way
        if way == "seen for patches":
            tokens = tokens + self.read(tokens, patches, tokens_at, patches_at, seen)
        if way == "positions of read":
            tokens = tokens + self.read(tokens, patches, patches_at, tokens_at)
        if way == "queries of read":
            tokens = tokens + self.read(patches, tokens, patches_at, tokens_at)
        return tokens, patches + self.write(patches, tokens, tokens_at, patches_at, seen=seen)


def wrong_arguments(name):
    return type("MyTwoWayStep", (Arguments,), {"way": name})


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
            "in place": (InPlace, r"training would stop: `x \+= …`"),
            "seen for patches": (wrong_arguments("seen for patches"), "leave out `seen`"),
            "positions of read": (wrong_arguments("positions of read"), r"in `read`, the positions of the queries \(tokens\) come first"),
            "queries of read": (wrong_arguments("queries of read"), "in `read`, the queries are the tokens"),
            "positions of write": (wrong_arguments(""), r"in `write`, the positions of the queries \(patches\) come first"),
        }
    },
    "ch14_pick": {
        "wrong": {
            "a threshold for probabilities": (lambda x, q: picked(x, q) > 0.5, "belongs to probabilities"),
            "a probability above 0": (lambda x, q: picked(x, q).sigmoid() > 0, "its threshold is 0.5"),
            "outside": (lambda x, q: picked(x, q) < 0, "inside and outside are exchanged"),
            "the second best": (lambda x, q: x[ROWS, q.argsort(1)[:, 1]] > 0, "the pixels with a logit above 0"),
            "the worst": (lambda x, q: picked(x, -q) > 0, "the worst"),
            "one index for all": (lambda x, q: x[:, int(q[0].argmax())] > 0, "one index for all"),
            "the union": (lambda x, q: x.amax(1) > 0, "union"),
            "logits": (picked, "is bool"),
            "every index for every image": (lambda x, q: x[:, q.argmax(1)] > 0, "every prompt for every prompt"),
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
            "the quality is detached": (
                lambda o, m: parts(o, m)[0].amin(1).mean() + parts(o, m)[1].detach().mean(), "out.quality gets no gradient"
            ),
            "only a number": (lambda o, m: (parts(o, m)[0].amin(1) + parts(o, m)[1].mean(1)).mean().item(), "out.logits gets no gradient"),
            "too much": (lambda o, m: parts(o, m)[0].amin(1).mean() + 2 * parts(o, m)[1].mean(), r"12.60\d{3} was expected, not 12.7\d{4}"),
            "one for each image": (lambda o, m: parts(o, m)[0].amin(1) + parts(o, m)[1].mean(1), "one number"),
        }
    },
}  # fmt: skip
