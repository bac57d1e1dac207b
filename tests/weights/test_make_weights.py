"""make weights: the shipped weights from their recipes, with a card that says what was measured."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

import minimae
from minimae import MinimaeError, recipes
from minimae.tasks.pretrain import Pretrained

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_weights", ROOT / "data" / "make_weights.py")
    assert spec and spec.loader
    monkeypatch.setitem(sys.modules, "make_weights", module := importlib.util.module_from_spec(spec))  # its dataclass looks there
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_from_recipe_to_card(made: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(made.SHIPPED, "fashion-nano", replace(made.SHIPPED["fashion-nano"], labels=40))
    monkeypatch.setattr(recipes, "FEW_LABELS", replace(recipes.FEW_LABELS, epochs=2, batch=20, warmup_epochs=0))
    how = {"runs": tmp_path / "runs", "out": tmp_path / "weights", "device": "cpu", "where": {"limit": 200}}
    changes = {"data": "fashion", "epochs": 2, "batch": 40, "depth": 2, "warmup_epochs": 0, "log_every": 1}
    made.make("fashion-nano", **how, **changes)
    card = (tmp_path / "weights" / "fashion-nano.md").read_text()
    assert "| steps | 10 of 40 images: 400 images seen, 2 epochs; seed 0; last step, not the best |" in card
    assert "20-NN with 200 training images" in card and "linear probe on 40 labels" in card and "fine-tuned on 40 labels" in card
    first = minimae.load(tmp_path / "weights" / "fashion-nano.safetensors")
    points = [json.loads(line) for line in (tmp_path / "weights" / "fashion-nano.metrics.jsonl").read_text().splitlines()]
    assert isinstance(first, Pretrained) and points[-1]["step"] == 10
    made.make("fashion-nano", **how, **changes)  # a run that is done is not run again
    again = minimae.load(tmp_path / "weights" / "fashion-nano.safetensors")
    assert isinstance(again, Pretrained)
    assert all(torch.equal(a, b) for a, b in zip(first.model.state_dict().values(), again.model.state_dict().values(), strict=True))


def test_an_unknown_name(made: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(MinimaeError, match="fashion-mega is not shipped; choose one of fashion-nano, photos-micro"):
        made.make("fashion-mega", runs=tmp_path, out=tmp_path, device="cpu", where={})
    assert set(made.SHIPPED) <= set(recipes.PRETRAIN)


@pytest.mark.parametrize("file", sorted((ROOT / "data" / "weights").glob("*.safetensors")), ids=lambda file: file.stem)
def test_what_is_shipped_is_small_and_has_a_card(file: Path, made: ModuleType) -> None:
    assert file.stat().st_size < 15e6 and file.stem in made.SHIPPED
    card = file.with_suffix(".md").read_text(encoding="utf-8")
    assert all(f"| {word}" in card for word in ("recipe", "data", "steps", "loss", "time, machine", "licence"))
    found = minimae.load(file.stem)
    assert isinstance(found, Pretrained) and found.decoder
    assert (file.parent / f"{file.stem}.metrics.jsonl").is_file()
