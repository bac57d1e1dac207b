"""The interface between the loop and a task, and the loop's result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..data.types import Batch
from .loss_bands import Expectation

Plan = Iterator[tuple[Tensor, Tensor]]  # images of one forward pass after another: places int64 b, and the epoch of each int64 b


class Task(Protocol):
    """What the loop needs from a task: a model, its parameter groups, a number of images, and the loss of a batch.

    ``run`` is what the task calls for a forward pass: the model, or what stands for it when several processes train it.
    """

    kind: str
    images: int
    run: nn.Module

    @property
    def model(self) -> nn.Module: ...

    def optimizer(self, lr: float) -> torch.optim.Optimizer: ...

    def about(self) -> dict[str, Any]:
        """Metadata of a checkpoint: what it needs besides the weights, so that the model can be used without its data."""
        ...

    def feed(self, plan: Plan) -> Iterator[Batch]:
        """The images of each part of the plan, on the device: taken from memory, or read ahead by workers."""
        ...

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """A batch as the model will see it: changed, normalised, masked; tensors whose shapes never change."""
        ...

    def score(self, *prepared: Tensor) -> Tensor:
        """The mean loss of what was prepared."""
        ...

    def loss(self, batch: Batch) -> Tensor:
        """The mean loss of these images: the score of their :func:`inputs`."""
        ...

    def expected(self) -> Expectation | None:
        """The expected loss, if it is known."""
        ...

    def after_step(self) -> None:
        """Called after each step of the optimizer: where a moving average of the weights is kept."""
        ...


@dataclass(frozen=True)
class Result:
    """How a run ended: optimizer steps, images seen, seconds in the loop, and the logged points (step, loss, lr, images/s)."""

    steps: int
    seen: int
    seconds: float
    history: list[dict[str, float]]

    @property
    def loss(self) -> float:
        """Mean loss of the last twentieth of the logged points: one batch alone is noisy."""
        last = self.history[-max(1, len(self.history) // 20) :]
        return sum(point["loss"] for point in last) / len(last)
