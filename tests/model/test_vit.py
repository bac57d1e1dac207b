"""The transformer: equal to timm's with the same weights, and honest about masks, queries, drop path and initial values."""

import math
from functools import partial

import pytest
import torch
from oracles import images_for, into_timm, scrambled, small, timm_names
from timm.models.vision_transformer import Block as TimmBlock
from torch import nn

from minimae.model.mae import MAE
from minimae.model.masking import Mask, make_mask
from minimae.model.positions import sincos_2d
from minimae.model.sizes import SIZES
from minimae.model.vit import Attention, Block, Encoder, drop_path

NEAR = {torch.float32: dict(rtol=0, atol=1e-5), torch.float64: dict(rtol=0, atol=1e-12)}
SHAPES = [dict(), dict(patch=(2, 4), image=(6, 20), channels=5), dict(mlp_ratio=2, channels=1)]


def everything(b: int, n: int) -> Mask:
    """A mask that hides nothing."""
    return Mask(torch.arange(n).expand(b, n), torch.empty(b, 0, dtype=torch.int64))


# ---------------------------------------------------------------------------------------------------- against timm


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_block_equals_timm_s_forward_and_backward(dtype):
    ours = scrambled(Block(32, 4)).to(dtype)
    theirs = TimmBlock(32, 4, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6)).to(dtype)
    theirs.load_state_dict(timm_names(ours.state_dict()), strict=True)
    x = torch.randn(3, 7, 32, dtype=dtype, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    a, b = ours(x), theirs(y)
    torch.testing.assert_close(a, b, **NEAR[dtype])
    direction = torch.randn_like(a) / 10
    (a * direction).sum().backward()
    (b * direction).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, **NEAR[dtype])
    gradients = timm_names({name: p.grad for name, p in ours.named_parameters()})
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(gradients.pop(name), parameter.grad, **NEAR[dtype])
    assert not gradients


@pytest.mark.parametrize("changes", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_encoder_without_a_mask_equals_timm_s_vision_transformer(changes, dtype):
    s = small(**changes)
    encoder = scrambled(Encoder(s)).to(dtype).eval()
    theirs = into_timm(encoder).eval()
    images = images_for(s, dtype=dtype)
    torch.testing.assert_close(encoder(images), theirs.forward_features(images), **NEAR[dtype])
    taps = theirs.forward_intermediates(images, norm=False, return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True)
    for ours, (patches, first) in zip(encoder.features(images), taps):
        torch.testing.assert_close(ours, torch.cat([first, patches], dim=1), **NEAR[dtype])


def test_encoding_what_is_visible_equals_doing_so_by_hand_with_timm_s_parts():
    encoder = scrambled(Encoder(small())).double().eval()
    theirs = into_timm(encoder).eval()
    images, mask = torch.randn(3, 3, 16, 16, dtype=torch.float64), make_mask(torch.arange(3), (4, 4))
    patches = theirs.patch_embed(images) + theirs.pos_embed[:, 1:]
    for i in range(3):
        visible = patches[i, mask.keep[i]]
        x = torch.cat([theirs.cls_token[0], visible])[None]
        expected = theirs.norm(theirs.blocks(x))[0]
        torch.testing.assert_close(encoder(images, mask)[i], expected, rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------------------------------- encoder


def test_what_is_masked_has_no_influence():
    encoder, mask = Encoder(small()).eval(), make_mask(torch.arange(1), (4, 4))
    images = torch.randn(1, 3, 16, 16, requires_grad=True)
    encoder(images, mask).square().sum().backward()
    touched = images.grad.abs().sum(1).view(4, 4, 4, 4).sum((1, 3)).flatten() > 0  # per patch
    assert torch.equal(touched, mask.binary[0] == 0)


def test_trap_6_no_mask_means_that_every_patch_is_encoded():
    encoder, images = Encoder(small()).double().eval(), torch.randn(2, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    latent = encoder(images)
    assert latent.shape == (2, 17, 32)
    torch.testing.assert_close(latent, encoder(images, everything(2, 16)), rtol=0, atol=1e-13)
    latent.square().sum().backward()
    assert (images.grad != 0).all()
    with_mask_tokens = Encoder(small(), mask_tokens=True).double().eval()
    with_mask_tokens.load_state_dict(encoder.state_dict(), strict=False)
    assert torch.equal(with_mask_tokens(images), latent)


def test_trap_1_the_class_token_joins_after_masking_with_a_zero_position():
    encoder = Encoder(small())
    images = torch.randn(2, 3, 16, 16)
    for mask in (None, make_mask(torch.arange(2), (4, 4))):
        tokens = encoder.embed(images, mask)
        assert torch.equal(tokens[:, 0], encoder.class_token[0].expand(2, -1))
        assert tokens.shape[1] == 1 + (16 if mask is None else 4)


def test_the_order_of_the_visible_patches_does_not_matter_to_what_each_becomes():
    encoder, mask = Encoder(small()).double(), make_mask(torch.arange(2), (4, 4))
    images, turned = torch.randn(2, 3, 16, 16, dtype=torch.float64), Mask(mask.keep.flip(1), mask.masked)
    a, b = encoder(images, mask), encoder(images, turned)
    torch.testing.assert_close(a[:, 0], b[:, 0], rtol=0, atol=1e-13)
    torch.testing.assert_close(a[:, 1:], b[:, 1:].flip(1), rtol=0, atol=1e-13)


def test_the_last_feature_normed_is_the_latent():
    encoder, images, mask = Encoder(small(depth=3)), torch.randn(2, 3, 16, 16), make_mask(torch.arange(2), (4, 4))
    for m in (None, mask):
        features = encoder.features(images, m)
        assert len(features) == 3
        assert torch.equal(encoder.norm(features[-1]), encoder(images, m))


def test_mask_tokens_stand_in_for_the_hidden_patches_at_their_own_places():
    encoder, mask = scrambled(Encoder(small(), mask_tokens=True)), make_mask(torch.arange(2), (4, 4))
    images = torch.randn(2, 3, 16, 16)
    tokens, whole = encoder.embed(images, mask)[:, 1:], encoder.embed(images)[:, 1:]
    for i in range(2):
        for row, patch in enumerate(mask.keep[i].tolist() + mask.masked[i].tolist()):
            expected = whole[i, patch] if row < 4 else encoder.mask_token[0, 0] + encoder.positions[1 + patch]
            torch.testing.assert_close(tokens[i, row], expected)


def test_images_and_masks_that_do_not_fit_are_refused_in_words():
    encoder = Encoder(small())
    with pytest.raises(ValueError, match=r"takes images of shape b 3 height width, not \(2, 1, 16, 16\).*channels=1"):
        encoder(torch.zeros(2, 1, 16, 16))
    with pytest.raises(ValueError, match=r"not \(3, 16, 16\)"):
        encoder(torch.zeros(3, 16, 16))
    with pytest.raises(ValueError, match="cannot be cut into patches"):
        encoder(torch.zeros(2, 3, 16, 18))
    with pytest.raises(ValueError, match="mask is for 3 images of 16 patches; the batch has 2 of 16"):
        encoder(torch.zeros(2, 3, 16, 16), make_mask(torch.arange(3), (4, 4)))
    with pytest.raises(ValueError, match="2 images of 16 patches; the batch has 2 of 8"):
        encoder(torch.zeros(2, 3, 8, 16), make_mask(torch.arange(2), (4, 4)))


# ------------------------------------------------------------------------------------------------------ attention


@pytest.mark.parametrize("queries", [1, 3, 7])
def test_asking_for_the_last_tokens_only_gives_their_slice_and_the_same_gradients(queries):
    block = scrambled(Block(16, 2)).double()
    x = torch.randn(2, 7, 16, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(2, queries, 16, dtype=torch.float64)

    def outputs_and_gradients(y):
        return [y, *torch.autograd.grad((y * direction).sum(), [x, *block.parameters()])]

    for few, all_ in zip(outputs_and_gradients(block(x, queries=queries)), outputs_and_gradients(block(x)[:, -queries:])):
        torch.testing.assert_close(few, all_, rtol=0, atol=1e-12)


def test_attention_weights_sum_to_one_and_reproduce_the_forward_pass():
    attention, x = scrambled(Attention(24, 3)).double(), torch.randn(2, 5, 24, dtype=torch.float64)
    weights = attention.weights(x)
    assert weights.shape == (2, 3, 5, 5) and (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5, dtype=torch.float64))
    values = attention.qkv(x)[..., 48:].view(2, 5, 3, 8)
    mixed = torch.einsum("bhqt,bthe->bqhe", weights, values).flatten(2)
    torch.testing.assert_close(attention.out(mixed), attention(x), rtol=0, atol=1e-13)


# ------------------------------------------------------------------------------------------------------ drop path


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    dropped = drop_path(torch.ones(20_000, 2, 3), 0.3, True)
    assert (dropped == dropped[:, :1, :1]).all()
    assert {round(v, 5) for v in dropped.unique().tolist()} == {0.0, round(1 / 0.7, 5)}
    assert abs(dropped.mean() - 1) < 4 * (0.3 / 0.7 / 20_000) ** 0.5


def test_drop_path_is_off_outside_training_and_at_probability_zero():
    x = torch.randn(4, 2, 3)
    assert drop_path(x, 0.9, False) is x and drop_path(x, 0.0, True) is x
    images = torch.randn(2, 3, 16, 16)
    encoder, plain = Encoder(small(), drop=0.5).eval(), Encoder(small()).eval()
    plain.load_state_dict(encoder.state_dict())
    assert torch.equal(encoder(images), plain(images))
    assert not torch.equal(encoder.train()(images), plain(images))


def test_drop_path_grows_linearly_over_the_blocks():
    assert [block.drop for block in Encoder(small(depth=5), drop=0.2).blocks] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert [block.drop for block in Encoder(small(depth=1), drop=0.2).blocks] == [0]


# -------------------------------------------------------------------------------------------------- initial values


@pytest.mark.parametrize("mask_tokens", [False, True])
def test_initial_values_are_xavier_zero_one_and_small_tokens(mask_tokens):
    mae = MAE(SIZES["nano"], mask_tokens_in_encoder=mask_tokens)
    for part in mae.modules():
        if isinstance(part, nn.Linear):
            bound = math.sqrt(6 / (part.in_features + part.out_features))
            assert 0.99 * bound < part.weight.abs().max() <= bound
            assert part.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
            assert not part.bias.any()
        elif isinstance(part, nn.LayerNorm):
            assert (part.weight == 1).all() and not part.bias.any()
    tokens = {name: p for name, p in mae.named_parameters() if name.endswith("_token")}
    mask_token = "encoder.mask_token" if mask_tokens else "decoder.mask_token"
    assert set(tokens) == {"encoder.class_token", mask_token}
    for token in tokens.values():
        assert token.std().item() == pytest.approx(0.02, rel=0.35) and abs(token.mean()) < 0.01


def test_trap_15_every_norm_has_eps_1e_6_and_every_linear_layer_a_bias():
    mae = MAE(SIZES["nano"])
    norms = [part for part in mae.modules() if isinstance(part, nn.LayerNorm)]
    assert len(norms) == 2 * (6 + 2) + 2 and all(part.eps == 1e-6 for part in norms)
    assert all(part.bias is not None for part in mae.modules() if isinstance(part, nn.Linear))
    assert [block.attention.heads for block in mae.encoder.blocks] == [3] * 6


def test_trap_12_positions_survive_initialisation():
    mae = MAE(small())
    assert torch.equal(mae.encoder.positions, sincos_2d(32, (4, 4))) and mae.encoder.positions[1:].any()
    assert torch.equal(mae.decoder.positions, sincos_2d(16, (4, 4))) and mae.decoder.positions[1:].any()


def test_trap_12_on_a_blank_image_predictions_at_two_masked_places_differ_at_initialisation():
    mae, mask = MAE(small()), make_mask(torch.arange(2), (4, 4))
    predicted = mae(torch.zeros(2, 3, 16, 16), mask).predicted  # only the places differ
    distances = torch.cdist(predicted, predicted) + 9 * torch.eye(12)
    assert distances.min() > 1e-2
    assert mae.encoder(torch.zeros(1, 3, 16, 16))[0, 1:].std(dim=0).min() > 1e-3


def test_trap_13_positions_are_frozen_in_pre_training_and_can_be_trained_afterwards():
    mae, images, mask = MAE(small()), torch.randn(2, 3, 16, 24), make_mask(torch.arange(2), (4, 6))
    before = [mae.encoder.positions.clone(), mae.decoder.positions.clone()]
    optimizer = torch.optim.AdamW(mae.parameters(), lr=0.1, weight_decay=0.5)
    mae(images, mask).loss.backward()
    optimizer.step()
    assert torch.equal(mae.encoder.positions, before[0]) and torch.equal(mae.decoder.positions, before[1])
    assert all(p.grad is not None for name, p in mae.named_parameters() if "positions" not in name)
    encoder = mae.encoder
    encoder.positions.requires_grad_(True)
    encoder(images).square().sum().backward()
    assert (encoder.positions.grad.abs().sum(1) > 0).all()


def test_trap_16_one_dimensional_parameters_are_the_biases_and_norms_and_the_tokens_are_not_among_them():
    mae = MAE(small(), mask_tokens_in_encoder=True)
    norms = {f"{name}.weight" for name, part in mae.named_modules() if isinstance(part, nn.LayerNorm)}
    for name, parameter in mae.named_parameters():
        assert (parameter.ndim == 1) == (name.endswith(".bias") or name in norms)


def test_a_model_can_be_planned_without_memory():
    with torch.device("meta"):
        assert Encoder(SIZES["huge"], drop=0.3).positions.is_meta
