"""Figures of what is predicted and how it is scored: three targets, which patches the loss counts, which loss is normal (chapter 06)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, SIGNED, Figure, bare, box, chart, figure, plain


def three_targets(rows: Sequence[tuple[np.ndarray, tuple[int, int], np.ndarray, np.ndarray, np.ndarray]]) -> Figure:
    """One row per patch: the picture with the patch framed, then its pixels, its normalised pixels, and its coefficients as bars.

    A row is (picture ``height width 3`` in [0, 1], patch (row, column), pixels ``p1 p2``, normalised ``p1 p2``, coefficients).
    """
    fig = figure(9.0, 2.05 * len(rows) + 0.3)
    table = fig.subplots(len(rows), 4, squeeze=False, gridspec_kw={"width_ratios": [1, 1.18, 1.18, 1.3]})
    top = max(float(np.abs(row[2]).max()) for row in rows)
    tall = 1.15 * max(float(np.abs(row[4]).max()) for row in rows)
    for line, (picture, place, pixels, normalised, coefficients) in zip(table, rows, strict=True):
        bare(line[0]).imshow(picture, vmin=0, vmax=1, interpolation="nearest")
        box(line[0], place, scale=(len(pixels), len(pixels)))
        for axes, values, limit in ((line[1], pixels, top), (line[2], normalised, 2.5)):
            drawn = bare(axes).imshow(values, cmap=SIGNED, vmin=-limit, vmax=limit, interpolation="nearest")
            fig.colorbar(drawn, ax=axes, fraction=0.046, ticks=[-int(10 * limit) / 10, 0, int(10 * limit) / 10]).ax.tick_params(
                labelsize=8, length=0
            )
            axes.set_xlabel(f"mean {round(float(values.mean()), 2) + 0:.2f}   dev. {values.std(ddof=1):.2f}", fontsize=9)
        plain(line[3]).bar(range(1, len(coefficients) + 1), coefficients, color=PURPLE)
        line[3].axhline(0, color=GREY, linewidth=0.8)
        line[3].set_ylim(-tall, tall)
        line[3].set_xticks(range(1, len(coefficients) + 1))
        line[3].tick_params(labelsize=8)
    for axes, title in zip(table[0], ("the patch", "pixels", "normalised pixels", "PCA coefficients"), strict=True):
        axes.set_title(title, fontsize=10)
    return fig


def patch_values(panels: Mapping[str, np.ndarray], *, limit: float | None = None) -> Figure:
    """Patches ``p1 p2`` side by side with their values written in, on one colour scale around zero."""
    fig = figure(2.6 * len(panels), 2.7)
    limit = max(float(np.abs(x).max()) for x in panels.values()) if limit is None else limit
    for axes, (title, values) in zip(fig.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        bare(axes).imshow(values, cmap=SIGNED, vmin=-1.6 * limit, vmax=1.6 * limit, interpolation="nearest")
        for i, row in enumerate(values):
            for j, value in enumerate(row):
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=9)
        axes.set_title(title, fontsize=10)
    return fig


def where_the_loss_looks(rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], titles: Sequence[str]) -> Figure:
    """One row per image: what the model saw, then two maps ``h w`` of the loss of each patch; NaN is not scored, and hatched."""
    from matplotlib.patches import Rectangle

    fig = figure(7.6, 2.35 * len(rows) + 0.3)
    top = max(float(np.nanmax(m)) for row in rows for m in row[1:])
    table = fig.subplots(len(rows), 3, squeeze=False)
    for line, (picture, *maps) in zip(table, rows, strict=True):
        bare(line[0]).imshow(picture, vmin=0, vmax=1, interpolation="nearest")
        for axes, values in zip(line[1:], maps, strict=True):
            drawn = bare(axes).imshow(values, cmap="cividis", vmin=0, vmax=top, interpolation="nearest")
            for i, j in np.argwhere(np.isnan(values)):
                axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor="white", edgecolor=GREY, hatch="///", linewidth=0))
        fig.colorbar(drawn, ax=line[-1], fraction=0.046, ticks=[0, round(top, 1)]).ax.tick_params(labelsize=8, length=0)
    for axes, title in zip(table[0], titles, strict=True):
        axes.set_title(title, fontsize=10)
    return fig


def loss_levels(levels: Mapping[str, float], *, highlight: Sequence[str] = ()) -> Figure:
    """Named losses as dots on one scale from zero; the highlighted ones in orange."""
    fig, axes = chart(7.6, 0.36 * len(levels) + 0.9)
    for i, (name, value) in enumerate(levels.items()):
        colour = ORANGE if name in highlight else BLUE
        axes.plot([0, value], [i, i], color=colour, linewidth=1.2, alpha=0.5)
        axes.plot(value, i, "o", color=colour, markersize=8)
        axes.annotate(f"{value:.3f}", (value, i), xytext=(9, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set(xlim=(0, 1.12 * max(levels.values())), ylim=(len(levels) - 0.4, -0.6))
    axes.set_yticks(range(len(levels)), list(levels))
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("loss on masked patches", fontsize=9)
    return fig


def two_losses(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, baseline: float, words: str) -> Figure:
    """Losses against steps, thin, their running mean, thick, and one dashed level: {name: (steps, losses)}."""
    fig, axes = chart(6.6, 3.4)
    for colour, (name, (steps, losses)) in zip((BLUE, ORANGE, GREEN), curves.items(), strict=False):
        width = max(1, len(losses) // 25)
        axes.plot(steps, losses, color=colour, alpha=0.3, linewidth=1)
        smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
        axes.plot(np.asarray(steps)[width - 1 :], smooth, color=colour, linewidth=2, label=name)
    axes.axhline(baseline, color=GREY, linestyle="--", linewidth=1.3, label=words)
    highest = max(float(np.quantile(losses, 0.97)) for _, losses in curves.values())
    axes.set(ylim=(0, 1.15 * max(baseline, highest)), xlabel="steps", ylabel="loss")
    axes.legend(frameon=False, fontsize=9)
    return fig


def explained(shares: Sequence[float], *, wanted: float, count: int) -> Figure:
    """Share of the variance that the first coefficients hold, with the count that reaches a wanted share."""
    fig, axes = chart(6.0, 3.0)
    axes.plot(range(1, len(shares) + 1), 100 * np.asarray(shares), "o-", color=PURPLE, markersize=5)
    axes.axhline(100 * wanted, color=GREY, linestyle="--", linewidth=1.2)
    axes.axvline(count, color=ORANGE, linewidth=1.5)
    axes.annotate(
        f"{count} of {len(shares)}", (count, 100 * wanted), xytext=(8, -16), textcoords="offset points", color=ORANGE, fontsize=10
    )
    axes.set(xlabel="coefficients", ylabel="variance held (%)", ylim=(0, 104))
    return fig
