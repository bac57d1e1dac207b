"""What a run tells: TensorBoard, Weights & Biases, the time left, a warning. And that no log can end a run."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from minimae import MinimaeError
from minimae.data.images import Images
from minimae.tasks.pretrain import Pretrain, pretrain
from minimae.train import log
from minimae.train.distributed import World
from minimae.train.log import YOUNG, Logs
from minimae.train.loss_bands import Expectation

SMALL = Pretrain(
    size="nano", image=8, width=16, depth=1, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2,
    epochs=4, warmup_epochs=0, batch=8, log_every=1, save_every=0.0,
)  # fmt: skip
NORMAL = Expectation(target="normalised", values=768, warmup=0)


def point(step: int, loss: float = 0.5, speed: float = 100.0) -> dict[str, float]:
    return {"step": step, "epoch": step / 10, "loss": loss, "lr": 1e-3, "images_per_s": speed, "waiting": 0.0}


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard would show: its own reader, over all event files of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder / log.EVENTS))
    reader.Reload()
    return {name: [(event.step, event.value) for event in reader.Scalars(name)] for name in reader.Tags()["scalars"]}


def run_at(step: int = 0, history: list[dict[str, float]] | None = None) -> dict[str, Any]:
    return {"step": step, "history": history or [], "settings": {}}


def test_events_are_those_of_the_metrics(images: Images, tmp_path: Path) -> None:
    _, result = pretrain(SMALL, images, tmp_path, quiet=True)
    found = scalars(tmp_path)
    assert set(found) == {"epoch", "loss", "lr", "images_per_s", "waiting", "gradient_norm"} and result.steps == 20
    for name in found:
        assert [step for step, _ in found[name]] == list(range(1, 21))
        assert [value for _, value in found[name]] == pytest.approx([p[name] for p in result.history], rel=1e-5)


def test_a_run_that_goes_on_has_no_step_twice(tmp_path: Path) -> None:
    with Logs(tmp_path, 8, run_at()) as first:
        for step in range(1, 9):
            first.point(point(step, loss=1.0))
    time.sleep(1.1)  # TensorBoard reads event files in the order of the seconds in their names
    with Logs(tmp_path, 8, run_at(5)) as second:  # the checkpoint was of step 5; the process died after step 8
        for step in range(6, 11):
            second.point(point(step, loss=2.0))
    assert scalars(tmp_path)["loss"] == [(s, 1.0 if s <= 5 else 2.0) for s in range(1, 11)]


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "world", lambda: World(1, 2))
    with Logs(tmp_path, 8, run_at(), wandb="project", expected=NORMAL, say=pytest.fail) as logs:
        for step in range(YOUNG + 1, YOUNG + 20):
            logs.point(point(step, loss=9.0))
    assert not list(tmp_path.iterdir())


def test_without_tensorboard_a_run_is_no_different(images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log.importlib.util, "find_spec", lambda name: None)
    pretrain(replace(SMALL, epochs=1), images, tmp_path, quiet=True)
    assert (tmp_path / "metrics.jsonl").is_file() and not (tmp_path / log.EVENTS).exists()


def test_a_log_that_breaks_does_not_end_the_run(tmp_path: Path) -> None:
    said: list[str] = []
    told = Logs(tmp_path, 8, run_at(), say=said.append)
    told.sinks["TensorBoard"].close()
    told.sinks["TensorBoard"] = SimpleNamespace(write=lambda p: 1 / 0, close=lambda: None)
    told.sinks["another"] = SimpleNamespace(write=lambda p: None, close=lambda: 1 / 0)
    for step in range(3):
        assert told.point(point(step + 1)) == "loss 0.5000, lr 1.00e-03, 100 images/s"
    told.__exit__(None, None, None)
    assert said == [
        "TensorBoard stopped accepting points (division by zero); the run continues, and metrics.jsonl is still written",
        "another did not close (division by zero); its last points may be missing",
    ]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / log.EVENTS).write_text("a file where a folder should be")
    with pytest.raises(MinimaeError, match="cannot write .*tensorboard.*choose another --out"):
        Logs(tmp_path, 8, run_at())


def test_a_folder_without_permission_is_noticed_before_the_writers_own_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refused(dir: Path) -> None:
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    with pytest.raises(MinimaeError, match=r"cannot write into .*tensorboard \(Permission denied\): change its permissions"):
        Logs(tmp_path, 8, run_at())
    assert capfd.readouterr().err == "" and list((tmp_path / log.EVENTS).iterdir()) == []


# --- warnings ---------------------------------------------------------------------------------------------------------


def test_a_loss_outside_its_band_is_told_once_and_not_again_after_a_restart() -> None:
    said: list[str] = []
    told, history = Logs(None, 8, run_at(), expected=NORMAL, say=said.append), []
    for step in range(1, YOUNG + 40):
        history.append(point(step, loss=1.5))
        told.point(history[-1])
        assert not said or step > YOUNG, "the first steps of a run say little"
    assert len(said) == 1 and said[0].startswith("warning: the loss is 1.5000") and "does not learn" in said[0]
    again = Logs(None, 8, run_at(len(history), history), expected=NORMAL, say=pytest.fail)
    for step in range(YOUNG + 40, YOUNG + 80):
        again.point(point(step, loss=1.5))


@pytest.mark.parametrize(("base_lr", "warns"), [(1e-9, True), (0.02, False)])
def test_a_run_that_does_not_learn_warns_its_owner(base_lr: float, warns: bool, capsys: pytest.CaptureFixture[str]) -> None:
    rows, up = torch.arange(8), torch.arange(40)[:, None, None, None] % 2  # half of the images fall, half rise: one patch tells which
    pixels = 100 + (2 * up - 1) * (8 * rows[:, None] + 4 * rows) + torch.randint(0, 20, (40, 1, 8, 8))
    slopes = Images("slopes", pixels.to(torch.uint8))
    pretrain(replace(SMALL, base_lr=base_lr, epochs=44), slopes)
    told = capsys.readouterr().err
    assert ("warning: the loss is" in told) == warns and told.count("does not learn") == int(warns)


# --- Weights & Biases, by a stand-in -------------------------------------------------------------------------------------


class Service(SimpleNamespace):
    """What the package wandb does for us, without a network."""

    def __init__(self) -> None:
        super().__init__(started=[], points=[], finished=0)

    def init(self, **how: Any) -> Any:
        self.started.append(how)
        known = max((step for step, _ in self.points), default=-1) + 1
        return SimpleNamespace(step=known, log=lambda values, step: self.points.append((step, values)), finish=self.finish)

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setitem(sys.modules, "wandb", found := Service())  # type: ignore[arg-type]
    return found


def test_points_are_sent_and_a_run_keeps_its_id(images: Images, tmp_path: Path, service: Service) -> None:
    recipe = replace(SMALL, wandb="masks", epochs=2)
    _, result = pretrain(recipe, images, tmp_path / "run", quiet=True)
    assert [step for step, _ in service.points] == list(range(1, 11)) and service.finished == 1
    assert [values["loss"] for _, values in service.points] == [p["loss"] for p in result.history]
    [how] = service.started
    assert how["project"] == "masks" and how["name"] == "run" and how["config"]["batch"] == 8 and how["resume"] == "allow"

    with Logs(tmp_path / "run", 8, run_at(5), wandb="masks") as told:  # as after a crash: the service is ahead of the checkpoint
        for step in range(6, 14):
            told.point(point(step))
    assert service.started[1]["id"] == how["id"] and [step for step, _ in service.points] == list(range(1, 14)), "rising, none twice"
    with Logs(tmp_path / "run", 8, run_at(), wandb="masks"):  # from the beginning: another run
        pass
    assert service.started[2]["id"] != how["id"]


def test_it_is_asked_for_and_not_installed(monkeypatch: pytest.MonkeyPatch, images: Images) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MinimaeError, match="pip install wandb, or leave --wandb out"):
        pretrain(replace(SMALL, wandb="masks"), images, quiet=True)


def test_it_does_not_start(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "init", lambda **how: 1 / 0)
    with pytest.raises(MinimaeError, match="did not start .*WANDB_MODE=offline"):
        Logs(None, 8, run_at(), wandb="masks")
