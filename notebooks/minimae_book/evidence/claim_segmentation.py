"""The claim ``segmentation``: a segmenter learns more from an MAE than from initial weights, tuned or with the encoder frozen.

There is a line for each of the two heads, the images are drawn scenes, and the measure is mean IoU over all pixels of the test
scenes. The same comparison on CamVid is in docs/dense.md, with its commands.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from minimae.data.segmentation import of_scenes
from minimae.data.shapes import Scenes
from minimae.model.mae import MAE
from minimae.tasks.segment import Segment, evaluate, segment

from .budgets import Budget
from .claims import IOU, Claim, Expect, Point
from .evaluations import Open
from .jobs import Job, Start

HEADS = {"mask transformer": "mask", "linear head": "linear"}
TUNED, SCRATCH, PROBED, RANDOM = "MAE", "from scratch", "MAE, frozen", "random, frozen"
# The mask transformer learns at 1e-3 for a step of 16 scenes; three times this rate did not even fit the training scenes. The linear
# head takes four times this rate: 23.0 % on other scenes, against 22.0 % at the same rate (the MAE of seed 0, tuned).
SHAPES = Segment(batch=16, epochs=30.0, warmup_epochs=2.0, base_lr=1.6e-2, scale=(0.75, 1.25))


@dataclass(frozen=True, kw_only=True)
class Segmented:
    """Mean intersection over union in percent, on the test scenes, of a segmenter trained on ``scenes`` drawn scenes."""

    recipe: Segment
    data: str
    scenes: int

    def answer(self, model: MAE, images: Open) -> float:
        """Train a segmenter on a copy of the encoder, and segment the test scenes."""
        train, test = images(self.data, "train"), images(self.data, "test")
        assert isinstance(train, Scenes) and isinstance(test, Scenes)
        learned = of_scenes(train.subset(torch.arange(min(self.scenes, len(train)))))
        segmenter, _ = segment(self.recipe, model.encoder, learned, train.statistics, quiet=True)
        return evaluate(segmenter, of_scenes(test), train.statistics).mean


def recipe_for(b: Budget, head: str, encoder: str, seed: int) -> Segment:
    """The recipe of a point. From scratch, all layers share one learning rate. A small budget gets two epochs."""
    changes: dict[str, Any] = {"layer_decay": 1.0} if encoder == SCRATCH else {"frozen": True} if encoder in (PROBED, RANDOM) else {}
    changes |= {"head": "linear", "base_lr": 6.4e-2} if HEADS[head] == "linear" else {}
    short: dict[str, Any] = {"epochs": 2.0, "warmup_epochs": 0.0, "batch": 10} if b.scenes < 100 else {}
    return replace(SHAPES, seed=seed, **changes, **short)


def points(b: Budget) -> list[Point]:
    """Four points for each head: tuned or frozen, pre-trained or not."""

    def point(head: str, encoder: str) -> Point:
        def job(seed: int) -> Job:
            begin = Start(recipe=replace(b.dense, seed=seed), trained=encoder in (TUNED, PROBED), channels=3, limit=b.limit)
            return Job(begin, Segmented(recipe=recipe_for(b, head, encoder, seed), data=b.dense.data, scenes=b.scenes))

        return Point(IOU, head, encoder, job)

    return [point(head, encoder) for head in HEADS for encoder in (RANDOM, PROBED, SCRATCH, TUNED)]


def expects(b: Budget) -> list[Expect]:
    pairs = ((TUNED, SCRATCH), (PROBED, RANDOM), (TUNED, RANDOM))
    return [Expect(f"{head}: {a} above {c}", (IOU, head, a), (IOU, head, c)) for head in HEADS for a, c in pairs]


CLAIM = Claim(
    "segmentation", "A segmenter profits from pre-training, tuned and with a frozen encoder.", "Table 5", "the encoder is", points, expects,
    {IOU: {"MAE": [("ViT-B", 48.1), ("ViT-L", 53.6)], "supervised": [("ViT-B", 47.4), ("ViT-L", 49.9)]}},
    "model, UperNet on ADE20K", lambda b: b.dense, ("smoke", "laptop", "gpu"),
)  # fmt: skip
