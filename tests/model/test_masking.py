"""Masks: exact counts, a partition of the patches, and a pure function of (seed, epoch, sample id)."""

import re

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from minimae.model.masking import BLOCKS, SAMPLERS, Mask, keep_count, make_mask, mask_from_noise, take, user_mask
from minimae.random import uniforms

ratios = st.floats(0.01, 0.99)
samplings = st.sampled_from(list(SAMPLERS))
grids = st.tuples(st.integers(1, 17), st.integers(1, 17)).filter(lambda g: g[0] * g[1] > 1)


def boundary(mask: Mask, grid: tuple[int, int]) -> float:
    """How many neighbouring pairs of patches differ (one seen, one not), on average over the images."""
    seen = mask.binary.view(-1, *grid)
    across, down = seen[:, :, 1:] != seen[:, :, :-1], seen[:, 1:] != seen[:, :-1]
    return float(across.sum((1, 2)).double().mean() + down.sum((1, 2)).double().mean())


# ------------------------------------------------------------------------------------------------------------- counting


@pytest.mark.parametrize(
    ("n", "ratio", "kept"),
    [(196, 0.75, 49), (256, 0.75, 64), (10, 0.9, 1), (100, 0.9, 10), (49, 0.75, 12), (2, 0.5, 1), (18, 0.75, 5), (10, 0.55, 5)],
)
def test_trap_2_the_count_is_rounded_half_up_and_not_truncated(n, ratio, kept):
    assert keep_count(n, ratio) == kept


@given(n=st.integers(1, 5000), ratio=st.floats(-0.5, 1.5))
def test_trap_2_the_count_is_the_nearest_that_keeps_one_and_masks_one_or_an_error(n, ratio):
    exact = n * (1 - ratio)
    try:
        kept = keep_count(n, ratio)
    except ValueError:
        assert exact < 0.5 + 1e-5 or exact > n - 0.5 - 1e-5
    else:
        assert 1 <= kept < n
        assert abs(kept - exact) <= 0.5 + 1e-6


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.1, 75, float("nan")])
def test_a_ratio_outside_0_to_1_is_refused(ratio):
    with pytest.raises(ValueError, match="between 0 and 1"):
        keep_count(196, ratio)


def test_a_ratio_that_keeps_nothing_or_everything_is_refused_with_the_range_that_works():
    with pytest.raises(ValueError, match=r"keeps 0 of 4 patches.*between 0.25 and 0.75"):
        keep_count(4, 0.9)
    with pytest.raises(ValueError, match="keeps 4 of 4 patches"):
        keep_count(4, 0.1)
    with pytest.raises(ValueError, match="one masked: choose smaller patches"):
        keep_count(1, 0.5)


@pytest.mark.parametrize("n", [2, 3, 7, 49, 196, 1369, 4096])
def test_the_range_that_is_advised_works(n):
    with pytest.raises(ValueError, match="choose a ratio") as error:
        keep_count(n, 1 - 0.1 / n)
    low, high = (float(number) for number in re.search(r"between (\S+) and (\S+),", str(error.value)).groups())
    assert (keep_count(n, low), keep_count(n, high)) == (n - 1, 1)


# ------------------------------------------------------------------------------------------- what every mask satisfies


@given(grid=grids, ratio=ratios, sampling=samplings, seed=st.integers(0, 999), b=st.integers(1, 5))
def test_trap_5_a_mask_parts_the_patches_in_two_with_exact_counts_and_1_is_removed(grid, ratio, sampling, seed, b):
    n = grid[0] * grid[1]
    assume(0.5 < n * (1 - ratio) < n - 0.5)
    mask = make_mask(torch.arange(b), grid, ratio=ratio, sampling=sampling, seed=seed)
    assert mask.n == n and mask.keep.shape == (b, keep_count(n, ratio))
    shuffled = torch.cat([mask.keep, mask.masked], dim=1)
    assert torch.equal(shuffled.sort(dim=1).values, torch.arange(n).expand(b, n))
    assert torch.equal(shuffled.gather(1, mask.restore), torch.arange(n).expand(b, n))
    for row in range(b):
        for patch in range(n):
            assert mask.binary[row, patch] == (0 if patch in mask.keep[row] else 1) == (1 if patch in mask.masked[row] else 0)


@given(
    sampling=samplings,
    ids=st.lists(st.integers(0, 2**62), min_size=2, max_size=6, unique=True),
    cut=st.integers(1, 5),
    epoch=st.integers(0, 2000),
    shuffle=st.randoms(use_true_random=False),
)
def test_trap_4_a_mask_belongs_to_its_sample_and_not_to_its_batch(sampling, ids, cut, epoch, shuffle):
    def masks(some):
        mask = make_mask(torch.tensor(some), (7, 5), sampling=sampling, seed=3, epoch=epoch)
        return {i: (k, m) for i, k, m in zip(some, mask.keep.tolist(), mask.masked.tolist())}

    together = masks(ids)
    moved = shuffle.sample(ids, len(ids))
    assert together == masks(moved)
    assert together == masks(ids[: min(cut, len(ids) - 1)]) | masks(ids[min(cut, len(ids) - 1) :])


@pytest.mark.parametrize("sampling", SAMPLERS)
def test_trap_4_masks_change_with_epoch_seed_and_sample_and_ignore_the_generators_that_workers_reseed(sampling):
    def masks(seed=0, epoch=0, first=0):
        np.random.seed(0)  # what a loader worker does at the start of every epoch
        torch.manual_seed(0)
        return make_mask(torch.arange(first, first + 64), (14, 14), sampling=sampling, seed=seed, epoch=epoch).binary

    reference = masks()
    assert torch.equal(reference, masks())
    for other in (masks(epoch=1), masks(seed=1), masks(first=64)):
        assert (other != reference).any(1).float().mean() > 0.7  # a grid has only four shifts
        assert not torch.equal(other, reference)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_trap_3_half_precision_noise_has_ties_and_the_noise_drawn_here_has_none_to_speak_of(dtype):
    noise = uniforms(0, "mask", 0, torch.arange(200), 196)
    assert noise.dtype == torch.float32
    distinct = sum(len(row.unique()) for row in noise) / noise.numel()
    in_half = sum(len(row.unique()) for row in noise.to(dtype)) / noise.numel()
    assert in_half < 0.97 < 0.9999 < distinct
    mask = mask_from_noise(noise.to(dtype), 49)  # ties may move a patch, never a count
    assert torch.equal(torch.cat([mask.keep, mask.masked], 1).sort(1).values, torch.arange(196).expand(200, 196))


@pytest.mark.parametrize("sampling", list(SAMPLERS))
def test_noise_that_is_left_over_changes_nothing(sampling):
    noise = torch.rand(3, 16 + 4 * BLOCKS, generator=torch.Generator().manual_seed(0))
    plain, more = (SAMPLERS[sampling](given, (4, 4), 0.75) for given in (noise, torch.cat([noise, noise[:, :3]], dim=1)))
    assert torch.equal(plain.keep, more.keep)


def test_equal_noise_keeps_the_patches_that_come_first():
    mask = mask_from_noise(torch.zeros(2, 6, dtype=torch.float16), 2)
    assert mask.keep.tolist() == [[0, 1]] * 2 and mask.masked.tolist() == [[2, 3, 4, 5]] * 2


def test_the_smallest_noise_is_kept():
    mask = mask_from_noise(torch.tensor([[0.9, 0.1, 0.5, 0.3]]), 2)
    assert mask.keep.tolist() == [[1, 3]] and mask.masked.tolist() == [[2, 0]]
    assert mask.restore.tolist() == [[3, 0, 2, 1]] and mask.binary.tolist() == [[1, 0, 1, 0]]


def test_an_unknown_sampling_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown sampling 'blocks'; choose one of random, block, grid"):
        make_mask(torch.arange(2), (4, 4), sampling="blocks")


# ------------------------------------------------------------------------------------------------------ the three kinds


def test_random_masking_is_uniform_without_replacement():
    samples, n, masked = 6000, 49, 37
    hits = make_mask(torch.arange(samples), (7, 7)).binary.double()
    rate = masked / n
    z = (hits.sum(0) - samples * rate) / (samples * rate * (1 - rate)) ** 0.5
    assert z.abs().max() < 4
    assert 20 < (z**2).sum() < 95  # 48 degrees of freedom, deviation 10
    pairs = (hits.T @ hits / samples)[~torch.eye(n, dtype=torch.bool)]  # any two patches, neighbours or not
    assert (pairs - rate * (masked - 1) / (n - 1)).abs().max() < 5 * (0.25 / samples) ** 0.5


def test_every_subset_is_equally_likely():
    mask = make_mask(torch.arange(6000), (2, 3), ratio=0.5)
    codes = (mask.binary @ 2.0 ** torch.arange(6)).long()
    counts = torch.bincount(codes)[codes.unique()].double()
    assert len(counts) == 20  # 6 choose 3
    assert ((counts - 300) ** 2 / 300).sum() < 50  # 19 degrees of freedom


@pytest.mark.parametrize("ratio", [0.5, 0.75])
@pytest.mark.parametrize("grid", [(14, 14), (9, 16)])
def test_blocks_are_contiguous_and_a_grid_is_scattered(grid, ratio):
    masks = {kind: make_mask(torch.arange(300), grid, ratio=ratio, sampling=kind) for kind in SAMPLERS}
    block, random, lattice = (boundary(masks[kind], grid) for kind in ("block", "random", "grid"))
    assert block < 0.6 * random
    assert lattice > 1.05 * random


@pytest.mark.parametrize("grid", [(2, 2), (14, 14), (6, 10)])
def test_grid_sampling_at_75_percent_keeps_exactly_one_patch_of_every_2_by_2(grid):
    mask = make_mask(torch.arange(64), grid, sampling="grid")
    h, w = grid
    kept = 1 - mask.binary.view(64, h // 2, 2, w // 2, 2)
    assert (kept.sum((2, 4)) == 1).all()
    corner = kept.sum((1, 3)).flatten(1)  # the same one of the four throughout an image, and each of them in some image
    assert ((corner == 0) | (corner == h * w // 4)).all()
    assert (corner.sum(0) > 0).all()


# ---------------------------------------------------------------------------------------------------------- your own mask


@given(grid=grids, sampling=samplings, seed=st.integers(0, 99))
def test_a_mask_given_as_zeros_and_ones_comes_back_as_it_was(grid, sampling, seed):
    n = grid[0] * grid[1]
    drawn = make_mask(torch.arange(3), grid, ratio=0.5, sampling=sampling, seed=seed).binary
    for removed in (drawn, drawn.bool(), drawn.long(), drawn.view(3, *grid), drawn.view(3, *grid).bool()):
        mask = user_mask(removed, grid)
        assert torch.equal(mask.binary, drawn)
        assert mask.keep.shape == (3, keep_count(n, 0.5))
        assert torch.equal(mask.keep, mask.keep.sort(1).values)  # and in image order


def test_a_patch_is_removed_when_any_of_its_pixels_is():
    pixels = torch.zeros(2, 6, 10, dtype=torch.bool)
    pixels[0, 0, 0] = pixels[0, 5, 9] = True  # patches 0 and 3
    pixels[1, 2, 4:6] = True  # across the edge of patches 0 and 1
    mask = user_mask(pixels, (2, 2), patch=(3, 5))
    assert mask.binary.tolist() == [[1, 0, 0, 1], [1, 1, 0, 0]]


def test_a_mask_of_squares_of_patches_equals_the_same_mask_in_pixels():
    patches = make_mask(torch.arange(5), (3, 4), ratio=0.5).binary.view(5, 3, 4)
    pixels = patches.repeat_interleave(2, dim=1).repeat_interleave(7, dim=2)
    assert torch.equal(user_mask(pixels, (3, 4), patch=(2, 7)).binary, patches.flatten(1))


@pytest.mark.parametrize(
    ("removed", "patch", "message"),
    [
        (torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0]]), None, "image 1 keeps 2 patches and image 0 keeps 3"),
        (torch.tensor([[1, 1, 1, 1]]), None, "keeps 0 of 4"),
        (torch.tensor([[0, 0, 0, 0]]), None, "keeps 4 of 4"),
        (torch.tensor([[0.3, 0, 1, 1]]), None, "threshold"),
        (torch.tensor([[float("nan"), 0, 1, 1]]), None, "threshold"),
        (torch.zeros(0, 4), None, "at least one image"),
        (torch.zeros(1, 5), None, r"b 2 2 or b 4, not \(1, 5\)"),
        (torch.zeros(1, 8, 8), None, "for pixels give patch="),
        (torch.zeros(4), None, r"not \(4,\)"),
        (torch.zeros(1, 8, 9), 4, r"b 8 8, not \(1, 8, 9\)"),
        (torch.zeros(1, 4), 4, r"b 8 8, not \(1, 4\)"),
    ],
)
def test_a_mask_that_cannot_be_used_is_refused_in_words(removed, patch, message):
    with pytest.raises(ValueError, match=message):
        user_mask(removed, (2, 2), patch=patch)


# ----------------------------------------------------------------------------------------------------------- picking


@given(b=st.integers(1, 4), n=st.integers(1, 9), k=st.integers(0, 9), d=st.integers(1, 5))
def test_take_equals_indexing_row_by_row(b, n, k, d):
    tokens, index = torch.randn(b, n, d), torch.randint(n, (b, k))
    picked, shared = take(tokens, index), take(tokens[0], index)
    assert picked.shape == shared.shape == (b, k, d)
    for row in range(b):
        for place in range(k):
            assert torch.equal(picked[row, place], tokens[row, index[row, place]])
            assert torch.equal(shared[row, place], tokens[0, index[row, place]])


def test_a_mask_moves_to_a_device_whole():
    mask = make_mask(torch.arange(2), (4, 4)).to("meta")
    assert mask.keep.device.type == mask.masked.device.type == "meta" and mask.n == 16
