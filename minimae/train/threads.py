"""Choose the number of CPU threads for a model, and lower it when other programs need the cores.

Threads of OpenMP wait for each other after every operation, and they spin while they wait. Operations of small models are so
short that two threads are a third faster on a quiet machine, and four times slower beside one busy process (docs/benchmarks.md). So
small models take one thread. Larger ones take all cores, and halve their threads whenever the cores are busy.

The number of threads changes the order of sums, and so the last digits of a result.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from tqdm import tqdm

from ..devices import cores
from ..model.sizes import Size, flops

SMALL = 25e9  # steps of up to this many floating-point operations take one thread
BUSY = 0.7  # below this CPU time / (wall time × threads), other programs need the cores
WINDOW = 3.0  # seconds over which that is measured; two low windows in a row count
PART = 256  # images per batch counted without training, where the batch is only the size of a chunk


def step_flops(size: Size, images: int, *, ratio: float | None = None, trains: bool = True) -> float:
    """Floating-point operations of a step on ``images`` images: pre-training with a mask ratio, or the encoder on whole images."""
    cost = flops(size, ratio)
    return float((cost.step if trains else cost.forward) * images)


def chosen(work: float, most: int) -> int:
    """Threads for steps of ``work`` floating-point operations, of at most ``most``."""
    return 1 if work <= SMALL else most


@dataclass(frozen=True)
class Choice:
    """A number of threads, its origin, and the default."""

    count: int
    by: Literal["asked", "environment", "stored", "chosen"]
    usual: int


def choose(
    work: float, *, asked: int | None = None, stored: int | None = None, current: int, available: int, environment: Mapping[str, str]
) -> Choice:
    """The number of threads: as requested, else OMP_NUM_THREADS, else that of the resumed run, else what suits the work.

    current: what torch would use now. It stays when the program set it, that is, when it is neither all available cores nor half of
    them (torch takes one thread for two hyperthreads).
    """
    usual = chosen(work, current) if current in (available, available // 2) else current
    if asked is not None:
        return Choice(asked, "asked", usual)
    if environment.get("OMP_NUM_THREADS") or environment.get("MKL_NUM_THREADS"):
        return Choice(current, "environment", usual)
    return Choice(usual, "chosen", usual) if stored is None else Choice(stored, "stored", usual)


def about_resuming(choice: Choice, stored: int | None) -> str | None:
    """A note about the threads of a resumed run; None if they are as usual."""
    if stored is None:
        return None
    if choice.count != stored:
        return f"on {named(choice.count)}, before on {stored}: the last digits will not be those of an unbroken run (--threads {stored})"
    if choice.by == "stored" and choice.usual != stored:
        return f"on {named(stored)}, as before; a new run would take {choice.usual} (--threads {choice.usual}, with other last digits)"
    return None


def named(count: int) -> str:
    return f"{count} thread{'s' if count != 1 else ''}"


@dataclass
class Watch:
    """Whether threads get their cores, from CPU time over wall time. Their number halves after two low windows in a row."""

    count: int
    clock: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.process_time
    _spent: list[float] = field(default_factory=lambda: [0.0, 0.0])  # wall and CPU seconds of this window
    _low: bool = False
    _waited: float = 0.0
    _mark: tuple[float, float] | None = None

    def skip(self) -> None:
        """Leave out what happened since the last step: saving, evaluation."""
        self._mark = self.clock(), self.cpu()

    def step(self, waited: float = 0.0) -> bool:
        """Call it after a step; → whether it has just lowered the number of threads. waited: seconds of waiting for images so far."""
        before, idle, self._waited = self._mark, waited - self._waited, waited
        self.skip()
        if before is None or self._mark is None or self.count == 1:  # the first step allocates and compiles
            return False
        self._spent[0] += max(0.0, self._mark[0] - before[0] - idle)
        self._spent[1] += self._mark[1] - before[1]
        wall, worked = self._spent
        if wall < WINDOW:
            return False
        self._spent = [0.0, 0.0]
        low, was = worked < BUSY * self.count * wall, self._low
        self._low = low and not was
        if low and was:
            self.count //= 2
        return low and was


class Threads(AbstractContextManager["Threads"]):
    """Within it torch computes with the chosen number of threads; afterwards with as many as before. On a GPU nothing is changed.

    count: the number now, None on a GPU. watched: fewer when the cores are taken; ``say`` reports it.
    """

    def __init__(self, choice: Choice | None, *, watched: bool = False, say: Callable[[str], None] | None = None) -> None:
        self.count = None if choice is None else choice.count
        self.watch = Watch(choice.count) if choice is not None and watched and choice.by in ("chosen", "stored") else None
        self.say = say or (lambda text: tqdm.write(text, file=sys.stderr))

    def __enter__(self) -> Threads:
        self.before = torch.get_num_threads()
        self._set()
        return self

    def __exit__(self, *_: object) -> None:
        if self.count is not None and torch.get_num_threads() != self.before:
            torch.set_num_threads(self.before)

    def _set(self) -> None:
        if self.count is not None and self.count != torch.get_num_threads():
            torch.set_num_threads(self.count)

    def skip(self) -> None:
        """See :meth:`Watch.skip`."""
        if self.watch is not None:
            self.watch.skip()

    def step(self, waited: float = 0.0) -> int | None:
        """Call this after each step; see :meth:`Watch.step`. → the number of threads from now on."""
        if self.watch is not None and self.watch.step(waited):
            self.say(f"other programs need the cores: going on with {named(self.watch.count)}, before {self.count} (--threads decides)")
            self.count = self.watch.count
            self._set()
        return self.count


def choose_here(work: float, *, asked: int | None = None, stored: int | None = None) -> Choice:
    """:func:`choose` for this process, on this machine."""
    share = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    available, current = cores(), torch.get_num_threads()
    if share > 1 and current in (available, available // 2):
        available = current = cores(share)
    return choose(work, asked=asked, stored=stored, current=current, available=available, environment=os.environ)


def can_watch() -> bool:
    """Whether a low CPU time means that the cores are taken: where threads spin while they wait for each other, in one process."""
    passive = any(os.environ.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"))
    return sys.platform == "linux" and not passive and int(os.environ.get("WORLD_SIZE", "1")) == 1


def training(model: nn.Module, settings: Any, *, stored: int | None = None, say: Callable[[str], None] | None = None) -> Threads:
    """The threads of a training run with these settings (``batch``, ``threads``, for pre-training ``ratio``)."""
    size = size_of(model)
    if next(model.parameters()).device.type != "cpu" or (size is None and settings.threads is None and stored is None):
        return Threads(None)
    ratio = getattr(settings, "ratio", None)
    work = 2 * SMALL if size is None else step_flops(size, settings.batch, ratio=ratio)
    choice = choose_here(work, asked=settings.threads, stored=stored)
    threads = Threads(choice, watched=can_watch(), say=say)
    message = about_resuming(choice, stored)
    if message is not None:
        threads.say(message)
    return threads


def in_this_process(size: Size, settings: Any = None, *, device: str) -> None:
    """Set the threads of a command for the rest of this process: for a training run with these settings, or for passing whole images.

    Reading, statistics and evaluation then use this number too. On a GPU nothing is changed.
    """
    if device != "cpu":
        return
    trains = settings is not None
    images, ratio, asked = (settings.batch, getattr(settings, "ratio", None), settings.threads) if trains else (PART, None, None)
    torch.set_num_threads(choose_here(step_flops(size, images, ratio=ratio, trains=trains), asked=asked).count)


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
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
        if os.environ.get("OMP_NUM_THREADS") != variable:
            os.environ.pop("OMP_NUM_THREADS")
            os.environ.update({} if variable is None else {"OMP_NUM_THREADS": variable})


def inference(model: nn.Module) -> Threads:
    """The threads for passing whole images through a model, a chunk at a time."""
    size = size_of(model)
    if size is None or next(model.parameters()).device.type != "cpu":
        return Threads(None)
    return Threads(choose_here(step_flops(size, PART, trains=False)))


def size_of(model: nn.Module) -> Size | None:
    """The size of the first encoder or masked autoencoder in a model."""
    sizes = (getattr(part, "size", None) for part in model.modules())
    return next((found for found in sizes if isinstance(found, Size)), None)
