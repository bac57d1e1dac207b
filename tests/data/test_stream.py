"""Class folders and shards are the same images to whoever reads them; what is not whole says so before the first step."""

import io
import json
import pickle
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image

from minimae.data import load
from minimae.data.decoding import decode, encode, read_header, scale_of
from minimae.data.photos import make_folder
from minimae.data.shards import read_index, write_index
from minimae.data.stream import open_folder, open_shards, open_stream, packed
from minimae.errors import MinimaeError


@pytest.fixture
def copied(shards, tmp_path):
    """Shards that a test may damage."""
    return shutil.copytree(shards, tmp_path / "shards")


def test_a_folder_is_listed_as_the_reader_of_folders_lists_it(jpegs):
    stream, images = open_folder(jpegs), load(jpegs, image=16)
    assert torch.equal(stream.labels, images.labels) and torch.equal(stream.ids, images.ids) and stream.classes == images.classes
    assert len(stream) == 18 and stream.classes == ("n00000001", "n00000002", "n00000003") and stream.channels == 3
    assert stream.path_of(0) == jpegs / "train/n00000001/n00000001_0.JPEG"
    assert stream.bytes_of(7) == stream.path_of(7).read_bytes()
    assert len(open_stream(jpegs, "val")) == len(open_stream(jpegs, "test")) == 6


def test_the_statistics_are_those_of_imagenet(jpegs):
    mean, deviation = open_folder(jpegs).statistics
    assert mean.tolist() == pytest.approx([0.485, 0.456, 0.406]) and deviation.tolist() == pytest.approx([0.229, 0.224, 0.225])


def test_sizes_are_those_of_the_files(jpegs):
    stream = open_folder(jpegs)
    for place in range(5):
        with Image.open(stream.path_of(place)) as picture:
            assert stream.size_of(place) == (picture.height, picture.width)


def test_shards_hold_the_images_of_the_folder_in_its_order(jpegs, shards):
    full, packed = open_stream(jpegs), open_stream(shards)
    assert packed.span is not None and full.span is None
    assert torch.equal(full.ids, packed.ids) and torch.equal(full.labels, packed.labels) and full.classes == packed.classes
    for place in range(len(full)):
        small = Image.open(io.BytesIO(packed.bytes_of(place)))
        assert min(small.size) == 64
        resized = Image.open(full.path_of(place)).resize(small.size, Image.Resampling.BICUBIC)
        assert packed.bytes_of(place) == encode(resized, 90)


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_a_stream_can_be_sent_to_another_process(kind, jpegs, shards):
    stream = open_stream(jpegs if kind == "folder" else shards)
    wanted = stream.bytes_of(3)
    sent = pickle.loads(pickle.dumps(stream))
    assert sent.bytes_of(3) == wanted


def test_a_subset_keeps_ids_and_bytes(shards):
    stream = open_shards(shards)
    part = stream.subset([4, 2])
    assert part.ids.tolist() == [4, 2] and part.bytes_of(0) == stream.bytes_of(4)
    few = open_stream(shards, limit=6)
    assert few.labels.bincount().tolist() == [2, 2, 2] and open_stream(shards, limit=99).ids.tolist() == list(range(18))


def test_a_cut_off_shard_is_found_when_it_is_opened(copied):
    shard = copied / "train/000001.tar"
    shard.write_bytes(shard.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"000001.tar has .* bytes, not .*pack again"):
        open_shards(copied)
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=r"000001.tar is missing"):
        open_shards(copied)


def test_a_shard_cut_off_while_it_is_used_is_an_error(copied):
    stream = open_shards(copied)
    for shard in (copied / "train").glob("*.tar"):
        shard.write_bytes(shard.read_bytes()[:600])
    with pytest.raises(MinimaeError, match="was cut off"):
        stream.bytes_of(0)


@pytest.mark.parametrize("damage", ["text", "format", "lists", "nothing"])
def test_a_damaged_index_is_named(damage, copied):
    path = copied / "train/index.json"
    content = json.loads(path.read_text())
    if damage == "format":
        content["format"] = 99
    elif damage == "lists":
        content["offsets"].pop()
    path.write_text({"text": "{", "nothing": "[]"}.get(damage, json.dumps(content)))
    with pytest.raises(ValueError, match=r"index.json is damaged"):
        open_shards(copied)


def test_unfinished_and_missing_shards_are_said(copied, tmp_path):
    (copied / "train/index.json").unlink()
    with pytest.raises(FileNotFoundError, match="packing did not finish"):
        open_stream(copied)
    with pytest.raises(FileNotFoundError, match="no shards of the split train"):
        open_shards(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        open_stream(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="not 'tset'"):
        open_shards(copied, "tset")


def test_other_classes_than_in_training_are_an_error(copied):
    path = copied / "val/index.json"
    write_index(path, replace(read_index(path), classes=("n00000001", "n00000002", "n00000009")))
    with pytest.raises(ValueError, match=r"same classes; only in one: n00000003, n00000009"):
        open_shards(copied, "val")


def test_wrong_folders_are_told_as_for_folders_in_memory(jpegs, tmp_path):
    root = shutil.copytree(jpegs, tmp_path / "jpegs")
    (root / "train/n00000004").mkdir()
    with pytest.raises(ValueError, match=r"no pictures in .*n00000004"):
        open_stream(root)
    with pytest.raises(ValueError, match="must have the same classes; only in train: n00000004"):
        open_stream(root, "val")


def test_a_turned_picture_lies_upright_and_other_formats_become_rgb():
    picture = Image.effect_noise((40, 24), 80).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, png, cmyk = io.BytesIO(), io.BytesIO(), io.BytesIO()
    picture.save(turned, "JPEG", exif=exif)
    picture.convert("P").save(png, "PNG")
    picture.convert("CMYK").save(cmyk, "JPEG")
    for data, size, plain in ((turned, (40, 24), False), (png, (24, 40), False), (cmyk, (24, 40), False)):
        header = read_header(data.getvalue())
        assert (header.height, header.width) == size and header.plain is plain
        shown = decode(header)
        assert shown.mode == "RGB" and shown.size == size[::-1]
    assert read_header(encode(picture, 90)).plain


@pytest.mark.parametrize(("crop", "scale"), [(50, 1), (63, 1), (64, 2), (127, 2), (128, 4), (256, 8), (999, 8)])
def test_no_more_is_decoded_than_the_crop_needs(crop, scale):
    header = read_header(encode(Image.new("RGB", (1000, 1001)), 90))
    assert scale_of(header, crop, crop + 9, wanted=(32, 32)) == scale
    assert decode(header, scale).size == (-(-1000 // scale), -(-1001 // scale))


def test_the_rehearsal_folder_is_the_same_every_time(tmp_path):
    first, second = (make_folder(tmp_path / name, classes=2, train=2, val=1, share=0.1) for name in "ab")
    files = sorted(p.relative_to(first) for p in first.rglob("*.JPEG"))
    assert len(files) == 6 and all((first / p).read_bytes() == (second / p).read_bytes() for p in files)
    with pytest.raises(ValueError, match="at least 1"):
        make_folder(tmp_path, classes=0)


def test_other_tar_files_beside_pictures_are_no_shards(jpegs, tmp_path):
    """ImageNet comes as a tar file of each class, and these may still lie beside the folders."""
    root = shutil.copytree(jpegs, tmp_path / "pictures")
    (root / "train/n00000001.tar").write_bytes(b"the pictures")
    assert len(open_stream(root)) == 18 and not packed(root)
