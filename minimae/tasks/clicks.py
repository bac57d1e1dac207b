"""A simulated user: clicks and boxes for an object whose mask is known (Sofiiuk et al. 2021, arXiv 2102.06583; Segment Anything, A)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.shapes import boxes_of
from .promptable import BOTTOM_RIGHT, NEGATIVE, NOTHING, POSITIVE, TOP_LEFT, Prompts

LOOSE = 0.1  # each side of a box moves by up to this share of its length


def depths(inside: Tensor) -> Tensor:
    """How far each pixel lies inside a region: bool ``b height width`` → int64 of the same shape, 0 outside.

    1 at the edge (also at the edge of the image), and one more for each ring of pixels inwards: the distance to the outside
    along rows, columns and diagonals.
    """
    left = F.pad(inside.float(), (1, 1, 1, 1))[:, None]
    total = torch.zeros_like(left)
    while left.any():
        total += left
        left = -F.max_pool2d(-left, 3, stride=1, padding=1)
    return total[:, 0, 1:-1, 1:-1].long()


def middle(depth: Tensor) -> Tensor:
    """The deepest pixel of each region, or of several, the one nearest to their mean: depths ``b height width`` → x, y int64 ``b 2``."""
    y, x = torch.meshgrid(*(torch.arange(side, device=depth.device, dtype=torch.float32) for side in depth.shape[1:]), indexing="ij")
    deepest = depth == depth.amax((1, 2), keepdim=True)
    count = deepest.sum((1, 2), keepdim=True)
    from_mean = [side - (deepest * side).sum((1, 2), keepdim=True) / count for side in (x, y)]
    away = torch.where(deepest, from_mean[0].square() + from_mean[1].square(), torch.inf)
    return places(away.flatten(1).argmin(1), depth.shape[2])


def places(index: Tensor, width: int) -> Tensor:
    """Indices of pixels ``b``, counted row by row → x, y ``b 2``."""
    return torch.stack([index % width, index // width], dim=1)


def next_click(masks: Tensor, predicted: Tensor | None = None) -> Prompts:
    """A click in the middle of the largest mistake: masks and predictions bool ``b height width`` → ``b 1``.

    It is positive where the object was missed, negative where too much was taken. Without a prediction, or without a mistake, it is
    positive and in the middle of the object.
    """
    predicted = torch.zeros_like(masks) if predicted is None else predicted
    missed, wrong = depths(masks & ~predicted), depths(predicted & ~masks)
    most_missed, most_wrong = missed.amax((1, 2)), wrong.amax((1, 2))
    positive = most_missed >= most_wrong
    region = torch.where(positive[:, None, None], missed, wrong)
    flawless = (most_missed == 0) & (most_wrong == 0)
    if flawless.any():
        region = torch.where(flawless[:, None, None], depths(masks), region)
    return Prompts(middle(region)[:, None] + 0.5, torch.where(positive, POSITIVE, NEGATIVE)[:, None])


def random_click(masks: Tensor, u: Tensor) -> Prompts:
    """A positive click on a random pixel of each object: masks bool ``b height width``, random numbers in [0, 1) ``b`` → ``b 1``."""
    inside = masks.flatten(1).cumsum(1)
    wanted = (u * inside[:, -1]).floor().to(inside.dtype) + 1
    index = torch.searchsorted(inside, wanted[:, None])[:, 0]
    return Prompts(places(index, masks.shape[2])[:, None] + 0.5, torch.full_like(index, POSITIVE)[:, None])


def box_prompt(masks: Tensor, u: Tensor | None = None) -> Prompts:
    """The two corners of the box around each object: masks bool ``b height width`` → ``b 2``.

    u: random numbers in [0, 1) ``b 4``; with them the sides move by up to :data:`LOOSE` of the box's length, because users are inexact.
    """
    boxes = boxes_of(masks)
    if u is not None:
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        boxes = boxes + LOOSE * (2 * u - 1) * sides
        boxes = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([masks.shape[2], masks.shape[1]]).repeat(2))
    kinds = torch.tensor([TOP_LEFT, BOTTOM_RIGHT], device=masks.device).expand(len(masks), 2)
    return Prompts(boxes.unflatten(1, (2, 2)), kinds)


def first_prompts(masks: Tensor, u: Tensor, *, boxes: float) -> Prompts:
    """A click or a box for each object, at random: masks bool ``b height width``, random numbers ``b 6`` → ``b 2``.

    boxes: the share of objects that get a box.
    """
    click, box = random_click(masks, u[:, 0]), box_prompt(masks, u[:, 2:])
    click += Prompts(torch.zeros_like(click.points), torch.full_like(click.kinds, NOTHING))
    chosen = (u[:, 1] < boxes)[:, None]
    return Prompts(torch.where(chosen[..., None], box.points, click.points), torch.where(chosen, box.kinds, click.kinds))
