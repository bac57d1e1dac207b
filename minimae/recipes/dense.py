"""The paper's dense protocols, as values. This project has run none of them on these data; the results are the paper's or as cited."""

from __future__ import annotations

from dataclasses import replace

from ..model.sizes import size
from ..tasks.segment import Segment
from .entries import Entry

ADE20K = 20_210  # training pictures
# Section 5 and Appendix A.4: 100 epochs, 16 pictures a step. The rest follows a published recipe for UperNet on ViT-B that reaches 48.15:
# crops of 512 pixels, AdamW at 1e-4 a step (1.6e-3 for 256 pictures), warm-up of 1,500 steps, weight decay 0.05, layer decay 0.65.
# The paper's head is UperNet, with relative positions. Ours is the mask transformer, without them: nobody has published its result on a
# MAE, and these numbers are not a promise for it.
SEGMENT_BASE = Segment(
    batch=16, epochs=100, warmup_epochs=1.2, base_lr=1.6e-3, weight_decay=0.05, layer_decay=0.65, drop_path=0.1, image=512,
    scale=(0.5, 2.0), evaluate="sliding", save_every=600,
)  # fmt: skip


def entries() -> list[Entry]:
    """All of them."""
    rows = (
        ("base", "ViT-B/16", SEGMENT_BASE, "48.1 % mean IoU with UperNet (mask transformer on a supervised ViT-B: 48.5)"),
        ("large", "ViT-L/16", replace(SEGMENT_BASE, layer_decay=0.7, drop_path=0.2, recompute=True), "53.6 % mean IoU with UperNet"),
    )
    return [
        Entry(name=f"ade20k-{name}", what=f"segment ADE20K with {vit} and a mask transformer", recipe=recipe, size=size(name, image=512),
              images=ADE20K, source="Table 5, another head", result=result, start=f"imagenet-{name}-1600")
        for name, vit, recipe, result in rows
    ]  # fmt: skip
