"""From images to batches on the device: workers read and crop ahead of time.

A batch is a function of its indices, its epochs and the seed. It does not depend on the number of workers, and a run that continues
at step s gets the batches that the uninterrupted run had from there on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm import tqdm

from ..model.patches import Pair, pair
from .augment import Augmentation
from .images import Images
from .reader import FromWorker, Reader, WorkerTransform
from .types import Batch, ImageDataset
from .views import resize_on_device
from .workers import Workers

LISTED = 20  # damaged images that are reported one by one


class Loader(Iterator[Batch]):
    """Batches on the device, one for each item of ``order``: indices of images int64 ``b``, and the epoch of each int64 ``b``.

    Images in memory come whole, those from files as crops of ``image`` pixels, and those of a user's dataset (:mod:`.torch_dataset`) as
    its transform makes them.

    augmentation: random crops (:func:`.augment.crop_boxes`); None for the view of evaluation: the middle, 224/256 of a larger image.
    Flips and colours come later, on the device (:func:`.augment.augment`).
    repeats: views of each image, side by side: view v of epoch e has the crop and the mask of epoch ``e·repeats + v``.
    workers: processes that read; 0 reads in this one. crop_on: the workers crop, or the device does, which needs fewer cores.
    skip_corrupt: replace a damaged image by the next one, and report it; by default it is an error.
    transform: applied by the workers to their crops: a function of its arguments alone that can be pickled.
    prefetch: batches that each worker reads ahead. timeout: seconds after which waiting for a worker is an error.
    waited: seconds spent waiting for images so far. skipped: what could not be read, and how often that happened.
    Raises ValueError for settings that contradict each other; the batches raise MinimaeError for a damaged image or a dead worker.
    """

    def __init__(
        self,
        images: ImageDataset,
        order: Iterable[tuple[Tensor, Tensor]],
        *,
        image: Pair,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        repeats: int = 1,
        device: str | torch.device = "cpu",
        workers: int = 0,
        crop_on: Literal["host", "device"] = "host",
        skip_corrupt: bool = False,
        transform: WorkerTransform | None = None,
        prefetch: int = 2,
        timeout: float = 600.0,
    ) -> None:
        for name, value, least in (("repeats", repeats, 1), ("workers", workers, 0), ("prefetch", prefetch, 1)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, not {value}")
        if transform is not None and crop_on != "host":
            raise ValueError("transform changes crops that workers make, so it needs crop_on='host'")
        self.image, self.device = pair(image), torch.device(device)
        self.waited = 0.0
        self.skipped: dict[str, int] = {}
        self.instead = "replaced by the next image"  # what happens to a damaged image, for messages
        if isinstance(images, Images) and transform is None:
            there = images.to(self.device)
            self._items: Iterator[FromWorker] = ((there.batch(index, epochs, repeats), None, ()) for index, epochs in order)
            return
        reader = Reader(images, self.image, augmentation, seed, repeats, crop_on, skip_corrupt, transform)
        requests = ((index.numpy(), epochs.numpy()) for index, epochs in order)  # arrays need no shared memory
        self._items = Workers(reader, requests, workers, prefetch=prefetch, timeout=timeout, pinned=self.device.type == "cuda")

    def __next__(self) -> Batch:
        started = time.perf_counter()
        batch, views, skipped = next(self._items)
        self.waited += time.perf_counter() - started
        for message in skipped:
            self._report(message)
        moved = [None if x is None else x.to(self.device, non_blocking=True) for x in batch]
        if views is not None:
            views = views.to(self.device, non_blocking=True)
            moved[0] = resize_on_device(moved[0], views[:, :4], views[:, 4:], self.image)  # type: ignore[arg-type]
        return Batch(*moved)  # type: ignore[arg-type]

    def _report(self, message: str) -> None:
        if message not in self.skipped and len(self.skipped) < LISTED:
            tqdm.write(f"{self.instead}: {message}", file=sys.stderr)
        elif message not in self.skipped and len(self.skipped) == LISTED:
            tqdm.write("more damaged images are counted, but no longer listed", file=sys.stderr)
        self.skipped[message] = self.skipped.get(message, 0) + 1

    def close(self) -> None:
        """End the workers. No more batches follow."""
        self._items.close()  # type: ignore[attr-defined]


def in_order(images: int, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The order of evaluation: every image once; the last batch may be smaller."""
    for index in torch.arange(images).split(batch):
        yield index, torch.zeros_like(index)


def in_memory(images: ImageDataset, *, image: Pair, augmentation: Augmentation | None = None, **options: Any) -> Images:
    """Read a (small) set into memory: the views of evaluation, or the middle of each image with ``Augmentation(scale=None)``.

    options: those of :class:`Loader`.
    """
    loader = Loader(images, in_order(len(images), 64), image=image, augmentation=augmentation, **options)
    batches = list(loader)
    labels = None if images.labels is None else torch.cat([b.labels for b in batches if b.labels is not None])
    pixels, ids = torch.cat([b.pixels for b in batches]).contiguous(), torch.cat([b.ids for b in batches])
    return Images(images.name, pixels, labels, images.classes, ids, tuple(loader.skipped), images.notes, images.fixed_statistics)
