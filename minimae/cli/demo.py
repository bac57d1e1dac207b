"""The main job: pre-train without labels on the embedded photographs, then ask what was learned."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from minimae_book.figures import comparison

from .. import data
from ..recipes import FEW_LABELS, SCRATCH, recipe
from ..tasks.pretrain import Pretrained, pretrain
from ..train.state import can_resume
from .compare import ROWS, Comparison, compare
from .report import environment, picture, prepare, pretraining_parts, settings_parts, table, write_json, write_page

CAPTION = (
    "Test accuracy. k-NN (20 neighbours) and probe (a linear classifier, its penalty chosen on training images for every row alike) see "
    "all patch tokens of the frozen encoder side by side. Tuned: the whole network trained on the labelled images, last epoch."
)


def demo(out: Path, *, seed: int = 0) -> Comparison:
    """Pre-train, reconstruct, compare; prints as it goes, and leaves a page in ``out``. A run that was stopped there goes on."""
    started = time.perf_counter()
    chosen = replace(recipe("fashion-demo"), seed=seed)
    few, scratch = replace(FEW_LABELS, seed=seed), replace(SCRATCH, seed=seed)
    train, test = data.load("fashion", "train"), data.load("fashion", "test")
    resume = can_resume(out)
    prepare(out, chosen, "cpu")
    print(f"1. Pre-training on {len(train):,} photographs of clothes, without labels, on {environment('cpu')['processor']}.", flush=True)
    if resume:
        print(f"   continuing the run in {out}; remove that folder to start again")
    model, result = pretrain(chosen, train, out, resume=resume)
    trained = Pretrained(model, chosen, train.statistics)
    parts, worth = pretraining_parts(out, trained, train, test, result)
    print(f"   loss {result.loss:.3f} after {result.seen:,} images in {result.seconds:.0f} s. {worth}")
    print("2. What did it learn?", flush=True)
    found = compare(model, train, test, train.statistics, few, scratch, seed=seed, say=lambda text: print(f"   {text}", flush=True))
    seconds = time.perf_counter() - started
    write_json(out / "comparison.json", {"table": found.table, "notes": found.notes, "seconds": seconds, **environment("cpu")})
    lines = found.lines()
    rows = [("", *found.table)]
    for row in ROWS:
        rows.append((row, *(f"{column[row]:.1f} %" if row in column else "–" for column in found.table.values())))
    parts += ["<h2>What did it learn?</h2>", table(rows), picture(comparison(found.table, ROWS), out / "comparison.png", CAPTION)]
    page = write_page(out, "A masked autoencoder in five minutes", [*parts, *settings_parts(chosen, "cpu")])
    print("\n".join(["", *lines, "", f"{seconds:.0f} s in all, {len(test):,} test images, seed {seed}. Everything is on one page: {page}"]))
    return found
