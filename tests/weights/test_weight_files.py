"""Files of strangers: nothing in them is run, nothing is allocated that they do not hold, and every refusal names the file."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import minimae
from minimae import MinimaeError
from minimae.weights.files import open_weights


class Hostile:
    """Whoever unpickles this makes a file, as a stand-in for worse."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "pytorch_model.bin"])
def test_a_hostile_pickle_does_nothing(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    torch.save({"model": {"cls_token": torch.zeros(1)}, "args": Hostile(mark)}, tmp_path / name)
    with pytest.raises(MinimaeError, match=rf"{name} would run Python code when opened .*system.*it was not opened"):
        minimae.load(tmp_path / name)
    assert not mark.exists()


def test_an_old_pickle_is_not_even_looked_at(tmp_path: Path) -> None:
    mark, path = tmp_path / "it ran", tmp_path / "old.pth"
    path.write_bytes(pickle.dumps(Hostile(mark)))
    with pytest.raises(MinimaeError, match=r"old.pth is damaged, or was not saved by torch 1.6 or newer"):
        open_weights(path)
    torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(MinimaeError, match="save it again with a newer torch"):
        open_weights(path)
    assert not mark.exists()


def test_a_file_that_would_unpack_into_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\0" * 10_000_000)
    assert path.stat().st_size < 50_000
    with pytest.raises(MinimaeError, match=r"bomb.pth would unpack into more than it holds \(bomb/data.pkl\); it was not opened"):
        open_weights(path)


def test_a_tensor_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    head = json.dumps({"cls_token": {"dtype": "F32", "shape": [1 << 20, 1 << 20], "data_offsets": [0, 4 << 40]}}).encode()
    path = tmp_path / "huge.safetensors"
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"\0" * 64)
    with pytest.raises(MinimaeError, match="huge.safetensors is damaged"):
        open_weights(path)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_named(share: float, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"cut{suffix}"
    tensors = {"cls_token": torch.randn(1, 1, 64), "pos_embed": torch.randn(1, 65, 64)}
    torch.save(tensors, path) if suffix == ".pth" else save_file(tensors, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(MinimaeError, match=rf"cut{suffix} is damaged"):
        open_weights(path)


@pytest.mark.parametrize(("name", "what"), [
    ("net.onnx", "a program"), ("net.pt2", "a program"), ("mine.json", "a JSON file"), ("my.yaml", "a recipe"),
])  # fmt: skip
def test_a_file_of_another_kind_is_called_what_it_is(name: str, what: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(MinimaeError, match=f"{name} is {what}, not weights: name a run folder, or a file of weights"):
        open_weights(tmp_path / name)


def test_what_holds_no_weights_says_so(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "numbers.pth")
    (tmp_path / "empty").mkdir()
    for name, said in (
        ("list.pth", "holds list, not a dictionary"),
        ("numbers.pth", "holds no tensors, only epoch, lr"),
        ("none.pth", "there are no weights at"),
    ):
        with pytest.raises(MinimaeError, match=said):
            open_weights(tmp_path / name)
    with pytest.raises(MinimaeError, match="holds no weights: expected one of model.safetensors"):
        open_weights(tmp_path / "empty")


def test_a_folder_in_parts(tmp_path: Path) -> None:
    one, two = {"a.weight": torch.ones(2)}, {"b.weight": torch.zeros(3, dtype=torch.float16)}
    save_file(one, tmp_path / "model-00001-of-00002.safetensors")
    save_file(two, tmp_path / "model-00002-of-00002.safetensors")
    index = {"weight_map": {"a.weight": "model-00001-of-00002.safetensors", "b.weight": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text('{"hidden_size": 2}')
    found = open_weights(tmp_path)
    assert found.tensors.keys() == {"a.weight", "b.weight"} and found.config == {"hidden_size": 2}
    assert found.tensors["b.weight"].dtype == torch.float32, "half precision becomes whole"
    index["weight_map"]["a.weight"] = "../elsewhere.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(MinimaeError, match="points outside its folder"):
        open_weights(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(MinimaeError, match="config.json is not JSON"):
        open_weights(tmp_path)


def test_memory_is_mapped_and_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "large.pth"
    torch.save({"cls_token": torch.zeros(1 << 20)}, path)
    assert open_weights(path).tensors["cls_token"].shape == (1 << 20,)
