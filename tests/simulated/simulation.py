"""A GPU that is not there: tensors without contents that claim to be on one, and a list of what would make the host wait for it.

torch's FakeTensorMode computes shapes, types and devices, and refuses to mix devices. Here it also counts blocking copies; reading a
value of such a tensor (``item``, a mask as an index) is an error by itself. What it cannot do: gradients (they are filled in), CUDA graphs.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode

from minimae import devices
from minimae.data import images as in_memory
from minimae.data.images import Images
from minimae.train import distributed, loop, order, run, step

GPU = torch.device("cuda", 0)
ATEN = torch.ops.aten


class Simulation:
    """The mode of the tensors, and the waits that were seen while ``watching``: what happened, and where in the package."""

    def __init__(self) -> None:
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.watching, self.allowed = False, 0
        self.waits: list[str] = []

    def wait(self, what: str) -> None:
        if self.watching and not self.allowed:
            frames = [f for f in traceback.extract_stack() if "/minimae/" in f.filename and "site-packages" not in f.filename]
            self.waits.append(f"{what} at " + " < ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in reversed(frames[-3:])))

    def empty(self, like: Tensor, device: torch.device = GPU, dtype: torch.dtype | None = None) -> Tensor:
        """A tensor of this shape without contents."""
        return FakeTensor(self.mode, torch.empty(like.shape, dtype=dtype or like.dtype, device="meta"), device)

    def module(self, module: nn.Module) -> Any:
        """A module moved to the GPU, in place."""
        for part in module.modules():
            for name, parameter in list(part._parameters.items()):
                if parameter is not None:
                    part._parameters[name] = nn.Parameter(self.empty(parameter), requires_grad=parameter.requires_grad)
            for name, buffer in list(part._buffers.items()):
                if buffer is not None:
                    part._buffers[name] = self.empty(buffer)
        return module

    def images(self, images: Images) -> Images:
        """The same images on the GPU."""
        assert images.ids is not None
        labels = None if images.labels is None else self.empty(images.labels)
        return Images(images.name, self.empty(images.pixels), labels, images.classes, self.empty(images.ids))

    @contextlib.contextmanager
    def allow_sync(self, device: torch.device) -> Iterator[None]:
        """Stands in for :func:`minimae.devices.allow_sync`."""
        self.allowed += 1
        try:
            yield
        finally:
            self.allowed -= 1


def outside(function: Any) -> Any:
    """The function, with real tensors: what the loop computes on the host for itself."""

    def call(*args: Any, **kwargs: Any) -> Any:
        with unset_fake_temporarily():
            return function(*args, **kwargs)

    return call


def target_of(self: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.device, torch.dtype, bool]:
    """Device, type and whether the host goes on at once, of a call of ``Tensor.to``."""
    device, dtype, quick = kwargs.get("device"), kwargs.get("dtype"), kwargs.get("non_blocking", False)
    for given in args:
        if isinstance(given, str | torch.device):
            device = given
        elif isinstance(given, torch.dtype):
            dtype = given
        elif isinstance(given, Tensor):
            device, dtype = given.device, given.dtype
        elif isinstance(given, bool):
            quick = given
    device = self.device if device is None else torch.device(device)
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device, dtype or self.dtype, quick


@contextlib.contextmanager
def gpu() -> Iterator[Simulation]:
    """Inside, tensors can be on a GPU that does not exist, and torch believes that it does, as far as the package asks."""
    simulation = Simulation()
    plain_to = Tensor.to
    locked: set[int] = set()

    def to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        device, dtype, quick = target_of(self, args, kwargs)
        if device == self.device:
            return plain_to(self, *args, **kwargs) if self.device.type != "cuda" else ATEN._to_copy.default(self, dtype=dtype)
        if device.type == "cuda":
            if not quick or id(self) not in locked:
                simulation.wait("a copy from the host" if not quick else "a copy from memory that is not page-locked")
        elif self.device.type == "cuda":
            simulation.wait("a copy to the host")
        return simulation.empty(self, device, dtype)

    def pin_memory(self: Tensor) -> Tensor:
        copy = self.clone()
        locked.add(id(copy))
        kept.append(copy)
        return copy

    def making(original: Any) -> Any:
        def make(value: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
            if device is None or torch.device(device).type != "cuda" or (isinstance(value, Tensor) and value.device.type == "cuda"):
                return original(value, *args, **kwargs)
            return original(value, *args, **kwargs).to(device)

        return make

    def all_reduce_mean(*values: Any, device: torch.device) -> list[float]:
        if not any(isinstance(value, Tensor) and value.device.type == "cuda" for value in values):
            return plain_mean(*values, device=torch.device("cpu"))
        if not simulation.allowed:
            simulation.wait("a loss is read")
        return [1.0] * len(values)

    def adamw(*lists: list[Tensor], **settings: Any) -> None:
        tensors = [x for given in lists for x in given] + [x for x in settings.values() if isinstance(x, Tensor)]
        assert tensors and {x.device for x in tensors} == {GPU}, "torch's own has no shapes to compute"

    kept: list[Tensor] = []
    plain_mean, patches = distributed.all_reduce_mean, contextlib.ExitStack()
    replaced: list[tuple[Any, str, Any]] = [
        (Tensor, "to", to), (Tensor, "cpu", lambda self: self.to("cpu")), (Tensor, "cuda", lambda self, *_: self.to("cuda")),
        (Tensor, "pin_memory", pin_memory),
        (torch, "tensor", making(torch.tensor)), (torch, "as_tensor", making(torch.as_tensor)),
        (torch, "_fused_adamw_", adamw), (torch.cuda, "is_current_stream_capturing", lambda: False),
        (torch.cuda, "is_bf16_supported", lambda including_emulation=True: True),
        (torch.cuda, "device", lambda device: contextlib.nullcontext()),
        (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
        (devices, "is_gpu", lambda device: device.type == "cuda"),
        (run, "all_reduce_mean", all_reduce_mean), (distributed, "all_reduce_mean", all_reduce_mean),
        (run, "allow_sync", simulation.allow_sync), (step, "side_stream", lambda device: None),
        (loop, "hash_bits", lambda *_: 7), (in_memory, "as_index", outside(in_memory.as_index)),
    ]  # fmt: skip
    with patches:
        for owner, name, value in replaced:
            patches.enter_context(mock.patch.object(owner, name, value))
        order.epoch_order.cache_clear()
        patches.enter_context(Indexing(simulation))
        try:
            yield simulation
        finally:
            order.epoch_order.cache_clear()


class Indexing(TorchFunctionMode):
    """Indices of tensors on the GPU go through :func:`index_of`. (A patched ``__getitem__`` would leave its traces in the class.)"""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self.simulation = simulation

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__name__", "") == "__getitem__" and args[0].device.type == "cuda":
            return index_of(self.simulation, *args)
        return function(*args, **(kwargs or {}))


def index_of(simulation: Simulation, x: Tensor, index: Any) -> Tensor:
    """``x[index]``, taken apart: torch would ask a real GPU to do it."""
    parts = index if isinstance(index, tuple) else (index,)
    if any(part is Ellipsis for part in parts):
        at = next(i for i, part in enumerate(parts) if part is Ellipsis)
        used = sum(part is not Ellipsis and part is not None for part in parts)
        parts = (*parts[:at], *[slice(None)] * (x.dim() - used), *parts[at + 1 :])
    axis, chosen = 0, {}
    for part in parts:
        if part is None:
            x, axis = ATEN.unsqueeze.default(x, axis), axis + 1
        elif isinstance(part, int):
            x = ATEN.select.int(x, axis, part)
        elif isinstance(part, slice):
            if part != slice(None):
                x = ATEN.slice.Tensor(x, axis, part.start, part.stop, part.step or 1)
            axis += 1
        else:
            part = torch.as_tensor(part)
            if part.device.type != "cuda":
                simulation.wait("an index on the host")
                part = simulation.empty(part)
            chosen[axis] = part
            axis += 1
    return ATEN.index.Tensor(x, [chosen.get(i) for i in range(x.dim())]) if chosen else x


@contextlib.contextmanager
def training(simulation: Simulation, task: Any) -> Iterator[None]:
    """Inside, ``fit`` can train this task: gradients are zeros, and from the second step on the host should not wait."""
    original = task.after_step

    def backward(self: Tensor, *_: Any, **__: Any) -> None:
        assert self.device.type == "cuda" and self.dtype == torch.float32 and self.dim() == 0
        for parameter in task.model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)

    def after_step() -> None:
        original()
        simulation.watching = True

    task.after_step, task.metadata = after_step, outside(task.metadata)
    try:
        with mock.patch.object(Tensor, "backward", backward), simulation.mode, torch.no_grad():
            yield
    finally:
        simulation.watching = False
