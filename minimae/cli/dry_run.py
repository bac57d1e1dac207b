"""``minimae pretrain RECIPE --dry-run``: a few steps of every stage at the model's true size, with the options and some images of the run.

In minutes it finds what would fail after days (memory, loader, checkpoint, the step from one stage to the next), and measures how
long the real run would take on this machine.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median_high
from typing import Any

import torch

from ..data.pack import pack
from ..data.photos import make_folder
from ..data.stream import open_stream
from ..data.types import ImageDataset
from ..errors import MinimaeError
from ..recipes import RECIPES, Entry, for_processes
from ..recipes.imagenet import TRAINING
from ..tasks.evaluation import evaluate
from ..tasks.finetune import finetune
from ..tasks.pretrain import Pretrain, Pretrained, pretrain
from ..tasks.probe_train import train_probe
from ..train.distributed import barrier, broadcast, world
from ..train.task import Result
from ..weights import load_pretrained
from ..weights.start import starter
from .options import DataOptions
from .report import environment, report_pretraining, write_json

STAGES = ("probe", "finetune")  # after pre-training
MACHINE = ("precision", "compile", "shard")  # settings of the machine, shared by a real probe and fine-tuning
CLASSES = 4  # of the images that are made
STEPS = 4
SMALL = 4  # images of a forward pass on a CPU


def shortened(recipe: Any, images: int, batch: int) -> Any:
    """The recipe cut to ``STEPS`` optimizer steps of at most two forward passes each; nothing else changes."""
    views = getattr(recipe, "repeats", 1)
    batch, accumulate = min(-(-batch // views) * views, recipe.batch), min(2, recipe.accumulate)
    epochs = STEPS * batch * accumulate * world().size / images
    return replace(recipe, batch=batch, accumulate=accumulate, warmup_epochs=0.0, log_every=1, epochs=epochs)


def dry_run(name: str, recipe: Pretrain, where: DataOptions, *, device: str, out: Path | None = None) -> dict[str, Any]:
    """Run every stage for a few steps: the recipe ``name``, its report, and the recipes that follow it; → the measurements.

    recipe, where: from the command line's options. The images are the first of ``recipe.data``, or small new ones if
    that is ImageNet and missing. Without labels, only pre-training and its report are run.
    Prints each result. Raises MinimaeError for a recipe without a probe and fine-tuning, and any error of a stage.
    """
    model_name = name.removesuffix("-1600")
    if not all(f"{model_name}-{stage}" in RECIPES for stage in STAGES):
        known = ", ".join(entry for entry in RECIPES if f"{entry}-probe" in RECIPES)
        raise MinimaeError(f"--dry-run needs a recipe that comes with a probe and fine-tuning: {known}")
    processes, main, reading = world().size, world().main, where.reading
    real = for_processes(recipe, processes)
    batch = real.batch if device.startswith("cuda") else SMALL
    stages: dict[str, Any] = {}
    with ExitStack() as stack:
        root = Path(broadcast(stack.enter_context(tempfile.TemporaryDirectory()) if main else ""))
        train, test, total = images_for(recipe, where, 2 * batch * processes, root)
        folder = out or root / "run"
        folder.mkdir(parents=True, exist_ok=True)
        first = shortened(real, len(train), batch)
        announce(f"pre-training, {model_name}")
        start = None if first.init is None else starter(first, train)
        model, result = pretrain(first, train, folder / "pretrain", device=device, quiet=True, reading=reading, start=start)
        stages["pretrain"] = measured(replace(RECIPES[name], recipe=recipe, size=model.size, images=total), result, device)
        if main:
            given: dict[str, Any] = {"device": device, "processes": processes, "workers": reading.processes()}
            page, _ = report_pretraining(folder / "pretrain", Pretrained(model, first, train.statistics), train, test, result, **given)
            print(f"  its report: {page}" if out else "  its report was written; --out FOLDER keeps it", flush=True)
        encoder = load_pretrained(folder / "pretrain").model.to(device).encoder
        labelled = train.labels is not None and test.labels is not None
        for stage in STAGES if labelled else ():
            entry = RECIPES[f"{model_name}-{stage}"]
            announce(entry.what)
            later = for_processes(replace(entry.recipe, **{name: getattr(recipe, name) for name in MACHINE}), processes)
            part = shortened(later, len(train), batch)
            run: Any = train_probe if stage == "probe" else finetune
            classifier, result = run(part, encoder, train, train.statistics, folder / stage, quiet=True, reading=reading)
            score = evaluate(classifier, test, train.statistics, reading=reading, precision=part.precision).top1
            print(f"  evaluated on {len(test)} images: {score:.0f} % (means nothing after {result.steps} steps)", flush=True)
            stages[stage] = measured(replace(entry, size=encoder.size, images=total), result, device)
        if not labelled:
            print("no labels: probe and fine-tuning were left out")
        if main:
            write_json(folder / "dry-run.json", {"recipe": name, **environment(device), "stages": stages})
            hours = sum(stage["hours"] for stage in stages.values())
            print(f"all stages of {name} on {processes} × {environment(device)['device']}: {hours:,.1f} hours at this speed")
    return stages


def images_for(recipe: Pretrain, where: DataOptions, count: int, root: Path) -> tuple[ImageDataset, ImageDataset, int]:
    """About ``count`` training images, some test images, and the total number of training images.

    Made in ``root`` where ImageNet is requested but missing. Raises the errors of opening the images.
    """
    if recipe.data != "imagenet" or (where.data_root / "imagenet").is_dir():
        train = where.open(recipe.data, "train", image=recipe.image, channels=recipe.channels)
        test = where.test_images(recipe.data, train, image=recipe.image, channels=train.channels)
        return train.limited(count), test.limited(count), len(train)
    if world().main:
        per_class = -(-count // CLASSES) + 1
        print(f"ImageNet is missing: making {CLASSES * per_class} + {4 * CLASSES} JPEGs laid out like it, and packing them", flush=True)
        make_folder(root / "images", classes=CLASSES, train=per_class, val=4)
        for split in ("train", "val"):
            pack(root / "images", split, root / "packed", workers=1, quiet=True)
    barrier()
    return open_stream(root / "packed", "train"), open_stream(root / "packed", "test"), TRAINING


def announce(stage: str) -> None:
    """Print the name of a stage, and reset the measurement of memory."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    print(f"{stage}:", flush=True)


def measured(entry: Entry, result: Result, device: str) -> dict[str, float]:
    """Print the measurements of a stage, and how long the real run would take: this recipe, at this size, on this many images."""
    rate, images = median_high(point["images_per_s"] for point in result.history[1:]), entry.cost.images
    hours = images / rate / 3600
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.startswith("cuda") else 0.0
    first, last = (result.history[i]["loss"] for i in (0, -1))
    waiting = max(point["waiting"] for point in result.history)
    print(
        f"  {result.steps} steps, loss {first:.3f} → {last:.3f}, {rate:,.2f} images/s on {world().size} process(es), "
        f"at most {waiting:.0%} of a step waiting for images" + (f", {memory:.1f} GiB of GPU memory" if memory else "") + "\n"
        f"  the real run: {images:,.0f} images, {hours:,.1f} hours at this speed; {entry.cost}",
        flush=True,
    )
    return {"images_per_s": rate, "waiting": waiting, "hours": hours, "GiB": memory, "first loss": first, "last loss": last}
