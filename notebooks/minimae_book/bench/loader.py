"""How many images per second one core prepares with each way from file to device, and how long a training step would wait for them."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from minimae.cli.options import pick_device
from minimae.cli.report import processor
from minimae.data.augment import Augmentation
from minimae.data.files import ImageFiles
from minimae.data.loader import Loader
from minimae.data.optional import need
from minimae.data.pack import pack
from minimae.data.photos import make_folder
from minimae.data.reader import Reader
from minimae.data.stream import open_folder, open_shards
from minimae.devices import cores, set_device

from .results import as_json, keep, kept
from .timing import finish


@dataclass(frozen=True)
class Way:
    """One way from the file to the device."""

    name: str
    stream: ImageFiles
    where: Literal["host", "device"] = "host"


@dataclass(frozen=True)
class Row:
    """Measurements of one way: kilobytes per file; images/s of one core (median, lowest and highest repeat); and with ``workers``
    processes images/s delivered to the device, and the share of a step spent waiting when the rest takes ``step`` seconds (or None)."""

    name: str
    kilobytes: float
    per_core: float
    least: float
    most: float
    delivered: float
    waiting: float | None


def ways(full: ImageFiles | None, packed: ImageFiles | None) -> tuple[list[Way], list[str]]:
    """All ways that work on this machine, and the reasons why the others do not."""
    found, missing = [], []
    for name, stream in (("full-size JPEG", full), ("packed", packed)):
        if stream is None:
            missing.append(f"{name}: none given")
            continue
        found += [Way(f"{name}, cropped on the host", stream), Way(f"{name}, cropped on the device", stream, "device")]
    return found, missing


def bench(
    compared: list[Way],
    *,
    image: int = 224,
    batch: int = 64,
    batches: int = 4,
    repeats: int = 5,
    workers: int = 2,
    step: float | None = None,
    device: str | torch.device = "cpu",
    quiet: bool = False,
) -> list[Row]:
    """Measure each way ``repeats`` times in turn, with ``batches`` batches of ``batch`` images each time; → medians.

    A core's rate is that of a worker: reading, decoding, and on the host cropping and resizing. The device's work is included in
    ``delivered``. step: seconds that a training step takes by itself; the loop's wait for images is measured beside a sleep of that length.
    """
    device = torch.device(device)
    rates: dict[str, list[float]] = {way.name: [] for way in compared}
    delivered: dict[str, list[float]] = {way.name: [] for way in compared}
    waiting: dict[str, list[float]] = {way.name: [] for way in compared}
    for repeat in range(repeats):
        for way in compared:
            part = plan(len(way.stream), batch, batches, epoch=repeat)
            rates[way.name].append(_rate(way, list(part), image))
            speed, waited = _delivered(way, batch, batches, repeat, image=image, workers=workers, step=step, device=device)
            delivered[way.name].append(speed)
            waiting[way.name].append(waited)
        if not quiet:
            print(f"repeat {repeat + 1} of {repeats} done", flush=True)
    rows = []
    for way in compared:
        per_core, some = rates[way.name], range(min(256, len(way.stream)))
        size = statistics.mean(len(way.stream.bytes_of(place)) for place in some) / 1e3
        share = None if step is None else statistics.median(waiting[way.name])
        speed = statistics.median(delivered[way.name])
        rows.append(Row(way.name, size, statistics.median(per_core), min(per_core), max(per_core), speed, share))
    return rows


def plan(images: int, batch: int, batches: int, *, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """``batches`` batches that cycle through the images."""
    for first in range(0, batch * batches, batch):
        places = torch.arange(first, first + batch) % images
        yield places, torch.full_like(places, epoch)


def _rate(way: Way, part: list[tuple[Tensor, Tensor]], image: int) -> float:
    """Images/s of one worker, measured in this process."""
    reader = Reader(way.stream, (image, image), Augmentation(), 0, crop_on=way.where)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        started = time.perf_counter()
        for places, epochs in part:
            raw = reader[np.asarray(places), np.asarray(epochs)]
            if isinstance(raw, Exception):
                raise raw
        return sum(len(places) for places, _ in part) / (time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)


def _delivered(
    way: Way, batch: int, batches: int, epoch: int, *, image: int, workers: int, step: float | None, device: torch.device
) -> tuple[float, float]:
    """Images/s delivered, and the share of time spent waiting; starting the workers does not count."""
    warm = max(1, 2 * workers)  # batches before the clock starts: by then the workers are as far ahead as they can be
    count = warm + max(batches, 2 * warm)
    how: dict[str, Any] = {"image": image, "augmentation": Augmentation(), "seed": 0, "workers": workers, "device": device}
    images = Loader(way.stream, plan(len(way.stream), batch, count, epoch=epoch), crop_on=way.where, **how)
    started = before = 0.0
    for i, part in enumerate(images):
        if i == warm:
            finish(device)
            started, before = time.perf_counter(), images.waited
        del part
        if step is not None and i + 1 < count:  # the clock stops when the last batch has come
            time.sleep(step)
    finish(device)
    spent = time.perf_counter() - started
    return batch * (count - warm - 1) / spent, (images.waited - before) / spent


def table(rows: list[Row], *, workers: int, step: float | None, batch: int, rate: float = 5000.0) -> str:
    """The rows as text. rate: the images/s of a model, for the number of cores that would feed it."""
    waits = "" if step is None else f", beside a step of {step * 1e3:.0f} ms"
    head = f"{'images/s':42}{'kB':>6}{'a core':>9}{'(range)':>17}{f'{workers} workers':>11}{'waiting':>9}{f'cores for {rate:,.0f}':>17}"
    lines = [f"medians of interleaved repeats, batch {batch}{waits}; {machine()}", head]
    for row in rows:
        waiting = "–" if row.waiting is None else f"{100 * row.waiting:.1f} %"
        spread = f"{row.least:,.0f}–{row.most:,.0f}"
        lines.append(
            f"{row.name:42}{row.kilobytes:6.0f}{row.per_core:9,.0f}{spread:>17}{row.delivered:11,.0f}{waiting:>9}"
            f"{rate / row.per_core:17.1f}"
        )
    return "\n".join(lines)


def machine() -> str:
    """The processor, its cores, the GPU if any, and the libraries that decode."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    return f"{processor()}{gpu}, torch {torch.__version__}, Pillow {need('PIL', why='reading images').__version__}"


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
        for name in ("image", "batch", "batches", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, not {getattr(self, name)}")
        kept(self.out)
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
            print("Without a GPU, what is cropped on the device takes the workers' cores: only the column 'a core' is meaningful.")
        if self.out is not None:
            names = ("photographs", "photographs, packed") if self.data is None and self.packed is None else (self.data, self.packed)
            measured = {name: str(value) for name, value in zip(("data", "packed"), names) if value is not None}
            options = {name: value for name, value in asdict(self).items() if name not in ("data", "packed", "out")}
            options = {**measured, **options, "workers": workers}
            keep(self.out, {"command": "minimae bench loader", "machine": {"machine": machine(), **options}, "rows": as_json(rows)})
            print(f"results in {self.out}")
