"""Every axis of Table 1, of Figures 5 and 7, and of the text, as changes to one recipe (paper, Sections 4.1 and 4.2).

The default of the paper's ablations is ``imagenet-large --target pixels``: ViT-L/16, 800 epochs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from minimae.tasks.pretrain import Pretrain


@dataclass(frozen=True)
class Variant:
    """One row of an ablation: the fields of Pretrain that differ, and the paper's top-1 (None if it gives none)."""

    changes: dict[str, Any]
    finetuned: float | None
    linear: float | None

    def of(self, recipe: Pretrain) -> Pretrain:
        """The recipe with this row's changes."""
        return replace(recipe, **self.changes)


def row(finetuned: float | None, linear: float | None, **changes: Any) -> Variant:
    """A row of a table."""
    return Variant(changes, finetuned, linear)


def column(field: str, *rows: tuple[Any, float, float]) -> tuple[Variant, ...]:
    """The rows of an axis that changes one field: its value, top-1 after fine-tuning, top-1 of the linear probe."""
    return tuple(row(finetuned, linear, **{field: value}) for value, finetuned, linear in rows)


ABLATIONS: dict[str, tuple[Variant, ...]] = {
    "decoder depth (Table 1a)": column(
        "decoder_depth", (1, 84.8, 65.5), (2, 84.9, 70.0), (4, 84.9, 71.9), (8, 84.9, 73.5), (12, 84.4, 73.3)
    ),
    "decoder width (Table 1b)": column(
        "decoder_width", (128, 84.9, 69.1), (256, 84.8, 71.3), (512, 84.9, 73.5), (768, 84.4, 73.1), (1024, 84.3, 73.1)
    ),
    "mask tokens in the encoder (Table 1c)": column("mask_tokens_in_encoder", (True, 84.2, 59.6), (False, 84.9, 73.5)),
    "target (Table 1d)": column("target", ("pixels", 84.9, 73.5), ("normalised", 85.4, 73.9), ("pca", 84.6, 72.3)),
    "augmentation (Table 1e)": (
        row(84.0, 65.7, crop=None, flip=False),
        row(84.7, 73.1, fixed_crop=0.875),
        row(84.9, 73.5, crop=(0.2, 1.0)),
        row(84.3, 71.9, crop=(0.2, 1.0), jitter=0.4),
    ),
    "sampling (Table 1f)": (
        row(84.9, 73.5, sampling="random", ratio=0.75),
        row(83.9, 72.3, sampling="block", ratio=0.5),
        row(82.8, 63.9, sampling="block", ratio=0.75),
        row(84.0, 66.0, sampling="grid", ratio=0.75),
    ),
    "mask ratio (Figure 5)": column(  # values from the figure's labels
        "ratio", (0.1, 83.2, 54.6), (0.2, 83.4, 58.9), (0.3, 83.4, 61.7), (0.4, 84.7, 67.0), (0.5, 84.9, 69.9), (0.6, 85.0, 71.8),
        (0.7, 84.9, 73.2), (0.75, 84.9, 73.5), (0.8, 84.5, 71.8), (0.9, 83.0, 66.1),
    ),
    "epochs (Figure 7)": column(
        "epochs", (100.0, 82.3, 57.3), (200.0, 83.3, 64.4), (400.0, 84.3, 69.7), (800.0, 84.9, 73.5), (1600.0, 85.1, 75.1)
    ),
    "loss on (Section 3; about half a point less on all)": (row(84.9, 73.5, loss_on="masked"), row(None, None, loss_on="all")),
}  # fmt: skip
