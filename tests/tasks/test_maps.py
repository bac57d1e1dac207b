"""Maps of patch tokens: equal to the encoder's tokens, at any size, with and without gradient checkpointing."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors

import minimae
from minimae.data.joint import Views, batches, scale_crop_flip
from minimae.tasks.maps import pad_to_patch, spatial_maps
from minimae.weights.timm import TimmEncoder

ENCODER = minimae.Encoder(minimae.size("nano", image=32, patch=4, channels=3, depth=3))


@settings(deadline=None, max_examples=8)
@given(st.integers(1, 7), st.integers(1, 7), st.lists(st.integers(-3, 2), min_size=1, max_size=3))
def test_a_map_is_the_patch_tokens_in_rows_and_columns(h: int, w: int, taps: list[int]) -> None:
    images = torch.randn(2, 3, 4 * h, 4 * w)
    [last] = spatial_maps(ENCODER, images)
    tokens, after = ENCODER(images), ENCODER.features(images)
    for found, wanted in zip([last, *spatial_maps(ENCODER, images, taps)], [tokens, *(after[tap] for tap in taps)]):
        assert found.shape == (2, ENCODER.size.width, h, w)
        assert torch.equal(found[:, :, h - 1, 0], wanted[:, 1 + (h - 1) * w])
        assert torch.equal(found.flatten(2), wanted[:, 1:].transpose(1, 2))


def test_a_model_of_timm_gives_maps_without_its_registers() -> None:
    from timm.models.vision_transformer import VisionTransformer

    vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, reg_tokens=3, dynamic_img_size=True)
    encoder, images = TimmEncoder(vit).eval(), torch.randn(1, 3, 24, 40)
    [found] = spatial_maps(encoder, images)
    assert torch.equal(found.flatten(2), encoder(images)[:, 1:].transpose(1, 2))


def test_recomputing_blocks_changes_memory_and_no_gradient() -> None:
    gradients, saved = [], []
    for recompute in (False, True):
        ENCODER.zero_grad()
        count = 0

        def pack(x: torch.Tensor) -> torch.Tensor:
            nonlocal count
            count += x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            loss = spatial_maps(ENCODER, torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32), recompute=recompute)[0].square().sum()
        loss.backward()
        gradients.append([p.grad.clone() for p in ENCODER.parameters() if p.grad is not None])
        saved.append(count)
    assert saved[1] < saved[0] / 3
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_missing_blocks_and_odd_sizes_are_refused_with_what_would_do() -> None:
    with pytest.raises(ValueError, match="3 blocks, from 0 to 2, and maps after \\[3\\]"):
        spatial_maps(ENCODER, torch.zeros(1, 3, 8, 8), [3])
    odd = torch.ones(1, 3, 10, 13)
    with pytest.raises(ValueError, match="12×16"):
        spatial_maps(ENCODER, odd)
    padded = pad_to_patch(odd, 4)
    assert padded.shape == (1, 3, 12, 16) and padded.sum() == odd.sum() and torch.equal(padded[..., :10, :13], odd)


class Ramps:
    """Pictures whose red value is their mask's label, so that a change of one without the other shows."""

    ids = torch.arange(10, 16)

    def sample(self, index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        label = torch.arange(40).div(10, rounding_mode="floor")[:, None].expand(40, 60) + index
        picture = torch.stack([label * 20, torch.zeros_like(label), torch.zeros_like(label)]).byte()
        return tv_tensors.Image(picture), tv_tensors.Mask(label.byte())


def test_pictures_and_masks_change_together_and_the_same_way_in_any_worker() -> None:
    views = Views(Ramps(), scale_crop_flip((32, 48), fill=(240, 0, 0)), seed=3)

    def batch(ids: list[int], workers: int = 0) -> minimae.data.types.Batch:
        order = ((torch.tensor(ids), torch.full((len(ids),), epoch)) for epoch in itertools.count(5))
        return next(iter(batches(views, order, workers=workers, device=torch.device("cpu"))))

    whole, again = batch(list(range(6))), batch([4, 1], workers=1)
    assert whole.pixels.shape == (6, 3, 32, 48) and whole.labels is not None and whole.labels.shape == (6, 32, 48)
    assert torch.equal(whole.pixels[[4, 1]], again.pixels) and torch.equal(whole.labels[[4, 1]], again.labels)
    expected = torch.where(whole.labels == 255, 240.0, whole.labels * 20.0)
    off = (whole.pixels[:, 0].float() - expected).abs() > 10
    assert off.float().mean() < 0.08  # only along edges, where the picture is interpolated
    assert (whole.labels == 255).any() and len({x.float().mean().item() for x in whole.pixels}) == 6
