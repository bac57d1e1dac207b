"""Classic wrong answers to the exercises of chapter 01. The solutions are taken from the notebook."""

from __future__ import annotations

from itertools import permutations

import torch
from einops import rearrange

from minimae.model.patches import pair, unpatchify

ORDERS = [" ".join(order) for order in permutations(("p1", "p2", "c"))]


def _string(right: str, left: str = "b c (h p1) (w p2)"):
    def cut(images, patch):
        h, w = images.shape[2] // patch[0], images.shape[3] // patch[1]
        return rearrange(images, f"{left} -> {right}", h=h, w=w, p1=patch[0], p2=patch[1])

    return cut


def _reshapes(images, patch):
    return images.reshape(len(images), -1, images.shape[1] * patch[0] * patch[1])


def _channels_last_reshapes(images, patch):
    return images.permute(0, 2, 3, 1).reshape(len(images), -1, images.shape[1] * patch[0] * patch[1])


def _tried_on(images, patch, orders=ORDERS):
    def order_of(cut):
        for order in orders:
            if torch.equal(cut(images, patch), _string(f"b (h w) ({order})")(images, patch)):
                return order
        return "none"

    return order_of


def _join(patches, patch, grid, left, right="b c (h p1) (w p2)"):
    return rearrange(patches, f"{left} -> {right}", h=grid[0], w=grid[1], p1=patch[0], p2=patch[1])


def _drops_values(patches, patch, grid):
    p1, p2 = pair(patch)
    return unpatchify(patches[..., : patches.shape[-1] // (p1 * p2) * p1 * p2], patch, grid)


def _fixed_grid(i, grid, patch):
    return i // 5 * patch[0], i % 5 * patch[1]


def _bare(images, patch):
    p1, p2 = pair(patch)
    return rearrange(images, "b c (h p1) (w p2) -> b (h w) (p1 p2 c)", p1=p1, p2=p2)


def _checks_the_height(images, patch):
    if images.shape[2] % pair(patch)[0]:
        raise ValueError
    return _bare(images, patch)


def _never_refuses(images, patch):
    (p1, p2), (height, width) = pair(patch), images.shape[2:]
    return _bare(images[:, :, : height // p1 * p1, : width // p2 * p2], patch)


def _asserts(patches, patch, grid):
    assert patches.shape[1] == grid[0] * grid[1], "too many or too few"
    return unpatchify(patches, patch, grid)


def _bare_back(patches, patch, grid):
    return _join(patches, pair(patch), grid, "b (h w) (p1 p2 c)")


def _only_too_few(patches, patch, grid):
    if patches.shape[1] < grid[0] * grid[1]:
        raise ValueError
    return unpatchify(patches[:, : grid[0] * grid[1]], patch, grid)


def _three_channels(patches, patch, grid):
    p1, p2 = pair(patch)
    return unpatchify(patches, patch, grid)[:, :3] if patches.shape[-1] != 3 * p1 * p2 else unpatchify(patches, patch, grid)


def _fixed_channels(patches, patch, grid):
    p1, p2 = pair(patch)
    return rearrange(patches, "b (h w) (p1 p2 c) -> b c (h p1) (w p2)", h=grid[0], w=grid[1], p1=p1, p2=p2, c=3)


ANSWERS = {
    "ch01_corner_of": {
        "wrong": {
            "divides by h": (lambda i, g, p: (i // g[0] * p[0], i % g[0] * p[1]), "divide by w"),
            "forgets the pixels": (lambda i, g, p: divmod(i, g[1]), "multiply them by p1"),
            "down the columns": (lambda i, g, p: (i % g[0] * p[0], i // g[0] * p[1]), "along the rows"),
            "left, top": (lambda i, g, p: (i % g[1] * p[1], i // g[1] * p[0]), "row comes first"),
            "swaps p1 and p2": (lambda i, g, p: (i // g[1] * p[1], i % g[1] * p[0]), "are swapped"),
            "row and column swapped": (lambda i, g, p: (i % g[1] * p[0], i // g[1] * p[1]), "other way round"),
            "always the first": (lambda i, g, p: (0, 0), "patch 1 begins"),
            "a fixed grid": (_fixed_grid, "in a grid of 4 × 2 patches of 3 × 1 pixels, patch 2 begins at \\(3, 0\\), not at \\(0, 2\\)"),
            "one number": (lambda i, g, p: i * p[0], "a pair"),
            "returns nothing": (lambda i, g, p: None, "return"),
        }
    },
    "ch01_patchify": {
        "wrong": {
            "reshapes only": (_reshapes, "does not move any numbers"),
            "channels last, then reshapes": (_channels_last_reshapes, "take height and width apart"),
            "channels first": (_string("b (h w) (c p1 p2)"), r"\(c p1 p2\)"),
            "mirrors each patch": (_string("b (h w) (p2 p1 c)"), r"\(p2 p1 c\)"),
            "down the columns": (_string("b (w h) (p1 p2 c)"), "along the rows"),
            "takes apart the wrong way": (_string("b (h w) (p1 p2 c)", "b c (p1 h) (p2 w)"), "split the height into \\(h p1\\)"),
            "three channels": (lambda x, p: _bare(x[:, :3], p), "1 image of 5 × 6 × 4"),
            "einops refuses": (_bare, "ValueError was expected, not EinopsError"),
            "checks the height only": (_checks_the_height, "ValueError was expected, not EinopsError"),
            "never refuses": (_never_refuses, "cannot be cut into patches 5 high"),
            "does not join": (_string("b h w (p1 p2 c)"), "joined"),
            "one row too many": (lambda x, p: _string("b (h w) (p1 p2 c)")(x, p).repeat(1, 2, 1), "should give"),
            "scales": (lambda x, p: _string("b (h w) (p1 p2 c)")(x, p) / 255, "not the numbers"),
            "turns it round": (lambda x, p: _string("b (h w) (p1 p2 c)")(x, p).flip(1), "wrong order"),
            "returns nothing": (lambda x, p: None, "return"),
        }
    },
    "ch01_unpatchify": {
        "wrong": {
            "reshapes only": (lambda x, p, g: x.reshape(2, 3, 8, 15), "does not move any numbers"),
            "channels first": (lambda x, p, g: _join(x, p, g, "b (h w) (c p1 p2)"), r"as \(c p1 p2\)"),
            "mirrors each patch": (lambda x, p, g: _join(x, p, g, "b (h w) (p2 p1 c)"), r"as \(p2 p1 c\)"),
            "column by column": (lambda x, p, g: _join(x, p, g, "b (w h) (p1 p2 c)"), "column by column"),
            "joins the wrong way": (lambda x, p, g: _join(x, p, g, "b (h w) (p1 p2 c)", "b c (p1 h) (p2 w)"), "changes fastest"),
            "grid turned": (lambda x, p, g: _join(x, p, g[::-1], "b (h w) (p1 p2 c)"), "2 images of 3 × 8 × 15"),
            "only pairs": (lambda x, p, g: unpatchify(x, (p[0], p[1]), g), "TypeError"),
            "never refuses a grid": (lambda x, p, g: unpatchify(x[:, : g[0] * g[1]], p, (x.shape[1] // g[1], g[1])), "grid of 2 × 4"),
            "too few only": (_only_too_few, "fill a grid of 2 × 4"),
            "einops refuses": (_bare_back, "ValueError was expected, not EinopsError"),
            "asserts": (_asserts, "for \\(an int64 tensor .*ValueError was expected, not AssertionError"),
            "three channels": (_three_channels, "13 channels"),
            "a fixed number of channels": (_fixed_channels, "(?s)EinopsError.* tensor of shape \\(1, 3, 104\\)"),
            "never refuses values": (_drops_values, "whole number of channels"),
        }
    },
    "ch01_order_of": {
        "wrong": {
            "one patch only": (_tried_on(torch.arange(30).reshape(1, 3, 2, 5), (2, 5)), "several patches"),
            "one row of patches": (
                _tried_on(torch.arange(60).reshape(1, 3, 2, 10), (2, 5)),
                'for patches that are numbered .w h., down the columns, the answer is "none", and yours is "p1 p2 c"',
            ),
            "flat image": (_tried_on(torch.ones(1, 3, 4, 10), (2, 5)), "different numbers"),
            "one channel": (_tried_on(torch.arange(40).reshape(1, 1, 4, 10), (2, 5)), "several channels"),
            "the same in both directions": (
                _tried_on((torch.arange(4)[:, None] + torch.arange(4)) + 100 * torch.arange(3)[:, None, None][None], (2, 2)),
                "p1 and p2 differ",
            ),
            "knows two orders": (_tried_on(torch.arange(120).reshape(1, 3, 4, 10), (2, 5), ["p1 p2 c", "c p1 p2"]), "for p1 c p2"),
            "never calls it": (lambda cut: "p1 p2 c", "call cut"),
            "true or false": (lambda cut: True, "string"),
            "returns nothing": (lambda cut: None, "returned nothing"),
        }
    },
}
