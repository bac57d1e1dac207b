"""Runs that are watched: training stays the same to the bit, resumed too; what is measured equals independent computations."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy
from torch import nn

from minimae import Interrupted, make_mask
from minimae.data.augment import normalise
from minimae.data.images import Images
from minimae.model.units import make_partial_mask
from minimae.tasks.evaluation import evaluate
from minimae.tasks.features import extract
from minimae.tasks.finetune import Finetune, finetune, load_finetuned
from minimae.tasks.knn import accuracy, knn_predict
from minimae.tasks.pretrain import Pretrain, pretrain
from minimae.tasks.probe import probe_predict
from minimae.tasks.watch import Kind, due, effective_rank, watch

SHAPE: dict[str, Any] = {"width": 16, "depth": 2, "heads": 2, "decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
RECIPE = Pretrain(size="nano", patch=4, epochs=4, warmup_epochs=0, batch=16, log_every=2, save_every=1e9, **SHAPE)
TUNE = Finetune(epochs=4, warmup_epochs=0, batch=16, log_every=2, base_lr=0.05, drop_path=0.2, save_every=1e9)
MEASURES = ("knn_accuracy", "probe_accuracy", "feature_rank", "validation_loss")


def images(count: int, seed: int) -> Images:
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 7
    pixels = torch.randint(0, 200, (count, 1, 8, 8), generator=g) + 7 * labels[:, None, None, None]
    return Images("blobs", pixels.byte(), labels, tuple("abcdefg"))


TRAIN, HELD_OUT = images(64, 0), images(35, 1)


class Stop:
    """A callback that stops the run at a step, as a killed process would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, task: Any, log: dict[str, float]) -> None:
        if log["step"] == self.step:
            raise Interrupted("stopped", 15)


def watching(kinds: tuple[Kind, ...] = get_args(Kind), every: float = 1.0) -> tuple[Any, list[str]]:
    drawn: list[str] = []
    made = watch(kinds, RECIPE.size_for(TRAIN), TRAIN, HELD_OUT, every=every, draw=lambda triplets, name: drawn.append(name))
    return made, drawn


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_a_watched_run_ends_with_the_same_bits_and_logs_what_was_measured(tmp_path: Path) -> None:
    plain, before = pretrain(RECIPE, TRAIN, quiet=True)
    callback, drawn = watching()
    model, result = pretrain(RECIPE, TRAIN, tmp_path, quiet=True, callbacks=[callback])
    assert same(plain, model) and [p["loss"] for p in before.history] == [p["loss"] for p in result.history]
    points = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [p["step"] for p in points if "knn_accuracy" in p] == [4, 8, 12, 16] and len(drawn) == 4
    assert all(set(MEASURES) <= p.keys() for p in points if p["step"] % 4 == 0)
    statistics = TRAIN.statistics
    train, test = (extract(model.encoder, part, statistics) for part in (TRAIN, HELD_OUT))
    assert points[-1]["knn_accuracy"] == accuracy(knn_predict(train, TRAIN.labels, test), HELD_OUT.labels)
    assert points[-1]["probe_accuracy"] == accuracy(probe_predict(train, TRAIN.labels, test)[0], HELD_OUT.labels)
    with torch.no_grad():
        loss = model(normalise(HELD_OUT.pixels, statistics), make_mask(HELD_OUT.ids, (2, 2), ratio=0.75, seed=RECIPE.seed)).loss
    assert points[-1]["validation_loss"] == pytest.approx(float(loss), rel=1e-5)


def test_the_validation_loss_hides_the_units_that_training_hides() -> None:
    recipe = replace(RECIPE, patch=2, unit=2, ratio=0.5, epochs=1)
    callback = watch(["validation"], recipe.size_for(TRAIN), TRAIN, HELD_OUT)
    model, result = pretrain(recipe, TRAIN, quiet=True, callbacks=[callback])
    mask = make_partial_mask(HELD_OUT.ids, (4, 4), ratio=0.5, seed=recipe.seed, unit=2)
    with torch.no_grad():
        loss = model(normalise(HELD_OUT.pixels, TRAIN.statistics), mask).loss
    assert result.history[-1]["validation_loss"] == pytest.approx(float(loss), rel=1e-5)


def test_a_watched_run_resumes_to_the_same_bits_and_the_same_points(tmp_path: Path) -> None:
    whole, result = pretrain(RECIPE, TRAIN, quiet=True, callbacks=[watching()[0]])
    with pytest.raises(Interrupted):
        pretrain(replace(RECIPE, save_every=0), TRAIN, tmp_path, quiet=True, callbacks=[watching()[0], Stop(10)])
    again, continued = pretrain(replace(RECIPE, save_every=0), TRAIN, tmp_path, quiet=True, resume=True, callbacks=[watching()[0]])
    assert same(whole, again)
    for one, other in zip(result.history, continued.history, strict=True):
        assert one.keys() == other.keys() and all(one[name] == other[name] for name in MEASURES if name in one)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_validation_keeps_the_best_and_the_last_and_changes_nothing(ema: float | None, tmp_path: Path) -> None:
    encoder, _ = pretrain(RECIPE, TRAIN, quiet=True)
    recipe = replace(TUNE, ema=ema)
    plain, _ = finetune(recipe, encoder.encoder, TRAIN, TRAIN.statistics, quiet=True)
    last, result = finetune(recipe, encoder.encoder, TRAIN, TRAIN.statistics, tmp_path, quiet=True, validation=HELD_OUT)
    assert same(plain, last)
    points = [p for p in result.history if "validation_top1" in p]
    assert [p["step"] for p in points] == [4, 8, 12, 16] and all({"validation_top5", "validation_loss"} <= p.keys() for p in points)
    best, about = load_finetuned(tmp_path / "best.pt")
    highest = max(points, key=lambda p: p["validation_top1"])
    assert about["step"] == highest["step"], "the first of the highest"
    for model, point in ((best, highest), (load_finetuned(tmp_path)[0], points[-1])):
        scores = evaluate(model, HELD_OUT, TRAIN.statistics)
        assert (scores.top1, scores.top5) == pytest.approx((point["validation_top1"], point["validation_top5"]))
        assert scores.loss == pytest.approx(point["validation_loss"], rel=1e-5)
    (tmp_path / "best.pt").rename(tmp_path / "kept.pt")
    with pytest.raises(Interrupted):
        finetune(replace(recipe, save_every=0), encoder.encoder, TRAIN, TRAIN.statistics, tmp_path / "b", quiet=True, validation=HELD_OUT,
                 callbacks=[Stop(10)])  # fmt: skip
    finetune(replace(recipe, save_every=0), encoder.encoder, TRAIN, TRAIN.statistics, tmp_path / "b", quiet=True, resume=True,
             validation=HELD_OUT)  # fmt: skip
    assert same(load_finetuned(tmp_path / "b" / "best.pt")[0], best)


@pytest.mark.parametrize(("kinds", "train", "held_out", "words"), [
    (("rank",), TRAIN, None, "blobs has no test part"), (("knn",), replace(TRAIN, labels=None), HELD_OUT, "need labels"),
    (("probe",), TRAIN, replace(HELD_OUT, labels=None), "need labels"), (("reconstructions",), TRAIN, HELD_OUT, "needs draw="),
])  # fmt: skip
def test_what_cannot_be_watched_is_an_error_before_training(kinds: Any, train: Images, held_out: Images | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        watch(kinds, RECIPE.size_for(TRAIN), train, held_out)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 999))
def test_the_effective_rank_is_the_exponential_of_the_entropy_of_the_singular_values(count: int, width: int, seed: int) -> None:
    features = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    values = np.linalg.svd(features.double().numpy(), compute_uv=False)
    assert effective_rank(features) == pytest.approx(float(np.exp(entropy(values))), rel=1e-4)
    assert effective_rank(torch.linalg.qr(torch.randn(count, count))[0]) == pytest.approx(count, rel=1e-3), "all singular values are 1"
    assert effective_rank(features[:, :1] * torch.arange(1.0, 9)) == pytest.approx(1, abs=1e-3), "one direction"


def test_a_point_is_due_once_for_each_span_of_epochs_wherever_the_run_was_resumed() -> None:
    class Task:
        images, settings = 64, RECIPE

    for every, wanted in ((1.0, [4, 8, 12, 16]), (1.5, [6, 12, 16]), (0.25, list(range(1, 17))), (9.0, [16])):
        found = [step for step in range(1, 17) if due(Task, {"step": step, "epoch": step / 4}, every)]  # type: ignore[arg-type]
        assert found == wanted


def test_validation_and_watching_come_each_epoch_however_rarely_a_run_is_logged() -> None:
    model, result = pretrain(replace(RECIPE, log_every=100), TRAIN, quiet=True, callbacks=[watching()[0]])
    assert [p["step"] for p in result.history if "knn_accuracy" in p] == [4, 8, 12, 16]
    _, result = finetune(replace(TUNE, log_every=100), model.encoder, TRAIN, TRAIN.statistics, quiet=True, validation=HELD_OUT)
    assert [p["step"] for p in result.history if "validation_top1" in p] == [4, 8, 12, 16]


def test_the_callback_of_the_page_runs() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "launching.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(code, {})
