"""Time without waiting: the host synchronises with the device before and after a round, never between two steps."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

Step = Callable[[], object]


def finish(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "mps":
        torch.mps.synchronize()  # takes no device
    else:
        getattr(torch, device.type).synchronize(device)


def seconds(step: Step, count: int, device: torch.device) -> float:
    """Seconds of one step, the mean of ``count`` in a row: by events on a GPU, by the clock elsewhere."""
    if device.type == "cuda":
        with torch.cuda.device(device):  # events belong to the current stream of the current GPU
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            finish(device)
            start.record()
            for _ in range(count):
                step()
            end.record()
            finish(device)
        return start.elapsed_time(end) / 1e3 / count
    finish(device)
    started = time.perf_counter()
    for _ in range(count):
        step()
    finish(device)
    return (time.perf_counter() - started) / count


def interleave(
    steps: Mapping[str, Step], *, rounds: int, count: int, device: torch.device, before: Step = lambda: None
) -> dict[str, list[float]]:
    """Seconds of a step in each round, by name. Every round calls ``before``, then runs all of them, each time in a new order."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for r in range(rounds):
        before()
        first = r % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(seconds(steps[name], count, device))
    return times


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """What these tensors occupy; those that share memory count once."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def cpu_peak(step: Step, held: Iterable[Tensor]) -> int:
    """Peak bytes in tensors during a step on a CPU: those held before, and the allocations that torch's profiler saw."""
    before = bytes_of(held)
    with quiet_profiler(), tempfile.TemporaryDirectory() as folder:
        profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True)
        inside = getattr(step, "inside", lambda job: job())  # the profiler sees the thread in which it was started
        inside(profile.start)
        step()
        inside(profile.stop)
        trace = Path(folder, "trace.json")
        profile.export_chrome_trace(str(trace))
        events = [event for event in json.loads(trace.read_text(encoding="utf-8"))["traceEvents"] if event.get("name") == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        now += event["args"]["Bytes"]
        most = max(most, now)
    return before + most


@contextlib.contextmanager
def quiet_profiler() -> Iterator[None]:
    """The profiler's library writes to standard error; inside, that output is discarded."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def gpu_peak(step: Step, before: int, device: torch.device) -> int:
    """Peak bytes in tensors during a step on a GPU, above ``before`` (what others held when this one was built)."""
    torch.cuda.reset_peak_memory_stats(device)
    step()
    finish(device)
    return torch.cuda.max_memory_allocated(device) - before
