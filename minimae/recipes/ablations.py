"""Every axis of Table 1, of Figures 5 and 6, and of the text, as changes to one recipe (paper, Sections 4.1 and 4.2).

The default of the paper's ablations is ``imagenet-large --target pixels``: ViT-L/16, 800 epochs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..tasks.pretrain import Pretrain


@dataclass(frozen=True)
class Variant:
    """One row of an ablation: the fields of Pretrain that differ, and the paper's top-1 (None where it gives none)."""

    changes: dict[str, Any]
    finetuned: float | None
    linear: float | None

    def of(self, recipe: Pretrain) -> Pretrain:
        """The recipe with this row's changes."""
        return replace(recipe, **self.changes)


def row(finetuned: float | None, linear: float | None, **changes: Any) -> Variant:
    """A row of a table."""
    return Variant(changes, finetuned, linear)


RATIOS = (10, 20, 30, 40, 50, 60, 70, 75, 80, 90)
BY_RATIO = (83.2, 83.4, 83.4, 84.7, 84.9, 85.0, 84.9, 84.9, 84.5, 83.0)  # Figure 5, read off its labels
LINEAR_BY_RATIO = (54.6, 58.9, 61.7, 67.0, 69.9, 71.8, 73.2, 73.5, 71.8, 66.1)

ABLATIONS: dict[str, tuple[Variant, ...]] = {
    "decoder depth (Table 1a)": tuple(
        row(f, p, decoder_depth=d) for d, f, p in ((1, 84.8, 65.5), (2, 84.9, 70.0), (4, 84.9, 71.9), (8, 84.9, 73.5), (12, 84.4, 73.3))
    ),
    "decoder width (Table 1b)": tuple(
        row(f, p, decoder_width=d)
        for d, f, p in ((128, 84.9, 69.1), (256, 84.8, 71.3), (512, 84.9, 73.5), (768, 84.4, 73.1), (1024, 84.3, 73.1))
    ),
    "mask tokens in the encoder (Table 1c)": (
        row(84.2, 59.6, mask_tokens_in_encoder=True),
        row(84.9, 73.5, mask_tokens_in_encoder=False),
    ),
    "target (Table 1d)": (
        row(84.9, 73.5, target="pixels"),
        row(85.4, 73.9, target="normalised"),
        row(84.6, 72.3, target="pca"),
    ),
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
    "mask ratio (Figure 5)": tuple(row(f, p, ratio=r / 100) for r, f, p in zip(RATIOS, BY_RATIO, LINEAR_BY_RATIO, strict=True)),
    "epochs (Figure 7)": tuple(
        row(f, p, epochs=float(e))
        for e, f, p in ((100, 82.3, 57.3), (200, 83.3, 64.4), (400, 84.3, 69.7), (800, 84.9, 73.5), (1600, 85.1, 75.1))
    ),
    "loss on (Section 3; about half a point less on all)": (row(84.9, 73.5, loss_on="masked"), row(None, None, loss_on="all")),
}
