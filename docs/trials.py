"""Where the main job's recipe comes from: trials on a split of the training images. The test images are never looked at.

    python docs/trials.py                      list the trials
    python docs/trials.py chosen "width 128"   run these, and append what they gave to docs/trials.jsonl

Each trial pre-trains on 8,000 of the 10,000 embedded training images and is judged on the other 2,000: by a linear probe on all patch
tokens with 8,000 labels, and by fine-tuning on 1,000 labels against the same network from scratch. The number of images seen is adapted to
the cost of the network, so that all trials cost about the same time on one core.
"""

import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from minimae_book.demo import compare

from minimae import data
from minimae.cli.report import processor
from minimae.random import permutation
from minimae.recipes import FEW_LABELS, SCRATCH, recipe
from minimae.tasks.pretrain import pretrain

CHOSEN = recipe("fashion-demo")
TRIALS = {
    "chosen": {},
    "batch 256": {"batch": 256},
    "half the lr": {"base_lr": CHOSEN.base_lr / 2},
    "twice the lr": {"base_lr": CHOSEN.base_lr * 2},
    "random crop and flip": {"crop": (0.2, 1.0), "flip": True},
    "pixel target": {"target": "pixels"},
    "ratio 0.5": {"ratio": 0.5, "epochs": CHOSEN.epochs * 0.75},
    "two more blocks": {"depth": 6, "epochs": CHOSEN.epochs * 0.7},
    "patch 4": {"patch": 4, "epochs": CHOSEN.epochs * 0.4},
    "width 128": {"width": 128, "heads": 4, "epochs": CHOSEN.epochs * 0.65},
}


def run(name: str) -> dict[str, object]:
    """One trial → its results."""
    torch.set_num_threads(1)
    images = data.load("fashion")
    order = permutation(1, "split", 0, len(images))
    train, held_out = images.subset(order[:8000]), images.subset(order[8000:])
    tried = replace(CHOSEN, **TRIALS[name])
    started = time.perf_counter()
    model, result = pretrain(tried, train)
    found = compare(model, train, held_out, train.statistics, FEW_LABELS, SCRATCH, labels=1000, seed=0)
    return {
        "trial": name,
        "changed": {k: v for k, v in asdict(tried).items() if v != getattr(CHOSEN, k)},
        "table": found.table,
        "loss": result.loss,
        "images seen": result.seen,
        "pre-training seconds, one core": round(result.seconds),
        "seconds": round(time.perf_counter() - started),
        "seed": tried.seed,
        "processor": processor(),
    }


if __name__ == "__main__":
    if not sys.argv[1:]:
        print("\n".join(f"{name}: {changes or 'the recipe fashion-demo as it is'}" for name, changes in TRIALS.items()))
    for name in sys.argv[1:]:
        if name not in TRIALS:
            sys.exit(f"unknown trial {name!r}; known: {', '.join(TRIALS)}")
        outcome = run(name)
        with open(Path(__file__).with_suffix(".jsonl"), "a", encoding="utf-8") as file:
            file.write(json.dumps(outcome) + "\n")
        print(json.dumps(outcome, indent=2))
