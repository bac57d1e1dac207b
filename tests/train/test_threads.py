"""Threads: one for small models, all cores for large ones, fewer beside other programs; stored with a run; the program's own otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from minimae_book import demo as demo_module
from minimae_book.evidence import command as reproduce_command
from minimae_book.evidence.command import ReproduceCommand

from minimae import MAE, size
from minimae.cli import main
from minimae.cli.parsing import parse
from minimae.data.images import Images
from minimae.recipes import RECIPES
from minimae.tasks.pretrain import Pretrain, PretrainTask, pretrain
from minimae.train import threads
from minimae.train.checkpoint import CHECKPOINT, load_checkpoint
from minimae.train.threads import Threads, about_resuming, choose, step_flops

ROOT = Path(__file__).resolve().parents[2]
SMALL_WORK, LARGE_WORK = 1e9, 1e12
TINY = Pretrain(
    size="nano", image=8, width=16, depth=2, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2,
    epochs=1, warmup_epochs=0.2, batch=8, base_lr=0.05, log_every=1, save_every=0.0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def free(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody has decided, no clock decides, and the number of threads is afterwards what it was."""
    monkeypatch.setattr(threads, "can_watch", lambda: False)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def images() -> Images:
    pixels = torch.randint(0, 256, (40, 1, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return Images("noise", pixels, torch.arange(40) % 4, ("a", "b", "c", "d"))


# --- the policy ---------------------------------------------------------------------------------------------------------


def chosen(work: float, cores: int) -> int:
    return choose(work, current=cores, available=cores, environment={}).count


@pytest.mark.parametrize("name", ["fashion-demo", "fashion-nano", "fashion-finetune", "fashion-scratch"])
def test_the_models_of_the_demo_and_the_book_take_one_thread(name: str) -> None:
    entry = RECIPES[name]
    assert chosen(step_flops(entry.size, entry.recipe), 16) == 1
    assert chosen(step_flops(entry.size), 16) == 1


@pytest.mark.parametrize(("name", "changes", "batch"), [("micro", {}, 128), ("tiny", {"patch": 4, "image": 28}, 64), ("base", {}, 8)])
def test_larger_models_take_all_cores(name: str, changes: dict[str, int], batch: int) -> None:
    assert chosen(step_flops(size(name, **changes), Pretrain(batch=batch)), 16) == 16


def test_who_decides_in_which_order() -> None:
    quiet = {"current": 8, "available": 8, "environment": {}}
    by_user = {**quiet, "current": 3, "environment": {"OMP_NUM_THREADS": "3"}}
    assert choose(SMALL_WORK, **quiet).count == 1 and choose(LARGE_WORK, **quiet).count == 8
    assert choose(SMALL_WORK, stored=2, **quiet).count == 2 and choose(LARGE_WORK, stored=1, **quiet).count == 1
    assert choose(SMALL_WORK, stored=2, **by_user).count == 3 and choose(LARGE_WORK, **by_user).count == 3
    assert choose(SMALL_WORK, wanted=5, stored=2, **by_user).count == 5
    assert choose(LARGE_WORK, current=4, available=8, environment={}).count == 4, "torch takes one thread for two hyperthreads"
    assert choose(SMALL_WORK, current=4, available=8, environment={}).count == 1
    assert choose(SMALL_WORK, current=3, available=8, environment={}).count == 3, "the program set that"


def test_a_run_that_goes_on_says_what_is_not_as_usual() -> None:
    quiet = {"current": 8, "available": 8, "environment": {}}
    assert about_resuming(choose(SMALL_WORK, **quiet), None) is None
    assert about_resuming(choose(SMALL_WORK, stored=1, **quiet), 1) is None
    said = about_resuming(choose(LARGE_WORK, stored=1, **quiet), 1)
    assert said is not None and said.startswith("on 1 thread, as before; a new run would take 8 (--threads 8")
    said = about_resuming(choose(LARGE_WORK, wanted=4, stored=1, **quiet), 1)
    assert said is not None and said.startswith("on 4 threads, before on 1: the last digits") and "--threads 1" in said


# --- fewer beside other programs ----------------------------------------------------------------------------------------


class Clock:
    """Wall and CPU time as a test says."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def run(self, team: Threads, steps: int, *, share: float, seconds: float = 1.0, waited: float = 0.0) -> list[int]:
        """So many steps in which each thread gets this share of a core; → the number of threads after each."""
        counts = []
        for _ in range(steps):
            self.wall += seconds + waited
            self.cpu += seconds * share * (team.count or 0)
            self.waited = getattr(self, "waited", 0.0) + waited
            team.step(self.waited)
            counts.append(team.count or 0)
        return counts


def watching(count: int, said: list[str] | None = None) -> tuple[Threads, Clock]:
    clock = Clock()
    choice = choose(LARGE_WORK, current=count, available=count, environment={})
    say = [].append if said is None else said.append  # type: ignore[var-annotated]
    return Threads(choice, watched=True, say=say, clock=lambda: clock.wall, cpu=lambda: clock.cpu), clock


def test_threads_that_get_their_cores_stay() -> None:
    watch, clock = watching(2)
    assert set(clock.run(watch, 100, share=0.99)) == {2}
    assert set(clock.run(watch, 100, share=0.72)) == {2}


def test_threads_halve_when_others_have_the_cores_for_a_while() -> None:
    watch, clock = watching(2)  # 1.24 of 2 was measured beside one busy process
    counts = clock.run(watch, 30, share=0.62)
    assert counts == [2] * 6 + [1] * 24, "the first step does not count, then two windows of three seconds"
    watch, clock = watching(8)
    assert sorted(set(clock.run(watch, 60, share=0.5)), reverse=True) == [8, 4, 2, 1]


def test_a_short_disturbance_changes_nothing() -> None:
    watch, clock = watching(4)
    for _ in range(5):
        assert set(clock.run(watch, 3, share=0.3) + clock.run(watch, 15, share=0.98)) == {4}


def test_waiting_for_images_and_saving_are_no_contention() -> None:
    watch, clock = watching(2)
    assert set(clock.run(watch, 60, share=0.95, waited=3.0)) == {2}
    for _ in range(20):
        clock.run(watch, 3, share=0.95)
        clock.wall += 30.0  # a checkpoint is written
        watch.skip()
    assert watch.count == 2


def test_it_is_said_and_set() -> None:
    said: list[str] = []
    team, clock = watching(2, said)
    with team:
        assert torch.get_num_threads() == 2
        clock.run(team, 6, share=0.62)
        assert said == [] and torch.get_num_threads() == 2
        clock.run(team, 1, share=0.62)
        assert torch.get_num_threads() == 1
    assert said == ["other programs need the cores: continuing with 1 thread, before 2 (--threads decides)"]
    assert torch.get_num_threads() == 1, "as before, which conftest.py sets"


@pytest.mark.parametrize("who", [{"wanted": 2}, {"environment": {"OMP_NUM_THREADS": "2"}}])
def test_a_number_that_a_person_chose_stays(who: dict[str, object]) -> None:
    choice = choose(LARGE_WORK, **{"current": 2, "available": 2, "environment": {}, **who})  # type: ignore[arg-type]
    assert not Threads(choice, watched=True).watched


# --- in training --------------------------------------------------------------------------------------------------------


def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of threads of every step from now on."""
    seen: list[int] = []
    original = PretrainTask.loss
    monkeypatch.setattr(PretrainTask, "loss", lambda *given: (seen.append(torch.get_num_threads()), original(*given))[1])
    return seen


def test_a_small_run_takes_one_thread_and_gives_the_others_back(images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda share=1: 2 // share)
    torch.set_num_threads(2)
    seen = used(monkeypatch)
    pretrain(TINY, images, tmp_path, quiet=True)
    assert set(seen) == {1} and torch.get_num_threads() == 2
    assert load_checkpoint(tmp_path / CHECKPOINT)["threads"] == 1


def test_a_number_that_was_asked_for_is_used_and_stored(images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = used(monkeypatch)
    pretrain(replace(TINY, threads=2), images, tmp_path, quiet=True)
    assert set(seen) == {2} and load_checkpoint(tmp_path / CHECKPOINT)["threads"] == 2
    with pytest.raises(ValueError, match="threads must be at least 1, or None"):
        replace(TINY, threads=0)


def test_a_resumed_run_has_the_threads_of_its_checkpoint(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(threads, "cores", lambda share=1: 2 // share)
    original = PretrainTask.loss

    def dies(*given: object) -> torch.Tensor:
        if len(seen) == 3:
            raise RuntimeError("the power is gone")
        return original(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(PretrainTask, "loss", dies)
    seen = used(monkeypatch)
    with pytest.raises(RuntimeError, match="power"):
        pretrain(replace(TINY, threads=2), images, tmp_path, quiet=True)
    monkeypatch.setattr(PretrainTask, "loss", original)
    seen = used(monkeypatch)
    resumed, _ = pretrain(TINY, images, tmp_path, resume=True)
    assert set(seen) == {2} and "on 2 threads, as before; a new run would take 1 (--threads 1" in capsys.readouterr().err
    whole, _ = pretrain(replace(TINY, threads=2), images, quiet=True)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_run_that_falls_stores_its_last_number(images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "can_watch", lambda: True)
    monkeypatch.setattr(threads, "SMALL", 0.0)
    monkeypatch.setattr(threads, "cores", lambda share=1: 4 // share)
    monkeypatch.setattr(threads, "WINDOW", 0.0)
    monkeypatch.setattr(threads, "BUSY", 1e9)  # always busy
    torch.set_num_threads(4)
    seen = used(monkeypatch)
    pretrain(TINY, images, tmp_path, quiet=True)
    assert seen == [4] * 3 + [2] * 2 and load_checkpoint(tmp_path / CHECKPOINT)["threads"] == 1, "the last step was low again"


def test_a_model_on_a_gpu_or_of_another_kind_leaves_the_threads_alone() -> None:
    class Other(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)

    assert threads.training(Other(), TINY).count is None
    with torch.device("meta"):
        assert threads.training(MAE(size("nano")), TINY).count is None


# --- in somebody's own program ------------------------------------------------------------------------------------------


def test_importing_changes_no_program_s_threads() -> None:
    code = (
        "import torch, os; torch.set_num_threads(3); before = dict(os.environ); import minimae, minimae_book, minimae.train.loop; "
        "assert dict(os.environ) == before; print(torch.get_num_threads())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3"


def test_a_command_sets_its_threads_and_a_program_that_calls_one_keeps_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[int, str | None]] = []
    monkeypatch.setattr(demo_module, "demo", lambda *a, **k: seen.append((torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS"))))
    monkeypatch.setattr(threads, "cores", lambda share=1: 2 // share)
    torch.set_num_threads(2)
    assert main(["demo", "--out", str(tmp_path)]) == 0 and seen == [(1, None)] and torch.get_num_threads() == 2
    monkeypatch.setattr(ReproduceCommand, "opener", lambda self: seen.append((torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS"))))
    monkeypatch.setattr(reproduce_command, "run", lambda *a, **k: sys.exit(0))
    with pytest.raises(SystemExit):
        main(["reproduce", "loss", "--budget", "smoke", "--threads", "2", "--out", str(tmp_path)])
    assert seen[1] == (2, "2") and torch.get_num_threads() == 2 and "OMP_NUM_THREADS" not in os.environ
    assert main(["reproduce", "loss", "--budget", "smoke", "--threads", "0"]) == 2


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_threads_is_an_option_of_training(command: str) -> None:
    words = {"pretrain": ["pretrain", "fashion-demo"], "finetune": ["finetune", "--weights", "fashion-nano"]}[command]
    assert parse([*words, "--threads", "2"]).recipe.threads == 2


def test_every_recipe_lets_minimae_choose() -> None:
    assert {getattr(entry.recipe, "threads", None) for entry in RECIPES.values()} == {None}
