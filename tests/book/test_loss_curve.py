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


def test_every_logged_number_has_a_panel_and_learning_rates_share_one():
    pytest.importorskip("matplotlib")
    from minimae_book.figures import metric_panels

    history = [{"step": 20 * i, "epoch": i / 9, "loss": 1 / i, "lr": 1e-3, "lr_x0.75": 7e-4, "lr_x0.5": 5e-4} for i in range(1, 12)]
    history[5]["knn"] = 80.0
    panels = [axes for axes in metric_panels(history).axes if axes.axison]
    assert [axes.get_title() for axes in panels] == ["loss", "learning rate", "knn"]
    assert [axes.get_xlabel() for axes in panels] == ["", "optimizer step", "optimizer step"], "below the lowest of each column"
    for steps in ([3], [1, 2], [20, 40]):
        panels_of_few = metric_panels([{"step": step, "loss": 1.0} for step in steps]).axes
        assert all(tick == int(tick) for axes in panels_of_few for tick in axes.get_xticks())
    assert [len(axes.lines) for axes in panels] == [1, 3, 1] and len(panels[0].lines[0].get_xdata()) == 11
