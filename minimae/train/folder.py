"""The folder of a run: its checkpoints, its metrics, and the lock that keeps other runs out.

``checkpoint.pt`` is the newest checkpoint, ``checkpoint-STEP.pt`` are earlier ones, ``epoch-EPOCH.pt`` are kept for good.
They are the same whether one process trained or many, with DDP or FSDP2.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn

from ..devices import device_of
from ..errors import MinimaeError
from .checkpoint import CHECKPOINT, Damaged, load_checkpoint, load_weights, replacing, save_checkpoint
from .distributed import all_reduce_mean, broadcast, load_optimizer, whole_state, world
from .log import to_terminal
from .schedule import epochs_done
from .settings import Settings

METRICS, LOCK = "metrics.jsonl", ".lock"
NUMBERED = re.compile(r"checkpoint-(\d{8,})(\.pt)?")
PATIENCE = 10.0  # seconds to wait for the folder of a run
SHARE = 20  # saving takes at most this fraction of the time: one in 20


class Checkpoints:
    """Writes the checkpoints of one run into ``out`` (None writes nothing) and reads them back; every process has one.

    A save is due ``save_every`` seconds after the end of the last one, but not before 20 times the seconds that it took; and at each
    multiple of ``keep_every`` epochs. step: that of the newest checkpoint, None before the first.
    """

    def __init__(
        self, out: Path | None, settings: Settings, *, epoch_steps: float, clock: Callable[[], float] = time.monotonic
    ) -> None:  # fmt: skip
        self.out, self.settings, self.epoch_steps, self.clock = out, settings, epoch_steps, clock
        self.step: int | None = None
        self.resumed = False
        self.ended, self.took = clock(), 0.0

    def overdue(self) -> bool:
        """Whether it is time for a save. The clocks of processes differ, so the first decides for all."""
        return self.out is not None and self.clock() - self.ended > max(self.settings.save_every, SHARE * self.took)

    def planned(self, step: int) -> bool:
        """Whether this step is saved whatever the clock says: the end of a kept epoch, or every step."""
        return self.settings.save_every == 0 or self.epoch_ends(step) is not None

    def epoch_ends(self, step: int) -> float | None:
        """The epoch whose checkpoint is kept for good, if it is complete with this step: a multiple of ``keep_every``."""
        every = self.settings.keep_every
        return None if every is None else epochs_done(step, self.epoch_steps, every)

    def save(self, model: nn.Module, optimizer: Any, scaler: Any, state: dict[str, Any]) -> None:
        """Write a checkpoint and the metrics; every process calls it. Raises MinimaeError in all processes if the first cannot write."""
        if self.out is None or state["step"] == self.step:
            return
        started = self.clock()
        tensors = {"model": whole_state(model.state_dict()), "optimiser": whole_state(optimizer.state_dict())}
        error: MinimaeError | None = None
        if world().main:
            try:
                self.write({**state, **tensors, "scaler": scaler.state_dict()})
            except MinimaeError as failed:
                error = failed
            except OSError as failed:
                error = MinimaeError(f"could not save into {self.out} ({failed}). Free some space or choose another --out")
        if all_reduce_mean(error is not None, device=device_of(model))[0]:
            raise error or MinimaeError(f"the first process could not save into {self.out}; its own message says why")
        self.step, self.ended = state["step"], self.clock()
        self.took = self.ended - started

    def write(self, state: dict[str, Any]) -> None:
        """Write the newest checkpoint; the one before is renamed by its step. Old ones are deleted once the new one is complete."""
        assert self.out is not None
        path, step = self.out / CHECKPOINT, state["step"]
        if self.step is not None and self.settings.keep > 1 and path.exists():
            link(path, self.out / f"checkpoint-{self.step:08d}.pt")
        save_checkpoint(path, state)
        with replacing(self.out / METRICS) as temporary:  # with the checkpoint, so that both are always of the same step
            temporary.write_text("".join(json.dumps(point) + "\n" for point in state["history"]), encoding="utf-8")
        if (epoch := self.epoch_ends(step)) is not None:
            link(path, self.out / f"epoch-{epoch:g}.pt")
        fresh = self.step is None and not self.resumed  # then all others are of an earlier run
        older = sorted((number, old) for old, number in numbered(self.out).items() if number < step and not fresh)
        kept = {old for _, old in older[len(older) - min(len(older), self.settings.keep - 1) :]}
        for old in numbered(self.out).keys() - kept:
            with contextlib.suppress(OSError):
                old.unlink()

    def restore(
        self, kind: str, model: nn.Module, optimizer: Any, scaler: Any, check: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:  # fmt: skip
        """Restore model and optimizer from the newest readable checkpoint; → the rest of its contents.

        check: raises if the checkpoint does not fit the run; it is called before anything is changed.
        """
        if self.out is None:
            raise MinimaeError("resuming needs the folder of the run")
        path, state = newest(self.out, kind)
        check(state)
        moments = state.pop("optimiser", None)
        if broadcast(str(state["step"])) != str(state["step"]):
            raise MinimaeError(f"this process reads step {state['step']} in {self.out}, and the first another: is the folder shared?")
        if not moments:
            raise MinimaeError(f"{path} holds only weights, without the optimizer's moments, so it cannot be resumed")
        load_weights(model, state.pop("model"), path)
        try:
            load_optimizer(optimizer, moments)
            if scale := state.pop("scaler"):  # empty when the run so far needed no scaler: on another device
                scaler.load_state_dict(scale)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise MinimaeError(f"the moments in {path} do not belong to this optimizer ({error}); use another checkpoint") from None
        self.resumed = True
        self.step = state["step"] if path.name == CHECKPOINT else None
        return state

    def kept(self) -> str:
        """What can be resumed, for messages."""
        if self.out is None:
            return "nothing was saved (no --out)"
        if self.step is None:
            return f"the state it was resumed from is in {self.out}" if self.resumed else "no checkpoint had been written yet"
        return f"the last good state is kept: step {self.step}, in {self.out / CHECKPOINT}"


def numbered(out: Path) -> dict[Path, int]:
    """The checkpoints before the newest, with their steps."""
    matches = {path: NUMBERED.fullmatch(path.name) for path in out.glob("checkpoint-*")}
    return {path: int(match[1]) for path, match in matches.items() if match}


def newest(out: Path, kind: str) -> tuple[Path, dict[str, Any]]:
    """The checkpoint with the highest step that can be read, and its contents.

    A damaged one is skipped with a warning. Raises MinimaeError when there is none, or when the run is of another kind.
    """
    steps, damage = numbered(out), None
    if (path := out / CHECKPOINT).is_file():
        try:
            steps[path] = load_checkpoint(path, kind)["step"]
        except Damaged as error:
            damage = error
    for path in sorted(steps, key=steps.__getitem__, reverse=True):
        try:
            state = load_checkpoint(path, kind)
            if damage is not None and world().main:
                to_terminal(f"warning: {damage}. Using {path}, from step {state['step']}")
            return path, state
        except Damaged as error:
            damage = damage or error
    raise damage or MinimaeError(f"there is no checkpoint at {out / CHECKPOINT}")


def saved_settings(out: Path, kind: str) -> dict[str, Any]:
    """The recipe of the run in a folder, as one process would run it: with several, each step took ``accumulate`` × their number.

    Raises MinimaeError when there is no run, or one of another kind.
    """
    _, state = newest(out, kind)
    settings = dict(state["settings"])
    settings["accumulate"] = settings.get("accumulate", 1) * state.get("processes", 1)
    return settings


def can_resume(out: Path) -> bool:
    """Whether there is a checkpoint in the folder."""
    return (out / CHECKPOINT).is_file() or bool(numbered(out))


@contextlib.contextmanager
def locked(out: Path | None) -> Iterator[None]:
    """Inside, no other run can use the folder. The first process holds the lock for all, and may take it again.

    It waits ``PATIENCE`` seconds: a run that was killed may still be ending. Raises MinimaeError, in every process, after that.
    """
    if out is None:
        yield
        return
    lock = FileLock(out / LOCK, timeout=PATIENCE, is_singleton=True)
    refused = False
    if world().main:
        try:
            out.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            refused = True
        except (OSError, NotImplementedError):  # a file system without locks, or one that cannot be written: that is reported elsewhere
            pass
    try:
        if all_reduce_mean(refused, device=torch.device("cpu"))[0]:
            raise MinimaeError(f"another run is using {out}: wait until it ends, or choose another folder with --out")
        yield
    finally:
        if lock.is_locked:
            if lock.lock_counter == 1:
                with contextlib.suppress(OSError):
                    os.unlink(out / LOCK)
            lock.release()


def link(path: Path, other: Path) -> None:
    """Give a file a second name; where the file system has no links, copy it."""
    with replacing(other) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)
