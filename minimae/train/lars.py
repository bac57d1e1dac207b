"""LARS: every weight matrix moves by the same small share of its own length (You et al., arXiv 1708.03888; paper, Table 10).

With batches of 16384 one learning rate does not suit all layers. LARS divides a layer's gradient by its length and multiplies it by
the length of the weights, so that the learning rate says how far a layer turns, whatever the scale of its gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class LARS(torch.optim.Optimizer):
    """Momentum on gradients scaled by ``trust · ‖w‖ / ‖g + decay · w‖``: in each step

        u = (g + decay · w) · trust · ‖w‖ / ‖g + decay · w‖,    v ← momentum · v + u,    w ← w − lr · v.

    Parameters with one dimension or none (biases, norms) are neither scaled nor decayed, and a matrix whose weights or gradient are
    all zero is not scaled. Norms stay on the device: no step makes the host wait. lr is the learning rate after scaling by the
    batch. Raises ValueError for settings out of range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
    ) -> None:
        if lr < 0 or weight_decay < 0 or trust <= 0 or not 0 <= momentum < 1:
            raise ValueError(
                f"LARS needs lr and weight decay of at least 0, a trust above 0 and a momentum in [0, 1), "
                f"not lr {lr}, weight decay {weight_decay}, trust {trust}, momentum {momentum}"
            )
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient. The gradients stay as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                update = scaled_by_trust_ratio(parameter, parameter.grad, weight_decay=group["weight_decay"], trust=group["trust"])
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(parameter)
                velocity = state["velocity"].mul_(group["momentum"]).add_(update)
                parameter.sub_(velocity * group["lr"])
        return loss


class ScaledLARS(LARS):
    """LARS for a loss scaler (fp16): a step whose gradients overflowed changes nothing, and the host need not learn which step it is.

    Without this torch's scaler reads from the device in every step whether there was an overflow. Without a scaler it is LARS.
    """

    _step_supports_amp_scaling = True  # the scaler leaves found_inf (above 0 for an overflow) and grad_scale (or None) in the optimizer

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        overflow, scale = getattr(self, "found_inf", None), getattr(self, "grad_scale", None)
        if overflow is None:
            return super().step(closure)
        learned = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        for parameter in learned:
            if scale is not None:
                parameter.grad.div_(scale)
            self.state[parameter].setdefault("velocity", torch.zeros_like(parameter))
        changed = [*learned, *(self.state[p]["velocity"] for p in learned)]
        before = [tensor.clone() for tensor in changed]
        loss = super().step(closure)
        for tensor, old in zip(changed, before):
            tensor.copy_(torch.where(overflow > 0, old, tensor))
        return loss


def scaled_by_trust_ratio(weight: Tensor, gradient: Tensor, *, weight_decay: float, trust: float) -> Tensor:
    """The gradient with decay, scaled to ``trust`` times the length of the weights; 1-D parameters keep theirs."""
    if weight.dim() <= 1:
        return gradient
    update = gradient + weight_decay * weight
    weight_norm, update_norm = torch.linalg.vector_norm(weight), torch.linalg.vector_norm(update)
    tiny = torch.finfo(update_norm.dtype).tiny
    return update * torch.where((weight_norm > 0) & (update_norm > 0), trust * weight_norm / update_norm.clamp(min=tiny), 1.0)
