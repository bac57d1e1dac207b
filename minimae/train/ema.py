"""A moving average of the weights, evaluated instead of the last ones (paper, Table 11: 0.9999 for training from scratch)."""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Averaged(nn.Module):
    """A model and the moving average of its weights: training mode runs the model, eval mode the average.

    Both are in the state dict. The average starts at the initial weights and after each step becomes
    ``decay · average + (1 − decay) · weights``; it learns nothing by itself. A short run needs a smaller decay: with 0.9999 the
    initial weights still count by 1/e after 10,000 steps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of a moving average of weights lies in [0, 1) (0.9999 in the paper), not {decay}")
        super().__init__()
        self.model = model
        self.average = copy.deepcopy(model).requires_grad_(False)
        self.mix = get_ema_multi_avg_fn(decay)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = (self.model if self.training else self.average)(x)
        return output

    def update(self) -> None:
        """Move the average towards the weights: once after each step of the optimizer. Buffers are copied."""
        self.mix(list(self.average.parameters()), list(self.model.parameters()), 0)  # type: ignore[arg-type]
        for average, now in zip(self.average.buffers(), self.model.buffers(), strict=True):
            average.copy_(now)
