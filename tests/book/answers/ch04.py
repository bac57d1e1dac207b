"""Answers to the exercises of chapter 04: the classic wrong ones, and what the check must say to each."""

import torch

from minimae.model.masking import take
from minimae.model.patches import patchify
from minimae.model.sizes import block_flops
from minimae.model.vit import Encoder


def encoder(tokens, *, first=True):
    """The package's encoder with other tokens of the patches; tokens(encoder, patches, positions, mask) with the positions of n patches."""

    class MyEncoder(Encoder):
        def embed(self, images, mask=None):
            patches = tokens(self, patchify(images, self.size.patch), self.positions[1:], mask)
            return torch.cat([self.class_token.expand(len(images), -1, -1), patches], dim=1) if first else patches

    return MyEncoder


def right(self, patches, positions, mask):
    return self.project(take(patches, mask.keep)) + take(positions, mask.keep)


def forgets_class_row(self, patches, positions, mask):
    return self.project(take(patches, mask.keep)) + take(self.positions, mask.keep)


def hidden_patches(self, patches, positions, mask):
    return self.project(take(patches, mask.masked)) + take(positions, mask.masked)


def zeros_first(self, patches, positions, mask):
    return torch.cat([torch.zeros(len(patches), 1, self.size.width), right(self, patches, positions, mask)], dim=1)


def class_token_last(self, patches, positions, mask):
    return torch.cat([right(self, patches, positions, mask), self.class_token.expand(len(patches), -1, -1)], dim=1)


def class_token_before_masking(self, patches, positions, mask):
    tokens = torch.cat([self.class_token.expand(len(patches), -1, -1), self.project(patches) + positions], dim=1)
    return take(tokens, torch.cat([torch.zeros_like(mask.keep[:, :1]), mask.keep], dim=1))


def only_with_a_mask(self, patches, positions, mask):
    return self.project(patches) if mask is None else right(self, patches, positions, mask)


class OtherForward(Encoder):
    def forward(self, images, mask=None):
        return self.norm(self.embed(images, mask))


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


def all_at_once(encode, patches, mask):
    changed, hidden = patches.clone(), mask.masked[0].tolist()
    changed[:, hidden] += 1 + torch.arange(patches.shape[-1])
    return [] if torch.equal(encode(changed, mask), encode(patches, mask)) else sorted(hidden)


ANSWERS = {
    "ch04_times_cheaper": {
        "wrong": {
            "forgets the class token": (lambda n, k, d: block_flops(n, d) / block_flops(k, d), "class token is missing"),
            "rounded": (lambda n, k, d: round(block_flops(1 + n, d) / block_flops(1 + k, d), 2), "the factor is 4.033507, not 4.03"),
            "ratio of tokens": (lambda n, k, d: n / k, "ratio of the tokens"),
            "everything quadratic": (lambda n, k, d: (n / k) ** 2, "not everything is quadratic"),
            "upside down": (lambda n, k, d: block_flops(1 + k, d) / block_flops(1 + n, d), "upside down"),
        }
    },
    "ch04_encoder": {
        "wrong": {
            "positions by rank": (encoder(lambda s, x, p, m: s.project(take(x, m.keep)) + p[:3]), "take positions by index"),
            "forgets the class row": (encoder(forgets_class_row), "the patch before it"),
            "forgets positions": (encoder(lambda s, x, p, m: s.project(take(x, m.keep))), "bag of patches"),
            "forgets the class token": (encoder(right, first=False), "the class token is missing"),
            "class token last": (encoder(class_token_last, first=False), "is at the end"),
            "class token before the masking": (encoder(class_token_before_masking, first=False), "mask first"),
            "projects all patches": (encoder(lambda s, x, p, m: take(s.project(x) + p, m.keep)), "take first"),
            "encodes all patches": (encoder(lambda s, x, p, m: s.project(x) + p), "tokens for all 12"),
            "encodes the hidden patches": (encoder(hidden_patches), "not of mask.masked"),
            "the first patches": (encoder(lambda s, x, p, m: s.project(x[:, :3]) + take(p, m.keep)), "first patches of the image"),
            "first token is zero": (encoder(zeros_first, first=False), "should be the class token"),
            "needs a mask": (encoder(right), "With mask=None it stopped: 'NoneType'.*image order"),
            "no positions without a mask": (encoder(only_with_a_mask), "With mask=None"),
            "no gradient": (type("MyEncoder", (Encoder,), {"embed": torch.no_grad()(Encoder.embed)}), "class_token gets no gradient"),
            "changes forward": (OtherForward, "leave forward"),
        }
    },
    "ch04_tokens_for_share": {
        "wrong": {
            "share of the linear part": (lambda share, d: 6 * d * share, "linear part alone"),
            "one product only": (lambda share, d: 12 * d * share / (1 - share), "You count one"),
            "upside down": (lambda share, d: 6 * d * (1 - share) / share, r"upside down: it is share / \(1 − share\)"),
            "rounded": (lambda share, d: round(6 * d * share / (1 - share)), "0.1 and d = 1024.* 682.6667 tokens, not 683. Do not round"),
            "cut off": (lambda share, d: int(6 * d * share / (1 - share)), "682.6667 tokens, not 682. Do not round"),
            "for one half only": (lambda share, d: 6 * d, "for a share of 0.1 and d = 1024, it takes 682.6667 tokens, not 6144$"),
            "not solved": (lambda share, d: share / (6 * d + share), "Solve it for t"),
        }
    },
    "ch04_leaks": {
        "wrong": {
            "asks about all patches": (lambda e, p, m: changed_by(e, p, m, range(p.shape[1])), "are visible"),
            "does not copy": (lambda e, p, m: changed_by(e, p, m, m.masked[0].tolist(), copy=False), "work on a clone"),
            "all at once": (all_at_once, r"it should, you report \[0, 5, 8\], which do not .*one patch at a time"),
            "unsorted": (lambda e, p, m: changed_by(e, p, m, m.masked[0].tolist())[::-1], r"once, sorted: \[1, 3, 6\], not \[6, 3, 1\]"),
            "twice": (lambda e, p, m: sorted(2 * changed_by(e, p, m, m.masked[0].tolist())), "each patch once"),
            "trusts the shape": (lambda e, p, m: [], "you miss"),
            "first hidden patch only": (lambda e, p, m: changed_by(e, p, m, m.masked[0, :1].tolist()), "you miss"),
            "returns a mask": (lambda e, p, m: m.binary, "list of indices"),
        }
    },
}
