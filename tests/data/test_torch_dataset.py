"""A user's torch Dataset, with any transform, is a set of images: an image is a function of (seed, epoch, sample id)."""

from __future__ import annotations

import random
import signal
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset
from torchvision.transforms import v2

from minimae.data import from_dataset
from minimae.data.loader import Loader
from minimae.errors import Interrupted, MinimaeError
from minimae.random import seeded
from minimae.tasks.finetune import Finetune, finetune
from minimae.tasks.loading import LoaderConfig, features_of
from minimae.tasks.pretrain import Pretrain, pretrain
from minimae.tasks.probe_train import Probe, train_probe
from minimae.train.order import from_step
from minimae.train.settings import Settings

FLOAT = (v2.ToImage(), v2.ToDtype(torch.float32, scale=True))
CROP = v2.Compose([v2.RandomResizedCrop(16, scale=(0.2, 1.0)), v2.RandomHorizontalFlip(), *FLOAT])
SMALL: dict[str, Any] = {"width": 16, "depth": 1, "heads": 2, "decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
RECIPE = Pretrain(size="nano", patch=4, **SMALL, batch=4, epochs=4, warmup_epochs=1)
OWN = np.random.default_rng(0)


class Photographs(Dataset):
    """Twelve pictures of noise with labels, and a transform."""

    def __init__(self, transform: Any = CROP, labels: bool = True, targets: bool = True) -> None:
        self.pictures = torch.randint(0, 256, (12, 24, 20, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
        self.transform, self.labels = transform, [i % 3 for i in range(12)] if labels else None
        if targets and labels:
            self.targets, self.classes = self.labels, ["a", "b", "c"]

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        image = self.transform(Image.fromarray(self.pictures[index]))
        return image if self.labels is None else (image, self.labels[index])


def read(images: Any, step: int = 0, count: int = 5, **how: Any) -> list[Any]:
    loader = Loader(images, from_step(step, Settings(batch=how.pop("batch", 4), seed=3), len(images)), image=16, seed=3, **how)
    batches = [next(loader) for _ in range(count)]
    loader.close()
    return batches


def equal(one: Any, two: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_batches_are_the_same_for_any_workers_any_batch_and_after_a_resume() -> None:
    images = from_dataset(Photographs())
    alone = read(images)
    for workers in (1, 2):
        assert all(equal(a, b) for a, b in zip(alone, read(images, workers=workers), strict=True))
    assert all(equal(a, b) for a, b in zip(alone[2:], read(images, step=2, count=3), strict=True))
    assert equal([torch.cat(x) for x in zip(*alone[:4])], [torch.cat(x) for x in zip(*read(images, batch=8, count=2))])
    assert alone[0].pixels.shape == (4, 3, 16, 16) and torch.equal(alone[0].labels, alone[0].ids % 3)
    one, two = (torch.cat([b.pixels[b.ids == 0] for b in part]) for part in (alone[:3], read(images, step=3, count=3)))
    assert len(one) == len(two) == 1 and not torch.equal(one, two)  # another epoch, another crop


def test_an_image_is_what_the_transform_makes_of_it_under_its_seed() -> None:
    dataset = Photographs()
    (batch,) = read(from_dataset(dataset).subset([5, 7, 2, 8]), count=1)
    for pixels, sample, epoch in zip(batch.pixels, batch.ids.tolist(), batch.epochs.tolist(), strict=True):
        with seeded(3, epoch, sample):
            assert torch.equal(pixels, (dataset[sample][0] * 255).round().byte())


def test_seeded_reaches_three_generators_and_puts_them_back() -> None:
    def drawn() -> list[float]:
        return [float(torch.rand(())), float(np.random.rand()), random.random()]

    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    expected = drawn()
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    with seeded(1, 2, 3):
        inside = drawn()
    assert drawn() == expected
    with pytest.raises(KeyError), seeded(1, 2, 3):
        assert drawn() == inside
        raise KeyError
    for other in ((0, 2, 3), (1, 0, 3), (1, 2, 0)):
        with seeded(*other):
            assert not set(drawn()) & set(inside)


def test_views_are_those_of_later_epochs() -> None:
    images, order = from_dataset(Photographs()), [(torch.tensor([4]), torch.tensor([3]))]
    (two,) = Loader(images, order, image=16, seed=3, repeats=2)
    for view in (0, 1):
        (one,) = Loader(images, [(torch.tensor([4]), torch.tensor([6 + view]))], image=16, seed=3)
        assert torch.equal(two.pixels[view], one.pixels[0]) and two.epochs.tolist() == [6, 7]


def test_grey_with_transparency_is_grey() -> None:
    for mode in ("LA", "La"):
        images = from_dataset(Photographs(lambda image, mode=mode: Image.new("LA", (16, 16), (90, 255)).convert(mode)))
        assert images.channels == 1 and images.read(0).unique().tolist() == [90]


@pytest.mark.parametrize("transform", ["pillow", "grey", "uint8", "float"])
def test_what_a_transform_may_return(transform: str) -> None:
    crop = v2.CenterCrop(16)
    kinds = {"pillow": crop, "grey": v2.Compose([crop, v2.Grayscale()]), "uint8": v2.Compose([crop, v2.PILToTensor()])}
    dataset = Photographs(kinds.get(transform, v2.Compose([crop, *FLOAT])))
    images = from_dataset(dataset)
    expected = torch.from_numpy(dataset.pictures[3, 4:20, 2:18]).movedim(-1, 0)
    assert images.image == (16, 16) and images.channels == (1 if transform == "grey" else 3)
    assert transform == "grey" or torch.equal(images.read(3), expected)


WRONG: dict[str, tuple[Any, str]] = {
    "normalised": (v2.Compose([CROP, v2.Normalize([0.5] * 3, [0.2] * 3)]), r"values from -\d\.\d+ to \d\.\d+: .* leave Normalize out"),
    "an array": (np.array, "is ndarray: an image is a Pillow image, a uint8 tensor, or a float tensor between 0 and 1"),
    "integers": (v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.int64)]), r"is torch\.int64 \(3, 24, 20\)"),
    "sixteen bits": (lambda image: Image.fromarray(np.zeros((16, 16), np.uint16)), r"more than eight bits \(mode I;16\): scale it"),
    "its own random generator": (lambda image: image.rotate(OWN.uniform(0, 90)), "differs when it is read again"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_it_may_not_return(kind: str) -> None:
    transform, message = WRONG[kind]
    with pytest.raises(ValueError, match=f"image 0 of Photographs.*{message}"):
        from_dataset(Photographs(transform))


class Endless(IterableDataset):
    def __iter__(self) -> Any:
        return iter(())


def test_datasets_that_are_refused() -> None:
    with pytest.raises(ValueError, match="Endless has no length or no index: a map-style dataset is expected"):
        from_dataset(Endless())
    with pytest.raises(ValueError, match="Subset holds no images"):
        from_dataset(Subset(Photographs(), []))
    with pytest.raises(ValueError, match="Photographs has channels=3: statistics are a mean and a standard deviation for each"):
        from_dataset(Photographs(), statistics=([0.5], [0.25]))
    with pytest.raises(ValueError, match="first label of Photographs is 2, and 0 in its first item"):
        from_dataset(Photographs(), labels=[2] * 12)


@pytest.mark.parametrize("workers", [0, 1])
def test_images_of_other_sizes_and_errors_of_the_dataset_are_named(workers: int) -> None:
    crop = v2.CenterCrop(16)
    images = from_dataset(Photographs(lambda image: image.resize((20, 18)) if np.asarray(image)[0, 0, 0] % 2 else crop(image)))
    with pytest.raises(MinimaeError, match=r"image \d+ .* has 3×18×20 pixels, and 3×16×16 are expected: end the transform with"):
        read(images, workers=workers)
    broken = from_dataset(Photographs())
    object.__setattr__(broken, "dataset", Subset(broken.dataset, []))
    with pytest.raises(RuntimeError, match=r"image \d+ of Photographs cannot be read \(IndexError"):
        read(broken, workers=workers)


def test_labels() -> None:
    assert from_dataset(Photographs(labels=False)).labels is None
    plain = from_dataset(Photographs(targets=False))
    assert plain.labels is None and 'labels="items"' in plain.notes[0]
    items, given = (from_dataset(Photographs(targets=False), labels=x).labels.tolist() for x in ("items", [i % 3 for i in range(12)]))
    assert items == given == [i % 3 for i in range(12)]
    part = from_dataset(Subset(Subset(Photographs(), [1, 3, 7]), [2, 1]))
    assert part.classes == ("a", "b", "c")
    assert part.labels.tolist() == [1, 0] and part.balanced_subset(1).ids.tolist() in ([0], [1])
    doubled = Photographs()
    doubled.target_transform, doubled.labels = (lambda label: 2 - label), [2 - i % 3 for i in range(12)]
    assert from_dataset(doubled).labels.tolist() == doubled.labels
    assert [x.tolist() for x in from_dataset(doubled, statistics=([0.5] * 3, [0.25] * 3)).statistics] == [[0.5] * 3, [0.25] * 3]


def test_it_goes_into_every_task() -> None:
    images, here = from_dataset(Photographs()), LoaderConfig(workers=0)
    model, _ = pretrain(replace(RECIPE, epochs=2), images, quiet=True, reading=LoaderConfig(workers=2))
    test = from_dataset(Photographs(v2.CenterCrop(16)))
    features, labels = features_of(model.encoder, test, images.statistics, here)
    assert features.shape == (12, 16) and torch.equal(labels, test.labels)
    finetune(Finetune(batch=4, epochs=1, warmup_epochs=0), model.encoder, images, images.statistics, quiet=True, reading=here)
    train_probe(Probe(batch=4, epochs=1, warmup_epochs=0), model.encoder, images, images.statistics, quiet=True, reading=here)


def test_a_run_that_was_stopped_and_resumed_ends_with_the_same_bits(tmp_path: Any) -> None:
    here, reads = LoaderConfig(workers=0), iter(range(1000))

    def stopping(image: Image.Image) -> Any:
        if next(reads) == 45:
            signal.raise_signal(signal.SIGTERM)
        return CROP(image)

    with pytest.raises(Interrupted):
        pretrain(RECIPE, from_dataset(Photographs(stopping)), tmp_path, quiet=True, reading=here)
    images = from_dataset(Photographs())
    resumed, result = pretrain(RECIPE, images, tmp_path, resume=True, quiet=True, reading=here)
    unbroken, _ = pretrain(RECIPE, images, quiet=True, reading=here)
    assert result.steps == 12 and next(reads) < 60  # it was stopped before its end
    assert all(torch.equal(a, b) for a, b in zip(resumed.state_dict().values(), unbroken.state_dict().values(), strict=True))
