"""One door: names, folders, conversions, and the errors that help."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minimae.data import NAMES, load, splits


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="unknown dataset 'cifar-10'.*did you mean 'cifar10'.*Known: fashion"):
        load("cifar-10")


@pytest.mark.parametrize("path", ["./fashon", "pictures/of/cats", "~/no-such-pictures"])
def test_a_path_that_is_not_there_says_what_was_looked_for(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no folder .*" + str(Path(path).expanduser().resolve())):
        load(path)


def test_a_whole_path_is_said_once(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        load(str(tmp_path.resolve() / "gone"))
    assert str(error.value).count("gone") == 1


def test_every_name_is_described_and_has_splits():
    for name, line in NAMES.items():
        assert "\n" not in line and len(line) > 20 and "train" in splits(name)


def test_size_colour_and_number_are_as_asked_for():
    images = load("fashion", "test", image=32, channels=3, limit=100)
    assert images.pixels.shape == (100, 3, 32, 32) and images.labels.bincount().tolist() == [10] * 10
    assert torch.equal(images.pixels[:, 0], images.pixels[:, 2])
    again = load("fashion", "test")
    assert torch.equal(again.labels[images.ids], images.labels)
    assert torch.equal(load("fashion", "test", limit=100).pixels, again.pixels[images.ids])
    assert len(load("fashion", "test", limit=10**6)) == 2000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": 0}, "image must be at least 1"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"channels": 4}, r"1 \(grey\) or 3 \(colour\)"),
    ],
)
def test_values_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        load("fashion", **options)


def test_an_unknown_split_lists_the_known_ones():
    with pytest.raises(ValueError, match="fashion has the splits train, test, not 'val'"):
        load("fashion", "val")


def test_importing_and_loading_the_sample_needs_no_heavy_library():
    code = (
        "import sys, minimae.data as d; d.load('fashion', 'test'); d.load('shapes', limit=2)\n"
        "print(*sorted({'torchvision', 'matplotlib', 'PIL', 'skimage', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
