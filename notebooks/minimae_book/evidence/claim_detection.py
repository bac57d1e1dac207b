"""The claim ``detection``: a detector learns more from an MAE than from initial weights or a frozen random encoder.

Mask R-CNN on a simple pyramid, drawn scenes, average precision by COCO's protocol. The same on photographs is in docs/dense.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import torch

from minimae.data.instances import DrawnInstances
from minimae.data.shapes import Scenes
from minimae.model.mae import MAE
from minimae.tasks.detect import Detect, evaluate_detector, train_detector

from .budgets import Budget
from .claims import Claim, Expect, Place, Point
from .evaluations import Open
from .jobs import Job, Start

LINE = "Mask R-CNN on a pyramid"
TUNED, SCRATCH, RANDOM = "MAE", "from scratch", "random, frozen"
# One rate for all three, 1e-3 for a step of 8 images; no other was tried.
SHAPES = Detect(image=64, epochs=6.0, warmup_epochs=0.5, base_lr=3.2e-2, scale=(0.75, 1.25))
TINY: dict[str, Any] = {"epochs": 1.0, "warmup_epochs": 0.0, "levels": 2, "channels": 8, "box_width": 8, "proposals": 8, "rois": 8}
_last: dict[Any, dict[str, float]] = {}  # the scores of the last detector: boxes and masks are two measures of one training


@dataclass(frozen=True, kw_only=True)
class Detected:
    """Average precision in percent, for boxes or masks: a detector trained on ``scenes`` drawn scenes, tested on ``test`` others."""

    recipe: Detect
    data: str
    scenes: int
    test: int
    measure: str

    def answer(self, model: MAE, images: Open) -> float:
        """Train a detector on a copy of the encoder, and detect the objects in the test scenes."""
        weights = b"".join(value.cpu().numpy().tobytes() for value in model.encoder.state_dict().values())
        key = hashlib.sha256(weights).hexdigest(), replace(self, measure="")
        if key not in _last:
            _last.clear()
            train, test = images(self.data, "train"), images(self.data, "test")
            learned, measured = (drawn(part, count) for part, count in ((train, self.scenes), (test, self.test)))
            detector, _ = train_detector(self.recipe, model.encoder, learned, train.statistics, quiet=True)
            _last[key] = evaluate_detector(detector, measured)
        return _last[key][self.measure]


def drawn(scenes: Any, count: int) -> DrawnInstances:
    """The first ``count`` scenes, with their objects."""
    assert isinstance(scenes, Scenes)
    part = scenes.subset(torch.arange(min(count, len(scenes))))
    return DrawnInstances(name="shapes", ids=part.ids, classes=part.classes, scenes=part)


def points(b: Budget) -> list[Point]:
    """Three encoders, and two measures of each."""
    small = b.scenes < 100
    changes: dict[str, dict[str, Any]] = {RANDOM: {"frozen": True}, SCRATCH: {"layer_decay": 1.0}, TUNED: {}}

    def job(seed: int, line: str, measure: str) -> Job:
        begin = Start(recipe=replace(b.dense, seed=seed), trained=line == TUNED, channels=3, limit=b.limit)
        recipe = replace(SHAPES, seed=seed, **changes[line], **(TINY if small else {}))
        counts = {"scenes": 16, "test": 8} if small else {"scenes": 300, "test": 200}
        return Job(begin, Detected(recipe=recipe, data=b.dense.data, measure=measure, **counts))

    return [
        Point(f"{measure} (%)", LINE, x, lambda seed, x=x, m=measure: job(seed, x, m))  # type: ignore[misc]
        for x in changes for measure in ("box AP", "mask AP")
    ]  # fmt: skip


def expects(b: Budget) -> list[Expect]:
    def place(measure: str, x: str) -> Place:
        return f"{measure} (%)", LINE, x

    return [Expect(f"{m}: MAE above {x}", place(m, TUNED), place(m, x)) for m in ("box AP", "mask AP") for x in (SCRATCH, RANDOM)]


CLAIM = Claim(
    "detection", "A detector profits from pre-training.", "Table 4", "the encoder is", points, expects,
    {"box AP (%)": {"MAE": [("ViT-B", 50.3), ("ViT-L", 53.3)], "supervised": [("ViT-B", 47.9), ("ViT-L", 49.3)]},
     "mask AP (%)": {"MAE": [("ViT-B", 44.9), ("ViT-L", 47.2)], "supervised": [("ViT-B", 42.9), ("ViT-L", 43.9)]}},
    "model, Mask R-CNN on COCO", lambda b: b.dense, ("smoke", "laptop", "gpu"),
)  # fmt: skip
