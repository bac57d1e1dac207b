"""What a folder of ours says after another library has written it again; models that are wrapped, tied, or of another precision."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import ViTMAEForPreTraining

import minimae
from minimae import MinimaeError, weights
from minimae.tasks.finetune import Classifier
from minimae.tasks.pretrain import Pretrained
from minimae.weights import Classified

HALF = ([0.5], [0.2])


def nano(**changes: Any) -> minimae.MAE:
    return minimae.MAE("nano", **{"patch": 7, **changes})


def folder_of_ours(path: Path) -> Path:
    found = minimae.load(minimae.save(nano(patch=8, image=32, channels=3), path / "a.safetensors", statistics=([0.5] * 3, [0.2] * 3)))
    weights.save(found, path / "folder", "huggingface")
    return path / "folder"


@pytest.mark.parametrize(
    ("file", "change", "read"),
    [
        ("config.json", {"norm_pix_loss": False}, lambda p: p.recipe.target == "pixels" and type(p.model.target) is minimae.PixelTarget),
        ("config.json", {"layer_norm_eps": 1e-3}, lambda p: p.model.size.eps == 1e-3),
        ("config.json", {"mask_ratio": 0.5}, lambda p: p.recipe.ratio == 0.5),
        ("config.json", {"num_attention_heads": 4}, lambda p: p.model.size.heads == 4),
        ("preprocessor_config.json", {"image_mean": [0.25] * 3}, lambda p: p.statistics[0].tolist() == [0.25] * 3),
    ],
)  # fmt: skip
def test_what_was_changed_in_our_folder_is_read(file: str, change: dict[str, Any], read: Callable[[Any], bool], tmp_path: Path) -> None:
    folder = folder_of_ours(tmp_path)
    config = json.loads((folder / file).read_text(encoding="utf-8"))
    (folder / file).write_text(json.dumps({**config, **change}), encoding="utf-8")
    assert read(minimae.load(folder))


def test_our_model_comes_back_from_their_training(tmp_path: Path) -> None:
    theirs = ViTMAEForPreTraining.from_pretrained(folder_of_ours(tmp_path), norm_pix_loss=False, mask_ratio=0.5).eval()
    theirs.save_pretrained(tmp_path / "again")
    found, noise, images = minimae.load(tmp_path / "again"), torch.rand(2, 16), torch.randn(2, 3, 32, 32)
    assert isinstance(found, Pretrained)
    assert found.recipe.ratio == 0.5
    loss = found.model(images, minimae.mask_from_noise(noise, 8)).loss
    assert torch.allclose(loss, theirs(images, noise=noise).loss, atol=1e-6)


def test_a_changed_field_that_ours_has_not_is_refused(tmp_path: Path) -> None:
    folder = folder_of_ours(tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}), encoding="utf-8")
    with pytest.raises(MinimaeError, match="hidden_act 'relu'"):
        minimae.load(folder)


def timm_folder(path: Path, model: nn.Module, **config: Any) -> Path:
    path.mkdir()
    save_file(model.state_dict(), path / "model.safetensors")
    stated: dict[str, Any] = {"architecture": "vit_tiny_patch16_224", "model_args": {"num_heads": 4}}
    stated["pretrained_cfg"] = {"mean": [0.5] * 3, "std": [0.2] * 3}
    (path / "config.json").write_text(json.dumps({**stated, **config}), encoding="utf-8")
    return path


def timm_vit(**changes: Any) -> nn.Module:
    usual = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 4, "num_classes": 2}
    return timm.models.vision_transformer.VisionTransformer(**{**usual, **changes}).eval()


def test_a_mean_before_the_norm_is_refused_in_a_folder_too(tmp_path: Path) -> None:
    with pytest.raises(MinimaeError, match="fc_norm False"):
        minimae.load(timm_folder(tmp_path / "t", timm_vit(global_pool="avg", fc_norm=False), global_pool="avg"))


def test_names_of_classes_in_a_folder_of_timm(tmp_path: Path) -> None:
    found = minimae.load(timm_folder(tmp_path / "t", timm_vit(), global_pool="token", label_names=["cat", "dog"]))
    assert isinstance(found, Classified)
    assert found.classes == ("cat", "dog")


@pytest.mark.parametrize(
    "config",
    [{"model_args": [1]}, {"model_args": {"num_heads": "x"}}, {"model_args": {"num_heads": 4, "img_size": "x"}}, {"pretrained_cfg": "abc"},
     {"pretrained_cfg": {"mean": "x", "std": [1, 1, 1]}}],
)  # fmt: skip
def test_a_config_of_other_types_is_no_traceback(config: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(MinimaeError):
        minimae.load(timm_folder(tmp_path / "t", timm_vit(), global_pool="token", **config))


@pytest.mark.parametrize(
    "options", [{"heads": 0}, {"heads": "4"}, {"heads": 4.0}, {"image": 32.0, "heads": 4}, {"statistics": "imagenet", "heads": 4}]
)
def test_options_of_other_types_are_no_traceback(options: dict[str, Any]) -> None:
    with pytest.raises((MinimaeError, ValueError)):
        minimae.load(timm_vit(num_classes=0).state_dict(), **{"statistics": ([0.5] * 3, [0.2] * 3), **options})


def test_statistics_of_bytes_are_refused() -> None:
    with pytest.raises(MinimaeError, match="divide by 255"):
        minimae.load(timm_vit(num_classes=0).state_dict(), heads=4, statistics=([123.0] * 3, [58.0] * 3))


def test_a_module_with_a_config_of_its_own_is_no_traceback() -> None:
    module: Any = nn.Linear(2, 2)
    module.config = {}
    with pytest.raises(MinimaeError, match="Linear is not a VisionTransformer"):
        minimae.load(module)


@pytest.mark.parametrize("how", ["whole", "a part", "tied", "double", "half"])
def test_a_model_is_kept_whatever_was_done_to_it(how: str, tmp_path: Path) -> None:
    mae: Any = nano().eval()
    if how == "tied":
        mae.encoder.blocks[1] = mae.encoder.blocks[0]
    kept = copy.deepcopy(mae)
    if how == "whole":
        kept = torch.compile(kept)
    elif how == "a part":
        kept.encoder = torch.compile(kept.encoder)
    elif how in ("double", "half"):
        kept = getattr(kept, how)()
    found = minimae.load(minimae.save(kept, tmp_path / "a.safetensors", statistics=HALF))
    assert isinstance(found, Pretrained)
    for name, value in found.model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, mae.state_dict()[name].half().float() if how == "half" else mae.state_dict()[name]), name


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"ratio": 75}, "did you mean 0.75"), ({"rato": 0.5}, "rato cannot be saved with a MAE"),
        ({"classes": ("a",)}, "classes cannot be saved"), ({"statistics": ([float("nan")], [0.2])}, "finite"),
        ({"statistics": "x"}, "statistics are two"), ({"statistics": ([73.0], [90.0])}, "divide by 255"),
    ],
)  # fmt: skip
def test_what_cannot_belong_to_a_mae_is_not_kept(about: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        minimae.save(nano(), tmp_path / "a.safetensors", **{"statistics": HALF, **about})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("classes", [("a", "b"), "abc", 3])
def test_classes_belong_to_the_head(classes: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the 3 names that belong to the head"):
        minimae.save(Classifier(nano().encoder, 3), tmp_path / "a.safetensors", statistics=HALF, classes=classes)


def test_a_target_of_ones_own_is_refused(tmp_path: Path) -> None:
    mae = nano()
    mae.target = type("Mine", (minimae.PixelTarget,), {})(49)
    with pytest.raises(ValueError, match="a target of your own"):
        minimae.save(mae, tmp_path / "a.safetensors", statistics=HALF)


def test_leaving_the_second_decoder_out_is_said(tmp_path: Path) -> None:
    found = minimae.load("photos-tiny")
    with pytest.warns(UserWarning, match="cannot hold the second decoder"):
        weights.save(found, tmp_path / "a.safetensors", "official")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weights.save(found, tmp_path / "b.safetensors", "minimae")


@pytest.mark.parametrize("kind", [torch.float64, torch.float16])
def test_features_of_models_of_another_precision(kind: torch.dtype) -> None:
    found, images = minimae.load("fashion-nano"), minimae.data.load("fashion", "test", limit=8)
    assert isinstance(found, Pretrained)
    classifier = Classified(Classifier(found.model.encoder, 3), found.statistics)
    wanted, logits = found.features(images), classifier.logits(images)
    found.model.to(kind)
    classifier.classifier.to(kind)
    near = 1e-4 if kind == torch.float64 else 0.03
    assert torch.allclose(found.features(images), wanted, atol=near)
    assert torch.allclose(classifier.logits(images), logits, atol=near)
    assert classifier.features(images).shape == wanted.shape


@pytest.mark.parametrize("layout", ["official", "huggingface"])
def test_principal_components_have_no_place_elsewhere(layout: Any, tmp_path: Path) -> None:
    found = minimae.load(minimae.save(nano(target="pca"), tmp_path / "a.safetensors", statistics=HALF))
    with pytest.raises(MinimaeError, match="cannot hold the principal components"):
        weights.save(found, tmp_path / "b", layout)
    out = weights.save(found, tmp_path / ("b" if layout == "huggingface" else "b.safetensors"), layout, encoder_only=True)
    again, images = minimae.load(out), torch.rand(2, 1, 28, 28)
    assert torch.equal(again.features(images), found.features(images))


@pytest.mark.parametrize(
    ("file", "change"),
    [("config.json", {"patch_size": "8"}), ("config.json", {"minimae": "x"}), ("preprocessor_config.json", {"rescale_factor": 0})],
)
def test_a_folder_of_other_types_is_no_traceback(file: str, change: dict[str, Any], tmp_path: Path) -> None:
    folder = folder_of_ours(tmp_path)
    config = json.loads((folder / file).read_text(encoding="utf-8"))
    (folder / file).write_text(json.dumps({**config, **change}), encoding="utf-8")
    with pytest.raises(MinimaeError, match="folder"):
        minimae.load(folder)
    (folder / file).write_bytes(b"\xff\xfe{")
    with pytest.raises(MinimaeError, match=f"{file} is not JSON"):
        minimae.load(folder)


@pytest.mark.parametrize("batch", [0, -1, 2.5])
def test_a_batch_is_a_number_of_images(batch: Any) -> None:
    found, images = minimae.load("fashion-nano"), torch.rand(2, 1, 28, 28)
    assert isinstance(found, Pretrained)
    with pytest.raises(ValueError, match="batch is a whole number"):
        found.features(images, batch=batch)
    with pytest.raises(ValueError, match="batch is a whole number"):
        Classified(Classifier(found.model.encoder, 3), found.statistics).logits(images, batch=batch)
