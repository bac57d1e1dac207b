"""Classic wrong answers to the exercises of chapter 02. The solutions are taken from the notebook."""

from __future__ import annotations

import torch

from minimae import mask_from_noise
from minimae.model.masking import Mask


def _indexes_all(keep, n):
    removed = torch.ones(len(keep), n)
    removed[:, keep] = 0
    return removed


def _first_for_all(keep, n):
    removed = torch.ones(len(keep), n)
    removed[:, keep[0]] = 0
    return removed


def _four_draws(noise):
    generator = torch.Generator().manual_seed(0)
    return [mask_from_noise(torch.rand(noise.shape, generator=generator), noise.shape[1] // 4) for _ in range(4)]


def _in_image_order(noise):
    order = torch.arange(noise.shape[1]).expand(noise.shape)
    k = noise.shape[1] // 4
    return [Mask(order[:, i * k : i * k + k], torch.cat([order[:, : i * k], order[:, i * k + k :]], dim=1)) for i in range(4)]


def _next_quarter_is_masked(noise):
    quarters = noise.argsort(dim=1).chunk(4, dim=1)
    return [Mask(quarters[i], quarters[(i + 1) % 4]) for i in range(4)]


def _first_image_for_all(noise):
    order = noise[:1].argsort(dim=1).expand(noise.shape)
    quarters = order.chunk(4, dim=1)
    return [Mask(quarters[i], torch.cat([*quarters[:i], *quarters[i + 1 :]], dim=1)) for i in range(4)]


def _forgets_to_leave_out(noise):
    order = noise.argsort(dim=1)
    k = noise.shape[1] // 4
    return [Mask(order[:, i * k : i * k + k], order[:, k:]) for i in range(4)]


def _largest_first(noise):
    quarters = noise.argsort(dim=1, descending=True).chunk(4, dim=1)
    return [Mask(quarters[i], torch.cat([*quarters[:i], *quarters[i + 1 :]], dim=1)) for i in range(4)]


ANSWERS = {
    "ch02_inverse": {
        "wrong": {
            "the order itself": (lambda order: order, "the order itself"),
            "sorts": (sorted, "sorted the patches"),
            "backwards": (lambda order: order[::-1], "backwards"),
            "counts from one": (lambda order: [order.index(i) + 1 for i in range(len(order))], "position is 0"),
            "applies it twice": (lambda order: [order[i] for i in order], "is at position"),
            "too short": (lambda order: [order.index(i) for i in range(len(order) - 1)], "your list has"),
            "returns nothing": (lambda order: None, "return"),
        }
    },
    "ch02_binary_of": {
        "wrong": {
            "the other way round": (lambda keep, n: torch.zeros(len(keep), n).scatter(1, keep, 1.0), "wrong way round"),
            "indexes all by all": (_indexes_all, "every list into every row"),
            "first image for all": (_first_for_all, "its own list"),
            "kept ones only": (lambda keep, n: torch.zeros_like(keep), "one number for each"),
            "the indices themselves": (lambda keep, n: torch.arange(n).expand(len(keep), n), "zeros belong"),
            "returns nothing": (lambda keep, n: None, "return"),
        }
    },
    "ch02_four_views": {
        "wrong": {
            "four draws": (_four_draws, "ONE shuffle"),
            "one mask four times": (lambda noise: [mask_from_noise(noise, noise.shape[1] // 4)] * 4, "visible 4 times|visible 0 times"),
            "in image order": (_in_image_order, "the same views"),
            "first image for all": (_first_image_for_all, "the same views"),
            "only one quarter is masked": (_next_quarter_is_masked, "all other views"),
            "masks what it keeps": (_forgets_to_leave_out, "both kept and masked"),
            "largest first": (_largest_first, "smallest numbers first"),
            "three quarters kept": (lambda noise: [mask_from_noise(noise, 3 * noise.shape[1] // 4)] * 4, "a quarter"),
            "returns nothing": (lambda noise: None, "return"),
        }
    },
}
