"""``minimae demo``, the main job: pre-train without labels on the embedded photographs, then evaluate what the model learned."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minimae import data
from minimae.cli.report import environment, prepare, write_json, write_page
from minimae.data.images import Images
from minimae.model.mae import MAE
from minimae.recipes import FEW_LABELS, SCRATCH, entry, recipe
from minimae.tasks.evaluation import evaluate
from minimae.tasks.features import extract, pixel_features
from minimae.tasks.finetune import Finetune, finetune
from minimae.tasks.knn import accuracy, knn_predict
from minimae.tasks.pretrain import Pretrained, pretrain
from minimae.tasks.probe import probe_predict
from minimae.train import threads
from minimae.train.folder import can_resume
from minimae.weights import load_pretrained

from .figures import comparison
from .page import picture, pretraining_parts, table
from .photographs import photographs_figure
from .stopping import same_command

ROWS = ("raw pixels", "random encoder", "from scratch", "MAE")
CAPTION = (
    "Test accuracy. k-NN (20 neighbours) and probe (a linear classifier, its penalty chosen on training images for every row alike) see "
    "all patch tokens of the frozen encoder side by side. Tuned: the whole network trained on the labelled images, last epoch."
)

PHOTOGRAPHS = "photos-tiny"
LARGER = (
    "By photos-tiny, which comes with the project and was trained on 50,000 pictures of Tiny-ImageNet. It saw none of these photographs. "
    "Try your own: <code>minimae reconstruct PICTURE</code>"
)


@dataclass
class Comparison:
    """Test accuracy in percent, ``table[evaluation][row]``, and notes for a fair reading of it."""

    table: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, evaluation: str, row: str, percent: float) -> None:
        self.table.setdefault(evaluation, {})[row] = round(percent, 2)

    def rows(self) -> list[list[str]]:
        """The table as text, header first; "–" where a row has no value."""
        cells = [[f"{column[row]:.1f} %" if row in column else "–" for column in self.table.values()] for row in ROWS]
        return [["", *self.table], *([row, *values] for row, values in zip(ROWS, cells))]


def compare(
    model: MAE,
    train: Images,
    test: Images,
    statistics: tuple[Tensor, Tensor],
    tuning: Finetune,
    scratch: Finetune,
    *,
    labels: int = 1000,
    seed: int = 0,
    say: Callable[[str], Any] = lambda text: None,
) -> Comparison:
    """Evaluate raw pixels, an untrained encoder and the trained one alike: k-NN, linear probe on all and on ``labels`` labels, fine-tuning.

    For "from scratch", the same network starts at the trained one's initial weights, with its own recipe, ``scratch``.
    k-NN and probe see all patch tokens side by side; every probe chooses its penalty on training images.
    """
    assert train.labels is not None and test.labels is not None
    torch.manual_seed(seed)
    untrained = MAE(model.size).encoder.to(next(model.parameters()).device)
    result = Comparison()
    sources: dict[str, Callable[[Images], Tensor]] = {
        "raw pixels": lambda images: pixel_features(images, statistics),
        "random encoder": lambda images: extract(untrained, images, statistics, pool="tokens"),
        "MAE": lambda images: extract(model.encoder, images, statistics, pool="tokens"),
    }
    subset = train.balanced_subset(labels, seed=seed)
    for row, features in sources.items():
        say(f"k-NN and linear probe: {row}")
        inputs = features(test)
        result.add("k-NN", row, accuracy(knn_predict(features(train), train.labels, inputs), test.labels))
        for evaluation, images in ((f"probe, {len(train):,} labels", train), (f"probe, {labels:,} labels", subset)):
            assert images.labels is not None
            predicted, penalty = probe_predict(features(images), images.labels, inputs)
            result.add(evaluation, row, accuracy(predicted, test.labels))
            result.notes.append(f"{evaluation}, {row}: penalty {penalty:g}")
    for row, encoder, settings in (("from scratch", untrained, scratch), ("MAE", model.encoder, tuning)):
        say(f"fine-tuning on {labels} labels: {row}")
        classifier, _ = finetune(settings, encoder, subset, statistics, quiet=True)
        result.add(f"tuned, {labels:,} labels", row, evaluate(classifier, test, statistics).top1)
    return result


def demo(out: Path, *, seed: int = 0) -> Comparison:
    """Pre-train, reconstruct, compare; prints progress and writes a page into ``out``. A stopped run in that folder is resumed."""
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
    parts, verdict = pretraining_parts(out, Pretrained(model, chosen, train.statistics), train, test, result)
    print(f"   loss {result.loss:.3f} after {result.seen:,} images in {result.seconds:.0f} s. {verdict}")
    print("2. What did it learn?", flush=True)
    found = compare(model, train, test, train.statistics, few, scratch, seed=seed, say=lambda text: print(f"   {text}", flush=True))
    seconds = time.perf_counter() - started
    write_json(out / "comparison.json", {"table": found.table, "notes": found.notes, "seconds": seconds, **environment("cpu")})
    rows = found.rows()
    parts += ["<h2>What did it learn?</h2>", table(rows), picture(comparison(found.table, ROWS), out / "comparison.png", CAPTION)]
    print("3. And with photographs: reconstructions by a larger model that comes with the project.", flush=True)
    figure, caption = photographs_figure(load_pretrained(PHOTOGRAPHS), seed=seed)
    parts += ["<h2>And with photographs</h2>", f"<p>{LARGER}</p>", picture(figure, out / "photographs.png", caption)]
    page = write_page(out, "A masked autoencoder in five minutes", parts, chosen, "cpu")
    print("", *(f"{row:16}" + "".join(f"{cell:>22}" for cell in cells) for row, *cells in rows), "", sep="\n")
    print(f"{seconds:.0f} s in all, {len(test):,} test images, seed {seed}. Everything is on one page: {page}")
    print(f"Photographs, 75 % hidden: {out / 'photographs.png'}. Your own: minimae reconstruct PICTURE")
    return found


@dataclass(frozen=True, kw_only=True)
class DemoCommand:
    """The main job: pre-train on the embedded photographs of clothes, look at what was learned, compare. About five minutes."""

    out: Path = Path("runs/demo")  # Folder for checkpoint, metrics, figures and report.
    seed: int = 0  # Decides the initial weights, the order of the images and the masks.

    def __call__(self) -> None:
        main_job = entry("fashion-demo")
        threads.in_this_process(main_job.size, main_job.recipe, device="cpu")
        with same_command(self.out, "the pre-training is"):
            demo(self.out, seed=self.seed)
