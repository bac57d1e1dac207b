"""Checks of chapter 13: ImageNet on GPUs."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

from minimae.model.masking import keep_count
from minimae.model.sizes import Size, block_flops, flops, size

from ..verdict import Verdict, failed, passed
from .comparing import Mistake


def ch13_split_step(f: Callable[..., Any]) -> Verdict:
    """Batch and accumulation of each process."""
    cases = {
        (4096, 8, 300): (256, 2), (4096, 8, 512): (512, 1), (4096, 1, 512): (512, 8), (96, 4, 20): (12, 2), (180, 4, 20): (15, 3),
    }  # fmt: skip
    for (window, processes, fits), right in cases.items():
        got = f(window, processes, fits)
        given = f"{window} images, {processes} process{'es' if processes > 1 else ''}, {fits} fit"
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise Mistake("two numbers were expected: the batch and the accumulation")
        batch, accumulate = got
        total = batch * accumulate * processes
        if (batch, accumulate) == right:
            if all(isinstance(part, Integral) for part in got):
                continue
            return failed(f"{given}: {batch} and {accumulate} are right, but both must be integers: divide with //")
        if (accumulate, batch) == right:
            return failed("the order is batch, accumulation: yours is the reverse")
        if batch * accumulate == window and processes > 1:
            return failed(f"{given}: every process works on its own part, so a process has {window // processes} images of a step")
        if batch > fits:
            return failed(f"{given}: a batch of {batch} does not fit into the memory")
        if total < window:
            return failed(f"{given}: {batch} × {accumulate} × {processes} = {total}, so {window - total} images of the step are lost")
        if total > window:
            return failed(f"{given}: {batch} × {accumulate} × {processes} = {total} images, more than the step has")
        return failed(f"{given}: a batch of {right[0]} also divides the share and fits; larger batches use a GPU better")
    return passed("every process gets the same share, in the largest batches that fit")


def _step_flops(s: Size, ratio: float, *, times: int = 3, pixels: bool = True, encoder: str = "visible", token: int = 1, decoder: str = "all",
                project: str = "visible", predict: str = "masked", last: bool = True, narrow: bool = True, joins: int = 1, half: bool = False) -> int:  # fmt: skip
    """A training step, right or with a mistake."""
    n = s.grid[0] * s.grid[1]
    k = keep_count(n, ratio)
    t, every, d = token + (n if encoder == "all" else k), token + (k if decoder == "visible" else n), s.decoder_width
    projection = 2 * (n if project == "all" else k) * s.values * s.width
    forward = projection + s.depth * block_flops(t, s.width)
    forward += 2 * (t if joins else t - token) * s.width * d if narrow else 0
    forward += (s.decoder_depth - 1) * block_flops(every, d) + block_flops(every, d, queries=n - k if last else every)
    forward += 2 * (n if predict == "all" else n - k) * d * s.values
    return (times * forward - (projection if pixels else 0)) // (2 if half else 1)


STEP_MISTAKES: dict[str, dict[str, Any]] = {
    "that is the forward pass only: the backward pass computes two products for each product, so a step is about three forward passes": {"times": 1, "pixels": False},
    "the backward pass needs two products for each product of the forward pass, one for the inputs and one for the weights": {"times": 2, "pixels": False},
    "no gradient flows into the pixels, so the patch projection has one product less in the backward pass: subtract one projection": {"pixels": False},
    "the encoder sees only the visible patches and the class token": {"encoder": "all"},
    "the class token is missing: there is one token more than there are patches, in the encoder and in the decoder": {"token": 0},
    "the decoder works on all tokens, visible ones and mask tokens": {"decoder": "visible"},
    "only the visible patches are projected": {"project": "all"},
    "only the masked patches are predicted": {"predict": "all"},
    "in the last block of the decoder only the masked tokens are queries: block_flops(…, queries=m)": {"last": False},
    "between encoder and decoder a linear layer changes the width: 2 · t · width · decoder_width": {"narrow": False},
    "the class token goes to the decoder too, so the layer between them works on 1 + k tokens, not on k": {"joins": 0},
    "a multiplication and an addition are two operations: a product of t × d with d × k costs 2·t·d·k": {"half": True},
}  # fmt: skip


def ch13_step_flops(f: Callable[..., Any]) -> Verdict:
    """Operations of a training step for one image."""
    cases = [(size("base"), 0.75), (size("nano"), 0.5), (size("tiny", image=(64, 96), patch=8), 0.75)]
    calls = ["size('base'), 0.75", "size('nano'), 0.5", "size('tiny', image=(64, 96), patch=8), 0.75"]
    got = [f(s, ratio) for s, ratio in cases]
    right = [flops(s, ratio).step for s, ratio in cases]
    if got == right:
        return passed("57.1 billion for an image in ViT-B/16: exactly what the package computes")
    for message, flags in STEP_MISTAKES.items():
        if got == [_step_flops(s, ratio, **flags) for s, ratio in cases]:
            return failed(message)
    if got == [_step_flops(s, 0.75) for s, _ in cases]:
        return failed("`ratio` is not used: k is keep_count(n, ratio) for every ratio, not only for 0.75")
    (s, ratio), call, mine, wanted = next(case for case in zip(cases, calls, got, right) if case[2] != case[3])
    n = s.grid[0] * s.grid[1]
    return failed(
        f"for ({call}), with n = {n} and k = {keep_count(n, ratio)}, a step needs {wanted:,} operations, and you count {float(mine):,.0f}, "
        f"{float(mine) / wanted:.6f} times as many"
    )


def ch13_roofline_seconds(f: Callable[..., Any]) -> Verdict:
    """The sum of the larger of two times."""
    operations = [(8.0e12, 1.0e9), (2.0e9, 3.0e11), (0.0, 6.0e10)]
    roofs = ((1e12, 1e11), (1e13, 1e11))  # in the first, computing takes longer in all; in the second, moving
    got = [float(f(operations, *roof)) for roof in roofs]

    def close(way: Callable[[list[float], list[float]], float]) -> bool:
        wanted = [way([flops / peak for flops, _ in operations], [moved / speed for _, moved in operations]) for peak, speed in roofs]
        return all(abs(mine - right) < 1e-9 * right for mine, right in zip(got, wanted))

    mistakes: dict[str, Callable[[list[float], list[float]], float]] = {
        "that is the larger of two sums; operations run one after the other, so take the larger time of each, then add": lambda c, m: max(sum(c), sum(m)),
        "an operation computes and moves its bytes at the same time: take the larger of both times, not their sum": lambda c, m: sum(c) + sum(m),
        "the slower of the two decides: max, not min": lambda c, m: sum(map(min, c, m)),
        "moving the bytes takes time too: flops / peak or bytes / bandwidth, whichever is more": lambda c, m: sum(c),
        "computing takes time too: flops / peak or bytes / bandwidth, whichever is more": lambda c, m: sum(m),
        "that is the slowest operation only: add the times of all": lambda c, m: max(map(max, c, m)),
    }  # fmt: skip
    if close(lambda c, m: sum(map(max, c, m))):
        return passed("each operation takes the longer of its two times, and the times add up")
    for message, mistake in mistakes.items():
        if close(mistake):
            return failed(message)
    times = [sum(max(flops / peak, moved / speed) for flops, moved in operations) for peak, speed in roofs]
    (peak, speed), mine, right = next(case for case in zip(roofs, got, times) if abs(case[1] - case[2]) >= 1e-9 * case[2])
    return failed(f"with peak {peak:g} and bandwidth {speed:g}, the operations {operations} take {right:g} s together, and you say {mine:.9g}")


def ch13_state_bytes(f: Callable[..., Any]) -> Verdict:
    """Weights, gradients and both moments, whole or in parts."""
    count, processes = 1_000_000, 8
    got = [float(f(count, 1, False)), float(f(count, processes, False)), float(f(count, processes, True))]
    wrong = {
        (4, 4, 0.5): "those are the weights alone: gradients and AdamW's two moments have a number for each weight too",
        (8, 8, 1): "AdamW keeps two moments for each weight, four numbers in all",
        (12, 12, 1.5): "one of four is missing: weight, gradient, first moment, second moment",
        (16, 2, 2): "DDP keeps a whole copy on each GPU: only sharding divides by the processes",
        (16, 16, 16): "with sharding, each of the processes holds a part of all four: divide by the processes",
        (14, 14, 1.75): "autocast keeps the weights in float32, 4 bytes each: bf16 copies are made in the forward pass",
        (8, 8, 8): "float32 has 4 bytes a number: 4 × 4 bytes for each weight",
        (2, 2, 16): "DDP keeps whole copies, and sharding divides: yours is the reverse",
    }  # fmt: skip
    shares = [value / count for value in got]
    if shares == [16, 16, 2]:
        return passed("16 bytes for each parameter; with sharding, divided by the processes")
    for values, message in wrong.items():
        if shares == list(values):
            return failed(message)
    return failed(
        f"a million parameters: 16 MB on one GPU, 16 MB on each of 8 with DDP, 2 MB with sharding; yours are {', '.join(f'{v / 1e6:.9g}' for v in got)}"
    )


def ch13_waiting_share(f: Callable[..., Any]) -> Verdict:
    """The share of the time in which the GPU has no images."""
    got = [float(f(2_000, 250, 6)), float(f(2_000, 250, 16))]
    mistakes = {
        (0.25, -1.0): "16 cores prepare more than the GPU takes, so it never waits: the share cannot be less than 0",
        (0.75, 1.0): "that is the share of the time in which the GPU works: the rest is waiting",
        (0.75, 2.0): "that is the share of the time in which the GPU works: the rest is waiting",
        (25.0, 0.0): "that is in percent: a share lies between 0 and 1",
        (1 / 3, 0.0): "a share of the whole time is expected: 1 − supply / demand; yours compares with the working time",
    }  # fmt: skip
    for values, message in mistakes.items():
        if all(abs(a - b) < 1e-9 for a, b in zip(got, values)):
            return failed(message)
    for cores, share, mine in ((6, 0.25, got[0]), (16, 0.0, got[1])):
        if not abs(mine - share) < 1e-9:
            return failed(f"a GPU that takes 2,000 images/s, with {cores} cores of 250 images/s each, waits a share of {share:g} of the time; you say {mine:.9g}")
    return passed("6 cores deliver 1,500 of 2,000 images/s: the GPU waits a quarter of the time; 16 cores are enough")
