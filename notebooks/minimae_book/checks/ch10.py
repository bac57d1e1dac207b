"""Checks of chapter 10: fine-tuning, whole and in part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..verdict import Verdict, failed, passed
from .comparing import expect


def ch10_layer_lr(f: Callable[..., Any]) -> Verdict:
    """The learning rate of a layer under layer-wise decay."""
    lr, depth, decay = 2e-3, 6, 0.7
    got = [f(lr, layer, depth, decay) for layer in range(depth + 2)]

    def same(values: list[float]) -> bool:
        return all(abs(float(a) - b) < 1e-9 for a, b in zip(got, values))

    if same([lr * decay ** (depth + 1 - layer) for layer in range(depth + 2)]):
        return passed("the head has all of it, and each layer below 0.7 of the one above")
    if same([lr * decay**layer for layer in range(depth + 2)]):
        return failed("upside down: layer 0 has the whole learning rate and the head the least")
    if same([lr * decay ** (depth - layer) for layer in range(depth + 2)]):
        return failed("one too few: the head is layer depth + 1 and gets the whole of lr, not lr / decay")
    if same([lr * decay * (depth + 1 - layer) for layer in range(depth + 2)]):
        return failed("decay is a power, not a product: each layer has 0.7 of the one above it")
    if same([decay ** (depth + 1 - layer) for layer in range(depth + 2)]):
        return failed("that is the share: multiply it by lr")
    return failed("layer depth + 1 should have lr, and each layer below it decay times the one above")


def ch10_mixed_labels(f: Callable[..., Any]) -> Verdict:
    """Smoothed targets of blended images."""
    first, second, share = torch.tensor([0, 3, 2]), torch.tensor([1, 3, 0]), torch.tensor([0.75, 0.4, 0.1])
    classes, smoothing = 5, 0.2
    got = f(first, second, share, classes, smoothing)
    expect(got, (3, 5), "targets b classes were expected")
    hard = share[:, None] * F.one_hot(first, 5) + (1 - share[:, None]) * F.one_hot(second, 5)
    turned = (1 - share[:, None]) * F.one_hot(first, 5) + share[:, None] * F.one_hot(second, 5)

    def smooth(target: Tensor) -> Tensor:
        return target * (1 - smoothing) + smoothing / classes

    if torch.allclose(got, smooth(hard), atol=1e-5):
        return passed("every row sums to 1, and no class has probability 0")
    if torch.allclose(got, hard, atol=1e-5):
        return failed("mixed, not smoothed: every class gets smoothing / classes")
    if torch.allclose(got, smooth(turned), atol=1e-5):
        return failed("the shares are exchanged: `share` is how much of the *first* is in the picture")
    if torch.allclose(got, hard * (1 - smoothing) + smoothing / (classes - 1) * (hard == 0), atol=1e-5):
        return failed("smoothing goes to *all* classes, the right one included: smoothing / classes each")
    if not torch.allclose(got.sum(1), torch.ones(3), atol=1e-4):
        return failed(f"the rows sum to {[round(float(v), 2) for v in got.sum(1)]}: they are probabilities, so each must sum to 1")
    return failed("smooth the two one-hot labels, then mix them in shares of `share` and 1 − `share`")


def ch10_paste(f: Callable[..., Any]) -> Verdict:
    """Cutmix with one rectangle, from each image's partner."""
    images = torch.arange(4.0)[:, None, None, None] + torch.rand(4, 2, 8, 6, generator=torch.Generator().manual_seed(0)) / 2
    before, box = images.clone(), (1, 2, 6, 4)
    got = f(images, box)
    if not torch.equal(before, images):
        return failed("the images that were given have changed: paste into a clone")
    if not (isinstance(got, tuple | list) and len(got) == 2 and isinstance(got[0], Tensor) and tuple(got[0].shape) == (4, 2, 8, 6)):
        return failed("two things were expected: images of the same shape, and the share that is still their own")

    def pasted(order: list[int], place: tuple[int, int, int, int]) -> Tensor:
        top, left, bottom, right = place
        made = images.clone()
        made[:, :, top:bottom, left:right] = images[order][:, :, top:bottom, left:right]
        return made

    share, left_over = torch.as_tensor(got[1], dtype=torch.float32).flatten(), 1 - 10 / 48
    if torch.equal(got[0], pasted([1, 0, 3, 2], box)):
        if torch.allclose(share, torch.tensor(left_over), atol=1e-5):
            return passed("the label is mixed in proportion to the pixels")
        if torch.allclose(share, torch.tensor(10 / 48), atol=1e-5):
            return failed("that is the share of the rectangle: the rest is the image's own")
        return failed(f"the images are right; their own share is 1 − 10 / 48 = {left_over:.3f}, not {float(share[0]):.3f}")
    if torch.equal(got[0], pasted([3, 0, 1, 2], box)) or torch.equal(got[0], pasted([1, 2, 3, 0], box)):
        return failed("each image took from the next in a ring: partners are 0 and 1, 2 and 3, and each gives to the other")
    if torch.equal(got[0], pasted([3, 2, 1, 0], box)):
        return failed("the batch was reversed: partners are neighbours, 0 and 1, 2 and 3")
    if torch.equal(got[0], pasted([1, 0, 3, 2], (box[1], box[0], box[3], box[2]))):
        return failed("rows and columns are exchanged: the box is top, left, bottom, right")
    if torch.equal(got[0], images):
        return failed("nothing was pasted")
    return failed("inside the box each image should show its partner, outside it itself")
