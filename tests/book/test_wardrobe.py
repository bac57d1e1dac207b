"""The scenes of chapter 12: every pixel, mask and box agrees with the photographs that were laid on the background."""

import pytest
import torch
from minimae_book.wardrobe import CLOTH, wardrobe

from minimae import data
from minimae.data.shapes import Scenes

KINDS = ("trousers", "bag", "ankle boot", "T-shirt")


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return wardrobe(data.load("fashion", "train"), 40, KINDS)


def test_a_scene_does_not_depend_on_the_count(scenes: Scenes) -> None:
    fewer = wardrobe(data.load("fashion", "train"), 3, KINDS)
    assert torch.equal(fewer.pixels, scenes.pixels[:3]) and torch.equal(fewer.semantic, scenes.semantic[:3])
    assert not torch.equal(wardrobe(data.load("fashion", "train"), 3, KINDS, seed=1).pixels, fewer.pixels)


def test_masks_are_apart_and_make_up_the_labels_of_the_pixels(scenes: Scenes) -> None:
    for i, masks in enumerate(scenes.instances):
        assert 1 <= len(masks) <= 4 and masks.sum(0).max() <= 1 and masks.flatten(1).any(1).all()
        for mask, label in zip(masks, scenes.object_labels[i]):
            assert (scenes.semantic[i][mask] == label + 1).all() and (scenes.pixels[i, 0][mask] > CLOTH).all()
        assert (scenes.semantic[i][~masks.any(0)] == 0).all()


def test_boxes_are_tight(scenes: Scenes) -> None:
    for masks, boxes in zip(scenes.instances, scenes.boxes):
        for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist()):
            inside = mask[top:bottom, left:right]
            assert inside.sum() == mask.sum() and all(line.any() for line in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_every_kind_occurs_and_other_clothes_do_not(scenes: Scenes) -> None:
    assert set(torch.cat(list(scenes.object_labels)).tolist()) == {0, 1, 2, 3}
