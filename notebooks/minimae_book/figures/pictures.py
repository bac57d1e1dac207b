"""Pictures in tables: what a model saw, its reconstruction, maps over it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .style import HEAT, HIDDEN, ORANGE, WIDTH, Figure, figure, fold

Cell = np.ndarray | Tensor | None


def as_picture(image: Tensor, statistics: tuple[Tensor, Tensor]) -> np.ndarray:
    """A normalised image ``c height width`` → ``height width c`` in [0, 1], ready for imshow. More than 3 channels: the first three."""
    mean, std = (x.cpu()[:, None, None] for x in statistics)
    picture = (image.detach().cpu().float() * std + mean).clamp(0, 1).numpy()
    picture = picture if len(picture) in (1, 3) else picture[: 3 if len(picture) > 3 else 1]
    return np.moveaxis(np.repeat(picture, 3, axis=0) if len(picture) == 1 else picture, 0, -1)


def masked_picture(image: Tensor, hidden: Tensor, statistics: tuple[Tensor, Tensor]) -> np.ndarray:
    """Like :func:`as_picture`, with the hidden pixels (bool ``height width``) in the colour of hidden patches."""
    picture = as_picture(image, statistics)
    picture[hidden.cpu().numpy()] = HIDDEN
    return picture


def reconstructions(rows: Sequence[Sequence[np.ndarray | Tensor]], titles: Sequence[str], *, pairs: int = 1) -> Figure:
    """A table of pictures: one row per image, one column per stage; with ``pairs`` the rows form that many column groups."""
    columns, height = len(titles), -(-len(rows) // pairs)
    tall, wide = rows[0][0].shape[:2]
    side = WIDTH / (columns * pairs)
    lines = max(fold(title, side).count("\n") for title in titles)
    fig = figure(side * columns * pairs, side * tall / wide * height + 0.3 + 0.17 * lines)
    grid = fig.subplots(height, columns * pairs, squeeze=False, gridspec_kw={"wspace": 0.03, "hspace": 0.03})
    for axes in grid.flat:
        axes.set_axis_off()
    for i, row in enumerate(rows):
        group, line = divmod(i, height)
        for j, picture in enumerate(row):
            axes = grid[line, group * columns + j]
            axes.imshow(np.asarray(picture), interpolation="nearest" if tall < 64 else "antialiased", vmin=0, vmax=1)
            if line == 0:
                axes.set_title(fold(titles[j], side), fontsize=10, pad=3)
    return fig


def mask_ratios(rows: Sequence[Sequence[np.ndarray | Tensor]], shares: Sequence[float], titles: Sequence[str]) -> Figure:
    """One picture in three large stages; below them, the masked picture and its reconstruction at other mask ratios.

    rows: original, masked and reconstruction at each of the hidden ``shares``; the first is drawn large. The stages of a
    panorama are stacked.
    """
    (height, width), strip = rows[0][0].shape[:2], len(rows) - 1
    wide = width > 2.5 * height
    shapes = ((3, 1), (strip, 2)) if wide else ((1, 3), (2, strip))
    heights = [down * (WIDTH / across * height / width + (0.25 if wide else 0.1)) + 0.2 for down, across in shapes]
    fig = figure(WIDTH, sum(heights))
    fig.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    large, small = fig.subfigures(2, 1, squeeze=False, height_ratios=heights).flat
    below = small.subplots(*shapes[1], squeeze=False)
    seen, reconstructed = below.T if wide else below
    names = [f"{100 * share:.0f} % hidden" for share in shares]
    lines: list[tuple[Iterable[Any], Sequence[np.ndarray | Tensor], list[str]]] = [
        (large.subplots(*shapes[0], squeeze=False).flat, rows[0], [titles[0], f"{titles[1]}: {names[0]}", titles[2]]),
        (seen, [row[1] for row in rows[1:]], names[1:]),
        (reconstructed, [row[2] for row in rows[1:]], [titles[2]] * strip if wide else [""] * strip),
    ]
    for line in lines:
        for axes, image, text in zip(*line):
            axes.set_axis_off()
            axes.imshow(np.asarray(image), interpolation="nearest" if height < 64 else "antialiased", vmin=0, vmax=1)
            if text:
                axes.set_title(text, fontsize=10, pad=3)
    return fig


@dataclass(frozen=True)
class Animation:
    """Frames ``height width 3`` in [0, 255], to be saved like a figure: a .gif (64 colours), .png or .webp that repeats for ever."""

    frames: Sequence[np.ndarray]

    def savefig(self, path: Path) -> None:
        from PIL import Image

        frames = [Image.fromarray(frame) for frame in self.frames]
        if path.suffix.lower() == ".gif":  # one palette for all frames, so parts that do not change are stored once
            palette = Image.fromarray(np.concatenate(self.frames)).quantize(64)
            frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
        pauses = [700] * (len(frames) - 1) + [2000]
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=pauses, loop=0)


def mask_animation(rows: Sequence[Sequence[np.ndarray | Tensor]], shares: Sequence[float]) -> Animation:
    """Frames in which the mask grows: the original, what the model saw and the reconstruction, with ``shares`` hidden in turn."""
    from PIL import Image, ImageDraw, ImageFont

    frames, gap, line = [], 6, 26
    for row, share in zip(rows, shares):
        times = max(1, round(192 / row[0].shape[0]))
        pictures = [(255 * np.asarray(part)).round().astype(np.uint8).repeat(times, 0).repeat(times, 1) for part in row]
        height, width = pictures[0].shape[:2]
        frame = Image.new("RGB", (len(row) * (width + gap) - gap, height + line), "white")
        for i, part in enumerate(pictures):
            frame.paste(Image.fromarray(part), (i * (width + gap), line))
        text = f"{100 * share:.0f} % hidden"
        ImageDraw.Draw(frame).text((frame.width // 2, line // 2), text, "black", ImageFont.load_default(17), anchor="mm")
        frames.append(np.asarray(frame))
    return Animation(frames)


def picture_table(
    cells: Sequence[Sequence[Cell]],
    *,
    columns: Sequence[str] = (),
    rows: Sequence[str] = (),
    frames: Mapping[tuple[int, int], str] | None = None,
    marks: Mapping[tuple[int, int], tuple[float, float]] | None = None,
    notes: Sequence[Sequence[str]] = (),
    scale: tuple[float, float] | None = None,
    scale_label: str = "",
    width: float = WIDTH,
) -> Figure:
    """A table of pictures with names for its rows and columns; None leaves a cell empty.

    A cell ``height width 3`` in [0, 1] is a picture; a cell ``h w`` is a map, drawn from dark (low) to bright (high) on one ``scale``
    for all maps, by default from 0 to their largest value; ``scale_label`` adds its colour bar. ``frames`` colours the border of a
    cell, ``marks`` puts a cross at a (row, column) of it; both are addressed by (row, column) of the table. ``notes`` has a line of
    text for each cell, to stand below it.
    """
    frames, marks = frames or {}, marks or {}
    arrays = [[None if cell is None else np.asarray(cell) for cell in row] for row in cells]
    maps = [cell for row in arrays for cell in row if cell is not None and cell.ndim == 2]
    low, high = scale or (0.0, max((float(m.max()) for m in maps), default=1.0))
    width = min(width, WIDTH)
    names = [fold(name, 1.2) for name in rows]
    wide, left = max(len(row) for row in arrays), 0.09 * max((len(line) for name in names for line in name.split("\n")), default=0)
    side = (width - left - (0.75 if scale_label else 0)) / wide
    titles, below = [fold(title, side) for title in columns], [[fold(note, side) for note in row] for row in notes]
    above = 0.17 * (1 + max(title.count("\n") for title in titles)) + 0.05 if titles else 0.0
    under = 0.17 * (1 + max(note.count("\n") for row in below for note in row)) + 0.05 if notes else 0.0
    tall = max(cell.shape[0] / cell.shape[1] for row in arrays for cell in row if cell is not None)
    fig = figure(width, (side * tall + under) * len(arrays) + above + 0.05)
    grid = fig.subplots(len(arrays), wide, squeeze=False, gridspec_kw={"wspace": 0.04, "hspace": 0.04})
    drawn = None
    for i, row in enumerate(arrays):
        for j in range(wide):
            axes, cell = grid[i, j], row[j] if j < len(row) else None
            axes.set_xticks([])
            axes.set_yticks([])
            framed = (i, j) in frames
            for spine in axes.spines.values():
                spine.set(visible=framed, color=frames.get((i, j), "white"), linewidth=2.5)
            if i == 0 and j < len(columns):
                axes.set_title(titles[j], fontsize=10, pad=4)
            if j == 0 and i < len(rows):
                axes.set_ylabel(names[i], fontsize=10, rotation=0, ha="right", va="center", labelpad=5)
            if notes:
                axes.set_xlabel(below[i][j], fontsize=10, labelpad=2)
            if cell is None:
                axes.set_facecolor("white")
            elif cell.ndim == 2:
                drawn = axes.imshow(cell, cmap=HEAT, vmin=low, vmax=high, interpolation="nearest")
            else:
                axes.imshow(cell, interpolation="nearest", vmin=0, vmax=1)
            if (i, j) in marks:
                y, x = marks[i, j]
                axes.plot(x, y, marker="x", color="white", markersize=9, markeredgewidth=3.4)
                axes.plot(x, y, marker="x", color=ORANGE, markersize=8, markeredgewidth=1.8)
    if drawn is not None and scale_label:
        bar = fig.colorbar(drawn, ax=grid, fraction=0.03, pad=0.01)
        bar.set_label(scale_label, fontsize=10)
        bar.ax.tick_params(labelsize=10)
        bar.outline.set_visible(False)
    return fig
