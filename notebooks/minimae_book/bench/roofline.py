"""The operations of a training step, counted without running it, and the shortest time that a device needs for them.

torch's FakeTensorMode computes shapes and types, and no numbers. So the step of any model can be counted on any machine: here with
autocast to bf16 on a CPU, whose operations are those of a GPU with other kernels for attention.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from minimae import MAE, Mask, make_mask
from minimae.model.patches import pair
from minimae.model.sizes import Size, parameters

KINDS = {  # aten's names; what is in none of these is "copies, sums, casts"
    "matrix products": ("mm", "addmm", "bmm"),
    "attention": ("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention_for_cpu_backward"),
    "GELU": ("gelu", "gelu_backward"),
    "LayerNorm": ("native_layer_norm", "native_layer_norm_backward"),
}
REST = "copies, sums, casts"


@dataclass(frozen=True)
class Operation:
    """One operation of a step on a batch: its kind, its floating-point operations (of matrix products), and the bytes that it moves."""

    kind: str
    flops: int
    nbytes: int


@dataclass(frozen=True)
class Step:
    """The forward and backward pass of one batch. activations: bytes that the forward pass keeps for the backward pass.

    operations: how often each occurs. parameters: those that are learned, and the fixed positions.
    """

    batch: int
    parameters: int
    operations: Counter[Operation]
    activations: int


class Recorder(TorchDispatchMode):
    """Notes every operation that reads or writes memory. Views do neither."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[Operation] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        inputs, outputs = ([x for x in tree_leaves(part) if isinstance(x, Tensor)] for part in ((args, kwargs), result))
        known = {x.untyped_storage()._cdata for x in inputs}
        if function._schema.is_mutable or any(x.untyped_storage()._cdata not in known for x in outputs):
            name = function.overloadpacket.__name__
            kind = next((kind for kind, names in KINDS.items() if name in names), REST)
            moved = sum(x.numel() * x.element_size() for x in (*inputs, *outputs))
            self.operations[Operation(kind, products(function, args, kwargs or {}, result), moved)] += 1
        return result


def products(function: Any, args: Any, kwargs: Any, result: Any) -> int:
    """Floating-point operations of matrix products, by torch's own formulas. Attention's backward pass computes the scores again."""
    packet = function.overloadpacket
    if packet.__name__ == "_scaled_dot_product_flash_attention_for_cpu":  # the CPU's kernel has no entry in the registry
        return int(sdpa_flop_count(*(x.shape for x in args[:3])))
    if packet.__name__ == "_scaled_dot_product_flash_attention_for_cpu_backward":
        return int(sdpa_backward_flop_count(*(x.shape for x in args[:4])))
    return int(flop_registry[packet](*args, **kwargs, out_val=result)) if packet in flop_registry else 0


def step_of(size: Size, batch: int, *, ratio: float = 0.75) -> Step:
    """The operations of one forward and backward pass of pre-training, in bf16. Nothing is computed, and no memory is needed.

    All blocks do the same, so three shallow models are counted: of 1 + 2 blocks (encoder, decoder), 2 + 2 and 1 + 3. The differences are
    those of one block. Raises ValueError for a decoder of one block.
    """
    if size.decoder_depth < 2:
        raise ValueError(f"the decoder needs at least 2 blocks to be counted, not {size.decoder_depth}")
    small, wider, deeper = (
        counted(replace(size, depth=depth, decoder_depth=decoder), batch, ratio) for depth, decoder in ((1, 2), (2, 2), (1, 3))
    )
    operations = Counter(small.operations)
    activations = small.activations
    for larger, more in ((wider, size.depth - 1), (deeper, size.decoder_depth - 2)):
        activations += more * (larger.activations - small.activations)
        for operation, times in (larger.operations - small.operations).items():
            operations[operation] += more * times
    return Step(batch, parameters(size)[1], operations, activations)


def counted(size: Size, batch: int, ratio: float) -> Step:
    """The same, counted block by block."""
    fake, kept = FakeTensorMode(), {}
    mask = make_mask(torch.arange(batch), size.grid, ratio=ratio, seed=0)

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage()._cdata] = x
        return x

    with fake:
        model = MAE(size)
        images = torch.empty(batch, size.channels, *pair(size.image))
        hidden = Mask(**{name: fake.from_tensor(value) for name, value in vars(mask).items()})
        with Recorder() as recorder, saved_tensors_hooks(keep, lambda x: x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model(images, hidden).loss
            loss.backward()
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    activations = sum(x.untyped_storage().nbytes() for name, x in kept.items() if name not in weights)
    return Step(batch, sum(p.numel() for p in model.parameters()), recorder.operations, activations)


def roofline_seconds(operations: Iterable[tuple[float, float]], peak: float, bandwidth: float) -> float:
    """The least seconds for operations (FLOP, bytes) that run one after the other: each computes and moves its bytes at the same time."""
    return sum(max(flops / peak, moved / bandwidth) for flops, moved in operations)


def by_kind(step: Step, peak: float, bandwidth: float) -> dict[str, float]:
    """The least microseconds for one image, by kind of operation."""
    found = {kind: [(o.flops, o.nbytes) for o in step.operations.elements() if o.kind == kind] for kind in (*KINDS, REST)}
    return {kind: 1e6 * roofline_seconds(operations, peak, bandwidth) / step.batch for kind, operations in found.items()}
