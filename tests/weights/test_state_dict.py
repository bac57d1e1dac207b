"""Weights inside wrappers: found where only one choice is possible, and otherwise asked for, with what was found. Nothing is run."""

from __future__ import annotations

import pathlib
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_layouts import big, equal, official, trained
from torch import Tensor

import minimae
from minimae import MinimaeError
from minimae.cli.program import main
from minimae.tasks.pretrain import Pretrained

KNOWN: dict[str, Any] = {"heads": 4, "decoder_heads": 2, "statistics": ([0.5] * 3, [0.5] * 3), "target": "normalised"}
BEFORE = trained()
TENSORS = official(BEFORE)


def named(prefix: str, tensors: dict[str, Tensor] = TENSORS) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("prefix", "key"),
    [("", None), ("module.", "model"), ("_orig_mod.", "state_dict"), ("_orig_mod.module.", "teacher"), ("module._orig_mod.", "model_ema"),
     ("backbone.", "student_state"), ("model.", "ema.module"), ("encoder.", None), ("model.backbone.vit.", "state_dict")],
)  # fmt: skip
def test_wrappers_are_seen_through(prefix: str, key: str | None, tmp_path: Path) -> None:
    state: Any = named(prefix)
    for name in reversed(key.split(".") if key else []):
        state = {name: state, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []}}
    torch.save(state, tmp_path / "a.pth")
    for source in (tmp_path / "a.pth", state):
        after = minimae.load(source, **KNOWN)
        assert isinstance(after, Pretrained) and equal(after.model, BEFORE.model)


@pytest.mark.parametrize("prefix", ["model.", "backbone."])
def test_wrappers_of_the_other_layouts(prefix: str, tmp_path: Path) -> None:
    theirs = big()
    torch.save({"state_dict": named(prefix, theirs.state_dict())}, tmp_path / "hf.pt")
    one = minimae.load(tmp_path / "hf.pt", **KNOWN)
    assert equal(one.model, minimae.load(theirs, statistics=([0.5] * 3, [0.5] * 3)).model)  # type: ignore[union-attr]


def test_several_sets_are_listed_and_one_is_chosen(tmp_path: Path) -> None:
    other = official(trained())
    torch.save({"model": TENSORS, "model_ema": other, "epoch": 9}, tmp_path / "two.pth")
    with pytest.raises(MinimaeError, match=r"several sets .*: model \(\d+ tensors\), model_ema \(\d+ tensors\). Choose one with key="):
        minimae.load(tmp_path / "two.pth", **KNOWN)
    for key, tensors in (("model", TENSORS), ("model_ema", other)):
        found = minimae.load(tmp_path / "two.pth", key=key, **KNOWN)
        assert torch.equal(found.model.encoder.norm.weight, tensors["norm.weight"])  # type: ignore[union-attr]
    with pytest.raises(MinimaeError, match=r"no weights under 'ema'; it holds model \("):
        minimae.load(tmp_path / "two.pth", key="ema", **KNOWN)


def test_several_prefixes_are_listed_and_one_is_chosen(tmp_path: Path) -> None:
    other = official(trained())
    torch.save({"state_dict": {**named("student.backbone."), **named("teacher.backbone.", other)}}, tmp_path / "two.pth")
    with pytest.raises(MinimaeError, match=r"begin with 'student.backbone.', 'teacher.backbone.'. Choose one with prefix= \(--prefix\)"):
        minimae.load(tmp_path / "two.pth", **KNOWN)
    found = minimae.load(tmp_path / "two.pth", prefix="teacher.backbone", **KNOWN)
    assert torch.equal(found.model.encoder.norm.weight, other["norm.weight"])  # type: ignore[union-attr]
    with pytest.raises(MinimaeError, match=r"no name in .* begins with 'ema.'; they begin with student. \(\d+\), teacher. \(\d+\)"):
        minimae.load(tmp_path / "two.pth", prefix="ema.", **KNOWN)


def test_a_head_beside_the_backbone_is_not_dropped_in_silence(tmp_path: Path) -> None:
    torch.save({**named("backbone."), "projector.weight": torch.zeros(2, 2)}, tmp_path / "a.pth")
    with pytest.raises(MinimaeError, match=r"others \(projector. \(1\)\). To take the model alone, give prefix='backbone.'"):
        minimae.load(tmp_path / "a.pth", **KNOWN)
    assert equal(minimae.load(tmp_path / "a.pth", prefix="backbone.", **KNOWN).model, BEFORE.model)  # type: ignore[union-attr]


def test_a_moving_average_of_torch(tmp_path: Path) -> None:
    average = torch.optim.swa_utils.AveragedModel(BEFORE.model)
    torch.save(average.state_dict(), tmp_path / "a.pt")
    with pytest.raises(MinimaeError, match=r"has our names, but no description of the model: write it with minimae.save"):
        minimae.load(tmp_path / "a.pt")


def test_paths_and_numbers_beside_the_tensors_are_no_code(tmp_path: Path) -> None:
    beside = {
        "out": pathlib.Path("/data/out"), "windows": pathlib.PureWindowsPath("C:/x"), "best": np.float64(83.6), "step": np.int64(4),
        "array": np.arange(3), "text": np.str_("x"), "flag": np.bool_(True), "args": Namespace(out=pathlib.Path("x"), norm_pix_loss=True),
    }  # fmt: skip
    torch.save({"model": TENSORS, **beside}, tmp_path / "a.pth")
    after = minimae.load(tmp_path / "a.pth", **{**KNOWN, "target": None})
    assert isinstance(after, Pretrained) and equal(after.model, BEFORE.model) and after.recipe.target == "normalised"


@pytest.mark.parametrize("what", ["object array", "class"])
def test_the_list_of_what_may_stand_beside_is_narrow(what: str, tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    hostile: Any = Hostile(mark)
    torch.save({"model": TENSORS, "x": np.array([hostile], dtype=object) if what == "object array" else hostile}, tmp_path / "a.pth")
    with pytest.raises(MinimaeError, match="would run Python code"):
        minimae.load(tmp_path / "a.pth", **KNOWN)
    assert not mark.exists()


class Hostile:
    """Makes a file when it is unpickled, as a stand-in for worse."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return pathlib.Path.touch, (self.mark,)


def test_live_models_and_tensors_are_loaded_by_name_of_the_package() -> None:
    assert isinstance(minimae.load(big(), statistics=([0.5] * 3, [0.5] * 3)), Pretrained)
    assert isinstance(minimae.load(TENSORS, **KNOWN), Pretrained)
    with pytest.raises(MinimaeError, match="is already one of our models"):
        minimae.load(BEFORE.model)
    with pytest.raises(MinimaeError, match="weights are a name, a file, a folder, tensors by name or a live model, not int"):
        minimae.load(3)  # type: ignore[arg-type]


def test_the_command_has_the_same_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grey = trained(channels=1)
    torch.save({"model": named("net."), "ema": named("net.", official(grey))}, tmp_path / "a.pth")
    command = ["convert", str(tmp_path / "a.pth"), str(tmp_path / "b.safetensors"), "--to", "minimae", "--heads", "4"]
    command += ["--decoder-heads", "2"]
    assert main(command) == 2 and "--key" in capsys.readouterr().err
    assert main([*command, "--key", "ema", "--target", "pixels"]) == 2 and "--mean" in capsys.readouterr().err
    assert main([*command, "--key", "ema", "--prefix", "net.", "--target", "pixels", "--mean", "0.3", "--std", "0.2"]) == 0
    after = minimae.load(tmp_path / "b.safetensors")
    assert isinstance(after, Pretrained) and equal(after.model, grey.model) and after.statistics[0].tolist() == pytest.approx([0.3])
