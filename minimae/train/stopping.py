"""How a run is stopped from outside (Ctrl-C, SIGTERM, a parent that died), and how all processes agree on it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

PATIENCE = 30.0  # seconds between SIGTERM and the end, as in torchrun
SECOND_PRESS = 0.5  # seconds: torchrun passes on a Ctrl-C that its processes have already received


@contextlib.contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collects Ctrl-C and SIGTERM, which stop the loop after its current forward pass; a second Ctrl-C stops at once."""
    received: list[int] = []
    first = 0.0

    def receive(number: int, frame: object) -> None:
        nonlocal first
        if received and number == signal.SIGINT and time.monotonic() - first > SECOND_PRESS:
            raise KeyboardInterrupt
        first = first or time.monotonic()
        received.append(number)

    try:
        before = {s: signal.signal(s, receive) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: it receives no signals
        before = {}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Agreement:
    """What all processes do next, decided together: stop if any received a signal, save when the first process's clock says so.

    Each counts forward passes, and they exchange about once every ``seconds``, in the same pass: an exchange in each would take longer
    than a step of a small model. mean: of values over all processes; None for a single process.
    """

    def __init__(
        self, signals: list[int], overdue: Callable[[], bool], mean: Callable[..., list[float]] | None, *, seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.signals, self.overdue, self.mean, self.seconds, self.clock = signals, overdue, mean, seconds, clock
        self.stop = self.save = False
        self.passes = self.left = 1
        self.since = clock()

    def passed(self) -> bool:
        """Call it after every forward pass → whether to stop."""
        self.left -= 1
        if self.left > 0:
            return self.stop
        if self.mean is None:
            self.stop, self.save, self.left = bool(self.signals), self.overdue(), 1
            return self.stop
        now = self.clock()
        stop, save, pass_seconds = self.mean(bool(self.signals), self.overdue(), (now - self.since) / self.passes)
        self.stop, self.save = self.stop or stop > 0, self.save or save > 0
        self.passes = self.left = max(1, int(self.seconds / max(pass_seconds, 1e-6)))
        self.since = now
        return self.stop

    def take_save(self) -> bool:
        """Whether to save now; true once for each time it is due."""
        save, self.save = self.save, False
        return save


def end_without_parent(*, every: float = 1.0, patience: float = PATIENCE) -> None:
    """From now on, stop this process when its parent has died, and end it after ``patience`` more seconds.

    A killed torchrun cannot end its processes: they would keep training beside the processes of the next start.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        with contextlib.suppress(OSError, ValueError):  # standard error may be gone, too
            print("minimae: the parent process is gone: saving and stopping", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(patience)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
