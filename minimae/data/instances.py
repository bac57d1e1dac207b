"""Pictures whose objects have a box, a class and a mask: folders of masks, COCO's JSON, and drawn scenes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .choose import as_index, choose, held_out
from .coco import CocoTarget, find_json, read_json
from .decoding import ORIENTATION, damage, read_file
from .files import convert
from .folder import SPLITS, no_folder, scan, splits_of
from .opening import HOLD_OUT
from .optional import need
from .shapes import Scenes, boxes_of, shapes
from .types import ImageDataset

LAYOUTS = "images/ and masks/ (each pixel: 0 background, k the k-th object), COCO's JSON beside its pictures, or the name shapes"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Instances(ImageDataset):
    """Pictures of any size with their objects. classes: without the background; labels of objects count from 1. See :meth:`target`."""

    name: str
    ids: Tensor
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    colours: int = 3
    labels = None

    @property
    def channels(self) -> int:
        return self.colours

    @abstractmethod
    def target(self, index: int) -> dict[str, Tensor]:
        """The k objects of a picture: boxes float32 ``k 4`` (left, top, right, bottom), labels int64 ``k`` from 1, masks uint8
        ``k height width``, and crowd bool ``k``: several objects under one mask, which are neither learned nor counted."""

    def sample(self, index: int) -> tuple[Any, dict[str, Any]]:
        """A picture and its objects for training, as torchvision's ``tv_tensors``: crowds and objects without a pixel are left out."""
        tv, pixels, target = need("torchvision.tv_tensors", why="detection"), self.read(index), self.target(index)
        learned = ~target["crowd"] & target["masks"].bool().flatten(1).any(1)
        boxes = tv.BoundingBoxes(target["boxes"][learned], format="XYXY", canvas_size=tuple(pixels.shape[1:]))
        return tv.Image(pixels), {"boxes": boxes, "labels": target["labels"][learned], "masks": tv.Mask(target["masks"][learned])}


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DrawnInstances(Instances):
    """The scenes of ``shapes``."""

    scenes: Scenes

    def read(self, index: int) -> Tensor:
        return self.scenes.read(index)

    def target(self, index: int) -> dict[str, Tensor]:
        target = self.scenes.detection_target(index)
        return {**target, "crowd": torch.zeros(len(target["labels"]), dtype=torch.bool)}

    def subset(self, index: Tensor | Sequence[int]) -> DrawnInstances:
        return replace(self, scenes=self.scenes.subset(index), ids=self.ids[as_index(index, len(self))])


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class InstanceFiles(Instances):
    """Pictures in files, each with a file of masks (a path), or with the objects that a JSON lists."""

    pictures: tuple[Path, ...]
    targets: tuple[Path | CocoTarget, ...]

    def where(self, index: int) -> str:
        return str(self.pictures[index])

    def read(self, index: int) -> Tensor:
        path, target = self.pictures[index], self.targets[index]
        pixels = np.array(read_file(path, channels=self.colours))
        if isinstance(target, CocoTarget) and pixels.shape[:2] != (target.height, target.width):
            sizes = f"{pixels.shape[0]}×{pixels.shape[1]} pixels, but its objects are for {target.height}×{target.width}"
            raise ValueError(f"{path} has {sizes}: height and width in the JSON must be the picture's")
        return torch.from_numpy(pixels).reshape(*pixels.shape[:2], self.colours).permute(2, 0, 1)

    def size_of(self, index: int) -> tuple[int, int]:
        return upright_size(self.pictures[index])

    def target(self, index: int) -> dict[str, Tensor]:
        target = self.targets[index]
        return target.target() if isinstance(target, CocoTarget) else target_of(read_mask(target))

    def subset(self, index: Tensor | Sequence[int]) -> InstanceFiles:
        chosen = as_index(index, len(self))
        pictures, targets = (tuple(values[i] for i in chosen.tolist()) for values in (self.pictures, self.targets))
        return replace(self, pictures=pictures, targets=targets, ids=self.ids[chosen])


def upright_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture or a mask, from its header."""
    from PIL import Image

    with damage(str(path)), Image.open(path) as picture:
        width, height = picture.size
        return (height, width) if picture.getexif().get(ORIENTATION, 1) < 5 else (width, height)


def read_mask(path: Path) -> Tensor:
    """A file of instance masks → int32 ``height width``: 0 for background, k for the k-th object. 8 or 16 bits, or a palette's indices."""
    from PIL import Image

    with damage(str(path)), Image.open(path) as picture:
        values = np.array(picture)
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise ValueError(f"{path} is not a mask of objects: it needs one channel of integers, 0 for background and k for the k-th object")
    return torch.from_numpy(values.astype(np.int32))


def target_of(mask: Tensor) -> dict[str, Tensor]:
    """Objects from numbers ``height width``: every number above 0 is one object, of class 1."""
    numbers = mask.unique()
    masks = mask == numbers[numbers > 0][:, None, None]
    labels = torch.ones(len(masks), dtype=torch.int64)
    return {"boxes": boxes_of(masks), "labels": labels, "masks": masks.byte(), "crowd": torch.zeros(len(masks), dtype=torch.bool)}


def open_instances(
    data: str | Path, split: str = "train", *, image: int = 64, channels: int = 3, limit: int | None = None, check: bool = True
) -> Instances:
    """Open one split (train or test) of ``shapes``, of a folder or of a JSON. A folder: images/ and masks/, alone or in train/ and val/;
    or pictures with JSON in COCO's format (:mod:`minimae.data.coco`). Without a test part a fifth is held out, always the same.

    image: size in which scenes are drawn. limit: at most this many pictures. check: first compare the sizes of pictures and masks.
    Raises FileNotFoundError for what is missing, and ValueError for masks or boxes that do not belong to their pictures.
    """
    if str(data) == "shapes":
        scenes = shapes(limit, image, split=split)
        scenes = replace(scenes, pixels=convert(scenes.pixels, channels))
        return DrawnInstances(name="shapes", ids=scenes.ids, classes=scenes.classes, scenes=scenes, colours=channels)
    root = Path(data).expanduser()
    if not root.exists():
        raise no_folder(root)
    folder, json = source_of(root, split)
    targets: Any
    if json is not None:
        pictures, targets, classes, notes = read_json(json)
    else:
        pictures, targets = pairs(folder, check=check)
        classes, notes = ("object",), ()
    given: dict[str, Any] = {"name": root.resolve().stem, "classes": classes, "notes": notes, "colours": channels}
    images = InstanceFiles(ids=torch.arange(len(pictures)), pictures=pictures, targets=targets, **given)
    if (folder, json) == source_of(root, "test" if split == "train" else "train"):
        images = hold_out(images, split, root)
    return images if limit is None or limit >= len(images) else images.subset(choose(None, len(images), limit).sort().values)


def source_of(root: Path, split: str) -> tuple[Path, Path | None]:
    """The folder of a split, and its JSON if it has one; those of the training split where there is no test part."""
    parts = splits_of(root) if root.is_dir() else {}
    name = next((parts[part] for part in SPLITS[split] if part in parts), None)
    json = find_json(root, split, name)
    if name is None and json is None and split != "train":
        return source_of(root, "train")
    return root if name is None else root / name, json


def hold_out(images: InstanceFiles, split: str, root: Path) -> InstanceFiles:
    """The training or test part of pictures that come without splits."""
    if len(images) < 2:
        raise ValueError(f"{root} holds one picture; at least two are needed, for training and for testing")
    test = held_out(torch.zeros(len(images)), HOLD_OUT)
    part = images.subset(test if split == "test" else ~test)
    note = f"{root} has no test part: {int(test.sum()):,} of {len(test):,} pictures are held out for testing, the same ones every time"
    return replace(part, notes=(*images.notes, note))


def pairs(folder: Path, *, check: bool = True) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The pictures in images/, and for each the file in masks/ of the same name (or NAME_mask), whatever its extension."""
    if not ((folder / "images").is_dir() and (folder / "masks").is_dir()):
        raise FileNotFoundError(f"{folder} has no pictures with objects: give {LAYOUTS}")
    names = [[Path(name) for name in scan(folder / part)[0]] for part in ("images", "masks")]
    pictures, masks = (
        {name.with_suffix("").as_posix(): folder / part / name for name in some} for some, part in zip(names, ("images", "masks"))
    )
    if len(pictures) < len(names[0]) or len(masks) < len(names[1]):
        raise ValueError(f"{folder}: two pictures or two masks differ only in their extension, so it is not clear which belong together")
    masks = {stem if stem in pictures else stem.removesuffix("_mask"): path for stem, path in masks.items()}
    for what, missing in (
        ("mask for the picture", pictures.keys() - masks.keys()),
        ("picture for the mask", masks.keys() - pictures.keys()),
    ):
        if missing:
            raise FileNotFoundError(f"{folder}: there is no {what} {min(missing)} (and {len(missing) - 1} more): names must be the same")
    if not pictures:
        raise FileNotFoundError(f"no pictures in {folder / 'images'}")
    both = tuple((pictures[stem], masks[stem]) for stem in pictures)
    for picture, mask in both if check else ():
        sizes = upright_size(picture), upright_size(mask)
        if sizes[0] != sizes[1]:
            (height, width), (rows, columns) = sizes
            raise ValueError(f"{mask} has {rows}×{columns} pixels, but its picture {picture} has {height}×{width}: they must be equal")
    return tuple(picture for picture, _ in both), tuple(mask for _, mask in both)
