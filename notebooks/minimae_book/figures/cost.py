"""Figures of the encoder's tokens: which go in, what they cost, and how long they take (chapter 04)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, bare, figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def visible_tokens(picture: np.ndarray, keep: Sequence[int], grid: tuple[int, int]) -> Figure:
    """The patches in ``keep`` where they sit in the picture, and the same as a row of tokens behind the class token."""
    from matplotlib.patches import Rectangle

    (h, w), k = grid, len(keep)
    p1, p2 = picture.shape[0] // h, picture.shape[1] // w
    fig = figure(9.6, 2.1)
    left, right = fig.subplots(1, 2, gridspec_kw={"width_ratios": [1, 3.9]})
    faint = 0.8 + 0.2 * picture
    for number, i in enumerate(keep):
        rows, columns = slice(i // w * p1, (i // w + 1) * p1), slice(i % w * p2, (i % w + 1) * p2)
        faint[rows, columns] = picture[rows, columns]
        left.add_patch(Rectangle((columns.start - 0.5, rows.start - 0.5), p2, p1, fill=False, edgecolor=ORANGE, linewidth=1.3))
        x = number + 1.5
        right.imshow(picture[rows, columns], extent=(x, x + 0.9, 0, 0.9), vmin=0, vmax=1, interpolation="nearest")
        right.add_patch(Rectangle((x, 0), 0.9, 0.9, fill=False, edgecolor=ORANGE, linewidth=1.3))
        right.text(x + 0.45, -0.22, f"{i}", ha="center", va="top", fontsize=9)
        right.text(x + 0.45, -0.82, f"{i // w}, {i % w}", ha="center", va="top", fontsize=8, color=GREY)
    bare(left).imshow(faint, vmin=0, vmax=1, interpolation="nearest")
    right.add_patch(Rectangle((0, 0), 0.9, 0.9, facecolor=BLUE, edgecolor=BLUE))
    right.text(0.45, 0.45, "class", ha="center", va="center", fontsize=8, color="white")
    right.text(0.45, -0.22, "–", ha="center", va="top", fontsize=9)
    right.text(0.45, 1.15, "joins\nafter masking", ha="center", va="bottom", fontsize=8, color=BLUE)
    right.text(1.5 + k / 2, 1.15, f"k = {k} visible patches, in the order of the shuffle", ha="center", va="bottom", fontsize=9)
    right.text(-0.2, -0.22, "patch", ha="right", va="top", fontsize=9)
    right.text(-0.2, -0.82, "row, column", ha="right", va="top", fontsize=8, color=GREY)
    right.set(xlim=(-2.1, k + 1.5), ylim=(-1.3, 2.1), aspect="equal")
    right.set_axis_off()
    return fig


def attention_share(tokens: Sequence[int], shares: Mapping[str, Sequence[float]], marks: Mapping[str, int]) -> Figure:
    """Percent of a block's operations in the t² part, against the number of tokens (logarithmic); marks are named token counts."""
    fig = figure(6.6, 3.8)
    axes = plain(fig.subplots())
    for (name, values), colour in zip(shares.items(), (BLUE, GREEN, PURPLE), strict=False):
        axes.plot(tokens, values, color=colour, linewidth=2, label=name)
    for name, t in marks.items():
        axes.axvline(t, color=GREY, linestyle=":", linewidth=1.3)
        axes.text(t * 0.95, 97, name, rotation=90, ha="right", va="top", fontsize=8, color="#555555")
    axes.set(xscale="log", ylim=(0, 100), xlabel="tokens t", ylabel="share of the t² part (%)")
    fig.legend(frameon=False, fontsize=9, ncols=len(shares), loc="outside upper center")
    return fig


def cost_bars(costs: Mapping[str, Mapping[str, float]], *, unit: str) -> Figure:
    """One horizontal bar per model, made of named parts, with the total at its end."""
    fig = figure(6.8, 0.42 * len(costs) + 1.2)
    axes = plain(fig.subplots())
    axes.grid(False, axis="y")
    parts = list(next(iter(costs.values())))
    top = max(sum(bar.values()) for bar in costs.values())
    for i, bar in enumerate(costs.values()):
        start = 0.0
        for part, colour in zip(parts, (BLUE, ORANGE, GREY), strict=False):
            axes.barh(i, bar[part], left=start, color=colour, height=0.66, label=part if i == 0 else None)
            start += bar[part]
        axes.text(start + 0.01 * top, i, f"{start:.1f}", va="center", fontsize=9)
    axes.set_yticks(range(len(costs)), list(costs), fontsize=9)
    axes.set(ylim=(len(costs) - 0.5, -0.5), xlim=(0, 1.1 * top))
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(unit)
    fig.legend(frameon=False, fontsize=9, ncols=len(parts), loc="outside upper center")
    return fig


def time_against_tokens(
    kept: Sequence[int], measured: Mapping[str, Sequence[float]], counted: Mapping[str, Sequence[float]], *, mark: int
) -> Figure:
    """Time per image against kept patches, whole image = 1: dots are measured, dashed lines are counted operations."""
    fig = figure(6.6, 3.8)
    axes = plain(fig.subplots())
    for (name, values), colour in zip(measured.items(), (BLUE, ORANGE), strict=False):
        axes.plot(kept, values, "o-", color=colour, linewidth=2, markersize=6, label=f"{name}: measured time")
        axes.plot(kept, counted[name], "--", color=colour, linewidth=1.2, label=f"{name}: counted operations")
    axes.axvline(mark, color=GREY, linestyle=":", linewidth=1.3)
    axes.text(mark + 2, 0.03, f"{mark} kept: 75 % masked", fontsize=8, color="#555555", va="bottom")
    highest = max(max(values) for values in (*measured.values(), *counted.values()))
    axes.set(ylim=(0, 1.12 * highest), xlim=(0, 1.03 * max(kept)), xlabel="kept patches k", ylabel="time (whole image = 1)")
    fig.legend(frameon=False, fontsize=8.5, ncols=2, loc="outside upper center")
    return fig
