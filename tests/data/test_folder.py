"""A folder of pictures is read in every layout that has one meaning; the others say what is wrong."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minimae.data import load


def fill(root: Path, *names: str, size: int = 8) -> Path:
    """Write pictures at these paths below root; the colour tells the place in the list."""
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((size, size, 3), (i, 100, 200), np.uint8)).save(root / name)
    return root


def test_class_folders_give_labels_by_sorted_name_and_ids_by_sorted_file(tmp_path):
    fill(tmp_path, "dog/b.png", "cat/z.png", "dog/a.png", "ant/more/x.PNG")
    images = load(tmp_path)
    assert images.classes == ("ant", "cat", "dog") and images.labels.tolist() == [0, 1, 2, 2]
    assert images.pixels[:, 0, 0, 0].tolist() == [3, 1, 2, 0] and images.ids.tolist() == [0, 1, 2, 3]
    assert images.name == tmp_path.name


def test_splits_are_folders_and_val_stands_in_for_test(tmp_path):
    fill(tmp_path, "train/a/0.png", "train/b/0.png", "val/a/0.png", "val/b/1.png")
    assert load(tmp_path).pixels[:, 0, 0, 0].tolist() == [0, 1]
    assert load(tmp_path, "test").pixels[:, 0, 0, 0].tolist() == load(tmp_path, "val").pixels[:, 0, 0, 0].tolist() == [2, 3]
    fill(tmp_path, "test/a/9.png", "test/b/9.png")
    assert load(tmp_path, "test").pixels[:, 0, 0, 0].tolist() == [0, 1]


def test_a_flat_folder_has_no_labels(tmp_path):
    fill(tmp_path, "2.png", "1.png")
    images = load(tmp_path)
    assert images.labels is None and images.classes == () and images.pixels[:, 0, 0, 0].tolist() == [1, 0]
    assert load(fill(tmp_path / "split", "train/0.png", "test/0.png"), "test").labels is None


def test_a_folder_may_be_named_like_a_set(tmp_path, monkeypatch):
    fill(tmp_path / "shapes", "0.png")
    monkeypatch.chdir(tmp_path)
    assert len(load("./shapes")) == len(load(Path("shapes"))) == 1


def test_other_and_hidden_files_are_not_looked_at(tmp_path):
    fill(tmp_path, "a/0.png", ".thumbnails/0.png", "a/.hidden.png", "a/.cache/0.png")
    for name in ("a/notes.txt", "README.md", "a/list.csv"):
        (tmp_path / name).write_text("not an image")
    assert len(load(tmp_path)) == 1


def test_linked_class_folders_are_followed(tmp_path):
    fill(tmp_path / "elsewhere", "a/0.png", "a/1.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").symlink_to(tmp_path / "elsewhere" / "a")
    assert len(load(tmp_path / "root")) == 2


def test_other_classes_in_another_split_are_listed(tmp_path):
    fill(tmp_path, "train/a/0.png", "train/b/0.png", "test/b/0.png", "test/c/0.png", "test/d/0.png")
    with pytest.raises(ValueError, match=r"same classes; only in train: a; only in test: c, d"):
        load(tmp_path, "test")


def test_an_empty_class_is_named(tmp_path):
    fill(tmp_path, "a/0.png")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "b"))):
        load(tmp_path)


def test_pictures_beside_class_folders_are_an_error(tmp_path):
    fill(tmp_path, "a/0.png", "stray.png")
    with pytest.raises(ValueError, match="stray.png"):
        load(tmp_path)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "nowhere"))):
        load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no pictures in .*jpg"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no test split"):
        load(fill(tmp_path / "classes", "a/0.png"), "test")
    with pytest.raises(FileNotFoundError, match="no folder test or val beside train"):
        load(fill(tmp_path / "trainonly", "train/a/0.png"), "test")
    with pytest.raises(ValueError, match="train, val, test, not 'tset'"):
        load(tmp_path / "classes", "tset")


def test_a_damaged_file_among_classes_can_be_skipped(tmp_path):
    fill(tmp_path, "a/0.png", "a/1.png", "b/0.png")
    (tmp_path / "a" / "1.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"1.png cannot be read"):
        load(tmp_path)
    images = load(tmp_path, skip_corrupt=True, image=4, channels=1)
    assert images.ids.tolist() == [0, 2] and len(images.skipped) == 1 and images.pixels.shape == (2, 1, 4, 4)
