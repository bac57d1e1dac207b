"""Figures of tokens: those that the encoder sees, and their cost (chapter 04); their path through the decoder (chapter 05)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .style import BLUE, GREEN, GREY, HIDDEN, INK, NOTE, ORANGE, PALE, PURPLE, SHADE, WIDTH, Axes, Figure, bare, chart, figure, plain


def visible_tokens(picture: np.ndarray, keep: Sequence[int], grid: tuple[int, int]) -> Figure:
    """The patches in ``keep`` at their positions in the picture, and the same patches as a row of tokens after the class token."""
    from matplotlib.patches import Rectangle

    (h, w), k, left = grid, len(keep), 3.4
    p1, p2 = picture.shape[0] // h, picture.shape[1] // w
    unit = WIDTH / (k + left + 1.6)  # inches
    fig = figure(WIDTH, 2.1 + 3.6 * unit)
    above, below = fig.subplots(2, 1, height_ratios=[2.1, 3.6 * unit])
    hidden = np.broadcast_to(np.array(HIDDEN), picture.shape).copy()
    for number, i in enumerate(keep):
        rows, columns = slice(i // w * p1, (i // w + 1) * p1), slice(i % w * p2, (i % w + 1) * p2)
        hidden[rows, columns] = picture[rows, columns]
        above.add_patch(Rectangle((columns.start - 0.5, rows.start - 0.5), p2, p1, fill=False, edgecolor=ORANGE, linewidth=1.3))
        x = number + 1.5
        below.imshow(picture[rows, columns], extent=(x, x + 0.9, 0, 0.9), vmin=0, vmax=1, interpolation="nearest")
        below.add_patch(Rectangle((x, 0), 0.9, 0.9, fill=False, edgecolor=ORANGE, linewidth=1.3))
        below.text(x + 0.45, -0.2, f"{i}", ha="center", va="top")
        below.text(x + 0.45, -0.85, f"{i // w}, {i % w}", ha="center", va="top", color=NOTE)
    bare(above).imshow(hidden, vmin=0, vmax=1, interpolation="nearest")
    below.add_patch(Rectangle((0, 0), 0.9, 0.9, facecolor=BLUE, edgecolor=BLUE))
    below.text(0.9, 1.15, "class token", ha="right", va="bottom", color=BLUE)
    below.text(1.5 + k / 2, 1.15, f"k = {k} visible patches, in the order of the shuffle", ha="center", va="bottom")
    below.text(-0.2, -0.2, "patch", ha="right", va="top")
    below.text(-0.2, -0.85, "row, column", ha="right", va="top", color=NOTE)
    below.set(xlim=(-left, k + 1.6), ylim=(-1.7, 1.9), aspect="equal")
    below.set_axis_off()
    return fig


def attention_share(tokens: Sequence[int], shares: Mapping[str, Sequence[float]], marks: Mapping[str, int]) -> Figure:
    """Percent of a block's operations in the t² part, against the number of tokens (logarithmic); marks are named token counts."""
    fig, axes = chart(WIDTH, 3.6)
    for (name, values), colour in zip(shares.items(), (BLUE, GREEN, PURPLE), strict=False):
        axes.plot(tokens, values, color=colour, linewidth=2, label=name)
    for name, t in marks.items():
        axes.axvline(t, color=GREY, linestyle=":", linewidth=1.3)
        axes.text(t * 0.95, 97, name, rotation=90, ha="right", va="top", fontsize=10, color=NOTE)
    axes.set(xscale="log", ylim=(0, 100), xlabel="tokens t", ylabel="share of the t² part (%)")
    fig.legend(frameon=False, fontsize=10, ncols=len(shares), loc="outside upper center")
    return fig


def cost_bars(costs: Mapping[str, Mapping[str, float]], *, unit: str) -> Figure:
    """One horizontal bar per model, made of named parts, with the total at its end."""
    fig, axes = chart(WIDTH, 0.4 * len(costs) + 1.1)
    axes.grid(False, axis="y")
    parts = list(next(iter(costs.values())))
    top = max(sum(bar.values()) for bar in costs.values())
    for i, bar in enumerate(costs.values()):
        start = 0.0
        for part, colour in zip(parts, (BLUE, ORANGE, GREY), strict=False):
            axes.barh(i, bar[part], left=start, color=colour, height=0.66, label=part if i == 0 else None)
            start += bar[part]
        axes.text(start + 0.01 * top, i, f"{start:.1f}", va="center", fontsize=10)
    axes.set_yticks(range(len(costs)), list(costs), fontsize=10)
    axes.set(ylim=(len(costs) - 0.5, -0.5), xlim=(0, 1.1 * top))
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(unit)
    fig.legend(frameon=False, fontsize=10, ncols=len(parts), loc="outside upper center")
    return fig


def time_against_tokens(
    kept: Sequence[int], measured: Mapping[str, Sequence[float]], counted: Mapping[str, Sequence[float]], *, mark: int
) -> Figure:
    """Time per image against kept patches, whole image = 1: dots are measured, dashed lines are counted operations."""
    fig, axes = chart(WIDTH, 3.6)
    for (name, values), colour in zip(measured.items(), (BLUE, ORANGE), strict=False):
        axes.plot(kept, values, "o-", color=colour, linewidth=2, markersize=6, label=name)
        axes.plot(kept, counted[name], "--", color=colour, linewidth=1.2)
    axes.plot([], [], "o", color=GREY, label="measured time")
    axes.plot([], [], "--", color=GREY, label="counted operations")
    axes.axvline(mark, color=GREY, linestyle=":", linewidth=1.3)
    axes.text(mark + 2, 0.03, f"{mark} kept: 75 % masked", fontsize=10, color=NOTE, va="bottom")
    highest = max(max(values) for values in (*measured.values(), *counted.values()))
    axes.set(ylim=(0, 1.12 * highest), xlim=(0, 1.03 * max(kept)), xlabel="kept patches k", ylabel="time (whole image = 1)")
    fig.legend(frameon=False, fontsize=10, ncols=2, loc="outside upper center")
    return fig


def _token(axes: Axes, x: float, y: float, patch: int, picture: np.ndarray | None, *, visible: bool) -> None:
    """One token: a frame one unit wide; inside it its patch, or a question mark if it is a mask token. Its index is written below."""
    from matplotlib.patches import Rectangle

    left, low, side = x - 0.42, y - 0.42, 0.84
    if visible and picture is not None:
        axes.imshow(picture, extent=(left, left + side, low, low + side), cmap="gray", vmin=0, vmax=1, interpolation="nearest", zorder=2)
    fill = "none" if visible and picture is not None else ("white" if visible else HIDDEN)
    axes.add_patch(Rectangle((left, low), side, side, facecolor=fill, edgecolor=BLUE if visible else GREY, linewidth=1.6, zorder=3))
    if not visible:
        axes.text(x, y, "?", ha="center", va="center", fontsize=11, color="black", zorder=4)
    axes.text(x, y - 0.75, str(patch), ha="center", va="center", fontsize=10, color=BLUE if visible else NOTE, zorder=4)


def token_strip(keep: Sequence[int], masked: Sequence[int], pictures: np.ndarray | None = None) -> Figure:
    """Three rows of tokens: visible, with mask tokens appended, restored to image order; lines follow each token down.

    keep, masked: patch numbers in the order of the shuffle. pictures: ``n p1 p2`` or ``n p1 p2 3`` in [0, 1], in image order.
    The number below a token is its patch. The class token is left out, because it does not move.
    """
    order, k = [*keep, *masked], len(keep)
    n = len(order)
    high = 2.6 if n < 10 else 3.8
    left = 3.2 if n < 10 else 4.3  # units of one token
    fig = figure(WIDTH, WIDTH * (2 * high + 1.7) / (n + left + 0.4))
    axes = fig.subplots()
    for row, tokens in enumerate((list(keep), order, sorted(order))):
        for x, patch in enumerate(tokens):
            picture = None if pictures is None else pictures[patch]
            _token(axes, x, -high * row, patch, picture, visible=patch in keep)
    for x, patch in enumerate(order):
        if x < k:
            axes.plot([x, x], [-1.1, -high + 0.45], color=BLUE, linewidth=1.2, zorder=1)
        colour, strength = (BLUE, 1.6) if x < k else (GREY, 0.8)
        axes.plot([x, patch], [-high - 1.1, -2 * high + 0.45], color=colour, linewidth=strength, alpha=0.9, zorder=1)
    for row, words in enumerate(("visible", "mask tokens\nappended", "restored")):
        axes.text(-0.8, -high * row, words, ha="right", va="center", fontsize=10)
    axes.set(xlim=(-left, n - 0.4), ylim=(-2 * high - 1.2, 0.6), aspect="equal")
    axes.set_axis_off()
    return fig


def who_asks(k: int, m: int) -> Figure:
    """Which rows of the attention table are computed in the last block: all of them, or those of the masked tokens only."""
    from matplotlib.patches import Rectangle

    t = 1 + k + m
    fig = figure(WIDTH, 3.2)
    titles = (f"all {t} are queries", f"only the {m} masked are")
    for axes, title, first in zip(fig.subplots(1, 2), titles, (0, 1 + k), strict=True):
        axes.add_patch(Rectangle((0, 0), t, t, facecolor=SHADE, edgecolor=GREY, hatch="///", linewidth=0.8))
        axes.add_patch(Rectangle((0, first), t, t - first, facecolor=PALE[0], edgecolor=BLUE, linewidth=1.6))
        for at in (1, 1 + k):
            axes.plot([at, at], [0, t], color="white", linewidth=1.5)
            axes.plot([0, t], [at, at], color="white", linewidth=1.5)
        if first:
            axes.text(t / 2, first / 2, "not computed", ha="center", va="center", fontsize=10, color=INK,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 2})  # fmt: skip
        axes.text(t / 2, (first + t) / 2, f"{t - first} × {t} weights", ha="center", va="center", fontsize=10)
        places, names = [0.5, 1 + k / 2, 1 + k + m / 2], ["class", "visible", "masked"]
        axes.set_xticks(places, names, fontsize=10)
        axes.get_xticklabels()[0].set_ha("right")  # beside "visible", not under it
        axes.set_yticks(places, names, fontsize=10)
        axes.set(xlim=(0, t), ylim=(t, 0), aspect="equal")
        axes.set_xlabel("key", fontsize=10)
        axes.set_ylabel("query", fontsize=10)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(title, fontsize=10)
    return fig


def encoder_and_decoder(panels: Mapping[str, Mapping[str, tuple[float, float]]]) -> Figure:
    """Pairs of bars: {panel title with its unit: {model: (encoder, decoder)}}; the decoder's share is written beside its bar."""
    fig = figure(WIDTH, sum(0.55 * len(models) + 0.75 for models in panels.values()))
    for axes, (title, models) in zip(fig.subplots(len(panels), 1, squeeze=False).flat, panels.items(), strict=True):
        plain(axes).grid(axis="y", visible=False)
        top = max(max(pair) for pair in models.values())
        for i, (encoder, decoder) in enumerate(models.values()):
            for offset, value, colour, name in ((-0.19, encoder, BLUE, "encoder"), (0.19, decoder, ORANGE, "decoder")):
                axes.barh(i + offset, value, 0.34, color=colour, label=name if i == 0 else None)
            digits = 2 if top < 100 else 0
            share = f"{decoder:,.{digits}f}  ({100 * decoder / encoder:.0f} %)"
            axes.text(encoder + 0.015 * top, i - 0.19, f"{encoder:,.{digits}f}", va="center", fontsize=10)
            axes.text(decoder + 0.015 * top, i + 0.19, share, va="center", fontsize=10)
        axes.set_yticks(range(len(models)), list(models))
        axes.set(ylim=(len(models) - 0.45, -0.55), xlim=(0, 1.22 * top))
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.tick_params(axis="y", length=0)
        axes.set_title(title, fontsize=10)
        axes.legend(frameon=False, loc="lower right" if encoder < 0.7 * top else "upper right")
    return fig
