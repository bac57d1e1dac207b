"""Watch a run while it trains: a progress bar, and a strip of reconstructions that grows by one column now and then."""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from torch import Tensor

from minimae.data.augment import normalise
from minimae.model.masking import Mask, make_mask, take
from minimae.model.patches import patchify, unpatchify
from minimae.tasks.pretrain import PretrainTask

from .figures import as_picture, masked_picture, picture_table
from .figures.style import Figure

PAUSE = 0.5  # seconds between two updates of the bar


class Live:
    """``show(step, loss)`` after each step, with steps from 1: the bar, and in the strip the images ``b c height width`` (integers).

    Masks depend on ``seed``. The strip starts before the first step; its last column is the last step. Outside a notebook, only the last line is printed.
    """

    def __init__(self, task: PretrainTask, pixels: Tensor, steps: int, *, looks: int = 4, seed: int = 0) -> None:
        self.task, self.pixels, self.steps = task, pixels, steps
        self.mask = make_mask(torch.arange(len(pixels)), task.model.size.grid, ratio=task.recipe.ratio, seed=seed)
        self.at = sorted({0, *(max(1, round(steps * (i / looks) ** 2)) for i in range(1, looks + 1))})  # more often at the start
        self.columns = [*stages(task, pixels, self.mask)[:2]]
        self.seconds = self.shown = 0.0
        self.started = time.perf_counter()
        self.bar = self.figure = None
        self(0, float("nan"))

    def __call__(self, step: int, loss: float | Tensor) -> None:
        self.seconds = time.perf_counter() - self.started
        if step in self.at:
            self.columns.append(stages(self.task, self.pixels, self.mask)[2])
        if step in self.at or self.seconds - self.shown > PAUSE:
            self.shown = self.seconds
            self.bar = shown(Bar(step, self.steps, float(loss), self.seconds), self.bar, final=step == self.steps)
        if step in self.at:
            self.figure = shown(self.strip(), self.figure)

    def strip(self) -> Figure:
        """One row for each image: the original, what the model sees, and its reconstruction after so many steps."""
        titles = ["original", "what it sees", *(f"{step} step{'s' * (step != 1)}" for step in self.at)]
        rows = [[column[i] for column in self.columns] for i in range(len(self.pixels))]
        return picture_table([row + [None] * (len(titles) - len(row)) for row in rows], columns=titles)


class Bar:
    """How far a run is: a bar in notebooks, a line elsewhere."""

    def __init__(self, step: int, steps: int, loss: float, seconds: float) -> None:
        left = f", {seconds / step * (steps - step):.0f} s left" if 0 < step < steps else ""
        self.step, self.steps = step, steps
        self.text = f"step {step} of {steps} · loss {loss:.3f} · {seconds:.0f} s{left}" if step else f"step 0 of {steps}"

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f'<progress value="{self.step}" max="{self.steps}" style="width: 16em; vertical-align: middle"></progress> {self.text}'


@torch.no_grad()
def stages(task: PretrainTask, pixels: Tensor, mask: Mask) -> list[list[Any]]:
    """For each image: the original, what the model sees, and the reconstruction with the visible patches pasted in."""
    model, size = task.model, task.model.size
    images = normalise(pixels, task.statistics)
    patches = patchify(images, size.patch)
    values = model.target.picture(model(images, mask).predicted, take(patches, mask.masked))
    pasted = patches.scatter(1, mask.masked[:, :, None].expand_as(values), values)
    hidden = unpatchify(mask.binary[:, :, None].expand_as(patches), size.patch, size.grid)[:, 0] > 0.5
    made = unpatchify(pasted, size.patch, size.grid)
    return [
        [as_picture(image, task.statistics) for image in images],
        [masked_picture(image, where, task.statistics) for image, where in zip(images, hidden)],
        [as_picture(image, task.statistics) for image in made],
    ]


def shown(thing: Any, handle: Any, *, final: bool = False) -> Any:
    """Display it in a running notebook, or in place of what the handle shows → the handle. Elsewhere print it if it is ``final``."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None or not hasattr(shell, "kernel"):
        if final:
            print(thing)
        return None
    if handle is None:
        from IPython.display import display

        return display(thing, display_id=True)
    handle.update(thing)
    return handle
