"""The loss figure shows every run, also one so short that it logged a single line."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize("count", [1, 2, 30])
def test_the_last_point_can_be_seen(count: int) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from minimae_book.figures import loss_curve

    steps = np.arange(1, count + 1) * 20
    fig = loss_curve(steps, np.linspace(0.95, 0.9, count + 1)[1:], baseline=0.8, images_per_step=128)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    x, y = fig.axes[0].transData.transform((steps[-1] * 0.128, 0.9))
    pixels = np.asarray(canvas.buffer_rgba()).astype(int)
    red, _, blue, _ = pixels[pixels.shape[0] - 1 - round(y), round(x) - 1]
    assert blue - red > 60
