"""fp16 and its loss scaler: its state is saved and resumed, steps that overflow change nothing, and the host learns of none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from minimae.data.images import Images
from minimae.tasks.pretrain import Pretrain, build, pretrain
from minimae.tasks.probe_train import LinearProbe, Probe, ProbeTask
from minimae.train import precision
from minimae.train import step as step_module
from minimae.train.checkpoint import load_checkpoint
from minimae.train.lars import LARS, ScaledLARS

SMALL = Pretrain(
    size="nano", image=8, patch=4, width=16, depth=1, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2,
    batch=8, epochs=3, warmup_epochs=1, precision="fp16", log_every=1, save_every=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def images() -> Images:
    pixels = torch.randint(0, 256, (32, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Images("noise", pixels, torch.arange(32) % 4, ("a", "b", "c", "d"))


def stopped_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The power goes after so many optimizer steps."""
    original, calls = step_module.update, []

    def update(*given: Any, **how: Any) -> Any:
        if len(calls) == steps:
            raise RuntimeError("the power is gone")
        calls.append(1)
        return original(*given, **how)

    monkeypatch.setattr(step_module, "update", update)


def test_the_scaler_is_resumed_to_the_bit(images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = pretrain(SMALL, images, tmp_path / "whole", quiet=True)
    stopped_after(5, monkeypatch)
    with pytest.raises(RuntimeError, match="power"):
        pretrain(SMALL, images, tmp_path / "broken", quiet=True)
    monkeypatch.undo()
    kept = load_checkpoint(tmp_path / "broken" / "checkpoint.pt")["scaler"]
    assert kept["scale"] > 1 and kept["_growth_tracker"] > 0
    resumed, _ = pretrain(SMALL, images, tmp_path / "broken", resume=True, quiet=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True))
    ends = [load_checkpoint(tmp_path / name / "checkpoint.pt")["scaler"] for name in ("whole", "broken")]
    assert ends[0] == ends[1]


def test_a_run_goes_on_where_auto_means_another_precision(images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begun on a CPU in float32, continued where auto is fp16, and back: the scaler begins anew, or is not needed."""
    auto = replace(SMALL, precision="auto")
    for steps, name in ((4, "fp32"), (8, "fp16"), (12, "fp32")):
        monkeypatch.setattr(precision, "resolve", lambda *_, name=name, **__: name)
        if steps < 12:
            stopped_after(4, monkeypatch)
            with pytest.raises(RuntimeError, match="power"):
                pretrain(auto, images, tmp_path, resume=steps > 4, quiet=True)
            monkeypatch.undo()
        else:
            pretrain(auto, images, tmp_path, resume=True, quiet=True)
        saved = load_checkpoint(tmp_path / "checkpoint.pt")
        assert saved["step"] == steps and bool(saved["scaler"]) == (name == "fp16")


def matrices() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(4))]


def test_lars_with_a_scaler_is_lars_and_leaves_out_what_overflows() -> None:
    """Against LARS without a scaler, given the same gradients, and not called where they are not finite."""
    plain, scaled = matrices(), matrices()
    wanted, found = LARS(plain, 0.1, weight_decay=0.1), ScaledLARS(scaled, 0.1, weight_decay=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(6):
        factor = float("inf") if step in (0, 3) else 1.0
        inputs = torch.randn(5, 3)
        for parameters, optimizer in ((plain, wanted), (scaled, found)):
            optimizer.zero_grad()
            loss = (inputs @ parameters[0].T + parameters[1]).square().sum() * factor
            if optimizer is found:
                scaler.scale(loss).backward()
                scaler.step(found)
                scaler.update()
            elif factor == 1.0:
                loss.backward()
                wanted.step()
        assert all(torch.allclose(a, b, rtol=1e-5) for a, b in zip(plain, scaled, strict=True)), step


def test_a_step_of_the_probe_in_fp16_reads_nothing_back(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch asks an ordinary optimizer's scaler for the overflow with ``item()``: on a GPU the host waits for it."""
    recipe = Probe(batch=8, precision="fp16")
    task = ProbeTask(recipe, images, images.statistics, LinearProbe(build(SMALL, images).encoder, 4))
    optimizer, scaler = task.optimizer(0.1), torch.amp.GradScaler("cpu")
    loss = task.loss_of(images.batch(torch.arange(8), torch.zeros(8, dtype=torch.int64)))
    monkeypatch.setattr(torch.Tensor, "item", lambda *_: pytest.fail("the host waits"))
    scaler.scale(loss).backward()
    step_module.update(task.model, optimizer, scaler, recipe)
