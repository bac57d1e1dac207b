"""Which pictures a folder holds: classes named like splits, links in circles, rare endings, and a test part where there is none."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minimae.data import load, open_images
from minimae.data.choose import held_out
from minimae.data.files import ImageFiles
from minimae.data.folder import listing, scan, splits_of, suffixes
from minimae.data.images import Images


def fill(root: Path, *names: str) -> Path:
    """Small grey pictures at these paths; the value tells the place in the list."""
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 6), i, np.uint8)).save(root / name, format="PNG")
    return root


def classes(root: Path, *names: str, count: int = 3) -> Path:
    return fill(root, *(f"{name}/{i}.png" for name in names for i in range(count)))


# Classes and splits


@pytest.mark.parametrize("name", ["train", "test", "val", "Training", "validation"])
def test_a_class_may_be_named_like_a_split(name: str, tmp_path: Path) -> None:
    images = load(classes(tmp_path, "bus", "car", name, count=8))
    assert len(images) == 24 and sorted(images.classes) == sorted(["bus", "car", name])
    assert images.labels is not None and images.labels.bincount().tolist() == [8, 8, 8]


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "Val"), ("training", "testing"), ("train", "valid")])
def test_splits_may_be_called_in_several_ways(names: tuple[str, str], tmp_path: Path) -> None:
    fill(tmp_path, *(f"{split}/{c}/{i}.png" for split in names for c in "ab" for i in range(2)))
    assert load(tmp_path).classes == load(tmp_path, "test").classes == ("a", "b")
    assert len(load(tmp_path)) == len(load(tmp_path, "test")) == 4


def test_a_folder_of_tests_alone_has_no_training_images(tmp_path: Path) -> None:
    fill(tmp_path, "val/a/0.png", "val/b/0.png")
    assert load(tmp_path, "test").classes == ("a", "b")
    with pytest.raises(FileNotFoundError, match="no folder train beside val"):
        load(tmp_path)


def test_what_could_be_a_class_or_a_split_is_asked_for(tmp_path: Path) -> None:
    fill(tmp_path, "bus/0.png", "car/0.png", "train/day/0.png", "train/night/0.png")
    with pytest.raises(ValueError, match="not clear whether train is a split or a class"):
        load(tmp_path)


def test_folders_beside_splits_are_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, "train/a/0.png", "val/a/0.png", "unlabelled/0.png")
    (tmp_path / "docs").mkdir()
    assert len(load(tmp_path)) == 1
    assert "left out these folders beside train, val: unlabelled" in capsys.readouterr().err
    assert splits_of(tmp_path) == {"train": "train", "val": "val"}


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, "val/a/0.png", "validation/a/0.png")
    with pytest.raises(ValueError, match="two folders for one split"):
        load(tmp_path)


# Links


def test_a_link_to_the_parent_adds_nothing(tmp_path: Path) -> None:
    root = classes(tmp_path / "root", "a", "b", count=2)
    for place in (root / "a" / "up", root / "b" / "up", root / "a" / "itself", root / "loop", root / "a" / "above"):
        place.symlink_to({"itself": root / "a", "above": tmp_path, "loop": root}.get(place.name, root))
    (root / "a" / "circle").symlink_to(root / "a" / "circle")
    images = load(root)
    assert len(images) == 4 and images.classes == ("a", "b") and len(scan(root)[0]) == 4


def test_linked_folders_are_read_once_below_their_class(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", "0.png", "deep/1.png")
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(tmp_path / "elsewhere")
    root = classes(tmp_path / "root", "a", count=1)
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "other").symlink_to(root / "b")  # would give the pictures of b the label of a
    images = load(root)
    assert images.labels is not None and images.labels.tolist() == [0, 1, 1]


def test_a_folder_that_may_not_be_read_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a/0.png", "a/inner/0.png")
    real = os.scandir

    def refuse(path: str | Path) -> object:
        if Path(path).name == "inner":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(PermissionError):
        load(tmp_path)


# Endings


def test_all_that_pillow_reads_is_read_and_the_rest_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = Image.new("RGB", (6, 6), (10, 20, 30))
    endings = ["jfif", "jpe", "jpg", "JPEG", "jp2", "tga", "pnm", "dib", "webp", "avif", "ico", "sgi", "qoi", "pcx"]
    (tmp_path / "a").mkdir()
    kept = []
    for ending in endings:
        try:
            picture.save(tmp_path / "a" / f"{ending}.{ending}")
            kept.append(ending)
        except (KeyError, OSError, ValueError):
            continue
    for name in ("notes.txt", "more.txt", "data.csv", "README", "film.mpg"):
        (tmp_path / "a" / name).write_text("")
    images = load(tmp_path)
    assert len(images) == len(kept) >= 10 and {".jfif", ".jpe", ".webp"} <= suffixes() and ".mpg" not in suffixes()
    assert "left out files whose names are not those of pictures: .txt 2" in capsys.readouterr().err
    assert listing(tmp_path).notes == open_images(tmp_path).notes == open_images(tmp_path, read_from="files").notes


# A test part where there is none


def test_a_share_of_each_class_is_held_out() -> None:
    labels = torch.tensor([0] * 10 + [1] * 40 + [2] * 3 + [3])
    test = held_out(labels, 0.2)
    assert labels[test].bincount(minlength=4).tolist() == [2, 8, 1, 0]
    assert torch.equal(test, held_out(labels, 0.2)) and not torch.equal(test, held_out(labels, 0.2, seed=1))


@pytest.mark.parametrize("inside", ["", "train/"])
@pytest.mark.parametrize("limit", [None, 9])
def test_the_parts_never_overlap_and_are_the_same_from_memory_and_files(inside: str, limit: int | None, tmp_path: Path) -> None:
    fill(tmp_path, *(f"{inside}{c}/{i}.png" for c in "abc" for i in range(10)))
    kinds = {}
    for read_from in ("memory", "files"):
        train, test = (open_images(tmp_path, s, read_from=read_from, labelled=True, limit=limit) for s in ("train", "test"))  # type: ignore[arg-type]
        assert isinstance(train, Images if read_from == "memory" else ImageFiles) and train.ids is not None and test.ids is not None
        assert not set(train.ids.tolist()) & set(test.ids.tolist())
        assert train.labels is not None and test.labels is not None
        assert test.labels.bincount().tolist() == [2, 2, 2] and train.labels.bincount().tolist() == ([8] * 3 if limit is None else [3] * 3)
        assert "no test part: 6 of 30 pictures, 20% of each class, are held out" in test.notes[0]
        kinds[read_from] = train, test
    for a, b in zip(*kinds.values(), strict=True):
        assert a.ids is not None and torch.equal(a.ids, b.ids) and torch.equal(a.labels, b.labels)  # type: ignore[arg-type]
    assert len(open_images(tmp_path)) == 30, "pre-training takes all"
    with pytest.raises(FileNotFoundError, match="no test split"):
        load(tmp_path, "test")


def test_where_there_is_a_test_part_nothing_is_held_out(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{split}/{c}/{i}.png" for split in ("train", "val") for c in "ab" for i in range(5)))
    train, test = (open_images(tmp_path, split, labelled=True) for split in ("train", "test"))
    assert len(train) == len(test) == 10 and not test.notes
    with pytest.raises(ValueError, match="no class folders"):
        open_images(fill(tmp_path / "flat", "0.png"), "test", labelled=True)


def test_a_command_evaluates_a_folder_without_a_test_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from minimae.cli import main

    root = fill(tmp_path / "mine", *(f"{c}/{i}.png" for c in "ab" for i in range(10)))
    assert main(["knn", "--weights", "fashion-nano", "--data", str(root), "--k", "3", "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert told.count("are held out to test on") == 1 and "% of 4 test images" in told
