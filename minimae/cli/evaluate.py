"""``minimae evaluate``: the accuracy of a trained classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import weights
from ..errors import MinimaeError
from ..tasks.evaluation import finetuned_accuracy
from ..train import threads
from ..weights import Classified
from .classify import LabelOptions, same_classes


def first(names: Sequence[str]) -> str:
    """The first five names in brackets, with a space before them; nothing where there are none."""
    return f" ({', '.join(names[:5])}{', …' if len(names) > 5 else ''})" if names else ""


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand(LabelOptions):
    """Top-1 accuracy of a fine-tuned classifier on test images: minimae evaluate --weights RUN"""

    weights: Path
    """The folder of a fine-tuning run, its checkpoint, an exported file, or another library's classifier."""

    def __call__(self) -> None:
        device = self.where.join()
        found = weights.load(self.weights)
        if not isinstance(found, Classified):
            raise MinimaeError(f"{self.weights} has no head, so it cannot classify: evaluate it with minimae knn, probe or finetune")
        threads.in_this_process(found.size, device=device)
        _, test = self.images(found.data, found.size)
        if not same_classes(found, test):
            count = found.classifier.head.out_features
            raise MinimaeError(
                f"{self.weights} knows {count} classes{first(found.classes)}, and {test.name} has others{first(test.classes)}: "
                f"name other images with --data, or train it on these with minimae finetune --weights {self.weights}"
            )
        score = finetuned_accuracy(found.classifier.to(device), test, found.statistics, reading=self.where.reading)
        print(f"{self.weights}: {score:.2f} % of {len(test):,} test images of {test.name}")
