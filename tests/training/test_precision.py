"""Half precision is for the model. What it sees (crops, colours, mixed images, targets) is made in float32, in every way of training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from minimae.data.source import Images
from minimae.tasks.finetune import Finetune, FinetuneTask, finetune
from minimae.tasks.pretrain import Pretrain, PretrainTask, build, pretrain
from minimae.tasks.probe_train import Probe, ProbeTask, train_probe
from minimae.training import loop

SHAPE = {"size": "nano", "image": 16, "patch": 4, "width": 16, "depth": 1, "heads": 2, "decoder_width": 16, "decoder_depth": 1}
PRETRAIN = Pretrain(**SHAPE, batch=8, epochs=1, warmup_epochs=0, crop=(0.2, 1.0), jitter=0.4)  # type: ignore[arg-type]
FINETUNE = Finetune(batch=8, epochs=1, warmup_epochs=0, mixup=0.8, cutmix=1.0, erasing=0.25, crop=(0.3, 1.0))
PROBE = Probe(batch=8, epochs=1, warmup_epochs=0)


@pytest.fixture(scope="module")
def images() -> Images:
    pixels = torch.randint(0, 256, (16, 3, 20, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Images("noise", pixels, torch.arange(16) % 4, ("a", "b", "c", "d"))


def seen(task: type, monkeypatch: pytest.MonkeyPatch, run: Callable[[], Any]) -> list[Tensor]:
    """What the model of this task is given while something runs."""
    given: list[Tensor] = []
    original = task.score  # type: ignore[attr-defined]

    def watching(self: Any, *prepared: Tensor) -> Tensor:
        given.extend(x.clone() for x in prepared)
        loss: Tensor = original(self, *prepared)
        return loss

    monkeypatch.setattr(task, "score", watching)
    run()
    monkeypatch.undo()
    return given


def run_of(task: type, images: Images, precision: str, graph: bool) -> Callable[[], Any]:
    how: dict[str, Any] = {"precision": precision, "graph": graph}
    encoder = build(PRETRAIN, images).encoder
    return {
        PretrainTask: lambda: pretrain(replace(PRETRAIN, **how), images, quiet=True),
        FinetuneTask: lambda: finetune(replace(FINETUNE, **how), encoder, images, images.statistics, quiet=True),
        ProbeTask: lambda: train_probe(replace(PROBE, **how), encoder, images, images.statistics, quiet=True),
    }[task]


@pytest.mark.parametrize("task", [PretrainTask, FinetuneTask, ProbeTask])
@pytest.mark.parametrize("graph", [False, True])
def test_half_precision_trains_on_the_same_images(task: type, graph: bool, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = seen(task, monkeypatch, run_of(task, images, "fp32", False))
    monkeypatch.setattr(loop, "capture", lambda step, *inputs, model, optimiser: step)
    half = seen(task, monkeypatch, run_of(task, images, "bf16", graph))
    assert len(exact) == len(half) and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(exact, half, strict=True))


def test_a_task_that_prepares_half_precision_is_an_error(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    original = PretrainTask.prepare
    monkeypatch.setattr(PretrainTask, "prepare", lambda self, batch: (original(self, batch)[0].bfloat16(), *original(self, batch)[1:]))
    with pytest.raises(TypeError, match=r"prepares float32 tensors and indices, not torch.bfloat16"):
        pretrain(PRETRAIN, images, quiet=True)
