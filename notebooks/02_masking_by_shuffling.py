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
# # 02 · Masking by shuffling
#
# **The promise.** You hide three quarters of a picture with one sort, get every patch back to its place, and can say of any image in any
# epoch which patches are hidden, without having drawn a single mask before it.
#
# Minutes: 45. Needs: chapter 01.
#
# When you are through, you can
#
# - mask six patches with pencil and paper: sort, cut, put back;
# - say why every image of a batch keeps the same number of patches, and round that number as everybody does;
# - give a random number an address, so that a mask belongs to its image and not to its batch;
# - build random, block and grid masks, and masks of your own;
# - explain with a measurement why so much is hidden.

# %% tags=["install", "remove-cell"]
import os
from importlib.util import find_spec

from IPython import get_ipython

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: with models this small, a second thread mostly waits
if find_spec("minimae") is None:  # on Colab and Binder
    get_ipython().run_line_magic("pip", "install -q 'minimae[book] @ git+https://github.com/minimae/minimae'")

# %% tags=["setup"]
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import minimae_book as book
import torch
from einops import rearrange
from minimae_book import check
from minimae_book import figures as plots
from torch import Tensor
from torch.nn.functional import interpolate

import minimae
from minimae import data, patchify, unpatchify
from minimae.data.photos import photograph, photos
from minimae.model.patches import Pair, pair

# %% [markdown]
# ## Six patches, by hand
#
# A picture of two rows and three columns: six patches, numbered 0 to 5. Two of them may be seen. Which two? All pairs should be equally
# likely. We could write the six numbers on cards, shuffle, and keep the upper two.
#
# A computer shuffles in the same way: it gives each card a random number, and sorts the cards by it. Take a pencil and do it.
#
# | patch | 0 | 1 | 2 | 3 | 4 | 5 |
# |---|---|---|---|---|---|---|
# | noise | 0.35 | 0.20 | 0.81 | 0.94 | 0.08 | 0.57 |
#
# 1. **Sort.** The smallest number belongs to patch 4, the next to patch 1, then 0, 5, 2, 3. The list 4, 1, 0, 5, 2, 3 is the *order*.
# 2. **Cut.** The first two are kept: 4 and 1. The other four are masked: 0, 5, 2, 3.
# 3. **Put back.** Ask each patch where in the row it sits. Patch 0: at place 2. Patch 1: at place 1. Patch 2: at place 4. And so on: 2, 1,
#    4, 5, 0, 3. This list is called *restore*.
#
# `argsort` does the first step. It does the third one too. Why? The order, read as numbers, is 4, 1, 0, 5, 2, 3. Sort *those*: the smallest,
# 0, sits at place 2; the next, 1, at place 1. That is exactly what restore asks for.

# %%
noise = torch.tensor([0.35, 0.20, 0.81, 0.94, 0.08, 0.57])
order = noise.argsort()
keep, masked, restore = order[:2], order[2:], order.argsort()

# %% tags=["nbval-check-output"]
print("order  :", order.tolist())
print("keep   :", keep.tolist(), "  masked:", masked.tolist())
print("restore:", restore.tolist())
print("order[restore]:", order[restore].tolist())

# %% mystnb={"image": {"alt": "Three rows of six numbered boxes. First row: patches 0 to 5 in image order, each with a bar for its noise. Second row: the same patches sorted by their noise, 4, 1, 0, 5, 2, 3, with a dashed cut after the first two, which are blue. Third row: image order again. Lines follow every patch from row to row and cross."}}
plots.crossing_lines(noise.numpy(), 2)

# %% [markdown]
# *Figure 2.1: a permutation as crossing lines. From the first row to the second: sort by the noise, and cut. From the second to the third:
# restore. Each line that crosses another on the way down crosses it again. Blue is kept.*
#
# The lower half is the upper half in a mirror. That is what an **inverse** is: sorting, undone. Keep this picture. Everything that follows
# in this chapter is about where the numbers come from, and where the cut is made.
#
# Now a photograph, sixteen patches, four kept.


# %%
def square(name: str, left: int, side: int = 224) -> Tensor:
    """A square of a photograph, as high as the photograph: `1 c height width` in [0, 1]."""
    whole = photograph(name).permute(2, 0, 1)[None].float() / 255
    cut = whole[..., left : left + whole.shape[2]]
    return interpolate(cut, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)


cat = square("chelsea", left=70)
pieces = patchify(square("chelsea", left=70, side=96), 24).unflatten(-1, (24, 24, 3))[0]
dice = torch.rand(16, generator=torch.Generator().manual_seed(12))
assert pieces.shape == (16, 24, 24, 3)

# %% mystnb={"image": {"alt": "The same three rows for sixteen pieces of a photograph of a cat. In the second row four pieces stand left of the cut in full colour and twelve pale ones right of it. In the third row all pieces are in image order again, the four kept ones in colour at their own places."}}
plots.crossing_lines(dice.numpy(), 4, pieces.numpy())

# %% [markdown]
# *Figure 2.2: the cat Chelsea (scikit-image, photographed by Stéfan van der Walt, CC0) in 16 patches, 75 % masked (seed 12). Masked patches
# are drawn pale. The encoder of chapter 04 gets what stands left of the cut, and nothing else.*

# %% [markdown]
# ## A mask is two lists
#
# So this is all there is to a mask: the kept patches `b k`, and the masked patches `b m`, one row for each image of a batch. Both stay in
# the order of the shuffle; nobody needs them sorted. Everything else follows from the two, so we compute it when it is asked for.


# %% tags=["package:minimae.model.masking"]
@dataclass(frozen=True, eq=False)
class Mask:
    """Which patches are seen and which are not: keep `b k` and masked `b m`, in the order of the shuffle."""

    keep: Tensor
    masked: Tensor

    @property
    def n(self) -> int:
        """Number of patches in an image."""
        return self.keep.shape[1] + self.masked.shape[1]

    @property
    def restore(self) -> Tensor:
        """`b n`: where each patch of the image sits in the shuffled order [kept | masked]."""
        return torch.cat([self.keep, self.masked], dim=1).argsort(dim=1)

    @property
    def binary(self) -> Tensor:
        """float32 `b n` in image order: 1 removed, 0 kept."""
        ones = torch.ones_like(self.masked, dtype=torch.float32)
        return torch.zeros(len(ones), self.n, device=ones.device).scatter(1, self.masked, ones)

    def to(self, device: torch.device | str) -> Mask:
        """The same mask on another device."""
        return Mask(self.keep.to(device), self.masked.to(device))


def mask_from_noise(noise: Tensor, keep: int) -> Mask:
    """Sort the noise `b n`; the patches with the `keep` smallest numbers stay."""
    order = noise.float().argsort(dim=1, stable=True)
    return Mask(order[:, :keep], order[:, keep:])


# %% [markdown]
# In the binary form **1 means removed**. That is the convention of the paper's code and of this book. Other libraries have it the other
# way round: look before you hand a mask over.
#
# Why `.float()` in front of the sort? Under mixed precision (chapter 07) somebody may hand over half-precision noise. Between 0.5 and 1
# it knows 1,024 different numbers only, so among 196 patches some are almost surely equal. Then it is the sort that decides between them,
# and not chance. So the noise is *drawn* in float32; the cast here cannot bring lost bits back, it only keeps the sort the same on every
# device. Ties in float32 are rare, and `stable=True` gives them to the lower patch number, everywhere.
#
# With a list of indices we can pick tokens. One index list per image, one row of the tensor per index:


# %% tags=["package:minimae.model.masking"]
def take(tokens: Tensor, index: Tensor) -> Tensor:
    """Pick tokens `b n d` by index `b k` → `b k d`; or from one table `n d` shared by the batch → `b k d`."""
    b, k = index.shape
    if tokens.dim() == 3:  # one flat row index is a plain copy of rows, faster than gather on every device
        index = index + tokens.shape[1] * torch.arange(b, device=index.device)[:, None]
        tokens = tokens.flatten(0, 1)
    return tokens.index_select(0, index.flatten()).unflatten(0, (b, k))


# %% [markdown]
# The trick in the middle: lay all images end to end, so that patch 3 of image 2 is row 2·n + 3, and copy rows. Here it is on a batch of six
# garments, with the noise of `torch.rand`. (We shall be unhappy with `torch.rand` soon.)

# %%
clothes = data.load("fashion", "test").balanced_subset(6, seed=1)
garments = clothes.pixels.float() / 255
tokens = patchify(garments, 4)
mask = mask_from_noise(torch.rand(6, 49, generator=torch.Generator().manual_seed(0)), keep=12)
visible = take(tokens, mask.keep)
shuffled = torch.cat([visible, take(tokens, mask.masked)], dim=1)
assert torch.equal(take(shuffled, mask.restore), tokens)
assert torch.equal(visible, tokens.gather(1, mask.keep[:, :, None].expand(-1, -1, 16)))

# %% tags=["nbval-check-output"]
print("all patches  b n d :", tuple(tokens.shape))
print("visible      b k d :", tuple(visible.shape))
print("binary         b n :", tuple(mask.binary.shape), "  removed:", mask.binary.sum(1).int().tolist())

# %%
gap = torch.full((49 - 12, 16), 0.85)
packed = torch.cat([visible, gap.expand(6, -1, -1)], dim=1)
hidden = torch.where(mask.binary[:, :, None] > 0, 0.85, tokens)
drawn = [[unpatchify(x, 4, (7, 7))[i, 0, :, :, None].expand(-1, -1, 3) for i in range(6)] for x in (tokens, hidden, packed)]

# %% mystnb={"image": {"alt": "Three rows of six pictures. First row: six garments. Second row: the same with 37 of 49 patches grey, at other places in each. Third row: the 12 visible patches of each garment pushed together at the top, in the order of the shuffle."}}
plots.picture_table(drawn, rows=("all patches", "where they are", "what is kept"))

# %% [markdown]
# *Figure 2.3: six test photographs of Fashion-MNIST, 75 % of 49 patches masked. Each has a mask of its own; all keep 12 patches. Lowest
# row: the tensor `visible`, as it really is. Nothing in it says where a patch comes from; that is the business of positions (chapter 03).*

# %% [markdown]
# ## How many are kept?
#
# 75 % of 196 patches are hidden, so 49 stay. Easy. But 75 % of 18? Or of 49? Then $n\,(1 - r)$ is no whole number, and somebody has to
# round. Much code says `int(n * (1 - ratio))`. Look what that does at 90 %.

# %% tags=["nbval-check-output"]
for n in (10, 100, 200):
    print(f"{n} patches, 90 % masked: n·(1 − ratio) = {n * (1 - 0.9)!r}, and int() of it is {int(n * (1 - 0.9))}")

# %% [markdown]
# Ten patches, 90 % masked, and *nothing* is kept. The number 0.9 has no exact form in binary, the product is a hair below 1, and `int`
# cuts the hair off together with the 1. There is no error. The encoder gets an empty list and trains on it.
#
# `round` is better, but it rounds halves to the *even* side: 4.5 becomes 4 and 5.5 becomes 6. We round halves up, always. And a mask that
# hides all or nothing is a mistake that should be told.


# %% tags=["package:minimae.model.masking"]
def keep_count(n: int, ratio: float) -> int:
    """How many of n patches stay visible at a mask ratio in (0, 1): n·(1 − ratio), rounded half up."""
    if not 0 < ratio < 1:
        percent = f"; did you mean {ratio / 100:g}?" if 1 < ratio < 100 else ""
        raise ValueError(f"mask ratio must lie between 0 and 1 (0.75 in the paper), not {ratio}{percent}")
    keep = math.floor(round(n * (1 - ratio), 6) + 0.5)  # the inner round undoes 10 · (1 − 0.9) = 0.99…98
    if not 1 <= keep < n:
        raise ValueError(
            f"a mask ratio of {ratio} keeps {keep} of {n} patches; at least one must be kept and one masked: "
            f"choose a ratio between {0.5 / n:.3g} and {1 - 0.5 / n:.3g}, or smaller patches"
        )
    return keep


# %% tags=["nbval-check-output"]
for n, ratio in ((196, 0.75), (256, 0.75), (49, 0.75), (18, 0.75), (10, 0.9)):
    print(f"{n:3d} patches, {100 * ratio:.0f} % masked: {keep_count(n, ratio)} kept  (int: {int(n * (1 - ratio))})")
try:
    keep_count(4, 0.9)
except ValueError as error:
    print(error)

# %%
sizes = range(6, 61)
ways = {"int(n * (1 - ratio))": [int(n * (1 - 0.9)) for n in sizes], "keep_count(n, ratio)": [keep_count(n, 0.9) for n in sizes]}
assert all(abs(kept - 0.1 * n) <= 0.5 + 1e-9 for n, kept in zip(sizes, ways["keep_count(n, ratio)"]))

# %% mystnb={"image": {"alt": "Kept patches against patches in the image at 90 percent masked. Blue dots, the rounded count, are steps around the grey line of ten percent. Orange crosses, the truncated count, are steps that lie below the line nearly everywhere; up to 10 patches they are at zero."}}
plots.kept_counts(list(sizes), 0.9, ways)

# %% [markdown]
# *Figure 2.4: kept patches at a mask ratio of 90 %. Where a cross lies at 0, an image would show nothing at all. The truncated count is too
# small nearly everywhere, and even at 10, 20, 30, …, where the true count is whole (computed, no data).*
#
# At the sizes of the paper both agree: 49 of 196 (ViT-B and ViT-L), 64 of 256 (ViT-H). So the mistake sleeps until somebody changes the
# ratio.

# %% [markdown]
# ## Why do all images keep the same number?
#
# There is a simpler way to hide 75 %: for each patch, toss a coin that says "keep" one time in four. On average 49 of 196 are kept. But a
# batch is one tensor, `b k d`, and it has *one* `k`. If images keep different numbers, they must be padded, or taken one by one. And
# 75 % of the work is saved only if nothing is padded.
#
# So how often would the coin keep exactly 49? **Guess: in what share of the images (in %)?**

# %%
book.predict("coin-exact", 25, ask="196 patches, each kept with chance 1/4: in how many % of the images are exactly 49 kept?")

# %%
coins = (torch.rand(20_000, 196, generator=torch.Generator().manual_seed(1)) < 0.25).sum(1)
exactly = math.comb(196, 49) * 0.25**49 * 0.75**147
assert abs((coins == 49).float().mean().item() - exactly) < 0.01

# %% mystnb={"image": {"alt": "Two marks on one scale: the reader's guess of 25 percent, and the true share of 6.6 percent."}}
book.reveal("coin-exact", round(100 * exactly, 1), unit="% of the images keep exactly 49")

# %% [markdown]
# *Figure 2.5: your guess, and the share from the binomial distribution.*

# %% mystnb={"image": {"alt": "A histogram of how many patches an image keeps when coins decide: a bell from about 31 to 68, with one bar, exactly 49, in blue at under 7 percent."}}
plots.coins_or_sorting(coins.numpy(), 49)

# %% [markdown]
# *Figure 2.6: patches kept by coins, 20,000 images (seed 1). Sorting puts every image into the blue bar.*
#
# That two images in a row agree is rare enough; a batch of 4,096 that agrees does not exist. Sorting gives an exact count, no loop, no
# padding, and each set of 49 patches is as likely as any other. Statisticians call it *sampling without replacement*; the paper says
# "following a uniform distribution".

# %% [markdown]
# ## Noise with an address
#
# Where should the noise come from? `torch.rand` hands out numbers one after another, like tickets from a roll. Which number you get
# depends on who stood before you. Let us follow one image, number 7, through three batches, with the same seed.

# %%
batches = ([5, 6, 7, 8], [2, 7, 9], [4, 1, 0, 7, 3])


def from_a_roll(ids: list[int], epoch: int) -> Tensor:
    """Noise for a batch, `b n`, from a generator: epoch after epoch, image after image."""
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(len(ids), 16, generator=generator) for _ in range(epoch + 1)][epoch]


def masks_of_seven(draw: Callable[[list[int], int], Tensor]) -> Tensor:
    """The mask of image 7 in each batch (rows) and epoch (columns): `batches epochs 4 4`."""
    rows = [[mask_from_noise(draw(ids, epoch), 4).binary[ids.index(7)] for epoch in range(3)] for ids in batches]
    return torch.stack([torch.stack(row) for row in rows]).unflatten(-1, (4, 4))


rolled = masks_of_seven(from_a_roll)
assert len(torch.unique(rolled.flatten(0, 1).flatten(1), dim=0)) == 9

# %% [markdown]
# Other neighbours in the batch, another mask. The same happens if the batch is larger, if a second worker loads data, if a run is stopped
# and continued. Then an experiment cannot be repeated, and two runs that should differ in one thing differ in their masks too.
#
# Better: give each number an **address**, and compute the number from the address. Not a ticket from a roll, but a house number: it is the
# same whoever comes along, and in whatever order. The address of our noise is
#
# (seed, what it is for, epoch, sample id, index of the patch).
#
# We need a function that turns an address into a number that looks random: a *hash*. Three moves do it. Fold the upper bits of a 64-bit
# number onto the lower ones (shift, exclusive or); multiply by a large odd number, so that low bits reach the high ones; repeat. The
# constants are those of SplitMix64, a well-tested generator.


# %% tags=["package:minimae.random"]
STREAMS = {"mask": 1, "crop": 2, "flip": 3, "order": 4, "shapes": 5, "split": 6, "step": 7, "photos": 8}

_GOLDEN = -7046029254386353131  # 2^64 / golden ratio, as a signed 64-bit integer
_MIX = (-4658895280553007687, -7723592293110705685)  # the two multipliers of the SplitMix64 finaliser


def _finalise(x: Tensor) -> Tensor:
    """SplitMix64's mixing of 64 bits; int64 products wrap, and `>>` is masked into a logical shift."""
    x = (x ^ ((x >> 30) & 0x3_FFFF_FFFF)) * _MIX[0]
    x = (x ^ ((x >> 27) & 0x1F_FFFF_FFFF)) * _MIX[1]
    return x ^ ((x >> 31) & 0x1_FFFF_FFFF)


# %% [markdown]
# What makes a hash good? Change one bit of the address, and each bit of the result should change with chance one half. Of 64 bits, 32 on
# average. We try all 64 bits of 200 numbers.

# %%
numbers = torch.arange(200)
flipped = [_finalise(numbers) ^ _finalise(numbers ^ (1 << bit if bit < 63 else -(1 << 63))) for bit in range(64)]
changed = torch.stack([torch.stack([(x >> i) & 1 for i in range(64)]).sum(0) for x in flipped]).double()

# %% tags=["nbval-check-output"]
print(f"bits that change, on average: {changed.mean():.1f} of 64")

# %% [markdown]
# Now mix in the address, part by part: the parts that a batch shares first (seed, use, epoch), then the sample id, then the patch.


# %% tags=["package:minimae.random"]
def hash_bits(seed: int, stream: str, epoch: int | Tensor, ids: Tensor, count: int) -> Tensor:
    """64 hashed bits for each sample id and index: ids `b` → int64 `b count`, on the device of `ids`."""
    if stream not in STREAMS:
        raise ValueError(f"unknown random stream {stream!r}; known: {', '.join(STREAMS)}")
    key = torch.zeros((), dtype=torch.int64, device=ids.device)
    for part in (seed, STREAMS[stream], epoch):
        key = _finalise((key ^ part) + _GOLDEN)
    rows = _finalise((key ^ ids.to(torch.int64)) + _GOLDEN)
    index = torch.arange(count, device=ids.device, dtype=torch.int64)
    return _finalise((rows[:, None] ^ index) + _GOLDEN)


def uniforms(seed: int, stream: str, epoch: int | Tensor, ids: Tensor, count: int) -> Tensor:
    """Uniform float32 numbers in [0, 1): ids `b` → `b count`."""
    top = (hash_bits(seed, stream, epoch, ids, count) >> 40) & 0xFF_FFFF
    return top.to(torch.float32) * 2.0**-24


# %% [markdown]
# A float32 has room for 24 random bits, so we take the upper 24. The *stream* keeps uses apart: the mask of an image must not tell where
# the same image was cropped.

# %%
addressed = masks_of_seven(lambda ids, epoch: uniforms(3, "mask", epoch, torch.tensor(ids), 16))
assert torch.equal(addressed[0], addressed[1]) and torch.equal(addressed[0], addressed[2])
assert not torch.equal(addressed[0, 0], addressed[0, 1])
one = uniforms(0, "mask", 3, torch.tensor([7]), 16)
assert torch.equal(one[0], uniforms(0, "mask", 3, torch.arange(100), 16)[7])

# %% mystnb={"image": {"alt": "Two tables of small masks of image 7; rows are three batches that hold it, columns are epochs 0 to 2. Left, from torch.rand: nine different masks. Right, from addressed noise: in each column the three masks are equal, and the columns differ."}}
plots.mask_table(
    {"noise from a roll: torch.rand": rolled.numpy(), "noise with an address: uniforms": addressed.numpy()},
    rows=[f"batch {', '.join(map(str, ids))}" for ids in batches],
    columns=[f"epoch {epoch}" for epoch in range(3)],
)

# %% [markdown]
# *Figure 2.7: the mask of image 7 (blue is visible, 4 of 16 patches) in three batches and three epochs, seed 3. Right: the mask depends on
# the epoch, and on nothing else that changes. Nothing was drawn before; epoch 2 needs no epoch 1.*
#
# Why not simply put `torch.Generator().manual_seed(seed + epoch + sample_id)` to work, one for each image? It is slow, and it has a trap.
# In epoch 0 image 5 gets the mask that image 4 gets in epoch 1, and image 3 in epoch 2.


# %%
def added_up(epoch: int, sample: int) -> Tensor:
    """The mask `4 4` from a generator that is seeded with epoch + sample id."""
    noise = torch.rand(1, 16, generator=torch.Generator().manual_seed(epoch + sample))
    return mask_from_noise(noise, 4).binary.unflatten(1, (4, 4))[0]


sums = torch.stack([torch.stack([added_up(epoch, sample) for sample in range(3, 8)]) for epoch in range(3)])
ours = torch.stack([mask_from_noise(uniforms(0, "mask", e, torch.arange(3, 8), 16), 4).binary.unflatten(1, (4, 4)) for e in range(3)])
assert torch.equal(sums[0, 2], sums[1, 1]) and len(torch.unique(ours.flatten(0, 1).flatten(1), dim=0)) == 15

# %% mystnb={"image": {"alt": "Two tables of small masks, rows are epochs 0 to 2, columns are images 3 to 7. Left, seeded with epoch plus id: the masks along each diagonal are equal, and one diagonal is framed in orange. Right, hashed: all fifteen masks differ."}}
names = [f"image {sample}" for sample in range(3, 8)]
plots.mask_table(
    {"seeded with epoch + id": sums.numpy(), "hashed": ours.numpy()},
    rows=[f"epoch {epoch}" for epoch in range(3)],
    columns=names,
    frames={"seeded with epoch + id": {(0, 2): plots.ORANGE, (1, 1): plots.ORANGE, (2, 0): plots.ORANGE}},
)

# %% [markdown]
# *Figure 2.8: masks of five images in three epochs (4 of 16 patches visible). Left: the framed ones are equal, and so is every other
# diagonal. Right: fifteen different masks.*
#
# The hash mixes after each part, so (epoch 0, image 5) and (epoch 1, image 4) have nothing in common. The same function also shuffles the
# images of an epoch. Chapter 07 uses it.


# %% tags=["package:minimae.random"]
def permutation(seed: int, stream: str, epoch: int, length: int) -> Tensor:
    """A shuffled `arange(length)` that depends on (seed, stream, epoch) alone."""
    ids = torch.arange(length)
    return hash_bits(seed, stream, epoch, ids, 1)[:, 0].argsort(stable=True)


# %% tags=["nbval-check-output"]
print("images of epoch 0:", permutation(0, "order", 0, 8).tolist())
print("images of epoch 1:", permutation(0, "order", 1, 8).tolist())

# %% [markdown]
# ## Is every patch kept equally often?
#
# A hash that is a little bad would prefer some patches. So we count. 12 of 49 patches are kept, so each one should be kept in 24.5 % of the
# masks. Once over 20,000 images in one epoch, once over 20,000 epochs of one image. Chance alone lets the shares scatter a little: 95 of
# 100 should fall into a band that we can compute.

# %%
many = torch.arange(20_000)
over_images = uniforms(0, "mask", 0, many, 49)
over_epochs = uniforms(0, "mask", many, torch.full_like(many, 7), 49)
shares = {
    name: 100 * (1 - mask_from_noise(noise, 12).binary).mean(0).unflatten(0, (7, 7)).numpy()
    for name, noise in (("20,000 images, epoch 0", over_images), ("image 7, 20,000 epochs", over_epochs))
}
assert all(abs(share - 100 * 12 / 49).max() < 1.5 for share in shares.values())

# %% mystnb={"image": {"alt": "Two maps of 7 by 7 patches, both of one even colour, with histograms below: all 49 shares lie close to 24.5 percent, nearly all within the grey band that chance allows."}}
plots.how_often_kept(shares, 100 * 12 / 49, images=20_000)

# %% [markdown]
# *Figure 2.9: how often each of 49 patches is kept, in % (seed 0). Orange: 12 / 49. Grey band: where chance leaves 95 of 100 patches. An even
# colour is what we want to see.*

# %% [markdown]
# ## Three samplers
#
# *Random* is what we have built: the noise decides.


# %% tags=["package:minimae.model.masking"]
def random_mask(noise: Tensor, grid: Pair, ratio: float) -> Mask:
    """Uniform sampling without replacement, from one number per patch (noise `b n`). The paper's default."""
    return mask_from_noise(noise[:, : grid[0] * grid[1]], keep_count(grid[0] * grid[1], ratio))


# %% [markdown]
# The paper compares it with two others (Figure 6). *Grid* keeps one patch of every four, regularly, like every second house in every second
# street. How do we get a regular mask out of a sort? By adding 1 to the noise of every patch that is *not* on the lattice. Noise is below
# 1, so patches on the lattice come first in any case, and the noise only decides among equals. If the lattice has too few points or too
# many, the cut falls among the others, or among them. The count is exact, always.


# %% tags=["package:minimae.model.masking"]
def grid_mask(noise: Tensor, grid: Pair, ratio: float) -> Mask:
    """Keep one patch of every s×s, on a regular lattice; s is 2 for 75 % and below. noise `b (n + 1)`."""
    w, n = grid[1], grid[0] * grid[1]
    stride = max(2, round((1 - ratio) ** -0.5))  # a stride of 1 would be random sampling
    shift = (noise[:, n] * stride**2).long()[:, None]
    index = torch.arange(n, device=noise.device)[None]
    on_lattice = (index // w % stride == shift // stride) & (index % w % stride == shift % stride)
    return mask_from_noise(noise[:, :n] + (~on_lattice), keep_count(n, ratio))


# %% [markdown]
# The one extra number of each image shifts the lattice.
#
# *Block* removes large rectangles, until enough is gone. Each rectangle takes four random numbers: how large, how tall against its width, and
# where. The next one falls wherever it falls, perhaps over the last. Here the sort is used once more: we note for each patch *in which
# turn* it was covered first. Patches covered early are removed first. Those that no rectangle met have the highest turn and are kept
# first. The noise decides inside one rectangle, and so trims the last one to the exact count.


# %% tags=["package:minimae.model.masking"]
BLOCKS = 32  # rectangles tried by block_mask; what they leave open is filled patch by patch


def block_mask(noise: Tensor, grid: Pair, ratio: float) -> Mask:
    """Large rectangles are removed until the ratio is reached. noise `b (n + 4·BLOCKS)`."""
    (h, w), n = grid, grid[0] * grid[1]
    ties, boxes = noise[:, :n], rearrange(noise[:, n:], "b (rounds four) -> rounds four b", four=4)
    to_mask = n - keep_count(n, ratio)
    row = torch.arange(h, device=noise.device)[None, :, None]
    column = torch.arange(w, device=noise.device)[None, None, :]
    turn = noise.new_full((len(noise), h, w), float(BLOCKS))  # which rectangle covered a patch first
    for i, (area, aspect, top, left) in enumerate(boxes):
        open_ = (to_mask - (turn < BLOCKS).sum((1, 2))).clamp(min=0).float()
        size = 0.08 * n + area * (open_ - 0.08 * n).clamp(min=0)
        ratio_hw = torch.exp((2 * aspect - 1) * math.log(1 / 0.3))
        tall = (size * ratio_hw).sqrt().round().clamp(1, h)
        wide = (size / ratio_hw).sqrt().round().clamp(1, w)
        r0, c0 = (top * (h - tall + 1)).floor(), (left * (w - wide + 1)).floor()
        tall, wide, r0, c0, more = (v[:, None, None] for v in (tall, wide, r0, c0, open_ > 0))
        inside = (row >= r0) & (row < r0 + tall) & (column >= c0) & (column < c0 + wide) & more
        turn = torch.where(inside & (turn == BLOCKS), float(i), turn)
    return mask_from_noise(-(rearrange(turn, "b h w -> b (h w)") + ties), n - to_mask)


# %% [markdown]
# The loop goes over rectangles, not over images: all images of the batch lay their `i`-th rectangle at once. That keeps it fast, and it
# keeps the mask a function of the image's own numbers.
#
# One function for all three. It knows how many numbers each sampler needs, fetches them by address, and that is the whole of masking.


# %% tags=["package:minimae.model.masking"]
SAMPLERS: dict[str, Callable[[Tensor, Pair, float], Mask]] = {
    "random": random_mask,
    "block": block_mask,
    "grid": grid_mask,
}


def make_mask(ids: Tensor, grid: Pair, *, ratio: float = 0.75, sampling: str = "random", seed: int = 0, epoch: int | Tensor = 0) -> Mask:
    """The mask of each sample id `b` in an epoch: a pure function of (seed, epoch, sample id)."""
    if sampling not in SAMPLERS:
        raise ValueError(f"unknown sampling {sampling!r}; choose one of {', '.join(SAMPLERS)}")
    n = grid[0] * grid[1]
    extra = {"random": 0, "block": 4 * BLOCKS, "grid": 1}[sampling]
    return SAMPLERS[sampling](uniforms(seed, "mask", epoch, ids, n + extra), grid, ratio)


# %%
settings = [("random", 0.75), ("block", 0.5), ("block", 0.75), ("grid", 0.75)]
below = {}
for sample in (0, 1):
    for sampling, ratio in settings:
        one = make_mask(torch.tensor([sample]), (14, 14), ratio=ratio, sampling=sampling)
        title = f"{sampling}, {100 * ratio:.0f} %, id {sample}\n{one.keep.shape[1]} of 196 kept"
        below[title] = one.binary.unflatten(1, (14, 14))[0].numpy()

# %% tags=["nbval-check-output"]
for (sampling, ratio), shown in zip(settings, below.values()):
    print(f"{sampling} {100 * ratio:.0f} %: {int((shown == 0).sum())} of 196 kept")

# %% mystnb={"image": {"alt": "A photograph of a cat under eight masks, two rows of four. Random 75 percent: visible patches strewn evenly. Block 50 percent and block 75 percent: large rectangles are missing, the rest is whole. Grid 75 percent: a regular lattice of single patches. The kept counts are 49, 98, 49 and 49."}}
plots.under_masks(cat[0].permute(1, 2, 0).numpy(), below)

# %% [markdown]
# *Figure 2.10: the same photograph under the four settings of the paper's Table 1f, for two sample ids (seed 0, epoch 0, patches of 16 × 16
# pixels). Squint: under grid you still see a cat, coarse; under block you see half a cat, sharp.*
#
# Random and grid treat all patches alike. Does block?

# %%
kept_by = {}
for sampling in SAMPLERS:
    binary = make_mask(torch.arange(4_000), (14, 14), sampling=sampling).binary
    kept_by[f"{sampling}, 75 %"] = 100 * (1 - binary).mean(0).unflatten(0, (14, 14)).numpy()
assert kept_by["block, 75 %"][0, 0] > 1.5 * kept_by["block, 75 %"][7, 7]

# %% mystnb={"image": {"alt": "Three maps of 14 by 14 patches with histograms. Random and grid: an even colour around 25 percent. Block: corners are kept far more often than a quarter of the time and the middle is kept far less."}}
plots.how_often_kept(kept_by, 25.0, images=4_000)

# %% [markdown]
# *Figure 2.11: how often each of 196 patches is kept, 4,000 images (seed 0, epoch 0). A rectangle that must lie inside the picture covers
# the middle more often than a corner.*
#
# With block masks at 75 % the encoder sees a corner in five images of six, and the middle, where things tend to be, in about one of fifty.
# (Under grid a whole lattice comes or goes at once. There are four of them, so chance shows as a faint pattern.)

# %% [markdown]
# ## Where this lives
#
# The noise is `minimae/random.py`, the masks are `minimae/model/masking.py`: the cells above, statement for statement.

# %%
ids = torch.tensor([3, 1, 4, 1, 5, 926])
for sampling in SAMPLERS:
    for grid, ratio in (((14, 14), 0.75), ((7, 7), 0.6), ((3, 5), 0.5)):
        here = make_mask(ids, grid, ratio=ratio, sampling=sampling, seed=2, epoch=9)
        there = minimae.make_mask(ids, grid, ratio=ratio, sampling=sampling, seed=2, epoch=9)
        assert torch.equal(here.keep, there.keep) and torch.equal(here.masked, there.masked)
        assert torch.equal(here.restore, there.restore) and torch.equal(here.binary, there.binary)
assert torch.equal(take(tokens, mask.keep), minimae.take(tokens, mask.keep))
assert torch.equal(uniforms(2, "mask", 9, ids, 49), minimae.uniforms(2, "mask", 9, ids, 49))
assert torch.equal(permutation(0, "order", 3, 50), minimae.random.permutation(0, "order", 3, 50))

# %% [markdown]
# ## Your own mask
#
# Sometimes you want to say yourself what is hidden: a face, the left half, what a painter has left out. Then you have zeros and ones, for
# each patch or for each pixel. A patch is removed if *any* of its pixels is: what you have painted over must not be seen. Last, the ones
# and zeros are used as noise! Sorted, the zeros come first. The same cut, for the fourth time.


# %% tags=["package:minimae.model.masking"]
def user_mask(removed: Tensor, grid: Pair, *, patch: int | Pair | None = None) -> Mask:
    """Your own mask, 1 or True is removed: per patch `b n` or `b h w`, or per pixel `b (h p1) (w p2)` when `patch` is given."""
    (h, w), given = grid, tuple(removed.shape)
    if not bool(((removed == 0) | (removed == 1)).all()):
        raise ValueError("a mask holds 0 (kept) and 1 (removed) only; threshold yours first, for example mask > 0.5")
    if patch is not None:
        p1, p2 = pair(patch)
        if removed.dim() != 3 or given[1:] != (h * p1, w * p2):
            raise ValueError(f"a pixel mask for a {h}×{w} grid of {p1}×{p2} patches is b {h * p1} {w * p2}, not {given}")
        removed = rearrange(removed.bool(), "b (h p1) (w p2) -> b (h w) (p1 p2)", p1=p1, p2=p2).any(-1)
    elif removed.dim() == 3 and given[1:] == (h, w):
        removed = rearrange(removed, "b h w -> b (h w)")
    elif removed.dim() != 2 or given[1] != h * w:
        raise ValueError(f"a patch mask for a {h}×{w} grid is b {h} {w} or b {h * w}, not {given}; for pixels give patch=")
    counts = (~removed.bool()).sum(1)
    if counts.unique().numel() != 1:
        i = int((counts != counts[0]).nonzero()[0])
        raise ValueError(
            f"image {i} keeps {int(counts[i])} patches and image 0 keeps {int(counts[0])}: images of one batch must keep "
            "the same number; pass them in batches of equal count, or one by one"
        )
    k = int(counts[0])
    if not 1 <= k < h * w:
        raise ValueError(f"this mask keeps {k} of {h * w} patches; keep at least one and mask at least one, or pass mask=None")
    return mask_from_noise(removed.float(), k)


# %% [markdown]
# Four lines of work, and the rest are sentences for people in a hurry. Let us hide the cat's eyes.

# %%
y, x = torch.meshgrid(torch.arange(224), torch.arange(224), indexing="ij")
eyes = ((x - 80) ** 2 + (y - 84) ** 2 < 28**2) | ((x - 190) ** 2 + (y - 101) ** 2 < 24**2)
blindfold = user_mask(eyes[None], (14, 14), patch=16)
assert torch.equal(blindfold.keep, minimae.user_mask(eyes[None], (14, 14), patch=16).keep)

# %% tags=["nbval-check-output"]
print("pixels removed:", int(eyes.sum()), "  patches removed:", blindfold.masked.shape[1], "of", blindfold.n)
try:
    user_mask(torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0]]), (2, 2))
except ValueError as error:
    print(error)

# %% mystnb={"image": {"alt": "Two pictures of a cat. Left: an orange disc over each eye, and white frames around all patches that the discs touch. Right: those patches are grey."}}
plots.pixels_to_patches(
    cat[0].permute(1, 2, 0).numpy(), eyes.numpy(), blindfold.binary.unflatten(1, (14, 14))[0].numpy(), patch=16
)

# %% [markdown]
# *Figure 2.12: from painted pixels to removed patches. A patch that is touched by one pixel goes as a whole.*

# %% [markdown]
# ## Why so much?
#
# Language models hide 15 % of the words, and that is hard enough. Pictures repeat themselves. A hidden patch of fur between patches of fur
# is no riddle: average the neighbours. If that is enough, a network will learn to average neighbours, and nothing else.
#
# How far does averaging get? We build the most simple-minded painter there is. It has never seen a picture and learns nothing. Each hidden
# pixel becomes a weighted mean of all *visible* pixels, with weight 1 / distance⁴, so near ones count most. As a yardstick we take a painter
# that is duller still and paints everything hidden in one colour: the mean of what is visible. Error 100 means: no better than that.

# %%
crops = photos("test", image=56, count=140).pixels.float() / 255
places = torch.cartesian_prod(torch.arange(56.0), torch.arange(56.0))
weight = torch.cdist(places, places).clamp(min=1) ** -4


def averaged(images: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
    """Hidden pixels filled from visible ones by distance, and the error: `b c height width`, and % of painting one colour."""
    patches = mask.binary[:, :, None].expand(-1, -1, 16)
    hidden = unpatchify(patches, 4, (14, 14)).flatten(1)[:, None]
    seen, pixels = 1 - hidden, images.flatten(2)
    near = ((pixels * seen) @ weight) / (seen @ weight)
    flat = (pixels * seen).sum(-1, keepdim=True) / seen.sum(-1, keepdim=True)
    error = ((near - pixels).square() * hidden).sum() / ((flat - pixels).square() * hidden).sum()
    return torch.where(hidden > 0, near, pixels).unflatten(-1, (56, 56)), 100 * error


# %% [markdown]
# The data: 140 crops of photographs, each 56 × 56 pixels, cut into 14 × 14 patches of 4 × 4, so 196 as in the paper. **Sketch the curve: the
# error of averaging with random masks, at 10, 25, 50, 75, 90 and 95 % hidden.** 0 is perfect, 100 is one flat colour.

# %%
shares_hidden = [10, 25, 50, 75, 90, 95]
book.predict("averaging", [5, 10, 30, 70, 90, 95], ask="Error of averaging (100 = one colour) at 10, 25, 50, 75, 90, 95 % hidden?")

# %%
errors: dict[str, list[float]] = {}
for sampling in SAMPLERS:
    for percent in shares_hidden:
        hiding = make_mask(torch.arange(140), (14, 14), ratio=percent / 100, sampling=sampling)
        errors.setdefault(sampling, []).append(averaged(crops, hiding)[1].item())
assert all(a < b for a, b in zip(errors["random"], errors["random"][1:]))
assert errors["grid"][3] < errors["random"][3] < errors["block"][3] and errors["random"][1] < 25

# %% mystnb={"image": {"alt": "Two curves of error against the share hidden: the reader's sketch, and the measured one, which starts near 17, reaches about 35 at 75 percent and about 72 at 95 percent."}}
book.reveal("averaging", [round(error, 1) for error in errors["random"]], unit="error (100 = one colour)",
            x=shares_hidden, xlabel="hidden patches (%)")  # fmt: skip

# %% [markdown]
# *Figure 2.13: your sketch, and the measured error of averaging under random masks, against hidden patches in % (140 crops from the test
# parts of seven photographs, mask seed 0).*
#
# With 10 % or 25 % hidden, five sixths of what there is to know about a hidden patch stand right beside it. At 75 % the painter without a
# brain makes twice the error, and from there the curve turns up. Somewhere there copying ceases to be a good answer. Now the samplers.

# %% mystnb={"image": {"alt": "Three curves of error against the share hidden. Block lies highest at every share, near 70 at 75 percent. Random rises from 17 to 35 at 75 percent and 72 at 95. Grid is like random at small shares, but stays at about 26 at 75 percent, and rises steeply after that."}}
plots.curves(
    {name: (shares_hidden, errors[name]) for name in ("block", "random", "grid")},
    x="hidden patches (%)", y="error of averaging", levels={"one flat colour": 100}, floor=0,
)  # fmt: skip

# %% [markdown]
# *Figure 2.14: the same for the three samplers. Below 75 % there is no lattice that fits, and grid adds single patches at random.*

# %%
some = [4, 19, 16]
stages = [crops]
for sampling in ("random", "block", "grid"):
    hiding = make_mask(torch.arange(140), (14, 14), sampling=sampling)
    grey = unpatchify(hiding.binary[:, :, None].expand(-1, -1, 48), 4, (14, 14))
    stages += [torch.where(grey > 0, 0.7, crops), averaged(crops, hiding)[0]]
cells = [[stage[i].permute(1, 2, 0).clamp(0, 1) for stage in stages] for i in some]

# %% mystnb={"image": {"alt": "Three crops of photographs. For each: the original; random mask and filled by averaging, a blurred but recognisable picture; block mask and filled, with large smears where the blocks were; grid mask and filled, the clearest of the three."}}
plots.picture_table(cells, columns=("original", "random 75 %", "averaged", "block 75 %", "averaged", "grid 75 %", "averaged"), width=9.2)

# %% [markdown]
# *Figure 2.15: three of the crops, 75 % hidden. The visible patches are the original's. Nothing was learned here.*
#
# Compare this with what training found (Table 1f; ViT-L, 800 epochs, accuracy on ImageNet in %):
#
# | sampling | hidden | fine-tuned | linear probe |
# |---|---|---|---|
# | random | 75 % | 84.9 | 73.5 |
# | block | 50 % | 83.9 | 72.3 |
# | block | 75 % | 82.8 | 63.9 |
# | grid | 75 % | 84.0 | 66.0 |
#
# Grid is the easy task: everything hidden has something visible next to it, averaging does well, and the network learns less. Block at 75 %
# leaves whole regions in which there is nothing to go by. Random at 75 % lies between. Too easy does not teach; nor does hopeless.
#
# One word of caution. Our painter shows how *redundant* pictures are; it does not show that 75 is the best number. (For our painter block
# at 50 % is harder than random at 90 %, and yet it teaches fairly well.) Only training can show it. The paper's Figure 5 did it (the
# linear probe rises from 54.6 at 10 % to 73.5 at 75 %, and falls to 66.1 at 90 %), and chapter 11 does it on our scale. That 75 % of the
# encoder's work is saved is a gift on top.

# %% [markdown]
# > **Paper.** Section 3, "Masking" and "Simple implementation"; Figures 5 and 6; Table 1f. The paper shuffles the list of tokens, keeps the
# > first part, and unshuffles after the encoder.
# > **Our deviation.** The noise has an address instead of coming from a generator, so masks do not depend on the batch. The kept count is
# > rounded, where much code truncates; at the paper's sizes both give 49 and 64. The shuffled tokens themselves are never made: the two lists are
# > enough. The paper does not say how the blocks are drawn beyond a reference to BEiT; ours are rectangles of at least 8 % of the patches
# > (the last one trimmed) with sides between 0.3 and 1 / 0.3.

# %% [markdown]
# ## Break it: the photograph that came back wrong
#
# A colleague has written a function that puts tokens back into image order. There is a test, too, and it passes.


# %%
def put_back(tokens: Tensor, mask: Mask) -> Tensor:
    """Tokens in the order [kept | masked] → tokens in image order. With a bug."""
    order = torch.cat([mask.keep, mask.masked], dim=1)
    return take(tokens, order)


swaps = mask_from_noise(torch.tensor([[0.2, 0.1, 0.4, 0.3]]), 2)
four = torch.tensor([10.0, 11.0, 12.0, 13.0])[None, :, None]
assert torch.equal(put_back(take(four, torch.cat([swaps.keep, swaps.masked], dim=1)), swaps), four)  # "it works"

# %%
whole = patchify(cat, 32)
shuffle = make_mask(torch.tensor([2]), (7, 7))
in_a_row = torch.cat([take(whole, shuffle.keep), take(whole, shuffle.masked)], dim=1)
returned = put_back(in_a_row, shuffle)
pictures = [unpatchify(x, 32, (7, 7))[0].permute(1, 2, 0) for x in (whole, in_a_row, returned)]
home = int((returned == whole).all(-1).sum())

# %% tags=["nbval-check-output"]
print("patches that came home:", home, "of 49")

# %% mystnb={"image": {"alt": "Three pictures of a cat in 49 patches: the original; shuffled, a mosaic of misplaced patches; and put back by the faulty function, which is a mosaic too, another one."}}
plots.picture_table([pictures], columns=("the photograph", "shuffled", "put back"), width=4.5)

# %% [markdown]
# *Figure 2.16: a photograph in 49 patches, shuffled by a mask (seed 0, sample id 2), and put back by the function above.*
#
# **What went wrong, why does the test not see it, and how do you mend it?** Draw the crossing lines of the four patches of the test, if you
# are stuck.
#
# <details><summary>Diagnosis</summary>
#
# `take(tokens, order)` shuffles a *second* time: it uses the order where its inverse is wanted. One `argsort` is missing:
# `take(tokens, order.argsort(dim=1))`, which is `take(tokens, mask.restore)`.
#
# The test swaps neighbours: order 1, 0, 3, 2. A swap undoes itself, so it is its own inverse, and both versions agree. Such a test proves
# little. Test with a permutation that is not its own inverse, the 4, 1, 0, 5, 2, 3 of this chapter, or with many random ones.
#
# A few patches do come home: those that never moved, and those that changed places in pairs. Of a random shuffle these are about two,
# however many patches there are.
# </details>
#
# The lines of our first example show it too. Below, the lower half is the upper half again, and not its mirror image.

# %% mystnb={"image": {"alt": "The three rows of Figure 2.1, but the lower lines repeat the pattern of the upper ones instead of mirroring it. The third row reads 2, 1, 4, 3, 0, 5; the three that are not at home are orange."}}
plots.crossing_lines(noise.numpy(), 2, restore=order.tolist())

# %% [markdown]
# *Figure 2.17: the example of Figure 2.1 with the order in place of restore. Orange: not at home. Patch 1 had never moved, and patches 3 and 5
# had changed places with one another; shuffled twice, these three are where they were.*

# %% [markdown]
# ## Exercises
#
# **1 ★ Undo it.** From an order (a list that says which patch sits at each place) make the list that says at which place each patch sits.
# Plain Python, no tensors.


# %% nbgrader={"grade": false, "grade_id": "ch02-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def inverse(order: list[int]) -> list[int]:
    """[4, 1, 0, 5, 2, 3] → [2, 1, 4, 5, 0, 3]"""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch02_inverse(inverse)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_inverse(order: list[int]) -> list[int]:
    """[4, 1, 0, 5, 2, 3] → [2, 1, 4, 5, 0, 3]"""
    places = [0] * len(order)
    for place, patch in enumerate(order):
        places[patch] = place
    return places


check.ch02_inverse(solution_inverse)

# %% [markdown]
# **2 ★★ Ones and zeros.** From `keep` `b k` and `n` make the binary mask `b n`: 1 where a patch is removed, 0 where it is kept. Each image has
# a list of its own. No loop over the images.


# %% nbgrader={"grade": false, "grade_id": "ch02-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def binary_of(keep: Tensor, n: int) -> Tensor:
    """Kept patches `b k` → `b n`: 1 removed, 0 kept."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch02_binary_of(binary_of)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_binary_of(keep: Tensor, n: int) -> Tensor:
    """Kept patches `b k` → `b n`: 1 removed, 0 kept."""
    return torch.ones(len(keep), n).scatter(1, keep, 0.0)


check.ch02_binary_of(solution_binary_of)

# %% [markdown]
# **3 ★★★ Four views.** At 75 % only a quarter of an image is seen. From the noise `b n` (n is a multiple of four) make a list of four
# `Mask`s, such that each patch is visible in exactly one of them. Sort each image's noise once; the first view keeps the patches with the
# smallest numbers, the last one those with the largest.


# %% nbgrader={"grade": false, "grade_id": "ch02-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def four_views(noise: Tensor) -> list[Mask]:
    """Noise `b n` → four masks that share no visible patch."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch02_four_views(four_views)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_four_views(noise: Tensor) -> list[Mask]:
    """Noise `b n` → four masks that share no visible patch."""
    quarters = noise.argsort(dim=1, stable=True).chunk(4, dim=1)
    return [Mask(quarters[i], torch.cat(quarters[:i] + quarters[i + 1 :], dim=1)) for i in range(4)]


check.ch02_four_views(solution_four_views)

# %% [markdown]
# ## Summary
#
# A random mask is a sort: give each patch a random number, sort, keep the first `k`. The inverse of the sort, one more `argsort`, puts
# everything back. Because the count is exact, a batch stays one tensor. The count is rounded, not truncated. The noise is a hash of
# (seed, use, epoch, sample id, patch), so a mask belongs to its image and its epoch, whatever the batch looks like. Block, grid and your own
# masks use the same sort with other numbers. And 75 % is hidden because pictures are redundant: hide little, and averaging neighbours will
# do.
#
# ## Five questions
#
# 1. The order is 2, 0, 1. What is restore?
# <details><summary>Answer</summary>1, 2, 0. Patch 0 sits at place 1, patch 1 at place 2, patch 2 at place 0.</details>
#
# 2. How many of 18 patches stay at 75 %, and how many does `int` keep?
# <details><summary>Answer</summary>5, because 4.5 is rounded up; int keeps 4.</details>
#
# 3. Why is a coin for each patch no good, though it hides 75 % on average?
# <details><summary>Answer</summary>Images would keep different numbers of patches, and a batch is one tensor with one k.</details>
#
# 4. A run is stopped after epoch 30 and continued. What must be saved for its masks to go on as if nothing had happened?
# <details><summary>Answer</summary>The seed and the epoch. No state of a generator: the noise is computed from its address.</details>
#
# 5. Grid masks are the easiest to fill in. Why are they not the best to train with?
# <details><summary>Answer</summary>What can be solved by averaging neighbours teaches to average neighbours. In Table 1f the linear probe
# falls from 73.5 to 66.0.</details>
#
# Next: [03 · A vision transformer](03_a_vision_transformer.ipynb), which reads the tokens that we have kept, and tells them where they come
# from.
