"""Targets: normalised by the unbiased variance, in float32 whatever autocast says, and inverted by their pictures."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from minimae.model.targets import TARGETS, NormalisedTarget, PCATarget, PixelTarget, patch_loss, patch_statistics


def normalised_by_numpy(patches: torch.Tensor) -> np.ndarray:
    """(patch − mean) / √(unbiased variance + 1e-6), patch by patch in float64."""
    x = patches.double().numpy()
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, ddof=1, keepdims=True) + 1e-6)


@pytest.mark.parametrize("scale", [1e-4, 1e-3, 1.0, 50.0])
def test_trap_7_normalised_pixels_use_the_unbiased_variance_with_1e_6_inside_the_root(scale):
    patches = scale * torch.randn(3, 5, 12) + 2 * scale
    target = NormalisedTarget(12)
    np.testing.assert_allclose(target(patches.double()).numpy(), normalised_by_numpy(patches), rtol=0, atol=1e-12)
    np.testing.assert_allclose(target(patches).numpy(), normalised_by_numpy(patches), rtol=0, atol=1e-5)


def test_trap_7_one_mean_and_one_deviation_for_all_channels_of_a_patch_together():
    mean, deviation = patch_statistics(torch.randn(2, 9, 48))
    assert mean.shape == deviation.shape == (2, 9, 1)


@pytest.mark.parametrize(("values", "score"), [(12, 0.917), (48, 0.979), (768, 0.9987)])
def test_trap_7_predicting_zero_scores_values_less_one_over_values(values, score):
    target = NormalisedTarget(values)(10 * torch.randn(4, 50, values))
    loss = patch_loss(torch.zeros_like(target), target).mean().item()
    assert loss == pytest.approx((values - 1) / values, abs=1e-5) == pytest.approx(score, abs=5e-4)


def test_a_patch_of_one_colour_becomes_zero_and_not_nan():
    assert not NormalisedTarget(12)(torch.full((1, 2, 12), 0.7)).abs().gt(1e-3).any()


def test_a_patch_of_one_value_is_refused():
    with pytest.raises(ValueError, match=r"no standard deviation.*target='pixels'"):
        NormalisedTarget(1)(torch.randn(2, 4, 1))


def uneven_patches() -> torch.Tensor:
    """4000 patches of 12 values that vary much more in some directions than in others."""
    return torch.randn(4000, 12) @ torch.diag(torch.linspace(3, 0.1, 12)) @ torch.linalg.qr(torch.randn(12, 12)).Q + 1


def test_pca_coefficients_equal_those_of_scikit_learn_up_to_sign():
    rows = uneven_patches()
    target = PCATarget(12, 5).fit(rows.view(10, 400, 12))
    oracle = PCA(5, svd_solver="full").fit(rows.double().numpy())
    np.testing.assert_allclose(target.components @ target.components.T, oracle.components_.T @ oracle.components_, rtol=0, atol=1e-5)
    ours, theirs = target(rows[None])[0], oracle.transform(rows.double().numpy())
    np.testing.assert_allclose(ours.abs(), np.abs(theirs), rtol=0, atol=1e-4)
    np.testing.assert_allclose(target.picture(ours, rows), oracle.inverse_transform(theirs), rtol=0, atol=1e-4)


def test_pca_wants_enough_patches_and_never_more_coefficients_than_values():
    assert PCATarget(12).values == 12 and PCATarget(768).values == 96
    with pytest.raises(ValueError, match="more than 5 patches to fit on, not 5"):
        PCATarget(12, 5).fit(torch.randn(1, 5, 12))


@pytest.mark.parametrize("name", TARGETS)
def test_a_picture_inverts_its_target(name):
    target = TARGETS[name](12).double()
    patches = torch.rand(2, 20, 12, dtype=torch.float64)
    if isinstance(target, PCATarget):
        target.fit(patches)
    torch.testing.assert_close(target.picture(target(patches), patches), patches, rtol=0, atol=1e-12)


def test_trap_10_a_picture_of_pixels_ignores_the_true_patches_and_one_of_normalised_pixels_needs_them():
    predicted, truth, other = torch.randn(3, 1, 4, 12).unbind()
    assert torch.equal(PixelTarget(12).picture(predicted, truth), PixelTarget(12).picture(predicted, other))
    painted = NormalisedTarget(12).picture(torch.zeros(1, 4, 12), truth)
    torch.testing.assert_close(painted, truth.mean(-1, keepdim=True).expand(-1, -1, 12))  # the leak, said in the captions


@pytest.mark.parametrize("name", TARGETS)
def test_trap_9_targets_and_losses_stay_in_float32_under_autocast(name):
    target = TARGETS[name](12)
    if isinstance(target, PCATarget):
        target.fit(uneven_patches())
    patches = torch.randn(2, 6, 12)
    plain = target(patches)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = target(patches)
        picture = target.picture(mixed, patches)
        loss = patch_loss(torch.zeros_like(mixed, dtype=torch.bfloat16), mixed)
        assert target(patches.bfloat16()).dtype == torch.float32
    assert torch.equal(mixed, plain) and mixed.dtype == loss.dtype == torch.float32
    assert torch.equal(picture, target.picture(plain, patches))
    torch.testing.assert_close(loss, plain.square().mean(-1))


def test_patch_loss_is_one_mean_of_squares_per_patch():
    a, b = torch.randn(2, 3, 4, 5).unbind()
    expected = [[sum((a[i, j, v] - b[i, j, v]) ** 2 for v in range(5)) / 5 for j in range(4)] for i in range(3)]
    torch.testing.assert_close(patch_loss(a, b), torch.tensor(expected))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_patch_loss_is_at_least_in_float32(dtype):
    a, b = torch.randn(2, 3, 4, 5).to(dtype).unbind()
    assert patch_loss(a, b).dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(patch_loss(a, b).double(), patch_loss(a.double(), b.double()), rtol=1e-5, atol=1e-6)
