"""Mixup and cutmix: the distribution, the labels, the pixels against a slow reference, and that only the address counts."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from timm.data.mixup import Mixup, mixup_target

from minimae.data.mixing import (
    Mixing,
    beta,
    draw_one_share,
    draw_shares,
    folded,
    mix_images,
    partners,
    soft_cross_entropy,
    soft_targets,
)  # fmt: skip
from minimae.random import uniforms

IDS = torch.arange(20_000)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.8, 1.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    u = uniforms(0, "mix", 0, IDS, 64)
    share = beta(u[:, :32], u[:, 32:], alpha)
    assert stats.kstest(share.numpy(), stats.beta(alpha, alpha).cdf).statistic < 1.63 / math.sqrt(len(IDS))  # 1 % level


def test_half_of_the_images_are_cut_and_half_are_blended() -> None:
    shares = draw_shares(Mixing(0.8, 1.0), IDS, (224, 224), seed=0, epoch=0)
    empty = (shares.box == 0).all(1)
    assert float(empty.float().mean()) == pytest.approx(0.5, abs=0.015)
    assert stats.kstest(shares.own[empty].numpy(), stats.beta(0.8, 0.8).cdf).pvalue > 1e-3
    only_mixup = draw_shares(Mixing(0.8, 0.0), IDS[:500], (224, 224), seed=0, epoch=0)
    assert not only_mixup.box.any()
    only_cutmix = draw_shares(Mixing(0.0, 1.0), IDS[:500], (224, 224), seed=0, epoch=0)
    assert float((only_cutmix.box.sum(1) > 0).float().mean()) > 0.95


def test_a_rectangle_has_the_distribution_of_torchvisions_cutmix() -> None:
    from torchvision.transforms import v2

    ours = draw_shares(Mixing(0.0, 1.0), IDS[:4000], (40, 60), seed=3, epoch=0)
    torch.manual_seed(0)
    theirs = [v2.CutMix(num_classes=2).make_params([torch.empty(2, 3, 40, 60)]) for _ in range(4000)]
    boxes = torch.tensor([[p["box"][1], p["box"][0], p["box"][3], p["box"][2]] for p in theirs])
    for i in range(4):
        assert float(ours.box[:, i].float().mean()) == pytest.approx(float(boxes[:, i].float().mean()), abs=1.2)
    left = torch.tensor([p["lam_adjusted"] for p in theirs])
    assert stats.ks_2samp(ours.own.numpy(), left.numpy()).statistic < 0.04


@pytest.mark.parametrize(("height", "width"), [(8, 8), (13, 5)])
def test_images_equal_a_slow_reference_and_labels_are_the_pixels_shares(height: int, width: int) -> None:
    g = torch.Generator().manual_seed(0)
    images, ids = torch.rand(40, 3, height, width, generator=g), torch.arange(40)
    shares = draw_shares(Mixing(), ids, (height, width), seed=1, epoch=torch.arange(40) // 20)
    mixed = mix_images(images, shares).numpy()
    for i in range(40):
        other, own = images[i ^ 1].numpy(), float(shares.own[i])
        top, left, bottom, right = shares.box[i].tolist()
        expected = images[i].numpy().copy()
        if bottom > top and right > left:
            expected[:, top:bottom, left:right] = other[:, top:bottom, left:right]
            assert own == pytest.approx(1 - (bottom - top) * (right - left) / (height * width), abs=1e-6)
        else:
            expected = own * expected + (1 - own) * other
        assert np.allclose(mixed[i], expected, atol=1e-6)


def test_targets_sum_to_one_and_equal_timms() -> None:
    labels, ids = torch.randint(0, 10, (32,), generator=torch.Generator().manual_seed(0)), torch.arange(32)
    shares = draw_shares(Mixing(), ids, (16, 16), seed=0, epoch=0)
    targets = soft_targets(labels, 10, smoothing=0.1, shares=shares)
    assert targets.dtype == torch.float32 and torch.allclose(targets.sum(1), torch.ones(32), atol=1e-6)
    for i in range(0, 32, 2):  # timm mixes a batch with its reverse, by one share
        pair = mixup_target(labels[i : i + 2], 10, lam=float(shares.own[i]), smoothing=0.1)
        assert torch.allclose(targets[i], pair[0], atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_batch_that_is_mixed_as_one_is_timms_with_the_same_draws(smoothing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """timm's Mixup, mode "batch": one share and one kind for the batch, which is mixed with itself read backwards."""
    images, labels = torch.rand(6, 3, 12, 20), torch.tensor([3, 1, 4, 1, 0, 2])
    theirs = Mixup(0.8, 1.0, switch_prob=0.5, label_smoothing=smoothing, num_classes=5)
    kinds, order = [], torch.tensor([0, 5, 1, 4, 2, 3])
    for first in range(60):
        ids, epochs = first + torch.arange(6), torch.tensor([2, 2, 2, 3, 3, 3])
        u = uniforms(4, "mix", epochs[:1], ids[:1], 3 + 64).double()
        tries = u[:, 3:35], u[:, 35:]
        draws = iter([0.0, float(u[0, 0])])  # whether to mix at all, and whether to paste
        corner = iter([float(u[0, 1]), float(u[0, 2])])
        monkeypatch.setattr(np.random, "rand", lambda draws=draws: next(draws))
        monkeypatch.setattr(np.random, "beta", lambda alpha, _, tries=tries: float(beta(*tries, alpha)))
        monkeypatch.setattr(np.random, "randint", lambda low, high, size=None, corner=corner: int(next(corner) * high))
        side = math.sqrt(1 - float(beta(*tries, 1.0)))
        if u[0, 0] < 0.5 and (int(12 * side) % 2 or int(20 * side) % 2):
            continue  # the timm of the authors (0.3.2) cuts odd sides as we do, newer ones paste a row or column more
        made, targets = theirs(images.clone(), labels)
        shares = draw_one_share(Mixing(0.8, 1.0), ids, (12, 20), seed=4, epoch=epochs)
        assert torch.allclose(mix_images(folded(images), shares), made[order], atol=1e-6)
        assert torch.allclose(soft_targets(folded(labels), 5, smoothing=smoothing, shares=shares), targets[order], atol=1e-6)
        kinds.append(bool(shares.box.any()))
    assert 4 < sum(kinds) < len(kinds) - 15


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_mixing_the_loss_is_torchs_cross_entropy(smoothing: float) -> None:
    logits, labels = torch.randn(12, 7), torch.arange(12) % 7
    ours = soft_cross_entropy(logits, soft_targets(labels, 7, smoothing=smoothing))
    assert torch.allclose(ours, F.cross_entropy(logits, labels, label_smoothing=smoothing), atol=1e-6)


def test_the_loss_is_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = torch.randn(4, 8) @ torch.randn(8, 5)
        loss = soft_cross_entropy(logits, soft_targets(torch.arange(4), 5))
    assert logits.dtype == torch.bfloat16 and loss.dtype == torch.float32
    reference = -(F.one_hot(torch.arange(4), 5) * logits.double().log_softmax(1)).sum(1).mean()
    assert float(loss) == pytest.approx(float(reference), abs=1e-6)


@pytest.mark.parametrize("parts", [1, 2, 3, 6])
def test_batch_accumulation_and_ranks_do_not_matter(parts: int) -> None:
    """Micro-batches are even pieces of the row of images, in whatever process: the partner is always in the same piece."""
    g = torch.Generator().manual_seed(0)
    images, ids, epochs = torch.rand(12, 3, 8, 8, generator=g), torch.randperm(12, generator=g), torch.arange(12) // 7
    whole = mix_images(images, draw_shares(Mixing(), ids, (8, 8), seed=4, epoch=epochs))
    pieces = [
        mix_images(x, draw_shares(Mixing(), i, (8, 8), seed=4, epoch=e))
        for x, i, e in zip(images.chunk(parts), ids.chunk(parts), epochs.chunk(parts))
    ]
    assert torch.equal(torch.cat(pieces), whole)


def test_another_epoch_or_seed_mixes_otherwise() -> None:
    one = draw_shares(Mixing(), IDS[:50], (8, 8), seed=0, epoch=0).own
    assert not torch.equal(one, draw_shares(Mixing(), IDS[:50], (8, 8), seed=0, epoch=1).own)
    assert not torch.equal(one, draw_shares(Mixing(), IDS[:50], (8, 8), seed=1, epoch=0).own)


def test_partners_are_neighbours_and_an_odd_batch_is_refused() -> None:
    assert partners(torch.arange(6)).tolist() == [1, 0, 3, 2, 5, 4]
    with pytest.raises(ValueError, match="must be even, not 7"):
        partners(torch.arange(7))


def test_an_impossible_alpha_is_refused() -> None:
    with pytest.raises(ValueError, match="mixup is the α"):
        Mixing(mixup=1.5)
    assert not Mixing(0.0, 0.0) and Mixing(0.0, 1.0)
