"""What is said of a damaged picture is what happens to it: an error and nothing else, replaced, or left out."""

import errno
import os

import pytest
import torch

from minimae.data.loader import Loader
from minimae.data.photos import make_folder
from minimae.data.stream import open_stream
from minimae.errors import MinimaeError
from minimae.model.sizes import size
from minimae.model.vit import Encoder
from minimae.tasks.loading import LoaderConfig, features_of
from minimae.tasks.pretrain import Pretrain, pretrain

RECIPE = Pretrain(size="nano", image=28, batch=4, epochs=1.0, warmup_epochs=0.0, target="pca")
TUPLE = (torch.tensor([0.5] * 3), torch.tensor([0.2] * 3))


@pytest.fixture
def damaged(tmp_path):
    """Eight training pictures, of which the first is cut off, so that every sample of the set meets it."""
    root = make_folder(tmp_path / "pictures", classes=2, train=4, val=1, share=0.15)
    first = sorted((root / "train").rglob("*.JPEG"))[0]
    first.write_bytes(first.read_bytes()[:300])
    return root


@pytest.mark.parametrize("target", ["pca", "normalised"])
def test_a_fatal_picture_is_an_error_and_nothing_else(target, damaged, capfd):
    recipe = Pretrain(size="nano", image=28, batch=4, epochs=1.0, warmup_epochs=0.0, target=target)
    with pytest.raises(MinimaeError, match=r"n00000001_0.JPEG cannot be read.*--skip-corrupt"):
        pretrain(recipe, open_stream(damaged), reading=LoaderConfig(workers=0))
    said = capfd.readouterr()
    assert "step/s" not in said.err  # the error would be printed behind an open progress bar
    assert "replaced" not in said.err + said.out and "left out" not in said.err + said.out


def test_a_picture_that_is_replaced_is_said_to_be_replaced(damaged, capfd):
    pretrain(RECIPE, open_stream(damaged), quiet=True, reading=LoaderConfig(workers=0, skip_corrupt=True))
    assert "replaced by the next image: " in capfd.readouterr().err


def test_a_picture_that_is_left_out_is_said_to_be_left_out(damaged, capfd):
    encoder, stream = Encoder(size("nano", image=28, channels=3)), open_stream(damaged)
    _, labels = features_of(encoder, stream, TUPLE, LoaderConfig(workers=0, skip_corrupt=True), pool="mean")
    said = capfd.readouterr().err
    assert len(labels) == 7 and "left out: " in said and "replaced" not in said
    with pytest.raises(MinimaeError, match="cannot be read"):
        features_of(encoder, stream, TUPLE, LoaderConfig(workers=0), pool="mean")
    assert capfd.readouterr().err == ""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # torch's half-made iterator
def test_too_many_open_files_in_the_training_process_is_no_death_of_a_worker(damaged):
    resource = pytest.importorskip("resource")
    source = Loader(open_stream(damaged), [(torch.tensor([4]),) * 2], image=28, augmentation=None, seed=0, workers=2)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 2, before[1]))
    try:
        with pytest.raises(MinimaeError, match=r"too many open files: raise the limit"):
            next(source)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), RuntimeError("received 0 items of ancdata")])
def test_a_batch_that_cannot_be_received_is_named(error, damaged, monkeypatch):
    source = Loader(open_stream(damaged), [(torch.tensor([4]),) * 2], image=28, augmentation=None, seed=0, workers=0)

    def failing(_):
        raise error

    monkeypatch.setattr(type(source._items._loader), "__iter__", failing)
    with pytest.raises(MinimaeError, match="too many open files: raise the limit"):
        next(source)
