"""Folders for Hugging Face's hub: what huggingface_hub reads, writes and checks, without a network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from torch import Tensor

import minimae
from minimae import MinimaeError
from minimae.cli.program import main
from minimae.tasks.finetune import Classifier
from minimae.weights.hub import HubModel

FILES = {"README.md", "config.json", "model.safetensors"}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def photos() -> Tensor:
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_a_folder_holds_the_same_model(tmp_path: Path, photos: Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "photos-tiny", str(tmp_path / "photos"), "--to", "hub-folder"]) == 0
    assert capsys.readouterr().out.endswith("MB\n") and {path.name for path in (tmp_path / "photos").iterdir()} == FILES
    ours, model = minimae.load("photos-tiny"), HubModel.from_pretrained(tmp_path / "photos")
    torch.testing.assert_close(model(photos), ours.features(photos), rtol=0, atol=1e-5)
    torch.testing.assert_close(model(photos[:, :, :32]), ours.features(photos[:, :, :32]), rtol=0, atol=1e-5)
    for again in (model.trained, minimae.load(tmp_path / "photos")):  # both decoders, the recipe and the statistics too
        assert again.recipe == ours.recipe and all(torch.equal(a, b) for a, b in zip(again.statistics, ours.statistics))
        assert equal(again.model.state_dict(), ours.model.state_dict()) and equal(again.pictures.state_dict(), ours.pictures.state_dict())
    tokens = HubModel.from_pretrained(tmp_path / "photos", pool="tokens")(photos)
    torch.testing.assert_close(tokens[:, 1:].mean(1), model(photos))


def test_what_it_writes_again_it_reads_again(tmp_path: Path) -> None:
    HubModel(minimae.load("fashion-nano")).save_pretrained(tmp_path / "a")
    HubModel.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
    assert json.loads((tmp_path / "a" / "config.json").read_text()) == json.loads((tmp_path / "b" / "config.json").read_text())


def test_what_was_trained_since_is_saved(tmp_path: Path) -> None:
    model = HubModel(minimae.load("fashion-nano"))
    torch.nn.init.ones_(model.network.project.weight)
    model.save_pretrained(tmp_path / "a")
    assert equal(HubModel.from_pretrained(tmp_path / "a").state_dict(), model.state_dict())


def test_a_classifier_returns_logits(tmp_path: Path) -> None:
    encoder = minimae.MAE("nano", patch=7, image=28, channels=1).encoder
    model = minimae.save(Classifier(encoder, 10), tmp_path / "c.safetensors", statistics=([0.3], [0.4]), data="clothes")
    assert main(["export", str(model), str(tmp_path / "c"), "--to", "hub-folder", "--license", "mit"]) == 0
    images, card = torch.rand(2, 1, 28, 28), ModelCard.load(tmp_path / "c" / "README.md")
    torch.testing.assert_close(HubModel.from_pretrained(tmp_path / "c")(images), minimae.load(model).logits(images), rtol=0, atol=1e-5)
    assert card.data.pipeline_tag == "image-classification" and card.data.license == "mit" and "clothes" in card.text


def test_cards_are_as_the_hub_reads_them(tmp_path: Path) -> None:
    from minimae.weights.registry import shipped

    for name, file in shipped().items():
        card = ModelCard.load(file.with_suffix(".md"))
        assert (card.data.library_name, card.data.license, card.data.pipeline_tag) == ("minimae", "mit", "image-feature-extraction"), name
    HubModel(minimae.load("fashion-nano")).save_pretrained(tmp_path / "mine", model_card_kwargs={"name": "mine"})
    card = ModelCard.load(tmp_path / "mine" / "README.md")
    assert card.data.license is None and {"masked-autoencoder", "pytorch_model_hub_mixin"} <= set(card.data.tags)
    assert "Licence: not stated" in card.text and 'from_pretrained("mine")' in card.text and "Pretrained(Size(width=96" in card.text


def test_nothing_is_lost_or_half_written(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "file").touch()
    to = ["--to", "hub-folder"]
    for words, what in (
        (["there", *to], "there already exists"),
        (["file/there", *to], "cannot write file/there"),
        (["new", *to, "--half"], "--half does not apply with --to hub-folder"),
        (["new", "--license", "mit"], "--license does not apply with --to file"),
        (["new", *to, "--license", "apache-2.0"], "the licence of fashion-nano is known"),
    ):
        assert main(["export", "fashion-nano", *words]) == 2
        assert what in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "there"] and not list((tmp_path / "there").iterdir())


def test_a_folder_without_our_description_is_refused(tmp_path: Path) -> None:
    HubModel(minimae.load("fashion-nano")).save_pretrained(tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text('{"hidden_size": 96}')
    with pytest.raises(MinimaeError, match="no description of the model"):
        HubModel.from_pretrained(tmp_path / "a")
    trained = minimae.load("fashion-nano")
    HubModel(replace(trained, decoder=False)).save_pretrained(tmp_path / "b")
    assert minimae.load(tmp_path / "b").decoder is False
