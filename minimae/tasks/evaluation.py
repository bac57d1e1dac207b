"""Evaluate a classifier on whole images: predictions, accuracy, and the files that list them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.augment import normalise
from ..data.files import resize
from ..data.images import Images
from ..data.types import ImageDataset, Statistics
from ..devices import device_of
from ..errors import MinimaeError, counted
from ..model.patches import pair
from ..train.distributed import all_reduce_mean, gather_rows, world
from ..train.precision import evaluating
from ..train.settings import Precision
from ..train.threads import inference
from .loading import DEFAULTS, LoaderConfig, chunks


def classes_of(images: ImageDataset) -> int:
    """The number of classes: as many as there are names, or as the labels need. Raises ValueError for a single one."""
    count = max(len(images.classes), 0 if images.labels is None else int(images.labels.max()) + 1)
    if count == 1:
        raise ValueError(f"all images of {images.name} are of one class: two or more are needed to learn to tell them apart")
    return count


def check_images(train: ImageDataset, test: ImageDataset, *, channels: int, labelled: bool = False) -> None:
    """Raises ValueError for images with a wrong number of channels, and for labels that are missing or differ between the two sets.

    labelled: whether accuracy will be measured. Sizes may differ: evaluation resizes images.
    """
    for split, images in (("training", train), ("test", test)):
        if images.channels != channels:
            raise ValueError(f"the {split} images of {images.name} have {counted(images.channels, 'channel')}; the model takes {channels}")
        if labelled and images.labels is None:
            raise ValueError(f"{images.name} has no labels; accuracy needs one folder per class")
    if not labelled or train is test or test.labels is None:
        return
    if train.classes != test.classes:
        differ = sorted(set(train.classes) ^ set(test.classes)) or ["none, but their order differs"]
        raise ValueError(f"the training and test images of {train.name} have other classes; only in one: {', '.join(differ[:10])}")
    if (largest := int(test.labels.max())) >= (count := classes_of(train)):
        raise ValueError(f"the test images of {test.name} have the label {largest}, and the training images only {count} classes, from 0")


@dataclass(frozen=True)
class Scores:
    """Top-1 and top-5 accuracy in percent (top-5 is None with five classes or fewer), mean cross-entropy, and the number of images."""

    top1: float
    top5: float | None
    loss: float
    images: int

    def __str__(self) -> str:
        return f"{self.top1:.2f} %" + ("" if self.top5 is None else f" (top-5 {self.top5:.2f} %)")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a classifier predicts for N images: ids and labels int64 ``N``; the k = 5 most probable classes (or all of fewer), best first,
    int64 ``N k``, with their probability ``N k``; the cross-entropy ``N``."""

    ids: Tensor
    labels: Tensor
    top: Tensor
    probability: Tensor
    losses: Tensor

    def gather(self) -> Predictions:
        """The predictions of all processes in the first one, and no rows in the others."""
        return Predictions(*(gather_rows(rows) for rows in (self.ids, self.labels, self.top, self.probability, self.losses)))


@torch.no_grad()
def logits_of(model: nn.Module, images: Images, statistics: Statistics, *, precision: Precision = "auto") -> Tensor:
    """Logits of images resized to the model's size: float32 ``N classes``, on the CPU. The model is put in eval mode.

    precision: on a GPU, as in training; on a CPU it is always float32.
    """
    model.eval()
    device, size = device_of(model), pair(model.encoder.size.image)  # type: ignore[union-attr, arg-type]
    logits = []
    for pixels in images.pixels.split(500):
        x = normalise(resize(pixels, size).to(device), statistics)
        with evaluating(device, precision):
            logits.append(model(x).float().cpu())
    return torch.cat(logits)


def predict(
    model: nn.Module, images: ImageDataset, statistics: Statistics, *, reading: LoaderConfig = DEFAULTS, precision: Precision = "auto"
) -> Predictions:
    """Predictions for labelled images. Several processes share the images; each returns its part."""
    k = min(5, head_size(model))
    floats, ints = torch.empty(0), torch.empty(0, dtype=torch.int64)
    parts = [(ints, ints, ints.view(0, k), floats.view(0, k), floats)]  # a process may have no images
    for part in chunks(images, reading, image=pair(model.encoder.size.image), share=True):  # type: ignore[union-attr, arg-type]
        if part.labels is None:
            raise ValueError(f"{images.name} has no labels; accuracy needs one folder per class")
        with inference(model):
            logits, labels = logits_of(model, part, statistics, precision=precision), part.labels.cpu()
        probability, top = logits.softmax(1).topk(k, dim=1)
        parts.append((part.ids.cpu(), labels, top, probability, F.cross_entropy(logits, labels, reduction="none")))
    return Predictions(*(torch.cat(rows) for rows in zip(*parts, strict=True)))


def head_size(model: nn.Module) -> int:
    return int(model.head.out_features)  # type: ignore[union-attr, arg-type]


def scores_of(model: nn.Module, predictions: Predictions) -> Scores:
    """Accuracy and loss over the images of all processes, the same in each."""
    right = predictions.top == predictions.labels[:, None]
    sums = right[:, 0].sum(), right.sum(), predictions.losses.double().sum(), len(right)
    top1, top5, loss, count = all_reduce_mean(*sums, device=device_of(model))
    return Scores(100 * top1 / count, 100 * top5 / count if head_size(model) > 5 else None, loss / count, round(count * world().size))


def evaluate(model: nn.Module, images: ImageDataset, statistics: Statistics, **options: Any) -> Scores:
    """Accuracy and loss of a classifier on labelled images; options as for :func:`predict`. Every process returns the same."""
    return scores_of(model, predict(model, images, statistics, **options))


def write_predictions(path: Path, predictions: Predictions, images: ImageDataset) -> None:
    """A CSV file with one line for each image, in order: sample id, where the image lies, label, the most probable classes.

    Raises MinimaeError when the file cannot be written.
    """
    head = ["id", "image", "label", "predicted", "probability"]
    head += [name for i in range(2, predictions.top.shape[1] + 1) for name in (f"top {i}", f"probability {i}")]
    index, rows = {int(number): i for i, number in enumerate(images.ids)}, []
    columns = (predictions.ids, predictions.labels, predictions.top, predictions.probability)
    for number, label, top, probability in zip(*(column.tolist() for column in columns), strict=True):
        best = [cell for c, share in zip(top, probability) for cell in (class_name(images, c), f"{share:.6f}")]
        rows.append([index[number], number, images.where(index[number]), class_name(images, label), *best])
    write_csv(path, [head, *(row[1:] for row in sorted(rows))])


def write_confusion(path: Path, predictions: Predictions, images: ImageDataset, classes: int) -> None:
    """A CSV file that counts images by class (rows) and predicted class (columns). Raises MinimaeError when it cannot be written."""
    counts = torch.bincount(predictions.labels * classes + predictions.top[:, 0], minlength=classes**2).view(classes, classes)
    names = [class_name(images, label) for label in range(classes)]
    write_csv(path, [["label \\ predicted", *names], *([name, *row] for name, row in zip(names, counts.tolist(), strict=True))])


def class_name(images: ImageDataset, label: int) -> str:
    return images.classes[label] if label < len(images.classes) else str(label)


def write_csv(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            csv.writer(file).writerows(rows)
    except OSError as error:
        raise MinimaeError(f"cannot write {path} ({error.strerror}); name another file") from None
