"""What the loop trains, and what it returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..data.types import Batch, ImageDataset
from ..devices import device_of, full_precision
from .loss_bands import Expectation
from .optim import adamw, decay_groups
from .order import Order
from .resume import identity
from .settings import Settings


class Task:
    """A model, the inputs that it gets from a batch, and the loss of these inputs. A subclass defines :meth:`inputs` and :meth:`loss`.

    dataset: has a length and gives batches, ``dataset.to(device).batch(index, epochs, repeats)``, as images in memory do; override
    :meth:`loader` for anything else. Every other member has a default that a subclass may replace.
    """

    kind = "task"
    """Names the task in its checkpoints: a run is resumed only by the same kind."""
    settings: Settings
    """Set by :func:`minimae.train.loop.fit` before any other method is called."""

    def __init__(self, model: nn.Module, dataset: Any) -> None:
        self.model, self.dataset = model, dataset

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """What the model sees of a batch: float32 tensors and indices, on its device, of shapes that never change."""
        raise NotImplementedError("a task defines inputs(batch), and loss(model, *inputs)")

    def loss(self, model: nn.Module, *inputs: Tensor) -> Tensor:
        """The mean loss. model: ``self.model``, or what wraps it when several processes train it. Called under autocast."""
        raise NotImplementedError("a task defines inputs(batch), and loss(model, *inputs)")

    @property
    def images(self) -> int:
        """How many images an epoch has."""
        return len(self.dataset)

    def optimizer(self, lr: float) -> torch.optim.Optimizer:
        """By default AdamW, with weight decay on matrices only."""
        return adamw(decay_groups(self.model, self.settings.weight_decay), lr, self.settings.betas)

    def loader(self, order: Order) -> Iterator[Batch]:
        """The batches of each item of ``order`` (see :func:`minimae.train.order.from_step`), on the device of the model."""
        dataset = self.dataset.to(device_of(self.model))
        return (dataset.batch(index, epochs, self.settings.repeats) for index, epochs in order)

    def metadata(self) -> dict[str, Any]:
        """What a checkpoint holds besides weights: tensors and plain values. ``images`` makes a run refuse to resume with others."""
        return {"images": identity(self.dataset)} if isinstance(self.dataset, ImageDataset) else {}

    def after_step(self) -> None:
        """Called after each step of the optimizer: a moving average of the weights is updated here."""

    def expected(self) -> Expectation | None:
        """The expected loss, if known; the log warns when the loss differs."""
        return None

    def loss_of(self, batch: Batch) -> Tensor:
        """The mean loss of a batch, without autocast."""
        return self.loss(self.model, *exact_inputs(self, batch))


def exact_inputs(task: Task, batch: Batch) -> tuple[Tensor, ...]:
    """The inputs that ``task`` makes of a batch, in float32 even inside autocast: only the model computes in half precision."""
    with full_precision(batch.pixels.device):
        inputs = task.inputs(batch)
    wrong = [str(x.dtype) for x in inputs if x.is_floating_point() and x.dtype != torch.float32]
    if wrong:
        raise TypeError(f"inputs of a task are float32 tensors and indices, not {', '.join(wrong)}")
    return inputs


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
