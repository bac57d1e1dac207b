"""Classic wrong answers to the exercises of chapter 02. The solutions are taken from the notebook."""

from __future__ import annotations

import torch

from minimae import mask_from_noise
from minimae.model.masking import Mask


def _cut(order, keep):
    return Mask(order[:, :keep], order[:, keep:])


def _values(noise, keep):
    return _cut(noise.sort(dim=1).values, keep)


def _image_order(noise, keep):
    order = noise.argsort(dim=1)
    return Mask(order[:, :keep].sort(dim=1).values, order[:, keep:].sort(dim=1).values)


def _exchanged(noise, keep):
    order = noise.argsort(dim=1)
    return Mask(order[:, keep:], order[:, :keep])


def _one_too_many(noise, keep):
    order = noise.argsort(dim=1)
    return Mask(order[:, : keep + 1], order[:, keep + 1 :])


def _masks_all(noise, keep):
    order = noise.argsort(dim=1)
    return Mask(order[:, :keep], order)


def _looping_mask(noise, keep):
    order = torch.stack([row.argsort() for row in noise])
    return _cut(order, keep)


def _gather(tokens, index):
    return tokens.gather(1, index[:, :, None].expand(-1, -1, tokens.shape[-1]))


def _no_table(tokens, index):
    return _gather(tokens if tokens.dim() == 3 else 0 * tokens.expand(2, 6, 4), index)


def _looping_take(tokens, index):
    return tokens[index] if tokens.dim() == 2 else torch.stack([tokens[i, row] for i, row in enumerate(index)])


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


def _fixed_gather(tokens, index):
    return tokens[index] if tokens.dim() == 2 else tokens.gather(1, index[:, :, None].expand(-1, -1, 4))


def _fixed_rows(tokens, index):
    return tokens[index] if tokens.dim() == 2 else tokens.flatten(0, 1)[index + 6 * torch.arange(len(index))[:, None]]


def _right_for_the_first(tokens, index):
    return _gather(tokens, torch.cat([index[:1], index[1:].flip(1)]))


def _twelve(noise):
    order = noise.argsort(dim=1)
    return [Mask(order[:, i : i + 3], torch.cat([order[:, :i], order[:, i + 3 :]], dim=1)) for i in (0, 3, 6, 9)]


ANSWERS = {
    "ch02_inverse": {
        "wrong": {
            "the order itself": (lambda order: order, "the order itself"),
            "sorts": (sorted, "sorted the patches"),
            "backwards": (lambda order: order[::-1], "backwards"),
            "counts from one": (lambda order: [order.index(i) + 1 for i in range(len(order))], "first index is 0"),
            "a dict": (lambda order: {patch: i for i, patch in enumerate(order)}, "a list of indices was expected, not dict"),
            "applies it twice": (lambda order: [order[i] for i in order], "is at index"),
            "too short": (lambda order: [order.index(i) for i in range(len(order) - 1)], "yours has"),
            "returns nothing": (lambda order: None, "return"),
        }
    },
    "ch02_mask_from_noise": {
        "wrong": {
            "largest first": (lambda noise, keep: _cut(noise.argsort(dim=1, descending=True), keep), "wants the smallest"),
            "restore": (lambda noise, keep: _cut(noise.argsort(dim=1).argsort(dim=1), keep), "that is restore"),
            "sorted numbers": (_values, "argsort, not sort"),
            "kept and masked exchanged": (_exchanged, "exchanged"),
            "first image for all": (lambda noise, keep: _cut(noise[:1].argsort(dim=1).expand(noise.shape), keep), "its own noise"),
            "does not sort": (lambda noise, keep: _cut(torch.arange(7).expand(2, 7), keep), "its own noise"),
            "sorts along the batch": (lambda noise, keep: _cut(noise.argsort(dim=0), keep), "keep is"),
            "sorted into image order": (_image_order, "in the order of the noise"),
            "one too many": (_one_too_many, "keep holds 3"),
            "masks what it keeps": (_masks_all, "masked holds the other 4"),
            "two tensors": (lambda noise, keep: (noise[:, :keep], noise[:, keep:]), "should be a Mask, .*, not tuple"),
            "lists": (lambda noise, keep: Mask([1], [2]), "its keep should be a tensor, not list"),
            "a fixed number": (lambda noise, keep: _cut(noise.argsort(dim=1), 3), "keep holds 5 indices for each of 3 images"),
            "masked in image order": (
                lambda noise, keep: Mask(noise.argsort(dim=1)[:, :keep], noise.argsort(dim=1)[:, keep:].sort(dim=1).values),
                "keep is right; masked of image 0 is",
            ),
            "loops": (_looping_mask, "it loops"),
        }
    },
    "ch02_take": {
        "wrong": {
            "all lists from all images": (lambda tokens, index: tokens[:, index], "torch.gather along axis 1"),
            "one number of each token": (lambda tokens, index: tokens.gather(1, index[:, :, None]), "expand the index"),
            "first list for all": (lambda tokens, index: tokens[:, index[0]], "index\\[0\\] for all"),
            "the first tokens": (lambda tokens, index: tokens[:, : index.shape[1]], "first three tokens"),
            "first image for all": (lambda tokens, index: tokens.flatten(0, 1)[index], "image 1 starts at row n"),
            "counts from one": (lambda tokens, index: _gather(tokens, (index + 1) % 6), "should give patches"),
            "right for the first image": (_right_for_the_first, r"image 1 should give patches \[0, 5, 2\], yours gives \[2, 5, 0\]"),
            "a fixed width": (_fixed_gather, r"\(3, 2, 7\), not \(3, 2, 4\)|RuntimeError"),
            "a fixed number of patches": (_fixed_rows, "3 images of 5 tokens|IndexError"),
            "no table": (_gather, "IndexError|RuntimeError"),
            "another table": (_no_table, "table.index."),
            "loops": (_looping_take, "it loops"),
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
            "twelve patches": (_twelve, r"should keep a quarter, 2 × 5; its keep has shape \(2, 3\)"),
            "lists": (lambda noise: [Mask([0], [1])] * 4, "view 0 is a Mask, but its keep should be a tensor"),
            "tensors": (lambda noise: list(noise.argsort(dim=1).chunk(4, dim=1)), "view 0 should be a Mask"),
            "three quarters kept": (lambda noise: [mask_from_noise(noise, 3 * noise.shape[1] // 4)] * 4, "a quarter"),
            "returns nothing": (lambda noise: None, "return"),
        }
    },
}
