"""Images: what they check, what all sets of images have in common, and how a part of them is chosen."""

import numpy as np
import pytest
import torch

from minimae.data.choose import as_index, choose
from minimae.data.images import Images
from minimae.data.types import DamagedImage, ImageDataset


def some(n: int = 60, channels: int = 3, classes: int = 4) -> Images:
    pixels = torch.randint(0, 256, (n, channels, 5, 7), dtype=torch.uint8)
    return Images("some", pixels, torch.arange(n) % classes, tuple("abcd"[:classes]))


def test_statistics_are_those_of_numpy():
    images = some()
    values = images.pixels.numpy().astype(np.float64) / 255
    mean, deviation = images.statistics
    np.testing.assert_allclose(mean, values.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(deviation, values.std((0, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize("at_once", [1, 35, 64, 10**6])
def test_statistics_are_the_same_bits_however_many_pixels_are_counted_at_a_time(at_once, monkeypatch):
    images = some(33)
    counts = torch.stack([torch.bincount(x.flatten().long(), minlength=256) for x in images.pixels.unbind(1)]).double()
    share, value = counts / counts.sum(1, keepdim=True), torch.arange(256, dtype=torch.float64) / 255
    mean = share @ value
    monkeypatch.setattr("minimae.data.images.COUNTED", at_once)
    assert torch.equal(images.statistics[0], mean.float())
    assert torch.equal(images.statistics[1], (share * (value - mean[:, None]).square()).sum(1).sqrt().float())


def test_statistics_take_little_memory_besides_the_images():
    tracker = pytest.importorskip("torch.profiler")
    images = Images("large", torch.zeros(4000, 3, 64, 64, dtype=torch.uint8))
    with tracker.profile(activities=[tracker.ProfilerActivity.CPU], profile_memory=True) as profile:
        _ = images.statistics
    allocated = max(event.self_cpu_memory_usage for event in profile.events())
    assert allocated <= images.pixels.numel() / 8  # the largest piece of memory taken at once


def test_a_constant_channel_has_a_deviation_one_can_divide_by():
    assert Images("flat", torch.full((2, 1, 4, 4), 9, dtype=torch.uint8)).statistics[1].item() > 0


def test_a_subset_keeps_its_sample_ids_and_labels():
    images = some()
    part = images.subset([5, 17, 3]).subset([2, 0])
    assert part.ids.tolist() == [3, 5]
    assert torch.equal(part.pixels, images.pixels[[3, 5]]) and torch.equal(part.labels, images.labels[[3, 5]])


def test_few_takes_as_many_of_each_class():
    images = some()
    assert images.balanced_subset(20).labels.bincount().tolist() == [5, 5, 5, 5]
    assert set(images.balanced_subset(8).ids.tolist()) < set(images.balanced_subset(20).ids.tolist())
    assert images.balanced_subset(20).ids.tolist() != images.balanced_subset(20, seed=1).ids.tolist()


class Plain(ImageDataset):
    """The least that a set of images needs."""

    def __init__(self, images: Images, index: torch.Tensor | None = None) -> None:
        self.images, self.name, self.classes = images, images.name, images.classes
        self.index = torch.arange(len(images)) if index is None else index
        self.ids, self.labels, self.channels = images.ids[self.index], images.labels[self.index], images.channels

    channels = 0

    def read(self, index):
        if self.ids[index] == 7:
            raise DamagedImage("damaged")
        return self.images.pixels[self.index[index]]

    def subset(self, index):
        return Plain(self.images, self.index[as_index(index, len(self))])


def test_a_set_of_images_needs_to_read_one_and_to_choose_some():
    images = some()
    plain, whole = Plain(images), images.subset(images.ids != 7)
    assert all(torch.equal(a, b) for a, b in zip(plain.statistics, whole.statistics)), "a damaged image is left out"
    assert plain.image == images.image == (5, 7) and len(plain) == 60 and "some: 60 images, 3 × " in repr(plain)
    assert plain.summary_of(3) == pytest.approx(images.summary_of(3)) and plain.summary_of(7) == (0, 0, 0.0)
    assert plain.limited(9).ids.tolist() == images.limited(9).ids.tolist() == sorted(images.limited(9).ids.tolist())
    assert plain.balanced_subset(8).ids.tolist() == images.balanced_subset(8).ids.tolist() and plain.limited(60) is plain


def test_few_is_the_old_name_of_balanced_subset():
    with pytest.warns(DeprecationWarning, match="balanced_subset"):
        assert some().few(8).ids.tolist() == some().balanced_subset(8).ids.tolist()


def test_choose_without_labels_takes_different_places():
    places = choose(None, 100, 30)
    assert len(set(places.tolist())) == 30 and places.min() >= 0 and places.max() < 100


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pixels": torch.zeros(2, 1, 4, 4)}, "uint8"),
        ({"pixels": torch.zeros(2, 4, 4, dtype=torch.uint8)}, "N c height width"),
        ({"pixels": torch.zeros(0, 1, 4, 4, dtype=torch.uint8)}, "no images"),
        ({"pixels": torch.zeros(2, 1, 4, 4, dtype=torch.uint8), "labels": torch.zeros(3)}, "2 images but 3 labels"),
    ],
)
def test_what_does_not_fit_together_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Images("odd", **given)
