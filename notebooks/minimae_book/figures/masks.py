"""Figures of masks: the permutation as crossing lines, how often each patch is kept, masks in tables (chapter 02)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .style import BLUE, GREY, HEAT, HIDDEN, INK, NOTE, ORANGE, PALE, WIDTH, Axes, Figure, bare, box, figure, fold


def _piece(axes: Axes, x: float, y: float, patch: int, picture: np.ndarray | None, colour: str | tuple[float, ...], *, kept: bool, hidden: bool) -> None:
    """One patch: a frame one unit wide with its pixels, its number or the colour for hidden inside; below pixels, its number is written."""
    from matplotlib.patches import Rectangle

    left, low, side = x - 0.42, y - 0.42, 0.84
    if picture is not None and not hidden:
        axes.imshow(picture, extent=(left, left + side, low, low + side), cmap="gray", vmin=0, vmax=1, zorder=2)
    fill = HIDDEN if hidden else ("none" if picture is not None else PALE[0] if kept else "white")
    axes.add_patch(Rectangle((left, low), side, side, facecolor=fill, edgecolor=colour, linewidth=2.0, zorder=3))
    down, big = (0.0, 12) if picture is None else (0.8, 10)
    ink = "black" if hidden and picture is None else NOTE if colour == GREY else colour
    axes.text(x, y - down, str(patch), fontsize=big, ha="center", va="center", color=ink, zorder=4)


def crossing_lines(
    noise: Sequence[float] | np.ndarray, keep: int, pictures: np.ndarray | None = None, *, restore: Sequence[int] | None = None
) -> Figure:
    """A permutation as crossing lines: patches with their noise, sorted by it, and put back; lines follow each patch down.

    noise: one number per patch, ``n``. keep: how many are kept. pictures: ``n p1 p2`` or ``n p1 p2 3`` in [0, 1], in image order.
    restore: a wrong list of positions to draw instead; patches that return to a wrong position are drawn in orange.
    """
    noise = np.asarray(noise, dtype=float)
    order = noise.argsort(kind="stable").tolist()
    n, high, top = len(order), 2.7 if pictures is None else 3.8, 1.35
    right = np.argsort(order).tolist()
    places = right if restore is None else list(restore)
    back = [order[place] for place in places]
    few, left = n < 10, 2.1 if n < 10 else 4.4  # units of one patch
    wide, tall = left + n + 0.5, 2 * high + 1.15 + 0.55 + top + (0.4 if few else 1.3)
    fig = figure(WIDTH, WIDTH * tall / wide)
    axes = fig.subplots()
    colour: str | tuple[float, ...]
    for row, patches in enumerate((list(range(n)), order, back)):
        for x, patch in enumerate(patches):
            colour = ORANGE if row == 2 and patch != x else (BLUE if patch in order[:keep] else GREY)
            picture, kept = None if pictures is None else pictures[patch], patch in order[:keep]
            _piece(axes, x, -high * row, patch, picture, colour, kept=kept, hidden=row > 0 and not kept)
    for patch, value in enumerate(noise):
        colour = BLUE if patch in order[:keep] else GREY
        axes.bar(patch, top * value, 0.3, bottom=0.55, color=colour, zorder=2)
        axes.text(patch, 0.62 + top * value, f"{value:.2f}", ha="center", va="bottom", fontsize=10, rotation=0 if few else 90, color=INK)
    room = (0.5, 0.46) if pictures is None else (1.15, 0.46)
    for place, patch in enumerate(order):
        colour, wide = (BLUE, 2.0) if place < keep else (HIDDEN, 1.2)
        axes.plot([patch, place], [-room[0], -high + room[1]], color=colour, linewidth=wide, zorder=1)
    for place, source in enumerate(places):
        wrong = back[place] != place
        colour, wide = (ORANGE, 1.4) if wrong else ((BLUE, 2.0) if source < keep else (HIDDEN, 1.2))
        axes.plot([source, place], [-high - room[0], -2 * high + room[1]], color=colour, linewidth=wide, zorder=1)
    cut = keep - 0.5
    axes.plot([cut, cut], [-high - 0.75, -high + 0.75], color="black", linewidth=1.4, linestyle="--", zorder=5)
    for y, words in ((0.55 + top / 2, "noise"), (0, "image order"), (-high, "sorted:\nkept | masked"), (-2 * high, "put back")):
        axes.text(-0.85, y, words, ha="right", va="center", fontsize=10)
    axes.set(xlim=(-left - 0.85, n - 0.35), ylim=(-2 * high - 1.15, 0.55 + top + (0.4 if few else 1.3)), aspect="equal")
    axes.set_axis_off()
    return fig


def how_often_kept(shares: Mapping[str, np.ndarray]) -> Figure:
    """Maps ``h w`` of how often each patch is kept (in %), on one colour scale; above each map its smallest and its largest share."""
    side = min(2.6, (WIDTH - 0.8) / len(shares))
    fig = figure(side * len(shares) + 0.8, side + 0.5)
    grid, highest = fig.subplots(1, len(shares), squeeze=False)[0], max(float(share.max()) for share in shares.values())
    for axes, (title, share) in zip(grid, shares.items()):
        drawn = bare(axes).imshow(share, cmap=HEAT, vmin=0, vmax=highest, interpolation="nearest")
        axes.set_title(f"{fold(title, side)}\n{share.min():.1f} to {share.max():.1f} %", fontsize=10)
    bar = fig.colorbar(drawn, ax=grid, fraction=0.05, pad=0.02)
    bar.set_label("kept in % of the images", fontsize=10)
    bar.outline.set_visible(False)
    return fig


def mask_table(
    panels: Mapping[str, np.ndarray],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    frames: Mapping[str, Mapping[tuple[int, int], str]] | None = None,
) -> Figure:
    """Tables of masks without pictures, one panel each: {title: binary masks ``rows columns h w``, 1 removed}. Blue is visible.

    frames: {title: {(row, column): colour}} puts a border around single masks.
    """
    count, wide, group_gap, left, top = len(rows), len(columns), 0.35, 0.085 * max(len(name) for name in rows) + 0.1, 0.55
    side = min(1.0, (WIDTH - left - group_gap * len(panels)) / (wide * len(panels)))
    width, height = left + len(panels) * (wide * side + group_gap), top + count * side
    fig = figure(width, height)
    fig.set_layout_engine("none")
    for number, (title, masks) in enumerate(panels.items()):
        start = left + number * (wide * side + group_gap)
        fig.text((start + 0.47 * wide * side) / width, 1 - 0.14 / height, title, ha="center", va="center", fontsize=10)
        for i, j in np.ndindex(count, wide):
            corner = (start + j * side) / width, 1 - (top + (i + 0.94) * side) / height
            axes = fig.add_axes((*corner, 0.9 * side / width, 0.9 * side / height))
            _draw_mask(axes, np.asarray(masks[i, j]), (frames or {}).get(title, {}).get((i, j)))
            if i == 0:
                axes.set_title(columns[j], fontsize=10, pad=4)
            if j == 0 and number == 0:
                axes.set_ylabel(rows[i], fontsize=10, rotation=0, ha="right", va="center", labelpad=5)
    return fig


def _draw_mask(axes: Axes, mask: np.ndarray, frame: str | None) -> None:
    """One mask ``h w`` as coloured squares with white lines between them, in a coloured frame if one is given."""
    bare(axes).imshow(np.where(mask[..., None] > 0.5, HIDDEN, _rgb(BLUE)), interpolation="nearest")
    axes.set_xticks(np.arange(0.5, mask.shape[1] - 1), minor=True)
    axes.set_yticks(np.arange(0.5, mask.shape[0] - 1), minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set(visible=frame is not None, color=frame or "white", linewidth=2.4)


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def under_masks(picture: np.ndarray, masks: Mapping[str, np.ndarray], *, columns: int = 4) -> Figure:
    """One picture ``height width 3`` under several masks ``h w`` (1 removed); the titles are the mapping's keys."""
    lines = -(-len(masks) // columns)
    tall = picture.shape[0] / picture.shape[1]
    side = WIDTH / columns
    extra = 0.18 * (1 + max(fold(title, side).count("\n") for title in masks)) + 0.05
    fig = figure(WIDTH, lines * (side * tall + extra))
    grid = fig.subplots(lines, columns, squeeze=False, gridspec_kw={"wspace": 0.03, "hspace": 0.03})
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (title, mask) in zip(grid.flat, masks.items()):
        axes.imshow(_hide(picture, mask), vmin=0, vmax=1)
        axes.set_title(fold(title, side), fontsize=10, pad=4)
    return fig


def _hide(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The picture with its removed patches in the colour of hidden patches."""
    p1, p2 = picture.shape[0] // mask.shape[0], picture.shape[1] // mask.shape[1]
    pixels = np.asarray(mask).repeat(p1, axis=0).repeat(p2, axis=1)[..., None] > 0.5
    return np.where(pixels, HIDDEN, np.asarray(picture))


def pixels_to_patches(picture: np.ndarray, drawn: np.ndarray, mask: np.ndarray, *, patch: int) -> Figure:
    """A mask that was drawn in pixels ``height width``, with the patches that it touches, and the patch mask ``h w`` that it becomes."""
    fig = figure(5.2, 2.9)
    left, right = fig.subplots(1, 2, gridspec_kw={"wspace": 0.03})
    over = np.where(drawn[..., None] > 0.5, 0.35 * picture + 0.65 * _rgb(ORANGE), picture)
    for axes, shown, title in ((left, over, "pixels, and the patches they touch"), (right, _hide(picture, mask), "removed patches")):
        bare(axes).imshow(shown, vmin=0, vmax=1)
        axes.spines[:].set_visible(False)
        axes.set_title(fold(title, 2.0), fontsize=10)
    left.set(xlim=(-2, picture.shape[1] + 1), ylim=(picture.shape[0] + 1, -2))  # frames at the edge are as wide as others
    right.set(xlim=left.get_xlim(), ylim=left.get_ylim())
    for row, column in np.argwhere(mask > 0.5):
        box(left, (row, column), "white", scale=(patch, patch))
    return fig
