"""A live model of timm as the encoder of a MAE: the same latents as the converted encoder, and gradients that reach its weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from test_layouts import near, timm_model
from torch import nn

import minimae
from minimae import MAE
from minimae.weights.timm import TimmEncoder

STATISTICS = ([0.5] * 3, [0.5] * 3)
DECODER = {"decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2}


def mask_for(encoder: TimmEncoder, count: int = 3, **options: Any) -> minimae.Mask:
    return minimae.make_mask(torch.arange(count), encoder.size.grid, **options)


@pytest.mark.parametrize(
    "changes", [{}, {"img_size": (16, 24)}, {"patch_size": (4, 8)}, {"no_embed_class": True}, {"num_classes": 5}], ids=str
)
@pytest.mark.parametrize("ratio", [None, 0.5, 0.75])
def test_latents_equal_those_of_the_converted_encoder(changes: dict[str, Any], ratio: float | None) -> None:
    vit = timm_model(**changes)
    ours: Any = minimae.load(vit, statistics=STATISTICS)
    theirs = TimmEncoder(vit)
    encoder = ours.classifier.encoder if "num_classes" in changes else ours.model.encoder
    images = torch.randn(3, 3, *(changes.get("img_size") or (16, 16)))
    mask = None if ratio is None else mask_for(theirs, ratio=ratio)
    assert (theirs.size.width, theirs.size.depth, theirs.size.heads, theirs.size.grid) == (48, 3, 3, encoder.size.grid)
    with torch.no_grad():
        for one, other in zip(theirs.features(images, mask), encoder.features(images, mask), strict=True):
            near(one, other)
        near(theirs(images, mask), vit.norm(encoder.features(images, mask)[-1]))


def test_a_mae_pre_trains_a_model_of_timm() -> None:
    torch.manual_seed(0)
    vit = timm_model().train()
    encoder = TimmEncoder(vit, **DECODER)
    mae = MAE(encoder.size)
    mae.encoder = encoder
    before = {name: value.clone() for name, value in vit.state_dict().items()}
    images, optimizer = torch.randn(8, 3, 16, 16), torch.optim.AdamW(mae.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        loss = mae(images, mask_for(encoder, 8)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(not torch.equal(value, before[name]) for name, value in vit.state_dict().items() if "qkv.bias" not in name)
    assert mae.reconstruct(images, mask_for(encoder, 8)).predicted.shape == images.shape


def test_hidden_patches_do_not_reach_the_encoder() -> None:
    encoder = TimmEncoder(timm_model())
    images, mask = torch.randn(2, 3, 16, 16), mask_for(encoder, 2)
    hidden = mask.binary.reshape(2, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    with torch.no_grad():
        assert torch.equal(encoder(images, mask), encoder(torch.where(hidden.bool(), torch.randn_like(images), images), mask))


@pytest.mark.parametrize(
    "changes",
    [{"reg_tokens": 4}, {"init_values": 0.1}, {"qk_norm": True}, {"pre_norm": True}, {"norm_layer": partial(nn.LayerNorm, eps=1e-5)},
     {"global_pool": "avg", "num_classes": 4}, {"dynamic_img_size": True}],
    ids=str,
)  # fmt: skip
def test_what_is_built_otherwise_than_ours_works_too(changes: dict[str, Any]) -> None:
    vit = timm_model(**changes)
    encoder = TimmEncoder(vit, **DECODER)
    mae, images = MAE(encoder.size), torch.randn(2, 3, 16, 16)
    mae.encoder = encoder
    assert mae(images, mask_for(encoder, 2)).latent.shape == (2, 5, 48)
    with torch.no_grad():
        whole = vit.forward_features(images)
        expected = whole if vit.num_prefix_tokens == 1 else torch.cat([whole[:, :1], whole[:, vit.num_prefix_tokens :]], dim=1)
        near(encoder(images), vit.fc_norm(expected) if changes.get("global_pool") == "avg" else expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"class_token": False, "global_pool": "avg"}, "class token"), ({"patch_drop_rate": 0.5}, "patch_drop_rate=0")],
)  # fmt: skip
def test_what_the_decoder_cannot_use_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TimmEncoder(timm_model(**changes))


def test_mistakes(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match="Linear is not a VisionTransformer of timm"):
        TimmEncoder(nn.Linear(2, 2))
    encoder = TimmEncoder(timm_model(), **DECODER)
    with pytest.raises(ValueError, match="this mask is for 3 images of 16 patches; the batch has 2 of 16"):
        encoder(torch.randn(2, 3, 16, 16), mask_for(encoder))
    with pytest.raises(ValueError, match="float images"):
        encoder(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
    mae = MAE(encoder.size)
    mae.encoder = encoder
    with pytest.raises(ValueError, match=r"encoder of this MAE is a model of timm: save that one, with torch.save\(vit.state_dict\(\)"):
        minimae.save(mae, tmp_path / "a.safetensors", statistics=STATISTICS)
