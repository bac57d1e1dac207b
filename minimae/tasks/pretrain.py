"""Pre-training: the recipe and the step (paper, Section 3 and Table 8)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..data.augment import Augmentation, augmented, normalise
from ..data.types import Batch, ImageDataset
from ..devices import device_of
from ..model.mae import MAE
from ..model.patches import Pair, pair, patchify
from ..model.sizes import Size, size
from ..model.targets import PCATarget
from ..model.units import PartialMask, make_partial_mask, predicted_count
from ..train.distributed import broadcast_tensors, world
from ..train.loop import fit
from ..train.loss_bands import Expectation
from ..train.order import Order
from ..train.run import Callback
from ..train.settings import Settings
from ..train.task import Result, Task
from .expected import baseline_loss, reference
from .loading import DEFAULTS, LoaderConfig, augmentation_of, batches, some
from .pretrained import Pretrained, rebuild, tensors_of

__all__ = [
    "Pretrain", "PretrainTask", "Pretrained", "baseline_loss", "build", "pretrain", "rebuild",
    "tensors_of",
]  # fmt: skip

MOST_PATCHES = 4096  # of an image whose size was not given; the paper has 196
# Fields of a Size that a recipe may change.
OVERRIDES = ("image", "patch", "width", "depth", "heads", "decoder_width", "decoder_depth", "decoder_heads", "class_tokens")


@dataclass(frozen=True, kw_only=True)
class Pretrain(Settings):
    """All settings of a pre-training run."""

    data: str = "fashion"
    """A dataset by name, or a folder of images."""
    size: str = "nano"
    """A named size; the fields below override parts of it."""
    image: int | Pair | None = None
    """Height and width in pixels, one number or two; None takes the dataset's."""
    patch: int | Pair | None = None
    """Height and width of a patch in pixels; it must divide the image."""
    width: int | None = None
    """Channels of a token in the encoder; a multiple of its heads."""
    depth: int | None = None
    """Blocks of the encoder."""
    heads: int | None = None
    """Attention heads of the encoder."""
    decoder_width: int | None = None
    """Channels of a token in the decoder."""
    decoder_depth: int | None = None
    """Blocks of the decoder."""
    decoder_heads: int | None = None
    """Attention heads of the decoder."""
    class_tokens: int | None = None
    """Class tokens: one in the paper."""
    channels: int | None = None
    """1 (grey) or 3 (colour): images are converted; None takes the dataset's."""
    init: str | None = None
    """Trained weights to start from: a name, a run, or a file, ours or another library's. The encoder must have this recipe's size."""
    init_decoder: bool = True
    """With --init, take the decoder too if it fits; otherwise it starts fresh. A line is printed."""
    ratio: float = 0.75
    """Share of the patches that are hidden, between 0 and 1."""
    sampling: Literal["random", "block", "grid"] = "random"
    """Which patches are hidden: random ones, large blocks, or all but a regular grid."""
    unit: int = 1
    """Hide or keep squares of unit × unit patches whole: 2 or 4 in a later work, Pixio."""
    predict: float = 1.0
    """Share of the hidden patches that is predicted, different ones in each epoch: faster. A third in a later work, CrossMAE."""
    target: Literal["pixels", "normalised", "pca"] = "normalised"
    """What to predict for a hidden patch: its pixels, its pixels normalised by their own mean and standard deviation, or the principal
    components of its pixels. Losses of different targets cannot be compared."""
    loss_on: Literal["masked", "all"] = "masked"
    """Compute the loss on the hidden patches, or on all."""
    mask_tokens_in_encoder: bool = False
    """Give the encoder a mask token for each hidden patch, instead of leaving these patches out: slower, and worse in the paper."""
    crop: tuple[float, float] | None = (0.2, 1.0)
    """Share of the area that a random crop keeps; None takes the whole image."""
    fixed_crop: float | None = None
    """Instead, a square crop of fixed size at a random position: its side as a share of the shorter side of the image (0.875)."""
    jitter: float = 0.0
    """How far brightness, contrast, saturation and hue move at random; 0.4 is usual, 0 is the paper's choice."""
    flip: bool = True
    """Mirror images left to right, at random."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in OVERRIDES:
            value = getattr(self, name)
            if value is not None and min(pair(value)) < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if self.predict != 1 and self.loss_on == "all":
            raise ValueError(f"loss_on='all' predicts every patch, so predict cannot be {self.predict}")
        _ = self.augmentation  # its constructor checks the fields

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(scale=self.crop, flip=self.flip, fixed=self.fixed_crop, jitter=self.jitter)

    def size_for(self, images: ImageDataset) -> Size:
        """The resolved size for these images. Without ``image`` it is their own size or, if that varies, the usual size for photographs.

        Raises ValueError when patch, image or widths do not fit together, and when ``image`` has to be given.
        """
        if self.image is not None:
            return self.size_at(self.image, images.channels)
        default = size(self.size)
        image = images.image or default.image
        if images.image is None and min(pair(image)) < 224:
            raise ValueError(f"the pictures of {images.name} have several sizes: give the model's size in pixels, for example --image 96")
        (height, width), (p1, p2) = pair(image), pair(self.patch or default.patch)
        if (count := (height // p1) * (width // p2)) > MOST_PATCHES:  # unresized photographs
            raise ValueError(
                f"images of {height}×{width} pixels would be {count:,} patches of {p1}×{p2}, too many to attend to: give the size in "
                "pixels that the model takes, for example --image 96 (or image= in the recipe)"
            )
        return self.size_at(image, images.channels)

    def size_at(self, image: int | Pair, channels: int) -> Size:
        """The resolved size for images of these pixels (unless the recipe has its own) and channels. Raises the same errors."""
        changes: dict[str, Any] = {name: value for name in OVERRIDES if (value := getattr(self, name)) is not None}
        resolved = size(self.size, **{"image": image, **changes, "channels": channels})
        predicted_count(resolved.grid, ratio=self.ratio, unit=self.unit, share=self.predict)
        return resolved

    def mae(self, size: Size) -> MAE:
        """A model of this size with the recipe's target, loss and use of mask tokens, initialised from torch's generator."""
        return MAE(size, target=self.target, loss_on=self.loss_on, mask_tokens_in_encoder=self.mask_tokens_in_encoder)


@dataclass
class PretrainTask(Task):
    """The step of pre-training: crop, flip, normalise, mask, loss. Random choices depend on (seed, epoch, sample id)."""

    recipe: Pretrain
    dataset: ImageDataset
    model: MAE
    reading: LoaderConfig = field(default_factory=LoaderConfig, kw_only=True)
    kind: str = field(default="pretrain", init=False)

    def __post_init__(self) -> None:
        self.settings = self.recipe
        mean, std = self.dataset.statistics
        self.statistics = mean.to(device_of(self.model)), std.to(device_of(self.model))
        self.image = pair(self.model.size.image)
        self.augmentation = augmentation_of(self.dataset, self.recipe.augmentation)

    def metadata(self) -> dict[str, Any]:
        about = {"size": asdict(self.model.size), "statistics": tuple(x.cpu() for x in self.statistics), "data": self.dataset.name}
        return {**about, **super().metadata()}

    def loader(self, order: Order) -> Iterator[Batch]:
        options: dict[str, Any] = {"image": self.image, "augmentation": self.augmentation, "device": device_of(self.model)}
        return batches(self.dataset, order, self.reading, **options, seed=self.recipe.seed, repeats=self.recipe.repeats)

    def expected(self) -> Expectation | None:
        """The expected loss, only in the process that writes the log; the others need not read images for it."""
        if not world().main:
            return None
        r, reading = self.recipe, self.reading
        curve = None if r.init or (r.unit, r.predict) != (1, 1) else reference(r, self.model.size, self.dataset.name, self.images)
        baseline = baseline_loss(self.model, self.dataset, skip_corrupt=reading.skip_corrupt, workers=reading.processes())
        given: dict[str, Any] = {"target": r.target, "values": self.model.target.values, "ratio": r.ratio, "baseline": baseline}
        given |= {} if curve is None else {"curve": curve.points, "tolerance": curve.tolerance}
        return Expectation(**given, warmup=r.warmup_epochs * self.images)

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        r = self.recipe
        images = augmented(batch, self.augmentation, seed=r.seed, size=self.image)
        given: dict[str, Any] = {name: getattr(r, name) for name in ("ratio", "sampling", "seed", "unit", "predict")}
        mask = make_partial_mask(batch.ids, self.model.size.grid, epoch=batch.epochs, **given)
        return normalise(images, self.statistics), mask.keep, mask.masked

    def loss(self, model: nn.Module, *inputs: Tensor) -> Tensor:
        images, keep, masked = inputs
        loss: Tensor = model(images, PartialMask(keep, masked, self.model.size.grid[0] * self.model.size.grid[1])).loss
        return loss


def build(recipe: Pretrain, images: ImageDataset, *, skip_corrupt: bool = False, workers: int = 0) -> MAE:
    """A freshly initialised MAE for a recipe and its images; weights depend on the recipe's seed alone.

    A PCA target is fitted to images: the first of several processes reads them (with ``workers``) and sends the result to the others.
    """
    torch.manual_seed(recipe.seed)
    model = recipe.mae(recipe.size_for(images))
    if isinstance(model.target, PCATarget):
        if world().main:
            sample = some(images, 2000, image=pair(model.size.image), skip_corrupt=skip_corrupt, workers=workers).pixels
            model.target.fit(patchify(normalise(sample, images.statistics), model.size.patch))
        broadcast_tensors(*model.target.buffers())
    return model


def pretrain(
    recipe: Pretrain,
    images: ImageDataset,
    out: Path | None = None,
    *,
    resume: bool = False,
    device: str = "cpu",
    quiet: bool = False,
    reading: LoaderConfig = DEFAULTS,
    start: Callable[[MAE], str] | None = None,
    callbacks: Sequence[Callback] = (),
) -> tuple[MAE, Result]:
    """Pre-train on images (labels are not used); → the model and how the run went.

    start: copies trained weights into the fresh model and returns a text to print. A recipe with ``init`` needs it:
    ``start=minimae.weights.start.starter(recipe, images)``. A resumed run takes all weights from its checkpoint and never calls it.
    callbacks: see :mod:`minimae.tasks.watch`.
    Raises ValueError for a recipe with ``init`` and no ``start``, or the reverse.
    """
    if (recipe.init is None) != (start is None) and not resume:
        needs = "needs start=minimae.weights.start.starter(recipe, images)" if start is None else "does not name the weights of start="
        raise ValueError(f"a recipe with init={recipe.init!r} {needs}")
    model = build(recipe, images, skip_corrupt=reading.skip_corrupt, workers=reading.processes())
    if start is not None and not resume:
        text = start(model)
        if world().main and not quiet:
            print(text)
    task = PretrainTask(recipe, images, model.to(device), reading=reading)
    result = fit(task, recipe, out, resume=resume, quiet=quiet, callbacks=callbacks)
    return task.model, result
