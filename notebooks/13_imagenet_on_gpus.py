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
# # 13 · ImageNet on GPUs
#
# **The promise.** Without a GPU, you prepare the paper's run on ImageNet. You compute the operations, bytes, hours and memory of this run,
# find out what slows it down, and kill and resume a small run.
#
# Minutes: 35. Needs: chapters 04, 05 and 07.
#
# After this chapter you can
#
# - share an optimizer step among several GPUs, and show that the result stays the same;
# - compute the shortest possible time of a run from its operations and from the bytes that it moves;
# - say what bf16, compilation, CUDA graphs and sharding each save;
# - compute how much memory and how many processor cores a run needs;
# - resume a killed run with bit-identical results.

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
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import minimae_book as book
import numpy as np
import torch
from minimae_book import check
from minimae_book import figures as plots
from minimae_book.bench import roofline
from minimae_book.figures.gpus import orders, time_bars
from minimae_book.figures.gpus import roofline as roofline_figure
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DistributedSampler
from torch.utils.flop_counter import FlopCounterMode

from minimae import MAE, Mask, data, flops, make_mask, size
from minimae.data.augment import Augmentation
from minimae.data.pack import pack
from minimae.data.photos import make_folder
from minimae.data.reader import Reader
from minimae.data.stream import open_folder, open_shards
from minimae.model.masking import keep_count
from minimae.model.sizes import block_flops, parameters
from minimae.recipes import RECIPES, for_processes, recipe
from minimae.tasks.pretrain import build, pretrain
from minimae.train import distributed, precision, step
from minimae.train.order import batch_at
from minimae.train.schedule import scaled_lr

work = Path(tempfile.mkdtemp())

# %% [markdown]
# ## The recipe
#
# The paper's run uses the same loop as your run in chapter 07, with different settings. The package keeps these settings as a recipe, with
# the values of the paper's Table 8. This is the recipe for ViT-L/16:

# %% tags=["nbval-check-output"]
large = recipe("imagenet-large")
images = RECIPES["imagenet-large"].images
print(f"{images:,} images of {large.image} pixels, {large.epochs} epochs, {large.warmup_epochs} of them warm-up")
print(f"batch {large.batch}, accumulation {large.accumulate}: {large.images_per_step():,} images in an optimizer step")
print(f"base learning rate {large.base_lr}, peak {scaled_lr(large.base_lr, large.images_per_step()):.1e}")
print(f"{large.steps(images):,} optimizer steps, {large.epochs * images:,} images")

# %% [markdown]
# Your machine cannot train on 1.02 billion images (1.28 million, each shown 800 times), and this project has not run the recipe either. But
# you can compute how much time and memory the run would take. For each result, the chapter says whether it is *computed* here, *measured*
# on a machine that is named, or *published*.
#
# ### One step on any number of GPUs
#
# The learning rate depends on the *images per step*, the number of images in an optimizer step (chapter 07):
#
# **images per step = processes × batch × accumulation**
#
# A **process** is one copy of the program, normally with one GPU. PyTorch's `torchrun` starts all processes. If you use more processes,
# keep the product of the three numbers constant. Then the learning rate and the schedule stay the same, and so does the result, up to
# rounding. The memory of a GPU limits the batch, and accumulation supplies the remaining images of the step.
#
# **1 ★ Share a step.** An optimizer step has `window` images, and `processes` is the number of processes that share them evenly. At most
# `fits` images fit into the memory of one GPU. Return the batch and the accumulation of each process, two integers. Take the largest batch
# that fits and divides the number of images of a process without a remainder.
#
# <details><summary>Hint</summary>
#
# A process has `window // processes` images of each step. Try the batches from the largest down.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch13-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def split_step(window, processes, fits):
    """(batch, accumulation) of each process."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch13_split_step(split_step)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*


# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_split_step(window, processes, fits):
    """(batch, accumulation) of each process."""
    share = window // processes
    batch = min(fits, share)
    while share % batch:
        batch -= 1
    return batch, share // batch


check.ch13_split_step(solution_split_step)

# %% [markdown]
# The package computes this split when a run starts (`for_processes`):

# %% tags=["nbval-check-output"]
for processes in (1, 2, 8, 64):
    shared = for_processes(large, processes)
    print(f"{processes:2} processes × batch {shared.batch:3} × accumulation {shared.accumulate:2} = {shared.images_per_step(processes):,}")

# %% [markdown]
# Why is the result the same? Each process computes the gradient of the mean loss of its own images. Then the processes exchange their
# gradients and average them (**DDP**, distributed data parallel). All processes have the same number of images, so the mean of their
# gradients is the gradient of the mean loss of all images. Two other things could differ: the order of the images, and the random masks and
# crops. In this package the order depends only on the seed and the epoch. A mask or a crop depends only on the seed, the epoch and the
# image (chapter 02).
#
# To test whether the result is the same, the script below trains a small model on photographs of clothes for twelve steps. `torchrun`
# starts the script in two processes, and each takes half of the 64 images of every step.

# %%
SETTINGS = dict(batch=64, epochs=1.2, warmup_epochs=0.2, log_every=1, save_every=0.0, seed=0)
SCRIPT = f"""
import os, sys, time
from dataclasses import replace
from pathlib import Path
from minimae import data
from minimae.recipes import for_processes, recipe
from minimae.tasks.pretrain import pretrain
from minimae.train.distributed import join, leave, world

def hang(task, log):
    if "--hang" in sys.argv and log["step"] == 8:
        print("in step 8", flush=True)
        time.sleep(60)

join(os.environ, "cpu")
run = for_processes(replace(recipe("fashion-demo"), **{SETTINGS}), world().size)
pretrain(run, data.load("fashion").balanced_subset(640), Path(sys.argv[1]), quiet=True, callbacks=[hang])
leave()
"""
(work / "train.py").write_text(SCRIPT, encoding="utf-8")
torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
ended = subprocess.run([*torchrun, work / "train.py", work / "two"], capture_output=True, text=True)
print(ended.stderr[-2000:] if ended.returncode else "done")

# %% [markdown]
# Now train the same model in one process with the whole batch, and once more with half the batch and two accumulated passes. How far are
# the final weights of the two-process run and of the accumulated run from those of the whole-batch run? Measure this as a percentage of the
# distance that the weights of the whole-batch run have moved in training.

# %%
few, run = data.load("fashion").balanced_subset(640), replace(recipe("fashion-demo"), **SETTINGS)
one, _ = pretrain(run, few, quiet=True)
halves, _ = pretrain(replace(run, batch=32, accumulate=2), few, quiet=True)
start = build(run, few).state_dict()


def distance(a, b):
    """The Euclidean distance between all weights of two models."""
    return float(sum((a[name] - b[name]).square().sum() for name in a)) ** 0.5


saved = torch.load(work / "two" / "checkpoint.pt", weights_only=True)["model"]
weights = {"two processes": saved, "two accumulated passes": halves.state_dict()}
gaps = {name: distance(one.state_dict(), other) / distance(one.state_dict(), start) for name, other in weights.items()}
print({name: f"{100 * gap:.4f} %" for name, gap in gaps.items()})

# %% tags=["nbval-check-output"]
print("the same run, up to rounding:", all(gap < 0.005 for gap in gaps.values()))

# %% [markdown]
# The small differences are rounding errors: the same numbers are added in a different order.
#
# ## How many operations?
#
# Chapter 04 counted the operations of a block. Now count the operations of a whole training step for one image. Of the n patches of the
# image, k are visible and m are masked. A forward pass computes these matrix products:
#
# | part | tokens | operations |
# |---|---|---|
# | patch projection | k | 2 · k · values · width |
# | encoder: `depth` blocks | 1 + k | `block_flops(1 + k, width)` each |
# | from the encoder's width to the decoder's | 1 + k | 2 · (1 + k) · width · decoder width |
# | decoder: all blocks but the last | 1 + n | `block_flops(1 + n, decoder_width)` each |
# | the last block: only the m masked tokens are queries (chapter 05) | 1 + n | `block_flops(1 + n, decoder_width, queries=m)` |
# | prediction | m | 2 · m · decoder width · values |
#
# For each of these products, the backward pass computes two products, one for the gradient of each factor. So a step costs as much as three
# forward passes, with one exception: the gradient of the pixels is not needed, so the backward pass has one product fewer for the patch
# projection.
#
# **2 ★★ Your count.** Return the number of operations of a training step for one image. A size `s` has `grid`, `values` (numbers in a
# patch), `width`, `depth`, `decoder_width` and `decoder_depth`. `keep_count(n, ratio)` is the number of visible patches.
#
# <details><summary>Hint 1</summary>
#
# n = s.grid[0] * s.grid[1]
# </details>
#
# <details><summary>Hint 2</summary>
#
# Keep the operations of the patch projection in a variable: you add them to the forward pass, and subtract them once at the end.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch13-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def my_step_flops(s, ratio=0.75):
    """Floating-point operations of the matrix products of a training step, for one image."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch13_step_flops(my_step_flops)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*


# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_my_step_flops(s, ratio=0.75):
    """Floating-point operations of the matrix products of a training step, for one image."""
    n, d = s.grid[0] * s.grid[1], s.decoder_width
    k = keep_count(n, ratio)
    projection = 2 * k * s.values * s.width
    encoder = s.depth * block_flops(1 + k, s.width) + 2 * (1 + k) * s.width * d
    decoder = (s.decoder_depth - 1) * block_flops(1 + n, d) + block_flops(1 + n, d, queries=n - k)
    forward = projection + encoder + decoder + 2 * (n - k) * d * s.values
    return 3 * forward - projection


check.ch13_step_flops(solution_my_step_flops)

# %% [markdown]
# The package's version is in the folded cell below.


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def step_flops(s, ratio=0.75):
    """The package's count, for the layout that it computes."""
    return flops(s, ratio).step


# %% tags=["nbval-check-output"]
step_flops = book.use(check.ch13_step_flops, my_step_flops, step_flops)

# %% [markdown]
# Is your count right? PyTorch can count the operations while it computes. On the device `meta`, tensors have shapes but no contents, so a
# step of ViT-B takes a few seconds and almost no memory.

# %%
with torch.device("meta"):
    vit_b, pictures = MAE(size("base")), torch.empty(2, 3, 224, 224)
hidden = make_mask(torch.arange(2), vit_b.size.grid)
hidden = Mask(**{name: value.to("meta") for name, value in vars(hidden).items()})
with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # attention as plain products, which the counter knows
    vit_b(pictures, hidden).loss.backward()

# %% tags=["nbval-check-output"]
MODELS = {"base": "ViT-B/16", "large": "ViT-L/16", "huge": "ViT-H/14"}
per_image = {name: step_flops(size(name)) for name in MODELS}
print(f"ViT-B/16: PyTorch counts {counter.get_total_flops() / 2:,.0f} operations, you count {per_image['base']:,}")
print("billion operations for a step and image:", {vit: round(per_image[name] / 1e9, 1) for name, vit in MODELS.items()})

# %% [markdown]
# ## How many hours, at least?
#
# A step takes at least the time that the GPU's matrix units need for the matrix products of the step. On one NVIDIA H200 GPU, a plain
# product of two 8192 × 8192 matrices in bf16 (bfloat16) ran at **790 TFLOP/s** (measured, [benchmarks](../docs/benchmarks.md#on-a-gpu); the
# data sheet says 989). One TFLOP/s is 10¹² operations per second. **How many hours does ViT-L need for 800 epochs on one H200, if the GPU
# computes only matrix products, at this speed?**

# %%
book.predict("hours", 10,
             ask="ViT-L/16, 800 epochs of ImageNet, one H200 at 790 TFLOP/s: how many hours?")

# %%
PEAK, COPY = 790e12, 4.19e12  # FLOP/s of a matrix product, and bytes/s of a copy: measured on one H200
seen = 800 * images
least = {name: per_image[name] * seen / PEAK / 3600 for name in MODELS}

# %% mystnb={"image": {"alt": "Two marks on one scale: the reader's guess of 10 and the computed 44 hours."}}
book.reveal("hours", round(least["large"], 1), unit="hours")

# %% [markdown]
# *Figure 13.1: your guess and the computed hours (ViT-L, 800 epochs, one H200 at 790 TFLOP/s).*
#
# The paper reports 15.4 hours for this run (Table 2), on 128 cores of TPU v3. A core of TPU v3 computes 61.5 TFLOP/s at its peak (data
# sheet). What share of the peak of all 128 cores did the paper's run use?

# %% tags=["nbval-check-output"]
paper_flops = flops(size("large"), paper=True).step * seen
print(f"the paper's run: {paper_flops:.2e} operations; {100 * paper_flops / (15.4 * 3600) / (128 * 61.5e12):.0f} % of the peak of 128 cores")

# %% [markdown]
# This share is called **MFU**, model FLOPs utilisation. Our own speed tests on one H200 reach 28 % (ViT-L) and 31 % (ViT-H) of the 989
# TFLOP/s in the GPU's data sheet (measured). Where does the rest of the time go?
#
# ## The roofline
#
# An operation does two things: it computes, and it moves bytes between the memory and the processors of the GPU. A *kernel* is a program
# that runs on the GPU; here each kernel computes one operation. A good kernel computes and moves bytes at the same time, so the slower of
# these two activities determines the time of the operation:
#
# **time = max(FLOP / peak, bytes / bandwidth)**
#
# FLOP is the number of floating-point operations, *peak* is the number of them that can be computed per second, and *bandwidth* is the
# number of bytes that can be moved per second. The **arithmetic intensity** of an operation is its FLOP divided by the bytes that it moves.
# A copy on the H200 moved 4.19 TB/s (measured, reads and writes together). So an operation needs 790 / 4.19 ≈ 190 FLOP for each byte to
# keep the matrix units busy. An operation with a lower intensity is **memory-bound**: the matrix units wait for data.
#
# **3 ★★ The shortest possible time.** `operations` is a list with a pair (FLOP, bytes) for each operation. The operations run one after the
# other. Return the shortest possible time for all operations together, in seconds. `peak` is in FLOP/s, `bandwidth` in bytes/s.
#
# <details><summary>Hint</summary>
#
# For each operation take the larger of its two times, then add up these larger times. Do not add up each kind of time first and then take
# the larger sum: the result can be too small.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch13-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def my_roofline_seconds(operations, peak, bandwidth):
    """The least seconds for operations (FLOP, bytes) that run one after the other."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch13_roofline_seconds(my_roofline_seconds)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*


# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_my_roofline_seconds(operations, peak, bandwidth):
    """The least seconds for operations (FLOP, bytes) that run one after the other."""
    return sum(max(flops / peak, moved / bandwidth) for flops, moved in operations)


check.ch13_roofline_seconds(solution_my_roofline_seconds)

# %% [markdown]
# The book's own version is folded below.


# %% jupyter={"source_hidden": true} tags=["package:minimae_book.bench.roofline", "hide-input"]
def roofline_seconds(operations: Iterable[tuple[float, float]], peak: float, bandwidth: float) -> float:
    """The least seconds for operations (FLOP, bytes) that run one after the other: each computes and moves its bytes at the same time."""
    return sum(max(flops / peak, moved / bandwidth) for flops, moved in operations)


# %% tags=["nbval-check-output"]
roofline_seconds = book.use(check.ch13_roofline_seconds, my_roofline_seconds, roofline_seconds)

# %% [markdown]
# The **roofline** is the highest possible rate in FLOP/s for each arithmetic intensity. A number takes 2 bytes in bf16 and 4 bytes in
# float32. We assume that an operation reads each input once and writes each output once.


# %%
def products(t, d, batch=512):
    """(FLOP, bytes) of the wide layer of the MLP, and of fused attention, for a batch of sequences of t tokens, in bf16."""
    rows = batch * t
    return {"MLP": (8 * rows * d * d, 2 * (rows * d + 4 * d * d + 4 * rows * d)), "attention": (4 * rows * t * d, 2 * 4 * rows * d)}


d, rows, learned = 768, 512 * 50, parameters(size("base"))[1]
parts = {"encoder, 50 tokens": products(50, d), "decoder, 197 tokens": products(197, 512)}
parts["no matrix product"] = {  # operations for each value, roughly
    "GELU": (10 * 4 * rows * d, 2 * 2 * 4 * rows * d),
    "LayerNorm": (8 * rows * d, (4 + 4) * rows * d),
    "AdamW": (12 * learned, 28 * learned),  # reads weight, gradient and two moments; writes all but the gradient
    "residual sum": (rows * d, (4 + 2 + 4) * rows * d),
}

# %% mystnb={"image": {"alt": "The roofline of an H200 on logarithmic axes: a slope that rises to 790 TFLOP/s at 189 FLOP per byte, then a flat roof. The MLPs of encoder and decoder are on the flat roof. Attention is on the slope, at 25 FLOP per byte in the encoder and 98 in the decoder. GELU, LayerNorm, AdamW and the residual sum are far down on the slope, at 2.5 FLOP per byte and less."}}
roofline_figure(parts, peak=PEAK, bandwidth=COPY)

# %% [markdown]
# *Figure 13.2: parts of ViT-B/16 on the roofline (batch 512, computed). The roof was measured on one H200. The numbers of operations of
# GELU, LayerNorm and AdamW are rough estimates, 8 to 12 for each value.*
#
# The MLPs can reach the flat part of the roofline. All other operations in the figure are memory-bound. GELU has 2.5 FLOP for each byte, so
# at best it runs at little more than one hundredth of the peak. Even **fused** attention (one kernel that never stores the scores in the
# GPU's memory) is memory-bound, because an MAE has few tokens. AdamW is far down on the slope, but it takes little time for each image,
# because it runs once for 4,096 images.
#
# ### A whole step
#
# PyTorch can run a step with **fake tensors**, which have a shape, a type and a device, but no contents. In this way, `step_of` runs the
# package's model in bf16. It records the bytes that each operation moves, and the FLOP of matrix products only. An operation that returns
# only a view of its input moves nothing. For all other operations, the code below adds up the bytes of inputs and outputs:

# %%
book.excerpt(roofline.Recorder.__torch_dispatch__, "result =", "return result")

# %%
batches = {"base": 512, "large": 256, "huge": 128}  # of the recipes
steps = {name: roofline.step_of(size(name), batch) for name, batch in batches.items()}

# %%
bounds = {}
for name, vit in MODELS.items():
    pairs = [(o.flops, o.nbytes) for o in steps[name].operations.elements()]
    bounds[name] = batches[name] / roofline_seconds(pairs, PEAK, COPY)
    moved = sum(o.nbytes for o in steps[name].operations.elements()) / batches[name]
    print(f"{vit}: {len(pairs):,} operations move {moved / 1e6:,.0f} MB for each image; at most {bounds[name]:,.0f} images/s")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
results = Path("../docs/gpu.json")
if results.is_file():  # the numbers above are those of the file
    rows_of_file = json.loads(results.read_text(encoding="utf-8"))["bench"]
    assert all(abs(row["ceilings"]["pretrain"]["matmul TFLOP/s"] * 1e12 / PEAK - 1) < 0.005 for row in rows_of_file)
    assert all(abs(row["ceilings"]["pretrain"]["copy GB/s"] * 1e9 / COPY - 1) < 0.005 for row in rows_of_file)

# %% [markdown]
# **For ViT-B, what share of the shortest possible time of a step do the matrix products take, if attention is not counted among them?**

# %%
book.predict("products", 90,
             ask="ViT-B/16: what share of the shortest possible time of a step do the matrix products take (in %)?")

# %%
kinds_of = {MODELS[name]: roofline.by_kind(steps[name], PEAK, COPY) for name in MODELS}
share = 100 * kinds_of["ViT-B/16"]["matrix products"] / sum(kinds_of["ViT-B/16"].values())

# %% mystnb={"image": {"alt": "Two marks on one scale: the reader's guess of 90 and the computed share, 48 percent."}}
book.reveal("products", round(share, 1), unit="% of the time")

# %% [markdown]
# *Figure 13.3: your guess and the computed share of the matrix products (ViT-B/16, attention not included).*
#
# How close do real runs come to the shortest possible time? On one H200, ViT-L ran at 2,250 images/s and ViT-H at 1,050 images/s. Both were
# measured in *eager mode* (without compilation), in bf16 and with the batches above (torch 2.11, 2026-11-28). ViT-B was not measured.

# %% mystnb={"image": {"alt": "Three horizontal bars of microseconds for one image, divided into matrix products, attention, GELU, LayerNorm, and copies, sums and casts. ViT-B 144, ViT-L 271, ViT-H 581. Matrix products are half of the bar for ViT-B and nearly two thirds for ViT-H; copies, sums and casts are the second largest part. Black marks show the measured times: 444 for ViT-L and 952 for ViT-H."}}
measured = {"large": 2_250, "huge": 1_050}  # images/s
time_bars(kinds_of, {MODELS[name]: 1e6 / rate for name, rate in measured.items()})

# %% [markdown]
# *Figure 13.4: the shortest possible time for one image, by kind of operation (computed; eager mode, batch 512, 256 and 128, the roof of
# one H200), and the measured time (black marks; ViT-L and ViT-H).*
#
# For ViT-L, the blue part (the products without attention) is close to the bound of Figure 13.1 (44 hours correspond to 155 µs for each
# image). A real step takes longer than this bound, for two reasons. The first is the time of all other operations: together they take about
# as long as the products in ViT-B, and 60 % as long in ViT-H. The second is the gap between bar and mark, which has several likely causes.
# Few real kernels reach the roof, and most matrices are smaller than 8192 × 8192. The measured runs also crop and normalise the images and
# update the weights; the count leaves all of this out.

# %% tags=["nbval-check-output"]
for name, rate in measured.items():
    print(f"{MODELS[name]}: measured {100 * rate / bounds[name]:.0f} % of the roofline, {100 * rate * per_image[name] / PEAK:.0f} % of a plain product")

# %% [markdown]
# Both measured models reach 61 % of the rate that the roofline allows. If ViT-B also reached 61 %, it would run at 4,200 images/s.
#
# ### Hours and money
#
# Set `price` to the price that you pay for one hour of one GPU. The column *on 8 GPUs* is the measured time divided by eight. No run on
# several GPUs has confirmed these times yet.

# %%
price = 3.0  # for one GPU and one hour: put in yours
print("800 epochs of ImageNet   products only   roofline, eager   measured, eager   on 8 GPUs    price")
for name, vit in MODELS.items():
    hours = {"products": least[name], "roofline": seen / bounds[name] / 3600, "measured": seen / measured.get(name, np.nan) / 3600}
    line = f"{vit:22}{hours['products']:14.0f} h{hours['roofline']:16.0f} h"
    if name in measured:
        line += f"{hours['measured']:16.0f} h{hours['measured'] / 8:10.1f} h{price * hours['measured']:9,.0f}"
    print(line)

# %% [markdown]
# The 1,600 epochs of the paper's main results cost twice as much as 800 epochs.
#
# > **Paper.** Table 2 and Section 4.1: wall-clock time of 800 epochs on 128 TPU v3 cores; ViT-L took 42.4 h with mask tokens in the encoder and
# > 15.4 h without; ViT-H took 119.6 h with them (estimated) and 34.5 h without.
# > Table 8: batch 4096, base learning rate 1.5e-4, 40 epochs of warm-up. Section 4: 800 epochs, or 1600 for the main results.
# > **Our deviation.** Our recipes have the same settings, but are written for GPUs. This project has not trained with them yet.
#
# ## What makes a step faster
#
# ### bf16
#
# The matrix units are much faster with short number formats than with float32. Two formats have 16 bits: `float16` uses more of its bits
# for precision, and `bfloat16` (bf16) uses more of its bits for range. Three numbers show the difference:

# %% tags=["nbval-check-output"]
for kind in (torch.float32, torch.float16, torch.bfloat16):
    tiny, big, near = (float(torch.tensor(x, dtype=kind)) for x in (1e-8, 1e5, 1 + 1 / 256))
    print(f"{str(kind)[6:]:9}  1e-8 → {tiny:.0e}   100,000 → {big:9,.0f}   1 + 1/256 → {near:.6f}")

# %% [markdown]
# Very large activations become infinite in float16, and very small gradients become zero. So float16 needs a **loss scaler**, which
# multiplies the loss by a large factor before the backward pass, and afterwards divides the gradients by this factor and checks them for
# infinities. bf16 has the range of float32 and needs no scaler. But in bf16, 1 + 1/256 is rounded to 1: weights in bf16 would lose small
# updates. So PyTorch's **autocast** keeps the weights in float32 and makes bf16 copies for the products. What else stays in float32?

# %%
kinds = {}
small = MAE("nano")
for name, layer in small.named_modules():
    layer.register_forward_hook(lambda _, __, out, name=name: kinds.update({name: out.dtype} if isinstance(out, torch.Tensor) else {}))
with torch.no_grad(), precision.autocast(torch.device("cpu"), "bf16"):
    loss = small(torch.randn(2, 1, 28, 28)).loss

# %% tags=["nbval-check-output"]
block = "encoder.blocks.0"
for name in (f"{block}.norm1", f"{block}.attention.qkv", f"{block}.mlp.up", f"{block}.mlp", block):
    print(f"{name:31}{str(kinds[name])[6:]}")
print(f"{'loss':31}{str(loss.dtype)[6:]}\n{'weights and their gradients':31}{str(small.encoder.blocks[0].mlp.up.weight.dtype)[6:]}")

# %% [markdown]
# The outputs of the norms, the sum along the blocks (the residual stream), the loss, the weights, their gradients and AdamW's moments stay
# in float32.
#
# ### Compilation: fewer bytes
#
# In eager mode each operation reads its inputs from memory and writes its result back. A compiler **fuses** several operations into one
# kernel: between these operations, the values stay in the processor. An example is the end of attention. The output of attention is added
# to the residual stream, and the sum is normalised and cast to bf16 for the next product. How many bytes are moved for each value, without
# and with fusion?

# %% tags=["nbval-check-output"]
eager = {"sum": 4 + 2 + 4, "LayerNorm": 4 + 4, "cast": 4 + 2}  # read stream and branch, write stream; read, write; read, write
fused = {"read stream and branch, write stream and input of the product": 4 + 2 + 4 + 2}
print(f"eager {sum(eager.values())} bytes, fused {sum(fused.values())} bytes for each value")

# %% [markdown]
# Fusion halves the bytes and turns three kernels into one. The option `--compile` of `minimae pretrain` compiles the blocks one by one. We
# measured the effect for one small model only, `photos-tiny` at batch 1,024. On one H200, compiled blocks and a CUDA graph (next section)
# together raised the speed of this model from 17,256 to 28,577 images/s ([benchmarks](../docs/benchmarks.md#on-a-gpu)).
#
# ### CUDA graphs: fewer launches
#
# The host (the CPU) launches every kernel, and each launch takes a few microseconds. If the kernels take longer than their launches, the
# host stays ahead of the GPU, and launching costs no extra time. If the kernels take less time than their launches, the GPU waits. A **CUDA
# graph** records all kernels of a step once, and replays them with one launch.

# %%
tiny_size = recipe("photos-tiny").size_at(64, 3)
cases = {"ViT-L/16": (steps["large"], 1e6 * 256 / 2_250), "photos-tiny": (roofline.step_of(tiny_size, 1_024), 1e6 * 1_024 / 17_256)}
for name, (counted_step, microseconds) in cases.items():
    count = counted_step.operations.total()
    print(f"{name:12}{count:6,} kernels, {microseconds:9,.0f} µs a step (measured): {microseconds / count:5.0f} µs for each kernel")

# %% [markdown]
# Both average times for a kernel are well above a few microseconds, so we expect little from a graph alone. Indeed, with a graph alone,
# `photos-tiny` trained only 2 % faster (17,528 images/s, measured). A graph helps when kernels are short: in the tests on the GPU, a very
# small model with small batches ran 2.7 times as fast with a graph as without (measured, in float32). All shapes in a graph are fixed, and
# between its kernels the host must not read any values from the GPU. The package records this code:

# %%
book.excerpt(step.GraphStep.compute, "with backends", "return")

# %% [markdown]
# The loss is returned as a tensor on the GPU. If you call `loss.item()` in each step, the host waits until the GPU has finished the step,
# and then the GPU waits for the host. The package's `fit` reads the loss only when it logs.
#
# ### The loader: enough images
#
# A GPU that trains at 2,250 images/s needs 2,250 decoded JPEGs each second. How many processor cores does it take to prepare them? Measure
# the speed of one of your cores. The pictures of this test are JPEGs of sizes that are common in ImageNet, cut from photographs. The
# function `pack` (`minimae data pack` on the command line) puts the same pictures into **shards**, files that contain many small JPEGs,
# each 256 pixels on its shorter side. In a run, the pictures are prepared by *workers*: processes that read, decode, crop and resize them.

# %%
folder = make_folder(work / "pictures", classes=4, train=16, val=1)
pack(folder, "train", work / "packed", workers=1, quiet=True)
streams = {"full-size JPEG": open_folder(folder, "train"), "packed at 256 pixels": open_shards(work / "packed", "train")}
rates = {}
for _ in range(3):
    for name, stream in streams.items():
        reader, started = Reader(stream, (224, 224), Augmentation(), seed=0), time.perf_counter()
        reader[np.arange(64), np.zeros(64, dtype=int)]
        rates[name] = max(rates.get(name, 0.0), 64 / (time.perf_counter() - started))

# %%
for name, rate in rates.items():
    cores = ", ".join(f"{MODELS[model]} {images_per_s / rate:.0f}" for model, images_per_s in measured.items())
    print(f"{name}: {rate:,.0f} images/s of one core here; cores for one H200: {cores}")

# %% [markdown]
# A core of an AMD EPYC prepared 338 images/s from full-size JPEGs and 576 images/s from shards. Without cropping and resizing, which can be
# left to a GPU, the core prepared 527 images/s from full-size JPEGs and 934 from shards (measured,
# [benchmarks](../docs/benchmarks.md#from-file-to-device)).
#
# **4 ★ Does the GPU wait?** A GPU can train at `gpu` images/s, and `cores` cores prepare `core` images/s each. What share of the time does
# the GPU wait for images?


# %% nbgrader={"grade": false, "grade_id": "ch13-ex4", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def waiting_share(gpu, core, cores):
    """The share of the time, from 0 to 1, in which the GPU has no images."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch13_waiting_share(waiting_share)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*


# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_waiting_share(gpu, core, cores):
    """The share of the time, from 0 to 1, in which the GPU has no images."""
    return max(0.0, 1 - cores * core / gpu)


check.ch13_waiting_share(solution_waiting_share)

# %% [markdown]
# Every run logs this share as `waiting` in `metrics.jsonl`. `Prefetch` in `minimae/train/step.py` starts to copy the next batch to the GPU
# during the backward pass.
#
# ## Memory: DDP or FSDP2
#
# Training keeps four numbers in float32 for each parameter: the weight, its gradient, and AdamW's two moments. With DDP each GPU has all of
# these numbers. With **FSDP2** (fully sharded data parallel) each of N GPUs holds 1/N of the numbers. A GPU collects all weights of a block
# from the other GPUs when it computes the block, and discards the collected weights afterwards.
#
# **5 ★ Bytes on a GPU.** Return the number of bytes (it need not be whole) that the weights, gradients and moments of all parameters take
# on one of `processes` GPUs. `shard` is True for FSDP2 and False for DDP.


# %% nbgrader={"grade": false, "grade_id": "ch13-ex5", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def state_bytes(parameters, processes, shard):
    """Bytes of weights, gradients and moments on one GPU. shard: FSDP2 instead of DDP."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch13_state_bytes(state_bytes)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*


# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_state_bytes(parameters, processes, shard):
    """Bytes of weights, gradients and moments on one GPU. shard: FSDP2 instead of DDP."""
    return 16 * parameters / (processes if shard else 1)


check.ch13_state_bytes(solution_state_bytes)

# %% [markdown]
# Besides these numbers, the memory holds mostly **activations**: all results of the forward pass that the backward pass needs. The step
# with fake tensors above has counted their bytes too.

# %%
memory = {}
for name, vit in MODELS.items():
    for label, share in (("DDP", 1), ("FSDP2 on 8", 8)):
        one_of = 4 * steps[name].parameters / share / 1e9
        memory[f"{vit}, {label}"] = {"weights and gradients": 2 * one_of, "AdamW": 2 * one_of, "activations": steps[name].activations / 1e9}

# %% mystnb={"image": {"alt": "Six horizontal bars of gigabytes on one GPU, in parts: weights and gradients, AdamW, activations. ViT-B with DDP 25.8 and with FSDP2 24.3; ViT-L 24.9 and 20.3; ViT-H 29.1 and 19.9. Activations are by far the largest part of every bar."}}
plots.cost_bars(memory, unit="GB on one GPU, at the batches of the recipes")

# %% [markdown]
# *Figure 13.5: memory of one GPU (computed; batch 512, 256 and 128; FSDP2 on eight GPUs). The weights that FSDP2 collects for a block, and
# buffers of the libraries, are left out.*
#
# How good is this count? Memory use is highest at the end of the forward pass, when all activations exist but no gradients yet. So without
# accumulation, the peak memory should be the activations plus 12 bytes for each parameter (weight and moments). The bars in Figure 13.5
# include the gradients, so they are longer. Compare the sum without gradients with the peak memory that was measured on the H200:

# %% tags=["nbval-check-output"]
for name, peak in (("large", 24.28), ("huge", 26.94)):
    expected = (steps[name].activations + 12 * steps[name].parameters) / 1e9
    print(f"{MODELS[name]}: computed {expected:.1f} GB, measured {peak:.1f} GB")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
if results.is_file():
    assert [row["rows"][0]["gigabytes"] for row in rows_of_file] == [24.28, 26.94]
    assert [row["rows"][0]["images_per_s"] for row in rows_of_file] == list(measured.values())

# %% [markdown]
# So with the batch of its recipe, even ViT-H fits on a GPU with 40 GB without sharding. If memory is short, first reduce the batch, because
# activations take most of the memory. Sharding is needed when the weights, gradients and moments (the *states*) do not fit by themselves.
# With 16 bytes for each parameter, 80 GB hold the states of 5 billion parameters. Sharding is not free: DDP exchanges all gradients once
# per optimizer step, and FSDP2 also collects all weights in every forward and every backward pass.

# %% tags=["nbval-check-output"]
count, rate = steps["huge"].parameters, 8 * 1_050
exchange = 2 * 7 / 8 * 4 * count / 450e9  # a ring of 8: each GPU sends and receives 7/8 of all gradients, twice; 450 GB/s each way (data sheet)
print(f"ViT-H on 8 GPUs: a step of 4,096 images takes {1e3 * 4096 / rate:.0f} ms, the exchange of gradients at least {1e3 * exchange:.0f} ms")

# %% [markdown]
# The printed step time assumes that eight GPUs are eight times as fast as one. DDP exchanges gradients while the backward pass is still
# running, so most of the exchange time should be hidden. With accumulation, gradients are exchanged in the last pass only
# (`sync_gradients`).
#
# ## Kill it, resume it
#
# In chapter 07, Ctrl-C stopped a run, and the run saved its state before it ended. A machine that fails leaves no time for saving. To
# simulate such a failure, start the script from above in one process, wait until the run is in step 8, and **kill** the process.

# %%
victim = subprocess.Popen([sys.executable, work / "train.py", work / "killed", "--hang"], stdout=subprocess.PIPE, text=True)
print("the run says:", victim.stdout.readline().strip())
victim.kill()
print("killed, exit code", victim.wait())
left = torch.load(work / "killed" / "checkpoint.pt", weights_only=True)
print("on the disk: a checkpoint of step", left["step"])

# %% [markdown]
# Now resume the run, and compare its final weights with those of the uninterrupted run in one process.

# %%
resumed, result = pretrain(run, few, work / "killed", resume=True, quiet=True)
equal = [torch.equal(a, b) for a, b in zip(one.state_dict().values(), resumed.state_dict().values(), strict=True)]

# %% tags=["nbval-check-output"]
print(f"after {result.steps} steps, {sum(equal)} of {len(equal)} tensors are equal to the last bit")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert all(equal) and left["step"] < 8

# %% [markdown]
# (On a CPU, the bits are the same if the number of threads is the same. On GPUs, some kernels add numbers in a different order each time,
# so even two uninterrupted runs may differ a little.)
#
# A killed run loses all steps since its last checkpoint. The recipes for pre-training on ImageNet save every ten minutes, so a failure
# loses about five minutes of training on average. A checkpoint holds 12 bytes for each parameter (weights and moments): 4 GB for ViT-L,
# 8 GB for ViT-H. If saving takes $w$ seconds and a failure comes every $M$ seconds on average, saving every $s$ seconds costs a share of
# $w/s + s/(2M)$ of the time. This cost is smallest at $s = \sqrt{2wM}$:

# %% tags=["nbval-check-output"]
for seconds in (2, 10, 60):
    print(f"saving takes {seconds:2} s, one failure a day: save every {(2 * seconds * 86_400) ** 0.5 / 60:.0f} minutes")

# %% [markdown]
# ## The real commands
#
# ```sh
# minimae data pack imagenet imagenet-256                                                    # once: shards of 256 pixels
# torchrun --standalone --nproc-per-node=8 -m minimae pretrain imagenet-large --data imagenet-256 --dry-run
# torchrun --standalone --nproc-per-node=8 -m minimae pretrain imagenet-large --data imagenet-256 --out runs/large --auto-resume
# torchrun --standalone --nproc-per-node=8 -m minimae finetune imagenet-large-finetune --weights runs/large --data imagenet-256 --out runs/tuned
# ```
#
# The dry run takes a few steps of pre-training, of the probe and of fine-tuning with the full-size model, and prints the rate, the
# estimated hours, the memory and the waiting share for *your* machine. Do the dry run before the real run. The page
# [Launching](../docs/launching.md) has the commands for several machines and a script for SLURM, a scheduler for clusters.
#
# This table shows what has been run, and where ([full list](../docs/runs.md)). Processes exchange data through the library gloo on CPUs,
# and through NCCL on GPUs.
#
# | | where |
# |---|---|
# | two processes compared with one; DDP compared with FSDP2; killed and restarted runs | CPUs, gloo (all in the tests; the first and the third also in this chapter) |
# | a dry run of the ImageNet recipes | CPUs |
# | the loop, CUDA graphs, precision, checkpoints; speed of ViT-L and ViT-H | one H200 |
# | several GPUs (NCCL), SLURM, training on a GPU with images read from files | **not run yet** |
# | ImageNet: pre-training, fine-tuning, probe | **not run yet** |
#
# ## Where this lives
#
# The recipes are in `minimae/recipes/imagenet.py`, and the counts of operations are in `minimae/model/sizes.py`. The package's version of
# your `split_step` is `for_processes` in `minimae/recipes/entries.py`. In the folder `minimae/train`, DDP and FSDP2 are in
# `distributed.py`, autocast is in `precision.py`, the recording of CUDA graphs is in `cuda_graph.py`, and the training step is in
# `step.py`. The code that counts with fake tensors belongs to the book, not to the package: `minimae_book/bench/roofline.py`.
#
# One line of `fit` calls `wrap_distributed`, which applies DDP or FSDP2:

# %%
book.excerpt(distributed.wrap_distributed, "if world()", "return DistributedDataParallel")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
shared = [for_processes(large, n) for n in (1, 2, 8, 64)]
assert [(each.batch, each.accumulate) for each in shared] == [(256, 16), (256, 8), (256, 2), (64, 1)]

# %% [markdown]
# ## Break-it lab: a loop for two GPUs
#
# A colleague has written a loop with `DistributedSampler`, PyTorch's own class for sharing images among processes. The sampler shuffles the
# images, and gives each process its part. Training runs without an error, and the loss falls. Here are the batches of process 0 for 24
# images, first in the colleague's loop, then in the package:

# %%
sampler = DistributedSampler(range(24), num_replicas=2, rank=0, shuffle=True, seed=0)
theirs = [list(sampler) for epoch in range(4)]  # the loop: for epoch in range(epochs): for image in sampler: …


def part_of_process_0(epoch):
    """Three steps of eight images; process 0 takes the first four of each."""
    return [int(i) for s in range(3) for i in batch_at(8 * (3 * epoch + s), 8, images=24, seed=0)[0][:4]]


ours = [part_of_process_0(epoch) for epoch in range(4)]

# %% mystnb={"image": {"alt": "Two tables of image numbers, four epochs in rows and three steps of four images in columns. In the colleague's table all four rows are the same. In ours every row is different."}}
orders({"the colleague's": theirs, "ours": ours}, batch=4)

# %% [markdown]
# *Figure 13.6: the images that process 0 sees in four epochs (24 images, two processes, batches of four, seed 0). Each number is an image.*
#
# What is wrong, and how does the fault affect the training? Why is there no error?
#
# <details><summary>Diagnosis</summary>
#
# All epochs have the same order. The sampler computes its order from the seed and an epoch number, and the loop must set that number with
# `sampler.set_epoch(epoch)`. The colleague forgot this call. So process 0 never gets the images of process 1, and the n-th batch has the
# same images in every epoch. There is no error, because the sampler uses epoch 0 if no number is set. The loss falls nevertheless, because
# each image is used once in every epoch. To find this bug, print the first indices of two epochs.
# </details>

# %% tags=["nbval-check-output"]
print(f"images that process 0 has seen after four epochs: theirs {len({i for row in theirs for i in row})}, ours {len({i for row in ours for i in row})} of 24")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
sampler.set_epoch(1)
assert list(sampler) != theirs[0] == theirs[3]

# %% [markdown]
# Other faults of this kind raise no error either:
#
# | the fault | what you see |
# |---|---|
# | the learning rate is scaled by the batch of one process | learning is slower with more GPUs |
# | all processes draw masks from random generators with the same seed | all GPUs hide the same patches of their n-th image |
# | `loss.item()` in every step | the GPU is busy only part of the time, although it does not wait for images |
# | gradients are exchanged in every accumulated pass | the result is right, but the run is slow on several machines |
# | each process evaluates all images | the evaluation takes as long on eight GPUs as on one |
#
# ## Summary
#
# An optimizer step has processes × batch × accumulation images. If you keep this product constant, the result stays the same up to
# rounding. A step costs almost as much as three forward passes. The operations of a step, divided by the peak of the GPU, give a lower
# bound on the time of the step. The roofline gives a tighter bound, because it includes the memory-bound operations. Our measured runs
# reach 61 % of the rate that the roofline allows. bf16 makes the products fast, compilation saves bytes, and CUDA graphs save launches.
# Activations take most of the memory, and sharding helps only with the states. A killed run can be resumed from its last checkpoint; on a
# CPU, the results are bit-identical.
#
# ## Five questions
#
# 1. You go from 8 to 16 GPUs. What do you change in the recipe?
# <details><summary>Answer</summary>Nothing. When the run starts, the package halves the accumulation or, if that is 1 already, the batch of each process. The product, 4,096, stays the same, and so do the learning rate and the schedule.</details>
#
# 2. An operation has 50 FLOP for each byte. How fast can it run on the H200 of this chapter?
# <details><summary>Answer</summary>It can reach at most 50 FLOP/byte × 4.19 TB/s ≈ 210 TFLOP/s. The operation is memory-bound, because its intensity is below 190.</details>
#
# 3. A run on a new GPU with twice the peak and the same bandwidth is only 1.3 times as fast as on the old GPU. Why?
# <details><summary>Answer</summary>Only operations that are not memory-bound, such as large matrix products, become faster. Memory-bound operations take as long as before. Compilation can help, because it saves bytes.</details>
#
# 4. ViT-L does not fit into the memory of your GPUs. Does FSDP2 help?
# <details><summary>Answer</summary>It helps little, because most of the memory holds activations, which FSDP2 does not shard. Halve the batch and double the accumulation.</details>
#
# 5. Your GPU waits for images 30 % of the time. What do you try first?
# <details><summary>Answer</summary>Pack the images at 256 pixels, and start more workers if there are cores left. A faster GPU would wait for a larger share of the time.</details>
#
# Next: [14 · From here to Segment Anything](14_segment_anything_and_after.ipynb), where a click on an object gives the mask of the object.
