"""Fine-tuning: the decoder is dropped, and the whole encoder learns the labels (paper, Section 4 and Table 9)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.augment import Augmentation, augmented, normalise
from ..data.files import ImageFiles
from ..data.mixing import draw_one_share, draw_shares, erase, folded, mix_images, soft_cross_entropy, soft_targets
from ..data.randaugment import RandAugment, mean_colour
from ..data.types import Batch, ImageDataset, Statistics
from ..devices import device_of
from ..model.patches import Pair, pair
from ..model.sizes import Size
from ..model.vit import Encoder
from ..train.checkpoint import load_checkpoint, load_weights
from ..train.distributed import world
from ..train.ema import Averaged
from ..train.loop import fit
from ..train.optim import adamw, layer_groups
from ..train.order import Order
from ..train.run import Callback
from ..train.settings import from_dict
from ..train.task import Result, Task
from .evaluation import classes_of
from .finetune_recipe import Finetune
from .loading import DEFAULTS, LoaderConfig, augmentation_of, batches
from .partial import at_image, freeze
from .watch import Validation

__all__ = ["Classifier", "Finetune", "FinetuneTask", "classes_of", "finetune", "load_finetuned"]


class Classifier(nn.Module):
    """An encoder, the mean of its patch tokens (the class token is left out), a norm, and a linear head.

    Images ``b c height width`` → logits ``b classes``. The encoder's own last norm is replaced by one after the mean.
    image: its size in pixels, by default the encoder's. tune: how many of the last blocks learn (:func:`minimae.tasks.partial.freeze`),
    by default all. pool: the mean, or the class token (for classifiers from other libraries).
    """

    def __init__(
        self, encoder: Encoder, classes: int, *, drop_path: float = 0.0, image: int | Pair | None = None, tune: float | None = None,
        pool: Literal["mean", "class"] = "mean",
    ) -> None:  # fmt: skip
        super().__init__()
        self.pool = pool
        self.encoder = copy.deepcopy(encoder) if image is None else at_image(encoder, image)
        self.encoder.norm = nn.Identity()  # type: ignore[assignment]
        self.encoder.mask_token = None
        self.encoder.requires_grad_(True)
        self.encoder.spread_drop_path(drop_path)
        d = encoder.size.width
        self.norm = nn.LayerNorm(d, eps=encoder.size.eps)
        self.head = nn.Linear(d, classes)
        nn.init.trunc_normal_(self.head.weight, std=2e-5)
        nn.init.zeros_(self.head.bias)
        self.frozen = [] if tune is None else freeze(self.encoder, tune)

    def train(self, mode: bool = True) -> nn.Module:  # type: ignore[override]  # as text it could not stand in a notebook
        """As usual, but frozen parts stay in eval mode."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.encoder(images)
        c = self.encoder.size.class_tokens
        logits: Tensor = self.head(self.norm((tokens[:, c:] if self.pool == "mean" else tokens[:, :c]).mean(1)))
        return logits


@dataclass
class FinetuneTask(Task):
    """The step of fine-tuning: crop, RandAugment, flip, normalise, erase, mix, classify; random by (seed, epoch, sample id)."""

    recipe: Finetune
    dataset: ImageDataset
    statistics: Statistics
    model: Classifier | Averaged
    reading: LoaderConfig = field(default_factory=LoaderConfig, kw_only=True)
    data: str = field(default="", kw_only=True)
    kind: str = field(default="finetune", init=False)

    def __post_init__(self) -> None:
        if self.dataset.labels is None:
            raise ValueError(f"{self.dataset.name} has no labels to train on")
        self.fill = mean_colour(self.statistics)  # while they are on the host
        mean, std = self.statistics
        self.statistics = mean.to(device_of(self.model)), std.to(device_of(self.model))
        self.image = pair(self.classifier.encoder.size.image)
        if self.transform is not None and self.reading.crop_on == "device" and isinstance(self.dataset, ImageFiles):
            raise ValueError("RandAugment changes crops on the host: leave out --crop-on device, or --randaugment")

    @property
    def classifier(self) -> Any:
        """The network that learns, without its average."""
        return self.model.model if isinstance(self.model, Averaged) else self.model

    def optimizer(self, lr: float) -> torch.optim.Optimizer:
        return adamw(layer_groups(self.classifier, self.recipe.weight_decay, self.recipe.layer_decay), lr, self.recipe.betas)

    def metadata(self) -> dict[str, Any]:
        size, statistics = asdict(self.classifier.encoder.size), tuple(x.cpu() for x in self.statistics)
        about = {"classes": list(self.dataset.classes), "data": self.data or self.dataset.name, "pool": self.classifier.pool}
        return {**about, "statistics": statistics, "size": size, **super().metadata()}

    @property
    def augmentation(self) -> Augmentation:
        return augmentation_of(self.dataset, Augmentation(scale=self.recipe.crop, flip=self.recipe.flip))

    @property
    def transform(self) -> RandAugment | None:
        """What workers do with their crops. (Flips come later: RandAugment's directions are as likely as their mirror images.)"""
        magnitude = self.recipe.randaugment
        return None if magnitude is None else RandAugment(magnitude, self.recipe.seed, self.fill)

    def loader(self, order: Order) -> Iterator[Batch]:
        options: dict[str, Any] = {"image": self.image, "augmentation": self.augmentation, "device": device_of(self.model)}
        options |= {"seed": self.recipe.seed, "repeats": self.recipe.repeats, "transform": self.transform}
        return batches(self.dataset, order, self.reading, **options)

    def after_step(self) -> None:
        if isinstance(self.model, Averaged):
            self.model.update()

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        r, ids, labels, epochs = self.recipe, batch.ids, batch.labels, batch.epochs
        assert labels is not None
        images = normalise(augmented(batch, self.augmentation, seed=r.seed, size=self.image), self.statistics)
        if r.erasing:
            images = erase(images, ids, r.erasing, seed=r.seed, epoch=epochs)
        if not r.mixing:
            return images, labels
        draw = draw_shares
        if r.mix_by == "batch":
            draw, images, labels = draw_one_share, folded(images), folded(labels)
        shares = draw(r.mixing, ids, (images.shape[-2], images.shape[-1]), seed=r.seed, epoch=epochs)
        targets = soft_targets(labels, self.classifier.head.out_features, smoothing=r.label_smoothing, shares=shares)
        return mix_images(images, shares), targets

    def loss(self, model: nn.Module, *inputs: Tensor) -> Tensor:
        images, targets = inputs
        if self.recipe.mixing:
            return soft_cross_entropy(model(images), targets)
        return F.cross_entropy(model(images), targets, label_smoothing=self.recipe.label_smoothing)


def finetune(
    recipe: Finetune, encoder: Encoder | Classifier, images: ImageDataset, statistics: Statistics, out: Path | None = None, *,
    resume: bool = False, quiet: bool = False, reading: LoaderConfig = DEFAULTS, keep_head: bool = True, data: str = "",
    validation: ImageDataset | None = None, callbacks: Sequence[Callback] = (),
) -> tuple[Classifier, Result]:  # fmt: skip
    """Fine-tune a copy of an encoder on labelled images; → the classifier of the last step (with ``recipe.ema``, the average).

    A classifier is trained further: it keeps its norm and, with ``keep_head``, its head if the number of classes fits.
    data: the name or folder that opens these images again, kept with the run. validation: images to measure accuracy on after each
    epoch; ``best.pt`` in ``out`` then holds the weights with the highest top-1, and ``checkpoint.pt`` the last. callbacks: see
    :mod:`minimae.tasks.watch`.
    """
    torch.manual_seed(recipe.seed)
    classes, given = classes_of(images), {"drop_path": recipe.drop_path, "image": recipe.image, "tune": recipe.tune}
    if isinstance(encoder, Classifier):
        classifier = Classifier(encoder.encoder, classes, pool=encoder.pool, **given)  # type: ignore[arg-type]
        classifier.norm.load_state_dict(encoder.norm.state_dict())
        if keep_head and encoder.head.out_features == classes:
            classifier.head.load_state_dict(encoder.head.state_dict())
    else:
        classifier = Classifier(encoder, classes, **given)  # type: ignore[arg-type]
    classifier = classifier.to(device_of(encoder))
    model = classifier if recipe.ema is None else Averaged(classifier, recipe.ema)
    task = FinetuneTask(recipe, images, statistics, model, reading=reading, data=data)
    if validation is not None:
        if recipe.shard and world().size > 1:
            raise ValueError("validation needs a whole model in every process: leave out --shard, or --validation")
        callbacks = [Validation(validation, out, resume), *callbacks]
    result = fit(task, recipe, out, resume=resume, quiet=quiet, callbacks=callbacks)
    trained = task.model.average if isinstance(task.model, Averaged) else task.model
    assert isinstance(trained, Classifier)
    return trained, result


def load_finetuned(path: Path) -> tuple[Classifier, dict[str, Any]]:
    """The classifier of a run folder or its checkpoint (the average, if there is one), and its metadata.

    Raises MinimaeError when the file is missing, damaged or of another task.
    """
    return finetuned_of(load_checkpoint(path, "finetune"), path)


def finetuned_of(state: dict[str, Any], file: Path) -> tuple[Classifier, dict[str, Any]]:
    """The same for a checkpoint that has already been read."""
    weights, recipe = state.pop("model"), from_dict(Finetune, state["settings"])
    if recipe.ema is not None:
        weights = {name.removeprefix("average."): value for name, value in weights.items() if name.startswith("average.")}
    classifier = Classifier(Encoder(from_dict(Size, state["size"])), len(weights["head.bias"]), pool=state.get("pool", "mean"))
    load_weights(classifier, weights, file)
    return classifier.eval(), {name: state[name] for name in ("settings", "statistics", "classes", "data", "step")}
