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
# **The promise.** In five minutes, you hide three quarters of a photograph (your own, if you like) and see a small network reconstruct the
# hidden part. Then you measure how much can be hidden before another network recognises fewer than half of a set of test images.
#
# Minutes: 15. Needs: Python, and a little PyTorch for exercises 2 and 3. In the later chapters you build the methods that this chapter
# uses.
#
# After this chapter you can
#
# - say in one sentence what a masked autoencoder does;
# - read the three pictures that this book often shows: original, what the model saw, reconstruction;
# - say which part of a reconstruction the model predicted, and which part it was given;
# - hide any part of an image.

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
from pathlib import Path

import minimae_book as book
import torch
from minimae_book import check
from minimae_book import figures as plots
from minimae_book.photographs import shipped_photographs

from minimae import data, make_mask, patchify, take, user_mask, weights
from minimae.data.augment import normalise
from minimae.model.targets import patch_loss
from minimae.tasks.features import extract
from minimae.tasks.knn import accuracy, knn_predict
from minimae.tasks.reconstruct import fit_to_model, read_picture, reconstruction_triplets

# %% [markdown]
# ## A photograph of your own
#
# In the next cell, put the path of a photograph between the quotation marks. Any size will do, and most common file formats (but not HEIC).
# Without a path, you get a photograph that comes with the book.

# %%
PHOTO = ""
path = Path(PHOTO) if PHOTO else shipped_photographs()[2]
photos_tiny = weights.load("photos-tiny")
photo = fit_to_model(read_picture(path, 3), photos_tiny)
grid = photos_tiny.model.grid(photo)

# %% tags=["nbval-check-output"]
print("pixels:", tuple(photo.shape), "patches:", grid[0], "×", grid[1], "=", grid[0] * grid[1])

# %% [markdown]
# A **patch** is a small square of an image, here 4 × 4 pixels. Hide 75 % of the patches, chosen at random, and let the network
# `photos-tiny` predict the hidden patches. The network sees the visible patches and their positions, and nothing else.


# %%
def hide(ratio=0.75, seed=0):
    """Your photograph, what the model saw of it, and its reconstruction."""
    mask = make_mask(torch.tensor([0]), grid, ratio=ratio, seed=seed)
    titles = ("original", f"{100 * ratio:.0f} % hidden", "reconstruction")
    return plots.reconstructions(reconstruction_triplets(photos_tiny, photo, mask), titles)


# %% mystnb={"image": {"alt": "Three pictures of a cup of coffee on a wooden table: the original; the same with three quarters of its small patches hidden; and the reconstruction, in which cup, saucer and spoon are back, a little blurred."}}
hide(0.75)

# %% [markdown]
# *Figure 0.1: a photograph, the same photograph with 75 % of its patches hidden (seed 0), and the reconstruction by photos-tiny. This
# network has 6 million parameters and was trained on 50,000 other photographs (Tiny-ImageNet, 64 × 64 pixels). Visible patches are pasted
# from the original.*
#
# A **masked autoencoder** (MAE) is built on one idea: *hide most of an image, and learn by predicting what is missing.* An MAE needs no
# labels. To predict the hidden part of a cup well, a model has to learn what cups look like.
#
# Now move the sliders of Figure 0.2. How much of the photograph can you hide before the reconstruction fails?

# %% mystnb={"image": {"alt": "The same three pictures with nine tenths of the patches hidden. The reconstruction is more blurred, and the cup and its saucer are still there."}}
book.slider(hide, ratio=(0.05, 0.95, 0.05, 0.9), seed=(0, 9, 1, 0))

# %% [markdown]
# *Figure 0.2: the same photograph with 90 % hidden. When a kernel is running, sliders set the share of hidden patches (`ratio`) and the
# seed, which selects these patches.*

# %% [markdown]
# ## How much can be hidden?
#
# Figure 0.3 shows four photographs, none of which was used in training.

# %%
ratios = (0.5, 0.75, 0.9, 0.95)
photographs = torch.cat([fit_to_model(read_picture(path, 3), photos_tiny) for path in shipped_photographs()])
wide = photos_tiny.model.grid(photographs)
masks = [make_mask(torch.arange(len(photographs)), wide, ratio=ratio, seed=2) for ratio in ratios]
columns = [reconstruction_triplets(photos_tiny, photographs, mask) for mask in masks]
cells = [[triplets[i][part] for triplets in columns] for i in range(len(photographs)) for part in (1, 2)]
counts = [mask.keep.shape[1] for mask in masks]
titles = [f"{100 * ratio:.0f} % hidden\n({count} visible)" for ratio, count in zip(ratios, counts)]

# %% tags=["nbval-check-output"]
print(f"visible patches of {wide[0] * wide[1]}:", dict(zip(ratios, counts)))

# %% mystnb={"image": {"alt": "A table of pictures. Columns: 50, 75, 90 and 95 percent hidden. For each of four photographs, a cat, a palace, a cup of coffee and a flower, there is a row with what the model saw and a row with its reconstruction. The reconstructions lose detail to the right, but even at 95 percent the main shapes can be recognised."}}
plots.picture_table(cells, columns=titles, rows=["saw", "reconstruction"] * len(photographs), width=6.8)

# %% [markdown]
# *Figure 0.3: four photographs with more and more patches hidden (photos-tiny, mask seed 2). Fine texture is lost first, then details such
# as eyes. Large shapes survive longest.*
#
# In the training of language models such as BERT, about 15 % of the words are hidden. In images, neighbouring patches look alike: if only
# 15 % of the patches were hidden, a model could average the visible neighbours of each hidden patch, and would learn little. If 75 % are
# hidden, most hidden patches have few visible neighbours, and the model has to use more of the image.

# %% [markdown]
# ## Your guess, before we measure
#
# To measure how much a network recognises when patches are hidden, we ask it *what* each image shows. For this, we use small grey
# photographs of clothes (Fashion-MNIST: 28 × 28 pixels, 49 patches, ten classes). The network `fashion-nano` was trained on such
# photographs without labels.
#
# The first part of the network is its **encoder**. It sees only the visible patches of a test image, and turns them into a list of numbers,
# the **features** of the image. Among 1,000 labelled training images, encoded with nothing hidden, we look up those with the most similar
# features. These images vote for their classes, and the class with the most votes is the answer. This method is a **nearest-neighbour**
# vote (chapter 08). Random guessing is right 10 % of the time.
#
# **What share of the patches must be hidden before fewer than half of the answers are right?** Change 75 to your guess, and run the cell.

# %%
book.predict("hidden-until-lost", 75,
             ask="What share of the patches (in %) must be hidden before fewer than half of the answers are right?")

# %%
fashion_nano = weights.load("fashion-nano")
train, test = data.load("fashion", "train").balanced_subset(1000), data.load("fashion", "test").balanced_subset(500)
train_features = extract(fashion_nano.model.encoder, train, fashion_nano.statistics)
shares = [0.25, 0.5, 0.75, 0.85, 0.9, 0.95, 0.97]


@torch.no_grad()
def recognised(ratio):
    """Right answers in percent, when the encoder sees the visible patches only."""
    mask = make_mask(test.ids, (7, 7), ratio=ratio, seed=5)
    features = fashion_nano.model.encoder(normalise(test.pixels, fashion_nano.statistics), mask)[:, 1:].mean(1)  # the mean over the visible patches
    return accuracy(knn_predict(train_features, train.labels, features), test.labels)


right = [recognised(share) for share in shares]
after = next(i for i, percent in enumerate(right) if percent < 50)
step = (right[after - 1] - 50) / (right[after - 1] - right[after])
lost = 100 * (shares[after - 1] + step * (shares[after] - shares[after - 1]))

# %% mystnb={"image": {"alt": "Two marks on one scale of hidden patches in percent: the reader's guess of 75, and the measured share of a little over 90 percent."}}
book.reveal("hidden-until-lost", round(lost), unit="% hidden")

# %% [markdown]
# *Figure 0.4: your guess and the share of hidden patches at which half of the answers are right, interpolated between two measurements (500
# test images, 1,000 labelled training images, mask seed 5).*

# %% mystnb={"image": {"alt": "Right answers against the share of hidden patches. The curve is nearly flat up to 75 percent hidden, falls steeply beyond 85, and crosses one half a little above 90 percent."}}
line = [100 * share for share in shares], right
plots.curves(
    {"nearest neighbours": line},
    x="hidden patches (%)",
    y="right answers (%)",
    levels={"half are right": 50, "chance": 10},
    floor=0,
    note="500 test images, mask seed 5",
)

# %% [markdown]
# *Figure 0.5: right answers against the share of hidden patches (same images and seed as in Figure 0.4).*
#
# A quarter of the patches is enough to recognise most of these test images. With more than 85 % hidden, accuracy falls quickly. Chapter 11
# asks a different question: how much of an image should be hidden in training for a model to *learn* the most?

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert 80 < lost < 97 and right[2] > 60 and right[-1] < 45

# %% [markdown]
# Does the reconstruction get better when fewer patches are hidden?


# %%
@torch.no_grad()
def error_at(ratio):
    """Mean squared error of the hidden patches of the test images of clothes."""
    images = normalise(test.pixels, fashion_nano.statistics)
    mask = make_mask(test.ids, (7, 7), ratio=ratio)
    predicted = patchify(fashion_nano.model.reconstruct(images, mask).predicted, 4)
    return patch_loss(take(predicted, mask.masked), take(patchify(images, 4), mask.masked)).mean().item()


hidden_shares = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
errors = [error_at(ratio) for ratio in hidden_shares]

# %% mystnb={"image": {"alt": "Mean squared error of hidden patches against the share that is hidden: it is lowest at 50 percent, higher when less is hidden, and rises steeply beyond 90."}}
plots.curves(
    {"fashion-nano": ([100 * ratio for ratio in hidden_shares], errors)},
    x="hidden patches (%)",
    y="squared error of hidden patches",
    floor=0,
    note="500 test images, mask seed 0",
)

# %% [markdown]
# *Figure 0.6: mean squared error of the predicted hidden patches (the same 500 test images, mask seed 0). Pixels are scaled to a standard
# deviation of 1, so predicting the mean of the dataset everywhere would give an error of about 1. With fashion-nano, the brightness and
# contrast of hidden patches are copied from the original, which lowers the errors (chapter 06).*
#
# The error is lowest with half of the patches hidden. With fewer patches hidden, the error is higher, although the model sees more. The
# likely reason is that in training the model always saw exactly twelve patches (75 % hidden).

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert min(errors) == errors[2]

# %% [markdown]
# > **Paper.** *Masked Autoencoders Are Scalable Vision Learners* (He et al., arXiv 2111.06377) shows reconstructions of images from
# > ImageNet and COCO with 75 to 95 % hidden (Figures 2 to 4). In the paper's Figure 5, hiding 75 % works well for both linear probing and
# > fine-tuning (chapters 09 and 10). The paper's MAE with a ViT-L, a large vision transformer, has 330 million parameters. It was trained for
# > 15.4 hours on 128 TPU cores (Table 2, 800 epochs), and `photos-tiny` for seven and a half minutes on one GPU.

# %% [markdown]
# ## The authors' model on your photograph
#
# The next cell is optional. With `LARGE = True`, it downloads the ViT-L of the paper's authors (about 1.3 GB, for non-commercial use only)
# and reconstructs the largest square in the upper left corner of your photograph, resized to 224 × 224 pixels.

# %%
LARGE, figure = False, None
if LARGE:
    large = weights.load("mae-large-pixels")
    picture = read_picture(path, 3)
    side = min(picture.shape[-2:])
    square = fit_to_model(picture[..., :side, :side], large)
    rows = reconstruction_triplets(large, square, make_mask(torch.tensor([0]), (14, 14), ratio=0.75))
    figure = plots.reconstructions(rows, ("original", "75 % hidden", "reconstruction"))
figure

# %% [markdown]
# ## What the book builds
#
# | chapter | question | what you build |
# |---|---|---|
# | [01](01_patches.ipynb) | How does an image become a list of patches? | `patchify` and its inverse |
# | [02](02_masking_by_shuffling.ipynb) | Which patches are hidden, and how is this done fast? | masks by shuffling |
# | [03](03_a_vision_transformer.ipynb) | How do patches exchange information? | a vision transformer |
# | [04](04_encode_only_what_you_see.ipynb) | Why does the encoder see only the visible patches? | the encoder |
# | [05](05_filling_the_blanks.ipynb) | How are the hidden patches predicted? | the decoder |
# | [06](06_what_to_predict.ipynb) | What is predicted, and what is the loss? | the target, the loss, the whole model |
# | [07](07_pre_training.ipynb) | How is the model trained? | learning rate, training loop, a real run |
# | [08](08_what_did_it_learn.ipynb) | What did the model learn? | neighbours, maps, features |
# | [09](09_probing.ipynb) | How good are the features? | k-NN and linear probe |
# | [10](10_fine_tuning.ipynb) | How do you train the model further, with labels? | fine-tuning, layer decay |
# | [11](11_which_mask.ipynb) | Which mask, and how much of the image should it hide? | experiments with several seeds |
# | [12](12_boxes_and_masks.ipynb) | How does the model find objects? | a segmenter and a detector |
# | [13](13_imagenet_on_gpus.ipynb) | What does the paper's training run take? | estimates of its hours and memory, a roofline model |
# | [14](14_segment_anything_and_after.ipynb) | What came after the paper? | a segmenter that follows your clicks |

# %% [markdown]
# ## Exercises
#
# Each exercise has a **stub** (a function whose body you write) and a check, which tests your function and recognises some common mistakes.
# More stars mean a harder exercise. The time at the top of each chapter does not include the exercises.
#
# **1 ★ Count.** An image of `height` × `width` pixels is cut into squares of `patch` × `patch` pixels, and a share `ratio` of the squares
# is hidden. How many patches stay visible, rounded to the nearest integer?
#
# <details><summary>Hint</summary>
#
# `height // patch` is the number of rows of patches.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch00-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def visible_patches(height, width, patch, ratio):
    """How many patches stay visible."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch00_visible_patches(visible_patches)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_visible_patches(height, width, patch, ratio):
    """How many patches stay visible."""
    patches = (height // patch) * (width // patch)
    return round(patches * (1 - ratio))


check.ch00_visible_patches(solution_visible_patches)

# %% [markdown]
# **2 ★★ Hide a rectangle.** The argument `grid` is the pair (`h`, `w`): the numbers of rows and columns of patches. Return a tensor of
# shape `1 h w` that is 1 where a patch is hidden, and 0 elsewhere. The hidden rectangle starts at row `top` and column `left`, and is
# `tall` rows high and `wide` columns wide. `user_mask` turns the tensor into a mask for the model.
#
# <details><summary>Hint</summary>
#
# Start with `torch.zeros(1, *grid)`, and set a slice of rows and columns to 1.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch00-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def hide_rectangle(top, left, tall, wide, grid):
    """A tensor `1 h w` that is 1 inside a rectangle of patches, and 0 outside."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch00_hide_rectangle(hide_rectangle)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_hide_rectangle(top, left, tall, wide, grid):
    """A tensor `1 h w` that is 1 inside a rectangle of patches, and 0 outside."""
    removed = torch.zeros(1, *grid)
    removed[:, top : top + tall, left : left + wide] = 1
    return removed


check.ch00_hide_rectangle(solution_hide_rectangle)

# %% tags=["exercise-use"]
def with_a_hole(tall=10, wide=10):
    """The middle of your photograph hidden, and its reconstruction."""
    mask = user_mask(hide_rectangle((grid[0] - tall) // 2, (grid[1] - wide) // 2, tall, wide, grid), grid)
    return plots.reconstructions(reconstruction_triplets(photos_tiny, photo, mask), ("original", "what it saw", "reconstruction"))


with_a_hole() if check.ch00_hide_rectangle(hide_rectangle).ok else "With your hide_rectangle, this cell hides the middle of your photograph."

# %% [markdown]
# One large hole can be harder to fill than many small ones, because the patches in its middle have no visible neighbours (chapter 02).
#
# **3 ★★★ Measure the reconstruction.** Return the mean squared error over the pixels that were *hidden*, as one number (a float or a
# tensor). The three arguments have the same shape, and `hidden` is True where a pixel was hidden.
#
# <details><summary>Hint</summary>
#
# `values[hidden]` selects the values where `hidden` is True.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch00-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def error_on_hidden(original, reconstructed, hidden):
    """Mean squared error over hidden pixels only."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch00_error_on_hidden(error_on_hidden)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_error_on_hidden(original, reconstructed, hidden):
    """Mean squared error over hidden pixels only."""
    return ((original - reconstructed) ** 2)[hidden].mean()


check.ch00_error_on_hidden(solution_error_on_hidden)

# %% tags=["exercise-use"]
def error_of_photo(ratio=0.75):
    """The error of the reconstruction of your photograph."""
    original, saw, reconstructed = reconstruction_triplets(photos_tiny, photo, make_mask(torch.tensor([0]), grid, ratio=ratio))[0]
    return float(error_on_hidden(original, reconstructed, (saw != original).any(-1, keepdim=True).expand_as(original)))


error_of_photo() if check.ch00_error_on_hidden(error_on_hidden).ok else "With your error_on_hidden, this cell measures your photograph."

# %% [markdown]
# ## Summary
#
# A masked autoencoder hides most of an image and learns to predict what is missing. It needs no labels. Images are redundant: a network
# still recognised most test images of clothes with 75 % of the patches hidden, but fewer than half with 95 % hidden. Visible patches in a
# reconstruction are pasted from the original.
#
# ## Five questions
#
# 1. What does the model see, and what does it predict?
# <details><summary>Answer</summary>It sees the visible patches and their positions. It predicts the pixels of the hidden patches.</details>
#
# 2. How many of 49 patches are visible when 75 % are hidden?
# <details><summary>Answer</summary>49 × 0.25 = 12.25, so 12 patches are visible.</details>
#
# 3. Which pixels of a reconstruction are original?
# <details><summary>Answer</summary>The pixels of the visible patches. The model is not trained to predict visible patches, so they are
# pasted from the original.</details>
#
# 4. Why is the task too easy if only 15 % of an image is hidden?
# <details><summary>Answer</summary>Neighbouring patches look alike, so a model can average the visible neighbours
# of a hidden patch. It need not learn what the image shows.</details>
#
# 5. Did the model need labels?
# <details><summary>Answer</summary>No. Labels were used only for the measurement, in the nearest-neighbour vote.</details>
#
# Next: [01 · Patches](01_patches.ipynb), where you cut an image into patches and put it together again.
