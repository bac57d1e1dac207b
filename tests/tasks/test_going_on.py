"""Fine-tuned runs are loaded, evaluated, converted, fine-tuned further and given another head; models of your own loop are kept."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from apart import apart
from minimae_book.photographs import reconstruction_figure
from PIL import Image
from torch import nn

import minimae
from minimae import MAE, MinimaeError, weights
from minimae.cli import main
from minimae.data import load
from minimae.data.augment import normalise
from minimae.tasks.finetune import Classifier, Finetune, finetune
from minimae.tasks.pretrain import Pretrained
from minimae.weights import Classified
from minimae.weights.scikit import MAEFeatures

RECIPE = Finetune(batch=20, epochs=1.0, warmup_epochs=0.0, drop_path=0.0, base_lr=1e-3)
TRAIN = load("fashion").balanced_subset(60)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    trained = weights.load("fashion-nano")
    folder = tmp_path_factory.mktemp("run")
    finetune(RECIPE, trained.model.encoder, TRAIN, trained.statistics, folder, quiet=True)
    return folder


def equal(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("how", ["folder", "renamed", "export", "official"])
def test_a_run_is_loaded_wherever_it_lies(how: str, run: Path, tmp_path: Path) -> None:
    found = minimae.load(run)
    assert isinstance(found, Classified) and found.classes == TRAIN.classes and found.data == "fashion"
    x = TRAIN.pixels[:9]
    with torch.no_grad():
        expected = found.classifier(normalise(x, found.statistics))
    torch.testing.assert_close(found.logits(x), expected, rtol=0, atol=1e-6)
    assert torch.equal(found.predict(x), expected.argmax(1)) and found.features(x).shape == (9, 96)
    torch.testing.assert_close(found.classifier.head(found.features(x)), expected, rtol=0, atol=1e-5)
    path = tmp_path / {"folder": "x", "renamed": "best.pt", "export": "c.safetensors", "official": "c.pth"}[how]
    if how == "renamed":
        path.write_bytes((run / "checkpoint.pt").read_bytes())
    elif how != "folder":
        assert main(["convert", str(run), str(path), "--to", "minimae" if how == "export" else "official"]) == 0
    again = minimae.load(run if how == "folder" else path)
    assert isinstance(again, Classified) and equal(again.classifier, found.classifier) and again.classes == found.classes


def test_a_classifier_goes_on_where_it_was(run: Path) -> None:
    found = minimae.load(run)
    assert isinstance(found, Classified)
    still = replace(RECIPE, base_lr=1e-12, weight_decay=0.0)
    same, _ = finetune(still, found.classifier, TRAIN, found.statistics, quiet=True)
    assert apart(same.state_dict(), found.classifier.state_dict()) < 1e-5
    other = replace(TRAIN, labels=TRAIN.labels % 3, classes=("a", "b", "c"))  # type: ignore[operator]
    fewer, _ = finetune(still, found.classifier, other, found.statistics, quiet=True)
    assert fewer.head.out_features == 3 and fewer.head.weight.abs().max() < 1e-3, "a fresh head"
    torch.testing.assert_close(fewer.norm.weight, found.classifier.norm.weight, rtol=0, atol=1e-5)
    fresh, _ = finetune(still, found.classifier, TRAIN, found.statistics, quiet=True, keep_head=False)
    assert fresh.head.weight.abs().max() < 1e-3


def test_a_class_token_stays_a_class_token(tmp_path: Path) -> None:
    classifier = Classifier(weights.load("fashion-nano").model.encoder, 10, pool="class")
    tuned, _ = finetune(RECIPE, classifier, TRAIN, TRAIN.statistics, tmp_path / "run", quiet=True)
    again = minimae.load(tmp_path / "run")
    assert isinstance(again, Classified) and again.classifier.pool == "class" and equal(again.classifier, tuned)


def test_the_commands(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--weights", str(run), "--limit", "50"]) == 0
    assert re.search(r"\d % \(top-5 .* %\) of 50 test images of fashion", capsys.readouterr().out)
    command = ["finetune", "--weights", str(run), "--labels", "20", "--epochs", "1", "--batch", "20", "--limit", "50"]
    command += ["--warmup-epochs", "0"]
    assert main(command) == 0 and "with its norm and its head" in capsys.readouterr().out
    assert main(["evaluate", "--weights", "fashion-nano"]) == 2 and "has no head" in capsys.readouterr().err
    assert main(["evaluate", "--weights", str(run), "--data", "shapes", "--limit", "20"]) == 2
    assert "but shapes has others" in capsys.readouterr().err
    assert main(["knn", "--weights", str(run)]) == 2 and "minimae evaluate" in capsys.readouterr().err


def test_a_run_on_a_folder_is_evaluated_on_that_folder_whatever_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A data set is named photos too: the folder was mistaken for it, or not found."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 10, 28, 28), dtype=np.uint8)
    for name, images in zip(("astronaut", "coffee", "cat"), pixels, strict=True):
        (folder := tmp_path / "photos" / name).mkdir(parents=True)
        for i, image in enumerate(images):
            Image.fromarray(image).save(folder / f"{i}.png")
    short = ["--epochs", "1", "--warmup-epochs", "0", "--batch", "8", "--out", str(tmp_path / "tuned")]
    assert main(["finetune", "--weights", "fashion-nano", "--data", str(tmp_path / "photos"), *short]) == 0
    assert "% of 6 test images" in capsys.readouterr().out
    assert main(["evaluate", "--weights", str(tmp_path / "tuned")]) == 0
    assert "% of 6 test images of photos" in capsys.readouterr().out
    assert main(["evaluate", "--weights", str(tmp_path / "tuned"), "--data", "fashion", "--limit", "20"]) == 2
    assert "was trained on 3 classes (astronaut, cat, coffee), but" in capsys.readouterr().err


# --- models of one's own loop -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"target": "pixels"}, {"target": "pca"}, {"loss_on": "all"}, {"mask_tokens_in_encoder": True}])
def test_a_model_of_your_own_loop_is_kept(options: dict[str, Any], tmp_path: Path) -> None:
    mae = MAE("nano", patch=7, depth=2, **options)
    optimizer = torch.optim.AdamW(mae.parameters(), lr=1e-3)
    mae(normalise(TRAIN.pixels[:8], TRAIN.statistics), ratio=0.5).loss.backward()
    optimizer.step()
    path = minimae.save(mae, tmp_path / "mine.safetensors", statistics=TRAIN.statistics, ratio=0.5)
    again = minimae.load(path)
    assert isinstance(again, Pretrained) and equal(again.model, mae) and again.model.size == mae.size and again.recipe.ratio == 0.5
    assert again.recipe.target == options.get("target", "normalised") and again.model.loss_on == mae.loss_on
    assert torch.equal(again.statistics[0], TRAIN.statistics[0])
    figure, _ = reconstruction_figure(again, TRAIN.pixels[:2])
    assert len(figure.axes) == 6
    assert MAEFeatures(path).fit_transform(TRAIN.pixels[:4, 0].numpy()).shape == (4, 96)
    minimae.save(again, tmp_path / "again.safetensors")
    assert equal(minimae.load(tmp_path / "again.safetensors").model, mae)  # type: ignore[union-attr]


def test_a_classifier_of_your_own_loop_is_kept(tmp_path: Path) -> None:
    classifier = Classifier(MAE("nano", patch=7).encoder, 10)
    path = minimae.save(classifier, tmp_path / "c.safetensors", statistics=TRAIN.statistics, classes=TRAIN.classes)
    again = minimae.load(path)
    assert isinstance(again, Classified) and equal(again.classifier, classifier) and again.classes == TRAIN.classes
    assert MAEFeatures(path).fit_transform(TRAIN.pixels[:4, 0].numpy()).shape == (4, 96)


def test_what_cannot_be_kept_is_said(tmp_path: Path) -> None:
    mae, path = MAE("nano", patch=7), tmp_path / "mine.safetensors"
    for call, said in (
        (lambda: minimae.save(mae, path), r"statistics=\(mean, std\) is missing"),
        (lambda: minimae.save(mae, path, statistics=([0.1] * 3, [0.2] * 3)), r"are needed for 1 channel, not for 3 and 3"),
        (lambda: minimae.save(mae, path, statistics=([0.1], [0.0])), "greater than 0.* and .0.0"),
        (lambda: minimae.save(mae, tmp_path / "mine.pt", statistics=([0.1], [0.2])), "as a .safetensors file, not as 'mine.pt'"),
        (lambda: minimae.save(nn.Linear(2, 2), path, statistics=([0.1], [0.2])), "can be saved, not Linear"),  # type: ignore[arg-type]
        (lambda: minimae.save(weights.load("fashion-nano"), path, statistics=([0.1], [0.2])), "has its statistics already"),
    ):
        with pytest.raises(ValueError, match=said):
            call()
    assert not list(tmp_path.iterdir())


def test_whoever_saved_it_must_name_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = minimae.save(MAE("nano", patch=7), tmp_path / "mine.safetensors", statistics=([0.1], [0.2]))
    assert main(["knn", "--weights", str(path)]) == 2
    assert "name a data set or a folder with --data" in capsys.readouterr().err
    with pytest.raises(MinimaeError, match="describe themselves: leave out heads"):
        minimae.load(path, heads=3)
