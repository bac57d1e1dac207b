"""Classic wrong answers to the exercises of chapter 06. The solutions are taken from the notebook."""

from __future__ import annotations

from dataclasses import replace

from minimae.model.mae import MAE
from minimae.model.masking import take
from minimae.model.patches import patchify
from minimae.model.targets import patch_loss


def _losses(predicted, target):
    return (predicted - target).square().mean(-1)


def _masked(predicted, target, binary):
    return (_losses(predicted, target) * binary).sum() / binary.sum()


def _mean(patches):
    return patches.mean(-1, keepdim=True)


def _each_colour(patches):
    pixels = patches.unflatten(-1, (-1, 3))
    return pixels.mean(2), pixels.std(2)


def scored(out, target):
    losses = patch_loss(out.predicted, target)
    return replace(out, patch_losses=losses, loss=losses.mean())


def mae(spoil):
    """A masked autoencoder like the package's with a classic mistake."""

    def forward(self, images, mask):
        out = MAE.forward(self, images, mask)
        return spoil(out=out, patches=patchify(images, self.size.patch), target=self.target, m=mask.masked.shape[1])

    return type("Own", (MAE,), {"forward": forward})


class Detached(MAE):
    def forward(self, images, mask):
        out = MAE.forward(self, images, mask)
        predicted = self.decoder(out.latent.detach(), mask)
        return scored(replace(out, predicted=predicted), self.target(take(patchify(images, self.size.patch), mask.masked)))


def in_image_order(out, patches, target, **_):
    return scored(out, target(take(patches, out.mask.masked.sort(dim=1).values)))


ANSWERS = {
    "ch06_baseline_loss": {
        "wrong": {
            "one": (lambda p1, p2, c: 1.0, "v − 1, and v is 16"),
            "upside down": (lambda p1, p2, c: p1 * p2 * c / (p1 * p2 * c - 1), "upside down"),
            "forgets the channels": (lambda p1, p2, c: (p1 * p2 - 1) / (p1 * p2), "channels"),
            "squares only": (lambda p1, p2, c: (p1 * p1 * c - 1) / (p1 * p1 * c), "square"),
            "rounded": (lambda p1, p2, c: round(1 - 1 / (p1 * p2 * c), 3), "the loss is 0.9375, not 0.938"),
            "what is missing": (lambda p1, p2, c: 1 / (p1 * p2 * c), "difference from 1"),
        }
    },
    "ch06_masked_loss": {
        "wrong": {
            "over all patches": (lambda p, t, m: _losses(p, t).mean(), "all"),
            "over visible patches": (lambda p, t, m: (_losses(p, t) * (1 - m)).sum() / (1 - m).sum(), "visible"),
            "divided by all": (lambda p, t, m: (_losses(p, t) * m).mean(), "number of all"),
            "a sum": (lambda p, t, m: (_losses(p, t) * m).sum(), "sum"),
            "not squared": (lambda p, t, m: ((p - t).abs().mean(-1) * m).sum() / m.sum(), "absolute"),
            "patch by patch": (lambda p, t, m: _losses(p, t) * m, r"single number was expected, not one of shape \(2, 8\)"),
            "a float": (lambda p, t, m: _masked(p, t, m).item(), "a tensor with a single number, not float"),
            "no gradient": (lambda p, t, m: _masked(p, t, m).detach(), "has no gradient"),
            "nearly": (lambda p, t, m: _masked(p, t, m) + 2e-5, r"the loss is (\d\.\d{6}), not (?!\1)\d\.\d{6}"),
            "returns nothing": (lambda p, t, m: None, "return"),
        }
    },
    "ch06_patch_statistics": {
        "wrong": {
            "no keepdim": (lambda p: (p.mean(-1), (p.var(-1) + 1e-6).sqrt()), "keepdim"),
            "each colour": (_each_colour, "each colour"),
            "over the image": (lambda p: (p.mean((1, 2), keepdim=True), p.std((1, 2), keepdim=True)), "for each patch"),
            "biased": (lambda p: (_mean(p), (p.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt()), "divides by v − 1"),
            "variance": (lambda p: (_mean(p), p.var(-1, keepdim=True) + 1e-6), "take its root"),
            "no epsilon": (lambda p: (_mean(p), p.std(-1, keepdim=True)), "one colour"),
            "other epsilon": (lambda p: (_mean(p), (p.var(-1, keepdim=True) + 1e-5).sqrt()), "of variance 0 is 0.001, not 0.00316228"),
            "outside the root": (lambda p: (_mean(p), p.std(-1, keepdim=True) + 1e-6), "inside the root"),
            "reversed": (lambda p: ((p.var(-1, keepdim=True) + 1e-6).sqrt(), _mean(p)), "order is reversed"),
            "only one": (lambda p: _mean(p), "two tensors"),
        }
    },
    "ch06_mae": {
        "wrong": {
            "only the loss": (mae(lambda out, **_: out.loss), "MAEOutput"),
            "pixels": (mae(lambda out, patches, **_: scored(out, take(patches, out.mask.masked))), "self.target"),
            "the first patches": (mae(lambda out, patches, target, m, **_: scored(out, target(patches)[:, :m])), "first patches"),
            "image order": (mae(in_image_order), "order of"),
            "all patches": (mae(lambda out, patches, target, **_: scored(out, target(patches))), "stopped"),
            "a sum": (mae(lambda out, **_: replace(out, loss=out.patch_losses.sum())), "is a sum"),
            "not reduced": (mae(lambda out, **_: replace(out, loss=out.patch_losses)), r"single number, not a tensor of shape \(2, 9\)"),
            "a float": (mae(lambda out, **_: replace(out, loss=out.loss.item())), "no gradient.*item"),
            "no gradient": (mae(lambda out, **_: replace(out, loss=out.loss.detach())), "no gradient"),
            "a latent without gradient": (Detached, "encoder.* gets no gradient"),
            "returns nothing": (mae(lambda out, **_: None), "not NoneType"),
        }
    },
}
