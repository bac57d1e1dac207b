"""The encoder elsewhere: features in one line, scikit-learn, ONNX, torch.export; and every page of code, run as it stands."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracles import scrambled, small
from sklearn.base import clone

import minimae
from minimae import MAE, MinimaeError
from minimae.cli.parsing import parse
from minimae.cli.program import main
from minimae.data.images import Images
from minimae.tasks.features import extract
from minimae.tasks.finetune import Classifier
from minimae.tasks.pretrain import Pretrain, Pretrained
from minimae.weights import Classified
from minimae.weights.export import exported, save_program
from minimae.weights.scikit import MAEFeatures

DOCS = Path(__file__).resolve().parents[2] / "docs"


def trained(**changes: Any) -> Pretrained:
    size = small(**changes)
    statistics = (torch.full((size.channels,), 0.4), torch.full((size.channels,), 0.3))
    return Pretrained(scrambled(MAE(size)).eval(), Pretrain(size="nano", patch=4), statistics)  # type: ignore[arg-type]


@pytest.mark.parametrize("page", ["weights", "elsewhere", "your-data", "your-own-task"])
def test_the_code_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    assert "assert" in code
    exec(compile(code, f"{page}.md", "exec"), {"__name__": "__main__"})


def test_the_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "weights.md").read_text(encoding="utf-8").partition("## Converting")[2]
    lines = re.findall(r"^(minimae convert [^#\n]*)", page, re.MULTILINE)
    assert len(lines) == 5
    for line in lines:
        assert main(line.split()[1:]) == 0, line
    assert {path.name for path in tmp_path.iterdir()} == {
        "nano.pth", "nano-folder", "nano.safetensors", "encoder.safetensors", "encoder.onnx"
    }  # fmt: skip


@pytest.mark.parametrize("pool", ["mean", "class", "blocks", "tokens"])
def test_features_of_pixels_are_those_of_images(pool: Any) -> None:
    model = trained()
    pixels = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    expected = extract(model.model.encoder, Images("noise", pixels), model.statistics, pool=pool)
    assert torch.equal(model.features(pixels, pool=pool, batch=2), expected)
    torch.testing.assert_close(model.features(pixels / 255, pool=pool), expected)
    with pytest.raises(ValueError, match="unknown pool 'max'; choose one of mean, class"):
        model.features(pixels, pool="max")  # type: ignore[arg-type]


# --- scikit-learn -----------------------------------------------------------------------------------------------------------


def test_a_step_of_a_pipeline() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
    step = MAEFeatures("fashion-nano", pool="class")
    assert clone(step).get_params() == step.get_params() and step.set_params(batch=2).batch == 2
    found = step.fit_transform(images)
    expected = minimae.load("fashion-nano").features(torch.from_numpy(images)[:, None], pool="class")  # type: ignore[union-attr]
    assert found.dtype == np.float32 and np.allclose(found, expected.numpy(), atol=1e-6)
    assert step.get_feature_names_out().tolist()[:2] == ["mae0", "mae1"] and len(step.get_feature_names_out()) == found.shape[1]
    with pytest.raises(Exception, match="not fitted"):
        MAEFeatures().transform(images)
    with pytest.raises(ValueError, match=r"takes images of shape N height width \(channels last\), not \(6, 28, 28, 3\)"):
        step.transform(np.stack([images] * 3, axis=-1))


def test_channels_first_and_last(tmp_path: Path) -> None:
    minimae.weights.save(trained(), tmp_path / "rgb.safetensors")
    images = np.random.default_rng(0).random((4, 16, 16, 3), dtype=np.float32)
    last = MAEFeatures(tmp_path / "rgb.safetensors").fit(images).transform(images)
    first = MAEFeatures(tmp_path / "rgb.safetensors", layout="channels first").fit_transform(images.transpose(0, 3, 1, 2))
    assert np.array_equal(last, first)


# --- programs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pool", "suffix"), [("mean", ".onnx"), ("tokens", ".onnx"), ("mean", ".pt2"), ("class", ".pt2")])
def test_programs_give_the_same(pool: Any, suffix: str, tmp_path: Path) -> None:
    import onnxruntime

    model, path = trained(), tmp_path / f"encoder{suffix}"
    save_program(model, path, pool=pool)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    for count in (1, 2, 7):
        images = torch.rand(count, 3, 16, 16)
        with torch.no_grad():
            tokens = model.model.encoder((images - 0.4) / 0.3)
        expected = {"mean": tokens[:, 1:].mean(1), "class": tokens[:, 0], "tokens": tokens}[pool]
        if suffix == ".pt2":
            found = torch.export.load(path).module()(images)
        else:
            found = torch.from_numpy(onnxruntime.InferenceSession(path).run(None, {"images": images.numpy()})[0])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_a_classifier_and_another_size_as_programs() -> None:
    model = trained()
    classifier = Classifier(model.model.encoder, 3).eval()
    images = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        expected = classifier((images - 0.4) / 0.3)
        torch.testing.assert_close(exported(Classified(classifier, model.statistics)).module()(images), expected, rtol=0, atol=1e-5)
        wide = torch.rand(3, 3, 16, 24)
        found = exported(model, image=(16, 24)).module()(wide)
    torch.testing.assert_close(found, model.features(wide), rtol=0, atol=1e-4)


def test_mistakes_about_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MinimaeError, match=r"has the extension '.tflite': .pt2 \(torch.export\) or .onnx was expected"):
        save_program(trained(), tmp_path / "a.tflite")
    (tmp_path / "a.onnx").write_text("mine")
    with pytest.raises(MinimaeError, match="already exists"):
        save_program(trained(), tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MinimaeError, match=r'pip install "minimae\[onnx\]"'):
        save_program(trained(), tmp_path / "b.onnx")
    assert {path.name for path in tmp_path.iterdir()} == {"a.onnx"}


def test_converting_is_a_command() -> None:
    assert callable(parse(["convert", "mae-base", "out", "--to", "huggingface", "--image", "448"]))
