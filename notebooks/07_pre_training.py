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
# **The promise.** You build what surrounds a model when it learns (learning rate, optimizer, the order of the images, checkpoints),
# and then train a masked autoencoder on ten thousand photographs in about a minute.
#
# Minutes: 50. Needs: chapters 01 to 06.
#
# When you are through, you can
#
# - say how large the learning rate is at any step, and why it depends on the batch;
# - name the parameters that must not decay;
# - show that four small batches equal one large one, to the last digits;
# - stop a run at any step and continue it to the same bits;
# - tell from a loss curve whether a run learns.

# %% tags=["install", "remove-cell"]
import os
from importlib.util import find_spec

from IPython import get_ipython

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: with models this small, a second thread mostly waits
if find_spec("minimae") is None:  # on Colab and Binder
    get_ipython().run_line_magic("pip", "install -q 'minimae[book] @ git+https://github.com/minimae/minimae'")

# %% tags=["setup"]
import math
import signal
import tempfile
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import minimae_book as book
import torch
from minimae_book import check
from minimae_book import figures as plots
from minimae_book.reading import excerpt
from torch import Tensor, nn

from minimae import Interrupted, data
from minimae.random import permutation
from minimae.recipes import recipe
from minimae.tasks.pretrain import PretrainTask, build, pretrain
from minimae.train import checkpoint, loop, loss_bands, optim, order, precision, schedule, step

# %% [markdown]
# ## How fast? The learning rate
#
# An optimizer step moves every weight a little. The **learning rate** says how little. Two rules decide it in the paper.
#
# **Rule one: the more images in a step, the larger the step.** The gradient is a mean over the images of the step. Averaged over more
# images it is less noisy, and a longer step can be trusted. So recipes state a *base* rate for 256 images, and scale it.

# %% tags=["package:minimae.train.schedule"]
def scaled_lr(base_lr: float, batch: int) -> float:
    """The linear scaling rule: lr = base lr × images per optimizer step / 256 (batch × accumulation × processes)."""
    return base_lr * batch / 256


# %% [markdown]
# By hand: the paper's base rate is 1.5e-4 and its batch 4096, which is 16 times 256. So the peak must be 16 × 1.5e-4 = 2.4e-3.

# %%
assert math.isclose(scaled_lr(1.5e-4, 4096), 2.4e-3)

# %% [markdown]
# **Rule two: start gently, end gently.** At the start the weights are random and the first gradients point anywhere; a large step would
# throw the model into a corner. So the rate climbs in a straight line: the *warm-up*. At the end the model should settle, so the
# rate sinks to zero along half a cosine.

# %% tags=["package:minimae.train.schedule"]
def lr_at(step: float, *, steps: int, warmup: float, peak: float, floor: float = 0.0) -> float:
    """The learning rate at an optimizer step in [0, steps]: up linearly over ``warmup`` steps, down a cosine to ``floor``."""
    if step < warmup:
        return peak * step / warmup
    progress = min(1.0, (step - warmup) / max(1e-12, steps - warmup))
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


# %% [markdown]
# A small example first: 100 steps, 10 of them warm-up, peak 2. Half-way up, at step 5, the rate must be 1. Half-way down, at step
# 55, it must be 1 again. And at its end, at step 100, it must be 0.

# %% tags=["nbval-check-output"]
print([round(lr_at(step, steps=100, warmup=10, peak=2.0), 6) for step in (0, 5, 10, 55, 100)])

# %% [markdown]
# Now the run of this chapter. It takes the recipe `fashion-demo` of the package and shortens it. `replace` makes a changed copy: a
# recipe is a value, and cannot be changed behind anybody's back.

# %%
clothes = data.load("fashion", "train")
mine = replace(recipe("fashion-demo"), epochs=5, warmup_epochs=0.5, log_every=5, seed=0)
per_epoch = len(clothes) / (mine.batch * mine.accumulate)
steps = mine.steps(len(clothes))
settings = dict(steps=steps, warmup=mine.warmup_epochs * per_epoch, peak=scaled_lr(mine.base_lr, mine.batch * mine.accumulate))

# %% tags=["nbval-check-output"]
print(f"{len(clothes):,} images, {mine.batch} a step, {per_epoch} steps an epoch, {steps} steps, peak {settings['peak']:.4f}")

# %% mystnb={"image": {"alt": "The learning rate against the optimizer step: a straight climb over the first 39 steps, which are shaded, then a cosine down to zero at step 391."}}
plots.schedules({"lr": [lr_at(s, **settings) for s in range(steps + 1)]}, per_epoch=per_epoch, warmup=settings["warmup"])

# %% [markdown]
# *Figure 7.1: the learning rate of this chapter's run. It moves at every step, not once an epoch. That this matters is the subject of the
# lab below.*

# %% [markdown]
# ## Which weights shrink? The optimizer
#
# AdamW pulls every weight a little towards zero at each step: **weight decay**. That is sensible for a matrix, which should not use
# large numbers where small ones do. It is harmful for a bias or for the scale of a LayerNorm. The scale starts at 1, and 1 is where
# it belongs.
#
# So the parameters form two groups. The rule is short: a parameter with one axis is a bias or a norm, and is left alone.

# %% tags=["package:minimae.train.optim"]
def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for AdamW: weight matrices and tokens are decayed; biases and 1-D parameters are not."""
    learned = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in learned if p.dim() > 1]
    exempt = [p for p in learned if p.dim() <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]


# %% tags=["nbval-check-output"]
model = build(mine, clothes)
for group in decay_groups(model, 0.05):
    print(f"{len(group['params']):3} tensors, {sum(p.numel() for p in group['params']):7,} numbers, decay {group['weight_decay']}")

# %% [markdown]
# Ninety-nine numbers in a hundred decay. The class token and the mask token have three axes (`1 1 d`), so they decay too, as
# in the authors' code. The positions are in neither group. They are fixed: `requires_grad` is False.

# %% [markdown]
# ## In which order? An endless row
#
# In each epoch every image is shown once, in a new order. The usual way is to shuffle, cut into batches, and drop the piece that is
# left at the end. Here is another: think of all shuffled epochs as **one endless row**. Step 0 takes the first 128 images of the
# row, step 1 the next 128, and so on. A batch may reach over the end of an epoch. No batch is short, no image is dropped.
#
# The order of an epoch is computed from (seed, epoch), as the masks of chapter 2 were. So step 5,000 can be asked for directly, without
# running through the steps before it.

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
# By hand: 10 images, batches of 4. Step 2 takes positions 8 to 11: the last two images of epoch 0 and the first two of epoch 1.

# %% tags=["nbval-check-output"]
places, epochs = batch_at(0, 24, images=10, seed=3)
print("step 2:", batch_at(8, 4, images=10, seed=3)[0].tolist(), "of epochs", batch_at(8, 4, images=10, seed=3)[1].tolist())
assert sorted(places[:10].tolist()) == sorted(places[10:20].tolist()) == list(range(10))

# %% mystnb={"image": {"alt": "A row of 24 boxes with image numbers, coloured by epoch: ten of epoch 0, ten of epoch 1, four of epoch 2. Brackets above mark six steps of four images; steps 2 and 4 touch or cross the border of two epochs."}}
plots.epoch_row(places.tolist(), epochs.tolist(), batch=4)

# %% [markdown]
# *Figure 7.2: ten images, batches of four (seed 3). Step 2 holds the end of epoch 0 and the beginning of epoch 1.*

# %% [markdown]
# ### Where this lives

# %%
places, epochs = batch_at(9_950, 128, len(clothes), seed=0)
assert all(torch.equal(a, b) for a, b in zip((places, epochs), order.batch_at(9_950, 128, len(clothes), seed=0)))
assert [scaled_lr(b, 96) for b in (0.1, 0.2)] == [schedule.scaled_lr(b, 96) for b in (0.1, 0.2)]
assert all(lr_at(s, **settings) == schedule.lr_at(s, **settings) for s in range(steps))
for ours, theirs in zip(decay_groups(model, 0.05), optim.decay_groups(model, 0.05)):
    assert ours["weight_decay"] == theirs["weight_decay"] and all(a is b for a, b in zip(ours["params"], theirs["params"]))

# %% [markdown]
# ## One step
#
# Everything is ready. What remains is the loop: `fit` in `minimae/train/loop.py`, one function for every task of the book. We do not
# copy it. Here is its whole body, from the source that will run in a moment.

# %%
excerpt(loop.fit, "with locked", "return Result")

# %% [markdown]
# Before the loop it works out how large a step is (`window`), how many steps there are, and how fast they go. `world().size` is the
# number of processes that train together: here, one. `locked` keeps other runs out of the folder. `run` is everything around the
# steps: it writes checkpoints and the log, and it knows whether someone pressed Ctrl-C.
#
# In the loop, a step begins with its learning rate. Why `steps + 1`? At the very end of the cosine the rate is 0, and a step at that
# rate changes nothing. So the loop puts the end one step after the last. In a long run this cannot be seen; a run of one step would
# otherwise learn nothing at all.
#
# Then it computes the step, on the next batches of the endless row. The loss stays where it was computed: on a GPU, reading it would
# make the processor wait. It is read when a point is logged and before a checkpoint is written; if it is not a number, the run stops
# *before* anything is saved.
#
# The step itself is a small object. This one runs every operation as it comes; its sibling `GraphStep` records them once for a GPU and
# replays them. You have met nearly every name. `exact_inputs` crops, normalises and masks a batch; `task.loss` is chapter 6: encoder,
# decoder, loss. (`sync_gradients` matters only where several processes train one model: they exchange gradients once a step, in the
# last backward pass. `stop` tells whether the run was stopped, `fetch` brings the next images to the GPU meanwhile.)

# %%
excerpt(step.EagerStep.__call__, "for micro", "total += ")

# %% [markdown]
# Two things in it are new.
#
# **Autocast.** On a GPU, matrix products run several times faster in `bfloat16`, a number format with 8 bits of precision instead
# of 24. `autocast` uses it for the products and keeps the rest, the loss among it, in float32. On a CPU the package stays with
# float32. Here is what is lost:

# %%
task = PretrainTask(mine, clothes, model)
with torch.no_grad():
    exact = task.loss_of(clothes.batch(*batch_at(0, 128, len(clothes), 0)))
    with precision.autocast(torch.device("cpu"), "bf16"):
        rough = task.loss_of(clothes.batch(*batch_at(0, 128, len(clothes), 0)))
assert rough.dtype == torch.float32 and 0 < abs(rough - exact) < 0.02 * exact
print(f"float32 {exact:.5f}, with bf16 products {rough:.5f}")

# %% [markdown]
# **Accumulation.** What if a step should see 4,096 images, but the memory holds 512? Then run eight batches, add up their
# gradients, and step once. `backward()` adds to `.grad` anyway. One thing must not be forgotten: the loss of each part is a *mean
# over the part*, so it has to be divided by the number of parts. That is the `/ settings.accumulate`. Because images, orders and
# masks have addresses, the same images get the same masks, however they are grouped. So both ways must agree.

# %%
def gradients(parts):
    """The gradient of 128 images, taken in this many parts."""
    model.zero_grad()
    for part in range(parts):
        (task.loss_of(clothes.batch(*batch_at(part * 128 // parts, 128 // parts, len(clothes), seed=0))) / parts).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


whole, four = gradients(1), gradients(4)
difference = float((whole - four).norm() / whole.norm())
assert difference < 1e-5
print(f"{len(whole):,} numbers; relative difference {difference:.1e}")

# %% [markdown]
# That is the noise of float32 additions in another order, and nothing more.
#
# The rest of a step is short: clip if asked (the paper does not), step, forget the gradients. `scaler` belongs to float16 and does
# nothing here; `norm` asks for the length of the gradient, which is logged.

# %%
excerpt(step.update, "if norm", "optimizer.zero_grad")

# %% [markdown]
# > **Paper.** Table 8: AdamW, betas 0.9 and 0.95, weight decay 0.05, base rate 1.5e-4, batch 4096, cosine, 40 warm-up epochs, mask
# > ratio 75 %, random-size crops and flips, no clipping; 800 epochs in the ablations and 1600 in the main results. Ours deviates
# > where small data and two processor cores ask for it: batch 128, a base rate of 5e-3, patches of 7 × 7 pixels, half an epoch of
# > warm-up, no crops and 5 epochs. That is 50,000 images seen; 800 epochs of ImageNet are more than a thousand million. So each of
# > ours must count for more.

# %% [markdown]
# ## Stop, and continue to the bit
#
# Long runs get stopped: the power fails, the machine is wanted, someone presses Ctrl-C. A run that can be resumed needs a file with
# everything that the next step depends on. That is less than one might think: weights, the optimizer's two moments, and the number
# of the step. There is no state of a random generator and no position in a loader, because every mask, crop and order is computed
# from (seed, epoch, sample id).
#
# The file must be whole, or not be there. A run that is killed *while* it writes must not destroy the last good checkpoint. So
# write to another file, make the disk finish (`fsync`), and only then rename, as
# `replacing` does at its end. Renaming is one indivisible act.

# %%
excerpt(checkpoint.save_checkpoint, "with replacing", "os.fsync")

# %% [markdown]
# Let us try it. A short run on 640 images, twelve steps. Once straight through; once with Ctrl-C during step 5. The task below is
# the ordinary one, except that it presses Ctrl-C by itself.

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
short, few = replace(mine, batch=64, epochs=1.2, warmup_epochs=0.2, log_every=1), clothes.balanced_subset(640)
straight, _ = pretrain(short, few, quiet=True)

folder = Path(tempfile.mkdtemp())
stopped = build(short, few)
try:
    loop.fit(ImpatientTask(short, few, stopped), short, folder, quiet=True)
except Interrupted as message:
    print(message.args[0].split(";")[0])

# %%
resumed, result = pretrain(short, few, folder, resume=True, quiet=True)
same = [torch.equal(a, b) for a, b in zip(straight.state_dict().values(), resumed.state_dict().values())]
differ = [torch.equal(a, b) for a, b in zip(straight.state_dict().values(), stopped.state_dict().values())]
assert all(same) and not all(differ) and result.steps == 12

# %% tags=["nbval-check-output"]
print(f"{sum(same)} of {len(same)} tensors are equal to the last bit")

# %% [markdown]
# Equal to the last bit: not "close", equal. That turns a doubtful question ("is the resumed run as good?") into a test.

# %% [markdown]
# ## A real run
#
# Now for real: 10,000 photographs of clothes, five epochs, 50,000 images in all. The model is a *nano* of four blocks with patches
# of 7 × 7, so an image has 16 of them and the encoder sees four.
#
# Before it starts, two anchors. What would a model score that has learned *nothing*? The target is normalised per patch: mean 0,
# variance 1. Always saying 0 costs the mean square of the target. That is not 1 but (n − 1) / n for n values in a patch, because
# the variance that we divide by is the unbiased one (chapter 6). For 7 × 7 grey pixels: 48 / 49.

# %% tags=["nbval-check-output"]
zero = 48 / 49
print(f"predicting zero: {zero:.4f}")

# %% [markdown]
# And what would be perfect? Not 0: nobody can know the pattern on a hidden shirt. So where between 0.98 and 0 does our run end,
# after a minute? Commit yourself.

# %%
book.predict("loss-after-a-minute", 0.3, ask="Predicting zero scores 0.98. What is the loss after 50,000 images?")

# %%
trained, run = pretrain(mine, clothes, quiet=True)
seen = [point["step"] * mine.batch for point in run.history]
losses = [point["loss"] for point in run.history]
last = sum(losses[-10:]) / 10
print(f"{run.seen:,} images, {run.steps} steps, seed {mine.seed}, {run.seconds:.0f} s")

# %%
assert run.seen == 50_048 and abs(last - 0.53) < 0.04 and max(losses[10:]) < zero

# %% mystnb={"image": {"alt": "Two marks on one scale: the reader's guess of 0.3 and the measured loss of about one half."}}
book.reveal("loss-after-a-minute", round(last, 3), unit="loss")

# %% [markdown]
# *Figure 7.3: your guess and the mean loss of the last 50 steps (seed 0).*

# %% mystnb={"image": {"alt": "Loss against images seen. It starts above the dashed line of predicting zero at 0.98, drops below it within a thousand images, reaches about 0.6 after 15,000 and about one half after 50,000. From 5,000 images on it runs inside a green band, what is expected. A narrow grey band below it marks what others report for ImageNet."}}
known = PretrainTask(mine, clothes, trained).expected()
band = [(at, known.at(at).low, known.at(at).high) for at, _ in known.curve]
others = {"ImageNet, ViT-L, 800 epochs (reported by others)": (0.363, 0.387)}
plots.loss_against_marks(seen, losses, zero=zero, marks=others, expected=band)

# %% [markdown]
# *Figure 7.4: this chapter's run (10,000 photographs of Fashion-MNIST, 7 × 7 patches, nano, seed 0, one processor core, about a
# minute). Dashed: predicting zero. Green: what is expected, from three seeds of this task. The grey band holds numbers that others report for ImageNet validation with normalised pixels
# after 800 epochs, 0.363 (L/14) and 0.387 (L/16). They are another data set, another patch size and a model several hundred times
# as large: a landmark, not a target.*
#
# ### What to expect
#
# A loss alone says little: it depends on patch size, data and target. The best thing to hold it against is the same task, run
# before. The green band is that: the mean of three runs, as wide as they scattered and half as much again, at least ± 5 %. Such
# curves come with the package for two dozen tasks ([a table of them](../docs/evidence.md#what-loss-to-expect)), and training
# itself looks at them: five logged points in a row outside the band, and it says so, with the likely causes. The optimizer's settings are
# not part of a task; whether they are well chosen is just what the curve can tell. Let us ask it about a learning rate ten times too
# small, made up from our own run by reading it ten times as slowly.

# %%
watch = loss_bands.Watch(known)
fine = [said for at, loss in zip(seen, losses) if (said := watch(at, loss))]
slow = [said for at, loss in zip(seen[::10], losses) if (said := watch(at, loss))]
assert not fine and len(slow) == 1 and "off the reference curve" in slow[0]
print(slow[0])

# %% [markdown]
# Where there is no such curve, the course of the loss still says a lot.
#
# | what you see | what it means |
# |---|---|
# | starts near 1 to 2 | fine: random weights do worse than zero |
# | reaches (n − 1) / n quickly, then **stays** there | the model says "zero" everywhere: positions missing, or a rate far too small or too large |
# | falls under it and bends | it learns; the bend is where means and edges are learned and details begin |
# | falls close to 0 | it sees what it should not: the loss looks at visible patches, or the mask leaks |
# | jumps up and does not come back | the rate is too large, or the warm-up too short |
#
# Landmarks of others, all normalised pixels unless said: predicting zero scores 0.917 for 2 × 2 RGB patches, 0.979 for 4 × 4 RGB
# and 0.9987 for 16 × 16 RGB (that is arithmetic). ImageNet validation after 800 epochs: 0.363 for L/14, 0.387 for L/16;
# un-normalised 0.246 for L/14. The authors mention about 0.3 un-normalised while training.
#
# The loss goes on falling for a very long time, and so does the quality go on rising: with 1600 epochs the paper still gains over
# 800 (Figure 7). The shipped model `fashion-nano` has seen fourteen times as many images as ours.

# %% [markdown]
# ## Break-it lab: a colleague's schedule
#
# A colleague has brought a schedule from an older project, where it did well. Warm-up and cosine, the same peak: "the same as
# yours, only tidier". You train both on 2,560 photographs, 20 steps an epoch, and draw the losses.

# %%
def tidy_lr(step, *, steps, warmup, peak, floor=0.0):
    """Warm-up and cosine, as in the last project."""
    epoch = int(step - 1) // 20
    return lr_at(epoch * 20, steps=steps, warmup=warmup, peak=peak, floor=floor)


# %%
small = replace(mine, epochs=4, warmup_epochs=1.5, log_every=1)
photographs = clothes.balanced_subset(2_560)


def losses_with(lr_function):
    """The losses of a run whose loop uses this schedule instead of its own."""
    with patch.object(loop, "lr_at", lr_function):
        _, result = pretrain(small, photographs, quiet=True)
    return [point["loss"] for point in result.history]


theirs, ours = losses_with(tidy_lr), losses_with(lr_at)

# %% mystnb={"image": {"alt": "Two loss curves over 80 steps with a line at the beginning of each epoch. Ours falls from the first step. The colleague's is flat at the starting loss for all 20 steps of the first epoch, and falls only after it."}}
plots.runs_apart({"ours": ours, "the colleague's": theirs}, per_epoch=20)

# %% [markdown]
# *Figure 7.5: two runs that differ in the schedule alone (2,560 photographs, 4 epochs, seed 0).*
#
# Look at the first twenty steps, then at the function. What is wrong, and why did nobody notice in the older project?
#
# <details><summary>Diagnosis</summary>
#
# The rate is computed from the *epoch*, so it moves once an epoch, in stairs. In the first epoch it is `lr_at(0)`, and that is 0:
# the warm-up starts at zero, and stays there for a whole epoch. The weights do not move. (The curve wobbles only because the images
# differ.) In the older project there was no warm-up, so the first stair was the peak; and with hundreds of epochs the stairs were
# too low to be seen. The paper's recipe moves the rate at every iteration, by fractional epochs.
# </details>

# %%
flat = max(theirs[:20]) - min(theirs[:20])
fell = ours[0] - ours[19]
assert fell > 3 * flat

# %% mystnb={"image": {"alt": "Two learning rates over 80 steps: ours climbs in a straight line and falls in a cosine, the colleague's is a staircase of four steps whose first step is zero."}}
lab = dict(steps=80, warmup=30, peak=settings["peak"])
plots.schedules(
    {"ours": [lr_at(s, **lab) for s in range(1, 81)], "the colleague's": [tidy_lr(s, **lab) for s in range(1, 81)]}, per_epoch=20, warmup=30
)

# %% [markdown]
# *Figure 7.6: the two schedules. The first stair lies on the floor.*

# %% [markdown]
# ## Exercises
#
# **1 ★ The peak of a big run.** A run has `batch` images a forward pass, `accumulate` passes a step, on `processes` GPUs at once.
# What is its peak learning rate?

# %% nbgrader={"grade": false, "grade_id": "ch07-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def peak_lr(base_lr, batch, accumulate, processes):
    """The learning rate after the warm-up."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch07_peak_lr(peak_lr)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_peak_lr(base_lr, batch, accumulate, processes):
    """The learning rate after the warm-up."""
    return base_lr * batch * accumulate * processes / 256


check.ch07_peak_lr(solution_peak_lr)

# %% [markdown]
# **2 ★★ Who is exempt?** Return the *names* of the parameters of a model that must not decay. `model.named_parameters()` gives
# names and parameters. Frozen parameters belong to no group.

# %% nbgrader={"grade": false, "grade_id": "ch07-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def exempt_names(model):
    """Names of the learned parameters that are not decayed: a set of strings."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch07_exempt_names(exempt_names)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_exempt_names(model):
    """Names of the learned parameters that are not decayed: a set of strings."""
    return {name for name, p in model.named_parameters() if p.requires_grad and p.dim() <= 1}


check.ch07_exempt_names(solution_exempt_names)

# %% [markdown]
# **3 ★★ Accumulate.** `loss_of(part)` is the mean loss of a part of the batch. All parts have the same size. Leave in `weight.grad`
# the gradient of the mean loss of all of them together. `weight.grad` may hold something from before.

# %% nbgrader={"grade": false, "grade_id": "ch07-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def accumulate(loss_of, parts, weight):
    """Fill weight.grad as if all parts had been one batch."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch07_accumulate(accumulate)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_accumulate(loss_of, parts, weight):
    """Fill weight.grad as if all parts had been one batch."""
    weight.grad = None
    for part in parts:
        (loss_of(part) / len(parts)).backward()


check.ch07_accumulate(solution_accumulate)

# %% [markdown]
# With AdamW a forgotten division hardly shows in the loss curve: Adam divides by the size of the gradients anyway. It shows in the
# logged loss, in clipping, and with every other optimizer. That is why it survives in so much code.
#
# **4 ★★★ Whole, or not there.** `write(file)` writes bytes into an open file, and may fail half-way with an exception. Store what
# it writes at `path`. If it fails, let the exception through, leave what was at `path` before as it was, and leave nothing else
# behind.

# %% nbgrader={"grade": false, "grade_id": "ch07-ex4", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def careful_save(path, write):
    """Write a file wholly, or not at all. path: a Path; write: a function of an open binary file."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch07_careful_save(careful_save)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

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
# ## Summary
#
# The learning rate is scaled by the images of a step, climbs in a warm-up, sinks in a cosine, and moves at every step. Biases and
# norms do not decay. The images form one endless row of shuffled epochs, computed from the seed, so that accumulated batches equal
# a big one and a resumed run equals an unbroken one to the bit. A minute of training takes the loss from above (n − 1) / n to about
# a half, and the course of the curve tells whether a run learns.
#
# ## Five questions
#
# 1. You double the batch. What happens to the learning rate?
# <details><summary>Answer</summary>It doubles too: lr = base lr × images per step / 256.</details>
#
# 2. Why are the scales of LayerNorm exempt from weight decay?
# <details><summary>Answer</summary>Their neutral value is 1, not 0. Decay would pull them away from it, and shrink what passes through.</details>
#
# 3. Eight accumulated batches, the loss not divided by eight. How large is the gradient?
# <details><summary>Answer</summary>Eight times too large: a sum of eight means instead of their mean.</details>
#
# 4. What does a checkpoint need so that the run continues to the same bits?
# <details><summary>Answer</summary>Weights, the optimizer's moments and the step. All randomness follows from the seed, the epoch and the sample ids.</details>
#
# 5. A loss curve reaches 0.98 at once and stays there, with 7 × 7 grey patches. What does the model predict?
# <details><summary>Answer</summary>Zero, in every patch: (49 − 1) / 49 = 0.98. It has learned nothing about the picture.</details>
#
# Next: [08 · What did it learn?](08_what_did_it_learn.ipynb) The loss says how well it paints. What it *knows* is another question.
