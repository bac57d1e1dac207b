"""A figure with a slider if a reader can move it, otherwise the figure alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

STATIC = "MINIMAE_STATIC"  # set while notebooks are built: committed notebooks have pictures, not sliders


def slider(draw: Callable[..., Any], **ranges: tuple[float, float, float, float]) -> Any:
    """Call ``draw(name=value, …)`` with a slider for each name: (lowest, highest, step, value at the start).

    Without ipywidgets, and in the committed notebooks, the figure at the start is returned.
    """
    try:
        import ipywidgets
    except ImportError:
        ipywidgets = None
    if ipywidgets is None or os.environ.get(STATIC):
        return draw(**{name: start for name, (*_, start) in ranges.items()})
    kinds = {name: ipywidgets.IntSlider if all(isinstance(x, int) for x in given) else ipywidgets.FloatSlider for name, given in ranges.items()}
    controls = {
        name: kinds[name](value=start, min=lowest, max=highest, step=step, continuous_update=False)
        for name, (lowest, highest, step, start) in ranges.items()
    }
    ipywidgets.interact(draw, **controls)
    return None
