"""minimae segment, from a folder with masks to a trained segmenter, its report, and a picture of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from minimae.cli import main
from minimae.cli.dense import save_figure
from minimae.cli.options import DataOptions
from minimae.cli.segmenting import SegmentCommand
from minimae.recipes import entry

SMALL = [
    *["--weights", "none", "--size", "nano", "--patch", "8", "--batch", "4", "--warmup-epochs", "0", "--device", "cpu", "--threads", "1"]
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, random = tmp_path_factory.mktemp("own"), np.random.default_rng(0)
    for i in range(10):
        labels = np.zeros((40, 50 + i), np.uint8)
        labels[10:30, 5 + 3 * i :] = 1
        picture = np.clip(labels[..., None] * 140 + random.integers(0, 60, (*labels.shape, 3)), 0, 255).astype(np.uint8)
        for name, values in (("images", picture), ("masks", labels)):
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(values).save(root / name / f"{i}.png")
    (root / "classes.txt").write_text("wall\ndoor\n")
    return root


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "x"
    words = ["segment", str(folder), *SMALL, "--image", "32", "48", "--epochs", "16", "--base-lr", "0.1", "--validation", "0.25"]
    assert main([*words, "--out", str(out)]) == 0
    return out


def test_one_command_trains_measures_and_draws(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    assert set(result["IoU %"]) == {"wall", "door"} and result["mean IoU %"] == pytest.approx(sum(result["IoU %"].values()) / 2, abs=0.1)
    assert result["test images"] == 2 and "best.pt mean IoU %" in result and result["mean IoU %"] > 35
    wanted = {"checkpoint.pt", "best.pt", "report.html", "segmentation.png", "metrics.jsonl", "recipe.json"}
    assert wanted <= {p.name for p in run.iterdir()}
    page = (run / "report.html").read_text()
    assert "mean IoU" in page and "door" in page


def test_the_run_segments_pictures_of_any_size(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "mine.jpg"
    Image.fromarray(np.full((70, 33, 3), 180, np.uint8)).save(picture)
    words = ["segment", str(picture), "--weights", str(run), "--out", str(tmp_path / "p.png"), "--masks", str(tmp_path / "m")]
    assert main(words) == 0
    assert np.asarray(Image.open(tmp_path / "m" / "mine.png")).shape == (70, 33) and (tmp_path / "p.png").is_file()
    assert "mine.jpg: " in capsys.readouterr().out


def test_masks_replace_neither_pictures_nor_each_other(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "b/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((20, 20, 3), 90, np.uint8)).save(tmp_path / name)
    before = (tmp_path / "a.png").read_bytes()
    for pictures in (["a.png"], ["a.png", "b/a.png"], ["b/a.png", "a.jpg"]):
        words = [str(tmp_path / name) for name in pictures]
        assert main(["segment", *words, "--weights", str(run), "--out", str(tmp_path / "p.png"), "--masks", str(tmp_path)]) == 2
        assert "a.png would be overwritten, because it is an input or another output" in capsys.readouterr().err
    assert (tmp_path / "a.png").read_bytes() == before and not (tmp_path / "p.png").exists()


@pytest.mark.parametrize(("out", "file"), [("run-0.5", "run-0.5.png"), ("a.jpg", "a.png"), ("b", "b.png")])
def test_a_figure_has_the_name_that_was_given(out: str, file: str, tmp_path: Path) -> None:
    figure = SimpleNamespace(savefig=lambda path: path.touch())
    assert save_figure(figure, tmp_path / out, "other.png", []) == tmp_path / file and (tmp_path / file).is_file()
    with pytest.raises(ValueError, match="would be overwritten"):
        save_figure(figure, tmp_path / out, "other.png", [tmp_path / file])


def test_the_limit_is_that_of_the_validation_pictures_too(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for i in range(4):
            for name, values in (("images", np.zeros((8, 8, 3), np.uint8)), ("masks", np.arange(64, dtype=np.uint8).reshape(8, 8) % 2)):
                (tmp_path / part / name).mkdir(exist_ok=True, parents=True)
                Image.fromarray(values).save(tmp_path / part / name / f"{i}.png")
    command = SegmentCommand(data=(str(tmp_path),), validation="val", where=DataOptions(limit=2))
    assert [len(part) for part in command.validated(*command.splits(3), 0) if part is not None] == [2, 2]


def test_a_trained_segmenter_is_measured_again_to_the_same_number(run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", str(folder), "--weights", str(run / "checkpoint.pt")]) == 0
    assert f"mean IoU {json.loads((run / 'result.json').read_text())['mean IoU %']:.1f} %" in capsys.readouterr().out


def test_a_run_is_continued_with_the_options_it_was_started_with(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", "--out", str(run), "--resume", "--epochs", "17"]) == 0
    assert "last epoch" in capsys.readouterr().out


def test_dry_run_says_how_long_it_would_take(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["segment", str(folder), *SMALL, "--image", "32", "--frozen", "--dry-run", "--out", str(tmp_path / "none")]
    assert main(words) == 0
    assert "pictures/s" in capsys.readouterr().out and not (tmp_path / "none").exists()


def test_recipes_of_the_papers_scale_are_values_with_cost_and_published_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "ade20k-base"]) == 0
    text = capsys.readouterr().out
    assert "UperNet" in text and "run here                no" in text and "GPU h" in text
    base = entry("ade20k-base")
    assert base.kind == "segment" and base.cost.images == 100 * 20_210 and base.recipe.image == 512


def test_a_recipe_gives_the_settings_and_options_change_them(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["segment", "shapes", "--limit", "8", "--recipe", "ade20k-base", *SMALL, "--image", "32", "--dry-run"]
    assert main(words) == 0
    assert "100 epochs of 8 would take" in capsys.readouterr().out


MISTAKES = {
    "no data": (["segment"], "name a folder with pictures and masks"),
    "no masks": (["segment", "{tmp}", *SMALL], "has no pictures and masks for train"),
    "recipe": (["segment", "shapes", "--recipe", "ade20k-bas"], "did you mean 'ade20k-base'"),
    "share": (["segment", "shapes", "--limit", "8", *SMALL, "--validation", "many"], "--validation takes a share"),
    "no segmenter": (["segment", "x.jpg", "--weights", "photos-tiny"], "photos-tiny is not a segmenter: train one"),
    "no picture": (["segment", "x.jpg", "--weights", "{run}"], "there is no picture at x.jpg"),
    "other classes": (["segment", "shapes", "--limit", "2", "--weights", "{run}"], "other classes than those of shapes: wall, door"),
    "two sets": (["segment", "shapes", "mine"], "not shapes and mine"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_one_line(what: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, message = MISTAKES[what]
    assert main([word.format(tmp=tmp_path, run=run) for word in words]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and error.count("\n") == 0
