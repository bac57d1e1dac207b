"""Images from files to the device, ahead of time: workers decode, the loop never waits if there are enough of them.

The plan says which images a batch holds; everything else is a function of (seed, epoch, sample id). So batches do not depend on
the number of workers, and a plan that starts at step s gives what the unbroken one gave there.
"""

from __future__ import annotations

import atexit
import sys
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..errors import MinimaeError
from ..model.patches import Pair, pair
from .augment import Augmentation
from .host import HostReader
from .images import Images
from .reader import Failure, RawBatch, Reader, Request, WorkerTransform
from .stream import ImageFiles
from .types import Batch, ImageDataset
from .views import resize_on_device
from .workers import STOPS, death_of_a_worker, held, ignore_stops, tells_a_death

LISTED = 20  # damaged images that are reported one by one


class Feed(Iterator[Batch]):
    """Batches on the device, read ahead by worker processes. Made by :func:`feed`.

    waited: seconds spent waiting for images so far. skipped: what could not be read, and how often it was met.
    """

    def __init__(
        self, reader: Reader | HostReader, plan: Iterable[tuple[Tensor, Tensor]], device: torch.device, loader: dict[str, Any]
    ) -> None:
        self.reader, self.device = reader, device
        self.waited = 0.0
        self.skipped: dict[str, int] = {}
        self.instead = "replaced by the next image"  # what becomes of a damaged image, for messages
        requests = _Requests(plan)
        # batch_size=None: an item of the plan is a batch. Its own generator: the loop's random numbers stay as they are.
        self._loader: Any = DataLoader(reader, None, sampler=requests, collate_fn=_as_it_is, generator=torch.Generator(), **loader)
        self._iterator: Any = None
        self._at_exit = partial(_close, weakref.ref(self))
        atexit.register(self._at_exit)  # before Python's own ending, which waits for workers that may be stuck

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> Batch:
        started = time.perf_counter()
        raw = self._raw()
        self.waited += time.perf_counter() - started
        pixels = self._pixels(raw)
        for message in raw.skipped:
            self._report(message)
        labels, ids, epochs, boxes = (
            None if x is None else x.to(self.device, non_blocking=True) for x in (raw.labels, raw.ids, raw.epochs, raw.boxes)
        )
        assert ids is not None and epochs is not None and boxes is not None
        return Batch(pixels, labels, ids, epochs, boxes)

    def _raw(self) -> RawBatch:
        """The next batch as a worker left it; any trouble ends the workers."""
        try:
            if self._loader is None:
                raise StopIteration
            if self._iterator is None:
                with held(*STOPS):
                    self._iterator = iter(self._loader)
            raw: RawBatch | Failure = next(self._iterator)
        except (RuntimeError, OSError, EOFError) as error:  # OSError, EOFError: a worker died while it handed over a batch
            self.close()
            if isinstance(error, RuntimeError) and not tells_a_death(error):
                raise
            raise MinimaeError(death_of_a_worker(error)) from error
        except BaseException:
            self.close()
            raise
        if isinstance(raw, Failure):
            self.close()
            raise MinimaeError(raw.message)
        return raw

    def _report(self, message: str) -> None:
        if message not in self.skipped and len(self.skipped) < LISTED:
            tqdm.write(f"{self.instead}: {message}", file=sys.stderr)
        elif message not in self.skipped and len(self.skipped) == LISTED:
            tqdm.write("more damaged images are counted, but no longer listed", file=sys.stderr)
        self.skipped[message] = self.skipped.get(message, 0) + 1

    def _pixels(self, raw: RawBatch) -> Tensor:
        """The views of a batch on the device."""
        pixels = rearrange(raw.pixels.to(self.device, non_blocking=True), "b h w c -> b c h w")
        if self.reader.where == "device":
            inner, edges = (x.to(self.device, non_blocking=True) for x in (raw.inner, raw.edges))
            pixels = resize_on_device(pixels, inner, edges, self.reader.image)
        return pixels

    def close(self) -> None:
        """End the workers. The feed is at its end then."""
        iterator, self._iterator, self._loader = self._iterator, None, None
        atexit.unregister(self._at_exit)
        if not hasattr(iterator, "_workers"):
            return
        with suppress(RuntimeError):  # torch reports a dead worker by a signal, which can arrive while the others are ended
            iterator._shutdown_workers()  # dropping the iterator would do, were it not that a traceback can keep it alive
        for process in iterator._workers:
            if process.is_alive():  # stuck in a read that never ends
                process.kill()

    def __del__(self) -> None:
        self.close()


def feed(
    stream: ImageDataset,
    plan: Iterable[tuple[Tensor, Tensor]],
    *,
    image: Pair,
    augmentation: Augmentation | None,
    seed: int,
    workers: int,
    where: Literal["host", "device"] = "host",
    device: str | torch.device = "cpu",
    repeats: int = 1,
    corrupt: Literal["error", "skip"] = "error",
    finish: WorkerTransform | None = None,
    prefetch: int = 2,
    timeout: float = 600.0,
) -> Feed:
    """Batches of ``image`` pixels for a plan: an iterable, finite or not, of places int64 ``b`` and the epoch of each int64 ``b``.

    stream: files, or images in memory that ``finish`` changes on the host (with an augmentation).

    augmentation: random crops as :func:`.views.view_boxes` gives them; None for evaluation. Flips and colours are the task's, on the
    device: a crop, a flip and a mask belong to (seed, ``batch.epochs``, ``batch.ids``).
    where: crop and resize on the host, in the workers, or on the device, which takes more of the bus and less of the cores.
    workers: processes; 0 reads in this one.
    repeats: views of each decoded image. The plan counts decoded images, a batch has ``b·repeats`` rows, the views of an image side by
    side; view v of epoch e has the crop and the mask of epoch ``e·repeats + v``, which is what ``batch.epochs`` says.
    corrupt: a damaged image is an error that names it, or is replaced by the next one, reported and counted.
    finish: what workers do with their crops besides (``where="host"``); it must be a function of its arguments, and picklable.
    prefetch: batches that each worker reads ahead. timeout: seconds after which waiting for a worker is an error.
    Raises ValueError for settings that do not go together; the feed raises MinimaeError.
    """
    device = torch.device(device)
    if repeats < 1 or workers < 0 or prefetch < 1:
        raise ValueError(f"repeats {repeats} and prefetch {prefetch} must be at least 1, and workers {workers} at least 0")
    if finish is not None and where != "host":
        raise ValueError("finish changes the crops that workers make: it wants where='host'")
    reader: Reader | HostReader
    if isinstance(stream, Images):
        if finish is None or augmentation is None:
            raise ValueError("images in memory are read through workers only to be changed there: give finish and augmentation")
        reader = HostReader(stream, pair(image), augmentation, seed, repeats, finish)
    else:
        assert isinstance(stream, ImageFiles)
        reader = Reader(stream, pair(image), augmentation, seed, repeats, where, corrupt, finish)
    loader: dict[str, Any] = {"num_workers": workers, "pin_memory": device.type == "cuda"}
    if workers:
        loader |= {"prefetch_factor": prefetch, "timeout": timeout, "worker_init_fn": ignore_stops}
    return Feed(reader, plan, device, loader)


def in_order(images: int, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """A plan for evaluation: every image once, in order; the last batch may be smaller."""
    for places in torch.arange(images).split(batch):
        yield places, torch.zeros_like(places)


def in_memory(
    stream: ImageDataset,
    *,
    image: Pair,
    augmentation: Augmentation | None = None,
    workers: int = 0,
    corrupt: Literal["error", "skip"] = "error",
) -> Images:
    """Read a (small) stream into memory: the views of evaluation, or the middle of each image with ``Augmentation(scale=None)``."""
    how: dict[str, Any] = {"image": image, "augmentation": augmentation, "seed": 0, "workers": workers, "corrupt": corrupt}
    source = feed(stream, in_order(len(stream), 64), **how)
    batches = list(source)
    labels = None if stream.labels is None else torch.cat([b.labels for b in batches if b.labels is not None])
    pixels, ids = torch.cat([b.pixels for b in batches]), torch.cat([b.ids for b in batches])
    return Images(stream.name, pixels.contiguous(), labels, stream.classes, ids, tuple(source.skipped))


class _Requests:
    """A plan as worker processes are sent it: arrays, which need no shared memory."""

    def __init__(self, plan: Iterable[tuple[Tensor, Tensor]]) -> None:
        self.plan = plan

    def __iter__(self) -> Iterator[Request]:
        return ((places.numpy(), epochs.numpy()) for places, epochs in self.plan)


def _close(feed: weakref.ref[Feed]) -> None:
    if (living := feed()) is not None:
        living.close()


def _as_it_is(raw: Any) -> Any:
    return raw
