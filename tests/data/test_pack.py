"""Packing gives the same bytes whoever packs, goes on where it was stopped, and what is lost is named."""

import errno
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torchvision.transforms.functional as T
from PIL import Image

from minimae.cli import main
from minimae.data import jobs
from minimae.data import pack as packing
from minimae.data.decoding import encode
from minimae.data.jobs import shrink
from minimae.data.pack import pack
from minimae.data.photos import make_folder
from minimae.data.shards import read_index
from minimae.data.stream import open_shards
from minimae.data.verify import verify
from minimae.errors import MinimaeError


def contents(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


@pytest.fixture
def small(tmp_path) -> Path:
    """A folder that a test may damage: 12 images."""
    return make_folder(tmp_path / "small", classes=3, train=4, val=1, share=0.15)


def packed(root: Path, out: Path, **how) -> Path:
    pack(root, "train", out, **{"side": 32, "shard_size": 4, "workers": 1, "quiet": True, **how})
    return out / "train"


def test_any_reader_of_webdataset_finds_images_and_labels(jpegs, shards):
    seen = {}
    for path in sorted((shards / "train").glob("*.tar")):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            for image, label in zip(members[::2], members[1::2], strict=True):
                key = image.name.removesuffix(".jpg")
                assert label.name == f"{key}.cls"
                seen[int(key)] = (tar.extractfile(image).read(), int(tar.extractfile(label).read()))
    stream = open_shards(shards)
    assert sorted(seen) == list(range(18))
    assert all(seen[i] == (stream.bytes_of(i), int(stream.labels[i])) for i in range(18))


def test_classes_are_mixed_in_a_shard(shards):
    index = read_index(shards / "train/index.json")
    assert index.labels != sorted(index.labels) and len(set(index.labels[:7])) == 3


def test_one_process_and_two_write_the_same_bytes(small, tmp_path):
    assert contents(packed(small, tmp_path / "one")) == contents(packed(small, tmp_path / "two", workers=2))


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (301, 100), (64, 64), (401, 700)])
def test_the_short_side_is_resized_as_torchvision_does(width, height):
    picture = Image.effect_noise((width // 8, height // 8), 90).convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    data = encode(picture, 95)
    ours = Image.open(io.BytesIO(shrink(data, side=48, quality=100)))
    whole = Image.open(io.BytesIO(data)).convert("RGB")
    wanted = T.resize(whole, 48, T.InterpolationMode.BICUBIC)
    assert ours.size == wanted.size
    assert np.abs(np.asarray(ours).astype(int) - np.asarray(wanted)).mean() < 2.5  # JPEG's own loss, and the decoder's reduction


def test_a_smaller_jpeg_stays_as_it_is():
    data = encode(Image.effect_noise((60, 48), 90).convert("RGB"), 80)
    assert shrink(data, side=48, quality=90) == data
    png = io.BytesIO()
    Image.effect_noise((60, 40), 90).save(png, "PNG")
    other = Image.open(io.BytesIO(shrink(png.getvalue(), side=48, quality=90)))
    assert (other.format, other.mode, other.size) == ("JPEG", "L", (60, 40))


def test_finished_shards_are_kept_and_damaged_ones_made_again(small, tmp_path, monkeypatch):
    folder = packed(small, tmp_path / "out")
    wanted = contents(folder)
    (folder / "000000.tar").write_bytes(b"cut off")
    (folder / "000001.json").unlink()
    (folder / "index.json").unlink()
    made = []
    real = packing.make
    monkeypatch.setattr(packing, "make", lambda job: made.append(job.path.name) or real(job))
    packed(small, tmp_path / "out")
    assert made == ["000000.tar", "000001.tar"] and contents(folder) == wanted


def test_shards_of_other_settings_or_pictures_are_not_written_over(small, tmp_path):
    packed(small, tmp_path / "out")
    with pytest.raises(ValueError, match=r"other settings \(side 32.*not side 48"):
        packed(small, tmp_path / "out", side=48)
    next((small / "train").rglob("*.JPEG")).unlink()
    with pytest.raises(ValueError, match=r"other pictures \(some were added, removed or renamed since\)"):
        packed(small, tmp_path / "out")
    with pytest.raises(ValueError, match="give another folder"):
        pack(small, "train", small, quiet=True)


@pytest.mark.parametrize(("what", "value"), [("side", 0), ("quality", 101), ("shard_size", 0)])
def test_impossible_settings_are_refused(what, value, small, tmp_path):
    with pytest.raises(ValueError, match=f"{what} must be between"):
        packed(small, tmp_path, **{what: value})


def test_unreadable_pictures_are_left_out_and_listed(small, tmp_path):
    broken = sorted((small / "train").rglob("*.JPEG"))[5]
    broken.write_bytes(broken.read_bytes()[:300])
    how = {"side": 32, "shard_size": 4, "workers": 1, "quiet": True}
    with pytest.raises(MinimaeError, match=rf"{broken.name} cannot be read.*--skip-corrupt"):
        pack(small, "train", tmp_path / "out", **how)
    index = pack(small, "train", tmp_path / "out", **how, skip_corrupt=True)
    assert len(index.ids) == 11 and 5 not in index.ids and len(index.skipped) == 1 and str(broken) in index.skipped[0]
    stream = open_shards(tmp_path / "out")
    assert stream.ids.tolist() == [i for i in range(12) if i != 5] and stream.labels.tolist() == [0] * 4 + [1] * 3 + [2] * 4


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_what_is_finished(code, small, tmp_path, monkeypatch):
    real, written = jobs.write_shard, []

    def until_full(path, samples):
        if written:

            def none_left():
                yield next(samples)
                raise OSError(code, os.strerror(code))

            return real(path, none_left())
        written.append(path)
        return real(path, samples)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "write_shard", until_full)
        with pytest.raises(MinimaeError, match="disk is full at .*: 1 of 3 shards are finished"):
            packed(small, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out/train").iterdir()) == ["000000.json", "000000.tar"]
    assert contents(packed(small, tmp_path / "out")) == contents(packed(small, tmp_path / "fresh"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_really_full_is_told(small, tmp_path):
    (tmp_path / "out/train").mkdir(parents=True)
    (tmp_path / "out/train/000000.tar.partial").symlink_to("/dev/full")
    with pytest.raises(MinimaeError, match="0 of 3 shards are finished"):
        packed(small, tmp_path / "out")


def test_verify_finds_every_damage(small, tmp_path):
    folder = packed(small, tmp_path / "out")
    assert verify(tmp_path / "out", quiet=True) == verify(folder, quiet=True) == []
    data = bytearray((folder / "000000.tar").read_bytes())
    data[700] ^= 1
    (folder / "000000.tar").write_bytes(data)
    (folder / "000001.tar").write_bytes(b"short")
    (folder / "000002.tar").unlink()
    (folder / "000009.tar.partial").write_bytes(b"")
    wrong = verify(tmp_path / "out", quiet=True)
    assert len(wrong) == 4
    for line, what in zip(wrong, ("another checksum", "has 5 bytes", "is missing", "in no index")):
        assert what in line
    with pytest.raises(FileNotFoundError, match="holds no shards"):
        verify(tmp_path / "nowhere", quiet=True)


SCRIPT = """
import signal, sys, time
from pathlib import Path
from minimae.data import jobs
from minimae.data import pack as packing
quick = jobs.shrink
jobs.shrink = lambda *data, **options: (time.sleep(0.2), quick(*data, **options))[1]  # 200 pictures: the signal comes in the middle
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would this one
    packing.pack(Path(sys.argv[1]), "train", Path(sys.argv[2]), side=32, shard_size=2, workers=2, quiet=True)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_packer_leaves_no_process_and_no_half_shard(how, tmp_path, in_session):
    root = make_folder(tmp_path / "many", classes=2, train=100, val=1)
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(root), str(tmp_path / "out")]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 900
    while not list((tmp_path / "out/train").glob("*.json")) and time.monotonic() < deadline:
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.02)
    os.kill(running.pid, how)
    assert running.wait(900) != 0
    while (left := in_session(running.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
    if how == signal.SIGINT:
        assert not list((tmp_path / "out/train").glob("*.partial"))
    for beside in (tmp_path / "out/train").glob("*.json"):
        shard = read_index(beside).shards[0]
        assert hashlib.sha256(beside.with_suffix(".tar").read_bytes()).hexdigest() == shard.sha256


# What is not there now may be there later


def test_a_disk_that_is_not_there_stops_the_packer_and_the_next_call_goes_on(small, tmp_path):
    """The folders of the originals are listed, but the disk behind the links is not mounted."""
    disk, away = tmp_path / "disk", tmp_path / "away"
    shutil.move(small / "train", disk)
    for path in sorted(disk.rglob("*.JPEG")):
        link = small / "train" / path.relative_to(disk)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    disk.rename(away)
    for workers in (1, 2):
        for skip in (False, True):
            with pytest.raises(MinimaeError, match="cannot read .*No such file or directory.*not mounted"):
                packed(small, tmp_path / "out", workers=workers, skip_corrupt=skip)
    assert not (tmp_path / "out/train/index.json").exists()
    away.rename(disk)
    assert len(read_index(packed(small, tmp_path / "out") / "index.json").ids) == 12
    assert verify(tmp_path / "out", quiet=True) == []


def test_pictures_that_were_left_out_are_tried_again(small, tmp_path):
    broken = sorted((small / "train").rglob("*.JPEG"))[5]
    whole, times = broken.read_bytes(), broken.stat()
    broken.write_bytes(whole[:300])
    folder = packed(small, tmp_path / "out", skip_corrupt=True)
    assert len(read_index(folder / "index.json").skipped) == 1
    with pytest.raises(MinimaeError, match="cannot be read"):
        packed(small, tmp_path / "out")
    broken.write_bytes(whole)
    os.utime(broken, ns=(times.st_atime_ns, times.st_mtime_ns))
    index = read_index(packed(small, tmp_path / "out", skip_corrupt=True) / "index.json")
    assert len(index.ids) == 12 and not index.skipped
    assert shards_of(folder) == shards_of(packed(small, tmp_path / "fresh"))


def test_nothing_but_damaged_pictures_is_an_error(small, tmp_path):
    for path in (small / "train").rglob("*.JPEG"):
        path.write_bytes(b"")
    with pytest.raises(MinimaeError, match="none of 12 pictures"):
        packed(small, tmp_path / "out", skip_corrupt=True)


def shards_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.tar")}


def test_pictures_that_have_changed_are_packed_again_and_copies_are_not(small, tmp_path, monkeypatch):
    folder, made = packed(small, tmp_path / "out"), []
    real = packing.make
    monkeypatch.setattr(packing, "make", lambda job: made.append(job.path.name) or real(job))
    files = sorted((small / "train").rglob("*.JPEG"))
    for path in files:
        os.utime(path, (1e9, 1e9))  # as after a copy
    packed(small, tmp_path / "out")
    assert made == []
    size = files[0].stat().st_size
    other = encode(Image.effect_noise((9, 9), 90).convert("RGB"), 80)
    files[0].write_bytes(other + bytes(size - len(other)))  # as long as before
    packed(small, tmp_path / "out")
    assert len(made) == 1
    monkeypatch.undo()
    assert shards_of(folder) == shards_of(packed(small, tmp_path / "fresh"))


def test_shards_of_an_unfinished_pack_with_other_settings_are_not_mixed_in(small, tmp_path):
    folder = packed(small, tmp_path / "out")
    for path in (*folder.glob("*.json"), folder / "000000.tar"):
        path.unlink()
    with pytest.raises(ValueError, match="000002.tar is none of the 2 shards"):
        packed(small, tmp_path / "out", shard_size=6)


def test_shards_do_not_go_among_the_pictures(small):
    for root, out in ((small, small / "train/packed"), (small / "train", small / "train")):
        with pytest.raises(ValueError, match="give another folder"):
            pack(root, "train", out, quiet=True)
    assert sorted(p.name for p in small.iterdir()) == ["train", "val"]


@pytest.mark.parametrize("place", ["1.jpg", "train/cat/1.png", "other/1.jpg"])
def test_shards_do_not_go_beside_other_pictures_which_they_would_hide(place, small, tmp_path):
    (tmp_path / "out" / place).parent.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "out" / place)
    with pytest.raises(ValueError, match=f"out holds pictures, such as {place}: give another folder"):
        pack(small, "train", tmp_path / "out", quiet=True)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [tmp_path / "out" / place]


def test_two_packers_do_not_write_into_one_folder(small, tmp_path):
    with packing.locked(tmp_path / "out/train"), pytest.raises(MinimaeError, match="another process packs into"):
        packed(small, tmp_path / "out")
    packed(small, tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_said(small, tmp_path):
    (tmp_path / "out").write_bytes(b"a file")
    with pytest.raises(MinimaeError, match="cannot write into .*Not a directory"):
        packed(small, tmp_path / "out")


def test_a_shard_larger_than_the_system_allows_is_said(small, tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        with pytest.raises(MinimaeError, match=r"cannot write into .* \(File too large\): 0 of 3"):
            packed(small, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "out/train").iterdir())


def test_the_command_looks_for_all_splits_before_it_packs_one(small, tmp_path):
    shutil.rmtree(small / "val")
    assert main(["data", "pack", str(small), str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_odd_names_are_packed_and_fit_into_one_line_of_a_message(small, tmp_path, capsys):
    data = next((small / "train").rglob("*.JPEG")).read_bytes()
    folder = small / "train/n00000001"
    odd = [os.fsencode(folder) + name for name in (b"/two\nlines.jpg", b"/\xff\xfe.jpg", "/ü ✓.jpg".encode())]
    for name in odd:
        with open(name, "wb") as file:
            file.write(data)
    assert len(read_index(packed(small, tmp_path / "out") / "index.json").ids) == 15
    assert verify(tmp_path / "out", quiet=True) == []
    for name in odd:
        with open(name, "wb") as file:
            file.write(b"")
        assert main(["data", "pack", str(small), str(tmp_path / "out2"), "--splits", "train", "--workers", "1"]) == 2
        [line] = [line for line in capsys.readouterr().err.splitlines() if "cannot be read" in line]
        assert line.endswith("--skip-corrupt")
        with open(name, "wb") as file:
            file.write(data)


def test_no_split_is_an_error(small, tmp_path):
    assert main(["data", "pack", str(small), str(tmp_path / "out"), "--splits"]) == 2


def test_grey_pictures_stay_grey_and_deep_ones_keep_their_levels(tmp_path):
    """As the same pictures read from the folder: packing decides the speed."""
    for i in range(4):
        ramp = (np.arange(40 * 40).reshape(40, 40) * 2 + i).astype(np.uint16)  # twelve bits in sixteen
        (tmp_path / "deep/train/a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(ramp).save(tmp_path / f"deep/train/a/{i}.png")
    how = {"side": 32, "workers": 1, "quiet": True, "quality": 100}
    pack(tmp_path / "deep", "train", tmp_path / "out", bits=12, **how)
    stream = open_shards(tmp_path / "out")
    levels = np.asarray(Image.open(io.BytesIO(stream.bytes_of(0))))
    assert stream.channels == 1 and levels.ndim == 2 and len(np.unique(levels)) > 150
    with pytest.raises(ValueError, match=r"other settings \(bits 12, not bits None\)"):
        pack(tmp_path / "deep", "train", tmp_path / "out", **how)
    for bits in (0, 40):
        with pytest.raises(ValueError, match=f"bits must be between 8 and 32, not {bits}"):
            pack(tmp_path / "deep", "train", tmp_path / "out2", bits=bits, **how)
