"""Whatever comes in, what the model sees is the same picture; and what cannot be a picture is refused in one clear line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import minimae
from minimae.data.augment import normalise
from minimae.data.images import Images
from minimae.data.pixels import as_pixels
from minimae.tasks.reconstruct import fit_to_model, reconstruct_batch, reconstruction_triplets
from minimae.weights.scikit import MAEFeatures

NANO = minimae.load("fashion-nano")
GREY = torch.randint(0, 256, (4, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
COLOUR = torch.randint(0, 256, (3, 3, 8, 12), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
INTEGERS = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)
FLOATS = (np.float16, np.float32, np.float64, np.longdouble, np.dtype(">f4"), np.dtype(">f8"))


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_integers_are_pixel_values_whatever_their_type(kind: torch.dtype) -> None:
    """int64 images gave 13.5 % where uint8 gave 75.5: they went in unscaled."""
    assert torch.equal(NANO.features(GREY.to(kind)), NANO.features(GREY))
    assert torch.equal(NANO.features(GREY.to(kind).numpy()), NANO.features(GREY))


@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_of_numpy(kind: Any) -> None:
    small = GREY % 128  # int8 holds no more
    assert torch.equal(as_pixels(small.numpy().astype(kind), 1), small)


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_floats_lie_in_0_to_1_whatever_their_type(kind: torch.dtype) -> None:
    given = (GREY.double() / 255).to(kind)
    found = NANO.features(given)
    assert found.dtype == torch.float32 and torch.equal(found, NANO.features(given.float()))


@pytest.mark.parametrize("kind", FLOATS)
def test_floats_of_numpy(kind: Any) -> None:
    given = GREY.numpy() / 255
    torch.testing.assert_close(NANO.features(given.astype(kind)), NANO.features(GREY), rtol=0, atol=2e-2)
    assert as_pixels(given.astype(kind), 1).dtype == torch.float32


def test_every_container_holds_the_same_pictures() -> None:
    pictures = [Image.fromarray(x.permute(1, 2, 0).numpy()) for x in COLOUR]
    lists: list[Any] = [list(COLOUR), list(COLOUR.numpy()), pictures, tuple(pictures), COLOUR.tolist()]
    for given in (COLOUR, COLOUR.numpy(), Images("x", COLOUR), *lists):
        assert torch.equal(as_pixels(given, 3), COLOUR), type(given)
    assert torch.equal(as_pixels(pictures[0], 3), COLOUR[:1]), "one PIL image is a batch of one"
    assert torch.equal(as_pixels(COLOUR.numpy()[:, :, ::-1], 3), COLOUR.flip(2)), "negative strides"
    assert torch.equal(as_pixels(np.ma.masked_array(COLOUR.numpy(), mask=False), 3), COLOUR), "a masked array that masks nothing"
    assert torch.equal(as_pixels(GREY[:, 0], 1), GREY), "grey images need no channel axis"


def test_pictures_become_what_the_model_takes() -> None:
    colour = Image.fromarray(COLOUR[0].permute(1, 2, 0).numpy())
    assert torch.equal(as_pixels(colour, 1)[0, 0], torch.from_numpy(np.array(colour.convert("L"))))
    grey = Image.fromarray(GREY[0, 0].numpy())
    assert torch.equal(as_pixels(grey, 3), GREY[:1].repeat(1, 3, 1, 1))
    upright = Image.fromarray(COLOUR[0].permute(1, 2, 0).numpy())
    upright.getexif()[274] = 6
    assert as_pixels(upright, 3).shape == (1, 3, 12, 8), "upright, as its EXIF says"
    with pytest.raises(ValueError, match="12 are expected"):
        as_pixels(grey, 12)
    with pytest.raises(ValueError, match=r"run from 0 to 65535: scale them"):
        as_pixels(Image.fromarray(np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)), 1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (GREY.float(), r"lie in \[0, 1\]; these run from 0 to 255: divide by 255"),
        (GREY.double().numpy(), "divide by 255"),
        (GREY.float() / 127.5 - 1, "run from -1 to 1: do not normalise them first"),
        (torch.full((2, 1, 28, 28), 1.01), "run from 1.01 to 1.01"),
        (GREY.long() * 16, r"0 … 255; these int64 run from 0 to 4080: scale them"),
        (GREY.long() - 1, "run from -1 to 254"),
        (torch.where(GREY == 7, torch.nan, GREY / 255), "images hold NaN: fill or leave them out"),
        (torch.full((1, 1, 28, 28), torch.inf), "run from inf to inf"),
        (GREY > 127, "not bool"),
        ((GREY > 127).numpy(), "an array of bool"),
        (GREY + 0j, "not complex64"),
        (np.array(["cat"]), "an array of <U3"),
        ("cat.jpg", "'cat.jpg'"),
        (None, "None"),
        (np.ma.masked_equal(GREY.numpy(), 7), "values of this masked array are masked: fill them"),
        ([np.ma.masked_equal(x, 7) for x in GREY.numpy()], "masked array are masked"),
        (GREY[0], None),
        (GREY[0, 0], r"batch and channel axis are missing; add them: images\[None, None\]"),
        (GREY.permute(0, 2, 3, 1), "channels come last; move them: images.permute"),
        (COLOUR, r"shape N 1 height width are expected, not \(3, 3, 8, 12\): convert the images to channels=1"),
        (GREY[:0], "it is empty"),
        ([GREY[0], GREY[1, :, :20]], "must have one size and type"),
        ([[1, 2], [3]], "must form one array"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(given: Any, said: str | None) -> None:
    if said is None:  # one grey image c h w reads as N h w: the same tensor
        assert torch.equal(NANO.features(given), NANO.features(GREY[:1]))
        return
    for entrance in (NANO.features, lambda x: reconstruct_batch(NANO, x), lambda x: fit_to_model(x, NANO)):
        with pytest.raises(ValueError, match=said) as caught:
            entrance(given)
        assert "\n" not in str(caught.value)


def test_one_colour_image_without_a_batch_axis() -> None:
    for given, said in ((COLOUR[0], r"add it: images\[None\]"), (COLOUR[0].permute(1, 2, 0), "come last and the batch axis is missing")):
        with pytest.raises(ValueError, match=said):
            as_pixels(given, 3)


@pytest.mark.parametrize("kind", ["int64", "float64", "list", "pictures"])
def test_a_step_of_scikit_learn_takes_the_same(kind: str) -> None:
    plain = GREY[:, 0].numpy()
    given = {"int64": plain.astype(np.int64), "float64": plain / 255, "list": list(plain), "pictures": [Image.fromarray(x) for x in plain]}
    found = MAEFeatures().fit_transform(given[kind])
    np.testing.assert_allclose(found, NANO.features(GREY).numpy(), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="masked"):
        MAEFeatures().fit(np.ma.masked_equal(plain, 7))


def test_reconstructions_take_the_same() -> None:
    mask = minimae.make_mask(torch.arange(4), (7, 7))
    expected = reconstruction_triplets(NANO, GREY, mask)
    for given in (GREY.long(), GREY.double() / 255, GREY.numpy()):
        for one, other in zip(reconstruction_triplets(NANO, given, mask), expected, strict=True):
            for a, b in zip(one, other, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-4)
        assert torch.equal(fit_to_model(given, NANO), GREY)


def test_normalising_does_not_guess_the_range_of_integers() -> None:
    with pytest.raises(ValueError, match="not torch.int64"):
        normalise(GREY.long(), NANO.statistics)
