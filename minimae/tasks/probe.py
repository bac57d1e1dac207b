"""The linear probe on cached features: multinomial logistic regression on a frozen encoder.

The fast path for small data: features are extracted once, from whole images without augmentation, and the regression is solved to its
optimum. Its penalty is chosen on held-out training images. (The paper's protocol, Table 10, trains on random crops.)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..random import permutation
from .knn import accuracy

PENALTIES = (1e-3, 1e-2, 1e-1)


def standardise(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Mean 0 and standard deviation 1 for each feature, from the training vectors, like a BatchNorm without affine (Table 10)."""
    mean, deviation = train.mean(0), (train.var(0, unbiased=False) + 1e-6).sqrt()
    return (train - mean) / deviation, (test - mean) / deviation


def fit_linear(features: Tensor, labels: Tensor, classes: int, penalty: float, *, iterations: int = 60) -> tuple[Tensor, Tensor]:
    """Weights ``classes d`` and bias ``classes`` that minimise cross-entropy + penalty · ‖W‖², by L-BFGS."""
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


def probe_predict(
    train: Tensor, labels: Tensor, test: Tensor, *, penalties: tuple[float, ...] = PENALTIES, seed: int = 0
) -> tuple[Tensor, float]:
    """Predictions for the test vectors, and the penalty that did best on a held-out fifth of the training vectors.

    Features ``N d`` and ``M d``, labels int64 ``N`` → int64 ``M``. The final fit uses all N. Computed on the device of ``train``.
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
