"""Parity: with the same weights and noise, Hugging Face's ViTMAE gives the same mask, latent, prediction, loss and gradients.

Its masks agree with ours: 1 is removed. Built from a config its positions are zero, so ours are copied in with the weights.
"""

import pytest
import torch
from oracles import huggingface_names, into_huggingface, scrambled, small

from minimae.model.mae import MAE
from minimae.model.masking import keep_count, mask_from_noise
from minimae.model.positions import resize_positions

NEAR = {torch.float32: dict(rtol=0, atol=1e-5), torch.float64: dict(rtol=0, atol=1e-10)}
MODEL = dict(width=48, depth=3, heads=3, decoder_width=32, decoder_depth=2, decoder_heads=4, patch=4, image=24)


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request) -> torch.dtype:
    return request.param


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("target", ["pixels", "normalised"])
@pytest.mark.parametrize("shape", [(24, 24), (16, 28), (32, 16)], ids=["square", "wide", "tall"])
def test_everything_equals_the_big_library(dtype, target, channels, shape):
    mae = scrambled(MAE(small(**MODEL, channels=channels), target=target)).to(dtype)
    theirs = into_huggingface(mae, norm_pix_loss=target == "normalised")
    grid = (shape[0] // 4, shape[1] // 4)
    n = grid[0] * grid[1]
    images, noise = torch.randn(2, channels, *shape, dtype=dtype), torch.rand(2, n)
    mask = mask_from_noise(noise, keep_count(n, 0.75))
    resized = grid != (6, 6)
    if resized:  # their decoder stretches its table as one long row of patches (trap 14), so it is given the right one
        table = resize_positions(mae.decoder.positions, (6, 6), grid)
        theirs.decoder.decoder_pos_embed = torch.nn.Parameter(table[None], requires_grad=False)

    ours, expected = mae(images, mask), theirs(images, noise=noise, interpolate_pos_encoding=resized)

    assert torch.equal(mask.binary, expected.mask.float())  # trap 5
    assert torch.equal(mask.restore, expected.ids_restore)
    latent = theirs.vit(images, noise=noise, interpolate_pos_encoding=resized).last_hidden_state
    torch.testing.assert_close(ours.latent, latent, **NEAR[dtype])
    every = mae.decoder(ours.latent, mask, grid=grid, every=True)
    torch.testing.assert_close(every, expected.logits, **NEAR[dtype])  # trap 8: both in the order (p1, p2, c)
    for i in range(2):
        torch.testing.assert_close(ours.predicted[i], expected.logits[i, mask.masked[i]], **NEAR[dtype])
    torch.testing.assert_close(ours.loss, expected.loss, **NEAR[dtype])

    ours.loss.backward()
    expected.loss.backward()
    gradients = huggingface_names({name: p.grad for name, p in mae.named_parameters() if p.requires_grad}, mae.size, theirs)
    for name, parameter in theirs.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(gradients.pop(name), parameter.grad, **NEAR[dtype])
    assert not gradients  # and nothing of ours was left out


def test_the_comparison_would_notice_a_swapped_position_table():
    mae = scrambled(MAE(small(**MODEL))).double()
    theirs = into_huggingface(mae, norm_pix_loss=True)
    with torch.no_grad():
        theirs.vit.embeddings.position_embeddings.copy_(theirs.vit.embeddings.position_embeddings.roll(24, dims=-1))
    images, noise = torch.randn(2, 3, 24, 24, dtype=torch.float64), torch.rand(2, 36)
    ours = mae(images, mask_from_noise(noise, 9)).loss
    assert abs(ours - theirs(images, noise=noise).loss) > 1e-6


def test_the_paper_s_base_model_at_its_own_size_agrees():
    base = dict(width=768, depth=2, heads=12, decoder_width=512, decoder_depth=2, decoder_heads=16, patch=16, image=224)
    mae = MAE(small(**base)).eval()  # two blocks stand for twelve and eight
    theirs = into_huggingface(mae, norm_pix_loss=True).eval()
    images, noise = torch.randn(1, 3, 224, 224), torch.rand(1, 196)
    with torch.no_grad():
        ours, expected = mae(images, mask_from_noise(noise, keep_count(196, 0.75))), theirs(images, noise=noise)
    assert ours.mask.keep.shape == (1, 49) and torch.equal(ours.mask.binary, expected.mask)
    torch.testing.assert_close(ours.loss, expected.loss, rtol=0, atol=1e-5)
    torch.testing.assert_close(mae.decoder(ours.latent, ours.mask, every=True), expected.logits, rtol=0, atol=1e-5)
