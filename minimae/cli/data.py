"""The commands about large data: ``minimae data pack``, ``minimae data verify``, ``minimae bench loader``."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from minimae_book.bench.loader import bench, machine, table, ways
from minimae_book.bench.results import as_json, keep
from tyro.conf import Positional, arg

from ..data.folder import listing
from ..data.pack import pack
from ..data.rehearsal import make_folder
from ..data.shards import REPACK
from ..data.stream import open_folder, open_shards
from ..data.verify import verify
from ..data.workers import cores
from ..devices import use
from ..errors import MinimaeError


@dataclass(frozen=True, kw_only=True)
class PackCommand:
    """Pack a folder laid out as ImageNet into shards that are read fast; run again, it goes on: minimae data pack FOLDER OUT."""

    root: Positional[Annotated[Path, arg(metavar="FOLDER")]]
    """The folder: FOLDER/train/CLASS/*.JPEG, FOLDER/val/CLASS/*.JPEG."""
    out: Positional[Annotated[Path, arg(metavar="OUT")]]
    """Where the shards go: OUT/train/000000.tar …"""
    splits: tuple[str, ...] = ("train", "val")
    """The folders in FOLDER to pack."""
    side: int = 256
    """The short side in pixels; smaller pictures stay as they are."""
    quality: int = 90
    """Of the JPEGs, up to 100."""
    shard_size: int = 4096
    """Images in a shard."""
    bits: int | None = None
    """Bits used by pictures of more than 8 bits: 12 for many microscopes and X-rays. By default what the file states."""
    workers: int | None = None
    """Processes; by default one for each core."""
    skip_corrupt: bool = False
    """Leave damaged pictures out, and list them; they are tried again by the next call."""

    def __call__(self) -> None:
        how: dict[str, Any] = {"side": self.side, "quality": self.quality, "shard_size": self.shard_size, "workers": self.workers}
        how["bits"] = self.bits
        if not self.splits:
            raise ValueError("--splits names at least one split, such as train")
        for split in self.splits:  # find every split before spending hours on the first
            listing(self.root, split)
        for split in self.splits:
            index = pack(self.root, split, self.out, skip_corrupt=self.skip_corrupt, **how)
            size = sum(shard.bytes for shard in index.shards) / 1e9
            shards = f"{len(index.shards)} shard{'s' * (len(index.shards) != 1)}"
            print(f"{split}: {len(index.ids):,} images in {shards}, {size:.2f} GB, in {self.out / split}")
            if index.skipped:
                more = " (the first 20 of them)" if len(index.skipped) > 20 else ""
                print(f"{split}: left out {len(index.skipped)} damaged file(s){more}:", *index.skipped[:20], sep="\n  ")


@dataclass(frozen=True, kw_only=True)
class RehearsalCommand:
    """Make a small folder of JPEGs laid out as ImageNet, from photographs, to try commands on: minimae data rehearsal FOLDER."""

    root: Positional[Annotated[Path, arg(metavar="FOLDER")]]
    """The folder; it must not be there yet."""
    classes: int = 4
    """Class folders."""
    train: int = 16
    """Training images of each class."""
    val: int = 4
    """Validation images of each class."""

    def __call__(self) -> None:
        if self.root.exists():
            raise MinimaeError(f"{self.root} is there already: choose another folder, or remove it")
        make_folder(self.root, classes=self.classes, train=self.train, val=self.val)
        print(f"{self.root}: {self.classes} classes, {self.classes * self.train} + {self.classes * self.val} JPEGs")


@dataclass(frozen=True, kw_only=True)
class VerifyCommand:
    """Compare packed shards with their checksums and their index: minimae data verify OUT."""

    out: Positional[Annotated[Path, arg(metavar="OUT")]]
    """The folder of the shards."""

    def __call__(self) -> None:
        wrong = verify(self.out)
        if wrong:
            more = f" (and {len(wrong) - 20} more)" if len(wrong) > 20 else ""
            text = "; ".join(wrong[:20]) + more
            raise MinimaeError(text if REPACK in text else f"{text}: {REPACK}")
        print(f"{self.out}: all shards are whole")


@dataclass(frozen=True, kw_only=True)
class BenchLoaderCommand:
    """Images a second for each way from file to device, and how long a step would wait: minimae bench loader."""

    data: Path | None = None
    """A folder laid out as ImageNet; without --data and --packed, a small one is made from photographs."""
    packed: Path | None = None
    """Shards made from it with minimae data pack."""
    split: str = "train"
    """The split to read."""
    image: int = 224
    """Height and width in pixels that images are cropped and resized to."""
    batch: int = 64
    """Images in a batch."""
    batches: int = 4
    """Batches in a repeat."""
    repeats: int = 5
    """How often each way is measured; the table shows medians."""
    workers: int | None = None
    """Processes; by default one for each core."""
    step_ms: float | None = None
    """How long a training step takes by itself: the share of it spent waiting is measured."""
    rate: float = 5000.0
    """Images/s of the model that is to be fed."""
    device: str = "auto"
    """cpu, cuda, cuda:1 …; auto takes the GPU if there is one."""
    out: Path | None = None
    """A JSON file for the results; an earlier run with the same options on this machine is replaced there, others stay."""

    def __call__(self) -> None:
        import torch

        from .options import pick_device

        device = torch.device(use(pick_device(self.device)))
        workers = cores() if self.workers is None else self.workers
        step = None if self.step_ms is None else self.step_ms / 1e3
        with tempfile.TemporaryDirectory() as temporary:
            data, packed = self.data, self.packed
            if data is None and packed is None:
                print("no --data and no --packed: measuring small files made from photographs")
                data, packed = make_folder(Path(temporary, "data"), classes=7, train=32, val=1), Path(temporary, "packed")
                pack(data, "train", packed, workers=1, quiet=True)
            full = None if data is None else open_folder(data, self.split)
            small = None if packed is None else open_shards(packed, self.split)
            compared, missing = ways(full, small)
            how: dict[str, Any] = {"image": self.image, "batch": self.batch, "batches": self.batches, "repeats": self.repeats}
            rows = bench(compared, **how, workers=workers, step=step, device=device)
        print(table(rows, workers=workers, step=step, batch=self.batch, rate=self.rate))
        print(*(f"not measured: {line}" for line in missing), sep="\n")
        if device.type == "cpu":
            print("Without a GPU, what is cropped on the device takes the workers' cores: there only the column 'a core' counts.")
        if self.out is not None:
            given = {**asdict(self), "data": str(self.data or "photographs"), "packed": str(self.packed or "photographs, packed")}
            options = {name: value for name, value in given.items() if name != "out"} | {"workers": workers}
            keep(self.out, {"command": "minimae bench loader", "machine": {"machine": machine(), **options}, "rows": as_json(rows)})
            print(f"results in {self.out}")
