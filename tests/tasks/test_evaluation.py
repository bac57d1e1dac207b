"""Accuracy, predictions and the confusion matrix of a classifier: against counting by hand and scikit-learn."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix, log_loss, top_k_accuracy_score

from minimae import MinimaeError
from minimae.data.images import Images
from minimae.data.stream import open_folder
from minimae.model.sizes import size
from minimae.model.vit import Encoder
from minimae.tasks.evaluation import check_images, evaluate, logits_of, predict, write_confusion, write_predictions
from minimae.tasks.finetune import Classifier, Finetune, finetune
from minimae.tasks.loading import LoaderConfig
from minimae.tasks.probe_train import Probe, train_probe

SIZE = size("nano", image=8, patch=4, width=16, depth=1, heads=2)
READING = LoaderConfig(workers=0)


def classifier(classes: int) -> Classifier:
    torch.manual_seed(0)
    model = Classifier(Encoder(SIZE), classes).eval()
    torch.nn.init.normal_(model.head.weight)
    return model


def noise(count: int, classes: int) -> Images:
    g = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=g, dtype=torch.uint8)
    ids = torch.randperm(1000, generator=g)[:count]
    return Images("noise", pixels, torch.randint(0, classes, (count,), generator=g), tuple(f"class {i}" for i in range(classes)), ids)


@pytest.mark.parametrize("classes", [2, 5, 6, 30])
def test_scores_are_those_of_scikit_learn(classes: int) -> None:
    model, images = classifier(classes), noise(70, classes)
    scores, logits = evaluate(model, images, images.statistics), logits_of(model, images, images.statistics)
    truth, share = images.labels.numpy(), logits.double().softmax(1).numpy()
    assert scores.images == 70 and scores.top1 == pytest.approx(100 * (share.argmax(1) == truth).mean())
    assert scores.loss == pytest.approx(log_loss(truth, share, labels=range(classes)), rel=1e-4)
    if classes <= 5:
        assert scores.top5 is None and "top-5" not in str(scores)
    else:
        assert scores.top5 == pytest.approx(100 * top_k_accuracy_score(truth, share, k=5, labels=range(classes)))


def test_predictions_and_confusion_become_csv_files_with_names(tmp_path: Path) -> None:
    model, images = classifier(7), noise(50, 7)
    found, logits = predict(model, images, images.statistics), logits_of(model, images, images.statistics)
    write_predictions(tmp_path / "a" / "predictions.csv", found, images)
    rows = list(csv.DictReader((tmp_path / "a" / "predictions.csv").open(encoding="utf-8")))
    assert [int(row["id"]) for row in rows] == images.ids.tolist(), "in the order of the images"
    for row, label, one in zip(rows, images.labels.tolist(), logits.softmax(1), strict=True):
        order = one.argsort(descending=True)[:5].tolist()
        assert (row["label"], row["predicted"]) == (f"class {label}", f"class {order[0]}")
        assert row["image"] == images.where(rows.index(row))
        assert [row[f"top {i}"] for i in range(2, 6)] == [f"class {i}" for i in order[1:]]
        assert float(row["probability"]) == pytest.approx(float(one.max()), abs=1e-5)
    write_confusion(tmp_path / "confusion.csv", found, images, 7)
    head, *table = list(csv.reader((tmp_path / "confusion.csv").open(encoding="utf-8")))
    assert head[1:] == list(images.classes) == [row[0] for row in table]
    wanted = confusion_matrix(images.labels.numpy(), logits.argmax(1).numpy(), labels=range(7))
    assert np.array_equal(np.array([row[1:] for row in table], dtype=int), wanted)
    (tmp_path / "file").touch()
    with pytest.raises(MinimaeError, match="cannot write .*; name another file"):
        write_confusion(tmp_path / "file" / "confusion.csv", found, images, 7)


def test_images_of_a_folder_are_named_by_their_files(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        path = tmp_path / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 7, dtype=np.uint8)).save(path)
    images = open_folder(tmp_path)
    found = predict(classifier(2), images, images.statistics, reading=READING)
    write_predictions(tmp_path / "predictions.csv", found, images)
    rows = list(csv.DictReader((tmp_path / "predictions.csv").open(encoding="utf-8")))
    assert [Path(row["image"]).relative_to(tmp_path).as_posix() for row in rows] == ["train/a/1.png", "train/a/2.png", "train/b/1.png"]
    assert [row["label"] for row in rows] == ["a", "a", "b"] and "top 3" not in rows[0]


def test_a_name_that_is_not_utf_8_is_written_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = classifier(2), noise(1, 2)
    monkeypatch.setattr(Images, "where", lambda self, index: os.fsdecode(b"caf\xe9.png"))
    write_predictions(tmp_path / "predictions.csv", predict(model, images, images.statistics), images)
    assert b"caf\xe9.png" in (tmp_path / "predictions.csv").read_bytes()


def test_one_class_is_refused_wherever_it_would_be_learned() -> None:
    images, encoder = noise(6, 1), classifier(2).encoder
    for train in (lambda: finetune(Finetune(), encoder, images, images.statistics),
                  lambda: train_probe(Probe(), encoder, images, images.statistics),
                  lambda: check_images(images, noise(6, 1), channels=images.channels, labelled=True)):  # fmt: skip
        with pytest.raises(ValueError, match="all images of noise are of one class: two or more are needed"):
            train()


def test_images_without_labels_are_refused_in_words() -> None:
    images = replace(noise(3, 2), labels=None)
    with pytest.raises(ValueError, match="noise has no labels"):
        evaluate(classifier(2), images, images.statistics)
