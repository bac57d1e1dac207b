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


def ch02_mask_from_noise(f: Callable[..., Any]) -> Verdict:
    """Two images of seven patches, three kept."""
    noise = uniforms(3, "mask", 0, torch.arange(2), 7)
    order, k = noise.argsort(dim=1), 3
    wanted = (order[:, :k], order[:, k:])
    mask = f(noise.clone(), k)
    keep, masked = getattr(mask, "keep", None), getattr(mask, "masked", None)
    if not isinstance(keep, Tensor) or not isinstance(masked, Tensor):
        return failed(f"a Mask was expected, Mask(keep, masked), not {type(mask).__name__}")
    if torch.equal(keep, wanted[0]) and torch.equal(masked, wanted[1]):
        without_loop(f)
        return passed("one sort and one cut: every set of patches is equally likely, and every image keeps the same number")
    if keep.is_floating_point():
        return failed("these are the sorted numbers, but a mask holds indices of patches: argsort, not sort")
    if torch.equal(keep, wanted[1]) or torch.equal(masked, wanted[0]):
        return failed("kept and masked are exchanged: the patches with the smallest numbers are kept")
    expect(keep, (2, k), f"keep holds {k} indices for each of 2 images")
    expect(masked, (2, 7 - k), f"masked holds the other {7 - k} indices")
    if torch.equal(keep, order.argsort(dim=1)[:, :k]):
        return failed("one argsort too many: that is restore, which says where each patch is. keep lists the patches themselves")
    if torch.equal(keep, order.flip(1)[:, :k]):
        return failed("you keep the patches with the largest numbers, but the exercise wants the smallest")
    if torch.equal(keep, order[:1, :k].expand(2, -1)) or torch.equal(keep, torch.arange(k).expand(2, -1)):
        return failed("both images keep the same patches: each image is sorted by its own noise, argsort(dim=1)")
    if torch.equal(keep.sort(dim=1).values, wanted[0].sort(dim=1).values):
        return failed("the right patches, but in another order: leave both lists in the order of the noise")
    return failed(f"for the noise {[round(x, 2) for x in noise[0].tolist()]}, keep is {wanted[0][0].tolist()}, not {keep[0].tolist()}")


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
        return failed(f"image 0 should give patches {index[0].tolist()}, yours gives {got[0, :, 1].int().tolist()}")
    table = f(tokens[1].clone(), index.clone())
    expect(table, (2, 3, 4), "tokens are right. A table n d is shared by the batch: for 2 lists of 3 indices")
    if not torch.equal(table, tokens[1][index]):
        return failed("tokens are right, but not the rows of a table n d: table[index] is b k d")
    without_loop(f)
    return passed("each image by its own list, and a table for all")


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
