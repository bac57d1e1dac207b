"""Several processes train one model: who this process is, and what they tell each other (torchrun, DDP, FSDP2).

A run on N processes is the run on one: process r takes the r-th part of every batch, gradients are averaged, and masks, crops and
order are functions of (seed, epoch, sample id), so who computes them does not matter.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..devices import use, waiting
from ..errors import MinimaeError
from .stopping import end_without_parent


@dataclass(frozen=True)
class World:
    """This process among its like: ``rank`` of ``size``; one process alone is rank 0 of 1."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this process writes files and draws the progress bar."""
        return self.rank == 0


def world() -> World:
    """The processes that have joined; one, if none have."""
    return World(dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else World()


def join(environment: Mapping[str, str], device: str, *, timeout: float = 600.0) -> str:
    """Meet the other processes if torchrun started this one (it sets RANK, LOCAL_RANK, WORLD_SIZE); → the device of this process.

    NCCL talks between GPUs, gloo between CPUs. ``timeout`` is how many seconds a process waits for the others before all fail.
    A process that torchrun started ends when torchrun is gone. Raises MinimaeError when there are fewer GPUs than processes here.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        end_without_parent()
    if "RANK" not in environment or int(environment.get("WORLD_SIZE", "1")) == 1:
        return use(device)
    if device.startswith("cuda"):
        place = int(environment["LOCAL_RANK"])
        if place >= torch.cuda.device_count():
            raise MinimaeError(
                f"process {place} of this machine has no GPU of its own: {torch.cuda.device_count()} are here; "
                "start torchrun with --nproc-per-node of at most that many"
            )
        device = f"cuda:{place}"
        torch.cuda.set_device(place)
    if not dist.is_initialized():
        backend, patience = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo", datetime.timedelta(seconds=timeout)
        store, rank, size = next(dist.rendezvous("env://", timeout=patience))
        store = dist.PrefixStore(name_of_this_start(store, rank, size, timeout), store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=patience)
    return device


def name_of_this_start(store: dist.Store, rank: int, size: int, timeout: float) -> str:
    """A name that only the processes which were started together have, as rank 0 chose it.

    torchrun keeps its store when it starts the processes again, with the addresses of the dead ones in it, and the number of restarts
    is not the same on all machines. So every process calls by a name that nobody had before, and rank 0 answers each until all have heard.
    Raises MinimaeError, in rank 0, when some do not come in time; the others stop with an error of the store.
    """
    own = uuid.uuid4().hex
    if rank != 0:
        store.set(f"call-{rank}", own)
        name = store.get(f"answer-{own}").decode()
        store.set(f"heard-{name}-{rank}", "")
        return name
    absent, end = set(range(1, size)), time.monotonic() + timeout
    while absent:
        if time.monotonic() > end:
            raise MinimaeError(f"process(es) {', '.join(map(str, sorted(absent)))} of {size} did not come within {timeout:.0f} s")
        for other in sorted(absent):
            if store.check([f"call-{other}"]):  # perhaps of a dead one: then the new one will call later
                store.set(f"answer-{store.get(f'call-{other}').decode()}", own)
        absent = {other for other in absent if not store.check([f"heard-{own}-{other}"])}
        time.sleep(0.02)
    return own


def leave() -> None:
    """Part from the other processes, if there are any."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def spread(model: nn.Module, *, shard: bool) -> nn.Module:
    """The model as this process should call it: itself when alone; DDP (a copy each), or with ``shard`` FSDP2 (a part each).

    FSDP2 changes the model in place: its parameters become sharded tensors. Every process must start from the same weights.
    """
    if world().size == 1:
        return model
    if shard:
        from torch.distributed.fsdp import fully_shard

        for blocks in block_lists(model):
            for block in blocks:
                fully_shard(block)
        fully_shard(model)
        return model
    place = next(model.parameters()).device
    devices = [place.index] if place.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)


def without_weights(model: nn.Module) -> nn.Module:
    """A copy of a model whose parameters take no memory: :func:`ordinary` fills it when the sharded one is trained."""
    empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, dict(empty))


def ordinary(model: nn.Module, empty: nn.Module) -> nn.Module:
    """A trained model that each process may call on its own: whole, in eval mode, and not compiled for batches of another size.

    model: as it was trained. empty: the same, or, for a sharded one, what :func:`without_weights` made; it gets the gathered weights.
    """
    if empty is not model:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        empty.load_state_dict(get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)), assign=True)
    for block in (block for blocks in block_lists(empty) for block in blocks):
        block._compiled_call_impl = None
    return empty.eval()


def block_lists(model: nn.Module) -> list[nn.ModuleList]:
    """The lists of transformer blocks in a model: what is compiled and sharded block by block."""
    return [part for part in model.modules() if isinstance(part, nn.ModuleList)]


def gathered(state: Any) -> Any:
    """A state dict in which sharded tensors are whole, on the CPU of the first process; None in the others. Every process must call it."""
    if isinstance(state, dict):
        return {key: gathered(value) for key, value in state.items()}
    if isinstance(state, list):
        return [gathered(value) for value in state]
    if not hasattr(state, "full_tensor"):
        return state
    whole = state.full_tensor()
    return whole.cpu() if world().main else None


def placed(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor as ``like`` is: this process's part of it where that is sharded. Nothing is exchanged, and little is copied."""
    if not hasattr(like, "full_tensor"):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Put back what :func:`gathered` made of ``optimizer.state_dict()``, whether parameters are sharded now or not."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def fitted(value: Any, parameter: Tensor) -> Any:
        if not isinstance(value, Tensor):
            return value
        return placed(value.clone(), parameter) if value.shape == parameter.shape else value.clone()

    moments = {i: {name: fitted(value, parameters[i]) for name, value in kept.items()} for i, kept in state["state"].items()}
    optimizer.load_state_dict({**state, "state": moments})


@contextlib.contextmanager
def talking(model: nn.Module, *, last: bool) -> Iterator[None]:
    """Exchange gradients in this backward pass only if it is the last of its step: accumulation costs no needless talk."""
    if isinstance(model, DistributedDataParallel) and not last:
        with model.no_sync():
            yield
        return
    if (set_sync := getattr(model, "set_requires_gradient_sync", None)) is not None:
        set_sync(last)
    yield


def agree(*values: float | Tensor, device: torch.device) -> list[float]:
    """The mean of each value over all processes, as numbers that every process has alike. The host waits for the device here."""
    with waiting(device):
        told = torch.stack([torch.as_tensor(value, dtype=torch.float64).to(device) for value in values])
        if (here := world()).size > 1:
            dist.all_reduce(told)
            told /= here.size
        return [float(value) for value in told.cpu()]


def agreement() -> Callable[..., list[float]] | None:
    """A function that averages host numbers over all processes; None for a single process."""
    return partial(agree, device=torch.device("cpu")) if world().size > 1 else None


def wait() -> None:
    """Until every process has come here."""
    if world().size > 1:
        dist.barrier()


def collect(rows: Tensor) -> Tensor:
    """The rows of all processes, in order of rank, in the first process; no rows in the others. On the CPU."""
    if (here := world()).size == 1:
        return rows
    counts = [torch.zeros(1, dtype=torch.int64) for _ in range(here.size)]
    dist.all_gather(counts, torch.tensor([len(rows)]))
    padded = rows.new_zeros(int(max(counts)), *rows.shape[1:])  # a collective needs the same number from each
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts] if here.main else None
    dist.gather(padded, parts)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts)]) if parts is not None else rows[:0]


def broadcast(*tensors: Tensor) -> None:
    """Overwrite these tensors, in every process, with those of the first one."""
    for tensor in tensors if world().size > 1 else ():
        dist.broadcast(tensor, 0)


def same(word: str) -> str:
    """What the first process says, in all of them."""
    words = [word]
    if world().size > 1:
        dist.broadcast_object_list(words)
    return words[0]
