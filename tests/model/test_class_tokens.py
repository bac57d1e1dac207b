"""Several class tokens: an option of a size, against the same network with one token where both must agree."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import minimae
from minimae import MAE, MinimaeError, make_mask
from minimae.data import load
from minimae.model.sizes import flops, parameters
from minimae.model.windows import window_attention
from minimae.tasks.features import extract
from minimae.tasks.finetune import Classifier
from minimae.tasks.maps import spatial_maps

FOUR = minimae.size("nano", depth=2, class_tokens=4)
ONE = minimae.size("nano", depth=2)


def four_of(one: MAE) -> MAE:
    """The same weights, and the one class token four times."""
    four = MAE(FOUR)
    state = one.state_dict()
    four.load_state_dict({**state, "encoder.class_token": state["encoder.class_token"].expand(-1, 4, -1)})
    return four.eval()


def test_shapes_and_counts() -> None:
    mae, images = MAE(FOUR), torch.randn(2, 1, 28, 28)
    out = mae(images, mask := make_mask(torch.arange(2), FOUR.grid))
    assert out.latent.shape == (2, 4 + mask.keep.shape[1], 96) and out.predicted.shape == (2, mask.masked.shape[1], 16)
    assert mae.encoder(images).shape == (2, 4 + 49, 96)
    assert parameters(FOUR)[0] - parameters(ONE)[0] == 3 * 96 == mae.encoder.class_token.numel() - 96
    assert sum(p.numel() for p in mae.encoder.parameters() if p.requires_grad) == parameters(FOUR)[0]
    assert flops(FOUR).step > flops(ONE).step
    out.loss.backward()
    assert mae.encoder.class_token.grad is not None and (mae.encoder.class_token.grad.abs().sum(2) > 0).all()


def test_patches_are_counted_from_behind_the_class_tokens() -> None:
    """With every attention output at zero, a patch depends on itself alone: so patch features equal those of one class token."""
    torch.manual_seed(0)
    one, images = MAE(ONE).eval(), load("fashion", "test").balanced_subset(10)
    for block in (*one.encoder.blocks, *one.decoder.blocks):
        torch.nn.init.zeros_(block.attention.out.weight)
    four = four_of(one)
    for pool in ("mean", "class", "tokens", "blocks"):
        expected = extract(one.encoder, images, images.statistics, pool=pool)
        assert torch.allclose(extract(four.encoder, images, images.statistics, pool=pool), expected, atol=1e-5)
    pixels, mask = torch.randn(3, 1, 28, 28), make_mask(torch.arange(3), ONE.grid)
    assert torch.allclose(four(pixels, mask).predicted, one(pixels, mask).predicted, atol=1e-5)
    assert torch.allclose(spatial_maps(four.encoder, pixels)[0], spatial_maps(one.encoder, pixels)[0], atol=1e-5)
    heads = [Classifier(model.encoder, 10, pool=pool).eval() for model in (one, four) for pool in ("mean", "class")]
    for head in heads:
        torch.nn.init.eye_(head.head.weight)
    assert torch.allclose(heads[0](pixels), heads[2](pixels), atol=1e-5) and torch.allclose(heads[1](pixels), heads[3](pixels), atol=1e-5)


def test_windows_let_every_class_token_see_everything() -> None:
    torch.manual_seed(0)
    attention = MAE(FOUR).encoder.blocks[0].attention
    x = torch.randn(2, 4 + 6 * 5, 96)
    assert torch.allclose(window_attention(attention, x, (6, 5), 6), attention(x), atol=1e-5)
    assert torch.allclose(window_attention(attention, x, (6, 5), 2)[:, :4], attention(x)[:, :4], atol=1e-5)


def test_they_are_saved_loaded_and_refused_elsewhere(tmp_path: Path) -> None:
    mae, statistics = MAE(FOUR), (torch.tensor([0.3]), torch.tensor([0.3]))
    minimae.save(mae, tmp_path / "four.safetensors", statistics=statistics)
    loaded = minimae.load(tmp_path / "four.safetensors")
    assert loaded.size == FOUR and torch.equal(loaded.model.encoder.class_token, mae.encoder.class_token)
    for layout in ("official", "huggingface"):
        with pytest.raises(MinimaeError, match=f"the layout {layout} has one class token, and this model 4"):
            minimae.save(loaded, tmp_path / layout, layout)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="class tokens 0 must be at least 1"):
        minimae.size("nano", class_tokens=0)
