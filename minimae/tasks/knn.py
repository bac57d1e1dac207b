"""Nearest neighbours in feature space: the quickest look at what a model has learned, with nothing to train."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def knn_predict(train: Tensor, labels: Tensor, test: Tensor, *, k: int = 20, temperature: float = 0.07) -> Tensor:
    """Class of each test vector by a weighted vote of its k nearest: ``N d``, ``N``, ``M d`` → int64 ``M``.

    Near means a large cosine after centring on the training mean; a vote weighs exp(cosine / temperature)
    (Wu et al., arXiv 1805.01978). Raises ValueError when k is not between 1 and N.
    """
    if not 1 <= k <= len(train):
        raise ValueError(f"k must lie between 1 and the {len(train)} training vectors, not {k}")
    centre = train.mean(0)
    train, test = F.normalize(train - centre, dim=1), F.normalize(test - centre, dim=1)
    votes = F.one_hot(labels).float()
    winners = []
    for part in test.split(1000):
        cosine, index = (part @ train.T).topk(k, dim=1)
        weight = (cosine / temperature).exp()
        winners.append((weight[:, :, None] * votes[index]).sum(1).argmax(1))
    return torch.cat(winners)


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of right answers, in percent."""
    return 100.0 * float((predicted == labels).float().mean())
