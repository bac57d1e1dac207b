"""k-nearest neighbours against a vote by hand in float64, at every temperature; and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from minimae.tasks.knn import accuracy, knn_predict


def by_hand(train: Tensor, labels: Tensor, test: Tensor, k: int, temperature: float) -> list[set[int]]:
    """The classes with the largest sum of votes (more than one in a tie), with weights that Python's floats hold at any temperature."""
    train, test = train.double(), test.double()
    centre = train.mean(0)
    winners = []
    for query in test:
        cosines = torch.nn.functional.cosine_similarity(train - centre, (query - centre)[None], dim=1).tolist()
        nearest = sorted(range(len(train)), key=lambda i: -cosines[i])[:k]
        votes: dict[int, float] = {}
        for i in nearest:
            votes[int(labels[i])] = votes.get(int(labels[i]), 0.0) + math.exp((cosines[i] - cosines[nearest[0]]) / temperature)
        top = max(votes.values())
        winners.append({c for c, vote in votes.items() if vote > top * (1 - 1e-4)})
    return winners


@pytest.fixture(scope="module")
def vectors() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(7, 16, generator=generator)
    labels, truth = torch.arange(210) % 7, torch.arange(105) % 7
    train, test = (centres[y] + 1.3 * torch.randn(len(y), 16, generator=generator) for y in (labels, truth))
    return train, labels, test, truth


@pytest.mark.parametrize("temperature", [math.inf, 10.0, 0.07, 0.012, 0.011, 0.001, 1e-9, 1e-300])
@pytest.mark.parametrize("k", [1, 2, 20, 210])
def test_the_vote_is_the_one_by_hand_at_every_temperature(vectors: tuple[Tensor, ...], temperature: float, k: int) -> None:
    train, labels, test, _ = vectors
    predicted = knn_predict(train, labels, test, k=k, temperature=temperature)
    assert all(int(c) in best for c, best in zip(predicted, by_hand(train, labels, test, k, temperature), strict=True))


def test_a_lower_temperature_ends_at_the_single_nearest_and_accuracy_does_not_collapse(vectors: tuple[Tensor, ...]) -> None:
    train, labels, test, truth = vectors
    nearest = knn_predict(train, labels, test, k=1)
    assert torch.equal(knn_predict(train, labels, test, temperature=1e-5), nearest)
    scores = [accuracy(knn_predict(train, labels, test, temperature=t), truth) for t in (0.07, 0.012, 0.011, 0.001)]
    assert min(scores) >= accuracy(nearest, truth) - 3


def test_equal_votes_go_to_the_lower_class() -> None:
    train, labels = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-2.0, 0.0]]), torch.tensor([3, 1, 0])
    assert knn_predict(train, labels, torch.tensor([[1.0, 0.0]]), k=2).tolist() == [1]


@pytest.mark.parametrize("k", [0, -1, 211])
def test_more_neighbours_than_vectors_are_refused(vectors: tuple[Tensor, ...], k: int) -> None:
    with pytest.raises(ValueError, match=f"k must lie between 1 and the 210 training vectors, not {k}"):
        knn_predict(*vectors[:3], k=k)


@pytest.mark.parametrize("temperature", [0.0, -0.07, math.nan])
def test_a_temperature_that_is_not_above_zero_is_refused(vectors: tuple[Tensor, ...], temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature of a vote must be greater than 0"):
        knn_predict(*vectors[:3], temperature=temperature)


@pytest.mark.parametrize("which", [0, 2])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_are_refused(vectors: tuple[Tensor, ...], which: int, value: float) -> None:
    spoiled = [x.clone() for x in vectors[:3]]
    spoiled[which][3, 5] = value
    with pytest.raises(ValueError, match="not finite"):
        knn_predict(*spoiled)


def test_memory_grows_with_the_neighbours_and_not_with_all_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 1,000 classes the one-hot rows of 20,000 labels would be 80 MB; what is made for a part of the test vectors is 8 kB a row."""
    sizes: list[int] = []

    class Watching(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                sizes.append(result.numel())
            return result

    train, labels = torch.randn(20_000, 4), torch.arange(20_000) % 1000
    with Watching():
        knn_predict(train, labels, torch.randn(10, 4))
    assert max(sizes) <= 10 * 20_000
