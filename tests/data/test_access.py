"""A failure of the system is named as what it is, and never taken for a damaged picture; only a damaged file may be left out."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minimae.data import access, load
from minimae.data.augment import Augmentation
from minimae.data.loader import Loader, in_order
from minimae.data.pack import pack
from minimae.data.stream import open_shards, open_stream
from minimae.data.types import DamagedImage
from minimae.errors import MinimaeError
from minimae.tasks.reconstruct import read_picture

CODES = [errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOSPC, errno.EACCES, errno.ENOENT, errno.ESTALE]


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Two classes of three PNGs."""
    for i in range(6):
        path = tmp_path / f"pictures/train/{'ab'[i // 3]}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40, 40, 3), i, np.uint8)).save(path)
    return tmp_path / "pictures"


def folder_reader(root: Path) -> None:
    load(root, skip_corrupt=True)


def streamed(root: Path) -> None:
    list(Loader(open_stream(root), in_order(6, 3), image=32, augmentation=Augmentation(), seed=0, workers=0, skip_corrupt=True))


def packed(root: Path) -> None:
    pack(root, "train", root.parent / "out", workers=1, quiet=True, skip_corrupt=True)


def reconstructed(root: Path) -> None:
    read_picture(root / "train/a/1.png", 3)


@pytest.mark.parametrize("read", [folder_reader, streamed, packed, reconstructed])
@pytest.mark.parametrize("code", CODES)
def test_an_error_of_the_system_is_named_and_nothing_is_left_out(read, code, pictures, monkeypatch):
    def refused(path, *how):
        if str(path).endswith("1.png"):
            raise OSError(code, os.strerror(code), str(path))
        return open(path, *how)

    monkeypatch.setattr(access, "open", refused, raising=False)
    with pytest.raises(MinimaeError, match=rf"cannot read .*1\.png: {os.strerror(code)}") as caught:
        read(pictures)
    told = str(caught.value).replace("the pictures themselves are not damaged", "")
    assert "repair or remove" not in told and "damaged" not in told


@pytest.mark.parametrize("read", [folder_reader, streamed, packed, reconstructed])
@pytest.mark.parametrize("target", ["nowhere", "1.png"])
def test_a_link_that_leads_nowhere_is_named(read, target, pictures):
    path = pictures / "train/a/1.png"
    path.unlink()
    path.symlink_to(target)
    with pytest.raises((MinimaeError, FileNotFoundError), match=r"1\.png"):
        read(pictures)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a pipe with a name")
def test_a_packer_does_not_wait_for_a_pipe(pictures):
    os.mkfifo(pictures / "train/a/7.png")
    with pytest.raises(MinimaeError, match=r"7\.png is not a regular file"):
        packed(pictures)


def test_pillows_own_errors_are_damage(tmp_path):
    Image.effect_noise((80, 80), 90).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    for content in (data[: len(data) // 2], b"text", b""):
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(DamagedImage, match=r"a\.jpg cannot be read as a picture"):
            read_picture(tmp_path / "a.jpg", 3)


def test_too_many_open_files_is_told_with_the_remedy(pictures):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(MinimaeError, match=r"Too many open files; raise the limit \(ulimit -n 4096\)"):
            access.file_bytes(pictures / "train/a/0.png")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_read_of_shards_that_fails_is_no_damaged_picture(pictures, tmp_path, monkeypatch):
    pack(pictures, "train", tmp_path / "out", shard_size=3, workers=1, quiet=True)
    stream = open_shards(tmp_path / "out")

    def failing(*request, **options):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("builtins.open", failing)
    with pytest.raises(MinimaeError, match=r"cannot read .*\.tar: Input/output error; the disk or the network failed"):
        next(Loader(stream, [(torch.tensor([0]),) * 2], image=32, augmentation=None, seed=0, workers=0, skip_corrupt=True))
