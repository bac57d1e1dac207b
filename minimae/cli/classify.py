"""Commands that evaluate a trained model on labelled images: nearest neighbours, linear probe, accuracy of a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from torch import Tensor
from tyro.conf import OmitArgPrefixes

from ..data import NAMES
from ..data.types import ImageDataset
from ..devices import device_of
from ..errors import MinimaeError
from ..model.patches import Pair
from ..model.sizes import Size
from ..recipes import Knn
from ..tasks.evaluation import check_images, classes_of, predict, scores_of, write_confusion, write_predictions
from ..tasks.features import Pool
from ..tasks.knn import accuracy, knn_predict
from ..tasks.loading import features_of
from ..tasks.memory import Need
from ..tasks.pretrain import Pretrained
from ..tasks.probe import probe_predict
from ..train import threads
from ..train.distributed import broadcast, world
from ..weights import OWN_DATA, Classified, load_pretrained
from .options import DataOptions, RecipeName, WeightsOptions, check_outputs

SAMPLES = {"fashion-full": "fashion"}  # data sets that must be downloaded → the sample that comes with minimae


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """Labelled images."""

    data: str | None = None  # Data set or folder; by default the one the model was pre-trained on.
    where: OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)

    def images(
        self, name: str, size: Size, *, image: int | Pair | None = None, splits: Sequence[str] = ("train", "test")
    ) -> Sequence[ImageDataset]:
        """Training and test images for a model of this size. Raises ValueError without labels, or when the classes of the two differ."""
        if not (self.data or name) or (self.data is None and name == OWN_DATA):
            raise ValueError("these weights do not state which images they were trained on: name a data set or a folder with --data")
        if self.data is None and name not in (*NAMES, "imagenet") and not Path(name).exists():
            raise MinimaeError(f"these weights were trained on {name}, which is not here: name labelled images with --data")
        channels = size.channels if size.channels in (1, 3) else None
        given: dict[str, Any] = {"image": image or size.image, "channels": channels, "labelled": True}
        found = [self.open_split(name, split, given) for split in splits]
        check_images(found[0], found[-1], channels=size.channels, labelled=True)
        return found

    def open_split(self, name: str, split: str, given: dict[str, Any]) -> ImageDataset:
        """One split of --data or ``name``; if that is missing, of the sample that comes with minimae."""
        try:
            return self.where.open(self.data or name, split, **given)
        except FileNotFoundError as error:
            if self.data is not None:
                raise
            if name not in SAMPLES:
                raise FileNotFoundError(f"{error}; or name other labelled images with --data") from None
            if split == "test" and world().main:  # every command opens it
                print(f"{name} is missing: --data {SAMPLES[name]}, the sample that comes with minimae, is used instead")
            return self.where.open(SAMPLES[name], split, **given)


@dataclass(frozen=True, kw_only=True)
class Trained(LabelOptions):
    """A trained model, and labelled images to evaluate it on."""

    weights: Path  # Shipped weights by name, a run folder, its checkpoint.pt, or a file of weights.
    layout: OmitArgPrefixes[WeightsOptions] = field(default_factory=WeightsOptions)

    def open(self, device: str) -> tuple[Pretrained, ImageDataset, ImageDataset]:
        """The pre-trained model on its device, training images and test images."""
        trained = self.layout.load(self.weights, load_pretrained)
        trained.model.to(device)
        threads.in_this_process(trained.model.size, device=device)
        return trained, *self.images(trained.recipe.data, trained.model.size)

    def features(self, trained: Pretrained, train: ImageDataset, test: ImageDataset, pool: Pool) -> list[tuple[Tensor, Tensor]]:
        """Features and labels of the training and test images, in the first process."""
        given: dict[str, Any] = {"pool": pool, "precision": trained.recipe.precision}
        return [features_of(trained.model.encoder, images, trained.statistics, self.where.reading, **given) for images in (train, test)]


@dataclass(frozen=True, kw_only=True)
class KnnCommand(Trained):
    """k-nearest-neighbour accuracy on frozen features: nothing is trained."""

    recipe: OmitArgPrefixes[Knn] = field(default_factory=Knn)
    name: RecipeName = ""

    def __call__(self) -> None:
        trained, train, test = self.open(self.where.join())
        r = self.recipe
        Need(trained.model.size, len(train), len(test)).check(r.pool)
        (features, labels), (queries, truth) = self.features(trained, train, test, r.pool)
        if not world().main:
            return
        predicted = knn_predict(features.to(device_of(trained.model)), labels, queries, k=r.k, temperature=r.temperature)
        print(f"{r.k}-NN, {r.pool} features: {accuracy(predicted, truth):.2f} % of {len(truth):,} test images")


@dataclass(frozen=True, kw_only=True)
class ProbeCommand(Trained):
    """Linear probe on cached features of the frozen encoder, without augmentation; with a recipe, the protocol of Table 10."""

    name: RecipeName = ""
    pool: Pool | Literal["auto"] = "auto"
    """mean or class token, the means after every block, or all tokens concatenated; auto is tokens, or the largest of these that fits
    into 4 GB."""
    labels: int | None = None  # Use only this many labels, the same number of each class.

    def __call__(self) -> None:
        trained, train, test = self.open(self.where.join())
        train = train if self.labels is None else train.balanced_subset(self.labels)
        need = Need(trained.model.size, len(train), len(test), classes_of(train))
        if self.pool == "auto":
            pool, why = need.choose() if world().main else ("mean", "")
            pool = cast(Pool, broadcast(pool))
            print(why, end="\n" * bool(why), flush=True)
        else:
            need.check(pool := self.pool)
        (features, labels), (queries, truth) = self.features(trained, train, test, pool)
        if not world().main:
            return
        predicted, penalty = probe_predict(features, labels, queries)
        what = f"{pool} features, {len(labels):,} labels (penalty {penalty:g})"
        print(f"linear probe, {what}: {accuracy(predicted, truth):.2f} % of {len(truth):,} test images")
        print("This is the fast path: cached features of whole images. The paper's protocol (Table 10): minimae probe RECIPE")


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand(LabelOptions):
    """Accuracy of a fine-tuned classifier on test images, top-1 and top-5: minimae evaluate --weights RUN"""

    weights: Path  # The folder of a fine-tuning run, its checkpoint, an exported file, or another library's classifier.
    layout: OmitArgPrefixes[WeightsOptions] = field(default_factory=WeightsOptions)
    predictions: Path | None = None  # A CSV file for the label and the most probable classes of each image.
    confusion: Path | None = None  # A CSV file for the confusion matrix: rows are true classes, columns predicted ones.

    def __call__(self) -> None:
        check_outputs(*filter(None, (self.predictions, self.confusion)), inputs=[self.weights])
        device, trained = self.where.join(), self.layout.load(self.weights)
        if not isinstance(trained, Classified):
            raise MinimaeError(f"{self.weights} has no head, so it cannot classify: use minimae knn, probe or finetune")
        threads.in_this_process(trained.size, device=device)
        [test] = self.images(trained.data, trained.size, splits=["test"])
        if not same_classes(trained, test):
            count = trained.classifier.head.out_features
            raise MinimaeError(
                f"{self.weights} was trained on {count} classes{first(trained.classes)}, but {test.name} has others{first(test.classes)}: "
                f"name other images with --data, or train it on these with minimae finetune --weights {self.weights}"
            )
        model = trained.classifier.to(device)
        predictions = predict(model, test, trained.statistics, reading=self.where.reading)
        print(f"{self.weights}: {scores_of(model, predictions)} of {len(test):,} test images of {test.name}")
        predictions = predictions.gather()
        if world().main and self.predictions is not None:
            write_predictions(self.predictions, predictions, test)
            print(f"predictions in {self.predictions}")
        if world().main and self.confusion is not None:
            write_confusion(self.confusion, predictions, test, model.head.out_features)
            print(f"confusion matrix in {self.confusion}")


def same_classes(trained: Classified, images: ImageDataset) -> bool:
    """Whether a classifier has the classes of these images: the same names in the same order, or the same number if either has no names."""
    named = bool(trained.classes) and bool(images.classes)
    return tuple(trained.classes) == tuple(images.classes) if named else trained.classifier.head.out_features == classes_of(images)


def first(names: tuple[str, ...]) -> str:
    """The first five names in brackets, after a space; an empty text if there are none."""
    return f" ({', '.join(names[:5])}{', …' * (len(names) > 5)})" if names else ""
