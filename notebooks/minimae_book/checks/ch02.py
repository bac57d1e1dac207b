"""Checks of chapter 02: masking by shuffling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minimae.model.masking import take
from minimae.random import uniforms

from ..verdict import Verdict, failed, passed
from .comparing import Mistake, expect, random, without_loop


def ch02_inverse(f: Callable[..., Any]) -> Verdict:
    """The order from the chapter, and an order of nine patches that differs clearly from its inverse."""
    for order in ([4, 1, 0, 5, 2, 3], [3, 7, 0, 8, 1, 6, 2, 4, 5]):
        n = len(order)
        wanted = [order.index(patch) for patch in range(n)]
        got = f(list(order))
        if isinstance(got, str | dict | set) or not hasattr(got, "__len__"):
            return failed(f"a list of indices was expected, not {type(got).__name__}")
        got = got.tolist() if isinstance(got, Tensor) else list(got)
        if len(got) != n:
            return failed(f"for {n} patches the list has {n} indices; yours has {len(got)}")
        if got == wanted:
            continue
        if got == order:
            return failed("that is the order itself. It says which patch is at index i; the exercise needs the index of patch i")
        if got == list(range(n)):
            return failed("that is 0, 1, 2, …: you sorted the patches. That is the result of putting back, not the list of indices")
        if got == order[::-1]:
            return failed("reading the order backwards does not undo it: a permutation is undone by its inverse")
        if got == [place + 1 for place in wanted]:
            return failed("one too many everywhere: the first index is 0")
        patch = next(i for i in range(n) if got[i] != wanted[i])
        return failed(f"in the order {order} patch {patch} is at index {wanted[patch]}; yours says {got[patch]}")
    return passed("this is the unshuffle: taken by these indices, the tokens are in image order")


def _lists(mask: Any, name: str) -> tuple[Tensor, Tensor]:
    """The two tensors of a Mask. Raises Mistake when it is none."""
    keep, masked = getattr(mask, "keep", None), getattr(mask, "masked", None)
    if keep is None or masked is None:
        raise Mistake(f"{name} should be a Mask, Mask(keep, masked), not {type(mask).__name__}")
    for part, value in (("keep", keep), ("masked", masked)):
        if not isinstance(value, Tensor):
            raise Mistake(f"{name} is a Mask, but its {part} should be a tensor, not {type(value).__name__}")
    return keep, masked


def ch02_mask_from_noise(f: Callable[..., Any]) -> Verdict:
    """Two images of seven patches, three kept; then three of six patches, five kept."""
    for b, n, k in ((2, 7, 3), (3, 6, 5)):
        noise = uniforms(3, "mask", 0, torch.arange(b), n)
        order = noise.argsort(dim=1)
        wanted = (order[:, :k], order[:, k:])
        keep, masked = _lists(f(noise.clone(), k), "the result")
        if torch.equal(keep, wanted[0]) and torch.equal(masked, wanted[1]):
            continue
        if keep.is_floating_point():
            return failed("keep holds decimal numbers, but a mask holds indices of patches: argsort, not sort")
        if torch.equal(keep, wanted[1]) or torch.equal(masked, wanted[0]):
            return failed("kept and masked are exchanged: the patches with the smallest numbers are kept")
        expect(keep, (b, k), f"keep holds {k} indices for each of {b} images")
        expect(masked, (b, n - k), f"masked holds the other {n - k} indices")
        if torch.equal(keep, wanted[0]):
            return failed(f"keep is right; masked of image 0 is {wanted[1][0].tolist()}, not {masked[0].tolist()}")
        if torch.equal(keep, order.argsort(dim=1)[:, :k]):
            return failed("one argsort too many: that is restore, which says where each patch is. keep lists the patches themselves")
        if torch.equal(keep, order.flip(1)[:, :k]):
            return failed("you keep the patches with the largest numbers, but the exercise wants the smallest")
        if torch.equal(keep, order[:1, :k].expand(b, -1)) or torch.equal(keep, torch.arange(k).expand(b, -1)):
            return failed("all images keep the same patches: each image is sorted by its own noise, argsort(dim=1)")
        if torch.equal(keep.sort(dim=1).values, wanted[0].sort(dim=1).values):
            return failed("the right patches, but in another order: leave both lists in the order of the noise")
        image = next(i for i in range(b) if not torch.equal(keep[i], wanted[0][i]))
        shown = [round(x, 2) for x in noise[image].tolist()]
        return failed(f"for the noise {shown}, keep is {wanted[0][image].tolist()}, not {keep[image].tolist()}")
    without_loop(f)
    return passed("one sort and one cut: every set of patches is equally likely, and every image keeps the same number")


def ch02_take(f: Callable[..., Any]) -> Verdict:
    """Tokens that say which image and patch they are, and a table shared by the batch."""
    index = torch.tensor([[4, 1, 0], [0, 5, 2]])
    image, patch = torch.arange(2)[:, None].expand(2, 6), torch.arange(6).expand(2, 6)
    tokens = torch.stack([image, patch, 10 * image + patch, -patch], dim=-1).float()
    wanted = torch.stack([tokens[i, index[i]] for i in range(2)])
    got = f(tokens.clone(), index.clone())
    if isinstance(got, Tensor) and tuple(got.shape) == (2, 2, 3, 4):
        return failed("tokens[:, index] takes the lists of both images from both images: use torch.gather along axis 1")
    if isinstance(got, Tensor) and tuple(got.shape) == (2, 3, 1):
        return failed("gather took one number of each token: expand the index to b k d, so that it takes whole tokens")
    expect(got, (2, 3, 4), "3 tokens of 4 numbers for each of 2 images")
    if not torch.equal(got, wanted):
        if torch.equal(got, tokens[:, index[0]]):
            return failed("the first image is right, the second is not: each image has its own list, so do not use index[0] for all")
        if torch.equal(got, tokens[:, :3]):
            return failed("these are the first three tokens of each image, not those of its list")
        if torch.equal(got, tokens.flatten(0, 1)[index]):
            return failed("both images take the tokens of the first: with images end to end, image 1 starts at row n")
        i = next(i for i in range(2) if not torch.equal(got[i], wanted[i]))
        return failed(f"image {i} should give patches {index[i].tolist()}, yours gives {got[i, :, 1].int().tolist()}")
    table = f(tokens[1].clone(), index.clone())
    expect(table, (2, 3, 4), "tokens are right. A table n d is shared by the batch: for 2 lists of 3 indices")
    if not torch.equal(table, tokens[1][index]):
        return failed("tokens are right, but not the rows of a table n d: table[index] is b k d")
    tokens, index = random(3, 5, 7), torch.tensor([[4, 0], [1, 1], [2, 3]])
    more = f(tokens.clone(), index.clone())
    expect(more, (3, 2, 7), "right for 6 tokens of 4 numbers; for 5 tokens of 7 numbers and lists of 2 indices, 3 images should give")
    if not torch.equal(more, take(tokens, index)):
        return failed("right for 2 images of 6 tokens, wrong for 3 images of 5 tokens: is a number in your code fixed?")
    without_loop(f)
    return passed("each image by its own list, and a table for all")


def ch02_four_views(f: Callable[..., Any]) -> Verdict:
    """Three images of twelve patches, then two of twenty: four masks, each patch visible in exactly one."""
    for b, n in ((3, 12), (2, 20)):
        noise = uniforms(5, "mask", 0, torch.arange(b), n)
        views = f(noise.clone())
        if isinstance(views, str) or not hasattr(views, "__len__") or len(views) != 4:
            return failed("a list of four masks was expected")
        for number, view in enumerate(views):
            keep, masked = _lists(view, f"view {number}")
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
