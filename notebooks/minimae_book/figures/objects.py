"""Objects over photographs: masks as transparent colours, boxes, and class names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from .style import BLUE, GREEN, ORANGE, PURPLE, WIDTH, Axes, Figure, figure, legend_columns

COLOURS = (ORANGE, BLUE, GREEN, PURPLE, "#E69F00", "#56B4E9", "#F0E442")
VEIL = 0.45  # opacity of a mask
LABELLED = 12  # with more objects than this, boxes have no text, which would hide the picture


def draw_objects(axes: Axes, pixels: Tensor, objects: Mapping[str, Tensor], looks: Mapping[int, tuple[str, str]]) -> None:
    """A picture uint8 ``c height width`` with its objects: boxes ``k 4``, masks ``k height width``, labels ``k`` from 1, perhaps scores ``k``.

    looks: the colour of each label, and the word on its boxes; without it, objects are coloured in turn.
    """
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    canvas = np.repeat(pixels.numpy(), 3 // len(pixels), axis=0).transpose(1, 2, 0) / 255
    labels = objects["labels"].tolist()
    drawn = [looks.get(label, (COLOURS[i % len(COLOURS)], "")) for i, label in enumerate(labels)]
    for mask, (colour, _) in reversed(list(zip(objects["masks"].bool().numpy(), drawn))):  # the highest score lies on top
        canvas[mask] = (1 - VEIL) * canvas[mask] + VEIL * np.array(to_rgb(colour))
    axes.imshow(canvas, interpolation="nearest" if max(canvas.shape) < 200 else "antialiased")
    axes.set_axis_off()
    axes.set_anchor("N")
    for mask, (colour, _) in zip(objects["masks"].bool().numpy(), drawn):
        if mask.any() and not mask.all():
            axes.contour(mask, levels=[0.5], colors=[colour], linewidths=0.8)
    for i, ((left, top, right, bottom), (colour, word)) in enumerate(zip(objects["boxes"].tolist(), drawn)):
        frame = Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.3)
        axes.add_patch(frame)
        words = f"{word} {100 * float(objects['scores'][i]):.0f} %".strip() if "scores" in objects else word
        if words and len(labels) <= LABELLED:
            above = top > 0.12 * canvas.shape[0]
            style = {"facecolor": colour, "edgecolor": "none", "pad": 0.6}
            axes.text(left, top, words, fontsize=10, color="white", va="bottom" if above else "top", bbox=style, clip_on=True)


def objects_figure(
    rows: Sequence[tuple[Tensor, Sequence[Mapping[str, Tensor]]]], titles: Sequence[str], classes: Sequence[str] = (), *, pairs: int = 1
) -> Figure:
    """Pictures, each with one or more sets of objects side by side (the truth, a prediction), under titles.

    Objects of several classes are coloured by class, with a legend for up to seven classes and words on the boxes for more; those of one
    class are coloured in turn. pairs: how many pictures form a row.
    """
    from matplotlib.patches import Patch

    columns, lines = len(titles) * pairs, -(-len(rows) // pairs)
    wide = min(WIDTH / columns, 5.0)
    shapes = [pixels.shape[-2] / pixels.shape[-1] for pixels, _ in rows]
    heights = [wide * max(shapes[line * pairs : (line + 1) * pairs]) for line in range(lines)]
    present = sorted({int(label) for _, sets in rows for objects in sets for label in objects["labels"]}) if len(classes) > 1 else []
    legend = 0 < len(present) <= len(COLOURS)
    looks = {label: (COLOURS[i % len(COLOURS)], "" if legend else classes[label - 1]) for i, label in enumerate(present)}
    across = legend_columns((classes[label - 1] for label in present), wide * columns)
    fig = figure(wide * columns, sum(heights) + 0.3 * any(titles) + 0.24 * legend * -(-len(present) // across))
    if legend:
        handles = [Patch(color=looks[label][0], label=classes[label - 1]) for label in present]
        fig.legend(handles=handles, loc="outside lower center", ncols=min(across, len(present)), frameon=False, handlelength=1.2)
    grid = fig.subplots(lines, columns, squeeze=False, gridspec_kw={"height_ratios": heights, "wspace": 0.02, "hspace": 0.02})
    for axes in grid.flat:
        axes.set_axis_off()
    for i, (pixels, sets) in enumerate(rows):
        line, group = divmod(i, pairs)
        for j, objects in enumerate(sets):
            axes = grid[line, group * len(titles) + j]
            draw_objects(axes, pixels, objects, looks)
            if line == 0:
                axes.set_title(titles[j], fontsize=10, pad=3)
    return fig
