"""A rehearsal of a long run: every stage at the model's true size, for a few steps, on a small folder laid out as ImageNet.

It finds what would fail after days in minutes (memory, loader, checkpoint, the way from one stage to the next), and measures what the
real run would take on this machine.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .data.pack import pack
from .data.rehearsal import make_folder
from .data.stream import open_stream
from .errors import MinimaeError
from .recipes import RECIPES, Entry
from .report import environment, write_json
from .tasks.finetune import finetune, finetuned_accuracy
from .tasks.pretrain import Pretrain, load_pretrained, pretrain
from .tasks.probe_train import train_probe
from .training.distributed import same, wait, world
from .training.loop import Result

STAGES = ("probe", "finetune")  # after pre-training
STEPS = 4
SMALL = 4  # images of a forward pass on a CPU


def shortened(recipe: Any, images: int, batch: int, processes: int) -> Any:
    """The recipe for ``STEPS`` optimiser steps of at most two forward passes, with nothing else changed."""
    accumulate = min(2, recipe.accumulate)
    changes: dict[str, Any] = {"batch": batch, "accumulate": accumulate, "warmup_epochs": 0.0, "log_every": 1}
    return replace(recipe, **changes, epochs=STEPS * batch * accumulate * processes / images)


def speed(result: Result) -> float:
    """Images/s, the median over the steps after the first."""
    rates = sorted(point["images_per_s"] for point in result.history[1:])
    return rates[len(rates) // 2]


def rehearse(name: str, recipe: Pretrain, *, device: str, out: Path | None = None) -> dict[str, Any]:
    """Pre-train, probe and fine-tune for a few steps with the recipe ``name`` and those that follow it; → what was measured.

    Prints as it goes. Raises MinimaeError for a recipe that has no others beside it.
    """
    model_name = name.removesuffix("-1600")
    if not all(f"{model_name}-{stage}" in RECIPES for stage in STAGES):
        known = ", ".join(entry for entry in RECIPES if f"{entry}-probe" in RECIPES)
        raise MinimaeError(f"--rehearse wants a recipe with a probe and fine-tuning beside it: {known}")
    gpu, here = device.startswith("cuda"), world()
    batch = recipe.batch if gpu else SMALL
    per_class = -(-2 * batch * here.size // 4) + 1
    found: dict[str, Any] = {}
    with ExitStack() as ends:
        root = Path(same(ends.enter_context(tempfile.TemporaryDirectory()) if here.main else ""))
        if here.main:
            print(f"making {4 * per_class} + 16 JPEGs laid out as ImageNet, and packing them", flush=True)
            make_folder(root / "images", classes=4, train=per_class, val=4)
            for split in ("train", "val"):
                pack(root / "images", split, root / "packed", workers=1, quiet=True)
        wait()
        folder = out or root / "run"
        folder.mkdir(parents=True, exist_ok=True)
        train, test = (open_stream(root / "packed", split) for split in ("train", "test"))
        first = shortened(recipe, len(train), batch, here.size)
        stage(f"pre-training, {model_name}")
        _, result = pretrain(first, train, folder / "pretrain", device=device, quiet=True)
        found["pretrain"] = told(RECIPES[name], recipe, result, device, here.size)
        encoder = load_pretrained(folder / "pretrain").model.to(device).encoder
        for step in STAGES:
            entry: Entry = RECIPES[f"{model_name}-{step}"]
            stage(entry.what)
            part: Any = shortened(entry.recipe, len(train), min(batch, entry.recipe.batch), here.size)  # type: ignore[union-attr]
            run = train_probe if step == "probe" else finetune
            classifier, result = run(part, encoder, train, train.statistics, folder / step, quiet=True)  # type: ignore[operator]
            score = finetuned_accuracy(classifier, test, train.statistics, precision=part.precision)
            print(f"  evaluated on {len(test)} images: {score:.0f} % (means nothing after {result.steps} steps)", flush=True)
            found[step] = told(entry, entry.recipe, result, device, here.size)
        if here.main:
            write_json(folder / "rehearsal.json", {"recipe": name, **environment(device), "stages": found})
            total = sum(one["hours"] for one in found.values())
            print(f"all stages of {name} on {here.size} × {environment(device)['device']}: {total:,.1f} hours at this speed")
    return found


def stage(what: str) -> None:
    """Say what begins."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    print(f"{what}:", flush=True)


def told(entry: Entry, recipe: Any, result: Result, device: str, processes: int) -> dict[str, float]:
    """Say what was measured, and what the real run would take."""
    rate = speed(result)
    images = recipe.epochs * entry.images
    hours = images / rate / 3600
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.startswith("cuda") else 0.0
    losses = [point["loss"] for point in result.history]
    waiting = max(point["waiting"] for point in result.history)
    print(
        f"  {result.steps} steps, loss {losses[0]:.3f} → {losses[-1]:.3f}, {rate:,.2f} images/s on {processes} process(es), "
        f"at most {waiting:.0%} of a step waiting for images" + (f", {memory:.1f} GiB of GPU memory" if memory else "") + "\n"
        f"  the real run: {images:,.0f} images, {hours:,.1f} hours at this speed; {entry.cost}",
        flush=True,
    )
    return {"images_per_s": rate, "waiting": waiting, "hours": hours, "GiB": memory, "first loss": losses[0], "last loss": losses[-1]}
