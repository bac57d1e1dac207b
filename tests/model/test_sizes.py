"""Sizes: what they say about parameters and operations is what the built modules have and do."""

from dataclasses import replace

import pytest
import torch
from oracles import images_for, small
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from minimae.errors import nearest
from minimae.model.mae import MAE
from minimae.model.masking import make_mask
from minimae.model.sizes import SIZES, block_flops, block_parameters, flops, parameters, size
from minimae.model.units import make_partial_mask
from minimae.model.vit import Block
from minimae.recipes.entries import step_flops
from minimae.tasks.pretrain_recipe import Pretrain


def counted(mae: MAE) -> tuple[int, int]:
    """Learned parameters of the encoder, and everything including the two tables of positions."""
    return sum(p.numel() for p in mae.encoder.parameters() if p.requires_grad), sum(p.numel() for p in mae.parameters())


@pytest.mark.parametrize("name", ["nano", "micro", "tiny"])
def test_parameter_counts_equal_those_of_the_built_model(name):
    assert counted(MAE(size(name))) == parameters(size(name))


@pytest.mark.parametrize("name", ["small", "base", "large", "huge"])
def test_parameter_counts_equal_those_of_the_model_built_without_memory(name):
    with torch.device("meta"):
        assert counted(MAE(size(name))) == parameters(size(name))


@pytest.mark.parametrize("changes", [dict(patch=(2, 3), image=(8, 9), channels=5), dict(mlp_ratio=2, depth=3), dict(decoder_depth=1)])
def test_parameter_counts_follow_every_field(changes):
    assert counted(MAE(small(**changes))) == parameters(small(**changes))


def test_a_block_has_the_parameters_it_says():
    assert sum(p.numel() for p in Block(24, 3, mlp_ratio=5).parameters()) == block_parameters(24, 5)


@pytest.mark.parametrize(("name", "encoder", "both"), [("base", 85.65, 111.91), ("large", 303.10, 329.54), ("huge", 630.44, 657.07)])
def test_the_sizes_of_the_paper_have_its_parameters_in_millions(name, encoder, both):
    assert [round(count / 1e6, 2) for count in parameters(size(name))] == [encoder, both]


@pytest.mark.parametrize(("name", "heads"), [("tiny", 3), ("small", 6), ("base", 12), ("large", 16), ("huge", 16)])
def test_trap_15_heads_are_those_of_the_field(name, heads):
    assert size(name).heads == heads


@pytest.mark.parametrize(
    ("name", "encoder", "decoder", "step"), [("base", 8.59, 10.55, 58.5), ("large", 30.44, 10.55, 124.2), ("huge", 82.48, 14.02, 291.0)]
)
def test_the_paper_s_layout_costs_the_billions_of_operations_in_the_table(name, encoder, decoder, step):
    cost = flops(size(name), paper=True)
    assert (round(cost.encoder / 1e9, 2), round(cost.decoder / 1e9, 2), round(cost.step / 1e9, 1)) == (encoder, decoder, step)


def test_mask_tokens_in_the_encoder_of_vit_large_cost_3_23_times_as_much():
    without, with_them = (flops(size("large"), paper=True, mask_tokens_in_encoder=m).forward for m in (False, True))
    assert round(with_them / without, 2) == 3.23


def test_the_default_decoder_costs_9_percent_of_vit_large_per_token():
    large = size("large")
    blocks = large.decoder_depth * block_flops(197, 512) / (large.depth * block_flops(197, 1024))
    cost = flops(large, paper=True, mask_tokens_in_encoder=True)  # both see every token
    assert round(blocks, 3) == 0.086 and round((cost.decoder + cost.other) / (cost.encoder + cost.projection), 3) == 0.089


# --------------------------------------------------------------------------------------- counted by torch on a real pass

SMALL = [
    small(),
    small(patch=(2, 4), image=(6, 20), channels=5, mlp_ratio=3),
    small(decoder_depth=1, depth=3),
    SIZES["nano"],
]


def counter() -> FlopCounterMode:
    return FlopCounterMode(display=False)


@pytest.mark.parametrize("ratio", [0.5, 0.75])
@pytest.mark.parametrize("s", SMALL)
@pytest.mark.parametrize("mask_tokens", [False, True])
def test_the_count_of_a_forward_and_a_backward_pass_is_exact(s, ratio, mask_tokens):
    mae, mask = MAE(s, mask_tokens_in_encoder=mask_tokens), make_mask(torch.arange(1), s.grid, ratio=ratio)
    cost = flops(s, ratio, mask_tokens_in_encoder=mask_tokens)
    with sdpa_kernel(SDPBackend.MATH), counter() as forward:  # a fused kernel would compute its scores twice
        loss = mae(images_for(s, 1), mask).loss
    assert forward.get_total_flops() == cost.forward
    with counter() as backward:
        loss.backward()
    assert forward.get_total_flops() + backward.get_total_flops() == cost.step


@pytest.mark.parametrize(
    "options",
    [{"loss_on": "all"}, {"predict": 1 / 3}, {"unit": 2}, {"predict": 0.5, "mask_tokens_in_encoder": True}, {"unit": 4, "loss_on": "all"}],
)
def test_the_cost_of_a_recipe_follows_what_it_predicts(options):
    recipe, s = Pretrain(**options), replace(small(), image=32, patch=4)
    mask = make_partial_mask(torch.arange(1), s.grid, ratio=recipe.ratio, unit=recipe.unit, predict=recipe.predict)
    mae = MAE(s, loss_on=recipe.loss_on, mask_tokens_in_encoder=recipe.mask_tokens_in_encoder)
    with sdpa_kernel(SDPBackend.MATH), counter() as step:
        mae(images_for(s, 1), mask).loss.backward()
    assert step.get_total_flops() == step_flops(recipe, s)


@pytest.mark.parametrize("s", SMALL)
def test_the_count_of_an_encoder_that_sees_the_whole_image_is_exact(s):
    encoder = MAE(s).encoder
    with sdpa_kernel(SDPBackend.MATH), counter() as forward:
        encoder(images_for(s, 1))
    assert forward.get_total_flops() == flops(s, None).forward


def test_this_package_computes_less_than_the_paper_s_layout():
    for s in SIZES.values():
        assert flops(s).forward < flops(s, paper=True).forward


# ---------------------------------------------------------------------------------------------------------------- names


def test_a_named_size_can_be_changed_and_says_its_grid_and_values():
    s = size("tiny", patch=(4, 8), image=(32, 48), channels=2)
    assert (s.width, s.grid, s.values) == (192, (8, 6), 64)


@pytest.mark.parametrize("typed", ["bsae", "Base", "bas"])
def test_an_unknown_name_suggests_the_nearest(typed):
    with pytest.raises(ValueError, match=r"did you mean 'base'. Known: nano, micro"):
        size(typed)


def test_a_name_like_no_other_gets_the_known_ones_and_no_guess():
    assert nearest("qqqq", ["nano", "base"]) == ". Known: nano, base."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(width=34, heads=2), "encoder: .*multiple of the heads and of 4, not 34 with 2 heads"),
        (dict(width=32, heads=3), "encoder: .*not 32 with 3 heads"),
        (dict(heads=0), "encoder: .*0 heads"),
        (dict(decoder_width=18, decoder_heads=2), "decoder: .*not 18 with 2 heads"),
        (dict(depth=0), "depth 0.*at least 1"),
        (dict(channels=0), "channels 0.*at least 1"),
        (dict(patch=5), "cannot be cut into patches"),
    ],
)
def test_a_size_that_cannot_be_built_is_refused_in_words(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)
