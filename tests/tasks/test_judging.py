"""What is said of a finished pre-training: its loss beside the trivial baseline, and what to change."""

import re
from dataclasses import replace

import pytest

from minimae.recipes import my_pictures, recipe
from minimae.tasks.expected import judged
from minimae.tasks.pretrain import Pretrain
from minimae.train.schedule import scaled_lr
from minimae.train.task import Result

TEACHER = replace(recipe("photos-micro"), image=64)  # 200 pictures: 156 steps at a peak learning rate of 7.5e-5


def result(loss: float, steps: int) -> Result:
    return Result(steps, 0, 1.0, [{"step": float(steps), "loss": loss}])


def test_a_good_run_is_compared_and_left_alone() -> None:
    assert judged(result(0.49, 3125), 0.98, recipe("fashion-demo")) == "Predicting the mean scores 0.980: the loss is 50% below that."
    assert "Try" not in judged(result(0.6, 10), 0.98, TEACHER)


def test_a_run_that_learned_nothing_is_told_what_to_change() -> None:
    said = judged(result(1.2, 156), 0.98, TEACHER)
    assert "learned nothing" in said and "156 optimizer steps" in said and "--batch than 128" in said
    epochs, lr = (float(re.search(rf"--{name} ([\d.e+-]+)", said)[1]) for name in ("epochs", "base-lr"))  # type: ignore[index]
    assert epochs * 200 / 128 == pytest.approx(3000, rel=0.1) and scaled_lr(lr, 128) == pytest.approx(1e-3, rel=0.1)


def test_images_of_one_colour_are_no_division_by_zero() -> None:
    assert "learned nothing" in judged(result(0.01, 5000), 0.0, TEACHER)


@pytest.mark.parametrize(("steps", "base_lr", "said", "unsaid"), [
    (5000, 1e-5, "--base-lr", "--epochs"), (100, 5e-3, "--epochs", "--base-lr"),
    (5000, 5e-3, "another --base-lr, or more --epochs", "than"),
])  # fmt: skip
def test_only_what_is_low_is_named(steps: int, base_lr: float, said: str, unsaid: str) -> None:
    text = judged(result(0.9, steps), 0.98, Pretrain(base_lr=base_lr, batch=128))
    assert said in text and unsaid not in text


def test_processes_count() -> None:
    assert "higher peak" in judged(result(0.9, 5000), 0.98, Pretrain(base_lr=5e-4, batch=128))
    assert "higher peak" not in judged(result(0.9, 5000), 0.98, Pretrain(base_lr=5e-4, batch=128), processes=8)


@pytest.mark.parametrize("images", [20, 64, 200, 800, 3000, 10_000])
def test_a_folder_of_any_number_gets_thousands_of_steps_and_one_peak(images: int) -> None:
    r = my_pictures(images)
    assert 1000 <= r.steps(images) <= 7000 and r.batch <= images / 2
    assert scaled_lr(r.base_lr, r.batch) == pytest.approx(scaled_lr(my_pictures(200).base_lr, my_pictures(200).batch))
    assert r.warmup_epochs < r.epochs and r.epochs * images <= 210_000


@pytest.mark.parametrize(("epochs", "steps", "wanted"), [(2, 10, "600"), (4, 30, "400"), (0.5, 1499, "1")])
def test_epochs_are_advised_as_they_are_typed(epochs: float, steps: int, wanted: str) -> None:
    assert f"--epochs {wanted}," in judged(result(0.9, steps), 0.98, replace(recipe("fashion-demo"), epochs=epochs, warmup_epochs=0))
