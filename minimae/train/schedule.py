"""How the learning rate changes (paper, Tables 8 to 10): linear warm-up, then half a cosine, at every optimizer step."""

from __future__ import annotations

import math


def scaled_lr(base_lr: float, batch: int) -> float:
    """The linear scaling rule: lr = base lr × images per optimizer step / 256 (batch × accumulation × processes)."""
    return base_lr * batch / 256


def epochs_done(step: int, epoch_steps: float, every: float) -> float | None:
    """The epochs that are complete with this step, if another ``every`` of them are; otherwise None."""
    done, before = (int(s / epoch_steps / every + 1e-9) for s in (step, step - 1))
    return done * every if done > before else None


def lr_at(step: float, *, steps: int, warmup: float, peak: float, floor: float = 0.0) -> float:
    """The learning rate at an optimizer step in [0, steps]: up linearly over ``warmup`` steps, down a cosine to ``floor``."""
    if step < warmup:
        return peak * step / warmup
    progress = min(1.0, (step - warmup) / max(1e-12, steps - warmup))
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))
