"""The common style of all figures: colours that colour-blind readers can distinguish (Okabe and Ito), size, frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Axes = Figure = object  # matplotlib is imported when the first figure is drawn

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A8A8A"
HIDDEN = (0.62, 0.66, 0.74)  # hidden patches: a mid grey-blue that no photograph has
HEAT, SIGNED = "cividis", "PuOr"  # colour maps: from low to high; from minus over zero to plus


def figure(width: float, height: float, *, dpi: int = 120) -> Figure:
    """An empty figure in the style of the book, without touching matplotlib's global state. Sizes in inches.

    In a notebook a figure that is the last value of a cell is drawn below it. The background is white, in dark mode too.
    """
    from matplotlib.figure import Figure

    _drawn_in_notebooks()
    return Figure(figsize=(width, height), dpi=dpi, facecolor="white", layout="constrained")


def _drawn_in_notebooks() -> None:
    """Make a running notebook show a Figure, as ``%matplotlib inline`` would. Nothing happens anywhere else."""
    import sys

    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and hasattr(shell, "kernel"):
        from IPython.core.pylabtools import select_figure_formats

        select_figure_formats(shell, {"png"}, bbox_inches=None)


def chart(width: float, height: float, *, grid: bool = True) -> tuple[Figure, Axes]:
    """A figure with one set of plain axes."""
    fig = figure(width, height)
    return fig, plain(fig.subplots(), grid=grid)


def plain(axes: Axes, *, grid: bool = True) -> Axes:
    """Remove the upper and right frame, and draw a light grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    if grid:
        axes.grid(color="#DDDDDD", linewidth=0.7)
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
