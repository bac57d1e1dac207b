"""Checks of chapter 08: what did it learn?"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minimae.data.augment import normalise
from minimae.model.sizes import size
from minimae.model.vit import Encoder
from minimae.tasks.features import extract
from minimae.tasks.knn import knn_predict

from ..verdict import Verdict, failed, passed
from .comparing import expect, named_mistake, near, random


def ch08_extract(f: Callable[..., Any]) -> Verdict:
    """Features of five images in batches of two, from an encoder in training mode with drop path."""
    shape = size("nano", image=(12, 16), patch=4, depth=2, width=24, heads=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        package = Encoder(shape, drop=0.9)
        for name, parameter in package.named_parameters():
            if name != "positions":
                nn.init.normal_(parameter, std=0.3)
    pixels = torch.randint(256, (5, 1, 12, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    statistics = torch.tensor([0.3]), torch.tensor([0.2])
    own, package = copy.deepcopy(package).train(), package.eval()
    sizes: list[int] = []
    own.register_forward_hook(lambda module, given, tokens: sizes.append(len(tokens)))
    for pool, values in (("mean", 24), ("class", 24), ("tokens", 288)):
        got, wanted = f(own, pixels, statistics, pool=pool, batch=2), extract(package, pixels, statistics, pool=pool)  # type: ignore[arg-type]
        if near(got, wanted):
            if got.requires_grad:
                return failed("the values are right, but they carry gradients, and all batches stay in memory: keep @torch.no_grad()")
            if max(sizes, default=0) > 2:
                return failed(f"with batch=2, the encoder was given {max(sizes)} images at once: work in the parts of pixels.split(batch)")
            own.train()
            continue
        if isinstance(got, list | tuple):
            return failed(f"one tensor was expected, not a {type(got).__name__}: torch.cat the features of all batches")
        if isinstance(got, Tensor) and tuple(got.shape[:1]) in ((1,), (2,)):
            return failed(f"features of {len(got)} images came back, not of 5: collect the features of all batches, then torch.cat them")
        expect(got, (5, values), f"with pool={pool!r}, features of 5 images (12 patches each, d = 24) were expected")
        if own.training:
            return failed("the encoder was in training mode, so drop path changed the features at random: call encoder.eval() first")
        with torch.no_grad():
            x = normalise(pixels, statistics)
            tokens, raw, before = package(x), package(pixels.float() / 255), package.features(x)[-1]
        named_mistake(got, (
            (tokens.mean(1), "the class token is part of the mean: the patch tokens are rows 1 to n"),
            (raw[:, 1:].mean(1), "the images were not normalised: normalise(part, statistics)"),
            (before[:, 1:].mean(1), "these are the tokens before the last norm: call the encoder itself"),
            (tokens[:, 1:].amax(1), "that is the largest value over the patches: take their mean"),
            (tokens[:, 0], "that is the class token: take the mean of rows 1 to n"),
            (tokens[:, 1:].mean(1), "that is the mean of the patch tokens: the class token is row 0"),
            (tokens[:, 1], "that is the first patch: the class token is row 0"),
            (tokens[:, -1], "that is the last patch: the class token is row 0"),
            (tokens[:, 1:].mT.flatten(1), "the order is b (d n): keep the d numbers of a patch together, b (n d)"),
            (tokens[:, :-1].flatten(1), "the class token is among the patches, and the last patch is missing: they are rows 1 to n"),
        ), where=f"pool={pool!r}")  # fmt: skip
        return failed(f"pool={pool!r}: the shape is right, but the numbers differ from the package's")
    return passed("whole images, in eval mode, in their order, in three ways")


def ch08_knn_predict(f: Callable[..., Any]) -> Verdict:
    """Votes of neighbours among overlapping classes, so that each mistake changes many predictions."""
    labels, mean = torch.arange(60) % 4, torch.tensor([3.0, 1.0, 0.0, -2.0, 0.0, 1.0])
    scale = torch.linspace(0.3, 3, 60)[:, None]
    train, test = (random(60, 6) + random(4, 6, seed=1)[labels]) * scale + mean, 2 * random(300, 6, seed=2) + mean + 0.7
    centre = train.mean(0)
    a, b, k = F.normalize(train - centre, dim=1), F.normalize(test - centre, dim=1), 7

    def vote(similarity: Tensor, temperature: float = 0.2, *, k: int = k, weigh: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        top, index = similarity.topk(k, dim=1)
        weight = (top / temperature).exp() if weigh is None else weigh(top)
        return (weight[:, :, None] * F.one_hot(labels[index], 4)).sum(1).argmax(1)

    def same(x: Tensor, share: float = 1.0) -> bool:
        return float((got == x).float().mean()) >= share

    for neighbours, temperature in ((7, 0.2), (3, 0.07), (20, 1.0)):
        got = f(train, labels, test, k=neighbours, temperature=temperature)
        if isinstance(got, Tensor) and tuple(got.shape) == (300, neighbours):
            return failed("these are k values for each test vector: let the k neighbours vote, and return the class with the most")
        if isinstance(got, Tensor) and tuple(got.shape) == (60,):
            return failed("there is one class for each *training* vector: the rows of the product must be the test vectors, test @ train.T")
        expect(got, (300,), "one class for each of 300 test vectors was expected")
        if got.is_floating_point():
            return failed("classes are whole numbers: take the argmax of the votes, not their sum")
        if same(knn_predict(train, labels, test, k=neighbours, temperature=temperature), 0.99):
            continue
        if int(got.max()) > 3:
            return failed("these are indices of training vectors, not classes: look up labels[index]")
        if (neighbours, temperature) != (7, 0.2):
            return failed(f"right for k=7 and temperature=0.2, wrong for k={neighbours} and temperature={temperature}: use both arguments")
        own = F.normalize(test - test.mean(0), dim=1)
        named_mistake(got, (
            (vote(F.normalize(test, dim=1) @ F.normalize(train, dim=1).T), "the mean was not subtracted: all vectors share it, and it makes every cosine large"),
            (vote(own @ a.T), "the test vectors were centred by their own mean: use the mean of the training vectors for both"),
            (vote((test - centre) @ (train - centre).T), "the vectors have different lengths, and long ones win: F.normalize after centring"),
            (vote(-torch.cdist(test, train)), "that is the distance, which depends on the lengths: use the cosine"),
            (vote(b @ a.T, weigh=torch.ones_like), "every neighbour has the same vote: weigh it by exp(cosine / temperature)"),
            (vote(b @ a.T, weigh=lambda top: top), "the vote is the cosine itself: it is exp(cosine / temperature)"),
            (vote(b @ a.T, 1.0), "the cosine was not divided by the temperature"),
            (vote(-(b @ a.T)), "those are the farthest: the nearest have the largest cosine"),
            (vote(b @ a.T, k=1), "only the nearest neighbour was used: k of them vote"),
        ))  # fmt: skip
        return failed("the neighbours are those with the largest cosine after centring, and each votes with exp(cosine / temperature)")
    return passed("three choices of k and temperature, 300 votes each")


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


def ch08_flat_patches(f: Callable[..., Any]) -> Verdict:
    """Hidden patches filled with their own mean."""
    generator = torch.Generator().manual_seed(0)
    patches, hidden = torch.randn(2, 9, 16, generator=generator) * 2 + 1, torch.rand(2, 9, generator=generator) < 0.6
    got, means = f(patches, hidden), patches.mean(-1, keepdim=True).expand_as(patches)
    right = torch.where(hidden[:, :, None], means, patches)
    expect(got, (2, 9, 16), "a tensor with the shape of the patches was expected, b n (p1 p2 c)")
    if torch.allclose(got, right):
        return passed("this picture needs no model")
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
        return failed("those are the left singular vectors, all with the same variance: multiply by the singular values")
    if same(centred @ v[-2:].T) or same(centred @ v[-2:].flip(0).T):
        return failed("directions of the *smallest* variance: eigenvalues come smallest first, singular values largest first")
    if same(centred @ v[:, :2]):
        return failed("torch.linalg.svd returns V transposed: directions are its rows")
    return failed("these are not the coordinates along the two directions of largest variance")
