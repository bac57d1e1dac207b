"""What every task reads its images through, whether they lie in memory or are read from files as they are needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ..data.augment import Augmentation, augment
from ..data.files import resize
from ..data.images import Images
from ..data.loader import feed, in_memory, in_order
from ..data.reader import WorkerTransform
from ..data.types import Batch, ImageDataset, Statistics
from ..devices import cores
from ..model.patches import Pair, pair
from ..model.vit import Encoder
from ..train.distributed import gather_rows, world
from ..train.order import Order
from ..train.settings import Precision
from .features import Pool, extract
from .memory import feature_width

PART = 500  # images whose features are computed together


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """How images that are not in memory are read. It decides how fast that is, and not what is learned."""

    workers: int | None = None
    """Processes that read images, for each training process; by default this machine's cores divided among those."""
    crop_on: Literal["host", "device"] = "host"
    """Where full images are cropped and resized: in the workers, or on the device, which needs fewer cores and more of the bus."""
    skip_corrupt: bool = False
    """Leave unreadable images out; each is told and counted. Without this they are an error."""

    def processes(self) -> int:
        """How many workers this process starts."""
        return cores(int(os.environ.get("LOCAL_WORLD_SIZE", "1"))) if self.workers is None else self.workers


DEFAULTS = LoaderConfig()


def batches(
    source: ImageDataset,
    order: Order,
    reading: LoaderConfig,
    *,
    image: Pair,
    augmentation: Augmentation,
    seed: int,
    repeats: int,
    device: torch.device,
    finish: WorkerTransform | None = None,
) -> Iterator[Batch]:
    """The batches of ``order`` on the device, uint8: whole images from memory; from files, crops of ``image`` pixels.

    finish: what else workers do with the crops. Images in memory then go through workers too, unless the device is the CPU.
    """
    if isinstance(source, Images) and (finish is None or device.type == "cpu"):
        here = source.to(device)
        return (here.batch(places, epochs, repeats) for places, epochs in order)
    return feed(
        source, order, image=image, augmentation=augmentation, seed=seed, repeats=repeats, device=device, workers=reading.processes(),
        finish=finish, where=reading.crop_on, corrupt="skip" if reading.skip_corrupt else "error",
    )  # fmt: skip


def changed(batch: Batch, augmentation: Augmentation, *, seed: int, size: Pair) -> Tensor:
    """A batch → float32 images in [0, 1], ``b c height width``: cropped unless that was done as they were read, flipped, recoloured."""
    if batch.boxes is not None:
        augmentation = replace(augmentation, scale=None, fixed=None)
    return augment(batch.pixels, batch.ids, augmentation, seed=seed, epoch=batch.epochs, size=size)


def chunks(source: ImageDataset, reading: LoaderConfig, *, image: Pair, size: int = 256, share: bool = False) -> Iterator[Images]:
    """All images in order, as evaluation sees them (:func:`minimae.data.views.evaluated`); the same from memory and from files.

    share: only this process's part, when several work together. An unreadable image is left out with ``skip_corrupt``.
    """
    here = world()
    if share and here.size > 1:
        if here.rank >= len(source):
            return
        source = source.subset(torch.arange(here.rank, len(source), here.size))
    if isinstance(source, Images):
        parts = [source] if source.image == pair(image) else (source.subset(places) for places in torch.arange(len(source)).split(size))
        yield from (replace(part, pixels=resize(part.pixels, image)) for part in parts)
        return
    with closing(
        feed(source, in_order(len(source), size), image=image, augmentation=None, seed=0, workers=reading.processes(),
             corrupt="skip" if reading.skip_corrupt else "error")
    ) as read:  # fmt: skip
        read.instead = "left out"
        for places, batch in zip(torch.arange(len(source)).split(size), read):
            right = batch.ids == source.ids[places]  # an unreadable image was replaced by the next one
            if right.any():
                labels = None if batch.labels is None else batch.labels[right]
                yield Images(source.name, batch.pixels[right].contiguous(), labels, source.classes, batch.ids[right])


def features_of(
    encoder: Encoder, source: ImageDataset, statistics: Statistics, reading: LoaderConfig, *, pool: Pool, precision: Precision = "auto"
) -> tuple[Tensor, Tensor]:
    """Features ``N values`` of all images (:func:`.features.extract`) with their labels ``N``, on the CPU.

    Several processes share the images; the first one gets all features, in the order of the images, and the others get none.
    """
    here, done = world(), 0
    features = torch.empty(-(-len(source) // here.size), feature_width(encoder.size, pool))  # a list of parts would take twice the memory
    labels, ids = [torch.empty(0, dtype=torch.int64)], [torch.empty(0, dtype=torch.int64)]
    for whole in chunks(source, reading, image=pair(encoder.size.image), share=True):
        assert whole.labels is not None and whole.ids is not None
        for pixels in whole.pixels.split(PART):  # so that the device holds only these
            rows = extract(encoder, pixels, statistics, pool=pool, precision=precision)
            features[done : done + len(rows)] = rows
            done += len(rows)
        labels.append(whole.labels.cpu())
        ids.append(whole.ids.cpu())
    known = [gather_rows(rows) for rows in (features[:done], torch.cat(labels), torch.cat(ids))]
    if here.size > 1:
        order = source.ids.argsort()
        place = order[torch.searchsorted(source.ids[order], known[2])]
        known = [rows[place.argsort()] for rows in known]
    return known[0], known[1]


def some(source: ImageDataset, count: int, *, image: Pair, skip_corrupt: bool = False, workers: int = 0) -> Images:
    """At most ``count`` images as evaluation sees them, the same ones each time: evenly spread, since folders are sorted by class.

    A damaged image is an error, or with ``skip_corrupt`` replaced by the next one. workers: processes that read; 0 reads in this one.
    """
    count = min(count, len(source))
    part = source.subset(torch.arange(count) * len(source) // count)
    if isinstance(part, Images):
        return replace(part, pixels=resize(part.pixels, image))
    return in_memory(part, image=image, corrupt="skip" if skip_corrupt else "error", workers=workers)
