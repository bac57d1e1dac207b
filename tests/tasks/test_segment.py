"""Segmentation: heads, whole and sliding evaluation, the loss, mean IoU against sets of pixels, training, resuming, and loading."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from apart import apart
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import minimae
from minimae.data.segmentation import Segmentation, open_segmentation
from minimae.errors import MinimaeError
from minimae.tasks.finetune import Classifier
from minimae.tasks.segment import IoUValidation, Segment, evaluate, load_segmented, predict, segment
from minimae.tasks.segmenter import LinearHead, MaskTransformer, Segmenter, pixel_loss, sliding, windows
from minimae.tasks.watch import BEST
from minimae.train.distributed import World

SIZE = minimae.size("nano", image=64, patch=16, channels=3, width=24, heads=2, depth=2)
STATISTICS = (torch.full((3,), 0.5), torch.full((3,), 0.25))
FAST = Segment(batch=4, epochs=3, warmup_epochs=0, base_lr=0.2, log_every=1, save_every=0)


@pytest.fixture(scope="module")
def scenes() -> Segmentation:
    return open_segmentation("shapes", limit=8)


@settings(deadline=None, max_examples=8)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["mask", "linear"]), st.integers(1, 9))
def test_logits_have_the_size_of_the_image_whatever_it_is(height: int, width: int, head: str, classes: int) -> None:
    model = Segmenter(minimae.Encoder(SIZE), classes, head=head).eval()  # type: ignore[arg-type]
    images = torch.randn(2, 3, height, width)
    assert model(images).shape == (2, classes, height, width)
    assert sliding(model, images, 16).shape == (2, classes, height, width)


@torch.no_grad()
def test_the_mask_of_a_class_is_the_cosine_of_its_token_and_the_patches() -> None:
    head = MaskTransformer(24, 5, heads=2).eval()
    maps = torch.randn(1, 24, 2, 3)
    x = torch.cat([head.enter(maps.flatten(2).transpose(1, 2)), head.class_tokens], dim=1)
    for block in head.blocks:
        x = block(x)
    x = head.norm(x)
    cosines = torch.tensor([
        [torch.cosine_similarity(head.patch_side(x[0, n]), head.class_side(x[0, 6 + c]), dim=0) for c in range(5)] for n in range(6)
    ])  # fmt: skip
    torch.testing.assert_close(head(maps)[0].flatten(1).T, head.mask_norm(cosines), atol=1e-5, rtol=1e-5)


def test_a_linear_head_classifies_each_patch_by_itself() -> None:
    head, maps = LinearHead(6, 3), torch.randn(2, 6, 4, 5)
    torch.testing.assert_close(head(maps)[1, :, 2, 3], head.classify(maps[1, :, 2, 3]))


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 80))
def test_windows_cover_everything_and_share_a_third(length: int, size: int) -> None:
    starts = list(windows(length, size))
    covered = sorted({i for start in starts for i in range(start, min(length, start + size))})
    assert covered == list(range(length)) and starts == sorted(set(starts))
    assert all(0 <= start <= max(0, length - size) for start in starts)
    assert all(b - a <= max(1, math.ceil(2 * size / 3)) for a, b in pairwise(starts))


class Local(nn.Module):
    """Logits that depend on one pixel alone."""

    classes = 6

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([images, -images], dim=1)


def test_sliding_over_a_model_that_looks_at_one_pixel_changes_nothing() -> None:
    images = torch.randn(2, 3, 37, 50)
    torch.testing.assert_close(sliding(Local(), images, (16, 20)), Local()(images))


def test_ignored_pixels_do_not_count_and_a_crop_of_them_alone_is_no_nan() -> None:
    logits, labels = torch.randn(1, 3, 4, 4, requires_grad=True), torch.full((1, 4, 4), 255)
    assert pixel_loss(logits, labels) == 0
    labels[0, 0, :2] = torch.tensor([0, 2])
    wanted = -logits.log_softmax(1)[0, [0, 2], 0, [0, 1]].mean()
    torch.testing.assert_close(pixel_loss(logits, labels), wanted)


class Stub(Segmenter):
    """A segmenter that answers with the mask which hides in the red channel."""

    def forward(self, images: Tensor) -> Tensor:
        found = (images[:, 0] * 0.25 + 0.5).mul(255).round().long()
        return nn.functional.one_hot(found, self.classes).movedim(-1, 1).float()


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_mean_iou_is_that_of_sets_of_pixels(seed: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    guess, truth = (torch.randint(0, classes, (3, 64, 64), generator=generator, dtype=torch.uint8) for _ in range(2))
    truth[truth == 1] = 0 if seed % 2 else 1  # a class that no mask has
    truth[:, :20] = 255
    table = torch.arange(256, dtype=torch.uint8)
    images = minimae.data.images.Images("made", guess[:, None].expand(-1, 3, -1, -1).contiguous())
    data = Segmentation(images, truth, tuple("abcde"[:classes]), table)
    found = evaluate(Stub(minimae.Encoder(SIZE), classes), data, STATISTICS)
    shares = []
    for c in range(classes):
        a, b = ((x == c) & (truth != 255) for x in (guess, truth))
        shares.append(100 * float((a & b).sum() / (a | b).sum()))
    assert found.classes == pytest.approx(shares, abs=1e-3) and found.mean == pytest.approx(sum(shares) / classes, abs=1e-3)
    assert found.pixels == pytest.approx(100 * float((guess == truth)[truth != 255].float().mean()), abs=1e-3)


def test_masks_that_are_all_ignored_cannot_be_measured(scenes: Segmentation) -> None:
    nothing = replace(scenes, table=torch.full((256,), 255, dtype=torch.uint8))
    with pytest.raises(ValueError, match="all pixels of the 8 masks of shapes are ignored"):
        evaluate(Segmenter(minimae.Encoder(SIZE), 7), nothing, STATISTICS)


def test_a_prediction_has_the_size_of_the_picture() -> None:
    model = Segmenter(minimae.Encoder(SIZE), 4, image=(32, 48))
    for how in ("whole", "sliding"):
        found = predict(model, torch.randint(0, 256, (3, 50, 90), dtype=torch.uint8), STATISTICS, how=how)
        assert found.shape == (50, 90) and found.dtype == torch.int64 and int(found.max()) < 4


def test_a_run_learns_resumes_to_the_same_bits_and_loads(scenes: Segmentation, tmp_path: Path) -> None:
    encoder = minimae.Encoder(SIZE)
    before = evaluate(Segmenter(encoder, 7), scenes, STATISTICS).mean
    whole, result = segment(FAST, encoder, scenes, STATISTICS, tmp_path / "whole", quiet=True)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert evaluate(whole, scenes, STATISTICS).mean > before

    def stop(task: object, log: dict[str, float]) -> None:
        if log["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment(FAST, encoder, scenes, STATISTICS, tmp_path / "parts", quiet=True, callbacks=[stop])
    best = IoUValidation(scenes.subset([0, 1]), tmp_path / "parts")
    again, result = segment(FAST, encoder, scenes, STATISTICS, tmp_path / "parts", quiet=True, resume=True, callbacks=[best])
    for (name, a), b in zip(whole.state_dict().items(), again.state_dict().values()):
        assert torch.equal(a, b), name
    loaded, about = load_segmented(tmp_path / "parts")
    assert about["classes"][1] == "disc" and about["step"] == 6
    images = torch.randn(1, 3, 40, 40)
    assert torch.equal(loaded(images), whole.eval()(images))
    assert best.best is not None and load_segmented(tmp_path / "parts" / BEST)[0].classes == 7
    assert max(point.get("validation_iou", 0) for point in result.history) == best.best
    with pytest.raises(MinimaeError, match="segment"):
        minimae.tasks.finetune.load_finetuned(tmp_path / "parts")


def test_frozen_trains_the_head_alone_and_recomputing_gives_the_same_run(scenes: Segmentation) -> None:
    encoder = minimae.Encoder(SIZE)
    short = replace(FAST, epochs=1, image=32)
    frozen, _ = segment(replace(short, frozen=True), encoder, scenes, STATISTICS, quiet=True)
    for name, value in encoder.state_dict().items():
        if name != "positions":  # resized
            assert torch.equal(frozen.encoder.state_dict()[name], value), name
    assert not frozen.train().encoder.training
    plain, again = (segment(replace(short, recompute=r), encoder, scenes, STATISTICS, quiet=True)[0] for r in (False, True))
    assert not torch.equal(plain.encoder.blocks[0].mlp.up.weight, encoder.blocks[0].mlp.up.weight)
    assert apart(plain.state_dict(), again.state_dict()) < 1e-5


def test_a_sharded_model_cannot_be_validated(scenes: Segmentation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minimae.tasks.segment.world", lambda: World(0, 2))
    with pytest.raises(ValueError, match="leave out --shard, or --validation"):
        segment(replace(FAST, shard=True), minimae.Encoder(SIZE), scenes, STATISTICS, callbacks=[IoUValidation(scenes)])


def test_an_encoder_of_which_a_part_was_tuned_learns_as_a_whole() -> None:
    encoder = Classifier(minimae.Encoder(SIZE), 3, tune=1).encoder
    assert all(p.requires_grad for p in Segmenter(encoder, 4).parameters())
    assert not any(p.requires_grad for p in Segmenter(encoder, 4, frozen=True).encoder.parameters())


@pytest.mark.parametrize(
    "wrong",
    [{"scale": (2.0, 0.5)}, {"drop_path": 1.0}, {"layer_decay": 0.0}, {"repeats": 2, "batch": 4}, {"head": "none"}, {"evaluate": "x"}],
)
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError):
        Segment(**wrong)
