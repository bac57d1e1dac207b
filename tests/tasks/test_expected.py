"""The curves of what loss to expect: who has one, that it lets good runs pass, and that it notices bad ones."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from minimae_book.evidence.budgets import LAPTOP
from minimae_book.evidence.catalogue import CLAIMS
from minimae_book.evidence.curves import LEAST, curve, farthest, gather_curves

from minimae import data
from minimae.recipes import FASHION
from minimae.tasks.expected import reference, references, task_of
from minimae.tasks.pretrain import Pretrain, PretrainTask, build, pretrain
from minimae.train.distributed import World
from minimae.train.loss_bands import PATIENCE, Watch, interpolate

SHORT = replace(FASHION, epochs=5.0, warmup_epochs=0.5)


def starts() -> list[Pretrain]:
    """The recipes of all pre-trainings of the laptop budget, on fashion."""
    jobs = [point.job(seed) for claim in CLAIMS.values() for point in claim.points(LAPTOP) for seed in LAPTOP.seeds]
    return list({job.start.key: job.start.recipe for job in jobs if job.start.trained and job.start.recipe.data == "fashion"}.values())


def test_every_run_of_the_laptop_budget_has_its_curve() -> None:
    recipes = starts()
    assert len(recipes) == 69
    for recipe in recipes:
        found = reference(recipe, recipe.size_at(28, 1), "fashion", 10_000)
        assert (
            found is not None
            and set(found.seeds) == set(LAPTOP.seeds)
            and found.points[-1][0] == pytest.approx(recipe.epochs * 1e4, rel=0.01)
        )


def test_the_main_job_and_chapter_07_have_one_too() -> None:
    assert reference(FASHION, FASHION.size_at((28, 28), 1), "fashion", 10_000) is not None
    assert reference(SHORT, SHORT.size_at((28, 28), 1), "fashion", 10_000) is not None


@pytest.mark.parametrize(
    "other",
    [{"epochs": 6.0}, {"ratio": 0.6}, {"batch": 64}, {"sampling": "grid"}, {"width": 48}, {"target": "pixels"}, {"flip": True}],
    ids=str,
)
def test_another_task_has_none(other: dict[str, object]) -> None:
    recipe = replace(SHORT, **other)
    assert reference(recipe, recipe.size_at(28, 1), "fashion", 10_000) is None
    assert (
        reference(SHORT, SHORT.size_at(28, 1), "fashion", 9_000) is None and reference(SHORT, SHORT.size_at(28, 1), "mine", 10_000) is None
    )


def test_a_run_of_several_processes_has_the_curve_of_the_same_run_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    images = data.load("fashion").balanced_subset(10_000)
    half = replace(SHORT, batch=SHORT.batch // 2)
    task = PretrainTask(half, images, build(half, images))
    assert task.expected().curve == ()
    monkeypatch.setattr("minimae.tasks.pretrain.world", lambda: World(0, 2))
    assert task.expected().curve == reference(SHORT, SHORT.size_at(28, 1), "fashion", 10_000).points


@pytest.mark.parametrize("same", [{"base_lr": 1.0}, {"seed": 9}, {"weight_decay": 0.0}, {"log_every": 1}, {"warmup_epochs": 2.0}], ids=str)
def test_the_optimizer_and_the_seed_are_no_part_of_the_task(same: dict[str, object]) -> None:
    recipe = replace(SHORT, **same)
    assert task_of(recipe, SHORT.size_at(28, 1), "fashion", 10_000) == task_of(SHORT, SHORT.size_at((28, 28), 1), "fashion", 10_000)


def test_curves_are_sound() -> None:
    assert len({json.dumps(one.task, sort_keys=True) for one in references()}) == len(references()) >= 20
    for one in references():
        seen, losses = zip(*one.points)
        assert list(seen) == sorted(set(seen)) and all(0.1 < loss < 1.5 for loss in losses) and losses[-1] < losses[0]
        assert LEAST <= one.tolerance < 0.15 and len(one.seeds) >= 3


def watched(recipe: Pretrain) -> list[str]:
    """Train, and what the watch said."""
    images = data.load("fashion", "train")
    task = PretrainTask(recipe, images, build(recipe, images))
    expected = task.expected()
    assert expected is not None and expected.curve
    watch, (_, result) = Watch(expected), pretrain(recipe, images, quiet=True)
    return [said for point in result.history if (said := watch(point["step"] * recipe.batch, point["loss"])) is not None]


def test_a_seed_that_is_not_in_the_curve_stays_within_it() -> None:
    assert watched(replace(SHORT, seed=7)) == []


def test_a_learning_rate_that_does_not_suit_is_told() -> None:
    [said] = watched(replace(SHORT, seed=7, base_lr=SHORT.base_lr / 10))
    assert "above the expected" in said and "off the reference curve of this task" in said and "learning rate" in said


def test_a_curve_is_the_mean_of_runs_and_neighbours() -> None:
    runs = [[(float(seen), level + 100 / seen) for seen in range(100, 2001, 100)] for level in (0.4, 0.5)]
    made = curve(runs, warmup=150.0)
    assert made[0][0] > 150 and made[-1] == (2000, pytest.approx(0.45 + 100 / 1800, abs=0.002))
    assert interpolate(made, 1000) == pytest.approx(0.55, abs=0.005)
    assert farthest(made, runs[0]) == pytest.approx(0.05 / 0.5, rel=0.3)
    lone = [(seen, loss * (3 if seen == 1000 else 1)) for seen, loss in ((s, interpolate(made, s)) for s, _ in runs[0] if s >= made[0][0])]
    assert farthest(made, lone) == 0, f"one point of {PATIENCE} is noise"


def test_runs_become_references(tmp_path: Path) -> None:
    images = data.load("fashion", "train").balanced_subset(200)
    for name, seed, ratio in (("a", 0, 0.75), ("b", 1, 0.75), ("alone", 0, 0.5)):
        recipe = replace(SHORT, seed=seed, ratio=ratio, epochs=3.0, batch=20, log_every=1, width=24, heads=2, depth=1)
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.json").write_text(json.dumps({"recipe": asdict(recipe)}))
        pretrain(recipe, images, tmp_path / name, quiet=True)
    [made] = gather_curves(sorted(tmp_path.iterdir()))
    assert made.seeds == (0, 1) and made.task["images"] == 200 and made.optimizer["base_lr"] == SHORT.base_lr
    assert made.task == task_of(replace(recipe, ratio=0.75), recipe.size_at(28, 1), "fashion", 200)
