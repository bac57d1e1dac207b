"""Figures of what is predicted and how it is scored: three targets, which patches the loss counts, which loss is normal (chapter 06)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .style import BLUE, GREEN, GREY, HEAT, ORANGE, WIDTH, Figure, bare, box, chart, figure, fold


def three_targets(rows: Sequence[tuple[np.ndarray, tuple[int, int], np.ndarray, np.ndarray, np.ndarray]], titles: Sequence[str]) -> Figure:
    """One row per patch: the photograph with the patch framed, then its three targets as pictures ``p1 p2 3`` in [0, 1].

    A row is (photograph ``height width 3`` in [0, 1], patch (row, column), three targets).
    """
    fig = figure(WIDTH, 1.5 * len(rows) + 0.45)
    table = fig.subplots(len(rows), 4, squeeze=False)
    for line, (picture, place, *made) in zip(table, rows, strict=True):
        for axes, image in zip(line, (picture, *made), strict=True):
            bare(axes).imshow(image, vmin=0, vmax=1, interpolation="nearest")
        box(line[0], place, "white", scale=made[0].shape[:2])
    for axes, title in zip(table[0], ("the patch", *titles), strict=True):
        axes.set_title(fold(title, 1.4), fontsize=10)
    return fig


def where_the_loss_looks(rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], titles: Sequence[str]) -> Figure:
    """One row per image: what the model saw, then two maps ``h w`` of the loss of each patch; NaN is not counted, and left white."""
    fig = figure(WIDTH, 1.85 * len(rows) + 0.45)
    top = float(np.nanquantile([m for row in rows for m in row[1:]], 0.98))
    table = fig.subplots(len(rows), 3, squeeze=False)
    for line, (picture, *maps) in zip(table, rows, strict=True):
        bare(line[0]).imshow(picture, vmin=0, vmax=1, interpolation="nearest")
        for axes, values in zip(line[1:], maps, strict=True):
            drawn = bare(axes).imshow(values, cmap=HEAT, vmin=0, vmax=top, interpolation="nearest")
        scale = fig.colorbar(drawn, ax=line[-1], fraction=0.046, ticks=[0, top])
        scale.ax.set_yticklabels(["0", f"≥ {top:.1f}"])
        scale.ax.tick_params(labelsize=10, length=0)
    for axes, title in zip(table[0], titles, strict=True):
        axes.set_title(fold(title, 1.7), fontsize=10)
    return fig


def loss_levels(levels: Mapping[str, float], *, highlight: Sequence[str] = ()) -> Figure:
    """Named losses as dots on one scale from zero; the highlighted ones in orange."""
    fig, axes = chart(WIDTH, 0.36 * len(levels) + 0.8)
    for i, (name, value) in enumerate(levels.items()):
        colour = ORANGE if name in highlight else BLUE
        axes.plot([0, value], [i, i], color=colour, linewidth=1.2, alpha=0.5)
        axes.plot(value, i, "o", color=colour, markersize=8)
        axes.annotate(f"{value:.3f}", (value, i), xytext=(9, 0), textcoords="offset points", va="center", fontsize=10)
    axes.set(xlim=(0, 1.12 * max(levels.values())), ylim=(len(levels) - 0.4, -0.6))
    axes.set_yticks(range(len(levels)), list(levels))
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("loss on masked patches", fontsize=10)
    return fig


def two_losses(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, baseline: float, words: str) -> Figure:
    """Losses against steps, thin, their running mean, thick, and one dashed level: {name: (steps, losses)}."""
    fig, axes = chart(WIDTH, 3.2)
    for colour, (name, (steps, losses)) in zip((BLUE, ORANGE, GREEN), curves.items(), strict=False):
        width = max(1, len(losses) // 25)
        axes.plot(steps, losses, color=colour, alpha=0.3, linewidth=1)
        smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
        axes.plot(np.asarray(steps)[(width - 1) // 2 : len(losses) - width // 2], smooth, color=colour, linewidth=2, label=name)
    axes.axhline(baseline, color=GREY, linestyle="--", linewidth=1.3, label=words)
    highest = max(float(np.quantile(losses, 0.97)) for _, losses in curves.values())
    axes.set(ylim=(0, 1.15 * max(baseline, highest)), xlabel="steps", ylabel="loss")
    axes.legend(frameon=False, fontsize=10)
    return fig
