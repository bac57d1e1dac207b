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
# # 09 · Probing
#
# **The promise.** You measure how much of the classes can be read off frozen features with one straight cut, and learn what such a
# number says, and what it does not.
#
# Minutes: 45. Needs: chapters 03, 07 and 08.
#
# When you are through, you can
#
# - put features of any scale on one scale, and say why the probe needs it;
# - fit a linear layer to its optimum, and choose its penalty without looking at the test images;
# - compare an encoder with raw pixels, with random weights, and with itself after more epochs;
# - write LARS, the optimizer of the paper's probe, and say what it is indifferent to.

# %% tags=["install", "remove-cell"]
import os
from importlib.util import find_spec

from IPython import get_ipython

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: with models this small, a second thread mostly waits
if find_spec("minimae") is None:  # on Colab and Binder
    get_ipython().run_line_magic("pip", "install -q 'minimae[book] @ git+https://github.com/minimae/minimae'")

# %% tags=["setup"]
from collections.abc import Callable, Iterable
from typing import Any

import minimae_book as book
import torch
import torch.nn.functional as F
from minimae_book import check
from minimae_book import figures as plots
from minimae_book.evidence import picture, recorded
from torch import Tensor

from minimae import MAE, data, weights
from minimae.random import permutation
from minimae.recipes import recipe
from minimae.tasks import probe
from minimae.tasks.features import extract, pixel_features
from minimae.tasks.knn import accuracy, knn_predict
from minimae.tasks.pretrain import build
from minimae.train import lars

# %% [markdown]
# The decoder has been thrown away. What is left is an encoder that turns an image into vectors, and a question: *does it know
# anything about classes?* Nobody ever told it one. The **linear probe** asks as simply as one can: freeze the encoder, put one
# linear layer on top, train only that layer with labels. All that the layer can do is draw flat cuts through the space of features.
# If the classes can be cut apart that way, it is because the encoder has already put them in different places.
#
# Three describe the same 1,500 known and 750 asked photographs: the encoder of `fashion-nano`, its twin with the weights of before
# the first step, and the raw pixels.

# %%
trained = weights.load("fashion-nano")
torch.manual_seed(trained.recipe.seed)
twin = MAE(trained.model.size).eval()
known, asked = data.load("fashion", "train").balanced_subset(1500), data.load("fashion", "test").balanced_subset(750)
sources = {
    "raw pixels": lambda images: pixel_features(images, trained.statistics),
    "random encoder": lambda images: extract(twin.encoder, images, trained.statistics),
    "MAE": lambda images: extract(trained.model.encoder, images, trained.statistics),
}
vectors = {name: (describe(known), describe(asked)) for name, describe in sources.items()}

# %% tags=["nbval-check-output"]
for name, (train, test) in vectors.items():
    print(f"{name:15} {tuple(train.shape)} {tuple(test.shape)}")

# %% [markdown]
# ## One scale for all
#
# Before anything is fitted, look at the features themselves. How far does each of them spread over the 1,500 photographs?

# %%
spread = {name: train.std(0).sort(descending=True).values for name, (train, _) in vectors.items()}
across = {name: [100 * i / (len(values) - 1) for i in range(len(values))] for name, values in spread.items()}

# %% mystnb={"image": {"alt": "Deviation of every feature over the known photographs, sorted from the largest to the smallest. Raw pixels fall from above 1.1 to 0. The random encoder falls steeply from 0.8 to 0.06. The MAE falls gently from 1.0 to 0.3."}}
plots.curves(
    {
        name: (across[name][:: max(1, len(values) // 24)], values[:: max(1, len(values) // 24)].tolist())
        for name, values in spread.items()
    },
    x="features, the widest first (%)",
    y="deviation",
    floor=0,
)

# %% [markdown]
# *Figure 9.1: the deviation of each feature over 1,500 photographs, sorted.*
#
# In the random encoder one feature varies ten times as much as another; some pixels, those of the corners, never vary at all. A
# linear layer can make up for this with large and small weights. But two things that we are about to use cannot: a *penalty*, which
# makes large weights expensive, and a *learning rate*, which is the same for all. So every feature is first shifted to mean 0 and
# stretched to deviation 1, by what the *known* images say.

# %% tags=["package:minimae.tasks.probe"]
def standardise(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Mean 0 and deviation 1 for each feature, by the training vectors: what a BatchNorm without affine does (Table 10)."""
    mean, deviation = train.mean(0), (train.var(0, unbiased=False) + 1e-6).sqrt()
    return (train - mean) / deviation, (test - mean) / deviation

# %% [markdown]
# In the paper the same is done by a BatchNorm layer without affine parameters in front of the linear layer (Appendix A.1). A
# feature that never varies stays 0: the small number under the root sees to that.

# %% tags=["nbval-check-output"]
train, test = standardise(*vectors["raw pixels"])
print("deviations", [round(float(v), 2) for v in train.std(0).quantile(torch.tensor([0.0, 0.5, 1.0]))])
print("finite:", bool(train.isfinite().all() and test.isfinite().all()))
assert train.mean(0).abs().max() < 0.02 < 0.1 < test.mean(0).abs().max()

# %% [markdown]
# The last line is a trap that many fall into: the *test* features do not have mean 0, and must not. They are moved by what the
# training features say. Whoever standardises them by themselves has looked at all the test images before judging one.
#
# ## The best straight cut
#
# A linear layer has weights `classes d` and a bias. What it should minimise is the cross-entropy of the labels plus a penalty on
# the squared length of the weights. That sum is *convex*: one valley, no other minima. So there is nothing to tune about the
# descent; a solver of the classic kind (L-BFGS) walks to the bottom, and from wherever one starts it is the same bottom.

# %% tags=["package:minimae.tasks.probe"]
def fit_linear(features: Tensor, labels: Tensor, classes: int, penalty: float, *, iterations: int = 60) -> tuple[Tensor, Tensor]:
    """Weights ``classes d`` and bias ``classes`` that minimise cross-entropy + penalty · ‖W‖²: convex, solved by L-BFGS."""
    weight = torch.zeros(classes, features.shape[1], device=features.device, requires_grad=True)
    bias = torch.zeros(classes, device=features.device, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=iterations, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(F.linear(features, weight, bias), labels) + penalty * weight.square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    return weight.detach(), bias.detach()

# %% [markdown]
# How strong a penalty? Weak, and the layer learns the known images by heart; strong, and it learns nothing. The answer differs
# between 784 pixels and 96 features, so it must be found for each by itself, and without the test images: a fifth of the *known*
# images is held out, each penalty is tried on the rest, and the best is then used for a fit to all.

# %% tags=["package:minimae.tasks.probe"]
PENALTIES = (1e-3, 1e-2, 1e-1)


def probe_predict(
    train: Tensor, labels: Tensor, test: Tensor, *, penalties: tuple[float, ...] = PENALTIES, seed: int = 0
) -> tuple[Tensor, float]:
    """Predictions for the test vectors, and the penalty that did best on a fifth of the training vectors held out.

    Features ``N d`` and ``M d``, labels int64 ``N`` → int64 ``M``. The final fit uses all N.
    """
    classes, device, where = int(labels.max()) + 1, train.device, test.device
    labels = labels.to(device)
    train, test = standardise(train, test.to(device))
    order = permutation(seed, "split", 1, len(train))
    held, rest = order[: len(order) // 5], order[len(order) // 5 :]
    best, chosen = -1.0, penalties[0]
    for penalty in penalties if len(penalties) > 1 else ():
        weight, bias = fit_linear(train[rest], labels[rest], classes, penalty, iterations=40)
        score = accuracy(F.linear(train[held], weight, bias).argmax(1), labels[held])
        if score > best:
            best, chosen = score, penalty
    weight, bias = fit_linear(train, labels, classes, chosen)
    return F.linear(test, weight, bias).argmax(1).to(where), chosen

# %% [markdown]
# ### Where this lives

# %%
labels = known.labels
assert torch.equal(standardise(*vectors["MAE"])[1], probe.standardise(*vectors["MAE"])[1])
ours, penalty = probe_predict(vectors["MAE"][0], labels, vectors["MAE"][1])
theirs, same = probe.probe_predict(vectors["MAE"][0], labels, vectors["MAE"][1])
assert torch.equal(ours, theirs) and penalty == same

# %% [markdown]
# ## The numbers
#
# In chapter 8 nearest neighbours were right 79 times in a hundred, with features of the MAE and with raw pixels alike. Now a
# straight cut instead of neighbours. What does the MAE reach?

# %%
book.predict("probe-mae", 79, ask="Neighbours: 79 % right. How many % are right with a linear probe on the MAE?")

# %%
score = {
    "20 neighbours": {
        name: accuracy(knn_predict(train, labels, test), asked.labels) for name, (train, test) in vectors.items()
    },
    "linear probe": {
        name: accuracy(probe_predict(train, labels, test)[0], asked.labels) for name, (train, test) in vectors.items()
    },
}
assert abs(score["linear probe"]["MAE"] - 83) < 1.5 and abs(score["linear probe"]["raw pixels"] - 80) < 1.5

# %% mystnb={"image": {"alt": "Two marks on one scale: the reader's guess of 79 percent, and the measured 83 percent."}}
book.reveal("probe-mae", round(score["linear probe"]["MAE"], 1), unit="%")

# %% [markdown]
# *Figure 9.2: your guess and the measured accuracy (1,500 known, 750 asked).*

# %% mystnb={"image": {"alt": "Two panels. With 20 neighbours raw pixels and MAE reach 78 and 79 percent, the random encoder 57. With a linear probe raw pixels reach 80, the random encoder 70 and the MAE 83 percent."}}
plots.comparison(score, tuple(sources))

# %% [markdown]
# *Figure 9.3: two ways to ask the same features (1,500 known, 750 asked, seed 0 for the held-out fifth).*
#
# Three things to see.
#
# - The **random encoder** gains 13 points. Neighbours treat all its directions alike; a linear layer can pick the few that say
#   something. *A probe is not a pure measure of what was learned*: it learns, too.
# - **Raw pixels** gain little: a straight cut through pixels is a template for each class, and on centred clothes templates are
#   good.
# - The **MAE** is now ahead, by three points. Its 96 values hold more that a cut can use than 784 pixels do.
#
# ## Which vector?
#
# An encoder offers more than one. Every block puts out tokens; their mean could be probed after any of them. Do classes become
# easier to cut from block to block? In which of the six blocks does the trained encoder come out best?

# %%
book.predict("best-block", 4, ask="After which of the blocks 1 to 6 is the probe of the trained encoder best?")

# %%
width, depth = trained.model.size.width, trained.model.size.depth
layers = {
    name: [
        extract(network.encoder, images, trained.statistics, pool="blocks").split(width, dim=1) for images in (known, asked)
    ]
    for name, network in (("MAE", trained.model), ("random encoder", twin))
}
by_block = {
    name: [accuracy(probe_predict(train, labels, test)[0], asked.labels) for train, test in zip(*parts)]
    for name, parts in layers.items()
}
best = 1 + max(range(depth), key=by_block["MAE"].__getitem__)
assert best >= 5 and by_block["MAE"][0] + 4 < by_block["MAE"][-1] and by_block["random encoder"][-1] < 73

# %% mystnb={"image": {"alt": "The reader's guess, block 4, and the measured best block, block 6, on one line."}}
book.reveal("best-block", best, unit="block")

# %% [markdown]
# *Figure 9.4: your guess, and the block after which the probe is best.*

# %% mystnb={"image": {"alt": "Probe accuracy after each of six blocks. The MAE rises from 75 percent after the first block to 83 after the last. The random encoder stays near 70 and ends at 68."}}
plots.curves({name: (range(1, depth + 1), values) for name, values in by_block.items()}, x="after block", y="linear probe (%)")

# %% [markdown]
# *Figure 9.5: the probe on the mean patch token after each block (1,500 known, 750 asked).*
#
# In the trained encoder each block makes the classes easier to cut. Untrained blocks only stir: nothing is gained, and in the end a
# little is lost. (With a *heavier* decoder the last blocks of an encoder can get worse again: they begin to serve the painting.
# That is why a deep decoder helps the probe, chapter 11.)
#
# ## More epochs
#
# The paper trains for 1,600 epochs and sees no end. Ours is a smaller affair: networks of 0.5 million parameters, pre-trained on
# the 10,000 embedded photographs for 5 to 80 epochs, and probed with all 10,000 labels on 2,000 test photographs. Fifteen runs,
# three for each length; that takes half an hour of one processor core, so they were made in advance. They come with the package,
# and `minimae reproduce longer` makes them again.
#
# Two levels we can measure here and now with the same labels: raw pixels, and the same network before its first step.

# %%
longer = recorded("longer")
everything, tests = data.load("fashion", "train"), data.load("fashion", "test")
torch.manual_seed(0)
start = build(recipe("fashion-demo"), everything).eval()
levels = {}
for name, describe in (
    ("raw pixels", lambda images: pixel_features(images, everything.statistics)),
    ("before the first step", lambda images: extract(start.encoder, images, everything.statistics)),
):
    levels[name] = accuracy(probe_predict(describe(everything), everything.labels, describe(tests))[0], tests.labels)

# %% tags=["nbval-check-output"]
probed = longer.line("linear probe (%)")
epochs, means = [int(mark.x) for mark in probed], [mark.mean for mark in probed]
print("epochs", epochs, "seeds", longer.seeds, "budget", longer.budget)

# %%
book.predict(
    "probe-by-epochs",
    [60, 70, 80, 88, 92],
    ask="Sketch the probe (in %) after 5, 10, 20, 40 and 80 epochs. Raw pixels: 83.",
)

# %%
assert abs(levels["raw pixels"] - 83) < 1 and means == sorted(means) and means[2] < levels["raw pixels"] < means[3]

# %% mystnb={"image": {"alt": "The reader's sketch from 60 to 92 percent and the measured curve, which rises from 75 percent at 5 epochs to 84.6 at 80."}}
book.reveal("probe-by-epochs", means, x=epochs, unit="linear probe (%)", xlabel="epochs of pre-training")

# %% [markdown]
# *Figure 9.6: your sketch and the means of three seeds (`minimae reproduce longer --budget laptop`).*

# %% mystnb={"image": {"alt": "Measured probe accuracy against epochs of pre-training, with two dashed lines across: raw pixels at 83 percent and the network before its first step at 74, just below the first point. The curve crosses raw pixels between 20 and 40 epochs."}}
plots.curves({"MAE": (epochs, means)}, x="epochs of pre-training", y="linear probe (%)", levels=levels)

# %% [markdown]
# *Figure 9.7: the same curve, and what needs no pre-training (10,000 labels, 2,000 test photographs).*
#
# Two crossings. After five epochs the encoder is hardly better than before its first step. And it passes raw pixels between 20 and
# 40 epochs. An experiment that stops at ten would conclude that masked autoencoders are worse than no network at all. It would be
# right about its ten epochs and wrong about the method. And the curve still rises at its end.

# %% mystnb={"image": {"alt": "Six panels: measured here, the differences with their intervals, the paper. Measured here, fine-tuning rises from 77 to 84 percent and the probe from 75 to 85 percent, with small bars. In the paper, fine-tuning rises from 82.3 to 85.1 and the probe from 57.3 to 75.1 percent."}}
picture(longer)

# %% [markdown]
# *Figure 9.8: longer pre-training, ours beside the paper's (its Figure 7: ViT-L on ImageNet). Bars on the left: one standard
# deviation over three seeds; in the middle: 95 % intervals of the differences (chapter 11). Scales differ.*
#
# In both the probe rises more steeply than fine-tuning. That is a first hint at something that the next chapter looks into: probe
# and fine-tuning ask different questions.
#
# ## LARS
#
# Our solver wants all features at once, in memory, and the same in every pass. On ImageNet, with random crops, no image looks the
# same twice, and the probe must be trained like a network. The paper does so with batches of 16,384, a base learning rate of 0.1
# (that is lr 6.4), no weight decay, and an optimizer called **LARS**.
#
# Its idea fits in a line. A matrix `w` has a gradient `g`. Scale the gradient so that its length is a thousandth of the length of
# `w`. Then the learning rate says how far the matrix moves *relative to itself*.

# %% tags=["package:minimae.train.lars"]
def scaled_by_trust_ratio(weight: Tensor, gradient: Tensor, *, weight_decay: float, trust: float) -> Tensor:
    """The gradient with decay, scaled to ``trust`` times the length of the weights; 1-D parameters keep theirs."""
    if weight.dim() <= 1:
        return gradient
    update = gradient + weight_decay * weight
    weight_norm, update_norm = torch.linalg.vector_norm(weight), torch.linalg.vector_norm(update)
    tiny = torch.finfo(update_norm.dtype).tiny
    return update * torch.where((weight_norm > 0) & (update_norm > 0), trust * weight_norm / update_norm.clamp(min=tiny), 1.0)

# %% [markdown]
# The step adds momentum, and nothing else.

# %% tags=["package:minimae.train.lars"]
class LARS(torch.optim.Optimizer):
    """Momentum on gradients scaled by ``trust · ‖w‖ / ‖g + decay · w‖``: in each step

        u = (g + decay · w) · trust · ‖w‖ / ‖g + decay · w‖,    v ← momentum · v + u,    w ← w − lr · v.

    Parameters with one dimension or none (biases, norms) are neither scaled nor decayed, and a matrix whose weights or gradient are
    all zero is not scaled. Norms stay on the device: no step makes the host wait. lr is the learning rate after scaling by the
    batch. Raises ValueError for settings out of range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
    ) -> None:
        if lr < 0 or weight_decay < 0 or trust <= 0 or not 0 <= momentum < 1:
            raise ValueError(
                f"LARS needs lr and weight decay of at least 0, a trust above 0 and a momentum in [0, 1), "
                f"not lr {lr}, weight decay {weight_decay}, trust {trust}, momentum {momentum}"
            )
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient. The gradients stay as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                update = scaled_by_trust_ratio(parameter, parameter.grad, weight_decay=group["weight_decay"], trust=group["trust"])
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(parameter)
                velocity = state["velocity"].mul_(group["momentum"]).add_(update)
                parameter.sub_(velocity * group["lr"])
        return loss

# %% [markdown]
# What is it indifferent to? Multiply the loss by a thousand, or by a thousandth, and look how far one step moves a matrix, relative
# to its length.

# %% tags=["nbval-check-output"]
def moved(make, factor):
    """How far one step moves a matrix, as a share of its own length, when the loss is multiplied by a factor."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(10, 96, generator=generator).requires_grad_()
    before, optimizer = weight.detach().clone(), make([weight])
    (factor * (weight @ torch.randn(96, generator=generator)).square().mean()).backward()
    optimizer.step()
    return float((weight.detach() - before).norm() / before.norm())


for factor in (0.001, 1, 1000):
    with_sgd, with_lars = (moved(make, factor) for make in (lambda p: torch.optim.SGD(p, lr=0.1), lambda p: LARS(p, lr=6.4)))
    print(f"loss × {factor:<6} SGD {with_sgd:.0e}   LARS {with_lars:.4f}")

# %% [markdown]
# SGD moves a million times as far in one row as in another. LARS moves by the same 0.64 % always: 6.4 times a thousandth. That is
# what makes one learning rate right for batches and networks of any size.
#
# Where does that leave the *start*? A matrix of zeros has no length, so its first step cannot be scaled, and would be as wild as
# SGD's. The layer therefore begins with small random weights of deviation 0.01. Does it then find what the solver finds?
# Standardised features, all 1,500 in each step, 200 steps.

# %%
def lars_probe(train, labels, test, epochs=200, lr=6.4):
    """A linear layer trained step by step with LARS on standardised features, its lr sinking in a cosine."""
    train, test = standardise(train, test)
    weight = 0.01 * torch.randn(10, train.shape[1], generator=torch.Generator().manual_seed(0))
    weight, bias = weight.requires_grad_(), torch.zeros(10, requires_grad=True)
    optimizer = LARS([weight, bias], lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        optimizer.zero_grad()
        F.cross_entropy(F.linear(train, weight, bias), labels).backward()
        optimizer.step()
        schedule.step()
    return F.linear(test, weight.detach(), bias.detach()).argmax(1)


train, test = vectors["MAE"]
stepwise = accuracy(lars_probe(train, labels, test), asked.labels)
assert torch.equal(
    scaled_by_trust_ratio(train, test[:1] + train, weight_decay=0, trust=1e-3),
    lars.scaled_by_trust_ratio(train, test[:1] + train, weight_decay=0, trust=1e-3),
)
assert abs(stepwise - score["linear probe"]["MAE"]) < 3
print(f"solver {score['linear probe']['MAE']:.1f} %, LARS {stepwise:.1f} %")

# %% [markdown]
# > **Paper.** Appendix A.1 and Table 10: LARS, base lr 0.1, batch 16,384, momentum 0.9, weight decay 0, 90 epochs with 10 of
# > warm-up, random crops, and a BatchNorm without affine before the linear layer. [`train_probe`](../minimae/tasks/probe_train.py)
# > is this protocol, and the recipes `imagenet-base-probe` and so on have its numbers; they have not been run yet. What this
# > chapter uses, and `minimae probe` without a recipe, is **our deviation**: features of whole images, extracted once, and the
# > layer solved to its optimum. It takes seconds, has nothing to tune, and gives other numbers: never put one beside the other.
# > Ours probes the mean patch token; the paper the class token.
#
# ## Break-it lab: the perfect description
#
# Someone has probed the three descriptions with their own code, and reports a sensation: forget encoders, *raw pixels know
# everything*.

# %%
def sensational_probe(train, labels):
    """Accuracy of a linear layer in percent."""
    train, _ = standardise(train, train)
    weight, bias = fit_linear(train, labels, 10, 1e-7)
    return accuracy(F.linear(train, weight, bias).argmax(1), labels)


sensation = {name: sensational_probe(train, labels) for name, (train, _) in vectors.items()}
assert sensation["raw pixels"] > 99.5 and sensation["MAE"] > 90 > sensation["random encoder"]

# %% mystnb={"image": {"alt": "Two panels. Ours: raw pixels 80, random encoder 70, MAE 83 percent. Theirs: raw pixels 100, random encoder 77, MAE 95 percent."}}
plots.comparison({"ours": score["linear probe"], "theirs": sensation}, tuple(sources))

# %% [markdown]
# *Figure 9.9: our probe and theirs, of the same vectors.*
#
# Which property of a description do their numbers follow? What was measured?
#
# <details><summary>Diagnosis</summary>
#
# Raw pixels have 784 values, the two encoders 96 each. With 784 free numbers for each class, a layer can fit these 1,500 labels
# without a fault; it can fit 500 labels that were drawn by lot (see below). And the accuracy was asked of the very images that were
# fitted. So the numbers follow the *number of features*, and how far the layer was let go (the penalty is as good as none). Any
# probe must be scored on images that it has not seen, and the strength of its penalty chosen on others again.
# </details>

# %%
lots = torch.randint(10, (500,), generator=torch.Generator().manual_seed(0))
by_lot = {name: sensational_probe(train[:500], lots) for name, (train, _) in vectors.items()}
assert by_lot["raw pixels"] > 95 and max(by_lot["MAE"], by_lot["random encoder"]) < 85
print("500 labels drawn by lot:", {name: f"{value:.0f} %" for name, value in by_lot.items()})

# %% [markdown]
# ## Exercises
#
# **1 ★ One scale.** Vectors `N d` and `M d`: shift and stretch both so that the *first* set has mean 0 and deviation 1 in every
# feature. A feature that is constant must not become infinite.

# %% nbgrader={"grade": false, "grade_id": "ch09-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def one_scale(train, test):
    """Both sets, standardised by the first: N d, M d → N d, M d."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch09_one_scale(one_scale)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_one_scale(train, test):
    """Both sets, standardised by the first: N d, M d → N d, M d."""
    mean, deviation = train.mean(0), train.std(0).clamp(min=1e-3)
    return tuple((vectors - mean) / deviation for vectors in (train, test))


check.ch09_one_scale(solution_one_scale)

# %% [markdown]
# **2 ★★ One step.** Write one step of LARS for one matrix, without weight decay: from `weight`, `gradient` and the `velocity` so
# far, return the new weight and the new velocity. Nothing that is given may change.

# %% nbgrader={"grade": false, "grade_id": "ch09-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def lars_step(weight, gradient, velocity, lr, momentum=0.9, trust=0.001):
    """One step of LARS: → new weight, new velocity."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch09_lars_step(lars_step)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_lars_step(weight, gradient, velocity, lr, momentum=0.9, trust=0.001):
    """One step of LARS: → new weight, new velocity."""
    update = gradient * trust * weight.norm() / gradient.norm()
    velocity = momentum * velocity + update
    return weight - lr * velocity, velocity


check.ch09_lars_step(solution_lars_step)

# %% [markdown]
# **3 ★★★ The slope of the valley.** The probe's loss is the mean cross-entropy plus `penalty` times the sum of the squared weights.
# Write its gradient with respect to the weights, without autograd: features `N d`, labels `N`, weight `classes d` → `classes d`.
# (There is no bias. The softmax minus the one-hot labels is where to begin.)

# %% nbgrader={"grade": false, "grade_id": "ch09-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def slope(weight, features, labels, penalty):
    """The gradient of cross-entropy + penalty · ‖W‖²: → classes d."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch09_slope(slope)

# %% [markdown]
# *The solution is folded below. Open it when you have tried.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_slope(weight, features, labels, penalty):
    """The gradient of cross-entropy + penalty · ‖W‖²: → classes d."""
    wrong = (features @ weight.T).softmax(1) - F.one_hot(labels, len(weight))
    return wrong.T @ features / len(features) + 2 * penalty * weight


check.ch09_slope(solution_slope)

# %% [markdown]
# ## Summary
#
# A linear probe freezes the encoder and learns one flat cut for each class. Features are put on one scale first, by what the
# training images say; the layer's problem is convex, and its penalty is chosen on held-out training images. With 1,500 labels the
# MAE's features are three points ahead of raw pixels, and random weights 13 behind. Probe accuracy grows from block to block, and
# with every doubling of the epochs; it passes raw pixels between 20 and 40 of them. The paper's probe is trained step by step with
# LARS, which moves a matrix by a share of its own length whatever the scale of the gradient.
#
# ## Five questions
#
# 1. Why must test features not be standardised by their own mean and deviation?
# <details><summary>Answer</summary>Then the prediction for one test image would depend on all the others: information from the test set has gone into the method.</details>
#
# 2. The loss of the probe is convex. What does that save you?
# <details><summary>Answer</summary>Learning rate, schedule and starting point: every way down ends at the same bottom. Only the penalty must be chosen.</details>
#
# 3. A random encoder gains 13 points when a probe replaces neighbours. What does this say about probes?
# <details><summary>Answer</summary>They learn too: a linear layer picks the useful directions. So a probe must be compared with the probe of random weights, never with guessing.</details>
#
# 4. You multiply the loss by 1,000. What do SGD and LARS do?
# <details><summary>Answer</summary>SGD moves 1,000 times as far. LARS moves as before: the length of the gradient is divided out.</details>
#
# 5. After ten epochs the probe is below that of raw pixels. Is the method useless?
# <details><summary>Answer</summary>Not shown: the curve still rises steeply there and passes raw pixels later. Compare at the end of training, and say how long it was.</details>
#
# Next: [10 · Fine-tuning, whole and in part](10_fine_tuning.ipynb) The probe may not touch the encoder. What happens when the
# labels may?
