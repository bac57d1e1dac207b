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
# # 04 · Encode only what you see
#
# **The promise.** You write the paper's encoder, which never sees a hidden patch. Then you find out how much work this encoder saves, first
# by counting operations and then with a clock.
#
# Minutes: 20. Needs: chapters 01 to 03.
#
# After this chapter you can
#
# - build the tokens of the visible patches, each with its own position;
# - say why the class token is added after the masking, and what goes wrong if it is added before;
# - count the operations of a transformer block;
# - say what mask tokens in the encoder cost, in work and in accuracy;
# - test whether an encoder sees hidden patches.

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
from dataclasses import dataclass
from time import perf_counter

import minimae_book as book
import torch
from minimae_book import check
from minimae_book import figures as plots
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from minimae import Mask, data, keep_count, make_mask, patchify, take, unpatchify
from minimae.data.augment import normalise
from minimae.model import sizes, vit
from minimae.model.checks import check_images, checked_mask
from minimae.model.patches import Pair, grid_of
from minimae.model.positions import resize_positions, sincos_2d
from minimae.model.sizes import Size, resolve, size
from minimae.model.vit import Block, initialise

# %% [markdown]
# ## Visible patches only
#
# Chapter 03 gave each token the position of its patch, and showed that a block accepts any number of tokens in any order. So an encoder
# that should ignore hidden patches needs no special code: **we simply give it only the visible ones.**
#
# As an example, take six patches of one number each. The projection (the patch embedding of chapter 01) turns a patch into two numbers: its
# value and a zero. The positions of the six patches are (0, 10), (0, 20) and so on. The mask keeps patches 4 and 1, in this order.

# %%
patches = torch.tensor([[[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]]])
positions = torch.tensor([[0.0, 10.0 * (i + 1)] for i in range(6)])
keep = torch.tensor([[4, 1]])


def project(patches):
    """One number → two: the patch, and zero."""
    return torch.cat([patches, torch.zeros_like(patches)], dim=-1)


# %% [markdown]
# Patches are numbered from 0, so patch 4 has the value 5 and the position (0, 50). Patch 1 has the value 2 and the position (0, 20). So the
# tokens must be (5, 50) and (2, 20).

# %% tags=["nbval-check-output"]
visible = project(take(patches, keep)) + take(positions, keep)
print(tuple(visible.shape), visible[0].tolist())

# %% [markdown]
# Project the visible patches, take the positions *with the same indices*, and add the two.
#
# ### The class token
#
# One more token goes into the encoder: the **class token**, a learned vector that belongs to no patch. In the blocks, it collects
# information from all other tokens, so a classifier can use its output. It has no place in the image, so its position is a row of zeros.
#
# The class token is added **after** the masking, at the front. So it can never be masked, and the indices of the mask remain indices of
# patches. With `k` visible patches, the encoder works on `t = 1 + k` tokens. In the next figure, 12 of the 49 patches are visible, so `t`
# is 13.

# %%
clothes = data.load("fashion", "test")
boots = clothes.subset((clothes.labels == 9).nonzero()[:8, 0])
images = normalise(boots.pixels, clothes.statistics)
mask = make_mask(boots.ids, grid=(7, 7), ratio=0.75, seed=0)

# %% mystnb={"image": {"alt": "Above: a photograph of an ankle boot, with twelve of its 49 patches visible and framed. Below: a row of thirteen tokens. The first is the class token, without a number. The other twelve are the framed patches in shuffled order, each with its number and its row and column beneath."}}
plots.visible_tokens(plots.as_picture(images[0], clothes.statistics), mask.keep[0].tolist(), (7, 7))

# %% [markdown]
# *Figure 4.1: the input of the encoder (a test photograph of Fashion-MNIST, 75 % masked, seed 0).*

# %% [markdown]
# ## The encoder
#
# **1 ★★ Your encoder.** Write `embed`. Cut the images into patches (the patch size is `self.size.patch`), keep the visible ones, project
# them, add their positions, and put the class token in front. If `mask` is None, use all patches, in image order.
#
# <details><summary>Hint 1</summary>
#
# `self.positions` has `1 + n` rows. Row 0 belongs to the class token, so patch `i` has row `i + 1`: use `self.positions[1:]`.
# </details>
#
# <details><summary>Hint 2</summary>
#
# The class token has the shape `1 1 d`, and every image needs it: `self.class_token.expand(len(images), -1, -1)`. Then join the tokens with
# `torch.cat([…], dim=1)`.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch04-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
class MyEncoder(nn.Module):
    """Images `b c (h p1) (w p2)` and a mask (None: all patches) → latent tokens `b (1 + k) d`."""

    def __init__(self, size):
        super().__init__()
        self.size, d = size, size.width
        self.project = nn.Linear(size.values, d)
        self.class_token = nn.Parameter(torch.randn(1, 1, d) * 0.02)
        self.blocks = nn.ModuleList(Block(d, size.heads) for _ in range(size.depth))
        self.norm = nn.LayerNorm(d, eps=1e-6)
        initialise(self)
        self.positions = nn.Parameter(sincos_2d(d, size.grid), requires_grad=False)

    def embed(self, images, mask=None):
        raise NotImplementedError("your turn")

    def forward(self, images, mask=None):
        x = self.embed(images, mask)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


# %% tags=["exercise-check"]
check.ch04_encoder(MyEncoder)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*
# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
class solution_MyEncoder(MyEncoder):
    def embed(self, images, mask=None):
        patches, positions = patchify(images, self.size.patch), self.positions[1:]
        if mask is not None:
            patches, positions = take(patches, mask.keep), take(positions, mask.keep)
        first = self.class_token.expand(len(images), -1, -1)
        return torch.cat([first, self.project(patches) + positions], dim=1)


check.ch04_encoder(solution_MyEncoder)

# %% [markdown]
# The package's version is folded below. It also resizes the positions for images of a different size, and its method `features` returns the
# tokens after every block. With `mask_tokens=True`, the encoder adds a **mask token** for each hidden patch: one learned vector, the same
# for all hidden patches, plus the position of the patch.


# %% jupyter={"source_hidden": true} tags=["package:minimae.model.vit", "hide-input"]
class Encoder(nn.Module):
    """Patches in, latent tokens out: images ``b c (h p1) (w p2)`` → ``b t d``.

    The class token joins after masking, with a zero position. Positions are fixed sine-cosine values, resized for other images.
    Drop path grows linearly over the blocks up to ``drop``. mask_tokens: encode masked patches as learned tokens (Table 1c).
    """

    def __init__(self, size: Size | str, *, drop: float = 0.0, mask_tokens: bool = False) -> None:
        super().__init__()
        self.size = size = resolve(size)
        d = size.width
        self.project = nn.Linear(size.values, d)
        self.class_token = nn.Parameter(torch.empty(1, size.class_tokens, d))
        self.mask_token = nn.Parameter(torch.empty(1, 1, d)) if mask_tokens else None
        self.blocks = nn.ModuleList(Block(d, size.heads, mlp_ratio=size.mlp_ratio, eps=size.eps) for _ in range(size.depth))
        self.spread_drop_path(drop)
        self.norm = nn.LayerNorm(d, eps=size.eps)
        initialise(self)
        for token in (self.class_token, self.mask_token):
            if token is not None:
                nn.init.normal_(token, std=0.02)
        self.positions = nn.Parameter(sincos_2d(d, size.grid), requires_grad=False)

    def spread_drop_path(self, probability: float) -> None:
        """Let the drop path grow linearly from 0 in the first block to ``probability`` in the last."""
        for i, block in enumerate(self.blocks):
            block.drop = probability * i / max(1, len(self.blocks) - 1)  # type: ignore[assignment]

    def positions_for(self, grid: Pair) -> Tensor:
        """The positions ``(1 + n) d`` for a grid, resized if it differs from the encoder's own."""
        return resize_positions(self.positions, self.size.grid, grid)

    def embed(self, images: Tensor, mask: Mask | None = None) -> Tensor:
        """Images → tokens ``b t d`` before the first block. Only visible patches are projected."""
        check_images(images, self.size.channels)
        grid = grid_of((images.shape[2], images.shape[3]), self.size.patch)
        patches, positions = patchify(images, self.size.patch), self.positions_for(grid)
        b, n = patches.shape[:2]
        if mask is None:
            tokens = self.project(patches) + positions[1:]
        elif checked_mask(mask, {}).keep.shape[0] != b or mask.n != n:
            raise ValueError(f"this mask is for {mask.keep.shape[0]} images of {mask.n} patches; the batch has {b} of {n}")
        else:
            tokens = self.project(take(patches, mask.keep)) + take(positions[1:], mask.keep)
            if self.mask_token is not None:
                tokens = torch.cat([tokens, self.mask_token + take(positions[1:], mask.masked)], dim=1)
        first = (self.class_token + positions[:1]).expand(b, -1, -1)
        return torch.cat([first, tokens], dim=1)

    def forward(self, images: Tensor, mask: Mask | None = None) -> Tensor:
        """Images → latent ``b t d`` after the last norm. Without a mask the whole image is encoded, in image order."""
        x = self.embed(images, mask)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def features(self, images: Tensor, mask: Mask | None = None) -> list[Tensor]:
        """The tokens ``b t d`` after every block, before the last norm: one tensor per block."""
        outputs = [self.embed(images, mask)]
        for block in self.blocks:
            outputs.append(block(outputs[-1]))
        return outputs[1:]

# %% tags=["nbval-check-output"]
Encoder = book.use(check.ch04_encoder, MyEncoder, Encoder)

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
encoder, with_blanks = Encoder(size("nano")), vit.Encoder(size("nano"), mask_tokens=True)
print("visible patches only", tuple(encoder(images, mask).shape))
print("with mask tokens    ", tuple(with_blanks(images, mask).shape))
print("no mask             ", tuple(encoder(images).shape))

# %% jupyter={"source_hidden": true} tags=["hide-input"]
nothing_hidden = Mask(torch.arange(49).expand(8, 49), torch.empty(8, 0, dtype=torch.int64))
backwards = Mask(mask.keep.flip(1), mask.masked)
with torch.no_grad():
    latent = encoder(images, mask)
    assert torch.allclose(encoder(images, nothing_hidden), encoder(images), atol=1e-5)
    assert torch.allclose(encoder(images, backwards)[:, 1:], latent[:, 1:].flip(1), atol=1e-5)

# %% [markdown]
# ### Does it see hidden patches?
#
# To find out, encode an image. Then replace one patch with random pixels, encode the image again with the same mask, and measure how much
# the **latent** (the encoder's output) changes: this is the *influence* of the patch. Do this for each of the 49 patches.


# %%
def with_noise_in(image, i):
    """The image ``1 c height width`` with random pixels in patch i."""
    patches = patchify(image, 4)
    patches[:, i] = torch.randn(16, generator=torch.Generator().manual_seed(i))
    return unpatchify(patches, 4, (7, 7))


@torch.no_grad()
def influence(encode, image, mask):
    """How much each patch changes the latent: ``h w``, the largest is 1."""
    before = encode(image, mask)
    change = torch.stack([(encode(with_noise_in(image, i), mask) - before).abs().max() for i in range(49)])
    return (change / change.max()).reshape(7, 7)


one, one_mask = images[:1], Mask(mask.keep[:1], mask.masked[:1])
changes = influence(encoder, one, one_mask)
is_visible = 1 - one_mask.binary.reshape(7, 7)
visible_map = torch.where(is_visible > 0, 1.0, torch.nan)  # NaN: hidden

# %% mystnb={"image": {"alt": "Two 7 by 7 maps. On the left the twelve visible patches are bright. On the right the influence of each patch: the same twelve patches are more or less bright, and all others are exactly zero."}}
plots.place_maps(
    {"visible patches": visible_map.numpy(), "influence of each patch": changes.numpy()},
    [None, None],
    label="visible = 1; influence, largest = 1",
)

# %% [markdown]
# *Figure 4.2: left, the visible patches; right, the influence of each patch on the latent (untrained nano encoder, weights of seed 0).
# Hidden patches have an influence of exactly zero.*

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert (changes[is_visible == 0] == 0).all() and (changes[is_visible == 1] > 0).all()

# %% [markdown]
# ## What it saves, on paper
#
# For ViT-L, the paper's images of 224 × 224 pixels are cut into 14 × 14 = 196 patches. With 75 % masked, the encoder gets about a quarter
# of the tokens: 50 (49 patches and the class token) instead of 197. The cost of attention is quadratic in the number of tokens. **How many
# operations does a block of ViT-L need for 50 tokens, as a percentage of those for 197 tokens?**

# %%
book.predict("quarter", 6,
             ask="ViT-L, 50 instead of 197 tokens: what share of the operations does a block need (in %)?")

# %% [markdown]
# The product of a `t × d` matrix with a `d × d` matrix takes t·d·d multiplications and as many additions: **2·t·d² operations**. A block
# computes these products:
#
# | part | matrices | operations |
# |---|---|---|
# | queries, keys, values | 3 of d × d | 6·t·d² |
# | output | 1 of d × d | 2·t·d² |
# | MLP | d × 4d and 4d × d | 16·t·d² |
# | scores q·k | t × t dot products of length d (all heads together) | 2·t²·d |
# | weighted means of the values | t × t weights times t vectors of length d (all heads together) | 2·t²·d |
#
# Together that is **24·t·d² + 4·t²·d**. Norms, softmax and GELU cost little and are left out.


# %% tags=["package:minimae.model.sizes"]
def block_flops(t: int, d: int, *, mlp_ratio: int = 4, queries: int | None = None) -> int:
    """One transformer block on t tokens of width d: 24·t·d² + 4·t²·d when every token is a query and the MLP is 4 wide."""
    q = t if queries is None else queries
    return 4 * t * d * d + (4 + 4 * mlp_ratio) * q * d * d + 4 * q * t * d

# %% [markdown]
# (`queries` is for the last block of the decoder; see chapter 05.) The folded cell compares `block_flops` with PyTorch's own count.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
layers, x = vit.Block(96, heads=3), torch.randn(1, 13, 96)
with FlopCounterMode(display=False) as counter:
    q, k, v = layers.attention.split(x)
    layers.attention.out(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2))
    layers.mlp(x)
assert counter.get_total_flops() == block_flops(13, 96) and block_flops(2, 1) == 64

# %% [markdown]
# **2 ★ How much cheaper?** An image has `n` patches, of which `k` are visible. By what factor is a block of width `d` cheaper on the
# visible patches than on all patches? Use `block_flops`, and do not forget the class token.


# %% nbgrader={"grade": false, "grade_id": "ch04-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def times_cheaper(n, k, d):
    """Operations of a block on all patches, divided by those on the visible ones."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch04_times_cheaper(times_cheaper)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*
# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_times_cheaper(n, k, d):
    """Operations of a block on all patches, divided by those on the visible ones."""
    return block_flops(1 + n, d) / block_flops(1 + k, d)


check.ch04_times_cheaper(solution_times_cheaper)

# %% mystnb={"image": {"alt": "Two marks on one scale: the reader's guess of 6 and the computed share, 24.8 percent."}}
book.reveal("quarter", round(100 * block_flops(50, 1024) / block_flops(197, 1024), 1), unit="% of the operations of the whole image")

# %% [markdown]
# *Figure 4.3: your guess and the computed share.*
#
# Processing a quarter of the tokens takes about a quarter of the work, not a sixteenth. Only the term 4·t²·d, the *t² part*, is quadratic
# in t. Its share of the operations is 4t²d / (24td² + 4t²d) = **t / (6d + t)**. For 197 tokens of ViT-L (d = 1024), this share is 197 /
# 6341, or about 3 %.

# %%
counts = [2**i for i in range(4, 17)]
shares = {f"{name} (d = {d})": [100 * t / (6 * d + t) for t in counts] for name, d in (("ViT-B", 768), ("ViT-L", 1024), ("ViT-H", 1280))}

# %% mystnb={"image": {"alt": "Share of the t-squared part in a block's operations against the number of tokens, logarithmic, for three widths. At 50 and 197 tokens the curves are near zero; at 4097 tokens they are between 35 and 47 percent; they reach one half at about five to eight thousand tokens."}}
plots.attention_share(counts, shares, {"50: 224 px / 16, 75 % masked": 50, "197: 224 px / 16": 197, "4097: 1024 px / 16": 4097})

# %% [markdown]
# *Figure 4.4: the share of the t² part in the operations of a block (computed). For images of 1024 × 1024 pixels, as used for detection,
# the share is a third or more.*
#
# **3 ★★ When does attention dominate?** At which number of tokens does the t² part make up the given `share` (between 0 and 1) of the
# operations of a block of width `d`? Solve t / (6d + t) = share for t.


# %% nbgrader={"grade": false, "grade_id": "ch04-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def tokens_for_share(share, d):
    """The number of tokens (not rounded) at which the t² part is this share of the operations."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch04_tokens_for_share(tokens_for_share)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*
# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_tokens_for_share(share, d):
    """The number of tokens (not rounded) at which the t² part is this share of the operations."""
    return 6 * d * share / (1 - share)


check.ch04_tokens_for_share(solution_tokens_for_share)

# %% [markdown]
# ### Mask tokens in the encoder
#
# There is another way to hide patches: the image model BEiT replaces each hidden patch with a mask token. The encoder then works on all 197
# tokens.
#
# The encoder alone becomes about four times as expensive. But the model also has a decoder (chapter 05), which sees all tokens in any case.
# **By what factor do mask tokens in the encoder make a forward pass of the whole model more expensive, for ViT-L with 75 % masked?**

# %%
book.predict(
    "mask-tokens-cost", 4, ask="ViT-L, 75 % masked: by which factor do mask tokens in the encoder raise the cost of a forward pass?"
)

# %% [markdown]
# `flops` in the folded cell counts the operations of all matrix products in the model. With `paper=True`, it assumes that all patches are
# projected and predicted, as the paper describes. Otherwise, `flops` counts what the package computes, which is less.


# %% jupyter={"source_hidden": true} tags=["package:minimae.model.sizes", "hide-input"]
@dataclass(frozen=True)
class Flops:
    """Floating-point operations for one image, matmuls only; one multiply-add is two operations."""

    encoder: int
    decoder: int
    projection: int
    other: int

    @property
    def forward(self) -> int:
        """Blocks, patch projection, decoder embedding and prediction."""
        return self.encoder + self.decoder + self.projection + self.other

    @property
    def step(self) -> int:
        """Forward and backward. No gradient flows into the pixels: three forward passes, less one patch projection."""
        return 3 * self.forward - self.projection

def flops(s: Size, ratio: float | None = 0.75, *, m: int | None = None, mask_tokens_in_encoder: bool = False, paper: bool = False) -> Flops:
    """The cost of one pre-training image.

    paper: every patch is projected and predicted, as the paper describes it. Otherwise as this package computes: only visible patches
    are projected, and only ``m`` patches (default: the masked ones) are predicted and are queries in the last decoder block.
    ``ratio=None`` counts the encoder alone on the whole image (features, probing).
    """
    n = s.grid[0] * s.grid[1]
    keep = n if ratio is None else keep_count(n, ratio)
    m = n - keep if m is None else m
    every = s.class_tokens + keep + min(m, n - keep)
    t = every if mask_tokens_in_encoder else s.class_tokens + keep
    encoder = s.depth * block_flops(t, s.width, mlp_ratio=s.mlp_ratio)
    projection = 2 * (n if paper else keep) * s.values * s.width
    if ratio is None:
        return Flops(encoder, 0, projection, 0)
    d = s.decoder_width
    decoder = (s.decoder_depth - 1) * block_flops(every, d) + block_flops(every, d, queries=None if paper else m)
    return Flops(encoder, decoder, projection, 2 * t * s.width * d + 2 * (n if paper else m) * d * s.values)

# %%
large = [flops(size("large"), paper=True, mask_tokens_in_encoder=blanks).forward for blanks in (False, True)]
factor = large[1] / large[0]

# %% mystnb={"image": {"alt": "Two marks on one scale: the reader's guess of 4 and the computed factor, 3.23."}}
book.reveal("mask-tokens-cost", round(factor, 2), unit="times")

# %% [markdown]
# *Figure 4.5: your guess and the computed factor. The blocks of the decoder cost the same with and without mask tokens in the encoder, so
# the factor is less than four.*

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert 3.2 < factor < 3.3 and round(factor, 2) == 3.23


# %%
def parts(name, blanks):
    """Billions of operations of a forward pass: encoder with the projection of the patches, decoder with its two linear layers."""
    cost = flops(size(name), paper=True, mask_tokens_in_encoder=blanks)
    return {"encoder": (cost.encoder + cost.projection) / 1e9, "decoder": (cost.decoder + cost.other) / 1e9}


names = {"base": "ViT-B", "large": "ViT-L", "huge": "ViT-H"}
costs = {f"{names[name]}, {'with mask tokens' if w else 'visible only'}": parts(name, w) for name in names for w in (False, True)}

# %% mystnb={"image": {"alt": "Six horizontal bars of operations in billions. ViT-B 19.6 and 46.0, ViT-L 41.5 and 134.0, ViT-H 97.1 and 349.1, each visible only and with mask tokens. The decoder's blocks cost the same in all, except with ViT-H, whose patches are smaller. For ViT-B with visible patches only, the decoder's part is larger than the encoder's."}}
plots.cost_bars(costs, unit="billion operations of a forward pass (224 px, 75 % masked)")

# %% [markdown]
# *Figure 4.6: operations of a forward pass (computed). The larger the encoder, the larger the saving.*
#
# > **Paper.** Table 1c (ViT-L): with mask tokens in the encoder, the accuracy is 84.2 % with fine-tuning (chapter 10) and **59.6 %** with linear
# > probing (chapter 09), at 3.3 times the operations (training FLOPs). Without mask tokens, the accuracies are 84.9 % and **73.5 %**. The paper does
# > not say how it counts the operations. Our factor is 3.23, for a forward pass and for a training step.
# > **Our deviation.** The package projects only the visible patches and predicts only the hidden ones. In the last block of the decoder, it skips
# > the queries whose outputs are not used. The loss is the same.
#
# So mask tokens make the encoder more expensive *and worse*. The paper gives a reason for the lower accuracy. In pre-training, about three
# quarters of such an encoder's tokens are mask tokens. After pre-training, the encoder gets complete images, which have no mask tokens. So
# the encoder is trained on one kind of input and used on another. Our small experiment agrees: on photographs of CIFAR-10, cut into 64
# patches, mask tokens cost 3.4 points of linear probing (three seeds, 95 % interval 1.8 to 5.0,
# [evidence](../docs/evidence.md#mask-tokens)).

# %% [markdown]
# ## What it saves, by the clock
#
# The number of operations alone does not determine the time. Processors handle small matrices inefficiently, and memory access takes time
# too. So we measure the time of a small encoder, on images of 196 patches as in the paper.
#
# Other programs on the machine disturb the timing. So each setting (a mask ratio or no mask, with or without mask tokens) is timed ten
# times, and the settings take turns. We use the fastest run of each setting, because it was disturbed least.

# %%
clocked = size("small", depth=3, patch=4, image=56)
models = {"visible only": vit.Encoder(clocked).eval(), "with mask tokens": vit.Encoder(clocked, mask_tokens=True).eval()}
photographs = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
ratios = [0.9, 0.75, 0.5, 0.25, None]
masks = {ratio: ratio and make_mask(torch.arange(2), clocked.grid, ratio=ratio) for ratio in ratios}


@torch.no_grad()
def seconds(model, mask):
    """The time of one forward pass."""
    start = perf_counter()
    model(photographs, mask)
    return perf_counter() - start


threads = torch.get_num_threads()
torch.set_num_threads(1)  # matrices this small do not gain from a second thread
rounds = [{(name, ratio): seconds(models[name], masks[ratio]) for ratio in ratios for name in models} for _ in range(10)]
torch.set_num_threads(threads)
fastest = {key: min(one[key] for one in rounds) for key in rounds[0]}


# %%
def counted(blanks):
    """Operations of the encoder and its projection, whole image = 1."""
    costs = [flops(clocked, ratio, mask_tokens_in_encoder=blanks) for ratio in ratios]
    return [(cost.encoder + cost.projection) / (costs[-1].encoder + costs[-1].projection) for cost in costs]


kept = [196 if ratio is None else keep_count(196, ratio) for ratio in ratios]
measured = {name: [fastest[name, ratio] / fastest["visible only", None] for ratio in ratios] for name in models}
operations = {"visible only": counted(False), "with mask tokens": counted(True)}

# %% mystnb={"image": {"alt": "Time against kept patches, whole image equal to one. Visible only: measured dots rise almost in a straight line from between 0.1 and 0.2 at 20 kept patches to 1 at 196, close to the dashed line of counted operations. With mask tokens: flat at about 1 throughout. At 49 kept patches the two differ by a factor of about four."}}
plots.time_against_tokens(kept, measured, operations, mark=49)

# %% [markdown]
# *Figure 4.7: measured time of the encoder against the number of kept patches, with and without mask tokens (three blocks of width 384,
# forward pass on 2 random images of 196 patches, one thread of a processor, float32; the fastest of 10 runs; the time for the whole image
# is set to 1). Dashed: counted operations, on the same scale. The times will differ on your machine.*
#
# With mask tokens, the time hardly depends on how much is hidden. Without mask tokens, both the time and the counted operations fall when
# fewer patches are kept.
#
# > **Paper.** Table 2: 800 epochs of ViT-L on 128 TPU-v3 cores take 42.4 hours with mask tokens in the encoder and 15.4 hours without (a factor of
# > 2.8). Our factor at 49 kept patches (Figure 4.7) is larger. One reason is that the paper measures the training of the whole model, and we
# > measure the encoder's forward pass alone.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert measured["visible only"][1] < 0.6 and measured["with mask tokens"][1] > 1.5 * measured["visible only"][1]

# %% [markdown]
# ## Where this lives
#
# `minimae.Encoder` is in `minimae/model/vit.py`, and the counting functions are in `minimae/model/sizes.py`, statement for statement as in
# the cells of this chapter.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
theirs = vit.Encoder(size("nano"))
theirs.load_state_dict(encoder.state_dict())
with torch.no_grad():
    assert torch.allclose(theirs(images, mask), encoder(images, mask), atol=1e-6)
for name in sizes.SIZES:
    assert vars(flops(size(name))) == vars(sizes.flops(size(name)))
assert block_flops(50, 1024) == sizes.block_flops(50, 1024)

# %% [markdown]
# ## Break-it lab: the class token comes first
#
# A colleague puts the class token in front *before* the masking, and includes its index, 0, in the indices that are kept. The encoder
# returns thirteen tokens, as it should, and in training the loss falls. But the reconstructions are poor.


# %%
def embed_class_first(encoder, images, mask):
    """Tokens ``b t d``: the class token in front, then masking; the class token is always kept."""
    tokens = encoder.project(patchify(images, 4)) + encoder.positions[1:]
    first = (encoder.class_token + encoder.positions[:1]).expand(len(images), -1, -1)
    keep = torch.cat([torch.zeros_like(mask.keep[:, :1]), mask.keep], dim=1)
    return take(torch.cat([first, tokens], dim=1), keep)


def encode_class_first(images, mask):
    """The blocks and the norm are unchanged."""
    x = embed_class_first(encoder, images, mask)
    for block in encoder.blocks:
        x = block(x)
    return encoder.norm(x)


shifted = influence(encode_class_first, one, one_mask)

# %% mystnb={"image": {"alt": "Two 7 by 7 maps. Left: the twelve visible patches. Right: the patches that change the colleague's latent; they form the same pattern, moved by one patch to the left. Patches at the left edge have moved to the right edge of the row above."}}
plots.place_maps(
    {"visible patches": visible_map.numpy(), "influence, the colleague's": shifted.numpy()},
    [None, None],
    label="visible = 1; influence, largest = 1",
)

# %% [markdown]
# *Figure 4.8: the visible patches, and the influence of each patch on the colleague's latent (image, mask and weights of Figure 4.2).*
#
# Compare the two maps, patch by patch. What has happened to the pattern? And why does no test of shapes find the bug?
#
# <details><summary>Diagnosis</summary>
#
# The pattern has moved by one patch to the left. Patches at the left edge have moved to the end of the row above. With the class token in
# front, patch `i` is token `i + 1`, but the mask still numbers the patches from 0. So each index from 1 on selects the patch *before* the
# intended one. If patch 0 is kept, its index selects the class token, which is then taken twice. So the encoder sees hidden patches and
# misses visible ones, and the decoder adds a wrong position to each visible token.
#
# The shapes are right: 1 + 12 tokens. The fix is `mask.keep + 1` for the patches. It is better to mask first and to add the class token
# afterwards, because then no index needs correcting.
# </details>

# %% tags=["nbval-check-output"]
seen = set(shifted.flatten().nonzero()[:, 0].tolist())
print(f"{len(seen & set(one_mask.masked[0].tolist()))} hidden patches change the colleague's latent")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert encode_class_first(images, mask).shape == encoder(images, mask).shape
assert seen == {i - 1 for i in one_mask.keep[0].tolist() if i > 0}

# %% [markdown]
# **4 ★★★ A test for leaks.** Write the test that finds this bug. `encode(patches, mask)` returns a latent for the patches `1 n values` of
# one image. Return the indices of the *hidden* patches that change this latent, as a sorted list. For a correct encoder, the list is empty.
#
# <details><summary>Hint</summary>
#
# Change one hidden patch at a time, in a fresh `patches.clone()`, and compare the latents with `torch.equal`.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch04-ex4", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def leaks(encode, patches, mask):
    """Indices of the hidden patches whose values change the latent, sorted."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch04_leaks(leaks)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*
# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_leaks(encode, patches, mask):
    """Indices of the hidden patches whose values change the latent, sorted."""
    before, found = encode(patches, mask), []
    for i in mask.masked[0].tolist():
        changed = patches.clone()
        changed[:, i] += torch.randn(patches.shape[-1])
        if not torch.equal(encode(changed, mask), before):
            found.append(i)
    return sorted(found)


check.ch04_leaks(solution_leaks)

# %% [markdown]
# ## Summary
#
# The encoder projects only the visible patches, adds the position of each, puts the class token in front, and runs its blocks on t = 1 + k
# tokens. Hidden patches cannot influence its output. At the paper's image size, the cost of a block is almost linear in t, so processing a
# quarter of the tokens takes about a quarter of the operations. Mask tokens in the encoder make a forward pass of the whole model 3.23
# times as expensive for ViT-L with 75 % masked, and they make the features worse.
#
# ## Five questions
#
# 1. How many tokens does the encoder see for an image of 224 × 224 pixels, with patches of 16 × 16 and 75 % masked?
# <details><summary>Answer</summary>50: 49 of 196 patches, and the class token.</details>
#
# 2. Why is the class token added after the masking?
# <details><summary>Answer</summary>The class token can then never be masked, and the indices of the mask are indices of patches, with
# no shift by one.</details>
#
# 3. The cost of attention is quadratic in the number of tokens. Why does processing a quarter of the tokens take more than a sixteenth of
#    the work?
# <details><summary>Answer</summary>Only the t² part is quadratic, and its share is t / (6d + t): 3 % for ViT-L at 197 tokens. The other matrix products treat each token separately, so
# their cost is linear in t.</details>
#
# 4. With mask tokens, the encoder sees about four times as many tokens as without them. Why does a forward pass of the whole model cost
#    only 3.23 times as much for ViT-L?
# <details><summary>Answer</summary>The decoder sees all tokens in both cases, so the cost of its blocks does not change.</details>
#
# 5. Why do mask tokens in the encoder hurt linear probing so much more than fine-tuning (Table 1c)?
# <details><summary>Answer</summary>Fine-tuning can still adapt the encoder to images without mask tokens. Linear probing must use the features as they are.</details>
#
# Next: [05 · Filling the blanks](05_filling_the_blanks.ipynb). The encoder has seen a quarter of the image. The decoder predicts the rest.

# %% [markdown]
# ## Appendix
#
# ### Parameters
#
# The mask does not change the number of parameters: the same weights serve any number of tokens. The functions below compute the number of
# parameters from the size of the model.


# %% jupyter={"source_hidden": true} tags=["package:minimae.model.sizes", "hide-input"]
def block_parameters(d: int, mlp_ratio: int = 4) -> int:
    """Weights and biases of one block: qkv, projection, two MLP layers, two norms."""
    return (4 + 2 * mlp_ratio) * d * d + (9 + mlp_ratio) * d


def parameters(s: Size) -> tuple[int, int]:
    """Parameters of the encoder (learned), and of encoder and decoder (with both tables of fixed positions; Table 2, Section 4)."""
    n, d = s.grid[0] * s.grid[1], s.decoder_width
    encoder = s.depth * block_parameters(s.width, s.mlp_ratio) + s.width * (s.values + 1) + (2 + s.class_tokens) * s.width
    decoder = s.decoder_depth * block_parameters(d) + d * (s.width + 1) + d + 2 * d + s.values * (d + 1)
    return encoder, encoder + decoder + (1 + n) * (s.width + d)

# %% [markdown]
# The next cell prints the numbers of parameters for four sizes. The folded cell after it checks the numbers for the encoders: it builds
# each encoder on PyTorch's `meta` device, where tensors have shapes but no contents, and counts its parameters.

# %% tags=["nbval-check-output"]
for name in ("nano", "base", "large", "huge"):
    encoders, both = parameters(size(name))
    print(f"{name:6} encoder {encoders:12,}   with decoder and positions {both:12,}")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
for name in ("nano", "base", "large", "huge"):
    with torch.device("meta"):
        built = vit.Encoder(size(name)).parameters()
    assert sum(p.numel() for p in built if p.requires_grad) == parameters(size(name))[0]
