"""Nearest neighbours in feature space: the quickest evaluation of a model, with nothing to train."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def knn_predict(train: Tensor, labels: Tensor, test: Tensor, *, k: int = 20, temperature: float = 0.07) -> Tensor:
    """Class of each test vector by a weighted vote of its k nearest neighbours: ``N d``, ``N``, ``M d`` → int64 ``M``.

    The nearest have the largest cosine after centring on the training mean; a vote weighs exp(cosine / temperature)
    (Wu et al., arXiv 1805.01978); in a tie the lower class wins. Computed on the device of ``train``. Raises ValueError for k
    outside 1 … N, a temperature that is not above 0, and features that are not finite.
    """
    if not 1 <= k <= len(train):
        raise ValueError(f"k must lie between 1 and the {len(train)} training vectors, not {k}")
    if not temperature > 0:
        raise ValueError(f"the temperature of a vote must be greater than 0 (0.07 is usual), not {temperature}")
    if not (train.isfinite().all() and test.isfinite().all()):
        raise ValueError("some features are not finite, so nothing is nearest to them: look for NaN in the weights or the images")
    device, classes, temperature = train.device, int(labels.max()) + 1, max(temperature, torch.finfo(train.dtype).tiny)
    centre = train.mean(0)
    gallery, queries = F.normalize(train - centre, dim=1), F.normalize(test.to(device) - centre, dim=1)
    winners = []
    for part in queries.split(max(1, min(1000, 2**28 // len(train)))):  # at most 2^28 cosines at a time, a gigabyte
        cosine, index = (part @ gallery.T).topk(k, dim=1)
        weight = ((cosine - cosine[:, :1]) / temperature).exp()  # only ratios count: exp(1 / 0.01) would overflow
        votes = torch.zeros(len(part), classes, dtype=weight.dtype, device=device)
        winners.append(votes.scatter_add_(1, labels.to(device)[index], weight).argmax(1))
    return torch.cat(winners).to(test.device)


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of correct predictions, in percent."""
    return 100.0 * float((predicted == labels.to(predicted.device)).float().mean())
