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
# # 10 · Fine-tuning, whole and in part
#
# **The promise.** You turn an encoder into a classifier, fine-tune it, see how accurate it becomes if only some of its blocks are trained,
# and learn why the linear probe and fine-tuning can disagree.
#
# Minutes: 30. Needs: chapters 03, 07 and 09.
#
# After this chapter you can
#
# - build a classifier from an encoder, and explain the initial weights of its head;
# - give each layer its own learning rate;
# - mix two images and their labels;
# - freeze all but the last blocks, and compare our version of the paper's Figure 9 with the original;
# - explain how one encoder can be worse than another in linear probing but better in fine-tuning.

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
import copy
from dataclasses import replace
from typing import Any, Literal
from unittest.mock import patch

import minimae_book as book
import torch
import torch.nn.functional as F
from einops import rearrange
from minimae_book import check
from minimae_book import figures as plots
from minimae_book.evidence import picture, recorded
from minimae_book.photographs import shipped_photographs
from torch import Tensor, nn

from minimae import MAE, Encoder, data, weights
from minimae.data import mixing
from minimae.data.augment import normalise
from minimae.data.mixing import Mixing, Shares, draw_shares
from minimae.model.patches import Pair
from minimae.model.vit import Block, drop_path
from minimae.recipes import FEW_LABELS, SCRATCH
from minimae.tasks import finetune, partial
from minimae.tasks.evaluation import evaluate
from minimae.tasks.partial import at_image
from minimae.tasks.reconstruct import read_picture
from minimae.train import optim

# %% [markdown]
# Linear probing leaves the encoder unchanged. In **fine-tuning**, the pre-trained weights are only the starting point, and the whole
# network is trained with labels. The paper's main results come from fine-tuned models; the largest, at 448 pixels, reaches 87.8 % on
# ImageNet.
#
# Labels are expensive, so we use only a few: 300 for the runs that you start here, and 100 to 3,000 for most of the longer experiments,
# whose results come with the book.

# %%
trained = weights.load("fashion-nano")
torch.manual_seed(trained.recipe.seed)
twin = MAE(trained.model.size).eval()
few, tests = data.load("fashion", "train").balanced_subset(300), data.load("fashion", "test").balanced_subset(1000)
depth, statistics = trained.model.size.depth, trained.statistics

# %% [markdown]
# ## An encoder becomes a classifier
#
# The classifier needs no decoder. It gives the encoder the whole image and takes the mean of the patch tokens. A LayerNorm and one linear
# layer, the **head**, turn this mean into **logits**: one number for each class. This LayerNorm replaces the encoder's own last norm.
#
# **1 ★ The head.** Write the step from the tokens to the logits. `tokens`, `b t d`, is the encoder's output. Leave out the first token,
# which is the class token.
#
# <details><summary>Hint</summary>
#
# `tokens[:, 1:]` are the patch tokens. Take the mean over axis 1.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch10-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def classify(tokens, norm, head):
    """The logits `b classes` of an encoder's tokens `b t d`, class token first."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch10_classify(classify)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_classify(tokens, norm, head):
    """The logits `b classes` of an encoder's tokens `b t d`, class token first."""
    return head(norm(tokens[:, 1:].mean(dim=1)))


check.ch10_classify(solution_classify)

# %% [markdown]
# The package's classifier, folded below, ends with the same mean, norm and head.

# %% jupyter={"source_hidden": true} tags=["package:minimae.tasks.finetune", "hide-input"]
class Classifier(nn.Module):
    """An encoder, the mean of its patch tokens (the class token is left out), a norm, and a linear head.

    Images ``b c height width`` → logits ``b classes``. The encoder's own last norm is replaced by one after the mean.
    image: the size in pixels it is meant for, by default the encoder's. tune: how many of the last blocks learn (see
    :func:`minimae.tasks.partial.freeze`), by default everything. pool: mean, or the class token (classifiers from elsewhere).
    """

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        *,
        drop_path: float = 0.0,
        image: int | Pair | None = None,
        tune: float | None = None,
        pool: Literal["mean", "class"] = "mean",
    ) -> None:
        super().__init__()
        self.pool = pool
        self.encoder = copy.deepcopy(encoder) if image is None else at_image(encoder, image)
        self.encoder.norm = nn.Identity()  # type: ignore[assignment]
        self.encoder.mask_token = None
        self.encoder.requires_grad_(True)
        self.encoder.spread_drop_path(drop_path)
        d = encoder.size.width
        self.norm = nn.LayerNorm(d, eps=encoder.size.eps)
        self.head = nn.Linear(d, classes)
        nn.init.trunc_normal_(self.head.weight, std=2e-5)
        nn.init.zeros_(self.head.bias)
        self.frozen = [] if tune is None else freeze(self.encoder, tune)

    def train(self, mode: bool = True) -> nn.Module:  # type: ignore[override]  # as text it could not stand in a notebook
        """As usual, but what is frozen stays in eval mode."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.encoder(images)
        c = self.encoder.size.class_tokens
        logits: Tensor = self.head(self.norm((tokens[:, c:] if self.pool == "mean" else tokens[:, :c]).mean(1)))
        return logits

# %% [markdown]
# The head starts with weights of standard deviation 0.00002. So all logits are almost zero, all classes get almost the same probability,
# and the loss starts at about the logarithm of the number of classes: ln 10 = 2.30. Random weights of the usual size would send large
# random gradients into the pre-trained encoder.

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
model = Classifier(trained.model.encoder, 10).eval()
with torch.no_grad():
    logits = model(normalise(few.pixels[:64], statistics))
print("logits", tuple(logits.shape), "loss", round(float(F.cross_entropy(logits, few.labels[:64])), 2))

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert abs(float(F.cross_entropy(logits, few.labels[:64])) - torch.tensor(10.0).log()) < 0.01

# %% [markdown]
# ## Each layer its own learning rate
#
# The first layers of a pre-trained network usually compute general features, such as edges, which are useful for many tasks. The last
# layers are the most specific to the task of pre-training. So the last layers should change most and the first ones least.
#
# **Layer-wise learning rate decay** sets all the learning rates with one number, the decay. With a decay of 0.75, the last block gets 0.75
# of the full learning rate, the block before it gets 0.75², and so on down to the patch projection. For an encoder of `L` blocks:
#
# | layer | what is in it | share of the learning rate |
# |---|---|---|
# | L + 1 | norm and head | 1 |
# | i + 1 | block i (0 to L − 1) | decay^(L − i) |
# | 0 | class token, positions, patch projection | decay^(L + 1) |
#
# The name of a parameter shows its layer.

# %% tags=["package:minimae.train.optim"]
def layer_of(name: str, depth: int) -> int:
    """The layer id of a parameter of a classifier, for layer-wise lr decay."""
    if name.startswith("encoder.blocks."):
        return int(name.split(".")[2]) + 1
    if name.startswith(("encoder.project", "encoder.class_token", "encoder.mask_token", "encoder.positions")):
        return 0
    return depth + 1

# %% [markdown]
# **2 ★★ Groups of parameters.** A PyTorch optimizer accepts a list of groups. Each group is a dictionary: `params` is a list of parameters,
# `weight_decay` applies to all of them, and our training loop multiplies the learning rate by `lr_scale`. Write the function that returns
# this list for a classifier.
#
# - `lr_scale` is the share in the table above.
# - Biases and norms (the parameters with one axis), the class token and the positions are not decayed: their `weight_decay` is 0.
# - A frozen parameter (`requires_grad` is False) is in no group; every other parameter is in exactly one.
#
# You may make one group for each parameter.
#
# <details><summary>Hint 1</summary>
#
# Loop over `classifier.named_parameters()`. The number of blocks is `len(classifier.encoder.blocks)`.
# </details>
#
# <details><summary>Hint 2</summary>
#
# The exponent is the distance from the top: `depth + 1 - layer_of(name, depth)`. The tokens and positions are the parameters for which
# `name.endswith(("_token", "positions"))` is true.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch10-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def my_layer_groups(classifier, weight_decay, layer_decay):
    """Groups of parameters for an optimizer, with `params`, `weight_decay` and `lr_scale`."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch10_layer_groups(my_layer_groups)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_my_layer_groups(classifier, weight_decay, layer_decay):
    """Groups of parameters for an optimizer, with `params`, `weight_decay` and `lr_scale`."""
    depth, groups = len(classifier.encoder.blocks), []
    for name, parameter in classifier.named_parameters():
        if parameter.requires_grad:
            plain = parameter.dim() <= 1 or name.endswith(("_token", "positions"))
            scale = layer_decay ** (depth + 1 - layer_of(name, depth))
            groups.append({"params": [parameter], "weight_decay": 0.0 if plain else weight_decay, "lr_scale": scale})
    return groups


check.ch10_layer_groups(solution_my_layer_groups)

# %% [markdown]
# The package's version is folded below. It collects parameters with the same settings in one group, which makes the optimizer faster.

# %% jupyter={"source_hidden": true} tags=["package:minimae.train.optim", "hide-input"]
def layer_groups(classifier: nn.Module, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Groups for fine-tuning: the lr of layer i of a depth-L encoder is scaled by ``layer_decay ** (L + 1 − i)``.

    Layer 0 is tokens, positions and patch projection; block i is layer i + 1; norm and head are layer L + 1 (scale 1).
    ``classifier.encoder`` is the encoder. Class token and positions are not decayed here. Each group carries ``lr_scale``.
    """
    depth = len(classifier.encoder.blocks)  # type: ignore[union-attr, arg-type]
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in classifier.named_parameters():
        if not parameter.requires_grad:
            continue
        layer = layer_of(name, depth)
        plain = parameter.dim() <= 1 or name.endswith(("_token", "positions"))
        group = groups.setdefault((layer, plain), {"params": [], "weight_decay": 0.0 if plain else weight_decay})
        group["params"].append(parameter)
        group["lr_scale"] = layer_decay ** (depth + 1 - layer)
    return list(groups.values())

# %% tags=["nbval-check-output"]
layer_groups = book.use(check.ch10_layer_groups, my_layer_groups, layer_groups)

# %% [markdown]
# The paper's ViT-L has 24 blocks, and its layer-wise decay is 0.75. How many times smaller is the learning rate of the patch projection
# than that of the head?

# %%
book.predict("bottom-layer", 100,
             ask="ViT-L, decay 0.75: how many times smaller is the lr of the patch projection than that of the head?")

# %%
shares = {
    f"{name}, decay {decay}": [decay ** (blocks + 1 - layer) for layer in range(blocks + 2)]
    for name, blocks, decay in (("ViT-L", 24, 0.75), ("fashion-nano", depth, 0.75), ("fashion-nano", depth, 1.0))
}
groups = layer_groups(model, weight_decay=0.05, layer_decay=0.75)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
wanted = torch.tensor(sorted(shares["fashion-nano, decay 0.75"]))
assert torch.allclose(torch.tensor(sorted({group["lr_scale"] for group in groups})), wanted)

# %% mystnb={"image": {"alt": "The reader's guess of 100 and the answer, about 1,300, on one line."}}
book.reveal("bottom-layer", round(1 / shares["ViT-L, decay 0.75"][0]), unit="times")

# %% [markdown]
# *Figure 10.1: your guess and the answer, 1 / 0.75²⁵.*

# %% mystnb={"image": {"alt": "Share of the learning rate by layer. For fashion-nano with decay 0.75 it rises from 0.13 at layer 0 to 1 at layer 7; without decay it is 1 everywhere. For ViT-L it stays near zero for the first 15 of its 26 layers and rises to 1 at the last."}}
plots.curves(
    {name: (range(len(values)), values) for name, values in shares.items()},
    x="layer (0: tokens, positions and projection)",
    y="share of the learning rate",
    floor=0,
)

# %% [markdown]
# *Figure 10.2: the share of the learning rate that each layer gets.*
#
# The layers in the lower half of ViT-L get less than 3 % of the learning rate. The share multiplies the *whole* schedule: warm-up, cosine
# and the final learning rate.
#
# ## Mixing pictures and labels
#
# With few labels, a network with many weights soon memorises its training images. The paper's recipe counters this with random crops,
# RandAugment (random distortions and changes of colour), drop path (chapter 03), label smoothing and mixing. Mixing combines an image with
# its neighbour in the batch:
#
# - **Mixup** blends the two images.
# - **Cutmix** pastes a rectangle of the neighbour into the image.
#
# The labels are mixed in the same proportions. An image that is 70 % a shirt and 30 % a bag has the target 0.7 for shirt and 0.3 for bag.

# %% tags=["package:minimae.data.mixing"]
def partners(x: Tensor) -> Tensor:
    """Each row's neighbour: rows 0 1 2 3 … → 1 0 3 2 …. Raises ValueError for an odd number of rows."""
    if len(x) % 2:
        raise ValueError(f"mixing pairs the images of a batch, so it must be even, not {len(x)}: change --batch, or leave mixing out")
    return rearrange(rearrange(x, "(pairs two) ... -> pairs two ...", two=2).flip(1), "pairs two ... -> (pairs two) ...")


def mix_images(images: Tensor, shares: Shares) -> Tensor:
    """Images ``b c height width`` → images of the same shape, each mixed with its neighbour."""
    other = partners(images)
    top, left, bottom, right = (shares.box[:, i, None, None, None] for i in range(4))
    row = torch.arange(images.shape[-2], device=images.device)[:, None]
    column = torch.arange(images.shape[-1], device=images.device)
    inside = (row >= top) & (row < bottom) & (column >= left) & (column < right)
    empty = (shares.box[:, 2] <= shares.box[:, 0]) | (shares.box[:, 3] <= shares.box[:, 1])
    own = torch.where(empty, shares.own, 1.0)[:, None, None, None].to(images.dtype)  # a pasted image is not blended as well
    return torch.where(inside, other, own * images + (1 - own) * other)

# %%
names, ids = ["cat", "temple", "cup", "flower"], torch.arange(4)
photographs = [read_picture(path, 3) / 255 for path in shipped_photographs()]
x = torch.cat([F.interpolate(image, (80, 120), mode="area") for image in photographs])
drawn = {name: draw_shares(how, ids, (80, 120), seed=3, epoch=0) for name, how in (("mixup", Mixing(0.8, 0)), ("cutmix", Mixing(0, 1.0)))}
rows = [x, *(mix_images(x, shares) for shares in drawn.values())]
notes = [names, *([f"{100 * own:.0f} % own" for own in shares.own.tolist()] for shares in drawn.values())]

# %% mystnb={"image": {"alt": "Four photographs in three rows. First the originals with their classes; then each blended with its neighbour; then each with a rectangle of its neighbour pasted in. Below each mixed image is the share that comes from the original in the same column."}}
plots.picture_table([[image.permute(1, 2, 0) for image in row] for row in rows], rows=("originals", *drawn), notes=notes)

# %% [markdown]
# *Figure 10.3: two pairs of neighbours (columns 1 and 2, and columns 3 and 4). The number below a mixed image is the share that comes from
# the original in the same column; the shares are drawn at random (seed 3, epoch 0).*
#
# **Label smoothing** changes the target, which would otherwise be 1 for the right class and 0 elsewhere. Every class gets `smoothing /
# classes`, and the right one also gets the rest, `1 − smoothing`. With such a target, the network has no reason to make its logits ever
# larger.
#
# **3 ★★ Soft targets.** Write the function that returns the targets: smooth them first, then mix them. `shares.own` is a tensor of shape
# `b`; for each mixed image, it contains the share that comes from the image itself, not from its neighbour. If `shares` is None, do not
# mix. Do not use a loop.
#
# <details><summary>Hint</summary>
#
# `F.one_hot(labels, classes)` gives the hard targets. `partners(target)` gives the target of each neighbour. `shares.own[:, None]` is a
# column, `b 1`.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch10-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def my_soft_targets(labels, classes, *, smoothing=0.0, shares=None):
    """Labels `b` → targets `b classes` that sum to 1: smoothed, then mixed like the images."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch10_soft_targets(my_soft_targets)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_my_soft_targets(labels, classes, *, smoothing=0.0, shares=None):
    """Labels `b` → targets `b classes` that sum to 1: smoothed, then mixed like the images."""
    target = F.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes
    if shares is None:
        return target
    own = shares.own[:, None]
    return own * target + (1 - own) * partners(target)


check.ch10_soft_targets(solution_my_soft_targets)

# %% [markdown]
# The package's version is folded below, with the cross-entropy for soft targets.

# %% jupyter={"source_hidden": true} tags=["package:minimae.data.mixing", "hide-input"]
def soft_targets(labels: Tensor, classes: int, *, smoothing: float = 0.0, shares: Shares | None = None) -> Tensor:
    """Labels int64 ``b`` → float32 ``b classes`` that sum to 1: smoothed, then mixed like the images.

    Smoothing gives each class ``smoothing / classes`` and the right one the rest (Szegedy et al., arXiv 1512.00567).
    """
    target = F.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes
    if shares is None:
        return target
    return shares.own[:, None] * target + (1 - shares.own[:, None]) * partners(target)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of logits ``b classes`` and soft targets ``b classes``, in float32 (also under autocast)."""
    with torch.autocast(logits.device.type, enabled=False):
        return -(targets.float() * logits.float().log_softmax(1)).sum(1).mean()

# %% tags=["nbval-check-output"]
soft_targets = book.use(check.ch10_soft_targets, my_soft_targets, soft_targets)

# %% tags=["nbval-check-output"]
quarter = Shares(torch.tensor([0.75, 0.5]), torch.zeros(2, 4, dtype=torch.long))
targets = soft_targets(torch.tensor([0, 2]), 4, smoothing=0.1, shares=quarter)
print([[round(float(value), 3) for value in row] for row in targets])

# %% [markdown]
# Each printed row is the target of one mixed image. In the first mixed image, three quarters comes from an image of class 0, and one
# quarter from an image of class 2. Classes 1 and 3 get 0.025 each from smoothing.
#
# ### Where this lives
#
# The package has this code in `minimae/tasks/finetune.py`, `minimae/train/optim.py` and `minimae/data/mixing.py`. The folded cell below
# compares it with the code of this chapter.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
theirs = finetune.Classifier(trained.model.encoder, 10).eval()
theirs.load_state_dict(model.state_dict())
garments = normalise(few.pixels[:4], statistics)
assert torch.equal(theirs(garments), model(garments)) and torch.allclose(targets.sum(1), torch.ones(2))
assert {g["lr_scale"] for g in optim.layer_groups(theirs, 0.05, 0.75)} == {g["lr_scale"] for g in groups}
assert all(torch.equal(mixing.mix_images(x, shares), mix_images(x, shares)) for shares in drawn.values())
assert torch.equal(mixing.soft_cross_entropy(logits[:2, :4], targets), soft_cross_entropy(logits[:2, :4], targets))

# %% [markdown]
# ## Three hundred labels
#
# Now train on 300 photographs, 30 of each class, for 15 epochs, with your groups of parameters. We compare two networks of the same size.
# One starts from the pre-trained encoder. The other starts from random weights and has its own recipe, without layer-wise decay and with
# the best of the learning rates that we tried.
#
# Random guessing is right 10 % of the time. How accurate is the network that starts from random weights?

# %%
book.predict("scratch-300", 65,
             ask="300 labels, 15 epochs, from random weights: how many % of the test images are right?")

# %%
def tuned(encoder, recipe, groups=layer_groups):
    """Fine-tune on the 300 photographs: → the classifier, and its accuracy on 1,000 test photographs in percent."""
    recipe = replace(recipe, epochs=15.0, warmup_epochs=2.0)
    with patch.object(finetune, "layer_groups", groups):
        classifier, _ = finetune.finetune(recipe, encoder, few, statistics, quiet=True)
    return classifier, evaluate(classifier, tests, statistics).top1


from_mae, mae_score = tuned(trained.model.encoder, FEW_LABELS)
_, scratch_score = tuned(twin.encoder, SCRATCH)
print(f"pre-trained {mae_score:.1f} %, from scratch {scratch_score:.1f} %")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert 75 < mae_score < 82 and 20 < scratch_score < 55

# %% mystnb={"image": {"alt": "The reader's guess of 65 percent and the measured accuracy from scratch of about 37 percent."}}
book.reveal("scratch-300", round(scratch_score, 1), unit="test accuracy (%)")

# %% [markdown]
# *Figure 10.4: your guess, and the accuracy of the network trained from scratch for 15 epochs (one seed, 1,000 test photographs).*
#
# Stopping after 15 epochs favours the pre-trained network, because a network trained from scratch needs more steps. A fairer comparison
# uses 30 epochs, three seeds, and 100 to 3,000 labels. All networks have 0.5 million parameters. Pre-training lasts 20 epochs on the book's
# 10,000 photographs. `minimae reproduce pre-training` repeats the experiment in about 12 minutes on one core.

# %%
ladder = recorded("pre-training")
gains = [a.mean - b.mean for a, b in zip(ladder.line("fine-tuned (%)"), ladder.line("fine-tuned (%)", "from scratch"))]
print("gain in points, 100 to 3,000 labels:", [round(gain, 1) for gain in gains])
every = recorded("pre-training", "full")
mae, scratch = (every.line("fine-tuned (%)", name)[-1] for name in ("MAE", "from scratch"))
print(f"with all {mae.x:,} labels of the complete set: {mae.mean:.1f} against {scratch.mean:.1f} %")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert ladder.verdict == "holds" and gains == sorted(gains, reverse=True) and gains[0] > 18 and 2 < gains[-1] < 5

# %% mystnb={"image": {"alt": "Three panels: measured here, the paper, and below them the differences with their intervals. Left, measured here: with 100 labels the pre-trained network is right in 71 percent of cases and the one trained from scratch in 48; with 3,000 labels 86 and 83. Right, the paper: MAE 83.6, 85.9 and 86.9 percent for ViT-B, ViT-L and ViT-H, from scratch 82.3, 82.6 and 83.1."}}
picture(ladder)

# %% [markdown]
# *Figure 10.5: pre-training against training from scratch. Left: our results by the number of labels (mean and one standard deviation over
# three seeds). Right: the paper's results by model size, with all 1.3 million labels (Table 3). Below: our gains from pre-training, with 95
# % intervals (explained in chapter 11). The scales differ.*
#
# Pre-training gains 22 points with 100 labels and 3 with 3,000: the fewer labels, the larger the gain. With all 60,000 labels of the
# complete Fashion-MNIST, the gain is still two points (`minimae reproduce pre-training --budget full`). The paper's gains, with 1.3 million
# labels, are 1.3 points for ViT-B and almost 4 for ViT-H.
#
# ## Partial fine-tuning
#
# A linear probe trains no block, and fine-tuning trains all of them. **Partial fine-tuning** lies between the two: it trains only the last
# few blocks, or the last one, or "half a block", which means the MLP of the last block and the norm before it. When `Classifier` gets the
# argument `tune`, it calls the function `freeze`, folded below.

# %% jupyter={"source_hidden": true} tags=["package:minimae.tasks.partial", "hide-input"]
class HalfBlock(nn.Module):
    """A block of which the MLP learns and the attention is frozen: ``b t d`` → ``b t d``, with the same parameter names.

    Drop path is left to the half that learns: a frozen part is what it was after pre-training, in every step.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2, self.mlp = block.norm1, block.attention, block.norm2, block.mlp
        self.drop = block.drop

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + drop_path(self.mlp(self.norm2(x)), self.drop, self.training)


def check_blocks(blocks: float) -> None:
    """Raises ValueError for what is neither 0, 0.5 nor a whole number of blocks."""
    if blocks != 0.5 and (blocks < 0 or blocks != int(blocks)):
        raise ValueError(f"partial fine-tuning takes 0, 0.5 (the MLP of the last block) or a whole number of blocks, not {blocks}")


def freeze(encoder: Encoder, blocks: float) -> list[nn.Module]:
    """Let only the last ``blocks`` blocks of an encoder learn, in place; → the parts that must stay in eval mode (drop path off).

    0: none (only what comes after the encoder learns). 0.5: the MLP of the last block, with its norm. As many as there are: everything,
    tokens, positions and patch projection too. Gradients do not flow below the first part that learns.
    Raises ValueError for other fractions and for more blocks than there are.
    """
    check_blocks(blocks)
    depth = len(encoder.blocks)
    if blocks > depth:
        raise ValueError(f"this encoder has {depth} blocks; {blocks:g} cannot be tuned: choose 0, 0.5, or 1 to {depth}")
    if blocks == depth:
        return []
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    frozen = list(encoder.blocks[: depth - (1 if blocks == 0.5 else int(blocks))])
    for block in encoder.blocks[len(frozen) :]:
        learned = [block.norm2, block.mlp] if blocks == 0.5 else [block]
        for part in learned:
            part.requires_grad_(True)  # type: ignore[union-attr, operator]
    if blocks == 0.5 and isinstance(last := encoder.blocks[depth - 1], Block):
        encoder.blocks[depth - 1] = HalfBlock(last)
    return frozen

# %% [markdown]
# `freeze` has two effects.
#
# - The frozen parameters get no gradient. Below the lowest trained part no gradient is computed at all, which saves time.
# - The frozen blocks stay in **eval mode**. In training mode, drop path would skip the frozen blocks at random. The trained blocks would
#   then adapt to inputs that do not occur when the classifier is used. `freeze` returns the frozen blocks, and `Classifier.train` switches
#   them back to eval mode.

# %% tags=["nbval-check-output"]
for blocks in (0, 0.5, 1, 2, depth):
    classifier = Classifier(trained.model.encoder, 10, tune=blocks)
    learns = sum(p.numel() for p in classifier.parameters() if p.requires_grad)
    print(f"{blocks:>3} of {depth} blocks: {learns:7,} of {sum(p.numel() for p in classifier.parameters()):,} parameters are trained")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert [len(f(copy.deepcopy(twin.encoder), 2)) for f in (freeze, partial.freeze)] == [depth - 2, depth - 2]
assert not any(block.training for block in Classifier(trained.model.encoder, 10, tune=2).train().frozen)

# %% [markdown]
# The networks in the longer experiments have only four blocks. Sketch their accuracy when 0, ½, 1, 2, 3 and 4 blocks are trained. With no
# block trained, only the norm and the head learn, and the accuracy is 76.6 %.

# %%
book.predict("blocks", [76.6, 77, 77.5, 79, 80.5, 82],
             ask="Sketch the accuracy (%) with 0, ½, 1, 2, 3 and 4 of 4 blocks tuned, 1,000 labels.")

# %%
in_part = recorded("partial")
line = in_part.line("fine-tuned (%)")
means = [mark.mean for mark in line]

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert means == sorted(means) and means[2] - means[0] > 0.5 * (means[-1] - means[0])

# %% mystnb={"image": {"alt": "The reader's sketch, a nearly straight line from 77 to 82 percent, and the measured curve, which jumps from 76.6 to 80.1 with the first block and then rises slowly to 82.2."}}
book.reveal("blocks", means, x=[mark.x for mark in line], unit="fine-tuned (%)", xlabel="blocks tuned")

# %% [markdown]
# *Figure 10.6: your sketch, and the mean accuracy over three seeds with 1,000 labels (`minimae reproduce partial --budget laptop`).*

# %% mystnb={"image": {"alt": "Three panels: measured here, the paper, and below them the differences with their intervals. Left, measured here: accuracy against blocks tuned, 76.6 percent with none, 79.3 with half a block, 80.1 with one, 82.2 with all four. Right, the paper: MAE rises from 73.5 with none to 81.0 with one and 84.9 with 24; MoCo v3 starts higher, at 77.6, and ends lower, at 84.1."}}
picture(in_part)

# %% [markdown]
# *Figure 10.7: our version of the paper's Figure 9 beside the original (ViT-L, 24 blocks). Left: mean and one standard deviation over three
# seeds. Right: MAE and MoCo v3, another method of pre-training. Below: two differences between our results, with 95 % intervals (explained
# in chapter 11). The scales differ.*
#
# On average over our seeds, tuning half a block gives about half of the gain of tuning all four blocks, and tuning one block gives more
# than 60 % of that gain. Three seeds are enough to show that tuning one block is better than tuning none. They are not enough to show
# whether tuning two blocks comes within a point of tuning all four. In the paper, tuning 4 of 24 blocks comes within a point of tuning all.
#
# ## Why the probe and fine-tuning disagree
#
# In the paper's panel of Figure 10.7, the contrastive method MoCo v3 is four points better than MAE if no block is trained, but worse if
# one or more blocks are trained. So which encoder is better? That depends on what you need the encoder for. A linear probe measures how
# well hyperplanes in the feature space separate the classes. Fine-tuning measures how good a starting point the weights are.
#
# Probing and fine-tuning can also disagree about which of two MAE settings is better. The figure below shows the nine of our experiments in
# which all encoders were both probed and fine-tuned, beside the corresponding results of the paper.

# %%
both = (
    "longer",
    "mask-ratio",
    "sampling",
    "decoder-depth",
    "decoder-width",
    "target",
    "loss",
    "augmentation",
    "mask-tokens",
)
measures = ("linear probe (%)", "fine-tuned (%)")
ours = {
    name: [tuple(recorded(name).at((m, "MAE", mark.x)).mean for m in measures) for mark in recorded(name).line(measures[0])]
    for name in both
}
papers = {}
for name in both:
    published = [dict(recorded(name).paper[m]["MAE"]) if m in recorded(name).paper else {} for m in measures]
    papers[name] = [(published[0][x], published[1][x]) for x in published[0] if x in published[1]]

# %% tags=["nbval-check-output"]
def steepness(points):
    """The range of the probe accuracies for each point in the range of the fine-tuned ones."""
    probes, tunes = zip(*points)
    return (max(probes) - min(probes)) / (max(tunes) - min(tunes))


panels = {"measured here": ours, "the paper": {name: points for name, points in papers.items() if points}}
for title, each in panels.items():
    ratio = steepness([p for points in each.values() for p in points])
    print(f"{title}: for each point of fine-tuning, {ratio:.1f} points of the probe")

# %% mystnb={"image": {"alt": "Two scatter plots of fine-tuned against probe accuracy, one point for each setting. Measured here, the points lie along one rising line: as the probe accuracy rises from 75 to 85 percent, the fine-tuned accuracy rises from 77 to 84. In the paper, probes range from 55 to 75 percent while fine-tuning stays between 82.3 and 85.4."}}
plots.scatters(panels, x=measures[0], y=measures[1])

# %% [markdown]
# *Figure 10.8: every setting of these experiments with both a probe and a fine-tuning result. Left: our means over three seeds. Right: the
# paper's results (ViT-L). The names are those of `minimae reproduce --list`. The scales differ.*
#
# In the paper, the probe accuracies span 20 points and the fine-tuned ones 3. If you look only at the probe, most design choices seem more
# important than they are for fine-tuning. In our experiments, both accuracies rise together. A likely reason is that the largest
# differences in our experiments come from the length of pre-training, and longer pre-training improves both accuracies.
#
# > **Paper.** See Section 4.3 and Figure 9 (partial fine-tuning), Tables 3, 9 and 11, and Appendices A.1 and A.2. The recipes
# > `imagenet-large-finetune`, `imagenet-large-partial-1` and so on have the paper's settings (drop path and random
# > erasing are those of the released code), but we have not run them yet.
# > **The head**: the code released with the paper takes the mean of the patch tokens by default. The paper's appendix uses the class token.
# > **Our deviations here**: we fine-tune with 100 to 3,000 labels (in one experiment up to 60,000) instead of 1.3 million, without
# > mixing or RandAugment, and with learning rates for small networks. With 0 blocks, we train the norm and the head with the fine-tuning
# > recipe, not with that of the probe.
#
# ## Break-it lab: the wrong way up
#
# A colleague wrote the code for layer-wise decay from memory. There is no error message, and the loss falls, but the accuracy is lower than
# with the correct groups.

# %%
def their_groups(classifier, weight_decay, layer_decay):
    """Layer-wise decay, from memory."""
    groups = []
    for name, parameter in classifier.named_parameters():
        scale = layer_decay ** layer_of(name, depth)
        decayed = weight_decay if parameter.dim() > 1 else 0.0
        groups.append({"params": [parameter], "weight_decay": decayed, "lr_scale": scale})
    return groups


from_theirs, their_score = tuned(trained.model.encoder, FEW_LABELS, their_groups)
print(f"yours {mae_score:.1f} %, the colleague's {their_score:.1f} %")

# %% [markdown]
# How far has each layer moved from its pre-trained weights?

# %%
@torch.no_grad()
def moved(classifier):
    """How far the matrices of each layer of the encoder have moved, in percent of their norm before training."""
    before, far = dict(trained.model.encoder.named_parameters()), {}
    for name, after in classifier.encoder.named_parameters():
        if after.dim() > 1 and name in before:
            share = float((after - before[name]).norm() / before[name].norm())
            far.setdefault(layer_of(f"encoder.{name}", depth), []).append(100 * share)
    return [sum(values) / len(values) for _, values in sorted(far.items())]


paths = {"yours": moved(from_mae), "the colleague's": moved(from_theirs)}

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert their_score < mae_score - 4
assert paths["yours"] == sorted(paths["yours"]) and paths["the colleague's"][1] > paths["the colleague's"][-1]

# %% mystnb={"image": {"alt": "How far each layer has moved in fine-tuning. Yours rises from 2 percent at layer 0 to 25 percent at layer 6. The colleague's is highest at layer 1, 18 percent, and falls to 11 at layer 6."}}
plots.curves(
    {name: (range(depth + 1), values) for name, values in paths.items()},
    x="layer (0: tokens, positions and projection)",
    y="moved (% of the norm)",
    floor=0,
    note="one seed",
)

# %% [markdown]
# *Figure 10.9: how far fine-tuning has moved each layer of the encoder from its pre-trained weights (one seed).*
#
# What does the figure say about the colleague's learning rates? And why is the colleague's accuracy lower?
#
# <details><summary>Diagnosis</summary>
#
# Among the blocks of the colleague's classifier, the first one moves most and the last one least. In your classifier, the order is
# reversed. The colleague's exponent is the number of the layer, so layer 0 gets the full learning rate and the head gets the smallest.
# (Layer 0 still moves by a smaller share, mainly because its positions are about ten times as large as the weights of a block.) The exponent should be the distance from the top, `depth + 1 − layer`. The first blocks probably lose part of what they learned in
# pre-training. The head, which starts near zero, learns with only 13 % of the full learning rate. The colleague's groups also decay the
# class token and the positions, which is a smaller mistake. All shapes are right, so a test of shapes does not find the main mistake. Test
# instead that the `lr_scale` of the norm and the head is 1.
# </details>
#
# ## One more exercise
#
# **4 ★★★ Cutmix.** Images are `b c h w` with an even `b`; images 0 and 1 are partners, as are 2 and 3, and so on. Paste the rectangle `box
# = (top, left, bottom, right)` of each image's partner into the image, at the same position. The box is the same for all images, and row
# `bottom` and column `right` are excluded. Return the new images, and the share of its own area that each image keeps
# (one number).


# %% nbgrader={"grade": false, "grade_id": "ch10-ex4", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def paste(images, box):
    """Cutmix with one rectangle: → images of the same shape, and the share of its own area that each keeps."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch10_paste(paste)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_paste(images, box):
    """Cutmix with one rectangle: → images of the same shape, and the share of its own area that each keeps."""
    top, left, bottom, right = box
    other = rearrange(images, "(b two) ... -> b two ...", two=2).flip(1).flatten(0, 1)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (images.shape[-2] * images.shape[-1])


check.ch10_paste(solution_paste)

# %% [markdown]
# ## Summary
#
# A classifier consists of the encoder, the mean of its patch tokens, a norm and a linear head that starts near zero. With layer-wise decay,
# the last layers change most, and the first ones, which compute general features, change least. Mixing and label smoothing make it harder
# to memorise the training images. In our experiments, pre-training gains 22 points with 100 labels and 3 with 3,000. Compared with training
# no block, training one gives more than half of the gain of training all four. Linear probing measures linear separability, and fine-tuning
# measures how good a starting point the weights are.
#
# ## Five questions
#
# 1. Why does the head start with weights near zero?
# <details><summary>Answer</summary>A head with large random weights would send large random gradients into the pre-trained encoder.</details>
#
# 2. An encoder has 12 blocks, and the decay is 0.65. What share of the learning rate does the last block get?
# <details><summary>Answer</summary>0.65. The norm and the head get 1, and the last block is one layer below them.</details>
#
# 3. An image is 70 % a shirt and 30 % a bag. What is its target without smoothing?
# <details><summary>Answer</summary>0.7 for shirt and 0.3 for bag.</details>
#
# 4. Why must frozen blocks be in eval mode?
# <details><summary>Answer</summary>In training mode, drop path skips them at random. The trained blocks then adapt to inputs that do not occur when the classifier is used.</details>
#
# 5. Encoder A is better in linear probing, and B in fine-tuning. Which one has the better features?
# <details><summary>Answer</summary>That depends on what you need the encoder for. With A, the classes are easier to separate with a linear layer; B is the better starting point for training. If one block is trained, B can already be ahead of A.</details>
#
# Next: [11 · Which mask, how much?](11_which_mask.ipynb) We have used a mask ratio of 75 % since chapter 00. How do you test such a choice?
