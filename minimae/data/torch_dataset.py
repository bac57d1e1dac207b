"""Any map-style torch Dataset of images, with any transform. Its random numbers become a function of (seed, epoch, sample id)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, Subset

from ..errors import MinimaeError
from ..random import seeded
from .choose import as_index
from .decoding import GREY
from .labels import as_labels
from .types import ImageDataset, Statistics

WANTED = "an image is a Pillow image, a uint8 tensor, or a float tensor between 0 and 1, c height width"


@dataclass(frozen=True, eq=False, repr=False)
class TorchImages(ImageDataset):
    """A torch Dataset. :func:`from_dataset` makes it. index: int64 ``N``, into ``dataset``. shape: channels, height and width.

    The model gets what the dataset's transform returns, without further crops, flips or colours.
    """

    name: str
    dataset: Any
    index: Tensor
    labels: Tensor | None
    classes: tuple[str, ...]
    ids: Tensor
    shape: tuple[int, int, int]
    notes: tuple[str, ...] = ()
    fixed_statistics: Statistics | None = None

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def image(self) -> tuple[int, int]:  # type: ignore[override]
        """Height and width of the first image; all others must have the same."""
        return self.shape[1:]

    def item(self, index: int, seed: int, epoch: int, image: tuple[int, int] | None = None) -> Tensor:
        """An image as it looks in this epoch, uint8 ``c height width``. Raises MinimaeError unless it is ``image`` pixels large."""
        pixels, _ = _item(self.dataset, int(self.index[index]), seed, epoch, int(self.ids[index]), self.name, self.channels)
        wanted = (self.channels, *(image or self.image))
        if pixels.shape != wanted:
            sizes = f"{'×'.join(map(str, pixels.shape))} pixels, and {'×'.join(map(str, wanted))} are expected"
            remedy = f"end the transform with Resize, CenterCrop or RandomResizedCrop({wanted[1:]})"
            raise MinimaeError(f"image {int(self.index[index])} of {self.name} has {sizes}: {remedy}")
        return pixels

    def read(self, index: int) -> Tensor:
        return self.item(index, 0, 0)

    def size_of(self, index: int) -> tuple[int, int]:
        return self.image

    def subset(self, index: Tensor | Sequence[int]) -> TorchImages:
        chosen = as_index(index, len(self))
        return replace(self, index=self.index[chosen], labels=None if self.labels is None else self.labels[chosen], ids=self.ids[chosen])


def from_dataset(
    dataset: Any,
    name: str | None = None,
    *,
    labels: Sequence[int] | Tensor | Literal["items"] | None = None,
    classes: Sequence[str] | None = None,
    statistics: tuple[Sequence[float], Sequence[float]] | None = None,
) -> TorchImages:
    """A map-style torch Dataset → images for pre-training, probing, fine-tuning and k-NN.

    Its items are images, or (image, label, …). An image is a Pillow image, a uint8 tensor, or a float tensor between 0 and 1 (rounded to
    8 bits), all of one size. Do not normalise: that is done later, with the statistics. The dataset's transform is the whole augmentation.
    It runs under :func:`minimae.random.seeded`, so an image looks the same in a given epoch, whatever the batch or worker.
    labels: of all images; by default the dataset's ``targets``. "items" reads every item once to collect them.
    classes: names, by default the dataset's ``classes``. statistics: mean and standard deviation of each channel, for pixels between 0
    and 1; by default computed from images as the transform makes them.
    Raises ValueError for anything else, and for a transform that is random in a way that cannot be seeded.
    """
    name = name or type(dataset).__name__
    if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise ValueError(f"{name} has no length or no index: a map-style dataset is expected, whose images can be read in any order")
    if len(dataset) == 0:
        raise ValueError(f"{name} holds no images")
    try:
        (pixels, label), (again, _) = (_item(dataset, 0, 0, 0, 0, name) for _ in range(2))
    except MinimaeError as error:
        raise ValueError(str(error)) from None
    if statistics is not None and any(np.shape(x) != (len(pixels),) for x in statistics):
        raise ValueError(f"{name} has channels={len(pixels)}: statistics are a mean and a standard deviation for each, not {statistics}")
    if not torch.equal(pixels, again):
        raise ValueError(f"image 0 of {name} differs when it is read again: its transform has its own random generator; use torch's")
    found = _targets(dataset) if labels is None else labels
    if isinstance(found, str):
        found = [_item(dataset, i, 0, 0, i, name)[1] for i in range(len(dataset))]
    inner = dataset
    while isinstance(inner, Subset) and not hasattr(inner, "classes"):
        inner = inner.dataset
    names = tuple(getattr(inner, "classes", ()) if classes is None else classes) if found is not None else ()
    checked = None if found is None else as_labels(name, found, len(dataset), names)
    if checked is not None and label is not None and label != int(checked[0]):
        raise ValueError(f"the first label of {name} is {int(checked[0])}, and {label} in its first item: give labels in the same order")
    notes = () if found is not None or label is None else (f'{name} has no targets: to train with labels give labels=…, or labels="items"',)
    order = torch.arange(len(dataset))
    fixed = None if statistics is None else (torch.tensor(statistics[0]), torch.tensor(statistics[1]))
    return TorchImages(name, dataset, order, checked, names, order, tuple(pixels.shape), notes, fixed)  # type: ignore[arg-type]


def _item(
    dataset: Any, index: int, seed: int, epoch: int, sample: int, name: str, channels: int | None = None
) -> tuple[Tensor, int | None]:
    """One item, read under its own seed → pixels uint8 ``c height width``, and the label if it is an integer."""
    try:
        with seeded(seed, epoch, sample):
            item = dataset[index]
    except Exception as error:  # with the traceback of the user's own code
        raise RuntimeError(f"image {index} of {name} cannot be read ({type(error).__name__}: {error})") from error
    image, label = (*item, None)[:2] if isinstance(item, tuple | list) and item else (item, None)
    whole = isinstance(label, int | np.integer) or (isinstance(label, Tensor) and label.dim() == 0 and not label.is_floating_point())
    return _pixels(image, f"image {index} of {name}", channels), int(label) if whole else None


def _pixels(image: Any, what: str, channels: int | None) -> Tensor:
    """What a transform returned → uint8 ``c height width``. Raises MinimaeError."""
    if hasattr(image, "getbands"):  # Pillow
        if image.mode[0] in "FI":
            raise MinimaeError(f"{what} has more than eight bits (mode {image.mode}): scale it to 0 … 255 in the transform")
        grey = channels == 1 or (channels is None and image.mode in GREY)
        array = np.array(image.convert("LA" if image.mode == "La" else image.mode).convert("L" if grey else "RGB"))
        return torch.from_numpy(array).reshape(image.height, image.width, -1).movedim(-1, 0)
    if not isinstance(image, Tensor) or image.dim() != 3 or not (image.dtype == torch.uint8 or image.is_floating_point()):
        given = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise MinimaeError(f"{what} is {given}: {WANTED}")
    image = image.detach().as_subclass(Tensor).cpu()
    if image.dtype == torch.uint8:
        return image
    low, high = image.aminmax()
    if not (low >= -1e-3 and high <= 1.001):
        raise MinimaeError(f"{what} has values from {low:.3g} to {high:.3g}: {WANTED}; leave Normalize out of the transform")
    return (image.float() * 255).round().clamp(0, 255).to(torch.uint8)


def _targets(dataset: Any) -> Any:
    """The ``targets`` of a dataset (a convention of torchvision), also of a Subset; None if it has none."""
    if isinstance(dataset, Subset):
        inner = _targets(dataset.dataset)
        return None if inner is None else [inner[i] for i in dataset.indices]
    targets, change = getattr(dataset, "targets", None), getattr(dataset, "target_transform", None)
    if targets is None or len(targets) != len(dataset):
        return None
    return targets if change is None else [change(target) for target in targets]
