"""Pre-training that starts from trained weights: what is taken is theirs to the bit, what is fresh is said, and it can be resumed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from oracles import scrambled
from torch import nn

import minimae
from minimae import MAE, MinimaeError, weights
from minimae.cli.program import main
from minimae.data.images import Images
from minimae.model.positions import resize_positions
from minimae.tasks.finetune import Classifier
from minimae.tasks.pretrain import Pretrain, Pretrained, build, pretrain
from minimae.weights.start import load_start, start_from, starter

IMAGES = Images("noise", torch.randint(0, 256, (40, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8))
RECIPE = Pretrain(size="nano", patch=7, depth=2, batch=20, epochs=2.0, warmup_epochs=0.0, log_every=1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    model = scrambled(build(replace(RECIPE, seed=5), IMAGES)).eval()
    return minimae.save(model, tmp_path / "start.safetensors", statistics=([0.2], [0.4]))  # type: ignore[arg-type]


def started(recipe: Pretrain, images: Images = IMAGES) -> tuple[MAE, str]:
    model = build(recipe, images)
    return model, start_from(model, load_start(recipe, model.size), recipe, images.statistics)


def equal(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_encoder_and_decoder_are_taken_and_statistics_compared(file: Path) -> None:
    model, text = started(replace(RECIPE, init=str(file)))
    found = weights.load(file)
    assert equal(model, found.model)
    assert text.startswith(f"starts from the encoder and the decoder of {file}") and "fresh" not in text
    assert "normalised by their own statistics (0.5" in text and "the weights used 0.200 ± 0.400" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"init_decoder": False}, "the decoder (as asked)"), ({"target": "pixels"}, "theirs predicts normalised, and this recipe pixels"),
        ({"decoder_width": 32}, "theirs is 64 × 2 × 2"), ({"mask_tokens_in_encoder": True}, "the encoder's mask_token"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_fresh_and_said(changes: dict, said: str, file: Path) -> None:
    recipe = replace(RECIPE, init=str(file), **changes)
    model, text = started(recipe)
    fresh = build(recipe, IMAGES)
    assert said in text and torch.equal(model.encoder.project.weight, weights.load(file).model.encoder.project.weight)
    assert equal(model.decoder, fresh.decoder)


def test_components_of_two_runs_are_fitted_anew(file: Path) -> None:
    recipe = replace(RECIPE, init=str(file), target="pca")
    model, trained = build(recipe, IMAGES), weights.load(file)
    text = start_from(model, replace(trained, recipe=replace(trained.recipe, target="pca")), recipe, IMAGES.statistics)
    assert "the decoder (the components of pca are fitted anew)" in text


def test_another_image_size_resizes_the_positions(file: Path) -> None:
    images = Images("noise", torch.randint(0, 256, (4, 1, 42, 42), dtype=torch.uint8))
    model, _ = started(replace(RECIPE, init=str(file)), images)
    old = weights.load(file).model
    for part in ("encoder", "decoder"):
        before, after = getattr(old, part), getattr(model, part)
        assert torch.equal(after.positions, resize_positions(before.positions, (4, 4), (6, 6)))
    assert model(torch.randn(2, 1, 42, 42)).loss.isfinite()


def test_another_encoder_is_refused_with_the_options_that_fit(file: Path) -> None:
    with pytest.raises(MinimaeError, match=r"has depth 2 \(the recipe: 6\), patch 7 \(the recipe: 4\). Add --depth 2 --patch 7"):
        started(replace(RECIPE, depth=None, patch=None, init=str(file)))
    colour = Images("noise", torch.zeros(4, 3, 28, 28, dtype=torch.uint8))
    with pytest.raises(MinimaeError, match=r"channels 1 \(the recipe: 3\). Add --channels 1"):
        started(replace(RECIPE, init=str(file)), colour)
    with pytest.raises(MinimaeError, match="--init: there is no checkpoint at nowhere"):
        started(replace(RECIPE, init="nowhere"))


def test_weights_of_others(tmp_path: Path) -> None:
    theirs = scrambled(timm.models.vision_transformer.VisionTransformer(
        img_size=28, patch_size=7, in_chans=1, embed_dim=96, depth=2, num_heads=3, num_classes=0))  # fmt: skip
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    recipe = replace(RECIPE, init=str(tmp_path / "vit.pth"))
    with pytest.raises(MinimaeError, match=r"give heads= .*or convert them first: minimae convert .*vit.pth start.safetensors"):
        started(recipe)
    weights.save(weights.load(theirs, statistics=([0.5], [0.5])), tmp_path / "start.safetensors", "minimae")
    model, text = started(replace(recipe, init=str(tmp_path / "start.safetensors")))
    images = torch.randn(2, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(model.encoder.eval()(images), theirs.eval().forward_features(images), rtol=0, atol=1e-5)
    assert re.match(r"starts from the encoder of \S+; fresh: the decoder \(these weights have none\)", text)


@pytest.mark.parametrize(("pool", "fresh"), [("mean", True), ("class", False)])
def test_a_classifier_gives_its_encoder(pool: str, fresh: bool, file: Path, tmp_path: Path) -> None:
    classifier = scrambled(Classifier(weights.load(file).model.encoder, 3, pool=pool))  # type: ignore[arg-type]
    minimae.save(classifier, tmp_path / "c.safetensors", statistics=([0.2], [0.4]))  # type: ignore[arg-type]
    model, text = started(replace(RECIPE, init=str(tmp_path / "c.safetensors")))
    assert torch.equal(model.encoder.blocks[1].mlp.up.weight, classifier.encoder.blocks[1].mlp.up.weight)  # type: ignore[union-attr]
    assert ("the encoder's norm.weight" in text) == fresh
    assert torch.equal(model.encoder.norm.weight, torch.ones(96)) == fresh


def test_a_run_starts_lower_and_resumes_without_the_file(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, before = pretrain(replace(RECIPE, epochs=20.0, base_lr=2e-3), IMAGES, tmp_path / "first", quiet=True)
    recipe = replace(RECIPE, init=str(tmp_path / "first"), base_lr=1e-4)
    with pytest.raises(ValueError, match="needs start=minimae.weights.start.starter"):
        pretrain(recipe, IMAGES, quiet=True)
    with pytest.raises(ValueError, match="does not name the weights"):
        pretrain(RECIPE, IMAGES, quiet=True, start=lambda model: "")
    whole, result = pretrain(recipe, IMAGES, tmp_path / "whole", quiet=True, start=starter(recipe, IMAGES))
    assert result.history[0]["loss"] < before.history[0]["loss"] - 0.01
    (tmp_path / "first" / "checkpoint.pt").rename(tmp_path / "moved.pt")
    again, _ = pretrain(recipe, IMAGES, tmp_path / "whole", resume=True, quiet=True)
    assert equal(again, whole), "the checkpoint has everything"
    assert isinstance(minimae.load(tmp_path / "moved.pt"), Pretrained), "our own checkpoint under another name"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["pretrain", "fashion-demo", "--init", "fashion-nano", "--limit", "40", "--batch", "20"]
    command += ["--epochs", "1", "--warmup-epochs", "0"]
    assert main([*command, "--out", str(tmp_path / "wrong"), "--depth", "2"]) == 2
    assert "Add " in capsys.readouterr().err and not (tmp_path / "wrong").exists()
    size = weights.load("fashion-nano").model.size
    fits = [f"--{name}={getattr(size, name)}" for name in ("patch", "depth", "width", "heads")]
    assert main([*command, *fits, "--out", str(tmp_path / "run"), "--image", "28"]) == 0
    assert "starts from the encoder" in capsys.readouterr().out
    assert weights.load(tmp_path / "run").recipe.init == "fashion-nano"
