"""Patches: cutting an image up loses nothing, and every value is where the loops put it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from oracles import patchify_by_loops

from minimae.model.patches import grid_of, pair, patchify, unpatchify

sides = st.integers(1, 6)


def test_one_number_means_a_square():
    assert pair(16) == (16, 16)
    assert pair((8, 16)) == (8, 16)


@given(h=sides, w=sides, p1=sides, p2=sides, c=st.integers(1, 13), b=st.integers(1, 3))
def test_patches_equal_the_ones_cut_by_loops_and_go_back_exactly(h, w, p1, p2, c, b):
    images = torch.arange(b * c * h * p1 * w * p2, dtype=torch.float64).reshape(b, c, h * p1, w * p2)
    patches = patchify(images, (p1, p2))
    assert grid_of((h * p1, w * p2), (p1, p2)) == (h, w)
    np.testing.assert_array_equal(patches.numpy(), patchify_by_loops(images.numpy(), p1, p2))
    assert torch.equal(unpatchify(patches, (p1, p2), (h, w)), images)


def test_trap_8_a_patch_is_ordered_p1_p2_c_and_a_convolution_weight_c_p1_p2():
    images = torch.randn(2, 3, 8, 18, dtype=torch.float64)
    convolution = torch.randn(5, 3, 4, 6, dtype=torch.float64)  # d c p1 p2
    linear = convolution.permute(0, 2, 3, 1).flatten(1)  # d (p1 p2 c)
    expected = F.conv2d(images, convolution, stride=(4, 6)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(patchify(images, (4, 6)) @ linear.T, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("image", "patch", "suggested"),
    [
        ((224, 225), 16, "224×224 or 224×240"),
        ((30, 33), 16, "16×32 or 32×48"),
        ((10, 32), 16, "to 16×32,"),
        (28, (4, 5), "28×25 or 28×30"),
    ],
)
def test_a_size_that_does_not_divide_is_refused_with_the_sizes_that_would_do(image, patch, suggested):
    with pytest.raises(ValueError, match="cannot be cut into patches") as error:
        grid_of(image, patch)
    assert suggested in str(error.value)


@given(height=st.integers(1, 80), width=st.integers(1, 80), p1=st.integers(1, 20), p2=st.integers(1, 20))
def test_every_suggested_size_can_be_cut_and_is_less_than_a_patch_away(height, width, p1, p2):
    try:
        assert grid_of((height, width), (p1, p2)) == (height / p1, width / p2)
    except ValueError as error:
        suggested = str(error).split("crop it to ")[1].split(",")[0].split(" or ")
        for rows, columns in (map(int, text.split("×")) for text in suggested):
            assert rows % p1 == 0 and columns % p2 == 0
            assert abs(rows - height) < p1 and abs(columns - width) < p2


def test_wrong_sizes_are_refused_in_words():
    with pytest.raises(ValueError, match="at least 1 pixel"):
        grid_of((0, 16), 4)
    with pytest.raises(ValueError, match="cannot be cut"):
        patchify(torch.zeros(1, 3, 10, 8), 4)
    with pytest.raises(ValueError, match="5 patches do not fill a grid of 2×3 = 6"):
        unpatchify(torch.zeros(1, 5, 48), 4, (2, 3))
    with pytest.raises(ValueError, match="whole number of channels"):
        unpatchify(torch.zeros(1, 6, 47), 4, (2, 3))
