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
# # 08 · What did it learn?
#
# **The promise.** You turn a trained encoder into a feature extractor, classify photographs with one label per class, and then find out
# where the features fail.
#
# Minutes: 35. Needs: chapters 01 to 07.
#
# After this chapter you can
#
# - turn the output of an encoder into one vector per image, in three ways;
# - classify by nearest neighbours, with nothing to train;
# - draw a map of the patches that a patch attends to;
# - show in a picture how much of a reconstruction leaked from the original;
# - test features on changed images, and explain why our numbers are far from the paper's.

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
from dataclasses import replace
from typing import Literal

import minimae_book as book
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from minimae_book import check
from minimae_book import figures as plots
from minimae_book.figures import as_picture
from minimae_book.photographs import shipped_photographs
from torch import Tensor

from minimae import MAE, Encoder, data, make_mask, patchify, unpatchify, weights
from minimae.data.augment import normalise
from minimae.data.images import Images
from minimae.devices import device_of
from minimae.tasks import features, knn
from minimae.tasks.features import pixel_features
from minimae.tasks.reconstruct import read_picture, reconstruction_triplets
from minimae.train.precision import evaluating
from minimae.train.settings import Precision

# %% [markdown]
# ## Photographs, from a quarter of the patches
#
# The model `photos-tiny` was pre-trained for six minutes on one GPU, on 50,000 photographs of Tiny-ImageNet (64 × 64 pixels, no labels,
# seed 0). It has never seen the four photographs below. We crop them to squares, scale these to 64 × 64 pixels, and hide 75 % of the 256
# patches of each.
#
# The model was pre-trained to predict normalised pixels. Then a second decoder was trained for 1.4 minutes on the frozen encoder to predict
# **plain pixels**, including colour and brightness. So, unlike with normalised pixels (chapter 06), nothing in the reconstructions below
# comes from the hidden patches.


# %%
def square(path, side=64):
    """The middle of a photograph: uint8 `1 3 side side`."""
    pixels = read_picture(path, 3)
    height, width = pixels.shape[-2:]
    top, left, short = (height - min(height, width)) // 2, (width - min(height, width)) // 2, min(height, width)
    cut = pixels[..., top : top + short, left : left + short].float()
    return F.interpolate(cut, size=(side, side), mode="bicubic", antialias=True).round().clamp(0, 255).to(torch.uint8)


photos = weights.load("photos-tiny")
photo_grid, photo_patch = photos.size.grid, photos.size.patch
four = torch.cat([square(path) for path in shipped_photographs()])
photo_mask = make_mask(torch.arange(4), photo_grid, ratio=0.75, seed=1)
triplets = reconstruction_triplets(photos, four, photo_mask)

# %% [markdown]
# Our baseline needs no learning: it fills each hidden patch with a mean colour of the visible patches, each weighted by a Gaussian of its
# distance to the hidden one. Of five widths of the Gaussian, we keep the one with the smallest error on the hidden pixels. This choice
# favours the baseline.


# %%
def filled_by_neighbours(pixels, mask, width):
    """Hidden patches take a weighted mean colour of the visible ones: pixels in [0, 1] `b 3 height width` → the same shape."""
    places = torch.cartesian_prod(*map(torch.arange, photo_grid)).float()
    closeness = (-(torch.cdist(places, places) ** 2) / (2 * width**2)).exp() * (1 - mask.binary)[:, None]
    patches = patchify(pixels, photo_patch)
    colours = patches.unflatten(-1, (-1, 3)).mean(2)
    mean = repeat(closeness / closeness.sum(-1, keepdim=True) @ colours, "b n c -> b n (pixels c)", pixels=photo_patch**2)
    return unpatchify(torch.where(mask.binary[:, :, None] > 0, mean, patches), photo_patch, photo_grid)


hidden_pixels = unpatchify(repeat(photo_mask.binary, "b n -> b n values", values=3 * photo_patch**2), photo_patch, photo_grid) > 0
pixels = four.float() / 255


def error(pictures):
    """Root mean squared error of the hidden pixels, in grey levels of 255."""
    return float(255 * (pictures - pixels)[hidden_pixels].square().mean().sqrt())


fillings = [filled_by_neighbours(pixels, photo_mask, width) for width in (0.5, 0.7, 1.0, 1.4, 2.0)]
by_mean = min(fillings, key=error)
by_model = torch.stack([rearrange(triplet[2], "height width c -> c height width") for triplet in triplets])
print(f"error of hidden pixels: mean of neighbours {error(by_mean):.0f}, photos-tiny {error(by_model):.0f} of 255")

# %% mystnb={"image": {"alt": "Four photographs, a cat, a pagoda, a cup of coffee and a dahlia. For each: the original, a quarter of its patches, the mean of the neighbours, which is a blurred mosaic, and the reconstruction, in which the cat has both eyes, the cup a rim and the flower a round outline."}}
rows = [[original, seen, rearrange(mean, "c height width -> height width c"), rebuilt] for (original, seen, rebuilt), mean in zip(triplets, by_mean)]
plots.picture_table(rows, columns=("original", "75 % hidden", "mean of neighbours", "photos-tiny"))

# %% [markdown]
# *Figure 8.1: four photographs (75 % of 256 patches hidden, mask seed 1). In the reconstructions, visible patches are pasted in.*
#
# A mean of nearby colours cannot continue *shapes*. The model can: it continues the rim of the cup and extends the roofs of the pagoda. The
# fine texture of fur and petals is gone, probably because the mean of all plausible textures has the smallest expected squared error.
#
# ## From tokens to one vector
#
# Now we drop the decoder, and the encoder sees whole images, with nothing hidden. We want one vector per image that a classifier can use.
# The numbers in such a vector are called **features**. The encoder returns 1 + n tokens of `d` numbers each. There are three common ways to
# turn these tokens into one vector:
#
# - `"mean"`: the mean of the n patch tokens, `d` numbers;
# - `"class"`: the class token, `d` numbers;
# - `"tokens"`: all patch tokens side by side, `n·d` numbers.
#
# **1 ★★ Your feature extractor.** Write the function `my_extract`. Normalise the pixels, put the encoder into eval mode, and return the
# features of all images in their original order. Work in batches of at most `batch` images, because all images at once may not fit into
# memory.
#
# <details><summary>Hint 1</summary>
#
# `pixels.split(batch)` gives parts of at most `batch` images. Collect the features of each part in a list, and `torch.cat` the list.
# `normalise(part, statistics)` accepts uint8.
# </details>
#
# <details><summary>Hint 2</summary>
#
# `tokens = encoder(x)` has the shape `b t d`, and the class token is `tokens[:, 0]`. For `"tokens"`, use `rearrange(tokens[:, 1:], "b n d
# -> b (n d)")`.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch08-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
@torch.no_grad()
def my_extract(encoder, pixels, statistics, *, pool="mean", batch=500):
    """Features of whole images: uint8 `N c height width` → `N values`. pool: "mean", "class" or "tokens"."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch08_extract(my_extract)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
@torch.no_grad()
def solution_my_extract(encoder, pixels, statistics, *, pool="mean", batch=500):
    encoder.eval()
    found = []
    for part in pixels.split(batch):
        tokens = encoder(normalise(part, statistics))
        patches = tokens[:, 1:]
        kinds = {"mean": patches.mean(1), "class": tokens[:, 0], "tokens": rearrange(patches, "b n d -> b (n d)")}
        found.append(kinds[pool])
    return torch.cat(found)


check.ch08_extract(solution_my_extract)

# %% [markdown]
# The package's version is folded below. It also accepts a dataset, and it offers a fourth kind of features, `"blocks"`: the means of the
# patch tokens after every block, side by side.

# %% jupyter={"source_hidden": true} tags=["package:minimae.tasks.features", "hide-input"]
Pool = Literal["mean", "class", "blocks", "tokens"]


@torch.no_grad()
def extract(
    encoder: Encoder,
    images: Images | Tensor,
    statistics: tuple[Tensor, Tensor],
    *,
    pool: Pool = "mean",
    batch: int = 500,
    precision: Precision = "auto",
) -> Tensor:
    """Features of whole, unmasked images: → float32 ``N values``, on the CPU. The encoder is put in eval mode."""
    encoder.eval()
    device, c, found = device_of(encoder), encoder.size.class_tokens, []
    for part in (images if isinstance(images, Tensor) else images.pixels).split(batch):
        x = normalise(part.to(device), statistics)
        with evaluating(device, precision):
            tokens = encoder.features(x) if pool == "blocks" else [encoder(x)]
        if pool == "tokens":
            found.append(rearrange(tokens[0][:, c:], "b n d -> b (n d)"))
        else:
            found.append(tokens[0][:, :c].mean(1) if pool == "class" else torch.cat([each[:, c:].mean(1) for each in tokens], dim=1))
    return torch.cat(found).float().cpu()


# %% tags=["nbval-check-output"]
extract = book.use(check.ch08_extract, my_extract, extract)

# %% [markdown]
# The next measurements use small photographs of clothes. The model `fashion-nano` comes with the book. It was pre-trained for twelve epochs
# on the 60,000 training photographs of Fashion-MNIST (25 minutes on one processor core, seed 0). We compare three kinds of features: raw
# pixels, the features of the trained encoder, and those of the same encoder **at initialisation**, with random weights.

# %%
trained = weights.load("fashion-nano")
torch.manual_seed(trained.recipe.seed)
untrained = MAE(trained.size).eval()
model, grid, patch = trained.model, trained.size.grid, trained.size.patch
train_images, test_images = data.load("fashion", "train").balanced_subset(1500), data.load("fashion", "test").balanced_subset(750)
train_labels, test_labels = train_images.labels, test_images.labels

sources = {
    "raw pixels": lambda images: pixel_features(images, trained.statistics),
    "random encoder": lambda images: extract(untrained.encoder, images.pixels, trained.statistics),
    "MAE": lambda images: extract(model.encoder, images.pixels, trained.statistics),
}
vectors = {name: (describe(train_images), describe(test_images)) for name, describe in sources.items()}

# %% tags=["nbval-check-output"]
print(len(train_images), "training and", len(test_images), "test images,", len(train_images.classes), "classes")
for name, (train, test) in vectors.items():
    print(f"{name:15}", tuple(train.shape), tuple(test.shape))

# %% [markdown]
# ## Neighbours that vote
#
# Good features put similar images close together. A simple classifier that uses this property needs no training: **k nearest neighbours**
# (k-NN). For a test image, find the k training images with the most similar features, and let them vote with their labels.
#
# Similarity is the **cosine** of the angle between two vectors, after the mean of the training vectors has been subtracted from both. (That
# mean can be a large part of every vector. Without the subtraction, all cosines would then be close to 1.) Each vote has the weight
# exp(cosine / temperature), where the *temperature* is a constant, by default 0.07. So the nearest neighbours count most.
#
# **2 ★★ Your neighbours.** Write this k-NN classifier.
#
# <details><summary>Hint 1</summary>
#
# Subtract `train.mean(0)` from *both* sets and divide each vector by its length: `F.normalize(…, dim=1)`. One matrix product then gives all
# cosines as a matrix `M N`, and `topk(k, dim=1)` gives the k largest cosines of each row and their indices.
# </details>
#
# <details><summary>Hint 2</summary>
#
# `labels[index]` has the shape `M k`. `F.one_hot` turns it into `M k classes`. Multiply by the weights, sum over the neighbours, and take
# the argmax.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch08-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def my_knn_predict(train, labels, test, *, k=20, temperature=0.07):
    """The class of each test vector, by its k nearest training vectors: `N d`, `N`, `M d` → int64 `M`."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch08_knn_predict(my_knn_predict)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_my_knn_predict(train, labels, test, *, k=20, temperature=0.07):
    centre = train.mean(0)
    train, test = F.normalize(train - centre, dim=1), F.normalize(test - centre, dim=1)
    cosine, index = (test @ train.T).topk(k, dim=1)
    votes = (cosine / temperature).exp()[:, :, None] * F.one_hot(labels[index])
    return votes.sum(1).argmax(1)


check.ch08_knn_predict(solution_my_knn_predict)

# %% [markdown]
# The package's version is folded below. It processes large sets in parts.

# %% jupyter={"source_hidden": true} tags=["package:minimae.tasks.knn", "hide-input"]
def knn_predict(train: Tensor, labels: Tensor, test: Tensor, *, k: int = 20, temperature: float = 0.07) -> Tensor:
    """Class of each test vector by a weighted vote of its k nearest neighbours: ``N d``, ``N``, ``M d`` → int64 ``M``."""
    if not 1 <= k <= len(train):
        raise ValueError(f"k must lie between 1 and the {len(train)} training vectors, not {k}")
    if not temperature > 0:
        raise ValueError(f"the temperature of a vote must be greater than 0 (0.07 is usual), not {temperature}")
    if not (train.isfinite().all() and test.isfinite().all()):
        raise ValueError("some features are not finite, so nothing is nearest to them: look for NaN in the weights or the images")
    device, classes, temperature = train.device, int(labels.max()) + 1, max(temperature, torch.finfo(train.dtype).tiny)
    centre = train.mean(0)
    gallery, queries = F.normalize(train - centre, dim=1), F.normalize(test.to(device) - centre, dim=1)
    winners = []
    for part in queries.split(max(1, min(1000, 2**28 // len(train)))):  # at most 2^28 cosines at a time, a gigabyte
        cosine, index = (part @ gallery.T).topk(k, dim=1)
        weight = ((cosine - cosine[:, :1]) / temperature).exp()  # only ratios count: exp(1 / 0.01) would overflow
        votes = torch.zeros(len(part), classes, dtype=weight.dtype, device=device)
        winners.append(votes.scatter_add_(1, labels.to(device)[index], weight).argmax(1))
    return torch.cat(winners).to(test.device)


# %% tags=["package:minimae.tasks.knn"]
def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of correct predictions, in percent."""
    return 100.0 * float((predicted == labels.to(predicted.device)).float().mean())


# %% tags=["nbval-check-output"]
knn_predict = book.use(check.ch08_knn_predict, my_knn_predict, knn_predict)

# %% [markdown]
# ### What the neighbours look like


# %%
def nearest(train, test, count):
    """Indices of the most similar training vectors: `N d`, `M d` → `M count`."""
    centre = train.mean(0)
    return (F.normalize(test - centre, dim=1) @ F.normalize(train - centre, dim=1).T).topk(count, dim=1).indices


def picture_of(images, index):
    """One image of a set, ready to be drawn."""
    return as_picture(normalise(images.pixels[index], trained.statistics), trained.statistics)


def search(name, query):
    """A query, its five neighbours, and whether they are of its class."""
    train, test = vectors[name]
    found = nearest(train, test[query : query + 1], 5)[0]
    same = train_labels[found] == test_labels[query]
    return picture_of(test_images, query), [picture_of(train_images, i) for i in found], same.tolist()


queries = [int((test_labels == c).nonzero()[k, 0]) for c, k in ((0, 3), (5, 2), (8, 5), (6, 1))]

# %% mystnb={"image": {"alt": "Four queries, each with two rows of five neighbours, by pixels and by features. A green border marks the class of the query, an orange one another class. Half of the borders are green by pixels, and more by features. Neighbours by pixels share the outline, and neighbours by features share parts and texture."}}
names = [f"{name}: {test_images.classes[test_labels[q]]}" for q in queries for name in ("pixels", "MAE")]
plots.neighbours([search(source, q) for q in queries for source in ("raw pixels", "MAE")], names=names)

# %% [markdown]
# *Figure 8.2: four test photographs and the nearest five of 1,500 training photographs, by raw pixels and by the features of
# `fashion-nano`. Green borders mark neighbours of the same class, and orange borders those of a different class.*
#
# ## One label per class
#
# Suppose that you have labels for only *ten* photographs, one per class. All 750 test photographs must be classified by their similarity to
# these ten. With raw pixels as features, the accuracy is 49 %. **What is it with the features of the MAE, `fashion-nano`?**

# %%
book.predict("one-label", 49,
             ask="One label per class: raw pixels reach 49 %. How many % with the features of the MAE?")

# %%
PER_CLASS, DRAWS = (1, 2, 5, 10, 20, 50), 10


def draw(per_class, seed):
    """Indices of that many random training images of each class."""
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([rows[torch.randperm(len(rows), generator=generator)[:per_class]]
                      for rows in ((train_labels == c).nonzero()[:, 0] for c in range(10))])


few = {name: [] for name in sources}
for name, (train, test) in vectors.items():
    for per_class in PER_CLASS:
        chosen = [draw(per_class, seed) for seed in range(DRAWS)]
        scores = [accuracy(knn_predict(train[i], train_labels[i], test, k=min(5, per_class)), test_labels) for i in chosen]
        few[name].append(torch.tensor(scores))
print(f"{'labels per class':16}", "  ".join(f"{per_class:<6}" for per_class in PER_CLASS))
for name, scores in few.items():
    print(f"{name:16}", "  ".join(f"{s.mean():.0f} ± {s.std():.0f}" for s in scores))

# %% mystnb={"image": {"alt": "Two marks on one scale: the reader's guess of 49 percent, and the measured 56 percent."}}
book.reveal("one-label", round(float(few["MAE"][0].mean()), 1), unit="%")

# %% [markdown]
# *Figure 8.3: your guess, and the mean accuracy of the MAE over ten random choices of the ten labelled photographs (750 test photographs).*

# %% mystnb={"image": {"alt": "Accuracy against labels per class from 1 to 50 on a logarithmic axis. The MAE rises from 56 to 77 percent and stays above raw pixels, which rise from 49 to 75. The random encoder rises from 27 to 51."}}
plots.curves({name: (PER_CLASS, [float(s.mean()) for s in few[name]]) for name in ("MAE", "raw pixels", "random encoder")},
             x="labels per class", y="k-NN accuracy (%)", log=True, note="750 test images, means of ten choices of labels")

# %% [markdown]
# *Figure 8.4: accuracy against labels per class (750 test photographs; means over ten random choices of labels; k is the number of labels
# per class, but at most 5). The table printed above Figure 8.3 has the same means and, after each ±, the standard deviation over the ten
# choices.*
#
# With one label per class, the MAE is seven points ahead of raw pixels, and far ahead of the same network at initialisation. From 60,000
# unlabelled photographs, the MAE learned features that differ between some kinds of clothes. The ten labels only connect these features
# with the names of the classes. With five or more labels per class, the lead over raw pixels is smaller.
#
# ## Keep all tokens
#
# The mean of the patch tokens does not record which token came from which patch. In these photographs, position matters: the sole of a
# shoe, for example, is in the lower half. With `"tokens"`, patch 12 of one image is compared with patch 12 of another. We now use all 1,500
# labels. **Which features of the MAE are best: `"mean"`, `"class"` or `"tokens"`?**

# %%
book.predict("best-pool", "mean",
             ask="1,500 labels: which features of the MAE are best, 'mean', 'class' or 'tokens'?")

# %%
POOLS = {"mean of tokens": "mean", "class token": "class", "all tokens": "tokens"}
encoders = {"random encoder": untrained.encoder, "MAE": model.encoder}
by_pixels = knn_predict(vectors["raw pixels"][0], train_labels, vectors["raw pixels"][1])
pooled, answers = {}, {}
for title, pool in POOLS.items():
    pooled[title] = {"raw pixels": accuracy(by_pixels, test_labels)}
    for name, encoder in encoders.items():
        train, test = (extract(encoder, images.pixels, trained.statistics, pool=pool) for images in (train_images, test_images))
        answers[name, pool] = knn_predict(train, train_labels, test)
        pooled[title][name] = accuracy(answers[name, pool], test_labels)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert abs(pooled["mean of tokens"]["MAE"] - 79) < 1.5 and abs(pooled["class token"]["MAE"] - 77) < 1.5
assert abs(pooled["all tokens"]["MAE"] - 82) < 1.5 and abs(accuracy(by_pixels, test_labels) - 78.5) < 1.5

# %% mystnb={"image": {"alt": "The reader's choice, mean, beside the measured answer, tokens."}}
book.reveal("best-pool", POOLS[max(pooled, key=lambda title: pooled[title]["MAE"])])

# %% [markdown]
# *Figure 8.5: your choice and the best of the three kinds of features.*

# %% mystnb={"image": {"alt": "Three panels with the k-NN accuracy of raw pixels, random encoder and MAE. Raw pixels reach 78 percent in each. Mean of tokens: random 57, MAE 79. Class token: random 60, MAE 77. All tokens: random 77, MAE 82."}}
plots.comparison(pooled, ("raw pixels", "random encoder", "MAE"), note="750 images, one network and seed each")

# %% [markdown]
# *Figure 8.6: k-NN accuracy (in %) with raw pixels, and with three kinds of features of each encoder (1,500 labels, 750 test photographs, k
# = 20, one network and one seed each).*
#
# Only with all tokens is the MAE a few points more accurate than raw pixels. Are 750 images enough to trust this lead? Look only at the
# images that exactly one of these two kinds of features classifies correctly:

# %%
right, pixels_right = (answer == test_labels for answer in (answers["MAE", "tokens"], by_pixels))
print(f"only the MAE is right: {int((right & ~pixels_right).sum())} images; only raw pixels are right: {int((~right & pixels_right).sum())}")

# %% [markdown]
# If all tokens and raw pixels were equally good, each of these images would be like the toss of a fair coin. The two printed counts would
# then rarely differ by more than twice the square root of their sum. Here they differ by more. (Chapter 11 tests differences properly, with
# several seeds.)
#
# The random encoder reaches 77 % with all tokens, because random weights preserve much of the image. So compare a trained network with the
# same network at initialisation.
#
# ## Classes in a plane
#
# To *see* features, project them onto their two directions of largest variance. This method, **principal component analysis** (PCA), uses
# no labels.


# %%
def in_a_plane(vectors):
    """Coordinates along the two directions of largest variance: `N d` → `N 2`."""
    torch.manual_seed(0)
    centred = vectors - vectors.mean(0)
    points = centred @ torch.pca_lowrank(centred, q=2)[2]
    return points * points.gather(0, points.abs().argmax(0)[None]).sign()  # a direction has no sign; this fixes one


planes = {name: in_a_plane(test) for name, (_, test) in vectors.items()}

# %% mystnb={"image": {"alt": "Three scatter plots of 750 test photographs whose ten classes have five colours and two shapes. Raw pixels: a wide cloud with trousers, shoes and bags at three corners. Random encoder: one cloud in which classes overlap. MAE: a narrow arc with shoes at one end, trousers at the other, and tops and bags between them."}}
plots.classes_in_a_plane(planes, test_labels, test_images.classes)

# %% [markdown]
# *Figure 8.7: three kinds of features of 750 test photographs, projected onto their first two principal directions. Colours and markers
# show the classes.*
#
# With the MAE, shoes and trousers are at the two ends of an arc, and tops are between them. But the classes are no better separated than
# with raw pixels: two directions show only the coarsest differences. With the random encoder, the classes overlap more.
#
# ## What a patch attends to
#
# The method `Attention.weights` returns the attention weights: how much each token attends to every token, including itself. For every head
# it returns a matrix `t t`, whose rows sum to 1. Row 0 belongs to the class token, so row 1 + i belongs to patch i. In every row, the first
# entry is the weight of the class token. The other entries, the weights of the patches, can be drawn as a grid.


# %%
@torch.no_grad()
def attention(encoder, x, block):
    """The attention weights of one block on whole, normalised images: `b heads t t`."""
    before = encoder.embed(x) if block == 0 else encoder.features(x)[block - 1]
    return encoder.blocks[block].attention.weights(encoder.blocks[block].norm1(before))


def attended(weights, place, grid):
    """How much the patch at this (row, column) attends to every patch: `b heads t t` → `b heads h w`."""
    return rearrange(weights[:, :, 1 + place[0] * grid[1] + place[1], 1:], "b heads (h w) -> b heads h w", h=grid[0])


# %%
torch.manual_seed(photos.recipe.seed)
networks = {"trained": photos.model.eval().encoder, "untrained": MAE(photos.size).eval().encoder}
chosen = (("trained", 1, 3), ("trained", 4, 2), ("trained", 8, 1), ("trained", 8, 2), ("untrained", 8, 1))  # network, block, head
x, rows, marks = normalise(four, photos.statistics), [], {}
all_weights = {(name, block): attention(networks[name], x, block - 1) for name, block, _ in chosen}
for i, place in ((0, (6, 4)), (2, (4, 4)), (3, (7, 7))):
    maps = [attended(all_weights[name, block], place, photo_grid)[i, head - 1] for name, block, head in chosen]
    marks[len(rows), 0] = (place[0] * photo_patch + 1.5, place[1] * photo_patch + 1.5)
    rows.append([triplets[i][0], *(one / one.max() for one in maps)])

# %% mystnb={"image": {"alt": "Three photographs with a cross: at the eye of a cat, the rim of a cup, the middle of a flower. Beside each are five maps. Block 1, head 3: a soft area around the cross. Block 4, head 2: for the cup, a piece of its rim; for the cat, both eyes. Block 8, head 1: patches in the row just below the cross. Block 8, head 2: a column. Untrained: spread over the whole image."}}
titles = ["photograph", *(f"block {block},\nhead {head}" for name, block, head in chosen if name == "trained"), "untrained,\nblock 8, head 1"]
plots.picture_table(rows, columns=titles, marks=marks)

# %% [markdown]
# *Figure 8.8: what the patch at the cross attends to (four of the 36 heads of `photos-tiny`, and one head of the same network at
# initialisation). Each map is divided by its largest value.*
#
# At initialisation, attention is spread over the whole image. Head 3 of block 1 attends mostly to nearby patches. In block 8, head 1
# attends mostly to the row just below the cross, and head 2 to the column of the cross, whatever the image shows. In head 2 of block 4, the
# patch on the rim of the cup attends to another part of the rim, and the patch on one eye of the cat attends to both eyes.
#
# Do not read too much into such maps. They show which tokens were mixed, not what the network did with the mixture. And we chose these four
# of the 36 heads because their maps differ.
#
# **3 ★ Attention of the class token.** From the attention weights `b heads t t` of a block, make one map per head (`b heads h w`). Each map
# shows how much the class token attends to each patch.


# %% nbgrader={"grade": false, "grade_id": "ch08-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def class_map(weights, grid):
    """How much the class token attends to each patch: `b heads t t` → `b heads h w`."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch08_class_map(class_map)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_class_map(weights, grid):
    return rearrange(weights[:, :, 0, 1:], "b heads (h w) -> b heads h w", h=grid[0], w=grid[1])


check.ch08_class_map(solution_class_map)

# %% [markdown]
# ## Where this lives
#
# `extract` is in `minimae/tasks/features.py`, and `knn_predict` and `accuracy` are in `minimae/tasks/knn.py`.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
train, test = vectors["MAE"]
assert torch.allclose(test[:5], features.extract(model.encoder, test_images.pixels[:5], trained.statistics), atol=1e-4)
assert (knn_predict(train, train_labels, test) == knn.knn_predict(train, train_labels, test)).float().mean() > 0.99
assert accuracy(train_labels, train_labels) == knn.accuracy(train_labels, train_labels) == 100.0

# %% [markdown]
# To measure the k-NN accuracy from the command line, run `minimae knn --weights fashion-nano`.
#
# ## Limit 1: leaked patch statistics
#
# The reconstructions in Figure 8.1 came from a decoder that predicts plain pixels. `fashion-nano` predicts **normalised** pixels (chapter
# 06): a pattern, but no brightness or contrast. To draw the pattern, we need the mean and the standard deviation of each hidden patch. We
# take these two values from the original image, so they **leak** into the picture.
#
# To see how much this leak matters, we draw each reconstruction in two more versions. One shows **only what leaked**: the prediction for
# every hidden patch is set to zero. The other shows the prediction **without the leak**: all hidden patches get the average mean and the
# average standard deviation of the *visible* patches.


# %%
def drawn(predicted, patches, mask, mean, std):
    """Hidden patches: prediction × std + mean. Visible patches: as they are."""
    hidden = mask.binary[:, :, None]
    return unpatchify(patches * (1 - hidden) + (predicted * std + mean) * hidden, patch, grid)


five = test_images.subset([int((test_labels == c).nonzero()[1, 0]) for c in (0, 3, 5, 8, 9)])
x, mask = normalise(five.pixels, trained.statistics), make_mask(five.ids, grid, ratio=0.75, seed=4)
patches, seen = patchify(x, patch), 1 - mask.binary[:, :, None]
with torch.no_grad():
    pattern = model.decoder(model.encoder(x, mask), mask, every=True)
mean, std = patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + 1e-6).sqrt()
of_visible = [(s * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True) for s in (mean, std)]
versions = [drawn(pattern, patches, mask, mean, std), drawn(0 * pattern, patches, mask, mean, std), drawn(pattern, patches, mask, *of_visible)]

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert torch.allclose(versions[0], model.reconstruct(x, mask).inpainted, atol=1e-5)

# %% mystnb={"image": {"alt": "Five garments, one in each row, in five columns: original, masked, reconstruction, only what leaked, without the leak. With only what leaked, a mosaic of flat squares already shows the garment. Without the leak, all hidden patches have one brightness, and edges run in the right directions."}}
clothes = reconstruction_triplets(trained, five.pixels, mask)
plots.picture_table(
    [[*clothes[i][:2], *(as_picture(version[i], trained.statistics) for version in versions)] for i in range(5)],
    columns=("original", "75 % hidden", "reconstruction", "only what leaked\n(predict zero)", "without the leak"),
)

# %% [markdown]
# *Figure 8.9: test photographs of Fashion-MNIST, reconstructed by `fashion-nano` (75 % of 49 patches hidden, mask seed 4).*
#
# In the column "only what leaked", the flat mosaic already looks like the garment. What the model adds is *inside* the squares: the edge of
# a sleeve, or the line of a sole. Without the leak, only faint lines of the garment remain. So never judge a model by pictures with leaked
# statistics. To draw pictures without a leak, predict plain pixels, with a second decoder on the frozen encoder as in Figure 8.1.
#
# **4 ★ Only what leaked.** `patches` has the shape `b n (p1 p2 c)`, and `hidden` is a bool tensor `b n`. Replace every value of a hidden
# patch with the mean of that patch (one number, over all its values), and keep the visible patches as they are. No model is needed.


# %% nbgrader={"grade": false, "grade_id": "ch08-ex4", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def flat_patches(patches, hidden):
    """Hidden patches at their own mean, visible ones as they are."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch08_flat_patches(flat_patches)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_flat_patches(patches, hidden):
    means = patches.mean(-1, keepdim=True).expand_as(patches)
    return torch.where(hidden[:, :, None], means, patches)


check.ch08_flat_patches(solution_flat_patches)

# %% [markdown]
# ## Limit 2: where reconstruction fails
#
# `MAEOutput.patch_losses` (`b m`) holds the loss of each masked patch. A map of these losses shows which parts of the image are hard to
# reconstruct. **Where is the mean loss largest: in the background, along the outline, or inside the garment?**

# %%
book.predict("hardest-place", "outline",
             ask="Where is the loss largest: 'background', 'outline' or 'inside'?")


# %%
@torch.no_grad()
def patch_errors(images, seeds):
    """The mean loss of every patch over several masks: `b h w`."""
    x, total, count = normalise(images.pixels, trained.statistics), 0.0, 0.0
    for seed in range(seeds):
        mask = make_mask(images.ids, grid, seed=seed)
        total = total + torch.zeros(len(x), mask.n).scatter(1, mask.masked, model(x, mask).patch_losses)
        count = count + mask.binary
    return rearrange(total / count, "b (h w) -> b h w", h=grid[0])


def kinds(images):
    """Which patches are background (all black), outline (some black) and inside (almost none black): three `b h w` of bools."""
    black = (patchify(images.pixels.float(), patch) < 8).float().mean(-1)
    share = rearrange(black, "b (h w) -> b h w", h=grid[0])
    return {"background": share == 1, "outline": (share > 0.1) & (share < 1), "inside": share <= 0.1}


many = test_images.balanced_subset(300)
errors = patch_errors(many, 2)
hard = {name: float(errors[where].nanmean()) for name, where in kinds(many).items()}  # NaN: never hidden by these masks
print({name: round(loss, 2) for name, loss in hard.items()})

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert hard["background"] < 0.3 < hard["outline"] < hard["inside"]

# %% mystnb={"image": {"alt": "The reader's choice, outline, beside the measured answer, inside."}}
book.reveal("hardest-place", max(hard, key=hard.get))

# %% [markdown]
# *Figure 8.10: your choice, and where the mean loss is largest (300 test photographs, two masks each).*

# %% mystnb={"image": {"alt": "Five garments, and below each a map of the loss of its 49 patches. Maps are dark in the background, medium along outlines, and bright inside the garments."}}
plots.picture_table([[row[0] for row in clothes], list(patch_errors(five, 12))], rows=("picture", "loss"), scale=(0, 1.2), scale_label="loss of a patch")

# %% [markdown]
# *Figure 8.11: the loss of each patch, averaged over the masks that hide it (12 masks, seeds 0 to 11, 75 % hidden). For a patch that is not
# flat, a prediction of zero has a loss of 15/16 ≈ 0.94 (chapter 06).*
#
# The model can continue an outline from visible patches. Inside a garment there is mostly weave, print and noise, often with little
# contrast. But normalisation divides each patch by its standard deviation, so the noise counts as much as an outline, and no model can
# predict noise. The large loss inside a garment is probably in large part a side effect of normalised targets.
#
# ## Limit 3: changed images
#
# Now we change only the *test* photographs: we halve the brightness, add noise, or shift the image by two pixels. **Which features are best
# at half the brightness?**

# %%
book.predict("half-the-light", "raw pixels",
             ask="Half the brightness: which is best, 'raw pixels', 'random encoder' or 'MAE'?")

# %%
changes = {
    "unchanged": lambda x: x,
    "half the brightness": lambda x: x // 2,
    "noise": lambda x: (x + 40 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 255).to(torch.uint8),
    "2 px to the right": lambda x: x.roll(2, dims=-1),
}
table = {}
for change, apply in changes.items():
    changed = replace(test_images, pixels=apply(test_images.pixels))
    table[change] = {
        name: accuracy(knn_predict(vectors[name][0], train_labels, describe(changed)), test_labels) for name, describe in sources.items()
    }

# %% jupyter={"source_hidden": true} tags=["hide-input"]
light, noise = table["half the brightness"], table["noise"]
assert light["MAE"] > light["raw pixels"] + 10 and noise["MAE"] < noise["raw pixels"] - 20

# %% mystnb={"image": {"alt": "The reader's choice, raw pixels, beside the measured answer, MAE."}}
book.reveal("half-the-light", max(light, key=light.get))

# %% [markdown]
# *Figure 8.12: your choice and the best features at half the brightness.*

# %% mystnb={"image": {"alt": "Four panels with the k-NN accuracy of raw pixels, random encoder and MAE. Unchanged: 78, 57, 79 percent. Half the brightness: pixels fall to 55, the random encoder to about 31, the MAE stays at 78. Noise: pixels stay at 78, the MAE falls to about 21. Two pixels to the right: pixels and MAE fall alike, to about 62."}}
plots.comparison(table, tuple(sources), note="750 images, seed 0")

# %% [markdown]
# *Figure 8.13: k-NN accuracy (in %) on unchanged and changed test photographs (1,500 labelled photographs, all unchanged; 750 test
# photographs; k = 20; mean of tokens; noise with a standard deviation of 40 of 255 grey levels; seed 0).*
#
# - **Brightness.** The accuracy of the MAE hardly changes, probably because the targets in pre-training were normalised.
# - **Noise.** The accuracy of the MAE falls below that of the random encoder. A possible reason is that the MAE has never seen noise in the
#   background, which is almost perfectly black in the training photographs.
# - **Shift.** All three kinds of features lose accuracy. They depend on position, and in the training photographs the garments are centred.
#
# ## Limit 4: real photographs
#
# How good is `photos-tiny` at *classifying* photographs? We measured this on the 10,000 validation photographs of Tiny-ImageNet (200
# classes). The labelled images are the 50,000 photographs from pre-training, with their labels. A vote of 20 nearest neighbours is right
# for 14.7 % of the test photographs, a linear probe (chapter 09) for 22.2 %, and random guessing for 0.5 % (one seed; see the
# [details](../data/weights/photos-tiny.md)). Both classifiers are far better than guessing, but too inaccurate for most uses. The
# reconstructions of Figure 8.1 came from the same encoder. **Good reconstructions do not mean that the features separate the classes.**
#
# > **Paper.** The paper's Figures 2 to 4 come from models that were trained on plain pixels, so nothing leaks in those pictures. Visible patches
# > are not pasted in. The paper does not use k-NN. On ImageNet, ViT-L pre-trained for 800 epochs reaches 73.5 % with a linear probe and 84.9 %
# > after fine-tuning (Table 1).
#
# ### Why our results are not the paper's
#
# | | paper (ViT-L, 800 epochs) | `fashion-nano` |
# |---|---|---|
# | encoder | 303 million parameters | 0.7 million |
# | images seen in pre-training | about 1,000 million | 0.72 million |
# | images | 224 × 224, colour, 1,000 classes, objects anywhere | 28 × 28, grey, 10 classes, centred, black background |
# | patch | 16 × 16 × 3 = 768 values | 4 × 4 = 16 values |
# | raw pixels as features | nearly useless | strong, because everything is centred and aligned |
#
# The last row is probably the most important: for centred clothes, the outline says much about the class.
#
# ## Break-it lab: features at chance level
#
# A colleague has written their own `extract`, which reads the images through a loader. With the colleague's features of the test
# photographs, k-NN is no more accurate than random guessing.


# %%
@torch.no_grad()
def loader_extract(encoder, images, statistics, batch=500):
    """Features of whole images, read through a loader."""
    encoder.eval()
    collected = []
    for part in torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).split(batch):
        collected.append(encoder(normalise(images.pixels[part], statistics))[:, 1:].mean(1))
    return torch.cat(collected)


theirs = loader_extract(model.encoder, test_images, trained.statistics)
scores = {
    name: accuracy(knn_predict(vectors["MAE"][0], train_labels, test), test_labels) for name, test in (("ours", vectors["MAE"][1]), ("the colleague's", theirs))
}

# %% mystnb={"image": {"alt": "Two scatter plots of the same shape. Left, ours: each colour has its own region. Right, the colleague's: exactly the same cloud of points, but the colours are mixed at random all over it."}}
notes = {name: f"{score:.0f} % right" for name, score in scores.items()}
plots.classes_in_a_plane({"ours": planes["MAE"], "the colleague's": in_a_plane(theirs)}, test_labels, test_images.classes, notes=notes)

# %% [markdown]
# *Figure 8.14: the features of 750 test photographs, ours and the colleague's, coloured by class.*
#
# The two clouds are identical, point for point. Only the colours and markers differ. Which causes do the identical clouds rule out, and
# where is the bug?
#
# <details><summary>Diagnosis</summary>
#
# The features are right: a wrong encoder, a wrong normalisation or a mask would give a different cloud. But each point has the label of a
# different image. The loader *shuffles* (`torch.randperm`), and the labels keep their old order. A loader for training shuffles the images.
# A loader for evaluation must keep their order.
# </details>

# %% jupyter={"source_hidden": true} tags=["hide-input"]
order = torch.randperm(len(test_images), generator=torch.Generator().manual_seed(0))
fixed = accuracy(knn_predict(vectors["MAE"][0], train_labels, theirs), test_labels[order])
assert scores["the colleague's"] < 20 and abs(fixed - scores["ours"]) < 1

# %% [markdown]
# ## One more exercise
#
# **5 ★★★ Two directions.** The chapter used a PyTorch function, `torch.pca_lowrank`, for its PCA. Write the projection with
# `torch.linalg.svd`: return the coordinates `N 2` along the two directions of largest variance.
#
# <details><summary>Hint</summary>
#
# Subtract the mean first. `torch.linalg.svd(centred, full_matrices=False).Vh` has the directions as its *rows*, in order of decreasing
# variance.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch08-ex5", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def two_directions(vectors):
    """Coordinates along the two directions of largest variance: `N d` → `N 2`."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch08_two_directions(two_directions)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_two_directions(vectors):
    centred = vectors - vectors.mean(0)
    directions = torch.linalg.svd(centred, full_matrices=False).Vh
    return centred @ directions[:2].T


check.ch08_two_directions(solution_two_directions)

# %% [markdown]
# ## Summary
#
# A masked autoencoder continues shapes from a quarter of a photograph. With the features of `fashion-nano`, ten labels are enough to
# classify more than half of the clothes correctly, more than with raw pixels or with random weights. With 1,500 labels, all tokens side by
# side are better than raw pixels, but the mean of the tokens is hardly better. There are limits: reconstructions of normalised pixels use
# leaked statistics, and the features fail on noisy images. And a model that reconstructs photographs well may classify them badly.
#
# ## Five questions
#
# 1. A model that predicts normalised pixels makes a reconstruction that looks right with 95 % of the patches hidden. Why does this picture
#    prove little about the model?
# <details><summary>Answer</summary>The mean and contrast of each hidden patch are taken from the original. A mosaic of flat squares with the right brightness already looks right.</details>
#
# 2. Which row of the attention weights belongs to patch 0, and which of its entries are drawn?
# <details><summary>Answer</summary>Row 1 belongs to patch 0, because row 0 belongs to the class token. All entries of row 1 are drawn except the first, which belongs to the class token.</details>
#
# 3. Why is the mean of the training vectors subtracted before the cosine is computed?
# <details><summary>Answer</summary>The mean can be a large part of every vector. Then, unless it is subtracted, all cosines are close to 1, and the differences that matter are tiny.</details>
#
# 4. Why compare a trained encoder with a random one?
# <details><summary>Answer</summary>Random weights already preserve much of the image. Only the gain in accuracy over random weights is due to training.</details>
#
# 5. The cloud of features looks right, but the accuracy of k-NN is no better than that of guessing. What do you check first?
# <details><summary>Answer</summary>Check whether the features and the labels are in the same order.</details>
#
# Next: [09 · Probing](09_probing.ipynb). A nearest-neighbour vote takes the features as they are. A linear layer can learn which directions
# of the features matter.
