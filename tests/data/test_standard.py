"""Standard datasets: read through torchvision from its own layout; a missing one gives the folder and the command."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from minimae.data import DOWNLOADS, load, splits
from minimae.data.standard import STANDARD


@pytest.mark.parametrize("name", STANDARD)
def test_a_missing_dataset_gives_the_folder_and_the_command(name, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError) as error:
        load(name, root=tmp_path, image=32)
    assert f"`minimae data {name} --download`" in str(error.value) and str(tmp_path / STANDARD[name].folder) in str(error.value)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=str(DOWNLOADS / STANDARD[name].folder)):
        load(name, image=32)


@pytest.mark.parametrize("name", STANDARD)
def test_a_failed_download_says_so(name, tmp_path, monkeypatch):
    def fails(self, root, **options):
        raise RuntimeError("no network")

    monkeypatch.setattr(getattr(torchvision.datasets, STANDARD[name].cls), "__init__", fails)
    with pytest.raises(OSError, match=f"{name} could not be downloaded .*no network.*{STANDARD[name].folder}"):
        load(name, root=tmp_path, download=True)


@pytest.mark.parametrize("name", STANDARD)
def test_an_unknown_split_lists_the_known_ones(name, tmp_path):
    with pytest.raises(ValueError, match=f"{name} has the splits {', '.join(splits(name))}, not 'tests'"):
        load(name, "tests", root=tmp_path)


def trusting(monkeypatch, name: str) -> None:
    """Let torchvision take the few made-up files below for the real ones, whose checksums it knows."""
    monkeypatch.setattr(getattr(torchvision.datasets, STANDARD[name].cls), "_check_integrity", lambda self: True)
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda path, md5: True)
    monkeypatch.setattr(torchvision.datasets.flowers102, "check_integrity", lambda path, md5: True)


@pytest.mark.parametrize(("name", "key", "names"), [("cifar10", "labels", "label_names"), ("cifar100", "fine_labels", "fine_label_names")])
def test_cifar(name, key, names, tmp_path, monkeypatch):
    trusting(monkeypatch, name)
    cls = getattr(torchvision.datasets, STANDARD[name].cls)
    folder = tmp_path / cls.base_folder
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3072)).astype(np.uint8)
    for file, _ in cls.train_list + cls.test_list:
        (folder / file).write_bytes(pickle.dumps({"data": pixels, key: [1, 0, 1, 0]}))
    (folder / cls.meta["filename"]).write_bytes(pickle.dumps({names: ["cat", "dog"]}))
    images = load(name, "test", root=tmp_path)
    np.testing.assert_array_equal(images.pixels, pixels.reshape(4, 3, 32, 32))  # planes of red, green, blue in the file
    assert images.labels.tolist() == [1, 0, 1, 0] and images.classes == ("cat", "dog") and images.name == name
    part = load(name, root=tmp_path, limit=2, image=16, channels=1)
    assert part.pixels.shape == (2, 1, 16, 16) and part.labels.bincount().tolist() == [1, 1]


def test_stl10_with_and_without_labels(tmp_path, monkeypatch):
    trusting(monkeypatch, "stl10")
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 96, 96)).astype(np.uint8)
    for part in ("train", "test", "unlabeled"):
        (folder / f"{part}_X.bin").write_bytes(pixels.transpose(0, 1, 3, 2).tobytes())  # column by column in the file
        (folder / f"{part}_y.bin").write_bytes(bytes([2, 1, 2]))
    (folder / "class_names.txt").write_text("airplane\nbird\n")
    images = load("stl10", root=tmp_path)
    np.testing.assert_array_equal(images.pixels, pixels)
    assert images.labels.tolist() == [1, 0, 1] and images.classes == ("airplane", "bird")
    assert load("stl10", "unlabelled", root=tmp_path).labels is None


def paint(path: Path, value: int, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


def test_imagenette(tmp_path):
    for split in ("train", "val"):
        for i, wnid in enumerate(("n01440764", "n02102040")):
            paint(tmp_path / "imagenette2" / split / wnid / "x.jpeg", 50 * (i + 1), (40 + i, 30))
    images = load("imagenette", "test", root=tmp_path, image=24)
    assert images.classes == ("tench", "English springer") and images.labels.tolist() == [0, 1]
    assert images.pixels.shape == (2, 3, 24, 24) and (images.pixels[:, 0, 0, 0].int() - torch.tensor([50, 100])).abs().max() <= 1
    with pytest.raises(ValueError, match="--image"):
        load("imagenette", "test", root=tmp_path)


def test_pets(tmp_path):
    lines = ["Abyssinian_1 1 1 1", "Abyssinian_2 1 1 1", "beagle_1 2 2 1"]
    folder = tmp_path / "oxford-iiit-pet"
    for i, line in enumerate(lines):
        paint(folder / "images" / f"{line.split()[0]}.jpg", 60 * i)
    (folder / "annotations" / "trimaps").mkdir(parents=True)
    (folder / "annotations" / "trainval.txt").write_text("\n".join(lines))
    images = load("pets", root=tmp_path, image=16)
    assert images.classes == ("Abyssinian", "Beagle") and images.labels.tolist() == [0, 0, 1] and images.pixels.shape == (3, 3, 16, 16)


def test_flowers(tmp_path, monkeypatch):
    from scipy.io import savemat

    trusting(monkeypatch, "flowers102")
    folder = tmp_path / "flowers-102"
    for i in (1, 2, 3):
        paint(folder / "jpg" / f"image_{i:05}.jpg", 60 * i)
    savemat(folder / "imagelabels.mat", {"labels": [3, 1, 2]})
    savemat(folder / "setid.mat", {"trnid": [1, 3], "valid": [2, 2], "tstid": [3, 2]})
    images = load("flowers102", root=tmp_path, image=16)
    assert images.labels.tolist() == [2, 1] and len(images.classes) == 102
    assert load("flowers102", "test", root=tmp_path, image=16).labels.tolist() == [1, 0]
