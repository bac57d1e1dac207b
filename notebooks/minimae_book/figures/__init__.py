"""Every figure is a function here: it takes arrays and returns a matplotlib Figure. Nothing is shown or saved.

One module per subject; the modules that only chapters use are named after what their chapters show.
"""
# ruff: noqa: F401

from typing import TYPE_CHECKING

from minimae.lazy import submodules

from .attention import (
    attention_maps,
    attention_table,
    claimed_places,
    every_similarity,
    matrices,
    place_maps,
    position_table,
    through_blocks,
)
from .masks import crossing_lines, how_often_kept, mask_table, pixels_to_patches, under_masks
from .patches import cut_lines, inside_a_patch, moving_grid, numbers_and_patches, same_scale, tokens_and_values
from .pictures import Animation, as_picture, mask_animation, mask_ratios, masked_picture, picture_table, reconstructions
from .results import claim_panels, classes_in_a_plane, comparison, curves, neighbours, scatters
from .style import BLUE, GREEN, GREY, HEAT, HIDDEN, NOTE, ORANGE, PURPLE, SIGNED, WIDTH, bare, box, figure, plain, png
from .targets import loss_levels, three_targets, two_losses, where_the_loss_looks
from .tokens import (
    attention_share,
    cost_bars,
    encoder_and_decoder,
    time_against_tokens,
    token_strip,
    visible_tokens,
    who_asks,
)
from .training import epoch_row, loss_against_marks, loss_curve, metric_panels, runs_apart, schedules

if not TYPE_CHECKING:  # minimae_book.figures.NAME without importing it first
    __getattr__, __dir__ = submodules(__name__, __path__)
