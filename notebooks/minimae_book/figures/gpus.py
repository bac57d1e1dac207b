"""Figures of a run on GPUs: the roofline, the time of a step by kind of operation, and the order in which images come (chapter 13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .style import BLUE, GREEN, GREY, HEAT, NOTE, ORANGE, PURPLE, WIDTH, Figure, chart, figure


def roofline(points: Mapping[str, Mapping[str, tuple[float, float]]], *, peak: float, bandwidth: float) -> Figure:
    """Attainable TFLOP/s against FLOP per byte, with marks on the roof. points: {group: {name: (FLOP, bytes)}}; peak and bandwidth per second."""
    fig, axes = chart(WIDTH, 4.4)
    ridge = peak / bandwidth
    x = np.array([0.05, ridge, 4_000])
    axes.plot(x, np.minimum(peak, x * bandwidth) / 1e12, color=GREY, linewidth=2, zorder=1)
    axes.axvline(ridge, color=GREY, linestyle=":", linewidth=1.2)
    axes.text(ridge * 0.9, 0.13, f"ridge: {ridge:.0f} FLOP per byte ", fontsize=10, color=NOTE, ha="right")
    for (group, named), colour, marker, below in zip(points.items(), (BLUE, ORANGE, GREEN), "osD", (False, True, True), strict=False):
        for i, (name, (flops, moved)) in enumerate(named.items()):
            at = flops / moved
            y = min(peak, at * bandwidth) / 1e12
            axes.plot(at, y, marker, color=colour, markersize=8, zorder=3, label=group if i == 0 else None)
            aside, offset = ("left", (9, -5)) if colour == GREEN else ("right", (-9, 5))  # on the slope
            if at >= ridge:
                aside, offset = "center", (0, -14 if below else 12)
            axes.annotate(name, (at, y), xytext=offset, textcoords="offset points", fontsize=10, color=colour, va="center", ha=aside)
    axes.set(xscale="log", yscale="log", xlim=(x[0], x[-1]), ylim=(0.1, 3_000), xlabel="FLOP for each byte moved", ylabel="attainable TFLOP/s")
    axes.tick_params(labelsize=10)
    fig.legend(frameon=False, fontsize=10, ncols=3, loc="outside upper center")
    return fig


def time_bars(models: Mapping[str, Mapping[str, float]], measured: Mapping[str, float]) -> Figure:
    """One horizontal bar per model, the least microseconds of each kind of operation, and a mark for the measured time."""
    fig, axes = chart(WIDTH, 0.7 * len(models) + 1.7)
    axes.grid(False, axis="y")
    kinds = list(next(iter(models.values())))
    for i, (model, times) in enumerate(models.items()):
        start = 0.0
        for kind, colour in zip(kinds, (BLUE, GREEN, PURPLE, ORANGE, GREY), strict=True):
            axes.barh(i, times[kind], left=start, color=colour, height=0.55, label=kind if i == 0 else None)
            start += times[kind]
        axes.text(start, i - 0.4, f"{start:,.0f}", ha="right", fontsize=10)
        if model in measured:
            axes.plot(measured[model], i, "D", color="black", markersize=8)
            axes.text(measured[model], i - 0.4, f"measured: {measured[model]:,.0f}", ha="center", fontsize=10)
    most = max(max(sum(times.values()) for times in models.values()), *measured.values())
    axes.set_yticks(range(len(models)), list(models), fontsize=10)
    axes.set(ylim=(len(models) - 0.5, -0.75), xlim=(0, 1.12 * most))
    axes.set_xlabel("microseconds for one image", fontsize=10)
    axes.tick_params(axis="y", length=0)
    fig.legend(frameon=False, fontsize=10, ncols=3, loc="outside upper center")
    return fig


def orders(panels: Mapping[str, Sequence[Sequence[int]]], *, batch: int) -> Figure:
    """The images of one process in each epoch (rows), in order; a frame around each batch; one colour for each image."""
    from matplotlib.patches import Rectangle

    rows, count = len(next(iter(panels.values()))), len(next(iter(panels.values()))[0])
    fig = figure(WIDTH, 0.42 * len(panels) * (rows + 1.1))
    most = max(max(max(row) for row in table) for table in panels.values())
    for axes, (title, table) in zip(fig.subplots(len(panels), 1, squeeze=False)[:, 0], panels.items(), strict=True):
        axes.imshow(np.array(table) / most, cmap=HEAT, vmin=-0.1, vmax=1, aspect="auto")
        for (row, column), image in np.ndenumerate(np.array(table)):
            axes.text(column, row, str(image), ha="center", va="center", fontsize=10, color="white" if image < 0.6 * most else "black")
        for first in range(0, count, batch):
            axes.add_patch(Rectangle((first - 0.5, -0.5), batch, rows, fill=False, edgecolor="white", linewidth=3))
        axes.set_yticks(range(rows), [f"epoch {row}" for row in range(rows)], fontsize=10)
        axes.set_xticks([first + (batch - 1) / 2 for first in range(0, count, batch)], [f"step {i}" for i in range(count // batch)], fontsize=10)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(title, fontsize=10)
    return fig
