"""Evaluate a classifier on whole images: in the precision of training on a GPU, in float32 on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..data.augment import normalise
from ..data.files import resize
from ..data.images import Images
from ..data.types import ImageDataset, Statistics
from ..devices import device_of
from ..model.patches import pair
from ..train.distributed import all_reduce_mean
from ..train.precision import evaluating
from ..train.settings import Precision
from ..train.threads import inference
from .loading import DEFAULTS, LoaderConfig, chunks


@torch.no_grad()
def classify(model: nn.Module, images: Images, statistics: tuple[Tensor, Tensor], *, precision: Precision = "auto") -> Tensor:
    """The predicted class of each image, resized for evaluation to the model's size: int64 ``N``, on the CPU.

    precision: of the model on a GPU, as in training; on a CPU it is float32.
    """
    model.eval()
    device, size = device_of(model), pair(model.encoder.size.image)  # type: ignore[union-attr, arg-type]
    found = []
    for pixels in images.pixels.split(500):
        x = normalise(resize(pixels, size).to(device), statistics)
        with evaluating(device, precision):
            found.append(model(x).argmax(1).cpu())
    return torch.cat(found)


def finetuned_accuracy(
    model: nn.Module, images: ImageDataset, statistics: Statistics, *, reading: LoaderConfig = DEFAULTS, precision: Precision = "auto"
) -> float:
    """Top-1 accuracy in percent, in the ``precision`` of :func:`classify`. Several processes share the images; all return the result."""
    right = total = 0
    for part in chunks(images, reading, image=pair(model.encoder.size.image), share=True):  # type: ignore[union-attr, arg-type]
        assert part.labels is not None
        with inference(model):
            right += int((classify(model, part, statistics, precision=precision) == part.labels.cpu()).sum())
        total += len(part)
    share, count = all_reduce_mean(right, total, device=device_of(model))
    return 100 * share / count
