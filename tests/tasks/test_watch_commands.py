"""Watching, validation, predictions and statistics on the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minimae import load
from minimae.cli.parsing import parse
from minimae.cli.program import main

FAST = ["--batch", "8", "--warmup-epochs", "0", "--depth", "1", "--patch", "7", "--device", "cpu", "--workers", "0", "--log-every", "1"]
TUNE = ["--epochs", "2", "--batch", "8", "--warmup-epochs", "0", "--device", "cpu", "--workers", "0", "--log-every", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 8), ("test", 3)):
        for k, name in enumerate(("ant", "bee")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                noise = np.random.default_rng(100 * k + i).integers(0, 100, (28, 28), dtype=np.uint8) + 100 * k
                Image.fromarray(noise.astype(np.uint8)).save(root / split / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    watch = ["--watch", "knn", "probe", "rank", "validation", "reconstructions", "--watch-every", "1"]
    assert main(["pretrain", "fashion-demo", "--data", str(folder), *FAST, "--epochs", "2", *watch, "--out", str(out)]) == 0
    return out


def test_a_watched_run_logs_its_measurements_and_draws(run: Path) -> None:
    points = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    watched = [p["step"] for p in points if {"knn_accuracy", "probe_accuracy", "feature_rank", "validation_loss"} <= p.keys()]
    assert watched == [2, 4] and sorted(path.name for path in (run / "watch").iterdir()) == ["epoch-0001.00.png", "epoch-0002.00.png"]


def test_without_test_images_there_is_nothing_to_watch_on(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "alone").symlink_to(folder / "train" / "ant")
    command = ["pretrain", "fashion-demo", "--data", str(tmp_path / "alone"), *FAST, "--epochs", "1"]
    assert main([*command, "--watch", "rank", "--out", str(tmp_path / "run")]) == 2
    assert "has no test part" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize(("validation", "said"), [("0.25", "4 of the 16 training images, held out"), ("test", "report the last")])
def test_fine_tuning_says_which_weights_are_the_best(
    validation: str, said: str, run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["finetune", "--weights", str(run), "--data", str(folder), *TUNE, "--validation", validation, "--out", str(tmp_path / "t")]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert said in text and "last epoch" in text and ("the best epoch, in" in text) == (validation != "test")
    points = [json.loads(line) for line in (tmp_path / "t" / "metrics.jsonl").read_text().splitlines()]
    result, page = json.loads((tmp_path / "t" / "result.json").read_text()), (tmp_path / "t" / "report.html").read_text()
    assert result["best validation top-1 %"] == max(p.get("validation_top1", 0) for p in points) and "best epoch" in result
    assert ("best.pt top-1 %" in result) == ("<p>The best epoch, in" in page) == (validation != "test")
    assert sum("validation_top1" in p for p in points) == 2 and load(tmp_path / "t" / "best.pt").classes == ("ant", "bee")  # type: ignore[union-attr]


def test_a_folder_validates_and_evaluate_writes_files(run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuned = tmp_path / "tuned"
    command = ["finetune", "--weights", str(run), "--data", str(folder), *TUNE, "--out", str(tuned)]
    assert main([*command, "--validation", str(folder)]) == 0
    files = ["--predictions", str(tmp_path / "p.csv"), "--confusion", str(tmp_path / "c.csv")]
    assert main(["evaluate", "--weights", str(tuned), "--data", str(folder), "--device", "cpu", "--workers", "0", *files]) == 0
    rows, table = (list(csv.reader((tmp_path / name).open(encoding="utf-8"))) for name in ("p.csv", "c.csv"))
    assert len(rows) == 7 and table[0][1:] == ["ant", "bee"] and sum(int(n) for row in table[1:] for n in row[1:]) == 6
    right = sum(row[2] == row[3] for row in rows[1:])
    assert f"{100 * right / 6:.2f} % of 6 test images" in capsys.readouterr().out
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "test").symlink_to(folder / "test")
    assert main(["evaluate", "--weights", str(tuned), "--data", str(tmp_path / "alone"), "--device", "cpu", "--workers", "0"]) == 0
    assert f"{100 * right / 6:.2f} % of 6 test images" in capsys.readouterr().out, "no training images are needed"
    assert main([*command, "--resume", "--validation", "test"]) == 0 and "validation" in capsys.readouterr().out


def test_a_run_that_had_ended_was_not_validated(run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["finetune", "--weights", str(run), "--data", str(folder), *TUNE, "--out", str(tmp_path / "t")]
    assert main(command) == 0 and main([*command, "--resume", "--validation", "test"]) == 0
    assert "no validation: the run had already ended" in capsys.readouterr().out


def test_a_run_from_scratch_goes_on_with_the_file_of_its_recipe(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["recipes", "fashion-scratch", "--save", "mine.json"]) == 0
    command = ["finetune", "mine.json", "--data", str(folder), *TUNE, "--out", "run"]
    assert main(command) == 0
    for words in (["finetune", "--out", "run", "--resume"], ["finetune", "mine.json", "--data", str(folder), "--out", "run", "--resume"]):
        assert parse(words).scratch and parse(words).weights is None
    assert main(["finetune", "--out", "run", "--resume"]) == 0


@pytest.mark.parametrize(("words", "said"), [
    (["pretrain", "fashion-demo", *FAST, "--epochs", "1", "--watch", "rank", "--watch-images", "0"], "must be at least 1, not 0"),
    (["finetune", "--weights", "fashion-nano", *TUNE, "--labels", "2", "--validation", "0.1"], "no class has two"),
])  # fmt: skip
def test_nothing_is_measured_on_no_images(
    words: list[str], said: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--data", str(folder), "--out", str(tmp_path / "new")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_statistics_are_written_on_request(folder: Path, tmp_path: Path) -> None:
    assert main(["data", str(folder), "--read-from", "files", "--statistics", str(tmp_path / "new" / "s.json"), "--workers", "0"]) == 0
    stored = json.loads((tmp_path / "new" / "s.json").read_text())["train"]
    pixels = torch.stack([torch.tensor(np.asarray(Image.open(path))) for path in sorted((folder / "train").rglob("*.png"))]) / 255
    assert stored["images"] == 16 and stored["mean"] == pytest.approx([float(pixels.mean())], abs=1e-5)
    assert stored["std"] == pytest.approx([float(pixels.std(correction=0))], abs=1e-4)


def test_a_run_normalises_by_the_statistics_of_a_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.json").write_text('{"train": {"mean": [0.25], "std": [0.5]}}')
    command = ["pretrain", "fashion-demo", "--data", str(folder), *FAST, "--epochs", "1", "--out", str(tmp_path / "run")]
    assert main([*command, "--statistics", str(tmp_path / "s.json")]) == 0
    assert [x.item() for x in load(tmp_path / "run").statistics] == [0.25, 0.5]
    assert main(["pretrain", "--resume", str(tmp_path / "run"), "--epochs", "2"]) == 0, "a resumed run keeps them"
    for text, said in (("{}", "'train'"), ('{"train": {"mean": [1, 1], "std": [1, 1]}}', "needed for 1 channel"), ("", "Expecting")):
        (tmp_path / "s.json").write_text(text)
        assert main([*command[:-1], str(tmp_path / "other"), "--statistics", str(tmp_path / "s.json")]) == 2
        assert said in capsys.readouterr().err and not (tmp_path / "other").exists()
