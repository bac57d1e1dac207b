"""Checkpoints: when they are written, which are kept, what is read back, and what is refused."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import minimae
from minimae import MinimaeError
from minimae.data.images import Images
from minimae.tasks.pretrain import Pretrain, PretrainTask, build, pretrain
from minimae.train import folder, loop
from minimae.train import step as step_module
from minimae.train.checkpoint import Damaged, instead_of, load_checkpoint
from minimae.train.folder import Checkpoints, locked, saved_settings
from minimae.weights import load_pretrained

TINY = Pretrain(
    size="nano", image=8, width=16, depth=1, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2,
    epochs=3, warmup_epochs=1, batch=8, base_lr=0.05, log_every=5, save_every=0.0,
)  # fmt: skip


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.state_dict().values()])


class Failing(PretrainTask):
    """Raises in its ``dies``-th step; in step ``spoiled`` (from 0) its loss is not a number."""

    dies, spoiled, calls = -1, -1, -1

    def loss(self, model: Any, *inputs: Any) -> torch.Tensor:
        self.calls += 1
        if self.calls == self.dies:
            raise RuntimeError("the power is gone")
        return super().loss(model, *inputs) * (math.nan if self.calls == self.spoiled else 1.0)


def failing(recipe: Pretrain, images: Images, *, dies: int = -1, spoiled: int = -1) -> Failing:
    task = Failing(recipe, images, build(recipe, images))
    task.dies, task.spoiled = dies, spoiled
    return task


def stopped(recipe: Pretrain, images: Images, out: Path, after: int) -> None:
    with pytest.raises(RuntimeError, match="power"):
        loop.fit(failing(recipe, images, dies=after), recipe, out, quiet=True)


def files(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if path.name != "tensorboard")


# --- when -------------------------------------------------------------------------------------------------------------


def clocked(tmp_path: Path, *, every: float, takes: float) -> tuple[Checkpoints, list[float], Callable[[int], None]]:
    """Checkpoints by a clock that only moves when it is told to, and by ``takes`` seconds in a save."""
    now = [0.0]
    checkpoints = Checkpoints(tmp_path, replace(TINY, save_every=every), epoch_steps=5, clock=lambda: now[0])
    model = torch.nn.Linear(2, 2)
    optimizer, scaler = torch.optim.AdamW(model.parameters()), torch.amp.GradScaler(enabled=False)

    def save(step: int) -> None:
        original, checkpoints.write = checkpoints.write, lambda state: now.__setitem__(0, now[0] + takes)  # type: ignore[method-assign]
        checkpoints.save(model, optimizer, scaler, {"step": step, "history": []})
        checkpoints.write = original  # type: ignore[method-assign]

    return checkpoints, now, save


def test_time_counts_from_the_end_of_a_save(tmp_path: Path) -> None:
    checkpoints, now, save = clocked(tmp_path, every=60.0, takes=2.0)
    now[0] = 60.0
    assert not checkpoints.overdue()
    now[0] = 61.0
    assert checkpoints.overdue()
    save(1)
    assert now[0] == 63.0 and not checkpoints.overdue()
    now[0] = 123.5
    assert checkpoints.overdue(), "60 seconds after 63, not after 61"


def test_saving_takes_at_most_a_twentieth_of_the_time(tmp_path: Path) -> None:
    checkpoints, now, save = clocked(tmp_path, every=60.0, takes=90.0)  # longer than the interval: it saved in every step
    now[0] = 61.0
    save(1)
    saved = []
    for step in range(2, 8000):
        now[0] += 1.0
        if checkpoints.overdue():
            saved.append(now[0])
            save(step)
    gaps = [b - a for a, b in itertools.pairwise(saved)]
    assert gaps and min(gaps) >= 20 * 90.0


def test_nothing_is_due_without_a_folder() -> None:
    assert not Checkpoints(None, TINY, epoch_steps=5, clock=itertools.count(0, 1000).__next__).overdue()


# --- which ------------------------------------------------------------------------------------------------------------


def test_the_last_two_are_kept_and_some_epochs_for_good(images: Images, tmp_path: Path) -> None:
    pretrain(replace(TINY, keep_every=1.0), images, tmp_path, quiet=True)  # 5 steps an epoch, 15 in all
    assert files(tmp_path) == ["checkpoint-00000014.pt", "checkpoint.pt", "epoch-1.pt", "epoch-2.pt", "epoch-3.pt", "metrics.jsonl"]
    steps = {name: load_checkpoint(tmp_path / name, "pretrain")["step"] for name in files(tmp_path) if name.endswith(".pt")}
    assert steps == {"checkpoint-00000014.pt": 14, "checkpoint.pt": 15, "epoch-1.pt": 5, "epoch-2.pt": 10, "epoch-3.pt": 15}
    assert load_pretrained(tmp_path / "epoch-1.pt").recipe.keep_every == 1.0


@pytest.mark.parametrize(("keep", "before"), [(1, []), (3, ["checkpoint-00000013.pt", "checkpoint-00000014.pt"])])
def test_as_many_are_kept_as_asked(keep: int, before: list[str], images: Images, tmp_path: Path) -> None:
    pretrain(replace(TINY, keep=keep), images, tmp_path, quiet=True)
    assert files(tmp_path) == [*before, "checkpoint.pt", "metrics.jsonl"]


def test_a_new_run_in_an_old_folder_keeps_nothing_of_the_old_one(images: Images, tmp_path: Path) -> None:
    pretrain(TINY, images, tmp_path, quiet=True)
    stopped(replace(TINY, seed=5), images, tmp_path, after=3)
    assert files(tmp_path) == ["checkpoint-00000002.pt", "checkpoint.pt", "metrics.jsonl"]
    assert saved_settings(tmp_path, "pretrain")["seed"] == 5


# --- what is read -----------------------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_falls_back_to_the_one_before(images: Images, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, _ = pretrain(TINY, images, quiet=True)
    stopped(TINY, images, tmp_path, after=9)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(Damaged, match=r"truncated or damaged .*use checkpoint-00000008.pt beside it, or train again"):
        load_checkpoint(path)
    with pytest.raises(MinimaeError, match=r"damaged.*use checkpoint-00000008.pt beside it"):
        load_pretrained(tmp_path)  # to be used, and not to go on: which one is for the user to say
    resumed, _ = pretrain(TINY, images, tmp_path, resume=True, quiet=True)
    assert torch.equal(weights(whole), weights(resumed))
    warning = capsys.readouterr().err
    assert "checkpoint.pt is truncated or damaged" in warning and "Using" in warning and "from step 8" in warning


def test_the_latest_are_advised_by_their_time_and_not_by_their_name(tmp_path: Path) -> None:
    for time, name in enumerate(["epoch-9.pt", "checkpoint-00000990.pt", "epoch-10.pt"]):
        torch.save({}, tmp_path / name)
        os.utime(tmp_path / name, (time, time))
    assert instead_of(tmp_path / "checkpoint.pt") == "use checkpoint-00000990.pt or epoch-10.pt beside it"
    (tmp_path / "epoch-10.pt").write_bytes(b"")  # this one cannot help
    assert instead_of(tmp_path / "checkpoint.pt") == "use epoch-9.pt or checkpoint-00000990.pt beside it"


def test_changed_bytes_inside_a_checkpoint_are_noticed_wherever_it_is_read(
    images: Images, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped(TINY, images, tmp_path, after=9)
    path = tmp_path / "checkpoint.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for read in (load_checkpoint, load_pretrained, minimae.load):
        with pytest.raises(Damaged, match=r"differs from its checksum\): use checkpoint-00000008.pt beside it"):
            read(path)
    pretrain(TINY, images, tmp_path, resume=True, quiet=True)
    assert "from step 8" in capsys.readouterr().err


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({}, tmp_path / "checkpoint.pt")

    def refused(*given: object, **more: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("zipfile.ZipFile", refused)
    monkeypatch.setattr("torch.load", refused)
    for read in (load_checkpoint, minimae.load):
        with pytest.raises(MinimaeError, match=r"^cannot read .*checkpoint.pt \(Permission denied\)$"):
            read(tmp_path / "checkpoint.pt")


def test_weights_in_place_of_a_checkpoint_are_refused_in_words(images: Images, tmp_path: Path) -> None:
    pretrain(replace(TINY, keep=1), images, tmp_path, quiet=True)
    state = torch.load(tmp_path / "checkpoint.pt")
    torch.save({name: value for name, value in state.items() if name not in ("optimiser", "scaler")}, tmp_path / "checkpoint.pt")
    with pytest.raises(MinimaeError, match="holds only weights, without the optimizer's moments"):
        pretrain(TINY, images, tmp_path, resume=True, quiet=True)


def test_the_last_one_that_is_damaged_is_an_error(images: Images, tmp_path: Path) -> None:
    pretrain(replace(TINY, keep=1), images, tmp_path, quiet=True)
    (tmp_path / "checkpoint.pt").write_bytes(b"")
    with pytest.raises(Damaged, match="truncated or damaged"):
        pretrain(TINY, images, tmp_path, resume=True, quiet=True)


class Hostile:
    """Makes a file when it is unpickled, as a stand-in for worse."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_no_file_of_a_run_can_run_code(images: Images, tmp_path: Path) -> None:
    out, mark = tmp_path / "run", tmp_path / "owned"
    out.mkdir()
    torch.save({"format": "minimae-1", "kind": "pretrain", "step": Hostile(mark)}, out / "checkpoint.pt")
    with pytest.raises(MinimaeError, match="not a checkpoint of tensors and plain values") as error:
        pretrain(TINY, images, out, resume=True, quiet=True)
    assert not mark.exists() and "\n" not in str(error.value)


@pytest.mark.parametrize("state_of_run", [{}, {"step": "four"}, {"settings": [1]}, {"step": 1, "settings": {}, "history": 5}])
def test_plain_data_that_is_no_run_is_refused_in_one_line(state_of_run: dict[str, Any], images: Images, tmp_path: Path) -> None:
    torch.save({"format": "minimae-1", "kind": "pretrain", **state_of_run}, tmp_path / "checkpoint.pt")
    with pytest.raises(Damaged, match="does not describe a run"):
        pretrain(TINY, images, tmp_path, resume=True, quiet=True)


def test_a_checkpoint_is_mapped_and_not_read_whole(images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrain(replace(TINY, keep=1), images, tmp_path, quiet=True)
    how: list[Any] = []
    original = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: (how.append((k["mmap"], k["weights_only"])), original(*a, **k))[1])
    pretrain(TINY, images, tmp_path, resume=True, quiet=True)
    assert how and set(how) == {(True, True)}


# --- what is never saved ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save_every", [0.0, 60.0])
def test_a_loss_that_is_not_finite_is_never_saved_and_its_step_is_named(save_every: float, images: Images, tmp_path: Path) -> None:
    recipe = replace(TINY, log_every=1000, save_every=save_every)
    with pytest.raises(MinimaeError, match=r"loss became nan at step 6 \(epoch 1.20, images \d+, ") as error:
        loop.fit(failing(recipe, images, spoiled=6), recipe, tmp_path, quiet=True)
    if save_every:
        assert "no checkpoint had been written yet" in str(error.value) and not (tmp_path / "checkpoint.pt").exists()
    else:
        assert "the last good state is kept: step 6, in" in str(error.value)
        kept = load_checkpoint(tmp_path / "checkpoint.pt")
        assert kept["step"] == 6 and all(value.isfinite().all() for value in kept["model"].values())


def test_weights_that_are_not_finite_are_not_saved_though_their_loss_was(images: Images, tmp_path: Path, monkeypatch) -> None:
    original = step_module.update
    calls = []

    def spoils(model: Any, *rest: Any, **how: Any) -> Any:
        norm = original(model, *rest, **how)
        calls.append(1)
        if len(calls) == 4:
            next(model.parameters()).data.view(-1)[0] = math.inf

        return norm

    monkeypatch.setattr(step_module, "update", spoils)
    with pytest.raises(MinimaeError, match="not finite after step 4, though all losses were; the last good state is kept: step 3"):
        pretrain(TINY, images, tmp_path, quiet=True)
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 3


# --- one run, one folder ----------------------------------------------------------------------------------------------


def test_two_runs_cannot_use_one_folder(images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr(folder, "PATIENCE", 0.1)
    with locked(tmp_path), locked(tmp_path):  # the command and its loop take it one after the other
        with ThreadPoolExecutor(1) as pool, pytest.raises(MinimaeError, match="another run is using .*: wait until it ends, or choose"):
            pool.submit(pretrain, TINY, images, tmp_path, quiet=True).result()
        assert not (tmp_path / "checkpoint.pt").exists()
    pretrain(TINY, images, tmp_path, quiet=True)
    assert ".lock" not in files(tmp_path)
