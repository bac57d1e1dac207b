"""The embedded sample is what data/README.md says; the complete set is found where it may lie; damaged files are named."""

import gzip
import hashlib
import re
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from minimae.data import fashion, load

ROOT = Path(__file__).resolve().parents[2]
write_idx = runpy.run_path(str(ROOT / "data/make_fashion.py"))["write_idx"]


@pytest.fixture
def small_full(tmp_path, monkeypatch) -> Path:
    """A folder with a "complete" set of 70 + 30 made-up images, in torchvision's layout and uncompressed; Debian's is hidden."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, count in (("train", 70), ("t10k", 30)):
        for kind, array in (("images-idx3", rng.integers(0, 256, (count, 28, 28))), ("labels-idx1", np.arange(count) % 10)):
            write_idx(packed := raw / f"{split}-{kind}-ubyte.gz", array.astype(np.uint8))
            (raw / f"{split}-{kind}-ubyte").write_bytes(gzip.decompress(packed.read_bytes()))
            packed.unlink()
    monkeypatch.setattr(fashion, "COMPLETE", {"train": 70, "test": 30})
    monkeypatch.setattr(fashion, "DEBIAN", tmp_path / "no-such-package")
    return tmp_path


def test_the_readme_states_the_checksums_of_the_files_that_are_there():
    stated = dict(reversed(line.split()) for line in re.findall(r"^[0-9a-f]{64}  \S+$", (ROOT / "data/README.md").read_text(), re.M))
    found = {f"fashion/{p.name}": hashlib.sha256(p.read_bytes()).hexdigest() for p in (ROOT / "data/fashion").glob("*.gz")}
    assert stated == found and len(found) == 4


@pytest.mark.parametrize(("split", "count"), [("train", 10_000), ("test", 2_000)])
def test_the_sample_is_balanced_and_no_image_comes_twice(split, count):
    images = load("fashion", split)
    assert tuple(images.pixels.shape) == (count, 1, 28, 28)
    assert images.labels.bincount().tolist() == [count // 10] * 10 and len(images.classes) == 10
    assert len({p.numpy().tobytes() for p in images.pixels}) > 0.99 * count


def test_the_labels_belong_to_the_images():
    """A mean image per class recognises two thirds of the test images; shuffled labels would give a tenth."""
    train, test = load("fashion"), load("fashion", "test")
    means = torch.stack([train.pixels[train.labels == c].float().mean(0) for c in range(10)]).flatten(1)
    guessed = torch.cdist(test.pixels.float().flatten(1), means).argmin(1)
    assert (guessed == test.labels).double().mean() > 0.65


def test_the_sample_is_part_of_the_complete_set_and_in_the_order_that_makes_it():
    if not fashion.DEBIAN.is_dir():
        pytest.skip("the complete set is not installed; the checksums above and the made-up set below are checked in any case")
    for split, count in (("train", 10_000), ("test", 2_000)):
        chosen = load("fashion-full", split).balanced_subset(count, seed=20211111)
        assert torch.equal(chosen.pixels, load("fashion", split).pixels) and torch.equal(chosen.labels, load("fashion", split).labels)


def test_make_fashion_takes_a_balanced_part_of_what_it_is_given(small_full, capsys):
    make = runpy.run_path(str(ROOT / "data/make_fashion.py"))
    make["main"].__globals__["COUNTS"] = {"train": 40, "test": 10}
    make["main"](small_full / "FashionMNIST" / "raw", small_full / "made")
    whole = {p.numpy().tobytes(): int(label) for p, label in zip(*pixels_and_labels(load("fashion-full", root=small_full)))}
    made = fashion.read_fashion(small_full / "made", "train")
    assert made.labels.bincount().tolist() == [4] * 10
    assert all(whole[p.numpy().tobytes()] == label for p, label in zip(*pixels_and_labels(made)))
    assert "train: 40 images" in capsys.readouterr().out


def pixels_and_labels(images):
    return images.pixels, images.labels.tolist()


def test_the_complete_set_is_found_in_torchvisions_folder_or_named_directly(small_full):
    below = load("fashion-full", "test", root=small_full)
    direct = load("fashion-full", "test", root=small_full / "FashionMNIST" / "raw")
    assert len(below) == 30 and torch.equal(below.pixels, direct.pixels)


def test_a_missing_complete_set_names_the_folder_and_both_commands(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion, "DEBIAN", tmp_path / "no-such-package")
    with pytest.raises(FileNotFoundError) as error:
        load("fashion-full", root=tmp_path)
    for part in ("minimae data fashion-full --download", "apt-get install dataset-fashion-mnist", str(tmp_path / "FashionMNIST" / "raw")):
        assert part in str(error.value)


def test_a_download_goes_through_torchvision_into_the_root(small_full, tmp_path, monkeypatch):
    import torchvision

    target = tmp_path / "elsewhere"
    monkeypatch.setattr(
        torchvision.datasets, "FashionMNIST", lambda root, download: (small_full / "FashionMNIST").rename(Path(root) / "FashionMNIST")
    )
    target.mkdir()
    assert len(load("fashion-full", root=target, download=True)) == 70


def test_a_download_that_fails_says_where_to_put_the_files(tmp_path, monkeypatch):
    import torchvision

    def fails(root, download):
        raise RuntimeError("no network")

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fails)
    monkeypatch.setattr(fashion, "DEBIAN", tmp_path / "no-such-package")
    with pytest.raises(OSError, match="no network.*put the four IDX files into"):
        load("fashion-full", root=tmp_path, download=True)


def test_a_stopped_download_is_continued(small_full, tmp_path, monkeypatch):
    import torchvision

    raw = tmp_path / "elsewhere/FashionMNIST/raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte.gz").write_bytes(b"half")

    def fetches(root, download):
        shutil.rmtree(raw)
        shutil.copytree(small_full / "FashionMNIST/raw", raw)

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fetches)
    assert len(load("fashion-full", root=tmp_path / "elsewhere", download=True)) == 70


def test_the_sample_is_not_taken_for_the_complete_set():
    with pytest.raises(ValueError, match="10,000 train images, the complete Fashion-MNIST 60,000"):
        load("fashion-full", root=ROOT / "data" / "fashion")


@pytest.mark.parametrize("shape", [(7,), (3, 4, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("packed", [True, False])
def test_idx_comes_back_as_it_was_written(shape, packed, tmp_path):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    write_idx(path := tmp_path / "x.gz", array)
    if not packed:
        path = tmp_path / "x"
        path.write_bytes(gzip.decompress((tmp_path / "x.gz").read_bytes()))
    np.testing.assert_array_equal(fashion.read_idx(path), array)


GOOD = bytes([0, 0, 8, 2]) + (3).to_bytes(4, "big") + (2).to_bytes(4, "big") + bytes(6)


@pytest.mark.parametrize(
    "raw",
    [b"", b"\0\0", GOOD[:-1], GOOD + b"x", GOOD[:9], b"\0\0\x0d" + GOOD[3:], bytes([0, 0, 8, 4]) + b"\xff" * 16, b"<html>not found</html>"],
)
def test_a_damaged_idx_file_is_named(raw, tmp_path):
    (tmp_path / "broken-idx").write_bytes(raw)
    with pytest.raises(ValueError, match="broken-idx is not a complete IDX file"):
        fashion.read_idx(tmp_path / "broken-idx")


@pytest.mark.parametrize("damage", ["cut", "flipped", "not gzip"])
def test_a_damaged_gzip_file_is_named(damage, tmp_path):
    write_idx(path := tmp_path / "broken.gz", np.arange(200, dtype=np.uint8))
    raw = path.read_bytes()
    path.write_bytes({"cut": raw[:-20], "flipped": raw[:30] + bytes([raw[30] ^ 255]) + raw[31:], "not gzip": b"<html>"}[damage])
    with pytest.raises(ValueError, match="broken.gz is (damaged|not a complete)"):
        fashion.read_idx(path)
