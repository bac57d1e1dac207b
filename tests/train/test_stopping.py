"""How a run stops: between two passes, in all processes at once, after one Ctrl-C, and when the process that started it is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch

from minimae import Interrupted
from minimae.data.images import Images
from minimae.tasks.pretrain import Pretrain, PretrainTask, build, pretrain
from minimae.train import loop, stopping
from minimae.train.checkpoint import load_checkpoint
from minimae.train.schedule import scaled_lr
from minimae.train.stopping import Agreement, stop_requests

TINY = Pretrain(
    size="nano", image=8, width=16, depth=1, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2,
    epochs=3, warmup_epochs=1, batch=2, accumulate=4, base_lr=0.05,
)  # fmt: skip


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.state_dict().values()])


class Signalled(PretrainTask):
    """Gets SIGTERM in its ``number``-th forward pass."""

    number, calls = -1, 0

    def loss(self, model: Any, *inputs: Any) -> torch.Tensor:
        self.calls += 1
        if self.calls == self.number:
            signal.raise_signal(signal.SIGTERM)
        return super().loss(model, *inputs)


def test_a_stop_does_not_wait_for_the_end_of_a_long_step(images: Images, tmp_path: Path) -> None:
    whole, result = pretrain(TINY, images, quiet=True)
    task = Signalled(TINY, images, build(TINY, images))
    task.number = 10  # the second of four passes of the third step
    with pytest.raises(Interrupted, match="Saved at step 2 of 15") as stop:
        loop.fit(task, TINY, tmp_path, quiet=True)
    assert str(stop.value) == stop.value.args[0] and stop.value.args[1] == signal.SIGTERM
    assert task.calls == 10, "the pass is finished, and no other begun"
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 2
    resumed, again = pretrain(TINY, images, tmp_path, resume=True, quiet=True)
    assert torch.equal(weights(whole), weights(resumed)), "the step that was given up is repeated, to the bit"
    assert [p["loss"] for p in result.history] == [p["loss"] for p in again.history]


# --- all processes together -------------------------------------------------------------------------------------------


class Together:
    """A mean over threads that stand for processes, and how often it was asked for."""

    def __init__(self, processes: int) -> None:
        self.barrier, self.values, self.calls = Barrier(processes, timeout=30), {}, 0  # type: ignore[var-annotated]

    def agree(self, rank: int) -> Callable[..., list[float]]:
        def mean(*values: float) -> list[float]:
            self.values[rank] = values
            self.barrier.wait()
            found = [sum(column) / len(self.values) for column in zip(*self.values.values(), strict=True)]
            self.barrier.wait()
            self.calls += rank == 0
            return found

        return mean


@pytest.mark.parametrize("pass_seconds", [0.01, 0.3, 40.0])
def test_processes_agree_about_once_a_second_and_stop_in_the_same_pass(pass_seconds: float) -> None:
    together, asked_at = Together(3), 500 if pass_seconds < 1 else 5

    def process(rank: int) -> int:
        now, asked = [0.0], []  # type: ignore[var-annotated]
        own = pass_seconds * (1 + 0.1 * rank)  # their clocks differ
        agreement = Agreement(asked, lambda: False, together.agree(rank), clock=lambda: now[0])
        for number in range(1, 100_000):
            now[0] += own
            if rank == 1 and number == asked_at:
                asked.append(signal.SIGTERM)
            if agreement.passed():
                return number
        raise AssertionError("it never stopped")

    with ThreadPoolExecutor(3) as pool:
        stopped = list(pool.map(process, range(3)))
    assert len(set(stopped)) == 1 and asked_at <= stopped[0]
    assert (stopped[0] - asked_at) * pass_seconds <= 1.0, "at most a second late"
    seconds = stopped[0] * pass_seconds * 1.1
    assert together.calls <= 2.5 * seconds + 2, "an exchange in each pass would take longer than the pass"


def test_one_process_looks_in_every_pass() -> None:
    asked: list[int] = []
    late = iter([False, True, False])
    agreement = Agreement(asked, lambda: next(late), None)
    assert [agreement.passed(), agreement.take_save()] == [False, False]
    assert [agreement.passed(), agreement.take_save(), agreement.take_save()] == [False, True, False]
    asked.append(signal.SIGINT)
    assert agreement.passed()


# --- signals ----------------------------------------------------------------------------------------------------------


def test_the_ctrl_c_that_torchrun_passes_on_is_not_a_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    with stop_requests() as asked:
        signal.raise_signal(signal.SIGINT)
        now[0] += 0.1
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert len(asked) == 3
        now[0] += 1.0
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


CHILD = """
import sys, time
from minimae.train.stopping import end_without_parent, stop_requests
with stop_requests() as asked:
    end_without_parent(every=0.05, patience=PATIENCE)
    print("ready", flush=True)
    end = time.monotonic() + 60
    while time.monotonic() < end and not (asked and SAVES):
        time.sleep(0.05)
open(sys.argv[1], "w").write("saved")
"""
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1], sys.argv[2]])"


@pytest.mark.skipif(sys.platform == "win32", reason="processes have no new parent there")
@pytest.mark.parametrize("saves", [True, False])
def test_a_process_ends_when_the_one_that_started_it_is_killed(saves: bool, tmp_path: Path) -> None:
    """One that answers the request saves; one that hangs, in an exchange with processes that are dead, is ended."""
    code = CHILD.replace("PATIENCE", "30.0" if saves else "0.2").replace("SAVES", str(saves))
    mark = tmp_path / "mark"
    environment = dict(os.environ)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, code, str(mark)], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    parent.kill()
    parent.wait()
    parent.stdout.read()  # to the end: the pipe closes when the child, which holds it too, has ended
    assert mark.exists() == saves


# --- the first and the last step --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epochs", "warmup", "share"), [(0.2, 0.0, 0.5), (0.2, 0.2, 1.0), (0.4, 0.4, 1.0), (1.0, 0.0, None)])
def test_no_step_is_wasted(epochs: float, warmup: float, share: float | None, images: Images) -> None:
    """40 images, 8 a step: 0.2 epochs are one step. Its learning rate was 0, so it changed nothing."""
    recipe = replace(TINY, epochs=epochs, warmup_epochs=warmup, log_every=1)
    before = weights(build(recipe, images))
    model, result = pretrain(recipe, images, quiet=True)
    lrs = [point["lr"] for point in result.history]
    assert len(lrs) == round(epochs * 5) and min(lrs) > 0 and not torch.equal(before, weights(model))
    if share is not None:
        assert lrs[-1] == pytest.approx(share * scaled_lr(0.05, 8))
    assert max(lrs) <= scaled_lr(0.05, 8)


def test_the_last_step_changes_the_weights(images: Images, tmp_path: Path) -> None:
    recipe = replace(TINY, save_every=0.0)
    pretrain(recipe, images, tmp_path, quiet=True)
    one, other = (load_checkpoint(tmp_path / name)["model"] for name in ("checkpoint-00000014.pt", "checkpoint.pt"))
    assert any(not torch.equal(one[name], other[name]) for name in one)


