"""What a task of a user's own gets from the loop, what is logged of a run, and runs of earlier versions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from apart import apart
from torch import Tensor, nn

from minimae import MinimaeError
from minimae.data.images import Images
from minimae.data.types import Batch
from minimae.tasks.finetune import Finetune, finetune
from minimae.tasks.pretrain import Pretrain, build, pretrain
from minimae.train import step
from minimae.train.checkpoint import load_checkpoint
from minimae.train.loop import fit
from minimae.train.optim import layer_lrs
from minimae.train.settings import Settings
from minimae.train.task import Task

OLD = Path(__file__).with_name("data")
TINY = Pretrain(
    size="nano", image=8, patch=4, width=8, depth=1, heads=2, decoder_width=8, decoder_depth=1, decoder_heads=2,
    epochs=3, warmup_epochs=1, batch=8, base_lr=0.05, log_every=1, save_every=0.0, keep=1,
)  # fmt: skip
AVERAGED = Finetune(epochs=3, warmup_epochs=1, batch=8, ema=0.8, save_every=0.0, log_every=1, keep=1)


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_a_run_of_version_06_is_resumed(kind: str, images: Images, tmp_path: Path) -> None:
    """The files were written by version 0.6 after 7 of 15 steps."""
    shutil.copy(OLD / f"{kind}-0.6.pt", tmp_path / "checkpoint.pt")

    def train(out: Path | None, resume: bool) -> Any:
        if kind == "pretrain":
            return pretrain(TINY, images, out, resume=resume, quiet=True)
        torch.manual_seed(0)
        return finetune(AVERAGED, build(TINY, images).encoder, images, images.statistics, out, resume=resume, quiet=True)

    (resumed, again), (whole, result) = train(tmp_path, True), train(None, False)
    assert [p["step"] for p in again.history] == list(range(1, 16))
    assert [p["loss"] for p in again.history] == pytest.approx([p["loss"] for p in result.history], rel=1e-4)
    assert apart(resumed.state_dict(), whole.state_dict()) < 1e-5, "on the machine that wrote them even to the bit"


class Denoising(Task):
    """Remove noise: the least that a task needs."""

    kind = "denoising"

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        clean = batch.pixels.flatten(1) / 255
        return clean + 0.1 * torch.sin(99 * clean + batch.ids[:, None]), clean

    def loss(self, model: nn.Module, *inputs: Tensor) -> Tensor:
        noisy, clean = inputs
        return (model(noisy) - clean).square().mean()


def denoising(images: Images) -> Denoising:
    torch.manual_seed(0)
    return Denoising(nn.Linear(64, 64), images)


SETTINGS = Settings(epochs=3, warmup_epochs=1, batch=8, base_lr=0.1, log_every=1, save_every=0.0)


def test_a_task_of_two_methods_trains_and_resumes_to_the_bit(images: Images, tmp_path: Path) -> None:
    whole = denoising(images)
    result = fit(whole, SETTINGS, quiet=True)
    assert result.history[-1]["loss"] < result.history[0]["loss"]

    def stops(task: Task, point: dict[str, float]) -> None:
        if point["step"] == 8:
            raise RuntimeError("the power is gone")

    with pytest.raises(RuntimeError, match="power"):
        fit(denoising(images), SETTINGS, tmp_path, callbacks=[stops], quiet=True)
    resumed = denoising(images)
    fit(resumed, SETTINGS, tmp_path, resume=True, quiet=True)
    assert torch.equal(whole.model.weight, resumed.model.weight)
    with pytest.raises(MinimaeError, match="other images .images: 40 → 20"):
        fit(denoising(images.subset(range(20))), SETTINGS, tmp_path, resume=True, quiet=True)


def test_without_its_two_methods_a_task_says_what_is_missing(images: Images) -> None:
    with pytest.raises(NotImplementedError, match=r"inputs\(batch\), and loss\(model, \*inputs\)"):
        fit(Task(nn.Linear(2, 2), images), SETTINGS, quiet=True)


# --- what is logged ---------------------------------------------------------------------------------------------------


def test_numbers_of_callbacks_are_logged(images: Images, tmp_path: Path) -> None:
    fit(denoising(images), SETTINGS, tmp_path, callbacks=[lambda task, point: {"twice": 2 * point["step"]}], quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["twice"] for line in lines] == [2 * line["step"] for line in lines]


@pytest.mark.parametrize("number", [np.float64(0.5), np.float32(0.5), torch.tensor(0.5)], ids=lambda number: type(number).__name__)
def test_numbers_of_other_libraries_become_plain_ones(number: Any, images: Images, tmp_path: Path) -> None:
    fit(denoising(images), SETTINGS, tmp_path, callbacks=[lambda task, point: {"measured": number}], quiet=True)
    assert load_checkpoint(tmp_path / "checkpoint.pt")["history"][-1]["measured"] == 0.5
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["measured"] == 0.5


@pytest.mark.parametrize("clip", [None, 1e-3])
def test_gradients_from_before_do_not_enter_the_first_step(clip: float | None, images: Images) -> None:
    clean, used, recipe = denoising(images), denoising(images), replace(SETTINGS, clip=clip)
    for parameter in used.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    fit(clean, recipe, quiet=True)
    fit(used, recipe, quiet=True)
    assert torch.equal(clean.model.weight, used.model.weight)


@pytest.mark.parametrize("clip", [None, 1e-3])
def test_the_gradient_norm_is_that_before_clipping(clip: float | None, images: Images) -> None:
    task = denoising(images)
    batch = images.batch(*next(iter([(torch.arange(40), torch.zeros(40, dtype=torch.int64))])))
    task.loss_of(batch).backward()
    wanted = torch.cat([p.grad.flatten() for p in task.model.parameters() if p.grad is not None]).norm()
    task.model.zero_grad()
    history = fit(task, replace(SETTINGS, batch=40, clip=clip), quiet=True).history  # one step sees all images
    assert history[0]["gradient_norm"] == pytest.approx(float(wanted), rel=1e-4)


def test_every_layer_s_learning_rate_is_logged_where_they_differ(images: Images) -> None:
    _, result = finetune(replace(AVERAGED, layer_decay=0.5), build(TINY, images).encoder, images, images.statistics, quiet=True)
    point = result.history[4]
    assert [point[f"lr_x{scale}"] for scale in ("0.25", "0.5", "1")] == [scale * point["lr"] for scale in (0.25, 0.5, 1.0)]
    assert layer_lrs(torch.optim.SGD([torch.zeros(1, requires_grad=True)]), 0.1) == {}


def test_a_run_is_profiled_on_request(images: Images, tmp_path: Path) -> None:
    fit(denoising(images), replace(SETTINGS, profile=True), tmp_path, quiet=True)
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert any("addmm" in str(event.get("name")) for event in trace["traceEvents"])
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 15
    with pytest.raises(MinimaeError, match="--profile writes a trace into the folder"):
        fit(denoising(images), replace(SETTINGS, profile=True), quiet=True)


# --- one batch ahead --------------------------------------------------------------------------------------------------


def test_batches_are_fetched_one_ahead_and_an_error_waits_for_its_batch(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, with streams that do nothing."""
    read: list[int] = []

    def loader() -> Iterator[Batch]:
        for i in range(3):
            read.append(i)
            yield images.batch(torch.tensor([i]), torch.tensor([0]))
        raise MinimaeError("image 3 is damaged")

    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(step, "side_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(Tensor, "record_stream", lambda self, stream: None)
    batches, seen = step.Prefetch(loader(), torch.device("cuda")), []
    for _ in range(3):
        seen.append(int(next(batches).ids))
        batches.fetch()
        batches.fetch()
    assert seen == [0, 1, 2] == [*read[:3]] and int(batches.ids) == 2
    with pytest.raises(MinimaeError, match="image 3 is damaged"):
        next(batches)
