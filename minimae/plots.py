"""Every figure is a function here: it takes arrays and returns a matplotlib Figure. Nothing is shown or saved.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A8A8A"


def figure(width: float, height: float) -> Figure:
    """An empty figure in the style of the book, without touching matplotlib's global state. Sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, facecolor="white", layout="constrained")


def plain(axes: Axes, *, grid: bool = True) -> Axes:
    """No upper and right frame, and a light grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    if grid:
        axes.grid(color="#DDDDDD", linewidth=0.7)
        axes.set_axisbelow(True)
    return axes


def loss_curve(steps: Sequence[float], losses: Sequence[float], *, baseline: float, images_per_step: int) -> Figure:
    """Training loss against images seen, with the loss of predicting the mean as a dashed line."""
    fig = figure(6.4, 3.6)
    axes = plain(fig.subplots())
    seen = np.asarray(steps) * images_per_step / 1000
    values = np.asarray(losses)
    many = len(values) >= 10
    axes.plot(seen, values, color=BLUE, alpha=0.35 if many else 1.0, linewidth=1 if many else 2, label=None if many else "MAE")
    if many:
        width = max(3, len(values) // 25)
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        axes.plot(seen[width - 1 :], smooth, color=BLUE, linewidth=2, label=f"MAE (mean of {width} points)")
    axes.axhline(baseline, color=ORANGE, linestyle="--", linewidth=1.5, label=f"predicting the mean: {baseline:.3f}")
    axes.set_xlabel("images seen (thousands)")
    axes.set_ylabel("loss on masked patches")
    axes.set_ylim(0.9 * min(values.min(), baseline), 1.05 * max(np.quantile(values, 0.98), baseline))
    axes.legend(frameon=False)
    return fig


def as_picture(image: Tensor, statistics: tuple[Tensor, Tensor]) -> np.ndarray:
    """A normalised image ``c height width`` → ``height width c`` in [0, 1], ready for imshow. More than 3 channels: the first three."""
    mean, deviation = (x.cpu()[:, None, None] for x in statistics)
    picture = (image.detach().cpu().float() * deviation + mean).clamp(0, 1).numpy()
    picture = picture if len(picture) in (1, 3) else picture[: 3 if len(picture) > 3 else 1]
    return np.moveaxis(np.repeat(picture, 3, axis=0) if len(picture) == 1 else picture, 0, -1)


def masked_picture(image: Tensor, hidden: Tensor, statistics: tuple[Tensor, Tensor]) -> np.ndarray:
    """Like :func:`as_picture`, with the hidden pixels (bool ``height width``) in a mid grey-blue that no photograph has."""
    picture = as_picture(image, statistics)
    picture[hidden.cpu().numpy()] = (0.62, 0.66, 0.74)
    return picture


def reconstructions(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], *, pairs: int = 1) -> Figure:
    """A table of pictures: one row an image, one column a stage; with ``pairs`` the rows stand in that many column groups."""
    columns, height = len(titles), -(-len(rows) // pairs)
    tall, wide = rows[0][0].shape[:2]
    side = 7.6 / (columns * pairs)
    fig = figure(side * columns * pairs, side * tall / wide * height + 0.35)
    grid = fig.subplots(height, columns * pairs, squeeze=False, gridspec_kw={"wspace": 0.03, "hspace": 0.03})
    for axes in grid.flat:
        axes.set_axis_off()
    for i, row in enumerate(rows):
        group, line = divmod(i, height)
        for j, picture in enumerate(row):
            axes = grid[line, group * columns + j]
            axes.imshow(picture, interpolation="nearest" if tall < 64 else "antialiased", vmin=0, vmax=1)
            if line == 0:
                axes.set_title(titles[j], fontsize=9, pad=3)
    return fig


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
                axes.plot(column[row], i, "o", color=colours[row], markersize=9)
                axes.annotate(f"{column[row]:.1f}", (column[row], i), xytext=(9, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_title(title, fontsize=10)
        axes.set_xlim(low, high)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("test accuracy (%)", fontsize=9)
    return fig
