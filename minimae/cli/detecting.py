"""``minimae detect``: train a detector with boxes and masks, measure it, and find the objects in your own pictures."""

from __future__ import annotations

import html
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from minimae_book.figures.objects import objects_figure
from tqdm import tqdm
from tyro.conf import OmitArgPrefixes, Positional, arg

from ..data.instances import Instances, open_instances
from ..recipes import for_processes
from ..tasks.detect import Detect, Detector, evaluate_detector, load_detector, objects_in, train_detector
from ..tasks.reconstruct import read_picture
from ..train import threads
from ..train.distributed import world
from ..train.task import Result
from .dense import check_classes, dispatch, encoder_of, save_figure
from .options import WeightsOptions
from .report import metrics_part, picture, prepare, write_json, write_page
from .training import RunOptions

SHOWN = 6  # test pictures in a report


@dataclass(frozen=True, kw_only=True)
class DetectCommand(RunOptions):
    """Predict boxes and masks of objects: minimae detect DATA --weights W --out RUN trains a detector; minimae detect PICTURE --weights RUN
    uses it."""

    data: Positional[Annotated[tuple[str, ...], arg(metavar="DATA|PICTURE …")]] = ()  # type: ignore[assignment]
    """Data to train or evaluate a detector on: a folder with images/ and masks/ (objects numbered from 1), a folder with COCO's JSON, this
    JSON itself, or shapes. Or pictures in which to detect objects."""
    weights: Path = Path("photos-tiny")
    """Weights to start from: shipped weights by name, a run folder, a file of weights, or none; or the folder of a trained detector."""
    layout: OmitArgPrefixes[WeightsOptions] = field(default_factory=WeightsOptions)
    recipe: OmitArgPrefixes[Detect] = field(default_factory=Detect)
    name: Annotated[str, arg(name="recipe", metavar="RECIPE")] = ""  # Start from the settings of this recipe; minimae recipes lists them.
    scratch: bool = False  # Use only the size of the weights: train from scratch, with one learning rate for all layers.
    size: str = "nano"  # With --weights none: nano, micro, tiny, small, base, large or huge.
    patch: int = 8  # With --weights none: height and width of a patch in pixels.
    least: float = 0.5  # Lowest score of the objects that are printed and drawn.

    def __call__(self) -> None:
        dispatch(self, self.data, "detect", "a detector", load_detector)

    def predict(self, detector: Detector, about: dict[str, Any], device: str) -> None:
        """Find the objects in pictures: print a line for each picture, and draw them all in one figure."""
        threads.in_this_process(detector.encoder.size, device=device, images=1)
        detector, rows, classes = detector.to(device), [], about["classes"]
        for path in map(Path, self.data):
            pixels = read_picture(path, detector.encoder.size.channels)[0]
            found = objects_in(detector, pixels, least=self.least)
            labels = found["labels"].tolist()
            named = ", ".join(f"{labels.count(label)} × {classes[label - 1]}" for label in sorted(set(labels)))
            print(f"{path}: {named or f'nothing with a score of at least {self.least:g}'}")
            rows.append((pixels, [found]))
        out = save_figure(objects_figure(rows, [""], classes, pairs=min(3, len(rows))), self.out, "objects.png", self.data)
        print(f"{out}: boxes and masks of objects, predicted by {self.weights}")

    def measure(self, detector: Detector, about: dict[str, Any], device: str) -> None:
        """Print the scores of a trained detector on test pictures. Raises MinimaeError when the classes differ."""
        test = self.splits(detector.recipe, detector.encoder.size.channels)[1]
        check_classes(self.weights, about["classes"], test)
        threads.in_this_process(detector.encoder.size, device=device, images=1)
        if world().main:
            print(f"{in_words(measured(detector.to(device), test))}; {len(test):,} test pictures of {test.name}")

    def train(self, device: str) -> None:
        """Train, measure, and write the report."""
        recipe = for_processes(self.recipe, world().size)
        encoder, known = encoder_of(self, recipe.image)
        if self.scratch or known is None:
            recipe = replace(recipe, layer_decay=1.0)
        train, test = self.splits(recipe, encoder.size.channels)
        statistics = known or train.statistics
        threads.in_this_process(encoder.size, recipe, device=device)
        resume = self.begin(self.name, recipe, device, train, encoder.size)
        workers = self.where.workers
        detector, result = train_detector(recipe, encoder.to(device), train, statistics, self.out, resume=resume, workers=workers)
        if world().main:
            self.keep(measured(detector, test), detector, train, test, result, recipe, device)

    def splits(self, recipe: Detect, channels: int) -> tuple[Instances, Instances]:
        """Training and test pictures; prints once what was held out or left out."""
        given: dict[str, Any] = {"image": recipe.image, "channels": channels, "limit": self.where.limit}
        train, test = (open_instances(self.data[0], split, **given) for split in ("train", "test"))
        if train.classes != test.classes:
            raise ValueError(f"the classes of training and test pictures differ: {', '.join(train.classes)}; {', '.join(test.classes)}")
        for part in (train, test):
            if not any(len(part.target(i)["labels"]) for i in range(len(part))):
                raise ValueError(f"none of the {len(part)} pictures of {part.name} to {'learn' if part is train else 'test'} has an object")
        if world().main:
            print(*train.notes, sep="\n", end="\n" * bool(train.notes))
        return train, test

    def keep(self, scores: dict[str, float], detector: Detector, train: Instances, test: Instances, result: Result, recipe: Detect,
             device: str) -> None:  # fmt: skip
        """Print the scores; with a folder, write result.json, the picture, and the report."""
        words = f"{in_words(scores)}; {len(test):,} test pictures of {test.name}, last epoch"
        if self.out is not None:
            prepare(self.out, recipe, device, self.words, again=True)
            numbers = {f"{name} %": value for name, value in scores.items()}
            about = {"training pictures": len(train), "test pictures": len(test), "steps": result.steps, "seconds": result.seconds}
            write_json(self.out / "result.json", {**numbers, **about})
            figure, caption = examples(detector, test, self.least)
            parts = [f"<p>{html.escape(words[0].upper() + words[1:])}.</p>", picture(figure, self.out / "objects.png", caption)]
            page = write_page(self.out, f"Objects in {train.name}", [*parts, metrics_part(self.out, result)], recipe, device)
            print(f"open {page}")
        print(f"{words}, {result.seconds:.0f} s")


def measured(detector: Detector, test: Instances) -> dict[str, float]:
    """The scores of a detector, with a progress bar."""
    with tqdm(total=len(test), unit="picture", dynamic_ncols=True, desc="measuring", mininterval=5) as bar:
        return evaluate_detector(detector, test, say=lambda index: bar.update())


def in_words(scores: dict[str, float]) -> str:
    """The scores in one line."""
    return "; ".join(
        f"{what}: AP {scores[f'{key} AP']:.1f} (AP50 {scores[f'{key} AP50']:.1f}, AP75 {scores[f'{key} AP75']:.1f})"
        for what, key in (("boxes", "box"), ("masks", "mask"))
    )


def examples(detector: Detector, test: Instances, least: float) -> tuple[Any, str]:
    """Evenly spaced test pictures with their true and predicted objects: a figure and its caption."""
    count = min(SHOWN, len(test))
    chosen = [(test.read(i), test.target(i)) for i in (k * len(test) // count for k in range(count))]
    rows = [(pixels, [truth, objects_in(detector, pixels, least=least)]) for pixels, truth in chosen]
    caption = f"Test pictures with their true objects, and those predicted with a score of at least {100 * least:.0f} %."
    return objects_figure(rows, ["truth", "prediction"], test.classes, pairs=2), caption
