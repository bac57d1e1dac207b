"""Scenes: all that is said about them agrees with brute force, and scene i is scene i however many are drawn."""

import numpy as np
import pytest
import torch
from torchvision.ops import masks_to_boxes

from minimae.data import Scenes, load
from minimae.data.shapes import CLASSES, TOGETHER, VISIBLE, boxes_of, distances, draw, plan, shapes, visible


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return shapes(TOGETHER + 72, image=48)


def test_the_semantic_mask_is_the_union_of_the_instances(scenes):
    for i in range(len(scenes)):
        union = np.zeros((48, 48), int)
        for mask, label in zip(scenes.instances[i].numpy(), scenes.object_labels[i].tolist()):
            assert not union[mask].any(), "instances do not overlap: only what is seen counts"
            union[mask] = label + 1
        np.testing.assert_array_equal(scenes.semantic[i], union)


def test_boxes_are_those_of_the_masks(scenes):
    for masks, boxes in zip(scenes.instances, scenes.boxes):
        beyond = torch.tensor([0, 0, 1, 1])  # torchvision's function names the last pixel, its detectors want the edge beyond it
        assert torch.equal(boxes, masks_to_boxes(masks) + beyond) and boxes.dtype == torch.float32
        for mask, (left, top, right, bottom) in zip(masks.numpy(), boxes.int().tolist()):
            rows, columns = np.nonzero(mask)
            assert (left, top, right, bottom) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_the_label_is_the_largest_shape_beyond_doubt(scenes):
    for masks, labels, label in zip(scenes.instances, scenes.object_labels, scenes.labels.tolist()):
        area = masks.sum((1, 2)).double()
        first, second = area.topk(2).values
        assert labels[area.argmax()] == label and first > 1.2 * second


def test_there_are_two_to_five_shapes_of_all_classes_and_none_is_hardly_seen(scenes):
    count = torch.tensor([len(labels) for labels in scenes.object_labels])
    assert count.min() == 2 and count.max() == 5 and count.unique().numel() == 4
    assert (torch.cat(list(scenes.object_labels)).bincount(minlength=6) > 50).all() and (scenes.labels.bincount(minlength=6) > 10).all()
    smallest = min(int(masks.sum((1, 2)).min()) for masks in scenes.instances)
    assert smallest >= 0.8 * VISIBLE * 0.025 * 48**2


def test_scenes_do_not_depend_on_their_company(scenes):
    at = torch.tensor([TOGETHER + 3, 0, 57])
    alone = [draw(at[i : i + 1], 48) for i in range(3)]
    together = draw(at, 48)
    for i, place in enumerate(at.tolist()):
        for one in (alone[i].subset([0]), together.subset([i])):
            wanted = scenes.subset([place])
            assert torch.equal(one.pixels, wanted.pixels) and torch.equal(one.semantic, wanted.semantic) and one.ids.tolist() == [place]
            assert torch.equal(one.boxes[0], wanted.boxes[0]) and torch.equal(one.instances[0], wanted.instances[0])
    assert torch.equal(shapes(5, image=48).pixels, scenes.pixels[:5])
    assert not torch.equal(shapes(5, image=48, seed=1).pixels, scenes.pixels[:5])


def test_splits_share_no_scene(scenes):
    test = shapes(20, image=48, split="test")
    assert not set(test.ids.tolist()) & set(scenes.ids.tolist())
    assert not (test.pixels[:, None] == scenes.pixels[None, :20]).flatten(2).all(2).any()


def test_a_larger_picture_shows_the_same_scene():
    small, large = shapes(12, image=32), shapes(12, image=96)
    assert small.labels.tolist() == large.labels.tolist()
    for a, b in zip(small.boxes, large.boxes):
        assert len(a) == len(b) and (3 * a - b).abs().max() <= 6


def test_later_shapes_cover_earlier_ones():
    inside = torch.rand(3, 5, 8, 8) < 0.5
    seen = visible(inside)
    for b, y, x in np.ndindex(3, 8, 8):
        stack = inside[b, :, y, x].nonzero()[:, 0]
        assert seen[b, :, y, x].nonzero()[:, 0].tolist() == stack[-1:].tolist()


def test_shapes_lie_inside_the_picture_with_the_area_that_was_planned():
    ids = torch.arange(40)
    scene = plan(ids)
    away, _, _ = distances(scene, 128)
    share = (away < 0).double().mean((2, 3))
    assert ((share > 0.02) == scene.present).all()
    for centre in (scene.x, scene.y):
        assert (centre >= scene.radius - 1e-9).all() and (centre <= 1 - scene.radius + 1e-9).all()
    assert share[:, 3].min() > 0.115 and share[:, 3].max() < 0.205 and share[:, :3].max() < 0.052


def test_pictures_are_in_colour_and_shapes_stand_out(scenes):
    """Across the edge of a shape the colour changes more than it does elsewhere in the background."""
    pixels = scenes.pixels.double()
    step = (pixels[..., 1:] - pixels[..., :-1]).abs().mean(1)
    edge = scenes.semantic[..., 1:] != scenes.semantic[..., :-1]
    ground = (scenes.semantic[..., 1:] == 0) & ~edge
    assert step[edge].mean() > 3 * step[ground].mean()
    assert all(20 < d < 90 for d in (255 * scenes.statistics[1]).tolist())


def test_boxes_of_single_pixels_and_whole_images():
    masks = torch.zeros(2, 5, 7, dtype=torch.bool)
    masks[0, 2, 3] = True
    masks[1] = True
    assert boxes_of(masks).tolist() == [[3, 2, 4, 3], [0, 0, 7, 5]]


def test_subsets_stay_scenes_and_detection_targets_fit_torchvision(scenes):
    few = scenes.balanced_subset(12)
    assert isinstance(few, Scenes) and len(few.boxes) == len(few.instances) == len(few.semantic) == 12
    target = few.detection_target(3)
    assert target["masks"].dtype == torch.uint8 and target["labels"].min() >= 1 and target["labels"].max() <= len(CLASSES)
    assert (target["boxes"][:, 2:] > target["boxes"][:, :2]).all() and target["boxes"].max() <= 48


def test_loading_by_name_draws_as_many_as_asked_for():
    images = load("shapes", "test", limit=7, image=32, channels=1)
    assert isinstance(images, Scenes) and images.pixels.shape == (7, 1, 32, 32) and images.semantic.shape == (7, 32, 32)


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(ValueError, match="train, test, not 'val'"):
        shapes(3, split="val")
    with pytest.raises(ValueError, match="at least 16"):
        shapes(3, image=8)
