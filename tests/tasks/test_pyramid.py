"""The simple feature pyramid: the shape and stride of every map, for many patches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from minimae.tasks.pyramid import Norm2d, Pyramid, doublings


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([4, 8, 16, 32]), st.integers(1, 3), st.integers(1, 3))
def test_every_map_has_its_stride(patch: int, rows: int, columns: int) -> None:
    height, width = 64 * rows, 64 * columns
    pyramid = Pyramid(16, patch, channels=8)
    maps = pyramid(torch.randn(2, 16, height // patch, width // patch))
    assert {name: tuple(x.shape) for name, x in maps.items()} == {
        str(stride): (2, 8, height // stride, width // stride) for stride in (4, 8, 16, 32)
    }


def test_a_patch_that_is_no_power_of_two_gets_the_nearest_strides() -> None:
    maps = Pyramid(16, 14, channels=8)(torch.randn(1, 16, 8, 8))
    assert [x.shape[-1] for x in maps.values()] == [32, 16, 8, 4]
    assert [14 / 2 ** doublings(14, stride) for stride in (4, 8, 16, 32)] == [3.5, 7, 14, 28]


def test_a_place_of_the_finest_map_sees_only_its_patch_but_for_the_last_convolution() -> None:
    """Transposed convolutions of size and stride 2 do not mix patches; the 3×3 convolution at the end reaches one place farther."""
    torch.manual_seed(0)
    pyramid, x = Pyramid(8, 8, strides=(4,), channels=4), torch.randn(1, 8, 5, 5)
    before = pyramid(x)["4"]
    x[0, :, 2, 2] += 1
    changed = (pyramid(x)["4"] - before).abs().amax(1)[0] > 1e-6
    rows, columns = changed.nonzero().unbind(1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 6, 3, 6)


def test_a_coarser_map_holds_the_largest_values_of_its_places() -> None:
    pyramid, x = Pyramid(8, 8, strides=(16,), channels=4), torch.randn(1, 8, 4, 6)
    torch.testing.assert_close(pyramid(x)["16"], pyramid.levels["16"][1:](F.max_pool2d(x, 2)))


def test_the_norm_is_over_channels() -> None:
    x = torch.randn(2, 6, 3, 5) * 4 + 1
    y = Norm2d(6)(x)
    torch.testing.assert_close(y.mean(1), torch.zeros(2, 3, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(1, unbiased=False), torch.ones(2, 3, 5), atol=1e-3, rtol=0)


@pytest.mark.parametrize("patch", [4, 16])
def test_every_weight_learns(patch: int) -> None:
    pyramid = Pyramid(16, patch, channels=8)
    torch.stack([x.square().mean() for x in pyramid(torch.randn(1, 16, 8, 8)).values()]).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pyramid.parameters())
