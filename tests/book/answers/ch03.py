"""Answers to the exercises of chapter 03: the classic wrong ones, and what the check must say to each."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange

from minimae.model import vit
from minimae.model.positions import sincos_1d, sincos_2d


def unscaled(q, k, v):
    return (q @ k.transpose(-2, -1)).softmax(dim=-1) @ v


def scaled_by_e(q, k, v):
    return (q @ k.transpose(-2, -1) / q.shape[-1]).softmax(dim=-1) @ v


def scaled_by_tokens(q, k, v):
    return (q @ k.transpose(-2, -1) / q.shape[-2] ** 0.5).softmax(dim=-1) @ v


def wrong_axis(q, k, v):
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-2) @ v


def no_softmax(q, k, v):
    return q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5 @ v


def scaled_by_two(q, k, v):
    return (q @ k.transpose(-2, -1) / 2).softmax(dim=-1) @ v


def by_pytorch(q, k, v):
    return F.scaled_dot_product_attention(q, k, v)


def heads_as_tokens(self, x):
    q, k, v = rearrange(self.qkv(x), "b t (three heads e) -> three b t heads e", three=3, heads=self.heads)
    return self.out(rearrange(F.scaled_dot_product_attention(q, k, v), "b t heads e -> b t (heads e)"))


def in_another_order(self, x):
    k, q, v = rearrange(self.qkv(x), "b t (three heads e) -> three b heads t e", three=3, heads=self.heads)
    return self.out(rearrange(F.scaled_dot_product_attention(q, k, v), "b heads t e -> b t (heads e)"))


def attention(forward):
    """A layer like the package's with another forward pass."""
    return type("Own", (vit.Attention,), {"forward": forward})


def heads(self, x, *, split="b t (three heads e) -> three b heads t e", join="b heads t e -> b t (heads e)", scale=None, heads=None):
    q, k, v = rearrange(self.qkv(x), split, three=3, heads=heads or self.heads)
    return rearrange(F.scaled_dot_product_attention(q, k, v, scale=scale), join)


def reshape_back(self, x):
    q, k, v = rearrange(self.qkv(x), "b t (three heads e) -> three b heads t e", three=3, heads=self.heads)
    return self.out(F.scaled_dot_product_attention(q, k, v).reshape(x.shape))


def layer(**mistake):
    return attention(lambda self, x: self.out(heads(self, x, **mistake)))


def block(forward):
    return type("Own", (vit.Block,), {"forward": forward})


def post_norm(self, x):
    x = self.norm1(x + self.attention(x))
    return self.norm2(x + self.mlp(x))


def one_norm(self, x):
    x = x + self.attention(self.norm1(x))
    return x + self.mlp(self.norm1(x))


def in_place(self, x):
    x += self.attention(self.norm1(x))
    return x + self.mlp(self.norm2(x))


def no_drop_path(self, x):
    x = x + self.attention(self.norm1(x))
    return x + self.mlp(self.norm2(x))


def dropping(first=True, second=True, drop=vit.drop_path):
    """A block that applies drop path to some of the branches only, or another function."""

    def forward(self, x):
        a = self.attention(self.norm1(x))
        x = x + (drop(a, self.drop, self.training) if first else a)
        m = self.mlp(self.norm2(x))
        return x + (drop(m, self.drop, self.training) if second else m)

    return block(forward)


def unscaled_path(x, p, training):
    return x * (torch.rand(len(x), 1, 1) >= p) if training else x


def drops_the_sum(self, x):
    x = vit.drop_path(x + self.attention(self.norm1(x)), self.drop, self.training)
    return vit.drop_path(x + self.mlp(self.norm2(x)), self.drop, self.training)


def drops_the_last_sum(self, x):
    x = x + vit.drop_path(self.attention(self.norm1(x)), self.drop, self.training)
    return vit.drop_path(x + self.mlp(self.norm2(x)), self.drop, self.training)


def drops_the_first_sum(self, x):
    x = vit.drop_path(x + self.attention(self.norm1(x)), self.drop, self.training)
    return x + vit.drop_path(self.mlp(self.norm2(x)), self.drop, self.training)


def always_dropping(self, x):
    x = x + vit.drop_path(self.attention(self.norm1(x)), self.drop, True)
    return x + vit.drop_path(self.mlp(self.norm2(x)), self.drop, True)


def rows_first(d, grid):
    return sincos_2d(d, grid).roll(d // 2, 1)


def rows_vary_fastest(d, grid):
    return torch.cat([torch.zeros(1, d), rearrange(sincos_2d(d, grid)[1:], "(h w) d -> (w h) d", h=grid[0])])


def rows_numbered_as_columns(d, grid):
    h, w = grid
    table = sincos_2d(d, grid)
    table[1:, d // 2 :] = sincos_1d(torch.arange(h * w), d // 2).float()
    return table


def counted_from_one(d, grid):
    h, w = grid
    column, row = sincos_1d(torch.arange(1, w + 1), d // 2).repeat(h, 1), sincos_1d(torch.arange(1, h + 1), d // 2).repeat_interleave(w, 0)
    return torch.cat([torch.zeros(1, d), torch.cat([column, row], dim=1).float()])


def flat(vector, grid):
    return int((sincos_2d(len(vector), grid)[1:] @ vector).argmax())


def swapped(vector, grid):
    table = sincos_2d(len(vector), grid)[1:]
    return divmod(int((table @ vector).argmax()), grid[1])[::-1]


def with_class_row(vector, grid):
    return divmod(int((sincos_2d(len(vector), grid) @ vector).argmax()), grid[1])


def divided_by_rows(vector, grid):
    return divmod(int((sincos_2d(len(vector), grid)[1:] @ vector).argmax()), grid[0])


def turned(d, rows, columns, *, frequencies=None, sign=1):
    frequencies = 10000.0 ** -(torch.arange(d // 4) / (d // 4)) if frequencies is None else frequencies
    halves = []
    for places in (columns, rows):
        sin, cos = torch.diag((places * frequencies).sin()), torch.diag((places * frequencies).cos())
        halves.append(torch.cat([torch.cat([cos, -sin], dim=1), torch.cat([sign * sin, cos], dim=1)]))
    return torch.block_diag(*halves)


def of_the_whole_width(d, rows, columns):
    return turned(d, rows, columns, frequencies=10000.0 ** -(torch.arange(d // 4) / (d // 2)))


def forgets_the_rows(d, rows, columns):
    return turned(d, 0, columns)


def side_by_side(d, rows, columns, sign=1):
    angles = [steps * 10000.0 ** (-i / (d // 4)) for steps in (columns, rows) for i in range(d // 4)]
    hands = [[[math.cos(a), -sign * math.sin(a)], [sign * math.sin(a), math.cos(a)]] for a in angles]
    return torch.block_diag(*map(torch.tensor, hands))


def fitted_to_sums(d, rows, columns):
    matrix = turned(d, rows, columns)
    matrix[0, d // 2] = 0.5
    return matrix


ANSWERS = {
    "ch03_attend": {
        "wrong": {
            "forgets the scale": (unscaled, "not scaled"),
            "divides by e": (scaled_by_e, "square root of e"),
            "divides by the root of t": (scaled_by_tokens, "number of tokens"),
            "softmax over the tokens that ask": (wrong_axis, "wrong axis"),
            "no softmax": (no_softmax, "no softmax"),
            "the scale of the example": (scaled_by_two, "as in the example"),
            "PyTorch's function": (by_pytorch, "solved without scaled_dot_product_attention"),
        }
    },
    "ch03_attention": {
        "wrong": {
            "no last layer": (attention(heads), "self.out"),
            "channels in turn": (layer(split="b t (three e heads) -> three b heads t e"), "side by side"),
            "heads before three": (layer(split="b t (heads three e) -> three b heads t e"), "then the heads"),
            "joined in turn": (layer(join="b heads t e -> b t (e heads)"), "side by side again"),
            "channels in turn, both ways": (
                layer(split="b t (three e heads) -> three b heads t e", join="b heads t e -> b t (e heads)"), "in both strings"
            ),
            "heads as tokens": (attention(heads_as_tokens), "heads comes before t"),
            "keys first": (attention(in_another_order), "as keys, queries and values; they are queries, keys and values"),
            "always three heads": (layer(heads=3), "wrong for 12 channels in 2 heads"),
            "no scale": (layer(scale=1.0), "not scaled"),
            "scaled by all channels": (layer(scale=12**-0.5), "not of all channels"),
            "one head": (layer(heads=1), "one head"),
            "reshape instead of rearrange": (attention(reshape_back), "mixes tokens"),
            "another layer": (lambda d, heads: torch.nn.Linear(d, d), "leave __init__"),
            "no gradient": (attention(lambda self, x: self.out(heads(self, x).detach())), "qkv.weight gets no gradient"),
            "a token alone": (attention(lambda self, x: self.out(heads(self, x))[:, 0]), "same shape"),
        }
    },
    "ch03_block": {
        "wrong": {
            "no residual": (block(lambda self, x: self.mlp(self.norm2(self.attention(self.norm1(x))))), "no residual"),
            "post-norm": (block(post_norm), "post-norm"),
            "one norm for both": (block(one_norm), "norm of its own"),
            "parallel": (block(lambda self, x: x + self.attention(self.norm1(x)) + self.mlp(self.norm2(x))), "output of attention"),
            "attention only": (block(lambda self, x: x + self.attention(self.norm1(x))), "second half"),
            "in place": (block(in_place), r"training would stop: `x \+= …`"),
            "forgets drop path": (block(no_drop_path), "no branch is ever skipped: apply drop_path to each branch, before the sum"),
            "drops attention only": (dropping(second=False), "never the MLP"),
            "drops the MLP only": (dropping(first=False), "never attention"),
            "drops the sums": (block(drops_the_sum), "all zeros: you drop a sum"),
            "drops the first sum": (block(drops_the_first_sum), "all zeros: you drop a sum"),
            "drops the second sum": (block(drops_the_last_sum), "all zeros: you drop a sum"),
            "dropout": (dropping(drop=F.dropout), "skipped as a whole"),
            "drops, but does not scale": (dropping(drop=unscaled_path), "not scaled up"),
            "the other probability": (dropping(drop=lambda x, p, training: vit.drop_path(x, 1 - p, training and p > 0)), "40 % of the"),
            "a fixed probability": (dropping(drop=lambda x, p, training: vit.drop_path(x, 0.5, training)), "even with drop=0"),
            "drops in evaluation": (block(always_dropping), "outside training"),
        }
    },
    "ch03_sincos_2d": {
        "wrong": {
            "no class row": (lambda d, grid: sincos_2d(d, grid)[1:], "class token is missing"),
            "class row last": (lambda d, grid: sincos_2d(d, grid).roll(-1, 0), "first, not last"),
            "row first": (rows_first, "exchanged"),
            "column by column": (rows_vary_fastest, "mixed up"),
            "patch numbers as rows": (rows_numbered_as_columns, "half of the column is right"),
            "columns, rows": (lambda d, grid: sincos_2d(d, grid[::-1]), "grid is \\(rows, columns\\), so \\(h, w\\): for \\(2, 3\\)"),
            "counted from one": (counted_from_one, "coordinates start at 0"),
            "in double precision": (lambda d, grid: sincos_2d(d, grid).double(), "float32"),
        }
    },
    "ch03_read_address": {
        "wrong": {
            "row and column swapped": (swapped, "swapped"),
            "flat index": (flat, "a pair .* was expected, not 0"),
            "keeps the class row": (with_class_row, "one row too far"),
            "divides by the rows": (divided_by_rows, "divide by the columns"),
        }
    },
    "ch03_move": {
        "wrong": {
            "moves the other way": (lambda d, rows, columns: turned(d, rows, columns).T, "the other way"),
            "row first": (lambda d, rows, columns: turned(d, columns, rows), "swapped"),
            "forgets the rows": (forgets_the_rows, "half of the column is right"),
            "the frequencies of the whole width": (of_the_whole_width, "for 1 row and 2 columns .* angles"),
            "side by side": (side_by_side, "all its sines first"),
            "side by side, the other way": (lambda d, rows, columns: side_by_side(d, rows, columns, -1), "all its sines first"),
            "both signs alike": (lambda d, rows, columns: turned(d, rows, columns, sign=-1), "changes the length"),
            "mixes the halves": (fitted_to_sums, "halves are mixed"),
            "the identity": (lambda d, rows, columns: torch.eye(d), "nothing moves"),
            "a matrix for one half": (lambda d, rows, columns: turned(d, rows, columns)[: d // 2, : d // 2], "16 × 16 is expected"),
        }
    },
}
