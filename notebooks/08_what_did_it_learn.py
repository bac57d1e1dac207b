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
# **The promise.** You look at a trained model from five sides (its paintings, its errors, its attention, its features, its
# neighbours), and learn to tell what it knows from what it was given.
#
# Minutes: 50. Needs: chapters 01 to 07.
#
# When you are through, you can
#
# - say how much of a painted picture is borrowed from the original, and show it;
# - find the places that are hard to paint;
# - draw where a patch looks;
# - turn an encoder into one vector an image, and classify by nearest neighbours;
# - explain why our numbers are far from the paper's, and what can still be learned from them.

# %% tags=["install", "remove-cell"]
import os
from importlib.util import find_spec

from IPython import get_ipython

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: with models this small, a second thread mostly waits
if find_spec("minimae") is None:  # on Colab and Binder
    get_ipython().run_line_magic("pip", "install -q 'minimae[book] @ git+https://github.com/minimae/minimae'")

# %% tags=["setup"]
from dataclasses import replace
from typing import Literal

import minimae_book as book
import torch
import torch.nn.functional as F
from einops import rearrange
from minimae_book import check
from minimae_book import figures as plots
from minimae_book.figures import as_picture
from torch import Tensor

from minimae import MAE, Encoder, data, make_mask, patchify, unpatchify, weights
from minimae.data.augment import normalise
from minimae.data.images import Images
from minimae.devices import device_of
from minimae.tasks import features, knn
from minimae.tasks.features import pixel_features
from minimae.tasks.reconstruct import reconstruction_triplets
from minimae.train.precision import evaluating
from minimae.train.settings import Precision

# %% [markdown]
# The model is `fashion-nano`, which comes with the book: 0.7 million parameters, twelve times through the 60,000 training
# photographs of Fashion-MNIST, 25 minutes on one processor core, seed 0. Beside it we put its twin: the same network with the
# weights it had **before** the first step. Whatever the twin can do as well was not learned.

# %%
trained = weights.load("fashion-nano")
torch.manual_seed(trained.recipe.seed)
twin = MAE(trained.model.size).eval()
model, grid, patch = trained.model, trained.model.size.grid, trained.model.size.patch
known, asked = data.load("fashion", "train").balanced_subset(1500), data.load("fashion", "test").balanced_subset(750)

# %% tags=["nbval-check-output"]
print("grid", grid, "patch", patch, "width", model.size.width, "blocks", model.size.depth)
print(len(known), "known,", len(asked), "asked,", len(asked.classes), "classes")

# %% [markdown]
# ## Side one: its paintings
#
# Five test photographs, painted from fewer and fewer patches. In training it always saw twelve of the 49 (75 % hidden); every other
# column is something it was never trained for.

# %%
ratios = (0.3, 0.5, 0.75, 0.85, 0.95)
five = asked.subset([int((asked.labels == c).nonzero()[1, 0]) for c in (0, 3, 5, 8, 9)])
painted = {ratio: reconstruction_triplets(trained, five.pixels, make_mask(five.ids, grid, ratio=ratio, seed=4)) for ratio in ratios}
cells = [[painted[0.3][i][0]] + [painted[ratio][i][2] for ratio in ratios] for i in range(5)]

# %% mystnb={"image": {"alt": "A table of five garments. First column the original, then paintings from 30, 50, 75, 85 and 95 percent hidden. Details fade to the right, but outlines stay."}}
plots.picture_table(cells, columns=["original"] + [f"{100 * r:.0f} % hidden" for r in ratios])

# %% [markdown]
# *Figure 8.1: test photographs painted by `fashion-nano` (mask seed 4). Visible patches are the original's; so are the mean and the
# contrast of each hidden patch.*
#
# ### How much of it is a gift?
#
# The target of this model is *normalised*: of every patch, the mean was subtracted and the deviation divided out (chapter 6). So
# the model predicts a pattern, and says nothing about brightness. To draw its prediction as pixels, mean and deviation are needed.
# They are taken from the original: from the very patches that are hidden. That leaks. Every picture of a normalised model does it,
# those of the paper included.
#
# So let us draw three more pictures. One with **only the gift**: predict zero everywhere, a model that knows nothing. One **without
# the gift**: the model's pattern, with mean and deviation averaged over the visible patches instead.

# %%
def paint(predicted, patches, mask, mean, deviation):
    """Hidden patches: prediction × deviation + mean. Visible patches: as they are."""
    hidden = mask.binary[:, :, None]
    return unpatchify(patches * (1 - hidden) + (predicted * deviation + mean) * hidden, patch, grid)


def statistics_of(patches):
    """Mean and deviation of each patch: two b n 1."""
    return patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + 1e-6).sqrt()


# %%
x, mask = normalise(five.pixels, trained.statistics), make_mask(five.ids, grid, ratio=0.75, seed=4)
patches = patchify(x, patch)
with torch.no_grad():
    pattern = model.decoder(model.encoder(x, mask), mask, every=True)
mean, deviation = statistics_of(patches)
seen = 1 - mask.binary[:, :, None]
fair = [(s * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True) for s in (mean, deviation)]
whole, gift_only = paint(pattern, patches, mask, mean, deviation), paint(0 * pattern, patches, mask, mean, deviation)
no_gift = paint(pattern, patches, mask, *fair)
assert torch.allclose(whole, model.reconstruct(x, mask).inpainted, atol=1e-5)

# %% mystnb={"image": {"alt": "Five garments in five columns: original, what it saw, painted as usual, only the gift, without the gift. With only the gift, a mosaic of flat squares already shows the garment. Without the gift the picture falls apart into patches of one brightness, in which edges run in the right directions."}}
paintings = (whole, gift_only, no_gift)
drawn = [[*painted[0.75][i][:2], *(as_picture(p[i], trained.statistics) for p in paintings)] for i in range(5)]
plots.picture_table(drawn, columns=("original", "what it saw", "painted\n(as usual)", "only the gift\n(predict zero)", "without the gift"))

# %% [markdown]
# *Figure 8.2: what is knowledge, and what was given? 75 % hidden, mask seed 4. "Only the gift" needs no model. "Without the gift"
# uses one mean and one deviation for all hidden patches, from the visible ones.*
#
# The flat mosaic explains why the paintings looked right even at 95 %. What the model adds to it is what happens *inside* the
# squares: the edge of a sleeve, the line of a sole. Whoever wants honest pictures trains on plain pixels. Then the model must say
# the brightness too, nothing is borrowed, and the features are a little worse (Table 1d).

# %% [markdown]
# ## Side two: its errors
#
# The loss is a mean over patches. `MAEOutput.patch_losses` still has them one by one: `b m`, in the order of `mask.masked`. Put
# back into the picture they show what is hard. Where is it hardest: in the **background**, along the **outline**, or **inside** the
# garment?

# %%
book.predict("hardest-place", "outline", ask="Where are patches hardest to paint: background, outline or inside?")

# %%
@torch.no_grad()
def patch_errors(images, seeds):
    """The mean loss of every patch over several masks: images → b h w."""
    x, total, count = normalise(images.pixels, trained.statistics), 0.0, 0.0
    for seed in range(seeds):
        mask = make_mask(images.ids, grid, seed=seed)
        out = model(x, mask)
        total = total + torch.zeros(len(x), mask.n).scatter(1, mask.masked, out.patch_losses)
        count = count + mask.binary
    return rearrange(total / count, "b (h w) -> b h w", h=grid[0])


single = patch_errors(five, 12)

# %% mystnb={"image": {"alt": "Five garments, and below each a map of the loss of its 49 patches. Maps are dark in the background, medium along outlines, and bright inside the garments."}}
plots.picture_table(
    [[picture for picture, _, _ in painted[0.75]], list(single)], rows=("picture", "loss"), scale=(0, 1.2), scale_label="loss of a patch"
)

# %% [markdown]
# *Figure 8.3: the mean loss of each patch over 12 masks (75 % hidden, seeds 0 to 11). Dark is easy, bright is hard; predicting zero
# would score 0.94 wherever there is any pattern.*

# %%
def kinds(images):
    """Which patches are background (black), outline (some black) and inside (no black): three b h w of bools."""
    dark = patchify(images.pixels.float(), patch) < 8
    share = rearrange(dark.float().mean(-1), "b (h w) -> b h w", h=grid[0])
    return {"background": share == 1, "outline": (share > 0.1) & (share < 1), "inside": share <= 0.1}


many = asked.balanced_subset(300)
errors = patch_errors(many, 2)
hard = {name: float(errors[where].nanmean()) for name, where in kinds(many).items()}  # not a number: never hidden by these masks
assert hard["background"] < 0.3 < hard["inside"]
print({name: round(loss, 2) for name, loss in hard.items()})

# %% mystnb={"image": {"alt": "The reader's choice, outline, beside the measured answer."}}
book.reveal("hardest-place", max(hard, key=hard.get))

# %% [markdown]
# *Figure 8.4: your choice, and where the mean loss is largest (300 test photographs).*
#
# Is an outline not the natural answer? But an outline has neighbours that tell how it goes on, and clothes have few kinds of
# outline. Inside a garment there is nothing but weave, print and noise; divided by its own tiny deviation, it counts as much as
# everything else, and nobody can know it. That is a side effect of the normalised target. It is also why the loss of chapter 7
# cannot come near 0.

# %% [markdown]
# ## Side three: where it looks
#
# In every block each token mixes in others. `Attention.weights` says how much of each: a matrix `t t` for every head, whose rows
# sum to 1. Row 1 + i belongs to patch i (row 0 is the class token). Without its first entry and laid out as a grid, a row is a
# picture: *where does this patch look?*

# %%
@torch.no_grad()
def attention(encoder, images, block):
    """The weights of one block on whole images: b heads t t."""
    x = normalise(images.pixels, trained.statistics)
    before = encoder.embed(x) if block == 0 else encoder.features(x)[block - 1]
    return encoder.blocks[block].attention.weights(encoder.blocks[block].norm1(before))


def looks(weights, place):
    """Where the patch at this (row, column) looks, one map a head: b heads h w."""
    return rearrange(weights[:, :, 1 + place[0] * grid[1] + place[1], 1:], "b heads (h w) -> b heads h w", h=grid[0])


# %%
subject, place = five.subset([3]), (1, 2)
maps = [looks(attention(model.encoder, subject, block), place)[0] for block in (0, 2, 5)]
before = looks(attention(twin.encoder, subject, 5), place)[0]
rows = [[as_picture(normalise(subject.pixels, trained.statistics)[0], trained.statistics), *heads] for heads in (*maps, before)]
assert torch.allclose(attention(model.encoder, subject, 5).sum(-1), torch.ones(1, 3, 50), atol=1e-5)

# %% mystnb={"image": {"alt": "Four rows of three attention maps for one patch of a bag. In the first trained block heads look at certain rows or at neighbours; in later blocks at similar parts of the bag. In the untrained network the maps are nearly even."}}
marks = {(i, 0): (place[0] * patch + 1.5, place[1] * patch + 1.5) for i in range(4)}
plots.picture_table(
    rows, columns=("picture", "head 1", "head 2", "head 3"), rows=("block 1", "block 3", "block 6", "untrained,\nblock 6"),
    marks=marks, scale=(0, 0.15), scale_label="attention", width=6.2,
)  # fmt: skip

# %% [markdown]
# *Figure 8.5: where the marked patch looks (test photograph, whole image, nothing hidden). One colour scale for all, its brightest
# colour means 0.15 or more; perfectly even attention would be 1/50 = 0.02.*
#
# Without training, attention is nearly even: everyone looks at everything a little. After training heads have taken up tasks. Some
# look around their own place. Head 2 of block 6 looks along one row, most of all at the other foot of the handle. Head 1 of block 3
# looks far away, at the side of the bag. Positions make such tasks possible, and filling holes makes them useful: to paint a hidden
# piece of handle, look at the handle.
#
# Do not read too much into such maps. They show which tokens were mixed, not what was done with them.

# %% [markdown]
# ## Side four: its features
#
# Now the question that matters. The decoder is thrown away; does the *encoder* know something about clothes? Give it whole images,
# nothing hidden, and take one vector an image. There are several places to take it from; the mean of the patch tokens is the
# paper's choice for fine-tuning, and ours. (`evaluating` computes in half precision on a GPU, as training does; on a CPU it does
# nothing.)

# %% tags=["package:minimae.tasks.features"]
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
for pool in ("mean", "class", "blocks", "tokens"):
    print(f"{pool:7}", tuple(extract(model.encoder, five, trained.statistics, pool=pool).shape))

# %% [markdown]
# Now everyone describes the same images: raw pixels, the twin, the trained encoder.

# %%
sources = {
    "raw pixels": lambda images: pixel_features(images, trained.statistics),
    "random encoder": lambda images: extract(twin.encoder, images, trained.statistics),
    "MAE": lambda images: extract(model.encoder, images, trained.statistics),
}
vectors = {name: (describe(known), describe(asked)) for name, describe in sources.items()}

# %% [markdown]
# A vector of 96 numbers cannot be drawn. Its two directions of largest variance can: that is what a principal component analysis
# (PCA) finds. It looks at vectors only, never at labels. The colours are put on afterwards.

# %%
def in_a_plane(features):
    """Coordinates along the two directions of largest variance: N d → N 2."""
    torch.manual_seed(0)
    centred = features - features.mean(0)
    points = centred @ torch.pca_lowrank(centred, q=2)[2]
    return points * points.gather(0, points.abs().argmax(0)[None]).sign()  # a direction has no sign; this fixes one


planes = {name: in_a_plane(test) for name, (_, test) in vectors.items()}

# %% mystnb={"image": {"alt": "Three scatter plots of 750 test photographs in ten colours and shapes. Raw pixels: a wide cloud with trousers, shoes and bags at three corners. Random encoder: one cloud in which classes overlap. MAE: a narrow bow with shoes at one end, trousers at the other, and tops and bags between them."}}
plots.classes_in_a_plane(planes, asked.labels, asked.classes)

# %% [markdown]
# *Figure 8.6: 750 test photographs along the first two principal directions of three descriptions. Colours and shapes are the
# classes, which no description was made with.*
#
# Nobody told the encoder about classes, and yet shoes and trousers lie at the two ends of a bow, with the tops between them. Is
# that tidier than raw pixels? Honestly: no. Two directions show the coarsest thing that varies, and in centred pictures of clothes
# that is the outline: low and wide, or tall and narrow. Pixels know that, too. Only the random encoder has mixed it up.

# %% [markdown]
# ## Side five: its neighbours
#
# A plane shows two directions of 96. Neighbours use all of them. For a photograph, which *known* photographs have the most similar
# vector? Similar means: a large cosine, after the mean has been subtracted. (All vectors share the mean; left in, it makes every
# cosine nearly 1.)

# %%
def nearest(train, test, count):
    """Places of the most similar known vectors: N d, M d → M count."""
    centre = train.mean(0)
    return (F.normalize(test - centre, dim=1) @ F.normalize(train - centre, dim=1).T).topk(count, dim=1).indices


queries = [int((asked.labels == c).nonzero()[k, 0]) for c, k in ((0, 3), (5, 2), (8, 5), (6, 1))]


def picture_of(images, place):
    """One image of a set, ready to be drawn."""
    return as_picture(normalise(images.pixels[place], trained.statistics), trained.statistics)


def search(name, query):
    """A query, its five neighbours, and whether they are of its class."""
    train, test = vectors[name]
    found = nearest(train, test[query : query + 1], 5)[0]
    return picture_of(asked, query), [picture_of(known, i) for i in found], (known.labels[found] == asked.labels[query]).tolist()


# %% mystnb={"image": {"alt": "Four queries, each with two rows of five neighbours, once by pixels and once by features. Green borders mark the query's class, orange another. Most borders are green in both; where they differ, pixel neighbours share the outline and feature neighbours share parts and texture."}}
names = [f"{name}: {asked.classes[asked.labels[q]]}" for q in queries for name in ("pixels", "features")]
plots.neighbours([search(source, q) for q in queries for source in ("raw pixels", "MAE")], names=names)

# %% [markdown]
# *Figure 8.7: four test photographs and their five nearest among 1,500 known ones, by raw pixels and by the features of
# `fashion-nano`. Green border: same class; orange: another.*
#
# Let the neighbours vote and you have a classifier with nothing to train. The nearer one is, the more its vote weighs: exp(cosine /
# 0.07). Only the ratios of the votes matter, so the largest cosine is subtracted first: exp(1 / 0.01) would be too large for a float32.

# %% tags=["package:minimae.tasks.knn"]
def knn_predict(train: Tensor, labels: Tensor, test: Tensor, *, k: int = 20, temperature: float = 0.07) -> Tensor:
    """Class of each test vector by a weighted vote of its k nearest: ``N d``, ``N``, ``M d`` → int64 ``M``."""
    if not 1 <= k <= len(train):
        raise ValueError(f"k must lie between 1 and the {len(train)} training vectors, not {k}")
    if not temperature > 0:
        raise ValueError(f"the temperature of a vote must be greater than 0 (0.07 is usual), not {temperature}")
    if not (train.isfinite().all() and test.isfinite().all()):
        raise ValueError("some features are not finite, so nothing is nearest to them: look for NaN in the weights or the images")
    device, classes, temperature = train.device, int(labels.max()) + 1, max(temperature, torch.finfo(train.dtype).tiny)
    centre = train.mean(0)
    known, asked = F.normalize(train - centre, dim=1), F.normalize(test.to(device) - centre, dim=1)
    winners = []
    for part in asked.split(max(1, min(1000, 2**28 // len(train)))):  # at most 2^28 cosines at a time, a gigabyte
        cosine, index = (part @ known.T).topk(k, dim=1)
        weight = ((cosine - cosine[:, :1]) / temperature).exp()  # only ratios count: exp(1 / 0.01) would overflow
        votes = torch.zeros(len(part), classes, dtype=weight.dtype, device=device)
        winners.append(votes.scatter_add_(1, labels.to(device)[index], weight).argmax(1))
    return torch.cat(winners).to(test.device)


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of right answers, in percent."""
    return 100.0 * float((predicted == labels.to(predicted.device)).float().mean())


# %% [markdown]
# By hand: three known vectors around their mean, two of class 0 near the query, one of class 1 far away.

# %% tags=["nbval-check-output"]
toy = torch.tensor([[2.0, 0.1], [1.8, -0.1], [-3.8, 0.0]])
print(knn_predict(toy, torch.tensor([0, 0, 1]), torch.tensor([[1.0, 0.0], [-1.0, 0.2]]), k=2).tolist())

# %% [markdown]
# ### Where this lives

# %%
train, test = vectors["MAE"]
assert torch.equal(extract(model.encoder, five, trained.statistics), features.extract(model.encoder, five, trained.statistics))
assert torch.equal(knn_predict(train, known.labels, test), knn.knn_predict(train, known.labels, test))
assert accuracy(known.labels, known.labels) == knn.accuracy(known.labels, known.labels) == 100.0

# %% [markdown]
# ## The numbers
#
# 1,500 known photographs, 750 asked, ten classes, 20 neighbours. Blind guessing is right one time in ten. Raw pixels are right 78
# times in a hundred. And the MAE?

# %%
book.predict("knn-mae", 92, ask="Raw pixels: 78 % right. How many % are right with the features of the MAE?")

# %%
score = {name: accuracy(knn_predict(train, known.labels, test), asked.labels) for name, (train, test) in vectors.items()}
assert abs(score["raw pixels"] - 78.5) < 1 and abs(score["MAE"] - 79) < 3 and score["random encoder"] < 65

# %% mystnb={"image": {"alt": "Two marks on one scale: the reader's guess of 92 percent, and the measured 79 percent."}}
book.reveal("knn-mae", round(score["MAE"], 1), unit="%")

# %% [markdown]
# *Figure 8.8: your guess and the measured accuracy (1,500 known, 750 asked, k = 20).*
#
# No better than raw pixels! That is disappointing, and worth a closer look before we explain it away. Both are right equally often,
# but do they know the same? Let us change the asked photographs, as the world would, and leave the known ones as they are: half the
# light; a little noise; two pixels to the right. Which description holds when the light is halved?

# %%
book.predict("half-the-light", "raw pixels", ask="Half the light: who is right most often, raw pixels, random encoder or MAE?")

# %%
changes = {
    "as they are": lambda x: x,
    "half the light": lambda x: x // 2,
    "noise": lambda x: (x + 40 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 255).to(torch.uint8),
    "2 px to the right": lambda x: x.roll(2, dims=-1),
}
table = {}
for change, apply in changes.items():
    changed = replace(asked, pixels=apply(asked.pixels))
    answers = {name: knn_predict(vectors[name][0], known.labels, describe(changed)) for name, describe in sources.items()}
    table[change] = {name: accuracy(answer, asked.labels) for name, answer in answers.items()}

# %%
light, noise = table["half the light"], table["noise"]
assert light["MAE"] > light["raw pixels"] + 10 and noise["MAE"] < noise["raw pixels"] - 20

# %% mystnb={"image": {"alt": "The reader's choice, raw pixels, beside the measured answer, MAE."}}
book.reveal("half-the-light", max(light, key=light.get))

# %% [markdown]
# *Figure 8.9: your choice, and who holds when the light is halved.*

# %% mystnb={"image": {"alt": "Four panels with the k-NN accuracy of raw pixels, random encoder and MAE. As they are: 78, 57, 79 percent. Half the light: pixels fall to 55, the random encoder to about 31, MAE stays at 78. Noise: pixels stay at 78, MAE falls to about 21. Two pixels to the right: pixels and MAE fall alike, to about 62."}}
plots.comparison(table, tuple(sources))

# %% [markdown]
# *Figure 8.10: k-NN accuracy on test photographs that were changed; the 1,500 known ones were not (750 asked, k = 20,
# `fashion-nano`, noise of deviation 40 of 255, seed 0).*
#
# So they know different things.
#
# - **Light.** The MAE does not mind at all. Its target had brightness and contrast divided out, so it learned to look at patterns. Nobody asked it to; the task did.
# - **Noise.** The MAE breaks down. All its life the background was perfectly black. A noisy background is full of patterns, and patterns are what it looks at. The very skill that helped with the light hurts here.
# - **Shift.** Both suffer. The model is told where each patch sits, and in these pictures everything is always in the middle.
#
# One accuracy would have hidden all three.
#
# > **Paper.** The paper does not use k-NN. It reports linear probing and fine-tuning on ImageNet: 73.5 % and 84.9 % for ViT-L at
# > 800 epochs (Table 1), and shows reconstructions with the same gift as ours (Figures 2 to 4). MAE features are known to be strong
# > when the network is fine-tuned, and less linearly separable than those of contrastive methods (Table 1 against Figure 9: one
# > tuned block lifts ViT-L from 73.5 to 81.0).
#
# ### Why our results are not the paper's
#
# | | paper (ViT-L, 800 epochs) | here |
# |---|---|---|
# | encoder | 303 million parameters | 0.7 million |
# | images seen in pre-training | about 1,000 million | 0.72 million |
# | picture | 224 × 224, colour, 1,000 classes, objects anywhere | 28 × 28, grey, 10 classes, centred, black background |
# | patch | 16 × 16 × 3 = 768 values | 4 × 4 = 16 values |
# | raw pixels as a baseline | hopeless | strong, because everything is centred and aligned |
#
# The last line matters most. On ImageNet raw pixels know nothing of classes; on centred clothes an outline is almost a class. A
# small MAE has to beat a baseline that the paper's never meets. What carries over is the *direction* of each comparison, and the
# tools of this chapter.

# %% [markdown]
# ## Break-it lab: the features that know nothing
#
# Someone has written their own `extract`, "with a loader, as one does". The accuracy is that of blind guessing. But look at the plane.

# %%
def loader_extract(encoder, images, statistics, batch=500):
    """Features of whole images, read through a loader."""
    encoder.eval()
    found = []
    generator = torch.Generator().manual_seed(0)
    for part in torch.randperm(len(images), generator=generator).split(batch):
        with torch.no_grad():
            found.append(encoder(normalise(images.pixels[part], statistics))[:, 1:].mean(1))
    return torch.cat(found)


theirs = loader_extract(model.encoder, asked, trained.statistics)
theirs_score = accuracy(knn_predict(vectors["MAE"][0], known.labels, theirs), asked.labels)
assert theirs_score < 20

# %% mystnb={"image": {"alt": "Two scatter plots of the same shape. Left, ours: each colour has its own region. Right, theirs: exactly the same cloud of points, but the colours are mixed at random all over it."}}
notes = {"ours": f"{score['MAE']:.0f} % right", "theirs": f"{theirs_score:.0f} % right"}
plots.classes_in_a_plane({"ours": planes["MAE"], "theirs": in_a_plane(theirs)}, asked.labels, asked.classes, notes=notes)

# %% [markdown]
# *Figure 8.11: the features of 750 test photographs, ours and theirs, coloured by class.*
#
# The cloud has the same shape, point for point. Only the colours are wrong. What does that rule out, and where is the bug?
#
# <details><summary>Diagnosis</summary>
#
# The features are fine, or the cloud would look different. So the encoder, the normalisation and the mask are not to blame. What is
# wrong is which label belongs to which point: the loader *shuffles* (`torch.randperm`), and the labels stay in the old order. A
# loader for training shuffles, one for evaluation must not. Other bugs have other faces: with the mask left on, the bow grows
# thicker and the accuracy sinks by some points; with another normalisation the whole cloud moves and stretches.
# </details>

# %%
order = torch.randperm(len(asked), generator=torch.Generator().manual_seed(0))
repaired = accuracy(knn_predict(vectors["MAE"][0], known.labels, theirs), asked.labels[order])
assert abs(repaired - score["MAE"]) < 1

# %% [markdown]
# ## Exercises
#
# **1 ★ Only the gift.** Patches are `b n (p1 p2 c)`, `hidden` is a bool `b n`. Return the patches with every hidden one painted
# flat, at its own mean. No model needed.

# %% nbgrader={"grade": false, "grade_id": "ch08-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def only_the_gift(patches, hidden):
    """Hidden patches flat at their own mean, visible ones as they are."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch08_only_the_gift(only_the_gift)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_only_the_gift(patches, hidden):
    """Hidden patches flat at their own mean, visible ones as they are."""
    means = patches.mean(-1, keepdim=True).expand_as(patches)
    return torch.where(hidden[:, :, None], means, patches)


check.ch08_only_the_gift(solution_only_the_gift)

# %% [markdown]
# **2 ★★ Where the class token looks.** From the weights `b heads t t` of a block make one map a head, `b heads h w`.

# %% nbgrader={"grade": false, "grade_id": "ch08-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def class_map(weights, grid):
    """How much the class token looks at each patch: b heads t t → b heads h w."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch08_class_map(class_map)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_class_map(weights, grid):
    """How much the class token looks at each patch: b heads t t → b heads h w."""
    return rearrange(weights[:, :, 0, 1:], "b heads (h w) -> b heads h w", h=grid[0], w=grid[1])


check.ch08_class_map(solution_class_map)

# %% mystnb={"image": {"alt": "Five garments in a row, and below each the attention of the class token in the last block, averaged over the three heads."}}
def class_maps():
    """The class token's attention on the five photographs, the mean of its heads."""
    maps = class_map(attention(model.encoder, five, 5), grid).mean(1)
    return plots.picture_table([[row[0] for row in painted[0.75]], list(maps)], rows=("picture", "class token"), scale_label="attention")


class_maps() if check.ch08_class_map(class_map).ok else "write class_map first"

# %% [markdown]
# *Figure 8.12: where the class token looks in the last block (mean of the three heads). Nothing in pre-training asks the class
# token for a class. It is one more place in which to keep something about the whole picture.*
#
# **3 ★★ Neighbours of one's own.** All vectors are in one set. Return the places of the `k` vectors that are most similar to vector
# number `query`: cosine after subtracting the mean. The query is not its own neighbour.

# %% nbgrader={"grade": false, "grade_id": "ch08-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def most_similar(vectors, query, k):
    """The k most similar other vectors: N d → k places."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch08_most_similar(most_similar)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_most_similar(vectors, query, k):
    """The k most similar other vectors: N d → k places."""
    unit = F.normalize(vectors - vectors.mean(0), dim=1)
    cosine = unit @ unit[query]
    cosine[query] = -2
    return cosine.topk(k).indices


check.ch08_most_similar(solution_most_similar)

# %% [markdown]
# **4 ★★★ Two directions.** The chapter used a function of torch for its PCA. Write it with `torch.linalg.svd`: coordinates `N 2`
# along the two directions of largest variance.

# %% nbgrader={"grade": false, "grade_id": "ch08-ex4", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def two_directions(vectors):
    """Coordinates along the two directions of largest variance: N d → N 2."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch08_two_directions(two_directions)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_two_directions(vectors):
    """Coordinates along the two directions of largest variance: N d → N 2."""
    centred = vectors - vectors.mean(0)
    directions = torch.linalg.svd(centred, full_matrices=False).Vh
    return centred @ directions[:2].T


check.ch08_two_directions(solution_two_directions)

# %% [markdown]
# ## Summary
#
# The paintings of a normalised model borrow brightness and contrast from the original; what it adds are patterns. It finds fabric
# harder than outlines, and its heads have taken up tasks that random weights do not have. As neighbours its features are far better
# than those of the untrained twin, and no better than raw pixels on these centred pictures. But they know other things: half the
# light does not disturb them, noise does. Ask more than one question before you say what a model has learned.
#
# ## Five questions
#
# 1. A painted picture of a normalised model looks right at 95 % hidden. Why is that no proof of understanding?
# <details><summary>Answer</summary>The mean and contrast of each hidden patch are taken from the original. A flat mosaic of the right brightnesses already looks right.</details>
#
# 2. Which row of the attention weights belongs to patch 0, and which entries of it are drawn?
# <details><summary>Answer</summary>Row 1, because row 0 is the class token's; all its entries but the first, which is the class token again.</details>
#
# 3. Why is the mean of the training vectors subtracted before the cosine?
# <details><summary>Answer</summary>All vectors share it. Left in, it dominates: every cosine is near 1, and the differences drown.</details>
#
# 4. Why compare with a random encoder?
# <details><summary>Answer</summary>A random network already passes on much of the picture. Only what is better than that was learned.</details>
#
# 5. The cloud of features is right and the accuracy is that of guessing. What do you check first?
# <details><summary>Answer</summary>Whether features and labels are in the same order.</details>
#
# You now own the whole of pre-training: every line from the picture to the features is yours. Next: [09 · Probing](09_probing.ipynb)
# How much of this knowledge can be read off with one straight cut?
