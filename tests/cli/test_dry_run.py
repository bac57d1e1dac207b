"""A dry run in one process: on images of one's own without labels, and what it does not run."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from minimae.cli.dry_run import shortened
from minimae.cli.program import main
from minimae.data.photos import make_folder
from minimae.recipes import recipe

TINY = "--image 16 --patch 8 --width 16 --depth 1 --heads 2 --decoder-width 16 --decoder-depth 1 --decoder-heads 2 --workers 0 --device cpu"


def test_without_labels_pre_training_and_its_report_are_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = make_folder(tmp_path / "photos", classes=1, train=20, val=1, share=0.1)
    flat = shutil.copytree(photos / "train" / "n00000001", tmp_path / "flat")
    command = ["pretrain", "imagenet-base", "--dry-run", "--data", str(flat), "--out", str(tmp_path / "run"), *shlex.split(TINY)]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "no labels: probe and fine-tuning were left out" in told and "FLOP × 16,000 images" in told
    assert list(json.loads((tmp_path / "run" / "dry-run.json").read_text())["stages"]) == ["pretrain"]
    assert (tmp_path / "run" / "pretrain" / "report.html").is_file() and not (tmp_path / "run" / "probe").exists()


def test_no_path_is_printed_that_is_gone_when_the_dry_run_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = make_folder(tmp_path / "photos", classes=1, train=20, val=1, share=0.1)
    flat = shutil.copytree(photos / "train" / "n00000001", tmp_path / "flat")
    assert main(["pretrain", "imagenet-base", "--dry-run", "--data", str(flat), *shlex.split(TINY)]) == 0
    told = capsys.readouterr().out
    assert "--out FOLDER keeps it" in told and "report.html" not in told


def test_a_short_batch_holds_every_view_of_an_image() -> None:
    assert [shortened(replace(recipe("imagenet-base"), repeats=n), 100, 4).batch for n in (1, 2, 8)] == [4, 4, 8]
