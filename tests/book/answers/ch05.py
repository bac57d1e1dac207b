"""Classic wrong answers to the exercises of chapter 05. The solutions are taken from the notebook."""

from __future__ import annotations

import torch

from minimae.model.decoder import Decoder
from minimae.model.masking import take


def _gather(tokens, index):
    return torch.gather(tokens, 1, index[:, :, None].expand(-1, -1, tokens.shape[-1]))


def _scatters(tokens, restore):
    return torch.zeros_like(tokens).scatter(1, restore[:, :, None].expand_as(tokens), tokens)


def _same_type(*parts):
    return torch.cat(parts, dim=1)


def _first(keep):
    return torch.zeros_like(keep[:, :1])


def _flips(layer, x):
    return torch.allclose(layer(x.flip(1)), layer(x).flip(1))


def _shuffles_the_batch(layer, x):
    order = torch.arange(len(x)).flip(0)
    return torch.allclose(layer(x[order]), layer(x)[order])


ORDER = [3, 7, 0, 5, 8, 1, 6, 2, 4]


def _along(order, **tolerance):
    return lambda layer, x: torch.allclose(layer(x[:, order]), layer(x)[:, order], **tolerance)


def _channels(layer, x):
    order = torch.arange(x.shape[2]).flip(0)
    return torch.allclose(layer(x[:, :, order]), layer(x)[:, :, order])


def rows(mask):
    return torch.cat([torch.zeros_like(mask.keep[:, :1]), mask.keep + 1, mask.masked + 1], dim=1)


def positions(self, mask):
    return take(self.positions, rows(mask))


def only_masked(self, mask):
    added = take(self.positions, rows(mask)).clone()
    added[:, : 1 + mask.keep.shape[1]] = 0
    return added


def decoder(added, *, norm=True, part=None, depth=2, sort=False, blanks=True):
    """A decoder like the package's with a classic mistake."""

    def forward(self, latent, mask):
        x, m = self.embed(latent), mask.masked.shape[1]
        if blanks:
            x = torch.cat([x, self.mask_token.expand(len(latent), m, -1)], dim=1)
        x = x + added(self, mask)
        for block in self.blocks[:depth]:
            x = block(x)
        predicted = self.predict(self.norm(x) if norm else x)[:, (part or slice(-m, None)) if blanks else slice(None)]
        return _gather(predicted, mask.masked.argsort(dim=1)) if sort else predicted

    return type("Own", (Decoder,), {"forward": forward})


def second_wrong(keep, masked):
    got = torch.cat([_first(keep), keep + 1, masked + 1], dim=1)
    got[1, -1] = 4
    return got


ANSWERS = {
    "ch05_unshuffle": {
        "wrong": {
            "scatters": (_scatters, "second time"),
            "inverts again": (lambda t, r: _gather(t, r.argsort(dim=1)), "second time"),
            "first image for all": (lambda t, r: t[:, r[0]], "its own restore"),
            "indexes all by all": (lambda t, r: t[:, r], "gather"),
            "one channel": (lambda t, r: torch.gather(t, 1, r[:, :, None]), "one channel"),
            "does nothing": (lambda t, r: t, "still"),
            "returns nothing": (lambda t, r: None, "return"),
        }
    },
    "ch05_places_of": {
        "wrong": {
            "one off": (lambda k, m: _same_type(_first(k), k, m), "one row off"),
            "no class token": (lambda k, m: _same_type(k + 1, m + 1), "class token"),
            "masked first": (lambda k, m: _same_type(_first(k), m + 1, k + 1), "before"),
            "image order": (lambda k, m: torch.arange(7).expand(2, 7), "image order.*section “Break it”"),
            "second image wrong": (second_wrong, r"for keep \[0, 2\] .*\[0, 1, 3, 6, 5, 4, 2\], not \[0, 1, 3, 6, 5, 4, 4\]"),
            "floats": (lambda k, m: _same_type(torch.zeros(len(k), 1), k + 1.0, m + 1.0), "whole numbers"),
        }
    },
    "ch05_decoder": {
        "wrong": {
            "no positions": (decoder(lambda self, mask: 0.0), "no positions"),
            "image order": (decoder(lambda self, mask: self.positions), "image order"),
            "one row off": (decoder(lambda self, mask: take(self.positions, (rows(mask) - 1).clamp(min=0))), "one row off"),
            "only the mask tokens": (decoder(only_masked), "visible tokens need positions too"),
            "all tokens": (decoder(positions, part=slice(None)), "last m rows"),
            "the first m": (decoder(positions, part=slice(9)), "return those of the last m tokens"),
            "the first m after the class token": (decoder(positions, part=slice(1, 10)), "return those of the last m tokens"),
            "one too early": (decoder(positions, part=slice(-10, -1)), "return those of the last m tokens"),
            "no norm": (decoder(positions, norm=False), "norm before"),
            "one block": (decoder(positions, depth=1), "loop over self.blocks"),
            "in image order at the end": (decoder(positions, sort=True), "order of mask.masked"),
            "no gradient": (type("Own", (Decoder,), {"forward": torch.no_grad()(Decoder.forward)}), "no gradient"),
            "no mask tokens": (decoder(lambda self, mask: take(self.positions, rows(mask)[:, :4]), blanks=False), "append self.mask_token"),
        }
    },
    "ch05_minds_no_order": {
        "wrong": {
            "forgets the output": (lambda layer, x: torch.allclose(layer(x.roll(1, 1)), layer(x)), "output"),
            "shuffles nothing": (lambda layer, x: torch.allclose(layer(x), layer(x)), "really move"),
            "shuffles the batch": (_shuffles_the_batch, "really move"),
            "turns round": (_flips, "flip"),
            "permutes the channels": (_channels, r"Permute the tokens \(axis 1\), and compare with torch.allclose"),
            "exactly equal": (lambda layer, x: torch.equal(layer(x[:, ORDER]), layer(x)[:, ORDER]), "compare with torch.allclose"),
            "rolls": (_along(torch.arange(9).roll(1)), "circular convolution .*same number of steps: try torch.randperm"),
            "swaps two tokens": (_along([1, 0, 2, 3, 4, 5, 6, 7, 8]), "in pairs.*only swaps such neighbours"),
            "large tolerance": (_along(ORDER, atol=1e-2), "small positions.*your tolerance is larger"),
            "returns nothing": (lambda layer, x: None, "return"),
        }
    },
}
