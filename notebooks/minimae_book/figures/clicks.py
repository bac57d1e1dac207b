"""Prompts and masks over pictures: a table of clicks, and the three masks that a prompt gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .style import BLUE, GREEN, ORANGE, WIDTH, Figure, figure, fold

SMALL = 96  # smaller pictures, in pixels, are drawn as squares


@dataclass(frozen=True, eq=False)
class Prompted:
    """A cell: a picture ``height width 3`` in [0, 1], a mask bool ``height width`` or None, and a text below.

    clicks: x, y in pixels, and whether it is positive. box: left, top, right, bottom. truth: the true mask, drawn as a dashed outline.
    """

    picture: np.ndarray
    mask: np.ndarray | None
    text: str = ""
    clicks: Sequence[tuple[float, float, bool]] = ()
    box: tuple[float, float, float, float] | None = None
    truth: np.ndarray | None = None


def prompted(rows: Sequence[Sequence[Prompted]], titles: Sequence[str] = ()) -> Figure:
    """A table of such cells: a row for each object, and a title over each column."""
    columns = max(map(len, rows))
    side = WIDTH / columns
    heights = [max(cell.picture.shape[0] / cell.picture.shape[1] for cell in row) for row in rows]
    lines = [max(len(fold(cell.text, side).split("\n")) if cell.text else 0 for cell in row) for row in rows]
    fig = figure(WIDTH, side * sum(heights) + 0.17 * sum(lines) + 0.08 * len(rows) + 0.25 * bool(titles))
    fig.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    grid: Any = fig.subplots(len(rows), columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    for i, row in enumerate(rows):
        for j, axes in enumerate(grid[i]):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if j < len(row):
                draw(axes, row[j], side)
            if i == 0 and j < len(titles):
                axes.set_title(titles[j], fontsize=10, pad=4)
    return fig


def draw(axes: Any, cell: Prompted, side: float) -> None:
    """One cell, ``side`` inches wide: outside the mask the picture is darker, and the mask has a blue edge."""
    from matplotlib.patches import Rectangle

    height, width = cell.picture.shape[:2]
    picture = cell.picture if cell.mask is None else np.where(cell.mask[..., None], cell.picture, 0.4 * cell.picture)
    axes.imshow(picture, interpolation="nearest" if min(height, width) < SMALL else "antialiased", vmin=0, vmax=1)
    for mask, colour, style in ((cell.mask, BLUE, "solid"), (cell.truth, "white", (0, (2, 1.5)))):
        if mask is not None and mask.any():
            inner = np.pad(mask.astype(float), 1)  # so that an outline at the edge of the picture is closed
            axes.contour(
                np.arange(-1, width + 1), np.arange(-1, height + 1), inner, [0.5], colors=[colour], linestyles=[style], linewidths=1.1
            )
    for x, y, positive in cell.clicks:
        mark, colour = ("P", GREEN) if positive else ("X", ORANGE)
        axes.plot(x - 0.5, y - 0.5, mark, color=colour, markersize=8, markeredgecolor="white", markeredgewidth=1.0)
    if cell.box is not None:
        left, top, right, bottom = (v - 0.5 for v in cell.box)
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=GREEN, linewidth=1.6))
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.set_xlabel(fold(cell.text, side), fontsize=10, labelpad=2)
