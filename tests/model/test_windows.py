"""Attention within windows: equal to full attention under a mask, for grids that the window does not divide."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minimae.model.sizes import size
from minimae.model.vit import Attention, Encoder
from minimae.model.windows import cut, full_blocks, in_windows, join, window_attention
from minimae.tasks.maps import spatial_maps

SIDE = st.integers(1, 7)


def masked_attention(attention: Attention, x: torch.Tensor, grid: tuple[int, int], side: int) -> torch.Tensor:
    """The same by brute force: full attention of all tokens, with minus infinity wherever two patches lie in different windows."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    window = torch.stack([rows // side, columns // side], dim=-1).reshape(-1, 2)
    allowed = torch.ones(1 + len(window), 1 + len(window), dtype=torch.bool)
    allowed[1:, 1:] = (window[:, None] == window[None]).all(-1)
    q, k, v = attention.split(x)
    scores = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).masked_fill(~allowed, -torch.inf)
    return attention.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


@settings(max_examples=60, deadline=None)
@given(SIDE, SIDE, st.integers(1, 9), st.integers(1, 3), st.integers(0, 1000))
def test_it_is_full_attention_in_which_other_windows_are_masked(h: int, w: int, side: int, b: int, seed: int) -> None:
    torch.manual_seed(seed)
    attention = Attention(8, 2).double()
    x = torch.randn(b, 1 + h * w, 8, dtype=torch.float64)
    out = window_attention(attention, x, (h, w), side)
    torch.testing.assert_close(out, masked_attention(attention, x, (h, w), side))
    if side >= max(h, w):
        torch.testing.assert_close(out, attention(x))


@settings(max_examples=30, deadline=None)
@given(SIDE, SIDE, SIDE, SIDE)
def test_windows_join_to_what_was_cut(h: int, w: int, s1: int, s2: int) -> None:
    x = torch.randn(2, 3, h * w, 4)
    windows = cut(x, (h, w), (s1, s2))
    assert windows.shape == (2 * -(-h // s1) * -(-w // s2), 3, s1 * s2, 4)
    assert torch.equal(join(windows, (h, w), (s1, s2)), x)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.data())
def test_full_blocks_are_evenly_spaced_and_the_last_is_one(depth: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, depth))
    blocks = full_blocks(depth, count)
    assert len(set(blocks)) == count and blocks[-1] == depth - 1
    gaps = [b - a for a, b in zip([-1, *blocks], blocks)]
    assert max(gaps) - min(gaps) <= 1


def test_the_blocks_of_vitdet_and_of_segment_anything() -> None:
    assert full_blocks(12, 4) == [2, 5, 8, 11] and full_blocks(32, 4) == [7, 15, 23, 31] and full_blocks(6, 0) == []


def test_an_encoder_with_windows_differs_only_where_they_do_not_cover_the_picture() -> None:
    torch.manual_seed(0)
    encoder = Encoder(size("nano", image=32, patch=8, channels=3, depth=4)).eval()
    images = torch.randn(2, 3, 40, 56)
    whole = spatial_maps(encoder, images)[0]
    for options in ({"window": 7, "full": 0}, {"window": 2, "full": 4}):
        torch.testing.assert_close(spatial_maps(encoder, images, **options)[0], whole)
    inside = [spatial_maps(encoder, images, window=2, full=1, recompute=again)[0] for again in (False, True)]
    assert (inside[0] - whole).abs().max() > 1e-3
    assert torch.equal(inside[0], inside[1])


def test_gradients_are_the_same_when_blocks_are_computed_again() -> None:
    encoder = Encoder(size("nano", image=32, patch=8, channels=3, depth=2))
    images, found = torch.randn(1, 3, 24, 40), []
    for again in (False, True):
        encoder.zero_grad()
        spatial_maps(encoder, images, window=2, full=1, recompute=again)[0].square().sum().backward()
        found.append(encoder.project.weight.grad.clone())
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize(("side", "full", "message"), [(0, 1, "at least one patch"), (2, 3, "3 of 2 blocks"), (2, -1, "-1 of 2 blocks")])
def test_impossible_windows_are_one_clear_line(side: int, full: int, message: str) -> None:
    encoder = Encoder(size("nano", depth=2))
    with pytest.raises(ValueError, match=message):
        in_windows(encoder.blocks, (4, 4), side, full=full)


def test_blocks_of_another_library_are_an_error() -> None:
    with pytest.raises(ValueError, match="minimae convert"):
        in_windows([torch.nn.Identity()], (4, 4), 2, full=0)
