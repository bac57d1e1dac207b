"""One optimizer step, in two ways: eager, and recorded as a CUDA graph. The next batch goes to the device meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..data.types import Batch
from ..devices import device_of, is_gpu
from ..errors import MinimaeError
from .cuda_graph import Captured, capturable, capture
from .distributed import sync_gradients, world
from .precision import autocast, backends, mixed
from .settings import Settings
from .task import Task, exact_inputs


class EagerStep:
    """Forward and backward passes of ``accumulate`` batches, then the optimizer's step. model: the task's, or what wraps it."""

    def __init__(self, task: Task, model: nn.Module, optimizer: torch.optim.Optimizer, settings: Settings) -> None:
        self.task, self.model, self.optimizer, self.settings = task, model, optimizer, settings
        self.device = device_of(task.model)
        self.precision, self.scaler = mixed(settings, self.device)
        task.model.zero_grad()  # gradients from before, or of a step that was stopped

    def __call__(self, batches: Prefetch, *, stop: Callable[[], bool], norm: bool = False) -> tuple[Tensor, Tensor | None] | None:
        """→ the mean loss and, with ``norm``, the gradient norm, both on the device; None if ``stop`` is true between two passes.

        A step can take longer than the time that is left to a stopped run; the resumed run repeats it.
        """
        total = torch.zeros((), device=self.device)
        for micro in range(self.settings.accumulate):
            if micro and stop():
                return None
            inputs = exact_inputs(self.task, next(batches))
            with sync_gradients(self.model, last=micro + 1 == self.settings.accumulate), backends(self.device):
                with autocast(self.device, self.precision):
                    loss = self.task.loss(self.model, *inputs) / self.settings.accumulate
                self.scaler.scale(loss).backward()
            batches.fetch()  # while the device computes the backward pass
            total += loss.detach()
        return total, update(self.task.model, self.optimizer, self.scaler, self.settings, norm=norm)


class GraphStep(EagerStep):
    """The same step as one CUDA graph, recorded in its first call. Raises MinimaeError without a GPU, or with several processes."""

    def __init__(self, task: Task, model: nn.Module, optimizer: torch.optim.Optimizer, settings: Settings) -> None:
        super().__init__(task, model, optimizer, settings)
        if world().size > 1:
            raise MinimaeError("--graph is for one process: leave it out, or start without torchrun")
        self.replay: Captured | None = None

    def __call__(self, batches: Prefetch, *, stop: Callable[[], bool], norm: bool = False) -> tuple[Tensor, Tensor | None]:
        inputs = exact_inputs(self.task, next(batches))
        if self.replay is None:
            capturable(self.optimizer)
            self.replay = capture(self.compute, *inputs, model=self.model, optimizer=self.optimizer)
        result: tuple[Tensor, Tensor | None] = self.replay(*inputs)
        batches.fetch()
        return result

    def compute(self, *inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """What is recorded: forward pass, backward pass, and the optimizer's step."""
        with backends(self.device):
            with autocast(self.device, self.precision):
                loss = self.task.loss(self.model, *inputs)
            loss.backward()
        return loss.detach(), update(self.model, self.optimizer, self.scaler, self.settings, norm=True)


def update(model: nn.Module, optimizer: torch.optim.Optimizer, scaler: Any, settings: Settings, *, norm: bool = False) -> Tensor | None:
    """Take the optimizer's step and discard the gradients → with ``norm``, their norm before clipping."""
    length = None
    if norm or settings.clip is not None:
        scaler.unscale_(optimizer)
        learned = [p for p in model.parameters() if p.grad is not None]
        length = nn.utils.get_total_norm([p.grad for p in learned if p.grad is not None])
        if settings.clip is not None:
            nn.utils.clip_grads_with_norm_(learned, settings.clip, length)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return length


class Prefetch(Iterator[Batch]):
    """The batches of a loader, one ahead: :meth:`fetch` copies the next one to a GPU on its own stream. On a CPU it does nothing.

    ids: the sample ids of the last batch. waited: seconds that the loader has waited for images, if it measures that.
    """

    def __init__(self, loader: Iterator[Batch], device: torch.device) -> None:
        self.loader, self.ids = loader, torch.empty(0)
        self.ahead: list[Batch | Exception] = []
        self.stream = side_stream(device)

    def fetch(self) -> None:
        """Begin to read the next batch. An error is raised only when that batch is needed."""
        if self.stream is not None and not self.ahead:
            with torch.cuda.stream(self.stream):
                try:
                    self.ahead.append(next(self.loader))
                except Exception as error:
                    self.ahead.append(error)

    def __next__(self) -> Batch:
        batch = self.ahead.pop() if self.ahead else next(self.loader)
        if isinstance(batch, Exception):
            raise batch
        if self.stream is not None:
            current = torch.cuda.current_stream()
            current.wait_stream(self.stream)
            for tensor in batch:
                if tensor is not None:
                    tensor.record_stream(current)  # its memory is not reused before the step has read it
        self.ids = batch.ids
        return batch

    @property
    def waited(self) -> float:
        return float(getattr(self.loader, "waited", 0.0))

    def close(self) -> None:
        """End the loader's workers."""
        getattr(self.loader, "close", lambda: None)()


def side_stream(device: torch.device) -> Any:
    """A stream for copies during the computation; it waits for the work already queued on the GPU. None on a CPU."""
    if not is_gpu(device):
        return None
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    return stream
