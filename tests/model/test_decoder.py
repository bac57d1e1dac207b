"""The decoder: never unshuffling gives what the paper's unshuffling gives."""

import pytest
import torch
from oracles import scrambled, small
from torch import Tensor

from minimae.model.decoder import Decoder
from minimae.model.masking import Mask, make_mask
from minimae.model.patches import Pair
from minimae.model.positions import resize_positions

EXACT = dict(rtol=0, atol=1e-12)


def unshuffle_then_decode(decoder: Decoder, latent: Tensor, mask: Mask, grid: Pair) -> Tensor:
    """The paper's way, for every patch in image order ``b n values``: append mask tokens, unshuffle, add positions, decode."""
    class_token, visible = decoder.embed(latent[:, :1]), decoder.embed(latent[:, 1:])
    b, k, d = visible.shape
    shuffled = torch.cat([visible, decoder.mask_token.expand(b, mask.n - k, d)], dim=1)
    in_order = torch.gather(shuffled, 1, mask.restore[:, :, None].expand(b, mask.n, d))
    x = torch.cat([class_token, in_order], dim=1) + resize_positions(decoder.positions, decoder.size.grid, grid)
    for block in decoder.blocks:
        x = block(x)
    return decoder.predict(decoder.norm(x))[:, 1:]


@pytest.mark.parametrize("sampling", ["random", "block", "grid"])
@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (6, 2)])
@pytest.mark.parametrize("depth", [1, 2])
def test_decoding_in_shuffled_order_equals_the_paper_s_unshuffle(sampling, grid, depth):
    decoder = scrambled(Decoder(small(decoder_depth=depth))).double()
    mask = make_mask(torch.arange(3), grid, sampling=sampling, ratio=0.6)
    latent = torch.randn(3, 1 + mask.keep.shape[1], 32, dtype=torch.float64, requires_grad=True)
    expected = unshuffle_then_decode(decoder, latent, mask, grid)
    every, masked = decoder(latent, mask, grid=grid, every=True), decoder(latent, mask, grid=grid)
    torch.testing.assert_close(every, expected, **EXACT)
    for i in range(3):
        torch.testing.assert_close(masked[i], expected[i, mask.masked[i]], **EXACT)
    wanted = [latent, *(p for p in decoder.parameters() if p.requires_grad)]
    hidden = mask.binary.bool()
    ours = torch.autograd.grad(masked.square().sum(), wanted)
    theirs = torch.autograd.grad(expected[hidden].square().sum(), wanted)
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-11)


def test_trap_1_the_class_token_is_kept_in_decoding_and_dropped_before_predicting():
    decoder, mask = Decoder(small()), make_mask(torch.arange(2), (4, 4))
    latent = torch.randn(2, 5, 32)
    assert decoder.tokens(latent, mask, (4, 4)).shape == (2, 17, 16)
    assert decoder(latent, mask).shape == (2, 12, 48)
    assert decoder(latent, mask, every=True).shape == (2, 16, 48)
    other = torch.cat([torch.randn(2, 1, 32), latent[:, 1:]], dim=1)
    assert not torch.allclose(decoder(latent, mask), decoder(other, mask))  # the patches do look at it


def test_every_token_carries_the_position_of_its_own_patch():
    decoder, mask = scrambled(Decoder(small())), make_mask(torch.arange(2), (4, 4))
    latent = torch.randn(2, 5, 32)
    tokens, embedded = decoder.tokens(latent, mask, (4, 4)), decoder.embed(latent)
    for i in range(2):
        torch.testing.assert_close(tokens[i, 0], embedded[i, 0])  # the class token's position is zero
        for row, patch in enumerate(mask.keep[i].tolist() + mask.masked[i].tolist(), start=1):
            content = embedded[i, row] if row <= 4 else decoder.mask_token[0, 0]
            torch.testing.assert_close(tokens[i, row], content + decoder.positions[1 + patch])


def test_without_a_mask_token_of_its_own_the_decoder_takes_the_encoder_s():
    decoder, mask = scrambled(Decoder(small(), mask_token=False)).double(), make_mask(torch.arange(2), (4, 4))
    latent = torch.randn(2, 17, 32, dtype=torch.float64)  # the encoder saw every place: [class | kept | masked]
    places = torch.cat([torch.zeros(2, 1, dtype=torch.int64), mask.keep + 1, mask.masked + 1], dim=1)
    x = decoder.embed(latent) + decoder.positions[places]
    for block in decoder.blocks:
        x = block(x)
    torch.testing.assert_close(decoder(latent, mask), decoder.predict(decoder.norm(x))[:, 5:], **EXACT)
    assert "mask_token" not in dict(decoder.named_parameters())


def test_the_width_of_the_target_can_be_chosen():
    decoder, mask = Decoder(small(), values=7), make_mask(torch.arange(2), (4, 4))
    assert decoder(torch.randn(2, 5, 32), mask).shape == (2, 12, 7)
