"""Pre-training: the step and the run (paper, Section 3 and Table 8)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data.augment import augmented, normalise
from ..data.types import Batch, ImageDataset
from ..devices import device_of
from ..model.mae import MAE
from ..model.patches import pair, patchify
from ..model.targets import PCATarget
from ..model.units import PartialMask, make_partial_mask
from ..train.distributed import broadcast_tensors, world
from ..train.loop import fit
from ..train.loss_bands import Expectation
from ..train.order import Order
from ..train.run import Callback
from ..train.task import Result, Task
from .expected import baseline_loss, reference
from .loading import DEFAULTS, LoaderConfig, augmentation_of, batches, some
from .pretrain_recipe import Pretrain
from .pretrained import Pretrained, rebuild, tensors_of

__all__ = ["Pretrain", "PretrainTask", "Pretrained", "baseline_loss", "build", "pretrain", "rebuild", "tensors_of"]


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
        r, reading = replace(self.recipe, batch=self.recipe.batch * world().size), self.reading  # as one process would run it
        curve = None if r.init or (r.unit, r.predict) != (1, 1) else reference(r, self.model.size, self.dataset.name, self.images)
        baseline = baseline_loss(self.model, self.dataset, skip_corrupt=reading.skip_corrupt, workers=reading.processes())
        given: dict[str, Any] = {"target": r.target, "values": self.model.target.values, "ratio": r.ratio, "baseline": baseline}
        given |= {} if curve is None else {"curve": curve.points, "tolerance": curve.tolerance}
        return Expectation(**given, warmup=r.warmup_epochs * self.images)

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        images = augmented(batch, self.augmentation, seed=self.recipe.seed, size=self.image)
        given: dict[str, Any] = {name: getattr(self.recipe, name) for name in ("ratio", "sampling", "seed", "unit", "predict")}
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
    recipe: Pretrain, images: ImageDataset, out: Path | None = None, *, resume: bool = False, device: str = "cpu", quiet: bool = False,
    reading: LoaderConfig = DEFAULTS, start: Callable[[MAE], str] | None = None, callbacks: Sequence[Callback] = (),
) -> tuple[MAE, Result]:  # fmt: skip
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
