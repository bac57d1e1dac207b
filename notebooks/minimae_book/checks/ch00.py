"""Checks of chapter 00: a picture, mostly missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from minimae.model.masking import user_mask

from ..verdict import Verdict, failed, passed
from .comparing import close, expect, named_mistake, one_number


def ch00_visible_patches(f: Callable[..., Any]) -> Verdict:
    """How many patches stay visible, for pictures of several sizes."""
    for (height, width, patch, ratio), right in {
        (28, 28, 4, 0.75): 12,
        (224, 224, 16, 0.75): 49,
        (28, 56, 4, 0.5): 49,
        (28, 28, 4, 0.8): 10,
        (40, 40, 4, 0.9): 10,
        (32, 32, 8, 0.8): 3,
    }.items():
        patches, got = (height // patch) * (width // patch), f(height, width, patch, ratio)
        what = f"a {height} × {width} picture in {patch} × {patch} patches, {ratio:.0%} hidden"
        if got == right:
            continue
        if got == patches - right:
            return failed(f"{got} is the number of *hidden* patches for {what}; {right} of the {patches} stay visible")
        if abs(one_number(got) - right) <= 1:
            share = f"{patches} × {1 - ratio:.2f} = {patches * (1 - ratio):.2f}"
            return failed(f"for {what} you say {got}, but {share}, and the nearest integer is {right}: use round")
        if got == round(height * width * (1 - ratio)):
            return failed(f"{got} counts pixels; a patch has {patch} × {patch} of them, so divide each side by the patch size first")
        return failed(f"for {what} you say {got}, but {right} of {patches} patches stay visible")
    return passed("49 of 196 patches at 75 %, as in the paper")


def ch00_hide_rectangle(f: Callable[..., Any]) -> Verdict:
    """A rectangle of ones in a grid of zeros."""
    grid = (6, 9)
    got = f(1, 2, 3, 5, grid)
    wanted = torch.zeros(1, *grid)
    wanted[:, 1:4, 2:7] = 1
    expect(got, (1, *grid), "a tensor was expected, begun with torch.zeros(1, *grid) for 6 rows and 9 columns")
    if torch.equal(got.float(), wanted):
        user_mask(got, grid)
        return passed("and user_mask takes it as it is")
    if torch.equal(got.float(), 1 - wanted):
        return failed("inverted: 1 means hidden, as everywhere in the book; yours hides everything but the rectangle")
    swapped = torch.zeros(1, *grid)
    swapped[:, 2:7, 1:4] = 1
    if torch.equal(got.float(), swapped):
        return failed("rows and columns are swapped: the grid is (rows, columns), and so is an index into it")
    ends = torch.zeros(1, *grid)
    ends[:, 1:3, 2:5] = 1
    if torch.equal(got.float(), ends):
        return failed("`tall` and `wide` are sizes, not the row and column where it ends: slice top : top + tall")
    row, column = (got.float() != wanted).nonzero()[0, 1:].tolist()
    right, yours = float(wanted[0, row, column]), float(got[0, row, column])
    return failed(f"with top=1, left=2, tall=3 and wide=5, row {row}, column {column} should be {right:g}, but yours is {yours:g}")


def ch00_error_on_hidden(f: Callable[..., Any]) -> Verdict:
    """Mean squared error, on the hidden pixels alone."""
    generator = torch.Generator().manual_seed(0)
    original, reconstructed = torch.randn(2, 1, 8, 8, generator=generator), torch.randn(2, 1, 8, 8, generator=generator)
    hidden = torch.rand(2, 1, 8, 8, generator=generator) < 0.6
    square = (original - reconstructed) ** 2
    got, right = one_number(f(original, reconstructed, hidden)), float(square[hidden].mean())
    mistakes = {
        float(square.mean()): "that is the mean over *all* pixels: visible ones must not count",
        float((square * hidden).mean()): "hidden pixels only, but divided by the number of all pixels: divide by the number of hidden ones",
        float(square[~hidden].mean()): "that is the error of the *visible* pixels: hidden is True where a pixel was hidden",
        float(square[hidden].sum()): "that is the sum: take the mean",
        float((original - reconstructed)[hidden].mean()): "differences of both signs cancel: square them first",
        float((original - reconstructed)[hidden].abs().mean()): "that is the absolute error: square the differences instead",
        float(square[hidden].mean().sqrt()): "that is the root of it: do not take the root",
    }
    if abs(got - right) < 1e-5:
        return passed("only what was hidden counts")
    named_mistake(got, mistakes.items(), same=close)
    return failed(f"for the test pictures the error is {right:.6f}, and you say {got:.6f}")
