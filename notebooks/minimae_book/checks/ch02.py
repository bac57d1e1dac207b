"""Checks of chapter 02: masking by shuffling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minimae.random import uniforms

from ..verdict import Verdict, failed, passed
from .comparing import expect, without_loop


def ch02_inverse(f: Callable[..., Any]) -> Verdict:
    """The order from the chapter, and an order of nine patches that differs clearly from its inverse."""
    for order in ([4, 1, 0, 5, 2, 3], [3, 7, 0, 8, 1, 6, 2, 4, 5]):
        n = len(order)
        wanted = [order.index(patch) for patch in range(n)]
        got = f(list(order))
        if isinstance(got, str) or not hasattr(got, "__len__"):
            return failed(f"a list of positions was expected, not {type(got).__name__}")
        got = got.tolist() if isinstance(got, Tensor) else list(got)
        if len(got) != n:
            return failed(f"{n} patches have {n} positions; your list has {len(got)}")
        if got == wanted:
            continue
        if got == order:
            return failed("that is the order itself. It says which patch is at position i; the exercise wants the position of patch i")
        if got == list(range(n)):
            return failed("that is 0, 1, 2, …: you sorted the patches. That is the result of putting back, not the list of positions")
        if got == order[::-1]:
            return failed("reading the order backwards does not undo it: a permutation is undone by its inverse")
        if got == [place + 1 for place in wanted]:
            return failed("one too many everywhere: the first position is 0")
        patch = next(i for i in range(n) if got[i] != wanted[i])
        return failed(f"in the order {order} patch {patch} is at position {wanted[patch]}; yours says {got[patch]}")
    return passed("this is the unshuffle: the tokens at these positions are in image order")


def ch02_binary_of(f: Callable[..., Any]) -> Verdict:
    """Two images that keep different patches."""
    keep, n = torch.tensor([[4, 1], [0, 2]]), 6
    wanted = torch.tensor([[1.0, 0, 1, 1, 0, 1], [0, 1, 0, 1, 1, 1]])
    got = f(keep.clone(), n)
    expect(got, (2, 6), "a tensor was expected, with one number for each of the n patches of each image")
    got = got.float()
    if torch.equal(got, wanted):
        without_loop(f)
        return passed("1 is removed, 0 is kept, for each image by its own list")
    if torch.equal(got, 1 - wanted):
        return failed("the wrong way round: 1 is removed, 0 is kept, here and in the paper's code")
    both = torch.tensor([0.0, 0, 0, 1, 0, 1]).expand(2, 6)
    if torch.equal(got, both) or torch.equal(got, 1 - both):
        return failed(
            "both images keep the patches of both: x[:, keep] writes every list into every row. Scatter along axis 1, or index the rows"
        )
    if torch.equal(got[0], wanted[0]):
        return failed("the first image is right, the second is not: each image has its own list, so do not use keep[0] for all")
    kept = (got[0] == 0).nonzero()[:, 0].tolist()
    return failed(f"for keep {keep[0].tolist()} the zeros belong at patches [1, 4]; yours are at {kept}")


def ch02_four_views(f: Callable[..., Any]) -> Verdict:
    """Three images of twelve patches: four masks, each patch visible in exactly one."""
    b, n = 3, 12
    noise = uniforms(5, "mask", 0, torch.arange(b), n)
    views = f(noise.clone())
    if isinstance(views, str) or not hasattr(views, "__len__") or len(views) != 4:
        return failed("a list of four masks was expected")
    for number, view in enumerate(views):
        keep, masked = getattr(view, "keep", None), getattr(view, "masked", None)
        if not isinstance(keep, Tensor) or not isinstance(masked, Tensor):
            return failed(f"view {number} is not a Mask with keep and masked, but {type(view).__name__}")
        if tuple(keep.shape) != (b, n // 4):
            return failed(f"view {number} should keep a quarter, {b} × {n // 4}; its keep has shape {tuple(keep.shape)}")
        if masked.shape[1] != n - n // 4:
            return failed(
                f"view {number} masks {masked.shape[1]} patches: everything that it does not keep is masked: the quarters of all other views"
            )
        if not torch.equal(torch.cat([keep, masked], dim=1).sort(dim=1).values, torch.arange(n).expand(b, n)):
            return failed(f"in view {number} a patch is both kept and masked, or neither")
    seen = torch.cat([view.keep for view in views], dim=1)
    times = torch.zeros(b, n).scatter_add(1, seen, torch.ones(b, n))
    if not bool((times == 1).all()):
        image, patch = (times != 1).nonzero()[0].tolist()
        return failed(
            f"patch {patch} of image {image} is visible {int(times[image, patch])} times, not once: cut ONE shuffle into four quarters"
        )
    first = [view.keep.sort(dim=1).values for view in views]
    if all(bool((keep == keep[:1]).all()) for keep in first):
        return failed("all images get the same views: the order must come from the noise of each image")
    order = noise.argsort(dim=1, stable=True)
    quarters = order.unflatten(1, (4, n // 4)).sort(dim=2).values
    if not all(torch.equal(keep, quarters[:, i]) for i, keep in enumerate(first)):
        return failed("each patch is visible once, but the quarters are not those of the sorted noise, smallest numbers first")
    return passed("four views, and every patch is seen exactly once")
