"""How every task reads its images, whether they are in memory or read when needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ..data.augment import Augmentation
from ..data.files import ImageFiles, resize
from ..data.images import Images
from ..data.loader import Loader, in_memory, in_order
from ..data.reader import WorkerTransform
from ..data.torch_dataset import TorchImages
from ..data.types import ImageDataset, Statistics
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
    """How images that are not in memory are read. This affects the speed only."""

    workers: int | None = None
    """Processes that read images, for each training process; by default this machine's cores divided among those."""
    crop_on: Literal["host", "device"] = "host"
    """Where images are cropped and resized: in the workers, or on the device, which needs fewer cores and moves more data."""
    skip_corrupt: bool = False
    """Leave out unreadable images; each is reported. Without this they are an error."""

    def processes(self) -> int:
        """How many workers this process starts."""
        return cores(int(os.environ.get("LOCAL_WORLD_SIZE", "1"))) if self.workers is None else self.workers


DEFAULTS = LoaderConfig()
NONE = Augmentation(scale=None, flip=False)


def augmentation_of(images: ImageDataset, augmentation: Augmentation) -> Augmentation:
    """The augmentation of these images: none for a user's dataset, because its own transform has done it."""
    return NONE if isinstance(images, TorchImages) else augmentation


def batches(
    images: ImageDataset,
    order: Order,
    config: LoaderConfig,
    *,
    image: Pair,
    augmentation: Augmentation,
    seed: int,
    repeats: int,
    device: torch.device,
    transform: WorkerTransform | None = None,
) -> Loader:
    """The batches of ``order`` on the device: see :class:`minimae.data.loader.Loader`. transform: what workers do with their crops."""
    in_files = isinstance(images, ImageFiles)
    workers = 0 if isinstance(images, Images) and device.type == "cpu" else config.processes()
    return Loader(
        images, order, image=image, augmentation=augmentation, seed=seed, repeats=repeats, device=device, workers=workers,
        crop_on=config.crop_on if in_files else "host", skip_corrupt=config.skip_corrupt, transform=transform,
    )  # fmt: skip


def chunks(images: ImageDataset, config: LoaderConfig, *, image: Pair, size: int = 256, share: bool = False) -> Iterator[Images]:
    """All images in order, as evaluation sees them (:func:`minimae.data.views.evaluated`), whether from memory or from files.

    share: only the part of this process, when several work together. With ``skip_corrupt``, unreadable images are left out.
    """
    process = world()
    if share and process.size > 1:
        if process.rank >= len(images):
            return
        images = images.subset(torch.arange(process.rank, len(images), process.size))
    if isinstance(images, Images):
        parts = [images] if images.image == pair(image) else (images.subset(index) for index in torch.arange(len(images)).split(size))
        yield from (replace(part, pixels=resize(part.pixels, image)) for part in parts)
        return
    order = in_order(len(images), size)
    with closing(Loader(images, order, image=image, workers=config.processes(), skip_corrupt=config.skip_corrupt)) as loader:
        loader.instead = "left out"
        for index, batch in zip(torch.arange(len(images)).split(size), loader):
            sound = batch.ids == images.ids[index]  # the loader replaces an unreadable image by the next one
            if sound.any():
                labels = None if batch.labels is None else batch.labels[sound]
                yield Images(images.name, batch.pixels[sound].contiguous(), labels, images.classes, batch.ids[sound])


def features_of(
    encoder: Encoder, images: ImageDataset, statistics: Statistics, config: LoaderConfig = DEFAULTS, *, pool: Pool = "mean",
    precision: Precision = "auto",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Features ``N values`` of all images (:func:`.features.extract`) with their labels ``N``, on the CPU.

    Several processes share the images; the first one gets all features, in the order of the images, and the others get none.
    Raises ValueError for images without labels.
    """
    process, done = world(), 0
    features = torch.empty(-(-len(images) // process.size), feature_width(encoder.size, pool))  # joining parts would take twice the memory
    labels, ids = [torch.empty(0, dtype=torch.int64)], [torch.empty(0, dtype=torch.int64)]
    for chunk in chunks(images, config, image=pair(encoder.size.image), share=True):
        if chunk.labels is None:
            raise ValueError(f"{images.name} has no labels, which features_of returns too: for features alone use features.extract")
        for pixels in chunk.pixels.split(PART):  # so that the device holds only these
            rows = extract(encoder, pixels, statistics, pool=pool, precision=precision)
            features[done : done + len(rows)] = rows
            done += len(rows)
        labels.append(chunk.labels.cpu())
        ids.append(chunk.ids.cpu())
    gathered = [gather_rows(rows) for rows in (features[:done], torch.cat(labels), torch.cat(ids))]
    if process.size > 1:
        order = images.ids.argsort()
        index = order[torch.searchsorted(images.ids[order], gathered[2])]
        gathered = [rows[index.argsort()] for rows in gathered]
    return gathered[0], gathered[1]


def some(images: ImageDataset, count: int, *, image: Pair, skip_corrupt: bool = False, workers: int = 0) -> Images:
    """At most ``count`` images as evaluation sees them, always the same: evenly spread, because folders are sorted by class.

    A damaged image is an error, or with ``skip_corrupt`` replaced by the next one. workers: processes that read; 0 reads in this one.
    """
    count = min(count, len(images))
    part = images.subset(torch.arange(count) * len(images) // count)
    if isinstance(part, Images):
        return replace(part, pixels=resize(part.pixels, image))
    return in_memory(part, image=image, skip_corrupt=skip_corrupt, workers=workers)
