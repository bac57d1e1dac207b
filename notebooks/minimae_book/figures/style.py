"""The common style of all figures: colours that colour-blind readers can distinguish (Okabe and Ito), size, resolution, frame."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from minimae.tasks.reconstruct import GREY_BLUE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Axes = Figure = object  # matplotlib is imported when the first figure is drawn

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A8A8A"
HIDDEN = GREY_BLUE  # hidden patches and mask tokens; no photograph has this colour
PALE = ("#CFE3F1", "#F9DCC8", "#CDEBE0", "#F3DFEA")  # blue, orange, green, purple, light enough to write on
INK, NOTE, LINE, SHADE = "#333333", "#555555", "#DDDDDD", "#F0F0F0"  # text, less important text, lines of a grid, areas
HEAT, SIGNED = "cividis", "PuOr"  # colour maps: from low to high; from minus over zero to plus
WIDTH, TEXT = 6.0, 10  # inches, the widest figure; points, the smallest text: 9 pixels high on a phone 390 pixels wide
INCH, SHARP = 120, 2  # pixels of a page for an inch of a figure; pixels of the file for each of them
PALETTE = 256  # colours of a PNG in a notebook


def figure(width: float, height: float) -> Figure:
    """An empty figure in the style of the book, without touching matplotlib's global state. Sizes in inches, at most :data:`WIDTH` wide.

    In a notebook a figure that is the last value of a cell is drawn below it. The background is white, in dark mode too.
    """
    from matplotlib.figure import Figure

    _drawn_in_notebooks()
    return Figure(figsize=(width, height), dpi=SHARP * INCH, facecolor="white", layout="constrained")


def _drawn_in_notebooks() -> None:
    """Make a running notebook show a Figure, as ``%matplotlib inline`` would. Nothing happens anywhere else."""
    import sys

    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and hasattr(shell, "kernel"):
        from matplotlib.figure import Figure

        shell.display_formatter.formatters["image/png"].for_type(Figure, png)


def png(fig: Figure) -> tuple[bytes, dict[str, float]]:
    """A figure as PNG with a palette, and how to show it: its width in pixels of the page, half of those of the file.

    No height, so that a narrow page keeps the proportions. The second number is the height in pixels of the smallest text where a phone
    shrinks the figure to 390 pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text
    from PIL import Image

    canvas, file = FigureCanvasAgg(fig), io.BytesIO()
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    image.quantize(PALETTE, dither=Image.Dither.NONE).save(file, "png", optimize=True)
    texts = [text for text in fig.findobj(Text) if isinstance(text, Text) and text.get_visible() and text.get_text().strip()]
    on_a_phone = min((float(text.get_fontsize()) for text in texts), default=TEXT) / 72 * min(INCH, 390 / float(fig.get_figwidth()))
    return file.getvalue(), {"width": image.width // SHARP, "smallest_text": round(on_a_phone, 1)}


def fold(text: str, inches: float) -> str:
    """A title in lines that fit into a width; a number stays with its percent sign."""
    letters = max(4, int(inches / 0.083))
    if letters < len("reconstruction"):
        text = text.replace("reconstruction", "recon-struction")
    lines = (textwrap.wrap(re.sub(r"(\d) %", "\\1\u00a0%", line), letters, break_long_words=False) for line in text.split("\n"))
    return "\n".join(part for line in lines for part in line)


def chart(width: float, height: float, *, grid: bool = True) -> tuple[Figure, Axes]:
    """A figure with one set of plain axes."""
    fig = figure(width, height)
    return fig, plain(fig.subplots(), grid=grid)


def plain(axes: Axes, *, grid: bool = True) -> Axes:
    """Remove the upper and right frame, and draw a light grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    if grid:
        axes.grid(color=LINE, linewidth=0.7)
        axes.set_axisbelow(True)
    return axes


def bare(axes: Axes) -> Axes:
    """Remove ticks and numbers; keep the frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    return axes


def box(axes: Axes, place: tuple[int, int], colour: str = ORANGE, *, scale: tuple[float, float] = (1, 1)) -> None:
    """A frame around one patch (row, column) of a grid; ``scale`` is the size of a patch in the plot."""
    from matplotlib.patches import Rectangle

    corner = (place[1] * scale[1] - 0.5, place[0] * scale[0] - 0.5)
    axes.add_patch(Rectangle(corner, scale[1], scale[0], fill=False, edgecolor=colour, linewidth=2.2))


def legend_columns(names: Iterable[str], inches: float = WIDTH) -> int:
    """How many names of a legend stand side by side in a width."""
    return max(1, int(inches / (0.55 + 0.083 * max(map(len, names), default=0))))
