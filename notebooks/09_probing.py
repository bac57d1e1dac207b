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
# **The promise.** You build the paper's linear probe, use it to measure how well frozen features separate the classes, and learn what the
# accuracy of a probe does and does not show.
#
# Minutes: 25. Needs: chapters 03, 07 and 08.
#
# After this chapter you can
#
# - freeze an encoder properly, and train one linear layer on it;
# - put all features on the same scale, and say why a probe needs this scaling;
# - write the core of LARS, the optimizer of the paper's probe, and say why, without weight decay, the distance by which it moves a weight
#   matrix does not depend on the scale of the loss;
# - find the best weights of a probe with a solver, and choose the penalty on large weights without the test images;
# - compare the features of an encoder with raw pixels, and with those of the encoder at initialisation or after more pre-training.

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
from collections.abc import Callable, Iterable
from typing import Any

import minimae_book as book
import torch
import torch.nn.functional as F
from minimae_book import check
from minimae_book import figures as plots
from minimae_book.evidence import picture, recorded
from torch import Tensor, nn

from minimae import MAE, Encoder, data, weights
from minimae.data.augment import normalise
from minimae.random import permutation
from minimae.recipes import recipe
from minimae.tasks import probe
from minimae.tasks.features import extract, pixel_features
from minimae.tasks.knn import accuracy, knn_predict
from minimae.tasks.pretrain import build
from minimae.tasks.probe_train import FeatureNorm
from minimae.train import lars

# %% [markdown]
# Pre-training used no labels. Has the encoder nevertheless learned something about classes? A **linear probe** is the usual test. Freeze
# the encoder, put one linear layer on its features, and train only that layer, with labels. Then measure its accuracy on test images.
#
# As in chapter 08, we compare raw pixels, the features of the encoder of `fashion-nano`, and those of the same encoder at initialisation,
# the *random encoder*. The images are 1,500 training and 750 test photographs of clothes.

# %%
trained = weights.load("fashion-nano")
torch.manual_seed(trained.recipe.seed)
untrained = MAE(trained.size).eval()
train_images, test_images = data.load("fashion", "train").balanced_subset(1500), data.load("fashion", "test").balanced_subset(750)
labels, test_labels = train_images.labels, test_images.labels
sources = {
    "raw pixels": lambda images: pixel_features(images, trained.statistics),
    "random encoder": lambda images: extract(untrained.encoder, images, trained.statistics),
    "MAE": lambda images: extract(trained.model.encoder, images, trained.statistics),
}
vectors = {name: (describe(train_images), describe(test_images)) for name, describe in sources.items()}

# %% tags=["nbval-check-output"]
for name, (train, test) in vectors.items():
    print(f"{name:15} {tuple(train.shape)} {tuple(test.shape)}")

# %% [markdown]
# ## One scale for all
#
# How large is the standard deviation of each feature over the 1,500 training photographs?

# %%
deviations = {name: train.std(0).sort(descending=True).values for name, (train, _) in vectors.items()}
lines = {}
for name, values in deviations.items():
    chosen = torch.linspace(0, len(values) - 1, 25).long()
    lines[name] = ((100 * chosen / (len(values) - 1)).tolist(), values[chosen].tolist())

# %% mystnb={"image": {"alt": "Standard deviation of every feature over the training photographs, sorted from the largest to the smallest. Raw pixels fall from above 1.1 to 0. The random encoder falls steeply from 0.8 to 0.06. The MAE falls gently from 1.0 to 0.3."}}
plots.curves(lines, x="features, largest first (%)", y="standard deviation", floor=0, note="1,500 images")

# %% [markdown]
# *Figure 9.1: the standard deviation of each feature over 1,500 photographs, sorted.*
#
# In the random encoder, some features vary more than ten times as much as others. A few pixels hardly vary, and the pixel in one corner
# never does. A linear layer can make up for these differences with large and small weights. But the *learning rate* and a *penalty* on
# large weights treat all weights alike. So each feature is first **standardised**: shifted to mean 0 and scaled to standard deviation 1.
#
# **1 ★ One scale.** Standardise two sets of vectors, `N d` and `M d`, both with the mean and standard deviation of each feature in the
# *first* set. A constant feature must not become NaN or infinite.
#
# <details><summary>Hint</summary>
#
# `train.mean(0)` has one mean for each feature. Add a small number to the standard deviation, or use `clamp(min=…)`.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch09-ex1", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def one_scale(train, test):
    """Both sets, standardised by the first: `N d`, `M d` → `N d`, `M d`."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch09_one_scale(one_scale)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_one_scale(train, test):
    mean, std = train.mean(0), train.std(0).clamp(min=1e-3)
    return tuple((vectors - mean) / std for vectors in (train, test))


check.ch09_one_scale(solution_one_scale)

# %% [markdown]
# Standardising the test features with their own mean and standard deviation would make the prediction for one test image depend on all the
# other test images.

# %% tags=["package:minimae.tasks.probe"]
def standardise(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Mean 0 and standard deviation 1 for each feature, from the training vectors, like a BatchNorm without affine (Table 10)."""
    mean, deviation = train.mean(0), (train.var(0, unbiased=False) + 1e-6).sqrt()
    return (train - mean) / deviation, (test - mean) / deviation


# %% jupyter={"source_hidden": true} tags=["hide-input"]
train, test = standardise(*vectors["raw pixels"])
assert train.isfinite().all() and train.mean(0).abs().max() < 0.02 < 0.1 < test.mean(0).abs().max()

# %% [markdown]
# ## The paper's probe
#
# When a probe is trained batch by batch, a BatchNorm layer does the standardising. Its learned scale and shift (the *affine* part) are left
# out, because the linear layer that follows can learn them itself.
#
# Freezing an encoder takes two steps. The encoder's parameters get no gradient (`requires_grad_(False)`), and the encoder stays in **eval
# mode**, even when the probe is in training mode: otherwise drop path or dropout would change the features at random.
#
# **2 ★★ Your linear probe.** Write all three methods.
#
# - `__init__`: Freeze the parameters of `self.encoder`. Make `self.norm`, a BatchNorm without its affine part, with `eps=1e-6`. Make
#   `self.head`, a linear layer whose weights start with mean 0 and standard deviation 0.01, and whose bias starts at 0.
# - `train`: Set the mode as usual, but keep the encoder in eval mode.
# - `forward`: `self.encoder(images)` has the shape `b t d`, with the class token first. Take the class token, or with `pool="mean"` the
#   mean of the patch tokens. Then apply `self.norm` and `self.head`.
#
# <details><summary>Hint 1</summary>
#
# The norm is `nn.BatchNorm1d(d, affine=False, eps=1e-6)`, with `d = encoder.size.width`. To initialise the weights of the head, call
# `nn.init.normal_(self.head.weight, std=0.01)`.
# </details>
#
# <details><summary>Hint 2</summary>
#
# `nn.Module.train(mode)` sets the mode of all submodules and returns the module; `eval()` calls `train(False)`. So call
# `super().train(mode)`, put the encoder back into eval mode with `self.encoder.eval()`, and return `self`.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch09-ex2", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
class MyLinearProbe(nn.Module):
    """A frozen encoder, a BatchNorm without affine, a linear layer: images `b c height width` → logits `b classes`."""

    def __init__(self, encoder, classes, *, pool="class"):
        super().__init__()
        self.encoder, self.pool = copy.deepcopy(encoder), pool
        raise NotImplementedError("your turn")

    def train(self, mode=True):
        raise NotImplementedError("your turn")

    def forward(self, images):
        raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch09_linear_probe(MyLinearProbe)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
class solution_MyLinearProbe(nn.Module):
    def __init__(self, encoder, classes, *, pool="class"):
        super().__init__()
        self.encoder, self.pool = copy.deepcopy(encoder).requires_grad_(False), pool
        self.norm = nn.BatchNorm1d(encoder.size.width, affine=False, eps=1e-6)
        self.head = nn.Linear(encoder.size.width, classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def train(self, mode=True):
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, images):
        with torch.no_grad():
            tokens = self.encoder(images)
        return self.head(self.norm(tokens[:, 0] if self.pool == "class" else tokens[:, 1:].mean(1)))


check.ch09_linear_probe(solution_MyLinearProbe)

# %% [markdown]
# The package's version is folded below. Its `FeatureNorm` is a BatchNorm without an affine part.

# %% jupyter={"source_hidden": true} tags=["package:minimae.tasks.probe_train", "hide-input"]
class LinearProbe(nn.Module):
    """A frozen encoder, a BatchNorm without affine, a linear layer: images ``b c height width`` → logits ``b classes``."""

    def __init__(self, encoder: Encoder, classes: int, *, pool: str = "class") -> None:
        super().__init__()
        if pool not in ("class", "mean"):
            raise ValueError(f"the probe reads the 'class' token or the 'mean' of the patch tokens, not {pool!r}")
        self.encoder = copy.deepcopy(encoder)
        self.encoder.mask_token = None
        self.encoder.requires_grad_(False)
        self.pool = pool
        d = encoder.size.width
        self.norm = FeatureNorm(d)
        self.head = nn.Linear(d, classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def train(self, mode: bool = True) -> Any:
        """As usual, but the encoder stays in eval mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            tokens = self.encoder(images)
        c = self.encoder.size.class_tokens
        logits: Tensor = self.head(self.norm((tokens[:, :c] if self.pool == "class" else tokens[:, c:]).mean(1)))
        return logits


# %% tags=["nbval-check-output"]
LinearProbe = book.use(check.ch09_linear_probe, MyLinearProbe, LinearProbe)

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
linear = LinearProbe(trained.model.encoder, 10, pool="mean").train()
learned = sum(p.numel() for p in linear.parameters() if p.requires_grad)
print("learned:", learned, "of", sum(p.numel() for p in linear.parameters()), "· encoder in training mode:", linear.encoder.training)

# %% [markdown]
# ## LARS
#
# The paper trains the linear layer of the probe with an optimizer called **LARS**, without weight decay. The batches have 16,384 images and
# the base learning rate is 0.1, so lr = 0.1 · 16,384 / 256 = 6.4. LARS scales the gradient of each weight matrix so that the norm of the
# gradient becomes a fixed fraction of the norm of the matrix. This fraction, by default a thousandth, is called *trust*. The factor that
# multiplies the gradient is the **trust ratio**.
#
# $$\text{update} = (g + \lambda w) \cdot \text{trust} \cdot \frac{\lVert w \rVert}{\lVert g + \lambda w \rVert}$$
#
# Here $w$ is the matrix, $g$ its gradient, and $\lambda$ the weight decay. There are two exceptions. Parameters with one dimension (biases)
# keep their gradient, without decay or scaling. And if $w$ or $g + \lambda w$ is zero, $g + \lambda w$ is not scaled.
#
# **3 ★★ The trust ratio.** Write the function that returns the update.
#
# <details><summary>Hint</summary>
#
# `weight.dim() <= 1` tests for the first exception. `weight.norm()` is a tensor with one number. Do not change the gradient in place.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch09-ex3", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def my_scaled_by_trust_ratio(weight, gradient, *, weight_decay, trust):
    """The gradient with decay, scaled to `trust` times the norm of the weights. A tensor like the gradient."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch09_trust_ratio(my_scaled_by_trust_ratio)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_my_scaled_by_trust_ratio(weight, gradient, *, weight_decay, trust):
    if weight.dim() <= 1:
        return gradient
    update = gradient + weight_decay * weight
    if weight.norm() == 0 or update.norm() == 0:
        return update
    return update * trust * weight.norm() / update.norm()


check.ch09_trust_ratio(solution_my_scaled_by_trust_ratio)

# %% [markdown]
# The package's version is folded below.

# %% jupyter={"source_hidden": true} tags=["package:minimae.train.lars", "hide-input"]
def scaled_by_trust_ratio(weight: Tensor, gradient: Tensor, *, weight_decay: float, trust: float) -> Tensor:
    """The gradient with decay, scaled to ``trust`` times the length of the weights; 1-D parameters keep theirs."""
    if weight.dim() <= 1:
        return gradient
    update = gradient + weight_decay * weight
    weight_norm, update_norm = torch.linalg.vector_norm(weight), torch.linalg.vector_norm(update)
    tiny = torch.finfo(update_norm.dtype).tiny
    return update * torch.where((weight_norm > 0) & (update_norm > 0), trust * weight_norm / update_norm.clamp(min=tiny), 1.0)


# %% tags=["nbval-check-output"]
scaled_by_trust_ratio = book.use(check.ch09_trust_ratio, my_scaled_by_trust_ratio, scaled_by_trust_ratio)

# %% [markdown]
# The rest of LARS is momentum, as in SGD.

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
# Multiply the loss by 1,000, or by 1/1,000, and see how far one step moves a matrix, relative to its norm.

# %% tags=["nbval-check-output"]
def moved(make, factor):
    """How far one step moves a matrix, as a share of its own norm, when the loss is multiplied by a factor."""
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
# In all three rows, LARS moves the matrix by 0.64 % of its norm: the learning rate, 6.4, times the trust, a thousandth. So without weight
# decay, the distance by which LARS moves a matrix in one step does not depend on the scale of the loss.
#
# Now train the probe. We use no random crops, so the features of a photograph never change, and we can use those computed above.

# %%
def train_head(linear, features, labels, steps=200, lr=6.4):
    """Train norm and head of a probe on fixed features `N d`."""
    layers = nn.Sequential(linear.norm, linear.head).train()
    optimizer = LARS(linear.head.parameters(), lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(layers(features), labels).backward()
        optimizer.step()
        schedule.step()


train_head(linear, vectors["MAE"][0], labels)
with torch.no_grad():
    stepwise = accuracy(linear.eval()(normalise(test_images.pixels, trained.statistics)).argmax(1), test_labels)
print(f"the probe, trained with LARS: {stepwise:.1f} % of 750 test photographs")

# %% [markdown]
# > **Paper.** Appendix A.1 and Table 10 describe the protocol: LARS with the settings above and momentum 0.9; 90 epochs, of which 10 are
# > warm-up; random crops; and a BatchNorm without an affine part. The paper's probe uses the class token; our probe uses the mean of the
# > patch tokens. [`train_probe`](../minimae/tasks/probe_train.py) implements the LARS protocol. We have not run `imagenet-base-probe` or
# > the other recipes for probes on ImageNet.
#
# ## The shortcut: solve it
#
# With fixed features there is a shortcut. The cross-entropy plus a penalty on the squared weights is *convex*, so every local minimum is
# also a global one. A solver like L-BFGS finds a minimum approximately, without a learning-rate schedule.

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
# If the penalty is too weak, the layer fits noise in the training images. If it is too strong, the layer learns too little. To choose the
# penalty, hold out a fifth of the *training* images, fit the layer to the rest with each of three penalties, and see which penalty gives
# the highest accuracy on the held-out fifth. Then fit the layer to all training images with this penalty.

# %% tags=["package:minimae.tasks.probe"]
PENALTIES = (1e-3, 1e-2, 1e-1)


def probe_predict(
    train: Tensor, labels: Tensor, test: Tensor, *, penalties: tuple[float, ...] = PENALTIES, seed: int = 0
) -> tuple[Tensor, float]:
    """Predictions for the test vectors, and the penalty that did best on a held-out fifth of the training vectors.

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
#
# `LinearProbe` is in `minimae/tasks/probe_train.py`, `LARS` is in `minimae/train/lars.py`, and the shortcut is in `minimae/tasks/probe.py`.
# From the command line, `minimae probe --weights fashion-nano` uses the shortcut.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert torch.equal(standardise(*vectors["MAE"])[1], probe.standardise(*vectors["MAE"])[1])
ours, penalty = probe_predict(vectors["MAE"][0], labels, vectors["MAE"][1])
theirs, same = probe.probe_predict(vectors["MAE"][0], labels, vectors["MAE"][1])
assert torch.equal(ours, theirs) and penalty == same
matrix, gradient = vectors["MAE"][0], vectors["MAE"][0].flip(0)
assert torch.allclose(
    scaled_by_trust_ratio(matrix, gradient, weight_decay=0.1, trust=1e-3),
    lars.scaled_by_trust_ratio(matrix, gradient, weight_decay=0.1, trust=1e-3),
)

# %% [markdown]
# ## The numbers
#
# In chapter 08, a vote of 20 nearest neighbours on the features of the MAE was right for 79 % of the test photographs. **What accuracy does
# the MAE reach when a linear layer, fitted by the solver, replaces the vote?**

# %%
book.predict("probe-mae", 79,
             ask="20 neighbours: 79 % right. How many % with a linear probe on the MAE?")

# %%
score = {"20 neighbours": {}, "linear probe": {}}
for name, (train, test) in vectors.items():
    score["20 neighbours"][name] = accuracy(knn_predict(train, labels, test), test_labels)
    score["linear probe"][name] = accuracy(probe_predict(train, labels, test)[0], test_labels)
print(f"MAE: solved {score['linear probe']['MAE']:.1f} %, trained with LARS {stepwise:.1f} %")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert abs(score["linear probe"]["MAE"] - 83) < 1.5 and abs(score["linear probe"]["raw pixels"] - 80) < 1.5
assert abs(stepwise - score["linear probe"]["MAE"]) < 3

# %% mystnb={"image": {"alt": "Two marks on one scale: the reader's guess of 79 percent, and the measured 83 percent."}}
book.reveal("probe-mae", round(score["linear probe"]["MAE"], 1), unit="%")

# %% [markdown]
# *Figure 9.2: your guess and the measured accuracy of the linear probe on the MAE (1,500 labels, 750 test photographs).*

# %% mystnb={"image": {"alt": "Two panels. With 20 neighbours raw pixels and MAE reach 78 and 79 percent, the random encoder 57. With a linear probe raw pixels reach 80, the random encoder 70 and the MAE 83 percent."}}
plots.comparison(score, tuple(sources), note="750 images, one network")

# %% [markdown]
# *Figure 9.3: accuracy in % of two classifiers on the same features (1,500 labels, 750 test photographs, one network each).*
#
# - With a probe, the accuracy of the **random encoder** is 13 points higher than with a vote of neighbours. The vote takes the features as
#   they are, whereas a linear layer can give more weight to the useful directions. *So a probe does not only measure what was learned in
#   pre-training: the probe learns, too.*
# - With a probe, the **MAE** is ahead of raw pixels by three points, with 96 features instead of 784.
#
# ## Which block?
#
# The mean of the patch tokens can be probed after every block. **After which of the six blocks is the probe of the trained encoder best?**

# %%
book.predict("best-block", 4,
             ask="After which of the blocks 1 to 6 is the probe of the trained encoder best?")

# %%
width, depth = trained.size.width, trained.size.depth
by_block = {}
for name, network in (("MAE", trained.model), ("random encoder", untrained)):
    parts = [
        extract(network.encoder, images, trained.statistics, pool="blocks").split(width, dim=1) for images in (train_images, test_images)
    ]
    by_block[name] = [accuracy(probe_predict(train, labels, test)[0], test_labels) for train, test in zip(*parts)]
best = 1 + max(range(depth), key=by_block["MAE"].__getitem__)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert best >= 5 and by_block["MAE"][0] + 4 < by_block["MAE"][-1] and by_block["random encoder"][-1] < 73

# %% mystnb={"image": {"alt": "The reader's guess, block 4, and the measured best block, block 6, on one line."}}
book.reveal("best-block", best)

# %% [markdown]
# *Figure 9.4: your guess, and the block after which the probe is best.*

# %% mystnb={"image": {"alt": "Probe accuracy after each of six blocks. The MAE rises from 75 percent after the first block to 83 after the last. The random encoder stays near 70 and ends at 68."}}
plots.curves({name: (range(1, depth + 1), values) for name, values in by_block.items()}, x="after block", y="linear probe (%)",
             note="750 test images, one network each")

# %% [markdown]
# *Figure 9.5: accuracy of the probe on the mean of the patch tokens after each block, before the encoder's last norm (1,500 labels, 750
# test photographs, one network each).*
#
# In the trained encoder, classes become easier to separate towards the last block. In the random one they do not.
#
# ## More epochs
#
# In the paper, the accuracy of the probe still rises from 800 to 1,600 epochs of pre-training. Our experiment is smaller. Networks of 0.5
# million parameters are pre-trained for 5, 10, 20, 40 or 80 epochs on 10,000 photographs. The probe is trained on all 10,000 labels. There
# are three seeds for each number of epochs. These fifteen runs take half an hour on one processor core (`minimae reproduce longer --budget
# laptop`), so they were done in advance.

# %%
longer = recorded("longer")
everything, tests = data.load("fashion", "train"), data.load("fashion", "test")
torch.manual_seed(0)
start = build(recipe("fashion-demo"), everything).eval()
levels = {}
for name, describe in (
    ("raw pixels", lambda images: pixel_features(images, everything.statistics)),
    ("at initialisation", lambda images: extract(start.encoder, images, everything.statistics)),
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

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert abs(levels["raw pixels"] - 83) < 1 and means == sorted(means) and means[2] < levels["raw pixels"] < means[3]

# %% mystnb={"image": {"alt": "The reader's sketch from 60 to 92 percent and the measured curve, which rises from 75 percent at 5 epochs to 84.6 at 80."}}
book.reveal("probe-by-epochs", means, x=epochs, unit="linear probe (%)", xlabel="epochs of pre-training")

# %% [markdown]
# *Figure 9.6: your sketch, and the measured accuracy of the probe (means of three seeds).*

# %% mystnb={"image": {"alt": "Measured probe accuracy against epochs of pre-training, with two dashed lines across: raw pixels at 83 percent and the network at initialisation at 74, just below the first point. The curve crosses raw pixels between 20 and 40 epochs."}}
plots.curves({"MAE": (epochs, means)}, x="epochs of pre-training", y="linear probe (%)", levels=levels,
             note="2,000 test images, means of three seeds")

# %% [markdown]
# *Figure 9.7: the curve of Figure 9.6 (means of three seeds), and two baselines: raw pixels, and one network at initialisation (10,000
# labels, 2,000 test photographs).*
#
# After five epochs, the probe is hardly better than at initialisation. Its mean accuracy passes that of raw pixels between 20 and 40
# epochs, so a single measurement after ten epochs would be misleading.

# %% mystnb={"image": {"alt": "Six panels, three for each measure: measured here, the paper, and below them the differences with their intervals. Measured here, fine-tuning rises from 77 to 84 percent and the probe from 75 to 85 percent, with small bars. In the paper, fine-tuning rises from 82.3 to 85.1 and the probe from 57.3 to 75.1 percent."}}
picture(longer)

# %% [markdown]
# *Figure 9.8: longer pre-training, our results beside the paper's (its Figure 7: ViT-L on ImageNet). The bars show one standard deviation
# over three seeds (left) and, under each pair of curves, 95 % intervals of the differences between neighbouring points (explained in
# chapter 11). An interval without 0 can still be "undecided", because several comparisons are made. The scales differ.*
#
# In our experiment and in the paper's, the accuracy of the probe rises by more points in total than that of fine-tuning, which trains the
# whole encoder (chapter 10).
#
# ## Break-it lab: the perfect features
#
# A colleague has probed the three kinds of features and reports that raw pixels are perfect and an encoder is unnecessary.

# %%
def colleagues_probe(train, labels):
    """Accuracy of a linear layer in percent."""
    train, _ = standardise(train, train)
    weight, bias = fit_linear(train, labels, 10, 1e-7)
    return accuracy(F.linear(train, weight, bias).argmax(1), labels)


theirs = {name: colleagues_probe(train, labels) for name, (train, _) in vectors.items()}

# %% mystnb={"image": {"alt": "Two panels. Ours: raw pixels 80, random encoder 70, MAE 83 percent. The colleague's: raw pixels 100, random encoder 77, MAE 95 percent."}}
both = {"ours (750 test images)": score["linear probe"], "the colleague's": theirs}
plots.comparison(both, tuple(sources), x="accuracy (%)", note="one network")

# %% [markdown]
# *Figure 9.9: accuracy in % with the same features, measured by our probe and by the colleague's.*
#
# Which property of the features explains the colleague's numbers? What did the colleague measure?
#
# <details><summary>Diagnosis</summary>
#
# The colleague measured the accuracy on the training images. Raw pixels are 784 features, and each encoder gives only 96. With 784 weights
# for each class and almost no penalty, a linear layer can fit these 1,500 labels almost perfectly. Such a layer can even fit 500 *random*
# labels, as the next cell shows. So accuracy on the training images depends strongly on the *number of features*, among other things. Test
# a probe on images that it was not trained on, and choose the penalty on a third set of images.
# </details>

# %%
random_labels = torch.randint(10, (500,), generator=torch.Generator().manual_seed(0))
fitted = {name: colleagues_probe(train[:500], random_labels) for name, (train, _) in vectors.items()}
print("500 random labels:", {name: f"{value:.0f} %" for name, value in fitted.items()})

# %% jupyter={"source_hidden": true} tags=["hide-input"]
assert theirs["raw pixels"] > 99.5 and theirs["MAE"] > 90 > theirs["random encoder"]
assert fitted["raw pixels"] > 95 and max(fitted["MAE"], fitted["random encoder"]) < 85

# %% [markdown]
# ## One more exercise
#
# **4 ★★★ The gradient of the probe.** Compute the gradient of the loss of the probe with respect to the weights `classes d`, without
# autograd, for features `N d` and labels `N`. The loss is the mean cross-entropy plus `penalty` times the sum of the squared weights. There
# is no bias.
#
# <details><summary>Hint</summary>
#
# For one image, the gradient of the cross-entropy with respect to the logits is the softmax minus the one-hot label.
# </details>


# %% nbgrader={"grade": false, "grade_id": "ch09-ex4", "locked": false, "schema_version": 3, "solution": true, "task": false} tags=["exercise"]
def slope(weight, features, labels, penalty):
    """The gradient of cross-entropy + penalty · ‖W‖²: → `classes d`."""
    raise NotImplementedError("your turn")


# %% tags=["exercise-check"]
check.ch09_slope(slope)

# %% [markdown]
# *The solution is folded below. Try the exercise before you open it.*

# %% jupyter={"source_hidden": true} tags=["solution", "hide-input", "nbval-check-output"]
def solution_slope(weight, features, labels, penalty):
    wrong = (features @ weight.T).softmax(1) - F.one_hot(labels, len(weight))
    return wrong.T @ features / len(features) + 2 * penalty * weight


check.ch09_slope(solution_slope)

# %% [markdown]
# ## Summary
#
# In linear probing, the encoder is frozen, and one linear layer is trained on its standardised features. The paper trains the layer with
# LARS, whose steps are proportional to the norm of the weights. With fixed features, the loss with a penalty is convex, so a solver can
# minimise it. The penalty is chosen on held-out training images. With 1,500 labels, a probe on the MAE is three points ahead of one on raw
# pixels. The accuracy of the probe rises towards the last block and with longer pre-training.
#
# ## Five questions
#
# 1. Why must test features not be standardised with their own mean and standard deviation?
# <details><summary>Answer</summary>The prediction for one test image would then depend on all the other test images: information from the test set would enter the method.</details>
#
# 2. The encoder's parameters get no gradient. Why must the encoder be in eval mode, too?
# <details><summary>Answer</summary>In training mode, drop path or dropout would change the encoder's output at random, so the features would not be fixed.</details>
#
# 3. The accuracy of a random encoder rises by 13 points when a probe replaces the vote of neighbours. What does this rise show about
#    probes?
# <details><summary>Answer</summary>Probes learn, too: a linear layer chooses the useful directions. So compare the accuracy of a probe with that of a probe on a random encoder, not only with that of guessing.</details>
#
# 4. You multiply the loss by 1,000. How do the steps of SGD and LARS change?
# <details><summary>Answer</summary>A step of SGD is 1,000 times as large. LARS without weight decay moves the weight matrix as before, because the norm of the gradient is divided out. LARS does not scale the gradient of the bias, so the bias moves 1,000 times as far.</details>
#
# 5. After ten epochs of pre-training, the accuracy of the probe is below that of a probe on raw pixels. Is the pre-training useless?
# <details><summary>Answer</summary>Not necessarily: in our experiment, the accuracy still rises steeply after ten epochs, and passes that of raw pixels later. Compare the probes at the end of pre-training, and say how long the pre-training was.</details>
#
# Next: [10 · Fine-tuning, whole and in part](10_fine_tuning.ipynb). A probe leaves the encoder unchanged. What happens if you also train
# the encoder with the labels?
