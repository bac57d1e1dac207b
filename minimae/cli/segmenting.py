"""``minimae segment``: train a segmenter on pictures with masks, measure it, and segment your own pictures."""

from __future__ import annotations

import html
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from minimae_book.figures.labels import segmentations
from torch import Tensor
from tyro.conf import OmitArgPrefixes, Positional, arg

from ..data.choose import held_out
from ..data.segmentation import IGNORE, Segmentation, open_segmentation
from ..data.types import Statistics
from ..model.vit import Encoder
from ..recipes import for_processes
from ..tasks.reconstruct import read_picture
from ..tasks.segment import IoU, IoUValidation, Segment, Segmenter, evaluate, load_segmented, predict, segment
from ..tasks.watch import BEST
from ..train import threads
from ..train.distributed import barrier, world
from ..train.task import Result
from .dense import check_classes, dispatch, encoder_of, save_figure, save_grey, shown
from .dry_run import shortened
from .options import WeightsOptions, check_outputs
from .report import metrics_part, picture, prepare, table, write_json, write_page
from .training import RunOptions

SHOWN = 6  # test pictures in a report


@dataclass(frozen=True, kw_only=True)
class SegmentCommand(RunOptions):
    """Predict a class for every pixel: minimae segment DATA --weights W --out RUN trains a segmenter; minimae segment PICTURE --weights RUN
    uses it."""

    data: Positional[Annotated[tuple[str, ...], arg(metavar="DATA|PICTURE …")]] = ()  # type: ignore[assignment]
    """Data to train or evaluate a segmenter on: a folder with pictures and masks (train/images, train/masks, …), CamVid, VOC, ADE20K, or
    shapes. Or pictures to segment."""
    weights: Path = Path("photos-tiny")
    """Weights to start from: shipped weights by name, a run folder, a file of weights, or none; or the folder of a trained segmenter."""
    layout: OmitArgPrefixes[WeightsOptions] = field(default_factory=WeightsOptions)
    recipe: OmitArgPrefixes[Segment] = field(default_factory=Segment)
    name: Annotated[str, arg(name="recipe", metavar="RECIPE")] = ""  # Start from the settings of this recipe; minimae recipes lists them.
    scratch: bool = False  # Use only the size of the weights: train from scratch, with one learning rate for all layers.
    size: str = "nano"  # With --weights none: nano, micro, tiny, small, base, large or huge.
    patch: int | None = None  # With --weights none: height and width of a patch in pixels.
    validation: str | None = None
    """Measure mean IoU after each epoch, and keep the weights of the best epoch in best.pt. Measure on a share of the training pictures
    that is held out (0.1), or on the split val or test."""
    masks: Path | None = None  # For pictures: write the class numbers to this folder, as a grey PNG with the name of the picture.
    dry_run: bool = False  # Only run four steps and an evaluation, to find errors and to estimate the time of the full run.

    def __call__(self) -> None:
        dispatch(self, self.data, "segment", "a segmenter", load_segmented)

    def predict(self, model: Segmenter, about: dict[str, Any], device: str) -> None:
        """Segment pictures: print a line for each picture, and draw them all in one figure."""
        threads.in_this_process(model.encoder.size, device=device, images=1)
        model, rows = model.to(device), []
        pictures = [Path(name) for name in self.data]
        files = [] if self.masks is None else [self.masks / f"{path.stem}.png" for path in pictures]
        check_outputs(*files, inputs=pictures)
        for i, path in enumerate(pictures):
            pixels = read_picture(path, model.encoder.size.channels)[0]
            classes = predict(model, pixels, about["statistics"], how=about["settings"]["evaluate"])
            rows.append((shown(pixels), [classes.numpy()]))
            if files:
                save_grey(classes, files[i])
            share, label = (torch.bincount(classes.flatten()) / classes.numel()).sort(descending=True)
            named = (f"{about['classes'][c]} {v:.0%}" for v, c in zip(share[:4].tolist(), label.tolist()) if v >= 0.005)
            print(f"{path}: {', '.join(named)}")
        figure = segmentations(rows, ("picture", "prediction"), about["classes"])
        out = save_figure(figure, self.out, "segmentation.png", [*pictures, *files])
        print(f"{out}: the class of every pixel, predicted by {self.weights}")

    def measure(self, model: Segmenter, about: dict[str, Any], device: str) -> None:
        """Print the scores of a trained segmenter on test pictures. Raises MinimaeError when the classes differ."""
        test = self.splits(model.encoder.size.channels)[1]
        check_classes(self.weights, about["classes"], test)
        threads.in_this_process(model.encoder.size, device=device, images=1)
        score = evaluate(model.to(device), test, about["statistics"], how=about["settings"]["evaluate"])
        if world().main:
            print(f"{in_lines(score, test.classes)}\n{score} of {len(test):,} test pictures")

    def train(self, device: str) -> None:
        """Train, measure, and write the report."""
        recipe = for_processes(self.recipe, world().size)
        fresh = self.scratch or str(self.weights) == "none"
        recipe = replace(recipe, layer_decay=1.0) if fresh else recipe
        encoder, known = encoder_of(self, recipe.image or 64)
        train, test = self.splits(encoder.size.channels)
        if not any([bool((test.sample(i)[1] != IGNORE).any()) for i in range(len(test))]):  # reads all of them, before hours of training
            raise ValueError(f"all pixels of the {len(test)} masks of {test.name} to test on are ignored: there is nothing to measure")
        statistics = known or train.statistics
        given: dict[str, Any] = {"how": recipe.evaluate, "precision": recipe.precision}
        threads.in_this_process(encoder.size, recipe, device=device)
        encoder = encoder.to(device)
        if self.dry_run:
            self.take_few_steps(recipe, encoder, train, test, statistics, given)
            return
        train, validation = self.validated(train, test, recipe.seed)
        resume = self.begin(self.name, recipe, device, train, encoder.size)
        callbacks = [] if validation is None else [IoUValidation(validation, self.out, resume)]
        more: dict[str, Any] = {"resume": resume, "workers": self.readers, "callbacks": callbacks}
        model, result = segment(recipe, encoder, train, statistics, self.out, **more)
        score = evaluate(model, test, statistics, **given)
        best: dict[str, float] = {}
        if validation is not None and self.out is not None:
            barrier()  # the first process wrote the file
            chosen, _ = load_segmented(self.out / BEST)
            best = {"best.pt mean IoU %": evaluate(chosen.to(device), test, statistics, **given).mean}
        if world().main:
            self.keep(score, best, model, train, test, statistics, result, recipe, device)

    @property
    def readers(self) -> int:
        """Processes that read pictures; none for drawn scenes, which are in memory, or on one core."""
        return 0 if self.data == ("shapes",) else (self.where.reading.processes() - 1 if self.where.workers is None else self.where.workers)

    def splits(self, channels: int) -> tuple[Segmentation, Segmentation]:
        """Training and test pictures; prints once what was found."""
        train = open_segmentation(self.data[0], "train", channels=channels, limit=self.where.limit)
        if world().main:
            print(*train.notes, sep="\n", end="\n" * bool(train.notes))
        return train, open_segmentation(self.data[0], "test", channels=channels, limit=self.where.limit, like=train)

    def validated(self, train: Segmentation, test: Segmentation, seed: int) -> tuple[Segmentation, Segmentation | None]:
        """Training pictures, and those of ``--validation``."""
        if self.validation is None:
            return train, None
        if self.validation in ("val", "test"):
            given: dict[str, Any] = {"channels": train.channels, "limit": self.where.limit, "like": train}
            return train, test if self.validation == "test" else open_segmentation(self.data[0], "val", **given)
        try:
            held = held_out(torch.zeros(len(train), dtype=torch.int64), float(self.validation), seed=seed)
        except ValueError:
            raise ValueError(f"--validation takes a share of the training pictures (0.1), val or test, not {self.validation!r}") from None
        return train.subset(~held), train.subset(held)

    def take_few_steps(
        self, recipe: Segment, encoder: Encoder, train: Segmentation, test: Segmentation, statistics: Statistics, given: dict[str, Any]
    ) -> None:
        """Run a few steps, a checkpoint, and an evaluation; print the speed, and the time of the full run."""
        part = shortened(recipe, len(train), recipe.batch)
        with tempfile.TemporaryDirectory() as folder:
            model, result = segment(part, encoder, train, statistics, Path(folder) / "run", quiet=True, workers=self.readers)
            few = test.subset(range(min(4, len(test))))
            score = evaluate(model, few, statistics, **given)
        if not world().main:
            return
        print(f"{result.steps} steps, loss {result.history[0]['loss']:.3f} → {result.history[-1]['loss']:.3f}; "
              f"{score} on {len(few)} pictures (meaningless after so few steps)")  # fmt: skip
        rate = sorted(point["images_per_s"] for point in result.history[1:])[len(result.history) // 2 - 1]
        memory = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of GPU memory" if torch.cuda.is_available() else ""
        seconds = recipe.epochs * len(train) / rate
        print(f"{rate:,.1f} pictures/s{memory}: {recipe.epochs:g} epochs of {len(train):,} would take {seconds / 60:,.1f} minutes")

    def keep(self, score: IoU, best: dict[str, float], model: Segmenter, train: Segmentation, test: Segmentation, statistics: Statistics,
             result: Result, recipe: Segment, device: str) -> None:  # fmt: skip
        """Print the result; with a folder, write result.json, the picture, and the report."""
        each = dict(zip(test.classes, (None if value != value else round(value, 2) for value in score.classes), strict=True))
        print(in_lines(score, test.classes))
        print("".join(f"best epoch, in {BEST}: mean IoU {value:.1f} %\n" for value in best.values()), end="")
        print(f"{score} of {len(test):,} test pictures, last epoch, {result.seconds:.0f} s")
        if self.out is None:
            return
        prepare(self.out, recipe, device, self.words, again=True)
        numbers = {"mean IoU %": score.mean, "pixel accuracy %": score.pixels, **best, "test images": len(test), "steps": result.steps}
        write_json(self.out / "result.json", {**numbers, "seconds": result.seconds, "IoU %": each})
        figure, caption = examples(model, test, statistics, how=recipe.evaluate)
        rows = [("class", "IoU"), *((name, "–" if value is None else f"{value:.1f} %") for name, value in each.items())]
        text = f"<p>{html.escape(f'{score} of {len(test):,} test pictures of {test.name}, last epoch')}.</p>"
        parts = [text, picture(figure, self.out / "segmentation.png", caption), table(rows), metrics_part(self.out, result)]
        page = write_page(self.out, f"Segmentation of {train.name}", parts, recipe, device)
        print(f"open {page}")


def examples(model: Segmenter, test: Segmentation, statistics: Statistics, **options: Any) -> tuple[Any, str]:
    """Evenly spaced test pictures with their masks and the predictions: a figure and its caption."""
    few, rows = test.subset(torch.arange(min(SHOWN, len(test))) * len(test) // min(SHOWN, len(test))), []
    for i in range(len(few)):
        pixels, truth = (part.as_subclass(Tensor) for part in few.sample(i))
        rows.append((shown(pixels), [truth.numpy(), predict(model, pixels, statistics, **options).numpy()]))
    return segmentations(rows, ("picture", "truth", "prediction"), test.classes), "Test pictures, their masks, and the predicted classes."


def in_lines(score: IoU, classes: tuple[str, ...]) -> str:
    """The IoU of every class, one per line; a dash for a class that does not occur."""
    return "\n".join(
        f"  {name:24}{'–' if value != value else f'{value:.1f} %'}" for name, value in zip(classes, score.classes, strict=True)
    )
