"""Mixup and cutmix (paper, Tables 9 and 11), random erasing (the authors' code): on the device, functions of (seed, epoch, sample id).

Mixup (Zhang et al., arXiv 1710.09412) blends two images, cutmix (Yun et al., arXiv 1905.04899) pastes a rectangle from one into the
other, and both mix the labels.

**The partner** of an image is its neighbour in the endless sequence of shuffled epochs: images 2j and 2j + 1 of the row are partners. Every
batch of the loop is even and starts at an even index, so it holds whole pairs, however the sequence is split over steps, accumulation
and processes. Each image draws its own share. (A pair at the end of an epoch may hold the same image twice.)

**The authors** (timm's Mixup, mode "batch") draw once for a whole batch, and mix it with the reversed batch: :func:`draw_one_share`
and :func:`folded`. The result then depends on the batch, and so on the number of processes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..devices import wide
from ..model.patches import Pair
from ..random import uniforms

TRIES = 32  # a pair of numbers is accepted in at least half of the tries, so one in 10^9 images falls back to halves
AREA, ASPECT, RECTANGLES = (0.02, 1 / 3), (0.3, 1 / 0.3), 10  # of erasing: shares of the area, heights over widths, tries; timm's
BANK = 2**20  # starts from which the noise of an erased rectangle may be taken


@dataclass(frozen=True)
class Mixing:
    """α of the Beta(α, α) that the share is drawn from; 0 turns it off. With both, each image takes either with probability one half."""

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
    """own: float32 ``b``, the share of the image itself.

    box: int64 ``b 4``, the rectangle (top, left, bottom, right) that comes from the partner; empty where the two are blended.
    """

    own: Tensor
    box: Tensor


def beta(u: Tensor, v: Tensor, alpha: float) -> Tensor:
    """Numbers from Beta(α, α), 0 < α ≤ 1, from uniform ones ``b tries``: → float64 ``b`` (Jöhnk's method).

    The first pair with u^(1/α) + v^(1/α) ≤ 1 is taken; its share u^(1/α) / (u^(1/α) + v^(1/α)) has that distribution.
    """
    x, y = ((w.to(wide(w.device)) + 2.0**-25).log() / alpha for w in (u, v))  # logarithms: a power 1/α of a small number would vanish
    accepted = x.exp() + y.exp() <= 1
    first = accepted.float().argmax(1, keepdim=True)
    share = torch.sigmoid(x - y).gather(1, first)[:, 0]
    return torch.where(accepted.any(1), share, 0.5)


def draw_shares(mixing: Mixing, ids: Tensor, image: Pair, *, seed: int, epoch: int | Tensor) -> Shares:
    """Shares and rectangles for images of ``image`` pixels: ids ``b`` → Shares.

    A rectangle has √(1 − share) of height and width and its centre anywhere. It is cut off at the edges, and the share is then
    computed from the pixels that are replaced.
    """
    u = uniforms(seed, "mix", epoch, ids, 3 + 2 * TRIES)
    first, second = u[:, 3 : 3 + TRIES], u[:, 3 + TRIES :]
    cut = u[:, 0] < (0.5 if mixing.mixup and mixing.cutmix else float(mixing.cutmix > 0))
    blend, share = (beta(first, second, alpha) if alpha else torch.ones_like(u[:, 0]) for alpha in (mixing.mixup, mixing.cutmix))
    height, width = image
    side = (1 - share).sqrt()
    edges = []
    for where, length in ((u[:, 1], height), (u[:, 2], width)):
        centre, half = (where * length).floor(), (side * length / 2).floor()
        edges.append(((centre - half).clamp(min=0), (centre + half).clamp(max=length)))
    (top, bottom), (left, right) = edges
    box = torch.stack([top, left, bottom, right], dim=1) * cut[:, None]
    replaced = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) / (height * width)
    return Shares(torch.where(cut, 1 - replaced, blend).float(), box.long())


def draw_one_share(mixing: Mixing, ids: Tensor, image: Pair, *, seed: int, epoch: int | Tensor) -> Shares:
    """One share and rectangle for a whole batch, drawn for the first id, as the authors do: ids ``b`` → Shares."""
    one = draw_shares(mixing, ids[:1], image, seed=seed, epoch=epoch[:1] if isinstance(epoch, Tensor) and epoch.dim() else epoch)
    return Shares(one.own.expand(len(ids)), one.box.expand(len(ids), 4))


def folded(x: Tensor) -> Tensor:
    """Rows 0 1 … n−1 → 0 n−1 1 n−2 …, for even n: each neighbour is then the partner in the reversed batch."""
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


def erase(images: Tensor, ids: Tensor, probability: float, *, seed: int, epoch: int | Tensor) -> Tensor:
    """Random erasing (Zhong et al., arXiv 1708.04896): normalised images ``b c height width`` → a copy; some have a rectangle of noise.

    It covers 2 % to a third of the area; the noise has standard deviation 1. The same as timm's with ``mode="pixel"``.
    """
    height, width = images.shape[-2:]
    top, left, tall, wide = rectangles(ids, height, width, seed=seed, epoch=epoch)[:, :, None].unbind(1)
    row, column = (torch.arange(side, device=ids.device) for side in (height, width))
    inside = ((row >= top) & (row < top + tall))[:, :, None] & ((column >= left) & (column < left + wide))[:, None, :]
    u = uniforms(seed, "erased", epoch, ids, 2)
    happens = u[:, 0] < probability
    values = images[0].numel()
    noise = noise_bank(values, ids.device).unfold(0, values, 1)[(u[:, 1] * BANK).long()].view_as(images)
    return torch.where((happens[:, None, None] & inside)[:, None], noise.to(images), images)


def rectangles(ids: Tensor, height: int, width: int, *, seed: int, epoch: int | Tensor) -> Tensor:
    """What would be erased: ids ``b`` → float32 ``b 4`` (top, left, height, width). Empty if ten rectangles were all too large.

    Area and position are uniform, the aspect is log-uniform.
    """
    u = uniforms(seed, "erase", epoch, ids, 4 * RECTANGLES).unflatten(1, (RECTANGLES, 4))
    narrow, broad = (math.log(bound) for bound in ASPECT)
    area = height * width * (AREA[0] + u[..., 0] * (AREA[1] - AREA[0]))
    aspect = (narrow + u[..., 1] * (broad - narrow)).exp()
    tall, wide = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    top, left = (u[..., 2] * (height - tall + 1)).floor(), (u[..., 3] * (width - wide + 1)).floor()
    fits = (tall < height) & (wide < width)
    boxes = torch.stack([top, left, tall, wide], dim=-1) * fits[..., None]
    return boxes.gather(1, fits.float().argmax(1)[:, None, None].expand(-1, 1, 4))[:, 0]


@lru_cache(maxsize=4)
def noise_bank(values: int, device: torch.device) -> Tensor:
    """Fixed normal noise, float32 ``BANK + values``. An image takes ``values`` of it."""
    u = uniforms(0, "erased", 0, torch.zeros(1, dtype=torch.int64, device=device), 2 * (BANK + values)).to(wide(device)).view(2, -1)
    return ((-2 * (1 - u[0]).log()).sqrt() * (2 * math.pi * u[1]).cos()).float()
