"""Crops and flips: equal to torchvision's, and functions of (seed, epoch, sample id)."""

import pytest
import torch
from torchvision import transforms as v1
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from minimae.data.augment import EVALUATION, Augmentation, augment, crop_boxes, middle_boxes, normalise, resize_matrix
from minimae.devices import wide

SQUARE = [[11, 0, 17, 13], [3, 0, 24, 27], [1, 13, 20, 15], [0, 6, 28, 21], [1, 2, 22, 21]]
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


@pytest.mark.parametrize("size", [(100, 500), (500, 100), (32, 96), (90, 91), (7, 640), (64, 64)])
@pytest.mark.parametrize("scale", [(0.2, 1.0), (0.08, 1.0), (0.8, 1.0)])
def test_crops_of_long_images_have_the_distribution_of_random_resized_crop(size: tuple[int, int], scale: tuple[float, float]) -> None:
    """After ten misses torchvision takes the largest part in the middle whose aspect is allowed, and never squeezes the whole image."""
    count, image = 3000, torch.empty(3, 1, 1).expand(3, *size)
    boxes = crop_boxes(torch.arange(count), size, Augmentation(scale=scale), seed=0, epoch=0)
    torch.manual_seed(0)
    theirs = torch.tensor([v1.RandomResizedCrop.get_params(image, list(scale), [3 / 4, 4 / 3]) for _ in range(count)]).float()
    for column in range(4):
        for q in (0.1, 0.25, 0.5, 0.75, 0.9):
            slack = 1.5 + 0.05 * max(size)
            assert float(boxes[:, column].quantile(q)) == pytest.approx(float(theirs[:, column].quantile(q)), abs=slack)
    whole = torch.tensor([0.0, 0.0, *size])
    taken, wanted = ((b == whole).all(1).float().mean() for b in (boxes, theirs))
    assert float(taken) == pytest.approx(float(wanted), abs=0.04)
    middle = theirs.mode(0).values  # what is taken after ten misses is the commonest box by far, if misses are common
    assert float((boxes == middle).all(1).float().mean()) == pytest.approx(float((theirs == middle).all(1).float().mean()), abs=0.05)


def test_square_images_keep_their_crops() -> None:
    """To the bit: recorded runs depend on them."""
    boxes = crop_boxes(torch.arange(5), (28, 28), Augmentation(), seed=7, epoch=3)
    assert boxes.tolist() == SQUARE
    assert torch.equal(boxes, crop_boxes(torch.arange(5), (28, 28), Augmentation(), seed=7, epoch=3, size=(28, 28)))


@pytest.mark.parametrize("image", [(224, 224), (32, 32), (96, 96), (28, 28), (63, 63)])
def test_the_middle_is_cut_as_torchvision_cuts_it(image: tuple[int, int]) -> None:
    """Resize and CenterCrop, whose resized image and corner are whole pixels, also where a long side is odd."""
    for height, width in ((375, 500), (500, 333), (256, 385), (385, 256), (257, 511), (1000, 301), (300, 300)):
        short = round(image[0] / EVALUATION)
        resized = F.resize(torch.empty(1, height, width), [short]).shape[-2:]
        marked = torch.arange(resized[0] * resized[1]).view(1, *resized)
        first = int(F.center_crop(marked, list(image))[0, 0, 0])
        corner = divmod(first, resized[1])
        box = middle_boxes(torch.tensor([[height, width]]), image, share=EVALUATION)[0]
        step = torch.tensor([height / resized[0], width / resized[1]])
        assert torch.allclose(box, torch.cat([torch.tensor(corner) * step, torch.tensor(image) * step]), rtol=1e-5)


def test_the_middle_of_an_image_that_is_no_larger_is_all_of_it() -> None:
    sizes = torch.tensor([[32, 96], [16, 48], [32, 200], [20, 20]])
    boxes = middle_boxes(sizes, (32, 96), share=EVALUATION)
    # The last: 96 × 96 pixels after resizing, of which rows 32 to 63 are shown.
    assert boxes.tolist() == [[0, 0, 32, 96], [0, 0, 16, 48], [0, 52, 32, 96], pytest.approx([20 / 3, 0, 20 / 3, 20])]


@pytest.mark.parametrize("how", [Augmentation(scale=None, flip=False), Augmentation(fixed=0.75, flip=False)])
def test_what_is_resized_to_another_shape_is_cut_and_not_squeezed(how: Augmentation) -> None:
    """The slope of a ramp tells the scale: it is the same along rows and columns."""
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(100.0), indexing="ij")
    pixels = torch.stack([y, x])[None].byte()
    out = augment(pixels, torch.tensor([3]), how, seed=0, epoch=0, size=(16, 48))[0] * 255
    down, across = out[0, 9, 20] - out[0, 5, 20], out[1, 8, 28] - out[1, 8, 24]
    assert float(down) == pytest.approx(float(across), abs=0.6)


def test_an_image_gets_the_same_crop_in_every_batch_and_another_in_every_epoch() -> None:
    pixels, ids, how = picture(count=12), torch.arange(100, 112), Augmentation()
    whole = augment(pixels, ids, how, seed=1, epoch=3)
    assert torch.allclose(augment(pixels[5:7], ids[5:7], how, seed=1, epoch=3), whole[5:7], atol=1e-6)
    assert not torch.allclose(augment(pixels, ids, how, seed=1, epoch=4), whole)
    assert not torch.allclose(augment(pixels, ids, how, seed=2, epoch=3), whole)


def test_a_device_without_float64_gets_the_same_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wide(torch.device("mps")) == torch.float32 and wide(torch.device("cpu")) == torch.float64
    sizes = torch.tensor([[375, 500], [500, 333], [257, 511], [20, 20]])
    boxes = middle_boxes(sizes, (224, 224), share=EVALUATION)
    monkeypatch.setattr("minimae.data.augment.wide", lambda device: torch.float32)
    assert torch.allclose(middle_boxes(sizes, (224, 224), share=EVALUATION), boxes, rtol=1e-6)


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
