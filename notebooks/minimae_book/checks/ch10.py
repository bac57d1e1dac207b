"""Checks of chapter 10: fine-tuning, whole and in part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minimae.data.mixing import Shares, partners
from minimae.model.sizes import Size
from minimae.model.vit import Encoder
from minimae.tasks.finetune import Classifier
from minimae.train.optim import layer_of

from ..verdict import Verdict, failed, passed
from .comparing import described, expect, named_mistake, near, random, without_loop


def ch10_classify(f: Callable[..., Any]) -> Verdict:
    """Exercise 1: from the encoder's tokens to logits."""
    tokens, norm, head = 2 * random(3, 5, 8) + 1, nn.LayerNorm(8), nn.Linear(8, 4)
    nn.init.normal_(norm.weight, 1.0, 0.3, generator=torch.Generator().manual_seed(1))
    patches = tokens[:, 1:]
    got = f(tokens, norm, head)
    expect(got, (3, 4), "logits b classes were expected")
    if near(got, head(norm(patches.mean(1)))):
        return passed("the mean of the patches, the norm, the head")
    named_mistake(got, (
        (head(norm(tokens.mean(1))), "the class token is in your mean: it is the first token, and it is left out"),
        (head(norm(tokens[:, 0])), "this classifies the class token: take the mean of the patch tokens instead"),
        (head(norm(tokens[:, :-1].mean(1))), "you left out the last token: the class token is the first one"),
        (head(patches.mean(1)), "the norm is missing: it comes between the mean and the head"),
        (head(norm(patches).mean(1)), "the norm comes after the mean, not before it"),
        (head(norm(patches.amax(1))), "this takes the largest value of each channel: take the mean"),
        (head(norm(patches.sum(1))), "this is the sum of the patch tokens: take their mean"),
    ))  # fmt: skip
    return failed("the shape is right, but the numbers are not: head(norm(…)) of the mean of the patch tokens")


def ch10_layer_groups(f: Callable[..., Any]) -> Verdict:
    """Exercise 2: the groups of layer-wise learning rate decay, with everything trained, and with frozen blocks."""
    encoder = Encoder(Size(8, 4, 2, 8, 1, 2, patch=4, image=8, channels=1))
    for tune in (None, 2):
        classifier = Classifier(encoder, 3, tune=tune)
        got = f(classifier, 0.3, 0.7)
        if fault := _faults(got, classifier, 0.3, 0.7):
            return failed(fault)
    return passed("every parameter is in the group of its layer, and what is frozen is in none")


def _faults(groups: Any, classifier: Classifier, weight_decay: float, layer_decay: float) -> str:
    """What is wrong with these groups, in one sentence; nothing if they are right."""
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        return "a list of dictionaries was expected, one for each group"
    if missing := [key for key in ("params", "weight_decay", "lr_scale") if any(key not in group for group in groups)]:
        return f"a group has no {missing[0]!r}: each group needs params, weight_decay and lr_scale"
    names = {id(parameter): name for name, parameter in classifier.named_parameters()}
    found: dict[str, tuple[float, float]] = {}
    for group in groups:
        if not isinstance(group["params"], list | tuple):
            return f"params must be a list of parameters, not {type(group['params']).__name__}: write [parameter], also for a single one"
        for parameter in group["params"]:
            if not (name := names.get(id(parameter), "")):
                return f"params has an entry that is no parameter of the classifier, but {described(parameter)}"
            if name in found:
                return f"{name} is in two groups: it would be updated twice"
            found[name] = (float(group["lr_scale"]), float(group["weight_decay"]))
    frozen = {name for name, parameter in classifier.named_parameters() if not parameter.requires_grad}
    if wrong := sorted(frozen & found.keys()):
        return f"{wrong[0]} is frozen (requires_grad is False), so it belongs to no group"
    if lost := sorted(set(names.values()) - frozen - found.keys()):
        return f"{lost[0]} is in no group, so it would not be trained"
    return _wrong_scales({name: scale for name, (scale, _) in found.items()}, layer_decay, len(classifier.encoder.blocks)) or _wrong_decay(
        {name: decay for name, (_, decay) in found.items()}, weight_decay, dict(classifier.named_parameters())
    )


def _wrong_scales(scales: dict[str, float], decay: float, depth: int) -> str:
    layers = {name: layer_of(name, depth) for name in scales}

    def same(scale: Callable[[int], float]) -> bool:
        return all(abs(scales[name] - scale(layer)) < 1e-6 for name, layer in layers.items())

    if same(lambda layer: decay ** (depth + 1 - layer)):
        return ""
    if same(lambda layer: decay**layer):
        return "upside down: layer 0 gets the whole learning rate and the head the least"
    if same(lambda layer: decay ** (depth - layer)):
        return "one too few: the head is layer depth + 1, and its share is 1, not 1 / decay"
    if same(lambda layer: decay ** (depth + 2 - layer)):
        return "one too many: the head is layer depth + 1, and its share is 1, not decay"
    if same(lambda layer: decay * (depth + 1 - layer)):
        return "the decay is a power, not a product: each layer has 0.7 of the share of the layer above it"
    if same(lambda layer: 1.0):
        return "every layer has the same learning rate: lr_scale depends on the layer"
    name = next(name for name, layer in layers.items() if not abs(scales[name] - decay ** (depth + 1 - layer)) < 1e-6)
    return f"{name} is in layer {layers[name]} of {depth + 1}: its share is {decay ** (depth + 1 - layers[name]):.6f}, not {scales[name]:.6f}"


def _wrong_decay(decays: dict[str, float], weight_decay: float, parameters: dict[str, nn.Parameter]) -> str:
    for name, decay in decays.items():
        tokens = name.endswith(("_token", "positions"))
        if (tokens or parameters[name].dim() <= 1) and decay:
            kind = "the class token and the positions" if tokens else "biases and norms (parameters with one axis)"
            return f"{name} is decayed: {kind} have a weight_decay of 0"
        if not tokens and parameters[name].dim() > 1 and not abs(decay - weight_decay) < 1e-6:
            return f"{name} is a matrix, so its weight_decay is {weight_decay:g}, not {decay:g}"
    return ""


def ch10_soft_targets(f: Callable[..., Any]) -> Verdict:
    """Exercise 3: smoothed and mixed targets."""
    labels, classes, smoothing = torch.tensor([0, 3, 2, 1]), 5, 0.2
    shares = Shares(torch.tensor([0.75, 0.4, 0.1, 1.0]), torch.zeros(4, 4, dtype=torch.long))
    without_loop(f)
    hard, own = F.one_hot(labels, classes).float(), shares.own[:, None]
    mixed, swapped = own * hard + (1 - own) * partners(hard), (1 - own) * hard + own * partners(hard)

    def smooth(target: Tensor) -> Tensor:
        return target * (1 - smoothing) + smoothing / classes

    for got, wanted in ((f(labels, classes, smoothing=smoothing), smooth(hard)), (f(labels, classes, smoothing=smoothing, shares=shares), smooth(mixed))):
        expect(got, (4, 5), "targets b classes were expected")
        if near(got, wanted):
            continue
        unmixed = near(wanted, smooth(hard))
        named_mistake(got, (
            (hard if unmixed else mixed, "the targets are not smoothed: every class gets smoothing / classes"),
            (_others(hard if unmixed else mixed, smoothing), "smoothing goes to *all* classes, the right one included: smoothing / classes each"),
            (smooth(swapped), "the shares are swapped: `own` is the share of the image itself, and its partner has the rest"),
            (smooth(hard), "without mixing it is right; with `shares`, mix the targets with those of the partners"),
            (smooth(own * hard + (1 - own) * hard.flip(0)), "partners are neighbours, 0 and 1, 2 and 3: use partners(target), not the reversed batch"),
        ))  # fmt: skip
        if not torch.allclose(got.sum(1).float(), torch.ones(4), atol=1e-4):
            return failed(f"the rows sum to {[round(float(v), 4) for v in got.sum(1)]}: each row must sum to 1")
        return failed("smooth the one-hot labels, then mix each row with its partner's in shares of own and 1 − own")
    return passed("every row sums to 1, and no class has probability 0")


def _others(target: Tensor, smoothing: float) -> Tensor:
    """Smoothing that leaves the right classes out."""
    return target * (1 - smoothing) + smoothing / (target.shape[1] - 1) * (target == 0)


def ch10_paste(f: Callable[..., Any]) -> Verdict:
    """Exercise 4: cutmix with one rectangle, from each image's partner."""
    images = torch.arange(4.0)[:, None, None, None] + torch.rand(4, 2, 8, 6, generator=torch.Generator().manual_seed(0)) / 2
    box = (1, 2, 6, 4)
    got = f(images, box)
    if not (isinstance(got, tuple | list) and len(got) == 2 and isinstance(got[0], Tensor) and tuple(got[0].shape) == (4, 2, 8, 6)):
        return failed("two things were expected: images of the same shape, and the share that is still their own")

    def pasted(order: list[int], place: tuple[int, int, int, int]) -> Tensor:
        top, left, bottom, right = place
        made = images.clone()
        made[:, :, top:bottom, left:right] = images[order][:, :, top:bottom, left:right]
        return made

    share, left_over = torch.as_tensor(got[1], dtype=torch.float32).flatten(), 1 - 10 / 48
    if torch.equal(got[0], pasted([1, 0, 3, 2], box)):
        if torch.allclose(share, torch.tensor(left_over), atol=1e-5):
            return passed("the label is mixed in proportion to the pixels")
        if torch.allclose(share, torch.tensor(10 / 48), atol=1e-5):
            return failed("that is the share of the rectangle: the rest is the image's own")
        return failed(f"the images are right; their own share is 1 − 10 / 48 = {left_over:.5f}, not {float(share[(share - left_over).abs().argmax()]):.5f}")
    if torch.equal(got[0], pasted([3, 0, 1, 2], box)) or torch.equal(got[0], pasted([1, 2, 3, 0], box)):
        return failed("each image took from the next in a ring: partners are 0 and 1, 2 and 3, and each gives to the other")
    if torch.equal(got[0], pasted([3, 2, 1, 0], box)):
        return failed("the batch was reversed: partners are neighbours, 0 and 1, 2 and 3")
    if torch.equal(got[0], pasted([1, 0, 3, 2], (box[1], box[0], box[3], box[2]))):
        return failed("rows and columns are exchanged: the box is top, left, bottom, right")
    if torch.equal(got[0], images):
        return failed("nothing was pasted")
    return failed("inside the box each image should show its partner, outside it itself")
