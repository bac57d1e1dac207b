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
# # 06 · What to predict
#
# **The promise.** You write the target and the loss of a masked autoencoder, put the whole model together, and train it on eight
# photographs in less than a minute.
#
# Minutes: 30. Needs: chapters 01 to 05.
#
# After this chapter you can
#
# - turn a patch into each of three targets, and a prediction back into pixels;
# - compute the loss of a trivial baseline before you train a model;
# - explain why the loss counts masked patches only, and recognise a model whose loss counted the wrong patches;
# - say which part of a reconstruction the model predicted, and which part comes from the original;
# - name the intermediate results of a forward pass.

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

from dataclasses import dataclass
from typing import Any

import minimae_book as book
import torch
import torch.nn.functional as F
from minimae_book import check
from minimae_book import figures as plots
from torch import Tensor, nn

from minimae import Decoder, Encoder, Mask, Size, data, grid_of, make_mask, patchify, size, take, unpatchify, weights
from minimae.data.augment import normalise
from minimae.data.photos import photos
from minimae.devices import full_precision
from minimae.model import mae, targets
from minimae.model.checks import check_shape, checked_mask
from minimae.model.patches import Pair
from minimae.model.sizes import resolve

# %% [markdown]
# ## Normalised pixels
#
# For each masked patch, the decoder returns a list of numbers. What should these numbers be?
#
# The simplest answer is the pixels themselves. But how much of the squared error would a model remove by predicting only the mean colour of
# each patch? Take eight photographs (crops of 64 × 64 pixels; the model `photos-tiny` was trained on other photographs), and cut them into
# patches of 4 × 4 pixels. Compare the squared error of predicting the mean colour of each patch, and no detail, with that of predicting one
# colour for all patches.

# %%
trained = weights.load("photos-tiny")
eight = photos("train", image=64, count=42).subset([7, 15, 23, 24, 11, 26, 5, 33])
images = normalise(eight.pixels, trained.statistics)
patches = patchify(images, 4)
pixels = patches.unflatten(-1, (16, 3))  # 16 pixels with 3 colours
one_colour = (pixels - pixels.mean((0, 1, 2))).square().mean()  # the same colour for all patches
mean_colours = (pixels - pixels.mean(2, keepdim=True)).square().mean()  # the mean colour of each patch
print(f"The mean colour of each patch removes {100 * (1 - mean_colours / one_colour).item():.0f} % of the squared error.")

# %% [markdown]
# Edges and texture inside the patches, which make an image sharp, account for less than a fifth of the error.
#
# The alternative to plain pixels is to predict only the *pattern* of a patch. Subtract the mean of the patch from each of its values, and
# divide the result by the standard deviation of the patch. The results are **normalised pixels**. The table shows the computation for a
# patch of four values:
#
# | | | | | | |
# |---|---|---|---|---|---|
# | pixels | 1 | 3 | 5 | 7 | mean 4 |
# | minus the mean | −3 | −1 | 1 | 3 | squares 9 + 1 + 1 + 9 = 20 |
# | divided by √(20 / 3) = 2.58 | −1.16 | −0.39 | 0.39 | 1.16 | |
#
# The variance is 20 / 3, not 20 / 4: the **unbiased** variance divides by the number of values minus one. PyTorch's `var` computes it by
# default, and the paper's code uses it too.
#
# **1 ★★ Statistics of patches.** Write the function that computes the mean and the standard deviation of each patch. Compute them over all
# values of a patch, pixels *and* colours: each patch has one mean and one standard deviation. Add 1e-6 to the variance before you take the
# root. Then a **flat** patch, in which all values are equal, gives zeros instead of a division by zero.
#
# <details><summary>Hint</summary>
#
# `mean` and `var` take the axis as an argument. `keepdim=True` keeps this axis with size 1, so the mean can be subtracted from the patches
# directly.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch06-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def my_patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch: `b n (p1 p2 c)` → two `b n 1`."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch06_patch_statistics(my_patch_statistics)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_my_patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch: `b n (p1 p2 c)` → two `b n 1`."""
    return patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + 1e-6).sqrt()


check.ch06_patch_statistics(solution_my_patch_statistics)

# %% [markdown]
# The package's version, folded below, also computes in float32 when the images are in half precision, and rejects patches that consist of a
# single number.


# %% jupyter={"source_hidden": true} tags=["package:minimae.model.targets", "hide-input"]
def patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch, over all its pixels and channels together: ``b n (p1 p2 c)`` → two ``b n 1``.

    The variance is unbiased, and 1e-6 is added inside the square root. So the loss of predicting zero for normalised
    pixels is (values − 1) / values, not 1. Raises ValueError for patches of a single value.
    """
    if patches.shape[-1] < 2:
        raise ValueError("a patch of one value has no standard deviation: choose target='pixels', or patches of at least 2 values")
    patches = patches.to(torch.promote_types(patches.dtype, torch.float32))
    return patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + 1e-6).sqrt()


# %% tags=["nbval-check-output"]
patch_statistics = book.use(check.ch06_patch_statistics, my_patch_statistics, patch_statistics)

# %% tags=["nbval-check-output"]
four = torch.tensor([[[1.0, 3.0, 5.0, 7.0]]])
mean, std = patch_statistics(four)
print("mean", tuple(mean.shape), " std", tuple(std.shape))
print([round(x, 2) for x in ((four - mean) / std).flatten().tolist()])

# %% [markdown]
# ## The trivial baseline
#
# Before you train a model, compute the loss of a **trivial baseline**: a prediction that uses nothing from the image. For normalised
# pixels, we predict zero everywhere, because each normalised patch has a mean of zero. The loss is the mean squared error. What is the loss
# for colour patches of 4 × 4 pixels, which have 48 values?

# %%
book.predict("zero-loss", 1.0,
             ask="Mean squared error of predicting 0, for a normalised patch of 48 values?")

# %%
noise = torch.randn(1, 1000, 48, generator=torch.Generator().manual_seed(0))
mean, std = patch_statistics(noise)
zero_loss = ((noise - mean) / std).square().mean().item()

# %% mystnb={"image": {"alt": "The reader's guess, 1, and the answer, 0.9792."}}
book.reveal("zero-loss", round(zero_loss, 4), unit="mean squared error")

# %% [markdown]
# *Figure 6.1: your guess and the answer, for 1,000 patches of random numbers (seed 0).*
#
# **2 ★ The baseline as a formula.** What is the loss of predicting zero for normalised patches of `p1` × `p2` pixels with `c` channels, if
# no patch is flat?
#
# <details><summary>Hint</summary>
#
# In the example with four values, the squares of the normalised values sum to 20 / (20 / 3) = 3, and their mean is 3 / 4.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch06-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def baseline_loss(p1: int, p2: int, c: int) -> float:
    """The mean squared error of predicting zero for a normalised patch."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch06_baseline_loss(baseline_loss)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_baseline_loss(p1: int, p2: int, c: int) -> float:
    """The mean squared error of predicting zero for a normalised patch."""
    values = p1 * p2 * c
    return (values - 1) / values


check.ch06_baseline_loss(solution_baseline_loss)

# %% [markdown]
# | patch | values | loss of predicting zero |
# |---|---|---|
# | 2 × 2, colour | 12 | 0.917 |
# | 4 × 4, grey | 16 | 0.9375 |
# | 4 × 4, colour | 48 | 0.979 |
# | 16 × 16, colour | 768 | 0.9987 |
#
# Draw this baseline as a line in your plot of the loss. If your loss stays at this line, the model has learned no more than to predict
# zero.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert abs(zero_loss - 47 / 48) < 1e-4

# %% [markdown]
# ## Three targets
#
# A **target** is what the decoder should predict. In the package, it is a small class with two methods: `forward` computes the targets of
# patches, and `picture` turns predictions back into pixels. For plain pixels, both methods do almost nothing:


# %% tags=["package:minimae.model.targets"]
class PixelTarget(nn.Module):
    """The pixels of a patch as they are (after the normalisation of the dataset)."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.values = values

    def forward(self, patches: Tensor) -> Tensor:
        """Patches ``b n (p1 p2 c)`` → targets ``b n values``."""
        return patches.to(torch.promote_types(patches.dtype, torch.float32))

    def picture(self, predicted: Tensor, patches: Tensor) -> Tensor:
        """Predictions ``b n values`` → pixels ``b n (p1 p2 c)``. This target does not use the true patches."""
        return predicted


# %% [markdown]
# For normalised pixels, the way back to pixels needs the mean and the standard deviation of each patch. The model does not predict these
# two numbers, so `picture` takes them from the *true* patch.


# %% tags=["package:minimae.model.targets"]
class NormalisedTarget(PixelTarget):
    """The pixels of a patch less its mean, divided by its standard deviation: the better target (Table 1d)."""

    def forward(self, patches: Tensor) -> Tensor:
        """Patches ``b n (p1 p2 c)`` → targets ``b n values``."""
        mean, std = patch_statistics(patches)
        return (patches - mean) / std

    def picture(self, predicted: Tensor, patches: Tensor) -> Tensor:
        """Predictions → pixels, with mean and standard deviation of the true patches: a leak that a caption must state."""
        mean, std = patch_statistics(patches)
        return predicted * std + mean


# %% [markdown]
# The third target is for comparison. **Principal component analysis** (PCA) finds the directions in which patches differ most. In
# photographs, the first direction is usually the overall brightness; then come gradients from one side to the other, and then ever finer
# patterns. A patch has one coefficient for each direction. If only the first coefficients are kept, fine patterns are left out of the
# target. The paper keeps 96 of 768 coefficients. The class is folded below.


# %% jupyter={"source_hidden": true} tags=["package:minimae.model.targets", "hide-input"]
class PCATarget(PixelTarget):
    """The first coefficients of a patch in a principal component analysis of training patches (Table 1d; 96 there)."""

    mean: Tensor
    components: Tensor

    def __init__(self, values: int, coefficients: int = 96) -> None:
        super().__init__(min(coefficients, values))
        self.register_buffer("mean", torch.zeros(values))
        self.register_buffer("components", torch.eye(values)[:, : self.values].contiguous())

    def fit(self, patches: Tensor) -> PCATarget:
        """Compute mean and components from patches ``… (p1 p2 c)``; a few thousand are enough. Returns itself."""
        rows = patches.flatten(0, -2).double()
        if len(rows) <= self.values:
            raise ValueError(f"{self.values} coefficients need more than {self.values} patches to fit on, not {len(rows)}")
        self.mean.copy_(rows.mean(0))
        directions = torch.linalg.eigh((rows - rows.mean(0)).T @ (rows - rows.mean(0))).eigenvectors
        self.components.copy_(directions.flip(1)[:, : self.values])
        return self

    def forward(self, patches: Tensor) -> Tensor:
        """Patches ``b n (p1 p2 c)`` → coefficients ``b n values``."""
        with full_precision(patches.device):  # autocast would multiply in half precision
            return (patches.to(torch.promote_types(patches.dtype, torch.float32)) - self.mean) @ self.components

    def picture(self, predicted: Tensor, patches: Tensor) -> Tensor:
        """Coefficients → pixels; omitted components stay at their mean."""
        with full_precision(predicted.device):
            return predicted.to(self.mean.dtype) @ self.components.T + self.mean


# %% [markdown]
# Each target has a name, so that training options can select it:

# %%
TARGETS: dict[str, type[PixelTarget]] = {"pixels": PixelTarget, "normalised": NormalisedTarget, "pca": PCATarget}

# %% [markdown]
# Compute the three targets for the photographs. Here PCA keeps 6 of 48 coefficients.

# %%
pca = PCATarget(48, coefficients=6).fit(patches)
made = {"pixels": PixelTarget(48)(patches), "normalised": NormalisedTarget(48)(patches), "pca": pca(patches)}

# %% tags=["nbval-check-output"]
print("patches    b n (p1 p2 c):", tuple(patches.shape))
for name, target in made.items():
    print(f"{name:10} b n values   :", tuple(target.shape))


# %%
def one_patch(image: int, row: int, column: int) -> tuple:
    """A photograph, a patch (row, column) of it, and its three targets as pictures."""
    i = 16 * row + column
    kept = pca.picture(made["pca"], patches)
    colours = [plots.as_picture(unpatchify(x[image, i][None, None], 4, (1, 1))[0], trained.statistics) for x in (patches, kept)]
    pattern = (0.5 + made["normalised"][image, i].reshape(4, 4, 3) / 6).clamp(0, 1)  # grey is 0
    return plots.as_picture(images[image], trained.statistics), (row, column), colours[0], pattern.numpy(), colours[1]


# %% mystnb={"image": {"alt": "Three photographs, each with one framed patch, and beside each the patch as pixels, as normalised pixels and from six PCA coefficients. The plain orange cloth stays nearly one colour in all three targets. The window of the palace has little contrast in its pixels and more in its normalised pixels. From six coefficients the patches are smooth."}}
plots.three_targets([one_patch(4, 7, 6), one_patch(0, 2, 2), one_patch(2, 6, 8)], ("pixels", "normalised pixels", "6 of 48 PCA coefficients"))

# %% [markdown]
# *Figure 6.2: three patches of photographs (scikit-image and scikit-learn) and their targets. In the pictures of normalised pixels,
# mid-grey stands for 0. PCA was fitted on the 2,048 patches of the eight photographs.*
#
# In the middle row, the pixels are nearly one colour. Normalisation removes the brightness, but the hue remains, because red, green and
# blue share one mean. In the bottom row, the contrast between window and wall is weak, and normalisation makes it as strong as the contrast
# in any other patch. So a patch of weak contrast counts as much in the loss as one with a strong edge. But in a grey patch that is flat
# except for noise, the normalised target is noise.
#
# The paper compares the *features* learned with four targets (Table 1d, ViT-L, 800 epochs):
#
# | target | pixels | normalised pixels | PCA | dVAE tokens |
# |---|---|---|---|---|
# | fine-tuned, % | 84.9 | **85.4** | 84.6 | 85.3 |
# | linear probe, % | 73.5 | **73.9** | 72.3 | 71.6 |
#
# dVAE tokens come from another large network, a discrete variational autoencoder (dVAE), which must be trained first. Normalised pixels
# need no other network, and reach a higher accuracy in both rows.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
for ours, packaged in ((PixelTarget, targets.PixelTarget), (NormalisedTarget, targets.NormalisedTarget)):
    assert torch.allclose(ours(48)(patches), packaged(48)(patches), atol=1e-5)
assert torch.equal(pca(patches), targets.PCATarget(48, 6).fit(patches)(patches))
assert list(TARGETS) == list(targets.TARGETS)

# %% [markdown]
# ## The loss
#
# The loss of a patch is the mean squared error between its predicted values and its target.


# %% tags=["package:minimae.model.targets"]
def patch_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each patch: two ``b m values`` → ``b m``, at least in float32."""
    return (predicted.to(torch.promote_types(target.dtype, torch.float32)) - target).square().mean(dim=-1)


# %% [markdown]
# ## Only the masked patches
#
# The loss of an image is the mean loss of its *masked* patches. The encoder has seen the visible patches, so they could simply be copied.
# To predict a masked patch, the model has to use the visible ones. The paper reports that computing the loss on all patches lowers the
# accuracy by about half a percentage point (footnote in Section 3).
#
# **3 ★★ The masked mean.** You have predictions and targets of *all* patches in image order, `b n values`, and the binary mask `b n`
# (float: 1 means masked, 0 visible). Return the loss, a tensor with a single number: the mean squared error of each masked patch, averaged
# over all masked patches.
#
# <details><summary>Hint</summary>
#
# `patch_loss` gives losses `b n`. Multiply them by the mask, sum the products, and divide the sum by the number of masked patches.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch06-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def masked_loss(predicted: Tensor, target: Tensor, binary: Tensor) -> Tensor:
    """The loss on masked patches only."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch06_masked_loss(masked_loss)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_masked_loss(predicted: Tensor, target: Tensor, binary: Tensor) -> Tensor:
    """The loss on masked patches only."""
    losses = (predicted - target).square().mean(-1)
    return (losses * binary).sum() / binary.sum()


check.ch06_masked_loss(solution_masked_loss)

# %% [markdown]
# How large is the loss of each patch? The model `photos-tiny` was trained on 50,000 other photographs. Let it predict every patch of our
# eight photographs, including the visible ones.

# %%
grid = trained.model.size.grid
mask = make_mask(eight.ids, grid, ratio=0.75, seed=0)
with torch.no_grad():
    everywhere = trained.model.decoder(trained.model.encoder(images, mask), mask, every=True)
losses = patch_loss(everywhere, made["normalised"])
on_masked = losses.masked_fill(mask.binary == 0, torch.nan)
on_visible = losses.masked_fill(mask.binary == 1, torch.nan)

# %% tags=["nbval-check-output"]
print("losses b n:", tuple(losses.shape), "  counted:", int(mask.binary.sum(1)[0]), "of", losses.shape[1])

# %% mystnb={"image": {"alt": "Three photographs. For each: what the model saw; a map of the loss of masked patches, high at outlines and in fine detail; and a map of the loss of visible patches, which is larger on average."}}
hidden = unpatchify(mask.binary[:, :, None].expand(-1, -1, 16), 4, grid)[:, 0] > 0.5
rows = []
for i in (4, 3, 0):
    maps = [x[i].reshape(grid).numpy() for x in (on_masked, on_visible)]
    rows.append((plots.masked_picture(images[i], hidden[i], trained.statistics), *maps))
plots.where_the_loss_looks(rows, ("what it saw", "loss of masked patches", "loss of visible patches"))

# %% [markdown]
# *Figure 6.3: loss of each patch (photographs that the model was not trained on, mask seed 0, photos-tiny, normalised target). Each map
# shows only the patches named above it; all others are white.*

# %%
print(f"mean loss: {losses[mask.binary == 0].mean():.2f} of visible patches, {losses[mask.binary == 1].mean():.2f} of masked patches")

# %% [markdown]
# Among the masked patches, the loss is largest at outlines and in fine detail, such as the badge. For the *visible* patches the loss is
# larger on average, although the encoder has seen them, because the training loss never counted them. Therefore the visible patches in our
# reconstructions are pasted from the original.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert losses[mask.binary == 0].mean() > losses[mask.binary == 1].mean()
assert torch.equal(patch_loss(patches, 0 * patches), targets.patch_loss(patches, 0 * patches))

# %% [markdown]
# ## The whole model
#
# A forward pass returns the loss and the main intermediate results by name. The method `reconstruct` returns pictures, also by name.


# %% tags=["package:minimae.model.mae"]
@dataclass(frozen=True, eq=False)
class MAEOutput:
    """One forward pass.

    loss: scalar. predicted: ``b m values``, or ``b n values`` when the loss is on all patches. patch_losses: ``b m`` or ``b n``.
    mask: the one used. latent: ``b t d``.
    """

    loss: Tensor
    predicted: Tensor
    patch_losses: Tensor
    mask: Mask
    latent: Tensor


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images ``b c height width`` of a reconstruction, in the units of the input.

    masked: masked patches set to 0 (the dataset's mean). predicted: predictions everywhere.
    inpainted: predictions in the masked patches and the original in the visible ones, which are not trained.
    """

    original: Tensor
    masked: Tensor
    inpainted: Tensor
    predicted: Tensor


# %% [markdown]
# **4 ★★★ Your masked autoencoder.** Write `forward`: encode the visible patches, predict the masked ones, and compute their targets and the
# loss. Return an `MAEOutput`. The decoder returns its predictions, `b m values`, in the order of `mask.masked`, so the targets must be in
# this order too. `__init__` and `reconstruct` are given.
#
# <details><summary>Hint 1</summary>
#
# The latent is `self.encoder(images, mask)`, and the predictions are `self.decoder(latent, mask)`.
# </details>
#
# <details><summary>Hint 2</summary>
#
# `take(patchify(images, self.size.patch), mask.masked)` returns the masked patches. `self.target` turns them into targets. The loss is the
# mean of `patch_loss`.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch06-ex4", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
class MyMAE(nn.Module):
    """Images `b c height width` and a mask → the loss and all intermediate results."""

    def __init__(self, size, target="normalised"):
        super().__init__()
        self.size = size
        self.target = TARGETS[target](size.values)
        self.encoder, self.decoder = Encoder(size), Decoder(size, values=self.target.values)

    def forward(self, images, mask):
        raise NotImplementedError("your turn")

    def reconstruct(self, images, mask):
        patches = patchify(images, self.size.patch)
        pixels = self.target.picture(self.decoder(self.encoder(images, mask), mask, every=True), patches)
        hidden = mask.binary[:, :, None]
        parts = patches * (1 - hidden), patches * (1 - hidden) + pixels * hidden, pixels
        return Pictures(images, *(unpatchify(part, self.size.patch, self.size.grid) for part in parts))


# %% tags=["exercise-check"]
check.ch06_mae(MyMAE)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
class solution_MyMAE(MyMAE):
    def forward(self, images, mask):
        latent = self.encoder(images, mask)
        predicted = self.decoder(latent, mask)
        target = self.target(take(patchify(images, self.size.patch), mask.masked))
        losses = patch_loss(predicted, target)
        return MAEOutput(losses.mean(), predicted, losses, mask, latent)


check.ch06_mae(solution_MyMAE)

# %% [markdown]
# The package's version, folded below, also draws a mask if none is given, and accepts images of sizes other than the model's own. For the
# paper's ablations, it can compute the loss on all patches, or put mask tokens into the encoder.


# %% jupyter={"source_hidden": true} tags=["package:minimae.model.mae", "hide-input"]
class MAE(nn.Module):
    """An asymmetric encoder and decoder, trained by filling in masked patches: ``MAE("tiny", patch=4, image=32)``.

    size: a Size or its name; further keywords change its fields. target: pixels, normalised (the paper's best) or pca.
    loss_on: masked (the paper's) or all. mask_tokens_in_encoder: the ablation of Table 1c. Images are float and normalised.
    """

    def __init__(
        self, size: Size | str, *, target: str = "normalised", loss_on: str = "masked", mask_tokens_in_encoder: bool = False, **changes: Any
    ) -> None:
        super().__init__()
        size = resolve(size, **changes)
        if target not in TARGETS:
            raise ValueError(f"unknown target {target!r}; choose one of {', '.join(TARGETS)}")
        if loss_on not in ("masked", "all"):
            raise ValueError(f"the loss is taken on 'masked' or on 'all' patches, not on {loss_on!r}")
        self.size, self.loss_on = size, loss_on
        self.target = TARGETS[target](size.values)
        self.encoder = Encoder(size, mask_tokens=mask_tokens_in_encoder)
        self.decoder = Decoder(size, values=self.target.values, mask_token=not mask_tokens_in_encoder)

    def grid(self, images: Tensor) -> Pair:
        """Rows and columns of patches in these images."""
        check_shape(images, self.size.channels)
        return grid_of((images.shape[-2], images.shape[-1]), self.size.patch)

    def draw(self, images: Tensor, *, ratio: float = 0.75, ids: Tensor | None = None, seed: int | None = None, epoch: int = 0) -> Mask:
        """A random mask, a new one at every call unless ids or a seed fix it (see :func:`make_mask`)."""
        grid, fresh = self.grid(images), 0 if ids is not None else int(torch.randint(2**62, ()))
        ids = torch.arange(len(images), device=images.device) if ids is None else ids
        return make_mask(ids, grid, ratio=ratio, seed=fresh if seed is None else seed, epoch=epoch)

    def forward(self, images: Tensor, mask: Mask | None = None, **options: Any) -> MAEOutput:
        """Images ``b c height width`` and a mask, or options of :meth:`draw` → the loss and all intermediate results (Section 3)."""
        mask = self.draw(images, **options) if mask is None else checked_mask(mask, options)
        every = self.loss_on == "all"
        latent = self.encoder(images, mask)
        predicted = self.decoder(latent, mask, grid=self.grid(images), every=every)
        patches = patchify(images, self.size.patch)
        target = self.target(patches if every else take(patches, mask.masked))
        losses = patch_loss(predicted, target)
        return MAEOutput(losses.mean(), predicted, losses, mask, latent)

    def reconstruct(self, images: Tensor, mask: Mask | None = None, **options: Any) -> Pictures:
        """Images and a mask, or options of :meth:`draw` → reconstructions (Figures 2 to 4)."""
        mask = self.draw(images, **options) if mask is None else checked_mask(mask, options)
        grid, patch = self.grid(images), self.size.patch
        patches = patchify(images, patch)
        predicted = self.decoder(self.encoder(images, mask), mask, grid=grid, every=True)
        pixels = self.target.picture(predicted.to(patches.dtype), patches)
        hidden = mask.binary[:, :, None].to(patches.dtype)
        inpainted = patches * (1 - hidden) + pixels * hidden
        return Pictures(images, *(unpatchify(x, patch, grid) for x in (patches * (1 - hidden), inpainted, pixels)))


# %% tags=["nbval-check-output"]
MAE = book.use(check.ch06_mae, MyMAE, MAE)

# %% [markdown]
# `MAE` has the same parameters as `minimae.MAE`, whether the class is yours or the package's. So it can load the weights of `photos-tiny`.

# %%
model = MAE(trained.model.size)
model.load_state_dict(trained.model.state_dict())
one, its_mask = images[4:5], Mask(mask.keep[4:5], mask.masked[4:5])
with torch.no_grad():
    out = model(one, its_mask)

# %% tags=["nbval-check-output"]
print("images         b c height width :", tuple(one.shape))
print("mask.keep      b k              :", tuple(out.mask.keep.shape))
print("latent         b t d            :", tuple(out.latent.shape), " t = 1 + k")
print("predicted      b m values       :", tuple(out.predicted.shape))
print("patch_losses   b m              :", tuple(out.patch_losses.shape))
print("loss           a single number  :", tuple(out.loss.shape))

# %% [markdown]
# ### Where this lives
#
# `minimae.MAE`, `minimae.MAEOutput` and `minimae.Pictures` are in `minimae/model/mae.py`. The targets are in `minimae/model/targets.py`.
# The folded cell compares the results of `minimae.MAE` with those of the model above.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
with torch.no_grad():
    theirs = trained.model(one, its_mask)
    assert torch.allclose(theirs.loss, out.loss, atol=1e-5) and torch.allclose(theirs.predicted, out.predicted, atol=1e-4)
    assert torch.allclose(trained.model.reconstruct(one, its_mask).inpainted, model.reconstruct(one, its_mask).inpainted, atol=1e-4)
assert isinstance(theirs, mae.MAEOutput)

# %% [markdown]
# ## What comes from the original
#
# A reconstruction from normalised pixels uses the mean and the standard deviation of each hidden patch of the original. How much of the
# picture does the mean alone show? Replace the model with the trivial baseline: predict zero everywhere, and draw the result in the same
# way.
#
# `photos-tiny` also has a second decoder, which predicts plain pixels. The reconstructions from this decoder use nothing from the hidden
# patches.


# %%
def shown(batch: Tensor) -> list:
    """Normalised images as pictures."""
    return [plots.as_picture(image, trained.statistics) for image in batch]


gone = mask.binary[:, :, None]
zero = NormalisedTarget(48).picture(torch.zeros_like(patches), patches)
baseline = unpatchify(patches * (1 - gone) + zero * gone, 4, grid)
with torch.no_grad():
    normalised, plain = model.reconstruct(images, mask), trained.pictures.reconstruct(images, mask)
saw = [plots.masked_picture(image, away, trained.statistics) for image, away in zip(images, hidden)]
columns = [shown(images), saw, shown(baseline), shown(normalised.inpainted), shown(plain.inpainted)]
rows = [[column[i] for column in columns] for i in (4, 3, 0, 1, 2)]

# %% mystnb={"image": {"alt": "Five photographs. Columns: the original; what the model saw; the result of predicting zero, a mosaic of greys in which the objects can be recognised; normalised pixels, with fairly sharp edges and the right colours; plain pixels, which are blurred, but with the right colours and shapes."}}
plots.reconstructions(rows, ("original", "what it saw", "predicting zero", "normalised pixels", "plain pixels"))

# %% [markdown]
# *Figure 6.4: photographs that photos-tiny was not trained on, 75 % hidden (mask seed 0); visible patches are pasted. The third column uses
# the mean of each hidden patch, and the fourth its mean and its standard deviation.*
#
# Even the baseline shows what is in the picture. (Its hidden patches are grey, because the mean is taken over all three colours.) So in a
# reconstruction from normalised pixels,
#
# - credit the model for edges, colours and texture *inside* hidden patches: it predicted them;
# - do not credit it for the brightness or the contrast of hidden patches: they come from the original;
# - do not credit it for visible patches: they are pasted.
#
# Reconstructions from plain pixels look blurred, but the model has predicted everything in their hidden patches. So to judge a
# reconstruction by eye, use plain pixels, as the paper does in its Figures 2 to 4.

# %% [markdown]
# ## Train it on eight photographs
#
# Take a new model, the eight photographs at 32 × 32 pixels, and plain pixels as the target. The model will **overfit**: it will memorise
# these few images instead of learning anything general. Overfitting is a good first test, because a model that cannot memorise eight images
# probably has a bug.

# %%
album = F.avg_pool2d(images, 2)  # 32 × 32 pixels, 64 patches
fixed = make_mask(eight.ids, (8, 8), seed=9)  # to look at, never trained on
tiny_size = size("nano", image=32, patch=4, channels=3, decoder_depth=1)


def learn(model: nn.Module, steps: int, loss_of, look: tuple[int, ...] = (), lr: float = 3e-3) -> tuple[list, dict]:
    """Train on the eight photographs; returns the losses, and the reconstructions at the steps in `look`."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95))
    losses, pictures = [], {}
    for step in range(steps + 1):
        if step in look:
            with torch.no_grad():
                pictures[step] = model.reconstruct(album, fixed)
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 20, 2 * (steps - step) / steps)
        loss = loss_of(model, album.repeat(2, 1, 1, 1), make_mask(torch.arange(16), (8, 8), epoch=step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, pictures


# %% [markdown]
# In each of the 300 steps, the model sees every photograph twice, with two new masks. **What will its predictions for the *visible* patches
# look like: "sharp", "blurred" or "nonsense"?**

# %%
book.predict("visible-patches", "sharp",
             ask="Predictions for visible patches, after 300 steps: sharp, blurred or nonsense?")

# %%
torch.manual_seed(0)
tiny = MAE(tiny_size, target="pixels")
curve, pictures = learn(tiny, 300, lambda model, batch, mask: model(batch, mask).loss, look=(0, 20, 60, 150, 300))
trivial = album.square().mean().item()  # predicting the mean of the dataset, which is 0

# %% mystnb={"image": {"alt": "Loss against steps. It starts above the dashed line of predicting the mean colour of the dataset, falls below it within twenty steps, and reaches about a quarter of it after 300 steps."}}
plots.two_losses({"loss on masked patches": (range(301), curve)}, baseline=trivial, words="predicting the dataset's mean colour")

# %% [markdown]
# *Figure 6.5: training a nano model on eight photographs (plain pixels, 16 masked images in each step, seed 0). The thick line is the
# running mean.*

# %%
pieces = unpatchify(fixed.binary[:, :, None].expand(-1, -1, 16), 4, (8, 8))[:, 0] > 0.5
given = [plots.masked_picture(image, away, trained.statistics) for image, away in zip(album, pieces)]
over_time = [shown(pictures[step].inpainted) for step in pictures]
rows = [[column[i] for column in (given, *over_time, shown(album))] for i in (4, 3, 0, 5, 1)]

# %% mystnb={"image": {"alt": "Five photographs in rows: a flower, a cup, a badge, a motorcycle, a cat. Columns: what the model sees, the reconstructions after 0, 20, 60, 150 and 300 steps, and the original. At 0 there is noise, at 20 one brown for all, at 60 the colours follow the image, and at 300 the flower and the cup have their shapes, while the cat's face is still missing."}}
plots.reconstructions(rows, ("masked", *(f"step {step}" for step in pictures), "original"))

# %% [markdown]
# *Figure 6.6: reconstructions during training, with masks that were not used in training (mask seed 9; plain pixels; visible patches are
# pasted).*
#
# At first, the predictions are noise. After 20 steps, all images get nearly the same brown, close to the mean colour of the eight
# photographs: the model hardly uses the visible patches. Next, each image gets its own colours. Then shapes appear, such as the
# flower and the badge.
#
# How good are the predictions for the visible patches after 300 steps?

# %%
predicted = patchify(pictures[300].predicted, 4)
errors = patch_loss(predicted, patchify(album, 4))
at_visible, at_masked = errors[fixed.binary == 0].mean().item(), errors[fixed.binary == 1].mean().item()
answer = "sharp" if at_visible < at_masked else "blurred" if at_visible < trivial else "nonsense"

# %% mystnb={"image": {"alt": "The reader's choice, sharp, and the answer: nonsense."}}
book.reveal("visible-patches", answer)

# %% [markdown]
# *Figure 6.7: your choice and the answer. "Nonsense" means a larger error than that of predicting the dataset's mean colour.*

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert sum(curve[-20:]) / 20 < 0.4 * trivial and answer == "nonsense"

# %% [markdown]
# ## What loss is normal?
#
# Even the loss of the trivial baseline depends on the data. A flat patch has a normalised target of zeros, so predicting zero is exactly
# right, and each flat patch lowers the loss of the baseline. Photographs of clothes on a black background have many flat patches.


# %%
@torch.no_grad()
def normal_loss(trained: Any, images: Any) -> tuple[float, float, float]:
    """On masked patches: the loss of predicting zero, the loss of a trained model, and the share of flat patches."""
    x = normalise(images.pixels, trained.statistics)
    mask = make_mask(images.ids, trained.model.grid(x), ratio=0.75, seed=0)
    target = trained.model.target(take(patchify(x, 4), mask.masked))
    return target.square().mean().item(), trained.model(x, mask).loss.item(), (target.square().mean(-1) < 0.01).float().mean().item()


clothes = normal_loss(weights.load("fashion-nano"), data.load("fashion", "test").balanced_subset(500, seed=4))
crops = normal_loss(trained, photos("test", image=64, count=28))
for name, (_, _, flat) in {"clothes": clothes, "photographs": crops}.items():
    print(f"{name}: {100 * flat:.0f} % of the masked patches are flat")

# %% mystnb={"image": {"alt": "Four dots on a scale of loss. Clothes: predicting zero has a loss of about 0.65 and the trained model about 0.38. Photographs: predicting zero has a loss a little below 0.98, and the trained model about 0.24."}}
names = ["clothes: predicting zero", "clothes: fashion-nano", "photographs: predicting zero", "photographs: photos-tiny"]
plots.loss_levels(dict(zip(names, (*clothes[:2], *crops[:2]))), highlight=(names[0], names[2]))

# %% [markdown]
# *Figure 6.8: loss for normalised pixels on masked patches (75 % masked, mask seed 0, patches of 4 × 4). Clothes: 500 test photographs of
# Fashion-MNIST, grey. Photographs: 28 colour crops of seven photographs, not used in training. Orange dots: predicting zero.*
#
# Keep three rules in mind:
#
# - Compare losses only if target, patch size, mask ratio and data are the same.
# - Do not expect a loss of 0. Much of a hidden patch cannot be known from the rest of the image.
# - Do not choose a model by its loss. A lower loss need not mean better features. Chapters 08 and 09 measure how good features are.

# %% [markdown]
# > **Paper.** Section 3, "Reconstruction target", describes the normalised pixels and the mean squared error on masked patches. Table 1d compares
# > the targets. The class `MAE` is the model of Figure 1.
# > **Our deviation.** The computation does not deviate: with the same weights and masks, our model gives the same loss and gradients as ViTMAE in Hugging Face transformers (`tests/model/test_parity.py`). We leave out dVAE tokens. The paper does not say on which patches its PCA was fitted; when the
# > package trains with this target, it fits the PCA on patches of the training images.

# %% [markdown]
# ## Break it: a loss that falls too fast
#
# A colleague trains the same model on the same eight photographs. The colleague's loss falls much faster than ours. This is the code of the
# loss:


# %%
def fast_loss(model: nn.Module, images: Tensor, mask: Mask) -> Tensor:
    """Mean squared error, with a bug."""
    predicted = model.decoder(model.encoder(images, mask), mask, every=True)
    losses = patch_loss(predicted, model.target(patchify(images, model.size.patch)))
    weight = 1 - mask.binary
    return (losses * weight).sum() / weight.sum()


torch.manual_seed(0)
fast_curve, fast_pictures = learn(MAE(tiny_size, target="pixels"), 150, fast_loss, look=(150,))

# %% mystnb={"image": {"alt": "Two loss curves. The colleague's falls almost to zero within 150 steps; ours falls slowly and stays far above it."}}
plots.two_losses(
    {"ours": (range(151), curve[:151]), "the colleague's": (range(151), fast_curve)}, baseline=trivial, words="predicting the dataset's mean colour"
)

# %% [markdown]
# *Figure 6.9: the losses of both runs (seed 0, the same photographs and masks). Our curve shows the first 150 steps of Figure 6.5. The
# learning rate falls from step 75 in the colleague's run, and from step 150 in ours. The thick lines are running means.*
#
# Now look at the predictions of both models, with nothing pasted.

# %%
columns = [shown(album), given, shown(fast_pictures[150].predicted), shown(pictures[300].predicted)]
rows = [[column[i] for column in columns] for i in (4, 3, 0, 5)]

# %% mystnb={"image": {"alt": "Four photographs. The colleague's predictions look like the original at visible patches, and are the same meaningless texture at every masked patch. Ours show the image at masked patches, and meaningless colours at visible ones."}}
plots.reconstructions(rows, ("original", "masked", "colleague's model", "our model"))

# %% [markdown]
# *Figure 6.10: predictions for all patches, nothing pasted (plain pixels, mask seed 9). The colleague's model was trained for 150 steps,
# ours for 300.*
#
# **What has the colleague's model learned, and what has it not learned? Which line of the code is wrong?**
#
# <details><summary>Diagnosis</summary>
#
# The colleague's loss counts the *visible* patches. In `mask.binary`, 1 means masked, so `1 - mask.binary` selects the visible patches. The
# model has learned to copy these patches, which is easy. The loss does not count the masked patches, so the predictions for them are the
# same untrained texture everywhere.
#
# In our model it is the other way round: the predictions for masked patches are meaningful, and those for visible patches are nonsense.
#
# The fix is `weight = mask.binary`. Some other libraries use the opposite convention, where 1 means visible, so the two conventions are
# easily confused. The shapes of the tensors do not show such a mistake, and the loss curve even looks better. A picture of the predictions
# *with nothing pasted* shows the mistake at once.
# </details>

# %% jupyter={"source_hidden": true} tags=["hide-input"]
wrong = patch_loss(patchify(fast_pictures[150].predicted, 4), patchify(album, 4))
assert wrong[fixed.binary == 0].mean() < 0.5 * wrong[fixed.binary == 1].mean()

# %% [markdown]
# ## Summary
#
# The decoder can predict pixels, normalised pixels, or PCA coefficients. Normalised pixels led to the best features in the paper. For them,
# predicting zero has a loss of (v − 1) / v for patches of v values, and a smaller loss if there are flat patches. Only masked patches count
# in the loss, because visible ones can be copied. A reconstruction from normalised pixels takes the mean and the standard deviation of each
# hidden patch from the original. Train a new model on eight images first, and look at its predictions with nothing pasted.
#
# ## Five questions
#
# 1. Your loss stays at 0.979, with 4 × 4 colour patches and normalised pixels. What has the model learned?
# <details><summary>Answer</summary>No more than to predict zero: 47/48 = 0.979 is the loss of this baseline.</details>
#
# 2. Why is there one mean and one standard deviation for all colours of a patch together?
# <details><summary>Answer</summary>If all colours share one mean, the differences between the colours stay in the target, and the model has to
# predict the hue. The paper's code does the same.</details>
#
# 3. In a reconstruction from normalised pixels, a dark coat is dark. What does this say about the model?
# <details><summary>Answer</summary>Nothing: the mean of each hidden patch comes from the original.</details>
#
# 4. Why are the predictions for visible patches nonsense in a good model?
# <details><summary>Answer</summary>The loss does not count them, so they are never trained.</details>
#
# 5. Another project reports a lower loss than yours. What do you have to know before you compare the two losses?
# <details><summary>Answer</summary>The target, the patch size, the mask ratio, the data, the loss of the trivial baseline on these data, and whether the loss
# counts masked patches only.</details>
#
# Next: [07 · Pre-training](07_pre_training.ipynb), where you write the main parts of a proper training loop, and train on ten thousand
# photographs.
#
# ## Appendix: precision
#
# Training often uses half precision (chapter 07). bfloat16 keeps two to three decimal digits. This precision is enough for tokens, but not
# for the small differences inside a bright patch: in bfloat16, the numbers next to 2 are 1.992 and 2.016. So the package keeps images in
# float32, and computes targets and losses in float32. The PCA target multiplies matrices. Under PyTorch's `autocast`, this product would be
# computed in bfloat16. Even without `autocast`, a GPU may compute float32 products in TF32, another format of lower precision.
# `full_precision` switches both formats off.

# %% tags=["nbval-check-output"]
with torch.autocast("cpu", torch.bfloat16):
    print("a product under autocast:", (patches[0] @ pca.components).dtype, "  our PCA target:", pca(patches).dtype)
