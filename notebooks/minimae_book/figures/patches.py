"""Figures of pictures that are cut into patches: by hand, in motion, pixel by pixel, and how many there are (chapter 01)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .style import BLUE, GREEN, GREY, INK, NOTE, ORANGE, PALE, PURPLE, WIDTH, Axes, Figure, bare, chart, figure

BANDS = (BLUE, ORANGE, GREEN, PURPLE)  # one colour per grid row; with more rows, they repeat
GAP = 0.14  # gap between separated patches, in patch heights


def numbers_and_patches(image: np.ndarray, patch: tuple[int, int]) -> Figure:
    """A small image of numbers ``height width`` in its patches' colours, and beside it the patches as the rows of a table."""
    from matplotlib.patches import Rectangle

    (height, width), (p1, p2) = image.shape, patch
    h, w, side = height // p1, width // p2, 0.42
    fig = figure(side * (width + p1 * p2) + 2.0, side * max(height, h * w) + 0.6)
    left, right = fig.subplots(1, 2, gridspec_kw={"width_ratios": [width, p1 * p2 + 1.6]})
    for y in range(height):
        for x in range(width):
            place = (y // p1) * w + x // p2
            spot = (y % p1) * p2 + x % p2
            for axes, row, column in ((left, y, x), (right, place, spot)):
                axes.add_patch(Rectangle((column, row), 1, 1, facecolor=PALE[place % 4], edgecolor="white", linewidth=1))
                axes.text(column + 0.5, row + 0.5, str(image[y, x]), ha="center", va="center", fontsize=11)
    for i in range(h * w):
        left.add_patch(Rectangle((i % w * p2, i // w * p1), p2, p1, fill=False, edgecolor=BANDS[i % 4], linewidth=2))
        right.add_patch(Rectangle((0, i), p1 * p2, 1, fill=False, edgecolor=BANDS[i % 4], linewidth=2))
        right.text(-0.25, i + 0.5, f"patch {i}", ha="right", va="center", fontsize=10, color=NOTE)
    left.set(xlim=(-0.05, width + 0.05), ylim=(height + 0.05, -0.05), aspect="equal")
    right.set(xlim=(-1.7, p1 * p2 + 0.05), ylim=(h * w + 0.05, -0.05), aspect="equal")
    left.set_title(f"image: {height} × {width}", fontsize=10)
    right.set_title(f"patches: {h * w} × {p1 * p2}", fontsize=10)
    for axes in (left, right):
        axes.set_axis_off()
    return fig


def moving_grid(pieces: np.ndarray, grid: tuple[int, int], moments: Sequence[float] = (0, 1, 2, 3, 4)) -> Figure:
    """The einops string as a moving grid. pieces: ``n p1 p2 3`` in [0, 1], in image order; grid: rows and columns ``h w``.

    Moment 0 is the whole picture. Until 1 its bands move apart, until 2 the pieces of each band. Until 3 the bands slide behind one
    another like stairs, and at 4 all stand in one row. Moments up to 2 share a line of the figure.
    """
    (h, w), wide = grid, pieces.shape[2] / pieces.shape[1]
    across, block = h * w * (wide + GAP) - GAP, w * (wide + GAP) - GAP
    early, late = [m for m in moments if m <= 2], [m for m in moments if m > 2]
    spots = [(m, i * (across - block) / max(1, len(early) - 1), 0.0) for i, m in enumerate(early)]
    low = h * (1 + GAP) + 1.3 if early else 0.0
    for m in late:
        spots.append((m, 0.0, low))
        low += (h * (1 + GAP) if m <= 3 else 1 + (h - 1) * (1 + GAP) * (4 - m)) + (1.3 if m < 4 else 0.5)
    low -= 0.8 if not late else 0.0
    unit = WIDTH / (across + 1.2)
    fig = figure(WIDTH, unit * (low + 0.75))
    axes = fig.subplots()
    for moment, x, y in spots:
        _pieces_at(axes, pieces, grid, moment, x, y)
    axes.set(xlim=(-0.8, across + 0.4), ylim=(low, -0.75), aspect="equal")
    axes.set_axis_off()
    return fig


def _pieces_at(axes: Axes, pieces: np.ndarray, grid: tuple[int, int], moment: float, left: float, top: float) -> None:
    """All pieces at one moment, framed in the colour of their band, with the names of the visible axes."""
    from matplotlib.patches import Rectangle

    (h, w), wide = grid, pieces.shape[2] / pieces.shape[1]
    rows, columns, stairs, line = (min(1.0, max(0.0, moment - i)) for i in range(4))  # how far each step has come
    band = w * (wide + GAP * columns)
    for i, piece in enumerate(pieces):
        row, column = divmod(i, w)
        x = left + column * (wide + GAP * columns) + stairs * row * band
        y = top + row * (1 + GAP * rows) * (1 - line)
        axes.imshow(piece, extent=(x, x + wide, y + 1, y), interpolation="nearest")
        if columns or (rows and column == 0):
            frame = wide if columns else w * wide
            axes.add_patch(Rectangle((x, y), frame, 1, fill=False, edgecolor=BANDS[row % 4], linewidth=2, zorder=3))
        if rows and moment <= 2 and column == 0:
            axes.text(x - 0.1, y + 0.5, "p1", ha="right", va="center", fontsize=10, color=BANDS[row % 4])
        if columns and moment <= 2 and row == h - 1:
            axes.text(x + wide / 2, y + 1.08, "p2", ha="center", va="top", fontsize=10, color=INK)
        if moment == 4:
            axes.text(x + wide / 2, y + 1.08, str(i), ha="center", va="top", fontsize=10, color=BANDS[row % 4])
    words = {0: "b c (h p1) (w p2)", 1: f"h = {h} bands", 2: f"w = {w} pieces of each", 3: "the bands slide behind one another"}
    middle = left + (h * band if moment == 4 else band) / 2
    label = {**words, 4: "b (h w) (p1 p2 c)"}.get(moment)  # type: ignore[call-overload]
    if label:
        string = moment in (0, 4)
        look: dict[str, Any] = {"family": "monospace", "fontweight": "bold"} if string else {}
        where = (left + h * band, "right") if moment == 3 else (middle, "center")
        axes.text(where[0], top - 0.16, label, ha=where[1], va="bottom", fontsize=10, **look)


def inside_a_patch(patch: np.ndarray) -> Figure:
    """One small colour patch ``p1 p2 3`` in [0, 1] beside its values in a row, in two orders: (p1 p2 c) and (c p1 p2)."""
    from matplotlib.patches import Rectangle

    p1, p2 = patch.shape[:2]
    pixels = p1 * p2
    fig = figure(WIDTH, 3.4)
    parts = fig.add_gridspec(1, 2, width_ratios=[1.5, 5])
    left, right = fig.add_subfigure(parts[0]), fig.add_subfigure(parts[1])
    picture = left.subplots()
    picture.imshow(patch, vmin=0, vmax=1, interpolation="nearest")
    for i, (y, x) in enumerate(np.ndindex(p1, p2)):
        picture.text(x, y, str(i), ha="center", va="center", fontsize=12, color="white" if patch[y, x].mean() < 0.5 else "black")
    bare(picture).set_title(f"p1 = {p1}, p2 = {p2}", fontsize=10)
    both = {
        "(p1 p2 c): pixel by pixel": [(i, j) for i in range(pixels) for j in range(3)],
        "(c p1 p2): colour by colour": [(i, j) for j in range(3) for i in range(pixels)],
    }
    values = patch.reshape(pixels, 3)
    for axes, (title, order) in zip(right.subplots(2, 1), both.items(), strict=True):
        for place, (i, j) in enumerate(order):
            axes.bar(place, values[i, j], 0.8, color=(ORANGE, GREEN, BLUE)[j])
            axes.text(place, -0.05, "RGB"[j], ha="center", va="top", fontsize=10, color=(ORANGE, GREEN, BLUE)[j], fontweight="bold")
            axes.add_patch(Rectangle((place - 0.5, -0.52), 1, 0.24, facecolor=values[i], edgecolor="none"))
            if order[place - 1][0] != i or place == 0:
                many = 3 if title.startswith("(p1") else 1
                dark = values[i].mean() < 0.5
                axes.text(place + (many - 1) / 2, -0.4, str(i), ha="center", va="center", fontsize=10, color="white" if dark else "black")
        axes.set(xlim=(-0.6, 3 * pixels - 0.4), ylim=(-0.55, 1.02))
        axes.set_axis_off()
        axes.set_title(title, fontsize=10, loc="left")
    return fig


def cut_lines(picture: np.ndarray, patches: Sequence[tuple[int, int]]) -> Figure:
    """One picture ``height width 3`` cut at several patch sizes (rows, columns), two in a row, with the resulting numbers above it."""
    height, width = picture.shape[:2]
    rows = -(-len(patches) // 2)
    fig = figure(WIDTH, rows * (0.48 * WIDTH * height / width + 0.45))
    for axes, (p1, p2) in zip(fig.subplots(rows, 2, squeeze=False).flat, patches):
        axes.imshow(picture, interpolation="antialiased")
        for y in range(p1, height, p1):
            axes.axhline(y - 0.5, color="white", linewidth=0.9)
        for x in range(p2, width, p2):
            axes.axvline(x - 0.5, color="white", linewidth=0.9)
        h, w = height // p1, width // p2
        bare(axes).set_title(f"patch {p1} × {p2}\n{h} × {w} = {h * w} tokens", fontsize=10)
        axes.spines[:].set_visible(False)
    return fig


def same_scale(pictures: Sequence[np.ndarray], titles: Sequence[str]) -> Figure:
    """Pictures ``height width 3`` of different sizes side by side, all at the same pixel size."""
    widths, tallest = [x.shape[1] for x in pictures], max(len(x) for x in pictures)
    fig = figure(WIDTH, WIDTH * tallest / (1.08 * sum(widths)) + 0.45)
    for axes, picture, title in zip(fig.subplots(1, len(pictures), width_ratios=widths), pictures, titles, strict=True):
        axes.imshow(picture, interpolation="nearest")
        bare(axes).set_title(title, fontsize=10)
        axes.spines[:].set_visible(False)
    return fig


def tokens_and_values(image: int, channels: int, patches: Sequence[int]) -> Figure:
    """Tokens of a square image, and values in each, for square patches of several sizes: two straight lines on logarithmic scales."""
    tokens, values = [(image // p) ** 2 for p in patches], [p * p * channels for p in patches]
    fig, axes = chart(WIDTH, 3.4)
    for line, colour, marker, name in ((tokens, BLUE, "o", "tokens"), (values, ORANGE, "s", "numbers in a patch")):
        axes.plot(patches, line, color=colour, marker=marker, markersize=6, linewidth=2)
        up = line[0] > line[-1]
        axes.annotate(name, (patches[0], line[0]), xytext=(8, 4 if up else -4), textcoords="offset points",
                      color=colour, fontsize=10, ha="left", va="bottom" if up else "top")  # fmt: skip
        for p, value in zip(patches, line, strict=True):
            if p in (8, 16, 32):
                down = (value > image) == up
                axes.annotate(f"{value:,}", (p, value), xytext=(0, 9 if down else -9), textcoords="offset points",
                              ha="center", va="bottom" if down else "top", fontsize=10, color=colour,
                              bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # fmt: skip
    axes.axvline(16, color=GREY, linewidth=1, linestyle="--", zorder=0)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(patches, [str(p) for p in patches])
    axes.set_yticks([10, 100, 1_000, 10_000], ["10", "100", "1,000", "10,000"])
    axes.minorticks_off()
    axes.set_xlabel("patch size (pixels)")
    return fig
