"""Training and evaluation of a detector: joint changes of pictures and objects, the loss, and average precision by COCO's protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..data.instances import Instances
from ..data.joint import Sample, Views, batches
from ..data.objects import fitting_scale
from ..data.optional import need
from ..data.randaugment import mean_colour
from ..data.shapes import boxes_of
from ..data.types import Statistics
from ..devices import device_of
from ..errors import MinimaeError
from ..model.sizes import Size
from ..model.vit import Encoder
from ..train.checkpoint import load_checkpoint, load_weights
from ..train.loop import fit
from ..train.optim import adamw, layer_groups
from ..train.order import Order
from ..train.run import Callback
from ..train.settings import from_dict
from ..train.task import Result, Task
from .detect_recipe import Detect
from .detector import Detector
from .loading import LoaderConfig

WORTH_WORKERS = 300  # pictures with sides of this many pixels or more are read by worker processes


class DetectionBatch(NamedTuple):
    """A batch of pictures, and their objects in one list.

    pixels: uint8 ``b c height width``. counts: objects of each picture, int64 ``b``. boxes, labels, masks: float32 ``k 4``, int64 ``k``,
    uint8 ``k height width``. ids, epochs: int64 ``b``.
    """

    pixels: Tensor
    counts: Tensor
    boxes: Tensor
    labels: Tensor
    masks: Tensor
    ids: Tensor
    epochs: Tensor


def collated(samples: list[tuple[Any, dict[str, Tensor], int, int]]) -> DetectionBatch:
    """Samples of one size → a batch. Boxes surround what is left of the masks; objects with nothing left are dropped."""
    pictures, targets, ids, epochs = zip(*samples, strict=True)
    kept = [target["masks"].bool().flatten(1).any(1) for target in targets]
    labels, masks = (
        torch.cat([target[name][keep].as_subclass(Tensor) for target, keep in zip(targets, kept, strict=True)])
        for name in ("labels", "masks")
    )
    counts = torch.stack([keep.sum() for keep in kept])
    pixels = torch.stack([picture.as_subclass(Tensor) for picture in pictures])
    return DetectionBatch(pixels, counts, boxes_of(masks.bool()), labels, masks, torch.tensor(ids), torch.tensor(epochs))


def large_scale_jitter(recipe: Detect, fill: Sequence[int]) -> Callable[..., Sample]:
    """Change a picture and its objects for training: scale, crop or pad to the square, flip (as in ViTDet).

    fill: the colour of the padding, uint8. Boxes are cut to the picture, and those smaller than a pixel are dropped.
    """
    v2, tv = need("torchvision.transforms.v2", why="detection"), need("torchvision.tv_tensors", why="detection")
    square, fills = (recipe.image, recipe.image), {tv.Image: list(fill), "others": 0}
    steps = [Jitter(square, recipe.scale), v2.RandomCrop(square, pad_if_needed=True, fill=fills)]
    steps += [v2.RandomHorizontalFlip()] if recipe.flip else []
    return v2.Compose([*steps, v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes()])  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Jitter:
    """torchvision's ``ScaleJitter``, which fails for a long picture that becomes thinner than a pixel."""

    square: tuple[int, int]
    scale: tuple[float, float]

    def __call__(self, picture: Any, target: Any) -> Sample:
        by = fitting_scale(picture.shape[-2:], self.square) * (self.scale[0] + float(torch.rand(1)) * (self.scale[1] - self.scale[0]))
        size = [max(1, int(side * by)) for side in picture.shape[-2:]]
        return need("torchvision.transforms.v2", why="detection").Resize(size)(picture, target)  # type: ignore[no-any-return]


class DetectTask(Task):
    """The step of a detector: jitter, crop, flip, and the sum of Mask R-CNN's five losses; random by (seed, epoch, sample id)."""

    kind = "detect"
    model: Detector

    def __init__(self, recipe: Detect, dataset: Instances, statistics: Statistics, model: Detector, *, workers: int | None = None) -> None:
        super().__init__(model, dataset)
        self.recipe, self.statistics = recipe, statistics
        self.workers = LoaderConfig(workers=0 if workers is None and recipe.image < WORTH_WORKERS else workers).processes()

    def optimizer(self, lr: float) -> torch.optim.Optimizer:
        return adamw(layer_groups(self.model, self.recipe.weight_decay, self.recipe.layer_decay), lr, self.recipe.betas)

    def metadata(self) -> dict[str, Any]:
        about = {"size": asdict(self.model.encoder.size), "classes": list(self.dataset.classes), "data": self.dataset.name}
        return {**about, "statistics": self.statistics, **super().metadata()}

    def loader(self, order: Order) -> Iterator[Any]:
        views = Views(self.dataset, large_scale_jitter(self.recipe, mean_colour(self.statistics)), self.recipe.seed)
        return batches(views, order, workers=self.workers, device=device_of(self.model), collate=collated)

    def inputs(self, batch: Any) -> tuple[Tensor, ...]:
        return batch.pixels.float() / 255, batch.counts, batch.boxes, batch.labels, batch.masks

    def loss(self, model: nn.Module, *inputs: Tensor) -> Tensor:
        images, counts, *objects = inputs
        parts = [values.split(counts.tolist()) for values in objects]
        targets = [dict(zip(("boxes", "labels", "masks"), values, strict=True)) for values in zip(*parts, strict=True)]
        losses: dict[str, Tensor] = model(list(images), targets)
        return torch.stack(list(losses.values())).sum()


def train_detector(
    recipe: Detect, encoder: Encoder, images: Instances, statistics: Statistics, out: Path | None = None, *,
    resume: bool = False, quiet: bool = False, workers: int | None = None, callbacks: Sequence[Callback] = (),
) -> tuple[Detector, Result]:  # fmt: skip
    """Train a detector on a copy of an encoder → the detector of the last step.

    statistics: those that normalised the encoder's images. workers: processes that read pictures.
    """
    torch.manual_seed(recipe.seed)
    detector = Detector(encoder, len(images.classes), statistics, recipe).to(device_of(encoder))
    task = DetectTask(recipe, images, statistics, detector, workers=workers)
    result = fit(task, recipe, out, resume=resume, quiet=quiet, callbacks=callbacks)
    return task.model.eval(), result  # type: ignore[return-value]


def load_detector(path: Path) -> tuple[Detector, dict[str, Any]]:
    """The detector in a run's folder or checkpoint, and its metadata: settings, statistics, classes, data, step.

    Raises MinimaeError when the file is missing, damaged or from another task.
    """
    state = load_checkpoint(path, "detect")
    recipe, encoder = from_dict(Detect, state["settings"]), Encoder(from_dict(Size, state["size"]))
    detector = Detector(encoder, len(state["classes"]), state["statistics"], recipe)
    load_weights(detector, state["model"], path)
    return detector.eval(), {name: state[name] for name in ("settings", "statistics", "classes", "data", "step")}


@torch.no_grad()
def evaluate_detector(detector: Detector, images: Instances, *, say: Callable[[int], object] | None = None) -> dict[str, float]:
    """Average precision in percent by COCO's protocol, of boxes and of masks: {"box AP": …, "box AP50", "box AP75", "mask AP", …}.

    AP is the mean over ten thresholds of the overlap, 0.5 to 0.95, and over the classes that occur; at most 100 objects per picture
    count, and crowds do not. The calling process measures all. say: called after each with its number. Raises MinimaeError without objects.
    """
    precision = need("torchmetrics.detection", why="average precision").MeanAveragePrecision
    measure, objects = precision(iou_type=("bbox", "segm"), backend="pycocotools", sync_on_compute=False), 0
    for index in range(len(images)):
        target = images.target(index)
        objects += int((~target["crowd"]).sum())
        truth = {"boxes": target["boxes"], "labels": target["labels"], "masks": target["masks"].bool(), "iscrowd": target["crowd"].long()}
        measure.update([objects_in(detector, images.read(index), least=0.0)], [truth])
        if say is not None:
            say(index)
    if not objects:
        raise MinimaeError(f"{images.name} has no objects in {len(images)} test pictures, so there is no precision to measure")
    values = measure.compute()
    names, kinds = {"AP": "map", "AP50": "map_50", "AP75": "map_75"}, {"box": "bbox", "mask": "segm"}
    return {f"{kind} {name}": 100 * float(values[f"{kinds[kind]}_{names[name]}"]) for kind in kinds for name in names}


@torch.no_grad()
def objects_in(detector: Detector, picture: Tensor, *, least: float = 0.5) -> dict[str, Tensor]:
    """Objects in a picture uint8 ``c height width``: boxes ``k 4``, labels and scores ``k``, masks bool ``k height width``.

    least: the lowest score to keep; the highest score comes first.
    """
    detector.eval()
    found = detector([picture.to(device_of(detector)).float() / 255])[0]
    found["masks"] = found["masks"][:, 0] >= 0.5
    return {name: value[found["scores"] >= least].cpu() for name, value in found.items()}
