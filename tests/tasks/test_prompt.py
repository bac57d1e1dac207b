"""Prompts: the simulated user, the promptable segmenter, its loss, and a run of it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from minimae.data.instances import DrawnInstances, open_instances
from minimae.data.objects import Objects, fitting_scale, letterbox, objects_of
from minimae.data.shapes import boxes_of
from minimae.errors import Interrupted
from minimae.model.sizes import size
from minimae.model.vit import Encoder
from minimae.tasks.clicks import LOOSE, box_prompt, depths, first_prompts, middle, next_click, random_click
from minimae.tasks.finetune import Classifier
from minimae.tasks.prompt import Prompt, PromptTask, load_promptable, mask_losses, overlap, prompt_loss, promptable, train_prompts
from minimae.tasks.promptable import BOTTOM_RIGHT, NEGATIVE, NOTHING, POSITIVE, TOP_LEFT, Masks, Prompts
from minimae.tasks.prompted import evaluate_prompts, predict_masks, prompts_of, rounds

SMALL = size("nano", width=24, heads=2, depth=2, patch=8, image=32, channels=3)
TINY = Prompt(batch=4, epochs=1, warmup_epochs=0.2, decoder_width=16, decoder_heads=2, base_lr=0.1, log_every=2)


def blobs(seed: int, count: int = 3, side: int = 24) -> Tensor:
    """Random smooth regions bool ``b height width``, none empty."""
    noise = torch.rand(count, 1, side, side + 3, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.avg_pool2d(noise, 5, stride=1, padding=2)[:, 0]
    return smooth >= smooth.flatten(1).quantile(0.7, dim=1)[:, None, None]


def network(seed: int = 0, **changes: object) -> torch.nn.Module:
    torch.manual_seed(seed)
    return promptable(replace(TINY, **changes), Encoder(SMALL)).eval()  # type: ignore[arg-type]


def scenes(count: int = 6, split: str = "train") -> tuple[Objects, DrawnInstances]:
    images = open_instances("shapes", split, limit=count, image=32)
    assert isinstance(images, DrawnInstances)
    return objects_of(images, 32, images.scenes.statistics), images


# --- the simulated user -----------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_a_depth_is_the_distance_to_the_nearest_pixel_outside(seed: int) -> None:
    region = blobs(seed, 2, 9)
    height, width = region.shape[1:]
    padded, found = torch.nn.functional.pad(region, (1, 1, 1, 1)), depths(region).tolist()
    for b in range(len(region)):
        outside = [(y - 1, x - 1) for y, x in (~padded[b]).nonzero().tolist()]
        for y in range(height):
            for x in range(width):
                assert found[b][y][x] == min(max(abs(y - v), abs(x - u)) for v, u in outside)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_click_corrects_the_largest_mistake(seed: int, other: int) -> None:
    masks, predicted = blobs(seed), blobs(other)
    click = next_click(masks, predicted)
    missed, wrong = depths(masks & ~predicted), depths(predicted & ~masks)
    for b, ((x, y), kind) in enumerate(zip(click.points[:, 0].tolist(), click.kinds[:, 0].tolist())):
        row, column = int(y), int(x)
        if torch.equal(masks[b], predicted[b]):
            assert kind == POSITIVE and masks[b, row, column]
            continue
        assert kind == (POSITIVE if missed[b].max() >= wrong[b].max() else NEGATIVE)
        region = missed if kind == POSITIVE else wrong
        assert region[b, row, column] == max(missed[b].max(), wrong[b].max()) > 0


def test_the_first_click_of_a_bar_is_in_its_middle() -> None:
    bar = torch.zeros(1, 21, 31, dtype=torch.bool)
    bar[0, 3:8, 2:29] = True
    assert middle(depths(bar)).tolist() == [[15, 5]]
    assert next_click(bar).points.tolist() == [[[15.5, 5.5]]]


def test_random_clicks_reach_every_pixel_of_the_object_and_no_other() -> None:
    mask = blobs(5, 1)
    count = int(mask.sum())
    u = (torch.arange(count) + 0.5) / count
    points = random_click(mask.expand(count, -1, -1), u).points[:, 0]
    assert {(int(y), int(x)) for x, y in points.tolist()} == {(y, x) for y, x in mask[0].nonzero().tolist()}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_a_box_is_that_of_the_mask_or_a_little_off(seed: int) -> None:
    masks = blobs(seed)
    exact = box_prompt(masks)
    assert torch.equal(exact.points.flatten(1), boxes_of(masks))
    assert exact.kinds.tolist() == [[TOP_LEFT, BOTTOM_RIGHT]] * len(masks)
    loose = box_prompt(masks, torch.rand(len(masks), 4, generator=torch.Generator().manual_seed(seed)))
    side = exact.points[:, 1] - exact.points[:, 0]
    assert ((loose.points - exact.points).abs() <= LOOSE * side[:, None] + 1e-4).all()
    assert (loose.points >= 0).all() and (loose.points <= torch.tensor([masks.shape[2], masks.shape[1]])).all()


def test_the_share_of_boxes_is_as_asked() -> None:
    masks = blobs(1, 1).expand(400, -1, -1)
    u = torch.rand(400, 6, generator=torch.Generator().manual_seed(0))
    kinds = first_prompts(masks, u, boxes=0.25).kinds
    boxed = kinds[:, 0] == TOP_LEFT
    assert 0.18 < boxed.float().mean() < 0.32
    assert kinds[~boxed].unique(dim=0).tolist() == [[POSITIVE, NOTHING]]


# --- the network ------------------------------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 4), st.integers(0, 3), st.integers(0, 10_000))
def test_padding_is_never_seen_and_the_order_of_prompts_does_not_matter(points: int, padding: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 3, 32, 32, generator=generator)
    given_ = Prompts(32 * torch.rand(2, points, 2, generator=generator), torch.randint(0, NOTHING, (2, points), generator=generator))
    filler = Prompts(99 * torch.rand(2, padding, 2, generator=generator), torch.full((2, padding), NOTHING))
    model = network()
    with torch.no_grad():
        plain, padded = model(images, given_), model(images, filler + given_)
        turned = model(plain.patches, Prompts(given_.points.flip(1), given_.kinds.flip(1)))
    for other in (padded, turned):
        assert torch.allclose(plain.logits, other.logits, atol=1e-5) and torch.allclose(plain.quality, other.quality, atol=1e-5)
    assert plain.logits.shape == (2, 3, 16, 16) and plain.inside((32, 32)).shape == (2, 3, 32, 32)


def test_at_the_start_a_point_reads_the_patches_near_it() -> None:
    """Queries and keys begin equal, so attention begins at the place of the click."""
    model = network(decoder_width=96, decoder_heads=4)
    layer = model.steps[0].read
    spots = torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
    at = model.where(spots)
    scores = layer.q(at) @ layer.k(at).T
    assert (scores.argmax(1) == torch.arange(200)).float().mean() > 0.9  # of 200 places, the same one scores highest


def test_a_chosen_mask_is_the_one_with_the_highest_expected_quality() -> None:
    out = Masks(torch.randn(4, 3, 8, 8), torch.rand(4, 3), torch.empty(0))
    for i in range(4):
        assert torch.equal(out.chosen((32, 32))[i], out.inside((32, 32))[i, out.quality[i].argmax()])


# --- the loss ---------------------------------------------------------------------------------------------------------


def test_the_loss_is_focal_and_dice_in_float64() -> None:
    logits, truth = torch.randn(2, 3, 6, 7).double(), torch.rand(2, 6, 7) > 0.6
    p = logits.sigmoid()
    t = truth[:, None].double().expand_as(p)
    right = p * t + (1 - p) * (1 - t)
    focal = -(0.25 * t + 0.75 * (1 - t)) * (1 - right) ** 2 * right.log()
    dice = 1 - (2 * (p * t).sum((2, 3)) + 1) / (p.sum((2, 3)) + t.sum((2, 3)) + 1)
    assert torch.allclose(mask_losses(logits.float(), truth).double(), 20 * focal.mean((2, 3)) + dice, atol=1e-5)


def test_pictures_without_objects_are_no_error() -> None:
    assert letterbox(torch.zeros(0, 40, 50, dtype=torch.uint8), (32, 48)).shape == (0, 32, 48)


def test_only_the_best_mask_is_trained_and_every_quality() -> None:
    logits = torch.randn(5, 3, 8, 8, requires_grad=True)
    quality = torch.rand(5, 3, requires_grad=True)
    masks = torch.rand(5, 8, 8) > 0.5
    prompt_loss(Masks(logits, quality, torch.empty(0)), masks).backward()
    assert logits.grad is not None and quality.grad is not None
    trained = logits.grad.abs().sum((2, 3)) > 0
    assert torch.equal(trained.nonzero()[:, 1], mask_losses(logits, masks).argmin(1)) and trained.sum() == 5
    assert (quality.grad != 0).all()


def test_overlap_is_intersection_over_union() -> None:
    inside, masks = torch.rand(4, 3, 9, 9) > 0.5, torch.rand(4, 9, 9) > 0.3
    found = overlap(inside, masks)
    for b in range(4):
        for m in range(3):
            mine, true = ({tuple(p) for p in part.nonzero().tolist()} for part in (inside[b, m], masks[b]))
            assert found[b, m] == pytest.approx(len(mine & true) / len(mine | true))


# --- pictures and objects ---------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(20, 90), st.integers(20, 90), st.sampled_from([32, 48, 64]))
def test_points_and_pictures_are_scaled_alike(height: int, width: int, image: int) -> None:
    """A bright rectangle is found again where the scaled coordinates of its middle are, and the margins have the fill."""
    picture = torch.zeros(3, height, width, dtype=torch.uint8)
    top, left = height // 3, width // 4
    picture[:, top : top + height // 3, left : left + width // 3] = 255
    scale = fitting_scale((height, width), image)
    small, mask = letterbox(picture, image, torch.full((3,), 100.0)), letterbox(picture[:1], image)
    y, x = (top + height // 6) * scale, (left + width // 6) * scale
    assert small[0, int(y), int(x)] > 150 and mask[0, int(y), int(x)] == 1
    rows, columns = round(height * scale), round(width * scale)
    assert max(rows, columns) == image
    assert (small[:, rows:] == 100).all() and (small[:, :, columns:] == 100).all() and not mask[:, rows:].any()


def test_objects_are_those_of_the_scenes_and_small_ones_are_left_out() -> None:
    objects, images = scenes(8)
    masks = torch.cat([target["masks"] for target in (images.target(i) for i in range(8))]).bool()
    assert torch.equal(objects.masks(torch.arange(len(objects))), masks[masks.sum((1, 2)) >= 9])
    tiny = objects_of(images, 8, images.scenes.statistics)
    assert len(tiny) < len(objects) and any("left out" in note for note in tiny.notes)
    assert torch.equal(objects.subset([3, 1]).masks(torch.tensor([0, 1])), objects.masks(torch.tensor([3, 1])))


def test_pictures_without_objects_are_an_error() -> None:
    _, images = scenes(2)
    empty = replace(images.scenes, instances=[m[:0] for m in images.scenes.instances], boxes=[b[:0] for b in images.scenes.boxes],
                    object_labels=[k[:0] for k in images.scenes.object_labels])  # fmt: skip
    with pytest.raises(ValueError, match="no object of at least 9 pixels"):
        objects_of(replace(images, scenes=empty), 32, images.scenes.statistics)


@pytest.mark.parametrize(
    ("points", "negative", "box", "says"),
    [
        ([], [], None, "no prompt was given"),
        ([], [(3.0, 3.0)], None, "negative points alone"),
        ([(41.0, 3.0)], [], None, "the point 41,3 is outside the picture, which has 40 × 30 pixels"),
        ([(1.0, 1.0)], [(1.0, -1.0)], None, "the point 1,-1 is outside"),
        ([], [], (1.0, 1.0, 41.0, 9.0), "corner of the box 41,9 is outside"),
        ([], [], (9.0, 1.0, 3.0, 9.0), "left < right"),
    ],
)
def test_impossible_prompts_are_refused(points: list, negative: list, box: tuple | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        prompts_of(points, negative, box, (30, 40))


def test_masks_of_a_picture_have_its_size_and_the_best_comes_first() -> None:
    pixels = torch.randint(0, 256, (3, 50, 71), dtype=torch.uint8)
    prompts = prompts_of([(70.0, 3.0)], [(2.0, 49.0)], (1.0, 1.0, 60.0, 40.0), (50, 71))
    masks, quality = predict_masks(network(), pixels, prompts, (torch.full((3,), 0.5), torch.full((3,), 0.2)))
    assert masks.shape == (3, 50, 71) and masks.dtype == torch.bool
    assert torch.equal(quality, quality.sort(descending=True).values)


# --- a run ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [True, False])
def test_a_run_is_resumed_to_the_same_bits(frozen: bool, tmp_path: Path) -> None:
    objects, images = scenes()
    recipe = replace(TINY, frozen=frozen, clicks=2, threads=1)
    torch.manual_seed(0)
    encoder, statistics = Encoder(SMALL), images.scenes.statistics
    whole, result = train_prompts(recipe, encoder, objects, statistics, quiet=True)

    def stop(task: PromptTask, point: dict[str, float]) -> None:
        if point["step"] == 2:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        train_prompts(recipe, encoder, objects, statistics, tmp_path / "run", quiet=True, callbacks=[stop])  # type: ignore[list-item]
    again, _ = train_prompts(recipe, encoder, objects, statistics, tmp_path / "run", quiet=True, resume=True)
    assert result.steps > 3
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))
    moved = any(not torch.equal(a, b) for a, b in zip(encoder.parameters(), whole.encoder.parameters(), strict=True))
    assert moved != frozen


def test_cached_features_give_the_same_loss_as_the_pictures() -> None:
    objects, images = scenes()
    losses = []
    for cached in (True, False):
        task = PromptTask(TINY, objects, images.scenes.statistics, network())
        task.encoded = task.encoded if cached else None
        batch = next(task.loader(iter([(torch.arange(6), torch.tensor([0, 1, 2, 3, 4, 5]))])))
        losses.append(float(task.loss_of(batch).detach()))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_a_batch_does_not_decide_the_prompts_of_an_object() -> None:
    objects, images = scenes()
    task = PromptTask(TINY, objects, images.scenes.statistics, network())
    one, two = (next(task.loader(iter([(torch.tensor(ids), torch.full((len(ids),), 3))]))) for ids in ([5, 1, 2], [2, 5]))
    for first, second in zip(task.inputs(one), task.inputs(two), strict=True):
        assert torch.equal(first[[2, 0]], second)


def test_a_segmenter_learns_from_few_scenes() -> None:
    """It learns something in seconds: more than the whole picture as the mask would score."""
    objects, images = scenes(6)
    recipe = replace(TINY, batch=16, epochs=60, warmup_epochs=3, decoder_width=48, clicks=1, frozen=False, layer_decay=1.0)
    torch.manual_seed(0)
    model, result = train_prompts(recipe, Encoder(SMALL), objects, images.scenes.statistics, quiet=True)
    scores = evaluate_prompts(model, objects, images.scenes.statistics)
    everything = objects.masks(torch.arange(len(objects))).float().mean((1, 2)).mean()
    assert result.loss < 0.6 * result.history[0]["loss"]
    assert scores.best.mean(0).min() > 2 * everything
    assert (scores.best >= scores.picked).all() and scores.prompts == ("1 click", "2 clicks", "3 clicks", "box")


def test_scores_are_those_of_each_object_alone() -> None:
    objects, images = scenes()
    model, statistics = network(), images.scenes.statistics
    together = evaluate_prompts(model, objects, statistics, clicks=2)
    alone = [evaluate_prompts(model, objects.subset([i]), statistics, clicks=2) for i in range(len(objects))]
    assert torch.allclose(together.picked, torch.cat([each.picked for each in alone]))
    with torch.no_grad():
        patches = model.encode((objects.pixels.float() / 255 - statistics[0][:, None, None]) / statistics[1][:, None, None])
    masks = objects.masks(torch.arange(len(objects)))
    last = [overlap(out.inside((32, 32)), masks).amax(1) for _, out in rounds(model, patches[objects.picture], masks, 2)]
    assert torch.allclose(together.best, torch.stack(last, dim=1), atol=1e-6)


def test_a_segmenter_from_a_classifier_is_loaded_again(tmp_path: Path) -> None:
    objects, images = scenes()
    start = Classifier(Encoder(SMALL), 3).encoder
    model, _ = train_prompts(replace(TINY, frozen=False), start, objects, images.scenes.statistics, tmp_path, quiet=True)
    loaded, _ = load_promptable(tmp_path)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
