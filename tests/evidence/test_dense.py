"""A linear head per patch: the label of a patch, painting, intersection over union, and that the head learns what can be learned."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from minimae_book.evidence.dense import mask_of_patches, mean_iou, patch_classes, patch_vectors, segment_linearly

from minimae.data.shapes import shapes
from minimae.model.sizes import size
from minimae.model.vit import Encoder


def test_a_patch_has_the_class_of_most_of_its_pixels() -> None:
    semantic = torch.zeros(1, 4, 6, dtype=torch.uint8)
    semantic[0, :2, :2] = torch.tensor([[1, 1], [1, 0]])
    semantic[0, 2:, 4:] = torch.tensor([[2, 0], [2, 0]])  # a tie: the lower class
    assert patch_classes(semantic, 2, 3).tolist() == [[1, 0, 0, 0, 0, 0]]


def test_masks_of_whole_patches_survive_the_way_to_patches_and_back() -> None:
    named = torch.randint(0, 5, (3, 6), generator=torch.Generator().manual_seed(0))
    painted = mask_of_patches(named, (4, 9), (2, 3))
    assert painted.shape == (3, 4, 9)
    assert torch.equal(patch_classes(painted.byte(), (2, 3), 5), named)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_the_score_is_the_mean_over_classes_of_intersection_over_union(seed: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    truth, guess = (torch.randint(0, classes, (2, 3, 4), generator=generator) for _ in range(2))
    shares = []
    for c in range(classes):
        a, b = set((truth == c).flatten().nonzero()[:, 0].tolist()), set((guess == c).flatten().nonzero()[:, 0].tolist())
        if a | b:
            shares.append(len(a & b) / len(a | b))
    assert mean_iou(guess, truth, classes) == pytest.approx(100 * sum(shares) / len(shares))
    assert mean_iou(truth, truth, classes) == 100


def test_masks_of_two_shapes_are_an_error() -> None:
    with pytest.raises(ValueError, match="two masks of one shape are compared"):
        mean_iou(torch.zeros(1, 4, 4), torch.zeros(1, 2, 2), 2)


def test_a_head_that_is_told_the_answer_finds_it_and_pixels_of_flat_colour_tell_it() -> None:
    train, test = shapes(24, 32), shapes(12, 32, split="test")
    told = [torch.nn.functional.one_hot(patch_classes(part.semantic, 8, 7), 7).float() for part in (train, test)]
    painted = segment_linearly(told[0], train, told[1], 8)
    best = mean_iou(mask_of_patches(patch_classes(test.semantic, 8, 7), (32, 32), 8), test.semantic, 7)
    assert painted.shape == test.semantic.shape
    assert mean_iou(painted, test.semantic, 7) == pytest.approx(best)
    coloured = [replace(part, pixels=(part.semantic[:, None].expand(-1, 3, -1, -1) * 30).contiguous()) for part in (train, test)]
    vectors = [patch_vectors(part, coloured[0].statistics, 8) for part in coloured]
    from_pixels = mean_iou(segment_linearly(vectors[0], train, vectors[1], 8), test.semantic, 7)
    nothing = mean_iou(torch.zeros_like(test.semantic), test.semantic, 7)
    assert from_pixels > nothing + 5


def test_an_encoder_gives_one_vector_a_patch() -> None:
    scenes = shapes(2, 32)
    encoder = Encoder(size("nano", image=32, patch=8, channels=3)).eval()
    vectors = patch_vectors(scenes, scenes.statistics, 8, encoder)
    assert vectors.shape == (2, 16, 96)
    assert patch_vectors(scenes, scenes.statistics, 8).shape == (2, 16, 192)
