"""Masks of larger units, and predictions for a part of the hidden patches."""

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st

from minimae.data.shapes import shapes
from minimae.model.mae import MAE
from minimae.model.masking import SAMPLERS, make_mask
from minimae.model.units import PartialMask, coarse_grid, make_partial_mask, predicted_count
from minimae.tasks.pretrain import Pretrain, PretrainTask, build

IDS = torch.arange(5)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([1, 2, 4]), st.integers(2, 5), st.integers(2, 5), st.sampled_from(list(SAMPLERS)), st.sampled_from([0.5, 0.75]))
def test_a_unit_is_hidden_or_kept_as_a_whole(unit: int, rows: int, columns: int, sampling: str, ratio: float) -> None:
    grid = rows * unit, columns * unit
    mask = make_partial_mask(IDS, grid, ratio=ratio, sampling=sampling, seed=3, epoch=2, unit=unit)
    squares = rearrange(mask.binary, "b (h p1 w p2) -> b (h w) (p1 p2)", h=rows, p1=unit, p2=unit)
    assert torch.equal(squares.amin(-1), squares.amax(-1))
    coarse = make_mask(IDS, (rows, columns), ratio=ratio, sampling=sampling, seed=3, epoch=2)
    assert torch.equal(squares[..., 0], coarse.binary)
    every = torch.cat([mask.keep, mask.masked], dim=1).sort(dim=1).values
    assert torch.equal(every, torch.arange(grid[0] * grid[1]).expand(5, -1)) and mask.n == grid[0] * grid[1]


def test_without_options_it_is_the_usual_mask() -> None:
    usual, partial = make_mask(IDS, (8, 8), seed=1, epoch=4), make_partial_mask(IDS, (8, 8), seed=1, epoch=4)
    assert torch.equal(usual.keep, partial.keep) and torch.equal(usual.masked, partial.masked) and usual.n == partial.n


def test_a_third_of_the_hidden_patches_is_predicted_others_in_each_epoch() -> None:
    whole, parts = make_mask(IDS, (8, 8)), [make_partial_mask(IDS, (8, 8), predict=1 / 3, epoch=epoch) for epoch in range(2)]
    assert parts[0].masked.shape == (5, 16) and torch.equal(parts[0].keep, whole.keep)
    assert all(set(a) < set(b) for a, b in zip(parts[0].masked.tolist(), whole.masked.tolist()))
    assert not torch.equal(parts[0].masked, parts[1].masked)
    seen = torch.cat([make_partial_mask(torch.arange(3000), (4, 4), predict=0.25).masked.flatten()]).bincount(minlength=16)
    assert seen.min() > 0.85 * seen.float().mean() and seen.max() < 1.15 * seen.float().mean()


def test_the_predictions_are_those_of_the_whole_mask_where_tokens_do_not_see_each_other() -> None:
    """With one decoder block only masked tokens are queries: each prediction depends on fewer mask tokens, and nothing else changes."""
    torch.manual_seed(0)
    mae = MAE("nano", image=32, patch=4, channels=1, decoder_depth=1).eval()
    images, whole = torch.randn(5, 1, 32, 32), make_mask(IDS, (8, 8))
    part = make_partial_mask(IDS, (8, 8), predict=0.25)
    with torch.no_grad():
        output, full = mae(images, part), mae(images, whole)
    assert torch.equal(output.latent, full.latent) and output.predicted.shape == (5, 12, 16)
    target = mae.target(rearrange(images, "b c (h p1) (w p2) -> b (h w) (p1 p2 c)", p1=4, p2=4))
    wanted = (output.predicted - target.gather(1, part.masked[..., None].expand(-1, -1, 16))).square().mean()
    assert torch.allclose(output.loss, wanted)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"unit": 3}, r"units of 3×3 patches do not fill a grid of 8×8: choose 1 or 2 or 4 or 8"),
        ({"unit": 0}, "units of 0×0"),
        ({"predict": 0.0}, "above 0 and at most 1, not 0.0"),
        ({"predict": 1.5}, "above 0 and at most 1, not 1.5"),
        ({"predict": 0.001}, "above 0 and at most 1, not 0.001"),
        ({"unit": 8}, "a mask ratio of 0.75 keeps 0 of 1 patches"),
    ],
)
def test_impossible_options_are_refused(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_partial_mask(IDS, (8, 8), **options)


def test_a_partial_mask_stays_one_on_another_device() -> None:
    mask = make_partial_mask(IDS, (8, 8), predict=0.25).to("meta")
    assert isinstance(mask, PartialMask) and mask.n == 64 and mask.masked.device.type == "meta"


def test_counts() -> None:
    assert predicted_count((14, 14), ratio=0.75, share=1 / 3) == 49 and predicted_count((16, 16), ratio=0.75, unit=4) == 192
    assert coarse_grid((16, 8), 4) == (4, 2)


@pytest.mark.parametrize("options", [{"unit": 2}, {"predict": 0.25}, {"unit": 2, "predict": 0.5}])
def test_a_recipe_takes_them(options: dict) -> None:
    images = shapes(8, 32)
    recipe = Pretrain(size="nano", width=24, heads=2, depth=1, decoder_width=16, decoder_depth=1, image=32, patch=4, batch=4, **options)
    task = PretrainTask(recipe, images, build(recipe, images))
    batch = images.batch(torch.arange(4), torch.zeros(4, dtype=torch.int64))
    _, keep, masked = task.inputs(batch)
    mask = make_partial_mask(images.ids[:4], (8, 8), **options)
    assert torch.equal(keep, mask.keep) and torch.equal(masked, mask.masked)
    assert task.loss_of(batch).isfinite() and isinstance(mask, PartialMask)


def test_a_recipe_refuses_what_does_not_fit() -> None:
    images = shapes(4, 32)
    with pytest.raises(ValueError, match="units of 3×3"):
        Pretrain(size="nano", image=32, patch=4, unit=3).size_for(images)
    with pytest.raises(ValueError, match="loss_on='all' predicts every patch"):
        Pretrain(predict=0.5, loss_on="all")
