"""The detector: sizes and statistics of its pictures, joint changes, training, checkpoints, and average precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors as tv

from minimae import MinimaeError
from minimae.data.augment import normalise
from minimae.data.instances import DrawnInstances, open_instances, target_of
from minimae.data.joint import Views
from minimae.data.shapes import boxes_of
from minimae.model.sizes import size
from minimae.model.vit import Encoder
from minimae.recipes import entry, listing
from minimae.tasks.detect import (
    Detect,
    Detector,
    DetectTask,
    collated,
    evaluate_detector,
    large_scale_jitter,
    load_detector,
    objects_in,
    train_detector,
)
from minimae.tasks.finetune import Classifier
from minimae.train.optim import layer_groups
from minimae.train.schedule import scaled_lr

SMALL = Detect(
    image=64, epochs=0.5, warmup_epochs=0.0, batch=4, levels=2, channels=16, box_width=16, proposals=16, rois=16, log_every=1, finest=8,
)  # fmt: skip
SIZE = size("nano", image=32, patch=8, channels=3, depth=2, width=32, heads=2)


def scenes(count: int = 12, image: int = 64) -> DrawnInstances:
    return open_instances("shapes", "train", image=image, limit=count)  # type: ignore[return-value]


def encoder(seed: int = 0, **changes: Any) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(replace(SIZE, **changes))


def detector(images: DrawnInstances, **changes: Any) -> Detector:
    torch.manual_seed(1)
    return Detector(encoder(), len(images.classes), images.statistics, replace(SMALL, **changes))


def test_a_picture_keeps_its_size_if_it_fits_and_is_normalised_as_the_encoder_expects() -> None:
    images = scenes()
    model = detector(images).eval()
    pictures, _ = model.transform([images.read(0).float() / 255])
    torch.testing.assert_close(pictures.tensors, normalise(images.read(0)[None], images.statistics))
    wide, _ = model.transform([torch.rand(3, 100, 200)])
    assert wide.image_sizes == [(32, 64)] and wide.tensors.shape == (1, 3, 64, 64)
    assert (wide.tensors[:, :, 32:] == 0).all()


def test_regions_are_read_at_the_stride_of_their_map_whatever_picture_comes_first() -> None:
    """torchvision infers the strides from the first picture before it is padded: for a wide one, a factor of two off."""
    model = detector(scenes()).eval()
    with torch.no_grad():
        model([torch.rand(3, 20, 64)])
    assert model.roi_heads.box_roi_pool.scales == model.roi_heads.mask_roi_pool.scales == [1 / 8, 1 / 16]
    maps = model.maps(torch.rand(1, 3, 64, 64))
    assert {name: x.shape[-1] for name, x in maps.items()} == {"8": 8, "16": 4, "pool": 2}


def test_the_learning_rate_falls_from_layer_to_layer_of_the_encoder() -> None:
    model = detector(scenes())
    scale = {id(p): group["lr_scale"] for group in layer_groups(model, 0.05, 0.5) for p in group["params"]}
    parts = (model.encoder.project, model.encoder.blocks[0], model.encoder.blocks[1], model.pyramid, model.rpn, model.roi_heads)
    assert [{scale[id(p)] for p in part.parameters()} for part in parts] == [{0.125}, {0.25}, {0.5}, {1.0}, {1.0}, {1.0}]


@pytest.mark.parametrize(("changes", "message"), [
    ({"patch": 7, "image": 28}, "square patches whose side is a power of two"), ({"patch": (8, 16)}, "not 8×16"),
])  # fmt: skip
def test_patches_that_fit_no_pyramid_are_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Detector(encoder(**changes), 1, scenes().statistics, SMALL)


WRONG = {
    "image": ({"image": 80}, "multiple of 32"),
    "repeats": ({"repeats": 2}, "--repeats 1"),
    "scale": ({"scale": (2.0, 1.0)}, "smaller first"),
    "graph": ({"graph": True, "precision": "fp32"}, "no --graph"),
    "window": ({"window": 0}, "at least one patch"),
    "finest": ({"finest": 6, "image": 96}, "a power of two"),
    "no stride": ({"finest": 0}, "a power of two"),
    "no map": ({"levels": 0}, "must be at least 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_recipes_that_cannot_be(name: str) -> None:
    with pytest.raises(ValueError, match=WRONG[name][1]):
        replace(SMALL, **WRONG[name][0])


def test_boxes_follow_their_masks_through_scale_crop_and_flip() -> None:
    images, sizes = scenes(8), set()
    views = Views(images, large_scale_jitter(replace(SMALL, scale=(0.5, 2.0)), (1, 2, 3)), 0)
    for index in range(len(images)):
        for epoch in range(6):
            picture, target, *_ = views[index, epoch]
            assert picture.shape == (3, 64, 64)
            assert len(target["boxes"]) == len(target["labels"]) == len(target["masks"])
            inside = boxes_of(target["masks"].bool())[target["masks"].bool().flatten(1).any(1)]
            around = target["boxes"][target["masks"].bool().flatten(1).any(1)]
            assert (inside[:, :2] >= around[:, :2] - 1).all() and (inside[:, 2:] <= around[:, 2:] + 1).all()
            batch = collated([views[index, epoch]])
            assert torch.equal(batch.boxes, inside) and len(batch.labels) == int(batch.counts) == len(inside)
            sizes.add(int(target["masks"].sum()))
    assert len(sizes) > 40


def test_a_batch_is_a_function_of_seed_epoch_and_index() -> None:
    images = scenes(8)
    views = Views(images, large_scale_jitter(SMALL, (0, 0, 0)), 5)
    together, alone = collated([views[i, 3] for i in (4, 1, 6)]), collated([views[1, 3]])
    first, last = together.counts[0], together.counts[:2].sum()
    assert torch.equal(together.pixels[1], alone.pixels[0]) and torch.equal(together.masks[first:last], alone.masks)
    assert torch.equal(together.boxes[first:last], alone.boxes) and torch.equal(together.labels[first:last], alone.labels)
    assert not torch.equal(collated([views[1, 4]]).pixels, alone.pixels)


class Oracle(torch.nn.Module):
    """Finds what is marked: every object, shifted and in this order of certainty."""

    def __init__(self, images: DrawnInstances, shift: int = 0, miss: int = 0) -> None:
        super().__init__()
        self.images, self.index, self.shift, self.miss = images, -1, shift, miss
        self.register_parameter("device", torch.nn.Parameter(torch.zeros(1)))

    def forward(self, pictures: list[Tensor]) -> list[dict[str, Tensor]]:
        self.index += 1
        target = self.images.target(self.index)
        kept = slice(self.miss, None)
        masks = target["masks"][kept].roll(self.shift, -1).float()[:, None]
        boxes = target["boxes"][kept] + torch.tensor([self.shift, 0, self.shift, 0])
        return [{"boxes": boxes, "labels": target["labels"][kept], "scores": torch.linspace(0.9, 0.8, len(boxes)), "masks": masks}]


def test_average_precision_is_100_for_the_truth_and_falls_with_what_is_wrong() -> None:
    images = scenes(10)
    exact, shifted = (evaluate_detector(Oracle(images, shift), images) for shift in (0, 4))  # type: ignore[arg-type]
    assert all(value == pytest.approx(100) for value in exact.values())
    assert set(exact) == {f"{what} {name}" for what in ("box", "mask") for name in ("AP", "AP50", "AP75")}
    assert 0 < shifted["box AP"] < 90 and 0 < shifted["mask AP"] < 90 and shifted["box AP50"] > shifted["box AP75"]


def test_the_precision_of_one_class_is_the_share_that_was_found() -> None:
    """With every found object right, precision is 1 up to the recall that was reached: AP is that recall, in steps of a hundredth."""
    images = replace(scenes(10), classes=("object",))
    object.__setattr__(images.scenes, "object_labels", [torch.zeros_like(x) for x in images.scenes.object_labels])
    total = sum(len(images.target(i)["labels"]) for i in range(10))
    found = evaluate_detector(Oracle(images, miss=1), images)  # type: ignore[arg-type]
    assert found["box AP"] == pytest.approx(100 * (total - 10) / total, abs=1.01)


def test_crowds_do_not_count() -> None:
    images = scenes(4)
    target = images.target

    def with_crowd(index: int) -> dict[str, Tensor]:
        found = target(index)
        return {**found, "crowd": torch.arange(len(found["labels"])) == 0}

    object.__setattr__(images, "target", with_crowd)
    assert evaluate_detector(Oracle(images, miss=1), images)["box AP"] == pytest.approx(100)  # type: ignore[arg-type]


def test_pictures_without_objects_have_no_precision() -> None:
    images = scenes(2)
    object.__setattr__(images, "target", lambda index: target_of(torch.zeros(64, 64, dtype=torch.int32)))
    with pytest.raises(MinimaeError, match="no objects in 2 test pictures"):
        evaluate_detector(Oracle(images), images)  # type: ignore[arg-type]


def test_a_batch_without_any_object_can_be_learned() -> None:
    images = scenes(4)
    object.__setattr__(images, "target", lambda index: target_of(torch.zeros(64, 64, dtype=torch.int32)))
    _, result = train_detector(replace(SMALL, epochs=1.0), encoder(), images, images.statistics, quiet=True)
    assert 0 < result.history[-1]["loss"] < 20


def test_a_run_learns_and_continues_to_the_same_bits(tmp_path: Path) -> None:
    images, recipe = scenes(8), replace(SMALL, epochs=3.0, save_every=0, keep=9)
    whole, result = train_detector(recipe, encoder(), images, images.statistics, tmp_path / "whole", quiet=True)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    (tmp_path / "part").mkdir()
    (tmp_path / "whole" / "checkpoint-00000003.pt").rename(tmp_path / "part" / "checkpoint.pt")
    resumed, _ = train_detector(recipe, encoder(), images, images.statistics, tmp_path / "part", quiet=True, resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    loaded, about = load_detector(tmp_path / "whole")
    assert about["classes"] == list(images.classes) and loaded.recipe == recipe
    found = [objects_in(model, images.read(0), least=0.0) for model in (whole, loaded)]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_detector_from_a_classifier_is_loaded_again(tmp_path: Path) -> None:
    images, start = scenes(4), Classifier(encoder(), 3).encoder
    model, _ = train_detector(SMALL, start, images, images.statistics, tmp_path, quiet=True)
    loaded, _ = load_detector(tmp_path)
    assert isinstance(loaded.encoder.norm, torch.nn.LayerNorm)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())


def test_processes_of_a_machine_share_its_cores_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minimae.tasks.loading.cores", lambda processes=1: 12 // processes)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    images, model = scenes(2), torch.nn.Identity()
    for image, given, wanted in ((64, None, 0), (320, None, 3), (320, 5, 5)):
        task = DetectTask(replace(SMALL, image=image), images, images.statistics, model, workers=given)  # type: ignore[arg-type]
        assert task.workers == wanted


def test_a_frozen_encoder_stays_as_it_was() -> None:
    images, start = scenes(4), encoder()
    model, _ = train_detector(replace(SMALL, frozen=True, epochs=2.0), start, images, images.statistics, quiet=True)
    assert all(torch.equal(a, b) for a, b in zip(start.blocks.parameters(), model.encoder.blocks.parameters()))
    task = DetectTask(SMALL, images, images.statistics, model)
    task.settings = SMALL
    assert not any(p is q for group in task.optimizer(1.0).param_groups for p in group["params"] for q in model.encoder.parameters())


def test_the_recipes_of_coco_are_those_of_vitdet() -> None:
    for name, decay, drop in (("base", 0.7, 0.1), ("large", 0.8, 0.4)):
        recipe = entry(f"coco-{name}").recipe
        assert isinstance(recipe, Detect)
        assert (recipe.batch * recipe.accumulate, recipe.epochs, recipe.image, recipe.scale) == (64, 100, 1024, (0.1, 2.0))
        assert (recipe.layer_decay, recipe.drop_path, recipe.weight_decay, recipe.window, recipe.full) == (decay, drop, 0.1, 14, 4)
        assert scaled_lr(recipe.base_lr, 64) == pytest.approx(1e-4) and recipe.strides == [4, 8, 16, 32]
    assert "not run here" in listing().split("coco-base")[1].splitlines()[0]


def test_windows_cost_what_their_pairs_of_tokens_cost() -> None:
    s, recipe = replace(SIZE, image=64), replace(SMALL, window=3, full=1)
    pairs = (1 + 64) ** 2 - 9 * 9 * (1 + 9)
    assert replace(SMALL).step_flops(s) - recipe.step_flops(s) == 3 * 4 * s.width * pairs
    assert replace(recipe, frozen=True).step_flops(s) < recipe.step_flops(s) / 2


def test_the_detector_of_coco_can_be_built_and_its_heads_are_those_of_the_second_version() -> None:
    from torchvision.models.detection import maskrcnn_resnet50_fpn_v2

    recipe = entry("coco-base").recipe
    assert isinstance(recipe, Detect)
    statistics = torch.zeros(3), torch.ones(3)
    ours = Detector(Encoder(size("nano", image=64, patch=16, channels=3, depth=1)), 90, statistics, recipe)
    theirs = maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=91)
    for part in ("rpn", "roi_heads"):
        convolutions = [
            [tuple(layer.weight.shape) for layer in getattr(model, part).modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
            for model in (ours, theirs)
        ]
        assert convolutions[0] == convolutions[1], part


def test_a_detector_that_finds_nothing_has_a_precision_of_0() -> None:
    images = scenes(3)
    assert set(evaluate_detector(Oracle(images, miss=99), images).values()) == {0.0}  # type: ignore[arg-type]


def test_a_picture_that_is_very_long_is_learned_and_is_one_line_where_it_would_vanish() -> None:
    change = large_scale_jitter(SMALL, (0, 0, 0))
    target = {"boxes": tv.BoundingBoxes([[0, 0, 300, 1]], format="XYXY", canvas_size=(1, 300)), "labels": torch.ones(1)}
    assert change(tv.Image(torch.zeros(3, 1, 300, dtype=torch.uint8)), target)[0].shape == (3, SMALL.image, SMALL.image)
    with pytest.raises(ValueError, match="a picture of 1×300 pixels is thinner than a pixel"):
        detector(scenes(2)).eval()([torch.zeros(3, 1, 300)])
