"""Crops and flips: equal to torchvision's, and functions of (seed, epoch, sample id)."""

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from minimae.augment import Augmentation, augment, crop_boxes, normalise, resize_matrix

GEN = torch.Generator().manual_seed(0)


def picture(height: int = 37, width: int = 52, count: int = 6, channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, height, width), generator=GEN, dtype=torch.uint8)


@pytest.mark.parametrize("size", [(37, 52), (20, 20), (64, 48)])
def test_crop_and_resize_equal_torchvisions_antialiased_bicubic(size: tuple[int, int]) -> None:
    pixels, ids, how = picture(), torch.arange(6), Augmentation(flip=False)
    ours = augment(pixels, ids, how, seed=5, epoch=2, size=size)
    for i, box in enumerate(crop_boxes(ids, (37, 52), how, seed=5, epoch=2).long().tolist()):
        theirs = F.resized_crop(pixels[i].float() / 255, *box, size, interpolation=v2.InterpolationMode.BICUBIC, antialias=True)
        assert torch.allclose(ours[i], theirs.clamp(0, 1), atol=2e-5)


def test_crop_boxes_follow_the_distribution_of_random_resized_crop() -> None:
    ids = torch.arange(4000)
    boxes = crop_boxes(ids, (64, 64), Augmentation(), seed=0, epoch=0)
    torch.manual_seed(0)
    crop, image = v2.RandomResizedCrop(64, scale=(0.2, 1.0)), torch.empty(3, 64, 64)
    theirs = [crop.make_params([image]) for _ in ids]
    area, their_area = boxes[:, 2] * boxes[:, 3] / 4096, torch.tensor([p["height"] * p["width"] / 4096 for p in theirs])
    for q in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert float(area.quantile(q)) == pytest.approx(float(their_area.quantile(q)), abs=0.03)
    assert bool((boxes[:, :2] >= 0).all()) and bool((boxes[:, :2] + boxes[:, 2:] <= 64).all())


def test_an_image_gets_the_same_crop_in_every_batch_and_another_in_every_epoch() -> None:
    pixels, ids, how = picture(count=12), torch.arange(100, 112), Augmentation()
    whole = augment(pixels, ids, how, seed=1, epoch=3)
    assert torch.allclose(augment(pixels[5:7], ids[5:7], how, seed=1, epoch=3), whole[5:7], atol=1e-6)
    assert not torch.allclose(augment(pixels, ids, how, seed=1, epoch=4), whole)
    assert not torch.allclose(augment(pixels, ids, how, seed=2, epoch=3), whole)


def test_no_augmentation_changes_no_pixel() -> None:
    pixels = picture()
    assert torch.equal(augment(pixels, torch.arange(6), Augmentation(scale=None, flip=False), seed=0, epoch=0), pixels.float() / 255)


def test_about_half_of_the_images_are_flipped() -> None:
    pixels = picture(4, 4, count=1000)
    out = augment(pixels, torch.arange(1000), Augmentation(scale=None), seed=0, epoch=0)
    turned = [torch.equal(a, b.flip(-1)) for a, b in zip(out, pixels.float() / 255, strict=True)]
    assert 430 < sum(turned) < 570


def test_resize_rows_sum_to_one() -> None:
    weight = resize_matrix(torch.tensor([3.0, 0.0]), torch.tensor([10.0, 37.0]), 37, 16)
    assert torch.allclose(weight.sum(-1), torch.ones(2, 16)) and float(weight[0, :, :3].abs().max()) == 0


def test_normalised_images_have_mean_0_and_deviation_1() -> None:
    pixels = picture(count=50)
    x = pixels.float() / 255
    out = normalise(pixels, (x.mean((0, 2, 3)), x.std((0, 2, 3))))
    assert torch.allclose(out.mean((0, 2, 3)), torch.zeros(3), atol=1e-4) and torch.allclose(out.std((0, 2, 3)), torch.ones(3), atol=1e-4)


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.5, 0.2), (0.5, 1.2)])
def test_impossible_scales_are_refused(scale: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="share of the area"):
        Augmentation(scale=scale)
