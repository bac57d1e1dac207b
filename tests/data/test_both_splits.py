"""Training and test images are compared before the first step: channels, sizes and classes; nothing is found out after training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minimae.cli.program import main
from minimae.data.images import Images
from minimae.tasks.evaluation import check_images

FAST = ["--batch", "4", "--epochs", "1", "--warmup-epochs", "0", "--depth", "1", "--patch", "7", "--device", "cpu", "--workers", "0"]


def save(path: Path, seed: int, *, grey: bool, side: int = 28) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (side, side) if grey else (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def folder(root: Path, *, grey=(True, True), side=(28, 28), classes=("ab", "ab"), labels: bool = True) -> Path:
    """Two classes of four training and two test pictures."""
    for k, split in enumerate(("train", "test")):
        for c in classes[k]:
            for i in range(4 - 2 * k):
                save(root / split / (c if labels else "") / f"{c}{i}.png", ord(c) + i, grey=grey[k], side=side[k])
    return root


@pytest.mark.parametrize("grey", [(True, False), (False, True)])
def test_pretraining_shows_test_pictures_of_another_colour_as_the_model_takes_them(grey, tmp_path):
    root = folder(tmp_path / "pictures", grey=grey)
    assert main(["pretrain", "fashion-demo", "--data", str(root), *FAST, "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run/reconstructions.png").is_file()


def test_pretraining_takes_test_pictures_of_another_size(tmp_path):
    root = folder(tmp_path / "pictures", side=(28, 40))
    assert main(["pretrain", "fashion-demo", "--data", str(root), *FAST, "--image", "28", "--out", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize("kind", ["damaged", "classes"])
def test_what_is_wrong_with_the_test_pictures_is_said_before_the_first_step(kind, tmp_path, capsys):
    root = folder(tmp_path / "pictures", classes=("ab", "bc" if kind == "classes" else "ab"))
    if kind == "damaged":
        (root / "test/a/a0.png").write_bytes(b"")
    assert main(["pretrain", "fashion-demo", "--data", str(root), *FAST, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert ("a0.png" if kind == "damaged" else "same classes") in said
    assert not (tmp_path / "run").exists()


def test_classes_of_test_pictures_do_not_matter_without_labels(tmp_path, capsys):
    root = folder(tmp_path / "pictures", labels=False)
    save(root / "test/owl/x.png", 3, grey=True)
    assert main(["pretrain", "fashion-demo", "--data", str(root), *FAST, "--out", str(tmp_path / "run")]) == 0
    assert "showing training images instead" in capsys.readouterr().out


def images(channels: int = 3, labels=(0, 1, 2), classes=("a", "b", "c")) -> Images:
    pixels = torch.zeros(3, channels, 4, 4, dtype=torch.uint8)
    return Images("mine", pixels, None if labels is None else torch.tensor(labels), classes)


@pytest.mark.parametrize(
    ("train", "test", "labelled", "said"),
    [
        (images(1), images(3), False, r"the test images of mine have 3 channels?; the model takes 1"),
        (images(4), images(1), False, r"the training images of mine have 4 channels?; the model takes 1"),
        (images(1), images(1, labels=None), True, "mine has no labels"),
        (images(1), images(1, (0, 1, 1), ("a", "b")), True, "other classes; only in one: c"),
        (images(1), images(1, classes=("b", "a", "c")), True, "their order differs"),
        (images(1, (0, 1, 1), ()), images(1, (0, 1, 2), ()), True, "the label 2, and the training images only 2 classes"),
    ],
)
def test_what_does_not_fit_is_named(train, test, labelled, said):
    with pytest.raises(ValueError, match=said):
        check_images(train, test, channels=1, labelled=labelled)


def test_what_fits_passes():
    check_images(images(1), images(1), channels=1, labelled=True)
    check_images(images(1), images(1, None), channels=1)
    check_images(images(1, (0, 1, 2), ()), images(1, (0, 1, 1), ()), channels=1, labelled=True)


@pytest.mark.parametrize("read_from", ["auto", "memory", "files"])
@pytest.mark.parametrize("patch", ["4", "7"])
def test_photographs_right_from_a_camera_ask_for_a_size_before_they_are_decoded(read_from, patch, tmp_path, capsys, monkeypatch):
    for i in range(3):
        save(tmp_path / f"pictures/{i}.jpg", i, grey=False, side=1200)

    def decoded(*_, **__):
        raise AssertionError("a picture was decoded")

    monkeypatch.setattr(Image.Image, "convert", decoded)
    how = ["--data", str(tmp_path / "pictures"), "--read-from", read_from, "--patch", patch, "--device", "cpu"]
    assert main(["pretrain", "fashion-demo", *how, "--out", str(tmp_path / "run")]) == 2
    count = f"{(1200 // int(patch)) ** 2:,}"
    assert f"images of 1200×1200 pixels would be {count} patches of {patch}×{patch}" in capsys.readouterr().err
