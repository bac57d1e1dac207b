"""Compare the final loss of pre-training with the trivial baseline, and suggest changes where it is poor."""

from __future__ import annotations

from ..train.schedule import scaled_lr
from ..train.task import Result
from .pretrain import Pretrain

LEARNED = 0.3  # the recipes of this package end below this share of the baseline
FEW_STEPS, STEPS = 1500, 3000  # fewer optimizer steps are few; our small recipes take this many
LOW_LR, LR = 5e-4, 1e-3  # lower peak learning rates are low for a small network; our small recipes have this one


def judged(result: Result, baseline: float, recipe: Pretrain, *, processes: int = 1) -> str:
    """A sentence or two: how far the loss is below predicting the mean (``baseline``), and what to change if that is not far."""
    below = 1 - result.loss / baseline
    if below > 0:
        said = f"Predicting the mean scores {baseline:.3f}: the loss is {below:.0%} below that."
    else:
        said = f"Predicting the mean scores {baseline:.3f}, which is no worse than this model: it has learned nothing yet."
    window = recipe.batch * recipe.accumulate * processes
    advice = []
    if result.steps < FEW_STEPS:
        epochs = recipe.epochs * STEPS / max(1, result.steps)
        smaller = f", or a smaller --batch than {recipe.batch}" if recipe.batch > 32 else ""
        advice.append(f"more than {result.steps:,} optimizer steps (--epochs {float(f'{epochs:.2g}'):g}{smaller})")
    if (peak := scaled_lr(recipe.base_lr, window)) < LOW_LR:
        advice.append(f"a higher peak learning rate than {peak:.1e} (--base-lr {LR * 256 / window:.1g})")
    if below >= LEARNED:
        return said
    return f"{said} {'Try ' + ' and '.join(advice) if advice else 'Try another --base-lr, or more --epochs'}."
