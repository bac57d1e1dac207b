"""Figures of what features hold: classes in a plane, nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from .pictures import picture_table
from .style import BLUE, GREEN, ORANGE, PURPLE, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIVE = (BLUE, ORANGE, GREEN, PURPLE, "#444444")  # ten classes are five colours, each once as a disc and once as a triangle


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
    """A query and its nearest neighbours, one search a row: a green border is the query's own class, an orange one another."""
    cells = [[picture, *found] for picture, found, _ in rows]
    frames = {(i, 1 + j): GREEN if same else ORANGE for i, (_, _, right) in enumerate(rows) for j, same in enumerate(right)}
    places = [f"{j + 1}." for j in range(max(len(found) for _, found, _ in rows))]
    return picture_table(cells, columns=["query", *places], rows=names, frames=frames, width=5.6)
