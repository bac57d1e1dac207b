"""Whatever is changed in packed shards, verify names it; the reader refuses what contradicts itself; packing again puts it right."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from minimae.cli.program import main
from minimae.data.pack import pack
from minimae.data.photos import make_folder
from minimae.data.shards import Index, read_index, write_index
from minimae.data.stream import open_shards
from minimae.data.verify import verify

HOW = {"side": 32, "shard_size": 4, "workers": 1, "quiet": True}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder of 3 classes, and its shards."""
    root = tmp_path_factory.mktemp("made")
    make_folder(root / "pictures", classes=3, train=4, val=2, share=0.15)
    for split in ("train", "val"):
        pack(root / "pictures", split, root / "out", **HOW)
    return root


@pytest.fixture
def out(made, tmp_path) -> Path:
    """A copy of the shards that a test may damage."""
    return shutil.copytree(made / "out", tmp_path / "out")


def edited(folder: Path, **changes) -> None:
    """Another index with its own right checksum, as of somebody who means it."""
    write_index(folder / "index.json", replace(read_index(folder / "index.json"), **changes))


def changed(values: list[int], at: int, to: int) -> list[int]:
    return [*values[:at], to, *values[at + 1 :]]


def lists(folder: Path) -> Index:
    return read_index(folder / "index.json")


def test_whole_shards_pass(made):
    assert verify(made / "out", quiet=True) == verify(made / "out/val", quiet=True) == []


@pytest.mark.parametrize("field", ["ids", "offsets", "lengths", "labels", "classes", "skipped", "name", "split", "shards", "recipe"])
@pytest.mark.parametrize("file", ["index.json", "000001.json"])
def test_the_checksum_covers_every_field_of_an_index(field, file, out):
    path = out / "train" / file
    content = json.loads(path.read_text())
    value = content[field]
    if isinstance(value, dict):
        value["side"] += 1
    elif field == "shards":
        value[0]["images"] += 0
        value[0]["sha256"] = "0" * 64
    else:
        content[field] = "val" if isinstance(value, str) else [*value[1:], *value[:1], *([] if value else ["x"])]
    path.write_text(json.dumps(content))
    assert any(f"{path} is damaged" in line for line in verify(out, quiet=True))
    if file == "index.json":
        with pytest.raises(ValueError, match="is damaged"):
            open_shards(out)


CONTRADICTIONS = {
    "a label beyond the classes": (lambda i: {"labels": changed(i.labels, 5, 9)}, "label 9 is beyond its 3 classes"),
    "a negative label": (lambda i: {"labels": changed(i.labels, 5, -1)}, "-1 among its labels"),
    "a label that is no integer": (lambda i: {"labels": changed(i.labels, 5, 1.0)}, "1.0 among its labels"),
    "an id twice": (lambda i: {"ids": changed(i.ids, 5, i.ids[0])}, "a sample id occurs twice"),
    "a negative id": (lambda i: {"ids": changed(i.ids, 5, -7)}, "-7 among its ids"),
    "an offset beyond the shard": (lambda i: {"offsets": changed(i.offsets, 3, 10**7)}, "000000.tar"),
    "an offset into another image": (lambda i: {"offsets": changed(i.offsets, 2, i.offsets[1] + 8)}, "overlap in 000000.tar"),
    "offsets in another order": (lambda i: {"offsets": changed(changed(i.offsets, 1, i.offsets[2]), 2, i.offsets[1])}, "overlap"),
    "a length beyond the shard": (lambda i: {"lengths": changed(i.lengths, 11, 10**7)}, "lie outside"),
    "a length of nothing": (lambda i: {"lengths": changed(i.lengths, 1, 0)}, "lie outside"),
    "lists of different length": (lambda i: {"ids": i.ids[:-1]}, "differ in length"),
    "a class twice": (lambda i: {"classes": (*i.classes[:2], i.classes[0])}, "class names are not all different"),
    "no classes": (lambda i: {"classes": ()}, "labels without classes"),
    "no labels": (lambda i: {"labels": None}, "classes without labels"),
    "a shard twice": (lambda i: {"shards": (i.shards[0], *i.shards[:2])}, "each once"),
    "a shard elsewhere": (lambda i: {"shards": (*i.shards[:2], replace(i.shards[2], file="../val/000000.tar"))}, "of this folder"),
    "other counts": (lambda i: {"shards": (*i.shards[:2], replace(i.shards[2], images=5))}, "differ in length"),
}


@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_an_index_that_contradicts_itself_is_refused_whatever_its_checksum_says(kind, out, made):
    change, said = CONTRADICTIONS[kind]
    edited(out / "train", **change(lists(out / "train")))
    for refused in (lambda: open_shards(out), lambda: read_index(out / "train/index.json")):
        with pytest.raises(ValueError, match=said):
            refused()
    assert any(said in line for line in verify(out, quiet=True))
    pack(made / "pictures", "train", out, **HOW)
    assert verify(out, quiet=True) == []


def test_labels_within_the_classes_that_are_not_those_of_the_shard_are_found(out):
    index = lists(out / "train")
    edited(out / "train", labels=[(label + 1) % 3 for label in index.labels])
    assert sum("holds another label" in line for line in verify(out, quiet=True)) == 3


def test_ids_that_are_not_those_of_the_shard_are_found(out):
    edited(out / "train", ids=lists(out / "train").ids[::-1])
    assert any("where the index says" in line for line in verify(out, quiet=True))


def test_an_image_that_the_index_leaves_out_is_found(out):
    index = lists(out / "train")
    last = replace(index.shards[2], images=3)
    cut = {name: getattr(index, name)[:-1] for name in ("ids", "offsets", "lengths", "labels")}
    edited(out / "train", shards=(*index.shards[:2], last), **cut)
    assert any("holds more than the index says" in line for line in verify(out, quiet=True))


def test_other_class_names_are_found(out):
    edited(out / "train", classes=("a", "b", "c"))
    assert any("different classes" in line for line in verify(out, quiet=True))
    with pytest.raises(ValueError, match="same classes"):
        open_shards(out, "val")


def test_swapped_shards_are_found_even_with_their_indexes(out, made):
    train = out / "train"
    for suffix in (".tar", ".json"):
        (train / f"000000{suffix}").rename(train / "kept")
        (train / f"000001{suffix}").rename(train / f"000000{suffix}")
        (train / "kept").rename(train / f"000001{suffix}")
    wrong = verify(out, quiet=True)
    assert any("000000" in line for line in wrong) and any("000001" in line for line in wrong)
    (train / "index.json").unlink()
    pack(made / "pictures", "train", out, **HOW)
    assert verify(out, quiet=True) == []
    for path in train.glob("*.tar"):
        assert path.read_bytes() == (made / "out/train" / path.name).read_bytes()


def test_swapped_splits_are_refused(out):
    (out / "train").rename(out / "kept")
    (out / "val").rename(out / "train")
    (out / "kept").rename(out / "val")
    assert sum("holds the split" in line for line in verify(out, quiet=True)) == 2
    for split in ("train", "val"):
        with pytest.raises(ValueError, match="holds shards of the split"):
            open_shards(out, split)
    (out / "train").rename(out / "test")  # val was packed, and is tested on: that is no mistake
    assert len(open_shards(out, "test")) == 6


def test_shards_missing_and_too_many_are_found(out):
    shutil.copy(out / "train/000000.tar", out / "train/000007.tar")
    (out / "train/000001.tar").unlink()
    (out / "val/index.json").unlink()
    wrong = verify(out, quiet=True)
    assert len(wrong) == 3
    for what in ("000007.tar is in no index", "000001.tar is missing", "no .*val/index.json"):
        assert any(what.replace(".*", str(out) + "/") in line for line in wrong), (what, wrong)


@pytest.mark.parametrize("kept", [0, 1, 40, -1])
def test_a_cut_off_index_is_named(kept, out):
    path = out / "train/index.json"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="is damaged or of another version"):
        open_shards(out)
    assert any("is damaged" in line for line in verify(out, quiet=True))


def test_shards_of_the_earlier_version_are_read_and_brought_up_to_date(out, made):
    for folder in (out / "train", out / "val"):
        for path in folder.glob("*.json"):
            content = json.loads(path.read_text())
            for name in ("sha256", "split"):
                del content[name]
            for shard in content["shards"]:
                del shard["stamp"], shard["source"]
            path.write_text(json.dumps({**content, "format": 1}))
    before = (out / "train/000001.tar").stat().st_mtime_ns
    assert len(open_shards(out)) == 12
    assert sum("earlier version" in line for line in verify(out, quiet=True)) == 2
    for split in ("train", "val"):
        pack(made / "pictures", split, out, **HOW)
    assert verify(out, quiet=True) == [] and (out / "train/000001.tar").stat().st_mtime_ns == before


def test_the_command_says_once_what_to_do(out, capsys):
    for damage in ("{", None):
        if damage:
            (out / "train/index.json").write_text(damage)
        else:
            shutil.copy(out / "train/000000.json", out / "train/index.json")
        assert main(["data", "verify", str(out)]) == 2
        [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("minimae: ")]
        assert line.count("run `minimae data pack` again") == 1
