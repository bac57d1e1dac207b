"""Pictures that are not square: trained on, looked at and evaluated in their own shape by every command."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minimae import weights
from minimae.cli.program import main
from minimae.tasks.reconstruct import fit_to_model, read_picture
from minimae.train.checkpoint import load_checkpoint

SMALL = shlex.split("--patch 8 --width 32 --depth 1 --heads 2 --decoder-width 16 --decoder-depth 1 --decoder-heads 2 --device cpu")
FAST = shlex.split("--batch 8 --epochs 2 --warmup-epochs 0")


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey noise of 32 × 96 pixels with a bright square at the left or the right end, which a square in the middle does not show."""
    root, rng = tmp_path_factory.mktemp("sides"), np.random.default_rng(0)
    for i in range(48):
        pixels = rng.integers(0, 60, (32, 96)).astype(np.uint8)
        pixels[8:24, slice(2, 22) if i % 2 else slice(74, 94)] = 250
        path = root / ("train" if i < 32 else "test") / ("left" if i % 2 else "right") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


@pytest.fixture(scope="module")
def run(sides: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    assert main(["pretrain", "fashion-demo", "--data", str(sides), *SMALL, *FAST, "--no-flip", "--crop", "None", "--out", str(out)]) == 0
    assert load_checkpoint(out / "checkpoint.pt")["size"]["image"] == (32, 96)
    return out


@pytest.mark.parametrize("read_from", ["memory", "files"])
@pytest.mark.parametrize("command", [["knn", "--k", "3", "--pool", "tokens"], ["probe"]])
def test_what_lies_at_the_ends_is_seen(
    command: list[str], read_from: str, sides: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--weights", str(run), "--data", str(sides), "--read-from", read_from, "--workers", "0", "--device", "cpu"]
    assert main([*command, *words]) == 0
    assert "100.00 % of 16 test images" in capsys.readouterr().out


def test_fine_tuning_learns_it(sides: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--batch", "8", "--epochs", "15", "--warmup-epochs", "1", "--crop", "None", "--no-flip", "--device", "cpu"]
    assert main(["finetune", "--weights", str(run), "--data", str(sides), *options]) == 0
    assert "100.00 % of 16 test images" in capsys.readouterr().out


def test_a_picture_keeps_its_shape_in_a_reconstruction(sides: Path, run: Path, tmp_path: Path) -> None:
    trained = weights.load(run)
    for size in ((32, 96), (64, 192), (96, 96), (96, 32)):
        Image.new("L", size[::-1]).save(tmp_path / "a.png")
        height, width = fit_to_model(read_picture(tmp_path / "a.png", 1), trained).shape[-2:]
        assert height >= 32 and width >= 96 and height * size[1] == width * size[0]


def test_an_image_size_of_two_numbers(sides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    words = ["pretrain", "fashion-demo", "--data", str(sides), *SMALL, *FAST, "--image", "16", "48", "--out", str(out)]
    assert main(words) == 0, capsys.readouterr().err
    assert load_checkpoint(out / "checkpoint.pt")["size"]["image"] == (16, 48)
