"""The loop: schedule, groups, accumulation, exact resume, and what happens when something goes wrong."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from apart import apart

from minimae import Interrupted, MinimaeError, make_mask
from minimae.data.images import Images
from minimae.tasks.finetune import Classifier, Finetune, finetune
from minimae.tasks.pretrain import Pretrain, PretrainTask, build, pretrain
from minimae.train import run
from minimae.train.checkpoint import load_checkpoint, load_weights, save_checkpoint
from minimae.train.loop import fit
from minimae.train.optim import decay_groups, layer_groups, layer_of, set_lr
from minimae.train.order import batch_at, from_step
from minimae.train.schedule import lr_at, scaled_lr
from minimae.weights import load_pretrained

TINY = Pretrain(
    size="nano", image=8, width=16, depth=2, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2,
    epochs=3, warmup_epochs=1, batch=8, base_lr=0.05, log_every=1, save_every=0.0,
)  # fmt: skip


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.state_dict().values()])


# --- schedule and optimizer -------------------------------------------------------------------------------------------


def test_lr_is_the_closed_form_of_warm_up_and_cosine() -> None:
    lrs = [lr_at(s, steps=100, warmup=10, peak=2.0, floor=0.5) for s in range(101)]
    assert lrs[0] == 0 and lrs[5] == pytest.approx(1.0) and lrs[10] == pytest.approx(2.0)
    assert lrs[55] == pytest.approx(1.25) and lrs[100] == pytest.approx(0.5)
    torch_cosine = torch.optim.lr_scheduler.CosineAnnealingLR
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    scheduler = torch_cosine(optimizer, T_max=90, eta_min=0.5)
    for s in range(10, 100):
        assert lrs[s] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        scheduler.step()


def test_views_of_an_image_fill_a_batch(images: Images) -> None:
    with pytest.raises(ValueError, match="a batch of 8 cannot be filled with 3 views of each image"):
        replace(TINY, repeats=3)
    places, epochs = next(from_step(0, replace(TINY, repeats=4), 40))
    batch = images.batch(places, epochs, 4)
    assert len(places) == 2 and len(batch.pixels) == 8 and batch.ids.tolist() == [i for i in places.tolist() for _ in range(4)]
    assert batch.epochs.tolist() == [0, 1, 2, 3] * 2, "each view has the crop and the mask of an epoch of its own"


def test_trap_17_lr_scales_with_batch_times_accumulation_and_moves_every_step(images: Images) -> None:
    assert scaled_lr(1.5e-4, 4096) == pytest.approx(2.4e-3)
    one = fit_history(replace(TINY, batch=8), images)
    two = fit_history(replace(TINY, batch=4, accumulate=2), images)
    assert [p["lr"] for p in one] == [p["lr"] for p in two]
    assert len({p["lr"] for p in one}) == len(one) == 15
    assert max(p["lr"] for p in one) == pytest.approx(0.05 * 8 / 256, rel=1e-3)


def fit_history(recipe: Pretrain, images: Images) -> list[dict[str, float]]:
    return pretrain(recipe, images, quiet=True)[1].history


def test_trap_16_biases_and_norms_are_not_decayed_but_tokens_are(images: Images) -> None:
    model = build(TINY, images)
    decayed, exempt = decay_groups(model, 0.05)
    names = {id(p): name for name, p in model.named_parameters()}
    in_decayed = {names[id(p)] for p in decayed["params"]}
    assert {"encoder.class_token", "decoder.mask_token", "encoder.project.weight"} <= in_decayed
    assert all(p.dim() == 1 for p in exempt["params"]) and exempt["weight_decay"] == 0.0
    assert {names[id(p)] for g in (decayed, exempt) for p in g["params"]} == {n for n, p in model.named_parameters() if p.requires_grad}


def test_trap_19_layer_decay_scales_the_whole_lr_the_floor_included(images: Images) -> None:
    classifier = Classifier(build(TINY, images).encoder, 4)
    groups = layer_groups(classifier, 0.05, 0.5)
    assert sum(len(g["params"]) for g in groups) == sum(p.requires_grad for p in classifier.parameters())
    assert [layer_of(n, 2) for n in ("encoder.class_token", "encoder.positions", "encoder.project.weight")] == [0, 0, 0]
    assert [layer_of(n, 2) for n in ("encoder.blocks.0.norm1.weight", "encoder.blocks.1.mlp.up.bias", "norm.weight", "head.bias")] == [
        1,
        2,
        3,
        3,
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0)
    set_lr(optimizer, 0.8)
    scales = {g["lr_scale"]: g["lr"] for g in optimizer.param_groups}
    assert scales == {0.125: 0.1, 0.25: 0.2, 0.5: 0.4, 1.0: 0.8}


# --- batches and accumulation -----------------------------------------------------------------------------------------


def test_every_epoch_shows_every_image_once_though_batches_reach_over_its_end() -> None:
    places, epochs = zip(*(batch_at(i * 16, 16, 40, seed=3) for i in range(5)), strict=True)
    p, e = torch.cat(places), torch.cat(epochs)
    for epoch in (0, 1):
        assert sorted(p[e == epoch].tolist()) == list(range(40))
    assert p[:40].tolist() != p[40:].tolist()


def test_trap_18_accumulation_equals_the_big_batch(images: Images) -> None:
    big, one = pretrain(replace(TINY, batch=8), images, quiet=True)
    small, four = pretrain(replace(TINY, batch=2, accumulate=4), images, quiet=True)
    assert [p["loss"] for p in one.history] == pytest.approx([p["loss"] for p in four.history], abs=1e-6)
    assert apart(big.state_dict(), small.state_dict()) < 1e-5


def test_trap_18_accumulation_longer_than_the_data_is_an_error(images: Images) -> None:
    with pytest.raises(ValueError, match="8 × 6 = 48 images, but there are only 40"):
        pretrain(replace(TINY, accumulate=6), images, quiet=True)


def test_trap_4_masks_change_with_the_epoch_and_not_with_the_batch() -> None:
    ids = torch.arange(12)
    mixed = make_mask(ids, (4, 4), seed=1, epoch=torch.tensor([0] * 6 + [1] * 6)).keep
    assert torch.equal(mixed[:6], make_mask(ids[:6], (4, 4), seed=1, epoch=0).keep)
    assert torch.equal(mixed[6:], make_mask(ids[6:], (4, 4), seed=1, epoch=1).keep)


# --- resume -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_after", [1, 7, 14])
def test_a_resumed_run_equals_the_unbroken_one_to_the_bit(images: Images, tmp_path, monkeypatch, stop_after: int) -> None:
    whole, result = pretrain(TINY, images, tmp_path / "whole", quiet=True)
    calls, original = [], PretrainTask.loss

    def dies(self, model, *inputs):
        calls.append(1)
        if len(calls) > stop_after:
            raise RuntimeError("the power is gone")
        return original(self, model, *inputs)

    monkeypatch.setattr(PretrainTask, "loss", dies)
    with pytest.raises(RuntimeError, match="power"):
        pretrain(TINY, images, tmp_path / "broken", quiet=True)
    assert load_checkpoint(tmp_path / "broken" / "checkpoint.pt")["step"] == stop_after
    monkeypatch.setattr(PretrainTask, "loss", original)
    resumed, again = pretrain(TINY, images, tmp_path / "broken", resume=True, quiet=True)
    assert torch.equal(weights(whole), weights(resumed))
    assert [p["loss"] for p in result.history] == [p["loss"] for p in again.history]


def test_fine_tuning_with_drop_path_resumes_to_the_bit(images: Images, tmp_path, monkeypatch) -> None:
    recipe = Finetune(epochs=3, warmup_epochs=1, batch=8, drop_path=0.4, crop=(0.5, 1.0), save_every=0.0, log_every=1)
    encoder = build(TINY, images).encoder
    whole, _ = finetune(recipe, encoder, images, images.statistics, tmp_path / "a", quiet=True)
    monkeypatch.setattr(run, "stop_requests", lambda: stopping_after(5))
    with pytest.raises(Interrupted, match="Saved at step 5 of 15"):
        finetune(recipe, encoder, images, images.statistics, tmp_path / "b", quiet=True)
    monkeypatch.undo()
    resumed, _ = finetune(recipe, encoder, images, images.statistics, tmp_path / "b", resume=True, quiet=True)
    assert torch.equal(weights(whole), weights(resumed))


class stopping_after:
    """Stands in for stop_requests: asks to stop after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None: ...

    def __bool__(self) -> bool:
        self.left -= 1
        return self.left == 0

    def __getitem__(self, i: int) -> int:
        return int(signal.SIGINT)


def test_resuming_with_other_settings_says_which(images: Images, tmp_path) -> None:
    pretrain(TINY, images, tmp_path, quiet=True)
    with pytest.raises(MinimaeError, match=r"other settings \(base_lr: 0.05 → 0.1\)"):
        pretrain(replace(TINY, base_lr=0.1), images, tmp_path, resume=True, quiet=True)


def test_ctrl_c_saves_and_says_how_to_resume(tmp_path) -> None:
    out = tmp_path / "run"
    checkpoint = out / "checkpoint.pt"
    start = [sys.executable, "-m", "minimae", "pretrain"]
    settings = ["fashion-demo", "--batch", "50", "--epochs", "500", "--save-every", "0.2", "--out", str(out)]
    for number, code, how in ((signal.SIGINT, 2, settings), (signal.SIGTERM, 0, ["--resume", str(out)])):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        command = [*start, *how, "--limit", "300", "--device", "cpu"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)
        wait_for(lambda before=before: checkpoint.exists() and checkpoint.stat().st_mtime_ns > before)  # so it is in the loop
        process.send_signal(number)
        _, told = process.communicate(timeout=240)
        assert process.returncode == code, told
        assert f"continue with: minimae pretrain --resume {out}" in told and "Traceback" not in told


def wait_for(ready, seconds: float = 900) -> None:
    end = time.time() + seconds
    while not ready():
        assert time.time() < end, "it took too long"
        time.sleep(0.1)


# --- when something goes wrong ----------------------------------------------------------------------------------------


def test_trap_20_a_nan_loss_stops_the_run_and_keeps_the_last_good_state(images: Images, tmp_path, monkeypatch) -> None:
    original, calls = PretrainTask.loss, iter(range(100))
    monkeypatch.setattr(PretrainTask, "loss", lambda *given: original(*given) * (math.nan if next(calls) >= 10 else 1.0))
    with pytest.raises(MinimaeError, match=r"loss became nan at step 10 \(epoch 2.00, images \d+, .*last good state is kept: step 10, in"):
        pretrain(TINY, images, tmp_path, quiet=True)
    kept = load_pretrained(tmp_path)
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 10
    assert all(p.isfinite().all() for p in kept.model.parameters())


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path, monkeypatch) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"kind": "pretrain", "step": 1})

    def full(state, file):
        file.write(b"half a checkpoint")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(MinimaeError, match="No space left.*the previous checkpoint is untouched"):
        save_checkpoint(path, {"kind": "pretrain", "step": 2})
    assert load_checkpoint(path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(MinimaeError, match="could not save"):
        save_checkpoint(tmp_path / "file" / "checkpoint.pt", {"kind": "pretrain"})


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_a_truncated_checkpoint_is_named(images: Images, tmp_path, keep: float) -> None:
    pretrain(TINY, images, tmp_path, quiet=True)
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else int(keep)])
    with pytest.raises(MinimaeError, match=r"checkpoint.pt is (truncated|not a checkpoint)"):
        load_checkpoint(path, "pretrain")


def test_weights_of_another_model_are_refused_with_a_list(images: Images) -> None:
    wide = build(replace(TINY, width=32), images)
    with pytest.raises(MinimaeError, match=r"another model.*of another shape: .*≠"):
        load_weights(build(TINY, images), wide.state_dict(), "some.pt")
    deep = build(replace(TINY, depth=3), images)
    with pytest.raises(MinimaeError, match=r"unexpected: encoder.blocks.2"):
        load_weights(build(TINY, images), deep.state_dict(), "some.pt")


def test_metrics_tell_of_the_same_step_as_the_checkpoint(images: Images, tmp_path) -> None:
    _, result = pretrain(TINY, images, tmp_path, quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == result.history == load_checkpoint(tmp_path / "checkpoint.pt")["history"]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("batch", 0, "batch must be greater"),
        ("clip", -1.0, "clip"),
        ("warmup_epochs", 9.0, "does not fit"),
        ("precision", "fp8", "unknown precision"),
    ],
)
def test_settings_that_make_no_sense_are_refused(field: str, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(TINY, **{field: value})


def test_clipping_and_compiling_train_too(images: Images) -> None:
    plain, _ = pretrain(TINY, images, quiet=True)
    clipped, _ = pretrain(replace(TINY, clip=1e-3), images, quiet=True)
    assert not torch.equal(weights(plain), weights(clipped))
    bf16 = fit_history(replace(TINY, precision="bf16"), images)
    assert abs(bf16[-1]["loss"] - fit_history(TINY, images)[-1]["loss"]) < 0.05


def test_compiled_blocks_give_the_same_loss(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torch's slow code generator; tests/bench compares one step with it."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    _, eager = pretrain(replace(TINY, epochs=1), images, quiet=True)
    model, compiled = pretrain(replace(TINY, epochs=1, compile=True), images, quiet=True)
    assert compiled.loss == pytest.approx(eager.loss, abs=1e-5)
    with torch.no_grad(), torch.compiler.set_stance("fail_on_recompile"):  # a report has another batch size, and no gradients
        assert model.encoder(torch.rand(3, 1, 8, 8)).isfinite().all()


def test_fit_wants_a_folder_to_resume_from(images: Images) -> None:
    model = build(TINY, images)
    with pytest.raises(MinimaeError, match="needs the folder"):
        fit(PretrainTask(TINY, images, model), TINY, None, resume=True, quiet=True)
