"""Objects in COCO's JSON: polygons and run-length codes, crowds, categories (Lin et al., arXiv 1405.0312)."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import MinimaeError, counted, reason
from .optional import need

SPLIT_NAMES = {"train": ("train",), "test": ("test", "val")}
OUTSIDE = 1.0  # a box may reach this many pixels beyond its picture: rounding, not a mistake


@dataclass(frozen=True)
class CocoTarget:
    """The objects of one picture as the JSON has them, with labels from 1. They are decoded when they are needed."""

    height: int
    width: int
    annotations: tuple[dict[str, Any], ...]
    labels: tuple[int, ...]

    def target(self) -> dict[str, Tensor]:
        """Boxes ``k 4``, labels ``k``, masks ``k height width`` and crowd ``k``, as :meth:`minimae.data.instances.Instances.target`."""
        size = torch.tensor([self.width, self.height] * 2)
        boxes = [[x, y, x + w, y + h] for x, y, w, h in (one["bbox"] for one in self.annotations)]
        masks = [decoded(one, self.height, self.width) for one in self.annotations]
        return {
            "boxes": torch.minimum(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4).clamp(min=0), size),
            "labels": torch.tensor(self.labels, dtype=torch.int64),
            "masks": torch.from_numpy(np.stack(masks)) if masks else torch.zeros(0, self.height, self.width, dtype=torch.uint8),
            "crowd": torch.tensor([bool(one.get("iscrowd")) for one in self.annotations], dtype=torch.bool),
        }


def decoded(one: dict[str, Any], height: int, width: int) -> Any:
    """The polygons or the run-length code of an object, packed or not → uint8 ``height width``. Raises ValueError for a damaged code."""
    codec, code = need("pycocotools.mask", why="COCO's masks"), one["segmentation"]
    try:
        if isinstance(code, list) or isinstance(code["counts"], list):
            code = codec.frPyObjects(code, height, width)
        return codec.decode(codec.merge(code) if isinstance(code, list) else code)
    except ValueError as error:
        raise ValueError(f"the mask of annotation {one.get('id')} (image {one['image_id']}) is damaged: {error}") from None


def find_json(root: Path, split: str, folder: str | None) -> Path | None:
    """The JSON of a split: the file itself; instances_train2017.json in annotations/; or the only one in the split's folder, or in root."""
    if root.is_file():
        return root
    named = sorted((root / "annotations").glob("[!.]*.json"))
    for name in SPLIT_NAMES[split]:
        chosen = [path for path in named if name in path.stem and not path.stem.startswith(("panoptic", "image_info"))]
        chosen = [path for path in chosen if path.stem.startswith("instances")] or chosen
        if len(chosen) > 1:
            raise ValueError(f"{root / 'annotations'} holds {chosen[0].name} and {chosen[1].name} for {split}: keep one, or name the file")
        if chosen:
            return chosen[0]
    inside = sorted((root if folder is None else root / folder).glob("[!.]*.json"))
    if len(inside) > 1:
        raise ValueError(f"{inside[0].parent} holds {inside[0].name} and {inside[1].name}: name the file that lists the objects")
    return inside[0] if inside else None


def read_json(path: Path) -> tuple[tuple[Path, ...], tuple[CocoTarget, ...], tuple[str, ...], tuple[str, ...]]:
    """Pictures, the objects of each, the names of the classes, and notes about what was left out, one per line.

    Pictures without a listed object stay, as examples of background. Raises MinimaeError for a file that is not such JSON,
    FileNotFoundError for missing pictures, and ValueError for impossible objects.
    """
    try:
        listed = json.loads(path.read_text(encoding="utf-8-sig"))
        images, annotations, categories = (listed[name] for name in ("images", "annotations", "categories"))
        if len({one["id"] for one in images}) < len(images):
            raise ValueError("two pictures have the same id")
        images = {one["id"]: (str(one["file_name"]), int(one["height"]), int(one["width"])) for one in images}
        label_of = {one["id"]: label for label, one in enumerate(sorted(categories, key=lambda one: one["id"]), start=1)}
        classes = tuple(str(one["name"]) for one in sorted(categories, key=lambda one: one["id"]))
        by_image: dict[Any, list[dict[str, Any]]] = {identity: [] for identity in images}
        for one in annotations:
            if one["image_id"] not in images:
                raise ValueError(f"annotation {one['id']} belongs to image {one['image_id']}, which is not listed")
            by_image[one["image_id"]].append(one)
    except (OSError, KeyError, TypeError, ValueError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else reason(error)
        raise MinimaeError(f"{path} does not list objects as COCO does ({what})") from None
    if not images or not annotations:
        raise ValueError(f"{path} lists {len(images)} pictures and {len(annotations)} objects, so there is nothing to train on")
    empty: Counter[str] = Counter()
    targets = []
    for identity, (name, height, width) in images.items():
        kept = [one for one in by_image[identity] if checked(one, name, height, width, label_of, path, empty)]
        targets.append(CocoTarget(height, width, tuple(kept), tuple(label_of[one["category_id"]] for one in kept)))
    notes = tuple(f"{path}: left out {counted(count, 'object')} {what}" for what, count in empty.items())
    return pictures_of(path, [name for name, _, _ in images.values()]), tuple(targets), classes, notes


def checked(
    one: dict[str, Any], name: str, height: int, width: int, label_of: dict[Any, int], path: Path, empty: Counter[str]
) -> bool:  # fmt: skip
    """Whether an object can be used; objects without area are counted in ``empty``. Raises ValueError for obvious mistakes."""
    what = f"{path}: annotation {one.get('id')} of {name}"
    if one.get("category_id") not in label_of:
        raise ValueError(f"{what} has the unknown category {one.get('category_id')}; known: {', '.join(map(str, list(label_of)[:10]))}")
    box, segmentation = one.get("bbox"), one.get("segmentation")
    if not isinstance(box, list) or len(box) != 4 or not finite(box):
        raise ValueError(f"{what} has no box: bbox is [left, top, width, height] in pixels, not {box!r}")
    left, top, wide, high = box
    if min(left, top) < -OUTSIDE or left + wide > width + OUTSIDE or top + high > height + OUTSIDE:
        raise ValueError(
            f"{what} has a box outside its picture: [left, top, width, height] = {box} in {width}×{height} pixels; "
            "perhaps the box lists two corners, or the picture was resized"
        )
    if isinstance(segmentation, dict):
        counts = segmentation.get("counts")
        good = segmentation.get("size") == [height, width]
        good = good and (isinstance(counts, str) or (isinstance(counts, list) and finite(counts) and sum(counts) == height * width))
    else:
        parts = segmentation if isinstance(segmentation, list) else []
        good = bool(parts) and all(isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0 and finite(part) for part in parts)
    if not good:
        wanted = f"polygons of at least three points x, y, or a run-length code of {height}×{width} pixels"
        raise ValueError(f"{what} has no mask: segmentation holds {wanted}")
    if wide <= 0 or high <= 0:
        empty["whose box has no area"] += 1
    return bool(wide > 0 and high > 0)


def finite(values: list[Any]) -> bool:
    """Whether these are all numbers."""
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)


def pictures_of(path: Path, names: list[str]) -> tuple[Path, ...]:
    """Where the listed pictures are: beside the JSON, in images/ there, or in a folder there named after the split (train2017)."""
    last = path.stem.split("_")[-1]
    places = [
        path.parent,
        path.parent / "images",
        path.parent.parent / last,
        path.parent.parent / "images" / last,
        path.parent.parent / "images",
    ]
    folder = next((place for place in places if (place / names[0]).is_file()), None)
    if folder is None:
        looked = ", ".join(str(place) for place in places)
        raise FileNotFoundError(f"{path} lists {names[0]}, which is not in {looked}")
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise FileNotFoundError(f"{path} lists pictures that are not in {folder}, such as {missing[0]} ({len(missing)} in all)")
    return tuple(folder / name for name in names)
