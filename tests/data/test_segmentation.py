"""Pictures with masks: every layout is found, labels are what the files say, and whatever does not fit is one clear line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minimae.data.joint import Views, batches, scale_crop_flip
from minimae.data.segmentation import VOC, open_segmentation, read_mask
from minimae.data.shapes import shapes


def write(path: Path, values: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(values)
    if mode == "P":
        picture = picture.copy()
        picture.putpalette([i % 256 for i in range(768)])
    picture.save(path)


def pair_of_files(root: Path, pictures: str, masks: str, values: np.ndarray, *, stem: str = "a", suffix: str = ".png") -> None:
    write(root / pictures / f"{stem}.jpg", np.full((*values.shape[:2], 3), 90, np.uint8))
    write(root / masks / f"{stem}{suffix}", values)


LABELS = np.arange(12, dtype=np.uint8).reshape(3, 4) % 4
LAYOUTS = [
    ("train/images", "train/masks", "test"), ("train/images", "train/labels", "val"), ("images/train", "masks/train", "val"),
    ("images/training", "annotations/training", "validation"), ("train", "trainannot", "test"),
]  # fmt: skip


@pytest.mark.parametrize(("pictures", "masks", "test"), LAYOUTS)
def test_every_layout_is_found(tmp_path: Path, pictures: str, masks: str, test: str) -> None:
    root = tmp_path / "mine"
    for part in ("train" if "training" not in pictures else "training", test):
        old = "training" if "training" in pictures else "train"
        for stem in ("a", "b"):
            pair_of_files(root, pictures.replace(old, part), masks.replace(old, part), LABELS, stem=stem)
    train = open_segmentation(root)
    held = open_segmentation(root, "test", like=train)
    assert (len(train), len(held), len(train.classes)) == (2, 2, 4) and held.classes == train.classes
    picture, mask = train.sample(1)
    assert picture.shape == (3, 3, 4) and torch.equal(mask.as_subclass(torch.Tensor), torch.from_numpy(LABELS))
    assert "classes.txt" in train.notes[0]


def test_a_folder_without_splits_holds_out_a_fifth_which_is_always_the_same(tmp_path: Path) -> None:
    for i in range(10):
        pair_of_files(tmp_path, "images", "masks", LABELS, stem=f"p{i}")
    train, test = open_segmentation(tmp_path), open_segmentation(tmp_path, "test")
    assert (len(train), len(test)) == (8, 2) and not set(train.ids.tolist()) & set(test.ids.tolist())
    assert "2 of 10 pictures are held out" in train.notes[1]
    assert open_segmentation(tmp_path, limit=3).ids.tolist() == open_segmentation(tmp_path, limit=3).ids.tolist()


def test_known_sets_have_their_names_and_their_ignored_label(tmp_path: Path) -> None:
    camvid = tmp_path / "CamVid"
    pair_of_files(camvid, "train/images", "train/labels", np.array([[0, 10, 11]], np.uint8))
    opened = open_segmentation(camvid)
    assert (len(opened.classes), opened.classes[8], opened.mask(0).tolist()) == (11, "car", [[0, 10, 255]])
    ade = tmp_path / "ADEChallengeData2016"
    pair_of_files(ade, "images/training", "annotations/training", np.array([[0, 1, 150]], np.uint8))
    head = "Idx\tRatio\tTrain\tVal\tStuff\tName"
    rows = [head, *(f"{i}\t0.1\t1\t1\t1\tname {i}, other" for i in range(1, 151))]
    (ade / "objectInfo150.txt").write_text("\n".join(rows))
    opened = open_segmentation(ade)
    assert (len(opened.classes), opened.classes[0], opened.mask(0).tolist()) == (150, "name 1", [[255, 0, 149]])
    voc = tmp_path / "VOCdevkit" / "VOC2012"
    pair_of_files(voc, "JPEGImages", "SegmentationClass", np.array([[0, 15, 255]], np.uint8), stem="2007_1")
    pair_of_files(voc, "JPEGImages", "SegmentationClass", np.array([[0, 1, 255]], np.uint8), stem="2007_2")
    (voc / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split, stem in (("train", "2007_1"), ("val", "2007_2")):
        (voc / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(stem + "\n")
    opened = open_segmentation(tmp_path / "VOCdevkit")
    assert opened.classes == VOC and opened.mask(0).tolist() == [[0, 15, 255]]
    assert open_segmentation(voc, "test").mask(0).tolist() == [[0, 1, 255]]


def test_a_folder_beside_a_known_set_is_not_that_set(tmp_path: Path) -> None:
    pair_of_files(tmp_path / "mine", "train/images", "train/masks", LABELS)
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("2007_1\n")
    assert open_segmentation(tmp_path / "mine").where(0).endswith("a.jpg")


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    pair_of_files(tmp_path, "train/images", "train/masks", LABELS)
    (tmp_path / "train/masks/._a.png").write_bytes(b"of macOS")
    assert len(open_segmentation(tmp_path)) == 1


@pytest.mark.parametrize("source", ["shapes", "files"])
def test_a_limit_is_at_least_1(source: str, tmp_path: Path) -> None:
    pair_of_files(tmp_path, "train/images", "train/masks", LABELS)
    with pytest.raises(ValueError, match="-1 must be at least 1|must be at least 1, not -1"):
        open_segmentation("shapes" if source == "shapes" else tmp_path, limit=-1)


def test_masks_of_0_and_255_are_an_object_and_its_background(tmp_path: Path) -> None:
    pair_of_files(tmp_path, "train/images", "train/masks", np.array([[0, 255]], np.uint8))
    opened = open_segmentation(tmp_path)
    assert opened.classes == ("background", "object") and opened.mask(0).tolist() == [[0, 1]] and "255 is read" in opened.notes[0]


@pytest.mark.parametrize("mode", ["L", "P", "bool", "grey as RGB", "grey with alpha", "16 bits"])
def test_class_numbers_are_read_from_every_kind_of_file(tmp_path: Path, mode: str) -> None:
    values = np.array([[0, 1], [1, 0]], np.uint8)
    stored = {
        "bool": values.astype(bool), "grey as RGB": np.stack([values] * 3, -1), "16 bits": values.astype(np.uint16),
        "grey with alpha": np.stack([values, np.full_like(values, 255)], -1),
    }.get(mode, values)  # fmt: skip
    write(tmp_path / "m.png", stored, mode)
    assert read_mask(tmp_path / "m.png").tolist() == values.tolist()


def all_ignored(root: Path) -> None:
    for path in (root / "train/masks").iterdir():
        write(path, np.full((3, 4), 255, np.uint8))


MASK = "train/masks/a.png"
WRONG = {
    "a picture without a mask": (lambda root: (root / MASK).unlink(), "1 of 2 files in .*images have no file .*masks: a.jpg"),
    "a mask without a picture": (lambda root: (root / "train/images/a.jpg").unlink(), "1 of 2 files .*masks have no file .*: a.png"),
    "colours": (lambda root: write(root / MASK, np.arange(36, dtype=np.uint8).reshape(3, 4, 3)), "a.png is a picture in colour"),
    "many values": (lambda root: write(root / MASK, np.full((3, 4), 300, np.uint16)), "values from 300 to 300: masks have at most 254"),
    "all ignored": (all_ignored, "all pixels of the 2"),
    "no image": (lambda root: (root / MASK).write_bytes(b"none"), "a.png cannot be read"),
    "empty": (lambda root: [p.unlink() for p in root.rglob("*.*")], "no pictures in"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_one_line(tmp_path: Path, what: str) -> None:
    for stem in ("a", "b"):
        pair_of_files(tmp_path, "train/images", "train/masks", LABELS, stem=stem)
    break_it, message = WRONG[what]
    break_it(tmp_path)
    with pytest.raises((ValueError, OSError), match=message) as caught:
        open_segmentation(tmp_path)
    assert "\n" not in str(caught.value)


def test_sizes_and_values_that_show_only_when_read_are_one_line_too(tmp_path: Path) -> None:
    pair_of_files(tmp_path, "train/images", "train/masks", LABELS)
    (tmp_path / "classes.txt").write_text("sky\nroad\nvoid\ntree\n")
    opened = open_segmentation(tmp_path)
    assert opened.classes == ("sky", "road", "tree") and sorted(opened.mask(0).unique().tolist()) == [0, 1, 2, 255]
    write(tmp_path / "train/masks/a.png", LABELS + 3)
    with pytest.raises(ValueError, match=r"a.png holds 4, 5, 6; classes are 0 to 3, and 255 is ignored: correct the mask"):
        opened.sample(0)
    write(tmp_path / "train/masks/a.png", LABELS.T.copy())
    with pytest.raises(ValueError, match="a.png has 4×3 pixels, and its picture .*a.jpg has 3×4"):
        opened.sample(0)
    with pytest.raises(FileNotFoundError, match="no pictures and masks for test: give test/images and test/masks"):
        open_segmentation(tmp_path, "test")
    with pytest.raises(FileNotFoundError, match="no folder"):
        open_segmentation(tmp_path / "nowhere")


def test_drawn_scenes_have_seven_classes_and_their_own_masks() -> None:
    scenes, opened = shapes(3), open_segmentation("shapes", limit=3)
    assert opened.classes[0] == "background" and len(opened.classes) == 7
    picture, mask = opened.sample(2)
    assert torch.equal(picture.as_subclass(torch.Tensor), scenes.pixels[2])
    assert torch.equal(mask.as_subclass(torch.Tensor), scenes.semantic[2])
    assert opened.subset([2]).mask(0).tolist() == scenes.semantic[2].tolist()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_does_not_fit_is_one_line_from_a_worker_too(workers: int, tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(2):
            height = 9 if name == "masks" and i else 12
            Image.fromarray(np.full((height, 12), i, np.uint8)).save(tmp_path / "train" / name / f"{i}.png")
    views = Views(open_segmentation(tmp_path), scale_crop_flip((8, 8)), seed=0)
    order = iter([(torch.tensor([0, 1]), torch.tensor([0, 0]))])
    with pytest.raises(ValueError, match="has 9×12 pixels, and its picture") as caught:
        list(batches(views, order, workers=workers, device=torch.device("cpu")))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"wall\n", b"wall\nwall\n", b"wall\n\xff\xe4\n"], ids=["none", "one", "twice", "no text"])
def test_names_of_classes_that_cannot_be(text: bytes, tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.fromarray(np.full((4, 4), i, np.uint8)).save(tmp_path / name / f"{i}.png")
    (tmp_path / "classes.txt").write_bytes(text)
    with pytest.raises(ValueError, match=r"classes.txt must name two or more classes, one a line, each once"):
        open_segmentation(tmp_path)
    (tmp_path / "classes.txt").write_text("\n".join(f"class {i}" for i in range(300)))
    with pytest.raises(ValueError, match=r"300 class\(es\) to learn .* but 2 to 254 are possible"):
        open_segmentation(tmp_path)
    (tmp_path / "classes.txt").unlink()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "images" / "1.bmp")
    with pytest.raises(ValueError, match="have the same name"):
        open_segmentation(tmp_path)
    (tmp_path / "images" / "1.bmp").unlink()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "masks" / "1.png")
    with pytest.raises(ValueError, match=r"1 class\(es\) to learn \(class 0\)"):
        open_segmentation(tmp_path)
