"""``minimae race``: pre-training and fine-tuning on CIFAR-10 against the clock, from a packed file, in as many calls as it takes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from tyro.conf import Positional, arg

from minimae.cli.options import pick_device
from minimae.cli.report import environment, write_json
from minimae.data import DOWNLOADS, load
from minimae.data.augment import Augmentation
from minimae.data.images import Images
from minimae.data.loader import in_memory
from minimae.data.stream import open_stream, packed
from minimae.devices import cores, set_device
from minimae.model.sizes import Size
from minimae.recipes import step_flops
from minimae.recipes.small import RACES as GOALS
from minimae.tasks.evaluation import evaluate
from minimae.tasks.features import extract
from minimae.tasks.finetune import Finetune, finetune
from minimae.tasks.knn import accuracy
from minimae.tasks.pretrain import Pretrain, pretrain
from minimae.tasks.probe import probe_predict
from minimae.train.folder import can_resume
from minimae.train.settings import Settings

from ..stopping import same_command

IMAGES = 50_000
RATE = 40_000  # images of pre-training a second that one H200 must reach with ViT-T/4
VIT_T = Pretrain(data="cifar10", size="tiny", patch=4, image=32)


@dataclass(frozen=True, kw_only=True)
class Race:
    """Pre-training and fine-tuning within ``minutes``, with an accuracy of at least ``goal`` percent.

    The epochs fill about 85 % of the time, by the step's operations at the rate above (about 35 TFLOP/s).
    **Not yet run on a GPU.**
    """

    minutes: int
    goal: float
    pretrain: Pretrain
    tune: Finetune

    @property
    def name(self) -> str:
        return f"cifar10-{self.minutes}min"

    @property
    def size(self) -> Size:
        return self.pretrain.size_at(32, 3)

    def planned_seconds(self, images: int = IMAGES) -> dict[str, float]:
        """The seconds of both parts at the rate above."""
        rate = RATE * step_flops(VIT_T, VIT_T.size_at(32, 3))
        parts = {"pre-training": self.pretrain, "fine-tuning": self.tune}
        return {name: part.epochs * images * step_flops(part, self.size) / rate for name, part in parts.items()}


RACES = {minutes: Race(minutes=minutes, goal=goal, pretrain=start, tune=tune) for minutes, (goal, start, tune) in GOALS.items()}


@dataclass(frozen=True, kw_only=True)
class RaceCommand:
    """CIFAR-10 against the clock: minimae race 5 (or 15, 45) pre-trains, probes and fine-tunes; run it again to continue."""

    minutes: Positional[Annotated[Literal[5, 15, 45], arg(metavar="{5,15,45}")]]
    """How long the race lasts on one GPU."""
    data: str = "cifar10"
    """cifar10, or a folder: packed (minimae data pack) or with a folder for each class. Images are read into memory once."""
    data_root: Path = DOWNLOADS
    """Folder of downloaded data sets."""
    download: bool = False
    """Fetch the data set if it is missing."""
    out: Path = Path("runs/race")
    """Everything goes to OUT/cifar10-MINUTESmin-SEED."""
    seed: int = 0
    """Decides the initial weights, the order of the images, masks and crops."""
    part: float = 1.0
    """Run only this share of all epochs, as a trial; the result is marked and says nothing about the goal."""
    limit: int | None = None
    """Use at most this many images of each split; marked likewise."""
    device: str = "auto"
    """cpu, cuda, cuda:1 …; auto takes the GPU if there is one."""

    def __call__(self) -> None:
        if not 0 < self.part <= 1:
            raise ValueError(f"--part is a share of the epochs above 0 and at most 1, not {self.part}")
        race, device = RACES[self.minutes], set_device(pick_device(self.device))
        trial = "" if self.part == 1 and self.limit is None else f"-trial-{self.part:g}-{self.limit or 'all'}"
        out = self.out / f"{race.name}-{self.seed}{trial}"
        clock = Clock(out)
        with clock.part("loading"):
            train, test = (self.images(split) for split in ("train", "test"))
        with same_command(out, "checkpoints and the clock are"):
            result = run_race(shortened(race, self.part, self.seed, device), train, test, out, clock, device)
        result |= {"trial": bool(trial), "command": self.again(), "note": "accuracies are those of the last epoch; the test images were used for nothing else"}
        write_json(out / "race.json", result)
        print(verdict(result), f"{out / 'race.json'}", sep="\n")

    def images(self, split: str) -> Images:
        """A split in memory, 32 × 32 in colour."""
        folder = Path(self.data).expanduser()
        if packed(folder):
            how: dict[str, Any] = {"image": (32, 32), "augmentation": Augmentation(scale=None, flip=False)}
            images = in_memory(open_stream(folder, split), workers=cores(), **how)
        else:
            images = load(self.data, split, root=self.data_root, image=32, channels=3, download=self.download)
        return images if self.limit is None or self.limit >= len(images) else images.balanced_subset(self.limit)

    def again(self) -> str:
        """The command, without folders."""
        extra = [f"--part {self.part:g}"] * (self.part != 1) + [f"--limit {self.limit}"] * (self.limit is not None)
        return " ".join(["minimae race", str(self.minutes), "--seed", str(self.seed), *extra])


class Clock:
    """Seconds by part, kept in ``clock.json`` however a part ends: stopped calls and repeated work count too."""

    def __init__(self, out: Path) -> None:
        self.path = out / "clock.json"
        out.mkdir(parents=True, exist_ok=True)

    @property
    def seconds(self) -> dict[str, float]:
        seconds: dict[str, float] = json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {}
        return seconds

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time spent inside to this part."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = self.seconds
            write_json(self.path, {**spent, name: round(spent.get(name, 0.0) + time.perf_counter() - started, 2)})


def shortened(race: Race, part: float, seed: int, device: str) -> Race:
    """The race with a seed and a share of its epochs, without CUDA graphs if there is no GPU."""

    def fitted(recipe: Settings) -> Any:
        epochs, warmup = recipe.epochs * part, recipe.warmup_epochs * part
        return replace(recipe, seed=seed, epochs=epochs, warmup_epochs=warmup, graph=recipe.graph and device.startswith("cuda"))

    return replace(race, pretrain=fitted(race.pretrain), tune=fitted(race.tune))


def run_race(race: Race, train: Images, test: Images, out: Path, clock: Clock, device: str) -> dict[str, Any]:
    """Both trainings and the probe; finished parts are not repeated. → the whole result.

    Raises Interrupted when it is stopped; the same call continues.
    """
    assert train.labels is not None and test.labels is not None
    first, second = out / "pretrain", out / "finetune"
    with clock.part("pre-training"):
        mae, learned = pretrain(race.pretrain, train, first, resume=can_resume(first), device=device)
    with clock.part("probe"):
        train_features, test_features = (
            extract(mae.encoder, images, train.statistics, precision=race.pretrain.precision) for images in (train, test)
        )
        probe = accuracy(probe_predict(train_features, train.labels, test_features, seed=race.pretrain.seed)[0], test.labels)
    with clock.part("fine-tuning"):
        classifier, tuned = finetune(race.tune, mae.encoder, train, train.statistics, second, resume=can_resume(second))
    with clock.part("evaluation"):
        right = evaluate(classifier, test, train.statistics, precision=race.tune.precision).top1
    spent = clock.seconds
    return {
        "race": race.name, "goal": {"accuracy": race.goal, "probe": 65.0, "minutes": race.minutes},
        "accuracy": round(right, 2), "probe": round(probe, 2),
        "minutes": round(sum(value for name, value in spent.items() if name != "probe") / 60, 2), "seconds": spent,
        "planned seconds on one H200": {name: round(value) for name, value in race.planned_seconds(len(train)).items()},
        "parameters": {"with decoder": count(mae), "classifier": count(classifier)},
        "loss": {"pre-training": curve(learned.history), "fine-tuning": curve(tuned.history)},
        "images": {"train": len(train), "test": len(test), "data": train.name},
        "recipes": {"pretrain": asdict(race.pretrain), "tune": asdict(race.tune)}, "environment": environment(device),
    }  # fmt: skip


def count(model: torch.nn.Module) -> int:
    """Count the parameters that are or could be learned; fixed positions are not."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def curve(history: list[dict[str, float]], points: int = 24) -> list[tuple[int, float]]:
    """(step, loss), thinned out."""
    kept = history[:: max(1, len(history) // points)] + history[-1:]
    return [(int(point["step"]), round(point["loss"], 4)) for point in kept]


def verdict(result: dict[str, Any]) -> str:
    """A summary in one line."""
    goal = result["goal"]
    line = (
        f"{result['race']}: {result['accuracy']:.2f} % fine-tuned, {result['probe']:.2f} % linear probe, in {result['minutes']:.1f} minutes"
    )
    if result["trial"]:
        return f"{line}; a trial: it says nothing about the goal of {goal['accuracy']:g} % in {goal['minutes']} minutes"
    reached = result["accuracy"] >= goal["accuracy"] and result["minutes"] <= goal["minutes"]
    return f"{line}; the goal, {goal['accuracy']:g} % in {goal['minutes']} minutes, is {'reached' if reached else 'missed'}"
