"""Checks of chapter 06: what to predict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from minimae.model.mae import MAE, MAEOutput
from minimae.model.masking import make_mask, take
from minimae.model.patches import patchify
from minimae.model.sizes import size
from minimae.model.targets import patch_loss, patch_statistics

from ..verdict import Verdict, failed, passed
from .comparing import close, expect, loaded, named_mistake, near, random, trains


def ch06_patch_statistics(f: Callable[..., Any]) -> Verdict:
    """Patches of three colours with different means and contrasts, one of them flat."""
    patches = random(2, 5, 12) * torch.linspace(0.1, 3, 5)[:, None] + torch.linspace(-2, 2, 12)
    patches[1, 2] = 0.5
    got, (mean, std) = f(patches.clone()), patch_statistics(patches)
    if not isinstance(got, tuple | list) or len(got) != 2:
        return failed("two tensors are expected: the mean and the standard deviation")
    for part, name in zip(got, ("mean", "standard deviation")):
        if isinstance(part, Tensor) and tuple(part.shape) == (2, 5):
            return failed(f"the {name} has shape (2, 5): use keepdim=True, so that it can be subtracted from the patches")
        if isinstance(part, Tensor) and part.shape in ((2, 5, 3), (2, 5, 1, 3)):
            return failed("there is one mean for each colour: take all values of a patch together")
        expect(part, (2, 5, 1), f"one {name} for each patch is expected")
    if near(got[1], mean) and near(got[0], std):
        return failed("the order is reversed: first the mean, then the standard deviation")
    if not near(got[0], mean):
        return failed("the mean is wrong: take it over all values of a patch, the last axis")
    if near(got[1], std):
        return passed("a flat patch gives zeros, and every other patch the same contrast")
    variance = patches.var(-1, keepdim=True)
    named_mistake(got[1], (
        ((patches.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt(), "this variance divides by v, the number of values in a patch: use the unbiased one, which divides by v − 1"),
        (variance + 1e-6, "that is the variance: take its root"),
        (variance.sqrt(), "the patch of one colour has standard deviation 0: add 1e-6 to the variance before the root"),
        (variance.sqrt() + 1e-6, "add 1e-6 to the variance, inside the root: yours is added after it"),
        (variance.sqrt() + 1e-3, "add 1e-6 to the variance, inside the root: yours is added after it"),
    ), same=lambda own, wrong: isinstance(own, Tensor) and torch.allclose(own, wrong, atol=1e-7))  # fmt: skip
    image, patch = divmod(int((got[1] - std).abs().argmax()), 5)
    right, own = float(std[image, patch]), float(got[1][image, patch])
    return failed(f"the mean is right. The standard deviation of a patch of variance {float(variance[image, patch]):.6g} is {right:.6g}, not {own:.6g}")


def ch06_baseline_loss(f: Callable[..., Any]) -> Verdict:
    """(v − 1) / v, for several patches of v values."""
    for p1, p2, c in ((4, 4, 1), (2, 2, 3), (16, 16, 3), (2, 5, 4)):
        v, got = p1 * p2 * c, float(f(p1, p2, c))
        what = f"a patch of {p1} × {p2} pixels with {c} channel{'s' * (c > 1)}"
        if abs(got - (v - 1) / v) < 1e-6:
            continue
        if abs(got - 1) < 1e-6:
            return failed(
                f"1 would be right for the variance that divides by v, the number of values; the unbiased one divides by v − 1, and v is {v} for {what}"
            )
        if abs(got - v / (v - 1)) < 1e-6:
            return failed(f"upside down: the loss is below 1, not above ({what})")
        if abs(got - 1 / v) < 1e-6:
            return failed(f"that is the difference from 1; the loss is 1 minus that ({what})")
        if abs(got - (p1 * p2 - 1) / (p1 * p2)) < 1e-6:
            return failed(f"the channels belong to the patch too: {what} has {v} values, which share one mean and one standard deviation")
        if p1 != p2 and abs(got - (p1 * p1 * c - 1) / (p1 * p1 * c)) < 1e-6:
            return failed("a patch need not be square: it has p1 · p2 · c values")
        return failed(f"for {what}, the loss is {(v - 1) / v:.7g}, not {got:.7g}")
    return passed("for normalised pixels, draw it as a line in the plot of your loss")


def ch06_masked_loss(f: Callable[..., Any]) -> Verdict:
    """Mean over masked patches, of predictions in image order."""
    generator = torch.Generator().manual_seed(0)
    predicted, target = torch.randn(2, 8, 6, generator=generator), torch.randn(2, 8, 6, generator=generator)
    binary = torch.tensor([[1.0, 0, 1, 1, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1, 0, 1]])
    square = (predicted - target).square()
    losses = square.mean(-1)
    right = float((losses * binary).sum() / binary.sum())
    got = f(predicted.clone().requires_grad_().clone(), target.clone(), binary.clone())
    if not isinstance(got, Tensor):
        return failed(f"return a tensor with a single number, not {type(got).__name__}: without a gradient, nothing would be trained")
    if got.numel() != 1:
        return failed(
            f"a tensor with a single number was expected, not one of shape {tuple(got.shape)}: take the mean over the masked patches of all images"
        )
    mistakes = {
        float(losses.mean()): "that is the mean over *all* patches: multiply by the mask first, and divide by the number of masked patches",
        float(
            (losses * (1 - binary)).sum() / (1 - binary).sum()
        ): "that is the loss on the *visible* patches: 1 means masked",
        float((losses * binary).mean()): "masked patches only, but divided by the number of all patches: divide by binary.sum()",
        float((square * binary[:, :, None]).sum() / binary.sum()): "each patch's error is summed over its values: take the mean over them",
        float((losses * binary).sum()): "that is a sum: divide by the number of masked patches",
        float(
            ((predicted - target).mean(-1).square() * binary).sum() / binary.sum()
        ): "square before you take the mean: differences cancel",
        float(
            ((predicted - target).abs().mean(-1) * binary).sum() / binary.sum()
        ): "that is the absolute error: square the differences instead",
    }
    number = float(got.detach())
    if abs(number - right) < 1e-5:
        if not got.requires_grad:
            return failed("the number is right, but it has no gradient, so nothing would be trained: no torch.no_grad(), detach() or item()")
        return passed("only what was hidden counts")
    named_mistake(number, mistakes.items(), same=close)
    return failed(f"for the test patches, the loss is {right:.6f}, not {number:.6f}")


def ch06_mae(cls: type[nn.Module]) -> Verdict:
    """Two small images under different masks, against the package's model with the same weights."""
    shape = size("nano", image=(12, 16), patch=4, channels=3, depth=1, width=24, heads=3, decoder_width=16, decoder_heads=2, decoder_depth=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        package = MAE(shape)
        images, mask = 2 * random(2, 3, 12, 16) + 1, make_mask(torch.arange(2), shape.grid, ratio=0.75, seed=1)
        model = loaded(cls(shape), package)
    got, wanted = model(images, mask), package(images, mask)
    if isinstance(got, Tensor):
        return failed("a tensor is not enough: return MAEOutput(loss, predicted, patch_losses, mask, latent)")
    if not all(hasattr(got, name) for name in MAEOutput.__annotations__):
        return failed(f"forward should return a MAEOutput, not {type(got).__name__}")
    m = mask.masked.shape[1]
    expect(got.latent, tuple(wanted.latent.shape), "the latent is what the encoder returns, with the visible patches only")
    expect(got.predicted, tuple(wanted.predicted.shape), f"predictions are expected for the {m} masked patches")
    expect(got.patch_losses, (2, m), "patch_losses has one number for each masked patch")
    if not (near(got.latent, wanted.latent) and near(got.predicted, wanted.predicted) and got.mask is mask):
        return failed("latent, predictions or mask differ: self.encoder(images, mask), self.decoder(latent, mask), and the mask as it came")
    patches = patchify(images, 4)
    named_mistake(got.patch_losses, (
        (take(patches, mask.masked), "the loss compares with the pixels as they are: self.target turns patches into targets"),
        (package.target(patches)[:, :m], "the target is that of the first patches of the image: take(patches, mask.masked)"),
        (package.target(take(patches, mask.masked.sort(dim=1).values)), "the targets are in image order: keep the order of mask.masked"),
        (package.target(take(patches, mask.masked).flip(1)), "the targets are in reversed order: keep the order of mask.masked"),
    ), same=lambda own, target: near(own, patch_loss(wanted.predicted, target)))  # fmt: skip
    if not near(got.patch_losses, wanted.patch_losses):
        return failed("the losses of the patches differ: patch_loss(predicted, target), with the targets of the masked patches")
    loss = torch.as_tensor(got.loss).detach()
    if loss.dim():
        return failed(f"the loss is a single number, not a tensor of shape {tuple(loss.shape)}: take the mean over patches and images")
    if abs(loss - float(wanted.patch_losses.detach().sum())) < 1e-2:
        return failed("the loss is a sum: take the mean over patches and images")
    if not near(loss, wanted.loss):
        return failed("the losses of the patches are right: the loss is their mean, a single number")
    if not getattr(got.loss, "requires_grad", False):
        return failed("the loss has no gradient, so nothing would be trained: no torch.no_grad(), detach() or item()")
    trains(model.named_parameters(), got.loss)
    return passed("patches, mask, encoder, decoder, target, loss: this is a masked autoencoder")
