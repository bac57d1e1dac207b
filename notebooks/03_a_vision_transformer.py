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
# **The promise.** You write attention and a transformer block yourself, find out that they ignore the order of their tokens, and give every
# patch a position so that its place in the image matters.
#
# Minutes: 30. Needs: chapters 01 and 02.
#
# After this chapter you can
#
# - compute attention for three tokens on paper;
# - split the channels into heads with one einops string;
# - say what happens to the output when the tokens are shuffled, and what this means for masking;
# - read a position similarity map, and say which half of the channels encodes the column;
# - resize positions for an image of a different size.

# %% jupyter={"source_hidden": true} tags=["install", "remove-cell"]
import os
from importlib import invalidate_caches
from importlib.util import find_spec

from IPython import get_ipython

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: with models this small, a second thread mostly waits
if find_spec("minimae") is None:  # on Colab and Binder
    get_ipython().run_line_magic("pip", "install -q 'minimae[book] @ git+https://github.com/minimae/minimae'")
    invalidate_caches()
    if find_spec("minimae") is None:
        raise ImportError("minimae was not installed; pip's message above says why. It needs Python 3.10 or newer, and a network")

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
# ## Attention for three tokens, by hand
#
# Inside a transformer, each patch becomes a **token**, a vector of `d` numbers. Attention lets tokens exchange information. Each token is
# turned into three vectors:
#
# - a **query**, which says what the token is looking for;
# - a **key**, which says what the token contains;
# - a **value**, which is what other tokens receive from it.
#
# The dot product of a query with a key is large if the two match. For each query, softmax turns its dot products with all keys into weights
# that sum to 1, and the output is the weighted mean of the values.
#
# Here are three tokens, with queries and keys of `e = 4` numbers. Each value has only one number, so that the sums are easy to check. The
# logarithms in the code make the weights simple fractions.

# %%
q = torch.tensor([[2 * math.log(2), 0, 0, 0], [0, 0, 2 * math.log(3), 0], [0, 0, 0, 0]])
k = torch.eye(3, 4)
v = torch.tensor([[0.0], [4.0], [8.0]])

# %% [markdown]
# The query of token 0 matches the key of token 0, and the query of token 1 matches the key of token 2. The query of token 2 is zero, so it
# matches nothing.

# %%
book.predict("asks-for-nothing", 0,
             ask="The query of token 2 is all zeros; the values are 0, 4 and 8. What is its output?")

# %% [markdown]
# The dot products are first divided by √e = 2, which keeps their size about the same for any `e`. The results are the *scores*: for query 0
# they are (ln 2, 0, 0). Softmax takes the exponentials, (2, 1, 1), and divides them by their sum, 4. The weights are ½, ¼, ¼, and the
# output is ½·0 + ¼·4 + ¼·8 = 3.
#
# The same steps for query 1 give (0, 0, ln 3) → (1, 1, 3) → ⅕, ⅕, ⅗ → 0 + 0.8 + 4.8 = 5.6. For query 2 they give (0, 0, 0) → (1, 1, 1) → ⅓
# each → 4.

# %%
scores = q @ k.T / math.sqrt(4)
shares = scores.softmax(dim=-1)
mixed = shares @ v

# %% tags=["nbval-check-output"]
print("scores", tuple(scores.shape), "results", [round(x, 4) for x in mixed[:, 0].tolist()])

# %% mystnb={"image": {"alt": "Your guess of 0 and the truth, 4, on one scale."}}
book.reveal("asks-for-nothing", float(mixed[2, 0]))

# %% [markdown]
# *Figure 3.1: your guess and the result. A query of zeros gives equal weights, so the output is the mean of all values.*

# %% mystnb={"image": {"alt": "A table of three rows and three columns. Row 0 has the weights 0.50, 0.25, 0.25 and the result 3; row 1 has 0.20, 0.20, 0.60 and 5.6; row 2 has 0.33 three times and 4. Larger weights are darker."}}
plots.attention_table(shares.numpy(), v[:, 0].numpy(), mixed[:, 0].numpy())

# %% [markdown]
# *Figure 3.2: the attention weights. Rows are queries and columns are keys.*
#
# **1 ★ Attention in three lines.** Queries, keys and values now have the shape `b heads t e`, where `t` is the number of tokens (the next
# section explains heads). Write the three lines above (scores, weights, results) again for these shapes and for any `e`, without PyTorch's
# `F.scaled_dot_product_attention`.
#
# <details><summary>Hint</summary>
#
# `k.transpose(-2, -1)` swaps the last two axes. The number `e` is `q.shape[-1]`. Apply softmax over the keys, the last axis of the scores.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch03-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def attend(q, k, v):
    """The weighted means of the values: `b heads t e`."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch03_attend(attend)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_attend(q, k, v):
    """The weighted means of the values: `b heads t e`."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    return scores.softmax(dim=-1) @ v


check.ch03_attend(solution_attend)

# %% [markdown]
# PyTorch has these three lines as one function, `F.scaled_dot_product_attention`. It returns the same numbers, up to rounding. Its fast
# versions never store the `t` × `t` weights, which can otherwise take up most of the memory.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert torch.allclose(F.scaled_dot_product_attention(q, k, v), mixed, atol=1e-6)

# %% [markdown]
# ## Heads are a reshape
#
# With one set of attention weights, each token gets only one mean of the values. To collect several kinds of information at once, the `d`
# numbers (*channels*) of each query, key and value are split into `heads` equal parts of width `e`, and attention is computed for each part
# separately. Here is one token of six numbers, split into two heads:

# %% tags=["nbval-check-output"]
token = rearrange(torch.arange(6), "d -> 1 1 d")
print("heads, t, e:", rearrange(token, "b t (heads e) -> b heads t e", heads=2)[0].tolist())

# %% [markdown]
# In `(heads e)` the numbers of one head lie side by side. After the reshape, `heads` stands next to `b`, and attention mixes nothing along
# these two axes.
#
# **2 ★★ Your attention layer.** Write `forward`. One linear layer computes the queries, keys and values of all heads at once. Its output
# has the layout `(three heads e)`: first all queries, then all keys, then all values. Split this output, apply
# `F.scaled_dot_product_attention`, join the heads again, and apply the last linear layer. (Do not call your `attend`: chapter 07 uses your
# layer again, but does not define `attend`.)
#
# <details><summary>Hint 1</summary>
#
# `rearrange(self.qkv(x), "b t (three heads e) -> three b heads t e", three=3, heads=self.heads)` gives a tensor whose first axis you can
# unpack: `q, k, v = …`
# </details>
#
# <details><summary>Hint 2</summary>
#
# For the way back, swap the two sides and leave out `three`: `"b heads t e -> b t (heads e)"`.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch03-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
class MyAttention(nn.Module):
    """Multi-head self-attention: `b t d` → `b t d`."""

    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)

    def forward(self, x):
        raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch03_attention(MyAttention)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
class solution_MyAttention(MyAttention):
    def forward(self, x):
        q, k, v = rearrange(self.qkv(x), "b t (three heads e) -> three b heads t e", three=3, heads=self.heads)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(rearrange(mixed, "b heads t e -> b t (heads e)"))


check.ch03_attention(solution_MyAttention)

# %% [markdown]
# The package's version is folded below. Its argument `queries` saves work in the decoder (chapter 05). Its method `weights` returns the
# attention weights, for figures.


# %% jupyter={"source_hidden": true} tags=["package:minimae.model.vit", "hide-input"]
class Attention(nn.Module):
    """Multi-head self-attention with a fused qkv projection: ``b t d`` → ``b t d``."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)

    def split(self, x: Tensor, queries: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values ``b heads t e``. With ``queries=q`` only the last q tokens are queries."""
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
        """Attention weights ``b heads t t``; each row sums to 1. For figures: the forward pass never computes this matrix."""
        q, k, _ = self.split(x)
        return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)


# %% tags=["nbval-check-output"]
Attention = book.use(check.ch03_attention, MyAttention, Attention)

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
attention, x = Attention(d=96, heads=3), torch.randn(2, 13, 96)
print("in", tuple(x.shape), "out", tuple(attention(x).shape))

# %% [markdown]
# ## Shuffle in, shuffle out
#
# Take the 49 patches of a boot, 16 pixels each, directly as tokens. Give these tokens to `plain`, an attention layer with random weights,
# first in image order and then shuffled as in chapter 02. What comes out for the shuffled tokens?

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
plain = vit.Attention(16, heads=1)

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
# Shuffling the tokens permutes the rows and the columns of the attention weights in the same way. No weight changes its value.

# %%
with torch.no_grad():
    table, table_shuffled = plain.weights(tokens)[0, 0], plain.weights(take(tokens, order))[0, 0]
sorted_back = table_shuffled[mask.restore[0]][:, mask.restore[0]]

# %% mystnb={"image": {"alt": "Three square heat maps of 49 by 49 weights. In image order there is a coarse pattern of stripes and blocks. Shuffled, the same values form thin, irregular stripes. Sorted back, the first pattern is there again."}}
plots.matrices(
    {"in image order": table.numpy(), "shuffled": table_shuffled.numpy(), "shuffled, then sorted back": sorted_back.numpy()},
    x="key", y="query",
)

# %% [markdown]
# *Figure 3.4: attention weights of an untrained layer over the 49 patches of a boot (test photograph of Fashion-MNIST; shuffle with mask
# seed 0; one colour scale, brighter is larger).*
#
# If the tokens are shuffled, the outputs are shuffled in the same way. This property is called **permutation equivariance**. It has two
# consequences.
#
# - *Good:* the encoder accepts its tokens in any order, so the shuffle of chapter 02 does no harm. Attention also works with any *number*
#   of tokens, so chapter 04 can simply drop the hidden tokens.
# - *Bad:* to attention, an image is a bag of patches. A boot and the same boot cut into pieces and mixed up look the same to it. So the
#   model needs the position of each patch.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert torch.allclose(sorted_back, table, atol=1e-6)

# %% [markdown]
# ## A block
#
# A transformer block has two halves, attention and a multi-layer perceptron (MLP). Attention mixes information *between* tokens. The MLP
# works on each token separately: a linear layer makes the token four times as wide, a nonlinearity (GELU) follows, and a second linear
# layer restores the width.


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
# Both halves have a **residual connection**: their output is *added* to their input. So a block does not replace a token but corrects it.
# Each half starts with a LayerNorm, which normalises every token to mean 0 and variance 1, and applies a learned scale and shift. This norm
# belongs to the added part (the *branch*), and the sum itself is not normalised. This is called *pre-norm*.
#
# Many deep models also use **drop path** (stochastic depth): during training, a branch is skipped for some samples chosen at random. For
# the other samples the output of the branch is scaled up, so that its expected value stays the same. The paper uses drop path only for
# fine-tuning.


# %% tags=["package:minimae.model.vit"]
def drop_path(x: Tensor, probability: float, training: bool) -> Tensor:
    """Drop a residual branch for whole samples (stochastic depth) and scale up the others; nothing outside training."""
    if not training or probability == 0.0:
        return x
    alive = torch.rand(len(x), 1, 1, device=x.device) >= probability
    return x * (alive.to(x.dtype) / (1.0 - probability))


# %% [markdown]
# With a drop probability of 0.2, the output of each branch that is not dropped is multiplied by 1 / 0.8 = 1.25.
#
# **3 ★★ Your block.** Put the parts together: norm, attention, add; norm, MLP, add. Apply drop path to each of the two branches, before the
# sum.
#
# <details><summary>Hint</summary>
#
# Write the line `x = x + drop_path(…, self.drop, self.training)` twice: first with `self.attention(self.norm1(x))`, and then with the MLP
# and its norm.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch03-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
class MyBlock(nn.Module):
    """A pre-norm transformer block: `b t d` → `b t d`."""

    def __init__(self, d, heads, *, mlp_ratio=4, drop=0.0, eps=1e-6):
        super().__init__()
        self.norm1 = nn.LayerNorm(d, eps=eps)
        self.attention = Attention(d, heads)
        self.norm2 = nn.LayerNorm(d, eps=eps)
        self.mlp = MLP(d, mlp_ratio)
        self.drop = drop

    def forward(self, x):
        raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch03_block(MyBlock)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
class solution_MyBlock(MyBlock):
    def forward(self, x):
        x = x + drop_path(self.attention(self.norm1(x)), self.drop, self.training)
        return x + drop_path(self.mlp(self.norm2(x)), self.drop, self.training)


check.ch03_block(solution_MyBlock)

# %% [markdown]
# The package's version is folded below. It also has the argument `queries`.


# %% jupyter={"source_hidden": true} tags=["package:minimae.model.vit", "hide-input"]
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


# %% tags=["nbval-check-output"]
Block = book.use(check.ch03_block, MyBlock, Block)

# %% [markdown]
# About two thirds of a block's parameters belong to the MLP: it has two matrices of d × 4d, and attention has four of d × d.

# %% tags=["nbval-check-output"]
block = Block(96, heads=3)
print("in", tuple(x.shape), "out", tuple(block(x).shape))
for name, part in block.named_children():
    print(f"{name:10}{sum(p.numel() for p in part.parameters()):7,} parameters")

# %% [markdown]
# The norms and the MLP treat each token separately, and attention is permutation equivariant. So the whole block is permutation
# equivariant, and so is a stack of blocks.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
shuffle = torch.tensor([3, 0, 12, 7, 1, 5, 11, 2, 9, 4, 10, 8, 6])
assert torch.allclose(block(x[:, shuffle]), block(x)[:, shuffle], atol=1e-5)
branch = drop_path(torch.ones(10_000, 1, 1), 0.2, training=True)
assert sorted(branch.unique().tolist()) == [0.0, 1.25] and abs(branch.mean() - 1) < 0.03

# %% [markdown]
# ### Initial weights
#
# Each output of a layer is a sum of many products, so large weights can make the sums grow from layer to layer. **Xavier** initialisation
# draws weights uniformly from the range ± √(6 / (inputs + outputs)), which is meant to keep the size of activations and gradients about the
# same in every layer. We use it, as the paper does (Appendix A.1).


# %% tags=["package:minimae.model.vit"]
def initialise(module: nn.Module) -> None:
    """Xavier-uniform Linear weights, zero biases; LayerNorm starts at 1 and 0 (as in the authors' released code).

    Changes only nn.Linear and nn.LayerNorm; positions and tokens keep their values.
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
    """Root mean square of the tokens after 0, 1, … 12 blocks with these initial weights."""
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


# %% mystnb={"image": {"alt": "Root mean square of the tokens against blocks passed, on a logarithmic scale. With Xavier it rises gently from 1 to about 2 over twelve blocks. With weights ten times as large it jumps to almost a hundred in the first block and keeps rising."}}
xavier, large = sizes_through(initialise), sizes_through(ten_times)
plots.through_blocks({"Xavier": xavier, "ten times larger": large}, y="root mean square of a token")

# %% [markdown]
# *Figure 3.5: the size of tokens after each of twelve untrained blocks (width 96, random tokens, seed 0). With Xavier, what each block adds
# is smaller than its input: half its size in the first block, less than a third in the last. With weights ten times as large, the first
# block adds vectors far larger than its input.*

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert 1.5 < xavier[-1] < 3 and large[1] > 50

# %% [markdown]
# ## A position for every patch
#
# We add to each token a vector that depends only on the position of its patch. If this vector were proportional to the index 0, 1, 2, … of
# the patch, it would be much larger for the last patches than for the first. Instead, we use the hands of many clocks: as the index grows,
# the first hand turns quickly, the next more slowly, and so on. Each hand is described by the sine and the cosine of its angle, both
# between −1 and 1. All hands together identify the position.


# %% tags=["package:minimae.model.positions"]
def sincos_1d(coordinates: Tensor, d: int) -> Tensor:
    """Coordinates ``n`` → ``n d``: sines, then cosines, at d/2 frequencies from 1 down to almost 1/10000."""
    frequencies = 10000.0 ** -(torch.arange(d // 2, dtype=torch.float64) / (d // 2))
    angles = coordinates.to(torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


# %% [markdown]
# For `d = 4` there are two frequencies (speeds of the hands), 1 and 10000^(−½) = 1/100. A *coordinate* is the index of a row or of a
# column. The vector of coordinate 2 is (sin 2, sin 0.02, cos 2, cos 0.02).

# %% jupyter={"source_hidden": true} tags=["hide-input"]
by_hand = torch.tensor([[0, 0, 1, 1], [math.sin(2), math.sin(0.02), math.cos(2), math.cos(0.02)]], dtype=torch.float64)
assert torch.allclose(sincos_1d(torch.tensor([0, 2]), 4), by_hand)

# %% mystnb={"image": {"alt": "A heat map of position vectors: 14 rows for coordinates, 64 columns for channels, sines in the left half and cosines in the right. In the first channels of each half the colour changes quickly from row to row; further right it changes slowly and then hardly at all."}}
plots.position_table(sincos_1d(torch.arange(14), 64).numpy())

# %% [markdown]
# *Figure 3.6: the vectors of 14 coordinates (one in each row of the figure) in 64 channels. In each half, the hands become slower from left
# to right. The slowest hardly move: the formula was made for long texts.*
#
# A patch has two coordinates, each encoded by `sincos_1d`: the first half of the channels encodes the **column**, and the second half
# encodes the **row**. The class token, an extra token (chapter 04), has no place in the image; its position vector is all zeros.
#
# **4 ★★ Positions of a grid.** Build the table of positions: a row of zeros, then one row for each patch, in reading order. Use `sincos_1d`
# twice.
#
# <details><summary>Hint</summary>
#
# In reading order the column changes fastest: 0, 1, … w−1, 0, 1, … The row stays the same for w patches. If `columns` holds the vectors of
# the w columns, use `repeat(columns, "w d -> (h w) d", h=h)`. For the vectors of the rows, use the string `"h d -> (h w) d"`.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch03-ex4", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def my_sincos_2d(d, grid):
    """A zero row for the class token, then one row for each patch of the grid (rows, columns): float32 `(1 + n) d`."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch03_sincos_2d(my_sincos_2d)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_my_sincos_2d(d, grid):
    h, w = grid
    column = repeat(sincos_1d(torch.arange(w), d // 2), "w d -> (h w) d", h=h)
    row = repeat(sincos_1d(torch.arange(h), d // 2), "h d -> (h w) d", w=w)
    return torch.cat([torch.zeros(1, d), torch.cat([column, row], dim=1).float()])


check.ch03_sincos_2d(solution_my_sincos_2d)

# %% [markdown]
# The package's version is folded below.


# %% jupyter={"source_hidden": true} tags=["package:minimae.model.positions", "hide-input"]
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
sincos_2d = book.use(check.ch03_sincos_2d, my_sincos_2d, sincos_2d)

# %% tags=["nbval-check-output"]
table = sincos_2d(96, (7, 7))
print(tuple(table.shape), "· class row zero:", not table[0].any().item())
print("patches 3 and 10 (one below the other): first half equal", torch.equal(table[1 + 3, :48], table[1 + 10, :48]))
print("patches 3 and 4 (side by side): second half equal", torch.equal(table[1 + 3, 48:], table[1 + 4, 48:]))

# %% [markdown]
# Attention compares projected tokens by dot products, so measure the similarity of two positions by their dot product. Because sin a · sin
# b + cos a · cos b = cos(a − b), this product depends only on how many rows and columns apart the two patches are. The dot product of a
# position with itself is d/2: each of the d/2 hands contributes 1.

# %%
similarity = table[1:] @ table[1:].T

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert torch.allclose(similarity.diagonal(), torch.full((49,), 48.0), atol=1e-4)
assert torch.allclose(similarity[0, 8], similarity[16, 24], atol=1e-4)  # both: one down, one to the right

# %% [markdown]
# Take the patch in row 2, column 5. Draw a map in which patches with a similar position are bright. What do you see if you use **only the
# first half of the channels**?

# %%
book.predict("first-half", "a bright row",
             ask="First half of the channels only: 'a bright row', 'a bright column' or 'a bright spot'?")

# %% mystnb={"image": {"alt": "The reader's choice, a bright row, beside the answer: a bright column."}}
book.reveal("first-half", "a bright column")

# %% [markdown]
# *Figure 3.7: your choice and the answer. The first half of the channels encodes the column, so all patches of one column have the same
# numbers there.*
#
# Many implementations put the row first. Weights that were trained with one order get wrong positions in code that uses the other order,
# and no error is raised.


# %%
def similarity_map(table, grid, place, channels=slice(None)):
    """Dot products of one patch's position with all others: ``h w``."""
    vectors = table[1:, channels]
    return rearrange(vectors @ vectors[place[0] * grid[1] + place[1]], "(h w) -> h w", h=grid[0])


halves = {"first half: column": slice(0, 48), "second half: row": slice(48, 96), "both": slice(None)}
maps = {name: similarity_map(table, (7, 7), (2, 5), part).numpy() for name, part in halves.items()}

# %% mystnb={"image": {"alt": "Three maps of 7 by 7 patches for the patch in row 2, column 5, which is framed. With the first half of the channels column 5 is bright; with the second half row 2 is bright; with both a round spot with faint arms is bright, brightest at the framed patch."}}
plots.place_maps(maps, [(2, 5)] * 3, label="similarity of positions (each map has its own scale)", own_scale=True)

# %% [markdown]
# *Figure 3.8: similarity of the position of one patch (framed) with all positions. A bright column and a bright row add up to a soft spot
# at the patch itself.*

# %% mystnb={"image": {"alt": "Forty-nine small maps arranged in seven rows and columns. In each map there is a bright, soft spot at the position of the map itself: top left in the first, bottom right in the last."}}
plots.every_similarity(similarity.numpy(), (7, 7))

# %% [markdown]
# *Figure 3.9: the similarity maps of all 49 patches, computed with both halves of the channels and arranged like the patches (one colour
# scale for all, 35 to 48).*
#
# > **Paper.** In Section 3, the paper adds positional embeddings to all tokens, and Appendix A.1 says that they are the sine-cosine version (in the
# > authors' code they are fixed, not learned). The formula is that of Vaswani et al. (arXiv 1706.03762), applied once for each direction. The
# > order, column first, is that of the MAE authors' released code. This book uses the same positions.

# %% [markdown]
# ## An image of another size
#
# A model was trained on a grid of 7 × 7 patches, and now gets an image of 14 × 14 patches. A new table, `sincos_2d(96, (14, 14))`, would
# give a patch in the middle of the image the position of row 7. But the model has only seen rows 0 to 6, and row 6 was the bottom edge. It
# is better to stretch the old table over the new image, so that the middle stays the middle: treat the table (without the row of the class
# token) as an image with `d` channels, and resize it (bicubic interpolation).


# %% tags=["package:minimae.model.positions"]
def resize_positions(positions: Tensor, old: Pair, new: Pair) -> Tensor:
    """Positions ``(1 + n) d`` of one grid → those of another, by bicubic interpolation; the class row is unchanged."""
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
# To test the resizing, compare a resized position with the *old* table. The position of the patch in row 7, column 7 of the 14 × 14 grid
# should be most similar to that of the middle patch of the old grid.

# %%
fresh = sincos_2d(96, (14, 14))
middle = 1 + 7 * 14 + 7
maps = {
    "7 × 7, the middle itself": rearrange(similarity[24], "(h w) -> h w", h=7),
    "14 × 14, resized": rearrange(table[1:] @ fine[middle], "(h w) -> h w", h=7),
    "14 × 14, a new table": rearrange(table[1:] @ fresh[middle], "(h w) -> h w", h=7),
}

# %% mystnb={"image": {"alt": "Three maps of the old 7 by 7 grid. For the middle patch of the old grid and for a middle patch of the resized grid the centre of the map is brightest. For the same patch with a new table the lower right corner is brightest, but dimmer than the centres of the other maps."}}
plots.place_maps({name: one.numpy() for name, one in maps.items()}, [(3, 3), (3, 3), (3, 3)], label="similarity with old positions")

# %% [markdown]
# *Figure 3.10: similarity of three positions with all positions of the old grid (frame: the true middle). The position from the new table
# is most similar to that of the old bottom right corner.*
#
# > **Paper.** In Section 4.2, ViT-H is fine-tuned at 448 instead of 224 pixels and reaches an accuracy of 87.8 % (Table 3). The grid then has 32 ×
# > 32 patches, but the positions from pre-training are those of 16 × 16 patches, so they must be resized.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert maps["14 × 14, resized"].argmax() == 24 and maps["14 × 14, a new table"].argmax() == 48

# %% [markdown]
# ## Where this lives
#
# The functions and classes of this chapter are in `minimae/model/positions.py` and `minimae/model/vit.py`, statement for statement.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert torch.allclose(table, positions.sincos_2d(96, (7, 7)))
assert torch.allclose(fine, positions.resize_positions(table, (7, 7), (14, 14)))
package_block = vit.Block(96, heads=3)
package_block.load_state_dict(block.state_dict())
assert torch.allclose(package_block(x), block(x), atol=1e-6)

# %% [markdown]
# The names of the parameters are the same too, so your block can load *trained* weights: here those of the fourth block of `fashion-nano`,
# a model from chapter 00. The package's encoder (chapter 04) computes the tokens that enter this block.

# %%
trained = weights.load("fashion-nano")
encoder = trained.model.encoder.eval()
mine = Block(96, heads=3)
mine.load_state_dict(encoder.blocks[3].state_dict())

garments = clothes.subset([(clothes.labels == label).nonzero()[i, 0].item() for label, i in ((0, 1), (1, 0), (9, 2))])
seen = normalise(garments.pixels, trained.statistics)
with torch.no_grad():
    through = encoder.features(seen)  # the tokens after each block: through[2] enters blocks[3]
    assert torch.allclose(mine(through[2]), through[3], atol=1e-5)
    looks = encoder.blocks[3].attention.weights(mine.norm1(through[2]))

# %% tags=["nbval-check-output"]
print("attention weights:", tuple(looks.shape))

# %%
queries = [(3, 3), (5, 2), (5, 5)]
rows = []
for i, (row, column) in enumerate(queries):
    one = rearrange(looks[i, :, 1 + row * 7 + column, 1:], "heads (h w) -> heads h w", h=7)
    rows.append((plots.as_picture(seen[i], trained.statistics), (row, column), one.numpy()))

# %% mystnb={"image": {"alt": "Three photographs, a T-shirt, trousers and an ankle boot, each with one framed patch, and beside each the attention of three heads as 7 by 7 maps. The maps differ from head to head and follow the garment: on the shirt the column of patches above and below, for one trouser leg the other leg, for the heel of the boot the sole."}}
plots.attention_maps(rows, ["query", "head 1", "head 2", "head 3"])

# %% [markdown]
# *Figure 3.11: attention of one patch (framed) in block 4 of `fashion-nano`, on whole test photographs of Fashion-MNIST; each row has its
# own scale. A patch of one trouser leg attends to the other leg more than to its own, and a patch of the heel attends to the sole. The
# model was trained without labels. Chapter 08 shows how little such maps prove.*

# %% [markdown]
# ## Break-it lab: wrong positions
#
# A colleague has sped up the patch embedding: "Shuffle first, add positions later, drop the hidden tokens at the end. That saves a step."
# All shapes are right, and the loss falls. But it stops falling early, and the reconstructions are blotches.

# %%
project = nn.Linear(16, 96)


def embed_fast(patches, mask):
    """Visible tokens ``b k d``: projected, shuffled, with positions, cut."""
    order = torch.cat([mask.keep, mask.masked], dim=1)
    tokens = take(project(patches), order) + table[1:]
    return tokens[:, : mask.keep.shape[1]]


# %% [markdown]
# Which position did each token get? Subtract the projected patch from the token: what remains is the position vector. Find the most similar
# of the 49 patch positions in the table.


# %%
@torch.no_grad()
def claimed(embed):
    """For one boot: the true positions of the visible patches, and those that their tokens carry."""
    given = embed(tokens, mask) - take(project(tokens), mask.keep)
    return mask.keep[0].numpy(), (given[0] @ table[1:].T).argmax(dim=1).numpy()


def embed(patches, mask):
    """Visible tokens ``b k d``, each with the position of its own patch."""
    return take(project(patches) + table[1:], mask.keep)


# %% mystnb={"image": {"alt": "Two 7 by 7 grids with a dot for each of the twelve visible patches. On the left, ours, dots and nothing else. On the right, the colleague's: from every dot an arrow points to a patch in the top two rows of the grid."}}
plots.claimed_places({"ours": claimed(embed), "the colleague's": claimed(embed_fast)}, (7, 7))

# %% [markdown]
# *Figure 3.12: dots are visible patches. If a token carries a wrong position, an arrow leads from its patch to that position (seed 0).*
#
# What is wrong? Why do all arrows end in the top two rows? And why does the loss fall at all?
#
# <details><summary>Diagnosis</summary>
#
# Positions are added *after* the shuffle. So the first visible token gets the position of patch 0, the second that of patch 1, and so on.
# The first twelve positions are the top row and most of the second. The position no longer says where a patch is. It says where the shuffle
# put the patch, which is random and different for every image. To the model, the image is a bag of patches again.
#
# The loss falls nevertheless, because even a bag of patches contains information: the brightness of the garment, its material, perhaps its
# kind. The fix is one line: add positions first, then take the visible tokens. Or take the patches and the positions with the same indices,
# as the encoder of chapter 04 does.
# </details>

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert embed(tokens, mask).shape == embed_fast(tokens, mask).shape == (1, 12, 96)
assert (claimed(embed)[0] == claimed(embed)[1]).all()
assert (claimed(embed_fast)[1] == range(12)).all()

# %% [markdown]
# ## More exercises
#
# **5 ★★ Read a position.** You get one position vector of `d` numbers, with a little noise. In which row and column of the grid is its
# patch? You may use `sincos_2d`.
#
# <details><summary>Hint</summary>
#
# Compare `vector` with all rows of the table, except that of the class token, by dot products. The index of the largest one is
# row · columns + column.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch03-ex5", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def read_address(vector, grid):
    """(row, column) of the patch whose position is most similar to `vector`."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch03_read_address(read_address)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_read_address(vector, grid):
    """(row, column) of the patch whose position is most similar to `vector`."""
    table = sincos_2d(len(vector), grid)[1:]
    best = int((table @ vector).argmax())
    return best // grid[1], best % grid[1]


check.ch03_read_address(solution_read_address)

# %% [markdown]
# **6 ★★★ Move a position with a matrix.** Turning a clock hand by an angle s multiplies (sin, cos) by a fixed 2 × 2 matrix, because sin(a +
# s) = sin a · cos s + cos a · sin s and cos(a + s) = cos a · cos s − sin a · sin s. So *one* matrix turns the position of any patch into
# the position of the patch `rows` further down and `columns` further right. Build that matrix. Each half of the channels has d/4 sines,
# then d/4 cosines, at the frequencies 10000^(−i/(d/4)) with i = 0, 1, …, d/4 − 1. So the sine and the cosine of one hand are d/4 channels
# apart.
#
# <details><summary>Hint</summary>
#
# For each half, build four diagonal matrices with `torch.diag`, and put them together with `torch.cat`. Column j of the matrix says how
# the new number j is made from the old ones: the column of a new sine holds cos s in the row of the old sine, and sin s in the row of the old
# cosine. `torch.block_diag` joins the two halves.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch03-ex6", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def move(d, rows, columns):
    """The matrix `d d` with position(row, column) @ matrix = position(row + rows, column + columns), for every row and column."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch03_move(move)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_move(d, rows, columns):
    """The matrix `d d` with position(row, column) @ matrix = position(row + rows, column + columns), for every row and column."""
    frequencies = 10000.0 ** -(torch.arange(d // 4) / (d // 4))
    halves = []
    for steps in (columns, rows):
        sin, cos = torch.diag((steps * frequencies).sin()), torch.diag((steps * frequencies).cos())
        halves.append(torch.cat([torch.cat([cos, -sin], dim=1), torch.cat([sin, cos], dim=1)]))
    return torch.block_diag(*halves)


check.ch03_move(solution_move)

# %% [markdown]
# ## Summary
#
# Attention compares queries with keys and averages values. Heads are a reshape of the channels. A block adds two corrections to each token:
# one from all tokens (attention), and one from the token alone (MLP). A block is permutation equivariant, so every token must carry the
# position of its patch: a vector of sines and cosines, with the column in the first half and the row in the second. For an image of a
# different size, the table of positions is resized.
#
# ## Five questions
#
# 1. The query of a token is all zeros. What is its output?
# <details><summary>Answer</summary>The mean of all values: equal scores give equal weights.</details>
#
# 2. Why are the scores divided by √e?
# <details><summary>Answer</summary>The typical size of the dot product of two random vectors of e numbers grows like √e. Without the division, for large e, softmax would put nearly all the weight on one token, and its gradient would almost vanish.</details>
#
# 3. Tokens are shuffled before a block and sorted back after it. What has changed?
# <details><summary>Answer</summary>Nothing, up to rounding: the block is permutation equivariant.</details>
#
# 4. How do the positions of two patches in the same row differ?
# <details><summary>Answer</summary>Only in the first half of the channels, which encodes the column.</details>
#
# 5. A trained model gets an image with a grid twice as fine. Why not compute a larger table of positions?
# <details><summary>Answer</summary>With a larger table, the middle of the image would get a position just beyond the lower right corner of the old grid. After bicubic resizing, the middle stays the middle.</details>
#
# Next: [04 · Encode only what you see](04_encode_only_what_you_see.ipynb). Attention works with any number of tokens, so chapter 04 leaves
# out three quarters of them.
