"""Figures of reconstructed photographs: your own at several mask ratios, an animation, and those that come with the project."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import minimae
from minimae import data
from minimae.model.masking import keep_count
from minimae.tasks.pretrained import Pretrained
from minimae.tasks.reconstruct import TITLES, fit_to_model, read_picture, reconstruct_batch

from .figures import mask_animation, mask_ratios, reconstructions
from .figures.style import Figure

RATIOS = (0.5, 0.85, 0.9, 0.95)  # mask ratios of the strip below a picture
GROWING = (0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.97)  # and of an animation
CLOTHES = 8  # shown for a model of grey images

PACKAGE = Path(minimae.__file__).parent
FOLDERS = (PACKAGE / "_sample" / "photos", PACKAGE.parent / "data" / "photos")


def shipped_photographs() -> list[Path]:
    """The photographs that come with the project; the shipped models were not trained on them."""
    return [path for folder in FOLDERS if folder.is_dir() for path in sorted(folder.glob("*.jpg"))]


def ratio_figure(trained: Pretrained, pixels: Tensor, *, seed: int, ratio: float | None, grows: bool = False) -> tuple[Any, str]:
    """One picture at ``ratio``, and small ones at several others, with a caption; or an animation in which the mask grows."""
    n = math.prod(trained.model.grid(pixels))
    others = [min(max(other, 1 / n), 1 - 1 / n) for other in (GROWING if grows else RATIOS)]  # of a small grid: all patches but one
    ratios = others if grows else [trained.recipe.ratio if ratio is None else ratio, *others]
    made = [reconstruct_batch(trained, pixels, seed=seed, ratio=ratio) for ratio in ratios]
    rows, hidden = [rows[0] for rows, _ in made], [1 - keep_count(n, ratio) / n for ratio in ratios]
    if grows:
        return mask_animation(rows, hidden), "the mask grows"
    return mask_ratios(rows, hidden, TITLES), made[0][1]


def photographs_figure(trained: Pretrained, **masks: Any) -> tuple[Figure, str]:
    """Reconstructions of the photographs that come with the project, or for a model of grey images of clothes; with the caption."""
    colour = trained.size.channels == 3
    images = [read_picture(path, 3) for path in shipped_photographs()] if colour else [data.load("fashion", "test").pixels[:CLOTHES]]
    rows, caption = reconstruct_batch(trained, torch.cat([fit_to_model(pixels, trained) for pixels in images]), **masks)
    return reconstructions(rows, TITLES, pairs=1 if colour else 2), caption


def reconstruction_figure(trained: Pretrained, pixels: Any, **masks: Any) -> tuple[Figure, str]:
    """The figure and caption of :func:`minimae.tasks.reconstruct.reconstruct_batch`: original, what the model saw, reconstruction."""
    rows, caption = reconstruct_batch(trained, pixels, **masks)
    return reconstructions(rows, TITLES, pairs=1 if len(rows) < 4 else 2), caption
