"""``minimae detect``: train a detector with boxes and masks, measure it, and find the objects in your own pictures."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from minimae_book.figures.objects import objects_figure
from torch import Tensor
from tqdm import tqdm
from tyro.conf import OmitArgPrefixes, Positional, arg

from ..data.folder import suffixes
from ..data.instances import Instances, open_instances
from ..data.types import Statistics
from ..errors import MinimaeError
from ..model.sizes import size as named_size
from ..model.vit import Encoder
from ..recipes import for_processes
from ..tasks.detect import Detect, Detector, evaluate_detector, load_detector, objects_in, train_detector
from ..tasks.reconstruct import read_picture
from ..train import threads
from ..train.checkpoint import CHECKPOINT, load_checkpoint
from ..train.distributed import world
from ..train.task import Result
from ..weights import Classified
from ..weights.files import whole
from .options import DataOptions, WeightsOptions
from .report import metrics_part, picture, prepare, write_json, write_page
from .training import RunOptions

SHOWN = 6  # test pictures in a report
IDLE = ("data_root", "download", "skip_corrupt", "read_from", "bits", "crop_on")  # image options that do not apply here


def refuse_idle(where: DataOptions, command: str) -> None:
    """Raises ValueError for an option about images that this command would ignore."""
    if idle := [name for name in IDLE if getattr(where, name) != getattr(DataOptions, name)]:
        raise ValueError(f"--{idle[0].replace('_', '-')} does not apply to minimae {command}: leave it out")


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
        device = self.where.join()
        refuse_idle(self.where, "detect")
        if not self.data:
            raise ValueError("name a folder with pictures and objects, or a picture: minimae detect DATA, or minimae detect PICTURE")
        trained = trained_of(self.weights, "detect", load_detector)
        if all(Path(name).suffix.lower() in suffixes() for name in self.data):
            if trained is None:
                raise MinimaeError(f"{self.weights} is not a detector: train one with minimae detect DATA --out RUN, and use --weights RUN")
            self.predict(*trained, device)
        elif len(self.data) > 1:
            raise ValueError(f"give one data set, or one or more pictures, not {' and '.join(self.data[:2])}")
        elif trained is not None:
            self.measure(*trained, device)
        else:
            self.train(device)

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
        out = (self.out or Path("objects.png")).with_suffix(".png")
        with whole(out) as partial:
            objects_figure(rows, [""], classes, pairs=min(3, len(rows))).savefig(partial)
        print(f"{out}: boxes and masks of objects, predicted by {self.weights}")

    def measure(self, detector: Detector, about: dict[str, Any], device: str) -> None:
        """Print the scores of a trained detector on test pictures. Raises MinimaeError when the classes differ."""
        test = self.splits(detector.recipe, detector.encoder.size.channels)[1]
        if list(test.classes) != list(about["classes"]):
            names = (", ".join(classes[:5]) for classes in (about["classes"], test.classes))
            raise MinimaeError(f"{self.weights} was trained on other classes than those of {test.name}: " + ", …; ".join(names) + ", …")
        threads.in_this_process(detector.encoder.size, device=device, images=1)
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


def trained_of(path: Path, kind: str, load: Callable[[Path], Any]) -> tuple[Any, dict[str, Any]] | None:
    """The model of a run's folder or checkpoint, as ``load`` reads it, and its metadata; None for weights of another kind."""
    file = path / CHECKPOINT if path.is_dir() else path
    try:
        found = file.suffix == ".pt" and file.is_file() and load_checkpoint(file)["kind"] == kind
    except MinimaeError:
        if path.is_dir():
            raise
        found = False  # a file of another library, or a damaged one, as reading its weights will report
    return load(path) if found else None


def encoder_of(command: Any, image: Any) -> tuple[Encoder, Statistics | None]:
    """The encoder that a command of this kind starts from, and the statistics that it was trained with. image: of a fresh one."""
    torch.manual_seed(command.recipe.seed)
    if str(command.weights) == "none":
        changes: dict[str, Any] = {} if command.patch is None else {"patch": command.patch}
        return Encoder(named_size(command.size, image=image, channels=3, **changes)), None
    trained: Any = command.layout.load(command.weights)
    encoder = trained.classifier.encoder if isinstance(trained, Classified) else trained.model.encoder
    if encoder.size.channels not in (1, 3):
        raise ValueError(f"these weights take {encoder.size.channels} channels, but pictures have 1 or 3")
    return Encoder(encoder.size) if command.scratch else encoder, trained.statistics


def shown(pixels: Tensor) -> np.ndarray:
    """uint8 ``c height width`` → ``height width 3`` in [0, 1]."""
    return np.moveaxis(pixels.expand(3, -1, -1).numpy() / 255, 0, -1)
