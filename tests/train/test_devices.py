"""Which GPU a process uses, and that no other one is touched."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from minimae.cli import options
from minimae.cli.options import DataOptions, pick_device
from minimae.data.images import Images
from minimae.devices import constant_tensor, to_device
from minimae.train import distributed

CPU = torch.device("cpu")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """As if there were two GPUs; → what they are asked to do. Touching one by making a tensor there is an error."""
    asked: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda gpu: asked.append(torch.device("cuda", gpu) if isinstance(gpu, int) else gpu))
    monkeypatch.setattr(torch, "empty", lambda *_, **__: pytest.fail("a GPU was touched"))
    return asked


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:1"])
def test_a_gpu_is_found_without_touching_it(name: str, two_gpus: list[Any]) -> None:
    assert pick_device(name) == name and two_gpus == []


@pytest.mark.parametrize("name", ["cuda:2", "cuda:17"])
def test_a_gpu_that_is_not_here_is_one_line(name: str, two_gpus: list[Any]) -> None:
    with pytest.raises(ValueError, match=rf"'{name}' cannot be used here \(there are 2 GPUs here, counted from 0\)"):
        pick_device(name)


def test_a_single_process_uses_the_gpu_that_was_named(two_gpus: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert DataOptions(device="cuda:1").join() == "cuda:1"
    assert two_gpus == [torch.device("cuda:1")]


def test_a_rank_uses_its_own_gpu_and_touches_no_other(two_gpus: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: True)
    environment = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}
    assert distributed.join(environment, options.pick_device("cuda")) == "cuda:1"
    assert two_gpus == [torch.device("cuda:1")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constants_are_what_torch_tensor_makes(dtype: torch.dtype) -> None:
    values = (0.2989, 3, 1e-9)
    assert torch.equal(constant_tensor(values, CPU, dtype), torch.tensor(values, dtype=dtype))


def test_sending_to_where_it_is_copies_nothing() -> None:
    x = torch.arange(3)
    assert to_device(x, CPU) is x


def test_images_are_addressed_alike_from_any_device() -> None:
    """Places and epochs may lie elsewhere than the pixels: here on the host, as the plan has them."""
    pixels = torch.randint(0, 256, (6, 1, 4, 4), dtype=torch.uint8)
    batch = Images("x", pixels, torch.arange(6)).batch(torch.tensor([4, 1]), torch.tensor([2, 0]), 2)
    assert batch.ids.tolist() == [4, 4, 1, 1] and batch.epochs.tolist() == [4, 5, 0, 1] and torch.equal(batch.pixels, pixels[[4, 4, 1, 1]])
