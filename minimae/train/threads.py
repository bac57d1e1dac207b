"""Choose the number of CPU threads for a model, and lower it when other programs need the cores.

Threads of OpenMP wait for each other after every operation, and they spin while they wait. Operations of small models are so
short that two threads are 1.4 times as fast as one on a quiet machine, and a third as fast beside one busy process (docs/benchmarks.md).
So small models take one thread. Larger ones take all cores, and halve their threads whenever the cores are busy.

The number of threads changes the order of sums, and so the last digits of a result.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from tqdm import tqdm

from ..devices import cores, device_of
from ..errors import counted
from ..model.sizes import Size, flops

named = partial(counted, noun="thread")
SMALL = 25e9  # steps of up to this many floating-point operations take one thread
BUSY = 0.7  # below this CPU time / (wall time × threads), other programs need the cores
WINDOW = 3.0  # seconds over which that is measured; two low windows in a row count
PART = 256  # images per batch counted without training, where the batch is only the size of a chunk


def step_flops(size: Size | None, settings: Any = None, *, images: int = PART) -> float:
    """Floating-point operations of a training step with these settings; without settings, of a forward pass of a chunk of whole images."""
    if size is None:
        return 2 * SMALL
    cost = flops(size, getattr(settings, "ratio", None))
    return float(cost.step * settings.batch if settings is not None else cost.forward * images)


@dataclass(frozen=True)
class Choice:
    """A number of threads, its source, and the default."""

    count: int
    by: Literal["user", "environment", "checkpoint", "default"]
    default: int


def choose(
    work: float, *, wanted: int | None = None, stored: int | None = None, current: int, available: int, environment: Mapping[str, str]
) -> Choice:
    """Threads for steps of ``work`` floating-point operations: as wanted, else OMP_NUM_THREADS, else as stored in the checkpoint.

    Without these, one thread for small work, else ``current``: what torch would use now. It also stays when the program set it, so when
    it is neither all available cores nor half of them (torch takes one thread for two hyperthreads).
    """
    default = 1 if work <= SMALL and current in (available, available // 2) else current
    if wanted is not None:
        return Choice(wanted, "user", default)
    if environment.get("OMP_NUM_THREADS") or environment.get("MKL_NUM_THREADS"):
        return Choice(current, "environment", default)
    return Choice(default, "default", default) if stored is None else Choice(stored, "checkpoint", default)


def choose_here(work: float, *, wanted: int | None = None, stored: int | None = None) -> Choice:
    """:func:`choose` for this process, on this machine."""
    share = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    available, current = cores(), torch.get_num_threads()
    if share > 1 and current in (available, available // 2):
        available = current = cores(share)
    return choose(work, wanted=wanted, stored=stored, current=current, available=available, environment=os.environ)


def about_resuming(choice: Choice, stored: int | None) -> str | None:
    """A note when a resumed run has a different number of threads than before, or than a new run would have."""
    if stored is None:
        return None
    if choice.count != stored:
        return f"on {named(choice.count)}, before on {stored}: the last digits will differ from an unbroken run's (--threads {stored})"
    if choice.by == "checkpoint" and choice.default != stored:
        return f"on {named(stored)}, as before; a new run would take {choice.default} (--threads {choice.default}, with other last digits)"
    return None


class Threads:
    """Inside ``with``, torch computes with the chosen number of threads; afterwards with as many as before. None changes nothing.

    count: the number now. watched: halve it when the cores are taken, which CPU time over wall time shows; ``say`` reports that.
    """

    def __init__(
        self, choice: Choice | None, *, watched: bool = False, say: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.perf_counter, cpu: Callable[[], float] = time.process_time,
    ) -> None:  # fmt: skip
        self.count = None if choice is None else choice.count
        self.watched = watched and choice is not None and choice.by in ("default", "checkpoint")
        self.say = say or (lambda text: tqdm.write(text, file=sys.stderr))
        self.clock, self.cpu = clock, cpu
        self.wall = self.worked = self.waited = 0.0  # seconds of this window, and of waiting for images in the whole run
        self.low = False
        self.mark: tuple[float, float] | None = None

    def __enter__(self) -> Threads:
        self.before = torch.get_num_threads()
        set_threads(self.count)
        return self

    def __exit__(self, *_: object) -> None:
        set_threads(None if self.count is None else self.before)

    def skip(self) -> None:
        """Leave out what happened since the last step: saving, evaluation."""
        self.mark = self.clock(), self.cpu()

    def step(self, waited: float = 0.0) -> int | None:
        """Call it after each step → the number of threads from now on: half after two low windows in a row.

        waited: seconds of waiting for images so far.
        """
        if not self.watched or self.count is None or self.count == 1:
            return self.count
        before, idle, self.waited = self.mark, waited - self.waited, waited
        self.mark = now = self.clock(), self.cpu()
        if before is None:  # the first step allocates and compiles
            return self.count
        self.wall += max(0.0, now[0] - before[0] - idle)
        self.worked += now[1] - before[1]
        if self.wall >= WINDOW:
            low, was_low = self.worked < BUSY * self.count * self.wall, self.low
            self.wall = self.worked = 0.0
            self.low = low and not was_low
            if low and was_low:
                before_count, self.count = self.count, self.count // 2
                self.say(f"other programs need the cores: continuing with {named(self.count)}, before {before_count} (--threads decides)")
                set_threads(self.count)
        return self.count


def set_threads(count: int | None) -> None:
    """Set torch's number of threads if it is another one; None does nothing."""
    if count is not None and count != torch.get_num_threads():
        torch.set_num_threads(count)


def can_watch() -> bool:
    """Whether a low CPU time means that the cores are taken: where threads spin while they wait for each other, in one process."""
    passive = any(os.environ.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"))
    return sys.platform == "linux" and not passive and int(os.environ.get("WORLD_SIZE", "1")) == 1


def training(model: nn.Module, settings: Any, *, stored: int | None = None, say: Callable[[str], None] | None = None) -> Threads:
    """The threads of a training run with these settings (``batch``, ``threads``, for pre-training ``ratio``)."""
    size = size_of(model)
    if device_of(model).type != "cpu" or (size is None and settings.threads is None and stored is None):
        return Threads(None)
    choice = choose_here(step_flops(size, settings), wanted=settings.threads, stored=stored)
    threads = Threads(choice, watched=can_watch(), say=say)
    if message := about_resuming(choice, stored):
        threads.say(message)
    return threads


def inference(model: nn.Module) -> Threads:
    """The threads for passing whole images through a model in chunks."""
    size = size_of(model)
    if size is None or device_of(model).type != "cpu":
        return Threads(None)
    return Threads(choose_here(step_flops(size)))


def in_this_process(size: Size, settings: Any = None, *, device: str, images: int = PART) -> None:
    """Set the threads of a command for the rest of this process: for training with these settings, or for passing so many images at once.

    Reading, statistics and evaluation then use this number too. On a GPU nothing is changed.
    """
    if device == "cpu":
        torch.set_num_threads(choose_here(step_flops(size, settings, images=images), wanted=getattr(settings, "threads", None)).count)


def fix(count: int) -> None:
    """``--threads`` of a command: this many for the rest of this process and the processes it starts. Raises ValueError below 1."""
    if count < 1:
        raise ValueError(f"--threads must be at least 1, not {count}")
    torch.set_num_threads(count)
    os.environ["OMP_NUM_THREADS"] = str(count)


@contextmanager
def restored() -> Iterator[None]:
    """Restore the number of threads afterwards: a program that calls a command keeps its own."""
    before, variable = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    try:
        yield
    finally:
        set_threads(before)
        if variable is None:
            os.environ.pop("OMP_NUM_THREADS", None)
        else:
            os.environ["OMP_NUM_THREADS"] = variable


def size_of(model: nn.Module) -> Size | None:
    """The size of the first encoder or masked autoencoder in a model."""
    sizes = (getattr(part, "size", None) for part in model.modules())
    return next((size for size in sizes if isinstance(size, Size)), None)
