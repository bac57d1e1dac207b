"""Checks of chapter 14: positions of points, the two-way step, and the best of three masks."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minimae.tasks.prompt import mask_losses, overlap
from minimae.tasks.promptable import Masks, TwoWay

from ..verdict import Verdict, failed, passed
from .comparing import Mistake, close, expect, named_mistake, near, random, trains


def ch14_fourier(f: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """Exercise 1: random Fourier positions of points in the unit square."""
    points, frequencies = random(2, 5, 2).sigmoid(), random(2, 6, seed=1)
    got = f(points, frequencies)
    if isinstance(got, Tensor) and got.shape == (2, 5, 6):
        return failed("the result has half the width: it needs the sine and the cosine of every angle, side by side")
    expect(got, (2, 5, 12), "for points 2 × 5 × 2 and frequencies 2 × 6 the shape is")

    def positions(scale: float, turn: float = 2 * math.pi) -> tuple[Tensor, Tensor]:
        angles = turn * (scale * points - (scale - 1)) @ frequencies
        return angles.sin(), angles.cos()

    sin, cos = positions(2)
    if near(got, torch.cat([sin, cos], dim=-1)):
        return passed("points anywhere in the picture have a position now, not only the centres of patches")
    if near(got, torch.cat([cos, sin], dim=-1)):
        return failed("sines and cosines are swapped: the package puts the sines first")
    if near(got, torch.stack([sin, cos], dim=-1).flatten(-2)):
        return failed("sines and cosines alternate: concatenate all sines and then all cosines along the last axis")
    if near(got, torch.cat(positions(1), dim=-1)):
        return failed("the points go from 0 to 1: move them to −1 to 1 first, with 2 · points − 1")
    if near(got, torch.cat(positions(2, 1.0), dim=-1)):
        return failed("2π is missing: a frequency counts full turns, so the angle is 2π · (2 · points − 1) @ frequencies")
    if near(got, torch.cat(positions(2, math.pi), dim=-1)):
        return failed("you turn by π; a full turn is 2π")
    return failed("the shape is right and the values are not: take sin and cos of 2π · (2 · points − 1) @ frequencies")


def ch14_two_way(step_class: Callable[[int, int], Any]) -> Verdict:
    """Exercise 2: one two-way step, with the package's weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ours, theirs = TwoWay(16, 2), step_class(16, 2)
    if not isinstance(theirs, torch.nn.Module) or sorted(theirs.state_dict()) != sorted(ours.state_dict()):
        return failed("leave __init__ as it is: the step needs the parts among, read, write, norm and mlp, and no others")
    theirs.load_state_dict(ours.state_dict())
    tokens, tokens_at = random(2, 6, 16, seed=2), random(2, 6, 16, seed=3)
    patches, patches_at = random(2, 9, 16, seed=4), random(2, 9, 16, seed=5)
    seen = torch.tensor([[True] * 6, [True] * 5 + [False]])
    for name, queries, context in (("among", "tokens", "tokens"), ("read", "tokens", "patches"), ("write", "patches", "tokens")):
        theirs.get_submodule(name).register_forward_pre_hook(_attends(name, queries, context), with_kwargs=True)
    got = theirs(tokens.clone(), patches.clone(), tokens_at, patches_at, seen)
    if not (isinstance(got, tuple) and len(got) == 2 and all(isinstance(part, Tensor) for part in got)):
        return failed("forward returns two tensors: the tokens and the patches")
    if (got[0].shape, got[1].shape) == (patches.shape, tokens.shape):
        return failed("the two results are swapped: return the tokens first, then the patches")
    for part, whole in zip(got, (tokens, patches)):
        expect(part, tuple(whole.shape))
    if all(near(mine, right) for mine, right in zip(got, ours(tokens, patches, tokens_at, patches_at, seen))):
        trains(theirs.named_parameters(), *got)
        return passed("equal to the package's: the tokens attend to the image, and the image to the tokens")
    return failed(_two_way_mistake(ours, got, tokens, patches, tokens_at, patches_at, seen))


def _attends(name: str, queries: str, context: str) -> Callable[..., None]:
    """A hook that raises Mistake when this cross-attention gets its arguments in another order, or ``seen`` for patches."""
    counts = {"tokens": 6, "patches": 9}
    wanted = counts[queries], counts[context]

    def hook(layer: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = inspect.signature(layer.forward).bind(*args, **kwargs).arguments
        if (given["x"].shape[1], given["context"].shape[1]) != wanted:
            raise Mistake(f"in `{name}`, the queries are the {queries} (first argument), and the context is the {context} (second)")
        if (given["x_at"].shape[1], given["context_at"].shape[1]) != wanted:
            raise Mistake(f"in `{name}`, the positions of the queries ({queries}) come first, then those of the context ({context})")
        if given.get("seen") is not None and given["seen"].shape[1] != wanted[1]:
            raise Mistake(f"`{name}` has the patches as context, and patches have no padding: leave out `seen`")

    return hook


def _two_way_mistake(
    ours: TwoWay, got: tuple[Tensor, Tensor], tokens: Tensor, patches: Tensor, tokens_at: Tensor, patches_at: Tensor, seen: Tensor
) -> str:
    """The classic mistake that gives this result, or which half is wrong."""
    among = tokens + ours.among(tokens, tokens, tokens_at, tokens_at, seen)
    blind = tokens + ours.among(tokens, tokens, tokens_at, tokens_at)
    read = ours.read(among, patches, tokens_at, patches_at)
    done = among + read + ours.mlp(ours.norm(among + read))
    early = tokens + ours.read(tokens, patches, tokens_at, patches_at)
    early = early + ours.among(early, early, tokens_at, tokens_at, seen)
    blind = blind + ours.read(blind, patches, tokens_at, patches_at)
    known = {
        "the MLP is missing: tokens = tokens + mlp(norm(tokens)), after read": among + read,
        "the MLP gets tokens without the norm": among + read + ours.mlp(among + read),
        "the tokens attend to the patches before they attend to each other: the order is among, read, MLP": early
        + ours.mlp(ours.norm(early)),
        "padding is not masked: pass seen to among": blind + ours.mlp(ours.norm(blind)),
        "a result replaces what was there: add each one, tokens = tokens + …": ours.mlp(ours.norm(read)),
        "the MLP replaces the tokens: add its result to them": ours.mlp(ours.norm(among + read)),
    }
    for mistake, result in known.items():
        if near(got[0], result):
            return mistake
    if not near(got[0], done):
        return "the tokens differ: among(tokens, tokens), then read(tokens, patches), then the MLP; each one is added to the tokens"
    written = {
        "the patches are unchanged: at the end they attend to the tokens, with write": patches,
        "the patches attend to the tokens as they were before the step: give write the new ones": patches
        + ours.write(patches, tokens, patches_at, tokens_at, seen),
        "the result of write replaces the patches: patches = patches + write(…)": ours.write(patches, done, patches_at, tokens_at, seen),
        "the patches attend to the padding: pass seen to write": patches + ours.write(patches, done, patches_at, tokens_at),
    }
    return next((m for m, result in written.items() if near(got[1], result)), "the tokens are right, the patches are not: see write")


def ch14_pick(f: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """Exercise 3: of three masks, the one with the highest expected quality."""
    logits = random(4, 3, 5, 6)
    quality = torch.tensor([[0.2, 0.9, 0.4], [0.8, 0.1, 0.3], [0.3, 0.5, 0.6], [0.9, 0.7, 0.2]])
    got, index = f(logits.clone(), quality.clone()), torch.arange(4)
    if isinstance(got, Tensor) and got.shape == (4, 4, 5, 6):
        return failed("logits[:, best] takes the best index of every prompt for every prompt: use logits[torch.arange(b), best]")
    if isinstance(got, Tensor) and got.shape == (4, 1, 5, 6):
        return failed("the axis of the three masks is still there, with length 1: the result is b h w")
    expect(got, (4, 5, 6), "for logits 4 × 3 × 5 × 6 the mask has the shape")
    right = logits[index, quality.argmax(1)]
    if got.dtype != torch.bool:
        return failed("a mask is bool: a pixel is inside where the logit is above 0")
    if torch.equal(got, right > 0):
        return passed("this is the mask that a user sees first")
    if torch.equal(got, right > 0.5):
        return failed("the threshold 0.5 belongs to probabilities; a logit of 0 is a probability of 0.5")
    if got.all():
        return failed("every pixel is inside: compare the logits with 0. A probability (sigmoid) is always above 0; its threshold is 0.5")
    if torch.equal(got, right <= 0):
        return failed("inside and outside are exchanged: a pixel is inside where the logit is above 0")
    if torch.equal(got, logits[index, quality.argmin(1)] > 0):
        return failed("this is the mask that is expected to be the worst: use argmax")
    if torch.equal(got, logits[:, int(quality.sum(0).argmax())] > 0) or torch.equal(got, logits[:, int(quality[0].argmax())] > 0):
        return failed("one index for all prompts: each prompt has a best mask of its own, so take the argmax over axis 1")
    if torch.equal(got, logits.amax(1) > 0):
        return failed("this is the union of the three masks; pick one of them, by its quality")
    return failed("the shape is right, but another mask was expected: of the mask with the highest quality in its row, the pixels with a logit above 0")


def ch14_prompt_loss(f: Callable[[Masks, Tensor], Tensor]) -> Verdict:
    """Exercise 4: the best mask is trained, and the quality of all three."""
    quality = torch.tensor([[0.8, 0.5, 0.1], [0.3, 0.2, 0.6], [0.7, 0.1, 0.5], [0.2, 0.9, 0.4]])
    out, masks = Masks(3 * random(4, 3, 6, 7, seed=2), quality, torch.empty(0)), random(4, 6, 7, seed=1) > 0.5
    given = Masks(out.logits.clone().requires_grad_(), quality.clone().requires_grad_(), out.patches)
    result = torch.as_tensor(f(given, masks.clone()))
    got = result.detach()
    if got.numel() != 1:
        return failed(f"a loss is one number; yours has the shape {tuple(got.shape)}: take the mean over the prompts")
    losses, errors = mask_losses(out.logits, masks), (quality - overlap(out.logits > 0, masks)).square()
    best, least, error, row = losses.argmin(1), losses.amin(1).mean(), errors.mean(), torch.arange(4)
    known = (
        (losses.mean() + error, "all three masks are trained, so all three learn the same blur: take the smallest loss of each prompt"),
        (losses.min() + error, "the smallest loss of the whole batch: take the minimum over the three masks, axis 1, and then the mean"),
        (losses.amax(1).mean() + error, "the worst mask is trained: take the minimum over axis 1"),
        (
            losses[row, quality.argmax(1)].mean() + error,
            "the mask is picked by its expected quality. In training the best is known: it has the smallest loss",
        ),
        (least + errors[row, best].mean(), "only the best mask learns its quality: average the error over all three"),
        (least + errors.sqrt().mean(), "the error of the quality is squared"),
        (least + errors.sum(1).mean(), "the errors of the three qualities are averaged, not summed"),
        (least, "the quality learns nothing: add the mean squared error between quality and IoU"),
        (losses.amin(1).sum() + errors.mean(1).sum(), "the loss is summed over the prompts: take the mean"),
    )
    named_mistake(got, known, same=close)
    if near(got.reshape(()), least + error):
        trains([("out.logits", given.logits), ("out.quality", given.quality)], result)
        return passed("each of the three masks can become a different answer")
    return failed(
        f"{float(least + error):.5f} was expected, not {float(got):.5f}: "
        "the smallest of the three mask_losses, plus the mean of (quality − IoU)² over the masks"
    )
