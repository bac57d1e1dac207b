"""Commands about images: list data sets, pack them into shards, verify the shards, make a small folder to try commands on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes, Positional, arg

from ..data import NAMES, splits
from ..data.folder import listing
from ..data.pack import pack
from ..data.photos import make_folder
from ..data.shards import REPACK
from ..data.verify import verify
from ..errors import MinimaeError, counted
from ..weights.files import check_absent
from .options import DataOptions, describe
from .report import write_json

MOST = 20  # files or faults that are listed


@dataclass(frozen=True, kw_only=True)
class DataCommand:
    """List the data sets, or show (and fetch, with --download) one of them."""

    name: Positional[Annotated[str, arg(metavar="[NAME]")]] = ""  # A data set or a folder; without one, all data sets are listed.
    image: int | None = None  # Height and width in pixels, for the data sets that are generated: photos, shapes.
    statistics: Path | None = None
    """Compute mean and standard deviation of each channel from the pixels, even where fixed ones are used, and write them as JSON."""
    where: OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)

    def __call__(self) -> None:
        if not self.name:
            print(*(f"{name:14}{line}" for name, line in NAMES.items()), sep="\n")
            print("Any folder works too: FOLDER/train/CLASS/*.jpg and FOLDER/test/CLASS/*.jpg, FOLDER/CLASS/*.jpg, or pictures alone.")
            return
        computed: dict[str, Any] = {}
        for split in splits(self.name) if self.name in NAMES else ("train",):
            images = self.where.open(self.name, split, image=self.image)
            if self.statistics is not None:
                images = replace(images, fixed_statistics=None)  # type: ignore[type-var]
            mean, std = (x.tolist() for x in images.statistics)
            computed[split] = {"mean": mean, "std": std, "images": len(images)}
            print(f"{split}: {describe(images)}; mean ± std {', '.join(f'{m:.4f} ± {s:.4f}' for m, s in zip(mean, std, strict=True))}")
        if self.statistics is not None:
            write_json(self.statistics, computed)


@dataclass(frozen=True, kw_only=True)
class PackCommand:
    """Pack a folder laid out as ImageNet into shards that are read fast; run it again to continue: minimae data pack FOLDER OUT."""

    root: Positional[Annotated[Path, arg(metavar="FOLDER")]]  # The folder: FOLDER/train/CLASS/*.JPEG, FOLDER/val/CLASS/*.JPEG.
    out: Positional[Annotated[Path, arg(metavar="OUT")]]  # The folder for the shards: OUT/train/000000.tar …
    splits: tuple[str, ...] = ("train", "val")  # The folders in FOLDER to pack.
    side: int = 256  # The short side in pixels; smaller pictures stay as they are.
    quality: int = 90  # Quality of the JPEGs, up to 100.
    shard_size: int = 4096  # Images in a shard.
    bits: int | None = None
    """Bits used by pictures of more than 8 bits, such as 12 for many microscopes and X-rays; by default as the file states."""
    workers: int | None = None  # Processes; by default one for each core.
    skip_corrupt: bool = False  # Leave damaged pictures out, and list them; the next call tries them again.

    def __call__(self) -> None:
        given: dict[str, Any] = {n: getattr(self, n) for n in ("side", "quality", "shard_size", "bits", "workers", "skip_corrupt")}
        if not self.splits:
            raise ValueError("--splits names at least one split, such as train")
        for split in self.splits:  # find every split before spending hours on the first
            listing(self.root, split)
        for split in self.splits:
            index = pack(self.root, split, self.out, **given)
            size = sum(shard.bytes for shard in index.shards) / 1e9
            print(f"{split}: {len(index.ids):,} images in {counted(len(index.shards), 'shard')}, {size:.2f} GB, in {self.out / split}")
            if index.skipped:
                more = f" (the first {MOST} of them)" if len(index.skipped) > MOST else ""
                print(f"{split}: left out {counted(len(index.skipped), 'damaged file')}{more}:", *index.skipped[:MOST], sep="\n  ")


@dataclass(frozen=True, kw_only=True)
class SampleCommand:
    """Make a small folder of JPEGs laid out as ImageNet, from photographs of scikit-image (minimae[book]): minimae data sample FOLDER."""

    root: Positional[Annotated[Path, arg(metavar="FOLDER")]]  # The folder; it must not exist yet.
    classes: int = 4  # Number of class folders.
    train: int = 16  # Training images of each class.
    val: int = 4  # Validation images of each class.

    def __call__(self) -> None:
        check_absent(self.root)
        make_folder(self.root, classes=self.classes, train=self.train, val=self.val)
        print(f"{self.root}: {self.classes} classes, {self.classes * self.train} + {self.classes * self.val} JPEGs")


@dataclass(frozen=True, kw_only=True)
class VerifyCommand:
    """Compare packed shards with their checksums and their index: minimae data verify OUT."""

    out: Positional[Annotated[Path, arg(metavar="OUT")]]  # The folder of the shards.

    def __call__(self) -> None:
        faults = verify(self.out)
        if faults:
            text = "; ".join(faults[:MOST]) + (f" (and {len(faults) - MOST} more)" if len(faults) > MOST else "")
            raise MinimaeError(text if REPACK in text else f"{text}: {REPACK}")
        print(f"{self.out}: all shards are intact")
