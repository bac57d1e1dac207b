"""Classic wrong answers to the exercises of chapter 08. The solutions are taken from the notebook."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def _unit(vectors):
    return F.normalize(vectors - vectors.mean(0), dim=1)


def _with_itself(vectors, query, k):
    return (_unit(vectors) @ _unit(vectors)[query]).topk(k).indices


def _not_centred(vectors, query, k):
    unit = F.normalize(vectors, dim=1)
    return (unit @ unit[query]).topk(k + 1).indices[1:]


def _farthest(vectors, query, k):
    return (_unit(vectors) @ _unit(vectors)[query]).topk(k, largest=False).indices


def _distance(vectors, query, k):
    return (vectors - vectors[query]).norm(dim=1).topk(k + 1, largest=False).indices[1:]


def _whole_mean(patches, hidden):
    return torch.where(hidden[:, :, None], patches.mean((1, 2), keepdim=True), patches)


def _in_place(patches, hidden):
    patches[hidden] = patches[hidden].mean(-1, keepdim=True)
    return patches


def _map(weights, rows, columns, grid):
    return weights[:, :, rows, columns].reshape(*weights.shape[:2], *grid)


ANSWERS = {
    "ch08_only_the_gift": {
        "wrong": {
            "black": (lambda p, h: p * ~h[:, :, None], "mean of the patch"),
            "one mean for all": (_whole_mean, "one mean for the whole picture"),
            "inverted": (lambda p, h: torch.where(h[:, :, None], p, p.mean(-1, keepdim=True)), "inverted"),
            "in place": (_in_place, "have changed"),
        }
    },
    "ch08_class_map": {
        "wrong": {
            "a column": (lambda w, grid: _map(w, slice(1, None), 0, grid), "column"),
            "shifted": (lambda w, grid: _map(w, 0, slice(0, -1), grid), "shifted"),
            "flat": (lambda w, grid: w[:, :, 0, 1:], "b heads h w was expected"),
        }
    },
    "ch08_most_similar": {
        "wrong": {
            "its own neighbour": (_with_itself, "leave it out"),
            "not centred": (_not_centred, "mean was not subtracted"),
            "the farthest": (_farthest, "farthest"),
            "plain distance": (_distance, "distance"),
        }
    },
    "ch08_two_directions": {
        "wrong": {
            "not centred": (lambda x: x @ torch.linalg.svd(x, full_matrices=False).Vh[:2].T, "mean was not subtracted"),
            "columns of Vh": (lambda x: (x - x.mean(0)) @ torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[:, :2], "transposed"),
            "left vectors": (lambda x: torch.linalg.svd(x - x.mean(0), full_matrices=False).U[:, :2], "left singular"),
            "smallest": (lambda x: (x - x.mean(0)) @ torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[-2:].T, "smallest"),
            "mean left in": (lambda x: x @ torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[:2].T, "subtract it there too"),
        }
    },
}
