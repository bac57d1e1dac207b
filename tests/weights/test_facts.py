"""Every field that changes what is computed is read, so that our loss and outputs are theirs on the same noise; or refused by name."""

from __future__ import annotations

import json
import warnings
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from test_layouts import big, near, official, timm_model, trained
from torch import nn
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor, ViTMAEConfig

import minimae
from minimae import MinimaeError, weights
from minimae.model.masking import mask_from_noise
from minimae.tasks.pretrain import Pretrained
from minimae.weights import Classified
from minimae.weights.huggingface import FIXED, HARMLESS, READ

# --- Hugging Face: config.json --------------------------------------------------------------------------------------------------


def test_every_field_of_their_configs_is_decided() -> None:
    for config in (ViTMAEConfig(), ViTConfig()):
        left = set(config.to_dict()) - HARMLESS - FIXED.keys() - READ.keys()
        assert not left, f"decide for {left}: read, fixed or harmless"


@pytest.mark.parametrize(
    "changes",
    [
        {"norm_pix_loss": False}, {"norm_pix_loss": True}, {"mask_ratio": 0.5}, {"mask_ratio": 0.9}, {"layer_norm_eps": 1e-3},
        {"layer_norm_eps": 1e-12}, {"num_attention_heads": 8}, {"num_attention_heads": 2}, {"decoder_num_attention_heads": 4},
        {"image_size": 24}, {"patch_size": 8}, {"num_channels": 1}, {"intermediate_size": 64}, 
        {"hidden_size": 48, "intermediate_size": 192},
        {"num_hidden_layers": 3}, {"decoder_hidden_size": 32, "decoder_intermediate_size": 128}, {"decoder_num_hidden_layers": 1},
        {"hidden_act": "gelu_python"}, {"initializer_range": 0.1},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("how", ["folder", "live"])
def test_what_they_compute_is_what_we_compute(changes: dict[str, Any], how: str, tmp_path: Path) -> None:
    theirs = big(**changes)
    theirs.save_pretrained(tmp_path / "theirs")
    statistics = ([0.5] * theirs.config.num_channels,) * 2
    ours = weights.load(theirs if how == "live" else tmp_path / "theirs", statistics=statistics)
    assert isinstance(ours, Pretrained)
    assert ours.recipe.ratio == theirs.config.mask_ratio
    assert ours.recipe.target == ("normalised" if theirs.config.norm_pix_loss else "pixels")
    size = ours.model.size
    images, noise = torch.randn(2, size.channels, *(2 * [theirs.config.image_size])), torch.rand(2, size.grid[0] ** 2)
    mask = mask_from_noise(noise, int(noise.shape[1] * (1 - theirs.config.mask_ratio)))
    with torch.no_grad():
        expected = theirs(images, noise=noise)
        found = ours.model(images, mask)
        near(found.loss, expected.loss)
        near(found.latent, theirs.vit(images, noise=noise).last_hidden_state)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_act", "gelu_new"), ("hidden_act", "relu"), ("qkv_bias", False), ("hidden_dropout_prob", 0.1),
        ("attention_probs_dropout_prob", 0.1), ("mask_ratio", 0.0), ("decoder_intermediate_size", 96), ("intermediate_size", 100),
        ("model_type", "deit"), ("use_rotary_embeddings", True), ("layer_scale_init_value", 0.1), ("head_dim", 4),
        ("num_hidden_layers", 3), ("hidden_size", 64), ("num_channels", 4), ("patch_size", [4, 8]), ("decoder_num_hidden_layers", 4),
        ("is_decoder", True), ("image_size", 20), ("pruned_heads", {"0": [1]}),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_refused_by_name(field: str, value: Any, tmp_path: Path) -> None:
    big().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config[field] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    named = {"image_size": "an image of 20×20"}.get(field, field)
    with pytest.raises(MinimaeError, match=named) as caught:
        minimae.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_fields_that_are_not_named_have_their_defaults_not_ours(tmp_path: Path) -> None:
    theirs = big(num_attention_heads=4, layer_norm_eps=1e-12, norm_pix_loss=False, decoder_hidden_size=64,
                 decoder_num_attention_heads=16, decoder_intermediate_size=256)  # fmt: skip
    theirs.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("norm_pix_loss", "layer_norm_eps", "decoder_num_attention_heads", "mask_ratio"):
        del config[name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    ours = weights.load(tmp_path, statistics=([0.5] * 3, [0.5] * 3))
    assert isinstance(ours, Pretrained) and ours.recipe.target == "pixels" and ours.model.size.decoder_heads == 16
    assert ours.model.size.eps == 1e-12 and ours.recipe.ratio == 0.75


def test_an_option_that_contradicts_the_config_is_refused(tmp_path: Path) -> None:
    big().save_pretrained(tmp_path)
    with pytest.raises(MinimaeError, match="states heads 4, and heads=8 was given"):
        weights.load(tmp_path, heads=8)
    ours = weights.load(tmp_path, target="pixels", statistics=([0.5] * 3, [0.5] * 3))
    assert isinstance(ours, Pretrained) and ours.recipe.target == "pixels", "the target may be corrected"


def test_an_eps_goes_the_whole_way_round(tmp_path: Path) -> None:
    theirs = big(layer_norm_eps=1e-3)
    ours = weights.load(theirs, statistics=([0.5] * 3, [0.5] * 3))
    weights.save(ours, tmp_path / "hf", "huggingface")
    weights.save(ours, tmp_path / "ours.safetensors", "minimae")
    with pytest.warns(UserWarning, match=r"eps 1e-6 in their norms, and this model has 0.001"):
        weights.save(ours, tmp_path / "official.pth", "official")
    for name in ("hf", "ours.safetensors", "official.pth"):
        again = minimae.load(tmp_path / name)
        assert isinstance(again, Pretrained) and again.model.size.eps == 1e-3 and again.model.encoder.blocks[0].norm1.eps == 1e-3  # type: ignore[union-attr]


def test_a_classifier_of_another_problem_is_refused() -> None:
    config = ViTConfig(image_size=16, patch_size=4, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=128)
    config.problem_type = "multi_label_classification"
    with pytest.raises(MinimaeError, match="problem_type 'multi_label_classification'"):
        weights.load(ViTForImageClassification(config))


# --- Hugging Face: preprocessor_config.json -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}, {"do_normalize": False}, {"rescale_factor": 1 / 127.5},
        {"do_rescale": False, "image_mean": [120.0] * 3, "image_std": [60.0] * 3}, {"do_rescale": False, "do_normalize": False},
    ],
    ids=str,
)  # fmt: skip
def test_pixels_are_prepared_as_their_processor_does_it(changes: dict[str, Any], tmp_path: Path) -> None:
    big().save_pretrained(tmp_path)
    processor = ViTImageProcessor(do_resize=False, **changes)
    processor.save_pretrained(tmp_path)
    ours = minimae.load(tmp_path)
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    expected = processor(list(pixels.permute(0, 2, 3, 1).numpy()), return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    found = minimae.data.augment.normalise(pixels, ours.statistics)
    np.testing.assert_allclose(found.numpy(), np.asarray(expected, np.float32), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("field", "value"), [("do_flip_channel_order", True), ("do_pad", True), ("rescale_offset", True)])
def test_another_preparation_is_refused_by_name(field: str, value: Any, tmp_path: Path) -> None:
    big().save_pretrained(tmp_path)
    ViTImageProcessor().save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(MinimaeError, match=field):
        minimae.load(tmp_path)


# --- timm -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"num_heads": 6}, {"norm_layer": partial(nn.LayerNorm, eps=1e-5)}, {"no_embed_class": True}, {"mlp_ratio": 2}, {"in_chans": 1},
        {"img_size": (16, 24)}, {"patch_size": (4, 8)}, {"img_size": (8, 32)}, {"drop_path_rate": 0.1},
    ],
    ids=str,
)  # fmt: skip
def test_a_live_vit_computes_the_same(changes: dict[str, Any]) -> None:
    theirs = timm_model(**changes)
    channels = changes.get("in_chans", 3)
    ours = weights.load(theirs, statistics=([0.5] * channels, [0.5] * channels))
    assert isinstance(ours, Pretrained)
    images = torch.randn(2, channels, *(changes.get("img_size") or (16, 16)))
    with torch.no_grad():
        near(ours.model.encoder(images), theirs.forward_features(images))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"qk_norm": True}, "q_norm"), ({"init_values": 0.1}, "ls1"), ({"reg_tokens": 2}, "reg_token"), ({"pre_norm": True}, "norm_pre"),
        ({"act_layer": partial(nn.GELU, approximate="tanh")}, "mlp.act.approximate 'tanh'"), ({"act_layer": nn.ReLU}, "mlp.act 'ReLU'"),
        ({"scale_mlp_norm": True}, "mlp.norm"), ({"scale_attn_norm": True}, "attn.norm"), ({"proj_drop_rate": 0.1}, "proj_drop"),
        ({"attn_drop_rate": 0.1}, "attn_drop"), ({"pos_drop_rate": 0.1}, "pos_drop"), ({"patch_drop_rate": 0.1}, "patch_drop"),
        ({"num_classes": 3, "global_pool": "max"}, "global_pool 'max'"), ({"num_classes": 3, "global_pool": "map"}, "attn_pool"),
        ({"num_classes": 3, "global_pool": "avg", "fc_norm": False}, "fc_norm"), ({"num_classes": 3, "drop_rate": 0.2}, "head_drop"),
        ({"num_classes": 3, "global_pool": "avg", "pool_include_prefix": True}, "pool_include_prefix"), ({"qkv_bias": False}, "qkv.bias"),
        ({"dynamic_img_pad": True}, "dynamic_img_pad"),
        ({"block_fn": timm.models.vision_transformer.ParallelScalingBlock}, "not a VisionTransformer|block"),
        ({"final_norm": False}, "norm.weight"),
        ({"mlp_ratio": 2.5}, "intermediate_size"), ({"class_token": False, "global_pool": "avg"}, "class token"),
    ],
    ids=str,
)  # fmt: skip
def test_a_vit_that_is_built_otherwise_is_refused_by_name(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(MinimaeError, match=said):
        weights.load(timm_model(**changes), statistics=([0.5] * 3, [0.5] * 3))


def test_a_class_token_with_a_late_norm_is_read_as_it_is() -> None:
    theirs = timm_model(num_classes=5, global_pool="token", fc_norm=True)
    ours = weights.load(theirs, statistics=([0.5] * 3, [0.5] * 3))
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert isinstance(ours, Classified)
        near(ours.classifier(images), theirs(images))


def test_heads_are_never_guessed_from_a_width(tmp_path: Path) -> None:
    """384 wide with 12 heads was read as 6, and the outputs differed."""
    for width, depth, heads in ((384, 12, 12), (768, 1, 8), (192, 12, 6)):
        theirs = timm_model(embed_dim=width, depth=depth, num_heads=heads)
        torch.save(theirs.state_dict(), tmp_path / "a.pth")
        with pytest.raises(MinimaeError, match=r"give heads= \(--heads\)"):
            minimae.load(tmp_path / "a.pth")
        ours = minimae.load(tmp_path / "a.pth", heads=heads, statistics=([0.5] * 3, [0.5] * 3))
        images = torch.randn(1, 3, 16, 16)
        with torch.no_grad():
            near(ours.model.encoder(images) / 10, theirs.forward_features(images) / 10)  # type: ignore[union-attr]


def test_a_file_without_a_position_for_the_class_token(tmp_path: Path) -> None:
    theirs = timm_model(no_embed_class=True)
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    images = torch.randn(2, 3, 16, 16)
    ours = minimae.load(tmp_path / "a.pth", heads=3, statistics=([0.5] * 3, [0.5] * 3))
    with torch.no_grad():
        near(ours.model.encoder(images), theirs.forward_features(images))  # type: ignore[union-attr]


def test_a_folder_of_timm_states_its_architecture(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=1).eval()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    pretrained = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "input_size": [3, 224, 224]}
    config: dict[str, Any] = {"architecture": "vit_tiny_patch16_224.augreg", "num_classes": 0, "pretrained_cfg": pretrained}
    (tmp_path / "config.json").write_text(json.dumps(config))
    ours = minimae.load(tmp_path)
    assert isinstance(ours, Pretrained) and ours.model.size.heads == 3 and ours.statistics[1].tolist() == pytest.approx([0.2] * 3)
    for change, said in ({"model_args": {"qk_norm": True}}, "qk_norm = True"), ({"architecture": "vit_base_patch16_siglip_224"}, "siglip"):
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(MinimaeError, match=said):
            minimae.load(tmp_path)


# --- what is stated nowhere -----------------------------------------------------------------------------------------------------


def test_assumptions_are_said_aloud() -> None:
    with pytest.warns(UserWarning) as caught:
        weights.load(official(trained()), heads=4, decoder_heads=2)
    assert [str(w.message)[:20] for w in caught] and all(w.filename == __file__ for w in caught), "at the line of the caller"
    texts = " ".join(str(w.message) for w in caught)
    assert "ImageNet's are assumed" in texts and "normalised pixels are assumed" in texts
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weights.load(official(trained()), heads=4, decoder_heads=2, target="pixels", statistics=([0.5] * 3, [0.5] * 3))


def test_the_options_beside_the_authors_weights_are_read(tmp_path: Path) -> None:
    args = Namespace(model="mae_vit_base_patch16", norm_pix_loss=False, mask_ratio=0.6)
    torch.save({"model": official(trained(heads=4)), "args": args}, tmp_path / "a.pth")
    with pytest.raises(MinimaeError, match="states heads 12, and heads=4 was given"):
        minimae.load(tmp_path / "a.pth", heads=4)
    torch.save({"model": official(trained()), "args": Namespace(norm_pix_loss=False, mask_ratio=0.6)}, tmp_path / "a.pth")
    found = minimae.load(tmp_path / "a.pth", heads=4, decoder_heads=2, statistics=([0.5] * 3, [0.5] * 3))
    assert isinstance(found, Pretrained) and found.recipe.target == "pixels" and found.recipe.ratio == 0.6


@pytest.mark.parametrize("grid", [(2, 8), (8, 2), (4, 4), (1, 16)])
def test_sine_cosine_positions_show_a_grid_that_is_no_square(grid: tuple[int, int]) -> None:
    before = trained(image=(4 * grid[0], 4 * grid[1]))
    tensors = {**official(before), "pos_embed": minimae.sincos_2d(32, grid)[None]}
    after = weights.load(tensors, heads=4, decoder_heads=2, statistics=([0.5] * 3, [0.5] * 3), target="normalised")
    assert after.model.size.grid == grid  # type: ignore[union-attr]


