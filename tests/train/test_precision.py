"""Half precision is for the model. What it sees (crops, colours, mixed images, targets) is made in float32, in every way of training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from minimae.data.images import Images
from minimae.devices import full_precision
from minimae.model import targets
from minimae.model.targets import PCATarget
from minimae.tasks.features import extract
from minimae.tasks.finetune import Finetune, FinetuneTask, finetune
from minimae.tasks.pretrain import Pretrain, PretrainTask, build, pretrain
from minimae.tasks.probe_train import Probe, ProbeTask, train_probe
from minimae.train import step
from minimae.train.precision import backends, evaluating, resolve

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
    original = task.loss  # type: ignore[attr-defined]

    def watching(self: Any, model: Any, *inputs: Tensor) -> Tensor:
        given.extend(x.clone() for x in inputs)
        loss: Tensor = original(self, model, *inputs)
        return loss

    monkeypatch.setattr(task, "loss", watching)
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
    monkeypatch.setattr(step, "capture", lambda compute, *inputs, model, optimizer: compute)
    half = seen(task, monkeypatch, run_of(task, images, "bf16", graph))
    assert len(exact) == len(half) and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(exact, half, strict=True))


def test_a_task_that_prepares_half_precision_is_an_error(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    original = PretrainTask.inputs
    monkeypatch.setattr(PretrainTask, "inputs", lambda self, batch: (original(self, batch)[0].bfloat16(), *original(self, batch)[1:]))
    with pytest.raises(TypeError, match=r"inputs of a task are float32 tensors and indices, not torch.bfloat16"):
        pretrain(PRETRAIN, images, quiet=True)


class NoGPU(RuntimeError):
    pass


def pretend(monkeypatch: pytest.MonkeyPatch, *, native: bool) -> None:
    """As if there were a GPU with bf16 units, or one that emulates bf16 (T4, V100)."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)


@pytest.mark.parametrize(
    ("native", "scaler", "name"), [(True, True, "bf16"), (True, False, "bf16"), (False, True, "fp16"), (False, False, "fp32")]
)
def test_auto_never_means_emulated_bf16(native: bool, scaler: bool, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, native=native)
    assert resolve("auto", torch.device("cuda"), scaler=scaler) == name
    assert [resolve(asked, torch.device("cuda"), scaler=scaler) for asked in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]


def test_auto_is_float32_on_a_cpu() -> None:
    assert resolve("auto", torch.device("cpu")) == "fp32"


@pytest.fixture
def switches() -> Iterator[None]:
    """Torch's switches as they are by default, also afterwards."""
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = True, False


def state() -> tuple[str, bool, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark


@pytest.mark.parametrize("before", [("highest", True, False), ("medium", False, True)])
def test_tf32_is_scoped_and_never_reaches_pixels(before: tuple[str, bool, bool], switches: None) -> None:
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = before[1:]
    gpu = torch.device("cuda")
    with backends(gpu):
        assert state() == ("high", True, True)
        with full_precision(gpu):
            assert state()[0] == "highest"
        assert state() == ("high", True, True)
    with pytest.raises(NoGPU), backends(gpu), full_precision(gpu):
        raise NoGPU
    assert state() == before


def test_a_cpu_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda name: pytest.fail("touched"))
    cpu = torch.device("cpu")
    with backends(cpu), evaluating(cpu, "bf16"), full_precision(cpu):
        assert not torch.is_autocast_enabled("cpu")


def test_training_and_evaluation_leave_the_switches_as_they_were(images: Images) -> None:
    before = state()
    model, _ = pretrain(PRETRAIN, images, quiet=True)
    extract(model.encoder, images.pixels[..., :16, :16], images.statistics)
    assert state() == before


def test_evaluation_on_a_gpu_is_in_the_precision_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, native=True)
    with warnings.catch_warnings(), evaluating(torch.device("cuda"), "auto"):
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda") == torch.bfloat16
    with evaluating(torch.device("cuda"), "fp32"):
        assert torch.get_float32_matmul_precision() == "high" and not torch.is_autocast_enabled("cuda")


def test_the_principal_components_are_float32_under_autocast_and_tf32(switches: None) -> None:
    target = PCATarget(48).fit(torch.rand(200, 48))
    patches = torch.rand(2, 5, 48)
    seen: list[str] = []
    watched = mock.patch.object(targets, "full_precision", lambda device: seen.append(device.type) or nullcontext())
    with backends(torch.device("cuda")), watched:
        target.picture(target(patches), patches)
    assert seen == ["cpu", "cpu"]
