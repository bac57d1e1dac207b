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
# **The promise.** You hide three quarters of an image with one sort, and put every patch back with a second one. Then you show with a
# measurement that filling in hidden patches is too easy if only a few are hidden.
#
# Minutes: 30. Needs: chapter 01.
#
# After this chapter you can
#
# - mask six patches with pencil and paper: sort, cut, put back;
# - write the random masking of the paper in two lines;
# - say why every image of a batch keeps the same number of patches;
# - build random, block and grid masks, and masks of your own;
# - explain with a measurement why so many patches are hidden.

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
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import minimae_book as book
import torch
from einops import rearrange
from minimae_book import check
from minimae_book import figures as plots
from torch import Tensor
from torch.nn.functional import interpolate

import minimae
from minimae import data, keep_count, patchify, uniforms, unpatchify
from minimae.data.photos import photograph, photos
from minimae.model.patches import Pair, pair

# %% [markdown]
# ## Six patches, by hand
#
# Suppose an image has two rows and three columns of patches, numbered 0 to 5, and the model may see two of these patches. All pairs should
# be equally likely, so shuffle the patches and keep the first two.
#
# A computer can shuffle by sorting: it gives each patch a random number, the **noise**, and sorts the patches by this number. Do it with a
# pencil:
#
# | patch | 0 | 1 | 2 | 3 | 4 | 5 |
# |---|---|---|---|---|---|---|
# | noise | 0.35 | 0.20 | 0.81 | 0.94 | 0.08 | 0.57 |
#
# 1. **Sort.** Patch 4 has the smallest number; then come patches 1, 0, 5, 2, 3. The list 4, 1, 0, 5, 2, 3 is the *order*.
# 2. **Cut.** The first two patches, 4 and 1, are *kept*. The other four patches, 0, 5, 2, 3, are *masked*.
# 3. **Put back.** For each patch, write down its index in the order. Patch 0 is at index 2, patch 1 at index 1, patch 2 at index 4, and so
#    on: 2, 1, 4, 5, 0, 3. This list is called *restore*.
#
# **1 ★ Undo the sort.** Compute *restore* from the order, a list of integers. Plain Python is enough.


# %% nbgrader={"grade": false, "grade_id": "ch02-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def inverse(order: list[int]) -> list[int]:
    """[4, 1, 0, 5, 2, 3] → [2, 1, 4, 5, 0, 3]"""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch02_inverse(inverse)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*
# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_inverse(order: list[int]) -> list[int]:
    """[4, 1, 0, 5, 2, 3] → [2, 1, 4, 5, 0, 3]"""
    restore = [0] * len(order)
    for index, patch in enumerate(order):
        restore[patch] = index
    return restore


check.ch02_inverse(solution_inverse)

# %% [markdown]
# With tensors, use `argsort`: it returns the indices that sort a tensor. Applied to the noise, it returns the order. Applied to the *order*
# (4, 1, 0, 5, 2, 3), it returns restore: the smallest number, 0, is at index 2; the next number, 1, is at index 1; and so on.

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
# *Figure 2.1: a permutation as crossing lines. Upper half: the patches are sorted by the noise, and the list is cut. Lower half: restore
# puts the patches back. Kept patches are blue.*
#
# The lower half is the mirror image of the upper half. It shows the **inverse** of the sort, the permutation that puts every patch back.


# %%
def square(name: str, left: int, side: int = 224) -> Tensor:
    """A square of a photograph, as high as the photograph: `1 c height width` in [0, 1]."""
    whole = photograph(name).permute(2, 0, 1)[None].float() / 255
    cut = whole[..., left : left + whole.shape[2]]
    return interpolate(cut, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)


cat = square("chelsea", left=70)
pieces = patchify(square("chelsea", left=70, side=96), 24).unflatten(-1, (24, 24, 3))[0]
dice = torch.rand(16, generator=torch.Generator().manual_seed(12))

# %% mystnb={"image": {"alt": "The same three rows for sixteen pieces of a photograph of a cat. In the second row four pieces in full colour are to the left of the cut, and twelve grey-blue squares to the right of it. In the third row all pieces are in image order again, the four kept ones in colour."}}
plots.crossing_lines(dice.numpy(), 4, pieces.numpy())

# %% [markdown]
# *Figure 2.2: the cat Chelsea (scikit-image, photographed by Stéfan van der Walt, CC0) in 16 patches, 75 % masked (seed 12). In the second
# and third rows, masked patches are grey-blue. The encoder of chapter 04 gets only the four patches to the left of the cut.*

# %% [markdown]
# ## A mask is two lists
#
# For each image of a batch, a mask stores two lists of indices: those of the `k` kept patches and those of the `m` masked patches, both in
# the order of the shuffle (as tensors, `b k` and `b m`). Everything else is computed from these two lists.


# %% tags=["package:minimae.model.masking"]
@dataclass(frozen=True, eq=False)
class Mask:
    """Indices of the visible and the masked patches of each image: keep int64 ``b k``, masked int64 ``b m``, both shuffled."""

    keep: Tensor
    masked: Tensor

    @property
    def n(self) -> int:
        """Number of patches in an image."""
        return self.keep.shape[1] + self.masked.shape[1]

    @property
    def restore(self) -> Tensor:
        """``b n``: the index of each patch of the image in the shuffled order [kept | masked] (the unshuffle)."""
        return torch.cat([self.keep, self.masked], dim=1).argsort(dim=1)

    @property
    def binary(self) -> Tensor:
        """float32 ``b n`` in image order: 1 removed, 0 kept."""
        ones = torch.ones_like(self.masked, dtype=torch.float32)
        return torch.zeros(len(ones), self.n, device=ones.device).scatter(1, self.masked, ones)

    def to(self, device: torch.device | str) -> Mask:
        """The same mask on another device."""
        return replace(self, keep=self.keep.to(device), masked=self.masked.to(device))

# %% [markdown]
# In `mask.binary`, **1 means removed**, as in the code of the paper's authors. Some other libraries do the opposite, so check before you
# pass masks between libraries.
#
# **2 ★★ Random masking.** Write the masking of the paper for a whole batch: sort the noise of each image, cut, and return a `Mask`. Do not
# use a loop.
#
# <details><summary>Hint</summary>
#
# `noise.argsort(dim=1)` returns the order for each row of the noise `b n`. Then take two slices of the order.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch02-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def my_mask_from_noise(noise, keep):
    """Noise `b n` → the Mask that keeps the `keep` smallest numbers of each image, both lists in the order of the noise."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch02_mask_from_noise(my_mask_from_noise)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*
# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_my_mask_from_noise(noise, keep):
    order = noise.argsort(dim=1)
    return Mask(order[:, :keep], order[:, keep:])


check.ch02_mask_from_noise(solution_my_mask_from_noise)

# %% [markdown]
# The package's version is folded below. With `stable=True`, patches with equal numbers stay in image order, on every device. The appendix
# explains `.float()`.


# %% jupyter={"source_hidden": true} tags=["package:minimae.model.masking", "hide-input"]
def mask_from_noise(noise: Tensor, keep: int) -> Mask:
    """Keep the patches with the ``keep`` smallest numbers of noise ``b n`` (Section 3, "Implementation")."""
    order = noise.float().argsort(dim=1, stable=True)
    return Mask(order[:, :keep], order[:, keep:])

# %% tags=["nbval-check-output"]
mask_from_noise = book.use(check.ch02_mask_from_noise, my_mask_from_noise, mask_from_noise)

# %% [markdown]
# Each image has its own list of indices, so `tokens[:, mask.keep]` is wrong: it applies the lists of *all* images to *every* image.
#
# **3 ★★ Take.** For each image, take the tokens at the indices in its row of `index`. If `tokens` has only two axes, `n d`, it is one table
# for the whole batch (chapter 03 uses such a table for positions). Do not use a loop.
#
# <details><summary>Hint</summary>
#
# `torch.gather(tokens, 1, …)` needs an index for every *number* of the result, `b k d`: `index[:, :, None].expand(-1, -1, d)`. For a table,
# `tokens[index]` is enough.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch02-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def my_take(tokens, index):
    """Tokens `b n d`, or a table `n d`, and indices `b k` → `b k d`."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch02_take(my_take)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*
# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_my_take(tokens, index):
    if tokens.dim() == 2:
        return tokens[index]
    return torch.gather(tokens, 1, index[:, :, None].expand(-1, -1, tokens.shape[-1]))


check.ch02_take(solution_my_take)

# %% [markdown]
# The package's version is folded below. It copies whole rows, which is faster than `gather`.


# %% jupyter={"source_hidden": true} tags=["package:minimae.model.masking", "hide-input"]
def take(tokens: Tensor, index: Tensor) -> Tensor:
    """Pick tokens ``b n d`` by index ``b k`` → ``b k d``; or from one table ``n d`` shared by the batch → ``b k d``."""
    b, k = index.shape
    if tokens.dim() == 3:  # one flat row index is a plain copy of rows, faster than gather on every device
        index = index + tokens.shape[1] * torch.arange(b, device=index.device)[:, None]
        tokens = tokens.flatten(0, 1)
    return tokens.index_select(0, index.flatten()).unflatten(0, (b, k))

# %% tags=["nbval-check-output"]
take = book.use(check.ch02_take, my_take, take)

# %% [markdown]
# Now mask a batch of six garments.

# %%
clothes = data.load("fashion", "test").balanced_subset(6, seed=1)
garments = clothes.pixels.float() / 255
tokens = patchify(garments, 4)
mask = mask_from_noise(torch.rand(6, 49, generator=torch.Generator().manual_seed(0)), keep=12)
visible = take(tokens, mask.keep)

# %% tags=["nbval-check-output"]
print("all patches  b n d :", tuple(tokens.shape))
print("visible      b k d :", tuple(visible.shape))
print("binary         b n :", tuple(mask.binary.shape), "  removed:", mask.binary.sum(1).int().tolist())


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def in_grey_blue(removed: Tensor, images: Tensor, patch: int) -> Tensor:
    """Images `b c height width` → `b height width 3`, with removed patches `b n` in the colour of hidden patches."""
    grid = images.shape[2] // patch, images.shape[3] // patch
    hidden = unpatchify(removed[:, :, None].expand(-1, -1, patch * patch), patch, grid)[:, 0, :, :, None]
    return torch.where(hidden > 0, torch.tensor(plots.HIDDEN), images.permute(0, 2, 3, 1).expand(-1, -1, -1, 3))


padded = torch.cat([visible, torch.zeros(6, 37, 16)], dim=1)
last = (torch.arange(49) >= 12).float().expand(6, -1)
pictures = [in_grey_blue(removed, unpatchify(x, 4, (7, 7)), 4) for removed, x in ((0 * last, tokens), (mask.binary, tokens), (last, padded))]
assert torch.equal(take(torch.cat([visible, take(tokens, mask.masked)], dim=1), mask.restore), tokens)

# %% mystnb={"image": {"alt": "Three rows of six pictures. First row: six garments. Second row: the same with 37 of 49 patches hidden in grey-blue, different ones in each. Third row: the 12 visible patches of each garment side by side at the top, in the order of the shuffle."}}
plots.picture_table([list(row) for row in pictures], rows=("all patches", "masked", "kept"))

# %% [markdown]
# *Figure 2.3: six test photographs of Fashion-MNIST, 37 of 49 patches masked (seed 0). Each image has its own mask. Bottom row: the content
# of the tensor `visible`. The tensor does not record where a patch comes from, so chapter 03 adds positions.*

# %% [markdown]
# ## How many are kept?
#
# If the **mask ratio**, the share of hidden patches, is 75 %, 49 of 196 patches stay visible. But hiding 75 % of 18 patches would leave
# 4.5. The package rounds halves up, so `keep_count(18, 0.75)` is 5.
#
# Many programs use `int(n * (1 - ratio))` instead. At a mask ratio of 90 %, this formula goes wrong:

# %% tags=["nbval-check-output"]
for n in (10, 100, 200):
    print(f"{n} patches, 90 % masked: n·(1 − ratio) = {n * (1 - 0.9)!r}, int: {int(n * (1 - 0.9))}, keep_count: {keep_count(n, 0.9)}")

# %% [markdown]
# With `int`, *none* of ten patches is kept. The number 0.9 has no exact binary form, so the product is slightly below 1, and `int` rounds
# it down to 0. No error is raised, and the encoder would see no patch at all. At a mask ratio of 75 %, both formulas agree for the numbers
# of patches in the paper, so the mistake goes unnoticed. (The code of `keep_count` is in the appendix.)

# %% [markdown]
# ### Why do all images keep the same number?
#
# There is a simpler way to hide 75 %: toss a biased coin for each patch, and keep the patch with probability 1/4. On average 49 of 196
# patches are kept. But a batch is one tensor, `b k d`, with *one* `k`. If images keep different numbers of patches, the tensor must be
# padded, and computing time is spent on the padding.
#
# **Guess: what percentage of the images keep exactly 49 patches?**

# %%
book.predict("coin-exact", 25,
             ask="196 patches, each kept with probability 1/4: in how many % of the images are exactly 49 kept?")

# %% mystnb={"image": {"alt": "Two marks on one scale: the reader's guess of 25 percent, and the true share of 6.6 percent."}}
exactly = math.comb(196, 49) * 0.25**49 * 0.75**147
book.reveal("coin-exact", round(100 * exactly, 1), unit="% of the images keep exactly 49")

# %% [markdown]
# *Figure 2.4: your guess, and the share of images that keep exactly 49 patches (from the binomial distribution).*
#
# Sorting gives an exact count without padding, and every set of 49 patches is equally likely. Choosing patches in this way is called
# *sampling without replacement*.

# %% [markdown]
# ## Masks that can be repeated
#
# Where does the noise come from? If `torch.rand` draws it, the noise is the next part of one long sequence of random numbers. So the mask
# of an image depends on how many numbers were drawn before. Follow image 7 through three batches, with the same seed:

# %%
batches = ([5, 6, 7, 8], [2, 7, 9], [4, 1, 0, 7, 3])


def from_a_generator(ids: list[int], epoch: int) -> Tensor:
    """Noise for a batch, `b n`, from a generator: epoch after epoch, image after image."""
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(len(ids), 16, generator=generator) for _ in range(epoch + 1)][epoch]


def masks_of_seven(draw: Callable[[list[int], int], Tensor]) -> Tensor:
    """The mask of image 7 in each batch (rows) and epoch (columns): `batches epochs 4 4`."""
    rows = [[mask_from_noise(draw(ids, epoch), 4).binary[ids.index(7)] for epoch in range(3)] for ids in batches]
    return torch.stack([torch.stack(row) for row in rows]).unflatten(-1, (4, 4))


drawn = masks_of_seven(from_a_generator)
hashed = masks_of_seven(lambda ids, epoch: uniforms(3, "mask", epoch, torch.tensor(ids), 16))

# %% mystnb={"image": {"alt": "Two tables of small masks of image 7; rows are three batches that contain it, columns are epochs 0 to 2. Left, from torch.rand: nine different masks. Right, from uniforms: in each column the three masks are equal, and the columns differ."}}
plots.mask_table(
    {"torch.rand": drawn.numpy(), "uniforms": hashed.numpy()},
    rows=[f"batch {', '.join(map(str, ids))}" for ids in batches],
    columns=[f"epoch {epoch}" for epoch in range(3)],
)

# %% [markdown]
# *Figure 2.5: the mask of image 7 (blue: the 4 of 16 patches that are visible) in three batches and three epochs, seed 3.*
#
# With `torch.rand`, image 7 gets a different mask in every batch. The mask also changes with the batch size or the number of workers, or
# when a run is resumed without the state of the generator. If the masks change from run to run, an experiment cannot be repeated exactly.
#
# The package computes each random number from five integers, its **address**: (seed, purpose, epoch, sample id, index of the patch). The
# function `uniforms` hashes these integers: it turns them into a number that looks random. So, within a run, a mask depends only on the
# sample id (the number of the image, here 7) and the epoch. The appendix explains the hash.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert len(torch.unique(drawn.flatten(0, 1).flatten(1), dim=0)) == 9
assert torch.equal(hashed[0], hashed[1]) and torch.equal(hashed[0], hashed[2]) and not torch.equal(hashed[0, 0], hashed[0, 1])

# %% [markdown]
# ## Three samplers
#
# The paper compares three ways to choose the hidden patches (its Figure 6). We implement all three by sorting the patches; only the numbers
# that we sort by differ.
#
# **Random** sorts the patches by the noise itself.


# %% tags=["package:minimae.model.masking"]
def random_mask(noise: Tensor, grid: Pair, ratio: float) -> Mask:
    """Uniform sampling without replacement, from one number per patch (noise ``b n``). The paper's default."""
    return mask_from_noise(noise[:, : grid[0] * grid[1]], keep_count(grid[0] * grid[1], ratio))

# %% [markdown]
# At 75 %, **grid** keeps one patch in every square of 2 × 2 patches, on a regular lattice. To do this with a sort, add 1 to the noise of
# every patch that is *not* on the lattice. The noise is below 1, so the patches on the lattice come first. Cutting the sorted list keeps
# the count exact. One more random number per image shifts the lattice.


# %% tags=["package:minimae.model.masking"]
def grid_mask(noise: Tensor, grid: Pair, ratio: float) -> Mask:
    """Keep one patch in every s×s square, on a regular lattice (Figure 6, right); s is 2 for 75 % and below.

    noise ``b (n + 1)``: one number per patch, and one that shifts the lattice. Where the lattice misses the exact count
    (odd grids, other ratios), random patches are added or removed.
    """
    w, n = grid[1], grid[0] * grid[1]
    stride = max(2, round((1 - ratio) ** -0.5))  # a stride of 1 would be random sampling
    shift = (noise[:, n] * stride**2).long()[:, None]
    index = torch.arange(n, device=noise.device)[None]
    on_lattice = (index // w % stride == shift // stride) & (index % w % stride == shift % stride)
    return mask_from_noise(noise[:, :n] + (~on_lattice), keep_count(n, ratio))

# %% [markdown]
# **Block** removes large rectangles until enough patches are gone. Four random numbers determine each rectangle: its area, its aspect
# ratio, and the row and column of its top left corner. We note for each patch which rectangle covered it first. Patches that were covered
# early are removed first, and those that were never covered are removed last, if at all. Inside a rectangle the noise decides the order, so
# if the last rectangle is too large, random patches of it stay visible.


# %% jupyter={"source_hidden": true} tags=["package:minimae.model.masking", "hide-input"]
def block_mask(noise: Tensor, grid: Pair, ratio: float) -> Mask:
    """Large rectangles are removed until the ratio is reached (Figure 6, middle; block-wise sampling of BEiT).

    noise ``b (n + 4·BLOCKS)``: one number per patch to break ties, four per rectangle (area, aspect, row, column).
    A rectangle covers from 8 % of the image to all that is left to mask; the last one is trimmed to the exact count.
    """
    (h, w), n = grid, grid[0] * grid[1]
    ties, boxes = noise[:, :n], rearrange(noise[:, n : n + 4 * BLOCKS], "b (rounds four) -> rounds four b", four=4)
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
# One function makes masks with any of the three samplers.


# %% tags=["package:minimae.model.masking"]
BLOCKS = 32  # rectangles tried by block_mask; it fills the rest patch by patch
SAMPLERS: dict[str, Callable[[Tensor, Pair, float], Mask]] = {"random": random_mask, "block": block_mask, "grid": grid_mask}


def make_mask(ids: Tensor, grid: Pair, *, ratio: float = 0.75, sampling: str = "random", seed: int = 0, epoch: int | Tensor = 0) -> Mask:
    """The mask of each sample id ``b`` in an epoch: a pure function of (seed, epoch, sample id).

    ids: an integer for each image, such as its index in the dataset. An id gets the same mask in every batch and on every device.
    """
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

# %% mystnb={"image": {"alt": "A photograph of a cat under eight masks, two rows of four. Random 75 percent: visible patches scattered evenly. Block 50 percent and block 75 percent: large rectangles are missing, the rest is whole. Grid 75 percent: a regular lattice of single patches. The kept counts are 49, 98, 49 and 49."}}
plots.under_masks(cat[0].permute(1, 2, 0).numpy(), below)

# %% [markdown]
# *Figure 2.6: the same photograph under the four settings of the paper's Table 1f, for two sample ids (seed 0, epoch 0, patches of 16 × 16
# pixels). A grid mask leaves a coarse picture of the whole cat, and a block mask leaves part of the cat in full detail.*
#
# Do the samplers keep every patch equally often?

# %%
kept_by = {}
for sampling in SAMPLERS:
    binary = make_mask(torch.arange(4_000), (14, 14), sampling=sampling).binary
    kept_by[f"{sampling}, 75 %"] = 100 * (1 - binary).mean(0).unflatten(0, (14, 14)).numpy()

# %% mystnb={"image": {"alt": "Three maps of 14 by 14 patches. Random and grid: an even colour around 25 percent. Block: corners are kept far more often than a quarter of the time, and the middle far less."}}
plots.how_often_kept(kept_by)

# %% [markdown]
# *Figure 2.7: how often each of the 196 patches is kept, as a percentage of 4,000 images (seed 0, epoch 0). The smallest and the largest
# share are given above each map. If every patch is kept with probability 1/4, about 95 of 100 shares should lie between 23.7 and 26.3 %. In
# the map of random masks, 11 of 196 lie outside. The map of grid masks has only four different shares, one for each shift of the lattice.*
#
# Random and grid treat all patches alike. Block does not: all rectangles lie inside the image, so they cover the middle more often than the
# corners. At 75 %, the encoder sees any given corner patch in about five out of six images, but a given patch at the centre in only about
# one out of fifty.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert kept_by["block, 75 %"][0, 0] > 75 and kept_by["block, 75 %"][7, 7] < 4
assert all(abs(kept_by[f"{name}, 75 %"] - 25).max() < 3 for name in ("random", "grid"))
assert (abs(kept_by["random, 75 %"] - 25) > 1.31).sum() == 11 and len(set(kept_by["grid, 75 %"].flatten().tolist())) == 4

# %% [markdown]
# ## Why so much?
#
# BERT, a language model, hides 15 % of the words, and predicting these is already hard. Images are more redundant than text. A hidden patch
# of fur between visible patches of fur is easy to predict: average the neighbours. If averaging solves the task, a network need not learn
# more than averaging.
#
# How well does averaging work? Here is a method that learns nothing: each hidden pixel becomes a weighted mean of all *visible* pixels,
# with weights 1 / distance⁴, so that nearby pixels count most. We compare it with a baseline that fills all hidden pixels with one colour,
# the mean of the image's visible pixels. We give the squared error on the hidden pixels as a percentage of the baseline's: 0 is perfect,
# and 100 is as bad as the baseline.

# %%
crops = photos("test", image=56, count=140).pixels.float() / 255
places = torch.cartesian_prod(torch.arange(56.0), torch.arange(56.0))
weight = torch.cdist(places, places).clamp(min=1) ** -4


def averaged(images: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
    """Images `b c height width` with hidden pixels filled in by distance, and the squared error in % of the baseline's."""
    patches = mask.binary[:, :, None].expand(-1, -1, 16)
    hidden = unpatchify(patches, 4, (14, 14)).flatten(1)[:, None]
    seen, pixels = 1 - hidden, images.flatten(2)
    near = ((pixels * seen) @ weight) / (seen @ weight)
    flat = (pixels * seen).sum(-1, keepdim=True) / seen.sum(-1, keepdim=True)
    error = ((near - pixels).square() * hidden).sum() / ((flat - pixels).square() * hidden).sum()
    return torch.where(hidden > 0, near, pixels).unflatten(-1, (56, 56)), 100 * error


# %% [markdown]
# The data are 140 crops of photographs. Each crop has 56 × 56 pixels and is cut into 14 × 14 patches of 4 × 4 pixels: 196 patches, as in
# the paper. **Sketch the curve: the error of averaging under random masks that hide 10, 25, 50, 75, 90 and 95 % of the patches.**

# %%
shares_hidden = [10, 25, 50, 75, 90, 95]
book.predict("averaging", [5, 10, 30, 70, 90, 95],
             ask="Error of averaging (100 = baseline) at 10, 25, 50, 75, 90, 95 % hidden?")

# %%
errors: dict[str, list[float]] = {}
for sampling in SAMPLERS:
    for percent in shares_hidden:
        hiding = make_mask(torch.arange(140), (14, 14), ratio=percent / 100, sampling=sampling)
        errors.setdefault(sampling, []).append(averaged(crops, hiding)[1].item())

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert all(a < b for a, b in zip(errors["random"], errors["random"][1:]))
assert errors["grid"][3] < errors["random"][3] < errors["block"][3] and errors["random"][1] < 25

# %% mystnb={"image": {"alt": "Two curves of error against the share hidden: the reader's sketch, and the measured one, which starts near 17, reaches about 35 at 75 percent and about 72 at 95 percent."}}
book.reveal("averaging", [round(error, 1) for error in errors["random"]], unit="error (100 = baseline)", x=shares_hidden, xlabel="hidden patches (%)")

# %% [markdown]
# *Figure 2.8: your sketch, and the measured squared error of averaging under random masks (140 crops from seven photographs, mask seed 0).*
#
# With 10 % or 25 % of the patches hidden, averaging removes more than four fifths of the baseline's error. With 75 % hidden, the error of
# averaging is about twice as large as with 10 %. Beyond 75 %, the curve rises steeply.

# %% mystnb={"image": {"alt": "Three curves of error against the share hidden. Block is highest at every share, near 70 at 75 percent. Random rises from 17 to 35 at 75 percent and 72 at 95. Grid is like random at small shares, but is only about 26 at 75 percent, and rises steeply after that."}}
plots.curves(
    {name: (shares_hidden, errors[name]) for name in ("block", "random", "grid")},
    x="hidden patches (%)",
    y="error of averaging",
    levels={"baseline: one colour": 100},
    floor=0,
    note="140 crops, mask seed 0",
)

# %% [markdown]
# *Figure 2.9: the error of averaging for all three samplers. At mask ratios below 75 %, grid keeps the whole lattice and, in addition, some
# random patches.*

# %%
some = [4, 19, 16]
stages = [crops.permute(0, 2, 3, 1)]
for sampling in ("random", "block", "grid"):
    hiding = make_mask(torch.arange(140), (14, 14), sampling=sampling)
    stages += [in_grey_blue(hiding.binary, crops, 4), averaged(crops, hiding)[0].clamp(0, 1).permute(0, 2, 3, 1)]
cells = [[stage[i] for stage in stages] for i in some]

# %% mystnb={"image": {"alt": "Three crops of photographs. For each: the original; random mask and filled by averaging, a blurred but recognisable picture; block mask and filled, with large smears where the blocks were; grid mask and filled, the clearest of the three."}}
plots.picture_table(cells, columns=("original", "random 75 %", "averaged", "block 75 %", "averaged", "grid 75 %", "averaged"), width=9.2)

# %% [markdown]
# *Figure 2.10: three of the 140 crops. Each sampler hides 75 % of the patches (seed 0), and averaging fills them in.*
#
# Compare the errors in Figure 2.9 with the accuracies (in %) that the paper reports for fine-tuning (chapter 10) and for a linear probe
# (chapter 09), after pre-training with each kind of mask (Table 1f; ViT-L, 800 epochs, ImageNet):
#
# | sampling | hidden | fine-tuned | linear probe |
# |---|---|---|---|
# | random | 75 % | 84.9 | 73.5 |
# | block | 50 % | 83.9 | 72.3 |
# | block | 75 % | 82.8 | 63.9 |
# | grid | 75 % | 84.0 | 66.0 |
#
# At 75 %, grid masks give the easiest task for averaging, because every hidden patch has a visible neighbour. Yet both accuracies are lower
# with grid masks than with random masks. Block masks at 75 % give the hardest task: large regions have no visible patch at all. Random
# masks at 75 % lie between the two in difficulty, and give the highest accuracy in both columns.
#
# The averaging experiment shows that images are *redundant*. It does not show that 75 % is the best ratio, because it measures how hard the
# task is, not how much a model learns from it. Only training can show which ratio is best. In the paper's Figure 5, the accuracy of the
# linear probe rises from 54.6 % at a mask ratio of 10 % to 73.5 % at 75 %, and falls to 66.1 % at 90 %. Chapter 11 repeats the paper's
# experiment on a small scale.

# %% [markdown]
# > **Paper.** Section 3, "Masking" and "Simple implementation"; Figures 5 and 6; Table 1f. The paper shuffles the tokens, keeps the
# > first part, and restores the image order after the encoder.
# > **Our deviation.** The noise is computed from an address instead of being drawn from a generator. We round the number of kept patches; the
# > authors' code truncates it. At 75 % and for the numbers of patches in the paper, rounding and truncating give the same number. We take the visible
# > tokens with `mask.keep`, so the whole sequence of tokens is never shuffled. For block masks the paper cites BEiT and gives no details. Our blocks
# > are rectangles of at least 8 % of the patches, with aspect ratios between 0.3 and 1 / 0.3 (before rounding to whole patches).

# %% [markdown]
# ## Your own mask
#
# To hide something of your choice, such as a face or the left half of the image, give `user_mask` a zero (keep) or a one (remove) for each
# patch or each pixel. A patch is removed if *any* of its pixels is removed. The function uses the zero or one of each patch as its noise:
# the zeros come first, so their patches are kept.


# %% jupyter={"source_hidden": true} tags=["package:minimae.model.masking", "hide-input"]
def user_mask(removed: Tensor, grid: Pair, *, patch: int | Pair | None = None) -> Mask:
    """Your own mask: 1 or True is removed, 0 or False is kept.

    removed: for each patch, ``b n`` or ``b h w``; or with ``patch`` for each pixel, ``b (h p1) (w p2)``: a patch is removed
    if any of its pixels is. All images of a batch must keep the same number of patches.
    """
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
    if not len(counts):
        raise ValueError("a mask is for at least one image, and this one is for none")
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

# %%
y, x = torch.meshgrid(torch.arange(224), torch.arange(224), indexing="ij")
eyes = ((x - 80) ** 2 + (y - 84) ** 2 < 28**2) | ((x - 190) ** 2 + (y - 101) ** 2 < 24**2)
blindfold = user_mask(eyes[None], (14, 14), patch=16)

# %% tags=["nbval-check-output"]
print("pixels removed:", int(eyes.sum()), "  patches removed:", blindfold.masked.shape[1], "of", blindfold.n)
try:
    user_mask(torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0]]), (2, 2))
except ValueError as error:
    print(error)

# %% mystnb={"image": {"alt": "Two pictures of a cat. Left: an orange disc over each eye, and white frames around all patches that the discs touch. Right: those patches are grey-blue."}}
plots.pixels_to_patches(
    cat[0].permute(1, 2, 0).numpy(), eyes.numpy(), blindfold.binary.unflatten(1, (14, 14))[0].numpy(), patch=16
)

# %% [markdown]
# *Figure 2.11: removed pixels (left) and the patches that are removed because of them (right).*

# %% [markdown]
# ## Where this lives
#
# The class `Mask` and the masking functions of this chapter are in `minimae/model/masking.py`, statement for statement. The hash functions
# of the appendix are in `minimae/random.py`.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
ids = torch.tensor([3, 1, 4, 1, 5, 926])
for sampling in SAMPLERS:
    for grid, ratio in (((14, 14), 0.75), ((7, 7), 0.6), ((3, 5), 0.5)):
        ours = make_mask(ids, grid, ratio=ratio, sampling=sampling, seed=2, epoch=9)
        theirs = minimae.make_mask(ids, grid, ratio=ratio, sampling=sampling, seed=2, epoch=9)
        assert torch.equal(ours.restore, theirs.restore) and torch.equal(ours.binary, theirs.binary)
assert torch.equal(take(tokens, mask.keep), minimae.take(tokens, mask.keep))
assert torch.equal(blindfold.binary, minimae.user_mask(eyes[None], (14, 14), patch=16).binary)

# %% [markdown]
# ## Break-it lab: the photograph that came back wrong
#
# A colleague has written a function that is meant to put tokens back into image order. The function has a test, which passes.


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
shuffled = torch.cat([take(whole, shuffle.keep), take(whole, shuffle.masked)], dim=1)
returned = put_back(shuffled, shuffle)
right = (returned == whole).all(-1)
pictures = [unpatchify(x, 32, (7, 7))[0].permute(1, 2, 0) for x in (whole, shuffled, returned)]
pictures.append(in_grey_blue(1 - right.float(), cat, 32)[0])

# %% tags=["nbval-check-output"]
print("patches in the right position:", int(right.sum()), "of 49")

# %% mystnb={"image": {"alt": "Four pictures of a cat in 49 patches: the original; shuffled, a mosaic of misplaced patches; put back by the faulty function, another mosaic; and the same with all patches but one in grey-blue."}}
plots.picture_table([pictures], columns=("the photograph", "shuffled", "put back", "of these, right"), width=6.4)

# %% [markdown]
# *Figure 2.12: a photograph in 49 patches, shuffled by a mask (seed 0, sample id 2), and put back by `put_back`. Far right: only the
# patches in the right position.*
#
# **What is wrong with `put_back`, why does the test not find the bug, and how do you fix it?** If you are stuck, draw the crossing lines
# for the four patches of the test.
#
# <details><summary>Diagnosis</summary>
#
# `take(tokens, order)` shuffles a *second* time: it uses the order instead of its inverse. One `argsort` is missing. The right call is
# `take(tokens, order.argsort(dim=1))`, which does the same as `take(tokens, mask.restore)`.
#
# The test swaps neighbours: the order is 1, 0, 3, 2. Swapping the same neighbours again undoes the swap. So this order is its own inverse,
# and the wrong function agrees with the right one. Test with a permutation that is not its own inverse, such as 4, 1, 0, 5, 2, 3, or with
# many random permutations.
#
# A few patches can end up in the right position by chance: those that never moved, and pairs that swapped places. In a random shuffle there
# are two such patches on average, regardless of the number of patches. In Figure 2.12 there is one.
# </details>
#
# The six patches of Figure 2.1 show the bug too: in the next figure, the lower half repeats the upper half instead of mirroring it.

# %% mystnb={"image": {"alt": "The three rows of Figure 2.1, but the lower lines repeat the pattern of the upper ones instead of mirroring it. The third row reads 2, 1, 4, 3, 0, 5; the three that are in the wrong position are orange."}}
plots.crossing_lines(noise.numpy(), 2, restore=order.tolist())

# %% [markdown]
# *Figure 2.13: the example of Figure 2.1, with the order in place of restore. Patches with an orange frame are in the wrong position. Patch
# 1 never moved, and patches 3 and 5 swapped places twice, so these three are in the right position.*

# %% [markdown]
# ## One more exercise
#
# **4 ★★★ Four views.** Make four masks so that each patch is visible in exactly one of them. The noise is `b n`, with n a multiple of four.
# Sort the noise of each image once. The first mask keeps the quarter of the patches with the smallest numbers, the second mask keeps the
# next quarter, and so on.
#
# <details><summary>Hint</summary>
#
# `order.chunk(4, dim=1)` gives the four quarters. Each view keeps one quarter and masks the other three.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch02-ex4", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def four_views(noise: Tensor) -> list[Mask]:
    """Noise `b n` → four masks that share no visible patch."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch02_four_views(four_views)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*
# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_four_views(noise: Tensor) -> list[Mask]:
    """Noise `b n` → four masks that share no visible patch."""
    quarters = noise.argsort(dim=1, stable=True).chunk(4, dim=1)
    return [Mask(quarters[i], torch.cat(quarters[:i] + quarters[i + 1 :], dim=1)) for i in range(4)]


check.ch02_four_views(solution_four_views)

# %% [markdown]
# ## Summary
#
# Random masking is a sort: give each patch a random number, sort, and keep the first `k`. The inverse of the sort, one more `argsort`, puts
# everything back. All images of a batch keep the same number of patches, so a batch stays one tensor. The noise is a hash of (seed,
# purpose, epoch, sample id, patch), so masks can be repeated. For block masks, grid masks and your own masks, different numbers are sorted
# in the same way. Most of an image is hidden because images are redundant: if little is hidden, averaging the neighbours already does well.
#
# ## Five questions
#
# 1. The order is 2, 0, 1. What is restore?
# <details><summary>Answer</summary>1, 2, 0. Patch 0 is at index 1, patch 1 at index 2, patch 2 at index 0.</details>
#
# 2. At a mask ratio of 75 %, how many of 18 patches does `keep_count` keep? How many patches would the formula with `int` keep?
# <details><summary>Answer</summary>`keep_count` keeps 5, because 4.5 is rounded up. The formula with `int` keeps 4.</details>
#
# 3. Tossing a biased coin for each patch hides 75 % on average. Why is that not good enough?
# <details><summary>Answer</summary>Images would keep different numbers of patches, but a batch is one tensor with one `k`.</details>
#
# 4. A run is stopped after epoch 30 and resumed. What must be saved so that the resumed run gets the same masks as an uninterrupted run?
# <details><summary>Answer</summary>The seed and the epoch must be saved. No state of a generator is needed, because the noise is computed from its
# address.</details>
#
# 5. At 75 %, images under grid masks are the easiest to fill in. Why are grid masks nevertheless not the best for training?
# <details><summary>Answer</summary>With grid masks, averaging the neighbours already does well, so a network probably learns less. In Table 1f of the
# paper, the linear probe reaches 66.0 % with grid masks, and 73.5 % with random masks.</details>
#
# Next: [03 · A vision transformer](03_a_vision_transformer.ipynb). You build the blocks of the network that reads the kept patches, and add
# a position to each patch.

# %% [markdown]
# ## Appendix
#
# ### Rounding
#
# `keep_count` rounds halves up. (Python's `round` rounds halves to the nearest even number: 4.5 to 4 and 5.5 to 6.) In the code below, the
# inner `round` first removes the floating-point error. Ratios that would hide everything or nothing raise an error.


# %% tags=["package:minimae.model.masking"]
def keep_count(n: int, ratio: float) -> int:
    """How many of n patches stay visible at a mask ratio in (0, 1): n·(1 − ratio), rounded half up.

    49 of 196 and 64 of 256 at 75 %. Raises ValueError when nothing or everything would be kept.
    """
    if not 0 < ratio < 1:
        percent = f"; did you mean {ratio / 100:g}?" if 1 < ratio < 100 else ""
        raise ValueError(f"mask ratio must lie between 0 and 1 (0.75 in the paper), not {ratio}{percent}")
    keep = math.floor(round(n * (1 - ratio), 6) + 0.5)  # the inner round undoes 10 · (1 − 0.9) = 0.99…98
    if not 1 <= keep < n:
        advice = f"choose a ratio between {1 / n:.4g} and {1 - 1 / n:.4g}, or smaller patches" if n > 1 else "choose smaller patches"
        raise ValueError(f"a mask ratio of {ratio} keeps {keep} of {n} patches; at least one must be kept and one masked: {advice}")
    return keep

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert [keep_count(n, ratio) for n, ratio in ((196, 0.75), (256, 0.75), (49, 0.75), (18, 0.75), (10, 0.9))] == [49, 64, 12, 5, 1]
assert all(abs(keep_count(n, 0.9) - 0.1 * n) <= 0.5 + 1e-9 for n in range(6, 61))

# %% [markdown]
# ### Noise with an address
#
# A **hash function** turns its input, here an address, into a number that looks random, the **hash**. Two operations, each repeated, are
# enough. The first operation combines the upper bits of a 64-bit number with the lower bits (shift, exclusive or). The second multiplies
# the number by a large odd number, so that the low bits affect the high bits. The constants are those of SplitMix64, a well-tested
# generator.


# %% tags=["package:minimae.random"]
STREAMS = {"mask": 1, "crop": 2, "flip": 3, "order": 4, "shapes": 5, "split": 6, "step": 7, "photos": 8}

_GOLDEN = -7046029254386353131  # 2^64 / golden ratio, as a signed 64-bit integer
_MIX = (-4658895280553007687, -7723592293110705685)  # the two multipliers of the SplitMix64 finaliser


def _finalise(x: Tensor) -> Tensor:
    """SplitMix64's mixing of 64 bits; int64 products wrap, and ``>>`` is masked into a logical shift."""
    x = (x ^ ((x >> 30) & 0x3_FFFF_FFFF)) * _MIX[0]
    x = (x ^ ((x >> 27) & 0x1F_FFFF_FFFF)) * _MIX[1]
    return x ^ ((x >> 31) & 0x1_FFFF_FFFF)

# %% [markdown]
# The parts of the address are mixed in one after another: first the seed, the purpose and the epoch, then the sample id, then the index of
# the patch. The purpose, called `stream` in the code, keeps the random numbers for masks independent of those for image crops, for example.
# Mixing after *each* part matters. A generator seeded with `epoch + sample_id`, for example, would give image 5 in epoch 0 the mask of
# image 4 in epoch 1.


# %% tags=["package:minimae.random"]
def hash_bits(seed: int, stream: str, epoch: int | Tensor, ids: Tensor, count: int) -> Tensor:
    """64 hashed bits for each sample id and index: ids ``b`` → int64 ``b count``, on the device of ``ids``.

    epoch: one number, or int64 ``b`` for a batch that spans two epochs.
    """
    if stream not in STREAMS:
        raise ValueError(f"unknown random stream {stream!r}; known: {', '.join(STREAMS)}")
    key = torch.zeros((), dtype=torch.int64, device=ids.device)
    for part in (seed, STREAMS[stream], epoch):
        key = _finalise((key ^ part) + _GOLDEN)
    rows = _finalise((key ^ ids.to(torch.int64)) + _GOLDEN)
    index = torch.arange(count, device=ids.device, dtype=torch.int64)
    return _finalise((rows[:, None] ^ index) + _GOLDEN)


def uniforms(seed: int, stream: str, epoch: int | Tensor, ids: Tensor, count: int) -> Tensor:
    """Uniform float32 numbers in [0, 1): ids ``b`` → ``b count``.

    float32 holds 24 random bits. Half precision would hold 11 bits, and masks would depend on ties.
    """
    top = (hash_bits(seed, stream, epoch, ids, count) >> 40) & 0xFF_FFFF
    return top.to(torch.float32) * 2.0**-24

# %% [markdown]
# `uniforms` uses the upper 24 bits of the hash, because the significand of a float32 has 24 bits. **Half precision** has fewer: between 0.5
# and 1, float16 has 1,024 different numbers and bfloat16 only 128. Among 196 patches some numbers would then almost certainly be equal, and
# the order of patches with equal numbers would not be random. That is why `mask_from_noise` sorts in float32, and why the noise must also
# be *computed* in float32: `.float()` cannot restore lost bits.
#
# Is every patch kept equally often? The folded cell checks this over 20,000 images of one epoch, and over 20,000 epochs of one image.

# %% jupyter={"source_hidden": true} tags=["nbval-check-output", "hide-input"]
many = torch.arange(20_000)
for words, epochs, ids in (("20,000 images, epoch 0", 0, many), ("image 7, 20,000 epochs", many, torch.full_like(many, 7))):
    share = 100 * (1 - mask_from_noise(uniforms(0, "mask", epochs, ids, 49), 12).binary).mean(0)
    assert abs(share - 100 * 12 / 49).max() < 1.5
    print(f"{words}: each patch is kept in {share.min():.1f} to {share.max():.1f} % (12 of 49 is 24.5 %)")

# %% [markdown]
# The same hash shuffles the images of an epoch. Chapter 07 uses this shuffle.


# %% tags=["package:minimae.random"]
def permutation(seed: int, stream: str, epoch: int, length: int) -> Tensor:
    """A shuffled ``arange(length)`` that depends on (seed, stream, epoch) alone."""
    ids = torch.arange(length)
    return hash_bits(seed, stream, epoch, ids, 1)[:, 0].argsort(stable=True)

# %% tags=["nbval-check-output"]
print("images of epoch 0:", permutation(0, "order", 0, 8).tolist())
print("images of epoch 1:", permutation(0, "order", 1, 8).tolist())

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert torch.equal(uniforms(2, "mask", 9, torch.arange(6), 49), minimae.uniforms(2, "mask", 9, torch.arange(6), 49))
assert torch.equal(permutation(0, "order", 3, 50), minimae.random.permutation(0, "order", 3, 50))
half = torch.linspace(0.5, 1, 2**15 + 1)[:-1]
assert len(half.to(torch.float16)[half.to(torch.float16) < 1].unique()) == 1024
assert len(half.to(torch.bfloat16)[half.to(torch.bfloat16) < 1].unique()) == 128
