"""Arrays of any kind become Images, or are refused with the reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from minimae.data import channel_range, from_array


def test_bytes_stay_as_they_are() -> None:
    array = np.random.default_rng(0).integers(0, 256, (5, 2, 6, 8), dtype=np.uint8)
    images = from_array("mine", array, [0, 1, 2, 1, 0], ("a", "b", "c"))
    assert np.array_equal(images.pixels.numpy(), array) and images.labels is not None and images.labels.tolist() == [0, 1, 2, 1, 0]
    assert from_array("grey", array[:, 0]).channels == 1
    assert torch.equal(from_array("tensor", torch.from_numpy(array)).pixels, images.pixels)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64])
def test_every_channel_has_its_own_range(dtype: Any) -> None:
    ramp = np.linspace(0, 1, 600 * 4).reshape(600, 1, 2, 2)
    array = np.concatenate([ramp * 1000, 3000 + ramp * 20_000], axis=1).astype(dtype)
    images = from_array("two", array, value_range=([0, 3000], [1000, 23_000]))
    assert images.pixels.shape == (600, 2, 2, 2)
    assert (images.pixels[:, 0].int() - torch.from_numpy(np.rint(ramp[:, 0] * 255)).int()).abs().max() <= 1
    assert (images.pixels[:, 0].int() - images.pixels[:, 1].int()).abs().max() <= 1
    low, high = channel_range(array)
    assert low[0] == pytest.approx(5, abs=2) and high[1] == pytest.approx(22_900, abs=20)
    cut = from_array("two", array)
    assert cut.pixels.min() == 0 and cut.pixels.max() == 255, "what lies outside is cut off"


@pytest.mark.parametrize(
    ("array", "options", "said"),
    [
        (np.zeros((3, 4)), {}, r"an array of numbers N c height width .* not float64 \(3, 4\)"),
        (np.zeros((0, 1, 4, 4)), {}, "was wanted"),
        (np.array([["a"]]), {}, "was wanted"),
        (np.zeros((2, 64, 64, 13)), {}, r"looks as if channels came last: give array.transpose\(0, 3, 1, 2\)"),
        (np.full((2, 1, 4, 4), np.nan), {}, "not finite"),
        (np.ones((2, 3, 4, 4)), {}, r"channel\(s\) 0, 1, 2 have the same lowest and highest value"),
        (np.random.rand(2, 3, 4, 4), {"value_range": ([0], [1])}, r"has 3 channel\(s\), but the range is given for 1 and 1"),
        (np.zeros((2, 1, 4, 4), np.uint8), {"labels": [1]}, "labels are 2 integers from 0"),
        (np.zeros((2, 1, 4, 4), np.uint8), {"labels": [0, -1]}, "from -1"),
    ],
)
def test_what_is_refused(array: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_array("mine", array, **options)
