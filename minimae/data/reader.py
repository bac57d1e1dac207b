"""Read the images of a batch and crop them: what a worker process does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import MinimaeError
from .augment import EVALUATION, Augmentation, crop_boxes, middle_boxes
from .decoding import Header, decode, read_header, scale_of
from .files import ImageFiles
from .torch_dataset import TorchImages
from .types import Batch, ImageDataset
from .views import resize_on_host

MOST_IN_A_ROW = 100  # if more images in a row cannot be read, something else is wrong
ROUND = 32  # padded sizes are multiples of this, so that the device meets few different ones

WorkerTransform = Callable[[Tensor, Tensor, Tensor], Tensor]  # crops uint8 b h w c, sample ids b, epochs b → changed crops
FromWorker = tuple[Batch, Tensor | None, tuple[str, ...]]  # views for the device, and the images that were replaced, with reasons
T = TypeVar("T")


@dataclass(frozen=True)
class Reader(Dataset[Any]):
    """Batches as a function of indices and epochs. MinimaeErrors are returned, not raised, because torch would add a traceback.

    With ``crop_on="device"`` a batch holds whole images, padded to one size, and ``views``, float32 ``b·r 8``: the box and the edges
    (see :mod:`.views`) of each of the ``r`` views in these pixels.
    """

    images: ImageDataset
    image: tuple[int, int]
    augmentation: Augmentation | None
    seed: int
    repeats: int = 1
    crop_on: Literal["host", "device"] = "host"
    skip_corrupt: bool = False
    transform: WorkerTransform | None = None

    def __getitem__(self, request: tuple[np.ndarray, np.ndarray]) -> FromWorker | MinimaeError:
        index, r = request[0].tolist(), self.repeats
        epochs = torch.from_numpy(request[1]).repeat_interleave(r) * r + torch.arange(r).repeat(len(index))
        skipped: list[str] = []
        try:
            read = self._transformed if isinstance(self.images, TorchImages) else self._cropped
            pixels, boxes, views = read(index, epochs, skipped)
        except MinimaeError as error:
            return error
        rows = torch.tensor(index).repeat_interleave(r)
        ids, labels = self.images.ids[rows], None if self.images.labels is None else self.images.labels[rows]
        if self.transform is not None:
            pixels = self.transform(pixels, ids, epochs)
        return Batch(rearrange(pixels, "b h w c -> b c h w"), labels, ids, epochs, boxes), views, tuple(skipped)

    def _transformed(self, index: list[int], epochs: Tensor, skipped: list[str]) -> tuple[Tensor, Tensor, None]:
        """Images from a user's dataset: pixels ``b·r h w c``, and boxes that cover all of each."""
        assert isinstance(self.images, TorchImages)
        every = [i for i in index for _ in range(self.repeats)]
        pixels = [self.images.item(i, self.seed, e, self.image) for i, e in zip(every, epochs.tolist(), strict=True)]
        return rearrange(torch.stack(pixels), "b c h w -> b h w c"), torch.tensor([[0.0, 0.0, *self.image]]).repeat(len(every), 1), None

    def _cropped(self, index: list[int], epochs: Tensor, skipped: list[str]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Crops ``b·r h w c``, or padded images ``b height width c``; boxes in the whole images ``b·r 4``; views for the device.

        If an image is replaced, its index changes too.
        """
        headers: list[Any] = []
        for row, wanted in enumerate(index):
            index[row], header = self._readable(wanted, self._open, skipped)
            headers.append(header)
        boxes, shown = self._boxes(index, headers, epochs), []  # of all images together, which is faster
        for row, wanted in enumerate(index):
            part = slice(row * self.repeats, (row + 1) * self.repeats)

            def show(at: int, wanted: int = wanted, row: int = row, part: slice = part) -> tuple[Any, list[list[float]]]:
                header = headers[row] if at == wanted else self._open(at)
                if at != wanted:  # the header was sound, but not the image
                    boxes[part] = self._boxes([at], [header], epochs[part])
                return self._show(header, boxes[part].tolist())

            index[row], crops = self._readable(wanted, show, skipped)
            headers[row] = None  # frees its bytes
            shown.append(crops)
        if self.crop_on == "host":
            return torch.from_numpy(np.stack([crop for crops, _ in shown for crop in crops])), boxes, None
        return self._padded([pixels for pixels, _ in shown]), boxes, torch.tensor([view for _, views in shown for view in views])

    def _readable(self, wanted: int, read: Callable[[int], T], skipped: list[str]) -> tuple[int, T]:
        """Apply ``read`` to the first readable image from ``wanted`` on; → its index and the result. Raises MinimaeError."""
        most = min(MOST_IN_A_ROW, len(self.images))
        for at in ((wanted + step) % len(self.images) for step in range(most)):
            try:
                return at, read(at)
            except (MinimaeError, MemoryError):
                raise
            except Exception as error:  # Pillow raises a dozen types for damaged files
                message = f"{self.images.where(at)} cannot be read ({error})"
                if not self.skip_corrupt:
                    packed = isinstance(self.images, ImageFiles) and self.images.path_of(at).suffix == ".tar"
                    remedy = "check the shards with minimae data verify" if packed else "repair or remove it"
                    raise MinimaeError(f"{message}; {remedy}, or have such images replaced with --skip-corrupt") from None
                skipped.append(message)
        raise MinimaeError(f"{most} images in a row could not be read; the last: {skipped[-1]}")

    def _open(self, index: int) -> Header:
        if isinstance(self.images, ImageFiles):
            return read_header(self.images.bytes_of(index))
        from PIL import Image

        pixels = self.images.read(index)
        if (count := len(pixels)) not in (1, 3):
            raise MinimaeError(f"{self.images.name}: 1 or 3 channels are read one by one, not {count}: use from_array or from_dataset")
        array = pixels[0] if len(pixels) == 1 else pixels.movedim(0, -1)
        height, width = array.shape[:2]
        return Header(Image.fromarray(array.numpy(force=True)), height, width, turn=1, plain=False, bits=None)

    def _boxes(self, index: list[int], headers: list[Header], epochs: Tensor) -> Tensor:
        """Boxes ``b·r 4`` of all views of these images, each in its own epoch."""
        sizes = torch.tensor([[h.height, h.width] for h in headers], dtype=torch.float32).repeat_interleave(self.repeats, 0)
        ids = self.images.ids[torch.tensor(index)].repeat_interleave(self.repeats)
        if self.augmentation is None:
            return middle_boxes(sizes, self.image, share=EVALUATION)
        return crop_boxes(ids, sizes, self.augmentation, seed=self.seed, epoch=epochs, size=self.image)

    def _show(self, header: Header, boxes: list[list[float]]) -> tuple[Any, list[list[float]]]:
        """One image → its crops; or, for the device, the part that covers all crops, and the box and edges of each in this part."""
        size, beyond, channels = (header.height, header.width), self.augmentation is None, self.images.channels
        # Training decodes no more than the smallest crop needs; evaluation decodes in full, to be exact.
        scale = 1 if beyond else min(scale_of(header, box[2], box[3], wanted=self.image) for box in boxes)
        picture = decode(header, scale, channels=channels, bits=getattr(self.images, "bits", None))
        views = [reduced(box, size, scale, beyond=beyond) for box in boxes]
        if self.crop_on == "host":
            crops = (resize_on_host(picture, box, edges, self.image) for box, edges in views)
            return [np.asarray(crop).reshape(*self.image, channels) for crop in crops], []
        top, left = (min(edges[k] for _, edges in views) for k in (0, 1))
        bottom, right = (max(edges[k] for _, edges in views) for k in (2, 3))
        pixels = np.asarray(picture).reshape(picture.height, picture.width, channels)[top:bottom, left:right]
        return pixels, [([*box, *edges] - np.array([top, left, 0, 0, top, left, top, left])).tolist() for box, edges in views]

    def _padded(self, images: list[np.ndarray]) -> Tensor:
        """Images ``height width c`` of several sizes → one tensor. The padding is left unset, because it gets no weight."""
        height, width = (-(-max(pixels.shape[k] for pixels in images) // ROUND) * ROUND for k in (0, 1))
        padded = torch.empty(len(images), height, width, self.images.channels, dtype=torch.uint8)
        for pixels, row in zip(images, padded.numpy()):
            row[: pixels.shape[0], : pixels.shape[1]] = pixels
        return padded


def reduced(box: list[float], size: tuple[int, int], scale: int, *, beyond: bool) -> tuple[list[float], list[int]]:
    """A box in an image of ``size`` → box and edges in the image reduced by ``scale``. beyond: resizing may use the whole image."""
    height, width = (-(-side // scale) for side in size)
    top, left, tall, wide = (x / scale for x in box)
    if beyond:
        return [top, left, tall, wide], [0, 0, height, width]
    bottom, right = min(height, ceil(top + tall)), min(width, ceil(left + wide))
    return [top, left, tall, wide], [int(top), int(left), bottom, right]
