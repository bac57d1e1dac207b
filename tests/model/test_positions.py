"""Positions: the fixed table equals the formula, and resizing touches the grid alone."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from oracles import sincos_by_loops

from minimae.model.positions import resize_positions, sincos_1d, sincos_2d

sides = st.integers(1, 7)


@given(quarter=st.integers(1, 24), h=sides, w=sides)
def test_trap_11_the_table_equals_the_formula_with_the_column_in_the_first_half(quarter, h, w):
    table = sincos_2d(4 * quarter, (h, w))
    assert table.dtype == torch.float32 and table.shape == (1 + h * w, 4 * quarter)
    np.testing.assert_allclose(table.numpy(), sincos_by_loops(4 * quarter, h, w), rtol=0, atol=6e-8)


def test_trap_11_moving_along_a_row_changes_the_first_half_of_the_channels_only():
    table = sincos_2d(64, (5, 8))[1:].view(5, 8, 64)
    assert torch.equal(table[..., :32], table[:1, :, :32].expand(5, -1, -1))
    assert torch.equal(table[..., 32:], table[:, :1, 32:].expand(-1, 8, -1))


def test_trap_1_the_class_token_has_a_zero_position():
    assert not sincos_2d(32, (4, 4))[0].any()


def test_every_place_has_its_own_position_of_the_same_length():
    table = sincos_2d(128, (14, 14))[1:]
    assert torch.cdist(table, table).fill_diagonal_(9).min() > 0.1
    torch.testing.assert_close(table.square().sum(1), torch.full((196,), 64.0))  # sin² + cos² = 1 at 64 frequencies


def test_one_dimensional_positions_may_be_fractional_and_are_float64():
    table = sincos_1d(torch.tensor([0.0, 0.5, 2.0]), 4)
    expected = [[np.sin(x), np.sin(x / 100), np.cos(x), np.cos(x / 100)] for x in (0, 0.5, 2)]
    assert table.dtype == torch.float64
    np.testing.assert_allclose(table.numpy(), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(("d", "nearest"), [(6, 8), (30, 32), (33, 36)])
def test_a_width_that_is_no_multiple_of_4_is_refused_with_one_that_is(d, nearest):
    with pytest.raises(ValueError, match=f"multiple of 4, not {d}; {nearest} would do"):
        sincos_2d(d, (2, 2))


@pytest.mark.parametrize(("old", "new"), [((3, 5), (6, 4)), ((4, 4), (4, 7)), ((14, 14), (24, 24)), ((7, 7), (2, 3)), ((1, 6), (6, 1))])
def test_trap_14_resizing_is_bicubic_in_two_dimensions_and_leaves_the_class_row(old, new):
    positions = torch.randn(1 + old[0] * old[1], 8, dtype=torch.float64)
    resized = resize_positions(positions, old, new)
    assert resized.shape == (1 + new[0] * new[1], 8)
    assert torch.equal(resized[0], positions[0])
    for channel in range(8):
        plane = positions[1:, channel].reshape(1, 1, *old)
        expected = F.interpolate(plane, size=new, mode="bicubic", align_corners=False)
        torch.testing.assert_close(resized[1:, channel], expected.flatten(), rtol=0, atol=1e-14)


def test_trap_14_after_resizing_rows_are_still_rows_and_columns_columns():
    table = resize_positions(sincos_2d(32, (4, 7)), (4, 7), (9, 5))[1:].view(9, 5, 32)
    assert torch.allclose(table[..., :16], table[:1, :, :16].expand(9, -1, -1), atol=1e-5)
    assert torch.allclose(table[..., 16:], table[:, :1, 16:].expand(-1, 5, -1), atol=1e-5)


def test_the_same_grid_gives_the_same_table():
    positions = sincos_2d(16, (3, 5))
    assert resize_positions(positions, (3, 5), (3, 5)) is positions


def test_a_gradient_flows_back_through_resizing():
    positions = torch.randn(1 + 6, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: resize_positions(p, (2, 3), (4, 5)), positions)


def test_a_table_of_another_grid_is_refused():
    with pytest.raises(ValueError, match="16 positions do not belong to a class token and a grid of 4×4"):
        resize_positions(torch.zeros(16, 8), (4, 4), (8, 8))
