"""The paper's protocols on ImageNet-1k, as values. This project has run none of them; the results are the paper's.

``batch`` is the size of one process's forward pass, chosen for a GPU of 80 GB or more; ``batch × accumulate`` is the paper's batch.
On several processes :func:`minimae.recipes.for_processes` keeps that product. Numbers follow arXiv 2111.06377.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..model.sizes import size
from ..tasks.finetune import Finetune
from ..tasks.pretrain import Pretrain
from ..tasks.probe_train import Probe
from .entries import Entry, Knn

TRAINING, VALIDATION = 1_281_167, 50_000
NAMES = {"base": "ViT-B/16", "large": "ViT-L/16", "huge": "ViT-H/14"}

# Table 8. The micro-batch shrinks as the model grows. A checkpoint of ViT-L has 4 GB, one of ViT-H 8: ten minutes apart.
BASE = Pretrain(data="imagenet", size="base", image=224, batch=512, accumulate=8, epochs=800, warmup_epochs=40, save_every=600)
PRETRAINING = {"base": BASE, "large": replace(BASE, size="large", batch=256, accumulate=16)}
PRETRAINING["huge"] = replace(BASE, size="huge", batch=128, accumulate=32)
AFTER_800 = {
    "base": "not given; others' runs: 83.3 fine-tuned, 65.1 linear",
    "large": "85.4 fine-tuned, 73.9 linear (Table 1d)",
    "huge": "not given (Table 2 has the time only)",
}
AFTER_1600 = {
    "base": "83.6 fine-tuned, 68.0 linear",
    "large": "85.9 fine-tuned, 75.8 linear",
    "huge": "86.9 fine-tuned, 76.6 linear; 87.8 fine-tuned at 448 pixels",
}

# Table 9, with the values of lr, layer decay and drop path that reproduce the released numbers. The paper's table has 1e-3, 0.75 and
# 0.1 / 0.1 / 0.2. The range of the crop is the usual one; the paper gives none.
TUNED = Finetune(
    batch=256, accumulate=4, epochs=100, warmup_epochs=5, base_lr=5e-4, floor_lr=1e-6, weight_decay=0.05, betas=(0.9, 0.999),
    layer_decay=0.65, drop_path=0.1, label_smoothing=0.1, mixup=0.8, cutmix=1.0, mix_by="batch", randaugment=(9.0, 0.5),
    erasing=0.25, crop=(0.08, 1.0), flip=True,
)  # fmt: skip
TUNING = {"base": TUNED, "large": replace(TUNED, batch=128, accumulate=8, epochs=50, base_lr=1e-3, layer_decay=0.75, drop_path=0.2)}
TUNING["huge"] = replace(TUNING["large"], batch=64, accumulate=16, drop_path=0.3)
TUNED_448 = replace(TUNING["huge"], batch=16, accumulate=64, image=448)
TOP_1 = {"base": "83.6 (released weights: 83.664)", "large": "85.9 (released weights: 85.952)", "huge": "86.9 (released weights: 86.928)"}

# Table 10.
PROBING = Probe(batch=2048, accumulate=8)
LINEAR = {"base": 68.0, "large": 75.8, "huge": 76.6}

# Figure 9: blocks tuned → top-1. 0 blocks is the linear probe.
PARTIAL = {0.5: 79.1, 1.0: 81.0, 2.0: 83.1, 4.0: 84.2, 6.0: 84.4, 12.0: 84.6, 18.0: 84.7, 24.0: 84.9}

# Table 11. No layer decay: every layer starts from initial weights.
RAW = Finetune(
    batch=256, accumulate=16, epochs=300, warmup_epochs=20, base_lr=1e-4, floor_lr=0.0, weight_decay=0.3, betas=(0.9, 0.95),
    layer_decay=1.0, drop_path=0.1, label_smoothing=0.1, mixup=0.8, cutmix=1.0, mix_by="batch", randaugment=(9.0, 0.5),
    ema=0.9999, crop=(0.08, 1.0), flip=True,
)  # fmt: skip
SCRATCH = {"base": RAW, "large": replace(RAW, batch=128, accumulate=32, epochs=200, drop_path=0.2)}
SCRATCH["huge"] = replace(SCRATCH["large"], batch=64, accumulate=64)
FROM_SCRATCH = {"base": "82.3 (82.1 without EMA)", "large": "82.6 (81.5 without EMA)", "huge": "83.1 (80.9 without EMA)"}


def entries() -> list[Entry]:
    """All of them."""
    recipes = []
    for name, vit in NAMES.items():
        start, longer = f"imagenet-{name}-1600", replace(PRETRAINING[name], epochs=1600)
        rows: tuple[tuple[str, str, Any, str, str, str], ...] = (  # suffix, what, recipe, source, result, start
            ("", f"pre-train {vit} for 800 epochs", PRETRAINING[name], "Table 8", AFTER_800[name], ""),
            ("-1600", f"pre-train {vit} for 1600 epochs", longer, "Table 8, Section 4", AFTER_1600[name], ""),
            ("-finetune", f"fine-tune {vit}", TUNING[name], "Table 9, Table 3", f"{TOP_1[name]} % top-1", start),
            ("-probe", f"linear probe of {vit}", PROBING, "Table 10", f"{LINEAR[name]} % top-1", start),
            ("-knn", f"nearest neighbours of {vit}", Knn(), "Wu et al., arXiv 1805.01978", "none", start),
            ("-scratch", f"{vit} from scratch, with labels", SCRATCH[name], "Table 11", f"{FROM_SCRATCH[name]} % top-1", ""),
        )
        for suffix, what, recipe, source, result, before in rows:
            common: dict[str, Any] = {"size": size(name), "images": TRAINING + VALIDATION * (suffix == "-knn"), "start": before}
            recipes.append(Entry(name=f"imagenet-{name}{suffix}", what=what, recipe=recipe, source=source, result=result, **common))
    recipes.append(
        Entry(name="imagenet-huge-finetune-448", what="fine-tune ViT-H/14 at 448 pixels", recipe=TUNED_448, size=size("huge", image=448),
              images=TRAINING, source="Table 9, Table 3", start="imagenet-huge-1600", result="87.8 % top-1")
    )  # fmt: skip
    common = {"size": size("large"), "images": TRAINING, "start": "imagenet-large --target pixels"}
    recipes.append(
        Entry(name="imagenet-large-partial-0", what="tune no block of ViT-L/16: the linear probe", recipe=PROBING,
              source="Figure 9, Table 10", result="73.5 % top-1", **common)
    )  # fmt: skip
    for blocks, score in PARTIAL.items():
        part = "the MLP of the last block" if blocks == 0.5 else f"the last {blocks:g} blocks" if blocks > 1 else "the last block"
        recipe = replace(TUNING["large"], tune=blocks)
        recipes.append(
            Entry(name=f"imagenet-large-partial-{blocks:g}", what=f"fine-tune {part} of ViT-L/16", recipe=recipe,
                  source="Figure 9, settings of Table 9", result=f"{score} % top-1", **common)
        )  # fmt: skip
    return recipes
