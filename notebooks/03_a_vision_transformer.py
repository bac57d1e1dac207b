# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · A vision transformer
#
# **The promise.** You build a transformer block out of matrix products, see that it has no idea of order, and then give every patch an
# address, so that it has.
#
# Minutes: 45. Needs: chapters 01 and 02.
#
# When you are through, you can
#
# - work out attention for three tokens on paper;
# - say what a head is, in one einops string;
# - say what happens to the output when the tokens are shuffled, and why this whole book rests on it;
# - read a position similarity map, and know which half of the channels holds the column;
# - move positions to a picture of another size.

# %% tags=["install", "remove-cell"]
import os
from importlib.util import find_spec

from IPython import get_ipython

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: with models this small, a second thread mostly waits
if find_spec("minimae") is None:  # on Colab and Binder
    get_ipython().run_line_magic("pip", "install -q 'minimae[book] @ git+https://github.com/minimae/minimae'")

# %% tags=["setup"]
import math

import minimae_book as book
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from minimae_book import check
from minimae_book import figures as plots
from torch import Tensor, nn

from minimae import data, make_mask, patchify, take, weights
from minimae.data.augment import normalise
from minimae.model import positions, vit
from minimae.model.patches import Pair

# %% [markdown]
# ## Three tokens, by hand
#
# A patch that has entered a transformer is called a **token**: a list of `d` numbers. In attention every token does three things.
#
# - It *asks*: from its numbers it makes a **query**.
# - It says what it has to offer: a **key**.
# - It hands something over: a **value**.
#
# Each query is compared with each key by a dot product. A large product means: this is what I was looking for. The products become
# shares that sum to 1, and with these shares the values are mixed.
#
# Here are three tokens. Queries and keys have `e = 4` numbers, values only one, so that we can follow it. The odd-looking logarithms
# are there to make the shares come out round.

# %%
q = torch.tensor([[2 * math.log(2), 0, 0, 0], [0, 0, 2 * math.log(3), 0], [0, 0, 0, 0]])
k = torch.eye(3, 4)
v = torch.tensor([[0.0], [4.0], [8.0]])

# %% [markdown]
# Token 0 asks for what token 0 offers. Token 1 asks for what token 2 offers. Token 2 asks for nothing: its query is zero. The three
# have the values 0, 4 and 8. What does a token get that asks for nothing?

# %%
book.predict("asks-for-nothing", 0, ask="The query of token 2 is all zeros; the values are 0, 4 and 8. What number comes out for token 2?")

# %% [markdown]
# Now by hand. The dot products are divided by √e = 2, so that long queries do not make large numbers. Row 0 of the scores is then (ln
# 2, 0, 0). Softmax takes the exponential, (2, 1, 1), and divides by the sum 4: the shares are ½, ¼, ¼. Mixed: ½·0 + ¼·4 + ¼·8 = 3.
#
# Row 1: (0, 0, ln 3) → (1, 1, 3) → ⅕, ⅕, ⅗ → 0 + 0.8 + 4.8 = 5.6. Row 2: (0, 0, 0) → (1, 1, 1) → ⅓ each → 4.

# %%
scores = q @ k.T / math.sqrt(4)
shares = scores.softmax(dim=-1)
mixed = shares @ v

# %% tags=["nbval-check-output"]
print("scores", tuple(scores.shape), "results", [round(x, 4) for x in mixed[:, 0].tolist()])

# %% mystnb={"image": {"alt": "Your guess of 0 and the truth, 4, on one scale."}}
book.reveal("asks-for-nothing", float(mixed[2, 0]))

# %% [markdown]
# *Figure 3.1: your guess and what comes out. Shares always sum to 1. Whoever asks for nothing gets the average of everything.*

# %% mystnb={"image": {"alt": "A table of three rows and three columns. Row 0 has the shares 0.50, 0.25, 0.25 and the result 3; row 1 has 0.20, 0.20, 0.60 and 5.6; row 2 has 0.33 three times and 4. Larger shares are darker."}}
plots.attention_table(shares.numpy(), v[:, 0].numpy(), mixed[:, 0].numpy())

# %% [markdown]
# *Figure 3.2: who looks at whom. Row: the token that asks. Column: the token that is looked at. Each row sums to 1.*
#
# That is all of attention. PyTorch has the three lines as one function. It gives the same numbers, and it never stores the table of t ×
# t shares, which for long rows of tokens is what fills the memory.

# %%
assert torch.allclose(F.scaled_dot_product_attention(q, k, v), mixed, atol=1e-6)

# %% [markdown]
# ## Heads are a reshape
#
# One table of shares can look for one thing at a time. So the `d` numbers are cut into `heads` equal pieces of width `e`, and each
# piece attends on its own. No loop is needed, only a new axis. A token of six numbers and two heads:

# %% tags=["nbval-check-output"]
token = rearrange(torch.arange(6), "d -> 1 1 d")
print("heads, t, e:", rearrange(token, "b t (heads e) -> b heads t e", heads=2)[0].tolist())

# %% [markdown]
# Read the string from the right: the numbers of one head lie side by side, `(heads e)`, so head 0 takes the first three. Afterwards
# `heads` stands beside `b`, as one more axis over which nothing is mixed.
#
# Queries, keys and values of all heads come out of *one* matrix product. That is `(three heads e)` below: first all queries, then all
# keys, then all values.
#
# One argument is for later: with `queries=q` only the last `q` tokens ask, while all are looked at. Chapter 05 uses it to save work.
# Here, read every line with `queries=None`.


# %% tags=["package:minimae.model.vit"]
class Attention(nn.Module):
    """Multi-head self-attention with a fused qkv projection: ``b t d`` → ``b t d``."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)

    def split(self, x: Tensor, queries: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values ``b heads t e``. With ``queries=q`` only the last q tokens ask."""
        if queries is None:
            q, k, v = rearrange(self.qkv(x), "b t (three heads e) -> three b heads t e", three=3, heads=self.heads)
            return q, k, v
        d = x.shape[-1]
        weight, bias = self.qkv.weight, self.qkv.bias
        q = rearrange(F.linear(x[:, -queries:], weight[:d], bias[:d]), "b queries (heads e) -> b heads queries e", heads=self.heads)
        k, v = rearrange(F.linear(x, weight[d:], bias[d:]), "b t (two heads e) -> two b heads t e", two=2, heads=self.heads)
        return q, k, v

    def forward(self, x: Tensor, queries: int | None = None) -> Tensor:
        mixed = F.scaled_dot_product_attention(*self.split(x, queries))
        return self.out(rearrange(mixed, "b heads t e -> b t (heads e)"))

    def weights(self, x: Tensor) -> Tensor:
        """Who looks at whom: ``b heads t t``, each row sums to 1. For pictures; the forward pass never builds it."""
        q, k, _ = self.split(x)
        return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)


# %% tags=["nbval-check-output"]
torch.manual_seed(0)
attention, x = Attention(d=96, heads=3), torch.randn(2, 13, 96)
print("in", tuple(x.shape), "queries", tuple(attention.split(x)[0].shape), "weights", tuple(attention.weights(x).shape))
print("out", tuple(attention(x).shape), "only four ask", tuple(attention(x, queries=4).shape))

# %% [markdown]
# Is the fast function the written-out softmax, with heads, too? `weights` is the one, `forward` the other.

# %%
written_out = rearrange(attention.weights(x) @ attention.split(x)[2], "b heads t e -> b t (heads e)")
assert torch.allclose(attention.out(written_out), attention(x), atol=1e-6)
assert torch.allclose(attention.weights(x).sum(dim=-1), torch.ones(2, 3, 13))
assert torch.allclose(attention(x, queries=4), attention(x)[:, -4:], atol=1e-6)

# %% [markdown]
# ## Shuffle in, shuffle out
#
# Now the question on which this book rests. We take the 49 patches of a boot, 16 pixels each, as tokens as they are. Then we shuffle
# them, as in chapter 02, and give them to the same attention. What comes out?

# %%
book.predict(
    "shuffled-in", "something else", ask="Shuffled tokens go in. What comes out: 'the same', 'the same, shuffled', or 'something else'?"
)

# %%
clothes = data.load("fashion", "test")
pictures = normalise(clothes.pixels, clothes.statistics)
boot = pictures[(clothes.labels == 9).nonzero()[2]]
tokens = patchify(boot, 4)
mask = make_mask(torch.arange(1), (7, 7), seed=0)
order = torch.cat([mask.keep, mask.masked], dim=1)
plain = Attention(16, heads=1)

# %%
with torch.no_grad():
    out, out_shuffled = plain(tokens), plain(take(tokens, order))
same = torch.allclose(out_shuffled, out, atol=1e-5)
shuffled = torch.allclose(out_shuffled, take(out, order), atol=1e-5)

# %% tags=["nbval-check-output"]
print("the same:", same, "· the same, shuffled:", shuffled)

# %% mystnb={"image": {"alt": "The reader's choice, something else, beside the answer: the same, shuffled."}}
book.reveal("shuffled-in", "the same, shuffled")

# %% [markdown]
# *Figure 3.3: your choice and the answer.*
#
# The shuffle passes through. Every token gets *exactly* the mixture it got before, only in another line of the table. The picture shows
# why: shuffling the tokens shuffles the rows of the table of shares, and with the same order its columns. No number changes.

# %%
with torch.no_grad():
    table, table_shuffled = plain.weights(tokens)[0, 0], plain.weights(take(tokens, order))[0, 0]
sorted_back = table_shuffled[mask.restore[0]][:, mask.restore[0]]
assert torch.allclose(sorted_back, table, atol=1e-6)

# %% mystnb={"image": {"alt": "Three square heat maps of 49 by 49 shares. In image order there is a coarse pattern of stripes and blocks. Shuffled, the same values look like a weave of noise. Sorted back, the first pattern is there again."}}
plots.matrices(
    {"in image order": table.numpy(), "shuffled": table_shuffled.numpy(), "shuffled, then sorted back": sorted_back.numpy()},
    x="token looked at", y="token that asks",
)  # fmt: skip

# %% [markdown]
# *Figure 3.4: shares of an untrained attention over the 49 patches of a boot (test photograph of Fashion-MNIST, shuffle of seed 0; one
# colour scale for all three, brighter is more).*
#
# This is called **permutation equivariance**. It means two things.
#
# - *The good news.* The encoder may get its tokens in any order. So the shuffle of chapter 02 costs nothing, and since nothing in
#   attention depends on *how many* tokens there are, chapter 04 can simply drop what is hidden.
# - *The bad news.* For attention, a picture is a bag of patches. A boot and the same boot cut up and strewn about are the same to it.
#   It needs to be told where things are. We come to that below.

# %% [markdown]
# ## A block
#
# Attention mixes *between* tokens. After it, each token thinks for itself: two layers with a bend between them, four times as wide
# inside.


# %% tags=["package:minimae.model.vit"]
class MLP(nn.Module):
    """Two layers with an exact GELU between them: ``b t d`` → ``b t d``."""

    def __init__(self, d: int, ratio: int = 4) -> None:
        super().__init__()
        self.up = nn.Linear(d, ratio * d)
        self.down = nn.Linear(ratio * d, d)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


# %% [markdown]
# The two are put together with **residual** connections: what comes out is *added* to what went in. A token is a sheet of paper that is
# handed on from block to block, and each block writes a correction on it. Before it reads, a block brings the numbers to mean 0 and
# variance 1 (LayerNorm). Since the norm stands before the branch and not on the main road, this is called *pre-norm*: the main road
# itself runs through untouched.
#
# A trick for deep models goes here as well. While training, **drop path** leaves out a branch for some of the samples, so that no block
# becomes indispensable, and scales up the others, so that the mean stays. Pre-training in the paper does without it. Fine-tuning uses
# it.


# %% tags=["package:minimae.model.vit"]
def drop_path(x: Tensor, probability: float, training: bool) -> Tensor:
    """Drop a residual branch for whole samples (stochastic depth) and scale up the others; nothing outside training."""
    if not training or probability == 0.0:
        return x
    alive = torch.rand(len(x), 1, 1, device=x.device) >= probability
    return x * (alive.to(x.dtype) / (1.0 - probability))


# %% [markdown]
# With a probability of 0.2 a branch is left out for one sample in five. The others are scaled by 1 / 0.8 = 1.25.

# %%
branch = drop_path(torch.ones(10_000, 1, 1), 0.2, training=True)
assert sorted(branch.unique().tolist()) == [0.0, 1.25] and abs(branch.mean() - 1) < 0.03
assert drop_path(x, 0.2, training=False) is x


# %% tags=["package:minimae.model.vit"]
class Block(nn.Module):
    """A pre-norm transformer block: ``b t d`` → ``b t d``; with ``queries=q`` only the last q tokens: → ``b q d``."""

    def __init__(self, d: int, heads: int, *, mlp_ratio: int = 4, drop: float = 0.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(d, eps=eps)
        self.attention = Attention(d, heads)
        self.norm2 = nn.LayerNorm(d, eps=eps)
        self.mlp = MLP(d, mlp_ratio)
        self.drop = drop

    def forward(self, x: Tensor, queries: int | None = None) -> Tensor:
        kept = x if queries is None else x[:, -queries:]
        x = kept + drop_path(self.attention(self.norm1(x), queries), self.drop, self.training)
        return x + drop_path(self.mlp(self.norm2(x)), self.drop, self.training)


# %% [markdown]
# Attention has four matrices of d × d (queries, keys, values, out), the MLP has eight times d × d. So two thirds of a block's weights
# do not look at other tokens at all.

# %% tags=["nbval-check-output"]
block = Block(96, heads=3)
print("in", tuple(x.shape), "out", tuple(block(x).shape))
for name, part in block.named_children():
    print(f"{name:10}{sum(p.numel() for p in part.parameters()):7,} parameters")

# %% [markdown]
# Norm and MLP treat each token alone, and attention lets the shuffle through. So the whole block lets it through, and a tower of blocks
# too.

# %%
shuffle = torch.tensor([3, 0, 12, 7, 1, 5, 11, 2, 9, 4, 10, 8, 6])
assert torch.allclose(block(x[:, shuffle]), block(x)[:, shuffle], atol=1e-5)

# %% [markdown]
# ### The first values
#
# Before training, weights are random. How large should they be? Each number of a layer's output is a sum of many terms, so with large
# weights the sums grow. **Xavier** initialisation draws uniformly from ± √(6 / (inputs + outputs)), which keeps the size about the same
# in both directions, forwards and backwards. Biases start at 0, norms at 1 and 0. The paper begins so, too (Appendix A.1).


# %% tags=["package:minimae.model.vit"]
def initialise(module: nn.Module) -> None:
    """Xavier-uniform Linear weights, zero biases; LayerNorm starts at 1 and 0 (as in the authors' released code).

    Touches nn.Linear and nn.LayerNorm only: positions and tokens keep what their owner gave them.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)


# %%
@torch.no_grad()
def sizes_through(start):
    """Typical size of a token's numbers after 0, 1, … 12 blocks that begin with these weights."""
    torch.manual_seed(0)
    tower, x = nn.ModuleList(Block(96, heads=3) for _ in range(12)), torch.randn(4, 50, 96)
    start(tower)
    sizes = [float(x.square().mean().sqrt())]
    for block in tower:
        x = block(x)
        sizes.append(float(x.square().mean().sqrt()))
    return sizes


def ten_times(tower):
    """Xavier, and then all matrices ten times as large."""
    initialise(tower)
    for weight in (p for p in tower.parameters() if p.dim() == 2):
        weight.mul_(10)


xavier, large = sizes_through(initialise), sizes_through(ten_times)
assert 1.5 < xavier[-1] < 3 and large[1] > 50

# %% mystnb={"image": {"alt": "Size of a token's numbers against blocks passed, on a logarithmic scale. With Xavier it climbs gently from 1 to about 2 over twelve blocks. With weights ten times as large it jumps to almost a hundred in the first block and goes on rising."}}
plots.through_blocks({"Xavier": xavier, "ten times larger": large}, y="size of a token's numbers")

# %% [markdown]
# *Figure 3.5: how tokens grow through twelve untrained blocks (width 96, random tokens, seed 0). With Xavier each block adds a modest
# correction. With large weights the first block drowns what came in: the sheet of paper is overwritten.*

# %% [markdown]
# ## An address for every patch
#
# Attention has no order, so the place must be *in the token*. We add a vector to each token that depends on its place alone. What
# should it look like? Counting 0, 1, 2, … in one number would not do: 13 would be thirteen times as loud as 1. The answer is a set of
# clocks. One hand turns fast, the next more slowly, and so on. Each hand is two numbers between −1 and 1, a sine and a cosine. Read all
# hands together, and you know the place.


# %% tags=["package:minimae.model.positions"]
def sincos_1d(coordinates: Tensor, d: int) -> Tensor:
    """Places ``n`` → ``n d``: sines, then cosines, at d/2 frequencies from 1 down to almost 1/10000."""
    frequencies = 10000.0 ** -(torch.arange(d // 2, dtype=torch.float64) / (d // 2))
    angles = coordinates.to(torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


# %% [markdown]
# By hand, with `d = 4`: two frequencies, 1 and 10000^(−½) = 1/100. Place 0 gives sines (0, 0) and cosines (1, 1). Place 2 gives (sin 2,
# sin 0.02, cos 2, cos 0.02).

# %%
by_hand = torch.tensor([[0, 0, 1, 1], [math.sin(2), math.sin(0.02), math.cos(2), math.cos(0.02)]], dtype=torch.float64)
assert torch.allclose(sincos_1d(torch.tensor([0, 2]), 4), by_hand)

# %% mystnb={"image": {"alt": "A heat map of position vectors: 14 rows for places, 64 columns for channels, sines in the left half and cosines in the right. In the first channels of each half the colour changes quickly from row to row; further right it changes slowly and then hardly at all."}}
plots.position_table(sincos_1d(torch.arange(14), 64).numpy())

# %% [markdown]
# *Figure 3.6: the addresses of 14 places in 64 channels. Each row is one address. Left in each half are the fast hands, right the slow
# ones. With only 14 places the slowest hands hardly move: the paper's formula was made for long texts, and nobody changed it.*
#
# A picture has two directions. So the first half of the channels tells the **column**, and the second half tells the **row**. The class
# token (chapter 04) sits nowhere, and gets zeros.


# %% tags=["package:minimae.model.positions"]
def sincos_2d(d: int, grid: Pair) -> Tensor:
    """A zero row for the class token, then one row per patch of the grid: float32 ``(1 + n) d``.

    The first half of the channels encodes the column, the second half the row. Computed in float64.
    Raises ValueError unless d is a multiple of 4 (sine and cosine, column and row).
    """
    if d % 4:
        raise ValueError(f"sine-cosine positions need a width that is a multiple of 4, not {d}; {d + 4 - d % 4} would do")
    h, w = grid
    column = repeat(sincos_1d(torch.arange(w), d // 2), "w d -> (h w) d", h=h)
    row = repeat(sincos_1d(torch.arange(h), d // 2), "h d -> (h w) d", w=w)
    return torch.cat([torch.zeros(1, d, dtype=torch.float64), torch.cat([column, row], dim=1)]).float()


# %% tags=["nbval-check-output"]
table = sincos_2d(96, (7, 7))
print(tuple(table.shape), "· class row zero:", not table[0].any().item())
print("patches 3 and 10 (one below the other): first half equal", torch.equal(table[1 + 3, :48], table[1 + 10, :48]))
print("patches 3 and 4 (side by side): second half equal", torch.equal(table[1 + 3, 48:], table[1 + 4, 48:]))

# %% [markdown]
# How alike are two addresses? Take their dot product, which is what attention does with them. Because sin a · sin b + cos a · cos b =
# cos(a − b), it depends only on how far two places are apart, not on where they are. Compared with itself an address scores d/2: one
# for each clock hand.

# %%
similarity = table[1:] @ table[1:].T
assert torch.allclose(similarity.diagonal(), torch.full((49,), 48.0), atol=1e-4)
assert torch.allclose(similarity[0, 8], similarity[16, 24], atol=1e-4)  # both: one down, one to the right

# %% [markdown]
# Take the patch in row 2, column 5, and draw how similar every other patch is to it, using **the first half of the channels only**.
# What shape lights up?

# %%
book.predict("first-half", "a bright row", ask="First half of the channels only: 'a bright row', 'a bright column' or 'a bright spot'?")

# %% mystnb={"image": {"alt": "The reader's choice, a bright row, beside the answer: a bright column."}}
book.reveal("first-half", "a bright column")

# %% [markdown]
# *Figure 3.7: your choice and the answer. The first half holds the column, so all patches of the same column have the same first half.
# (Many implementations put the row first. Weights trained with the one are useless with the other, and nothing complains.)*


# %%
def similarity_map(table, grid, place, channels=slice(None)):
    """Dot products of one patch's address with all others: ``h w``."""
    addresses = table[1:, channels]
    return rearrange(addresses @ addresses[place[0] * grid[1] + place[1]], "(h w) -> h w", h=grid[0])


halves = {"first half: column": slice(0, 48), "second half: row": slice(48, 96), "both": slice(None)}
maps = {name: similarity_map(table, (7, 7), (2, 5), part).numpy() for name, part in halves.items()}

# %% mystnb={"image": {"alt": "Three maps of 7 by 7 patches for the patch in row 2, column 5, which is framed. With the first half of the channels column 5 is bright; with the second half row 2 is bright; with both a round spot with faint arms is bright, brightest at the framed patch."}}
plots.place_maps(maps, [(2, 5)] * 3, label="similarity of positions (each map has its own scale)", own_scale=True)

# %% [markdown]
# *Figure 3.8: position similarity for one patch. Bright column plus bright row make a soft spot at the patch itself: nearest is most
# alike.*
#
# And now for all 49 patches at once. This is a picture worth remembering: it shows all that a vision transformer knows about space
# before it learns anything.

# %% mystnb={"image": {"alt": "Forty-nine small maps laid out in seven rows and columns. In each a bright, soft spot sits where the map itself sits: top left in the first, bottom right in the last."}}
plots.every_similarity(similarity.numpy(), (7, 7))

# %% [markdown]
# *Figure 3.9: one map for each patch, laid out where that patch sits. In each the bright spot is at its own place (one colour scale for all, 35 to 48).*
#
# > **Paper.** Section 3 adds positional embeddings to all tokens, and Appendix A.1 says that they are the sine-cosine version (in the
# > authors' code they are fixed, not learned). The formula is that of Vaswani et al. (arXiv 1706.03762), once for each direction; the order, column first, is
# > that of the authors' released code. The ViT paper (Dosovitskiy et al., arXiv 2010.11929, Figure 7) draws these maps for *learned*
# > positions, and they look much like ours. We deviate in nothing.

# %% [markdown]
# ## Another size of picture
#
# A model trained on a grid of 7 × 7 gets a picture of 14 × 14 patches. What are their addresses? One could make a new table,
# `sincos_2d(96, (14, 14))`. But then the patch in the middle of the picture would be in row 7, where the model has only known the lower
# edge. Better to stretch the old map over the new picture, so that the middle stays the middle. That is what resizing an image does. So
# treat the table as an image with `d` channels, and resize it *in both directions*, bicubically.


# %% tags=["package:minimae.model.positions"]
def resize_positions(positions: Tensor, old: Pair, new: Pair) -> Tensor:
    """Positions ``(1 + n) d`` of one grid → of another, bicubic in two dimensions; the class row stays as it is."""
    if old == new:
        return positions
    if len(positions) != 1 + old[0] * old[1]:
        raise ValueError(f"{len(positions)} positions do not belong to a class token and a grid of {old[0]}×{old[1]}")
    image = rearrange(positions[1:], "(h w) d -> 1 d h w", h=old[0])
    image = F.interpolate(image, size=new, mode="bicubic", align_corners=False)
    return torch.cat([positions[:1], rearrange(image, "1 d h w -> (h w) d")])


# %% tags=["nbval-check-output"]
wide = resize_positions(table, (7, 7), (7, 14))
fine = resize_positions(table, (7, 7), (14, 14))
print(tuple(table.shape), "→", tuple(wide.shape), "and", tuple(fine.shape), "· class row kept:", torch.equal(fine[0], table[0]))

# %% [markdown]
# A test: compare every new address with the *old* table. Which old place is it most like? For the patch in row 7, column 7 of 14 × 14,
# it should be the middle of the old grid.

# %%
fresh = sincos_2d(96, (14, 14))
asked = 1 + 7 * 14 + 7
maps = {
    "7 × 7, the middle itself": rearrange(similarity[24], "(h w) -> h w", h=7),
    "14 × 14, stretched": rearrange(table[1:] @ fine[asked], "(h w) -> h w", h=7),
    "14 × 14, a new table": rearrange(table[1:] @ fresh[asked], "(h w) -> h w", h=7),
}
assert maps["14 × 14, stretched"].argmax() == 24 and maps["14 × 14, a new table"].argmax() == 48

# %% mystnb={"image": {"alt": "Three maps of the old 7 by 7 grid. For the middle patch of the old grid and for a middle patch of the stretched grid the centre of the map is brightest. For the same patch with a new table the lower right corner is brightest, and dimmer."}}
plots.place_maps({name: one.numpy() for name, one in maps.items()}, [(3, 3), (3, 3), (3, 3)], label="similarity with old positions")

# %% [markdown]
# *Figure 3.10: what a patch in the middle of the larger picture says about its place, in the language of the old grid (frame: the true
# middle). Stretched, it says "middle". With a new table it says "bottom right".*
#
# > **Paper.** Section 4.2 fine-tunes ViT-H at 448 instead of 224 pixels and reaches 87.8 % (Table 3): a grid of 32 × 32 with
# > positions for 16 × 16. It needs this function. The class row is not part of the picture, and is not resized.

# %% [markdown]
# ## Where this lives
#
# `minimae/model/positions.py` and `minimae/model/vit.py`, word for word.

# %%
assert torch.equal(table, positions.sincos_2d(96, (7, 7)))
assert torch.equal(fine, positions.resize_positions(table, (7, 7), (14, 14)))
package_block = vit.Block(96, heads=3)
package_block.load_state_dict(block.state_dict())
assert torch.equal(package_block(x), block(x))

# %% [markdown]
# And because the names of the weights agree too, your block can take over the weights of a *trained* one. Here is the fourth block of
# `fashion-nano`, the model of chapter 00. The tokens that arrive there come from the package. (Its encoder is the next chapter.)

# %%
trained = weights.load("fashion-nano")
encoder = trained.model.encoder.eval()
mine = Block(96, heads=3)
mine.load_state_dict(encoder.blocks[3].state_dict())

garments = clothes.subset([(clothes.labels == label).nonzero()[i, 0].item() for label, i in ((0, 1), (1, 0), (9, 2))])
seen = normalise(garments.pixels, trained.statistics)
with torch.no_grad():
    through = encoder.features(seen)
    assert torch.allclose(mine(through[2]), through[3], atol=1e-5)
    looks = mine.attention.weights(mine.norm1(through[2]))

# %% tags=["nbval-check-output"]
print("who looks at whom:", tuple(looks.shape))

# %%
asking = [(3, 3), (5, 2), (5, 5)]
rows = []
for i, (row, column) in enumerate(asking):
    one = rearrange(looks[i, :, 1 + row * 7 + column, 1:], "heads (h w) -> heads h w", h=7)
    rows.append((plots.as_picture(seen[i], trained.statistics), (row, column), one.numpy()))

# %% mystnb={"image": {"alt": "Three photographs, a T-shirt, trousers and an ankle boot, each with one framed patch, and beside each the attention of three heads as 7 by 7 maps. The maps differ from head to head and follow the garment: on the shirt the column of patches above and below, for one trouser leg the other leg, for the heel of the boot the sole."}}
plots.attention_maps(rows, ["asks", "head 1", "head 2", "head 3"])

# %% [markdown]
# *Figure 3.11: where a patch looks in block 4 of `fashion-nano` (test photographs of Fashion-MNIST, whole pictures; the frame is the
# patch that asks; each row has its own scale). No head was told what to look for. A patch of one trouser leg looks along the other
# leg, more than along its own; a patch of the heel looks at the sole. Chapter 08 comes back to these maps, and to how little they prove.*

# %% [markdown]
# ## Break-it lab: addresses on the wrong doors
#
# A colleague has sped up the entry of the model. "Shuffle first, positions later, cut at the end: fewer steps." All shapes are right,
# the loss falls. But it stops falling early, and the paintings are blotches. Here is the function.

# %%
project = nn.Linear(16, 96)


def embed_fast(patches, mask):
    """Visible tokens ``b k d``: projected, shuffled, placed, cut."""
    order = torch.cat([mask.keep, mask.masked], dim=1)
    tokens = take(project(patches), order) + table[1:]
    return tokens[:, : mask.keep.shape[1]]


# %% [markdown]
# Let us ask each token where it believes it sits. Subtract its projected patch; what is left is the address it was given. Compare it
# with the 49 addresses of the table, and take the most similar.


# %%
@torch.no_grad()
def claimed(embed):
    """For one boot: where the visible patches sit, and where their tokens claim to sit."""
    given = embed(tokens, mask) - take(project(tokens), mask.keep)
    return mask.keep[0].numpy(), (given[0] @ table[1:].T).argmax(dim=1).numpy()


def embed(patches, mask):
    """Visible tokens ``b k d``, each with the address of its own patch."""
    return take(project(patches) + table[1:], mask.keep)


assert embed(tokens, mask).shape == embed_fast(tokens, mask).shape == (1, 12, 96)

# %% mystnb={"image": {"alt": "Two 7 by 7 grids with a dot for each of the twelve visible patches. On the left, ours, dots and nothing else. On the right, the colleague's: from nearly every dot an arrow leads to the top two rows of the grid."}}
plots.claimed_places({"ours": claimed(embed), "the colleague's": claimed(embed_fast)}, (7, 7))

# %% [markdown]
# *Figure 3.12: dots are visible patches, arrows lead to the place that their tokens claim (seed 0).*
#
# What is wrong? Why do all arrows lead to the top? And why does the loss fall at all?
#
# <details><summary>Diagnosis</summary>
#
# The addresses are added *after* the shuffle. So the first visible token gets the address of patch 0, the second that of patch 1, and
# so on: twelve tokens, and the first twelve addresses are the top row and most of the second. The address says "I came out of the
# shuffle as number 5". That is noise, and it is other noise for every picture. To the model the picture is a bag of patches again.
#
# The loss falls nevertheless, because a bag of patches is not nothing: it tells the brightness, the material, perhaps the kind of
# garment. The same figure with the positions *forgotten* would have no claims at all. The remedy is one line: add first, then take. Or
# take from both, as the encoder of chapter 04 does.
# </details>

# %%
assert (claimed(embed)[0] == claimed(embed)[1]).all()
assert (claimed(embed_fast)[1] == range(12)).all()

# %% [markdown]
# ## Exercises
#
# **1 ★ Attention, by you.** Queries, keys and values are `b heads t e`. Write the three lines, without PyTorch's function.


# %% nbgrader={"grade": false, "grade_id": "ch03-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def attend(q, k, v):
    """Mixed values: `b heads t e`."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch03_attend(attend)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_attend(q, k, v):
    """Mixed values: `b heads t e`."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    return scores.softmax(dim=-1) @ v


check.ch03_attend(solution_attend)

# %% [markdown]
# **2 ★★ Heads without einops.** The same reshape as above, `b t (heads e) -> b heads t e`, with `reshape` and `transpose` only. There
# is a wrong way that gives the right shape.


# %% nbgrader={"grade": false, "grade_id": "ch03-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def split_heads(x, heads):
    """`b t d` → `b heads t e`, with d = heads · e."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch03_split_heads(split_heads)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_split_heads(x, heads):
    """`b t d` → `b heads t e`, with d = heads · e."""
    b, t, d = x.shape
    return x.reshape(b, t, heads, d // heads).transpose(1, 2)


check.ch03_split_heads(solution_split_heads)

# %% [markdown]
# **3 ★★ Read an address.** Somebody gives you one position vector of `d` numbers, perhaps a little noisy. In which row and column of
# the grid does it sit? You may use `sincos_2d`.


# %% nbgrader={"grade": false, "grade_id": "ch03-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def read_address(vector, grid):
    """(row, column) of the patch whose position is most similar to `vector`."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch03_read_address(read_address)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_read_address(vector, grid):
    """(row, column) of the patch whose position is most similar to `vector`."""
    table = sincos_2d(len(vector), grid)[1:]
    best = int((table @ vector).argmax())
    return best // grid[1], best % grid[1]


check.ch03_read_address(solution_read_address)

# %% [markdown]
# **4 ★★★ One step aside, as a matrix.** To turn a clock hand by an angle s is to multiply (sin, cos) by a small fixed matrix, because
# sin(a + s) = sin a · cos s + cos a · sin s and cos(a + s) = cos a · cos s − sin a · sin s. So there is *one* matrix that leads from the
# address of any patch to that of the patch so many rows further down and so many columns further right. Build it. In each half of the
# channels there are d/4 sines, then d/4 cosines, at the frequencies 10000^(−i/(d/4)). `torch.diag` and `torch.block_diag` may help.


# %% nbgrader={"grade": false, "grade_id": "ch03-ex4", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def move(d, rows, columns):
    """The matrix `d d` with address(row, column) @ matrix = address(row + rows, column + columns), for every row and column."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch03_move(move)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_move(d, rows, columns):
    """The matrix `d d` with address(row, column) @ matrix = address(row + rows, column + columns), for every row and column."""
    frequencies = 10000.0 ** -(torch.arange(d // 4) / (d // 4))
    halves = []
    for places in (columns, rows):
        sin, cos = torch.diag((places * frequencies).sin()), torch.diag((places * frequencies).cos())
        halves.append(torch.cat([torch.cat([cos, -sin], dim=1), torch.cat([sin, cos], dim=1)]))
    return torch.block_diag(*halves)


check.ch03_move(solution_move)

# %% [markdown]
# ## Summary
#
# Attention compares queries with keys and mixes values; heads are a reshape. A block adds two corrections to each token, one from the
# others and one of its own. All of it lets shuffles through: the outputs are the same, in the shuffled order. So a token must carry its
# place with it, as a vector of clock hands, the column in the first half and the row in the second; and for a larger picture this map
# is stretched, not drawn anew.
#
# ## Five questions
#
# 1. A token's query is all zeros. What comes out of attention for it?
# <details><summary>Answer</summary>The plain average of all values: equal scores give equal shares.</details>
#
# 2. Why are the scores divided by √e?
# <details><summary>Answer</summary>A dot product of e random terms grows like √e. Without the division softmax would put nearly everything on one token, and its gradient would vanish.</details>
#
# 3. Tokens are shuffled before a block, and sorted back after it. What has changed?
# <details><summary>Answer</summary>Nothing, up to rounding: the block is permutation equivariant.</details>
#
# 4. In what do the addresses of two patches in the same row differ?
# <details><summary>Answer</summary>Only in the first half of the channels, which holds the column.</details>
#
# 5. Positions for a grid twice as fine: why not simply make a larger table?
# <details><summary>Answer</summary>Then the middle of the picture would carry the address that used to mean the lower right corner. Stretched bicubically, the middle stays the middle.</details>
#
# Next: [04 · Encode only what you see](04_encode_only_what_you_see.ipynb) Tokens may be left out, and their order does not matter. Time
# to leave out three quarters.
