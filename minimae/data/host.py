"""Images in memory that the host has to change before they go to a device: read ahead by workers, like images from files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from einops import rearrange
from torch.utils.data import Dataset

from .augment import Augmentation, augment, crop_boxes
from .images import Images
from .reader import RawBatch, Request, WorkerTransform


@dataclass(frozen=True)
class HostReader(Dataset[Any]):
    """Parts of a plan → crops uint8 ``b h w c`` as :func:`minimae.data.augment.augment` makes them, flipped and changed by ``finish``."""

    images: Images
    image: tuple[int, int]
    augmentation: Augmentation
    seed: int
    repeats: int
    finish: WorkerTransform
    where: Literal["host"] = "host"

    def __getitem__(self, request: Request) -> RawBatch:
        batch = self.images.batch(torch.from_numpy(request[0]), torch.from_numpy(request[1]), self.repeats)
        plain = replace(self.augmentation, flip=False)
        crops = augment(batch.pixels, batch.ids, plain, seed=self.seed, epoch=batch.epochs, size=self.image)
        pixels = rearrange((crops * 255).round().to(torch.uint8), "b c h w -> b h w c").contiguous()
        boxes = crop_boxes(batch.ids, self.images.image, self.augmentation, seed=self.seed, epoch=batch.epochs)
        pixels = self.finish(pixels, batch.ids, batch.epochs)
        return RawBatch(pixels, boxes, boxes, boxes.long(), batch.labels, batch.ids, batch.epochs, ())
