"""CUDA graphs: a whole training step recorded once, then replayed with a single launch.

A step of a small model is hundreds of kernels that each take less time than the host needs to launch them; replayed from a graph they
follow each other without the host. Every replay reads and writes the same memory, so shapes are fixed, inputs are copied into place,
and the learning rate is a tensor. Nothing in the step may wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..devices import on_device
from ..errors import MinimaeError


def capturable(optimizer: torch.optim.Optimizer) -> None:
    """Prepare an optimizer for being captured, before its first step: the lr becomes a tensor beside the parameters.

    :func:`minimae.train.optim.set_lr` fills such a tensor, and the next replay reads it.
    """
    for group in optimizer.param_groups:
        group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32).to(group["params"][0].device)
        if "capturable" in group:
            group["capturable"] = True


def remember(model: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Copy weights, buffers and the optimizer's state; the function returned restores all of it, in place.

    State that did not exist yet (moments before the first step) is set to zero, where AdamW and SGD without dampening begin.
    """

    def state() -> list[Tensor]:
        return [value for values in optimizer.state.values() for value in values.values() if isinstance(value, Tensor)]

    tensors = [*model.parameters(), *model.buffers(), *state()]
    copies = {id(tensor): tensor.detach().clone() for tensor in tensors}

    @torch.no_grad()
    def restore() -> None:
        for tensor in [*tensors, *(new for new in state() if id(new) not in copies)]:
            tensor.copy_(copies[id(tensor)]) if id(tensor) in copies else tensor.zero_()
        optimizer.zero_grad(set_to_none=True)

    return restore


class Captured:
    """A step that was recorded. A call copies inputs of the same shapes into place and replays the step."""

    def __init__(self, graph: Any, inputs: tuple[Tensor, ...], result: Any) -> None:
        self.graph, self.inputs, self.result = graph, inputs, result

    def __call__(self, *inputs: Tensor) -> Any:
        """→ what the step returned, in memory that the next call overwrites. Raises ValueError for inputs of other shapes."""
        given, wanted = ([(tuple(x.shape), x.dtype) for x in tensors] for tensors in (inputs, self.inputs))
        if given != wanted:
            raise ValueError(f"this step was captured with inputs {wanted}, not {given}: a graph has fixed shapes; keep every batch full")
        for fixed, value in zip(self.inputs, inputs):
            fixed.copy_(value, non_blocking=True)
        self.graph.replay()
        return self.result


def capture(step: Callable[..., Any], *inputs: Tensor, model: nn.Module, optimizer: torch.optim.Optimizer, warmup: int = 3) -> Captured:
    """Record ``step(*inputs)`` and return what replays it. Afterwards weights, optimizer and random numbers are unchanged.

    ``step`` does everything: forward, backward, ``optimizer.step()``, ``optimizer.zero_grad(set_to_none=True)``; it returns tensors,
    detached. The inputs are tensors on the GPU, and examples of all later ones. Call :func:`capturable` on the optimizer first.

    Raises MinimaeError without a GPU, and ValueError for an optimizer that was not prepared.
    """
    devices = {x.device.type for x in (*inputs, *model.parameters())}
    if devices != {"cuda"} or not torch.cuda.is_available():
        raise MinimaeError(f"CUDA graphs need model and inputs on a GPU, not on {', '.join(sorted(devices))}: use --device cuda, or none")
    if not all(isinstance(group["lr"], Tensor) and group.get("capturable", True) for group in optimizer.param_groups):
        raise ValueError("this optimizer keeps its lr on the host, so every replay would use the same: call capturable(optimizer) first")
    [device] = {x.device for x in (*inputs, *model.parameters())}
    fixed = tuple(x.clone() for x in inputs)
    restore = remember(model, optimizer)
    with on_device(device):
        random = torch.cuda.get_rng_state()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # warm-up: libraries choose kernels and allocate memory outside the recording
            for _ in range(warmup):
                step(*fixed)
        torch.cuda.current_stream().wait_stream(side)
        restore()
        graph = torch.cuda.CUDAGraph()
        # The loader's thread allocates page-locked memory meanwhile, so only this thread's calls are restricted.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = step(*fixed)
        torch.cuda.set_rng_state(random)  # the first replay draws what an ordinary first step draws
    return Captured(graph, fixed, result)
