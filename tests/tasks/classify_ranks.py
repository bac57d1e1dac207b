"""Started by torchrun from test_classify_ranks.py: fine-tuning and probing on several processes. Not a test by itself.

Argument: the folder of the runs. Every task trains as DDP and as FSDP2, with the same images per step as on one process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from minimae.data.images import Images
from minimae.model.sizes import Size
from minimae.model.vit import Encoder
from minimae.tasks.finetune import Classifier, Finetune, FinetuneTask
from minimae.tasks.probe_train import LinearProbe, Probe, ProbeTask
from minimae.train import distributed
from minimae.train.ema import Averaged
from minimae.train.loop import fit

TASKS = ("everything", "half", "last", "probe")


def images() -> Images:
    pixels = torch.randint(0, 256, (40, 3, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return Images("noise", pixels, torch.arange(40) % 4, ("a", "b", "c", "d"))


def train(what: str, folder: Path, *, shard: bool = False) -> None:
    """A few steps of one of the tasks; the checkpoint is left in the folder."""
    batch, source = 8 // distributed.world().size, images()
    torch.manual_seed(0)
    encoder = Encoder(Size(16, 2, 2, 16, 1, 2, patch=4, image=8, channels=3))
    common = {"batch": batch, "epochs": 3, "warmup_epochs": 1, "log_every": 1, "shard": shard}
    if what == "probe":
        probe = Probe(base_lr=10.0, weight_decay=0.1, **common)
        fit(ProbeTask(probe, source, source.statistics, LinearProbe(encoder, 4)), probe, folder, quiet=True)
        return
    tune = {"everything": None, "half": 0.5, "last": 1.0}[what]
    parts = {"mixup": 0.8, "cutmix": 1.0, "erasing": 0.25, "randaugment": (9.0, 0.5), "drop_path": 0.0}
    recipe = Finetune(tune=tune, ema=0.9 if tune is None else None, **parts, **common)
    classifier = Classifier(encoder, 4, tune=tune)
    model = classifier if recipe.ema is None else Averaged(classifier, recipe.ema)
    fit(FinetuneTask(recipe, source, source.statistics, model), recipe, folder, quiet=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    distributed.join(os.environ, "cpu", timeout=200)
    for shard in (False, True):
        for what in TASKS:
            train(what, Path(sys.argv[1]) / f"{what}-{shard}", shard=shard)
    distributed.leave()
