"""Labels come in as they are, exactly, or are refused with the reason: nothing is truncated, ignored or guessed."""

import numpy as np
import pytest
import torch

from minimae.data import from_array
from minimae.data.folder import files_of
from minimae.data.images import Images
from minimae.data.labels import as_labels

PIXELS = np.zeros((3, 1, 4, 4), np.uint8)
INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64, ">i4", ">u8"]


def in_memory(labels, classes=()):
    return Images("mine", torch.from_numpy(PIXELS), labels, classes).labels


def array(labels, classes=()):
    return from_array("mine", PIXELS, labels, classes).labels


@pytest.mark.parametrize("door", [in_memory, array])
@pytest.mark.parametrize(
    "labels",
    [
        [2, 0, 1],
        (2, 0, 1),
        range(2, -1, -1),
        *(np.array([2, 0, 1], dtype) for dtype in INTEGERS),
        np.array([2, 0, 1, 9, 9, 9])[::1][:3],
        np.array([1, 9, 0, 9, 2])[::-2],
        np.array([2.0, 0.0, 1.0]),
        np.float32([2, 0, 1]),
        np.ma.masked_array([2, 0, 1], mask=False),
        *(torch.tensor([2, 0, 1], dtype=dtype) for dtype in (torch.uint8, torch.int16, torch.int64, torch.float64, torch.bfloat16)),
        [np.int64(2), np.int64(0), 1],
        np.array([2, 0, 1], object),
    ],
)
def test_whole_numbers_are_kept_exactly(door, labels):
    wanted = [int(x) for x in (labels.tolist() if hasattr(labels, "tolist") else labels)]
    assert door(labels).dtype == torch.int64 and door(labels).tolist() == wanted
    assert sorted(wanted) == [0, 1, 2]


@pytest.mark.parametrize("door", [in_memory, array])
def test_booleans_are_0_and_1_and_names_are_looked_up(door):
    assert door([True, False, True]).tolist() == door(torch.tensor([True, False, True])).tolist() == [1, 0, 1]
    names = ("owl", "cat", "bat")  # their order is the caller's
    for labels in (["cat", "owl", "bat"], np.array(["cat", "owl", "bat"]), np.array(["cat", "owl", "bat"], object)):
        assert door(labels, names).tolist() == [1, 0, 2]


@pytest.mark.parametrize("door", [in_memory, array])
@pytest.mark.parametrize(
    ("labels", "classes", "said"),
    [
        ([0.9, 1.0, 2.0], (), r"label 0.9\d* \(image 0\) is not a whole number"),
        (torch.tensor([0, 1.5, 2]), (), r"label 1.5 \(image 1\) is not a whole number"),
        (np.array([0, np.nan, 1]), (), r"label nan \(image 1\) is not a whole number"),
        (np.array([0, np.inf, 1]), (), r"label inf \(image 1\)"),
        (np.array([0, 2**63, 1], np.uint64), (), r"\(image 1\) is too large"),
        (np.ma.masked_array([0, 1, 2], mask=[False, True, False]), (), r"label of image 1 is masked"),
        ([0, -1, 1], (), r"label -1 \(image 1\) is negative"),
        (torch.tensor([0, 1, 9]), ("a", "b", "c", "d"), r"label 9 \(image 2\) is beyond the 4 classes"),
        ([0, 1, 4], ("a", "b", "c", "d"), r"label 4 \(image 2\) is beyond the 4 classes"),
        ([0, 1], (), "3 images but 2 labels"),
        (torch.zeros(4), (), "3 images but 4 labels"),
        (np.eye(3), (), r"argmax\(1\)"),
        (torch.tensor(1), (), r"not an array of torch.int64 of shape \(\)"),
        (["cat", "owl", "bat"], (), r"labels are names \('bat', 'cat', 'owl'\); give the names of all classes"),
        (["cat", "owl", "bat"], ("cat", "owl"), "the label 'bat' is none of the 2 classes cat, owl"),
        (["0", "1", "2"], (), "labels are names"),
        ([0, None, 1], (), "not None"),
        ([0, "a", 1], (), "labels are (names|integers)"),
        (["cat", None, "cat"], ("cat",), "not None"),
        (np.array([0, 2**70, 1], object), (), r"\(image 1\) is too large"),
        (["cat", "", "cat"], ("cat",), "the label '' is none of the 1 classes"),
        (np.array([0, 1, 2], complex), (), "not (an array of torch.)?complex128"),
        (np.array(["2020-01-01"] * 3, "datetime64[D]"), (), "not datetime64"),
    ],
)
def test_what_is_refused(door, labels, classes, said):
    with pytest.raises(ValueError, match=f"mine: .*{said}"):
        door(labels, classes)


def test_files_take_labels_by_the_same_rule(tmp_path):
    def files(labels, classes=()):
        return files_of("mine", tmp_path, list("abc"), labels, classes).labels

    with pytest.raises(ValueError, match="is not a whole number"):
        files([0, 0.5, 1])
    with pytest.raises(ValueError, match="beyond the 2 classes"):
        files([0, 1, 2], ("a", "b"))
    assert files(["b", "a", "b"], ("a", "b")).tolist() == [1, 0, 1]


def test_the_caller_keeps_the_array():
    labels = np.array([2, 0, 1])
    as_labels("mine", labels, 3)[0] = 9
    assert labels[0] == 2


def test_other_things_are_refused_as_images():
    with pytest.raises(ValueError, match=r"pixels are a tensor, not ndarray; minimae.data.from_array"):
        Images("mine", PIXELS)
    with pytest.raises(ValueError, match="ids are an int64 tensor, one for each image"):
        Images("mine", torch.from_numpy(PIXELS), ids=torch.arange(2))
    with pytest.raises(ValueError, match="masked values"):
        from_array("mine", np.ma.masked_array(PIXELS, mask=PIXELS == 0))
