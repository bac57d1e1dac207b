"""Commands that train with labels: fine-tuning, training from scratch, and the paper's linear probe."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tyro.conf import OmitArgPrefixes, Suppress

from ..data.types import ImageDataset, Statistics
from ..errors import MinimaeError
from ..model.sizes import Size
from ..model.vit import Encoder
from ..recipes import FEW_LABELS, RECIPES, brief, describe_run, for_processes, known
from ..tasks.evaluation import Scores, evaluate
from ..tasks.finetune import Classifier, Finetune, finetune, load_finetuned
from ..tasks.probe_train import Probe, train_probe
from ..tasks.watch import BEST
from ..train import threads
from ..train.distributed import barrier, world
from ..train.folder import locked
from ..train.task import Result
from ..weights import Classified
from .classify import LabelOptions, Trained, same_classes
from .options import RecipeName, WeightsOptions, check_outside, describe, resumes
from .report import metrics_part, prepare, write_json, write_page
from .watching import split_validation


@dataclass(frozen=True, kw_only=True)
class RunOptions(LabelOptions):
    """The folder of a training run."""

    out: Path | None = None  # Folder for checkpoint, metrics, result and report; by default nothing is saved.
    resume: bool = False  # Continue the run in --out, with the options it was started with.
    auto_resume: bool = False  # Continue the run in --out if there is one, otherwise start it; for jobs that may be requeued.
    words: Suppress[tuple[str, ...]] = ()

    def begin(self, name: str, recipe: Any, device: str, train: ImageDataset, size: Size) -> bool:
        """Print a summary of the run, and make the folder; → whether its run is resumed."""
        before = known(name)
        about: dict[str, Any] = {"images": len(train), "size": size, "processes": world().size}
        print(brief(recipe, before, data=describe(train), device=device, out=self.out, **about))
        if self.out is None:
            if self.resume or self.auto_resume:
                raise MinimaeError("to continue a run, name its folder with --out")
            return False
        resume = resumes(self.out, resume=self.resume, auto=self.auto_resume)
        with locked(self.out):
            if world().main and not resume:
                prepare(self.out, recipe, device, self.words, text=describe_run(before, recipe, **about))
        return resume

    def end(self, what: str, scores: Scores, train: ImageDataset, test: ImageDataset, result: Result, recipe: Any, device: str,
            best: str = "", **numbers: float) -> None:  # fmt: skip
        """Print the accuracy and save it in the folder. best: a sentence about the best epoch; numbers: its figures, for result.json."""
        if not world().main:
            return
        if self.out is not None:
            prepare(self.out, recipe, device, self.words, again=True)
            accuracy = {"top-1 %": scores.top1} | ({} if scores.top5 is None else {"top-5 %": scores.top5})
            about = {"test loss": scores.loss, "test images": len(test), "steps": result.steps, "seconds": result.seconds}
            write_json(self.out / "result.json", {**accuracy, **about, **numbers})
            last = f"{what}: {scores} of {len(test):,} test images of {test.name}, after the last epoch"
            text = "".join(f"<p>{html.escape(line[:1].upper() + line[1:])}.</p>" for line in [last, *best.splitlines()])
            write_page(self.out, f"Training on {train.name}", [text, metrics_part(self.out, result)], recipe, device)
        print(best, end="\n" * bool(best))
        print(f"{what} on {len(train):,} labels, {result.seconds:.0f} s: {scores} of {len(test):,} test images, last epoch")


@dataclass(frozen=True, kw_only=True)
class TrainProbeCommand(RunOptions, Trained):
    """The paper's linear probe (Table 10): LARS, a batch norm without affine, random crops. minimae probe RECIPE --weights …"""

    recipe: OmitArgPrefixes[Probe]
    name: RecipeName = ""

    def __call__(self) -> None:
        device, recipe = self.where.join(), for_processes(self.recipe, world().size)
        check_outside(self.out, self.data)
        trained, train, test = self.open(device)
        encoder = trained.model.encoder
        threads.in_this_process(encoder.size, recipe, device=device)
        resume, reading = self.begin(self.name, recipe, device, train, encoder.size), self.where.reading
        model, result = train_probe(recipe, encoder, train, trained.statistics, self.out, resume=resume, reading=reading)
        scores = evaluate(model, test, trained.statistics, reading=reading, precision=recipe.precision)
        self.end("linear probe", scores, train, test, result, recipe, device)


@dataclass(frozen=True, kw_only=True)
class FinetuneCommand(RunOptions):
    """Fine-tune an encoder, or only its last blocks, on labelled images; or train the same network from scratch."""

    weights: Path | None = None
    """Shipped weights by name, a run folder, its checkpoint.pt, or a file of weights. For a classifier, the norm is kept too, and so is
    the head if the classes are the same. A recipe from scratch takes no weights."""
    layout: OmitArgPrefixes[WeightsOptions] = field(default_factory=WeightsOptions)
    recipe: OmitArgPrefixes[Finetune] = FEW_LABELS
    name: RecipeName = ""
    labels: int | None = None  # Use only this many labels, the same number of each class.
    scratch: bool = False  # Use only the size of the weights: train from scratch; without a recipe, with one lr for all layers.
    validation: str | None = None
    """Measure accuracy and loss after each epoch, and keep the weights of the best epoch in best.pt. Measure on a share of the training
    images that is held out (0.1), on a folder or data set, or on the test images (test), as the authors' code does."""

    def __call__(self) -> None:
        device, recipe = self.where.join(), for_processes(self.recipe, world().size)
        trained: Any = None if self.weights is None else self.layout.load(self.weights)
        tuned = isinstance(trained, Classified)
        if trained is not None:
            size, data = (trained.size, trained.data) if tuned else (trained.model.size, trained.recipe.data)
        elif self.scratch and self.name:
            size, data = RECIPES[self.name].size, self.name.partition("-")[0]
        else:
            raise ValueError("--weights is missing: a run folder, a checkpoint, or the name of shipped weights")
        threads.in_this_process(size, recipe, device=device)
        check_outside(self.out, self.data)
        train, test = self.images(data, size, image=recipe.image)
        statistics = train.statistics if trained is None else trained.statistics
        train = train if self.labels is None else train.balanced_subset(self.labels, seed=recipe.seed)
        given: dict[str, Any] = {"image": recipe.image or size.image, "channels": train.channels}
        train, validation, what = split_validation(self.validation, train, test, self.where, seed=recipe.seed, **given)
        if self.scratch:
            torch.manual_seed(recipe.seed)
        network: Encoder | Classifier = Encoder(size) if self.scratch else trained.classifier if tuned else trained.model.encoder
        encoder, keep = network.to(device), not tuned or same_classes(trained, train)
        if tuned and not self.scratch:
            print(f"continues from {self.weights}, with its norm and {'its head' if keep else 'a new head, because the classes differ'}")
        resume, reading = self.begin(self.name, recipe, device, train, size), self.where.reading
        given = {"validation": validation, "reading": reading, "keep_head": keep, "data": self.data or data}
        model, result = finetune(recipe, encoder, train, statistics, self.out, resume=resume, **given)
        scores = evaluate(model, test, statistics, reading=reading, precision=recipe.precision)
        best, numbers = ("", {}) if validation is None else self.compare_best(result, what, test, statistics, recipe, device)
        self.end("from scratch" if self.scratch else "fine-tuned", scores, train, test, result, recipe, device, best, **numbers)

    def compare_best(
        self, result: Result, what: str, test: ImageDataset, statistics: Statistics, recipe: Finetune, device: str
    ) -> tuple[str, dict[str, float]]:
        """Accuracy of the last and the best epoch on the validation images, and of the best on the test images: as text and as numbers."""
        points = [point for point in result.history if "validation_top1" in point]
        if not points:
            return "no validation: the run had already ended", {}
        best, last = max(points, key=lambda point: point["validation_top1"]), points[-1]["validation_top1"]
        highest, epoch = best["validation_top1"], best["epoch"]
        text = f"validation on {what}: last epoch {last:.2f} %, best {highest:.2f} % at epoch {epoch:.1f}"
        numbers = {"validation top-1 %": last, "best epoch": epoch, "best validation top-1 %": highest}
        if self.out is not None and self.validation != "test":
            barrier()  # the first process wrote the file
            classifier, _ = load_finetuned(self.out / BEST)
            scores = evaluate(classifier.to(device), test, statistics, reading=self.where.reading, precision=recipe.precision)
            text += f"\nthe best epoch, in {self.out / BEST}: {scores} of {len(test):,} test images"
            numbers["best.pt top-1 %"] = scores.top1
        return text, numbers
