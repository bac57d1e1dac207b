"""Watch a run while it trains, with callbacks. They measure the model at log points and never change what is trained.

A callback is any callable ``callback(task, log)``. The loop calls it at each log point, in every process, with the task
(``task.model``) and the numbers of the log point (step, epoch, loss, …). The numbers that it returns join the log point, and so reach
metrics.jsonl, TensorBoard, Weights & Biases and the curves of the report. It may leave the model in evaluation mode, and leaves the
weights as they were. An attribute ``every``, in epochs, adds a log point after each multiple of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..data.augment import normalise
from ..data.images import Images
from ..data.types import ImageDataset
from ..devices import device_of
from ..model.patches import pair
from ..model.sizes import Size
from ..model.units import make_partial_mask
from ..train.checkpoint import load_checkpoint, save_checkpoint
from ..train.distributed import world
from ..train.ema import Averaged
from ..train.precision import evaluating
from ..train.schedule import epochs_done
from ..train.task import Task
from .evaluation import evaluate
from .features import extract
from .knn import accuracy, knn_predict
from .loading import DEFAULTS, LoaderConfig, some
from .pretrained import Pretrained
from .probe import probe_predict
from .reconstruct import Triplet, reconstruct_batch

Kind = Literal["knn", "probe", "rank", "validation", "reconstructions"]
Log = dict[str, float]
BEST = "best.pt"
SHOWN = 8  # images whose reconstructions are drawn


def due(task: Task, log: Log, every: float) -> bool:
    """Whether another ``every`` epochs are complete with this step, or training ends here.

    Only the step decides, so a resumed run is watched at the same steps.
    """
    step = int(log["step"])
    return epochs_done(step, step / log["epoch"], every) is not None or step == task.settings.steps(task.images, world().size)


def effective_rank(features: Tensor) -> float:
    """RankMe of features ``N d``: how many directions they use, from 1 to min(N, d).

    The exponential of the entropy of the singular values, divided by their sum (Garrido et al., arXiv 2210.02885, Equations 1 and 2).
    """
    values = torch.linalg.svdvals(features.double())
    share = values / values.sum() + 1e-7
    return float((-share * share.log()).sum().exp())


@dataclass(frozen=True, eq=False)
class Watch:
    """A callback for pre-training, made by :func:`watch`. Only the first process measures."""

    kinds: frozenset[Kind]
    every: float
    train: Images
    held_out: Images
    draw: Callable[[list[Triplet], str], Any] | None

    def __call__(self, task: Any, log: Log) -> Log | None:
        if not world().main or not due(task, log, self.every):
            return None
        model, recipe, statistics, kinds, numbers = task.model, task.recipe, task.statistics, self.kinds, {}
        model.eval()
        if kinds & {"knn", "probe", "rank"}:
            test = extract(model.encoder, self.held_out, statistics, precision=recipe.precision)
        if kinds & {"knn", "probe"}:
            train = extract(model.encoder, self.train, statistics, precision=recipe.precision)
            given: Any = (train, self.train.labels, test)
            truth: Any = self.held_out.labels
            if "knn" in kinds:
                numbers["knn_accuracy"] = accuracy(knn_predict(*given, k=min(20, len(train))), truth)
            if "probe" in kinds:
                numbers["probe_accuracy"] = accuracy(probe_predict(*given)[0], truth)
        if "rank" in kinds:
            numbers["feature_rank"] = effective_rank(test)
        if "validation" in kinds:
            numbers["validation_loss"] = validation_loss(task, self.held_out)
        if "reconstructions" in kinds and self.draw is not None:
            shown = self.held_out.subset(range(min(SHOWN, len(self.held_out))))
            triplets, _ = reconstruct_batch(Pretrained(model, recipe, statistics), shown.pixels, seed=recipe.seed, ids=shown.ids)
            self.draw(triplets, f"epoch-{log['epoch']:07.2f}")
        return numbers


@torch.no_grad()
def validation_loss(task: Any, images: Images) -> float:
    """The pre-training loss of whole held-out images, each with the same mask every time."""
    recipe, model, device, total = task.recipe, task.model, device_of(task.model), 0.0
    given: dict[str, Any] = {name: getattr(recipe, name) for name in ("ratio", "sampling", "seed", "unit")}
    for index in torch.arange(len(images)).split(250):
        part = images.subset(index)
        mask = make_partial_mask(part.ids, model.size.grid, **given).to(device)
        pixels = normalise(part.pixels.to(device), task.statistics)
        with evaluating(device, recipe.precision):
            total += float(model(pixels, mask).loss) * len(index)
    return total / len(images)


def watch(
    kinds: Sequence[Kind],
    size: Size,
    train: ImageDataset,
    held_out: ImageDataset | None,
    *,
    every: float = 1.0,
    images: int = 2000,
    draw: Callable[[list[Triplet], str], Any] | None = None,
    reading: LoaderConfig = DEFAULTS,
) -> Watch:
    """A callback that measures the model every ``every`` epochs, on at most ``images`` training and ``images`` held-out images.

    knn, probe: accuracy in percent on the held-out images, from the training images and their labels, which are used for this alone and
    never for training. rank: :func:`effective_rank` of the held-out features. validation: the loss of the held-out images.
    reconstructions: ``draw(triplets, name)`` gets those of the first eight held-out images.
    Raises ValueError when images, labels or ``draw`` are missing.
    """
    if held_out is None:
        raise ValueError(f"watching {', '.join(kinds)} needs held-out images: {train.name} has no test part")
    if {"knn", "probe"} & set(kinds) and (train.labels is None or held_out.labels is None):
        raise ValueError("k-NN and probe need labels: one folder per class in the training and the test part, or watch something else")
    if "reconstructions" in kinds and draw is None:
        raise ValueError("watching reconstructions needs draw=, a function that gets them")
    if not every > 0:
        raise ValueError(f"the number of epochs between two measurements must be above 0, not {every}")
    view: dict[str, Any] = {"image": pair(size.image), "skip_corrupt": reading.skip_corrupt, "workers": reading.processes()}
    parts = [some(part, images if world().main else 1, **view) for part in (train, held_out)]
    return Watch(frozenset(kinds), every, parts[0], parts[1], draw)


@dataclass(eq=False)
class Validation:
    """A callback for fine-tuning: accuracy and loss on ``images`` once an epoch; the best weights go to ``best.pt`` in ``out``.

    It logs validation_top1, validation_top5 (with more than five classes) and validation_loss. best: the highest top-1 so far.
    """

    images: ImageDataset
    out: Path | None = None
    resume: bool = False
    best: float | None = None
    every: float = 1.0
    judged_by = "validation_top1"

    def __call__(self, task: Any, log: Log) -> Log | None:
        if not due(task, log, self.every):
            return None
        numbers = self.measure(task, task.model.average if isinstance(task.model, Averaged) else task.model)
        if self.best is None:
            stored = self.out is not None and self.resume and (self.out / BEST).is_file()
            self.best = load_checkpoint(self.out / BEST)["validation"][self.judged_by] if stored else -1.0  # type: ignore[operator]
        if numbers[self.judged_by] > self.best:
            self.best = numbers[self.judged_by]
            if self.out is not None and world().main:
                state = {"kind": task.kind, "settings": asdict(task.settings), **task.metadata(), "step": log["step"], "history": []}
                state |= {"validation": {**numbers, "epoch": log["epoch"]}, "model": task.model.state_dict()}
                save_checkpoint(self.out / BEST, state)
        return numbers

    def measure(self, task: Any, model: Any) -> Log:
        """Accuracy and loss on the images."""
        scores = evaluate(model, self.images, task.statistics, reading=task.reading, precision=task.recipe.precision)
        return {f"validation_{name}": value for name, value in asdict(scores).items() if name != "images" and value is not None}
