"""Pictures with masks or boxes: random changes that keep both in step, and the loader of such samples.

A sample is a picture and a target, both of torchvision's ``tv_tensors``, so that its transforms change them together. Every random
number is a function of (seed, epoch, sample id), whatever the batch, the worker or the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import MinimaeError
from ..model.patches import Pair
from ..random import seeded
from .optional import need
from .types import Batch
from .workers import Workers

Sample = tuple[Any, Any]  # a tv_tensors.Image, and a Mask, BoundingBoxes, or a dict of them and of tensors


def scale_crop_flip(
    image: Pair, *, scale: tuple[float, float] = (0.5, 2.0), flip: bool = True, fill: Sequence[int] = (0,), ignore: int = 255
) -> Callable[..., Sample]:
    """A transform of (picture, target): a random scale, a random crop of ``image`` pixels, and a flip half of the time.

    scale: the shorter side becomes a share of the shorter side of ``image``, uniform between these two. A picture that is then
    smaller than the crop is padded with the colour ``fill``, uint8, and its mask with the label ``ignore``.
    """
    v2, tv = need("torchvision.transforms.v2", why="changing pictures and masks"), need("torchvision.tv_tensors", why="masks")
    short = min(image)
    low, high = max(1, round(scale[0] * short)), max(1, round(scale[1] * short))
    fills = {tv.Image: list(fill), tv.Mask: ignore, "others": 0}
    steps = [v2.Resize(low) if low == high else v2.RandomResize(low, high + 1)]
    steps += [v2.RandomCrop(image, pad_if_needed=True, fill=fills), *([v2.RandomHorizontalFlip()] if flip else [])]
    return v2.Compose(steps)


@dataclass(frozen=True)
class Views(Dataset):  # type: ignore[type-arg]
    """The samples as training sees them: ``views[index, epoch]`` → picture, target, sample id, epoch.

    dataset: has ``ids`` and ``sample(index)`` → (picture, target). transform: changes both, with torch's global random numbers.
    """

    dataset: Any
    transform: Callable[..., Sample]
    seed: int

    def __getitem__(self, key: tuple[int, int]) -> tuple[Any, Any, int, int]:
        index, epoch = key
        number = int(self.dataset.ids[index])
        with seeded(self.seed, epoch, number):
            picture, target = self.transform(*self.dataset.sample(index))
        return picture, target, number, epoch


def stacked(samples: list[tuple[Any, Any, int, int]]) -> Batch:
    """Samples whose targets are masks of one size → a batch; its labels are the masks, ``b height width``."""
    pictures, masks, ids, epochs = zip(*samples, strict=True)
    pixels, labels = (torch.stack([part.as_subclass(Tensor) for part in parts]) for parts in (pictures, masks))
    return Batch(pixels, labels, torch.tensor(ids), torch.tensor(epochs))


@dataclass(frozen=True)
class Collated(Dataset):  # type: ignore[type-arg]
    """``collated[keys]``: a batch of views, or the error of a file that does not fit, for :class:`minimae.data.workers.Workers`."""

    views: Views
    collate: Callable[[list[Any]], Any]

    def __getitem__(self, keys: list[tuple[int, int]]) -> Any:
        try:
            return self.collate([self.views[key] for key in keys])
        except (MinimaeError, ValueError, OSError) as error:
            return error


def batches(
    views: Views, order: Iterator[tuple[Tensor, Tensor]], *, workers: int, device: torch.device,
    collate: Callable[[list[Any]], Any] = stacked,
) -> Iterator[Any]:  # fmt: skip
    """The batches of ``order`` (see :func:`minimae.train.order.from_step`) on the device. collate: turns a list of samples into a batch."""
    keys = (list(zip(index.tolist(), epochs.tolist(), strict=True)) for index, epochs in order)
    for batch in Workers(Collated(views, collate), keys, workers, pinned=device.type == "cuda"):
        yield moved(batch, device)


def moved(value: Any, device: torch.device) -> Any:
    """Every tensor of a nested tuple, list or dict on a device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: moved(part, device) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [moved(part, device) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value
