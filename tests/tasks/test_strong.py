"""RandAugment is torchvision's, at an address; erasing has the distribution of torchvision's."""

import pytest
import torch
from timm.data.auto_augment import rand_augment_transform
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from minimae.augment import flipped
from minimae.tasks.strong import CHANCE, LAYERS, LEVELS, Finish, addressed, erase, randaugment, randaugment_one

PIXELS = torch.randint(0, 256, (24, 3, 16, 20), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
IDS = torch.arange(100, 124)
EPOCHS = torch.arange(24) % 3


def test_an_image_looks_the_same_in_every_batch_and_another_in_every_epoch() -> None:
    whole = randaugment(PIXELS, IDS, (9.0, 0.5), seed=1, epoch=3)
    assert whole.dtype == torch.uint8 and whole.shape == PIXELS.shape
    assert torch.equal(randaugment(PIXELS[5:9], IDS[5:9], (9.0, 0.5), seed=1, epoch=3), whole[5:9])
    assert torch.equal(randaugment(PIXELS, IDS, (9.0, 0.5), seed=1, epoch=torch.full((24,), 3)), whole)
    assert not torch.equal(randaugment(PIXELS, IDS, (9.0, 0.5), seed=1, epoch=4), whole)
    erased = erase(PIXELS / 255, IDS, 0.5, seed=1, epoch=3)
    assert torch.equal(erase(PIXELS[5:9] / 255, IDS[5:9], 0.5, seed=1, epoch=3), erased[5:9])


def test_nobody_elses_random_numbers_move() -> None:
    torch.manual_seed(7)
    expected = torch.rand(5)
    torch.manual_seed(7)
    randaugment(PIXELS, IDS, (9.0, 0.5), seed=1, epoch=3)
    erase(PIXELS / 255, IDS, 1.0, seed=1, epoch=3)
    assert torch.equal(torch.rand(5), expected)


class Read(Dataset):
    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, i: int) -> torch.Tensor:
        return randaugment_one(PIXELS[i], 9.0, 0.5, seed=1, epoch=3, sample=int(IDS[i]))


def test_workers_make_the_same_images() -> None:
    here = randaugment(PIXELS, IDS, (9.0, 0.5), seed=1, epoch=3)
    there = torch.cat(list(DataLoader(Read(), batch_size=7, num_workers=2)))
    assert torch.equal(there, here)


def test_an_operation_is_torchvisions_at_the_magnitude_that_was_drawn() -> None:
    changed = 0
    for place in range(24):
        expected, sample = PIXELS[place], int(IDS[place])
        with addressed(5, "randaugment", 2, sample):
            for _ in range(LAYERS):
                magnitude = 6 + float(torch.randn(()))
                if float(torch.rand(())) < CHANCE:
                    level = min(max(round(magnitude * 10), 0), LEVELS)
                    how = v2.RandAugment(1, level, LEVELS + 1, v2.InterpolationMode.BILINEAR, fill=128)
                    expected = how(expected)
                    changed += 1
        found = randaugment_one(PIXELS[place], 6.0, 1.0, seed=5, epoch=2, sample=sample)
        assert torch.equal(found, expected)
    assert 10 < changed < 38


def test_the_chance_and_number_of_operations_are_those_of_the_authors_library() -> None:
    theirs = rand_augment_transform("rand-m9-mstd0.5-inc1", {})
    assert theirs.num_layers == LAYERS and {op.prob for op in theirs.ops} == {CHANCE}
    assert {op.magnitude for op in theirs.ops} == {9} and {op.magnitude_std for op in theirs.ops} == {0.5}


def test_images_between_0_and_1_come_back_between_0_and_1() -> None:
    found = randaugment(PIXELS.float() / 255, IDS, (9.0, 0.5), seed=1, epoch=3)
    assert torch.allclose(found, randaugment(PIXELS, IDS, (9.0, 0.5), seed=1, epoch=3) / 255, atol=1e-6)
    grey = randaugment(PIXELS[:, :1], IDS, (9.0, 0.5), seed=1, epoch=3)
    assert grey.shape == (24, 1, 16, 20)
    with pytest.raises(ValueError, match="1 or 3 channels, not 4"):
        randaugment(torch.zeros(2, 4, 8, 8, dtype=torch.uint8), IDS[:2], (9.0, 0.5), seed=0, epoch=0)


def test_a_quarter_of_the_images_gets_one_rectangle_of_noise() -> None:
    images, ids = torch.zeros(800, 1, 32, 32), torch.arange(800)
    found = erase(images, ids, 0.25, seed=0, epoch=0)
    areas = (found != 0).float().mean((1, 2, 3))
    assert float((areas > 0).float().mean()) == pytest.approx(0.25, abs=0.05)
    hit = areas[areas > 0]
    assert float(hit.min()) > 0.015 and float(hit.max()) < 0.36
    for image in found[areas > 0][:20, 0]:
        rows, columns = (image != 0).any(1), (image != 0).any(0)
        assert int((image != 0).sum()) == int(rows.sum() * columns.sum())
    noise = found[found != 0]
    assert float(noise.mean()) == pytest.approx(0, abs=0.02) and float(noise.std()) == pytest.approx(1, abs=0.02)
    assert not images.any(), "the images that were given stay as they are"


def test_nothing_is_erased_at_0_and_everywhere_something_at_1() -> None:
    images = torch.zeros(30, 1, 32, 32)
    assert not erase(images, torch.arange(30), 0.0, seed=0, epoch=0).any()
    assert bool(erase(images, torch.arange(30), 1.0, seed=0, epoch=0).flatten(1).any(1).all())


def test_erased_rectangles_have_the_distribution_of_torchvisions() -> None:
    ours = erase(torch.zeros(3000, 1, 24, 40), torch.arange(3000), 1.0, seed=0, epoch=0) != 0
    torch.manual_seed(0)
    theirs = torch.cat([v2.RandomErasing(p=1.0, scale=(0.02, 1 / 3), value="random")(torch.zeros(1, 1, 24, 40)) for _ in range(3000)]) != 0
    for moment in (lambda hit: hit.float().mean(), lambda hit: hit.any(2).float().mean(), lambda hit: hit.float().mean((1, 2, 3)).std()):
        assert float(moment(ours)) == pytest.approx(float(moment(theirs)), rel=0.05)


def test_what_workers_finish_is_what_would_be_done_later() -> None:
    crops = PIXELS.movedim(1, -1)
    done = Finish(flip=True, how=(9.0, 0.5), seed=3)(crops, IDS, EPOCHS)
    later = randaugment(flipped(PIXELS, IDS, seed=3, epoch=EPOCHS), IDS, (9.0, 0.5), seed=3, epoch=EPOCHS)
    assert torch.equal(done, later.movedim(1, -1)) and done.is_contiguous()
    assert not torch.equal(done, crops)
