"""minimae prompt: from pictures with objects to a trained segmenter, and from a click to masks."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minimae.cli import main

QUICK = "--limit 12 --epochs 1 --batch 8 --warmup-epochs 0.2 --decoder-width 16 --decoder-heads 2 --clicks 2".split()  # noqa: SIM905
QUICK += ["--device", "cpu"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder in colour."""
    import torch

    import minimae

    torch.manual_seed(0)
    model = minimae.MAE("nano", width=24, heads=2, depth=2, decoder_width=16, decoder_depth=1, patch=8, image=32, channels=3)
    path = tmp_path_factory.mktemp("prompt") / "tiny.safetensors"
    minimae.weights.save(model, path, statistics=(torch.full((3,), 0.5), torch.full((3,), 0.2)))
    return path


@pytest.fixture(scope="module")
def run(weights: Path) -> Path:
    out = weights.parent / "run"
    assert main(["prompt", "shapes", "--weights", str(weights), "--out", str(out), *QUICK]) == 0
    return out


@pytest.fixture(scope="module")
def photo(weights: Path) -> Path:
    path = weights.parent / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)).save(path)
    return path


def test_a_run_is_measured_and_reported(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    names = [f"{prompt}{what} %" for what in ("", ", best of three") for prompt in ("1 click", "2 clicks", "3 clicks", "box")]
    assert [key for key in result if key.endswith("%")] == names and all(0 <= result[name] <= 100 for name in names)
    assert (run / "clicks.png").stat().st_size > 10_000 and "Green crosses" in (run / "report.html").read_text()


def test_a_trained_segmenter_is_measured_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = json.loads((run / "result.json").read_text())
    assert main(["prompt", "shapes", "--weights", str(run), "--limit", "12", "--device", "cpu"]) == 0
    assert f"1 click {result['1 click %']:.1f} %" in capsys.readouterr().out


def test_it_is_measured_at_its_own_size_whatever_the_size_of_a_new_one(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = json.loads((run / "result.json").read_text())
    assert main(["prompt", "shapes", "--weights", str(run), "--limit", "12", "--device", "cpu", "--image", "64"]) == 0
    assert f"1 click {result['1 click %']:.1f} %" in capsys.readouterr().out


def test_a_finished_run_is_not_written_over_and_can_be_extended(run: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = ["prompt", "shapes", "--weights", str(weights), "--out", str(run), *QUICK]
    assert main(again) == 2
    assert "already holds a run: continue it with --resume" in capsys.readouterr().err
    assert main([*again, "--resume", "--epochs", "1.5"]) == 0
    assert "extended from 1 to 1.5 epochs" in capsys.readouterr().err


def test_a_click_gives_three_masks_of_the_picture(run: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, mask = tmp_path / "new" / "masks.png", tmp_path / "mask.png"
    words = ["prompt", str(photo), "--weights", str(run), "--point", "20,30", "--point", "30,30", "--negative", "70,5"]
    assert main([*words, "--box", "5,5,60,45", "--out", str(out), "--mask", str(mask)]) == 0
    said = capsys.readouterr().out
    assert [line[:6] for line in said.splitlines()[:3]] == ["mask 1", "mask 2", "mask 3"] and "expected IoU" in said
    assert out.is_file() and Image.open(mask).size == (80, 50) and set(np.unique(np.array(Image.open(mask)))) <= {0, 255}


def test_it_starts_from_initial_weights_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prompt", "shapes", "--weights", "none", "--size", "nano", "--patch", "16", "--image", "32", *QUICK, "--no-frozen"]
    assert main([*words, "--epochs", "0.3", "--out", str(tmp_path / "run")]) == 0
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["layer_decay"] == 1
    assert "objects in 12 pictures, 3 × 32 × 32" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no prompt was given"),
        (["--point", "81,3"], "the point 81,3 is outside the picture, which has 80 × 50 pixels"),
        (["--point", "3"], "--point takes x,y (120,80) in pixels, not '3'"),
        (["--negative", "3,4"], "negative points alone"),
        (["--box", "3,4,5"], "--box takes left,top,right,bottom"),
        (["--box", "30,4,5,20"], "left < right"),
    ],
)
def test_impossible_prompts_are_one_line(run: Path, photo: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompt", str(photo), "--weights", str(run), *words]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_other_mistakes_are_one_line(run: Path, weights: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, says in (
        (["prompt"], "name a folder with pictures and masks, or a picture"),
        (["prompt", str(photo), "--weights", str(weights), "--point", "1,1"], "is not a promptable segmenter: train one with"),
        (["prompt", "shapes", "--weights", str(weights), "--clicks", "0"], "clicks must be at least 1"),
        (["prompt", "shapes", "--weights", str(weights), "--point", "1,1"], "points and boxes need a picture"),
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1
