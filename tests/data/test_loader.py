"""Batches are a function of plan and seed; a crop is torchvision's, on the host and on the device; trouble is told, never a hang."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as T
from PIL import Image
from torchvision.transforms import v2

from minimae.data.augment import EVALUATION, Augmentation, crop_boxes, middle_boxes
from minimae.data.images import Images
from minimae.data.loader import Loader, in_memory, in_order
from minimae.data.photos import make_folder, photograph
from minimae.data.reader import reduced
from minimae.data.stream import open_stream
from minimae.data.types import ImageDataset
from minimae.data.views import resize_on_device, resize_on_host
from minimae.errors import MinimaeError
from minimae.train.order import batch_at

CROP, WHOLE = Augmentation(), Augmentation(scale=None)


def plan(batch: int, images: int, first: int = 0, count: int | None = None):
    """The loop's plan: batches of endless shuffled epochs, from step ``first`` on."""
    for step in itertools.count(first) if count is None else range(first, first + count):
        yield batch_at(step * batch, batch, images, seed=3)


def read(stream, wanted, **how):
    """All batches of a finite order, and the loader."""
    source = Loader(stream, wanted, **{"image": 32, "augmentation": CROP, "seed": 5, "workers": 0, **how})
    return list(source), source


def equal(one, two) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.fixture
def damaged(jpegs, tmp_path):
    """The JPEGs, of which the sixth is cut off and the seventh is no image."""
    root = shutil.copytree(jpegs, tmp_path / "damaged")
    files = sorted((root / "train").rglob("*.JPEG"))
    files[5].write_bytes(files[5].read_bytes()[:900])
    files[6].write_bytes(b"not an image")
    return root


# Batches are a function of the plan and the seed


@pytest.mark.parametrize("where", ["host", "device"])
def test_the_number_of_workers_changes_nothing(where, jpegs):
    stream = open_stream(jpegs)
    alone, _ = read(stream, plan(5, 18, count=6), crop_on=where)
    several, _ = read(stream, plan(5, 18, count=6), crop_on=where, workers=2)
    assert len(alone) == len(several) == 6 and all(equal(a, b) for a, b in zip(alone, several))


def test_the_batch_size_changes_nothing(jpegs):
    stream = open_stream(jpegs)
    small, large = (read(stream, plan(b, 18, count=36 // b))[0] for b in (3, 12))
    for field in range(5):
        assert torch.equal(torch.cat([b[field] for b in small]), torch.cat([b[field] for b in large]))


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_a_feed_that_starts_at_a_step_gives_what_the_unbroken_one_gave_there(kind, jpegs, shards):
    stream = open_stream(jpegs if kind == "folder" else shards)
    unbroken, _ = read(stream, plan(4, 18, count=9), workers=2)
    resumed, _ = read(stream, plan(4, 18, first=4, count=5), workers=1)
    assert all(equal(a, b) for a, b in zip(unbroken[4:], resumed, strict=True))
    assert unbroken[4].epochs.tolist() == [0, 0, 1, 1]  # a batch that reaches over the end of an epoch


def test_an_endless_plan_is_read_as_far_as_it_is_asked_for(jpegs):
    source = Loader(open_stream(jpegs), plan(4, 18), image=32, augmentation=CROP, seed=5, workers=2)
    first = [next(source) for _ in range(3)]
    source.close()
    with pytest.raises(StopIteration):
        next(source)
    assert all(equal(a, b) for a, b in zip(first, read(open_stream(jpegs), plan(4, 18, count=3))[0]))


def test_labels_and_ids_belong_to_the_images(jpegs):
    stream = open_stream(jpegs).subset([17, 3, 8])
    (batch,), source = read(stream, [(torch.tensor([2, 0]), torch.tensor([4, 4]))])
    assert batch.ids.tolist() == [8, 17] and batch.labels.tolist() == [1, 2] and batch.epochs.tolist() == [4, 4]
    assert batch.pixels.dtype == torch.uint8 and batch.pixels.shape == (2, 3, 32, 32) and source.waited > 0


def test_a_flat_folder_has_no_labels(jpegs, tmp_path):
    shutil.copy(open_stream(jpegs).path_of(0), tmp_path)
    assert read(open_stream(tmp_path), in_order(1, 1))[0][0].labels is None


def test_crops_are_those_of_the_image_itself_not_of_its_batch(jpegs):
    stream = open_stream(jpegs)
    (batch,), _ = read(stream, [(torch.arange(18), torch.full((18,), 7))])
    for place in range(18):
        wanted = crop_boxes(torch.tensor([place]), stream.size_of(place), CROP, seed=5, epoch=7)
        assert torch.equal(batch.boxes[place], wanted[0])


def test_the_random_numbers_of_the_loop_stay_as_they_are(jpegs):
    before = torch.get_rng_state()
    read(open_stream(jpegs), in_order(18, 9), workers=2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("where", ["host", "device"])
def test_several_views_of_a_decoded_image_are_those_of_several_epochs(where, jpegs):
    stream, epochs = open_stream(jpegs), torch.tensor([0, 0, 2])
    (batch,), _ = read(stream, [(torch.tensor([4, 9, 1]), epochs)], repeats=3, crop_on=where)
    assert batch.epochs.tolist() == [0, 1, 2, 0, 1, 2, 6, 7, 8] and batch.ids.tolist() == [4] * 3 + [9] * 3 + [1] * 3
    for row in range(9):
        (single,), _ = read(stream, [(batch.ids[row : row + 1], batch.epochs[row : row + 1])], crop_on=where)
        assert torch.equal(single.boxes[0], batch.boxes[row])
        # Decoded for the smallest of its crops, an image may be decoded larger than for one.
        assert (single.pixels[0].int() - batch.pixels[row].int()).abs().float().mean() < 4


# A crop is torchvision's


@pytest.fixture(scope="module")
def astronaut(tmp_path_factory):
    """One photograph of 512 × 512 pixels, of the highest quality."""
    root = tmp_path_factory.mktemp("photo")
    Image.fromarray(photograph("astronaut").numpy()).save(root / "a.jpg", quality=98)
    Image.fromarray(photograph("coffee").numpy()).save(root / "b.jpg", quality=98)
    return root


def resized(path: Path, box: torch.Tensor, size: int) -> torch.Tensor:
    """torchvision's crop and resize of a Pillow image."""
    top, left, height, width = (round(x) for x in box.tolist())
    with Image.open(path) as picture:
        crop = T.resized_crop(picture.convert("RGB"), top, left, height, width, [size, size], T.InterpolationMode.BICUBIC)
    return torch.from_numpy(np.array(crop)).permute(2, 0, 1)


def test_a_crop_on_the_host_is_torchvisions(astronaut):
    stream = open_stream(astronaut)
    for epoch in range(8):
        (batch,), _ = read(stream, [(torch.arange(2), torch.full((2,), epoch))], image=224)
        for place in range(2):
            wanted = resized(stream.path_of(place), batch.boxes[place], 224)
            assert torch.equal(batch.pixels[place], wanted) or bool((batch.boxes[place, 2:] >= 448).all())


def test_a_reduced_crop_is_close_to_torchvisions(astronaut):
    stream = open_stream(astronaut)
    for epoch in range(8):
        (batch,), _ = read(stream, [(torch.arange(2), torch.full((2,), epoch))], image=64)
        for place in range(2):
            off = batch.pixels[place].int() - resized(stream.path_of(place), batch.boxes[place], 64).int()
            assert off.abs().float().mean() < 4 and off.float().mean().abs() < 0.5


@pytest.mark.parametrize("image", [32, 96, 224])
@pytest.mark.parametrize("augmentation", [CROP, WHOLE, None], ids=["crop", "middle", "evaluation"])
def test_host_and_device_give_the_same_pixels(augmentation, image, jpegs, astronaut):
    """But for Pillow's rounding between rows and columns: the tolerance that resize_on_device states."""
    for root in (jpegs, astronaut):
        stream = open_stream(root)
        wanted = [(torch.arange(len(stream)), torch.full((len(stream),), epoch)) for epoch in range(3)]
        host, device = (read(stream, wanted, image=image, augmentation=augmentation, crop_on=where)[0] for where in ("host", "device"))
        off = torch.cat([a.pixels.int() - b.pixels.int() for a, b in zip(host, device, strict=True)]).abs()
        one, more, most = float((off > 0).float().mean()), float((off > 1).float().mean()), int(off.max())
        assert one < 0.25 and more < 0.02 and most <= 16


@pytest.mark.parametrize("beyond", [False, True])
@pytest.mark.parametrize(("box", "image"), [((10, 20, 300, 224), (96, 224)), ((7, 3, 96, 400), (96, 64)), ((100, 50, 40, 96), (200, 96))])
def test_where_only_rows_or_columns_change_they_differ_by_rounding_alone(box, image, beyond):
    pixels = photograph("astronaut")
    top, left, height, width = box
    edges = [0, 0, 512, 512] if beyond else [top, left, top + height, left + width]
    host = np.asarray(resize_on_host(Image.fromarray(pixels.numpy()), [float(x) for x in box], edges, image))
    device = resize_on_device(pixels.permute(2, 0, 1)[None], torch.tensor([box]), torch.tensor([edges]), image)
    off = (device[0].permute(1, 2, 0).int() - torch.from_numpy(host.copy()).int()).abs()
    assert int(off.max()) <= 1 and float(off.float().mean()) < 0.005


def test_evaluation_is_torchvisions_resize_and_centre_crop(astronaut):
    stream = open_stream(astronaut)
    for where, most in (("host", 1), ("device", 16)):
        (batch,), _ = read(stream, in_order(2, 2), image=224, augmentation=None, crop_on=where)
        for place in range(2):
            with Image.open(stream.path_of(place)) as picture:
                wanted = T.center_crop(T.resize(picture.convert("RGB"), 256, T.InterpolationMode.BICUBIC), [224, 224])
            off = (batch.pixels[place].int() - torch.from_numpy(np.array(wanted)).permute(2, 0, 1).int()).abs()
            assert float(off.float().mean()) < 0.25 and int(off.max()) <= most


def test_the_largest_middle_part_has_the_shape_of_the_image():
    sizes = torch.tensor([[100.0, 200.0], [90.0, 30.0]])
    boxes = crop_boxes(torch.arange(2), sizes, WHOLE, seed=0, epoch=0, size=(32, 32))
    assert boxes.tolist() == [[0, 50, 100, 100], [30, 0, 30, 30]]
    boxes = middle_boxes(sizes, (32, 64), share=EVALUATION)
    # 37 × 74 pixels after resizing, of which 32 × 64 are shown. The second is narrower than that, and shown in full width.
    assert boxes.tolist() == [pytest.approx([200 / 37, 500 / 37, 3200 / 37, 6400 / 37]), [37.5, 0, 15, 30]]


def test_a_reduced_box_looks_at_the_pixels_that_it_touches():
    assert reduced([10, 21, 50, 40], (101, 99), 4, beyond=False) == ([2.5, 5.25, 12.5, 10], [2, 5, 15, 16])
    assert reduced([10, 21, 91, 78], (101, 99), 4, beyond=False)[1] == [2, 5, 26, 25]
    assert reduced([10, 21, 50, 40], (101, 99), 4, beyond=True)[1] == [0, 0, 26, 25]


@pytest.mark.parametrize("augmentation", [CROP, None])
def test_other_formats_and_turned_pictures_are_read(augmentation, tmp_path):
    picture = Image.fromarray(photograph("chelsea").numpy()).resize((90, 60))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif, quality=98, subsampling=0)
    picture.save(tmp_path / "plain.png")
    picture.convert("CMYK").save(tmp_path / "print.jpg", quality=98, subsampling=0)
    images = open_stream(tmp_path)
    wanted = [(torch.tensor([place]), torch.tensor([0])) for place in range(3)]
    same = images.subset([0, 1, 2])
    object.__setattr__(same, "ids", torch.zeros(3, dtype=torch.int64))  # one id: the same crop
    batches, _ = read(same, wanted, image=48, augmentation=augmentation)
    for batch in batches[1:]:
        assert (batch.pixels.int() - batches[0].pixels.int()).abs().float().mean() < 4


# Shards


def test_shards_and_folder_give_the_same_images(jpegs, tmp_path):
    from minimae.data.pack import pack

    pack(jpegs, "train", tmp_path, side=500, shard_size=5, workers=1, quiet=True)  # none is larger: the files as they are
    for where in ("host", "device"):
        full, packed = (read(open_stream(root), plan(6, 18, count=4), crop_on=where)[0] for root in (jpegs, tmp_path))
        assert all(equal(a, b) for a, b in zip(full, packed, strict=True))


def test_smaller_shards_show_the_same_parts(jpegs, shards):
    full, packed = (read(open_stream(root), in_order(18, 18), augmentation=None)[0][0] for root in (jpegs, shards))
    assert torch.equal(full.ids, packed.ids) and torch.equal(full.labels, packed.labels)
    assert (full.pixels.int() - packed.pixels.int()).abs().float().mean() < 8


# Trouble is told, never a hang


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("where", ["host", "device"])
def test_an_unreadable_image_is_an_error_that_names_it(where, workers, damaged):
    with pytest.raises(MinimaeError, match=r"n00000001_5.JPEG cannot be read \(.*--skip-corrupt"):
        read(open_stream(damaged), in_order(18, 6), workers=workers, crop_on=where)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("where", ["host", "device"])
def test_an_unreadable_image_is_replaced_by_the_next_on_request(where, workers, damaged, capfd):
    wanted = [*in_order(18, 9), *in_order(18, 9)]
    batches, source = read(open_stream(damaged), wanted, workers=workers, crop_on=where, skip_corrupt=True)
    assert torch.cat([b.ids for b in batches]).tolist() == [0, 1, 2, 3, 4, 7, 7, *range(7, 18)] * 2
    # Place 5 is cut off, and so is what comes after it: place 6 is met for place 5 and for itself, in each of two epochs.
    assert sorted(source.skipped.values()) == [2, 4]
    assert capfd.readouterr().err.count("replaced by the next image") == 2
    alone, _ = read(open_stream(damaged), [(torch.tensor([7]), torch.tensor([0]))], crop_on=where)
    assert torch.equal(batches[0].boxes[5], alone[0].boxes[0]) and torch.equal(batches[0].boxes[6], alone[0].boxes[0])
    assert torch.equal(batches[0].pixels[5], batches[0].pixels[7])


def test_nothing_but_unreadable_images_is_an_error(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_bytes(b"broken")
    with pytest.raises(MinimaeError, match="3 images in a row could not be read"):
        read(open_stream(tmp_path), in_order(3, 3), skip_corrupt=True)


def test_a_file_that_vanishes_is_named(damaged):
    stream = open_stream(damaged)
    stream.path_of(0).unlink()
    for skip in (False, True):
        with pytest.raises(MinimaeError, match=r"cannot read .*n00000001_0.JPEG: No such file.*not mounted"):
            read(stream, in_order(18, 3), workers=1, skip_corrupt=skip)


def test_a_shard_cut_off_in_training_is_named(shards, tmp_path):
    root = shutil.copytree(shards, tmp_path / "shards")
    stream = open_stream(root)
    for shard in (root / "train").glob("*.tar"):
        shard.write_bytes(b"")
    with pytest.raises(MinimaeError, match=r"tar was cut off: pack it again"):
        read(stream, in_order(18, 3), workers=1)


def test_a_death_that_is_told_again_while_the_workers_are_ended_does_no_harm(jpegs):
    source = Loader(open_stream(jpegs), plan(4, 18), image=32, augmentation=CROP, seed=0, workers=2)
    next(source)
    iterator, workers = source._items._iterator, source._items._iterator._workers
    end = iterator._shutdown_workers

    def told_again():
        del iterator._shutdown_workers  # once is enough
        end()
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")

    iterator._shutdown_workers = told_again
    source.close()
    assert not any(worker.is_alive() for worker in workers)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a pipe with a name")
def test_a_worker_that_dies_is_told(damaged):
    stream = open_stream(damaged)
    os.remove(stream.path_of(17))
    os.mkfifo(stream.path_of(17))  # a read that never ends: the worker dies while its batch is waited for
    source = Loader(stream.subset([0, 17]), in_order(2, 1), image=32, augmentation=CROP, seed=0, workers=1)
    next(source)
    threading.Timer(0.5, os.kill, (source._items._iterator._workers[0].pid, signal.SIGKILL)).start()
    with pytest.raises(MinimaeError, match=r"a process that reads images died.*DataLoader worker"):
        next(source)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a pipe with a name")
def test_a_read_that_never_ends_is_told(damaged):
    stream = open_stream(damaged)
    os.remove(stream.path_of(17))
    os.mkfifo(stream.path_of(17))
    source = Loader(stream, in_order(5, 1), image=32, augmentation=CROP, seed=0, workers=1)
    assert len([*itertools.islice(source, 5)]) == 5
    source = Loader(stream.subset([0, 17]), in_order(2, 1), image=32, augmentation=CROP, seed=0, workers=1, timeout=600)
    next(source)  # however long the worker takes to start
    source._items._iterator._timeout = 1
    process = source._items._iterator._workers[0]
    with pytest.raises(MinimaeError, match=r"died or hangs.*timed out after 1 second"):
        next(source)
    process.join(600)
    assert not process.is_alive()


SCRIPT = """
import multiprocessing, signal, sys, time
from pathlib import Path
import torch
from minimae.data.augment import Augmentation
from minimae.data.loader import Loader
from minimae.data.stream import open_stream
if __name__ == "__main__":
    asked = []
    if sys.argv[2] == "answered":
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: asked.append(1))
    else:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would this one
    if sys.argv[3] == "slowly":  # the second worker is still starting when the first batch is there
        torch.set_num_threads = lambda threads: time.sleep(multiprocessing.current_process().name.endswith("-2"))
    plan = ((torch.arange(8), torch.full((8,), e)) for e in range(10**6))
    for batch in Loader(open_stream(Path(sys.argv[1])), plan, image=32, augmentation=Augmentation(), seed=0, workers=2):
        print("batch", flush=True)
        time.sleep(0.05)
        if asked:
            asked.append(1)
            if len(asked) > 6:  # the loop ends its step, and saves, with the workers still there
                break
    print("done", flush=True)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("handling", "starting", "how", "code"),
    [
        ("answered", "slowly", signal.SIGINT, 0),
        ("answered", "slowly", signal.SIGTERM, 0),
        ("answered", "at once", signal.SIGTERM, 0),
        ("default", "at once", signal.SIGINT, None),
        ("default", "at once", signal.SIGKILL, -9),
        ("default", "slowly", signal.SIGKILL, -9),  # the second worker starts when its parent is already gone
    ],
)
def test_a_stopped_run_leaves_no_process(handling, starting, how, code, jpegs, tmp_path, in_session):
    """The signal reaches the whole group, as Ctrl-C in a terminal and SLURM send it; SIGKILL only the run itself."""
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = os.environ
    command = [sys.executable, str(tmp_path / "script.py"), str(jpegs), handling, starting]
    running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert running.stdout.readline() == "batch\n"
    os.kill(running.pid, how) if how == signal.SIGKILL else os.killpg(running.pid, how)
    out, err = running.communicate(timeout=240)
    assert (running.returncode == code) if code is not None else running.returncode != 0, err
    assert ("done" in out) == (handling == "answered"), err
    deadline = time.monotonic() + 900  # a worker looks every five seconds whether its parent is alive
    while (left := in_session(running.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def threads_of_the_worker(crops, ids, epochs):
    return torch.full_like(crops, torch.get_num_threads())


def test_a_worker_has_one_thread_whatever_its_parent_has(jpegs):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        source = Loader(open_stream(jpegs), in_order(4, 4), image=16, augmentation=CROP, seed=0, workers=1, transform=threads_of_the_worker)
        pixels = next(source).pixels
        source.close()
    finally:
        torch.set_num_threads(before)
    assert pixels.unique().tolist() == [1]


# On a GPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_gives_what_the_host_gives(jpegs):
    stream, wanted = open_stream(jpegs), list(plan(6, 18, count=3))
    host, _ = read(stream, wanted, image=96)
    device, _ = read(stream, wanted, image=96, device="cuda", workers=2, crop_on="device")
    for a, b in zip(host, device, strict=True):
        assert b.pixels.is_cuda and torch.equal(a.ids, b.ids.cpu())
        assert (a.pixels.int() - b.pixels.cpu().int()).abs().float().mean() < 2


# Settings and helpers


@pytest.mark.parametrize("how", [{"repeats": 0}, {"workers": -1}, {"prefetch": 0}])
def test_impossible_settings_are_refused(how, jpegs):
    with pytest.raises(ValueError, match="must be at least"):
        Loader(open_stream(jpegs), [], **{"image": 32, "augmentation": None, "seed": 0, "workers": 0, **how})


def test_a_small_stream_can_be_taken_into_memory(jpegs, damaged):
    from minimae.data import load

    images, wanted = in_memory(open_stream(jpegs), image=24), load(jpegs, image=24)
    assert isinstance(images, Images) and torch.equal(images.labels, wanted.labels) and torch.equal(images.ids, wanted.ids)
    assert torch.equal(images.pixels, wanted.pixels)
    assert len(in_memory(open_stream(damaged), image=24, skip_corrupt=True).skipped) == 2
    stated = (torch.tensor([0.5] * 3), torch.tensor([0.25] * 3))
    images = in_memory(replace(open_stream(jpegs), notes=("a note",), fixed_statistics=stated), image=24)
    assert images.notes == ("a note",) and images.statistics == stated


class FourChannels(ImageDataset):
    """A set that somebody wrote, with transparency."""

    name, labels, classes, ids, channels = "mine", None, (), torch.arange(3), 4

    def read(self, index):
        return torch.zeros(4, 8, 8, dtype=torch.uint8)

    def subset(self, index):
        return self


def test_a_set_of_four_channels_is_no_damaged_one():
    with pytest.raises(MinimaeError, match="^mine: 1 or 3 channels are read one by one, not 4: use from_array or from_dataset$"):
        read(FourChannels(), in_order(3, 3), skip_corrupt=True)


def test_a_view_is_not_flipped(jpegs):
    a, b = (read(open_stream(jpegs), in_order(18, 18), augmentation=Augmentation(flip=flip))[0][0] for flip in (True, False))
    assert equal(a, b)


def test_crops_of_rehearsal_images_follow_the_recipe(tmp_path):
    """RandomResizedCrop's share of the area, for images of many shapes."""
    stream = open_stream(make_folder(tmp_path, classes=2, train=10, val=1, share=0.2))
    batches, _ = read(stream, [(torch.arange(20), torch.full((20,), e)) for e in range(20)], image=8)
    sizes = torch.tensor([stream.size_of(i) for i in range(20)]).float()
    shares = torch.cat([b.boxes[:, 2] * b.boxes[:, 3] / sizes.prod(1) for b in batches])
    torch.manual_seed(0)
    theirs = []
    for height, width in sizes.long().tolist() * 20:
        p = v2.RandomResizedCrop(8, scale=(0.2, 1.0)).make_params([torch.empty(3, height, width)])
        theirs.append(p["height"] * p["width"] / (height * width))
    assert float(shares.mean()) == pytest.approx(float(np.mean(theirs)), abs=0.04)
