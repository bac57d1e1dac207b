"""Figures of measured numbers: accuracy by method, curves, classes in a plane, and a claim beside the paper."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from .pictures import picture_table
from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, Axes, Figure, chart, figure, plain


def comparison(table: dict[str, dict[str, float]], rows: Sequence[str]) -> Figure:
    """Accuracy by method: {evaluation: {row: percent}} → one panel per evaluation, one dot per row; a row without a value has none."""
    colours = dict(zip(rows, (GREY, ORANGE, PURPLE, BLUE, GREEN), strict=False))
    fig = figure(2.5 * len(table) + 1.4, 0.42 * len(rows) + 1.1)
    panels = fig.subplots(1, len(table), squeeze=False, sharey=True)[0]
    values = [value for column in table.values() for value in column.values()]
    low, high = 5 * (min(values) // 5) - 5, min(100, 5 * (max(values) // 5) + 10)
    for axes, (title, column) in zip(panels, table.items(), strict=True):
        plain(axes)
        for i, row in enumerate(rows):
            if row in column:
                axes.plot(column[row], i, "o", color=colours[row], markersize=9, clip_on=False)
                axes.annotate(f"{column[row]:.1f}", (column[row], i), xytext=(9, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_title(title, fontsize=10)
        axes.set(xlim=(low, high), ylim=(len(rows) - 0.5, -0.5))
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("test accuracy (%)", fontsize=9)
    return fig


def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x: str,
    y: str,
    levels: Mapping[str, float] | None = None,
    floor: float | None = None,
    log: bool = False,
) -> Figure:
    """Measured points, joined by lines: {name: (x, y)}; ``levels`` are dashed lines across, with their names. log: x is logarithmic."""
    fig, axes = chart(6.4, 3.4)
    for (name, (across, up)), colour, marker in zip(lines.items(), (BLUE, ORANGE, GREEN, PURPLE), "os^D", strict=False):
        axes.plot(across, up, color=colour, marker=marker, markersize=5, linewidth=2, label=name)
    for name, level in (levels or {}).items():
        axes.axhline(level, color=GREY, linestyle="--", linewidth=1.2)
        where = axes.get_yaxis_transform()
        axes.annotate(name, (0.01, level), xytext=(0, 3), xycoords=where, textcoords="offset points", fontsize=8, color="#555555")
    axes.set(xlabel=x, ylabel=y)
    if log:
        ticks = sorted({value for across, _ in lines.values() for value in across})
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{value:g}" for value in ticks])
        axes.set_xticks([], minor=True)
    if floor is not None:
        axes.set_ylim(bottom=floor)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=9)
    return fig


def scatters(panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], *, x: str, y: str) -> Figure:
    """Points side by side: {title: {group: [(x, y), …]}}, each panel on its own scale."""
    fig = figure(4.6 * len(panels), 3.6)
    names = list(dict.fromkeys(name for groups in panels.values() for name in groups))
    for axes, (title, groups) in zip(fig.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        plain(axes)
        for i, name in enumerate(names):
            across, up = zip(*groups[name]) if name in groups else ((), ())
            colour = (BLUE, ORANGE, GREEN, PURPLE, GREY)[i % 5]
            axes.plot(across, up, "os^DvPX*<>"[i % 10], color=colour, markersize=6.5, alpha=0.85, label=name)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(x, fontsize=9)
        axes.set_ylabel(y, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.margins(0.08)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


FIVE = (BLUE, ORANGE, GREEN, PURPLE, "#444444")  # ten classes have five colours, each as a disc and as a triangle


def classes_in_a_plane(
    panels: Mapping[str, Tensor], labels: Tensor, classes: Sequence[str], *, notes: Mapping[str, str] | None = None
) -> Figure:
    """Points ``N 2`` in panels side by side, coloured and shaped by class, with one legend for all; a note goes under a panel's title."""
    fig = figure(2.75 * len(panels) + (0.2 if len(panels) > 1 else 2.4), 3.6)
    row = fig.subplots(1, len(panels), squeeze=False)[0]
    handles = []
    for axes, (title, points) in zip(row, panels.items(), strict=True):
        xy, y = np.asarray(points), np.asarray(labels)
        handles = [
            axes.scatter(*xy[y == c].T, s=12, color=FIVE[c % 5], marker="o^"[c // 5 % 2], alpha=0.65, linewidths=0, label=name)
            for c, name in enumerate(classes)
        ]
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[["top", "right"]].set_visible(False)
        note = (notes or {}).get(title)
        axes.set_title(title if note is None else f"{title}\n{note}", fontsize=10)
        axes.set_xlabel("first direction", fontsize=9)
    row[0].set_ylabel("second direction", fontsize=9)
    legend = fig.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9, markerscale=1.8, columnspacing=1.2)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    return fig


def neighbours(rows: Sequence[tuple[np.ndarray, Sequence[np.ndarray], Sequence[bool]]], *, names: Sequence[str]) -> Figure:
    """A query and its nearest neighbours, one search per row: a green border is the query's own class, an orange one another."""
    cells = [[picture, *found] for picture, found, _ in rows]
    frames = {(i, 1 + j): GREEN if same else ORANGE for i, (_, _, right) in enumerate(rows) for j, same in enumerate(right)}
    places = [f"{j + 1}." for j in range(max(len(found) for _, found, _ in rows))]
    return picture_table(cells, columns=["query", *places], rows=names, frames=frames, width=5.6)


X = float | str
Points = Sequence[tuple[X, float, float]]  # value on the axis, mean, standard deviation
Effect = tuple[str, str, float, float, float, float]  # label, outcome, threshold, difference, lowest, highest
COLOURS = {"MAE": BLUE, "from scratch": ORANGE}
OTHERS, MARKERS = (GREEN, PURPLE, ORANGE, BLUE), "os^Dv"


def claim_panels(
    ours: Mapping[str, Mapping[str, Points]],
    paper: Mapping[str, Mapping[str, Sequence[tuple[X, float]]]],
    *,
    axis: str,
    paper_axis: str = "",
    log: bool = False,
    effects: Mapping[str, Sequence[Effect]] | None = None,
) -> Figure:
    """A row for every measure: on the left {measure: {line: [(x, mean, std), …]}}, on the right the paper's {line: [(x, value), …]}.

    effects: between them, differences with their intervals. Each column has its own scale, because data and model differ.
    log: numbers on a logarithmic axis.
    """
    effects = effects or {}
    columns = ["ours", *["effects"] * bool(effects), *["paper"] * any(measure in paper for measure in ours)]
    wide = {1: 5.4, 2: 9.2, 3: 12.6}[len(columns)]
    tall = [max(2.5, 0.55 * len(effects.get(measure, ())) + 1.0) for measure in ours]
    fig = figure(wide, sum(tall) + 0.5)
    panels = fig.subplots(len(ours), len(columns), squeeze=False, height_ratios=tall)
    for row, (measure, lines) in zip(panels, ours.items(), strict=True):
        at = dict(zip(columns, row, strict=True))
        drawn(at["ours"], lines, measure, axis, log)
        at["ours"].set_title("measured here", fontsize=10)
        if measure in effects:
            differences(at["effects"], effects[measure], measure)
        if measure in paper:
            theirs = {name: [(x, y, 0.0) for x, y in points] for name, points in paper[measure].items()}
            drawn(at["paper"], theirs, measure, paper_axis or axis, log and not paper_axis)
            at["paper"].set_title("the paper", fontsize=10)
        for column, known in (("effects", effects), ("paper", paper)):
            if column in at and measure not in known:
                at[column].set_axis_off()
    return fig


def differences(axes: Axes, effects: Sequence[Effect], measure: str) -> None:
    """One panel: in each row a difference, with a bar for its interval and a dashed line at the threshold that the claim names."""
    plain(axes)
    for i, (label, outcome, threshold, difference, low, high) in enumerate(effects):
        colour = {"yes": BLUE, "no": ORANGE}.get(outcome, GREY)
        axes.errorbar(difference, i, xerr=[[difference - low], [high - difference]], color=colour, marker="o", markersize=5.5, capsize=3)
        axes.plot([threshold, threshold], [i - 0.2, i + 0.3], color="#444444", linewidth=1.2, linestyle="--")
        where = axes.get_yaxis_transform()
        axes.annotate(f"{label}: {outcome}", (0.0, i - 0.25), xycoords=where, fontsize=8, va="bottom")
    axes.set(ylim=(len(effects) - 0.5, -0.75), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="x", labelsize=8)
    axes.margins(x=0.08)
    axes.set_title("differences, with 95 % intervals", fontsize=10)
    axes.set_xlabel("points" if measure.endswith("(%)") else measure, fontsize=9)


def drawn(axes: Axes, lines: Mapping[str, Points], measure: str, axis: str, log: bool = False) -> None:
    """One panel: joined marks for numbers, single marks for names; a bar is one standard deviation over the seeds to either side."""
    plain(axes)
    names = list(dict.fromkeys(x for points in lines.values() for x, _, _ in points if isinstance(x, str)))
    others = iter(OTHERS)
    for i, (name, points) in enumerate(lines.items()):
        shift = 0.0 if len(lines) == 1 or not names else 0.16 * (i - (len(lines) - 1) / 2)
        across = [names.index(x) + shift if isinstance(x, str) else x for x, _, _ in points]
        colour = COLOURS.get(name) or next(others)
        axes.errorbar(
            across, [y for _, y, _ in points], yerr=[d for _, _, d in points] if any(d for _, _, d in points) else None,
            color=colour, marker=MARKERS[i % len(MARKERS)], markersize=5.5, linewidth=0 if names else 1.8, elinewidth=1.4, capsize=3,
            label=name,
        )  # fmt: skip
    if names:
        axes.set_xticks(range(len(names)), [wrapped(name) for name in names], fontsize=8)
        axes.set_xlim(-0.5, len(names) - 0.5)
    else:
        ticks = sorted({float(x) for points in lines.values() for x, _, _ in points})
        if log:
            axes.set_xscale("log")
            axes.minorticks_off()
        else:
            room = 0.035 * (ticks[-1] - ticks[0])  # tick labels this close would overlap
            ticks = [x for x, before in zip(ticks, [-math.inf, *ticks]) if x - before > room]
        axes.set_xticks(ticks, [f"{x:g}" for x in ticks], fontsize=8, rotation=45 if len(ticks) > 8 else 0)
    axes.margins(y=0.12)
    axes.set_xlabel(axis, fontsize=9)
    axes.set_ylabel(measure, fontsize=9)
    axes.tick_params(axis="y", labelsize=8)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=8)


def wrapped(name: str) -> str:
    """A name broken into short lines; a number stays with its percent sign."""
    return "\n".join(textwrap.wrap(name.replace(" %", "\u00a0%"), 11))
