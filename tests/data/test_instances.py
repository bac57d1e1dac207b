"""Pictures with objects: the same scenes as drawn, as folders of masks and as COCO's JSON; and what is said about faulty ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as codec

from minimae import MinimaeError
from minimae.data.instances import InstanceFiles, open_instances, target_of
from minimae.data.shapes import shapes

SCENES = shapes(6, 32)
COUNT = len(SCENES)


def write_pictures(folder: Path) -> None:
    folder.mkdir(parents=True)
    for i, pixels in enumerate(SCENES.pixels):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{i}.png")


def write_folder(root: Path, kind: Any = np.uint8) -> Path:
    """images/ and masks/ of the scenes, with numbers that have gaps."""
    write_pictures(root / "images")
    (root / "masks").mkdir()
    for i, masks in enumerate(SCENES.instances):
        number = sum(mask.numpy().astype(np.int64) * (3 * k + 2) for k, mask in enumerate(masks))
        Image.fromarray(number.astype(kind) * (100 if kind == np.uint16 else 1)).save(root / "masks" / f"{i}.png")
    return root


def uncompressed(mask: np.ndarray) -> list[int]:
    """Run lengths in columns, the first of zeros."""
    flat, counts, value = mask.flatten(order="F"), [0], 0
    for pixel in flat.tolist():
        if pixel != value:
            counts, value = [*counts, 0], pixel
        counts[-1] += 1
    return counts


def listed(packed: bool = True) -> dict[str, Any]:
    """The scenes as COCO lists them; category ids have gaps, and are not sorted."""
    annotations = []
    for i in range(COUNT):
        target = SCENES.detection_target(i)
        for box, label, mask in zip(target["boxes"].tolist(), target["labels"].tolist(), target["masks"].numpy()):
            left, top, right, bottom = box
            code = {"size": [32, 32], "counts": uncompressed(mask)}
            if packed:
                code = codec.encode(np.asfortranarray(mask))
                code["counts"] = code["counts"].decode()
            one = {"id": len(annotations), "image_id": 10 + i, "category_id": 5 * label, "bbox": [left, top, right - left, bottom - top]}
            annotations.append({**one, "segmentation": code, "iscrowd": 0})
    categories = [{"id": 5 * (label + 1), "name": name} for label, name in enumerate(SCENES.classes)]
    images = [{"id": 10 + i, "file_name": f"{i}.png", "height": 32, "width": 32} for i in range(COUNT)]
    return {"images": images, "annotations": annotations, "categories": categories[::-1]}


def write_coco(root: Path, content: dict[str, Any]) -> Path:
    if not (root / "images").exists():
        write_pictures(root / "images")
    (root / "objects.json").write_text(json.dumps(content))
    return root / "objects.json"


def both_parts(source: Path) -> list[InstanceFiles]:
    return [open_instances(source, split) for split in ("train", "test")]  # type: ignore[misc]


def assert_same(files: InstanceFiles, *, labels: bool) -> None:
    for i, scene in enumerate(files.ids.tolist()):
        assert torch.equal(files.read(i), SCENES.pixels[scene])
        target, truth = files.target(i), SCENES.detection_target(scene)
        assert torch.equal(target["boxes"], truth["boxes"]) and torch.equal(target["masks"], truth["masks"])
        assert torch.equal(target["labels"], truth["labels"] if labels else torch.ones_like(truth["labels"]))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_folder_of_masks_holds_the_objects_that_were_drawn(kind: Any, tmp_path: Path) -> None:
    for part in both_parts(write_folder(tmp_path / "mine", kind)):
        assert part.classes == ("object",)
        assert_same(part, labels=False)


@pytest.mark.parametrize("packed", [True, False])
def test_so_does_a_json_with_run_lengths(packed: bool, tmp_path: Path) -> None:
    for part in both_parts(write_coco(tmp_path, listed(packed))):
        assert part.classes == SCENES.classes
        assert_same(part, labels=True)


def test_a_fifth_is_held_out_and_always_the_same(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "mine")
    train, test = both_parts(root)
    assert sorted([*train.ids.tolist(), *test.ids.tolist()]) == list(range(COUNT)) and len(test) == 1
    assert torch.equal(open_instances(root, "test").ids, test.ids)
    assert "1 of 6 pictures are held out" in train.notes[0]


def test_folders_named_train_and_val_are_the_splits(tmp_path: Path) -> None:
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "val")
    train, test = both_parts(tmp_path)
    assert len(train) == len(test) == COUNT and not train.notes


@pytest.mark.parametrize("kind", ["masks", "json"])
def test_a_training_part_alone_is_held_out_from(kind: str, tmp_path: Path) -> None:
    if kind == "masks":
        write_folder(tmp_path / "train")
    else:
        write_coco(tmp_path / "train", listed())
        (tmp_path / "train" / "._objects.json").write_bytes(b"of macOS")
    train, test = both_parts(tmp_path)
    assert sorted([*train.ids.tolist(), *test.ids.tolist()]) == list(range(COUNT)) and len(test) == 1
    assert "has no test part" in train.notes[0]
    with pytest.raises(ValueError, match="limit must be at least 1, not -1"):
        open_instances(tmp_path, limit=-1)


def test_coco_as_it_is_downloaded(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        write_pictures(tmp_path / split)
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(listed()))
        (tmp_path / "annotations" / f"captions_{split}.json").write_text("{}")
    (tmp_path / "annotations" / "image_info_test2017.json").write_text("{}")
    train, test = both_parts(tmp_path)
    assert len(train) == len(test) == COUNT
    assert train.where(0).endswith("train2017/0.png") and test.where(0).endswith("val2017/0.png")


def test_one_json_in_the_folder_of_each_split(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_pictures(tmp_path / split)
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(listed()))
    train, test = both_parts(tmp_path)
    assert len(train) == len(test) == COUNT


def test_polygons_and_crowds(tmp_path: Path) -> None:
    content = listed()
    square = {"id": 900, "image_id": 10, "category_id": 5, "bbox": [4, 6, 8, 10], "segmentation": [[4, 6, 12, 6, 12, 16, 4, 16]]}
    crowd = {**square, "id": 901, "iscrowd": 1}
    content["annotations"] = [square, crowd, *content["annotations"]]
    train, test = both_parts(write_coco(tmp_path, content))
    part = train if 0 in train.ids else test
    target = part.target(part.ids.tolist().index(0))
    wanted = torch.zeros(32, 32, dtype=torch.uint8)
    wanted[6:16, 4:12] = 1
    assert torch.equal(target["masks"][0], wanted) and target["boxes"][0].tolist() == [4, 6, 12, 16]
    assert target["crowd"].tolist()[:3] == [False, True, False]
    _, learned = part.sample(part.ids.tolist().index(0))
    assert len(learned["labels"]) == len(target["labels"]) - 1


def test_pictures_without_objects_stay(tmp_path: Path) -> None:
    content = listed()
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] != 12]
    parts = both_parts(write_coco(tmp_path, content))
    assert sum(len(part) for part in parts) == COUNT
    part = next(part for part in parts if 2 in part.ids)
    picture, target = part.sample(part.ids.tolist().index(2))
    assert picture.shape == (3, 32, 32) and target["boxes"].shape == (0, 4) and target["masks"].shape == (0, 32, 32)
    assert target_of(torch.zeros(4, 5, dtype=torch.int32))["masks"].shape == (0, 4, 5)


def test_a_box_without_area_is_left_out_and_reported(tmp_path: Path) -> None:
    content = listed()
    content["annotations"][0]["bbox"][2] = 0
    train, _ = both_parts(write_coco(tmp_path, content))
    assert "left out 1 object whose box has no area" in train.notes[0]


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "outside": ({"bbox": [20, 4, 30, 40]}, r"annotation 0 of 0\.png has a box outside its picture.*32×32"),
    "left of it": ({"bbox": [-5, 4, 10, 10]}, "outside its picture"),
    "no box": ({"bbox": None}, "has no box: bbox is"),
    "category": ({"category_id": 7}, "unknown category 7; known: 5, 10"),
    "no mask": ({"segmentation": []}, "has no mask: segmentation holds polygons"),
    "a line": ({"segmentation": [[1, 1, 2, 2]]}, "polygons of at least three points"),
    "words in a box": ({"bbox": ["4", 4, 5, 6]}, r"has no box: bbox is .*, not \['4', 4, 5, 6\]"),
    "no number in a box": ({"bbox": [float("nan"), 4, 5, 6]}, "has no box"),
    "half a point": ({"segmentation": [[1, 1, 9, 1, 9, 9, 1]]}, "points x, y"),
    "words in a polygon": ({"segmentation": [[1, 1, 9, "1", 9, 9]]}, "has no mask"),
    "an empty code": ({"segmentation": {}}, "a run-length code of 32×32 pixels"),
    "a code of another size": ({"segmentation": {"size": [64, 32], "counts": [0, 2048]}}, "run-length code of 32×32"),
    "half a code": ({"segmentation": {"size": [32, 32], "counts": [0, 90]}}, "run-length code of 32×32"),
    "picture": ({"image_id": 99}, "belongs to image 99, which is not listed"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_objects_that_cannot_be_are_one_clear_line(fault: str, tmp_path: Path) -> None:
    content = listed()
    content["annotations"][0] |= FAULTS[fault][0]
    with pytest.raises((ValueError, MinimaeError), match=FAULTS[fault][1]):
        open_instances(write_coco(tmp_path, content))


def test_a_packed_code_that_is_damaged_is_one_line_when_it_is_read(tmp_path: Path) -> None:
    content = listed()
    for one in content["annotations"]:
        one["segmentation"] = {"size": [32, 32], "counts": "%%%"}
    part = open_instances(write_coco(tmp_path, content))
    with pytest.raises(ValueError, match=r"the mask of annotation \d+ \(image \d+\) is damaged"):
        [part.target(i) for i in range(len(part))]


def test_a_json_that_names_missing_pictures(tmp_path: Path) -> None:
    content = listed()
    content["images"][3]["file_name"] = "gone.png"
    with pytest.raises(FileNotFoundError, match=r"lists pictures that are not in .*images, such as gone\.png"):
        open_instances(write_coco(tmp_path, content))
    content["images"][0]["file_name"] = "gone, too.png"
    with pytest.raises(FileNotFoundError, match="is not in"):
        open_instances(write_coco(tmp_path, content))


def test_a_picture_of_another_size_than_listed(tmp_path: Path) -> None:
    content = listed()
    for one in content["images"]:
        one["height"] = 64
    for one in content["annotations"]:
        one["segmentation"] = [[1, 1, 9, 1, 9, 9]]
    part = open_instances(write_coco(tmp_path, content))
    with pytest.raises(ValueError, match="has 32×32 pixels, but its objects are for 64×32"):
        part.sample(0)


@pytest.mark.parametrize("text", ["{", "[]", '{"images": []}', '{"images": [], "annotations": [], "categories": [{}]}'])
def test_a_json_of_something_else(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(MinimaeError, match=r"x\.json does not list objects as COCO does"):
        open_instances(tmp_path / "x.json")


def fault_in_folder(root: Path, name: str) -> str:
    write_folder(root)
    mask = root / "masks" / "3.png"
    if name == "size":
        Image.new("L", (30, 32)).save(mask)
        return r"3\.png has 32×30 pixels, but its picture .*3\.png has 32×32"
    if name == "colour":
        Image.new("RGB", (32, 32)).save(mask)
        return "needs one channel of integers"
    if name == "twice":
        Image.new("L", (32, 32)).save(root / "images" / "3.bmp")
        return "differ only in their extension"
    if name == "no mask":
        mask.unlink()
        return r"no mask for the picture 3 \(and 0 more\)"
    (root / "images" / "3.png").unlink()
    return "no picture for the mask 3"


@pytest.mark.parametrize("name", ["size", "colour", "twice", "no mask", "no picture"])
def test_masks_that_do_not_belong_to_their_pictures(name: str, tmp_path: Path) -> None:
    message = fault_in_folder(tmp_path / "mine", name)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        for part in both_parts(tmp_path / "mine"):
            [part.target(i) for i in range(len(part))]


def test_other_folders_say_what_is_understood(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="give images/ and masks/"):
        open_instances(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        open_instances(tmp_path / "nowhere")
