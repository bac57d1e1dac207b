"""``minimae detect``: train a detector, measure one, or let it find the objects in your own pictures."""

from __future__ import annotations

import html
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from minimae_book.figures.objects import objects_figure
from tqdm import tqdm
from tyro.conf import OmitArgPrefixes, Positional, Suppress, arg

from ..data.folder import suffixes
from ..data.instances import Instances, open_instances
from ..errors import MinimaeError
from ..model.sizes import size
from ..model.vit import Encoder
from ..recipes import brief, describe_run, for_processes
from ..tasks.detect import Detect, Detector, evaluate_detector, load_detector, objects_in, train_detector
from ..tasks.reconstruct import read_picture
from ..train import threads
from ..train.checkpoint import CHECKPOINT, load_checkpoint
from ..train.distributed import join, world
from ..train.folder import locked
from ..weights import Classified
from .options import WeightsOptions, pick_device, resumes
from .report import metrics_part, picture, prepare, write_json, write_page

SHOWN = 6  # test pictures in a report
NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Network:
    """The encoder without trained weights."""

    size: str = "micro"  # With --weights none: a named size …
    patch: int = 8  # … and the side of a patch in pixels.
    depth: int | None = None  # … and the number of blocks, by default the size's.


@dataclass(frozen=True, kw_only=True)
class DetectCommand:
    """Find objects, with boxes and masks: minimae detect DATA --weights W --out RUN trains a detector; minimae detect PICTURE --weights
    RUN uses it."""

    data: Positional[Annotated[tuple[str, ...], arg(metavar="DATA|PICTURE …")]]
    """shapes, a folder with images/ and masks/, or COCO's JSON: to learn, or to measure a trained detector on. Or pictures."""
    weights: str
    """What the encoder starts from: shipped weights by name, a run folder, a file of weights, or none. Or the folder of a detector."""
    layout: OmitArgPrefixes[WeightsOptions] = field(default_factory=WeightsOptions)
    network: OmitArgPrefixes[Network] = field(default_factory=Network)
    recipe: OmitArgPrefixes[Detect] = field(default_factory=Detect)
    out: Path | None = None  # Folder of the run; of pictures the file of the figure, by default objects.png.
    resume: bool = False  # Continue the run in --out: give the other options as before.
    auto_resume: bool = False  # Continue the run in --out if there is one, otherwise start it.
    limit: int | None = None  # Use at most this many pictures of each split.
    least: float = 0.5  # In figures, the lowest score of an object.
    device: str = "auto"  # cpu, cuda, cuda:1 …; auto takes the GPU if there is one.
    workers: int | None = None  # Processes that read pictures; by default none for small pictures, else one for each core.
    words: Suppress[tuple[str, ...]] = ()

    def __call__(self) -> None:
        device = join(os.environ, pick_device(self.device))
        trained = None if self.weights == NONE else trained_detector(Path(self.weights).expanduser())
        if all(Path(name).suffix.lower() in suffixes() for name in self.data):
            if trained is None:
                raise MinimaeError(
                    f"{self.weights} is no detector, so it finds nothing in {self.data[0]}: train one with minimae detect DATA"
                )
            self.find(*trained, device)
        elif len(self.data) > 1:
            raise ValueError(f"one set of pictures to learn, or several pictures; not {' and '.join(self.data[:2])}")
        elif trained is not None:
            detector, about = trained
            recipe = detector.recipe
            test = open_instances(self.data[0], "test", image=recipe.image, channels=detector.encoder.size.channels, limit=self.limit)
            if len(test.classes) != len(about["classes"]):
                raise MinimaeError(f"{self.weights} knows {len(about['classes'])} classes, and {test.name} has {len(test.classes)}")
            threads.in_this_process(detector.encoder.size, device=device, images=1)
            print(scores_in_words(measured(detector.to(device), test)) + f" ({len(test):,} test pictures of {test.name})")
        else:
            self.train(device)

    def find(self, detector: Detector, about: dict[str, Any], device: str) -> None:
        """Find objects in pictures: a line for each, and a figure of all."""
        threads.in_this_process(detector.encoder.size, device=device, images=1)
        detector.to(device)
        rows = []
        for path in self.data:
            pixels = read_picture(Path(path), detector.encoder.size.channels)[0]
            found = objects_in(detector, pixels, least=self.least)
            print(f"{path}: {counted(found, about['classes']) or f'nothing above a score of {self.least:g}'}")
            rows.append((pixels, [found]))
        out = (self.out or Path("objects.png")).with_suffix(".png")
        out.parent.mkdir(parents=True, exist_ok=True)
        objects_figure(rows, [""], about["classes"], pairs=min(3, len(rows))).savefig(out)
        print(f"{out}: boxes and masks above a score of {self.least:g}")

    def train(self, device: str) -> None:
        """Train, measure, and write the report."""
        recipe, data = for_processes(self.recipe, world().size), self.data[0]
        loaded: Any = None if self.weights == NONE else self.layout.load(self.weights)
        if loaded is None:
            recipe, given = replace(recipe, layer_decay=1.0), asdict(self.network)
            torch.manual_seed(recipe.seed)
            changes = {name: value for name, value in given.items() if name != "size" and value is not None}
            encoder = Encoder(size(self.network.size, image=recipe.image, channels=3, **changes))
        else:
            encoder = loaded.classifier.encoder if isinstance(loaded, Classified) else loaded.model.encoder
        channels = encoder.size.channels
        if channels not in (1, 3):
            raise ValueError(f"these weights take {channels} channels, and pictures have 1 or 3")
        train, test = (open_instances(data, s, image=recipe.image, channels=channels, limit=self.limit) for s in ("train", "test"))
        if train.classes != test.classes:
            raise ValueError(f"the classes of training and test pictures differ: {', '.join(train.classes)}; {', '.join(test.classes)}")
        threads.in_this_process(encoder.size, recipe, device=device)
        statistics = train.statistics if loaded is None else loaded.statistics
        about: dict[str, Any] = {"images": len(train), "size": encoder.size, "processes": world().size}
        what = f"{train.name}: {len(train):,} pictures, {len(test):,} to test on; classes: {', '.join(train.classes[:8])}"
        print(*train.notes, brief(recipe, None, data=what, device=device, out=self.out, **about), sep="\n", flush=True)
        resume = self.out is not None and resumes(self.out, resume=self.resume, auto=self.auto_resume)
        if self.out is not None:
            with locked(self.out):
                if world().main and not resume:
                    prepare(self.out, recipe, device, self.words, text=describe_run(None, recipe, **about))
        given = {"resume": resume, "workers": self.workers}
        detector, result = train_detector(recipe, encoder.to(device), train, statistics, self.out, **given)
        if world().main:
            scores = measured(detector, test)
            if self.out is not None:
                self.report(self.out, detector, scores, test, result, device)
            print(f"{scores_in_words(scores)} ({len(test):,} test pictures, last epoch; {result.seconds:.0f} s of training)")

    def report(self, out: Path, detector: Detector, scores: dict[str, float], test: Instances, result: Any, device: str) -> None:
        """Write result.json, and a page with the scores, some test pictures and every logged number."""
        numbers = {f"{name} %": value for name, value in scores.items()}
        write_json(out / "result.json", {**numbers, "test pictures": len(test), "steps": result.steps, "seconds": result.seconds})
        count = min(SHOWN, len(test))
        chosen = [i * len(test) // count for i in range(count)]
        rows = [(test.read(i), [test.target(i), objects_in(detector, test.read(i), least=self.least)]) for i in chosen]
        figure = objects_figure(rows, ["marked", "found"], test.classes, pairs=2)
        caption = (
            f"{count} test pictures of {test.name}: the objects that are marked, and those found with a score of at least {self.least:g}."
        )
        words = f"{scores_in_words(scores)}, on {len(test):,} test pictures of {test.name}, after the last epoch."
        parts = [f"<p>{html.escape(words)}</p>", picture(figure, out / "objects.png", caption), metrics_part(out, result)]
        print(f"open {write_page(out, f'Objects in {test.name}', parts, detector.recipe, device)}")


def trained_detector(path: Path) -> tuple[Detector, dict[str, Any]] | None:
    """The detector of a run's folder or checkpoint; None for other weights."""
    file = path / CHECKPOINT if path.is_dir() else path
    if file.suffix != ".pt" or not file.is_file() or load_checkpoint(file)["kind"] != "detect":
        return None
    return load_detector(path)


def measured(detector: Detector, test: Instances) -> dict[str, float]:
    """The scores of a detector, with a progress bar."""
    with tqdm(total=len(test), unit="picture", dynamic_ncols=True, desc="measuring", mininterval=5) as bar:
        return evaluate_detector(detector, test, say=lambda index: bar.update())


def scores_in_words(scores: dict[str, float]) -> str:
    """The scores in a line."""
    return "; ".join(
        f"{what}: AP {scores[f'{key} AP']:.1f} (AP50 {scores[f'{key} AP50']:.1f}, AP75 {scores[f'{key} AP75']:.1f})"
        for what, key in (("boxes", "box"), ("masks", "mask"))
    )


def counted(found: dict[str, Any], classes: Any) -> str:
    """How many objects of each class were found."""
    labels = found["labels"].tolist()
    return ", ".join(f"{labels.count(label)} × {classes[label - 1]}" for label in sorted(set(labels)))
