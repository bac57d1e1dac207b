"""The real training loop, a few steps at a time: :func:`minimae.train.loop.fit` runs in its own thread and stops
between steps. Also the tasks in which it trains other libraries' models, with the same images, crops, flips and normalisation.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from minimae.data.augment import augmented, normalise
from minimae.data.types import Batch
from minimae.errors import MinimaeError
from minimae.model.sizes import Size
from minimae.tasks.finetune import Classifier, FinetuneTask
from minimae.tasks.pretrain import PretrainTask
from minimae.train.loop import fit
from minimae.train.optim import adamw, decay_groups
from minimae.train.settings import Settings
from minimae.train.task import Task

T = TypeVar("T")


class Enough(Exception):
    """Raised in the run's thread when the benchmark needs no more steps."""


class Running:
    """A run of ``fit`` that advances when it is called: ``running()`` takes one step, from the pixels to the update.

    The constructor takes the first step. A call raises the error that its step raised; after that, and after
    :meth:`close`, the run is over.
    """

    def __init__(self, task: Task, settings: Settings) -> None:
        self.optimizer: torch.optim.Optimizer | None = None
        self.graph = settings.graph
        self._jobs: queue.Queue[Callable[[], Any] | None] = queue.Queue()
        self._answers: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue()
        self._over = False
        original, after = task.optimizer, task.after_step

        def optimizer(lr: float) -> torch.optim.Optimizer:
            self.optimizer = original(lr)
            return self.optimizer

        def after_step() -> None:
            after()
            self._answers.put((None, None))
            while (job := self._jobs.get()) is not None:
                self._answers.put(_outcome(job))
            if self._over:
                raise Enough

        task.optimizer, task.after_step = optimizer, after_step  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._run, args=(task, settings), daemon=True)
        self._thread.start()
        self._answer()

    def _run(self, task: Task, settings: Settings) -> None:
        _, error = _outcome(lambda: fit(task, settings, quiet=True))
        if not isinstance(error, Enough):
            self._answers.put((None, error or MinimaeError("the run is over")))

    def _answer(self) -> Any:
        value, error = self._answers.get()
        if error is not None:
            self.close()
            raise error
        return value

    def __call__(self) -> None:
        """Take one step. On a GPU the host does not wait for it."""
        if self._over:
            raise MinimaeError("the run is over")
        self._jobs.put(None)
        self._answer()

    def inside(self, job: Callable[[], T]) -> T:
        """Call ``job`` in the thread of the run, between two steps: torch's thread-local state can be read only there."""
        self._jobs.put(job)
        result: T = self._answer()
        return result

    def close(self) -> None:
        """End the run and wait for its thread."""
        if not self._over:
            self._over = True
            self._jobs.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()


def _outcome(job: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return job(), None
    except BaseException as error:
        return None, error


class Pooled(nn.Module):
    """The mean of the patch tokens that ``body`` returns: images → ``b d``."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.body(images)
        return tokens[:, 1:].mean(1)


class Sized(nn.Module):
    """A rival for pre-training, in place of our model: images → its loss, with its own masks."""

    def __init__(self, module: nn.Module, size: Size) -> None:
        super().__init__()
        self.module, self.size = module, size

    def forward(self, images: Tensor) -> Tensor:
        loss: Tensor = self.module(images)
        return loss


class RivalTask(PretrainTask):
    """Our pre-training with another model: the same crops, flips and normalisation; the model draws its masks."""

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        images = augmented(batch, self.recipe.augmentation, seed=self.recipe.seed, size=self.image)
        return (normalise(images, self.statistics),)

    def loss(self, model: nn.Module, *inputs: Tensor) -> Tensor:
        loss: Tensor = model(*inputs)
        return loss


class TunedTask(FinetuneTask):
    """Our fine-tuning, with one learning rate for all layers, because the rivals name their layers differently."""

    def optimizer(self, lr: float) -> torch.optim.Optimizer:
        return adamw(decay_groups(self.classifier, self.recipe.weight_decay), lr, self.recipe.betas)


class Tuned(nn.Module):
    """A rival for fine-tuning, in place of our :class:`Classifier`: images → logits ``b classes``."""

    def __init__(self, body: nn.Module, classifier: Classifier) -> None:
        super().__init__()
        self.encoder, self.norm, self.head, self.pool = Pooled(body), classifier.norm, classifier.head, "mean"
        self.encoder.size = classifier.encoder.size  # type: ignore[assignment]

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.encoder(images)))
        return logits
