"""Outlines: the stated area is the drawn area, everything fits the unit circle, and near the edge values are distances."""

import matplotlib.path
import numpy as np
import pytest
import torch

from minimae.data.shapes import NOTCH, OUTLINES

AXIS = (torch.arange(1200, dtype=torch.float64) + 0.5) / 1200 * 2.4 - 1.2
X, Y = AXIS[None, :].expand(1200, 1200), AXIS[:, None].expand(1200, 1200)


@pytest.mark.parametrize("name", OUTLINES)
def test_area_and_extent(name):
    outline, area = OUTLINES[name]
    inside = outline(X, Y) < 0
    assert inside.double().mean() * 2.4**2 == pytest.approx(area, rel=5e-3)
    assert torch.hypot(X, Y)[inside].max() <= 1


@pytest.mark.parametrize("name", OUTLINES)
def test_values_grow_with_distance_one_for_one_near_the_edge(name):
    """The gradient has length 1 (but on the creases where two edges are equally near), so an edge is one pixel soft all around."""
    outline, _ = OUTLINES[name]
    away = outline(X, Y).numpy()
    slope = np.hypot(*np.gradient(away, 2.4 / 1200))[abs(away) < 0.03]
    assert np.median(slope) == pytest.approx(1, abs=0.01) and (abs(slope - 1) < 0.05).mean() > 0.9


@pytest.mark.parametrize(
    ("name", "angles", "radii"),
    [
        ("square", np.pi / 4 + np.arange(4) * np.pi / 2, np.ones(4)),
        ("triangle", np.arange(3) * np.pi * 2 / 3, np.ones(3)),
        ("star", np.arange(10) * np.pi / 5, np.tile([1, NOTCH], 5)),
    ],
)
def test_straight_shapes_are_the_polygons_one_would_draw(name, angles, radii):
    corners = np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=1)
    points = torch.stack([X, Y], dim=-1)[::7, ::7].reshape(-1, 2)
    wanted = matplotlib.path.Path(corners).contains_points(points.numpy())
    away = OUTLINES[name][0](points[:, 0], points[:, 1])
    assert ((away < 0).numpy() == wanted)[away.abs() > 1e-9].all()
