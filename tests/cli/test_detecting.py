"""``minimae detect``: from a folder of pictures and masks to a detector, its scores, and objects in a picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minimae.cli import main
from minimae.data.shapes import shapes

OPTIONS = ["--size", "nano", "--image", "64", "--finest", "8", "--levels", "2", "--channels", "16", "--box-width", "16"]
OPTIONS += ["--proposals", "16", "--rois", "16", "--batch", "4", "--epochs", "1", "--warmup-epochs", "0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight drawn scenes as pictures and masks."""
    root, scenes = tmp_path_factory.mktemp("mine"), shapes(8, 64)
    for part in ("images", "masks"):
        (root / part).mkdir()
    for i, pixels in enumerate(scenes.pixels):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(root / "images" / f"{i}.png")
        number = sum(mask.byte() * (k + 1) for k, mask in enumerate(scenes.instances[i]))
        Image.fromarray(number.numpy()).save(root / "masks" / f"{i}.png")
    return root


def test_from_a_folder_to_objects_in_a_picture(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, figure = tmp_path / "run", tmp_path / "found.png"
    assert main(["detect", str(folder), "--weights", "none", "--out", str(run), *OPTIONS]) == 0
    text = capsys.readouterr().out
    assert "2 of 8 pictures are held out" in text and "boxes: AP" in text and "2 test pictures of" in text
    result = json.loads((run / "result.json").read_text())
    assert {f"{what} {name} %" for what in ("box", "mask") for name in ("AP", "AP50", "AP75")} <= result.keys()
    assert json.loads((run / "recipe.json").read_text())["layer_decay"] == 1.0, "from scratch"
    assert (run / "objects.png").stat().st_size > 5000 and (run / "report.html").is_file()
    picture = folder / "images" / "3.png"
    assert main(["detect", str(folder), "--weights", str(run), "--image", "96"]) == 0
    assert f"boxes: AP {result['box AP %']:.1f} " in capsys.readouterr().out
    assert main(["detect", str(picture), "--weights", str(run), "--least", "0.05", "--out", str(figure)]) == 0
    assert "× object" in capsys.readouterr().out and figure.is_file()


REFUSED = {
    "no data": (["--weights", "none"], "name a folder with pictures and masks, or a picture: minimae detect DATA"),
    "nothing there": (["nowhere", "--weights", "none"], "no folder nowhere"),
    "a size that does not fit": (["FOLDER", "--weights", "none", "--image", "100"], "image must be a multiple of 32"),
    "no weights of that name": (["FOLDER", "--weights", "nosuch"], "no weights of that name"),
    "a picture without a detector": (["x.png", "--weights", "none"], "none is not a detector: train one with minimae detect DATA"),
    "two folders": (["FOLDER", "FOLDER", "--weights", "none"], "give one data set, or one or more pictures"),
    "an option that would change nothing": (["FOLDER", "--skip-corrupt"], "--skip-corrupt does not apply to minimae detect"),
    "an unknown recipe": (["FOLDER", "--recipe", "coco-bsae"], "unknown recipe 'coco-bsae'; did you mean 'coco-base'?"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_one_clear_line(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, message = REFUSED[name]
    assert main(["detect", *(str(folder) if word == "FOLDER" else word for word in words)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("command", ["detect", "segment", "prompt"])
@pytest.mark.parametrize("option", [["--skip-corrupt"], ["--bits", "12"], ["--crop-on", "device"], ["--download"]])
def test_options_about_images_that_would_be_ignored(command: str, option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "shapes", *option]) != 0
    assert f"{option[0]} does not apply to minimae {command}" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["detect", "segment", "prompt"])
@pytest.mark.parametrize("content", [b"", b"no weights", {"weight": torch.zeros(2)}], ids=["empty", "text", "foreign"])
def test_a_file_of_weights_that_is_none_of_ours(command: str, content: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.pt"
    _ = file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    for data in ("shapes", "x.png"):
        assert main([command, data, "--limit", "4", "--weights", str(file)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "not written by minimae" not in error


def test_pictures_without_any_object_are_refused_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        for i in range(3):
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / part / f"{i}.png")
    assert main(["detect", str(tmp_path), "--weights", "none", "--out", str(tmp_path / "run"), *OPTIONS]) == 2
    assert "to learn has an object" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["detect", "segment", "prompt"])
def test_weights_that_are_missing_or_damaged_are_reported_as_such(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, damaged = tmp_path / "a.png", tmp_path / "damaged.pt"
    Image.new("RGB", (64, 64)).save(picture)
    damaged.write_bytes(b"PK no zip")
    for weights in (tmp_path / "nowhere", damaged):
        assert main([command, str(picture), "--weights", str(weights)]) != 0
        error = capsys.readouterr().err
        assert str(weights) in error and "train one with" not in error and error.count("\n") == 1
    assert main([command, str(picture), "--weights", "fashion-nano"]) != 0
    assert f"train one with minimae {command} DATA" in capsys.readouterr().err


def test_a_detector_without_some_weights_is_reported(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, broken = tmp_path / "run", tmp_path / "broken.pt"
    assert main(["detect", str(folder), "--weights", "none", "--out", str(run), *OPTIONS]) == 0
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    del state["model"][next(name for name in state["model"] if name.startswith("encoder."))]
    torch.save(state, broken)
    capsys.readouterr()
    for words in ([str(folder)], [str(folder / "images" / "3.png")]):
        assert main(["detect", *words, "--weights", str(broken), "--out", str(tmp_path / "again")]) != 0
        error = capsys.readouterr().err
        assert str(broken) in error and "train one with" not in error and not (tmp_path / "again").exists()
