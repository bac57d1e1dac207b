"""Figures of a training run: loss, learning rate, and the order of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from .style import BLUE, GREEN, LINE, NOTE, ORANGE, SHADE, WIDTH, Figure, chart, figure, plain


def loss_curve(steps: Sequence[float], losses: Sequence[float], *, baseline: float, images_per_step: int) -> Figure:
    """Training loss against images seen, with the loss of predicting the mean as a dashed line."""
    fig, axes = chart(WIDTH, 3.4)
    seen = np.asarray(steps) * images_per_step / 1000
    values = np.asarray(losses)
    many = len(values) >= 10
    # A marker, because a single point draws no line.
    look: dict[str, Any] = {"alpha": 0.35, "linewidth": 1} if many else {"linewidth": 2, "marker": "o", "label": "MAE"}
    axes.plot(seen, values, color=BLUE, **look)
    if many:
        width = max(3, len(values) // 25)
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        axes.plot(seen[width - 1 :], smooth, color=BLUE, linewidth=2, label=f"MAE (mean of {width} points)")
    axes.axhline(baseline, color=ORANGE, linestyle="--", linewidth=1.5, label=f"predicting the mean: {baseline:.3f}")
    axes.set_xlabel("images seen (thousands)")
    axes.set(ylabel="loss on masked patches", ylim=(0.9 * min(values.min(), baseline), 1.05 * max(np.quantile(values, 0.98), baseline)))
    axes.legend(frameon=False)
    return fig


PANELS = {
    "lr": "learning rate", "images_per_s": "images per second", "waiting": "share of time waiting for images",
    "knn_accuracy": "k-NN accuracy (%)", "probe_accuracy": "linear probe accuracy (%)", "feature_rank": "effective rank of the features",
    "validation_top1": "validation top-1 (%)", "validation_top5": "validation top-5 (%)",
}  # fmt: skip


def metric_panels(history: Sequence[Mapping[str, float]]) -> Figure:
    """Every logged number by optimizer step, each in its panel. The learning rates of layers (``lr_x0.75``) share the panel of ``lr``."""
    groups: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for point in history:
        for name, value in point.items():
            if name not in ("step", "epoch"):
                groups.setdefault(name.partition("_x")[0], {}).setdefault(name, []).append((point["step"], value))
    columns = min(2, len(groups))
    rows = -(-len(groups) // columns)
    fig = figure(3.0 * columns, 1.9 * rows + 0.3)
    panels = [plain(axes) for axes in fig.subplots(rows, columns, squeeze=False).flat]
    for axes, (title, lines) in zip(panels, groups.items()):
        for name, points in lines.items():
            axes.plot(*zip(*points), linewidth=1.5, marker="o" if len(points) < 10 else "", markersize=3, label=name,
                      zorder=3 if name == title else 2)  # fmt: skip  # the last layer's rate is lr itself
        axes.set_title(PANELS.get(title, title.replace("_", " ")), fontsize=10)
        axes.tick_params(labelsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        if len(lines) > 1:  # of many layers, only the peak and the first rate
            axes.legend(handles=axes.lines if len(lines) <= 4 else axes.lines[:2], frameon=False, fontsize=10)
    for axes in panels[len(groups) :]:
        axes.set_axis_off()
    for axes in panels[max(0, len(groups) - columns) : len(groups)]:
        axes.set_xlabel("optimizer step", fontsize=10)
    return fig


def schedules(lines: Mapping[str, Sequence[float]], *, per_epoch: float, warmup: float = 0.0, first: int = 0) -> Figure:
    """Learning rates by optimizer step: {name: one value per step, from step ``first`` on}, with epochs on top and the warm-up shaded."""
    fig, axes = chart(WIDTH, 3.0)
    if warmup:
        axes.axvspan(0, warmup, color=SHADE, zorder=0)
        axes.text(1.02 * warmup, 0.04, " ← warm-up", transform=axes.get_xaxis_transform(), fontsize=10, color=NOTE)
    for (name, lrs), colour, style in zip(lines.items(), (BLUE, ORANGE, GREEN), ("-", "--", ":"), strict=False):
        axes.plot(first + np.arange(len(lrs)), lrs, color=colour, linestyle=style, linewidth=2, label=name)
    axes.set(xlabel="optimizer step", ylabel="learning rate")
    highest = max(max(lrs) for lrs in lines.values())
    axes.set(xlim=(0, None), ylim=(-0.03 * highest, (1.06 if len(lines) == 1 else 1.28) * highest))  # a rate of 0 stays visible; room for a legend

    def to_epochs(step: Any) -> Any:
        return step / per_epoch

    def to_steps(epoch: Any) -> Any:
        return epoch * per_epoch

    axes.secondary_xaxis("top", functions=(to_epochs, to_steps)).set_xlabel("epoch", fontsize=10)
    axes.spines["top"].set_visible(False)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=10, loc="upper right")
    return fig


def epoch_row(places: Sequence[int], epochs: Sequence[int], *, batch: int) -> Figure:
    """The endless sequence of shuffled epochs: one box per image (its index written inside), one colour per epoch, a bracket per batch."""
    from matplotlib.patches import Rectangle

    fig = figure(WIDTH, 1.25)
    axes = fig.subplots()
    axes.set_axis_off()
    for i, (place, epoch) in enumerate(zip(places, epochs, strict=True)):
        colour = (BLUE, ORANGE, GREEN)[epoch % 3]
        axes.add_patch(Rectangle((i + 0.06, 0.06), 0.88, 0.88, facecolor=colour, alpha=0.25, edgecolor=colour, linewidth=1.2))
        axes.text(i + 0.5, 0.5, str(int(place)), ha="center", va="center", fontsize=10)
    for i, first in enumerate(range(0, len(places), batch)):
        last = min(first + batch, len(places))
        axes.plot([first + 0.1, first + 0.1, last - 0.1, last - 0.1], [1.15, 1.3, 1.3, 1.15], color=NOTE, linewidth=1.2)
        axes.text((first + last) / 2, 1.38, f"step {i}", ha="center", va="bottom", fontsize=10, color=NOTE)
    for epoch in sorted({int(e) for e in epochs}):
        inside = [i for i, e in enumerate(epochs) if int(e) == epoch]
        middle, colour = (inside[0] + inside[-1] + 1) / 2, (BLUE, ORANGE, GREEN)[epoch % 3]
        axes.text(middle, -0.12, f"epoch {epoch}", ha="center", va="top", fontsize=10, color=colour)
    axes.set(xlim=(0, len(places)), ylim=(-0.6, 1.85))
    return fig


def loss_against_marks(
    seen: Sequence[float], losses: Sequence[float], *, zero: float, expected: Sequence[tuple[float, float, float]] = ()
) -> Figure:
    """A measured loss curve with the trivial baseline, the loss of flat patches. expected: (images seen, lowest, highest loss), a band."""
    fig, axes = chart(WIDTH, 3.4)
    axes.plot(np.asarray(seen) / 1000, losses, color=BLUE, linewidth=1.8, label="this run")
    axes.axhline(zero, color=ORANGE, linestyle="--", linewidth=1.5, label=f"flat patches: {zero:.2f}")
    if expected:
        at, least, most = (np.asarray(values) for values in zip(*expected))
        axes.fill_between(at / 1000, least, most, color=GREEN, alpha=0.3, linewidth=0, zorder=1, label="expected (three seeds)")
    axes.set(xlabel="images seen (thousands)", ylabel="loss on masked patches", xlim=(0, None), ylim=(0.3, 1.2))
    axes.legend(frameon=False, fontsize=10, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return fig


def runs_apart(runs: Mapping[str, Sequence[float]], *, per_epoch: float, ylabel: str = "loss on masked patches") -> Figure:
    """Loss curves of runs that differ in one thing, by optimizer step, with a line where each epoch begins."""
    fig, axes = chart(WIDTH, 3.2, grid=False)
    longest = max(len(losses) for losses in runs.values())
    for epoch in np.arange(0, longest, per_epoch):
        axes.axvline(epoch, color=LINE, linewidth=1, zorder=0)
    for (name, losses), colour, style in zip(runs.items(), (BLUE, ORANGE, GREEN), ("-", "--", "-."), strict=False):
        axes.plot(np.arange(1, len(losses) + 1), losses, color=colour, linestyle=style, linewidth=1.8, label=name)
    axes.set(xlabel="optimizer step (a grey line: an epoch begins)", ylabel=ylabel)
    axes.legend(frameon=False, fontsize=10)
    return fig
