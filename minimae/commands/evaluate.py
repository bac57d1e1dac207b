"""``minimae evaluate``: the accuracy of a trained classifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .. import threads, weights
from ..errors import MinimaeError
from ..interop.classified import Classified
from ..tasks.evaluation import finetuned_accuracy
from .classify import Labelled, same_classes


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand(Labelled):
    """Top-1 accuracy of a fine-tuned classifier on test images: minimae evaluate --weights RUN"""

    weights: Path
    """The folder of a fine-tuning run, its checkpoint, an exported file, or another library's classifier."""

    def __call__(self) -> None:
        device = self.where.join()
        found = weights.load_any(self.weights)
        if not isinstance(found, Classified):
            raise MinimaeError(f"{self.weights} has no head, so it cannot classify: evaluate it with minimae knn, probe or finetune")
        threads.in_this_process(found.size, device=device)
        _, test = self.images(found.data, found.size)
        if not same_classes(found, test):
            count = found.classifier.head.out_features
            raise MinimaeError(
                f"{self.weights} knows {count} classes ({', '.join(found.classes[:5])} …), and {test.name} has others "
                f"({', '.join(test.classes[:5])} …): minimae finetune --weights {self.weights} teaches them"
            )
        score = finetuned_accuracy(found.classifier.to(device), test, found.statistics, reading=self.where.reading)
        print(f"{self.weights}: {score:.2f} % of {len(test):,} test images of {test.name}")
