"""Figures of measured numbers: accuracy by method, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def comparison(table: dict[str, dict[str, float]], rows: Sequence[str]) -> Figure:
    """Accuracy by method: {question: {row: percent}} → one panel a question, one dot a row; a row without an answer has no dot."""
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
) -> Figure:
    """Measured points, joined: {name: (x, y)}; ``levels`` are dashed lines across, with their names beside them."""
    fig = figure(6.4, 3.4)
    axes = plain(fig.subplots())
    for (name, (across, up)), colour, marker in zip(lines.items(), (BLUE, ORANGE, GREEN, PURPLE), "os^D", strict=False):
        axes.plot(across, up, color=colour, marker=marker, markersize=5, linewidth=2, label=name)
    for name, level in (levels or {}).items():
        axes.axhline(level, color=GREY, linestyle="--", linewidth=1.2)
        where = axes.get_yaxis_transform()
        axes.annotate(name, (0.01, level), xytext=(0, 3), xycoords=where, textcoords="offset points", fontsize=8, color="#555555")
    axes.set(xlabel=x, ylabel=y)
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
