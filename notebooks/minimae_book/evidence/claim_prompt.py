"""Does pre-training the encoder matter for prompts? Issue 193 of Segment Anything asks this, and has no answer.

Four encoders, each with a fresh prompt decoder, learn from the same objects with the same clicks (:mod:`minimae.tasks.prompt`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from minimae.data.instances import open_instances
from minimae.data.objects import objects_of
from minimae.model.mae import MAE
from minimae.model.patches import pair
from minimae.tasks.prompt import Prompt, train_prompts
from minimae.tasks.prompted import PromptScores, evaluate_prompts

from .budgets import Budget
from .claims import Claim, Expect, Place, Point
from .jobs import Job, Start

SMALL = Prompt(batch=16, epochs=4.0, warmup_epochs=0.2, base_lr=4.8e-2, decoder_width=64)
FROZEN, TUNED = "frozen", "trained too"
MAE_LINE, FRESH = "MAE", "initial weights"
PROMPTS = {"1 click": "IoU after 1 click (%)", "3 clicks": "IoU after 3 clicks (%)", "box": "IoU for a box (%)"}


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Mean IoU in percent of the mask that the model picks, over the objects of the test pictures.

    prompt: "1 click", "3 clicks" or "box", with the simulated user of :mod:`minimae.tasks.prompted`. pictures: the number in each split.
    """

    recipe: Prompt
    data: str
    pictures: int
    prompt: str

    def answer(self, model: MAE, images: Callable[..., Any]) -> float:
        """Train on a copy of the encoder, once for all prompts that are measured in a row."""
        weights = torch.cat([p.detach().flatten().double().cpu() for p in model.encoder.parameters()])
        key = replace(self, prompt=""), float(weights.sum()), float(weights.square().sum())
        if key not in LAST:
            LAST.clear()
            LAST[key] = self.measure(model)
        return LAST[key].means()[self.prompt]

    def measure(self, model: MAE) -> PromptScores:
        """Train, and measure all prompts."""
        size = model.encoder.size
        train, test = (open_instances(self.data, split, image=max(pair(size.image)), limit=self.pictures) for split in ("train", "test"))
        statistics = train.statistics
        objects, unseen = (objects_of(part, size.image, statistics) for part in (train, test))
        trained, _ = train_prompts(self.recipe, model.encoder, objects, statistics, quiet=True)
        return evaluate_prompts(trained, unseen, statistics)


LAST: dict[Any, PromptScores] = {}  # of the last training


def points(b: Budget) -> list[Point]:
    """All prompts for one encoder in a row, so that it is trained only once."""
    smoke = b.name == "smoke"
    rows = []
    for frozen in (True, False):
        for trained in (True, False):
            for prompt, measure in PROMPTS.items():

                def job(seed: int, frozen: bool = frozen, trained: bool = trained, prompt: str = prompt) -> Job:
                    decay = 1.0 if not trained else SMALL.layer_decay
                    recipe = replace(SMALL, frozen=frozen, layer_decay=decay, seed=seed, epochs=0.3 if smoke else SMALL.epochs)
                    begin = Start(recipe=replace(b.dense, seed=seed), trained=trained, channels=3, limit=b.limit)
                    return Job(begin, Prompts(recipe=recipe, data=b.dense.data, pictures=b.scenes, prompt=prompt))

                rows.append(Point(measure, MAE_LINE if trained else FRESH, FROZEN if frozen else TUNED, job))
    return rows


def expects(b: Budget) -> list[Expect]:
    def place(prompt: str, line: str, x: str) -> Place:
        return PROMPTS[prompt], line, x

    return [
        Expect(f"{prompt}: MAE above initial weights, {x}", place(prompt, MAE_LINE, x), place(prompt, FRESH, x))
        for x in (FROZEN, TUNED)
        for prompt in ("1 click", "3 clicks")
    ]


CLAIM = Claim(
    "prompt", "A promptable segmenter profits from an encoder that MAE pre-trained.", "not in it; SAM (2023)", "the encoder is",
    points, expects, recipe=lambda b: b.dense, budgets=("smoke", "laptop"),
)  # fmt: skip
