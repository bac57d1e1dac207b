"""Checks of chapter 08: what did it learn?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from ..verdict import Verdict, failed, passed
from .comparing import expect


def ch08_most_similar(f: Callable[..., Any]) -> Verdict:
    """The k nearest other vectors of one vector, by cosine after centring."""
    generator = torch.Generator().manual_seed(0)  # the neighbours of vector 25 differ for each of the mistakes below
    spread, mean = torch.linspace(0.3, 3, 40)[:, None], torch.tensor([2.0, 1.0, 0.0, -1.0, 0.0, 1.0])
    vectors, query, k = torch.randn(40, 6, generator=generator) * spread + mean, 25, 5
    got = f(vectors, query, k)
    got = torch.as_tensor(got).flatten().tolist()
    centred = F.normalize(vectors - vectors.mean(0), dim=1)
    plain = F.normalize(vectors, dim=1)

    def ranked(score: torch.Tensor, largest: bool = True) -> list[int]:
        return [i for i in score.argsort(descending=largest, stable=True).tolist() if i != query][:k]

    if len(got) == k and set(got) == set(ranked(centred @ centred[query])):
        return passed("the query itself is left out, and the mean too")
    if query in got:
        return failed("the query is its own nearest neighbour, which means nothing: leave it out")
    if len(got) != k:
        return failed(f"{k} neighbours were expected, not {len(got)}")
    if set(got) == set(ranked(centred @ centred[query], largest=False)):
        return failed("those are the *farthest*: a large cosine is near")
    if set(got) == set(ranked(plain @ plain[query])):
        return failed("the mean was not subtracted: all vectors share it, and it makes every cosine large")
    if set(got) == set(ranked((vectors - vectors[query]).norm(dim=1), largest=False)):
        return failed("that is the plain distance: it prefers short vectors; divide each by its length after centring")
    if set(got) == set(ranked((vectors - vectors.mean(0)) @ (vectors - vectors.mean(0))[query])):
        return failed("long vectors win in a plain product: divide each by its length after centring")
    return failed(f"the neighbours of vector {query} are {sorted(ranked(centred @ centred[query]))}, and you say {sorted(got)}")


def ch08_class_map(f: Callable[..., Any]) -> Verdict:
    """The attention of the class token to the patches, one map per head."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 3, 13, 13, generator=generator).mul(2).softmax(-1)
    got, right = f(weights, (3, 4)), weights[:, :, 0, 1:].reshape(2, 3, 3, 4)
    expect(got, (2, 3, 3, 4), "a tensor b heads h w was expected")
    if torch.allclose(got, right):
        return passed("one row of the matrix is one picture")
    if torch.allclose(got, weights[:, :, 1:, 0].reshape(2, 3, 3, 4)):
        return failed("that is a column: how much each patch attends to the class token; row 0 is how much that attends to each patch")
    if torch.allclose(got, weights[:, :, 0, :-1].reshape(2, 3, 3, 4)):
        return failed("shifted by one: token 0 is the class token itself, so the patches are 1 to n")
    return failed("this is not row 0 of the weights without its first entry, laid out as a grid")


def ch08_only_the_gift(f: Callable[..., Any]) -> Verdict:
    """Hidden patches filled with their own mean."""
    generator = torch.Generator().manual_seed(0)
    patches, hidden = torch.randn(2, 9, 16, generator=generator) * 2 + 1, torch.rand(2, 9, generator=generator) < 0.6
    before = patches.clone()
    got, means = f(patches, hidden), patches.mean(-1, keepdim=True).expand_as(patches)
    right = torch.where(hidden[:, :, None], means, patches)
    if not torch.equal(before, patches):
        return failed("the patches that were given have changed: make a new tensor, for example with torch.where")
    expect(got, (2, 9, 16), "a tensor with the shape of the patches was expected, b n (p1 p2 c)")
    if torch.allclose(got, right):
        return passed("this picture needs no model at all")
    if torch.allclose(got, torch.where(hidden[:, :, None], patches, means)):
        return failed("inverted: the visible patches were filled, and the hidden ones are shown")
    if torch.allclose(got, means):
        return failed("every patch was filled: the visible ones stay as they are")
    if torch.allclose(got, torch.where(hidden[:, :, None], torch.zeros_like(patches), patches)):
        return failed("0 is what is *predicted*; shown as pixels it is 0 × std + mean: the mean of the patch")
    if torch.allclose(got, torch.where(hidden[:, :, None], patches.mean((1, 2), keepdim=True), patches)):
        return failed("that is one mean for the whole picture: the normalised target uses the mean of each patch")
    return failed("hidden patches should be flat, each at its own mean, and visible patches as they were")


def ch08_two_directions(f: Callable[..., Any]) -> Verdict:
    """The coordinates of vectors along their two directions of largest variance."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(60, 5, generator=generator) * torch.tensor([0.5, 4.0, 1.0, 2.0, 0.1]) + torch.tensor([0.0, 0.0, 30.0, 0.0, 0.0])
    got = f(vectors)
    expect(got, (60, 2), "two coordinates for each of 60 vectors were expected")
    centred = vectors - vectors.mean(0)
    u, _, v = torch.linalg.svd(centred, full_matrices=False)
    right = centred @ v[:2].T

    def same(value: torch.Tensor) -> bool:
        return torch.allclose(got.abs(), value.abs(), atol=1e-3)  # a direction may point either way

    if same(right):
        return passed("the sign of a direction is arbitrary, so yours may be the mirror image of the figure")
    if same(right - right.mean(0) + vectors.mean(0) @ v[:2].T):
        return failed("the directions are right, but the mean is still in the coordinates: subtract it there too")
    if same(vectors @ torch.linalg.svd(vectors, full_matrices=False)[2][:2].T):
        return failed("the mean was not subtracted: the first direction then points at the mean, and shows no variance")
    if same(u[:, :2]):
        return failed("those are the left singular vectors, all with the same spread: multiply by the singular values")
    if same(centred @ v[-2:].T) or same(centred @ v[-2:].flip(0).T):
        return failed("directions of the *smallest* variance: eigenvalues come smallest first, singular values largest first")
    if same(centred @ v[:, :2]):
        return failed("torch.linalg.svd returns V transposed: directions are its rows")
    return failed("these are not the coordinates along the two directions of largest variance")
