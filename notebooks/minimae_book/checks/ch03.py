"""Checks of chapter 03: attention, heads, and addresses."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from minimae.model.positions import sincos_1d, sincos_2d

from ..verdict import Verdict, failed, passed
from .comparing import expect, near, random


def ch03_attend(f: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Verdict:
    """Exercise 1: attention written out."""
    q, k, v = (random(2, 3, 5, 4, seed=i) for i in range(3))
    got = f(q, k, v)
    scores = q @ k.transpose(-2, -1)
    if near(got, F.scaled_dot_product_attention(q, k, v)):
        return passed("three lines, and equal to PyTorch's own function")
    if near(got, scores.softmax(dim=-1) @ v):
        return failed("the scores are not scaled: divide them by the square root of e, the width of a head, before the softmax")
    if near(got, (scores / 4).softmax(dim=-1) @ v):
        return failed("you divide the scores by e; it is the square root of e")
    if near(got, (scores / 5**0.5).softmax(dim=-1) @ v):
        return failed("you divide by the square root of t, the number of tokens. It is e, the width of a head: the last axis")
    if any(near(got, (scores / s).softmax(dim=-2) @ v) for s in (1, 2, 4)):
        return failed("the softmax runs over the wrong axis: the weights of each query sum to 1 over the keys, the last axis")
    if near(got, scores / 2 @ v):
        return failed("there is no softmax: the scores are not weights yet")
    if isinstance(got, Tensor) and got.shape != v.shape:
        return failed(f"the result has shape {tuple(got.shape)} and should have that of the values, {tuple(v.shape)}")
    return failed("the values are mixed with other weights than softmax(q · k / √e). Compare with the three tokens by hand")


def ch03_split_heads(f: Callable[[Tensor, int], Tensor]) -> Verdict:
    """Exercise 2: heads without einops."""
    x, heads = torch.arange(2.0 * 5 * 12).reshape(2, 5, 12), 3
    got = f(x, heads)
    if near(got, rearrange(x, "b t (heads e) -> b heads t e", heads=heads)):
        return passed("cut the last axis first, then swap two axes")
    if near(got, x.reshape(2, heads, 5, 4)):
        return failed(
            "the shape is right, but reshape alone mixes tokens: head 0 gets numbers of several tokens. Cut the last axis, then transpose"
        )
    if near(got, rearrange(x, "b t (e heads) -> b heads t e", heads=heads)):
        return failed("you assign the numbers to the heads in turn, (e heads). The numbers of one head lie side by side: (heads e)")
    if near(got, rearrange(x, "b t (heads e) -> b t heads e", heads=heads)):
        return failed("the axes are cut but not swapped: b t heads e instead of b heads t e")
    if isinstance(got, Tensor) and got.shape != (2, heads, 5, 4):
        return failed(f"for 2 images, 5 tokens, width 12 and 3 heads the shape is (2, 3, 5, 4), not {tuple(got.shape)}")
    return failed("the shape is right, but the numbers are in another order than einops gives. Try it on torch.arange")


def ch03_read_address(f: Callable[[Tensor, tuple[int, int]], tuple[int, int]]) -> Verdict:
    """Exercise 3: from a position vector back to row and column."""
    grid, wrong = (4, 6), []
    table = sincos_2d(64, grid)[1:] + 0.1 * random(24, 64)
    for i, vector in enumerate(table):
        row, column = (int(x) for x in f(vector, grid))
        if (row, column) != divmod(i, grid[1]):
            wrong.append((i, row, column))
    if not wrong:
        return passed("you decoded all 24 positions, in spite of the noise")
    if all((column, row) == divmod(i, grid[1]) for i, row, column in wrong):
        return failed("row and column are swapped: an index into the table is row · columns + column")
    if all(row * grid[1] + column == i + 1 for i, row, column in wrong):
        return failed("you are one row too far: the first row of the table belongs to the class token, patches start after it")
    if all((row, column) == divmod(i, grid[0]) for i, row, column in wrong):
        return failed("you divide by the number of rows. An index is row · columns + column: divide by the columns, grid[1]")
    i, row, column = wrong[0]
    return failed(f"{len(wrong)} of 24 positions are misread; the first one, {divmod(i, grid[1])}, as {(row, column)}")


def ch03_move(f: Callable[[int, int, int], Tensor]) -> Verdict:
    """Exercise 4: the matrix that moves every address by some rows and columns."""
    for d, rows, columns in ((16, 1, 2), (32, -2, 3), (8, 0, 1)):
        got = f(d, rows, columns)
        expect(got, (d, d), f"for addresses of {d} numbers a matrix {d} × {d} is expected")
        start, moved, what = _addresses(d, 0, 0), got.double(), f"{rows} rows and {columns} columns"
        if near(start @ moved, _addresses(d, rows, columns)):
            continue
        half = d // 2
        if near(start @ moved, start):
            return failed(f"nothing moves: for {what} the matrix is not the identity")
        if near(start @ moved, _addresses(d, -rows, -columns)):
            return failed("it moves the other way: transpose each rotation, because the address is on the left, address @ matrix")
        if near(start @ moved, _addresses(d, columns, rows)):
            return failed("rows and columns are swapped: the first half of the channels holds the column")
        if moved[:half, half:].abs().max() > 1e-6 or moved[half:, :half].abs().max() > 1e-6:
            return failed("the two halves are mixed: rotate column and row separately (torch.block_diag)")
        fine = [near((start @ moved)[:, part], _addresses(d, rows, columns)[:, part]) for part in (slice(0, half), slice(half, d))]
        if any(fine):
            return failed(f"the half of the {'column' if fine[0] else 'row'} is right for {what}, the other half is not")
        if not near(moved @ moved.T, torch.eye(d, dtype=torch.float64)):
            return failed("your matrix changes the length of an address; turning a clock hand does not: check the signs")
        return failed(f"for {what} the hands are turned, but by wrong angles: coordinates · 10000^(−i / (d/4)), in radians")
    return passed("one matrix serves all positions: a query multiplied by it looks for its own neighbour")


def _addresses(d: int, rows: int, columns: int) -> Tensor:
    """The addresses of a 5 × 6 grid, all moved by some rows and columns, also beyond the edge: float64 ``30 d``."""
    row = sincos_1d(torch.arange(5) + rows, d // 2).repeat_interleave(6, dim=0)
    return torch.cat([sincos_1d(torch.arange(6) + columns, d // 2).repeat(5, 1), row], dim=1)
