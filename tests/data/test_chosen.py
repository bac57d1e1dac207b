"""Choosing images by places and by booleans; lists that hold masked arrays or pictures; sides and limits of another type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import minimae
from minimae.data import Images, from_array, load
from minimae.data.pixels import as_pixels

BYTES = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
WHICH = torch.tensor([False, True, False, True, True, False])


@pytest.mark.parametrize("given", [WHICH, WHICH.numpy(), WHICH.tolist(), [1, 3, 4], (1, 3, -2), np.array([1, 3, 4], dtype=np.int32)])
def test_a_mask_chooses_the_images_for_which_it_is_true(given: Any) -> None:
    images = Images("x", torch.from_numpy(BYTES)[:, None], torch.arange(6))
    chosen = images.subset(given)
    assert chosen.labels is not None
    assert chosen.labels.tolist() == [1, 3, 4]
    assert torch.equal(chosen.pixels, images.pixels[WHICH])
    assert load("shapes", "test", limit=6).subset(given).semantic.shape == (3, 64, 64)  # type: ignore[attr-defined]


def test_a_mask_chooses_from_files(tmp_path: Path) -> None:
    for i, pixels in enumerate(BYTES):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    images = minimae.data.stream.open_folder(tmp_path)
    assert images.subset(WHICH).ids.tolist() == [1, 3, 4]  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [[0.0, 1.7], WHICH[:5], [6], [-7], 3, [[0, 1]]])
def test_what_chooses_no_images_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="6"):
        Images("x", torch.from_numpy(BYTES)[:, None]).subset(given)


def test_masked_values_in_a_list_are_refused() -> None:
    with pytest.raises(ValueError, match="masked values"):
        from_array("x", [np.ma.array(x, mask=x > 250) for x in BYTES])


def test_pictures_become_what_they_show_not_numbers_of_a_palette() -> None:
    colour = [Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)).convert("P") for i in range(3)]
    wanted = np.stack([np.asarray(x.convert("RGB")) for x in colour])
    assert np.array_equal(from_array("x", colour).pixels.permute(0, 2, 3, 1).numpy(), wanted)
    assert np.array_equal(from_array("x", [Image.fromarray(x) for x in BYTES]).pixels[:, 0].numpy(), BYTES)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_tensors_of_a_model_are_arrays_too(kind: torch.dtype) -> None:
    given = torch.from_numpy(BYTES).to(kind).requires_grad_()
    assert np.array_equal(from_array("x", given, value_range=(0, 255)).pixels[:, 0].numpy(), BYTES)


@pytest.mark.parametrize("value_range", [([1], [0]), [0, 1, 2], ([float("nan")], [1]), "ab", 7])
def test_a_range_that_is_none_is_named(value_range: Any) -> None:
    with pytest.raises(ValueError, match="value_range is"):
        from_array("x", BYTES / 255, value_range=value_range)


@pytest.mark.parametrize("classes", ["ab", ("a", "a")])
def test_names_of_classes_are_a_list_of_different_names(classes: Any) -> None:
    with pytest.raises(ValueError, match="classes are the names"):
        from_array("x", BYTES, [0, 1] * 3, classes)


@pytest.mark.parametrize("kind", [torch.uint16, torch.uint32, torch.uint64])
def test_unsigned_integers_are_pixel_values(kind: torch.dtype) -> None:
    assert torch.equal(as_pixels(torch.from_numpy(BYTES).to(kind), 1)[:, 0], torch.from_numpy(BYTES))


@pytest.mark.parametrize("sides", ["64", 14.0, (1, 2, 3), (32,), True])
def test_sides_are_whole_numbers(sides: Any) -> None:
    with pytest.raises(ValueError, match="whole number of pixels, or a pair"):
        load("fashion", "test", limit=2, image=sides)
    with pytest.raises(ValueError, match="whole number of pixels, or a pair"):
        minimae.MAE("nano", image=sides, patch=2)


def test_scenes_that_are_cut_have_no_masks_of_the_whole_scene() -> None:
    images = load("shapes", "test", limit=2, image=(48, 64))
    assert images.image == (48, 64)
    assert not hasattr(images, "semantic")
    assert load("shapes", "test", limit=2, image=48).semantic.shape == (2, 48, 48)  # type: ignore[attr-defined]


def test_an_array_of_pictures_is_a_list_of_them() -> None:
    column = np.empty(6, dtype=object)
    column[:] = [Image.fromarray(x) for x in BYTES]
    assert torch.equal(as_pixels(column, 1)[:, 0], torch.from_numpy(BYTES))


def test_signed_bytes_are_refused_rather_than_read_as_large_values(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", BYTES[0].view(np.int8))
    with pytest.raises(ValueError, match="signed bytes"):
        load(tmp_path)
