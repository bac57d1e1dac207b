"""Photographs come from the libraries' own files, crops have addresses, and no pixel is both trained and tested on."""

import numpy as np
import pytest
import torch
from PIL import Image

from minimae.data import load, optional
from minimae.data.photos import PHOTOGRAPHS, photograph, photos, region, squares


def test_photographs_are_those_of_the_libraries():
    import skimage.data
    from sklearn.datasets import load_sample_image

    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        np.testing.assert_array_equal(photograph(name), getattr(skimage.data, name)())
    np.testing.assert_array_equal(photograph("motorcycle"), skimage.data.stereo_motorcycle()[0])
    for name in ("china", "flower"):
        np.testing.assert_array_equal(photograph(name), load_sample_image(f"{name}.jpg"))


@pytest.mark.parametrize("image", [32, 96, 224])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_no_pixel_is_in_a_training_crop_and_in_a_test_crop(name, image):
    height, width = photograph(name).shape[:2]
    touched = {}
    for split in ("train", "test"):
        seen = touched[split] = np.zeros((height, width), bool)
        part = region(name, split, height, width)
        for top, left, side in squares(torch.arange(2000), part, image).tolist():
            assert top >= 0 and left >= 0 and top + side <= height and left + side <= width
            seen[top : top + side, left : left + side] = True
        top, left, tall, wide = part
        assert seen[top : top + tall, left : left + wide].mean() > 0.95 and seen.sum() <= tall * wide
    assert not (touched["train"] & touched["test"]).any()


def test_the_test_pixels_do_not_leak_into_training_crops_through_the_resize(monkeypatch):
    """Blacken what is held out: every training crop stays as it was."""
    before = photos(image=32, count=70).pixels

    def blackened(name):
        whole = photograph(name).clone()
        top, left, height, width = region(name, "test", *whole.shape[:2])
        whole[top : top + height, left : left + width] = 0
        return whole

    monkeypatch.setattr("minimae.data.photos.photograph", blackened)
    assert torch.equal(photos(image=32, count=70).pixels, before)


def test_crops_are_a_function_of_the_sample_id():
    few, more = photos("test", image=32, count=20), photos("test", image=32, count=50)
    assert torch.equal(few.pixels, more.pixels[:20]) and torch.equal(few.ids, more.ids[:20])
    assert not torch.equal(photos("test", image=32, count=20, seed=1).pixels, few.pixels)
    assert not set(few.ids.tolist()) & set(photos(image=32, count=20).ids.tolist())


def test_a_crop_is_the_resized_square_it_is_said_to_be():
    images = photos(image=48, count=14)
    whole = Image.fromarray(photograph("chelsea").numpy())
    part = region("chelsea", "train", whole.height, whole.width)
    for place in (1, 8):
        ((top, left, side),) = squares(images.ids[[place]], part, 48).tolist()
        square = whole.crop((left, top, left + side, top + side)).resize((48, 48), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(images.pixels[place].permute(1, 2, 0), np.asarray(square))
        assert images.classes[images.labels[place]] == "chelsea"


def test_crops_have_many_scales_and_photographs_come_in_turn():
    side = squares(torch.arange(1000), (0, 0, 300, 400), 96)[:, 2]
    assert side.min() == 96 and side.max() == 300 and side.unique().numel() > 150
    images = load("photos", limit=700, image=24)
    assert images.labels.bincount().tolist() == [100] * 7 and images.pixels.shape == (700, 3, 24, 24)


def test_what_is_not_known_or_not_there_is_said(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="unknown photograph 'dog'; known: astronaut"):
        photograph("dog")
    with pytest.raises(ValueError, match="train, test, not 'val'"):
        photos("val")
    monkeypatch.setattr("minimae.data.photos.folder_of", lambda *_, **__: tmp_path)
    with pytest.raises(FileNotFoundError, match="china.jpg"):
        photograph("china")


def test_a_missing_library_gives_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(optional.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r'scikit-image.*pip install "minimae\[book\]"'):
        photograph("coffee")
    with pytest.raises(ImportError, match="pip install no_such_library"):
        optional.need("no_such_library.part", why="this")
