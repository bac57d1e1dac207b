"""Colour jitter equals torchvision's adjustments; crops of a fixed size; both are functions of (seed, epoch, sample id)."""

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from minimae.data.augment import Augmentation, augment, crop_boxes, jitter, turn_hue
from minimae.random import uniforms

IMAGES = torch.rand(8, 3, 9, 11, generator=torch.Generator().manual_seed(0))
IDS = torch.arange(50, 58)


@pytest.mark.parametrize("turn", [-0.5, -0.21, 0.0, 0.1, 0.37])
def test_turning_the_hue_equals_torchvisions(turn: float) -> None:
    assert torch.allclose(turn_hue(IMAGES, torch.full((8, 1, 1), turn)), F.adjust_hue(IMAGES, turn), atol=2e-5)
    grey = torch.full((1, 3, 2, 2), 0.4)
    assert torch.allclose(turn_hue(grey, torch.full((1, 1, 1), turn)), grey)


def test_jitter_equals_torchvisions_four_adjustments_one_after_the_other() -> None:
    ours, u = jitter(IMAGES, IDS, 0.4, seed=2, epoch=1), 2 * uniforms(2, "jitter", 1, IDS, 4) - 1
    for image, found, (a, b, c, d) in zip(IMAGES, ours, u.tolist()):
        theirs = F.adjust_saturation(F.adjust_contrast(F.adjust_brightness(image, 1 + 0.4 * a), 1 + 0.4 * b), 1 + 0.4 * c)
        assert torch.allclose(found, F.adjust_hue(theirs, 0.1 * d), atol=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_an_image_is_recoloured_alike_in_every_batch_and_otherwise_in_every_epoch(channels: int) -> None:
    images = IMAGES[:, :channels]
    whole = jitter(images, IDS, 0.4, seed=0, epoch=0)
    assert torch.equal(jitter(images[2:4], IDS[2:4], 0.4, seed=0, epoch=0), whole[2:4])
    assert not torch.equal(jitter(images, IDS, 0.4, seed=0, epoch=1), whole)
    assert float(whole.min()) >= 0 and float(whole.max()) <= 1


def test_no_strength_changes_nothing_and_too_much_is_refused() -> None:
    assert torch.allclose(jitter(IMAGES, IDS, 0.0, seed=0, epoch=0), IMAGES, atol=1e-6)
    with pytest.raises(ValueError, match="between 0 .off. and 1"):
        Augmentation(jitter=1.5)


def test_crops_of_a_fixed_size_are_squares_anywhere() -> None:
    ids = torch.arange(3000)
    boxes = crop_boxes(ids, (64, 80), Augmentation(fixed=0.875), seed=0, epoch=0)
    assert set(boxes[:, 2].tolist()) == set(boxes[:, 3].tolist()) == {56.0}
    assert set(boxes[:, 0].tolist()) == set(range(9)) and set(boxes[:, 1].tolist()) == set(range(25))
    pixels = (255 * IMAGES).byte()
    out = augment(pixels, IDS, Augmentation(fixed=1 / 3, flip=False, scale=None), seed=1, epoch=0, size=(3, 3))
    boxes = crop_boxes(IDS, (9, 11), Augmentation(fixed=1 / 3), seed=1, epoch=0).int()
    for image, found, (top, left, tall, wide) in zip(pixels, out, boxes):
        assert torch.allclose(found, image[:, top : top + tall, left : left + wide] / 255, atol=1e-5)
    with pytest.raises(ValueError, match="crop of fixed size"):
        Augmentation(fixed=0.0)
