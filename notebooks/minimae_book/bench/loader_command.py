"""``minimae bench loader``: how fast images come from file to device."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from minimae.cli.options import pick_device
from minimae.data.pack import pack
from minimae.data.rehearsal import make_folder
from minimae.data.stream import open_folder, open_shards
from minimae.devices import cores, set_device

from .loader import bench, machine, table, ways
from .results import as_json, keep


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
    """Milliseconds of a training step by itself: the share of it spent waiting is measured."""
    rate: float = 5000.0
    """Images/s that the model takes."""
    device: str = "auto"
    """cpu, cuda, cuda:1 …; auto takes the GPU if there is one."""
    out: Path | None = None
    """A JSON file for the results; an earlier run with the same options on this machine is replaced there, others stay."""

    def __call__(self) -> None:
        device = torch.device(set_device(pick_device(self.device)))
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
