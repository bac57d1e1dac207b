"""Checks of chapter 06: what to predict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..verdict import Verdict, failed, passed
from .comparing import named_mistake


def ch06_loss_of_ignorance(f: Callable[..., Any]) -> Verdict:
    """(n − 1) / n, for several patches."""
    for p1, p2, c in ((4, 4, 1), (2, 2, 3), (16, 16, 3), (2, 5, 4)):
        n, got = p1 * p2 * c, f(p1, p2, c)
        what = f"a patch of {p1} × {p2} pixels with {c} channel{'s' * (c > 1)}"
        if abs(float(got) - (n - 1) / n) < 1e-9:
            continue
        if abs(float(got) - 1) < 1e-9:
            return failed(
                f"1 would be right for the variance that divides by n; the unbiased one divides by n − 1, and n is {n} for {what}"
            )
        if abs(float(got) - n / (n - 1)) < 1e-9:
            return failed(f"upside down: the score is below 1, not above ({what})")
        if abs(float(got) - 1 / n) < 1e-9:
            return failed(f"that is the difference from 1; the score is 1 minus that ({what})")
        if abs(float(got) - (p1 * p2 - 1) / (p1 * p2)) < 1e-9:
            return failed(f"the channels belong to the patch too: {what} has {n} values, which share one mean and one standard deviation")
        if p1 != p2 and abs(float(got) - (p1 * p1 * c - 1) / (p1 * p1 * c)) < 1e-9:
            return failed("a patch need not be square: it has p1 · p2 · c values")
        return failed(f"for {what} the score is {(n - 1) / n:.4f}, not {float(got):.4f}")
    return passed("write it beside your loss curve")


def ch06_masked_loss(f: Callable[..., Any]) -> Verdict:
    """Mean over masked patches, of predictions in image order."""
    generator = torch.Generator().manual_seed(0)
    predicted, target = torch.randn(2, 8, 6, generator=generator), torch.randn(2, 8, 6, generator=generator)
    binary = torch.tensor([[1.0, 0, 1, 1, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1, 0, 1]])
    square = (predicted - target).square()
    losses = square.mean(-1)
    right = float((losses * binary).sum() / binary.sum())
    got = f(predicted.clone(), target.clone(), binary.clone())
    got = torch.as_tensor(got)
    if got.numel() != 1:
        return failed(
            f"a single number was expected, not a tensor of shape {tuple(got.shape)}: take the mean over the masked patches of all images"
        )
    mistakes = {
        float(losses.mean()): "that is the mean over *all* patches: multiply by the mask first, and divide by the number of masked patches",
        float(
            (losses * (1 - binary)).sum() / (1 - binary).sum()
        ): "that is the loss on the *visible* patches, the bug of the lab: 1 means removed",
        float((losses * binary).mean()): "masked patches only, but divided by the number of all patches: divide by binary.sum()",
        float((square * binary[:, :, None]).sum() / binary.sum()): "each patch's error is summed over its values: take the mean over them",
        float((losses * binary).sum()): "that is a sum: divide by the number of masked patches",
        float(
            ((predicted - target).mean(-1).square() * binary).sum() / binary.sum()
        ): "square before you take the mean: differences cancel",
        float(
            ((predicted - target).abs().mean(-1) * binary).sum() / binary.sum()
        ): "that is the absolute error: square the differences instead",
    }
    if abs(float(got) - right) < 1e-5:
        return passed("only what was hidden counts")
    named_mistake(got, mistakes)
    return failed(f"for the test patches the loss is {right:.4f}, and you say {float(got):.4f}")


def ch06_coefficients_for(f: Callable[..., Any]) -> Verdict:
    """Rows whose variances are known: 50, 30, 15, 4 and 1 percent, far from the origin, in rotated axes."""
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(400, 5, generator=generator, dtype=torch.float64)
    raw = torch.linalg.qr(raw - raw.mean(0))[0]  # uncorrelated columns, each of the same variance and mean 0
    turn = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))[0]
    rows = raw * torch.tensor([0.50, 0.30, 0.15, 0.04, 0.01], dtype=torch.float64).sqrt() @ turn
    rows = 20 * rows + torch.tensor([3.0, -1.0, 2.0, 0.0, 5.0], dtype=torch.float64)
    shares = {0.45: 1, 0.6: 2, 0.9: 3, 0.97: 4, 0.995: 5}
    answers = {share: f(rows.clone(), share) for share in shares}
    said = {share: float(got) for share, got in answers.items()}
    if all(said[share] == right for share, right in shares.items()):
        return passed("brightness first, detail last")
    if all(said[share] == right - 1 for share, right in shares.items()):
        return failed("one too few each time: the component that lifts the sum to the share counts too")
    if all(said[share] == right + 1 for share, right in shares.items()):
        return failed("one too many each time: count the components that are needed, and begin at 1")
    if said[0.45] == 4 or said[0.6] == 5:
        return failed("it begins with the *smallest* variances: eigvalsh returns them in rising order, so reverse them")
    if all(said[share] <= right for share, right in shares.items()):
        return failed(
            "too few: either the mean was not subtracted first, so that it looks like one huge component, "
            "or the eigenvalues were squared (they are variances already)"
        )
    if all(said[share] >= right for share, right in shares.items()):
        return failed("too many: the eigenvalues of the covariance are variances already; do not take their roots")
    wrong = next(share for share, right in shares.items() if said[share] != right)
    return failed(
        f"to hold {wrong:.1%} of the variance of the test rows {shares[wrong]} components are needed, and you say {said[wrong]:g}"
    )
