"""What photos-tiny learned, in accuracies: k-NN, linear probe, fine-tuning. docs/photographs.md shows the results.

    python docs/photographs.py measure features tiny-imagenet=DIR caltech101=DIR cifar10=DIR
    python docs/photographs.py measure tuned cifar10=DIR caltech101=DIR tiny-imagenet=DIR
    python docs/photographs.py          put the results into the page

DIR holds a folder for each split, with a folder for each class. Results are appended to docs/photographs.jsonl; what is there is not
measured again, so a stopped call can be repeated. Test images serve these numbers only: learning rates are chosen on training images.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from statistics import mean, stdev

import torch
from minimae_book.evidence.statistics import welch
from torch import Tensor

from minimae import data
from minimae.cli.report import environment
from minimae.data.images import Images
from minimae.model.mae import MAE
from minimae.random import permutation
from minimae.tasks.evaluation import evaluate
from minimae.tasks.features import extract, pixel_features
from minimae.tasks.finetune import Finetune, finetune
from minimae.tasks.knn import accuracy, knn_predict
from minimae.tasks.probe import probe_predict
from minimae.weights import load_pretrained

HERE = Path(__file__).parent
RESULTS = HERE / "photographs.jsonl"
SEEDS = (0, 1, 2)
FEW = {"tiny-imagenet": 2000, "caltech101": 1010, "cifar10": 1000}  # labels: 10, 10 and 100 of each class
TITLES = {"tiny-imagenet": "Tiny-ImageNet", "caltech101": "Caltech-101", "cifar10": "CIFAR-10 (JPEG)"}
SIDES = {"tiny-imagenet": 64, "caltech101": 64, "cifar10": 32}  # pixels: 256, 256 and 64 patches of 4
ROWS = ("raw pixels", "untrained", "from scratch", "MAE")
# bfloat16 is twice as fast on a CPU that has it, and ten times as slow on one that has not. On 1,000 images of CIFAR-10 accuracies of the
# features differ by 0.3 points.
FAST = hasattr(torch.cpu, "get_capabilities") and bool(torch.cpu.get_capabilities().get("avx512_bf16"))  # not in older torch
PRECISION = "bf16" if FAST else "fp32"

# Fine-tuning with few labels. At the size of CIFAR-10's own images, 32 pixels: 64 patches.
TUNED = Finetune(batch=50, epochs=20.0, warmup_epochs=2.0, base_lr=1e-2, crop=(0.5, 1.0), image=32, threads=1, precision=PRECISION)
EPOCHS = {"tiny-imagenet": 10.0}  # with few labels: 400 steps everywhere
EPOCHS_OF_ALL = {"cifar10": 4.0, "caltech101": 10.0}  # with all labels: an hour of one core or more; full trainings need a GPU
BASE_LR = {"MAE": (5e-3, 1e-2, 2e-2), "from scratch": (2.5e-3, 5e-3, 1e-2)}  # tried, with 1,000 other training images to choose by
CHOSEN_ON, CHOOSING = "cifar10", "choosing the learning rate"  # for all sets: trials on each would take hours


def known() -> list[dict[str, object]]:
    """All results so far."""
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()] if RESULTS.is_file() else []


def recorded(name: str, row: str, evaluation: str) -> list[dict[str, object]]:
    """The results of one row and column of a table."""
    return [r for r in known() if (r["data"], r["row"], r["evaluation"]) == (name, row, evaluation)]


def once(found: Callable[[], float], **facts: object) -> float:
    """A number: the recorded one with these facts, or a new measurement, which is recorded."""
    for result in known():
        if facts.items() <= result.items():
            return float(str(result["value"]))
    started = time.perf_counter()
    value = round(found(), 2)
    where = {"precision": PRECISION, "processor": environment("cpu")["processor"]}
    result = {**facts, "value": value, "seconds": round(time.perf_counter() - started), **where}
    with open(RESULTS, "a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")
    print(result, flush=True)
    return value


def splits(folder: str, image: int) -> tuple[Images, Images]:
    """Training and test images."""
    last = "val" if (Path(folder) / "val").is_dir() else "test"
    return data.load(Path(folder), "train", image=image, channels=3), data.load(Path(folder), last, image=image, channels=3)


def untrained(seed: int) -> MAE:
    """The same network with random weights."""
    torch.manual_seed(seed)
    return MAE(load_pretrained("photos-tiny").model.size)


def measure_features(name: str, folder: str) -> None:
    """k-NN and linear probes of raw pixels, of untrained networks and of photos-tiny, at the sides of SIDES."""
    train, test = splits(folder, SIDES[name])
    measure_row(name, "MAE", 0, train, test)
    measure_row(name, "raw pixels", 0, train, test)
    for seed in SEEDS:
        measure_row(name, "untrained", seed, train, test)


def measure_row(name: str, row: str, seed: int, train: Images, test: Images) -> None:
    """One row of the table: for an untrained network, one seed of it."""
    assert train.labels is not None and test.labels is not None
    labels, truth = train.labels, test.labels

    @cache
    def vectors() -> tuple[Tensor, Tensor]:  # only when something is missing
        trained = load_pretrained("photos-tiny")
        if row == "raw pixels":
            return pixel_features(train, trained.statistics), pixel_features(test, trained.statistics)
        encoder = (trained.model if row == "MAE" else untrained(seed)).encoder
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST):
            a, b = (extract(encoder, images, trained.statistics, pool="blocks", batch=64) for images in (train, test))
        return a, b

    def neighbours() -> float:
        last = slice(None) if row == "raw pixels" else slice(-load_pretrained("photos-tiny").model.size.width, None)
        a, b = vectors()
        return accuracy(knn_predict(a[:, last], labels, b[:, last]), truth)

    def probe(index: Tensor) -> float:
        a, b = vectors()
        return accuracy(probe_predict(a[index], labels[index], b)[0], truth)

    facts: dict[str, object] = {"data": name, "row": row}
    once(neighbours, **facts, evaluation="k-NN", seed=seed)
    for draw in (seed,) if row == "untrained" else SEEDS:
        few = index_of(train.balanced_subset(FEW[name], seed=draw), train)
        once(partial(probe, few), **facts, evaluation="probe, few labels", seed=draw)
    if (row, name) != ("raw pixels", "tiny-imagenet"):  # 12,288 values of 50,000 images need more memory than a small machine has
        once(partial(probe, torch.arange(len(train))), **facts, evaluation="probe", seed=seed)


def index_of(part: Images, whole: Images) -> Tensor:
    """Where the images of a part are in the whole."""
    where = {int(identity): index for index, identity in enumerate(whole.ids)}
    return torch.tensor([where[int(identity)] for identity in part.ids])


def measure_tuned(name: str, folder: str, rows: Sequence[str] = tuple(BASE_LR)) -> None:
    """Fine-tuning with few labels and with all, against training from scratch; learning rates are chosen on other training images."""
    trained = load_pretrained("photos-tiny")
    train, test = splits(folder, TUNED.image)  # type: ignore[arg-type]
    order = permutation(7, "split", 0, len(train))
    others, rest = train.subset(order[:1000]), train.subset(order[1000:])

    def measure(evaluation: str, row: str, recipe: Finetune, labelled: Images, judge: Images) -> float:
        encoder = trained.model.encoder if row == "MAE" else untrained(recipe.seed).encoder
        recipe = replace(recipe, layer_decay=TUNED.layer_decay if row == "MAE" else 1.0)

        def tuned() -> float:
            classifier, _ = finetune(recipe, encoder, labelled, trained.statistics, quiet=True)
            return evaluate(classifier, judge, trained.statistics).top1

        return once(tuned, data=name, row=row, evaluation=evaluation, seed=recipe.seed, base_lr=recipe.base_lr)

    few = {seed: rest.balanced_subset(FEW[name], seed=seed) for seed in (*SEEDS, 100)}
    best = {}
    for row in rows:
        if name == CHOSEN_ON:
            for lr in BASE_LR[row]:
                measure(CHOOSING, row, replace(TUNED, base_lr=lr, seed=100), few[100], others)
        trials = {float(str(trial["value"])): float(str(trial["base_lr"])) for trial in recorded(CHOSEN_ON, row, CHOOSING)}
        if not trials:
            sys.exit(f"learning rates are chosen on {CHOSEN_ON}: measure that first")
        epochs = EPOCHS.get(name, TUNED.epochs)
        best[row] = replace(TUNED, base_lr=trials[max(trials)], epochs=epochs, warmup_epochs=epochs / 10)
    for row in rows:
        for seed in SEEDS:
            measure("tuned, few labels", row, replace(best[row], seed=seed), few[seed], test)
    if name == "cifar10" and "from scratch" in rows:  # is training from scratch only too short?
        measure("tuned, few labels, 60 epochs", "from scratch", replace(best["from scratch"], epochs=60.0), few[0], test)
    for row in rows if name in EPOCHS_OF_ALL else ():
        epochs = EPOCHS_OF_ALL[name]
        measure("tuned", row, replace(best[row], epochs=epochs, warmup_epochs=epochs / 10), train, test)


def table() -> Iterator[str]:
    """All results as tables, one for each set."""
    results = known()
    for name, title in TITLES.items():
        few = f"{FEW[name]:,} labels"
        heads = {"k-NN": "20-NN", "probe, few labels": f"probe, {few}", "probe": "probe, all labels",
                 "tuned, few labels": f"tuned, {few}", "tuned": "tuned, all labels"}  # fmt: skip
        columns = [column for column in heads if any((r["data"], r["evaluation"]) == (name, column) for r in results)]
        if not columns:
            continue
        yield f"**{title}**\n\n| % | " + " | ".join(map(heads.__getitem__, columns)) + " |\n|---|" + "---:|" * len(columns)
        for row in (row for row in ROWS if any((result["data"], result["row"]) == (name, row) for result in results)):
            cells = []
            for column in columns:
                values = [float(str(result["value"])) for result in recorded(name, row, column)]
                cells.append("–" if not values else f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else ""))
            yield f"| {row} | " + " | ".join(cells) + " |"
        ours, scratch = ([float(str(r["value"])) for r in recorded(name, row, "tuned, few labels")] for row in ("MAE", "from scratch"))
        if min(len(ours), len(scratch)) > 1:
            effect = welch(ours, scratch)
            lowest, highest = effect.interval()
            yield (
                f"\nTuned with {few}, `photos-tiny` is {effect.difference:.0f} points better than training from scratch "
                f"(95 % interval by Welch's t: {lowest:.0f} to {highest:.0f})."
            )
        yield ""


def page(text: str) -> str:
    """The page with today's tables."""
    return re.sub(r"(<!-- tables -->\n).*?(<!-- end -->)", lambda m: m[1] + "\n" + "\n".join(table()) + "\n" + m[2], text, flags=re.S)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        torch.set_num_threads(1)
        measure = {"features": measure_features, "tuned": measure_tuned}.get(sys.argv[2:3][-1])
        folders = dict(word.partition("=")[::2] for word in sys.argv[3:])
        if measure is None or not folders or not all(name in TITLES and Path(folder).is_dir() for name, folder in folders.items()):
            sys.exit(__doc__)
        for name, folder in folders.items():
            measure(name, folder)
    else:
        file = HERE / "photographs.md"
        file.write_text(page(file.read_text(encoding="utf-8")), encoding="utf-8")
