"""The whole model: its loss is what one computes by hand, at any size, and its pictures show what they say."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import patchify_by_loops, scrambled, small

import minimae
from minimae.model.mae import MAE
from minimae.model.masking import make_mask
from minimae.model.patches import patchify, unpatchify

EXACT = dict(rtol=0, atol=1e-12)


def loss_by_hand(mae: MAE, images: torch.Tensor, predicted: torch.Tensor, wanted: torch.Tensor) -> float:
    """Mean over the wanted patches of the mean squared error against the target, in float64, patch by patch."""
    p1, p2 = mae.size.image[0] // mae.size.grid[0], mae.size.image[1] // mae.size.grid[1]
    patches = patchify_by_loops(images.detach().double().numpy(), p1, p2)
    errors = []
    for i, row in enumerate(wanted.tolist()):
        for j, patch in enumerate(row):
            x = patches[i, patch]
            if type(mae.target).__name__ == "NormalisedTarget":
                x = (x - x.mean()) / np.sqrt(x.var(ddof=1) + 1e-6)
            errors.append(((predicted[i, j].detach().double().numpy() - x) ** 2).mean())
    return float(np.mean(errors))


@pytest.mark.parametrize("mask_tokens", [False, True])
@pytest.mark.parametrize("loss_on", ["masked", "all"])
@pytest.mark.parametrize("target", ["pixels", "normalised"])
def test_the_loss_is_the_mean_over_the_patches_it_is_taken_on(target, loss_on, mask_tokens):
    mae = MAE(small(patch=(2, 4), image=(6, 20)), target=target, loss_on=loss_on, mask_tokens_in_encoder=mask_tokens).double()
    images, mask = torch.randn(3, 3, 6, 20, dtype=torch.float64), make_mask(torch.arange(3), (3, 5), ratio=0.6)
    out = mae(images, mask)
    wanted = mask.masked if loss_on == "masked" else torch.arange(15).expand(3, 15)
    assert out.predicted.shape == (3, wanted.shape[1], 24) and out.patch_losses.shape == wanted.shape
    assert out.loss.item() == pytest.approx(loss_by_hand(mae, images, out.predicted, wanted), abs=1e-12)
    assert out.latent.shape == (3, 1 + (15 if mask_tokens else 6), 32) and out.mask is mask


def test_the_loss_on_all_patches_sees_the_same_predictions_and_the_loss_on_the_masked_ones_ignores_the_rest():
    mae, images, mask = MAE(small()).double(), torch.randn(2, 3, 16, 16, dtype=torch.float64), make_mask(torch.arange(2), (4, 4))
    masked = mae(images, mask)
    mae.loss_on = "all"
    every = mae(images, mask)
    hidden = mask.binary.bool()
    torch.testing.assert_close(every.patch_losses[hidden].mean(), masked.loss, **EXACT)
    torch.testing.assert_close(every.patch_losses.mean(), every.loss, **EXACT)
    for i in range(2):
        torch.testing.assert_close(every.predicted[i, mask.masked[i]], masked.predicted[i], **EXACT)


def test_mask_tokens_in_the_encoder_let_hidden_places_exchange_with_visible_ones_there():
    mae = scrambled(MAE(small(), mask_tokens_in_encoder=True)).double()
    images, mask = torch.randn(2, 3, 16, 16, dtype=torch.float64), make_mask(torch.arange(2), (4, 4))
    out = mae(images, mask)
    hidden = unpatchify(mask.binary[:, :, None].repeat(1, 1, 48), 4, (4, 4)).double()
    noisy = mae(images + hidden * torch.randn_like(images), mask)
    torch.testing.assert_close(out.latent, noisy.latent, **EXACT)  # still blind to the hidden pixels
    with torch.no_grad():
        mae.encoder.mask_token.normal_()
    assert not torch.allclose(out.latent[:, :5], mae(images, mask).latent[:, :5])


def test_predictions_never_depend_on_hidden_pixels():
    mae, mask = MAE(small()), make_mask(torch.arange(1), (4, 4))
    images = torch.randn(1, 3, 16, 16, requires_grad=True)
    mae(images, mask).predicted.square().sum().backward()
    seen = patchify(images.grad, 4).abs().sum(-1) > 0
    assert torch.equal(seen, mask.binary == 0)


@pytest.mark.parametrize("target", ["pixels", "normalised", "pca"])
def test_trap_9_the_loss_is_float32_under_autocast(target):
    mae, images, mask = MAE(small(image=(16, 16)), target=target), torch.randn(2, 3, 16, 16), make_mask(torch.arange(2), (4, 4))
    with torch.autocast("cpu", torch.bfloat16):
        out = mae(images, mask)
    assert out.predicted.dtype == torch.bfloat16 and out.loss.dtype == out.patch_losses.dtype == torch.float32
    if target != "pca":
        assert out.loss.item() == pytest.approx(loss_by_hand(mae, images, out.predicted, mask.masked), rel=1e-6)
    assert out.loss.item() == pytest.approx(mae(images, mask).loss.item(), rel=0.02)


@pytest.mark.parametrize("target", ["pixels", "normalised", "pca"])
def test_trap_10_a_reconstruction_pastes_the_originals_where_they_were_visible(target):
    mae, images = MAE(small(image=(8, 20)), target=target), torch.randn(2, 3, 8, 20)
    mask = make_mask(torch.arange(2), (2, 5))
    pictures = mae.reconstruct(images, mask)
    hidden = unpatchify(mask.binary[:, :, None].repeat(1, 1, 48), 4, (2, 5)).bool()
    assert torch.equal(pictures.original, images)
    assert torch.equal(pictures.inpainted[~hidden], images[~hidden]) and torch.equal(pictures.masked[~hidden], images[~hidden])
    assert torch.equal(pictures.inpainted[hidden], pictures.predicted[hidden]) and not pictures.masked[hidden].any()
    assert not torch.allclose(pictures.predicted[~hidden], images[~hidden])


def test_a_reconstruction_in_pixels_paints_the_predictions_themselves():
    mae, images, mask = MAE(small(), target="pixels"), torch.randn(2, 3, 16, 16), make_mask(torch.arange(2), (4, 4))
    painted, predicted = patchify(mae.reconstruct(images, mask).inpainted, 4), mae(images, mask).predicted
    for i in range(2):
        torch.testing.assert_close(painted[i, mask.masked[i]], predicted[i])


@settings(max_examples=20)
@given(
    h=st.integers(1, 4), w=st.integers(1, 4), p1=st.integers(1, 5), p2=st.integers(1, 5), c=st.integers(1, 13),
    target=st.sampled_from(["pixels", "normalised", "pca"]), loss_on=st.sampled_from(["masked", "all"]), tokens=st.booleans(),
)  # fmt: skip
def test_any_height_width_and_channel_count_trains(h, w, p1, p2, c, target, loss_on, tokens):
    assume(h * w > 1 and p1 * p2 * c > 1)
    s = small(patch=(p1, p2), image=(2 * p1, 3 * p2), channels=c)  # built for a 2×3 grid, used on another
    mae = MAE(s, target=target, loss_on=loss_on, mask_tokens_in_encoder=tokens)
    images, mask = torch.randn(2, c, h * p1, w * p2), make_mask(torch.arange(2), (h, w), ratio=0.5)
    out = mae(images, mask)
    assert out.loss.isfinite() and out.loss.ndim == 0
    out.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in mae.parameters() if p.requires_grad)
    pictures = mae.reconstruct(images, mask)
    assert pictures.masked.shape == pictures.inpainted.shape == pictures.predicted.shape == images.shape


def test_trap_14_an_image_of_another_size_is_seen_through_resized_positions_in_encoder_and_decoder():
    mae = scrambled(MAE(small())).double()
    other = MAE(small(image=(8, 24))).double()
    state = mae.state_dict()
    for name in ("encoder.positions", "decoder.positions"):
        table = state[name]
        plane = table[1:].reshape(4, 4, -1).permute(2, 0, 1)[None]
        resized = F.interpolate(plane, size=(2, 6), mode="bicubic", align_corners=False)[0].flatten(1).T
        state[name] = torch.cat([table[:1], resized])
    other.load_state_dict(state)
    images, mask = torch.randn(2, 3, 8, 24, dtype=torch.float64), make_mask(torch.arange(2), (2, 6))
    ours, theirs = mae(images, mask), other(images, mask)
    torch.testing.assert_close(ours.latent, theirs.latent, **EXACT)
    torch.testing.assert_close(ours.predicted, theirs.predicted, **EXACT)


def test_training_on_one_image_drives_the_loss_down():
    mae, images, mask = MAE(small()), torch.randn(1, 3, 16, 16), make_mask(torch.arange(1), (4, 4))
    optimizer = torch.optim.AdamW(mae.parameters(), lr=3e-3)
    first = mae(images, mask).loss.item()
    for _ in range(150):
        optimizer.zero_grad()
        loss = mae(images, mask).loss
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2 * first


def test_unknown_choices_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown target 'pixel'; choose one of pixels, normalised, pca"):
        MAE(small(), target="pixel")
    with pytest.raises(ValueError, match="'masked' or on 'all' patches, not on 'visible'"):
        MAE(small(), loss_on="visible")


def test_a_model_by_name_and_a_mask_of_its_own():
    mae = MAE("tiny", image=32, patch=8, depth=1, decoder_depth=1)
    assert mae.size == minimae.size("tiny", image=32, patch=8, depth=1, decoder_depth=1)
    images = torch.randn(4, 3, 32, 32)
    assert mae(images, ratio=0.5).mask.keep.shape == (4, 8)
    assert mae(images).mask.keep.shape == (4, 4), "three quarters are hidden unless another ratio is given"
    ids = torch.tensor([7, 3, 9, 1])
    drawn, made = mae(images, ratio=0.5, ids=ids, seed=2, epoch=5).mask, make_mask(ids, (4, 4), ratio=0.5, seed=2, epoch=5)
    assert torch.equal(drawn.keep, made.keep) and torch.equal(drawn.masked, made.masked)
    assert torch.equal(mae.draw(images, ids=ids).keep, make_mask(ids, (4, 4)).keep), "ids alone: the seed of make_mask"
    drawn = mae.draw(images, ratio=0.5, seed=1)
    assert torch.equal(mae.reconstruct(images, ratio=0.5, seed=1).masked, mae.reconstruct(images, drawn).masked)


def test_a_mask_that_is_not_fixed_is_another_at_every_call():
    """Otherwise a loop of one's own would train on one mask for each index of the batch."""
    mae, images = MAE("tiny", image=32, patch=8, depth=1, decoder_depth=1), torch.randn(8, 3, 32, 32)
    masks = [mae.draw(images) for _ in range(3)]
    assert not torch.equal(masks[0].keep, masks[1].keep) and not torch.equal(masks[1].keep, masks[2].keep)
    torch.manual_seed(3)
    first = mae.draw(images)
    torch.manual_seed(3)
    assert torch.equal(first.keep, mae.draw(images).keep), "torch's seed repeats it"


def test_wrong_calls_of_the_model_name_the_fix():
    mae, images = MAE("tiny", image=32, patch=8, depth=1, decoder_depth=1), torch.randn(4, 3, 32, 32)
    for call, said in (
        (lambda: mae(images, 0.75), "for a random one write ratio=0.75"),
        (lambda: mae(images, torch.ones(4, 16)), "a mask is what make_mask or user_mask returns, not Tensor"),
        (lambda: mae(images, mae.draw(images), ratio=0.5), "a mask was given, so ratio would change nothing"),
        (lambda: mae(images[0]), r"not \(3, 32, 32\): the batch axis is missing; add it: images\[None\]"),
        (lambda: mae(images.permute(0, 2, 3, 1)), "the channels come last; move them"),
        (lambda: mae.reconstruct(images.permute(0, 2, 3, 1), mae.draw(images)), "the channels come last; move them"),
        (lambda: mae.encoder(images[0]), "the batch axis is missing"),
        (lambda: mae.encoder(images, 0.75), "the second argument is a mask, not 0.75"),
        (lambda: mae((images * 255).to(torch.uint8)), "takes float images, normalised, not torch.uint8"),
        (lambda: mae(images.numpy()), "images are a tensor b 3 height width, not ndarray"),
        (lambda: mae(images[:, :1]), "convert the images to channels=3.*or build the model with channels=1"),
        (lambda: MAE("tinny", image=32), "unknown size 'tinny'; did you mean 'tiny'"),
        (lambda: MAE("tiny", img_size=32), "a size has no field 'img_size'; here it is 'image'"),
        (lambda: MAE(224), "a size is one of nano, micro"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_another_eps_of_the_norms_is_everywhere():
    norms = [m for m in MAE("tiny", image=32, eps=1e-5, depth=2).modules() if isinstance(m, torch.nn.LayerNorm)]
    assert len(norms) == 2 * 2 + 1 + 2 * 4 + 1 and {m.eps for m in norms} == {1e-5}
