"""A recipe with its source, its expected result, its cost, and whether it was run here."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from ..model.sizes import Size, block_flops, flops
from ..model.units import predicted_count
from ..tasks.detect_recipe import Detect
from ..tasks.features import Pool
from ..tasks.finetune import Finetune
from ..tasks.pretrain import Pretrain
from ..tasks.segment import Segment
from ..train.settings import Settings

PEAK, SHARE = 989e12, 0.40  # operations a second of one H200 in bf16, and the share of it that a good run reaches


@dataclass(frozen=True, kw_only=True)
class Knn:
    """Nearest neighbours on frozen features: nothing is trained."""

    k: int = 20  # Number of neighbours that vote.
    temperature: float = 0.07
    """Divides the cosine similarity before the exponential that weights a vote: smaller values favour the nearest neighbours."""
    pool: Pool = "mean"  # mean or class token, the means after every block, or all tokens side by side.


@dataclass(frozen=True)
class Cost:
    """Floating-point operations of a run, matmuls only; one multiply-add is two operations."""

    per_image: int
    images: float

    @property
    def total(self) -> float:
        """Operations of the whole run."""
        return self.per_image * self.images

    @property
    def gpu_hours(self) -> float:
        """Hours of one H200 at 40 % of its 989 TFLOP/s. Small networks on small images do not reach that share."""
        return self.total / (PEAK * SHARE) / 3600

    def __str__(self) -> str:
        return f"{self.per_image / 1e9:.3g} GFLOP × {self.images:,.0f} images = {self.total:.2e} FLOP, {self.gpu_hours:.3g} GPU h"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A named recipe, and what to know before starting it."""

    name: str
    what: str  # One line: what is trained.
    recipe: Settings | Knn
    size: Size
    images: int  # Images of one epoch; for k-NN all images, training and test.
    source: str = "ours"  # Table or figure of the paper, or another source.
    result: str = "none"  # What the paper reports for it.
    ran: str = ""  # The result of our own run, and the page that reports it; empty without a run.
    start: str = ""  # The recipe whose weights it starts from.

    @property
    def kind(self) -> str:
        """pretrain, finetune, scratch, partial, probe, knn, segment or detect."""
        if isinstance(self.recipe, Finetune):
            return "partial" if self.recipe.tune is not None else "finetune" if self.start else "scratch"
        return type(self.recipe).__name__.lower()

    @property
    def cost(self) -> Cost:
        """The cost of a run: three forward passes per image through trained parts, one through frozen parts."""
        epochs = self.recipe.epochs if isinstance(self.recipe, Settings) else 1
        return Cost(step_flops(self.recipe, self.size), epochs * self.images)

    def changed(self, recipe: Settings | Knn, images: int | None = None) -> Entry:
        """The same entry with another recipe of its kind, and perhaps another number of images."""
        new_size = self.size
        if isinstance(recipe, Pretrain):
            new_size = recipe.size_at(self.size.image, self.size.channels)
        elif isinstance(recipe, Finetune | Segment | Detect) and recipe.image is not None:
            new_size = replace(self.size, image=recipe.image)
        return replace(self, recipe=recipe, size=new_size, images=images or self.images)


def step_flops(recipe: Settings | Knn, size: Size) -> int:
    """Operations for one image: its training step, or its forward pass for k-NN."""
    if isinstance(recipe, Pretrain):
        share = predicted_count(size.grid, ratio=recipe.ratio, unit=recipe.unit, share=recipe.predict)
        m = size.grid[0] * size.grid[1] if recipe.loss_on == "all" else share
        return flops(size, recipe.ratio, m=m, mask_tokens_in_encoder=recipe.mask_tokens_in_encoder).step
    encoder = flops(size, None)
    if isinstance(recipe, Segment | Detect):
        return recipe.step_flops(size)
    if isinstance(recipe, Finetune):
        if recipe.tune is None or recipe.tune == size.depth:
            return encoder.step
        t = 1 + size.grid[0] * size.grid[1]
        half = 4 * size.mlp_ratio * t * size.width**2
        tuned = half if recipe.tune == 0.5 else int(recipe.tune) * block_flops(t, size.width, mlp_ratio=size.mlp_ratio)
        return encoder.forward + 2 * tuned
    return encoder.forward


def for_processes(recipe: Any, processes: int) -> Any:
    """The recipe for a run on several processes: the same images per optimizer step, with less accumulation or smaller batches.

    Raises ValueError when the processes cannot share them evenly.
    """
    window = recipe.batch * recipe.accumulate
    if processes < 1 or window % processes:
        raise ValueError(
            f"{window} images per optimizer step cannot be shared evenly by {processes} processes; give --batch and --accumulate"
        )
    share, unit = window // processes, math.lcm(getattr(recipe, "repeats", 1), 2 if getattr(recipe, "mixing", None) else 1)
    batch = next((n for n in range(min(recipe.batch, share), 0, -1) if share % n == 0 and n % unit == 0), 0)
    if not batch:
        raise ValueError(f"the {share} images of each process make no batches of a multiple of {unit}; give --batch and --accumulate")
    return replace(recipe, batch=batch, accumulate=share // batch)
