"""Pictures with a class for every pixel: your own folder, CamVid, Pascal VOC, ADE20K, and drawn shapes.

A folder holds pictures and masks with the same names apart from their extensions: ``train/images`` and ``train/masks`` (or ``labels``, or
``annotations``), and the same below ``val`` or ``test``; or ``images/train`` and ``masks/train``; or ``images`` and ``masks`` alone, of
which a fifth is then held out. A mask is a picture in grey or with a palette whose values are class numbers; 255 is ignored.
``classes.txt`` in the folder lists the names of the classes, one per line.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import nearest
from .access import file_bytes
from .choose import as_index, held_out
from .decoding import damage
from .files import convert
from .folder import files_of, no_folder, suffixes
from .images import Images
from .opening import HOLD_OUT
from .optional import need
from .shapes import CLASSES as SHAPES
from .shapes import Scenes, shapes
from .types import ImageDataset, Statistics

IGNORE, UNKNOWN = 255, 254  # the labels of pixels that do not count, and of values that are not a class
MOST = 254  # classes
PICTURES, MASKS = ("images", "JPEGImages", "imgs"), ("masks", "labels", "annotations", "SegmentationClass")
FOLDERS = {"train": ("train", "training"), "val": ("val", "validation"), "test": ("test", "testing", "val", "validation")}
CAMVID = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist", "unlabelled")
VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table", "dog", "horse",
    "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv monitor",
)  # fmt: skip
VOID = ("unlabelled", "unlabeled", "void", "ignore")  # classes of this name are ignored


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation(ImageDataset):
    """Pictures ``c height width`` with masks uint8 ``height width``: a class from 0 for every pixel, 255 where it is ignored.

    images: the pictures. masks: their files, or uint8 ``N height width`` in memory. classes: their names. table: the label of each value
    0 … 255 of a mask's file; UNKNOWN for values that are not a class.
    """

    images: ImageDataset
    masks: Sequence[Path] | Tensor
    classes: tuple[str, ...]
    table: Tensor
    labels: Tensor | None = None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.images.name

    @property
    def ids(self) -> Tensor:  # type: ignore[override]
        return self.images.ids

    @property
    def channels(self) -> int:
        return self.images.channels

    @property
    def statistics(self) -> Statistics:  # type: ignore[override]
        return self.images.statistics

    def read(self, index: int) -> Tensor:
        return self.images.read(index)

    def where(self, index: int) -> str:
        return self.images.where(index)

    def subset(self, index: Tensor | Sequence[int]) -> Segmentation:
        chosen = as_index(index, len(self))
        masks = self.masks[chosen] if isinstance(self.masks, Tensor) else [self.masks[i] for i in chosen.tolist()]
        return replace(self, images=self.images.subset(chosen), masks=masks)

    def mask(self, index: int) -> Tensor:
        """The labels of an image, uint8 ``height width``. Raises ValueError for a mask of another size, and for unknown labels."""
        if isinstance(self.masks, Tensor):
            return self.table[self.masks[index].long()]
        path = self.masks[index]
        values = read_mask(path)
        labels = self.table[values.long()]
        if (labels == UNKNOWN).any():
            found = values[labels == UNKNOWN].unique().tolist()
            known = (self.table < UNKNOWN).nonzero()[:, 0].tolist()
            raise ValueError(
                f"{path} holds {', '.join(map(str, found[:8]))}; classes are {known[0]} to {known[-1]}, and 255 is ignored: "
                "correct the mask, or list all classes in classes.txt, one per line"
            )
        return labels

    def sample(self, index: int) -> tuple[Any, Any]:
        """An image and its mask, as ``tv_tensors.Image`` and ``tv_tensors.Mask``. Raises ValueError when their sizes differ."""
        tv = need("torchvision.tv_tensors", why="masks")
        pixels, mask = self.read(index), self.mask(index)
        if pixels.shape[1:] != mask.shape:
            where = f"of {self.where(index)}" if isinstance(self.masks, Tensor) else str(self.masks[index])
            raise ValueError(
                f"the mask {where} has {mask.shape[0]}×{mask.shape[1]} pixels, and its picture {self.where(index)} has "
                f"{pixels.shape[1]}×{pixels.shape[2]}: a mask needs the size of its picture, which is read upright"
            )
        return tv.Image(pixels), tv.Mask(mask)


def read_mask(path: Path) -> Tensor:
    """The values of a mask's file, uint8 ``height width``: class numbers, never colours. Raises ValueError for anything else."""
    import io

    Image = need("PIL.Image", why="reading masks")
    with damage(str(path)):
        values = np.array(Image.open(io.BytesIO(file_bytes(path))))
    if values.ndim == 3 and (values.shape[2] == 2 or (values[..., :3] == values[..., :1]).all()):
        values = values[..., 0]  # grey with alpha, or stored as colour
    if values.ndim != 2:
        raise ValueError(f"{path} is a picture in colour: a mask needs one class number for each pixel, in grey or with a palette")
    if values.dtype.kind not in "bui":
        raise ValueError(f"{path} holds {values.dtype} numbers: a mask needs whole class numbers, from 0")
    if values.size and (values.min() < 0 or values.max() > IGNORE):
        raise ValueError(f"{path} holds values from {values.min()} to {values.max()}: masks have at most {MOST} classes; 255 is ignored")
    return torch.from_numpy(values.astype(np.uint8))


def table_of(classes: Sequence[str], *, first: int = 0) -> tuple[tuple[str, ...], Tensor]:
    """The names without those in :data:`VOID`, and the table from values to labels. first: the value of the first class."""
    names = [name for name in classes if name.lower() not in VOID]
    if not 2 <= len(names) <= MOST or first + len(classes) > 256:
        raise ValueError(f"{len(names)} class(es) to learn ({', '.join(names[:3])}), but 2 to {MOST} are possible: correct masks or names")
    table, labels = torch.full((256,), UNKNOWN, dtype=torch.uint8), iter(range(len(names)))
    table[IGNORE], table[:first] = IGNORE, IGNORE
    for value, name in enumerate(classes, first):
        table[value] = IGNORE if name.lower() in VOID else next(labels)
    return tuple(names), table


def open_segmentation(
    source: str | Path, split: str = "train", *, channels: int = 3, limit: int | None = None, like: Segmentation | None = None
) -> Segmentation:
    """One split, train, val or test, of a folder with masks (see the module), or of ``shapes``.

    Where there is no test split, val is the test split. like: another split, which has the same classes.
    Raises FileNotFoundError for missing folders and masks, ValueError for masks that do not fit.
    """
    if split not in FOLDERS:
        raise ValueError(f"there are the splits {', '.join(FOLDERS)}, not {split!r}{nearest(split, FOLDERS)}")
    if str(source) == "shapes":
        return of_scenes(shapes(limit, split="train" if split == "train" else "test"), channels)
    root = Path(source).expanduser()
    if not root.is_dir():
        raise no_folder(root)
    pictures, masks, own = listed(root, split)
    kept = range(len(pictures))
    if own:  # no splits: some are held out
        if len(pictures) < 2:
            raise ValueError(f"{root} holds one picture: at least two are needed, to train on and to test on")
        test = held_out(torch.zeros(len(pictures), dtype=torch.int64), HOLD_OUT)
        kept = (test if split != "train" else ~test).nonzero()[:, 0].tolist()  # type: ignore[assignment]
    names, table, notes = classes_of(root, masks) if like is None else (like.classes, like.table, ())
    if own:
        notes += (f"{root} has no splits: {int(test.sum())} of {len(test)} pictures are held out for testing, the same ones every time",)
    files = replace(files_of(root.resolve().name, root, [str(p.relative_to(root)) for p in pictures]), channels=channels)
    whole = Segmentation(files, masks, names, table, notes=notes)
    chosen = whole if len(kept) == len(whole) else whole.subset(list(kept))
    return chosen.limited(limit)


def of_scenes(scenes: Scenes, channels: int = 3) -> Segmentation:
    """Drawn scenes as a segmentation of seven classes: the background, and six shapes."""
    names, table = table_of(("background", *SHAPES))
    images = Images(scenes.name, convert(scenes.pixels, channels), None, (), scenes.ids)
    return Segmentation(images, scenes.semantic, names, table)


def listed(root: Path, split: str) -> tuple[list[Path], list[Path], bool]:
    """The pictures of a split and their masks, in order; and whether the folder has no splits.

    Raises FileNotFoundError when there are no such folders, and ValueError for a picture without a mask or a mask without a picture.
    """
    voc = root if (root / "ImageSets").is_dir() else next((path.parent for path in sorted(root.glob("**/ImageSets"))), root)
    if (voc / "ImageSets" / "Segmentation").is_dir():
        file = voc / "ImageSets" / "Segmentation" / f"{'train' if split == 'train' else 'val'}.txt"
        stems = file.read_text(encoding="utf-8").split()
        return [voc / "JPEGImages" / f"{s}.jpg" for s in stems], [voc / "SegmentationClass" / f"{s}.png" for s in stems], False
    pairs = [(root / part / a, root / part / b) for part in FOLDERS[split] for a in PICTURES for b in MASKS]
    pairs += [(root / a / part, root / b / part) for part in FOLDERS[split] for a in PICTURES for b in MASKS]
    pairs += [(root / part, root / f"{part}annot") for part in FOLDERS[split]]  # CamVid as SegNet has it
    alone = [(root / a, root / b) for a in PICTURES for b in MASKS]
    found = next(((a, b, own) for both, own in ((pairs, False), (alone, True)) for a, b in both if a.is_dir() and b.is_dir()), None)
    if found is None:
        wanted = f"{split}/images and {split}/masks, or images and masks, with the same names apart from the extension"
        raise FileNotFoundError(f"{root} has no pictures and masks for {split}: give {wanted}")
    return *paired(*found[:2]), found[2]


def paired(folder: Path, masks: Path) -> tuple[list[Path], list[Path]]:
    """The pictures and masks of two folders, paired by their names without extensions. Raises ValueError when one has no partner."""
    files = [[p for p in sorted(part.iterdir()) if p.suffix.lower() in suffixes() and p.name[0] != "."] for part in (folder, masks)]
    for one, other in ((a, b) for part in files for a, b in pairwise(sorted(part, key=lambda p: p.stem)) if a.stem == b.stem):
        raise ValueError(f"{one} and {other} have the same name: which of them is meant is not clear, so remove or rename one")
    by_stem = [{p.stem: p for p in part} for part in files]
    for (one, first), (other, second) in (((folder, by_stem[0]), (masks, by_stem[1])), ((masks, by_stem[1]), (folder, by_stem[0]))):
        if lonely := sorted(first.keys() - second.keys()):
            examples = ", ".join(first[stem].name for stem in lonely[:3]) + (", …" if len(lonely) > 3 else "")
            raise ValueError(f"{len(lonely)} of {len(first)} files in {one} have no file of the same name in {other}: {examples}")
    if not by_stem[0]:
        raise FileNotFoundError(f"no pictures in {folder}")
    return [by_stem[0][s] for s in by_stem[0]], [by_stem[1][s] for s in by_stem[0]]


def classes_of(root: Path, masks: Sequence[Path]) -> tuple[tuple[str, ...], Tensor, tuple[str, ...]]:
    """Names of the classes, the table of labels, and notes: known for CamVid, VOC and ADE20K, from classes.txt, or from the masks."""
    if (file := root / "classes.txt").is_file():
        text = file.read_text(encoding="utf-8-sig", errors="replace")
        listed = [line.strip() for line in text.splitlines() if line.strip()]
        if len(set(listed)) < max(2, len(listed)) or "\ufffd" in text:
            raise ValueError(f"{file} must name two or more classes, one a line, each once, as text in UTF-8")
        return *table_of(listed), ()
    if (root / "objectInfo150.txt").is_file():  # ADE20K: 0 is none of the 150
        rows = (root / "objectInfo150.txt").read_text(encoding="utf-8").splitlines()[1:]
        return *table_of([row.split("\t")[-1].split(",")[0].strip() for row in rows], first=1), ()
    if masks[0].parent.name == "SegmentationClass":
        return *table_of(VOC), ()
    if root.resolve().name.lower().startswith("camvid"):
        return *table_of(CAMVID), ()
    with ThreadPoolExecutor(8) as pool:
        counts = sum(pool.map(lambda path: torch.bincount(read_mask(path).flatten(), minlength=256), masks), torch.zeros(256).long())
    present = [int(v) for v in counts.nonzero()[:, 0]]
    if present == [0, IGNORE]:
        names, table = table_of(("background", "object"))
        table[IGNORE] = 1
        return names, table, (f"{root}: the masks contain only 0 and 255, so 255 is read as the class object",)
    if not (known := [v for v in present if v != IGNORE]):
        raise ValueError(f"all pixels of the {len(masks)} masks of {root} are 255, which is ignored, so there is nothing to train on")
    note = f"{root}: {known[-1] + 1} classes, from 0 to the largest value in the masks; list their names in classes.txt, one per line"
    return *table_of([f"class {v}" for v in range(known[-1] + 1)]), (note,)
