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
# # 00 · A picture, mostly missing
#
# **The promise.** In a quarter of an hour you will have hidden three quarters of a picture from a small network, watched it paint
# the rest, and measured how much can be hidden before it no longer knows what it is looking at.
#
# Minutes: 15. Needs: Python. Nothing is built yet; the other chapters build all of it.
#
# When you are through, you can
#
# - say in one sentence what a masked autoencoder does;
# - read the three pictures that this book shows again and again: original, what the model saw, what it painted;
# - tell which part of a painted picture was given to the model, and which part was not;
# - hide any part of a picture you like, one of your own included.

# %% tags=["install", "remove-cell"]
import os
from importlib.util import find_spec

from IPython import get_ipython

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: with models this small, a second thread mostly waits
if find_spec("minimae") is None:  # on Colab and Binder
    get_ipython().run_line_magic("pip", "install -q 'minimae[book] @ git+https://github.com/minimae/minimae'")

# %% tags=["setup"]
from pathlib import Path

import minimae_book as book
import torch
from minimae_book import check
from minimae_book import figures as plots

from minimae import data, make_mask, unpatchify, user_mask, weights
from minimae.data.augment import normalise
from minimae.data.files import convert
from minimae.data.photos import photograph
from minimae.tasks.features import extract
from minimae.tasks.knn import accuracy, knn_predict
from minimae.tasks.reconstruct import fit_to_model, read_picture, reconstruction_triplets

# %% [markdown]
# ## Twelve photographs out of 70,000
#
# Fashion-MNIST is a set of photographs of clothes: small (28 × 28 pixels), grey, ten kinds. A balanced part of it comes with this
# book. The model below was trained on the complete set of 60,000 training photographs. It was never told what they show. We look at
# test photographs, which it has never seen.

# %%
trained = weights.load("fashion-nano")
clothes = data.load("fashion", "test")
grid = trained.model.size.grid

# %% tags=["nbval-check-output"]
print("pixels:", tuple(clothes.pixels.shape), "one image is cut into", grid[0], "x", grid[1], "=", grid[0] * grid[1], "patches")
print("kinds:", ", ".join(clothes.classes))

# %% [markdown]
# A **patch** is a small square of a picture, here 4 × 4 pixels. We hide 37 of the 49 patches, chosen by chance, and hand the model the
# other 12. That is all it gets: twelve little squares, and where each of them belongs. Then it must say what the hidden ones looked like.

# %%
def show(images, ratio=0.75, seed=0):
    """Original, what the model saw and what it painted, for a few images."""
    mask = make_mask(images.ids, grid, ratio=ratio, seed=seed)
    return reconstruction_triplets(trained, images.pixels, mask)


some = clothes.balanced_subset(12, seed=1)

# %% mystnb={"image": {"alt": "Twelve photographs of clothes in two column groups. Each has three pictures: the original, the same with 37 of 49 patches hidden under grey, and the model's painting, in which the garment is back, a little blurred."}}
plots.reconstructions(show(some), ("original", "what it saw", "painted"), pairs=2)

# %% [markdown]
# *Figure 0.1: test photographs of Fashion-MNIST. Left: original. Middle: what the model saw, three quarters hidden (seed 0). Right: what
# it painted. In the right picture the visible patches are the original's, because nobody trains the model to copy them. Brightness
# and contrast of each hidden patch are the original's too; chapter 8 shows how much that gives away.*
#
# Look at the middle column alone and name each piece. Hard? The model is no camera that saw more than you. It has seen so many
# clothes that twelve patches tell it which garments are possible, and where their edges must run.
#
# That is the whole idea of a **masked autoencoder** (MAE): *hide most of a picture, and learn by painting what is missing.* The
# labels are never used. To paint a sleeve, the model has to know that there are sleeves.

# %% [markdown]
# ## How much can be hidden?
#
# `explore` takes three numbers. Change them and run the cell again, as often as you like.

# %%
def explore(image=3, ratio=0.75, seed=0):
    """One test photograph, one share of hidden patches, one throw of the dice."""
    return plots.reconstructions(show(clothes.subset([image]), ratio, seed), ("original", "what it saw", "painted"))


# With sliders: from ipywidgets import interact; interact(explore, image=(0, 1999), ratio=(0.05, 0.95, 0.05), seed=(0, 9))

# %% mystnb={"image": {"alt": "Three pictures of one test photograph: the original, the same with six in ten patches hidden, and the painted one, which is close to the original."}}
explore(image=3, ratio=0.6, seed=0)

# %% [markdown]
# *Figure 0.2: one test photograph, 60 % hidden. Try 0.9. Then try another seed: the same share, other patches.*
#
# Now all shares side by side.

# %%
ratios = (0.25, 0.5, 0.75, 0.9, 0.95)
three = clothes.subset([int((clothes.labels == c).nonzero()[0, 0]) for c in (5, 2, 8)])
columns = [show(three, ratio, seed=2) for ratio in ratios]
cells = [[stage[i][s] for stage in columns] for i in range(3) for s in (1, 2)]
counts = [len(make_mask(three.ids, grid, ratio=r).keep[0]) for r in ratios]
titles = [f"{100 * r:.0f} % hidden\n({count} left)" for r, count in zip(ratios, counts)]

# %% tags=["nbval-check-output"]
print("patches left of 49:", dict(zip(ratios, counts)))

# %% mystnb={"image": {"alt": "A table of pictures. Columns: 25, 50, 75, 90 and 95 percent hidden. For each of three garments there is a row with what the model saw and a row with what it painted. The paintings grow flatter and more blocky to the right, but outlines can be recognised even at 95 percent, where two patches are left."}}
plots.picture_table(cells, columns=titles, rows=["saw", "painted"] * 3)

# %% [markdown]
# *Figure 0.3: the same three photographs with more and more hidden (seed 2). Details go first, then texture; outlines stay to the
# end. The brightness and contrast of every hidden patch are the original's.*
#
# Look at the last column. Two patches of 49, and still a shoe? Be suspicious! The model predicts the *pattern* inside each patch,
# and the mean brightness and the contrast of the hidden patches are borrowed from the original when the picture is drawn. A mosaic
# of the right brightnesses is half a picture already. So these paintings look better than what the model knows. That is common in
# this field, and rarely said. Chapter 8 takes the gift away; here we ask a question in which nothing can be borrowed.

# %% [markdown]
# ## Your guess, before we measure
#
# Here is a question with a number for an answer. We give the model nothing but the visible patches, and ask which *training*
# photographs its inner description of them resembles most. If most of those are trousers, we say: it recognised trousers. (This is a
# nearest-neighbour vote. Chapter 8 builds it in a few lines.) Guessing blindly is right one time in ten.
#
# **How much must be hidden until the answer is wrong more often than right?** Change 75 to what you believe, and run the cell.

# %%
book.predict("hidden-until-lost", 75, ask="What share of the patches (in %) must be hidden until fewer than half of the answers are right?")

# %%
known, asked = data.load("fashion", "train").balanced_subset(1000), clothes.balanced_subset(500)
described = extract(trained.model.encoder, known, trained.statistics)
shares = [0.25, 0.5, 0.75, 0.85, 0.9, 0.95, 0.97]


@torch.no_grad()
def recognised(ratio):
    """Right answers in percent, when the encoder sees the visible patches only."""
    mask = make_mask(asked.ids, grid, ratio=ratio, seed=5)
    seen = trained.model.encoder(normalise(asked.pixels, trained.statistics), mask)[:, 1:].mean(1)
    return accuracy(knn_predict(described, known.labels, seen), asked.labels)


right = [recognised(share) for share in shares]

# %%
after = next(i for i, percent in enumerate(right) if percent < 50)
step = (right[after - 1] - 50) / (right[after - 1] - right[after])
lost = 100 * (shares[after - 1] + step * (shares[after] - shares[after - 1]))
assert 80 < lost < 97 and right[2] > 60 and right[-1] < 45

# %% mystnb={"image": {"alt": "Two marks on one scale of hidden patches in percent: the reader's guess of 75, and the measured share of a little over 90 percent."}}
book.reveal("hidden-until-lost", round(lost), unit="% hidden")

# %% [markdown]
# *Figure 0.4: your guess and the measured share (500 test photographs, 1,000 labelled neighbours, mask seed 5).*

# %% mystnb={"image": {"alt": "Share of right answers against the share of hidden patches. The curve is nearly flat up to 75 percent hidden, then falls steeply and crosses one half a little above 90 percent."}}
plots.curves(
    {"nearest neighbours of what is visible": ([100 * s for s in shares], right)},
    x="hidden patches (%)", y="right answers (%)", levels={"half are right": 50, "blind guessing": 10}, floor=0,
)  # fmt: skip

# %% [markdown]
# *Figure 0.5: right answers against the share that is hidden (same data). From a quarter hidden to three quarters hidden little is lost.
# Then it falls off a cliff.*
#
# Was your guess lower? Pictures repeat themselves: a patch says much about its neighbours. So hiding 15 % of a picture, as language
# models do with words, would be a task too easy to learn from: one could copy the neighbours. Hiding 75 % leaves no neighbour to copy,
# and yet enough to know what is there. Chapter 11 measures which share *teaches* best.
#
# > **Paper.** Figures 2 to 4 of *Masked Autoencoders Are Scalable Vision Learners* (He et al., arXiv 2111.06377) show these three
# > pictures for ImageNet and COCO, at 80 % hidden and, in Figure 4, at 75 %, 85 % and 95 %; Figure 5 finds 75 % best. Our pictures
# > are 28 × 28 and grey instead of 224 × 224 and coloured, and our model has about 0.7 million parameters instead of 330 million
# > (ViT-L with its decoder). It was trained on one processor core in less than an hour; the paper's ViT-L took 15.4 hours on 128
# > TPU cores (Table 2, 800 epochs).

# %% [markdown]
# ## A photograph of your own
#
# Put the path of a picture of yours into `PHOTO`. Any size and any format will do: it is made grey, and so small that its short side
# has 28 pixels. If you leave it at `None`, you get Chelsea, the cat of scikit-image. (Without scikit-image: a bag.)
#
# One warning. This model has seen **nothing but clothes** in its life. It does not know cats, faces or houses. Look at what it does
# anyway. The page [Try it in your browser](../docs/lab.md) of the book's site reconstructs photographs in colour, under a mask that you paint.

# %%
PHOTO = None  # or "holiday.jpg"


def my_picture(path=None):
    """Your photograph, or the cat, as the model wants it: uint8 1 1 height width."""
    if path is not None:
        return fit_to_model(read_picture(Path(path), channels=1), trained)
    try:
        return fit_to_model(convert(photograph("chelsea").permute(2, 0, 1)[None], 1), trained)
    except (ImportError, FileNotFoundError):
        return clothes.subset((clothes.labels == 8).nonzero()[:1, 0]).pixels


# %%
mine = my_picture(PHOTO)
my_grid = trained.model.grid(mine)
rows = [reconstruction_triplets(trained, mine, make_mask(torch.tensor([7]), my_grid, ratio=ratio))[0] for ratio in (0.3, 0.5, 0.75)]
assert mine.shape[-2] == 4 * my_grid[0] and mine.shape[-1] == 4 * my_grid[1]

# %% mystnb={"image": {"alt": "A photograph of a cat, very small and grey, in three rows: 30, 50 and 75 percent hidden. The painted pictures carry on edges and shades of fur, but at 75 percent eyes and nose that were hidden do not come back."}}
plots.picture_table(rows, columns=("original", "what it saw", "painted"), rows=("30 % hidden", "50 % hidden", "75 % hidden"))

# %% [markdown]
# *Figure 0.6: a photograph that is no garment (by default the cat Chelsea from scikit-image, by Stéfan van der Walt, CC0), in 28
# rows of pixels. The model saw only clothes in training. It carries on edges and shades, which all pictures share. It does not
# invent an eye: it has never met one.*
#
# The picture is not even square, and the model was trained on squares. It works because a patch brings along *where* it sits
# (chapter 3), and not *which number* it has.

# %% [markdown]
# ## What the book builds
#
# | chapter | question | what you build |
# |---|---|---|
# | 01 | How does a picture become a row of patches? | `patchify` and back |
# | 02 | Which patches are hidden, and how is that done fast? | shuffling, keeping, restoring |
# | 03 | What reads patches? | a vision transformer |
# | 04 | Why does the encoder see only what is visible? | the encoder, and what it saves |
# | 05 | How are the blanks filled? | the decoder |
# | 06 | What exactly is predicted, and what is the loss? | three targets |
# | 07 | How is it trained? | schedule, optimizer, a real run |
# | 08 | What did it learn? | neighbours, maps, features |
#
# The code that you write on the way is the code of the package `minimae`, line for line. At the end you own it.

# %% [markdown]
# ## Exercises
#
# Each exercise has a stub and a check. The check tells you at once what is right, or which mistake it recognises.
#
# **1 ★ Count.** How many patches stay visible? A picture of `height` × `width` pixels is cut into squares of `patch` pixels; the share
# `ratio` of them is hidden. Round to the nearest whole patch.

# %% nbgrader={"grade": false, "grade_id": "ch00-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def visible_patches(height, width, patch, ratio):
    """How many patches stay visible."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch00_visible_patches(visible_patches)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_visible_patches(height, width, patch, ratio):
    """How many patches stay visible."""
    patches = (height // patch) * (width // patch)
    return round(patches * (1 - ratio))


check.ch00_visible_patches(solution_visible_patches)

# %% [markdown]
# **2 ★★ Hide a rectangle.** Return a tensor of shape `1 h w`: 1 where a patch is hidden, 0 where it is visible. The rectangle
# starts at grid row `top` and grid column `left`, and is `tall` rows high and `wide` columns wide. `user_mask` turns it into a mask
# for the model.

# %% nbgrader={"grade": false, "grade_id": "ch00-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def hide_rectangle(top, left, tall, wide, grid):
    """A tensor `1 h w` that is 1 inside a rectangle of patches, and 0 outside."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch00_hide_rectangle(hide_rectangle)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_hide_rectangle(top, left, tall, wide, grid):
    """A tensor `1 h w` that is 1 inside a rectangle of patches, and 0 outside."""
    removed = torch.zeros(1, *grid)
    removed[:, top : top + tall, left : left + wide] = 1
    return removed


check.ch00_hide_rectangle(solution_hide_rectangle)

# %% [markdown]
# With it you can take the middle out of a shirt, or one leg off a pair of trousers.

# %% mystnb={"image": {"alt": "Trousers, a bag and an ankle boot with one large rectangle of patches hidden in the middle, and the model's painting of it."}} tags=["exercise-use"]
def with_a_hole():
    """Trousers, a bag and a boot, each with the same rectangle missing."""
    garments = clothes.subset([(clothes.labels == c).nonzero()[2, 0].item() for c in (1, 8, 9)])
    mask = user_mask(hide_rectangle(2, 1, 4, 5, grid).expand(3, -1, -1), grid)
    stages = zip(*reconstruction_triplets(trained, garments.pixels, mask))
    return plots.picture_table(list(stages), rows=("original", "what it saw", "painted"), width=5.4)


with_a_hole() if check.ch00_hide_rectangle(hide_rectangle).ok else "write hide_rectangle first"

# %% [markdown]
# *Figure 0.7: a hole of 4 × 5 patches. One large hole is harder than many small ones, even though less is hidden: inside it no
# neighbour helps. Chapter 2 returns to this.*
#
# **3 ★★★ Score the painting.** How wrong is it? Return the mean squared error of the pixels that were *hidden*. All three arguments
# have the same shape; `hidden` is True where a pixel was hidden.

# %% nbgrader={"grade": false, "grade_id": "ch00-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def error_on_hidden(original, painted, hidden):
    """Mean squared error over hidden pixels only."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch00_error_on_hidden(error_on_hidden)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_error_on_hidden(original, painted, hidden):
    """Mean squared error over hidden pixels only."""
    return ((original - painted) ** 2)[hidden].mean()


check.ch00_error_on_hidden(solution_error_on_hidden)

# %% mystnb={"image": {"alt": "Mean squared error on hidden pixels against the share of hidden patches: it is lowest near 50 to 75 percent, a little higher when less is hidden, and rises steeply beyond 90."}} tags=["exercise-use"]
@torch.no_grad()
def error_at(ratio, count=200):
    """The error of the painting at one share of hidden patches."""
    images = clothes.balanced_subset(count)
    x, mask = normalise(images.pixels, trained.statistics), make_mask(images.ids, grid, ratio=ratio)
    hidden = unpatchify(mask.binary[:, :, None].expand(-1, -1, 16), 4, grid) > 0.5
    return float(error_on_hidden(x, trained.model.reconstruct(x, mask).inpainted, hidden))


def errors(hide=(0.1, 0.25, 0.5, 0.75, 0.9, 0.95)):
    """The curve of all of them."""
    line = [100 * ratio for ratio in hide], [error_at(ratio) for ratio in hide]
    return plots.curves({"error": line}, x="hidden patches (%)", y="squared error of hidden pixels", floor=0)


errors() if check.ch00_error_on_hidden(error_on_hidden).ok else "write error_on_hidden first"

# %% [markdown]
# *Figure 0.8: error by share hidden (200 test photographs, mask seed 0; 1 would be the variance of all pixels of the set). Hiding
# very little does not help: this model has only ever been trained with twelve visible patches, and is at its best near that number.
# The gift of brightness and contrast is in this error, too.*

# %% [markdown]
# ## Summary
#
# A masked autoencoder hides most of a picture and learns to paint what is missing. It needs no labels. Pictures repeat themselves
# so much that three quarters can go before much is lost; only beyond nine tenths does the model no longer know what it sees. What
# it paints is neither memory nor magic: on a cat it can only carry on edges and shades, because clothes are all it knows.
#
# ## Five questions
#
# 1. What does the model get to see, and what does it have to say?
# <details><summary>Answer</summary>It gets the visible patches and their places. It has to say what the hidden patches look like.</details>
#
# 2. How many of the 49 patches are visible at 75 % hidden?
# <details><summary>Answer</summary>49 × 0.25 = 12.25, so 12.</details>
#
# 3. Where in a painted picture are the original pixels?
# <details><summary>Answer</summary>In the visible patches. The model is not trained to copy them, so its own version of them is worthless.</details>
#
# 4. Why is hiding 15 % a poor task for pictures?
# <details><summary>Answer</summary>Neighbouring patches are so alike that the gaps can be filled by copying, without knowing what the picture shows.</details>
#
# 5. Did the model need the names of the clothes?
# <details><summary>Answer</summary>No. We used names only to measure, in the nearest-neighbour vote.</details>
#
# Next: [01 · Patches](01_patches.ipynb), where a picture is cut up and put back together in one line.
