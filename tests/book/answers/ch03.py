"""Answers to the exercises of chapter 03: the classic wrong ones, and what the check must say to each."""

import torch
from einops import rearrange

from minimae.model.positions import sincos_2d


def unscaled(q, k, v):
    return (q @ k.transpose(-2, -1)).softmax(dim=-1) @ v


def scaled_by_e(q, k, v):
    return (q @ k.transpose(-2, -1) / q.shape[-1]).softmax(dim=-1) @ v


def scaled_by_tokens(q, k, v):
    return (q @ k.transpose(-2, -1) / q.shape[-2] ** 0.5).softmax(dim=-1) @ v


def wrong_axis(q, k, v):
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-2) @ v


def no_softmax(q, k, v):
    return q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5 @ v


def only_reshape(x, heads):
    b, t, d = x.shape
    return x.reshape(b, heads, t, d // heads)


def swapped(vector, grid):
    table = sincos_2d(len(vector), grid)[1:]
    return divmod(int((table @ vector).argmax()), grid[1])[::-1]


def with_class_row(vector, grid):
    return divmod(int((sincos_2d(len(vector), grid) @ vector).argmax()), grid[1])


def divided_by_rows(vector, grid):
    return divmod(int((sincos_2d(len(vector), grid)[1:] @ vector).argmax()), grid[0])


def turned(d, rows, columns, *, frequencies=None, sign=1):
    frequencies = 10000.0 ** -(torch.arange(d // 4) / (d // 4)) if frequencies is None else frequencies
    halves = []
    for places in (columns, rows):
        sin, cos = torch.diag((places * frequencies).sin()), torch.diag((places * frequencies).cos())
        halves.append(torch.cat([torch.cat([cos, -sin], dim=1), torch.cat([sign * sin, cos], dim=1)]))
    return torch.block_diag(*halves)


def of_the_whole_width(d, rows, columns):
    return turned(d, rows, columns, frequencies=10000.0 ** -(torch.arange(d // 4) / (d // 2)))


def forgets_the_rows(d, rows, columns):
    return turned(d, 0, columns)


def fitted_to_sums(d, rows, columns):
    matrix = turned(d, rows, columns)
    matrix[0, d // 2] = 0.5
    return matrix


ANSWERS = {
    "ch03_attend": {
        "wrong": {
            "forgets the scale": (unscaled, "not scaled"),
            "divides by e": (scaled_by_e, "square root of e"),
            "divides by the root of t": (scaled_by_tokens, "number of tokens"),
            "softmax over the tokens that ask": (wrong_axis, "wrong axis"),
            "no softmax": (no_softmax, "no softmax"),
        }
    },
    "ch03_split_heads": {
        "wrong": {
            "reshape alone": (only_reshape, "mixes tokens"),
            "deals in turn": (lambda x, heads: rearrange(x, "b t (e heads) -> b heads t e", heads=heads), "in turn"),
            "does not swap": (lambda x, heads: rearrange(x, "b t (heads e) -> b t heads e", heads=heads), "not swapped"),
        }
    },
    "ch03_read_address": {
        "wrong": {
            "row and column swapped": (swapped, "swapped"),
            "keeps the class row": (with_class_row, "one row too far"),
            "divides by the rows": (divided_by_rows, "divide by the columns"),
        }
    },
    "ch03_move": {
        "wrong": {
            "moves the other way": (lambda d, rows, columns: turned(d, rows, columns).T, "the other way"),
            "row first": (lambda d, rows, columns: turned(d, columns, rows), "swapped"),
            "forgets the rows": (forgets_the_rows, "half of the column is right"),
            "the frequencies of the whole width": (of_the_whole_width, "wrong angles"),
            "both signs alike": (lambda d, rows, columns: turned(d, rows, columns, sign=-1), "changes the length"),
            "mixes the halves": (fitted_to_sums, "halves are mixed"),
            "the identity": (lambda d, rows, columns: torch.eye(d), "nothing moves"),
            "a matrix for one half": (lambda d, rows, columns: turned(d, rows, columns)[: d // 2, : d // 2], "16 × 16 is expected"),
        }
    },
}
