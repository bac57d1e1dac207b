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
# **The promise.** You turn a picture into a row of patches and back with one line of code each way, and you can read that line like a
# sentence.
#
# Minutes: 35. Needs: chapter 00.
#
# When you are through, you can
#
# - cut a small image into patches by hand, and say where every number goes;
# - read an einops string, axis by axis, as something that moves;
# - say why a 224-pixel image is 196 tokens of 768 numbers, and what a smaller patch would cost;
# - show that a linear layer on patches is a convolution with large steps;
# - look at a scrambled picture and name the mistake in the string.

# %% tags=["install", "remove-cell"]
import os
from importlib.util import find_spec

from IPython import get_ipython

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: with models this small, a second thread mostly waits
if find_spec("minimae") is None:  # on Colab and Binder
    get_ipython().run_line_magic("pip", "install -q 'minimae[book] @ git+https://github.com/minimae/minimae'")

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
# ## Why cut at all?
#
# The network of this book is a transformer. It reads a *row of tokens*: this, then this, then this, each token a list of numbers. A
# picture is no row. It is a field of pixels. Something has to make a row of it.
#
# One could take every pixel as a token. A photograph of 224 × 224 pixels would be 50,176 tokens, and attention (chapter 03) compares
# every token with every token: 2.5 billion pairs, in each layer. And a single pixel says next to nothing.
#
# So we take small rectangles instead, mostly squares: **patches**. They do not overlap and they leave nothing out. Each is written down as
# a list of numbers. That is all of this chapter. It is also where masked autoencoders go wrong most quietly, as you will see in the lab.

# %% [markdown]
# ## Four patches, by hand
#
# Take an image of 4 × 4 pixels, grey, so one number a pixel. We number the pixels as one reads: 0 to 3 in the first row, 4 to 7 in the
# second. Patches shall have 2 × 2 pixels.
#
# - The first patch is the upper left corner. Reading it row by row: 0, 1, then 4, 5.
# - The second is to its right: 2, 3, 6, 7.
# - Then the lower left: 8, 9, 12, 13. Then the lower right: 10, 11, 14, 15.

# %%
numbers = torch.arange(16).reshape(1, 1, 4, 4)  # b c height width
by_hand = torch.tensor([[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]])
cut = [numbers[0, 0, y : y + 2, x : x + 2].flatten() for y in (0, 2) for x in (0, 2)]
assert torch.equal(torch.stack(cut), by_hand)

# %% mystnb={"image": {"alt": "Left, a field of 4 by 4 numbers from 0 to 15 in four colours, one for each 2 by 2 corner. Right, four rows of four numbers: 0 1 4 5, then 2 3 6 7, then 8 9 12 13, then 10 11 14 15, each in the colour of its corner."}}
plots.numbers_and_patches(numbers[0, 0].numpy(), (2, 2))

# %% [markdown]
# *Figure 1.1: sixteen pixels, four patches. Read the right side row by row, and watch where you are on the left.*
#
# Look at the first row of the table: 0, 1, **4**, 5. In the computer's memory the sixteen numbers lie in the order 0 to 15. Patch 0 skips
# 2 and 3. So no `reshape` will do: a reshape never moves a number, it only says anew where rows end.

# %% tags=["nbval-check-output"]
print("reshape :", numbers.reshape(4, 4).tolist()[0], "<- the upper row of the image, not a patch")
print("wanted  :", by_hand.tolist()[0])

# %% [markdown]
# ## One string
#
# The library einops lets us write down what moves where. This is the line on which everything in this book stands:
#
# ```
# b c (h p1) (w p2)  ->  b (h w) (p1 p2 c)
# ```
#
# Left of the arrow: what we have. Right of it: what we want. Every letter is an axis.
#
# | axis | meaning | 4 × 4 example | 224 × 224 photograph |
# |---|---|---|---|
# | `b` | images in the batch | 1 | as many as you like |
# | `c` | channels: 1 for grey, 3 for colour | 1 | 3 |
# | `h` | rows of patches | 2 | 14 |
# | `w` | columns of patches | 2 | 14 |
# | `p1` | rows of pixels in a patch | 2 | 16 |
# | `p2` | columns of pixels in a patch | 2 | 16 |
#
# Brackets join axes into one. On the left they are read as *taken apart*: the image's height is `(h p1)`, so `h` bands of `p1` pixel rows
# each. In a bracket, **the last axis moves fastest**, as the last digit of a clock does: pixel row 5 of bands of 4 is band 1, row 1.
#
# On the right they are read as *put together*: `(h w)` counts the patches, band by band, and from left to right in each. `(p1 p2 c)` lists
# what is inside one patch.

# %%
patches = rearrange(numbers, "b c (h p1) (w p2) -> b (h w) (p1 p2 c)", p1=2, p2=2)
assert torch.equal(patches[0], by_hand)

# %% tags=["nbval-check-output"]
print("image  ", tuple(numbers.shape), "-> patches", tuple(patches.shape))

# %% [markdown]
# We gave `p1` and `p2`. The rest follows: 4 rows in bands of 2 are 2 bands.
#
# Now watch it move. A photograph of 96 × 128 pixels, in patches of 32 × 32. (So large that one can see them. Models use 16 on larger
# photographs.)

# %%
cat = photograph("chelsea").permute(2, 0, 1)[None] / 255  # b c height width, values in [0, 1]
photo = F.avg_pool2d(cat[:, :, 6:294, 30:414], 3)
pieces = rearrange(photo, "1 c (h p1) (w p2) -> (h w) p1 p2 c", p1=32, p2=32)

# %% tags=["nbval-check-output"]
print("photograph", tuple(photo.shape), "-> pieces", tuple(pieces.shape))

# %% mystnb={"image": {"alt": "A photograph of a cat in five moments. First whole. Then three bands, one below the other, each marked p1. Then each band in four pieces, marked p2. Then the bands have slid apart like stairs, the second to the right of the first, the third to the right of the second. Last, twelve pieces in one row, numbered 0 to 11, four in the colour of each band."}}
plots.moving_grid(pieces.numpy(), (3, 4))

# %% [markdown]
# *Figure 1.2: the string as a moving grid. `(h p1)` cuts bands, `(w p2)` cuts pieces, `(h w)` lets the bands slide behind one another.
# Photograph: Chelsea, from scikit-image (Stéfan van der Walt, CC0).*
#
# Keep this picture. Blue, orange, green: band by band, that is `(h w)`. What would `(w h)` look like? The first column from top to bottom,
# then the second: colours in turn.
#
# You can stop the film wherever you want:

# %% mystnb={"image": {"alt": "The twelve pieces half way between stairs and row: the second and the third band hang a little lower than the first."}}
plots.moving_grid(pieces.numpy(), (3, 4), moments=[3.5])

# %% [markdown]
# *Figure 1.3: the same, on the way from the stairs to the row.*
#
# With a slider: `from ipywidgets import interact`, then
# `interact(lambda moment: plots.moving_grid(pieces.numpy(), (3, 4), [moment]), moment=(0, 4, 0.25))`.

# %% [markdown]
# ## Inside a patch
#
# The right end of the string, `(p1 p2 c)`, says in which order the numbers of one patch are listed. `c` comes last, so it moves fastest:
# the red, green and blue of the first pixel, then the red, green and blue of the second. This is called **channels last**.
#
# Here is a patch of 2 × 3 pixels from a very coarse photograph. (Nobody said that patches must be square.)

# %%
coarse = F.avg_pool2d(photograph("astronaut").permute(2, 0, 1)[None] / 255, 32)[..., :15]
one = rearrange(coarse, "1 c (h p1) (w p2) -> (h w) p1 p2 c", p1=2, p2=3)[26]
assert torch.equal(one.flatten()[3:6], one[0, 1])  # numbers 3, 4, 5 of the list: the second pixel

# %% tags=["nbval-check-output"]
print("coarse photograph", tuple(coarse.shape), " one patch", tuple(one.shape), " as a list", tuple(one.flatten().shape))

# %% mystnb={"image": {"alt": "Left, a patch of two rows of three coloured pixels, numbered 0 to 5. Right, its 18 values as bars, twice. Above, pixel by pixel: red, green, blue of pixel 0, then of pixel 1, and so on. Below, colour by colour: the reds of all six pixels, then the greens, then the blues."}}
plots.inside_a_patch(one.numpy())

# %% [markdown]
# *Figure 1.4: the same eighteen numbers in two orders. This book, and the authors' code, list a patch as in the upper row. Data: the suit
# in the astronaut's photograph from scikit-image (NASA, public domain), averaged over squares of 32 pixels.*
#
# Is one order better? For learning, no: a linear layer does not care in which order it gets its numbers, as long as it is *always the
# same*. But a convolution stores its weights in the lower order, `(c p1 p2)`. Whoever moves weights from one kind of model to the other
# has to reorder them. Forgetting that is a classic: shapes fit, nothing complains, and the model is blind.

# %% [markdown]
# ## Which grid?
#
# Time to write it properly. First two helpers. `16` shall mean 16 × 16, and a pair (rows, columns) shall be allowed everywhere.


# %% tags=["package:minimae.model.patches"]
Pair = tuple[int, int]


def pair(value: int | Pair) -> Pair:
    """`16` means `(16, 16)`; a pair (rows, columns) stays as it is."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


# %% [markdown]
# Then the grid: how many rows and columns of patches? A division. But what if it does not come out even? Rounding would drop pixels at the
# edge, silently. We refuse, and say what would do. (`_around` finds the next smaller and the next larger grid. The odd-looking
# `-int(-x // 1)` rounds up.)


# %% tags=["package:minimae.model.patches"]
def grid_of(image: int | Pair, patch: int | Pair) -> Pair:
    """Rows and columns of patches `(h, w)` in an image of `(height, width)` pixels."""
    (height, width), (p1, p2) = pair(image), pair(patch)
    if min(height, width, p1, p2) < 1:
        raise ValueError(f"image {height}×{width} and patch {p1}×{p2} must be at least 1 pixel each way")
    if height % p1 or width % p2:
        near = [f"{max(1, r) * p1}×{max(1, s) * p2}" for r, s in _around(height / p1, width / p2)]
        raise ValueError(
            f"an image of {height}×{width} pixels cannot be cut into patches of {p1}×{p2}: "
            f"resize or crop it to {' or '.join(near)}, or choose a patch size that divides it"
        )
    return height // p1, width // p2


def _around(rows: float, columns: float) -> list[Pair]:
    down, up = (int(rows), int(columns)), (-int(-rows // 1), -int(-columns // 1))
    return [up] if min(down) < 1 else [down, up]


# %%
assert grid_of(224, 16) == (14, 14) and grid_of((96, 128), 32) == (3, 4)
assert grid_of((28, 28), (4, 7)) == (7, 4)

# %% tags=["nbval-check-output"]
try:
    grid_of((224, 230), 16)
except ValueError as error:
    print(error)

# %% [markdown]
# An error message is a place to be kind. It says what was given, what is wrong, and two ways out.

# %% [markdown]
# ## There and back
#
# `patchify` asks `grid_of` whether the size is right. Then comes the string.


# %% tags=["package:minimae.model.patches"]
def patchify(images: Tensor, patch: int | Pair) -> Tensor:
    """Images `b c (h p1) (w p2)` → patches `b n (p1 p2 c)`, row by row (n = h·w)."""
    p1, p2 = pair(patch)
    grid_of((images.shape[-2], images.shape[-1]), patch)
    return rearrange(images, "b c (h p1) (w p2) -> b (h w) (p1 p2 c)", p1=p1, p2=p2)


# %% [markdown]
# And back. Turn the string round at its arrow. That is the whole inverse.
#
# But something has to be told that was not needed before. Twelve patches: is that 3 rows of 4, or 4 of 3, or one of 12? The row has
# forgotten. So `unpatchify` wants the grid.


# %% tags=["package:minimae.model.patches"]
def unpatchify(patches: Tensor, patch: int | Pair, grid: Pair) -> Tensor:
    """Patches `b n (p1 p2 c)` → images `b c (h p1) (w p2)`: the exact inverse of `patchify`."""
    (p1, p2), (h, w) = pair(patch), grid
    n, values = patches.shape[-2:]
    if n != h * w:
        raise ValueError(f"{n} patches do not fill a grid of {h}×{w} = {h * w}")
    if values % (p1 * p2):
        raise ValueError(f"{values} values are not a whole number of channels for a patch of {p1}×{p2} pixels")
    return rearrange(patches, "b (h w) (p1 p2 c) -> b c (h p1) (w p2)", h=h, w=w, p1=p1, p2=p2)


# %% [markdown]
# The channels need not be told: what is left after dividing by `p1·p2` must be `c`.
#
# Nothing is computed here, numbers only change places. So the way there and back must give the *same* picture, to the last bit. For any
# grid, any patch, any number of channels:

# %% tags=["nbval-check-output"]
for patch, grid, c in ((32, (3, 4), 3), ((8, 16), (5, 2), 3), ((1, 3), (4, 4), 13), (2, (1, 6), 1)):
    p1, p2 = pair(patch)
    image = torch.rand(2, c, grid[0] * p1, grid[1] * p2)
    row = patchify(image, patch)
    assert torch.equal(unpatchify(row, patch, grid), image)
    print(f"image {tuple(image.shape)} -> patches {tuple(row.shape)} -> the same image")

# %% [markdown]
# And the wrong grid? Our photograph was 3 × 4 patches. Say 4 × 3, and no error comes: the count is right. What do you expect to see?

# %%
row = patchify(photo, 32)
views = [unpatchify(row, 32, grid)[0].permute(1, 2, 0).numpy() for grid in ((3, 4), (4, 3), (2, 6))]

# %% mystnb={"image": {"alt": "The cat put together from its twelve patches in three ways. As 3 by 4 it is whole. As 4 by 3 and as 2 by 6 each patch is in itself all right, but neighbours do not fit."}}
plots.same_scale(views, ("3 × 4", "4 × 3", "2 × 6"))

# %% [markdown]
# *Figure 1.5: twelve patches, three grids. Inside each patch all is well.*
#
# Remember that pattern: *good inside the patches, wrong between them* means that the patches are in the wrong places.

# %% [markdown]
# ## Where this lives
#
# All of it is `minimae/model/patches.py`, statement for statement.

# %%
assert torch.equal(patchify(photo, 16), minimae.patchify(photo, 16))
assert torch.equal(unpatchify(patchify(photo, 16), 16, (6, 8)), minimae.unpatchify(minimae.patchify(photo, 16), 16, (6, 8)))
assert grid_of((96, 128), (16, 8)) == minimae.grid_of((96, 128), (16, 8)) == (6, 16)

# %% [markdown]
# ## 196 and 768
#
# The models of the paper read photographs of 224 × 224 pixels in patches of 16 × 16. So there are 224 / 16 = 14 rows and 14 columns, and
# 14 · 14 = **196** tokens. Each has 16 · 16 · 3 = **768** numbers.
#
# Together 196 · 768 = 150,528 = 224 · 224 · 3. Of course: nothing is lost, and nothing is added.

# %%
square = F.interpolate(cat[..., 60:360], size=224, mode="bicubic", antialias=True).clamp(0, 1)
tokens = patchify(square, 16)
assert tokens.shape == (1, 14 * 14, 16 * 16 * 3) and tokens.numel() == square.numel()

# %% tags=["nbval-check-output"]
print("image", tuple(square.shape), "-> patches", tuple(tokens.shape))

# %% mystnb={"image": {"alt": "The same photograph of a cat under four grids: 56 by 56 pixels give 16 tokens, 32 by 32 give 49, 16 by 16 give 196, and flat patches of 8 by 32 give 196 as well."}}
plots.cut_lines(square[0].permute(1, 2, 0).numpy(), [(56, 56), (32, 32), (16, 16), (8, 32)])

# %% [markdown]
# *Figure 1.6: one photograph, four patch sizes. The left eye nearly fits into one patch of 56 pixels, and takes about a
# dozen of 16.*
#
# Small patches show the model finer detail. So why not 8 pixels? Because of attention: in every layer every token is compared with every
# token, itself included. Halve the patch, from 16 to 8 pixels. **How many times as many comparisons?** Change the 4, if you think otherwise.

# %%
book.predict("pairs-at-8", 4, ask="Patches of 8 instead of 16 pixels: how many times as many pairs of tokens?")


# %%
def pairs(patch: int) -> int:
    """Comparisons in one attention layer, for a square image of 224 pixels."""
    h, w = grid_of(224, patch)
    return (h * w) ** 2


# %% mystnb={"image": {"alt": "The reader's guess, 4, and the truth, 16."}}
book.reveal("pairs-at-8", pairs(8) / pairs(16), unit="times as many")

# %% [markdown]
# *Figure 1.7: your guess, and the truth.*
#
# Half the patch, four times the tokens, **sixteen** times the pairs. The count of tokens goes with $1/p^2$, the pairs with $1/p^4$.

# %% tags=["nbval-check-output"]
for patch in (32, 16, 14, 8):
    h, w = grid_of(224, patch)
    print(f"patch {patch:2}: {h * w:3} tokens of {3 * patch * patch:,} numbers, {pairs(patch):,} pairs")

# %% mystnb={"image": {"alt": "Two straight lines on logarithmic scales against the patch size from 4 to 112 pixels. Tokens fall: 784 at 8 pixels, 196 at 16, 49 at 32. Numbers in a patch rise: 192 at 8, 768 at 16, 3,072 at 32. The lines cross between 8 and 16."}}
plots.tokens_and_values(224, 3, [4, 8, 16, 32, 56, 112])

# %% [markdown]
# *Figure 1.8: tokens of a 224-pixel colour image, and numbers in each. The product is always 150,528. Dashed: the paper's 16 pixels.*
#
# There is a second reason, and it matters for masking. A hidden patch should be hard to guess. If patches are tiny, the answer lies right
# beside them, and the model learns to smear. The clothes of chapter 00 have 28 pixels, so we took patches of 4: 49 tokens of 16 numbers.

# %% [markdown]
# ## From a patch to a token
#
# 768 raw numbers are not yet what the transformer reads. A linear layer turns each patch into a token of width `d`: one dot product of the
# patch with a learned pattern for each of the `d` numbers. The same layer for every patch. This is the **patch embedding**.
#
# Many models write it as a convolution: kernel 16, stride 16. A convolution takes a dot product of its kernel with a window of the image,
# then moves the window on by the stride. If the stride is as large as the kernel, the windows are our patches. So both must give the same,
# if the weights are put in the right order. Weight of the linear layer: `d (p1 p2 c)`. Weight of the convolution: `d c p1 p2`.

# %%
torch.manual_seed(0)
linear = nn.Linear(16 * 16 * 3, 5).double()
convolution = nn.Conv2d(3, 5, kernel_size=16, stride=16).double()
with torch.no_grad():
    convolution.weight.copy_(rearrange(linear.weight, "d (p1 p2 c) -> d c p1 p2", p1=16, p2=16))
    convolution.bias.copy_(linear.bias)
    by_linear = linear(patchify(square.double(), 16))
    by_convolution = rearrange(convolution(square.double()), "b d h w -> b (h w) d")
assert torch.allclose(by_linear, by_convolution, rtol=0, atol=1e-12)

# %% tags=["nbval-check-output"]
print("linear on patches  b n d :", tuple(by_linear.shape))
print("convolution      b d h w :", tuple(convolution(square.double()).shape))

# %% [markdown]
# Equal, up to the rounding of sums that are taken in another order. To *see* it, we draw three patterns by hand instead of random ones:
# right minus left, bottom minus top, and the brightness. Each dot product gives one number a patch. Laid out on the grid, that is a small
# map.

# %%
ramp = torch.linspace(-1, 1, 16)
drawn = torch.stack([ramp.expand(16, 16), ramp[:, None].expand(16, 16), torch.ones(16, 16)])  # d p1 p2
drawn = drawn[..., None].expand(-1, -1, -1, 3) / 768  # d p1 p2 c: the same for red, green and blue
with torch.no_grad():
    first = rearrange(patchify(square, 16) @ drawn.flatten(1).T, "1 (h w) d -> d h w", h=14)
    second = F.conv2d(square, rearrange(drawn, "d p1 p2 c -> d c p1 p2"), stride=16)[0]
assert torch.allclose(first, second, atol=1e-6)

# %%
names, spread = ("right − left", "bottom − top", "brightness"), lambda x: (x - x.min()) / (x.max() - x.min())
patterns = [0.5 + 0.4 * 768 * x for x in drawn]
cells = [[square[0].permute(1, 2, 0) if i == 0 else None, patterns[i], spread(first[i]), spread(second[i])] for i in range(3)]

# %% mystnb={"image": {"alt": "Three rows, one for each pattern. Beside the photograph and the pattern stand two maps of 14 by 14 numbers, one by the linear layer and one by the convolution. In each row both maps are the same: edges that run down, edges that run across, and a coarse picture of the cat."}}
plots.picture_table(cells, columns=("photograph", "pattern", "linear layer", "convolution"), rows=names, width=7.0)

# %% [markdown]
# *Figure 1.9: three patterns that were drawn by hand, and what each finds in the 196 patches: by a linear layer on patches, and by a
# convolution with stride 16. Bright: much of the pattern; each map has its own scale.*
#
# Then why does this book patchify first? Because of what comes next. A masked autoencoder throws three quarters of the patches away
# *before* it computes anything. From a row of patches one can take some. A convolution works through the whole image.
#
# One coincidence confuses many. A patch has 768 numbers, and the tokens of ViT-B are 768 wide. These are two different 768. In
# ViT-L the layer goes from the same 768 to 1024.

# %% tags=["nbval-check-output"]
for name in ("base", "large", "huge"):
    s = size(name)
    print(f"{name:5}: {s.grid[0] * s.grid[1]} patches of {s.values} numbers -> tokens {s.width} wide")

# %% [markdown]
# > **Paper.** Section 3, "Masking": an image is cut into regular patches that do not overlap, following ViT. ViT-B and ViT-L have patches of
# > 16 pixels, ViT-H of 14: 256 tokens of 588 numbers at 224 pixels. The authors' code embeds patches by a convolution with a stride, whose
# > weights start as those of a linear layer would.
# > **Our deviation.** A linear layer on the patches that are kept, and only on those. The same numbers (above, and
# > `tests/model/test_patches.py`, to 1e-12 in float64), and a quarter of the work in this layer. And images and patches need not be square.

# %% [markdown]
# ## Break it: three strings that fit
#
# Three colleagues wrote `patchify` from memory. Here are their strings. For a picture of 144 × 144 pixels and patches of 12, all three run,
# and all three give a tensor of the right shape, 1 × 144 × 432.

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
# We hand their patches to *our* `unpatchify`, and look. The three are shown in an order that the computer has shuffled.

# %%
shuffled = [list(strings)[i] for i in torch.randperm(3, generator=torch.Generator().manual_seed(4))]
shown = [small] + [unpatchify(theirs[name], 12, (12, 12)) for name in shuffled]

# %% mystnb={"image": {"alt": "The cat and three scrambled versions of it. A: 144 tiny cats, one in each patch. B: the cat can be recognised, but each small square is mirrored, so that edges do not meet. C: horizontal stripes in which nothing can be recognised."}}
plots.picture_table([[x[0].permute(1, 2, 0) for x in shown]], columns=("the picture", "A", "B", "C"), width=9.2)

# %% [markdown]
# *Figure 1.10: patches that were cut by three wrong strings, put together by the right one.*
#
# **Which picture belongs to which string? And what does each token hold?**
#
# A colleague says: "A test would have caught that. Patchify, unpatchify, compare." Each of the three has written an inverse too: their own
# string, turned round. **How many of the three fail the test of going there and back?**

# %%
book.predict("caught", 3, ask="How many of the three wrong strings does a round trip catch?")


# %%
def back(x: Tensor, string: str) -> Tensor:
    """Their own inverse: the string, turned round at the arrow."""
    left, right = string.split(" -> ")
    return rearrange(x, f"{right} -> {left}", c=3, **lengths)


caught = sum(not torch.equal(back(theirs[name], string), small) for name, string in strings.items())

# %% mystnb={"image": {"alt": "The reader's guess, 3, and the truth, 0."}}
book.reveal("caught", caught, unit="of three")

# %% [markdown]
# *Figure 1.11: your guess, and the truth.*
#
# None! Each of them only moves numbers, and moves them back. A round trip proves that nothing is lost. It does not prove that a token is a
# patch.
#
# Does it matter, then? Let each colleague hide the same 108 of 144 tokens, in their own order, and put the picture together again.

# %%
hidden = torch.randperm(144, generator=torch.Generator().manual_seed(0))[:108]
holes = []
for name in shuffled:
    kept = theirs[name].clone()
    kept[:, hidden] = 0.6
    holes.append(back(kept, strings[name])[0].permute(1, 2, 0))

# %% mystnb={"image": {"alt": "Three pictures with three quarters of the tokens hidden. A: single pixels are grey, in a fine pattern all over the picture, and the cat can be seen through it. B: squares are grey, as it should be. C: whole rows of pixels are grey, and between them thin lines of the cat are left."}}
plots.picture_table([holes], columns=("A", "B", "C"), width=8.0)

# %% [markdown]
# *Figure 1.12: what 75 % hidden means to each of the three (the same token numbers, seed 0; put together by their own inverse).*
#
# <details><summary>Diagnosis</summary>
#
# **B is i**, `(p2 p1 c)`: inside each patch rows and columns are swapped, so each little square is mirrored at its diagonal. The squares
# themselves are right, and so are the holes. A model that is trained and used with this string is as good as any. It goes wrong when it
# meets weights, targets or pictures that were made with the right one.
#
# **A is ii**, `(p1 h)`: the brackets on the left are in the wrong order. Now `h` moves fastest, so a band is every twelfth row. Each token is
# a tiny picture of the *whole* cat, twelve times coarser, and all tokens are nearly alike. Hide 75 % of them, and every hidden pixel has
# visible pixels close by. The model need only smear, the loss will look splendid, and it learns little.
#
# **C is iii**, `p1` and `w` swapped on the right: `(h p1)` is one row of pixels, `(w p2 c)` is all that is in it. A token is a row of
# pixels, and the mask hides stripes. It has the right shape by accident only: there are 144 rows of pixels and 144 patches. At 224 pixels
# and patches of 16 the shape would be 224 × 672, and somebody would have noticed. Test with sizes that differ from one another!
# </details>
#
# The test that does catch them is the one at the beginning of this chapter: sixteen numbers, by hand.

# %% tags=["nbval-check-output"]
assert shuffled == ["ii", "i", "iii"]
for name, string in strings.items():
    row = rearrange(numbers, string, h=2, w=2, p1=2, p2=2)
    print(f"{name:3} {row[0].tolist()}", "right" if torch.equal(row[0], by_hand) else "wrong")

# %% [markdown]
# ## Exercises
#
# **1 ★ Find a patch.** Patch number `i` of an image: in which pixel row and which pixel column does it begin? The grid has `h` rows and `w`
# columns, a patch has `p1` × `p2` pixels. Return the pair (top, left).


# %% nbgrader={"grade": false, "grade_id": "ch01-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def corner_of(i: int, grid: tuple[int, int], patch: tuple[int, int]) -> tuple[int, int]:
    """Patch number → the pixel (top, left) of its upper left corner."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch01_corner_of(corner_of)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_corner_of(i: int, grid: tuple[int, int], patch: tuple[int, int]) -> tuple[int, int]:
    """Patch number → the pixel (top, left) of its upper left corner."""
    row, column = divmod(i, grid[1])
    return row * patch[0], column * patch[1]


check.ch01_corner_of(solution_corner_of)

# %% [markdown]
# **2 ★★ Without einops.** Write `patchify` with `reshape` and `permute` alone. `patch` is a pair (p1, p2). First take the axes apart,
# then put them in another order, then join them.


# %% nbgrader={"grade": false, "grade_id": "ch01-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def plain_patchify(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """Images `b c (h p1) (w p2)` → patches `b (h w) (p1 p2 c)`, without einops."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch01_plain_patchify(plain_patchify)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_plain_patchify(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """Images `b c (h p1) (w p2)` → patches `b (h w) (p1 p2 c)`, without einops."""
    b, c, height, width = images.shape
    p1, p2 = patch
    h, w = height // p1, width // p2
    apart = images.reshape(b, c, h, p1, w, p2)
    return apart.permute(0, 2, 4, 3, 5, 1).reshape(b, h * w, p1 * p2 * c)


check.ch01_plain_patchify(solution_plain_patchify)

# %% [markdown]
# **3 ★★★ Which order?** Somebody gives you a function `cut(images, patch)`, and you cannot look inside. It takes images `b c height width`
# and a pair (p1, p2), and returns a tensor of the shape of patches. Find out in which order it lists a patch. Return `"p1 p2 c"`,
# `"c p1 p2"`, or whichever of the six orders it is, and `"none"` if its rows are not patches at all.
#
# Make an image of your own to try it on. Which sizes must differ, so that no two orders look alike? (`rearrange` is allowed, and
# `itertools.permutations` helps.)


# %% nbgrader={"grade": false, "grade_id": "ch01-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def order_of(cut) -> str:
    """The order of the numbers in a patch that `cut(images, patch)` makes, such as "p1 p2 c", or "none"."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch01_order_of(order_of)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_order_of(cut) -> str:
    """The order of the numbers in a patch that `cut(images, patch)` makes, such as "p1 p2 c", or "none"."""
    from itertools import permutations

    images = torch.arange(3 * 4 * 10).reshape(1, 3, 4, 10)  # every number once; a grid of 2 × 2 patches of 2 × 5
    for order in map(" ".join, permutations(("p1", "p2", "c"))):
        if torch.equal(cut(images, (2, 5)), rearrange(images, f"b c (h p1) (w p2) -> b (h w) ({order})", p1=2, p2=5)):
            return order
    return "none"


check.ch01_order_of(solution_order_of)

# %% [markdown]
# Run it on `patchify`, and on any `patchify` that you find elsewhere, before you load foreign weights.

# %% [markdown]
# ## Summary
#
# A picture becomes a row of patches by moving numbers, and by nothing else: `b c (h p1) (w p2) -> b (h w) (p1 p2 c)`. The brackets on the left
# cut bands and pieces, those on the right line the pieces up and list each pixel by pixel, the channels of a pixel side by side. The same
# string, turned round, is the way back, but it must be told the grid. At 224 pixels and patches of 16 that makes 196 tokens of 768
# numbers; half the patch means sixteen times the pairs that attention compares. A linear layer on patches is a convolution with large steps.
# And a round trip proves little: sixteen numbers, checked by hand, prove more.
#
# ## Five questions
#
# 1. Why can `reshape` alone not make patches?
# <details><summary>Answer</summary>It does not change the order of the numbers in memory. A patch holds parts of several rows, which lie
# apart there.</details>
#
# 2. What does `(h p1)` mean that `(p1 h)` does not?
# <details><summary>Answer</summary>The last axis moves fastest. `(h p1)`: bands of p1 rows that lie side by side. `(p1 h)`: every h-th row
# goes to the same band.</details>
#
# 3. Why must `unpatchify` be told the grid, when `patchify` need not?
# <details><summary>Answer</summary>The row of n patches has forgotten how many rows and columns there were: 12 may be 3 × 4 or 4 × 3 or
# 2 × 6.</details>
#
# 4. An image of 448 × 448 pixels, patches of 14, three channels. How many tokens, of how many numbers?
# <details><summary>Answer</summary>448 / 14 = 32, so 32 · 32 = 1,024 tokens. 14 · 14 · 3 = 588 numbers each.</details>
#
# 5. You copy a patch embedding from a convolution into a linear layer with `weight.flatten(1)`. Shapes fit. What is wrong?
# <details><summary>Answer</summary>The order. Flattened, the convolution's weight is (c p1 p2); the patches here are (p1 p2 c). It must be
# permuted first.</details>
#
# Next: [02 · Masking by shuffling](02_masking_by_shuffling.ipynb), where most of the patches are taken away.
