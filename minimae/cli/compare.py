"""Is what the model learned worth anything? The same questions to raw pixels, an untrained encoder, and the trained one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..data.images import Images
from ..model.mae import MAE
from ..tasks.features import extract, pixel_features
from ..tasks.finetune import Finetune, finetune, finetuned_accuracy
from ..tasks.knn import accuracy, knn_predict
from ..tasks.probe import probe_predict

ROWS = ("raw pixels", "random encoder", "from scratch", "MAE")


@dataclass
class Comparison:
    """Test accuracy in percent: ``table[question][row]``, and what belongs to a fair reading of it."""

    table: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, question: str, row: str, percent: float) -> None:
        self.table.setdefault(question, {})[row] = round(percent, 2)

    def lines(self) -> list[str]:
        """The table as text, one line a row."""
        head = f"{'':16}" + "".join(f"{question:>22}" for question in self.table)
        return [head] + [
            f"{row:16}" + "".join(f"{column[row]:>20.1f} %" if row in column else f"{'–':>22}" for column in self.table.values())
            for row in ROWS
        ]


def compare(
    model: MAE,
    train: Images,
    test: Images,
    statistics: tuple[Tensor, Tensor],
    recipe: Finetune,
    scratch: Finetune,
    *,
    labels: int = 1000,
    seed: int = 0,
    say: Callable[[str], Any] = lambda text: None,
) -> Comparison:
    """k-NN, linear probe on all labels and on ``labels`` of them, fine-tuning on those: for every row that can answer.

    From scratch, the same network starts at the trained one's initial weights and has its own recipe, ``scratch``.
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
    few = train.subset_per_class(labels, seed=seed)
    everything, some = f"probe, {len(train):,} labels", f"probe, {labels:,} labels"
    for row, features in sources.items():
        say(f"k-NN and linear probe: {row}")
        tested = features(test)
        result.add("k-NN", row, accuracy(knn_predict(features(train), train.labels, tested), test.labels))
        for question, images in ((everything, train), (some, few)):
            assert images.labels is not None
            predicted, penalty = probe_predict(features(images), images.labels, tested)
            result.add(question, row, accuracy(predicted, test.labels))
            result.notes.append(f"{question}, {row}: penalty {penalty:g}")
    for row, encoder, how in (("from scratch", untrained, scratch), ("MAE", model.encoder, recipe)):
        say(f"fine-tuning on {labels} labels: {row}")
        classifier, _ = finetune(how, encoder, few, statistics, quiet=True)
        result.add(f"tuned, {labels:,} labels", row, finetuned_accuracy(classifier, test, statistics))
    return result
