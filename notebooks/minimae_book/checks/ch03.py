"""Checks of chapter 03: attention, heads, blocks and positions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from minimae.model import vit
from minimae.model.positions import sincos_1d, sincos_2d

from ..verdict import Verdict, failed, passed
from .comparing import described, expect, loaded, named_mistake, near, random, trains, without_name

PARTS = ("queries", "keys", "values")


def ch03_attend(f: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Verdict:
    """Exercise 1: attention written out."""
    q, k, v = (random(2, 3, 5, 6, seed=i) for i in range(3))
    got, root = f(q, k, v), 6**0.5
    scores = q @ k.transpose(-2, -1)
    if near(got, F.scaled_dot_product_attention(q, k, v)):
        without_name(f, "scaled_dot_product_attention")
        return passed("three lines, and equal to PyTorch's own function")
    named_mistake(got, (
        (scores.softmax(dim=-1) @ v, "the scores are not scaled: divide them by the square root of e, the width of a head, before the softmax"),
        ((scores / 2).softmax(dim=-1) @ v, "you divide the scores by √4, as in the example. The check has e = 6: the number e is q.shape[-1]"),
        ((scores / 6).softmax(dim=-1) @ v, "you divide the scores by e; it is the square root of e"),
        ((scores / 5**0.5).softmax(dim=-1) @ v, "you divide by the square root of t, the number of tokens. It is e, the width of a head: the last axis"),
        *(((scores / s).softmax(dim=-2) @ v, "the softmax runs over the wrong axis: the weights of each query sum to 1 over the keys, the last axis") for s in (1, 2, root, 6)),
        *((scores / s @ v, "there is no softmax: the scores are not weights yet") for s in (1, 2, root, 6)),
    ))  # fmt: skip
    if isinstance(got, Tensor) and got.shape != v.shape:
        return failed(f"the result has shape {tuple(got.shape)} and should have that of the values, {tuple(v.shape)}")
    return failed("the values are mixed with other weights than softmax(q · k / √e). Compare with the three tokens by hand")


def ch03_attention(cls: type[nn.Module]) -> Verdict:
    """Exercise 2: multi-head attention as a layer, with the weights of the package's layer."""
    package, x = vit.Attention(12, 3), random(2, 5, 12)
    layer = loaded(cls(12, 3), package)
    got, wanted = layer(x.clone()), package(x)
    if near(got, wanted):
        trains(layer.named_parameters(), got)
        package, x = vit.Attention(12, 2), random(3, 4, 12)
        if not near(loaded(cls(12, 2), package)(x), package(x)):
            return failed("right for 12 channels in 3 heads, wrong for 12 channels in 2 heads: use self.heads, and no fixed number")
        return passed("it equals the package's layer, number by number")
    expect(got, (2, 5, 12), "tokens go in and tokens of the same shape come out")
    named_mistake(got, (
        (_heads(package, x), "the last linear layer, self.out, is missing"),
        (package.out(_heads(package, x, split="b t (three e heads) -> three b heads t e")), "the channels of one head lie side by side: (heads e), not (e heads)"),
        (package.out(_heads(package, x, split="b t (heads three e) -> three b heads t e")), "queries, keys and values come first, then the heads: (three heads e), not (heads three e)"),
        (package.out(_heads(package, x, join="b heads t e -> b t (e heads)")), "put the heads side by side again: (heads e), as they were before"),
        (package.out(_heads(package, x, split="b t (three e heads) -> three b heads t e", join="b heads t e -> b t (e heads)")), "the channels of one head lie side by side: write (heads e) instead of (e heads), in both strings"),
        (package.out(_heads(package, x, split="b t (three heads e) -> three b t heads e", join="b t heads e -> b t (heads e)")), "the heads of each token attend to each other: in three b heads t e, heads comes before t"),
        *((package.out(_heads(package, x, parts=(i, j, k))), f"you use the three parts of self.qkv(x) as {PARTS[i]}, {PARTS[j]} and {PARTS[k]}; they are queries, keys and values") for i, j, k in permutations(range(3)) if (i, j, k) != (0, 1, 2)),
        (package.out(_heads(package, x, scale=1.0)), "the scores are not scaled: divide them by the square root of e, the width of a head"),
        (package.out(_heads(package, x, scale=12**-0.5)), "divide by the square root of the width of a head, not of all channels: 2, not √12"),
    ))  # fmt: skip
    one_head = vit.Attention(12, 1)
    one_head.load_state_dict(package.state_dict())
    if near(got, one_head(x)):
        return failed("this is attention with one head: split the channels into self.heads parts first")
    if near(got, package.out(rearrange(_heads(package, x), "b t (heads e) -> b heads t e", heads=3).reshape(2, 5, 12))):
        return failed("reshape alone mixes tokens: the axes have to change places, b heads t e -> b t (heads e)")
    return failed("the shape is right, but the numbers differ from the package's layer. Compare queries, keys and values one by one")


def _heads(layer: vit.Attention, x: Tensor, *, split: str = "b t (three heads e) -> three b heads t e",
           join: str = "b heads t e -> b t (heads e)", scale: float | None = None, parts: tuple[int, ...] = (0, 1, 2)) -> Tensor:  # fmt: skip
    """Attention before the last linear layer, perhaps with a classic mistake. parts: which of the roles each part is given, in order."""
    qkv = rearrange(layer.qkv(x), split, three=3, heads=layer.heads)
    q, k, v = (qkv[parts.index(role)] for role in range(3))
    return rearrange(F.scaled_dot_product_attention(q, k, v, scale=scale), join)


def ch03_block(cls: type[nn.Module]) -> Verdict:
    """Exercise 3: a pre-norm block, without and with drop path."""
    package, x = vit.Block(12, 3), 3 * random(2, 5, 12) + 1
    for norm in (package.norm1, package.norm2):  # away from their initial values, so that a missing or swapped norm changes the result
        nn.init.normal_(norm.weight, 1.0, 0.3, generator=torch.Generator().manual_seed(1))
    nn.init.constant_(package.norm2.bias, 0.5)
    block = loaded(cls(12, 3), package)
    got, wanted = block(x.clone()), package(x)
    a, m, n1, n2 = package.attention, package.mlp, package.norm1, package.norm2
    middle = x + a(n1(x))
    if near(got, wanted):
        trains(block.named_parameters(), got)
        dropping, many = loaded(cls(12, 3, drop=0.4), package).train(), random(400, 2, 12)
        torch.manual_seed(0)
        dropped = dropping(many)
        expect(dropped, (400, 2, 12), "with drop path in training, tokens of the same shape should come out")
        if fault := _drop_path_fault(dropped, many, package, 0.4):
            return failed(f"without drop path it is right, but in training with drop=0.4 {fault}: apply drop_path to each branch, before the sum")
        if not near(dropping.eval()(x), wanted):
            return failed("drop path must do nothing outside training: pass self.training")
        return passed("it equals the package's block, with and without drop path")
    expect(got, (2, 5, 12), "tokens go in and tokens of the same shape come out")
    if near(block.eval()(x), wanted):
        return failed("right in evaluation; but in training it drops something even with drop=0: pass self.drop")
    named_mistake(got, (
        (m(n2(a(n1(x)))), "there are no residual connections: add each branch to its input"),
        (middle + m(middle), "the second norm is missing"),
        (x + a(x) + m(n2(x + a(x))), "the first norm is missing"),
        (n2(n1(x + a(x)) + m(n1(x + a(x)))), "this is post-norm: the norm belongs inside the branch, before attention and before the MLP"),
        (x + a(n1(x)) + m(n2(x)), "the MLP must see the output of attention: both branches start at the same x here"),
        (x + m(n2(a(n1(x)))), "only one residual connection: add after attention, and again after the MLP"),
        (x + m(n2(x)) + a(n1(x + m(n2(x)))), "attention comes first, then the MLP"),
        (middle + m(n1(middle)), "the MLP has a norm of its own, self.norm2"),
        (middle, "the second half, the MLP, is missing"),
    ))  # fmt: skip
    return failed("the shape is right, but the numbers differ from the package's block. x + attention(norm1(x)) comes first")


def _drop_path_fault(got: Tensor, x: Tensor, package: vit.Block, p: float) -> str:
    """What is wrong with the output of a block in training, with the weights of ``package``; empty when nothing is."""

    def attention(scale: float) -> Tensor:
        return x + scale * package.attention(package.norm1(x))

    def mlp(x: Tensor, scale: float) -> Tensor:
        return x + scale * package.mlp(package.norm2(x))

    def share(case: Tensor) -> float:  # of the samples
        return float((got - case).abs().flatten(1).amax(1).lt(1e-4).float().mean())

    q, up = 1 - p, 1 / (1 - p)
    right = (p * p, x), (p * q, mlp(x, up)), (q * p, attention(up)), (q * q, mlp(attention(up), up))
    if all(abs(share(case) - wanted) < 0.1 for wanted, case in right):
        return ""
    if near(got, mlp(attention(1), 1)):
        return "no branch is ever skipped"
    if bool((got == 0).flatten(1).all(1).any()):
        return "some samples are all zeros: you drop a sum, and with it the tokens that came in"
    if share(x) == 0 and share(mlp(x, 1)) > 0.2:
        return "only attention is skipped, never the MLP"
    if share(x) == 0 and share(attention(1)) > 0.2:
        return "only the MLP is skipped, never attention"
    if share(mlp(attention(1), 1)) > 0.2:
        return "the branches that are kept are not scaled up by 1 / (1 − drop)"
    return "each branch should be skipped as a whole, for 40 % of the samples, and scaled up for the others"


def ch03_sincos_2d(f: Callable[[int, tuple[int, int]], Tensor]) -> Verdict:
    """Exercise 4: the table of positions of a grid."""
    for d, grid in ((16, (2, 3)), (24, (4, 2))):
        got, (h, w), wanted = f(d, grid), grid, sincos_2d(d, grid)
        if isinstance(got, Tensor) and got.shape == (h * w, d):
            return failed("the row of zeros for the class token is missing: it comes first")
        expect(got, (1 + h * w, d), f"for d = {d} and a grid of {h} rows and {w} columns")
        if near(got, wanted):
            if got.dtype != torch.float32:
                return failed(f"the values are right; return them as float32, not {str(got.dtype).removeprefix('torch.')}: .float()")
            continue
        if near(got, wanted.roll(-1, 0)):
            return failed("the row of zeros comes first, not last")
        if got[0].any():
            return failed("the first row belongs to the class token and is all zeros")
        half = d // 2
        if near(got[1:], wanted[1:].roll(half, 1)):
            return failed("the halves are exchanged: the column is in the first half of the channels, the row in the second")
        if near(got, sincos_2d(d, (w, h))):
            return failed(f"grid is (rows, columns), so (h, w): for {grid}, your table has {w} rows and {h} columns")
        one_on = [sincos_1d(torch.arange(n) + 1, half) for n in grid]
        if near(got[1:], torch.cat([one_on[1].repeat(h, 1), one_on[0].repeat_interleave(w, dim=0)], dim=1)):
            return failed("coordinates start at 0: your first row and your first column have coordinate 1")
        columns, rows = wanted[1:, :half], wanted[1:, half:]
        if near(got[1:, half:], columns) or near(got[1:, :half], rows) or near(got[1:, :half], rearrange(columns, "(h w) d -> (w h) d", h=h)):
            return failed("rows and columns are mixed up: in reading order the column changes fastest")
        if near(got[1:, :half], columns) != near(got[1:, half:], rows):
            return failed(f"the half of the {'column' if near(got[1:, :half], columns) else 'row'} is right, the other half is not")
        return failed("the shape is right, but the numbers differ: each half is sincos_1d(…, d // 2) of its own coordinate")
    return passed("it equals the package's table, for two grids that are not square")


def ch03_read_address(f: Callable[[Tensor, tuple[int, int]], Any]) -> Verdict:
    """Exercise 5: from a position vector back to row and column."""
    for d, grid in ((64, (4, 6)), (96, (5, 3))):
        wrong, n = [], grid[0] * grid[1]
        for i, vector in enumerate(sincos_2d(d, grid)[1:] + 0.1 * random(n, d)):
            got = f(vector.clone(), grid)
            place = got.tolist() if isinstance(got, Tensor) else got
            if not isinstance(place, tuple | list) or len(place) != 2:
                return failed(f"a pair (row, column) was expected, not {described(got)}: an index into the table is row · columns + column")
            row, column = (int(x) for x in place)
            if (row, column) != divmod(i, grid[1]):
                wrong.append((i, row, column))
        if not wrong:
            continue
        if all((column, row) == divmod(i, grid[1]) for i, row, column in wrong):
            return failed("row and column are swapped: an index into the table is row · columns + column")
        if all(row * grid[1] + column == i + 1 for i, row, column in wrong):
            return failed("you are one row too far: the first row of the table belongs to the class token, patches start after it")
        if all((row, column) == divmod(i, grid[0]) for i, row, column in wrong):
            return failed("you divide by the number of rows. An index is row · columns + column: divide by the columns, grid[1]")
        i, row, column = wrong[0]
        first = f"the first one, {divmod(i, grid[1])}, as {(row, column)}"
        return failed(f"in a grid of {grid[0]} × {grid[1]} patches and for d = {d}, {len(wrong)} of {n} positions are misread; {first}")
    return passed("you decoded all positions of two grids, in spite of the noise")


def ch03_move(f: Callable[[int, int, int], Tensor]) -> Verdict:
    """Exercise 6: the matrix that moves every position by some rows and columns."""
    for d, rows, columns in ((16, 1, 2), (32, -2, 3), (8, 0, 1)):
        got = f(d, rows, columns)
        expect(got, (d, d), f"for positions of {d} numbers a matrix {d} × {d} is expected")
        start, goal, moved, half = _positions(d, 0, 0), _positions(d, rows, columns), got.double(), d // 2
        if near(start @ moved, goal):
            continue
        what = f"{_count(rows, 'row')} and {_count(columns, 'column')}"
        if near(start @ moved, start):
            return failed(f"nothing moves: for {what} the matrix is not the identity")
        if near(start @ moved, _positions(d, -rows, -columns)):
            return failed("it moves the other way: transpose each rotation, because the position is on the left, position @ matrix")
        side_by_side = torch.cat([torch.arange(first, first + half, 2) for first in (0, 1, half, half + 1)])  # sin, cos, sin, cos, …
        regrouped = moved[side_by_side][:, side_by_side]
        if near(start @ regrouped, goal) or near(start @ regrouped.T, goal):
            return failed(
                "your rotations are right for the order sin, cos, sin, cos, … Here each half has all its sines first, then all its cosines: "
                "the sine and the cosine of one hand are d/4 channels apart"
            )
        if near(start @ moved, _positions(d, columns, rows)):
            return failed("rows and columns are swapped: the first half of the channels holds the column")
        if moved[:half, half:].abs().max() > 1e-6 or moved[half:, :half].abs().max() > 1e-6:
            return failed("the two halves are mixed: rotate column and row separately (torch.block_diag)")
        fine = [near((start @ moved)[:, part], goal[:, part]) for part in (slice(0, half), slice(half, d))]
        if any(fine):
            return failed(f"the half of the {'column' if fine[0] else 'row'} is right for {what}, the other half is not")
        if not near(moved @ moved.T, torch.eye(d, dtype=torch.float64)):
            return failed("your matrix changes the length of a position vector; turning a clock hand does not: check the signs")
        return failed(f"for {what} lengths are kept, but the angles or their order are wrong: hand i turns by steps · 10000^(−i / (d/4)), in radians")
    return passed("one matrix works for all positions: with it, a query can match the key of a neighbour")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if abs(number) == 1 else f"{number} {noun}s"


def _positions(d: int, rows: int, columns: int) -> Tensor:
    """The positions of a 5 × 6 grid, all shifted by some rows and columns, even beyond the edge: float64 ``30 d``."""
    row = sincos_1d(torch.arange(5) + rows, d // 2).repeat_interleave(6, dim=0)
    return torch.cat([sincos_1d(torch.arange(6) + columns, d // 2).repeat(5, 1), row], dim=1)
