"""How an encoder is measured: each evaluation is a value; its result is one number, or whether each test image is classified correctly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from minimae.data.images import Images
from minimae.data.shapes import Scenes
from minimae.model.mae import MAE
from minimae.model.sizes import flops
from minimae.tasks.evaluation import predict
from minimae.tasks.features import extract
from minimae.tasks.finetune import Finetune, finetune
from minimae.tasks.pretrain import Pretrain, PretrainTask, build
from minimae.tasks.probe import probe_predict
from minimae.train.order import batch_at
from minimae_book.evidence.dense import mean_iou, patch_vectors, segment_linearly

from ..bench.timing import interleave

Open = Callable[[str, str], Images]  # a data set and a split → its images, at the size and in the channels of the encoder


def at_most(images: Images, count: int | None) -> Images:
    """The images, or a balanced subset of this size."""
    return images if count is None or count >= len(images) else images.balanced_subset(count)


@dataclass(frozen=True, kw_only=True)
class Tune:
    """Test accuracy in percent, last epoch, after fine-tuning on ``labels`` images, the same number of every class.

    test: use at most this many test images, the same ones for every seed.
    """

    recipe: Finetune
    data: str
    labels: int
    test: int | None = None

    def answer(self, model: MAE, images: Open) -> Tensor:
        """Fine-tune a copy of the encoder, and classify the test images."""
        train = images(self.data, "train")
        few = train.balanced_subset(min(self.labels, len(train)), seed=self.recipe.seed)
        classifier, _ = finetune(self.recipe, model.encoder, few, train.statistics, quiet=True)
        test = at_most(images(self.data, "test"), self.test)
        found = predict(classifier, test, train.statistics, precision=self.recipe.precision)
        return found.top[:, 0] == found.labels


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Test accuracy in percent of a linear classifier on the mean patch token: the fast probe of ``minimae.tasks.probe``.

    labels, test: use at most this many labelled and test images, the same number of every class, the same ones for every seed.
    """

    data: str
    seed: int
    labels: int | None = None
    test: int | None = None

    def answer(self, model: MAE, images: Open) -> Tensor:
        """Extract features of whole images once, and solve the linear layer to its optimum."""
        statistics = images(self.data, "train").statistics
        train, test = at_most(images(self.data, "train"), self.labels), at_most(images(self.data, "test"), self.test)
        train_features, test_features = (extract(model.encoder, part, statistics) for part in (train, test))
        assert train.labels is not None and test.labels is not None
        return probe_predict(train_features, train.labels, test_features, seed=self.seed)[0] == test.labels


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Mean intersection over union in percent of a linear head that classifies every patch of drawn scenes.

    pixels: the head sees the pixels of its patch and no output of the encoder: the baseline.
    """

    data: str
    scenes: int
    pixels: bool = False

    def answer(self, model: MAE, images: Open) -> float:
        """Learn from the first ``scenes`` training scenes, and segment the test scenes."""
        train, test = images(self.data, "train"), images(self.data, "test")
        assert isinstance(train, Scenes) and isinstance(test, Scenes)
        train = train.subset(torch.arange(min(self.scenes, len(train))))
        encoder, patch = None if self.pixels else model.encoder, model.size.patch
        train_vectors, test_vectors = (patch_vectors(part, train.statistics, patch, encoder) for part in (train, test))
        return mean_iou(segment_linearly(train_vectors, train, test_vectors, patch), test.semantic, len(test.classes) + 1)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a pre-training step costs, as a multiple of the same step by another recipe.

    time: median of the ratios of interleaved rounds, so that a busy machine slows both. flops: matmuls, counted as the paper does.
    """

    recipe: Pretrain
    against: Pretrain
    what: Literal["time", "flops"]
    rounds: int = 9
    steps: int = 5

    def answer(self, model: MAE, images: Open) -> float:
        """Count operations, or build both and run them in turn."""
        if self.what == "flops":
            cost_against, cost = (self.counted(recipe, model) for recipe in (self.against, self.recipe))
            return cost / cost_against
        steps = {name: self.step_of(recipe, model, images) for name, recipe in (("this", self.recipe), ("that", self.against))}
        for step in steps.values():
            step()  # allocates
        times = interleave(steps, rounds=self.rounds, count=self.steps, device=next(model.parameters()).device)
        return median(a / b for a, b in zip(times["this"], times["that"]))

    @staticmethod
    def counted(recipe: Pretrain, model: MAE) -> int:
        return flops(model.size, recipe.ratio, mask_tokens_in_encoder=recipe.mask_tokens_in_encoder, paper=True).forward

    @staticmethod
    def step_of(recipe: Pretrain, model: MAE, images: Open) -> Callable[[], Any]:
        """One optimizer step on the first batch, without reading the loss."""
        device = next(model.parameters()).device
        source = images(recipe.data, "train").to(device)
        task = PretrainTask(recipe, source, build(recipe, source).to(device))
        optimizer = task.optimizer(1e-6)
        batch = source.batch(*batch_at(0, min(recipe.batch, len(source)), len(source), recipe.seed))

        def step() -> Tensor:
            loss = task.loss_of(batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return loss

        return step


class Question(Protocol):
    """Any evaluation, here or in another module: a dataclass whose fields decide its result."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def answer(self, model: MAE, images: Open) -> float | Tensor: ...
