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
# # 01 · Patches
#
# **The promise.** You turn an image into a sequence of patches and back, with one line of code for each direction.
#
# Minutes: 25. Needs: chapter 00.
#
# After this chapter you can
#
# - cut a small image into patches by hand, and say where every number goes;
# - read an einops string, axis by axis;
# - say why an image of 224 × 224 pixels gives 196 patches of 768 numbers, and what smaller patches would cost;
# - show that a linear layer on patches is a convolution with a large stride;
# - look at a scrambled image and find the mistake in the einops string.

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
import minimae_book as book
import torch
import torch.nn.functional as F
from einops import rearrange
from minimae_book import check
from minimae_book import figures as plots
from torch import Tensor, nn

import minimae
from minimae import size
from minimae.data.photos import photograph

# %% [markdown]
# ## Why patches?
#
# The masked autoencoders of this book are transformers. The input of a transformer is a *sequence of tokens*, each of them a vector. An
# image is a grid of pixels, so we first have to turn it into a sequence.
#
# We could use every pixel as a token. A photograph of 224 × 224 pixels would become 50,176 tokens, and attention (chapter 03) would compare
# every token with all tokens, including itself. That would make 2.5 billion pairs in each layer.
#
# Instead we use small rectangles, usually squares: **patches**. They do not overlap, and together they cover the image. Each patch is
# written as a vector of its pixel values.

# %% [markdown]
# ## Four patches, by hand
#
# Take a grey image of 4 × 4 pixels with the values 0 to 3 in the first row, 4 to 7 in the second, and so on. The patches have 2 × 2 pixels.
#
# - The first patch is the upper left corner. Row by row it holds 0, 1, then 4, 5.
# - The second patch is to the right of the first, and holds 2, 3, 6, 7.
# - Then come the lower left corner (8, 9, 12, 13) and the lower right corner (10, 11, 14, 15).

# %%
numbers = torch.arange(16).reshape(1, 1, 4, 4)  # b c height width
by_hand = torch.tensor([[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]])

# %% mystnb={"image": {"alt": "Left, a field of 4 by 4 numbers from 0 to 15 in four colours, one for each 2 by 2 corner. Right, four rows of four numbers: 0 1 4 5, then 2 3 6 7, then 8 9 12 13, then 10 11 14 15, each in the colour of its corner."}}
plots.numbers_and_patches(numbers[0, 0].numpy(), (2, 2))

# %% [markdown]
# *Figure 1.1: sixteen pixels and their four patches. Each row on the right is one patch.*
#
# In memory, the sixteen numbers are stored in the order 0 to 15, so the first patch has to skip 2 and 3. A `reshape` cannot skip numbers:
# it keeps their order, and only changes where rows end.

# %% tags=["nbval-check-output"]
print("reshape :", numbers.reshape(4, 4).tolist()[0], "<- the first row of the image, not a patch")
print("wanted  :", by_hand.tolist()[0])

# %% [markdown]
# **1 ★ Find a patch.** At which pixel row and which pixel column does patch number `i` start (counting from 0)? The argument `grid` is the
# pair (`h`, `w`): the rows and columns of patches. The argument `patch` is the pair (`p1`, `p2`): the rows and columns of pixels in a
# patch. Return the pair (top, left).
#
# <details><summary>Hint</summary>
#
# A row of the grid has `w` patches, so use `divmod(i, w)`. Then convert both results from patches to pixels.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch01-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def corner_of(i: int, grid: tuple[int, int], patch: tuple[int, int]) -> tuple[int, int]:
    """Patch number → the pixel (top, left) of its upper left corner."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch01_corner_of(corner_of)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_corner_of(i: int, grid: tuple[int, int], patch: tuple[int, int]) -> tuple[int, int]:
    """Patch number → the pixel (top, left) of its upper left corner."""
    row, column = divmod(i, grid[1])
    return row * patch[0], column * patch[1]


check.ch01_corner_of(solution_corner_of)

# %% [markdown]
# ## One string
#
# In the library einops, a string describes how to rearrange a tensor. The following string is used throughout the book:
#
# ```
# b c (h p1) (w p2)  ->  b (h w) (p1 p2 c)
# ```
#
# The input is on the left of the arrow, and the output is on the right. Every name stands for an axis.
#
# | axis | meaning | 4 × 4 example | 224 × 224 photograph |
# |---|---|---|---|
# | `b` | images in the batch | 1 | any number |
# | `c` | channels: 1 for grey, 3 for colour | 1 | 3 |
# | `h` | rows of patches | 2 | 14 |
# | `w` | columns of patches | 2 | 14 |
# | `p1` | rows of pixels in a patch | 2 | 16 |
# | `p2` | columns of pixels in a patch | 2 | 16 |
#
# A pair of brackets stands for one axis that is made of several axes. On the left, brackets *split* an axis: the height of the image is `(h
# p1)`, which means `h` bands of `p1` pixel rows each. Inside brackets, **the last axis changes fastest**, like the last digit of a counter.
# With bands of 4 rows, pixel row 5 is row 1 of band 1 (counting from 0).
#
# On the right, brackets *join* axes: `(h w)` lists the patches in reading order, and `(p1 p2 c)` lists the values inside one patch.

# %%
patches = rearrange(numbers, "b c (h p1) (w p2) -> b (h w) (p1 p2 c)", p1=2, p2=2)

# %% tags=["nbval-check-output"]
print("image  ", tuple(numbers.shape), "-> patches", tuple(patches.shape), "· as by hand:", torch.equal(patches[0], by_hand))

# %% [markdown]
# We gave `p1` and `p2`, and einops computed `h` and `w`.
#
# Now watch what the string does to a photograph of 96 × 128 pixels. The patches are large, 32 × 32 pixels.

# %%
cat = photograph("chelsea").permute(2, 0, 1)[None] / 255  # b c height width, values in [0, 1]
photo = F.avg_pool2d(cat[:, :, 6:294, 30:414], 3)
pieces = rearrange(photo, "1 c (h p1) (w p2) -> (h w) p1 p2 c", p1=32, p2=32)

# %% tags=["nbval-check-output"]
print("photograph", tuple(photo.shape), "-> pieces", tuple(pieces.shape))

# %% mystnb={"image": {"alt": "A photograph of a cat at five moments. First whole. Then three bands, one below the other, each marked p1. Then each band in four pieces, marked p2. Then the bands have moved apart like stairs, the second to the right of the first, the third to the right of the second. Last, twelve pieces in one row, numbered 0 to 11, four in the colour of each band."}}
plots.moving_grid(pieces.numpy(), (3, 4))

# %% [markdown]
# *Figure 1.2: what the string does. `(h p1)` cuts the image into bands, `(w p2)` cuts the bands into patches, and `(h w)` puts the bands
# one after another. Photograph: Chelsea, from scikit-image (Stéfan van der Walt, CC0).*
#
# In the last row of the figure, the patches come band by band, as the colours of the frames show: this is the order `(h w)`. With `(w h)`,
# the patches would come column by column, and the colours would alternate.

# %% mystnb={"image": {"alt": "The twelve pieces halfway between stairs and row: each band is a little lower than the one before."}}
book.slider(lambda moment: plots.moving_grid(pieces.numpy(), (3, 4), [moment]), moment=(0, 4, 0.25, 3.5))

# %% [markdown]
# *Figure 1.3: a moment between the last two pictures of Figure 1.2. When a kernel is running, a slider shows other moments.*

# %% [markdown]
# ## Inside a patch
#
# The end of the string, `(p1 p2 c)`, gives the order of the values in one patch. `c` is last, so it changes fastest. The vector lists the
# red, green and blue values of the first pixel, then those of the second pixel, and so on. This order is called **channels last**.

# %%
coarse = F.avg_pool2d(photograph("astronaut").permute(2, 0, 1)[None] / 255, 32)[..., :15]
one = rearrange(coarse, "1 c (h p1) (w p2) -> (h w) p1 p2 c", p1=2, p2=3)[26]

# %% tags=["nbval-check-output"]
print("coarse photograph", tuple(coarse.shape), " one patch", tuple(one.shape), " as a vector", tuple(one.flatten().shape))

# %% mystnb={"image": {"alt": "Left, a patch of two rows of three coloured pixels, numbered 0 to 5. Right, its 18 values as bars, twice. Above, pixel by pixel: red, green, blue of pixel 0, then of pixel 1, and so on. Below, colour by colour: the reds of all six pixels, then the greens, then the blues."}}
plots.inside_a_patch(one.numpy())

# %% [markdown]
# *Figure 1.4: the eighteen values of a patch of 2 × 3 pixels in two orders. This book uses the upper order, as the MAE authors' code does
# for the pixels to predict. Data: a photograph of an astronaut from scikit-image (NASA, public domain), averaged over squares of 32 × 32
# pixels.*
#
# A linear layer can learn with any order that is *always the same*. But a convolution, which can replace the linear layer (see below),
# stores its weights in the lower order of Figure 1.4, `(c p1 p2)`. If you copy weights between a convolution and a linear layer, reorder
# them. Otherwise the number of weights is right, but the tokens are meaningless.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert torch.equal(one.flatten()[3:6], one[0, 1])  # values 3, 4, 5 of the vector: the second pixel

# %% [markdown]
# ## The grid
#
# A size can be a number or a pair (rows, columns). The number `16` means 16 × 16.


# %% tags=["package:minimae.model.patches"]
Pair = tuple[int, int]


def pair(value: int | Pair) -> Pair:
    """``16`` means ``(16, 16)``; a pair (rows, columns) stays as it is."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


# %% [markdown]
# The grid is the pair (rows, columns) of patches: the size of the image divided by the size of a patch. If there is a remainder, rounding
# down would silently drop pixels at the edge. So we raise an error that names the nearest image sizes that fit. (`-(-height // p1)` rounds
# up.)


# %% tags=["package:minimae.model.patches"]
def grid_of(image: int | Pair, patch: int | Pair) -> Pair:
    """Rows and columns of patches ``(h, w)`` in an image of ``(height, width)`` pixels.

    Raises ValueError, with the nearest sizes that would work, when the patch does not divide the image.
    """
    (height, width), (p1, p2) = pair(image), pair(patch)
    if min(height, width, p1, p2) < 1:
        raise ValueError(f"image {height}×{width} and patch {p1}×{p2} must be at least 1 pixel each way")
    if height % p1 or width % p2:
        down, up = (height // p1, width // p2), (-(-height // p1), -(-width // p2))
        near = [f"{rows * p1}×{columns * p2}" for rows, columns in ((down, up) if min(down) else (up,))]
        raise ValueError(
            f"an image of {height}×{width} pixels cannot be cut into patches of {p1}×{p2}: "
            f"resize or crop it to {' or '.join(near)}, or choose a patch size that divides it"
        )
    return height // p1, width // p2


# %% tags=["nbval-check-output"]
print(grid_of(224, 16), grid_of((96, 128), 32), grid_of((28, 28), (4, 7)))
try:
    grid_of((224, 230), 16)
except ValueError as error:
    print(error)

# %% [markdown]
# ## There and back
#
# **2 ★ Patchify.** Write the function `my_patchify`. Its argument `patch` is a number or a pair. Let `grid_of` check the image size first,
# and then use the einops string.
#
# Keep everything your function needs inside it. If it is right, it is saved in the folder `mine`, and chapter 07 uses it again, with the
# functions of the package (such as `pair` and `grid_of`), but without your other cells. The same holds for every
# function `my_…` and every class `My…` of the chapters up to 07.


# %% nbgrader={"grade": false, "grade_id": "ch01-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def my_patchify(images, patch):
    """Images `b c (h p1) (w p2)` → patches `b n (p1 p2 c)`, row by row (n = h·w). Raises ValueError if the patch does not fit."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch01_patchify(my_patchify)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_my_patchify(images, patch):
    p1, p2 = pair(patch)
    grid_of(tuple(images.shape[-2:]), patch)
    return rearrange(images, "b c (h p1) (w p2) -> b (h w) (p1 p2 c)", p1=p1, p2=p2)


check.ch01_patchify(solution_my_patchify)

# %% [markdown]
# The package's version is folded below.


# %% jupyter={"source_hidden": true} tags=["package:minimae.model.patches", "hide-input"]
def patchify(images: Tensor, patch: int | Pair) -> Tensor:
    """Images ``b c (h p1) (w p2)`` → patches ``b n (p1 p2 c)``, row by row (n = h·w).

    A patch vector lists its pixels row by row, the channels of a pixel side by side. Raises ValueError as :func:`grid_of` does.
    """
    p1, p2 = pair(patch)
    grid_of((images.shape[-2], images.shape[-1]), patch)
    return rearrange(images, "b c (h p1) (w p2) -> b (h w) (p1 p2 c)", p1=p1, p2=p2)


# %% tags=["nbval-check-output"]
patchify = book.use(check.ch01_patchify, my_patchify, patchify)

# %% [markdown]
# The way back is the same string with its two sides swapped. But twelve patches may be 3 rows of 4, 4 rows of 3, or one row of 12, so the
# inverse needs the grid as an argument.
#
# **3 ★★ Unpatchify.** Write `my_unpatchify`, the inverse of `patchify`. Again, `patch` is a number or a pair; `grid` is the pair (rows,
# columns) of patches. Before you use einops, raise a `ValueError` if there are too few or too many patches for the grid, or if the number
# of values in a patch is not a multiple of `p1 · p2`.
#
# <details><summary>Hint</summary>
#
# The number of channels need not be given: einops divides the number of values in a patch by `p1 · p2`.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch01-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def my_unpatchify(patches, patch, grid):
    """Patches `b n (p1 p2 c)` → images `b c (h p1) (w p2)`: the exact inverse of `patchify`."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch01_unpatchify(my_unpatchify)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_my_unpatchify(patches, patch, grid):
    (p1, p2), (h, w) = pair(patch), grid
    n, values = patches.shape[-2:]
    if n != h * w or values % (p1 * p2):
        raise ValueError(f"{n} patches of {values} values do not make an image of {h} × {w} patches of {p1} × {p2} pixels")
    return rearrange(patches, "b (h w) (p1 p2 c) -> b c (h p1) (w p2)", h=h, w=w, p1=p1, p2=p2)


check.ch01_unpatchify(solution_my_unpatchify)

# %% [markdown]
# The package's version is folded below.


# %% jupyter={"source_hidden": true} tags=["package:minimae.model.patches", "hide-input"]
def unpatchify(patches: Tensor, patch: int | Pair, grid: Pair) -> Tensor:
    """Patches ``b n (p1 p2 c)`` → images ``b c (h p1) (w p2)``: the exact inverse of :func:`patchify`.

    Raises ValueError when n is not h·w or the patch vector does not hold whole pixels.
    """
    (p1, p2), (h, w) = pair(patch), grid
    n, values = patches.shape[-2:]
    if n != h * w:
        raise ValueError(f"{n} patches do not fill a grid of {h}×{w} = {h * w}")
    if values % (p1 * p2):
        raise ValueError(f"{values} values are not a whole number of channels for a patch of {p1}×{p2} pixels")
    return rearrange(patches, "b (h w) (p1 p2 c) -> b c (h p1) (w p2)", h=h, w=w, p1=p1, p2=p2)


# %% tags=["nbval-check-output"]
unpatchify = book.use(check.ch01_unpatchify, my_unpatchify, unpatchify)

# %% [markdown]
# `patchify` and `unpatchify` only move numbers. So `patchify` followed by `unpatchify` must return the *same* image, to the last bit, for
# any grid, any patch size and any number of channels:

# %% tags=["nbval-check-output"]
for patch, grid, c in ((32, (3, 4), 3), ((8, 16), (5, 2), 3), ((1, 3), (4, 4), 13), (2, (1, 6), 1)):
    p1, p2 = pair(patch)
    image = torch.rand(2, c, grid[0] * p1, grid[1] * p2)
    row = patchify(image, patch)
    assert torch.equal(unpatchify(row, patch, grid), image)
    print(f"image {tuple(image.shape)} -> patches {tuple(row.shape)} -> the same image")

# %% [markdown]
# The photograph of Figure 1.2 has 3 × 4 patches. With a grid of 4 × 3, `unpatchify` raises no error, because the number of patches is
# right. What do you expect to see?

# %%
row = patchify(photo, 32)
views = [unpatchify(row, 32, grid)[0].permute(1, 2, 0).numpy() for grid in ((3, 4), (4, 3), (2, 6))]

# %% mystnb={"image": {"alt": "The cat put together from its twelve patches in three ways. As 3 by 4 it is whole. As 4 by 3 and as 2 by 6 each patch is intact, but many neighbours do not fit."}}
plots.same_scale(views, ("3 × 4", "4 × 3", "2 × 6"))

# %% [markdown]
# *Figure 1.5: the same twelve patches, put together with three grids.*
#
# If *each patch looks right but neighbouring patches do not fit together*, the grid or the order of the patches is wrong.

# %% [markdown]
# ## Where this lives
#
# The same functions, statement for statement, are in `minimae/model/patches.py`.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert torch.equal(patchify(photo, 16), minimae.patchify(photo, 16))
assert torch.equal(unpatchify(patchify(photo, 16), 16, (6, 8)), minimae.unpatchify(minimae.patchify(photo, 16), 16, (6, 8)))
assert grid_of((96, 128), (16, 8)) == minimae.grid_of((96, 128), (16, 8)) == (6, 16)

# %% [markdown]
# ## 196 tokens of 768 numbers
#
# Two of the paper's three models, ViT-B and ViT-L, read photographs of 224 × 224 pixels in patches of 16 × 16. The grid has 224 / 16 = 14
# rows and 14 columns, so there are 14 · 14 = **196** tokens. Each token has 16 · 16 · 3 = **768** numbers. All tokens together have 196 ·
# 768 = 150,528 numbers, as many as the image.

# %%
square = F.interpolate(cat[..., 60:360], size=224, mode="bicubic", antialias=True).clamp(0, 1)
tokens = patchify(square, 16)

# %% tags=["nbval-check-output"]
print("image", tuple(square.shape), "-> patches", tuple(tokens.shape))

# %% mystnb={"image": {"alt": "The same photograph of a cat under four grids: 56 by 56 pixels give 16 tokens, 32 by 32 give 49, 16 by 16 give 196, and flat patches of 8 by 32 give 196 as well."}}
plots.cut_lines(square[0].permute(1, 2, 0).numpy(), [(56, 56), (32, 32), (16, 16), (8, 32)])

# %% [markdown]
# *Figure 1.6: one photograph, four patch sizes.*
#
# Smaller patches give the model a finer grid, but attention compares every token with all tokens. If you halve the patch size from 16 to 8
# pixels, **how many times as many comparisons are there?** Change the 4 in the next cell if you disagree.

# %%
book.predict("pairs-at-8", 4,
             ask="Patches of 8 instead of 16 pixels: how many times as many pairs of tokens?")


# %%
def pairs(patch: int) -> int:
    """Comparisons in one attention layer, for a square image of 224 pixels."""
    h, w = grid_of(224, patch)
    return (h * w) ** 2


# %% mystnb={"image": {"alt": "The reader's guess, 4, and the truth, 16."}}
book.reveal("pairs-at-8", pairs(8) / pairs(16), unit="times as many")

# %% [markdown]
# *Figure 1.7: your guess and the answer.*
#
# Half the patch size gives four times the tokens and **sixteen** times the pairs. For patches of $p$ × $p$ pixels, the number of tokens is
# proportional to $1/p^2$, and the number of pairs to $1/p^4$.

# %% tags=["nbval-check-output"]
for patch in (32, 16, 14, 8):
    h, w = grid_of(224, patch)
    print(f"patch {patch:2}: {h * w:3} tokens of {3 * patch * patch:,} numbers, {pairs(patch):,} pairs")

# %% mystnb={"image": {"alt": "Two straight lines on logarithmic scales against the patch size from 4 to 112 pixels. Tokens fall: 784 at 8 pixels, 196 at 16, 49 at 32. Numbers in a patch rise: 192 at 8, 768 at 16, 3,072 at 32. The lines cross between 8 and 16."}}
plots.tokens_and_values(224, 3, [4, 8, 16, 32, 56, 112])

# %% [markdown]
# *Figure 1.8: number of tokens of a colour image of 224 × 224 pixels, and numbers in each token. The dashed line marks 16 pixels, the patch
# size of ViT-B and ViT-L.*
#
# There is a second reason against small patches: a hidden patch should be hard to guess. If patches are tiny, the visible neighbours of a
# hidden patch give the answer away, and the model may learn little more than to interpolate. What counts as tiny depends on the size of the
# image: `photos-tiny` of chapter 00 was trained on images of 64 × 64 pixels in patches of 4 × 4.

# %% [markdown]
# ## From a patch to a token
#
# So far, a token has been the vector of the raw values of a patch. In a transformer, a linear layer first turns each patch into a token of
# width `d`. Each of the `d` numbers is the dot product of the patch with a learned pattern, plus a learned bias. This layer, the **patch
# embedding**, is the same for every patch.
#
# Many implementations write this layer as a convolution with kernel size 16 and stride 16. A convolution computes the dot product of its
# kernel with a window of the image, then moves the window by the stride. If the stride equals the kernel size, the windows are exactly our
# patches. So the linear layer and the convolution give the same result if they have the same weights, in the right order: `d (p1 p2 c)` for
# the linear layer, `d c p1 p2` for the convolution.

# %%
torch.manual_seed(0)
linear = nn.Linear(16 * 16 * 3, 5).double()
convolution = nn.Conv2d(3, 5, kernel_size=16, stride=16).double()
with torch.no_grad():
    convolution.weight.copy_(rearrange(linear.weight, "d (p1 p2 c) -> d c p1 p2", p1=16, p2=16))
    convolution.bias.copy_(linear.bias)
    by_linear = linear(patchify(square.double(), 16))
    by_convolution = rearrange(convolution(square.double()), "b d h w -> b (h w) d")

# %% tags=["nbval-check-output"]
print("linear on patches  b n d :", tuple(by_linear.shape))
print("convolution      b d h w :", tuple(convolution(square.double()).shape))
print("equal:", torch.allclose(by_linear, by_convolution, rtol=0, atol=1e-12))

# %% [markdown]
# To *see* that the results are equal, replace the random weights with three simple patterns: right minus left, bottom minus top, and
# brightness. Each pattern gives one number for each patch. Arranged on the grid, these numbers form a small map.

# %%
ramp = torch.linspace(-1, 1, 16)
drawn = torch.stack([ramp.expand(16, 16), ramp[:, None].expand(16, 16), torch.ones(16, 16)])  # d p1 p2
drawn = drawn[..., None].expand(-1, -1, -1, 3) / 768  # d p1 p2 c: the same for red, green and blue
with torch.no_grad():
    first = rearrange(patchify(square, 16) @ drawn.flatten(1).T, "1 (h w) d -> d h w", h=14)
    second = F.conv2d(square, rearrange(drawn, "d p1 p2 c -> d c p1 p2"), stride=16)[0]

# %%
names, stretched = ("right − left", "bottom − top", "brightness"), lambda x: (x - x.min()) / (x.max() - x.min())
patterns = [0.5 + 0.4 * 768 * x for x in drawn]
cells = [[square[0].permute(1, 2, 0) if i == 0 else None, patterns[i], stretched(first[i]), stretched(second[i])] for i in range(3)]

# %% mystnb={"image": {"alt": "Three rows, one for each pattern. Beside the pattern are two maps of 14 by 14 numbers, one by the linear layer and one by the convolution; the first row also shows the photograph. In each row both maps are the same: vertical edges, horizontal edges, and a coarse picture of the cat."}}
plots.picture_table(cells, columns=("photograph", "pattern", "linear layer", "convolution"), rows=names, width=7.0)

# %% [markdown]
# *Figure 1.9: three simple patterns and their dot products with the 196 patches, computed by a linear layer on patches and by a convolution
# with stride 16. Bright means large; each map has its own scale.*
#
# Why does this book use a linear layer? Our masked autoencoder drops three quarters of the patches *before* its first layer. A linear layer
# can be applied to the remaining patches alone, but an ordinary convolution processes the whole image.
#
# A patch has 768 numbers, and the tokens of ViT-B are 768 wide. This is a coincidence: the tokens of ViT-L are 1,024 wide.

# %% tags=["nbval-check-output"]
for name in ("base", "large", "huge"):
    s = size(name)
    print(f"{name:5}: {s.grid[0] * s.grid[1]} patches of {s.values} numbers -> tokens {s.width} wide")

# %% [markdown]
# > **Paper.** Section 3, "Masking": as in ViT, an image is divided into regular patches that do not overlap. ViT-H has patches of 14 × 14
# > pixels. The authors' code embeds patches with a strided convolution.
# > **Our deviation.** We apply a linear layer to the visible patches only. For these patches, it gives the same numbers as the convolution
# > (to 1e-12 in float64: see above and `tests/model/test_patches.py`). Images and patches need not be square.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert tokens.shape == (1, 14 * 14, 16 * 16 * 3) and tokens.numel() == square.numel()
assert torch.allclose(first, second, atol=1e-6)

# %% [markdown]
# ## Break-it lab: three strings that fit
#
# Three colleagues wrote the string of `patchify` from memory. For an image of 144 × 144 pixels and patches of 12 × 12, einops accepts all
# three strings and returns a tensor of the right shape, 1 × 144 × 432.

# %%
strings = {
    "i": "b c (h p1) (w p2) -> b (h w) (p2 p1 c)",
    "ii": "b c (p1 h) (p2 w) -> b (h w) (p1 p2 c)",
    "iii": "b c (h p1) (w p2) -> b (h p1) (w p2 c)",
}
lengths = {"h": 12, "w": 12, "p1": 12, "p2": 12}
small = F.interpolate(cat[..., 60:360], size=144, mode="bicubic", antialias=True).clamp(0, 1)
theirs = {name: rearrange(small, string, **lengths) for name, string in strings.items()}
assert all(x.shape == patchify(small, 12).shape for x in theirs.values())

# %% [markdown]
# Give the colleagues' patches to *our* `unpatchify`. Figure 1.10 shows the results in random order.

# %%
shuffled = [list(strings)[i] for i in torch.randperm(3, generator=torch.Generator().manual_seed(4))]
shown = [small] + [unpatchify(theirs[name], 12, (12, 12)) for name in shuffled]

# %% mystnb={"image": {"alt": "The cat and three scrambled versions of it. A: 144 tiny cats, one in each patch. B: the cat can be recognised, but each small square is mirrored, so that edges do not meet. C: horizontal stripes in which nothing can be recognised."}}
plots.picture_table([[x[0].permute(1, 2, 0) for x in shown]], columns=("the image", "A", "B", "C"), width=9.2)

# %% [markdown]
# *Figure 1.10: patches that were cut with three wrong strings and put together with the right one.*
#
# **Which result belongs to which string? And what does each token contain?**
#
# Each colleague also wrote an inverse: their own string with its two sides swapped. A *round trip* applies the string, then its inverse,
# and compares the result with the image. **How many of the three strings fail this round trip?**

# %%
book.predict("caught", 3, ask="How many of the three wrong strings does a round trip catch?")


# %%
def back(x: Tensor, string: str) -> Tensor:
    """Their own inverse: the string with both sides swapped."""
    left, right = string.split(" -> ")
    return rearrange(x, f"{right} -> {left}", c=3, **lengths)


caught = sum(not torch.equal(back(theirs[name], string), small) for name, string in strings.items())

# %% mystnb={"image": {"alt": "The reader's guess, 3, and the truth, 0."}}
book.reveal("caught", caught, unit="of three")

# %% [markdown]
# *Figure 1.11: your guess and the answer.*
#
# None of the three strings fails. A round trip shows that nothing is lost. It does not show that a token is a patch.
#
# Does a wrong order matter? With each of the three strings, cut the image, hide the same 108 of 144 tokens, and put the image together
# again with the inverse of that string.

# %%
hidden = torch.randperm(144, generator=torch.Generator().manual_seed(0))[:108]
holes = []
for name in shuffled:
    gone = torch.zeros_like(theirs[name])
    gone[:, hidden] = 1
    away = back(gone, strings[name])[0].permute(1, 2, 0) > 0
    holes.append(torch.where(away, torch.tensor(plots.HIDDEN), back(theirs[name], strings[name])[0].permute(1, 2, 0)))

# %% mystnb={"image": {"alt": "Three pictures with three quarters of the tokens hidden. A: single pixels are grey, in a fine pattern all over the picture, and the cat can be seen through it. B: squares are grey, as they should be. C: whole rows of pixels are grey, and between them thin lines of the cat are left."}}
plots.picture_table([holes], columns=("A", "B", "C"), width=8.0)

# %% [markdown]
# *Figure 1.12: the image with 75 % of the tokens hidden, for each of the three strings. Each time, tokens at the same positions in the
# sequence are hidden (seed 0).*
#
# <details><summary>Diagnosis</summary>
#
# **B is i**, `(p2 p1 c)`: rows and columns are swapped inside each patch, so each little square is mirrored across its diagonal. The
# squares themselves are in the right positions, and so are the hidden squares in Figure 1.12. A model trained and used with this string is
# as good as one with the right string. The string does harm only in combination with weights, targets or patches that were made with the
# right one.
#
# **A is ii**, `(p1 h)`: the axes in the left brackets are in the wrong order. Now `h` changes fastest, so a band consists of every twelfth
# row. Each token is a tiny picture of the *whole* cat, and all tokens are nearly the same. If 75 % of the tokens are hidden, hidden pixels
# still have visible pixels nearby. Interpolation can then make the loss look excellent, although the model learns little.
#
# **C is iii**, where `p1` and `w` are swapped on the right: `(h p1)` counts rows of pixels, and `(w p2 c)` lists all values in a row. A
# token is a row of pixels, and the mask hides stripes. The shape is right only by accident: there are 144 rows of pixels and 144 patches.
# With an image of 224 × 224 pixels and patches of 16 × 16, the shape would be 224 × 672 instead of 196 × 768, and you would notice the
# mistake. Test with sizes that are all different.
# </details>
#
# One test catches all three mistakes: cut the image of sixteen numbers, and compare the result with the patches that we made by hand.

# %% tags=["nbval-check-output"]
assert shuffled == ["ii", "i", "iii"]
for name, string in strings.items():
    row = rearrange(numbers, string, h=2, w=2, p1=2, p2=2)
    print(f"{name:3} {row[0].tolist()}", "right" if torch.equal(row[0], by_hand) else "wrong")

# %% [markdown]
# ## One more exercise
#
# **4 ★★★ Which order?** You get a function `cut(images, patch)` whose code you cannot see. It takes images `b c height width` and a pair
# (p1, p2), and returns a tensor of the same shape as the output of `patchify`. In which order does `cut` list the values of a patch? Return
# one of the six orders, such as `"p1 p2 c"` or `"c p1 p2"`. Return `"none"` if the rows of the tensor are not patches in reading order.
#
# <details><summary>Hint</summary>
#
# Make an image of your own to test `cut`. What must hold for its values, for p1, p2 and c, and for its grid of patches, so that no two
# orders give the same result and wrong patches are noticed?
# `rearrange` is allowed, and `itertools.permutations` helps.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch01-ex4", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def order_of(cut) -> str:
    """The order of the values in a patch that `cut(images, patch)` makes, such as "p1 p2 c", or "none"."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch01_order_of(order_of)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_order_of(cut) -> str:
    """The order of the values in a patch that `cut(images, patch)` makes, such as "p1 p2 c", or "none"."""
    from itertools import permutations

    images = torch.arange(3 * 4 * 10).reshape(1, 3, 4, 10)  # every number once; a grid of 2 × 2 patches of 2 × 5
    for order in map(" ".join, permutations(("p1", "p2", "c"))):
        if torch.equal(cut(images, (2, 5)), rearrange(images, f"b c (h p1) (w p2) -> b (h w) ({order})", p1=2, p2=5)):
            return order
    return "none"


check.ch01_order_of(solution_order_of)

# %% [markdown]
# Before you load weights that were trained with another implementation, run `order_of` on its `patchify`.

# %% [markdown]
# ## Summary
#
# To turn an image into a sequence of patches, you only move numbers: `b c (h p1) (w p2) -> b (h w) (p1 p2 c)`. The brackets on the left cut
# the image into bands and the bands into patches. The brackets on the right put the patches in a row and list each patch pixel by pixel.
# The same string with its sides swapped is the inverse, but it needs the grid. A colour image of 224 × 224 pixels in patches of 16 × 16
# gives 196 tokens of 768 numbers. Half the patch size means sixteen times as many pairs in attention. A linear layer on patches is a
# convolution whose kernel size and stride equal the patch size. A round trip cannot show that the patches are right, so check sixteen
# numbers by hand.
#
# ## Five questions
#
# 1. Why can `reshape` alone not make patches?
# <details><summary>Answer</summary>A `reshape` does not change the order of the numbers in memory. A patch contains parts of several rows, and these
# parts are not adjacent in memory.</details>
#
# 2. What is the difference between `(h p1)` and `(p1 h)`?
# <details><summary>Answer</summary>The last axis inside brackets changes fastest. With `(h p1)`, each band has p1 adjacent rows.
# With `(p1 h)`, every h-th row belongs to the same band.</details>
#
# 3. Why does `unpatchify` need the grid, when `patchify` does not?
# <details><summary>Answer</summary>The sequence of n patches does not contain the number of rows and columns: 12 patches may form a grid of
# 3 × 4, 4 × 3 or 2 × 6.</details>
#
# 4. An image has 448 × 448 pixels and three channels, and is cut into patches of 14 × 14. How many tokens are there, and how many numbers
#    does each have?
# <details><summary>Answer</summary>448 / 14 = 32, so there are 32 · 32 = 1,024 tokens. Each token has 14 · 14 · 3 = 588 numbers.</details>
#
# 5. You copy a patch embedding from a convolution into a linear layer with `weight.flatten(1)`. The shapes fit. What is wrong?
# <details><summary>Answer</summary>The order is wrong. Each row of the flattened weight has the order (c p1 p2), but the patches of this
# book have the order (p1 p2 c). Permute the weight first.</details>
#
# Next: [02 · Masking by shuffling](02_masking_by_shuffling.ipynb), where you hide most of the patches.
