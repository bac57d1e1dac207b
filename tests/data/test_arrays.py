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
    images = from_array("two", array, value_range=([0, 3000], [1000, 23_000]), channels="first")
    assert images.pixels.shape == (600, 2, 2, 2)
    assert (images.pixels[:, 0].int() - torch.from_numpy(np.rint(ramp[:, 0] * 255)).int()).abs().max() <= 1
    assert (images.pixels[:, 0].int() - images.pixels[:, 1].int()).abs().max() <= 1
    low, high = channel_range(array, channels="first")
    assert low[0] == pytest.approx(5, abs=2) and high[1] == pytest.approx(22_900, abs=20)
    cut = from_array("two", array, channels="first")
    assert cut.pixels.min() == 0 and cut.pixels.max() == 255, "what lies outside is cut off"


@pytest.mark.parametrize(
    ("array", "options", "said"),
    [
        (np.zeros((3, 4)), {}, r"an array of numbers N c height width .* not float64 \(3, 4\)"),
        (np.zeros((0, 1, 4, 4)), {}, "is expected"),
        (np.array([["a"]]), {}, "is expected"),
        (np.zeros((2, 64, 64, 13)), {}, r"is 64 channels of 64×13 pixels, or 13 channels of 64×64: say which"),
        (np.zeros((50, 200, 9, 9)), {}, r"is 200 channels of 9×9 pixels, or 9 channels of 200×9"),
        (np.zeros((20, 32, 32, 12)), {}, r"12 channels of 32×32: say which"),
        (np.zeros((5, 13, 32, 48)), {}, "say which"),
        (np.zeros((5, 3, 3, 200)), {}, "say which"),
        (np.zeros((5, 64, 64, 3)), {}, "say which"),
        (np.zeros((5, 3, 3, 3)), {}, "say which"),
        (np.zeros((64, 64, 3)), {}, r"64 grey images of 64×3 pixels: for one image add the axis N, array\[None\]"),
        (np.zeros((3, 64, 64)), {"channels": "first"}, "for one image add the axis N"),
        (np.zeros((5, 3, 8, 8)), {"channels": 3}, "channels are 'first'"),
        (np.zeros((5, 3, 8, 8), bool), {}, "an array of numbers"),
        (np.full((2, 1, 4, 4), np.nan), {}, "not finite"),
        (np.ones((2, 3, 4, 4)), {}, r"leave out the constant channels: 0, 1, 2"),
        (np.random.rand(2, 3, 4, 4), {"value_range": ([0], [1])}, r"has channels=3, but the range is given for 1 and 1"),
        (np.zeros((2, 1, 4, 4), np.uint8), {"labels": [1]}, "labels are 2 integers from 0"),
        (np.zeros((2, 1, 4, 4), np.uint8), {"labels": [0, -1]}, "label -1 .image 1. is negative"),
    ],
)
def test_what_is_refused(array: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_array("mine", array, **options)


@pytest.mark.parametrize("shape", [(50, 200, 9, 9), (20, 12, 32, 32), (5, 3, 3, 200), (7, 3, 24, 24), (4, 13, 32, 48)])
def test_the_argument_decides_where_the_channels_are(shape: tuple[int, ...]) -> None:
    first = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    last = np.ascontiguousarray(first.transpose(0, 2, 3, 1))
    a, b = from_array("a", first, channels="first"), from_array("b", last, channels="last")
    assert torch.equal(a.pixels, b.pixels) and np.array_equal(a.pixels.numpy(), first)
    assert channel_range(first, channels="first") == channel_range(last, channels="last")
    wide = from_array("wide", last.astype(np.float32), channels="last")
    assert wide.channels == shape[1] and wide.image == shape[2:]


@pytest.mark.parametrize("shape", [(5, 1, 28, 28), (5, 3, 32, 96), (5, 4, 8, 8), (5, 3, 4, 4), (5, 28, 28)])
def test_usual_images_need_no_argument(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert from_array("a", array).pixels.shape == (5, *((1,) if len(shape) == 3 else ()), *shape[1:])
