"""Worker processes: how many, what Ctrl-C and SIGTERM do to them, and how their death is reported.

Both signals reach the whole group of processes. The process that started the workers handles them; workers ignore them.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import MinimaeError

STOPS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held(*stops: signal.Signals) -> Iterator[None]:
    """In here these signals wait. Workers started here inherit that: none is stopped before it comes to :func:`ignore` them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore(*stops: signal.Signals) -> None:
    """In a worker: these signals are for the process that started it."""
    for stop in stops:
        signal.signal(stop, signal.SIG_IGN)


def ignore_stops(worker: int) -> None:
    """How a DataLoader's worker starts (``worker_init_fn``): the training process answers a stop, after the step it is in."""
    ignore(*STOPS)
    end_with_parent()


def end_with_parent() -> None:
    """From now on, end this worker when the process that made it is gone, whatever it waits for.

    The parent may have died before: its process id, which torch's own watch compares, would then be read too late.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("end_with_parent is for a process that multiprocessing started")

    def leave() -> None:
        parent.join()  # a pipe that closes with the parent
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()


@contextmanager
def noted_interrupts() -> Iterator[list[int]]:
    """Ctrl-C is noted, not raised, in here: raised inside ``wait`` it can leave locks behind, for which a pool then waits forever."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Make the folder, and lock it against other packing processes. Raises MinimaeError when it is locked."""
    target.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.parent / f".{target.name}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise MinimaeError(f"another process packs into {target}: wait for it, or choose another folder") from None
    except NotImplementedError:  # a file system without locks
        pass
    try:
        yield
    finally:
        lock.release()


def tells_a_death(error: RuntimeError) -> bool:
    """Whether torch says with this that a DataLoader's worker died or hangs: by a signal, so wherever the loop happens to be."""
    return str(error).startswith("DataLoader") or out_of_files(error)


def out_of_files(error: Exception) -> bool:
    """Whether this error means that a process has too many files open: each worker, and each batch it returns, needs some."""
    number = getattr(error, "errno", None)
    return number in (errno.EMFILE, errno.ENFILE) or any(said in str(error) for said in ("Too many open files", "items of ancdata"))


def death_of_a_worker(error: Exception) -> str:
    """What happened, and what to do."""
    if out_of_files(error):
        return "too many open files: raise the limit (ulimit -n 4096), or use fewer --workers"
    why = "a process that reads images died or hangs; if memory or /dev/shm ran out, use fewer --workers"
    return f"{why} ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
