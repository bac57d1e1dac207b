"""Worker processes that read or pack: how many, how they start and end, and what is reported when one dies."""

from __future__ import annotations

import atexit
import errno
import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch.utils.data import DataLoader, Dataset

from ..errors import MinimaeError

STOPS = (signal.SIGINT, signal.SIGTERM)


class Workers(Iterator[Any]):
    """``dataset[request]`` for each request, in order, made ahead by ``count`` processes; with 0, made here when it is needed.

    An item that is an exception is raised here. Ctrl-C and SIGTERM reach the whole group of processes, and only this one handles them.
    prefetch: items that each worker makes ahead. timeout: seconds after which waiting for one is an error. pinned: in page-locked memory.
    Raises MinimaeError when a worker dies or hangs, or when there are too many open files.
    """

    def __init__(
        self, dataset: Dataset[Any], requests: Iterable[Any], count: int, *, prefetch: int = 2, timeout: float = 600.0, pinned: bool = False
    ) -> None:
        options: dict[str, Any] = {"num_workers": count, "pin_memory": pinned}
        if count:
            options |= {"prefetch_factor": prefetch, "timeout": timeout, "worker_init_fn": start_worker}
        # batch_size=None: a request is an item. With a generator of its own, it does not change the loop's random numbers.
        self._loader: Any = DataLoader(dataset, None, sampler=requests, generator=torch.Generator(), **options)
        self._iterator: Any = None
        self._at_exit = partial(_close, weakref.ref(self))
        atexit.register(self._at_exit)  # before Python's own ending, which waits for workers that may be stuck

    def __next__(self) -> Any:
        try:
            if self._loader is None:
                raise StopIteration
            if self._iterator is None:
                with _held(*STOPS):
                    self._iterator = iter(self._loader)
            item = next(self._iterator)
        except (RuntimeError, OSError, EOFError) as error:  # OSError, EOFError: a worker died while it handed over an item
            self.close()
            if isinstance(error, RuntimeError) and not from_dead_worker(error):
                raise
            raise MinimaeError(death_of_a_worker(error)) from error
        except BaseException:
            self.close()
            raise
        if isinstance(item, Exception):
            self.close()
            raise item
        return item

    def close(self) -> None:
        """End the workers. No more items follow."""
        iterator, self._iterator, self._loader = self._iterator, None, None
        atexit.unregister(self._at_exit)
        if not hasattr(iterator, "_workers"):
            return
        with suppress(RuntimeError):  # torch reports a dead worker by a signal, which can arrive while the others are ended
            iterator._shutdown_workers()  # dropping the iterator would do, but a traceback can keep it alive
        for process in iterator._workers:
            if process.is_alive():  # stuck in a read that never ends
                process.kill()
                process.join(5)

    def __del__(self) -> None:
        self.close()


def _close(workers: weakref.ref[Workers]) -> None:
    if (living := workers()) is not None:
        living.close()


@contextmanager
def _held(*stops: signal.Signals) -> Iterator[None]:
    """Inside, these signals wait. A process started here inherits that, so it is not stopped before it ignores them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(worker: int) -> None:
    """How a worker starts (``worker_init_fn``): it leaves stop signals to the process that started it, and ends with that process."""
    for stop in STOPS:
        signal.signal(stop, signal.SIG_IGN)
    end_with_parent()


def end_with_parent() -> None:
    """From now on, end this worker as soon as its parent has ended, whatever it waits for.

    torch compares the parent's process id, but reads it too late if the parent has died before the worker starts.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("end_with_parent is for a process that multiprocessing started")

    def leave() -> None:
        parent.join()  # a pipe that closes with the parent
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Create the folder and lock it against other packing processes. Raises MinimaeError if it is locked."""
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


def from_dead_worker(error: RuntimeError) -> bool:
    """Whether torch reports with this error that a worker died or hangs. It uses a signal, so any line can raise it."""
    return str(error).startswith("DataLoader") or out_of_files(error)


def out_of_files(error: Exception) -> bool:
    """Whether a process has too many files open: each worker needs some, and so does each batch that it returns."""
    number = getattr(error, "errno", None)
    return number in (errno.EMFILE, errno.ENFILE) or any(text in str(error) for text in ("Too many open files", "items of ancdata"))


def death_of_a_worker(error: Exception) -> str:
    """The message: what happened, and what to do."""
    if out_of_files(error):
        return "too many open files: raise the limit (ulimit -n 4096), or use fewer --workers"
    why = "a process that reads images died or hangs; if memory or /dev/shm ran out, use fewer --workers"
    return f"{why} ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
