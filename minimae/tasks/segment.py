"""Train a segmenter, and measure it: intersection over union of every class, over the pixels of all images together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.augment import normalise
from ..data.joint import Views, batches, scale_crop_flip
from ..data.optional import need
from ..data.randaugment import mean_colour
from ..data.segmentation import IGNORE, Segmentation
from ..data.types import Batch, Statistics
from ..devices import device_of
from ..model.patches import Pair, pair
from ..model.sizes import Size, block_flops, flops
from ..model.vit import Encoder
from ..train.checkpoint import load_checkpoint, load_weights
from ..train.distributed import world
from ..train.loop import fit
from ..train.optim import adamw, layer_groups
from ..train.order import Order
from ..train.precision import evaluating
from ..train.run import Callback
from ..train.settings import Precision, Settings, from_dict
from ..train.task import Result, Task
from ..train.threads import inference
from .segmenter import Head, Segmenter, pixel_loss, sliding
from .watch import Log, Validation


@dataclass(frozen=True, kw_only=True)
class Segment(Settings):
    """All settings of a segmentation run. The defaults suit small encoders and a few hundred pictures."""

    batch: int = 16
    epochs: float = 30.0
    warmup_epochs: float = 3.0
    base_lr: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    head: Head = "mask"
    """mask: a token for each class, two more blocks, and dot products. linear: one linear layer for each patch."""
    layer_decay: float = 0.75
    """The learning rate shrinks by this factor from each layer to the one below it; 1 gives all layers the same."""
    drop_path: float = 0.1
    """How often the last block is skipped in training; earlier blocks less often, the first never."""
    image: int | Pair | None = None
    """Height and width of training crops, in pixels. In evaluation, pictures are resized to the same shorter side. None keeps
    the encoder's."""
    scale: tuple[float, float] = (0.5, 2.0)
    """The shorter side of a picture before it is cropped, as a share of the crop's shorter side; uniform between the two."""
    flip: bool = True
    """Mirror pictures left to right, at random."""
    frozen: bool = False
    """Train the head alone."""
    recompute: bool = False
    """Gradient checkpointing: compute each block again in the backward pass, for large pictures."""
    evaluate: Literal["whole", "sliding"] = "whole"
    """Show whole pictures to the model, or windows of the size of the crops, and take the mean of their logits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for wrong, message in (
            (self.repeats > 1, "--repeats is for pre-training and fine-tuning: segmentation takes one view of each picture"),
            (not 0 < self.scale[0] <= self.scale[1], f"scale takes two positive numbers, the smaller first (as 0.5 2), not {self.scale}"),
            (not 0 <= self.drop_path < 1, f"drop_path is a share in [0, 1) (0.1 is usual), not {self.drop_path}"),
            (not 0 < self.layer_decay <= 1, f"layer_decay is a factor in (0, 1], not {self.layer_decay}"),
            (self.head not in ("mask", "linear"), f"head is 'mask' or 'linear', not {self.head!r}"),
            (self.evaluate not in ("whole", "sliding"), f"evaluate is 'whole' or 'sliding', not {self.evaluate!r}"),
        ):
            if wrong:
                raise ValueError(message)

    def step_flops(self, size: Size) -> int:
        """Operations for a training picture: three forward passes through the parts that learn. Class tokens are not counted."""
        encoder, t = flops(size, None), 1 + size.grid[0] * size.grid[1]
        head = 2 * block_flops(t, size.width) if self.head == "mask" else 0
        return 3 * head + (encoder.forward if self.frozen else encoder.step)


@dataclass
class SegmentTask(Task):
    """The step: scale, crop and flip picture and mask together, normalise, and the cross-entropy of the pixels that count."""

    recipe: Segment
    dataset: Segmentation
    statistics: Statistics
    model: Segmenter
    workers: int = field(default=0, kw_only=True)
    kind: str = field(default="segment", init=False)

    def __post_init__(self) -> None:
        self.fill = mean_colour(self.statistics)
        mean, std = self.statistics
        self.statistics = mean.to(device_of(self.model)), std.to(device_of(self.model))

    def optimizer(self, lr: float) -> torch.optim.Optimizer:
        return adamw(layer_groups(self.model, self.recipe.weight_decay, self.recipe.layer_decay), lr, self.recipe.betas)

    def metadata(self) -> dict[str, Any]:
        about = {"classes": list(self.dataset.classes), "size": asdict(self.model.encoder.size), "data": self.dataset.name}
        return {**about, "statistics": tuple(x.cpu() for x in self.statistics), **super().metadata()}

    def loader(self, order: Order) -> Iterator[Batch]:
        r = self.recipe
        change = scale_crop_flip(pair(self.model.encoder.size.image), scale=r.scale, flip=r.flip, fill=self.fill, ignore=IGNORE)
        return batches(Views(self.dataset, change, r.seed), order, workers=self.workers, device=device_of(self.model))

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        assert batch.labels is not None
        return normalise(batch.pixels, self.statistics), batch.labels.long()

    def loss(self, model: nn.Module, *inputs: Tensor) -> Tensor:
        images, labels = inputs
        return pixel_loss(model(images), labels, IGNORE)


def segment(
    recipe: Segment, encoder: Encoder, images: Segmentation, statistics: Statistics, out: Path | None = None, *,
    resume: bool = False, quiet: bool = False, workers: int = 0, callbacks: Sequence[Callback] = (),
) -> tuple[Segmenter, Result]:  # fmt: skip
    """Train a segmenter on a copy of an encoder; → the segmenter of the last step. workers: processes that read pictures."""
    if recipe.shard and world().size > 1 and any(isinstance(callback, IoUValidation) for callback in callbacks):
        raise ValueError("validation needs a whole model in every process: leave out --shard, or --validation")
    torch.manual_seed(recipe.seed)
    model = build(recipe, encoder, len(images.classes)).to(device_of(encoder))
    task = SegmentTask(recipe, images, statistics, model, workers=workers)
    result = fit(task, recipe, out, resume=resume, quiet=quiet, callbacks=callbacks)
    return task.model, result


def build(recipe: Segment, encoder: Encoder, classes: int) -> Segmenter:
    """The segmenter of a recipe, with a fresh head."""
    given: dict[str, Any] = {name: getattr(recipe, name) for name in ("head", "image", "drop_path", "frozen", "recompute")}
    return Segmenter(encoder, classes, **given)


@dataclass(frozen=True)
class IoU:
    """Intersection over union in percent: of each class (nan for a class in neither masks nor predictions) and their mean.

    pixels: the share of pixels with the right class, in percent. images: how many were measured.
    """

    mean: float
    classes: tuple[float, ...]
    pixels: float
    images: int

    def __str__(self) -> str:
        return f"mean IoU {self.mean:.1f} %, pixel accuracy {self.pixels:.1f} %"


@torch.no_grad()
def predict(
    model: Segmenter, pixels: Tensor, statistics: Statistics, *, how: Literal["whole", "sliding"] = "whole", precision: Precision = "auto"
) -> Tensor:
    """The class of every pixel of a picture of any size: uint8 ``c height width`` → int64 ``height width``, on the CPU.

    The picture is resized until its shorter side is that of the training crops, and the logits are resized back.
    """
    model.eval()
    v2, device, window = need("torchvision.transforms.v2.functional", why="resizing"), device_of(model), pair(model.encoder.size.image)
    images = normalise(v2.resize(pixels, [min(window)], antialias=True)[None].to(device), statistics)
    with evaluating(device, precision):
        logits = model(images) if how == "whole" else sliding(model, images, window)
    return F.interpolate(logits.float(), size=pixels.shape[-2:], mode="bilinear", align_corners=False)[0].argmax(0).cpu()


def evaluate(model: Segmenter, images: Segmentation, statistics: Statistics, **options: Any) -> IoU:
    """Intersection over union on masks at their own size; options as for :func:`predict`. Several processes share the images.

    Raises ValueError when no pixel of the masks counts.
    """
    metrics = need("torchmetrics.classification", why="mean IoU")
    given: dict[str, Any] = {"ignore_index": IGNORE, "zero_division": float("nan"), "sync_on_compute": False}
    metric = metrics.MulticlassJaccardIndex(len(images.classes), average="none", **given)
    with inference(model):
        for index in range(world().rank, len(images), world().size):
            picture, mask = images.sample(index)
            metric.update(predict(model, picture.as_subclass(Tensor), statistics, **options)[None], mask.as_subclass(Tensor)[None].long())
    with metric.sync_context():  # the pixels of all processes
        counts, values = metric.confmat.double(), metric.compute().double()
    if not counts.sum():
        raise ValueError(f"all pixels of the {len(images)} masks of {images.name} are ignored: there is nothing to measure")
    right = 100 * float(counts.diagonal().sum() / counts.sum())
    return IoU(100 * float(values.nanmean()), tuple((100 * values).tolist()), right, len(images))


@dataclass(eq=False)
class IoUValidation(Validation):
    """A callback: mean IoU on ``images`` once an epoch; the best weights go to ``best.pt`` in ``out``."""

    images: Any
    judged_by = "validation_iou"

    def measure(self, task: Any, model: Any) -> Log:
        score = evaluate(model, self.images, task.statistics, how=task.recipe.evaluate, precision=task.recipe.precision)
        return {"validation_iou": score.mean, "validation_pixels": score.pixels}


def load_segmented(path: Path) -> tuple[Segmenter, dict[str, Any]]:
    """The segmenter in a run folder or checkpoint, and its metadata (settings, statistics, classes, data, step).

    Raises MinimaeError when the file is missing, damaged or from another task.
    """
    state = load_checkpoint(path, "segment")
    model = build(from_dict(Segment, state["settings"]), Encoder(from_dict(Size, state["size"])), len(state["classes"]))
    load_weights(model, state.pop("model"), path)
    return model.eval(), {name: state[name] for name in ("settings", "statistics", "classes", "data", "step")}
