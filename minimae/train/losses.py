"""The losses of recent steps: they stay on the device until they must be read, and then all are checked."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..devices import allow_sync
from ..errors import MinimaeError
from .distributed import all_reduce_mean


class Losses:
    """Losses of consecutive steps that were not read yet, from ``step`` on. Reading makes the host wait for the device."""

    def __init__(self, step: int, device: torch.device) -> None:
        self.step, self.device = step, device
        self.recent: list[tuple[Tensor, Tensor]] = []
        self.last = math.nan

    def add(self, loss: Tensor, ids: Tensor) -> None:
        """The loss of the next step, and the ids of (the last of) its images."""
        self.recent.append((loss.detach().clone(), ids))  # cloned: a captured step overwrites it

    def read(self, epoch_steps: float, kept: str) -> float:
        """The last loss, its mean over all processes. Every process must call it.

        Raises MinimaeError that names the first step whose loss is not finite; ``kept`` is the message about the last checkpoint.
        """
        if not self.recent:
            return self.last
        with allow_sync(self.device):
            return self._read(epoch_steps, kept)

    def _read(self, epoch_steps: float, kept: str) -> float:
        means = all_reduce_mean(*(loss for loss, _ in self.recent), device=self.device)
        for step, (mean, (loss, ids)) in enumerate(zip(means, self.recent, strict=True), self.step):
            if not math.isfinite(mean):
                named = ", images " + ", ".join(str(i) for i in ids[:4].tolist()) + ", …" if not loss.isfinite() else ""
                raise MinimaeError(f"the loss became {mean} at step {step} (epoch {step / epoch_steps:.2f}{named}); {kept}. {ADVICE}")
        self.step, self.last = self.step + len(means), means[-1]
        self.recent.clear()
        return self.last


ADVICE = "Try a lower --base-lr, --clip 1, a longer --warmup-epochs, or --precision fp32"


def check_weights(model: nn.Module, step: int, kept: str) -> None:
    """Raises MinimaeError when a weight is not finite after ``step`` steps: a finite loss can have a gradient that is not."""
    values = [value for value in model.state_dict().values() if value.is_floating_point()]
    local = [value.to_local() if hasattr(value, "to_local") else value for value in values]
    spoiled = torch.stack([value.isfinite().all() for value in local]).logical_not().any()
    if all_reduce_mean(spoiled, device=spoiled.device)[0]:
        raise MinimaeError(f"weights are not finite after step {step}, though all losses were; {kept}. {ADVICE}")
