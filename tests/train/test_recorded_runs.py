"""A recorded step: on a CPU there is no graph, but what would be recorded can be run each time; that must be the ordinary step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from apart import apart
from torch import Tensor

from minimae.data.images import Images
from minimae.errors import MinimaeError
from minimae.tasks.finetune import Finetune, finetune
from minimae.tasks.pretrain import Pretrain, build, pretrain
from minimae.train import step

SMALL = Pretrain(size="nano", patch=4, width=32, depth=2, heads=2, decoder_width=16, decoder_depth=1, batch=16, epochs=3, warmup_epochs=1)


@pytest.fixture(scope="module")
def images() -> Images:
    pixels = torch.randint(0, 256, (48, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Images("noise", pixels, torch.arange(48) % 4, ("a", "b", "c", "d"))


def not_recorded(compute: Callable[..., Any], *inputs: Tensor, model: Any, optimizer: Any) -> Callable[..., Any]:
    """Runs the step each time. Inputs of other shapes than the first are refused, as a graph would refuse them."""
    shapes = [x.shape for x in inputs]

    def replay(*given: Tensor) -> Any:
        assert [x.shape for x in given] == shapes
        return compute(*given)

    return replay


@pytest.mark.parametrize("clip", [None, 0.5])
def test_pre_training_is_the_same(images: Images, clip: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(SMALL, clip=clip, log_every=1)
    expected, told = pretrain(recipe, images, quiet=True)
    monkeypatch.setattr(step, "capture", not_recorded)
    found, again = pretrain(replace(recipe, graph=True), images, quiet=True)
    assert apart(expected.state_dict(), found.state_dict()) < 1e-6  # the optimizer that can be captured rounds otherwise
    assert [p["loss"] for p in told.history] == pytest.approx([p["loss"] for p in again.history], abs=1e-5)


def test_fine_tuning_with_mixing_is_the_same(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Finetune(batch=16, epochs=2, warmup_epochs=0, mixup=0.8, cutmix=1.0, erasing=0.25, ema=0.9, drop_path=0.0, base_lr=1e-3)
    encoder = build(SMALL, images).encoder
    expected, _ = finetune(recipe, encoder, images, images.statistics, quiet=True)
    monkeypatch.setattr(step, "capture", not_recorded)
    found, _ = finetune(replace(recipe, graph=True), encoder, images, images.statistics, quiet=True)
    assert apart(expected.state_dict(), found.state_dict()) < 1e-6


def test_a_recorded_run_goes_on_and_so_does_an_ordinary_one(images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "capture", not_recorded)
    recipe = replace(SMALL, epochs=4, graph=True, save_every=0.0)
    whole, _ = pretrain(recipe, images, quiet=True)
    calls = []

    def stops(*given: Any, **how: Any) -> Callable[..., Any]:
        replay = not_recorded(*given, **how)

        def once(*prepared: Tensor) -> Any:
            calls.append(1)
            if len(calls) == 6:
                raise RuntimeError("the power is gone")
            return replay(*prepared)

        return once

    monkeypatch.setattr(step, "capture", stops)
    with pytest.raises(RuntimeError, match="power"):
        pretrain(recipe, images, tmp_path, quiet=True)
    found, _ = pretrain(recipe, images, tmp_path, resume=True, quiet=True)
    assert len(calls) == 6 + 7, "five steps were done and saved, seven were left"
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), found.state_dict().values(), strict=True))
    ordinary, _ = pretrain(replace(recipe, graph=False), images, tmp_path, resume=True, quiet=True)
    assert all(torch.equal(a, b) for a, b in zip(ordinary.state_dict().values(), found.state_dict().values(), strict=True))


def test_without_a_gpu_it_is_refused(images: Images) -> None:
    with pytest.raises(MinimaeError, match="CUDA graphs need model and inputs on a GPU, not on cpu"):
        pretrain(replace(SMALL, graph=True), images, quiet=True)


@pytest.mark.parametrize("wrong", [{"accumulate": 2}, {"precision": "fp16"}, {"shard": True}])
def test_what_cannot_be_recorded_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="--graph records a whole step"):
        replace(SMALL, graph=True, **wrong)
