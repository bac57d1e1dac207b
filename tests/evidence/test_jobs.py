"""Jobs are named by what decides their result, are done once, shared between processes, and go on after an interruption."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import Timeout
from minimae_book.evidence import jobs
from minimae_book.evidence.budgets import SMOKE
from minimae_book.evidence.claims import both, start, tuned
from minimae_book.evidence.evaluations import Linear, Patches
from minimae_book.evidence.jobs import Job, Start, Store, hash_bits, run

from minimae import data
from minimae.errors import Interrupted, MinimaeError

QUIET: Any = lambda text: None  # noqa: E731


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, data.load, say=QUIET)


def smallest(seed: int = 0, **changes: Any) -> Start:
    """A pre-training of eight steps."""
    return replace(start(SMOKE, seed=seed, **changes), limit=256)


def question(seed: int = 0) -> Linear:
    return Linear(data="fashion", seed=seed)


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_name_depends_on_everything_that_decides_and_on_nothing_else() -> None:
    one = Job(smallest(), question())
    assert one.key == Job(smallest(), question()).key
    others = [
        Job(smallest(1), question()),
        Job(smallest(ratio=0.5), question()),
        Job(smallest(), question(1)),
        Job(replace(smallest(), limit=100), question()),
        Job(replace(smallest(), trained=False), question()),
        Job(smallest(), Patches(data="shapes", scenes=3)),
    ]
    assert len({job.key for job in [one, *others]}) == len(others) + 1
    told = replace(smallest().recipe, log_every=7, save_every=1.0)
    assert Job(replace(smallest(), recipe=told), question()).key == one.key


def test_an_untrained_network_is_the_same_whatever_the_training_would_have_been() -> None:
    plain = replace(smallest(), trained=False)
    longer = replace(plain, recipe=replace(plain.recipe, epochs=9.0, ratio=0.5, target="pixels", base_lr=1.0))
    deeper = replace(plain, recipe=replace(plain.recipe, depth=3))
    assert plain.key == longer.key != deeper.key


def test_the_name_is_the_same_on_every_machine() -> None:
    assert hash_bits(question()) == "bb867fa3d0e85abc"


def test_claims_share_their_pre_trainings() -> None:
    (a, b), c = both(SMOKE, "x"), tuned(SMOKE, "MAE", 100, labels=100)
    assert a.job(0).start.key == b.job(0).start.key == c.job(0).start.key
    assert a.job(0).key == c.job(0).key, "the same question to the same encoder"


# --- doing ------------------------------------------------------------------------------------------------------------


def test_what_is_done_is_not_done_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(smallest(), question())
    run([job], store)
    answer = store.answer(job)
    assert answer and 0 < answer["value"] <= 100 and answer["seconds"] > 0 and answer["environment"]["torch"] == torch.__version__
    monkeypatch.setattr(jobs, "pretrain", None)
    monkeypatch.setattr(Linear, "answer", None)
    run([job], store)
    assert store.answer(job) == answer


def test_the_progress_counts_down(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    answers = iter([None] * 3 + [{}] * 3)
    monkeypatch.setattr(Store, "answer", lambda *_: next(answers))
    monkeypatch.setattr(jobs, "advance", lambda job, store, progress: told.append(progress) or True)
    run([Job(smallest(seed), question()) for seed in range(3)], store)
    assert told == ["3 of 3 left", "2 of 3 left", "1 of 3 left"]


def test_the_same_answer_comes_again_from_nothing(store: Store, tmp_path: Path) -> None:
    job, other = Job(smallest(), question()), Store(tmp_path / "other", data.load, say=QUIET)
    values = []
    for each in (store, other):
        run([job], each)
        values.append(each.answer(job)["value"])  # type: ignore[index]
    assert values[0] == values[1]


def test_a_pre_training_that_was_stopped_goes_on_to_the_same_weights(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, whole = Job(smallest(), question()), Store(tmp_path / "whole", data.load, say=QUIET)
    run([job], whole)
    from minimae.train import step

    calls = []
    usual = step.update

    def stops(*given: Any, **how: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise Interrupted("stopped from outside")
        return usual(*given, **how)

    monkeypatch.setattr(step, "update", stops)
    job = Job(replace(job.start, recipe=replace(job.start.recipe, save_every=0.0)), job.question)
    with pytest.raises(Interrupted):
        run([job], store)
    assert not store.trained(job.start) and store.answer(job) is None
    run([job], store)
    assert len(calls) == 5 + 8 - 4, "four steps were done and saved, and not done again"
    ours, theirs = (s.encoder(job.start).state_dict() for s in (store, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_job_in_other_hands_is_left_to_them(store: Store) -> None:
    job = Job(replace(smallest(), trained=False), question())
    with store.lock(job.key):
        assert not jobs.advance(job, store, "")
        with pytest.raises(Timeout), store.lock(job.key):
            pass
    assert store.answer(job) is None
    assert jobs.advance(job, store, "") and store.answer(job) is not None
    assert not jobs.advance(job, store, "")


def in_a_process(folder: Path, done: Any, meeting: Any) -> None:
    """What a second terminal would do; reports the jobs that it did itself. Its first one is not over before the other has one too."""
    torch.set_num_threads(1)
    mine: list[str] = []
    store = Store(folder, data.load, say=QUIET)
    asked = Store.ask

    def ask(self: Store, job: Job) -> None:
        mine.append(job.key)
        if len(mine) == 1:
            meeting.wait()
        asked(self, job)

    Store.ask = ask  # type: ignore[method-assign]
    run(several(), store, pause=0.05)
    done.put(mine)


def several() -> list[Job]:
    return [Job(replace(smallest(seed), trained=False), question(seed)) for seed in range(5)]


@pytest.mark.slow
def test_two_processes_share_the_work_and_do_nothing_twice(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    done, meeting = context.Queue(), context.Barrier(2)
    workers = [context.Process(target=in_a_process, args=(tmp_path, done, meeting)) for _ in range(2)]
    for worker in workers:
        worker.start()
    first, second = done.get(timeout=240), done.get(timeout=240)
    for worker in workers:
        worker.join()
    assert sorted([*first, *second]) == sorted(job.key for job in several())
    assert first and second, "both had something to do"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MinimaeError, match="cannot work in .*; give another folder with --out"):
        run([Job(replace(smallest(), trained=False), question())], Store(tmp_path / "file", data.load, say=QUIET))
