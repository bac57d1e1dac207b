"""Checks of chapter 01: patches."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from minimae.model.patches import Pair, pair, patchify

from ..verdict import Verdict, failed, passed
from .comparing import described, expect, refuses

ORDERS = [" ".join(order) for order in permutations(("p1", "p2", "c"))]
Cut = Callable[[Tensor, Any], Tensor]


def ch01_corner_of(f: Callable[..., Any]) -> Verdict:
    """Two grids that are not square, of patches that are not square."""
    for (h, w), (p1, p2) in (((3, 5), (2, 7)), ((4, 2), (3, 1))):
        got = [f(i, (h, w), (p1, p2)) for i in range(h * w)]
        if not all(isinstance(answer, tuple | list) and len(answer) == 2 for answer in got):
            return failed(f"a pair (top, left) was expected, not {described(got[0])}")
        found, places = [(float(top), float(left)) for top, left in got], [divmod(i, w) for i in range(h * w)]
        wanted: list[Pair] = [(row * p1, column * p2) for row, column in places]
        if found == wanted:
            continue
        mistakes: dict[str, list[Pair]] = {
            "that is the row and the column of the patch in the grid; multiply them by p1 and p2 for pixels": places,
            "divide by w, the number of columns: a row of the grid is full after w patches, not after h": [
                (i // h * p1, i % h * p2) for i in range(h * w)
            ],
            "that counts down the columns; patches are numbered along the rows, as in reading": [
                (i % h * p1, i // h * p2) for i in range(h * w)
            ],
            "that is (left, top): the row comes first": [(left, top) for top, left in wanted],
            "p1 and p2 are swapped: p1 is the height of a patch, p2 its width": [(row * p2, column * p1) for row, column in places],
            "i // w is the row in the grid and i % w the column; yours are the other way round": [
                (column * p1, row * p2) for row, column in places
            ],
        }
        for message, corners in mistakes.items():
            if found == corners:
                return failed(message)
        i = next(i for i in range(h * w) if found[i] != wanted[i])
        return failed(f"in a grid of {h} × {w} patches of {p1} × {p2} pixels, patch {i} begins at {wanted[i]}, not at {tuple(got[i])}")
    return passed("you can find any patch in any picture")


def ch01_patchify(f: Callable[..., Any]) -> Verdict:
    """All numbers and all sizes differ; then a patch size given as one number, and one that does not fit."""
    images, (p1, p2) = torch.arange(2 * 3 * 8 * 15).reshape(2, 3, 8, 15), (4, 3)
    wanted = patchify(images, (p1, p2))
    got = f(images.clone(), (p1, p2))
    if isinstance(got, Tensor) and got.dim() > 3:
        return failed(f"the axes h and w, and the axes p1, p2 and c, still have to be joined: yours has shape {tuple(got.shape)}")
    expect(got, tuple(wanted.shape), "2 images of 3 × 8 × 15 in patches of 4 × 3 should give b n (p1 p2 c)")
    if torch.equal(got, wanted):
        square = f(images[..., :12].clone(), 4)
        if not isinstance(square, Tensor) or not torch.equal(square, patchify(images[..., :12], 4)):
            return failed("right for a patch of (4, 3); but a patch size may also be one number, 4: use pair(patch)")
        other = torch.arange(5 * 6 * 4).reshape(1, 5, 6, 4)
        if not torch.equal(f(other.clone(), (2, 4)), patchify(other, (2, 4))):
            return failed("right for 2 images of 3 × 8 × 15, wrong for 1 image of 5 × 6 × 4 in patches of 2 × 4: is a number in your code fixed?")
        for misfit, words in (((5, 3), "columns of 8 pixels cannot be cut into patches 5 high"), ((4, 4), "rows of 15 pixels cannot be cut into patches 4 wide")):
            if not refuses(f, images.clone(), misfit):
                return failed(f"{words}: raise a ValueError (grid_of does)")
        return passed("it equals the package's, and refuses sizes that do not fit")
    if torch.equal(got, images.reshape(wanted.shape)):
        return failed("a reshape alone does not move any numbers: the rows are pieces of pixel rows, not patches. Permute before you join")
    if torch.equal(got, images.permute(0, 2, 3, 1).reshape(wanted.shape)):
        return failed("channels are last, but the rows are pieces of pixel rows, not patches: take height and width apart first")
    for order in ORDERS:
        if torch.equal(got, _cut(images, (p1, p2), f"b c (h p1) (w p2) -> b (h w) ({order})")):
            return failed(f"the patches are right, the order inside is not: yours is ({order}), (p1 p2 c) was expected")
        if torch.equal(got, _cut(images, (p1, p2), f"b c (h p1) (w p2) -> b (w h) ({order})")):
            return failed("the patches run down the columns, (w h): number them along the rows, (h w)")
        if torch.equal(got, _cut(images, (p1, p2), f"b c (p1 h) (p2 w) -> b (h w) ({order})")):
            return failed(
                "taken apart as (p1 h) and (p2 w): the last axis changes fastest, so split the height into (h p1) and the width into (w p2)"
            )
    if torch.equal(got.flatten(1).sort(dim=1).values, wanted.flatten(1).sort(dim=1).values):
        first = got[0, 0, :4].tolist()
        return failed(f"the numbers are right, but in the wrong order: patch 0 should begin {wanted[0, 0, :4].tolist()}, yours begins {first}")
    return failed("these are not the numbers of the image: only reshape and permute are needed, nothing is computed")


def ch01_unpatchify(f: Callable[..., Any]) -> Verdict:
    """The inverse of patchify, with sizes that all differ, and two inputs that cannot be images."""
    images, patch, grid = torch.arange(2 * 3 * 8 * 15).reshape(2, 3, 8, 15), (4, 3), (2, 5)
    patches = patchify(images, patch)
    got = f(patches.clone(), patch, grid)
    expect(got, (2, 3, 8, 15), "patches of 4 × 3 in a grid of 2 × 5 make 2 images of 3 × 8 × 15")
    if torch.equal(got, images):
        if not torch.equal(f(patchify(images[..., :12], 4), 4, (2, 3)), images[..., :12]):
            return failed("right for a patch of (4, 3); but a patch size may also be one number, 4: use pair(patch)")
        other = torch.arange(13 * 6 * 4).reshape(1, 13, 6, 4)
        if not torch.equal(f(patchify(other, (2, 4)), (2, 4), (3, 1)), other):
            return failed("right for 2 images of 3 × 8 × 15, wrong for 1 image of 13 × 6 × 4 (13 channels): is a number in your code fixed?")
        for rows, columns in ((2, 4), (3, 5)):
            if not refuses(f, patches.clone(), patch, (rows, columns)):
                return failed(f"ten patches do not fill a grid of {rows} × {columns}: raise a ValueError that says so")
        if not refuses(f, patches[..., :-1].clone(), patch, grid):
            return failed("35 values are not a whole number of channels for patches of 12 pixels: raise a ValueError that says so")
        return passed("it is the exact inverse of patchify, and refuses what cannot be an image")
    if torch.equal(got, patches.reshape(images.shape)):
        return failed("a reshape alone does not move any numbers: turn the string of patchify around")
    for order in ORDERS:
        if order != "p1 p2 c" and torch.equal(got, rearrange(patches, f"b (h w) ({order}) -> b c (h p1) (w p2)", h=2, w=5, p1=4, p2=3, c=3)):
            return failed(f"you read the values of a patch as ({order}); they are in the order (p1 p2 c)")
    if torch.equal(got, rearrange(patches, "b (w h) (p1 p2 c) -> b c (h p1) (w p2)", h=2, w=5, p1=4, p2=3)):
        return failed("you read the patches column by column, (w h); they are in reading order, (h w)")
    if torch.equal(got, rearrange(patches, "b (h w) (p1 p2 c) -> b c (p1 h) (p2 w)", h=2, w=5, p1=4, p2=3)):
        return failed("joined as (p1 h) and (p2 w): the last axis changes fastest, so a row of the image is (h p1)")
    return failed("the shape is right, but the pixels are not where they were before patchify")


def ch01_order_of(f: Callable[..., Any]) -> Verdict:
    """All six orders, and three functions that do not cut patches."""
    cuts: dict[str, tuple[Cut, str]] = {order: (_cutter(f"b c (h p1) (w p2) -> b (h w) ({order})"), order) for order in ORDERS}
    cuts["a plain reshape"] = (lambda x, patch: x.reshape(len(x), -1, x.shape[1] * pair(patch)[0] * pair(patch)[1]), "none")
    cuts["patches that are taken apart as (p1 h) and (p2 w)"] = (_cutter("b c (p1 h) (p2 w) -> b (h w) (p1 p2 c)"), "none")
    cuts["patches that are numbered (w h), down the columns,"] = (_cutter("b c (h p1) (w p2) -> b (w h) (p1 p2 c)"), "none")
    said = {name: f(cut) for name, (cut, _) in cuts.items()}
    if not all(isinstance(answer, str) for answer in said.values()):
        return failed(f'a string was expected, such as "p1 p2 c", not {said[ORDERS[0]]!r}')
    said = {name: " ".join(answer.strip("() ").split()) for name, answer in said.items()}
    wrong = {name: answer for name, answer in said.items() if answer != cuts[name][1]}
    if not wrong:
        return passed("you can check the order of values in anyone's weights")
    known = {name: said[name] for name in ORDERS}
    if len(set(said.values())) == 1:
        return failed(f'it answers "{said[ORDERS[0]]}" to everything: does your image hold different numbers, and do you call cut?')
    if known["p1 p2 c"] == known["p2 p1 c"] != "none":
        return failed("it cannot distinguish (p1 p2 c) from (p2 p1 c): let p1 and p2 differ, and every pixel too")
    if len({known["p1 p2 c"], known["p1 c p2"], known["c p1 p2"]}) == 1:
        return failed("it cannot detect where c is: use an image with several channels that all differ")
    if not any(name in wrong for name in ORDERS):
        (name, answer), *_ = wrong.items()
        return failed(
            f'all six orders are right, but for {name} the answer is "none", and yours is "{answer}". '
            "Try it on an image of several patches, in rows and columns, and compare all of them"
        )
    (name, answer), *_ = wrong.items()
    return failed(f'for {name} the answer is "{cuts[name][1]}", and yours is "{answer}"')


def _cutter(string: str) -> Cut:
    return lambda images, patch: _cut(images, pair(patch), string)


def _cut(images: Tensor, patch: Pair, string: str) -> Tensor:
    h, w = images.shape[-2] // patch[0], images.shape[-1] // patch[1]
    return rearrange(images, string, h=h, w=w, p1=patch[0], p2=patch[1])
