"""RandAugment and erasing are timm's, draw for draw and to the pixel, at an address that is the image's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import timm.data.auto_augment as timm_auto
import timm.data.random_erasing as timm_erasing
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from minimae.data.augment import flipped
from minimae.data.randaugment import (
    CHANCE,
    LAYERS,
    OPERATIONS,
    TRIES,
    Step,
    WorkerTransform,
    erase,
    mean_colour,
    operate,
    randaugment,
    rectangles,
)
from minimae.random import uniforms

FILL = (124, 116, 104)
G = torch.Generator().manual_seed(0)
PIXELS = (torch.rand(64, 3, 1, 1, generator=G) * 150 + torch.rand(64, 3, 16, 20, generator=G) * 105).byte()  # not all values occur
IDS = torch.arange(100, 164)
EPOCHS = torch.arange(64) % 3
HOW = (9.0, 0.5)
UNDIRECTED = ("AutoContrast", "Equalize", "Invert", "PosterizeIncreasing", "SolarizeIncreasing", "SolarizeAdd")
THEIRS = timm_auto.rand_augment_transform("rand-m9-mstd0.5-inc1", {"img_mean": FILL, "interpolation": Image.Resampling.BICUBIC})


def shown(pixels: torch.Tensor) -> Image.Image:
    array = pixels.movedim(0, -1).numpy()
    return Image.fromarray(array if array.shape[-1] == 3 else array[..., 0])


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_is_timms_at_every_magnitude(operation: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {name.lower(): name for name in timm_auto._RAND_INCREASING_TRANSFORMS}
    plain = operation.replace("_", "")
    theirs = next(names[key] for key in (plain, f"{plain}increasing", f"{plain}rel") if key in names)
    fill = FILL if mode == "RGB" else FILL[:1]
    changed = 0
    for image in PIXELS[:6]:
        picture = shown(image).convert(mode)
        for magnitude in (0.0, 0.4, 3.3, 8.7, 9.0, 9.4, 10.0):
            for sign in (1, -1):
                monkeypatch.setattr(timm_auto.random, "random", lambda sign=sign: 0.1 if sign > 0 else 0.9)
                level = timm_auto.LEVEL_TO_ARG[theirs]
                arguments = level(magnitude, {}) if level else ()
                if (operation, arguments) == ("posterize", (0,)):  # no bit is kept: black, but newer versions of Pillow refuse it
                    assert not np.asarray(operate(picture, Step(operation, magnitude, sign), fill)).any()
                    continue
                right = timm_auto.NAME_TO_OP[theirs](picture, *arguments, fillcolor=fill, resample=Image.Resampling.BICUBIC)
                found = operate(picture, Step(operation, magnitude, sign), fill)
                assert found.mode == mode and np.array_equal(np.asarray(found), np.asarray(right)), (magnitude, sign)
                changed += not np.array_equal(np.asarray(found), np.asarray(picture))
    assert changed > 40 or (operation, mode) == ("color", "L")


def test_they_are_the_fifteen_of_the_authors_drawn_alike() -> None:
    assert len(OPERATIONS) == len(set(OPERATIONS)) == len(THEIRS.ops) == 15
    assert THEIRS.num_layers == LAYERS and {op.prob for op in THEIRS.ops} == {CHANCE} and THEIRS.choice_weights is None
    assert {op.magnitude for op in THEIRS.ops} == {9} and {op.magnitude_std for op in THEIRS.ops} == {0.5}
    assert [op.name.lower().removesuffix("increasing").removesuffix("rel") for op in THEIRS.ops] == [o.replace("_", "") for o in OPERATIONS]


def test_with_the_same_draws_the_whole_is_timms_to_the_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    found = randaugment(PIXELS, IDS, HOW, seed=5, epoch=EPOCHS, fill=FILL)

    def posterize(image: Image.Image, bits: int) -> Image.Image:
        """As Pillow did it before it refused to keep no bit."""
        return image.point([value & ~(2 ** (8 - bits) - 1) for value in range(256)] * 3)

    monkeypatch.setattr(timm_auto.ImageOps, "posterize", posterize)
    u = uniforms(5, "randaugment", EPOCHS, IDS, 5 * LAYERS).double().unflatten(1, (LAYERS, 5))
    for image, numbers, ours in zip(PIXELS, u.tolist(), found):
        chosen = [THEIRS.ops[int(n[1] * 15)] for n in numbers]
        monkeypatch.setattr(timm_auto.np.random, "choice", lambda *_, chosen=chosen, **__: chosen)
        happens = [n[0] < CHANCE for n in numbers]
        # timm draws a number to decide whether an operation happens, and a second one if the operation has a direction
        drawn: list[float] = []
        for n, yes, op in zip(numbers, happens, chosen):
            drawn += [n[0]] + [n[4]] * (yes and op.name not in UNDIRECTED)
        asked = iter(drawn)
        normals = iter([math.sqrt(-2 * math.log(1 - n[2])) * math.cos(2 * math.pi * n[3]) for n, yes in zip(numbers, happens) if yes])
        monkeypatch.setattr(timm_auto.random, "random", lambda asked=asked: next(asked))
        monkeypatch.setattr(timm_auto.random, "gauss", lambda mean, std, normals=normals: mean + std * next(normals))
        assert np.array_equal(np.asarray(THEIRS(shown(image))), ours.movedim(0, -1).numpy())
    monkeypatch.undo()
    share = float((found != PIXELS).flatten(1).any(1).float().mean())
    assert share == pytest.approx(1 - CHANCE**LAYERS, abs=0.15)


def test_an_image_looks_the_same_in_every_batch_and_another_in_every_epoch() -> None:
    whole = randaugment(PIXELS, IDS, HOW, seed=1, epoch=3, fill=FILL)
    assert whole.dtype == torch.uint8 and whole.shape == PIXELS.shape
    assert torch.equal(randaugment(PIXELS[5:9], IDS[5:9], HOW, seed=1, epoch=3, fill=FILL), whole[5:9])
    assert torch.equal(randaugment(PIXELS, IDS, HOW, seed=1, epoch=torch.full((64,), 3), fill=FILL), whole)
    assert not torch.equal(randaugment(PIXELS, IDS, HOW, seed=1, epoch=4, fill=FILL), whole)
    erased = erase(PIXELS / 255, IDS, 0.5, seed=1, epoch=3)
    assert torch.equal(erase(PIXELS[5:9] / 255, IDS[5:9], 0.5, seed=1, epoch=3), erased[5:9])


class Read(Dataset):
    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, i: int) -> torch.Tensor:
        return randaugment(PIXELS[i : i + 1], IDS[i : i + 1], HOW, seed=1, epoch=3, fill=FILL)[0]


def test_workers_make_the_same_images() -> None:
    here = randaugment(PIXELS, IDS, HOW, seed=1, epoch=3, fill=FILL)
    assert torch.equal(torch.cat(list(DataLoader(Read(), batch_size=7, num_workers=2))), here)


def test_images_between_0_and_1_come_back_between_0_and_1() -> None:
    found = randaugment(PIXELS.float() / 255, IDS, HOW, seed=1, epoch=3, fill=FILL)
    assert torch.allclose(found, randaugment(PIXELS, IDS, HOW, seed=1, epoch=3, fill=FILL) / 255, atol=1e-6)
    grey = randaugment(PIXELS[:, :1], IDS, HOW, seed=1, epoch=3, fill=FILL[:1])
    assert grey.shape == (64, 1, 16, 20)
    with pytest.raises(ValueError, match="1 or 3 channels, not 4"):
        randaugment(torch.zeros(2, 4, 8, 8, dtype=torch.uint8), IDS[:2], HOW, seed=0, epoch=0, fill=FILL)


def test_what_comes_in_from_outside_has_the_mean_colour() -> None:
    assert mean_colour((torch.tensor([0.485, 0.456, 0.406]), torch.ones(3))) == FILL
    moved = operate(shown(PIXELS[0]), Step("translate_x", 10.0, 1), FILL)
    assert np.array_equal(np.asarray(moved)[:, -8:], np.broadcast_to(np.array(FILL, np.uint8), (16, 8, 3)))


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
    tries = uniforms(3, "erase", 2, ids, 4 * TRIES).double().unflatten(1, (TRIES, 4)).tolist()
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


def test_what_the_host_finishes_is_what_would_be_done_later() -> None:
    crops = PIXELS.movedim(1, -1)
    done = WorkerTransform(flip=True, how=HOW, seed=3, fill=FILL)(crops, IDS, EPOCHS)
    later = randaugment(flipped(PIXELS, IDS, seed=3, epoch=EPOCHS), IDS, HOW, seed=3, epoch=EPOCHS, fill=FILL)
    assert torch.equal(done, later.movedim(1, -1)) and done.is_contiguous()
    assert not torch.equal(done, crops)
