"""RandAugment is timm's, seeded for each image; erasing is timm's draw for draw. Both are functions of (seed, epoch, sample id)."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import timm.data.auto_augment as timm_auto
import timm.data.random_erasing as timm_erasing
import torch
from PIL import Image

from minimae.data.mixing import RECTANGLES, erase, rectangles
from minimae.data.randaugment import RandAugment, mean_colour
from minimae.random import seeded, uniforms

FILL = (124, 116, 104)
G = torch.Generator().manual_seed(0)
PIXELS = (torch.rand(64, 1, 1, 3, generator=G) * 150 + torch.rand(64, 16, 20, 3, generator=G) * 105).byte()  # not all values occur
IDS = torch.arange(100, 164)
EPOCHS = torch.arange(64) % 3
RANDAUGMENT = RandAugment((9.0, 0.5), seed=5, fill=FILL)


def test_it_is_what_timm_makes_with_the_same_seed() -> None:
    hparams = {"translate_const": int(16 * 0.45), "img_mean": FILL, "interpolation": Image.Resampling.BICUBIC}
    theirs = timm_auto.rand_augment_transform("rand-m9-mstd0.5-inc1", hparams)
    ours, same = RANDAUGMENT(PIXELS, IDS, EPOCHS), 0
    for image, sample, epoch, found in zip(PIXELS, IDS.tolist(), EPOCHS.tolist(), ours, strict=True):
        with seeded(5, epoch, sample, stream="randaugment"):
            same += np.array_equal(np.asarray(theirs(Image.fromarray(image.numpy()))), found.numpy())
    assert same >= 62  # a magnitude of 10, which is one draw in 45, becomes 9.9999
    share = float((ours != PIXELS).flatten(1).any(1).float().mean())
    assert share == pytest.approx(0.75, abs=0.15)  # two operations, each with probability one half


def test_a_magnitude_of_ten_is_possible() -> None:
    """timm would let posterize keep no bit, which Pillow refuses."""
    assert RandAugment((10.0, 0.0), seed=0, fill=FILL)(PIXELS, IDS, EPOCHS).shape == PIXELS.shape


def test_an_image_looks_the_same_in_every_batch_and_another_in_every_epoch() -> None:
    whole = RANDAUGMENT(PIXELS, IDS, EPOCHS)
    assert whole.dtype == torch.uint8 and torch.equal(RANDAUGMENT(PIXELS[5:9], IDS[5:9], EPOCHS[5:9]), whole[5:9])
    assert not torch.equal(RANDAUGMENT(PIXELS, IDS, EPOCHS + 1), whole)
    images = PIXELS.movedim(-1, 1) / 255
    erased = erase(images, IDS, 0.5, seed=1, epoch=3)
    assert torch.equal(erase(images[5:9], IDS[5:9], 0.5, seed=1, epoch=3), erased[5:9])


def test_grey_images_and_other_numbers_of_channels() -> None:
    assert RandAugment((9.0, 0.5), seed=0, fill=FILL[:1])(PIXELS[..., :1], IDS, EPOCHS).shape == (64, 16, 20, 1)
    with pytest.raises(ValueError, match="1 or 3 channels, not 4"):
        RandAugment((9.0, 0.5), seed=0, fill=(0,) * 4)
    with pytest.raises(ValueError, match=r"whole number from 0 to 10, not 9\.5"):
        RandAugment((9.5, 0.5), seed=0, fill=FILL)


def test_without_timm_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm.data.auto_augment", None)
    with pytest.raises(ImportError, match=r'RandAugment needs timm.*pip install "minimae\[finetune\]"'):
        RandAugment((8.0, 0.25), seed=0, fill=FILL)


def test_pixels_from_beyond_the_edges_have_the_mean_colour() -> None:
    assert mean_colour((torch.tensor([0.485, 0.456, 0.406]), torch.ones(3))) == FILL


def test_a_flip_may_come_before_or_after() -> None:
    """The two directions of every operation are equally likely, so only the order of the random numbers differs."""
    theirs = timm_auto.rand_augment_transform("rand-m9-mstd0.5-inc1", {"img_mean": FILL})
    directed = [op.level_fn for op in theirs.ops if op.level_fn and op.name.startswith(("Rotate", "Shear", "Translate"))]
    assert len(directed) == 5
    for level in directed:
        with seeded(0, 0, 0):
            signs = [level(9.0, {"translate_const": 10})[0] > 0 for _ in range(400)]
        assert 150 < sum(signs) < 250


# --- erasing ----------------------------------------------------------------------------------------------------------


class Drawn:
    """Python's random numbers for timm, out of ours: one row of four for each try."""

    def __init__(self, tries: list[list[float]], happens: float) -> None:
        self.happens, self.tries, self.numbers = happens, iter(tries), iter([])

    def random(self) -> float:
        return self.happens

    def uniform(self, low: float, high: float) -> float:
        if low > 0:  # the area comes first in each try
            self.numbers = iter(next(self.tries))
        return low + next(self.numbers) * (high - low)

    def randint(self, low: int, high: int) -> int:
        return low + int(next(self.numbers) * (high - low + 1))


@pytest.mark.parametrize("size", [(32, 32), (16, 120), (24, 40)])
def test_with_the_same_draws_what_is_erased_is_what_timm_erases(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    ids, images = torch.arange(400), torch.zeros(400, 2, *size)
    ours = erase(images, ids, 0.25, seed=3, epoch=2) != 0
    theirs = timm_erasing.RandomErasing(0.25, mode="pixel", max_count=1, device="cpu")
    tries = uniforms(3, "erase", 2, ids, 4 * RECTANGLES).double().unflatten(1, (RECTANGLES, 4)).tolist()
    happens = uniforms(3, "erased", 2, ids, 2)[:, 0].tolist()
    for i in range(400):
        monkeypatch.setattr(timm_erasing, "random", Drawn(tries[i], happens[i]))
        assert torch.equal(theirs(torch.zeros(2, *size)) != 0, ours[i]), i
    assert 70 < int(ours.flatten(1).any(1).sum()) < 130


def test_noise_is_normal_and_images_stay_as_they_are() -> None:
    images, ids = torch.zeros(800, 1, 32, 32), torch.arange(800)
    noise = erase(images, ids, 1.0, seed=0, epoch=0)
    noise = noise[noise != 0]
    assert float(noise.mean()) == pytest.approx(0, abs=0.02) and float(noise.std()) == pytest.approx(1, abs=0.02)
    assert not images.any() and not erase(images, ids, 0.0, seed=0, epoch=0).any()


def test_a_rectangle_that_never_fits_is_none_at_all() -> None:
    """A strip of one row: every rectangle is as high as the image, and the whole image is not erased instead."""
    assert not rectangles(torch.arange(50), 1, 40, seed=0, epoch=0).any()
    assert not erase(torch.zeros(50, 1, 1, 40), torch.arange(50), 1.0, seed=0, epoch=0).any()
