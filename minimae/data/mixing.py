"""Mixup and cutmix: an image, and its label, mixed with another one (paper, Tables 9 and 11).

Zhang et al., arXiv 1710.09412: the two images are blended. Yun et al., arXiv 1905.04899: a rectangle is pasted from one into the
other. How much, which of the two, and where is a function of (seed, epoch, sample id).

**The partner** of an image is its neighbour in the endless row of shuffled epochs: images 2j and 2j + 1 of the row are partners. An
even batch that starts at an even place of the row holds both of every pair, and all batches of the loop do, however the row is split
over steps, accumulation and processes. So the partner, like all else, does not depend on them, and nothing has to be exchanged.
Each of the two draws its own share. (The row runs on over the end of an epoch, so once an epoch a pair may hold the same image twice.)

**The authors** (timm's Mixup, mode "batch") draw once for a whole batch, and mix it with itself read backwards: :func:`draw_one_share`
and :func:`folded`. Then the batch matters, and with it the number of processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..model.patches import Pair
from ..random import uniforms

TRIES = 32  # a pair of numbers is accepted in at least half of the tries, so one in 10^9 images falls back to halves


@dataclass(frozen=True)
class Mixing:
    """How images are mixed. mixup, cutmix: α of the Beta(α, α) that the share is drawn from; 0 leaves that one out.

    With both, each image takes either with probability one half (as in the authors' recipe).
    """

    mixup: float = 0.8
    cutmix: float = 1.0

    def __post_init__(self) -> None:
        for name, alpha in (("mixup", self.mixup), ("cutmix", self.cutmix)):
            if not 0 <= alpha <= 1:
                raise ValueError(f"{name} is the α of a Beta(α, α) between 0 (off) and 1 (every share alike), not {alpha}")

    def __bool__(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0


@dataclass(frozen=True, eq=False)
class Shares:
    """What was drawn for each image. own: float32 ``b``, the share of the image itself.

    box: int64 ``b 4``, the rectangle (top, left, bottom, right) that comes from the partner; empty where the two are blended.
    """

    own: Tensor
    box: Tensor


def beta(u: Tensor, v: Tensor, alpha: float) -> Tensor:
    """Numbers from Beta(α, α), 0 < α ≤ 1, from uniform ones ``b tries``: → float64 ``b`` (Jöhnk's method).

    The first pair with u^(1/α) + v^(1/α) ≤ 1 is taken; its share u^(1/α) / (u^(1/α) + v^(1/α)) has that distribution.
    """
    x, y = (((w.double() + 2.0**-25).log() / alpha) for w in (u, v))  # logarithms: a power 1/α of a small number would vanish
    accepted = x.exp() + y.exp() <= 1
    first = accepted.float().argmax(1, keepdim=True)
    share = torch.sigmoid(x - y).gather(1, first)[:, 0]
    return torch.where(accepted.any(1), share, 0.5)


def draw_shares(mixing: Mixing, ids: Tensor, image: Pair, *, seed: int, epoch: int | Tensor) -> Shares:
    """Shares and rectangles for images of ``image`` pixels: ids ``b`` → Shares. Nothing but the address counts.

    A rectangle has √(1 − share) of height and width and its centre anywhere; what sticks out is cut off, and the share is
    corrected to the pixels that were really replaced.
    """
    u = uniforms(seed, "mix", epoch, ids, 3 + 2 * TRIES)
    first, second = u[:, 3 : 3 + TRIES], u[:, 3 + TRIES :]
    chance = 0.5 if mixing.mixup and mixing.cutmix else float(mixing.cutmix > 0)
    cut = u[:, 0] < chance
    blend = beta(first, second, mixing.mixup) if mixing.mixup else torch.ones_like(u[:, 0], dtype=torch.float64)
    share = beta(first, second, mixing.cutmix) if mixing.cutmix else torch.ones_like(u[:, 0], dtype=torch.float64)
    height, width = image
    side = (1 - share).sqrt()
    edges = []
    for place, length in ((u[:, 1], height), (u[:, 2], width)):
        centre, half = (place * length).floor(), (side * length / 2).floor()
        edges.append(((centre - half).clamp(min=0), (centre + half).clamp(max=length)))
    (top, bottom), (left, right) = edges
    box = torch.stack([top, left, bottom, right], dim=1) * cut[:, None]
    replaced = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) / (height * width)
    return Shares(torch.where(cut, 1 - replaced, blend).float(), box.long())


def draw_one_share(mixing: Mixing, ids: Tensor, image: Pair, *, seed: int, epoch: int | Tensor) -> Shares:
    """The same share, kind and rectangle for a whole batch, as the authors draw them: ids ``b`` → Shares, drawn for the first id."""
    one = draw_shares(mixing, ids[:1], image, seed=seed, epoch=epoch[:1] if isinstance(epoch, Tensor) and epoch.dim() else epoch)
    return Shares(one.own.expand(len(ids)), one.box.expand(len(ids), 4))


def folded(x: Tensor) -> Tensor:
    """Rows 0 1 … n−1 → 0 n−1 1 n−2 …: neighbours are then what the authors mix, a batch with itself read backwards. n is even."""
    half = len(x) // 2
    return torch.stack([x[:half], x.flip(0)[:half]], dim=1).flatten(0, 1)


def partners(x: Tensor) -> Tensor:
    """Each row's neighbour: rows 0 1 2 3 … → 1 0 3 2 …. Raises ValueError for an odd number of rows."""
    if len(x) % 2:
        raise ValueError(f"mixing pairs the images of a batch, so it must be even, not {len(x)}: change --batch, or leave mixing out")
    return rearrange(rearrange(x, "(pairs two) ... -> pairs two ...", two=2).flip(1), "pairs two ... -> (pairs two) ...")


def mix_images(images: Tensor, shares: Shares) -> Tensor:
    """Images ``b c height width`` → images of the same shape, each mixed with its neighbour."""
    other = partners(images)
    top, left, bottom, right = (shares.box[:, i, None, None, None] for i in range(4))
    row = torch.arange(images.shape[-2], device=images.device)[:, None]
    column = torch.arange(images.shape[-1], device=images.device)
    inside = (row >= top) & (row < bottom) & (column >= left) & (column < right)
    empty = (shares.box[:, 2] <= shares.box[:, 0]) | (shares.box[:, 3] <= shares.box[:, 1])
    own = torch.where(empty, shares.own, 1.0)[:, None, None, None].to(images.dtype)  # a pasted image is not blended as well
    return torch.where(inside, other, own * images + (1 - own) * other)


def soft_targets(labels: Tensor, classes: int, *, smoothing: float = 0.0, shares: Shares | None = None) -> Tensor:
    """Labels int64 ``b`` → float32 ``b classes`` that sum to 1: smoothed, then mixed like the images.

    Smoothing gives each class ``smoothing / classes`` and the right one the rest (Szegedy et al., arXiv 1512.00567).
    """
    target = F.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes
    if shares is None:
        return target
    return shares.own[:, None] * target + (1 - shares.own[:, None]) * partners(target)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of logits ``b classes`` and soft targets ``b classes``, in float32 (also under autocast)."""
    with torch.autocast(logits.device.type, enabled=False):
        return -(targets.float() * logits.float().log_softmax(1)).sum(1).mean()
