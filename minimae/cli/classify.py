"""Commands that ask a trained encoder about labelled images: nearest neighbours, linear probe, fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor
from tyro.conf import OmitArgPrefixes, Suppress

from .. import weights
from ..data.types import ImageDataset
from ..errors import MinimaeError
from ..model.patches import Pair
from ..model.sizes import Size
from ..model.vit import Encoder
from ..recipes import FEW_LABELS, RECIPES, Knn, brief, for_processes, known, tell
from ..tasks.agreement import check_images
from ..tasks.features import Pool
from ..tasks.finetune import Classifier, Finetune, classes_of, finetune, finetuned_accuracy
from ..tasks.knn import accuracy, knn_predict
from ..tasks.loading import features_of
from ..tasks.memory import Need
from ..tasks.pretrain import Pretrained
from ..tasks.probe import probe_predict
from ..tasks.probe_train import Probe, train_probe
from ..train import threads
from ..train.distributed import same, world
from ..train.loop import Result, device_of
from ..train.state import locked
from ..weights import Classified
from .options import DataOptions, RecipeName, begin, describe
from .report import prepare, write_json

SAMPLES = {"fashion-full": "fashion"}  # what comes with minimae of a set that has to be fetched


def same_classes(trained: Classified, images: ImageDataset) -> bool:
    """Whether a classifier has the classes of these images: the same names in the same order, or as many where one has no names."""
    count = trained.classifier.head.out_features
    named = bool(trained.classes) and bool(images.classes)
    return tuple(trained.classes) == tuple(images.classes) if named else count == classes_of(images)


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """Labelled images to ask about."""

    data: str | None = None
    """Data set or folder; by default the one the model was pre-trained on."""
    where: OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)

    def images(self, name: str, size: Size, *, image: int | Pair | None = None) -> tuple[ImageDataset, ImageDataset]:
        """Training and test images for a model of this size. Raises ValueError without labels, or with other classes in the two."""
        if not (self.data or name) or (self.data is None and name == weights.OWN_DATA):
            raise ValueError("these weights do not state which images they were trained on: name a data set or a folder with --data")
        channels = size.channels if size.channels in (1, 3) else None
        how: dict[str, Any] = {"image": image or size.image, "channels": channels, "labelled": True}
        train, test = (self.open_split(name, split, how) for split in ("train", "test"))
        check_images(train, test, channels=size.channels, labelled=True)
        return train, test

    def open_split(self, name: str, split: str, how: dict[str, Any]) -> ImageDataset:
        """One split of --data, or of ``name``; where that is missing, of the sample of it that comes with minimae."""
        try:
            return self.where.open(self.data or name, split, **how)
        except FileNotFoundError as error:
            if self.data is not None:
                raise
            if name not in SAMPLES:
                raise FileNotFoundError(f"{error}; or name other labelled images with --data") from None
            if split == "train" and world().main:
                print(f"{name} is not here: --data {SAMPLES[name]}, the sample that comes with minimae, is used instead")
            return self.where.open(SAMPLES[name], split, **how)


@dataclass(frozen=True, kw_only=True)
class Trained(LabelOptions):
    """A trained model, and labelled images to ask it about."""

    weights: Path
    """Shipped weights by name, a run folder, its checkpoint.pt, or a .safetensors file."""

    def open(self, device: str) -> tuple[Pretrained, ImageDataset, ImageDataset]:
        trained = weights.load_pretrained(self.weights)
        trained.model.to(device)
        threads.in_this_process(trained.model.size, device=device)
        return trained, *self.images(trained.recipe.data, trained.model.size)

    def features(self, trained: Pretrained, train: ImageDataset, test: ImageDataset, pool: Pool) -> list[tuple[Tensor, Tensor]]:
        """Features and labels of training and of test images, in the first process."""
        how: dict[str, Any] = {"pool": pool, "precision": trained.recipe.precision}
        return [features_of(trained.model.encoder, images, trained.statistics, self.where.reading, **how) for images in (train, test)]


@dataclass(frozen=True, kw_only=True)
class KnnCommand(Trained):
    """k-nearest-neighbour accuracy on frozen features: nothing is trained."""

    recipe: OmitArgPrefixes[Knn] = field(default_factory=Knn)
    name: RecipeName = ""

    def __call__(self) -> None:
        trained, train, test = self.open(self.where.join())
        r = self.recipe
        Need(trained.model.size, len(train), len(test)).check(r.pool)
        (features, labels), (questions, truth) = self.features(trained, train, test, r.pool)
        if not world().main:
            return
        predicted = knn_predict(features.to(device_of(trained.model)), labels, questions, k=r.k, temperature=r.temperature)
        print(f"{r.k}-NN, {r.pool} features: {accuracy(predicted, truth):.2f} % of {len(truth):,} test images")


@dataclass(frozen=True, kw_only=True)
class ProbeCommand(Trained):
    """Linear probe on cached features of the frozen encoder: the fast path, without augmentation. With a recipe: Table 10."""

    name: RecipeName = ""
    pool: Pool | Literal["auto"] = "auto"
    """mean or class token, the means after every block, or all tokens side by side; auto is tokens, or the next smaller that fits into
    4 GB."""
    labels: int | None = None
    """Use this many labels only, the same number of each class."""

    def __call__(self) -> None:
        trained, train, test = self.open(self.where.join())
        train = train if self.labels is None else train.subset_per_class(self.labels)
        need = Need(trained.model.size, len(train), len(test), classes_of(train))
        if self.pool == "auto":
            pool, why = need.choose() if world().main else ("mean", "")
            pool = cast(Pool, same(pool))
            print(why, end="\n" * bool(why), flush=True)
        else:
            need.check(pool := self.pool)
        (features, labels), (questions, truth) = self.features(trained, train, test, pool)
        if not world().main:
            return
        predicted, penalty = probe_predict(features, labels, questions)
        what = f"{pool} features, {len(labels):,} labels (penalty {penalty:g})"
        print(f"linear probe, {what}: {accuracy(predicted, truth):.2f} % of {len(truth):,} test images")
        print("This is the fast path: cached features of whole images. The paper's protocol (Table 10): minimae probe RECIPE")


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where a run of training keeps what it needs to go on."""

    out: Path | None = None
    """Folder for checkpoint, metrics and result; by default nothing is kept."""
    resume: bool = False
    """Continue the run in --out, with the options it was started with."""
    auto_resume: bool = False
    """Continue the run in --out if there is one, otherwise start it: for jobs that are put back into a queue."""
    words: Suppress[tuple[str, ...]] = ()

    def begin(self, name: str, recipe: Any, device: str, train: ImageDataset, size: Size) -> bool:
        """Print a summary of the run, and make the folder; → whether its run is resumed."""
        before = known(name)
        how: dict[str, Any] = {"images": len(train), "size": size, "processes": world().size}
        print(brief(recipe, before, data=describe(train), device=device, out=self.out, **how))
        if self.out is None:
            if self.resume or self.auto_resume:
                raise MinimaeError("to continue a run, name its folder with --out")
            return False
        resume = begin(self.out, resume=self.resume, auto=self.auto_resume)
        with locked(self.out):
            if world().main and not resume:
                prepare(self.out, recipe, device, self.words, text=tell(before, recipe, **how))
        return resume

    def end(self, what: str, score: float, train: ImageDataset, test: ImageDataset, result: Result, recipe: Any, device: str) -> None:
        """Print the accuracy, and keep it."""
        if not world().main:
            return
        if self.out is not None:
            prepare(self.out, recipe, device, self.words, again=True)
            kept = {"top-1 %": score, "test images": len(test), "steps": result.steps, "seconds": result.seconds}
            write_json(self.out / "result.json", kept)
        print(f"{what} on {len(train):,} labels, {result.seconds:.0f} s: {score:.2f} % of {len(test):,} test images, last epoch")


@dataclass(frozen=True, kw_only=True)
class TrainProbeCommand(Trained):
    """The paper's linear probe (Table 10): LARS, a batch norm without affine, random crops. minimae probe RECIPE --weights …"""

    recipe: OmitArgPrefixes[Probe]
    name: RecipeName = ""
    run: OmitArgPrefixes[Run] = field(default_factory=Run)

    def __call__(self) -> None:
        device = self.where.join()
        recipe = for_processes(self.recipe, world().size)
        trained, train, test = self.open(device)
        encoder = trained.model.encoder
        threads.in_this_process(encoder.size, recipe, device=device)
        resume, reading = self.run.begin(self.name, recipe, device, train, trained.model.size), self.where.reading
        model, result = train_probe(recipe, encoder, train, trained.statistics, self.run.out, resume=resume, reading=reading)
        score = finetuned_accuracy(model, test, trained.statistics, reading=reading, precision=recipe.precision)
        self.run.end("linear probe", score, train, test, result, recipe, device)


@dataclass(frozen=True, kw_only=True)
class FinetuneCommand(LabelOptions):
    """Fine-tune an encoder on labelled images, the whole of it or its last blocks; or train the same network from scratch."""

    weights: Path | None = None
    """Shipped weights by name, a run folder, its checkpoint.pt, or a .safetensors file; a classifier goes on with its norm, and with its
    head if the classes are the same. A recipe from scratch takes none."""
    recipe: OmitArgPrefixes[Finetune] = FEW_LABELS
    name: RecipeName = ""
    labels: int | None = None
    """Use this many labels only, the same number of each class."""
    scratch: bool = False
    """Forget the trained weights and start from the initial ones, with one lr for all layers by default."""
    run: OmitArgPrefixes[Run] = field(default_factory=Run)

    def __call__(self) -> None:
        device = self.where.join()
        recipe, tuned = for_processes(self.recipe, world().size), False
        trained: Any = None
        if self.weights is not None:
            trained = weights.load(self.weights)
            tuned = isinstance(trained, Classified)
            size, data_name = (trained.size, trained.data) if tuned else (trained.model.size, trained.recipe.data)
        elif self.scratch and self.name:
            size, data_name = RECIPES[self.name].size, self.name.partition("-")[0]
        else:
            raise ValueError("--weights is missing: a run folder, a checkpoint, or the name of shipped weights")
        threads.in_this_process(size, recipe, device=device)
        train, test = self.images(data_name, size, image=recipe.image)
        statistics = train.statistics if self.weights is None else trained.statistics
        train = train if self.labels is None else train.subset_per_class(self.labels, seed=recipe.seed)
        if self.scratch:
            torch.manual_seed(recipe.seed)
        network: Encoder | Classifier = Encoder(size) if self.scratch else trained.classifier if tuned else trained.model.encoder
        encoder, keep = network.to(device), not tuned or same_classes(trained, train)
        if tuned:
            print(f"continues from {self.weights}, with its norm and {'its head' if keep else 'a fresh head, as the classes are others'}")
        resume, reading = self.run.begin(self.name, recipe, device, train, size), self.where.reading
        how: dict[str, Any] = {"reading": reading, "keep_head": keep, "data": self.data or data_name}
        model, result = finetune(recipe, encoder, train, statistics, self.run.out, resume=resume, **how)
        score = finetuned_accuracy(model, test, statistics, reading=reading, precision=recipe.precision)
        self.run.end("from scratch" if self.scratch else "fine-tuned", score, train, test, result, recipe, device)
