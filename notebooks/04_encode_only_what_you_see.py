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
# **The promise.** You build the encoder of the paper, which never touches a hidden patch, and show what that saves: first on paper,
# then with a clock.
#
# Minutes: 40. Needs: chapters 01 to 03.
#
# When you are through, you can
#
# - build the tokens of the visible patches, each with the address of its own place;
# - say why the class token joins after the masking, and what goes wrong if it comes before;
# - count the operations of a transformer block in your head;
# - say what mask tokens in the encoder cost, in work and in quality;
# - test whether an encoder peeps.

# %% tags=["install", "remove-cell"]
import os
from importlib.util import find_spec

from IPython import get_ipython

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: with models this small, a second thread mostly waits
if find_spec("minimae") is None:  # on Colab and Binder
    get_ipython().run_line_magic("pip", "install -q 'minimae[book] @ git+https://github.com/minimae/minimae'")

# %% tags=["setup"]
from dataclasses import dataclass
from statistics import median
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
# The last chapter found two things. A token carries its place with it, and a block does not care how many tokens there are or in which
# order. So an encoder that is to ignore hidden patches needs no trick: **do not give them to it**.
#
# A small example. Six patches with one number each; the projection makes two numbers of it, patch and zero; the addresses of the six
# places are (0, 10), (0, 20) and so on. The mask keeps patches 4 and 1, in this order.

# %%
patches = torch.tensor([[[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]]])
addresses = torch.tensor([[0.0, 10.0 * (i + 1)] for i in range(6)])
keep = torch.tensor([[4, 1]])


def project(patches):
    """One number → two: the patch, and zero."""
    return torch.cat([patches, torch.zeros_like(patches)], dim=-1)


# %% [markdown]
# By hand: patch 4 holds 5 and sits at address 50, patch 1 holds 2 and sits at 20. So the tokens must be (5, 50) and (2, 20).

# %% tags=["nbval-check-output"]
visible = project(take(patches, keep)) + take(addresses, keep)
print(tuple(visible.shape), visible[0].tolist())

# %% [markdown]
# Take the patches, take the addresses *with the same indices*, add. It would be just as right to project all six and take then; but
# then four would have been projected for nothing. `take` comes from chapter 02, and works for a table that the whole batch shares, too.

# %%
assert torch.equal(visible, take(project(patches) + addresses, keep))

# %% [markdown]
# ### The class token
#
# One more token goes along. It belongs to no patch: it is a learned vector that begins the same for every picture, looks at all the
# others, and can sum them up. It is called the **class token**, because classifiers read their answer from it. It has no place, so its
# address is zeros. And it joins **after** the masking, at the front. So nobody has to protect it from being masked, and the indices of
# the mask stay indices of patches.
#
# Thus `t = 1 + k`: here 1 + 12 of 49.

# %%
clothes = data.load("fashion", "test")
boots = clothes.subset((clothes.labels == 9).nonzero()[:8, 0])
images = normalise(boots.pixels, clothes.statistics)
mask = make_mask(boots.ids, grid=(7, 7), ratio=0.75, seed=0)

# %% mystnb={"image": {"alt": "Left: an ankle boot, faint, with twelve of its 49 patches in full strength and framed. Right: a row of thirteen tokens. The first is the class token, without a number. The other twelve are the framed patches in shuffled order, each with its number and its row and column beneath."}}
plots.visible_tokens(plots.as_picture(images[0], clothes.statistics), mask.keep[0].tolist(), (7, 7))

# %% [markdown]
# *Figure 4.1: what goes into the encoder (a test photograph of Fashion-MNIST, mask of seed 0). Thirteen tokens. The 37 hidden patches
# are not there at all, not even as blanks.*

# %% [markdown]
# ## The encoder
#
# Here it is, whole. It is longer than other cells, but you have met nearly every line. Read `embed` first: it is the small example from
# above, and the class token. `forward` then runs the blocks.
#
# Three things are new.
#
# - `mask=None` means that nothing is hidden: the whole picture is encoded, in image order. After pre-training the encoder is used like
# this.
# - `mask_tokens=True` is the opposite idea: hidden places *are* given to the encoder, as one learned vector plus their address. It is
# here so that we can measure why that is a bad idea.
# - `features` returns the tokens after *every* block. Whoever wants to look inside needs no hooks.


# %% tags=["package:minimae.model.vit"]
class Encoder(nn.Module):
    """Patches in, latent tokens out: images ``b c (h p1) (w p2)`` → ``b t d``.

    The class token joins after masking and has a zero position. Positions are fixed sine-cosine values; they are
    resized bicubically for an image of another size. Drop path grows linearly over the blocks up to ``drop``.
    ``mask_tokens=True`` feeds the masked places as learned tokens (the ablation of Table 1c).
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
        """Give the first block a drop path of 0, the last one ``probability``, and those between a value on the line."""
        for i, block in enumerate(self.blocks):
            block.drop = probability * i / max(1, len(self.blocks) - 1)  # type: ignore[assignment]

    def positions_for(self, grid: Pair) -> Tensor:
        """The positions ``(1 + n) d`` for a grid: as they are, or resized."""
        return resize_positions(self.positions, self.size.grid, grid)

    def embed(self, images: Tensor, mask: Mask | None = None) -> Tensor:
        """Images → tokens ``b t d`` before the first block. Only what the mask keeps is projected."""
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
torch.manual_seed(0)
encoder = Encoder(size("nano"))
print("visible only   ", tuple(encoder(images, mask).shape))
print("with mask tokens", tuple(Encoder(size("nano"), mask_tokens=True)(images, mask).shape))
print("no mask        ", tuple(encoder(images).shape))
print("features       ", len(encoder.features(images, mask)), "blocks, each", tuple(encoder.features(images, mask)[0].shape))

# %% [markdown]
# Three facts that follow from the last chapter. No mask is the same as a mask that hides nothing. The order of `keep` does not matter:
# the same patches in another order give the same tokens in another order. And the last feature, normed, is the output.

# %%
nothing_hidden = Mask(torch.arange(49).expand(8, 49), torch.empty(8, 0, dtype=torch.int64))
backwards = Mask(mask.keep.flip(1), mask.masked)
with torch.no_grad():
    latent = encoder(images, mask)
    assert torch.allclose(encoder(images, nothing_hidden), encoder(images), atol=1e-5)
    assert torch.allclose(encoder(images, backwards)[:, 1:], latent[:, 1:].flip(1), atol=1e-5)
    assert torch.allclose(encoder.norm(encoder.features(images, mask)[-1]), latent, atol=1e-6)

# %% [markdown]
# And it does not mind the size of the picture. Twice as wide, 7 × 14 patches: the addresses are stretched, as in chapter 03.

# %% tags=["nbval-check-output"]
print(tuple(encoder(torch.cat([images, images], dim=3)).shape))

# %% [markdown]
# ### Does it peep?
#
# Claims like "it never touches a hidden patch" can be tested. Scribble over one patch of the picture, encode again with the same mask,
# and see how much the result changes. Do so for each of the 49 patches.


# %%
def scribble_on(image, place):
    """The image ``1 c height width`` with random pixels in one patch."""
    patches = patchify(image, 4)
    patches[:, place] = torch.randn(16, generator=torch.Generator().manual_seed(place))
    return unpatchify(patches, 4, (7, 7))


@torch.no_grad()
def influence(encode, image, mask):
    """How much each patch moves the latent: ``h w``, the largest is 1."""
    before = encode(image, mask)
    moved = torch.stack([(encode(scribble_on(image, i), mask) - before).abs().max() for i in range(49)])
    return (moved / moved.max()).reshape(7, 7)


one, one_mask = images[:1], Mask(mask.keep[:1], mask.masked[:1])
moves = influence(encoder, one, one_mask)
is_visible = 1 - one_mask.binary.reshape(7, 7)

# %%
assert (moves[is_visible == 0] == 0).all() and (moves[is_visible == 1] > 0).all()

# %% mystnb={"image": {"alt": "Two 7 by 7 maps. On the left the twelve visible patches are bright. On the right the influence of each patch: the same twelve patches light up, more or less brightly, and all others are exactly zero."}}
plots.place_maps(
    {"visible patches": is_visible.numpy(), "influence of each patch": moves.numpy()},
    [None, None],
    label="visible = 1; influence, largest = 1",
)

# %% [markdown]
# *Figure 4.2: left, what the mask shows; right, what moves the latent (untrained nano encoder, seed 0). Hidden patches move it by
# exactly zero, not by a little. Keep this picture in mind for the lab.*

# %% [markdown]
# ## What it saves, on paper
#
# The paper's picture has 224 × 224 pixels, cut into 14 × 14 = 196 patches. At 75 % only 49 of them go in. What is that worth?
#
# Multiplying a matrix of `t × d` by one of `d × d` takes t·d·d multiplications and as many additions: **2·t·d² operations**. In a block
#
# | part | matrices | operations |
# |---|---|---|
# | queries, keys, values | 3 of d × d | 6·t·d² |
# | out | 1 of d × d | 2·t·d² |
# | MLP | d × 4d and 4d × d | 16·t·d² |
# | scores q·k | t × t dot products of length d (all heads together) | 2·t²·d |
# | mixing the values | the same again | 2·t²·d |
#
# Together **24·t·d² + 4·t²·d**. Norms, softmax and GELU are left out; they are small. By hand for t = 2, d = 1: 48 + 16 = 64.


# %% tags=["package:minimae.model.sizes"]
def block_flops(t: int, d: int, *, mlp_ratio: int = 4, queries: int | None = None) -> int:
    """One transformer block on t tokens of width d: 24·t·d² + 4·t²·d when every token asks and the MLP is 4 wide."""
    q = t if queries is None else queries
    return 4 * t * d * d + (4 + 4 * mlp_ratio) * q * d * d + 4 * q * t * d


# %% [markdown]
# PyTorch can count what really runs. Both must agree to the last operation.

# %%
with FlopCounterMode(display=False) as counter:
    q, k, v = encoder.blocks[0].attention.split(torch.randn(1, 13, 96))
    encoder.blocks[0].attention.out(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2))
    encoder.blocks[0].mlp(torch.randn(1, 13, 96))
assert counter.get_total_flops() == block_flops(13, 96) and block_flops(2, 1) == 64

# %% [markdown]
# ### A quarter, or a sixteenth?
#
# Everybody knows that attention is quadratic. So should 50 tokens instead of 197, a quarter, not cost a *sixteenth*? Only the t² part does. Its
# share is 4t²d / (24td² + 4t²d) = **t / (6d + t)**. With 224 pixels and patches of 16 there are t = 197 tokens, and ViT-L is d = 1024
# wide: 197 / 6341 = 3 %. The other 97 % are linear in t.

# %%
counts = [2**i for i in range(4, 17)]
shares = {f"{name} (d = {d})": [100 * t / (6 * d + t) for t in counts] for name, d in (("ViT-B", 768), ("ViT-L", 1024), ("ViT-H", 1280))}
assert abs(100 * 4 * 197**2 * 1024 / block_flops(197, 1024) - 100 * 197 / 6341) < 1e-9

# %% mystnb={"image": {"alt": "Share of the t-squared part in a block's operations against the number of tokens, logarithmic, for three widths. At 50 and 197 tokens the curves lie near zero; at 4097 tokens they are between 35 and 47 percent; they reach one half at about five to eight thousand tokens."}}
plots.attention_share(counts, shares, {"50: 224 px / 16, 75 % masked": 50, "197: 224 px / 16": 197, "4097: 1024 px / 16": 4097})

# %% [markdown]
# *Figure 4.3: how much of a block is quadratic. At the paper's size hardly anything: a quarter of the tokens is a quarter of the work.
# In detection, with pictures of 1024 pixels, it is another matter.*
#
# Now the whole model. Beside the encoder's blocks there are the decoder, which is built in the next chapter and always sees all tokens,
# the projection of the patches, and two small products around the decoder. A training step is forward and backward; backward costs
# twice as much as forward, except that no gradient flows into the pixels.


# %% tags=["package:minimae.model.sizes"]
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
        """Forward and backward. No gradient flows into the pixels: three forwards less one patch projection."""
        return 3 * self.forward - self.projection


# %% tags=["package:minimae.model.sizes"]
def flops(s: Size, ratio: float | None = 0.75, *, mask_tokens_in_encoder: bool = False, paper: bool = False) -> Flops:
    """What one pre-training image costs.

    With ``paper=True`` as the authors lay it out: every patch is projected and predicted. Otherwise as this package computes it:
    only visible patches are projected, only masked ones predicted, and only they ask in the last decoder block.
    ``ratio=None`` is the encoder alone on the whole image (features, probing); the decoder then costs nothing.
    """
    n = s.grid[0] * s.grid[1]
    keep = n if ratio is None else keep_count(n, ratio)
    t = s.class_tokens + (n if mask_tokens_in_encoder else keep)
    projected = n if paper else keep
    encoder = s.depth * block_flops(t, s.width, mlp_ratio=s.mlp_ratio)
    projection = 2 * projected * s.values * s.width
    if ratio is None:
        return Flops(encoder, 0, projection, 0)
    predicted = n if paper else n - keep
    queries = None if paper else n - keep
    d, every = s.decoder_width, s.class_tokens + n
    decoder = (s.decoder_depth - 1) * block_flops(every, d) + block_flops(every, d, queries=queries)
    return Flops(encoder, decoder, projection, 2 * t * s.width * d + 2 * predicted * d * s.values)


# %% [markdown]
# The paper's ViT-L, 75 % hidden. How many times as much does a whole forward pass (encoder *and* decoder) cost if the hidden places go
# through the encoder as mask tokens? The encoder alone would be about four times as dear.

# %%
book.predict(
    "mask-tokens-cost", 4, ask="ViT-L, 75 % masked: by which factor do mask tokens in the encoder raise the cost of a forward pass?"
)

# %%
large = [flops(size("large"), paper=True, mask_tokens_in_encoder=with_them).forward for with_them in (False, True)]
factor = large[1] / large[0]
assert 3.2 < factor < 3.3 and round(factor, 2) == 3.23

blocks = [24 * block_flops(k, 1024) + 8 * block_flops(196, 512) for k in (49, 196)]  # nothing but blocks, no class token
assert round(blocks[1] / blocks[0], 2) == 3.29

# %% mystnb={"image": {"alt": "Two marks on one scale: the reader's guess of 4 and the computed factor, 3.23."}}
book.reveal("mask-tokens-cost", round(factor, 2), unit="times")

# %% [markdown]
# *Figure 4.4: your guess and the computed factor. It is less than four because the decoder costs the same either way.*


# %%
def parts(name, with_them):
    """Billions of operations of a forward pass: the encoder with the projection of the patches, the decoder with its two products."""
    cost = flops(size(name), paper=True, mask_tokens_in_encoder=with_them)
    return {"encoder": (cost.encoder + cost.projection) / 1e9, "decoder": (cost.decoder + cost.other) / 1e9}


names = {"base": "ViT-B", "large": "ViT-L", "huge": "ViT-H"}
costs = {f"{names[name]}, {'with mask tokens' if w else 'visible only'}": parts(name, w) for name in names for w in (False, True)}

# %% mystnb={"image": {"alt": "Six horizontal bars of operations in billions. ViT-B 19.6 and 46.0, ViT-L 41.5 and 134.0, ViT-H 97.1 and 349.1, each visible only and with mask tokens. The decoder's part is the same in all, except for ViT-H's smaller patches. For ViT-B with visible patches only it is larger than the encoder's."}}
plots.cost_bars(costs, unit="billion operations of a forward pass (224 px, 75 % masked)")

# %% [markdown]
# *Figure 4.5: counted, not measured, as the paper lays it out (`paper=True`). The larger the encoder, the more it saves. For ViT-B the
# "lightweight" decoder does more work than the encoder: it is smaller per token, but sees four times as many.*
#
# > **Paper.** Table 1c: with mask tokens in the encoder, ViT-L reaches 84.2 % fine-tuned and **59.6 %** in linear probing, at 3.3 ×
# > the operations. Without them 84.9 % and **73.5 %**. We count 3.23 for all products, and 3.29 for the blocks alone without the
# > class token; the paper does not say what it counts. Our package deviates in doing less: it projects only visible patches,
# > predicts only hidden ones, and lets only those ask in the last decoder block. All three leave the loss as it is.
#
# So mask tokens cost three times as much *and do harm*. Why? In pre-training, three quarters of what such an encoder sees are blanks.
# Afterwards it is given real pictures, in which there is not one blank. It has spent its life preparing for a world that does not come.
# Take the blanks out, and pre-training looks like the real thing.

# %% [markdown]
# ### Parameters
#
# Does the mask change the number of parameters? No: the same weights serve any number of tokens. They are counted as easily.


# %% tags=["package:minimae.model.sizes"]
def block_parameters(d: int, mlp_ratio: int = 4) -> int:
    """Weights and biases of one block: qkv, projection, two MLP layers, two norms."""
    return (4 + 2 * mlp_ratio) * d * d + (9 + mlp_ratio) * d


def parameters(s: Size) -> tuple[int, int]:
    """Learned parameters of the encoder, and of encoder and decoder with both tables of fixed positions (Table 2, Section 4)."""
    n, d = s.grid[0] * s.grid[1], s.decoder_width
    encoder = s.depth * block_parameters(s.width, s.mlp_ratio) + s.width * (s.values + 1) + (2 + s.class_tokens) * s.width
    decoder = s.decoder_depth * block_parameters(d) + d * (s.width + 1) + d + 2 * d + s.values * (d + 1)
    return encoder, encoder + decoder + (1 + n) * (s.width + d)


# %% [markdown]
# Counted from the formula, and from a model that is built without memory (`device("meta")`), so that ViT-H fits on any machine:

# %% tags=["nbval-check-output"]
for name in ("nano", "base", "large", "huge"):
    with torch.device("meta"):
        built = sum(p.numel() for p in Encoder(size(name)).parameters() if p.requires_grad)
    assert built == parameters(size(name))[0]
    print(f"{name:6} encoder {built:12,}   with decoder and positions {parameters(size(name))[1]:12,}")

# %% [markdown]
# ### Where this lives
#
# `minimae.Encoder` is in `minimae/model/vit.py`; the counting is in `minimae/model/sizes.py`. Word for word.

# %%
theirs = vit.Encoder(size("nano"))
theirs.load_state_dict(encoder.state_dict())
with torch.no_grad():
    assert torch.equal(theirs(images, mask), encoder(images, mask))
for name in sizes.SIZES:
    assert vars(flops(size(name))) == vars(sizes.flops(size(name))) and parameters(size(name)) == sizes.parameters(size(name))
assert block_flops(50, 1024) == sizes.block_flops(50, 1024)

# %% [markdown]
# ## What it saves, by the clock
#
# Operations on paper are not seconds. Small matrices use a processor badly, and reading memory takes time as well. So let us measure:
# an encoder of the *small* width (384) with three blocks, pictures of 56 × 56 cut into 4 × 4, hence n = 196 patches as in the paper.
#
# First your guess. Encoding a whole picture takes 100. Sketch the time for 10 %, 25 %, 50 %, 75 % and 100 % of the patches, without
# mask tokens.

# %%
book.predict(
    "time-by-kept", [5, 12, 35, 65, 100], ask="Time to encode 10, 25, 50, 75 and 100 % of the patches, if the whole picture takes 100?"
)

# %% [markdown]
# Timing needs care. One run says little: other programs get in between. So each setting is timed several times, the settings take
# turns, so that a slow moment hits all of them alike, and the median is taken. The first round warms up and does not count.

# %%
clocked = size("small", depth=3, patch=4, image=56)
models = {"visible only": Encoder(clocked).eval(), "with mask tokens": Encoder(clocked, mask_tokens=True).eval()}
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
torch.set_num_threads(1)  # with many threads such small products measure the threads
rounds = [{(name, ratio): seconds(models[name], masks[ratio]) for ratio in ratios for name in models} for _ in range(10)]
torch.set_num_threads(threads)
typical = {key: median(one[key] for one in rounds[1:]) for key in rounds[0]}

# %%
whole = typical["visible only", None]
kept = [196 if ratio is None else keep_count(196, ratio) for ratio in ratios]
measured = {name: [typical[name, ratio] / whole for ratio in ratios] for name in models}
assert measured["visible only"][1] < 0.6 and measured["with mask tokens"][1] > 1.5 * measured["visible only"][1]

# %% mystnb={"image": {"alt": "Two curves against the share of kept patches: the reader's sketch, and the measured time in percent, which rises almost in a straight line from a little above 10 to 100."}}
book.reveal("time-by-kept", [round(100 * x) for x in measured["visible only"]], unit="time (whole picture = 100)",
            x=[10, 25, 50, 75, 100], xlabel="patches kept (%)")  # fmt: skip

# %% [markdown]
# *Figure 4.6: your sketch and the measured times (kept patches in percent).*


# %%
def counted(with_them):
    """Operations of the encoder and its projection, whole image = 1."""
    costs = [flops(clocked, ratio, mask_tokens_in_encoder=with_them) for ratio in ratios]
    return [(cost.encoder + cost.projection) / (costs[-1].encoder + costs[-1].projection) for cost in costs]


operations = {"visible only": counted(False), "with mask tokens": counted(True)}

# %% mystnb={"image": {"alt": "Time against kept patches, whole image equal to one. Visible only: measured dots rise almost in a straight line from between 0.1 and 0.2 at 20 kept patches to 1 at 196, a little above the dashed line of counted operations. With mask tokens: flat at about 1 throughout. At 49 kept patches the two differ by a factor between three and four."}}
plots.time_against_tokens(kept, measured, operations, mark=49)

# %% [markdown]
# *Figure 4.7: measured time of the encoder against kept patches, with and without mask tokens (three blocks of width 384, 2 random
# pictures of 196 patches, forward only, processor with one thread, float32; median of 9 interleaved rounds; the whole picture takes 1).
# Your machine gives other seconds, and much the same curves. Dashed: counted operations.*
#
# This is the picture to remember. With mask tokens it does not matter how much you hide: the time is that of the whole picture. Without
# them, time goes down with what is kept, and the clock stays close to the count on paper (a little above it, since small matrices keep
# a processor less busy). That is what makes 1600 epochs of pre-training affordable.
#
# > **Paper.** Table 2, 800 epochs on 128 TPU-v3 cores: ViT-L with mask tokens in the encoder 42.4 hours, without 15.4 hours (2.8 ×).
# > The paper measures training with the decoder; we measure the encoder's forward pass alone, so our factor is larger.

# %% [markdown]
# ## Break-it lab: thirteen tokens, and yet
#
# A colleague prefers to put the class token in front first, "because then all tokens are made in one place". It must not be masked, of
# course, so its index, 0, is added to the list of those that are kept. Thirteen tokens come out, as they should. The loss falls. The
# paintings are poor.


# %%
def embed_class_first(encoder, images, mask):
    """Tokens ``b t d``: the class token in front, then masking; the class token is always kept."""
    tokens = encoder.project(patchify(images, 4)) + encoder.positions[1:]
    first = (encoder.class_token + encoder.positions[:1]).expand(len(images), -1, -1)
    keep = torch.cat([torch.zeros_like(mask.keep[:, :1]), mask.keep], dim=1)
    return take(torch.cat([first, tokens], dim=1), keep)


def encode_class_first(images, mask):
    """The rest is as it was."""
    x = embed_class_first(encoder, images, mask)
    for block in encoder.blocks:
        x = block(x)
    return encoder.norm(x)


assert encode_class_first(images, mask).shape == encoder(images, mask).shape
peeps = influence(encode_class_first, one, one_mask)

# %% mystnb={"image": {"alt": "Two 7 by 7 maps. Left: the twelve visible patches. Right: the patches that move the colleague's latent; they make the same pattern, moved by one patch to the left. A patch at the left edge has gone to the right edge of the row above."}}
plots.place_maps(
    {"visible patches": is_visible.numpy(), "influence, the colleague's": peeps.numpy()},
    [None, None],
    label="visible = 1; influence, largest = 1",
)

# %% [markdown]
# *Figure 4.8: what the mask shows, and what moves the colleague's latent (the same picture, mask and weights as in Figure 4.2).*
#
# Compare the two maps, patch by patch. What has happened to the pattern? And why can no check of shapes find it?
#
# <details><summary>Diagnosis</summary>
#
# The pattern has moved by one patch to the left (and from the left edge to the end of the row above). With the class token in front,
# patch `i` is token `i + 1`; but the mask still counts patches. So each index takes the patch *before* the one it means. Hidden patches
# are seen, visible ones are not, and the decoder paints under wrong assumptions about both. If patch 0 is among the kept, the class
# token even comes twice.
#
# The shapes are right: 1 + 12 tokens. The remedy is `mask.keep + 1` for the patches. The better remedy is the order of the package:
# mask first, then let the class token join. Then there is no index that needs correcting.
# </details>

# %%
seen = set(peeps.flatten().nonzero()[:, 0].tolist())
assert seen == {i - 1 for i in one_mask.keep[0].tolist() if i > 0}
print(f"{len(seen & set(one_mask.masked[0].tolist()))} hidden patches reach the latent")

# %% [markdown]
# ## Exercises
#
# **1 ★ How much cheaper?** A picture of `n` patches, of which `k` are visible; blocks of width `d`. By which factor is a block cheaper
# on the visible patches than on all? You may use `block_flops`. Do not forget who joins.


# %% nbgrader={"grade": false, "grade_id": "ch04-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def times_cheaper(n, k, d):
    """Operations of a block on all patches, divided by those on the visible ones."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch04_times_cheaper(times_cheaper)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_times_cheaper(n, k, d):
    """Operations of a block on all patches, divided by those on the visible ones."""
    return block_flops(1 + n, d) / block_flops(1 + k, d)


check.ch04_times_cheaper(solution_times_cheaper)

# %% [markdown]
# **2 ★★ Tokens of visible patches.** Build them yourself, class token included. `project` is a function from patches to `d` numbers,
# `positions` a table `(1 + n) d` whose first row belongs to the class token. Project only what is visible. `take` may help.


# %% nbgrader={"grade": false, "grade_id": "ch04-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def embed_visible(patches, keep, project, positions, class_token):
    """patches `b n values`, keep `b k`, class_token `1 1 d` → tokens `b (1 + k) d`, the class token first."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch04_embed_visible(embed_visible)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_embed_visible(patches, keep, project, positions, class_token):
    """patches `b n values`, keep `b k`, class_token `1 1 d` → tokens `b (1 + k) d`, the class token first."""
    tokens = project(take(patches, keep)) + take(positions[1:], keep)
    in_front = (class_token + positions[:1]).expand(len(patches), -1, -1)
    return torch.cat([in_front, tokens], dim=1)


check.ch04_embed_visible(solution_embed_visible)

# %% [markdown]
# **3 ★★ When is attention to blame?** How many tokens does it take until the t² part makes up the share `share` (between 0 and 1) of a
# block of width `d`? Solve t / (6d + t) = share for t.


# %% nbgrader={"grade": false, "grade_id": "ch04-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def tokens_for_share(share, d):
    """The number of tokens (a float will do) at which the t² part is this share of the operations."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch04_tokens_for_share(tokens_for_share)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_tokens_for_share(share, d):
    """The number of tokens (a float will do) at which the t² part is this share of the operations."""
    return 6 * d * share / (1 - share)


check.ch04_tokens_for_share(solution_tokens_for_share)

# %% [markdown]
# **4 ★★★ A detector of peepers.** `encode(patches, mask)` returns a latent for patches `1 n values`. Return the *hidden* patches that
# reach it, as a sorted list of their indices. An honest encoder gives an empty list.


# %% nbgrader={"grade": false, "grade_id": "ch04-ex4", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def leaks(encode, patches, mask):
    """Indices of the hidden patches whose values change the latent, sorted."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch04_leaks(leaks)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

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
# The encoder projects the visible patches only, adds the address of each, lets the class token join, and runs its blocks on t = 1 + k
# tokens. Hidden patches cannot influence it, and a scribble proves that. At the paper's size a block is linear in t for all practical
# purposes, so a quarter of the tokens is about a quarter of the work, on paper and by the clock. Mask tokens in the encoder would cost
# 3.23 times as much for ViT-L, and they make the features worse, because there are none in real pictures.
#
# ## Five questions
#
# 1. How many tokens does the encoder see at 224 pixels, patches of 16 and 75 % masked?
# <details><summary>Answer</summary>50: 49 of 196 patches, and the class token.</details>
#
# 2. Why does the class token join after the masking?
# <details><summary>Answer</summary>So that it can never be masked, and so that the indices of the mask are indices of patches, with no shift by one.</details>
#
# 3. Attention is quadratic. Why is a quarter of the tokens not a sixteenth of the work?
# <details><summary>Answer</summary>Only the t² part is quadratic, and its share is t / (6d + t): 3 % for ViT-L at 197 tokens. The matrices d × d work on each token alone.</details>
#
# 4. The encoder alone would be four times as dear with mask tokens. Why is the factor only 3.23?
# <details><summary>Answer</summary>The decoder, and the projection of the patches as the paper counts it, cost the same in both cases.</details>
#
# 5. Why do mask tokens in the encoder hurt linear probing so much more than fine-tuning (Table 1c)?
# <details><summary>Answer</summary>Fine-tuning can still adapt the encoder to pictures without blanks. Linear probing has to take the features as they are.</details>
#
# Next: [05 · Filling the blanks](05_filling_the_blanks.ipynb) The encoder has seen a quarter of the picture. Somebody has to paint the
# rest.
