"""Where images lie decides the speed, and nothing else: the same statistics, crops and evaluation from memory and from files."""

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as T
from PIL import Image

from minimae.data import from_array, load, open_images
from minimae.data.augment import Augmentation, augmented
from minimae.data.files import ImageFiles
from minimae.data.images import Images
from minimae.data.pack import pack
from minimae.data.shapes import shapes
from minimae.data.stream import open_folder
from minimae.data.types import from_histogram, sampled
from minimae.errors import MinimaeError
from minimae.tasks.loading import LoaderConfig, batches, chunks, some
from minimae.tasks.pretrain import Pretrain, PretrainTask, build

HERE = LoaderConfig(workers=0)


def pictures(root: Path, *sizes: tuple[int, int], channels: int = 3, suffix: str = "png") -> Path:
    """Smooth pictures of these sizes (height, width), six of each, in two classes."""
    rng = np.random.default_rng(0)
    for i, (height, width) in enumerate(sizes * 6):
        noise = rng.integers(0, 256, (6, 6, channels)).astype(np.uint8)
        (root / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(noise.squeeze()).resize((width, height), Image.Resampling.BICUBIC)
        picture.save(root / "ab"[i % 2] / f"{i}.{suffix}", **({"quality": 95} if suffix == "jpg" else {}))
    return root


def both(root: Path, **how: object) -> tuple[Images | ImageFiles, Images | ImageFiles]:
    memory, files = (open_images(root, read_from=kind, **how) for kind in ("memory", "files"))  # type: ignore[arg-type]
    assert isinstance(files, ImageFiles) and files.buffer is None
    return memory, files


def shown(source: Images | ImageFiles, image: tuple[int, int]) -> torch.Tensor:
    return torch.cat([part.pixels for part in chunks(source, HERE, image=image, size=5)])


Size = tuple[int, int]
Sizes = tuple[Size, ...]


@pytest.mark.parametrize("sizes", [((40, 40),), ((40, 60),), ((30, 96),), ((40, 60), (37, 50), (80, 33))])
@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_and_evaluation_are_equal_from_memory_and_files(sizes: Sizes, channels: int, tmp_path: Path) -> None:
    memory, files = both(pictures(tmp_path, *sizes, channels=channels))
    assert isinstance(memory, Images if len(sizes) == 1 else ImageFiles) and memory.channels == files.channels == channels
    for a, b in zip(memory.statistics, files.statistics, strict=True):
        assert torch.equal(a, b)
    for image in ((32, 32), (40, 40), (32, 96), (64, 64), (40, 60)):
        assert torch.equal(shown(memory, image), shown(files, image))
        assert torch.equal(some(memory, 4, image=image).pixels, some(files, 4, image=image).pixels)
    assert memory.image == files.image == (sizes[0] if len(sizes) == 1 else None)


def test_statistics_are_those_of_numpy_over_pictures_of_all_sizes(tmp_path: Path) -> None:
    stream = open_images(pictures(tmp_path, (40, 60), (13, 50)))
    values = np.concatenate([np.asarray(Image.open(f)).reshape(-1, 3) for f in sorted(tmp_path.rglob("*.png"))]) / 255.0
    np.testing.assert_allclose(stream.statistics[0], values.mean(0), rtol=1e-6)
    np.testing.assert_allclose(stream.statistics[1], values.std(0), rtol=1e-6)


def test_of_a_large_set_the_statistics_are_those_of_the_same_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minimae.data.types.VALUES", 4 * 20 * 20 * 3)
    memory, files = both(pictures(tmp_path, (20, 20), (20, 20)))
    places = sampled(12, 20 * 20 * 3)
    assert len(places) == 4 and isinstance(memory, Images)
    part = torch.stack([torch.bincount(memory.pixels[places, c].flatten(), minlength=256) for c in range(3)])
    for a, b, wanted in zip(memory.statistics, files.statistics, from_histogram(part), strict=True):
        assert torch.equal(a, wanted) and torch.equal(b, wanted)


def test_the_classes_of_imagenet_have_its_statistics_wherever_they_lie(tmp_path: Path) -> None:
    pictures(tmp_path / "x", (20, 20))
    for old, new in (("a", "n01440764"), ("b", "n01443537")):
        (tmp_path / "x" / old).rename(tmp_path / "x" / new)
    for images in both(tmp_path / "x"):
        assert images.statistics[0].tolist() == pytest.approx([0.485, 0.456, 0.406])
        assert images.subset([1, 2]).statistics[0].tolist() == pytest.approx([0.485, 0.456, 0.406])


@pytest.mark.parametrize("how", [Augmentation(flip=False), Augmentation(scale=None, flip=False), Augmentation(fixed=0.8, flip=False)])
@pytest.mark.parametrize(("size", "image"), [((40, 60), (24, 24)), ((40, 60), (16, 48)), ((33, 41), (16, 48)), ((1, 10), (8, 8))])
def test_training_crops_are_the_same_but_for_rounding(how: Augmentation, size: Size, image: Size, tmp_path: Path) -> None:
    views = []
    for source in both(pictures(tmp_path, size)):
        plan = [(torch.arange(6), torch.arange(6))]
        options = {"image": image, "augmentation": how, "seed": 1, "repeats": 1, "device": torch.device("cpu")}
        (batch,) = batches(source, plan, HERE, **options)  # type: ignore[arg-type]
        views.append(augmented(batch, how, seed=1, size=image))
    assert float((views[0] - views[1]).abs().max()) < 6 / 255 and float((views[0] - views[1]).abs().mean()) < 0.5 / 255


def test_photographs_of_varied_size_are_cropped_whole_in_every_way(tmp_path: Path) -> None:
    """Not from a square in the middle, made small: crops reach every corner, and are cut from all of the pixels."""
    for source in both(pictures(tmp_path, (60, 200), (150, 50))):
        assert isinstance(source, ImageFiles)
        plan = [(torch.arange(12), torch.full((12,), epoch)) for epoch in range(30)]
        options = {"image": (32, 32), "augmentation": Augmentation(), "seed": 0, "repeats": 1, "device": torch.device("cpu")}
        boxes = torch.cat([batch.boxes for batch in batches(source, plan, HERE, **options) if batch.boxes is not None])  # type: ignore[arg-type]
        assert float((boxes[:, 1] + boxes[:, 3]).max()) > 190 and float((boxes[:, 0] + boxes[:, 2]).max()) > 140
        assert float(boxes[:, 1].min()) < 5 and float(boxes[:, 2:].amin(1).mean()) > 32


def test_files_of_varied_size_that_are_held_in_memory_are_not_opened_again(tmp_path: Path) -> None:
    memory, files = both(pictures(tmp_path, (40, 60), (37, 50)))
    wanted = shown(files, (32, 32))
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    assert torch.equal(shown(memory, (32, 32)), wanted) and torch.equal(shown(memory.subset([3, 1]), (32, 32)), wanted[[3, 1]])


def test_what_does_not_fit_is_read_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path, (20, 20))
    assert isinstance(open_images(tmp_path), Images)
    monkeypatch.setattr("minimae.data.opening.IN_MEMORY", 100)
    assert isinstance(open_images(tmp_path), ImageFiles)


@pytest.mark.parametrize(("height", "width"), [(64, 97), (97, 64), (64, 65), (64, 96)])
def test_packed_pictures_are_evaluated_as_torchvision_does_to_the_pixel(height: int, width: int, tmp_path: Path) -> None:
    """An odd long side gives no half pixel: what is stored at the right size is cut out, and not resampled."""
    pictures(tmp_path / "x" / "train", (height, width), suffix="jpg")
    pack(tmp_path / "x", "train", tmp_path / "packed", side=64, workers=1, quiet=True)
    packed = open_images(tmp_path / "packed")
    assert isinstance(packed, ImageFiles) and packed.span is not None
    for i, found in enumerate(shown(packed, (56, 56))):
        whole = Image.open(io.BytesIO(packed.bytes_of(i))).convert("RGB")
        assert np.array_equal(found.permute(1, 2, 0), np.asarray(T.center_crop(whole, [56, 56])))
    full = open_folder(tmp_path / "x")  # no larger than the side: packed byte for byte
    assert torch.equal(shown(full, (56, 56)), shown(packed, (56, 56)))
    assert all(torch.equal(a, b) for a, b in zip(full.statistics, packed.statistics, strict=True))


def test_names_and_places_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a set of images is a name or a folder, not \['a'\]"):
        open_images(["a"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="read_from is auto, memory, files, not 'disk'"):
        open_images(pictures(tmp_path, (8, 8)), read_from="disk")  # type: ignore[arg-type]
    for bits in (0, 4, 33):
        with pytest.raises(ValueError, match=f"^bits are between 8 and 32, not {bits}$"):
            open_images(tmp_path, bits=bits)


def test_files_in_memory_are_named_as_files(tmp_path: Path) -> None:
    memory = open_folder(pictures(tmp_path, (40, 60), (37, 50), suffix="jpg")).buffered()
    assert memory.where(0) == str(tmp_path / "a/0.jpg")
    memory.buffer.zero_()  # type: ignore[union-attr]
    with pytest.raises(MinimaeError, match=r"0\.jpg cannot be read .*; repair or remove it"):
        shown(memory, (32, 32))


# The size of the model


@pytest.mark.parametrize("read_from", ["memory", "files"])
def test_the_size_of_the_pictures_is_that_of_the_model_in_both_ways(read_from: str, tmp_path: Path) -> None:
    images = open_images(pictures(tmp_path, (32, 96)), read_from=read_from)  # type: ignore[arg-type]
    assert Pretrain(patch=8).size_for(images).image == (32, 96)
    assert Pretrain(patch=8, image=(32, 48)).size_for(images).grid == (4, 6)
    varied = open_images(pictures(tmp_path / "varied", (20, 30), (20, 31)), read_from=read_from)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="have several sizes: give the model's size in pixels, for example --image 96"):
        Pretrain().size_for(varied)
    assert Pretrain(size="tiny").size_for(varied).image == 224


def test_a_task_reads_the_same_statistics_in_both_ways(tmp_path: Path) -> None:
    recipe = Pretrain(patch=4, image=16, width=24, depth=1, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2)
    pair = [PretrainTask(recipe, source, build(recipe, source)) for source in both(pictures(tmp_path, (20, 24)))]
    assert all(torch.equal(a, b) for a, b in zip(pair[0].statistics, pair[1].statistics, strict=True))
    first, second = (task.expected() for task in pair)
    assert first is not None and second is not None and first.baseline == second.baseline


# One line


def test_every_set_of_images_is_one_line(tmp_path: Path) -> None:
    sets = [load("fashion").balanced_subset(20), shapes(count=3), from_array("mine", np.zeros((4, 5, 5), np.uint8))]
    sets += both(pictures(tmp_path, (20, 20), (20, 21)))
    for images in sets:
        assert "\n" not in repr(images) and len(repr(images)) < 120 and f"{len(images)} images" in repr(images)
    assert repr(sets[0]) == "Images(fashion: 20 images, 1 × 28 × 28, 10 classes)"


def test_a_pair_is_a_size_everywhere(tmp_path: Path) -> None:
    root = pictures(tmp_path, (40, 60), (33, 90))
    assert load(root, image=(16, 24)).image == (16, 24) and load("fashion", "test", image=(28, 14), limit=5).image == (28, 14)
    assert load("shapes", image=(32, 48), limit=2).image == (32, 48) and load("photos", "test", image=(16, 8), limit=2).image == (16, 8)
    for image, crop in itertools.product([(16, 48), (48, 16)], [None, (0.2, 1.0)]):
        with pytest.raises(ValueError, match="image must be at least 1"):
            load(root, image=(0, image[1]))
        recipe = Pretrain(patch=8, image=image, crop=crop)
        assert recipe.size_for(open_images(root)).image == image


@pytest.mark.parametrize("where", ["host", "device"])
def test_grey_files_are_cropped_in_one_channel(where: str, tmp_path: Path) -> None:
    stream = open_images(pictures(tmp_path, (40, 60), (20, 30), channels=1))
    assert isinstance(stream, ImageFiles) and stream.channels == 1
    reading = LoaderConfig(workers=0, crop_on=where)  # type: ignore[arg-type]
    options = {"image": (16, 16), "augmentation": Augmentation(), "seed": 0, "repeats": 1, "device": torch.device("cpu")}
    (batch,) = batches(stream, [(torch.arange(12), torch.zeros(12, dtype=torch.int64))], reading, **options)  # type: ignore[arg-type]
    assert batch.pixels.shape == (12, 1, 16, 16) and float(batch.pixels.float().std()) > 10
    assert batch.pixels.shape[1:] == (1, 16, 16) and open_images(tmp_path, channels=3).channels == 3
