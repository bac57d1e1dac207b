"""What loss to expect: the trivial baseline, and the curves of recorded runs, which come with the package.

A curve belongs to a *task*: the model, the images, the masks, the target, the crops, and the length. The optimizer (learning rate,
warm-up, weight decay, betas) is not part of it: the curve shows whether these are chosen well.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..data.augment import normalise
from ..data.types import ImageDataset
from ..devices import device_of
from ..model.mae import MAE
from ..model.patches import pair, patchify
from ..model.sizes import Size
from ..train.schedule import scaled_lr
from ..train.task import Result
from .loading import some
from .pretrain_recipe import Pretrain

CURVES = Path(__file__).parent / "curves.json"
FIELDS = ("epochs", "repeats", "ratio", "sampling", "target", "loss_on", "mask_tokens_in_encoder", "crop", "fixed_crop", "jitter", "flip")
OPTIMISER = ("base_lr", "floor_lr", "warmup_epochs", "weight_decay", "betas", "clip")
LEARNED = 0.3  # our recipes end at least this share below the baseline
FEW_STEPS, STEPS = 1500, 3000  # fewer optimizer steps are too few; our small recipes take this many
LOW_LR, LR = 5e-4, 1e-3  # a lower peak learning rate is low for a small network; our small recipes use this one


@dataclass(frozen=True)
class Reference:
    """The loss of several runs that differ only in their seed.

    task: see :func:`task_of`. optimizer: its settings. points: (images seen, mean loss over seeds and neighbouring logs), after the
    warm-up, in rising order. tolerance: the share by which a run may differ from the curve.
    """

    task: dict[str, Any]
    optimizer: dict[str, Any]
    seeds: tuple[int, ...]
    points: tuple[tuple[float, float], ...]
    tolerance: float


def task_of(recipe: Pretrain, size: Size, data: str, images: int) -> dict[str, Any]:
    """What decides the loss, as JSON. data: the name of the images. images: their number in an epoch."""
    fields = {name: getattr(recipe, name) for name in FIELDS}
    shape = {**asdict(size), "image": pair(size.image), "patch": pair(size.patch)}
    for newer in ("eps", "class_tokens"):  # than the curves that come with the package
        if shape[newer] == getattr(Size, newer):
            del shape[newer]
    task = {"data": data, "images": images, "batch": recipe.batch * recipe.accumulate, "size": shape, **fields}
    plain: dict[str, Any] = json.loads(json.dumps(task))  # tuples become lists, as in a file
    return plain


@lru_cache(maxsize=1)
def references() -> Sequence[Reference]:
    """All curves that come with the package."""
    curves = json.loads(CURVES.read_text(encoding="utf-8"))
    return [Reference(**{**c, "seeds": tuple(c["seeds"]), "points": tuple((seen, loss) for seen, loss in c["points"])}) for c in curves]


def reference(recipe: Pretrain, size: Size, data: str, images: int) -> Reference | None:
    """The curve of this task, or None if there is none."""
    task = task_of(recipe, size, data, images)
    return next((curve for curve in references() if curve.task == task), None)


def baseline_loss(model: MAE, images: ImageDataset, count: int = 1000, *, skip_corrupt: bool = False, workers: int = 0) -> float:
    """The loss of predicting the mean: of each patch for normalised pixels, of the whole dataset for the other targets."""
    sample = some(images, count, image=pair(model.size.image), skip_corrupt=skip_corrupt, workers=workers)
    pixels = normalise(sample.pixels.to(device_of(model)), images.statistics)
    target = model.target(patchify(pixels, model.size.patch))
    return float((target - target.mean((0, 1))).square().mean())


def judged(result: Result, baseline: float, recipe: Pretrain, *, processes: int = 1) -> str:
    """A sentence or two: how far the loss is below predicting the mean (``baseline``), and what to change if it is not far below."""
    below = 1 - result.loss / baseline if baseline else 0.0
    verdict = f": the loss is {below:.0%} below that." if below > 0 else ", which is no worse than this model: it has learned nothing yet."
    said = f"Predicting the mean scores {baseline:.3f}{verdict}"
    if below >= LEARNED:
        return said
    window = recipe.batch * recipe.accumulate * processes
    advice = []
    if result.steps < FEW_STEPS:
        epochs = recipe.epochs * STEPS / max(1, result.steps)
        smaller = f", or a smaller --batch than {recipe.batch}" if recipe.batch > 32 else ""
        advice.append(f"more than {result.steps:,} optimizer steps (--epochs {float(f'{epochs:.2g}'):g}{smaller})")
    if (peak := scaled_lr(recipe.base_lr, window)) < LOW_LR:
        advice.append(f"a higher peak learning rate than {peak:.1e} (--base-lr {LR * 256 / window:.1g})")
    return f"{said} {'Try ' + ' and '.join(advice) if advice else 'Try another --base-lr, or more --epochs'}."
