"""Checks of chapter 04: the encoder, what it costs, and whether it sees hidden patches."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from minimae.model.masking import Mask, make_mask, take
from minimae.model.patches import patchify
from minimae.model.sizes import block_flops, size
from minimae.model.vit import Encoder

from ..verdict import Verdict, failed, passed
from .comparing import expect, loaded, named_mistake, near, random, trains


def ch04_times_cheaper(f: Callable[[int, int, int], float]) -> Verdict:
    """Exercise 2: the cost of a block on all patches, divided by its cost on the visible patches."""
    settings = [(196, 49, 1024), (49, 12, 96), (64, 16, 16)]

    def right(n: int, k: int, d: int) -> float:
        return block_flops(1 + n, d) / block_flops(1 + k, d)

    def all_are(formula: Callable[[int, int, int], float]) -> bool:
        return all(math.isclose(float(f(n, k, d)), formula(n, k, d), rel_tol=1e-6) for n, k, d in settings)

    if all_are(right):
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
    n, k, d = next(case for case in settings if not math.isclose(float(f(*case)), right(*case), rel_tol=1e-6))
    return failed(f"for n = {n}, k = {k} and d = {d}, the factor is {right(n, k, d):.7g}, not {float(f(n, k, d)):.7g}")


def ch04_encoder(cls: type[nn.Module]) -> Verdict:
    """Exercise 1: the encoder with the package's weights, on a grid that is not square, with and without a mask."""
    shape = size("nano", image=(12, 16), patch=4, depth=1, width=24, heads=3)
    package, images = Encoder(shape), random(2, shape.channels, 12, 16)
    nn.init.normal_(package.class_token, generator=torch.Generator().manual_seed(1))
    mask = make_mask(torch.arange(2), shape.grid, ratio=0.75, seed=1)
    n, k = mask.n, mask.keep.shape[1]
    encoder, projected = loaded(cls(shape), package), []
    encoder.project.register_forward_hook(lambda _layer, given, _result: projected.append(given[0].shape[-2]))
    got, wanted = encoder.embed(images, mask), package.embed(images, mask)
    if near(got, wanted):
        if sum(projected) > k:
            return failed(f"the tokens are right, but you project {sum(projected)} patches of each image, and only {k} are visible: take first")
        try:
            whole = encoder.embed(images)
        except (AttributeError, TypeError) as error:
            return failed(f"with a mask it is right. With mask=None it stopped: {error}. Use all patches then, in image order")
        if not near(whole, package.embed(images)):
            return failed("with a mask it is right. With mask=None: all patches in image order, each with its position, after the class token")
        latent = encoder(images, mask)
        if not near(latent, package(images, mask)):
            return failed("embed is right, but forward differs: leave forward as it was")
        trains(encoder.named_parameters(), latent)
        return passed("each visible patch has its own position, and hidden patches never enter the encoder")
    if isinstance(got, Tensor) and tuple(got.shape) == (2, k, 24):
        return failed(f"{k} tokens for {k} visible patches: the class token is missing")
    if isinstance(got, Tensor) and tuple(got.shape) == (2, 1 + n, 24):
        return failed(f"there are tokens for all {n} patches: take only those of mask.keep")
    if isinstance(got, Tensor) and tuple(got.shape) == (2, 1 + n - k, 24):
        return failed("these are the hidden patches: take those of mask.keep, not of mask.masked")
    expect(got, (2, 1 + k, 24), f"{k} visible patches and a class token, for each of 2 images")
    patches, table, first = package.project(patchify(images, 4)), package.positions, package.class_token.expand(2, 1, 24)
    visible, right = take(patches, mask.keep), take(table[1:], mask.keep)
    early = torch.cat([torch.zeros_like(mask.keep[:, :1]), mask.keep], dim=1)
    named_mistake(got[:, 1:], (
        (visible, "the positions are missing: without them, the image is a bag of patches"),
        (visible + table[1 : 1 + k], "the first visible patch gets the position of patch 0, the second that of patch 1: take positions by index, like the patches"),
        (visible + take(table, mask.keep), "each patch has the position of the patch before it: row 0 belongs to the class token, so patch i has row i + 1"),
        (patches[:, :k] + right, "the positions are right, but these are the first patches of the image: take(patches, mask.keep)"),
    ))  # fmt: skip
    if near(got, torch.cat([visible + right, first], dim=1)):
        return failed("the class token is at the end. It comes first")
    if near(got, take(torch.cat([first, patches + table[1:]], dim=1), early)):
        return failed("the class token joined before the masking, so each index selects the patch before the intended one: mask first")
    if near(got[:, 1:], visible + right):
        return failed("the patches are right. The first token should be the class token, self.class_token (its position is zero)")
    return failed("the tokens are not project(visible patches) plus their positions. Try the example with six patches by hand")


def ch04_tokens_for_share(f: Callable[[float, int], float]) -> Verdict:
    """Exercise 3: from the share of the t² part to the number of tokens."""
    settings = [(0.5, 768), (0.1, 1024), (0.031, 96)]

    def right(s: float, d: int) -> float:
        return 6 * d * s / (1 - s)

    def all_are(formula: Callable[[float, int], float]) -> bool:
        return all(math.isclose(float(f(s, d)), formula(s, d), rel_tol=1e-6) for s, d in settings)

    if all_are(right):
        return passed("half of the work is quadratic at t = 6d: 4608 tokens for ViT-B, which is an image of 1086 pixels with patches of 16")
    if all_are(lambda s, d: 6 * d * s):
        return failed("that is the share in relation to the linear part alone. The t² part is also in the total: divide by 1 − share")
    if all_are(lambda s, d: 12 * d * s / (1 - s)):
        return failed("there are two products of t × t: the scores and the mixing, 4·t²·d together. You count one")
    if all_are(lambda s, d: s / (6 * d + s)):
        return failed("you put the share into the formula of the share. Solve it for t first")
    if all_are(lambda s, d: 6 * d * (1 - s) / s):
        return failed("upside down: it is share / (1 − share), so that a larger share takes more tokens")
    s, d = next(case for case in settings if not math.isclose(float(f(*case)), right(*case), rel_tol=1e-6))
    rounded = ". Do not round the result" if all(abs(float(f(*case)) - right(*case)) < 1 for case in settings) else ""
    return failed(f"for a share of {s} and d = {d}, it takes {right(s, d):.7g} tokens, not {float(f(s, d)):.7g}{rounded}")


def ch04_leaks(f: Callable[..., list[int]]) -> Verdict:
    """Exercise 4: which hidden patches reach the latent."""
    patches, weight = random(1, 9, 4), random(4, 8, seed=1)
    mask = Mask(torch.tensor([[7, 2, 4]]), torch.tensor([[3, 8, 0, 5, 1, 6]]))

    def correct(x: Tensor, mask: Mask) -> Tensor:
        return take(x, mask.keep) @ weight

    def shifted(x: Tensor, mask: Mask) -> Tensor:
        return take(x, mask.keep - 1) @ weight

    def centred(x: Tensor, mask: Mask) -> Tensor:
        return take(x - x.mean(1, keepdim=True), mask.keep) @ weight

    for encode, truth, name in (
        (correct, [], "a correct encoder"),
        (shifted, [1, 3, 6], "an encoder that takes the patch before the one it should"),
        (centred, [0, 1, 3, 5, 6, 8], "an encoder that subtracts the mean of all patches"),
    ):
        got = f(encode, patches.clone(), mask)
        if not isinstance(got, (list, tuple)) or not all(isinstance(i, int) for i in got):
            return failed("return a list of indices, as Python integers (tensor.tolist() makes them)")
        extra, missed = sorted(set(got) - set(truth)), sorted(set(truth) - set(got))
        if set(extra) & {2, 4, 7}:
            return failed(
                f"for {name}, you report {extra}, but 2, 4 and 7 are visible and must reach the latent. Report hidden patches only"
            )
        if extra and len(got) > len(truth):
            return failed(
                f"for {name}, you report {extra}, which do not reach the latent. Do you change one patch at a time, on a fresh copy (clone)?"
            )
        if missed:
            return failed(f"for {name}, you miss the patches {missed}. Change every hidden patch in turn, and by enough")
        if list(got) != truth:
            return failed(f"for {name}, report each patch once, sorted: {truth}, not {list(got)}")
    return passed("it finds the shift by one, and the mean that leaks a little of every hidden patch")
