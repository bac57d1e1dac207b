"""Checks of chapter 04: tokens of visible patches, what they cost, and whether an encoder sees hidden patches."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from minimae.model.masking import Mask, take
from minimae.model.sizes import block_flops

from ..verdict import Verdict, failed, passed
from .comparing import expect, near, random


def ch04_times_cheaper(f: Callable[[int, int, int], float]) -> Verdict:
    """Exercise 1: the cost of a block on all patches, divided by its cost on the visible patches."""
    settings = [(196, 49, 1024), (49, 12, 96), (64, 16, 16)]

    def all_are(formula: Callable[[int, int, int], float]) -> bool:
        return all(math.isclose(float(f(n, k, d)), formula(n, k, d), rel_tol=1e-6) for n, k, d in settings)

    if all_are(lambda n, k, d: block_flops(1 + n, d) / block_flops(1 + k, d)):
        return passed(
            "4.03 for ViT-L: the linear part gives 197 / 50 = 3.94, with the class token on both sides, and the t² part adds the rest"
        )
    if all_are(lambda n, k, d: block_flops(n, d) / block_flops(k, d)):
        return failed("the class token is missing: t is 1 + n and 1 + k")
    if all_are(lambda n, k, d: n / k) or all_are(lambda n, k, d: (1 + n) / (1 + k)):
        return failed("that is the ratio of the tokens. A block has a t² part as well: use block_flops")
    if all_are(lambda n, k, d: (n / k) ** 2) or all_are(lambda n, k, d: ((1 + n) / (1 + k)) ** 2):
        return failed("not everything is quadratic: the products with d × d matrices are linear in t. Use block_flops")
    if all_are(lambda n, k, d: block_flops(1 + k, d) / block_flops(1 + n, d)):
        return failed("upside down: divide the cost of all by the cost of the visible; the answer is above 1")
    truth = block_flops(197, 1024) / block_flops(50, 1024)
    return failed(f"for n = 196, k = 49, d = 1024 the factor is {truth:.2f}, not {float(f(196, 49, 1024)):.2f}")


def ch04_embed_visible(f: Callable[..., Tensor]) -> Verdict:
    """Exercise 2: tokens of visible patches, and the class token."""
    patches, keep, weight = random(2, 6, 3), torch.tensor([[4, 1, 3], [0, 5, 2]]), random(3, 8, seed=1)
    positions, class_token, projected = random(7, 8, seed=2), random(1, 1, 8, seed=3), [0]
    positions[0] = 0

    def project(x: Tensor) -> Tensor:
        projected[0] += x.shape[-2]
        return x @ weight

    got = f(patches, keep, project, positions, class_token)
    visible, first = take(patches, keep) @ weight, class_token.expand(2, -1, -1)
    if near(got, torch.cat([first, visible + take(positions[1:], keep)], dim=1)):
        if projected[0] > keep.shape[1]:
            return failed(
                f"the tokens are right, but you project {projected[0]} patches of an image that shows {keep.shape[1]}: take first"
            )
        return passed("patches and positions are taken with the same indices, and the class token joins last")
    expect(got, (2, 4, 8), "3 visible patches and a class token of width 8 for each of 2 images")
    tokens = got[:, 1:]
    if near(tokens, visible + positions[1:4]):
        return failed("positions are assigned by rank: the first visible patch gets the address of patch 0. Take them by index, like the patches")
    if near(tokens, visible + take(positions, keep)):
        return failed(
            "every patch has its left neighbour's address: the first row of positions belongs to the class token, so patch i has row i + 1"
        )
    if near(tokens, visible):
        return failed("the positions are missing: to the encoder the picture is a bag of patches")
    if near(got[:, :3], visible + take(positions[1:], keep)):
        return failed("the class token is at the end. It comes first")
    if near(tokens, visible + take(positions[1:], keep)):
        return failed("the patches are right. The first token should be the class token (its position is zero)")
    return failed("the tokens are not project(visible patches) plus their positions. Try the example with six patches by hand")


def ch04_tokens_for_share(f: Callable[[float, int], float]) -> Verdict:
    """Exercise 3: from the share of the t² part to the number of tokens."""
    settings = [(0.5, 768), (0.1, 1024), (0.031, 96)]

    def all_are(formula: Callable[[float, int], float]) -> bool:
        return all(math.isclose(float(f(s, d)), formula(s, d), rel_tol=0.01, abs_tol=1) for s, d in settings)

    if all_are(lambda s, d: 6 * d * s / (1 - s)):
        return passed("half of the work is quadratic at t = 6d: 4608 tokens for ViT-B, which is a picture of 1086 pixels cut into 16 × 16")
    if all_are(lambda s, d: 6 * d * s):
        return failed("that is the share in relation to the linear part alone. The t² part is also in the total: divide by 1 − share")
    if all_are(lambda s, d: 12 * d * s / (1 - s)):
        return failed("there are two products of t × t: the scores and the mixing, 4·t²·d together. You count one")
    if all_are(lambda s, d: s / (6 * d + s)):
        return failed("you put the share into the formula of the share. Solve it for t first")
    return failed(f"for a share of one half and d = 768 it takes 6 · 768 = 4608 tokens, not {float(f(0.5, 768)):.6g}")


def ch04_leaks(f: Callable[..., list[int]]) -> Verdict:
    """Exercise 4: which hidden patches reach the latent."""
    patches, weight = random(1, 9, 4), random(4, 8, seed=1)
    mask = Mask(torch.tensor([[7, 2, 4]]), torch.tensor([[3, 8, 0, 5, 1, 6]]))

    def honest(x: Tensor, mask: Mask) -> Tensor:
        return take(x, mask.keep) @ weight

    def shifted(x: Tensor, mask: Mask) -> Tensor:
        return take(x, mask.keep - 1) @ weight

    def centred(x: Tensor, mask: Mask) -> Tensor:
        return take(x - x.mean(1, keepdim=True), mask.keep) @ weight

    original = patches.clone()
    for encode, truth, name in (
        (honest, [], "an honest encoder"),
        (shifted, [1, 3, 6], "an encoder that takes the patch before the one it should"),
        (centred, [0, 1, 3, 5, 6, 8], "an encoder that subtracts the mean of all patches"),
    ):
        got = f(encode, patches.clone(), mask)
        if not isinstance(got, (list, tuple)) or not all(isinstance(i, int) for i in got):
            return failed("return a list of indices, as Python integers (tensor.tolist() makes them)")
        extra, missed = sorted(set(got) - set(truth)), sorted(set(truth) - set(got))
        if set(extra) & {2, 4, 7}:
            return failed(
                f"for {name} you report {extra}, but 2, 4 and 7 are visible and must reach the latent. Report hidden patches only"
            )
        if extra and len(got) > len(truth):
            return failed(
                f"for {name} you report {extra}, which do not reach the latent. Do you work on a fresh copy (clone) for each patch?"
            )
        if missed:
            return failed(f"for {name} you miss the patches {missed}. Change every hidden patch in turn, and by enough")
        if list(got) != truth:
            return failed(f"for {name} the indices are right, but not sorted: {list(got)}")
    if not torch.equal(patches, original):
        return failed("your function changes the patches that it was given")
    return passed("it finds the shift by one, and the mean that leaks a little of every hidden patch")
