"""Figures of a claim: what was measured here beside what the paper reports, each on its own scale."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .style import BLUE, GREEN, ORANGE, PURPLE, figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

X = float | str
Points = Sequence[tuple[X, float, float]]  # place on the axis, mean, deviation
COLOURS = {"MAE": BLUE, "from scratch": ORANGE}
OTHERS, MARKERS = (GREEN, PURPLE, ORANGE, BLUE), "os^Dv"


def claim_panels(
    ours: Mapping[str, Mapping[str, Points]],
    paper: Mapping[str, Mapping[str, Sequence[tuple[X, float]]]],
    *,
    axis: str,
    paper_axis: str = "",
    log: bool = False,
) -> Figure:
    """A row for every measure: on the left {measure: {line: [(x, mean, deviation), …]}}, on the right the paper's {line: [(x, value), …]}.

    The scales of the two columns differ, and each is its own: other data, another model. log: numbers on a logarithmic axis.
    """
    both = any(measure in paper for measure in ours)
    fig = figure(9.2 if both else 5.4, 2.5 * len(ours) + 0.5)
    panels = fig.subplots(len(ours), 2 if both else 1, squeeze=False)
    for row, (measure, lines) in zip(panels, ours.items(), strict=True):
        drawn(row[0], lines, measure, axis, log)
        row[0].set_title("measured here", fontsize=10)
        if both and measure in paper:
            theirs = {name: [(x, y, 0.0) for x, y in points] for name, points in paper[measure].items()}
            drawn(row[1], theirs, measure, paper_axis or axis, log and not paper_axis)
            row[1].set_title("the paper", fontsize=10)
        elif both:
            row[1].set_axis_off()
    return fig


def drawn(axes: Axes, lines: Mapping[str, Points], measure: str, axis: str, log: bool = False) -> None:
    """One panel: joined marks over numbers, single marks over names; a bar is one standard deviation over the seeds to either side."""
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
            room = 0.035 * (ticks[-1] - ticks[0])  # a tick so near to the one before it would run into it
            ticks = [x for x, before in zip(ticks, [-math.inf, *ticks]) if x - before > room]
        axes.set_xticks(ticks, [f"{x:g}" for x in ticks], fontsize=8, rotation=45 if len(ticks) > 8 else 0)
    axes.margins(y=0.12)
    axes.set_xlabel(axis, fontsize=9)
    axes.set_ylabel(measure, fontsize=9)
    axes.tick_params(axis="y", labelsize=8)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=8)


def wrapped(name: str) -> str:
    """A name in short lines; a number stays with its percent sign."""
    return "\n".join(textwrap.wrap(name.replace(" %", "\u00a0%"), 11))
