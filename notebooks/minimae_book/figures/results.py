"""Figures of measured numbers: accuracy by method, curves, classes in a plane, and a claim beside the paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from .pictures import picture_table
from .style import BLUE, GREEN, GREY, INK, NOTE, ORANGE, PURPLE, WIDTH, Axes, Figure, chart, figure, fold, legend_columns, plain


def comparison(table: dict[str, dict[str, float]], rows: Sequence[str], *, x: str = "test accuracy (%)", note: str = "") -> Figure:
    """Accuracy by method: {evaluation: {row: percent}} → one panel per evaluation, one dot per row; a row without a value has none.

    note: what was measured, for example how many images and seeds.
    """
    colours = dict(zip(rows, (GREY, ORANGE, PURPLE, BLUE, GREEN), strict=False))
    columns = len(table) if len(table) <= 3 else 2
    lines = -(-len(table) // columns)
    fig = figure(WIDTH, lines * (0.36 * len(rows) + 0.5) + 0.35)
    panels = fig.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).flat
    values = [value for column in table.values() for value in column.values()]
    low, high = 5 * (min(values) // 5) - 5, min(100, 5 * (max(values) // 5) + 10)
    for axes, (title, column) in zip(panels, table.items()):
        plain(axes)
        for i, row in enumerate(rows):
            if row in column:
                right = column[row] < low + 0.7 * (high - low)
                axes.plot(column[row], i, "o", color=colours[row], markersize=9, clip_on=False)
                axes.annotate(f"{column[row]:.1f}", (column[row], i), xytext=(9 if right else -9, 0), textcoords="offset points", va="center",
                              ha="left" if right else "right")  # fmt: skip
        axes.set_title(fold(title, 4.6 / columns), fontsize=10)
        axes.set(xlim=(low, high), ylim=(len(rows) - 0.5, -0.5))
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(axis="y", length=0)
    for axes in [*panels][len(table) :]:
        axes.set_axis_off()
    fig.supxlabel(f"{x}{note and f': {note}'}", fontsize=10)
    return fig


def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x: str,
    y: str,
    levels: Mapping[str, float] | None = None,
    floor: float | None = None,
    log: bool = False,
    note: str = "",
) -> Figure:
    """Measured points, joined by lines: {name: (x, y)}; ``levels`` are dashed lines across, with their names. log: x is logarithmic.

    note: what was measured, for example how many images and seeds; it stands above the points.
    """
    fig, axes = chart(WIDTH, 3.2)
    for (name, (across, up)), colour, marker in zip(lines.items(), (BLUE, ORANGE, GREEN, PURPLE), "os^D", strict=False):
        axes.plot(across, up, color=colour, marker=marker, markersize=5, linewidth=2, label=name)
    for name, level in (levels or {}).items():
        axes.axhline(level, color=GREY, linestyle="--", linewidth=1.2)
        where = axes.get_yaxis_transform()
        axes.annotate(name, (0.01, level), xytext=(0, 3), xycoords=where, textcoords="offset points", fontsize=10, color=NOTE)
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(note, fontsize=10, color=NOTE, loc="right")
    ticks = sorted({float(value) for across, _ in lines.values() for value in across})
    if log:
        axes.set_xscale("log")
        axes.minorticks_off()
    if len(ticks) <= 12:
        kept = apart(ticks, math.log if log else float, inches=5.0)
        axes.set_xticks(kept, [f"{value:g}" for value in kept])
    if floor is not None:
        axes.set_ylim(bottom=floor)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=10)
    return fig


def scatters(panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], *, x: str, y: str) -> Figure:
    """Points side by side: {title: {group: [(x, y), …]}}, each panel on its own scale."""
    names = list(dict.fromkeys(name for groups in panels.values() for name in groups))
    fig = figure(WIDTH, 3.0 + 0.22 * -(-len(names) // legend_columns(names)))
    for axes, (title, groups) in zip(fig.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        plain(axes)
        for i, name in enumerate(names):
            colour = (BLUE, ORANGE, GREEN, PURPLE, GREY)[i % 5]
            if name in groups:
                axes.plot(*zip(*groups[name]), "os^DvPX*<>"[i % 10], color=colour, markersize=6.5, alpha=0.85, label=name)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.margins(0.08)
    handles = {name: line for axes in fig.axes for line, name in zip(*axes.get_legend_handles_labels())}
    fig.legend(handles.values(), handles, frameon=False, ncols=legend_columns(names), loc="outside lower center", columnspacing=1.0, handletextpad=0.3)
    return fig


FIVE = (BLUE, ORANGE, GREEN, PURPLE, INK)  # ten classes have five colours, each as a disc and as a triangle


def classes_in_a_plane(
    panels: Mapping[str, Tensor], labels: Tensor, classes: Sequence[str], *, notes: Mapping[str, str] | None = None
) -> Figure:
    """Points ``N 2`` in panels side by side, coloured and shaped by class, with one legend for all; a note goes under a panel's title."""
    side = min(2.9, WIDTH / len(panels))
    fig = figure(WIDTH, side + 0.8 + 0.17 * bool(notes))
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
        axes.set_xlabel("first direction")
    row[0].set_ylabel("second direction")
    legend = fig.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, markerscale=1.8, columnspacing=0.9, handletextpad=0.1)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    return fig


def neighbours(rows: Sequence[tuple[np.ndarray, Sequence[np.ndarray], Sequence[bool]]], *, names: Sequence[str]) -> Figure:
    """A query and its nearest neighbours, one search per row: a green border is the query's own class, an orange one another."""
    cells = [[picture, *found] for picture, found, _ in rows]
    frames = {(i, 1 + j): GREEN if same else ORANGE for i, (_, _, right) in enumerate(rows) for j, same in enumerate(right)}
    places = [f"{j + 1}." for j in range(max(len(found) for _, found, _ in rows))]
    return picture_table(cells, columns=["query", *places], rows=names, frames=frames, width=5.4)


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
    here: str = "measured here",
) -> Figure:
    """For every measure: on the left {measure: {line: [(x, mean, std), …]}}, on the right the paper's {line: [(x, value), …]}.

    effects: below them, differences with their intervals. Each panel has its own scale, because data and model differ.
    log: numbers on a logarithmic axis.
    """
    effects, fig = effects or {}, figure(WIDTH, 1.0)
    rows: list[tuple[str, bool, float]] = []  # a measure, whether the row shows its differences, and the height in inches
    for measure in ours:
        rows.append((measure, False, 2.6))
        if measure in effects:
            rows.append((measure, True, sum(0.13 + 0.17 * len(words(effect).split("\n")) for effect in effects[measure]) + 0.75))
    fig.set_figheight(sum(tall for *_, tall in rows))
    parts = fig.subfigures(len(rows), 1, squeeze=False, height_ratios=[tall for *_, tall in rows]).flat
    for part, (measure, compared, _) in zip(parts, rows, strict=True):
        if compared:
            differences(part.subplots(), effects[measure], measure)
            continue
        theirs = {line: [(x, y, 0.0) for x, y in points] for line, points in paper.get(measure, {}).items()}
        both = part.subplots(1, 1 + bool(theirs), squeeze=False)[0]
        names = list(dict.fromkeys([*ours[measure], *theirs]))
        others = iter(OTHERS)
        looks = {name: (COLOURS.get(name) or next(others), MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}
        drawn(both[0], ours[measure], looks, measure, axis, log)
        both[0].set_title(here, fontsize=10)
        if theirs:
            drawn(both[1], theirs, looks, measure, paper_axis or axis, log and not paper_axis)
            both[1].set_title("the paper", fontsize=10)
        if len(names) > 1:
            handles = {name: handle for axes in both for handle, name in zip(*axes.get_legend_handles_labels())}
            part.legend(handles.values(), handles, frameon=False, ncols=legend_columns(names), loc="outside lower center")
    return fig


def words(effect: Effect) -> str:
    """A comparison with its outcome, in short lines."""
    return fold(f"{effect[0]}: {effect[1]}", 2.7)


def differences(axes: Axes, effects: Sequence[Effect], measure: str) -> None:
    """One panel: in each row a difference, with a bar for its interval and a dashed line at the threshold that the claim names."""
    plain(axes)
    for i, (_, outcome, threshold, difference, low, high) in enumerate(effects):
        colour = {"yes": BLUE, "no": ORANGE}.get(outcome, GREY)
        axes.errorbar(difference, i, xerr=[[difference - low], [high - difference]], color=colour, marker="o", markersize=5.5, capsize=3)
        axes.plot([threshold, threshold], [i - 0.3, i + 0.3], color=NOTE, linewidth=1.2, linestyle="--")
    axes.set_yticks(range(len(effects)), [words(effect) for effect in effects])
    axes.set_ylim(len(effects) - 0.5, -0.5)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.08)
    axes.set_title("differences, with 95 % intervals", fontsize=10)
    axes.set_xlabel("points" if measure.endswith("(%)") else measure)


def drawn(axes: Axes, lines: Mapping[str, Points], looks: Mapping[str, tuple[str, str]], measure: str, axis: str, log: bool = False) -> None:
    """One panel: joined marks for numbers, single marks for names; a bar is one standard deviation over the seeds to either side."""
    plain(axes)
    names = list(dict.fromkeys(x for points in lines.values() for x, _, _ in points if isinstance(x, str)))
    for i, (name, points) in enumerate(lines.items()):
        shift = 0.0 if len(lines) == 1 or not names else 0.16 * (i - (len(lines) - 1) / 2)
        across = [names.index(x) + shift if isinstance(x, str) else x for x, _, _ in points]
        colour, marker = looks[name]
        axes.errorbar(
            across, [y for _, y, _ in points], yerr=[d for _, _, d in points] if any(d for _, _, d in points) else None,
            color=colour, marker=marker, markersize=5.5, linewidth=0 if names else 1.8, elinewidth=1.4, capsize=3, label=name,
        )  # fmt: skip
    if names:
        axes.set_xticks(range(len(names)), [fold(name, 2.3 / len(names)) for name in names])
        axes.set_xlim(-0.5, len(names) - 0.5)
    else:
        ticks = sorted({float(x) for points in lines.values() for x, _, _ in points})
        if log:
            axes.set_xscale("log")
            axes.minorticks_off()
        kept = apart(ticks, math.log if log else float)
        axes.set_xticks(kept, [f"{x:g}" for x in kept])
    axes.margins(y=0.12)
    axes.set_xlabel(axis)
    axes.set_ylabel(measure)


def apart(ticks: Sequence[float], scale: Callable[[float], float], *, inches: float = 2.2) -> list[float]:
    """Those of the ticks whose labels do not overlap on an axis of that length, from left to right."""
    kept: list[float] = []
    span = scale(ticks[-1]) - scale(ticks[0]) or 1.0
    for x in ticks:
        if not kept or inches * (scale(x) - scale(kept[-1])) / span > 0.085 * (len(f"{x:g}{kept[-1]:g}") / 2 + 1):
            kept.append(x)
    return kept
