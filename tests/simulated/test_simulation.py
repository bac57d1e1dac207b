"""The simulated GPU sees what a real one would not forgive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from simulation import GPU, Simulation, gpu
from torch import Tensor

from minimae.data.augment import Augmentation, crop_boxes, normalise
from minimae.data.images import Images
from minimae.devices import constant_tensor, to_device

WAITS: dict[str, Callable[[Simulation, Tensor], Any]] = {
    "a copy to the host": lambda s, x: x.cpu(),
    "a copy from the host": lambda s, x: torch.zeros(3).to(GPU),
    "a constant made on the host": lambda s, x: torch.tensor((1.0, 2.0), device=GPU),
    "a number that becomes a tensor there": lambda s, x: torch.as_tensor([1, 2], device=x.device),
    "memory that is not page-locked": lambda s, x: torch.zeros(3).to(GPU, non_blocking=True),
    "an index on the host": lambda s, x: x[torch.tensor([1, 0])],
}
ERRORS: dict[str, Callable[[Simulation, Tensor], Any]] = {
    "a value that is read": lambda s, x: float(x[0]),
    "a question about values": lambda s, x: bool((x > 0).all()),
    "a mask as an index": lambda s, x: x[x > 0],
    "places of what holds": lambda s, x: (x > 0).nonzero(),
    "two devices": lambda s, x: x + torch.zeros(3),
}
QUIET: dict[str, Callable[[Simulation, Tensor], Any]] = {
    "constants": lambda s, x: constant_tensor((0.1, 2), GPU),
    "page-locked memory": lambda s, x: to_device(torch.zeros(3), GPU),
    "statistics on the host": lambda s, x: normalise(s.empty(torch.zeros(2, 3, 4, 4)), (torch.zeros(3), torch.ones(3))),
    "a slice": lambda s, x: x[..., 1:, None],
    "a move within the GPU": lambda s, x: x.to(GPU).double(),
}


def seen(what: Callable[[Simulation, Tensor], Any]) -> list[str]:
    with gpu() as simulation, simulation.mode:
        simulation.watching = True
        what(simulation, simulation.empty(torch.zeros(3)))
        return simulation.waits


@pytest.mark.parametrize("name", WAITS)
def test_a_wait_is_seen(name: str) -> None:
    assert seen(WAITS[name])


@pytest.mark.parametrize("name", ERRORS)
def test_what_needs_values_or_mixes_devices_is_an_error(name: str) -> None:
    with pytest.raises(Exception, match=r"_local_scalar_dense|nonzero|DynamicOutputShape|found two different devices|aten.index|cuda"):
        seen(ERRORS[name])


@pytest.mark.parametrize("name", QUIET)
def test_what_does_not_wait_is_not_blamed(name: str) -> None:
    assert seen(QUIET[name]) == []


def test_boxes_and_batches_come_from_places_on_the_host_without_a_wait() -> None:
    images = Images("x", torch.zeros(6, 3, 8, 8, dtype=torch.uint8), torch.arange(6))
    with gpu() as simulation:
        there = simulation.images(images)
        with simulation.mode:
            simulation.watching = True
            batch = there.batch(torch.arange(4), torch.zeros(4, dtype=torch.int64), 2)
            boxes = crop_boxes(batch.ids, (8, 8), Augmentation(), seed=0, epoch=batch.epochs)
        assert {x.device for x in (batch.pixels, batch.labels, batch.ids, batch.epochs, boxes) if x is not None} == {GPU}
        assert simulation.waits == []
