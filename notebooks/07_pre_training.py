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
# # 07 · Pre-training
#
# **The promise.** You write the main parts of a training loop, and watch a masked autoencoder learn, in about a minute, to fill in the
# hidden parts of images of clothes. Then you build a model from your own parts, and train it on colour photographs.
#
# Minutes: 25. Needs: chapters 01 to 06.
#
# After this chapter you can
#
# - compute the learning rate at any step, and say why it depends on the batch size;
# - name the parameters that weight decay leaves alone;
# - write a training step in which four small batches give the same update as one large batch;
# - compute the loss of a trivial model before you train a real one;
# - tell from a loss curve whether a model is learning.

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
import math
import signal
import tempfile
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import minimae_book as book
import torch
from minimae_book import check
from minimae_book import figures as plots
from minimae_book.live import Live
from torch import Tensor, nn

from minimae import Interrupted, data, patchify, size
from minimae.data.augment import normalise
from minimae.model import mae
from minimae.random import permutation
from minimae.recipes import recipe
from minimae.tasks.pretrain import PretrainTask, build, pretrain
from minimae.train import checkpoint, loop, loss_bands, optim, order, precision, schedule, step

# %% [markdown]
# ## The run, as a recipe
#
# This chapter trains a model on 10,000 photographs of clothes, each seen five times, in batches of 128. The encoder has four blocks.
# Patches are 7 × 7 pixels, so an image of 28 × 28 pixels has 16 patches, and the encoder sees four of them. All settings are in a
# **recipe**, an object that cannot be modified. `replace` makes a changed copy.

# %%
clothes = data.load("fashion", "train")
mine = replace(recipe("fashion-demo"), epochs=5, warmup_epochs=0.5, log_every=5, seed=0)
model = build(mine, clothes)
per_epoch, steps = len(clothes) / mine.batch, mine.steps(len(clothes))

# %% tags=["nbval-check-output"]
print(f"{len(clothes):,} images, {mine.batch} a step, {per_epoch} steps an epoch, {steps} steps")
print(f"target: {mine.target}, base learning rate {mine.base_lr}, {sum(p.numel() for p in model.parameters()):,} parameters")

# %% [markdown]
# ## Before you train: what does a trivial model score?
#
# A loss of 0.7 means nothing by itself. Compare it with the loss of the **trivial baseline** (chapter 06). The target is normalised, so the
# baseline predicts 0 everywhere: all patches that it predicts are *flat* (all values of a patch are equal). Its loss is the mean square of
# the target.
#
# If no patch of the images were flat, this loss would be 48/49 = 0.98 for patches of 49 pixels (chapter 06, exercise 2). But much of
# Fashion-MNIST is black background, so many patches are flat. A flat patch has the target 0, which the baseline predicts perfectly. So
# compute the loss from the data.

# %%
target = model.target(patchify(normalise(clothes.pixels, clothes.statistics), 7))
zero = float(target.square().mean())
pixels = patchify(clothes.pixels.float(), 7)
flat = float((pixels.amax(-1) == pixels.amin(-1)).float().mean())

# %% tags=["nbval-check-output"]
print(f"{100 * flat:.0f} % of the patches are flat; predicting flat patches everywhere scores {zero:.2f}")

# %% [markdown]
# A model whose loss stays at 0.80 has learned no more than to predict a flat patch everywhere, although 0.80 is well below 0.98.
#
# ## How fast? The learning rate
#
# An optimizer step moves every weight a little. The **learning rate** scales this movement. The paper uses two rules.
#
# **Rule one: the more images in a step, the higher the learning rate.** The gradient is a mean over the images of the step. With more
# images, the gradient is less noisy, so a larger step is usually safe. A recipe gives a *base* rate for 256 images, which is then scaled to
# the number of images in a step:

# %% tags=["package:minimae.train.schedule"]
def scaled_lr(base_lr: float, batch: int) -> float:
    """The linear scaling rule: lr = base lr × images per optimizer step / 256 (batch × accumulation × processes)."""
    return base_lr * batch / 256


# %% [markdown]
# The paper's base rate is 1.5e-4 and its batch is 4096, which is 16 times 256. So its highest rate, the **peak**, is 16 × 1.5e-4 = 2.4e-3.
#
# **1 ★ The peak of a big run.** A run uses `processes` GPUs. In each step, every GPU makes `accumulate` forward passes with `batch` images
# each. What is the peak learning rate of the run?


# %% nbgrader={"grade": false, "grade_id": "ch07-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def peak_lr(base_lr, batch, accumulate, processes):
    """The learning rate after the warm-up."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch07_peak_lr(peak_lr)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_peak_lr(base_lr, batch, accumulate, processes):
    """The learning rate after the warm-up."""
    return base_lr * batch * accumulate * processes / 256


check.ch07_peak_lr(solution_peak_lr)

# %% [markdown]
# **Rule two: start slowly, end slowly.** At the start the weights are random, and a large step can do damage that takes many steps to
# repair. So the rate first rises in a straight line: this is the **warm-up**. Then it falls along half a cosine, so that the last steps are
# small. The rate changes at every step, not once an epoch.
#
# **2 ★★ Your schedule.** For the first `warmup` steps, return a rate that rises in a straight line from 0 to `peak`. After that, let the
# rate fall from `peak` to `floor` along half a cosine, 0.5 · (1 + cos(π · progress)). The rate reaches `floor` at step `steps`.
# (`warmup` may be 0, or not a whole number.)
#
# <details><summary>Hint 1</summary>
#
# `progress` is 0 at the end of the warm-up and 1 at the end of the run.
# </details>
#
# <details><summary>Hint 2</summary>
#
# The half cosine falls from 1 to 0. Multiply it by the height of the fall, `peak - floor`, and add `floor`.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch07-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def my_lr_at(step, *, steps, warmup, peak, floor=0.0):
    """The learning rate at an optimizer step from 0 to steps."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch07_lr_at(my_lr_at)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_my_lr_at(step, *, steps, warmup, peak, floor=0.0):
    """The learning rate at an optimizer step from 0 to steps."""
    if step < warmup:
        return peak * step / warmup
    fall = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
    return floor + (peak - floor) * fall


check.ch07_lr_at(solution_my_lr_at)

# %% [markdown]
# The package's version is folded below. It also accepts a run that consists of the warm-up only.


# %% jupyter={"source_hidden": true} tags=["package:minimae.train.schedule", "hide-input"]
def lr_at(step: float, *, steps: int, warmup: float, peak: float, floor: float = 0.0) -> float:
    """The learning rate at an optimizer step in [0, steps]: up linearly over ``warmup`` steps, down a cosine to ``floor``."""
    if step < warmup:
        return peak * step / warmup
    progress = min(1.0, (step - warmup) / max(1e-12, steps - warmup))
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


# %% tags=["nbval-check-output"]
lr_at = book.use(check.ch07_lr_at, my_lr_at, lr_at)

# %% [markdown]
# Consider a run of 100 steps with a warm-up of 10 steps and a peak rate of 2. In the middle of the rise (step 5) and of the fall (step 55),
# the rate is 1.

# %% tags=["nbval-check-output"]
print([round(lr_at(step, steps=100, warmup=10, peak=2.0), 6) for step in (0, 5, 10, 55, 100)])

# %%
settings = dict(steps=steps + 1, warmup=mine.warmup_epochs * per_epoch, peak=scaled_lr(mine.base_lr, mine.batch))

# %% mystnb={"image": {"alt": "The learning rate against the optimizer step: a straight rise over the first 39 steps, which are shaded, then half a cosine down to almost zero at step 391."}}
plots.schedules({"lr": [lr_at(s, **settings) for s in range(steps + 1)]}, per_epoch=per_epoch, warmup=settings["warmup"])

# %% [markdown]
# *Figure 7.1: the learning rate of this chapter's run (391 steps, peak 0.0025). The cosine ends one step after the last: a step with a
# rate of 0 would change nothing.*

# %% [markdown]
# ## Which weights shrink? The optimizer
#
# At each step, the optimizer, AdamW, can also pull weights a little towards zero. This is called **weight decay**. For a matrix, decay
# keeps the weights from becoming larger than necessary. But for the scale of a LayerNorm, decay is harmful: the scale starts at 1, and
# decay would shrink everything that passes through the norm.
#
# So the parameters form two groups. A parameter with one axis is a bias or belongs to a norm, and does not decay.

# %% tags=["package:minimae.train.optim"]
def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for AdamW: weight matrices and tokens are decayed; biases and 1-D parameters are not."""
    learned = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in learned if p.dim() > 1]
    exempt = [p for p in learned if p.dim() <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]


# %% tags=["nbval-check-output"]
for group in decay_groups(model, 0.05):
    print(f"{len(group['params']):3} tensors, {sum(p.numel() for p in group['params']):7,} numbers, decay {group['weight_decay']}")

# %% [markdown]
# The class token and the mask token have three axes (`1 1 d`), so they decay too, as in the authors' code. The positions are fixed
# (`requires_grad` is False), so they are in neither group.
#
# **3 ★★ Which are exempt?** Return the *names* of those parameters of a model that must not decay. `model.named_parameters()` gives names
# and parameters. Leave out fixed parameters, which belong to neither group.


# %% nbgrader={"grade": false, "grade_id": "ch07-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def exempt_names(model):
    """Names of the learned parameters that are not decayed: a set of strings."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch07_exempt_names(exempt_names)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_exempt_names(model):
    """Names of the learned parameters that are not decayed: a set of strings."""
    return {name for name, p in model.named_parameters() if p.requires_grad and p.dim() <= 1}


check.ch07_exempt_names(solution_exempt_names)

# %% [markdown]
# ## In which order? One long sequence
#
# In each **epoch** every image is shown once, in a new order. Usually, the last images of an epoch are dropped if they do not fill a batch.
# We join all shuffled epochs into **one endless sequence** instead. Step 0 takes the first 128 images, step 1 the next 128, and so on. All
# batches are full, and no image is dropped at the end of an epoch.
#
# The order of an epoch is computed from the seed and the number of the epoch. So the images of step 5,000 can be found without running the
# steps before it.

# %% tags=["package:minimae.train.order"]
@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, images: int) -> Tensor:
    """The shuffled order of one epoch; cached, because every step of the epoch uses it."""
    return permutation(seed, "order", epoch, images)


def batch_at(position: int, count: int, images: int, seed: int) -> tuple[Tensor, Tensor]:
    """The images at positions [position, position + count) of an endless row of shuffled epochs: index ``b``, epochs ``b``."""
    index, epochs = [], []
    while count:
        epoch, offset = divmod(position, images)
        part = epoch_order(seed, epoch, images)[offset : offset + count]
        index.append(part)
        epochs.append(torch.full_like(part, epoch))
        position, count = position + len(part), count - len(part)
    return torch.cat(index), torch.cat(epochs)


# %% [markdown]
# With 10 images and batches of 4, step 2 takes positions 8 to 11: the last two images of epoch 0 and the first two of epoch 1.

# %% tags=["nbval-check-output"]
places, epochs = batch_at(0, 24, images=10, seed=3)
print("step 2:", batch_at(8, 4, images=10, seed=3)[0].tolist(), "of epochs", batch_at(8, 4, images=10, seed=3)[1].tolist())

# %% mystnb={"image": {"alt": "A row of 24 boxes with image numbers, coloured by epoch: ten of epoch 0, ten of epoch 1, four of epoch 2. Brackets above mark six steps of four images; step 2 crosses the end of epoch 0."}}
plots.epoch_row(places.tolist(), epochs.tolist(), batch=4)

# %% [markdown]
# *Figure 7.2: ten images in batches of four (seed 3).*


# %%
def batches_of(images, recipe):
    """The batches of a run, without end."""
    for position in count(0, recipe.batch):
        yield images.batch(*batch_at(position, recipe.batch, len(images), recipe.seed))


# %% [markdown]
# ## One step
#
# A training step computes a loss and its gradients, and moves the weights. A `task` turns a batch into a loss: `task.loss_of(batch)`
# normalises and masks the images, runs the model of chapter 06, and returns the mean loss.
#
# What if a step should use 4,096 images, but memory holds only 512? Then run eight batches, add up their gradients, and move the weights
# once. This is **gradient accumulation**. `backward()` already adds each new gradient to `.grad`. But each loss is a *mean* over its own
# batch. So the gradient of the mean loss of all eight batches is the sum of the eight gradients, divided by eight.
#
# **4 ★★★ Your training step.** Take `accumulate` batches with `next(batches)`. Afterwards, the weights must be the same as after one step
# on all images of these batches together. Return the mean loss of the batches, without its graph. Clear old gradients first.
#
# <details><summary>Hint 1</summary>
#
# First clear the gradients. For each batch, compute the loss, divide it by the number of batches, and call `backward()`. At the end, call
# `optimizer.step()` once.
# </details>
#
# <details><summary>Hint 2</summary>
#
# `loss.detach()` is the value of the loss without the graph that computed it.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch07-ex4", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def my_training_step(task, optimizer, batches, accumulate=1):
    """One optimizer step on `accumulate` batches → their mean loss."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch07_training_step(my_training_step)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_my_training_step(task, optimizer, batches, accumulate=1):
    """One optimizer step on `accumulate` batches → their mean loss."""
    optimizer.zero_grad()
    total = 0.0
    for _ in range(accumulate):
        loss = task.loss_of(next(batches)) / accumulate
        loss.backward()
        total = total + loss.detach()
    optimizer.step()
    return total


check.ch07_training_step(solution_my_training_step)

# %% [markdown]
# The package's step is a class, `EagerStep`, which the folded cell wraps in a function. The class also supports half precision, several
# GPUs and gradient clipping.


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def training_step(task, optimizer, batches, accumulate=1):
    """The package's step, for one process → the mean loss of `accumulate` batches."""
    eager = step.EagerStep(task, task.model, optimizer, replace(task.settings, accumulate=accumulate))
    loss, _ = eager(step.Prefetch(batches, eager.device), stop=lambda: False)
    return loss


# %% tags=["nbval-check-output"]
training_step = book.use(check.ch07_training_step, my_training_step, training_step)

# %% [markdown]
# ### Debug it on one batch
#
# Before a long run, train on **one batch, again and again**. A model that works can memorise eight images with fixed masks, and the loss
# falls far below the baseline. If the loss does not fall that far, something is probably broken. For example, the learning rate is 0,
# gradients are not cleared, or the loss does not depend on the weights.

# %%
small_task = PretrainTask(mine, clothes, build(mine, clothes))
one = clothes.batch(*batch_at(0, 8, len(clothes), seed=0))
optimizer = small_task.optimizer(2e-3)
by_heart = [float(training_step(small_task, optimizer, iter([one]))) for _ in range(200)]

# %%
print("loss after 1, 30, 100 and 200 steps on one batch:", *(f"{by_heart[i - 1]:.2f}" for i in (1, 30, 100, 200)))

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert by_heart[-1] < 0.15 and zero < by_heart[0]

# %% [markdown]
# ## The loop
#
# The loop sets the learning rate, takes the step, stores the loss, and shows the progress. As in Figure 7.1, the cosine ends one step after
# the last training step.


# %%
def train(task, recipe, images, *, rate=lr_at, show=lambda step, loss: None):
    """Train a task's model by a recipe → the loss of each step."""
    window = recipe.batch * recipe.accumulate
    steps, peak = recipe.steps(len(images)), scaled_lr(recipe.base_lr, window)
    warmup = recipe.warmup_epochs * len(images) / window
    optimizer, batches, losses = task.optimizer(peak), batches_of(images, recipe), []
    for done in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(done + 1, steps=steps + 1, warmup=warmup, peak=peak)
        losses.append(float(training_step(task, optimizer, batches, recipe.accumulate)))
        show(done + 1, losses[-1])
    return losses


# %% [markdown]
# `task.optimizer` creates an AdamW optimizer with the two groups from above. In the run below, `show` draws a progress bar, and a new
# column of reconstructions after each of a few chosen steps.
#
# ## A real run
#
# Predicting flat patches gives a loss of 0.80. The best possible loss is not 0, because some things, such as the print on a shirt, cannot
# be inferred from the visible patches. **What will the loss be after 50,000 images?**

# %%
book.predict("loss-after-a-minute", 0.3,
             ask=f"Predicting flat patches scores {zero:.2f}. What is the loss after 50,000 images?")

# %%
task = PretrainTask(mine, clothes, build(mine, clothes))
shown = data.load("fashion", "test").balanced_subset(10, seed=1).pixels[[6, 1, 4, 2]]

# %% mystnb={"image": {"alt": "Four test photographs of clothes in rows; in columns the original, the four visible patches of sixteen, and the reconstruction after 0, 24, 98, 220 and 391 steps. At first the masked patches are noise; then edges and sleeves appear and join up with the visible patches."}}
show = Live(task, shown, steps)
losses = train(task, mine, clothes, show=show)

# %% [markdown]
# *Figure 7.3: reconstructions while the model trains (test photographs of Fashion-MNIST, 75 % masked, mask seed 0, model seed 0). The model
# predicts normalised pixels; the mean and the standard deviation of each masked patch are taken from the original.*

# %%
seen = [mine.batch * at for at in range(5, steps + 1, 5)]
means = [sum(losses[at - 5 : at]) / 5 for at in range(5, steps + 1, 5)]
last = sum(losses[-50:]) / 50
print(f"{mine.batch * steps:,} images, {steps} steps, seed {mine.seed}, {show.seconds:.0f} s, loss of the last 50 steps {last:.2f}")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert mine.batch * steps == 50_048 and abs(last - 0.53) < 0.04 and max(means[10:]) < zero

# %% mystnb={"image": {"alt": "Two marks on one scale: the reader's guess of 0.3 and the measured loss of about one half."}}
book.reveal("loss-after-a-minute", round(last, 3), unit="loss")

# %% [markdown]
# *Figure 7.4: your guess, and the mean loss of the last 50 steps (seed 0).*
#
# > **Paper.** Table 8 and Section 4 give these settings: AdamW, betas 0.9 and 0.95, weight decay 0.05, base rate 1.5e-4, batch 4096, cosine, 40
# > warm-up epochs, mask ratio 75 %, random-size crops and flips; 800 epochs in the ablations and 1600 in the main results.
# > **Our deviation.** We use a batch of 128, a base rate of 5e-3, patches of 7 × 7 pixels, half an epoch of warm-up, and 5 epochs, without crops or
# > flips. These settings suit a small data set and a short run. The paper's 800 epochs amount to more than a billion images, our 5 epochs to
# > 50,000.

# %% [markdown]
# ## What a healthy loss looks like
#
# The best comparison for a run is an earlier run of the same task (the same images, network, masks, target and so on). The package contains
# loss curves of earlier runs for more than thirty tasks ([a table of the curves](../docs/evidence.md#what-loss-to-expect)), including this
# one.

# %%
known = PretrainTask(mine, clothes, task.model).expected()
band = [(at, known.at(at).low, known.at(at).high) for at, _ in known.curve]

# %% mystnb={"image": {"alt": "Loss against images seen. It starts above the dashed line of flat patches at 0.80, falls below it within a few thousand images, reaches about 0.65 after 15,000 and about one half after 50,000. From 5,000 images on it runs inside a green band, the expected loss."}}
plots.loss_against_marks(seen, means, zero=zero, expected=band)

# %% [markdown]
# *Figure 7.5: the loss of this run (10,000 photographs of Fashion-MNIST, 7 × 7 patches, seed 0, mean of 5 steps). Dashed: the trivial
# baseline. Green: the expected loss, which is the mean of three earlier runs of the same task, ± 5 %.*
#
# A healthy curve has three parts. First, it falls quickly to the baseline, while the model learns to predict values near 0, that is, flat
# patches. Below the baseline it falls more slowly, while the model learns edges and shapes. Then the curve flattens, and keeps falling
# slowly for a very long time.
#
# | the loss | what this means |
# |---|---|
# | starts between 1 and 2.5 | normal: a model with random weights is worse than predicting flat patches |
# | reaches the baseline and **stays** there | the model predicts flat patches: maybe positions are missing, or the rate is far too small or too large |
# | falls below the baseline and flattens | the model learns |
# | falls close to 0 | information leaks: the loss includes visible patches, or the mask hides nothing |
# | jumps up and does not come back | the rate is too large, or the warm-up is too short |
#
# During training, the package prints a warning when five logged points in a row lie above the expected band, or five in a row below it.
# (The warning also gives the loss of another baseline, which predicts the mean of all targets instead of 0: 0.78.) Test the warning:
# pretend that our run needed up to ten times as many images to reach each of its losses.

# %%
watch = loss_bands.Watch(known)
fine = [said for at, loss in zip(seen, means) if (said := watch(at, loss))]
slow = [said for at, loss in zip(seen[::10], means) if (said := watch(at, loss))]
print(slow[0])

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert not fine and len(slow) == 1 and "above the expected" in slow[0]

# %% [markdown]
# ## Where this lives
#
# `scaled_lr` and `lr_at` are in `minimae/train/schedule.py`. `decay_groups` is in `optim.py` and `batch_at` is in `order.py`, in the same
# folder. The package's loop is `fit` in `minimae/train/loop.py`, a single function that serves every task of this book. Here is the body of
# `fit`:

# %%
book.excerpt(loop.fit, "with locked", "return Result")

# %% [markdown]
# Find the lines of `train` in `fit`. `window`, `steps`, `peak` and `warmup` correspond to ours, and so do the lines with `lr_at` and
# `step`. Most of the rest is for long runs and several GPUs:
#
# - `locked` prevents two runs from using the same folder at the same time. `run` writes checkpoints and the log, and handles Ctrl-C.
# - `wrap_distributed` lets several GPUs train one model; `world().size` is the number of processes, one for each GPU. `compile` makes the
#   blocks faster.
# - `Prefetch` reads the next images while a GPU computes. `run.add` does not wait for the GPU: the loss is read only when a point is
#   logged.
#
# And this is the core of `EagerStep`:

# %%
book.excerpt(step.EagerStep.__call__, "for micro", "total += ")

# %% [markdown]
# Does `train` give the same results as the package? Train for eight steps with each, and compare.

# %%
short, few = replace(mine, batch=64, epochs=0.8, warmup_epochs=0.2, log_every=1), clothes.balanced_subset(640)
ours = PretrainTask(short, few, build(short, few))
our_losses = train(ours, short, few)
theirs, result = pretrain(short, few, quiet=True)
gap = max(float((a - b).abs().max()) for a, b in zip(ours.model.state_dict().values(), theirs.state_dict().values()))

# %% tags=["nbval-check-output"]
print("eight losses are equal:", all(math.isclose(a, point["loss"], rel_tol=1e-4) for a, point in zip(our_losses, result.history, strict=True)))
print("all weights are equal:", gap < 1e-4)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
places, epochs = batch_at(9_950, 128, len(clothes), seed=0)
assert all(torch.equal(a, b) for a, b in zip((places, epochs), order.batch_at(9_950, 128, len(clothes), seed=0)))
assert scaled_lr(0.1, 96) == schedule.scaled_lr(0.1, 96) and math.isclose(scaled_lr(1.5e-4, 4096), 2.4e-3)
assert all(math.isclose(lr_at(s, **settings), schedule.lr_at(s, **settings), abs_tol=1e-12) for s in range(steps))
for yours, package in zip(decay_groups(model, 0.05), optim.decay_groups(model, 0.05)):
    assert yours["weight_decay"] == package["weight_decay"] and all(a is b for a, b in zip(yours["params"], package["params"]))

# %% [markdown]
# ## Break-it lab: a colleague's schedule
#
# A colleague brings a schedule from an older project, where it worked well. Like our schedule, it has a warm-up and a cosine, and it is
# called with the same `peak`. Train one model with each schedule on 1,280 photographs, ten steps an epoch.


# %%
def tidy_lr(step, *, steps, warmup, peak, floor=0.0):
    """Warm-up and cosine, as in the last project."""
    epoch = int(step - 1) // 10
    return lr_at(epoch * 10, steps=steps, warmup=warmup, peak=peak, floor=floor)


small, photographs = replace(mine, epochs=4, warmup_epochs=1.5), clothes.balanced_subset(1_280)


def losses_with(rate):
    """The losses of a run with this schedule."""
    return train(PretrainTask(small, photographs, build(small, photographs)), small, photographs, rate=rate)


theirs, ours = losses_with(tidy_lr), losses_with(lr_at)

# %% mystnb={"image": {"alt": "Two loss curves over 40 steps with a line at the beginning of each epoch. Ours falls from the first step. The colleague's is flat at the starting loss for all ten steps of the first epoch, and falls only after it."}}
plots.runs_apart({"ours": ours, "the colleague's": theirs}, per_epoch=10)

# %% [markdown]
# *Figure 7.6: two runs that differ only in the schedule (1,280 photographs, 4 epochs, seed 0).*
#
# Look at the first ten steps of the curves, and then at the function `tidy_lr`. What is wrong, and why did the mistake do no harm in the
# older project?
#
# <details><summary>Diagnosis</summary>
#
# The rate is computed from the *epoch*, so it changes once an epoch. In the first epoch the rate is `lr_at(0)`, which is 0: the weights do
# not move for a whole epoch. (The curve wobbles only because the images and masks differ from step to step.) The older project called this
# function with a warm-up of 0 steps, so its first rate was the peak. It also had hundreds of epochs, so each change of the rate was small.
# The paper's code changes the rate at every step.
# </details>

# %% mystnb={"image": {"alt": "Two learning rates over 40 steps: ours rises in a straight line and falls along a cosine, and the colleague's is a staircase of four steps, the first of them at zero."}}
lab = dict(steps=41, warmup=15, peak=settings["peak"])
plots.schedules(
    {"ours": [lr_at(s, **lab) for s in range(1, 41)], "the colleague's": [tidy_lr(s, **lab) for s in range(1, 41)]},
    per_epoch=10, warmup=15, first=1,
)

# %% [markdown]
# *Figure 7.7: the two schedules.*

# %% jupyter={"source_hidden": true} tags=["hide-input"]
still = max(theirs[:10]) - min(theirs[:10])
assert ours[0] - ours[9] > 2 * still

# %% [markdown]
# ## Capstone: your own masked autoencoder
#
# The parts of the model and of its training that you wrote in chapters 01 to 07 were saved in the folder `mine` if they passed their
# checks. `own_parts` reads these parts and checks them again. `whose` shows which parts are yours.

# %%
parts = book.own_parts()
book.whose(parts)

# %% [markdown]
# Inside `assembled`, the package builds models from *your* parts, and uses its own part where yours is missing. The training data are 4,200
# crops of seven colour photographs; each crop has 32 × 32 pixels. With patches of 4 × 4 pixels, the encoder sees 16 of 64 patches. The
# model predicts plain pixels, so nothing in its reconstructions comes from the hidden patches. Test crops come from one third of each
# photograph, which is never used for training.

# %%
photos, held_out = data.load("photos", "train", image=32), data.load("photos", "test", image=32)
colour = replace(
    mine, data="photos", target="pixels", image=32, patch=4, batch=64, epochs=300 * 64 / len(photos), base_lr=1.6e-2, flip=True
)
with book.assembled(parts):
    torch.manual_seed(0)
    own = mae.MAE(size("nano", image=32, patch=4, channels=3, depth=4, decoder_depth=1), target="pixels")
print(f"{sum(p.numel() for p in own.parameters()):,} parameters; encoder block: {type(own.encoder.blocks[0]).__name__}")

# %% mystnb={"image": {"alt": "Four crops of colour photographs in rows; in columns the original, the 16 visible patches of 64, and the reconstruction after 0, 19, 75, 169 and 300 steps. Coloured noise becomes a mean colour, then local colours, and in the last column soft shapes that join the visible patches."}}
capstone = PretrainTask(colour, photos, own)
with book.assembled(parts):
    show = Live(capstone, held_out.pixels[[0, 2, 3, 4]], colour.steps(len(photos)))
    colour_losses = train(capstone, colour, photos, show=show)

# %% [markdown]
# *Figure 7.8: reconstructions of test crops by an MAE that was built from your own parts (300 training steps with 64 crops each, 75 %
# masked, plain pixels, seed 0). In the published notebook, all parts are the package's.*

# %%
pixel_target = normalise(photos.pixels, photos.statistics)
average = float(pixel_target.square().mean())
print(f"predicting the mean colour scores {average:.2f}; this model, last 20 steps: {sum(colour_losses[-20:]) / 20:.2f}; {show.seconds:.0f} s")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert sum(colour_losses[-20:]) / 20 < 0.5 * average

# %% [markdown]
# After about half a minute of training, the model predicts colours and large shapes. Fine detail needs a larger model and longer training.
# `photos-tiny` of chapter 00 is wider and deeper, and saw each of 50,000 photographs about 200 times in training. You now have every part
# of such a model.
#
# ## Summary
#
# The loss of the trivial baseline is computed from the data before training. The learning rate is scaled by the number of images in a step,
# rises in a warm-up, falls along a cosine, and changes at every step. Biases and norms do not decay. A step adds up the gradients of its
# batches, and divides the sum by the number of batches. To test a training step, train on one batch, again and again. A healthy loss falls
# below the baseline, flattens, and keeps falling slowly.
#
# ## Five questions
#
# 1. You double the batch. What happens to the learning rate?
# <details><summary>Answer</summary>It doubles too: lr = base lr × images per step / 256.</details>
#
# 2. Why are the scales of LayerNorm exempt from weight decay?
# <details><summary>Answer</summary>They start at 1, not at 0. Decay would pull them towards 0 and shrink all that passes through the norm.</details>
#
# 3. Eight batches are accumulated, and their losses are not divided by eight. How large is the gradient?
# <details><summary>Answer</summary>Eight times too large: it is the sum of eight means instead of their mean.</details>
#
# 4. A new model does not learn. What do you try first?
# <details><summary>Answer</summary>Train on one batch, again and again. If the loss does not fall far below the baseline, look for a bug in the
# step, the loss or the model.</details>
#
# 5. A loss curve reaches 0.80 at once and stays there, on Fashion-MNIST with normalised 7 × 7 patches. What does the model predict?
# <details><summary>Answer</summary>Zero everywhere, that is, flat patches. 0.80 is the loss of this trivial baseline. This loss is lower than
# 48/49 = 0.98 because 18 % of the patches are flat.</details>
#
# ## Appendix
#
# ### Half precision
#
# On a GPU, matrix products usually run several times faster in `bfloat16`, which has 8 bits of precision, than in `float32`, which has 24.
# `autocast` uses bfloat16 for the products and float32 for the loss; the weights stay in float32. On a CPU, the package trains in float32
# by default. Compare the loss with and without `autocast`:

# %%
with torch.no_grad():
    exact = task.loss_of(clothes.batch(*batch_at(0, 128, len(clothes), 0)))
    with precision.autocast(torch.device("cpu"), "bf16"):
        rough = task.loss_of(clothes.batch(*batch_at(0, 128, len(clothes), 0)))
print(f"float32 {exact:.5f}, with bfloat16 products {rough:.5f}")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert rough.dtype == torch.float32 and 0 < abs(rough - exact) < 0.02 * exact

# %% [markdown]
# ### Stop, and continue exactly
#
# Long runs are often interrupted. To continue, a run needs everything that the next step depends on: the weights, the two running means
# that AdamW keeps for each weight, and the number of the step. It does not need the state of a random number generator or a position in a
# data loader: the order of the images is computed from the seed and the epoch, and the mask and the crop of an image from these two and its
# sample id.
#
# A run that is killed *while* it writes a checkpoint must not destroy the previous checkpoint. So write to another file, make sure that the
# data are on the disk (`fsync`), and then rename this file to the checkpoint's name. The rename either happens completely or not at all.

# %%
book.excerpt(checkpoint.save_checkpoint, "with replacing", "os.fsync")

# %% [markdown]
# To test resuming, run twelve steps twice: once without a break, and once stopped by Ctrl-C during step 5 and then resumed. The task below
# simulates the key press.


# %%
@dataclass
class ImpatientTask(PretrainTask):
    """Presses Ctrl-C in its fifth step."""

    steps_seen: int = 0

    def loss(self, model: nn.Module, *inputs: Tensor) -> Tensor:
        self.steps_seen += 1
        if self.steps_seen == 5:
            signal.raise_signal(signal.SIGINT)
        return super().loss(model, *inputs)


# %%
twelve, folder = replace(short, epochs=1.2), Path(tempfile.mkdtemp())
straight, _ = pretrain(twelve, few, quiet=True)
stopped = build(twelve, few)
try:
    loop.fit(ImpatientTask(twelve, few, stopped), twelve, folder, quiet=True)
except Interrupted as message:
    print(message.args[0].split(";")[0])
resumed, result = pretrain(twelve, few, folder, resume=True, quiet=True)
same = [torch.equal(a, b) for a, b in zip(straight.state_dict().values(), resumed.state_dict().values())]

# %% tags=["nbval-check-output"]
print(f"{sum(same)} of {len(same)} tensors are equal to the last bit")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
differ = [torch.equal(a, b) for a, b in zip(straight.state_dict().values(), stopped.state_dict().values())]
assert all(same) and not all(differ) and result.steps == 12

# %% [markdown]
# **5 ★★★ Complete, or not there.** `write(file)` writes bytes into an open file, and may fail half-way with an exception. Use `write` to
# save a file at `path`: let it write into another file in the folder of `path`, and rename that file at the end, as above (you may leave
# out `fsync`). There may be no old file yet. If `write` fails, let the exception propagate, leave the old file at `path` as it was, and
# leave no other file behind.


# %% nbgrader={"grade": false, "grade_id": "ch07-ex5", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def careful_save(path, write):
    """Write a file wholly, or not at all. path: a Path; write: a function of an open binary file."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch07_careful_save(careful_save)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_careful_save(path, write):
    """Write a file wholly, or not at all. path: a Path; write: a function of an open binary file."""
    temporary = path.with_name(path.name + ".partial")
    try:
        with open(temporary, "wb") as file:
            write(file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


check.ch07_careful_save(solution_careful_save)

# %% [markdown]
# Next: [08 · What did it learn?](08_what_did_it_learn.ipynb) The loss measures how well the model reconstructs. What the model's features
# are good for is another question.
