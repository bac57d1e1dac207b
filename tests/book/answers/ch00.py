"""Classic wrong answers to the exercises of chapter 00. The solutions are taken from the notebook."""

from __future__ import annotations

import math

import torch


def _hidden_instead(height, width, patch, ratio):
    return round((height // patch) * (width // patch) * ratio)


def _cut_off(height, width, patch, ratio):
    return int((height // patch) * (width // patch) * (1 - ratio))


def _pixels(height, width, patch, ratio):
    return round(height * width * (1 - ratio))


def _fraction(height, width, patch, ratio):
    return (height // patch) * (width // patch) * (1 - ratio)


def _inside_out(top, left, tall, wide, grid):
    kept = torch.ones(1, *grid)
    kept[:, top : top + tall, left : left + wide] = 0
    return kept


def _swapped(top, left, tall, wide, grid):
    removed = torch.zeros(1, *grid)
    removed[:, left : left + wide, top : top + tall] = 1
    return removed


def _ends(top, left, tall, wide, grid):
    removed = torch.zeros(1, *grid)
    removed[:, top:tall, left:wide] = 1
    return removed


def _no_batch(top, left, tall, wide, grid):
    return _inside_out(top, left, tall, wide, grid)[0]


ANSWERS = {
    "ch00_visible_patches": {
        "wrong": {
            "counts the hidden": (_hidden_instead, "hidden"),
            "cuts off": (_cut_off, r"you say 9, but 49 × 0.20 = 9.80, and the nearest integer is 10: use round"),
            "rounds up": (lambda *a: math.ceil(_fraction(*a)), r"you say 13, but 49 × 0.25 = 12.25, and the nearest integer is 12"),
            "does not round": (_fraction, "you say 12.25, .*use round"),
            "a list": (lambda *a: [_fraction(*a)], r"one number was expected, .*not \[12.25\]"),
            "counts pixels": (_pixels, "counts pixels"),
            "returns nothing": (lambda *a: None, "return"),
        }
    },
    "ch00_hide_rectangle": {
        "wrong": {
            "inverted": (_inside_out, "inverted"),
            "rows and columns swapped": (_swapped, "swapped"),
            "sizes taken for ends": (_ends, "sizes"),
            "no batch axis": (_no_batch, r"\(1, 6, 9\)"),
            "one row too low": (lambda top, *a: 1 - _inside_out(top + 1, *a), "row 1, column 2 should be 1, but yours is 0"),
        }
    },
    "ch00_error_on_hidden": {
        "wrong": {
            "over all pixels": (lambda o, p, h: ((o - p) ** 2).mean(), "all"),
            "divided by all pixels": (lambda o, p, h: ((o - p) ** 2 * h).mean(), "number of hidden"),
            "the visible ones": (lambda o, p, h: ((o - p) ** 2)[~h].mean(), "visible"),
            "not squared": (lambda o, p, h: (o - p)[h].mean(), "cancel"),
            "a sum": (lambda o, p, h: ((o - p) ** 2)[h].sum(), "sum"),
            "no mean": (lambda o, p, h: ((o - p) ** 2)[h], r"one number was expected, .*not a float32 tensor of shape"),
            "a hundredth of a percent off": (lambda o, p, h: 1.0001 * ((o - p) ** 2)[h].mean(), r"is (\d\.\d{6}), and you say (?!\1)"),
        }
    },
}
