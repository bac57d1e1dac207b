"""What passes from the data to training: a batch of images, and the statistics they are normalised by."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

Statistics = tuple[Tensor, Tensor]  # mean and standard deviation per channel, of pixels in [0, 1]: float32 c


class Batch(NamedTuple):
    """Images of one forward pass: pixels uint8 ``b c height width``, labels int64 ``b`` or None, sample ids and epochs int64 ``b``.

    boxes: float32 ``b 4`` (top, left, height, width), what is shown of images that were cropped when they were read; None where the
    pixels are the whole images.
    """

    pixels: Tensor
    labels: Tensor | None
    ids: Tensor
    epochs: Tensor
    boxes: Tensor | None = None
