"""Several processes train one model: which process this is, and what they exchange (torchrun, DDP, FSDP2).

A run on N processes equals the run on one: process r takes the r-th part of every batch, gradients are averaged, and masks, crops and
order are functions of (seed, epoch, sample id), so it does not matter which process computes them.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..devices import allow_sync, set_device, wide
from ..errors import MinimaeError
from .stopping import end_without_parent


@dataclass(frozen=True)
class World:
    """This process among all: ``rank`` of ``size``; a single process is rank 0 of 1."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this process writes files and the progress bar."""
        return self.rank == 0


def world() -> World:
    """The processes that have joined; one, if none have."""
    return World(dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else World()


def join(environment: Mapping[str, str], device: str, *, timeout: float = 600.0) -> str:
    """Join the other processes if torchrun started this one (it sets RANK, LOCAL_RANK, WORLD_SIZE); → the device of this process.

    GPUs use NCCL, CPUs use gloo. timeout: seconds to wait for the others before all fail.
    A process that torchrun started ends when torchrun has ended. Raises MinimaeError when there are fewer GPUs than processes here.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        end_without_parent()
    if "RANK" not in environment or int(environment.get("WORLD_SIZE", "1")) == 1:
        return set_device(device)
    if device.startswith("cuda"):
        local_rank = int(environment["LOCAL_RANK"])
        if local_rank >= torch.cuda.device_count():
            raise MinimaeError(
                f"process {local_rank} of this machine has no GPU of its own: {torch.cuda.device_count()} are here; "
                "start torchrun with --nproc-per-node of at most that many"
            )
        device = set_device(f"cuda:{local_rank}")
    if not dist.is_initialized():
        backend, limit = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo", datetime.timedelta(seconds=timeout)
        store, rank, size = next(dist.rendezvous("env://", timeout=limit))
        store = dist.PrefixStore(rendezvous_key(store, rank, size, timeout), store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
    return device


def rendezvous_key(store: dist.Store, rank: int, size: int, timeout: float) -> str:
    """A key that only the processes of this start share; rank 0 chooses it.

    torchrun keeps its store when it restarts the processes, with the addresses of the dead ones in it, and the number of restarts
    differs between machines. So each start uses a fresh key: every rank calls under a new name, and rank 0 replies until every
    rank has received the key. Raises MinimaeError in rank 0 when some do not join in time; the others stop with an error of the store.
    """
    own = uuid.uuid4().hex
    if rank != 0:
        store.set(f"call-{rank}", own)
        key = store.get(f"answer-{own}").decode()
        store.set(f"heard-{key}-{rank}", "")
        return key
    absent, end = set(range(1, size)), time.monotonic() + timeout
    while absent:
        if time.monotonic() > end:
            raise MinimaeError(f"process(es) {', '.join(map(str, sorted(absent)))} of {size} did not join within {timeout:.0f} s")
        for other in sorted(absent):
            if store.check([f"call-{other}"]):  # perhaps from a dead process: the new one will overwrite it
                store.set(f"answer-{store.get(f'call-{other}').decode()}", own)
        absent = {other for other in absent if not store.check([f"heard-{own}-{other}"])}
        time.sleep(0.02)
    return own


def leave() -> None:
    """Leave the group of processes, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The transformer blocks of a model: they are compiled and sharded one by one."""
    return [block for part in model.modules() if isinstance(part, nn.ModuleList) for block in part]


def wrap_distributed(model: nn.Module, *, shard: bool) -> nn.Module:
    """The model as this process should call it: itself when alone; DDP (a copy each), or with ``shard`` FSDP2 (a part each).

    FSDP2 changes the model in place: its parameters become sharded tensors. Every process must start from the same weights.
    """
    if world().size == 1:
        return model
    if shard:
        from torch.distributed.fsdp import fully_shard

        for block in blocks_of(model):
            fully_shard(block)
        fully_shard(model)
        return model
    device = next(model.parameters()).device
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None, gradient_as_bucket_view=True)


def empty_copy(model: nn.Module) -> nn.Module:
    """A copy of a model whose parameters take no memory: :func:`unwrapped` fills it after training."""
    empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, dict(empty))


def unwrapped(model: nn.Module, empty: nn.Module) -> nn.Module:
    """A trained model that each process may call on its own: whole, in eval mode, not compiled.

    model: the trained one. empty: the same, or for a sharded one, what :func:`empty_copy` made; it gets the gathered weights.
    """
    if empty is not model:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        empty.load_state_dict(get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)), assign=True)
    for block in blocks_of(empty):
        block._compiled_call_impl = None  # it was compiled for batches of one size
    return empty.eval()


def whole_state(state: Any) -> Any:
    """A state dict with sharded tensors gathered on the CPU of the first process (None in the others). Every process must call it."""
    if isinstance(state, dict):
        return {key: whole_state(value) for key, value in state.items()}
    if isinstance(state, list):
        return [whole_state(value) for value in state]
    if not hasattr(state, "full_tensor"):
        return state
    whole = state.full_tensor()
    return whole.cpu() if world().main else None


def sharded_like(value: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor where ``like`` is sharded, otherwise the tensor. Nothing is exchanged."""
    if not hasattr(like, "full_tensor"):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a state that :func:`whole_state` gathered from ``optimizer.state_dict()``, whether parameters are sharded now or not."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def loaded(value: Any, parameter: Tensor) -> Any:
        if not isinstance(value, Tensor):
            return value
        return sharded_like(value.clone(), parameter) if value.shape == parameter.shape else value.clone()

    moments = {i: {name: loaded(value, parameters[i]) for name, value in values.items()} for i, values in state["state"].items()}
    optimizer.load_state_dict({**state, "state": moments})


@contextlib.contextmanager
def sync_gradients(model: nn.Module, *, last: bool) -> Iterator[None]:
    """Exchange gradients only in the last backward pass of a step, so that accumulation costs no extra exchange."""
    if isinstance(model, DistributedDataParallel) and not last:
        with model.no_sync():
            yield
        return
    if (set_sync := getattr(model, "set_requires_gradient_sync", None)) is not None:
        set_sync(last)
    yield


def all_reduce_mean(*values: float | Tensor, device: torch.device) -> list[float]:
    """The mean of each value over all processes; every process gets the same numbers. The host waits for the device here."""
    with allow_sync(device):
        total = torch.stack([torch.as_tensor(value, dtype=wide(device)).to(device) for value in values])
        if (size := world().size) > 1:
            dist.all_reduce(total)
            total /= size
        return [float(value) for value in total.cpu()]


def barrier() -> None:
    """Wait for all processes."""
    if world().size > 1:
        dist.barrier()


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of all processes, in order of rank, in the first process; no rows in the others. On the CPU."""
    if (process := world()).size == 1:
        return rows
    counts = [torch.zeros(1, dtype=torch.int64) for _ in range(process.size)]
    dist.all_gather(counts, torch.tensor([len(rows)]))
    padded = rows.new_zeros(int(max(counts)), *rows.shape[1:])  # a collective needs the same number from each
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts] if process.main else None
    dist.gather(padded, parts)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts)]) if parts is not None else rows[:0]


def broadcast_tensors(*tensors: Tensor) -> None:
    """Overwrite these tensors, in every process, with those of the first process."""
    for tensor in tensors if world().size > 1 else ():
        dist.broadcast(tensor, 0)


def broadcast(text: str) -> str:
    """The text of the first process, in every process."""
    values = [text]
    if world().size > 1:
        dist.broadcast_object_list(values)
    return values[0]
