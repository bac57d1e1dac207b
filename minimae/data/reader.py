"""What a worker process does: a part of the plan → images from their files, with the crops that belong to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .access import SystemFailure
from .augment import Augmentation
from .decoding import Header, decode, read_header, scale_of
from .stream import ImageFiles
from .views import reduced, resize_on_host, view_boxes

MOST_IN_A_ROW = 100  # unreadable images one after another: then something else is wrong than an image
ROUND = 32  # padded sizes are multiples of this, so that the device meets few different ones

WorkerTransform = Callable[[Tensor, Tensor, Tensor], Tensor]  # crops uint8 b h w c, sample ids b, epochs b → crops that are changed further
Request = tuple[np.ndarray, np.ndarray]  # places int64 b, epochs int64 b


class RawBatch(NamedTuple):
    """What a worker hands over: ``b`` images, ``r`` views of each.

    pixels: uint8 ``b·r h w c`` cropped on the host, or ``b height width c`` padded for the device.
    boxes: float32 ``b·r 4`` in the whole images. inner, edges: float32 and int64 ``b·r 4``, in the pixels as they are handed over.
    skipped: images that could not be read and were replaced by the next, each with the reason.
    """

    pixels: Tensor
    boxes: Tensor
    inner: Tensor
    edges: Tensor
    labels: Tensor | None
    ids: Tensor
    epochs: Tensor
    skipped: tuple[str, ...]


class Failure(NamedTuple):
    """An image that cannot be read, and must not be replaced: the message of the error."""

    message: str


class Broken(Exception):
    """An image that cannot be read, and that must not be replaced."""


@dataclass(frozen=True)
class Reader(Dataset[Any]):
    """Reads parts of a plan; picklable, without state: what it reads is a function of the request."""

    stream: ImageFiles
    image: tuple[int, int]
    augmentation: Augmentation | None
    seed: int
    repeats: int = 1
    where: Literal["host", "device"] = "host"
    corrupt: Literal["error", "skip"] = "error"
    finish: WorkerTransform | None = None

    def __getitem__(self, request: Request) -> RawBatch | Failure:
        places, epochs = request[0].tolist(), torch.from_numpy(np.repeat(request[1], self.repeats))
        epochs = epochs * self.repeats + torch.arange(self.repeats).repeat(len(places))
        skipped: list[str] = []
        try:
            headers: list[Any] = []
            for i, place in enumerate(places):
                places[i], header = self._readable(place, self._open, skipped)
                headers.append(header)
            boxes = self._boxes(places, headers, epochs)
            shown = []
            for i, place in enumerate(places):
                rows = slice(i * self.repeats, (i + 1) * self.repeats)

                def show(at: int, first: int = place, i: int = i, rows: slice = rows) -> Any:
                    header = headers[i] if at == first else self._open(at)
                    if at != first:
                        boxes[rows] = self._boxes([at], [header], epochs[rows])
                    return self._show(header, boxes[rows].tolist())

                places[i], one = self._readable(place, show, skipped)
                headers[i] = None  # its bytes are not needed any more
                shown.append(one)
        except Broken as error:
            return Failure(str(error))
        index = torch.tensor(places).repeat_interleave(self.repeats)
        labels = None if self.stream.labels is None else self.stream.labels[index]
        inner, edges = (torch.tensor([x for one in shown for x in one[k]]) for k in (1, 2))
        pixels = self._together([one[0] for one in shown])
        ids = self.stream.ids[index]
        if self.finish is not None:
            pixels = self.finish(pixels, ids, epochs)
        return RawBatch(pixels, boxes, inner, edges, labels, ids, epochs, tuple(skipped))

    def _readable(self, place: int, read: Any, skipped: list[str]) -> tuple[int, Any]:
        """The first image from ``place`` on that can be read, and what ``read`` makes of it. Raises Broken."""
        for step in range(min(MOST_IN_A_ROW, len(self.stream))):
            at = (place + step) % len(self.stream)
            try:
                return at, read(at)
            except SystemFailure as error:
                raise Broken(str(error)) from None
            except MemoryError:
                raise
            except Exception as error:  # Pillow raises a dozen types for damaged files
                message = f"{self.stream.where(at)} cannot be read ({error})"
                if self.corrupt == "error":
                    remedy = "repair or remove it" if self.stream.span is None else "check the shards with minimae data verify"
                    raise Broken(f"{message}; {remedy}, or have such images replaced with --skip-corrupt") from None
                skipped.append(message)
        raise Broken(f"{min(MOST_IN_A_ROW, len(self.stream))} images in a row could not be read; the last: {skipped[-1]}")

    def _open(self, place: int) -> Header:
        return read_header(self.stream.bytes_of(place))

    def _boxes(self, places: list[int], headers: list[Header], epochs: Tensor) -> Tensor:
        """Boxes ``b·r 4`` of all views of these images, each in its own epoch."""
        sizes = torch.tensor([[h.height, h.width] for h in headers], dtype=torch.float32).repeat_interleave(self.repeats, 0)
        ids = self.stream.ids[torch.tensor(places)].repeat_interleave(self.repeats)
        return view_boxes(ids, sizes, epochs, image=self.image, augmentation=self.augmentation, seed=self.seed)

    def _show(self, header: Header, boxes: list[list[float]]) -> tuple[Any, list[list[float]], list[list[int]]]:
        """One image: what is handed over of its pixels, and where its views lie in them."""
        size, beyond = (header.height, header.width), self.augmentation is None
        # Training decodes no more than the smallest crop needs; evaluation decodes in full, to be exact.
        scale = 1 if beyond else min(scale_of(header, box[2], box[3], wanted=self.image) for box in boxes)
        picture = decode(header, scale, channels=self.stream.channels, bits=self.stream.bits)
        views = [reduced(box, size, scale, beyond=beyond) for box in boxes]
        if self.where == "host":
            crops = [_array(resize_on_host(picture, box, edges, self.image)) for box, edges in views]
            return crops, [box for box, _ in views], [edges for _, edges in views]
        top, left = (min(edges[k] for _, edges in views) for k in (0, 1))
        bottom, right = (max(edges[k] for _, edges in views) for k in (2, 3))
        pixels = _array(picture)[top:bottom, left:right]
        inner = [[box[0] - top, box[1] - left, box[2], box[3]] for box, _ in views]
        return pixels, inner, [[e[0] - top, e[1] - left, e[2] - top, e[3] - left] for _, e in views]

    def _together(self, shown: list[Any]) -> Tensor:
        """The images of a batch in one tensor."""
        if self.where == "host":
            return torch.from_numpy(np.stack([crop for crops in shown for crop in crops]))
        height, width = (-(-max(pixels.shape[k] for pixels in shown) // ROUND) * ROUND for k in (0, 1))
        padded = torch.empty(len(shown), height, width, self.stream.channels, dtype=torch.uint8)  # pixels beyond an image have weight 0
        for pixels, row in zip(shown, padded.numpy()):
            row[: pixels.shape[0], : pixels.shape[1]] = pixels
        return padded


def _array(picture: Any) -> np.ndarray:
    """A Pillow image in grey or RGB → uint8 ``h w c``."""
    array = np.asarray(picture)
    return array[:, :, None] if array.ndim == 2 else array
