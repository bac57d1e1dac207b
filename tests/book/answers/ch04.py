"""Answers to the exercises of chapter 04: the classic wrong ones, and what the check must say to each."""

import torch

from minimae.model.masking import take
from minimae.model.sizes import block_flops


def first_and(tokens, class_token):
    return torch.cat([class_token.expand(len(tokens), -1, -1), tokens], dim=1)


def by_rank(patches, keep, project, positions, class_token):
    return first_and(project(take(patches, keep)) + positions[1 : 1 + keep.shape[1]], class_token)


def forgets_class_row(patches, keep, project, positions, class_token):
    return first_and(project(take(patches, keep)) + take(positions, keep), class_token)


def forgets_positions(patches, keep, project, positions, class_token):
    return first_and(project(take(patches, keep)), class_token)


def forgets_class_token(patches, keep, project, positions, class_token):
    return project(take(patches, keep)) + take(positions[1:], keep)


def class_token_last(patches, keep, project, positions, class_token):
    tokens = project(take(patches, keep)) + take(positions[1:], keep)
    return torch.cat([tokens, class_token.expand(len(tokens), -1, -1)], dim=1)


def projects_all(patches, keep, project, positions, class_token):
    return first_and(take(project(patches) + positions[1:], keep), class_token)


def changed_by(encode, patches, mask, places, *, copy=True):
    before, found = encode(patches, mask), []
    for i in places:
        patches = patches.clone() if copy else patches
        kept = patches[:, i].clone()
        patches[:, i] += 1 + torch.arange(patches.shape[-1])
        if not torch.equal(encode(patches, mask), before):
            found.append(i)
        if copy:
            patches[:, i] = kept
    return sorted(found)


ANSWERS = {
    "ch04_times_cheaper": {
        "wrong": {
            "forgets the class token": (lambda n, k, d: block_flops(n, d) / block_flops(k, d), "class token is missing"),
            "ratio of tokens": (lambda n, k, d: n / k, "ratio of the tokens"),
            "everything quadratic": (lambda n, k, d: (n / k) ** 2, "not everything is quadratic"),
            "upside down": (lambda n, k, d: block_flops(1 + k, d) / block_flops(1 + n, d), "upside down"),
        }
    },
    "ch04_embed_visible": {
        "wrong": {
            "positions by rank": (by_rank, "by rank"),
            "forgets the class row": (forgets_class_row, "left neighbour"),
            "forgets positions": (forgets_positions, "bag of patches"),
            "forgets the class token": (forgets_class_token, r"not \(2, 3, 8\)"),
            "class token last": (class_token_last, "is at the end"),
            "projects all patches": (projects_all, "take first"),
        }
    },
    "ch04_tokens_for_share": {
        "wrong": {
            "share of the linear part": (lambda share, d: 6 * d * share, "linear part alone"),
            "one product only": (lambda share, d: 12 * d * share / (1 - share), "You count one"),
            "not solved": (lambda share, d: share / (6 * d + share), "Solve it for t"),
        }
    },
    "ch04_leaks": {
        "wrong": {
            "asks about all patches": (lambda e, p, m: changed_by(e, p, m, range(p.shape[1])), "are visible"),
            "does not copy": (lambda e, p, m: changed_by(e, p, m, m.masked[0].tolist(), copy=False), "fresh copy"),
            "trusts the shape": (lambda e, p, m: [], "you miss"),
            "first hidden patch only": (lambda e, p, m: changed_by(e, p, m, m.masked[0, :1].tolist()), "you miss"),
            "returns a mask": (lambda e, p, m: m.binary, "list of indices"),
        }
    },
}
