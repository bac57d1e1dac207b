"""What loss to expect: curves of runs that were really made, by what is learned. They come with the package.

A curve belongs to a *task*: the model, the images, the masks, the target, the crops, and how long. The optimizer (learning rate,
warm-up, weight decay, betas) is not part of it: whether that is chosen well is what the curve is there to tell.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..model.patches import pair
from ..model.sizes import Size

if TYPE_CHECKING:
    from .pretrain import Pretrain

CURVES = Path(__file__).parent / "curves.json"
FIELDS = ("epochs", "repeats", "ratio", "sampling", "target", "loss_on", "mask_tokens_in_encoder", "crop", "fixed_crop", "jitter", "flip")
OPTIMISER = ("base_lr", "floor_lr", "warmup_epochs", "weight_decay", "betas", "clip")


@dataclass(frozen=True)
class Reference:
    """The loss of several runs that differ in their seed alone.

    task: what they learned (see :func:`task_of`). optimizer: with which settings. points: (images seen, mean loss over seeds and
    neighbouring logs), after the warm-up, in rising order. tolerance: the share by which a run may differ from the curve.
    """

    task: dict[str, Any]
    optimizer: dict[str, Any]
    seeds: tuple[int, ...]
    points: tuple[tuple[float, float], ...]
    tolerance: float

    def band(self) -> list[tuple[float, float, float]]:
        """(images seen, lowest, highest expected loss) at every point, to be drawn."""
        return [(seen, (1 - self.tolerance) * loss, (1 + self.tolerance) * loss) for seen, loss in self.points]


def task_of(recipe: Pretrain, size: Size, data: str, images: int) -> dict[str, Any]:
    """What decides where the loss should be, as JSON. data: the name of the images. images: how many there are in an epoch."""
    told = asdict(recipe)
    fields = {name: told[name] for name in FIELDS}
    shape = {**asdict(size), "image": pair(size.image), "patch": pair(size.patch)}
    if size.eps == Size.eps:  # the curves that come with the package are older than this field
        del shape["eps"]
    task = {"data": data, "images": images, "batch": recipe.batch * recipe.accumulate, "size": shape, **fields}
    plain: dict[str, Any] = json.loads(json.dumps(task))  # tuples become lists, as in a file
    return plain


@lru_cache(maxsize=1)
def references() -> Sequence[Reference]:
    """All curves that come with the package."""
    told = json.loads(CURVES.read_text(encoding="utf-8"))
    return [
        Reference(**{**one, "seeds": tuple(one["seeds"]), "points": tuple((seen, loss) for seen, loss in one["points"])}) for one in told
    ]


def reference(recipe: Pretrain, size: Size, data: str, images: int) -> Reference | None:
    """The curve of this task, or None: most tasks have none."""
    task = task_of(recipe, size, data, images)
    return next((found for found in references() if found.task == task), None)
