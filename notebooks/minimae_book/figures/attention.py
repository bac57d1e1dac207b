"""Figures of attention and positions (chapter 03)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .style import BLUE, GREEN, GREY, HEAT, HIDDEN, LINE, ORANGE, PURPLE, SIGNED, WIDTH, Figure, bare, box, chart, figure, fold


def attention_table(weights: np.ndarray, values: np.ndarray, results: np.ndarray) -> Figure:
    """Weights ``t t`` as shaded cells, under the values ``t`` that they mix, with the result ``t`` beside them."""
    t = len(values)
    fig = figure(WIDTH, 3.4)
    axes = fig.subplots()
    axes.imshow(weights, cmap="Blues", vmin=0, vmax=1.3)
    for i in range(t):
        for j in range(t):
            axes.text(j, i, f"{weights[i, j]:.2f}", ha="center", va="center", fontsize=11)
        axes.text(t + 0.15, i, f"→  {results[i]:.2g}", ha="center", va="center", fontsize=12, color=ORANGE, fontweight="bold")
    axes.set_xlim(-0.5, t + 0.7)
    axes.set_xticks(range(t), [f"token {j}\nvalue {values[j]:g}" for j in range(t)])
    axes.set_yticks(range(t), [f"query of token {i}" for i in range(t)])
    axes.text(t + 0.15, -0.72, "result", ha="center", va="center", fontsize=10, color=ORANGE)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return fig


def matrices(panels: Mapping[str, np.ndarray], *, x: str, y: str) -> Figure:
    """Square matrices side by side on one colour scale, for example attention before and after a shuffle."""
    side = min(3.0, WIDTH / len(panels))
    fig = figure(side * len(panels), side + 0.6)
    top = max(float(m.max()) for m in panels.values())
    for axes, (title, matrix) in zip(fig.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        bare(axes).imshow(matrix, cmap=HEAT, vmin=0, vmax=top, interpolation="nearest")
        axes.set_title(fold(title, 0.9 * side), fontsize=10)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
    return fig


def attention_maps(rows: Sequence[tuple[np.ndarray, tuple[int, int], np.ndarray]], titles: Sequence[str]) -> Figure:
    """One row per query: (picture, (row, column) of the query, maps ``heads h w``) → the picture, then a map per head."""
    columns = 1 + len(rows[0][2])
    side = min(1.55, (WIDTH - 0.6) / columns)
    fig = figure(side * columns + 0.6, 1.04 * side * len(rows) + 0.3)
    table = fig.subplots(len(rows), columns, squeeze=False)
    for line, (picture, place, maps) in zip(table, rows, strict=True):
        bare(line[0]).imshow(picture, vmin=0, vmax=1, interpolation="nearest")
        box(line[0], place, scale=(picture.shape[0] / maps.shape[1], picture.shape[1] / maps.shape[2]))
        for axes, one in zip(line[1:], maps, strict=True):
            drawn = bare(axes).imshow(one, cmap=HEAT, vmin=0, vmax=float(maps.max()), interpolation="nearest")
            box(axes, place)
        fig.colorbar(drawn, ax=line[-1], fraction=0.05, ticks=[0, float(maps.max())], format="%.2f").ax.tick_params(labelsize=10, length=0)
    for axes, title in zip(table[0], titles, strict=True):
        axes.set_title(title, fontsize=10)
    return fig


def position_table(table: np.ndarray, *, parts: Sequence[str] = ("sines", "cosines")) -> Figure:
    """Position vectors, one for each coordinate, as rows of a heat map; the channels fall into equal, named parts."""
    fig = figure(WIDTH, 2.8)
    axes = fig.subplots()
    drawn = axes.imshow(table, cmap=SIGNED, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    width = table.shape[1] / len(parts)
    for i, part in enumerate(parts):
        axes.text((i + 0.5) * width - 0.5, -0.9, part, ha="center", va="bottom", fontsize=10)
        if i:
            axes.axvline(i * width - 0.5, color="black", linewidth=1)
    axes.set(xlabel="channel", ylabel="coordinate")
    fig.colorbar(drawn, ax=axes, ticks=[-1, 0, 1], fraction=0.04)
    return fig


def place_maps(maps: Mapping[str, np.ndarray], places: Sequence[tuple[int, int] | None], *, label: str, own_scale: bool = False) -> Figure:
    """Maps ``h w`` side by side, each with its patch framed, if any; one colour scale for all, or one for each. NaN is hidden."""
    side = min(2.6, WIDTH / len(maps))
    lines = max(fold(title, 0.95 * side).count("\n") for title in maps)
    fig = figure(side * len(maps), side + (0.95 if own_scale else 1.05) + 0.17 * lines)
    panels = fig.subplots(1, len(maps), squeeze=False)[0]
    everything = np.concatenate([one[np.isfinite(one)] for one in maps.values()])
    for axes, (title, one), place in zip(panels, maps.items(), places, strict=True):
        scale = one if own_scale else everything
        bare(axes).set_facecolor(HIDDEN)
        drawn = axes.imshow(one, cmap=HEAT, vmin=float(scale.min()), vmax=float(scale.max()), interpolation="nearest")
        for edge in range(1, one.shape[1]):
            axes.axvline(edge - 0.5, color="white", alpha=0.35, linewidth=0.6)
        for edge in range(1, one.shape[0]):
            axes.axhline(edge - 0.5, color="white", alpha=0.35, linewidth=0.6)
        if place is not None:
            box(axes, place)
        axes.set_title(fold(title, 0.95 * side), fontsize=10)
        if own_scale:
            bar = fig.colorbar(drawn, ax=axes, location="bottom", fraction=0.05, pad=0.03, ticks=[scale.min(), scale.max()], format="%.0f")
            least, most = bar.ax.get_xticklabels()
            least.set_horizontalalignment("left")  # so that the numbers of two scales side by side stay apart
            most.set_horizontalalignment("right")
    if own_scale:
        fig.supxlabel(label, fontsize=10)
    else:
        fig.colorbar(drawn, ax=list(panels), location="bottom", fraction=0.05, pad=0.03, shrink=0.5).set_label(label, fontsize=10)
    return fig


def every_similarity(similarity: np.ndarray, grid: tuple[int, int]) -> Figure:
    """``n n`` similarities → one small map ``h w`` for every patch, at the position of the patch."""
    h, w = grid
    fig = figure(0.72 * w + 0.6, 0.72 * h + 0.6)
    table = fig.subplots(h, w, squeeze=False, gridspec_kw={"wspace": 0.06, "hspace": 0.06})
    for i, axes in enumerate(table.flat):
        bare(axes).imshow(similarity[i].reshape(h, w), cmap=HEAT, vmin=similarity.min(), vmax=similarity.max(), interpolation="nearest")
        axes.spines[:].set_visible(False)
    fig.supxlabel("column of the patch", fontsize=10)
    fig.supylabel("row of the patch", fontsize=10)
    return fig


def through_blocks(series: Mapping[str, Sequence[float]], *, y: str) -> Figure:
    """One number per block for several models, on a logarithmic scale; each line carries its name at its end."""
    fig, axes = chart(WIDTH, 3.2)
    for (name, values), colour in zip(series.items(), (BLUE, ORANGE, GREEN, PURPLE, GREY), strict=False):
        axes.plot(range(len(values)), values, color=colour, marker="o", markersize=4)
        axes.annotate(name, (len(values) - 1, values[-1]), xytext=(8, 0), textcoords="offset points", va="center", color=colour, fontsize=10)
    axes.set_yscale("log")
    longest = max(len(values) for values in series.values())
    axes.set_xlim(-0.3, longest * 1.28)
    axes.set_xticks(range(0, longest, 2))
    axes.set(xlabel="blocks passed", ylabel=y)
    return fig


def claimed_places(panels: Mapping[str, tuple[np.ndarray, np.ndarray]], grid: tuple[int, int]) -> Figure:
    """For each panel (indices ``k``, claimed ``k``): an arrow from each patch to the patch whose position its token has."""
    h, w = grid
    side = min(3.2, WIDTH / len(panels))
    fig = figure(side * len(panels), side + 0.25)
    for axes, (title, (places, claimed)) in zip(fig.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for i in range(h + 1):
            axes.axhline(i - 0.5, color=LINE, linewidth=0.8, zorder=0)
        for j in range(w + 1):
            axes.axvline(j - 0.5, color=LINE, linewidth=0.8, zorder=0)
        for a, b in zip(places.tolist(), claimed.tolist(), strict=True):
            start, end = (a % w, a // w), (b % w, b // w)
            if a != b:
                axes.annotate(
                    "", end, start, arrowprops={"arrowstyle": "->", "color": ORANGE, "linewidth": 1.3, "shrinkA": 4, "shrinkB": 1}
                )
            axes.plot(*start, "o", color=BLUE, markersize=8)
        axes.set(xlim=(-0.5, w - 0.5), ylim=(h - 0.5, -0.5), aspect="equal")
        bare(axes).set_title(title, fontsize=10)
    return fig
