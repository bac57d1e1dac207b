"""Class maps over pictures: the colours of the classes, and a table of picture, truth and prediction with a legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .style import GREY, WIDTH, Figure, figure, fold, legend_columns

# Okabe and Ito first; then darker and lighter ones. Neighbours in the list differ in lightness too.
COLOURS = (
    "#56B4E9", "#8C564B", "#F0E442", "#BDBDBD", "#CC79A7", "#009E73", "#D55E00", "#B39DDB", "#0072B2", "#E6194B", "#E69F00", "#1B5E20",
    "#4A148C", "#BCBD22", "#17BECF", "#FFB6C1", "#3E2723", "#A5D6A7", "#1A237E", "#FF7F50",
)  # fmt: skip
BACKGROUND, IGNORED = "#2B3040", "#FFFFFF"


def class_colours(classes: Sequence[str]) -> np.ndarray:
    """A colour for each class, ``classes 3`` in [0, 1]: dark grey for the background, then :data:`COLOURS`, then the same, darker."""
    from matplotlib.colors import to_rgb

    found, used = [], 0
    for name in classes:
        shade = 0.6 ** (used // len(COLOURS))
        found.append(to_rgb(BACKGROUND) if name == "background" else tuple(shade * v for v in to_rgb(COLOURS[used % len(COLOURS)])))
        used += name != "background"
    return np.array(found)


def over_picture(picture: np.ndarray, labels: np.ndarray, colours: np.ndarray, *, strength: float = 0.7) -> np.ndarray:
    """Class colours over a grey copy of the picture ``height width 3`` in [0, 1]; pixels whose label has no colour are white."""
    from matplotlib.colors import to_rgb

    grey = picture.mean(-1, keepdims=True)
    painted: np.ndarray = strength * colours[np.minimum(labels, len(colours) - 1)] + (1 - strength) * grey
    painted[labels >= len(colours)] = to_rgb(IGNORED)
    return painted


def segmentations(
    rows: Sequence[tuple[np.ndarray, Sequence[np.ndarray]]], titles: Sequence[str], classes: Sequence[str], *, width: float = WIDTH
) -> Figure:
    """A row for each picture: the picture ``height width 3`` in [0, 1], and its class maps ``height width``, as the titles name them.

    A legend below shows the classes that occur. With few maps, small pictures form two groups side by side.
    """
    from matplotlib.patches import Patch

    colours = class_colours(classes)
    columns = len(titles)
    pairs = 2 if len(rows) >= 4 and len(rows) % 2 == 0 and columns <= 3 else 1
    lines, side = len(rows) // pairs, width / (columns * pairs)
    heights = [max(p.shape[0] / p.shape[1] for p, _ in rows[line::lines]) for line in range(lines)]
    present = sorted({int(v) for _, maps in rows for m in maps for v in np.unique(m) if v < len(classes)})
    ignored = any((m >= len(classes)).any() for _, maps in rows for m in maps)
    wide = legend_columns((classes[v] for v in present), width)
    legend_rows = -(-(len(present) + ignored) // wide)
    fig = figure(width, side * sum(heights) + 0.2 + 0.17 * max(fold(t, side).count("\n") + 1 for t in titles) + 0.24 * legend_rows)
    fig.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    grid: Any = fig.subplots(lines, columns * pairs, squeeze=False, height_ratios=heights)
    for i, (picture, maps) in enumerate(rows):
        group, line = divmod(i, lines)
        drawn = [picture, *(over_picture(picture, labels, colours) for labels in maps)]
        for axes, image, title in zip(grid[line, group * columns : (group + 1) * columns], drawn, titles, strict=True):
            axes.set_axis_off()
            axes.imshow(image, interpolation="nearest" if picture.shape[0] < 96 else "antialiased", vmin=0, vmax=1)
            if line == 0:
                axes.set_title(fold(title, side), fontsize=10, pad=3)
    handles = [Patch(facecolor=colours[v], label=classes[v]) for v in present]
    handles += [Patch(facecolor=IGNORED, edgecolor=GREY, label="ignored")] if ignored else []
    ncols = min(wide, len(handles))
    handles = [handle for column in range(ncols) for handle in handles[column::ncols]]  # matplotlib fills columns: read in rows, 0 comes first
    fig.legend(handles=handles, loc="outside lower center", ncols=ncols, fontsize=10, frameon=False, handlelength=1.2)
    return fig
