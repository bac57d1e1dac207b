"""What recording a step needs, as far as it works without a GPU. Whole runs are in test_recorded_runs.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from minimae import MinimaeError
from minimae.train.cuda_graph import Captured, capturable, capture, remember
from minimae.train.optim import adamw, decay_groups, layer_groups, set_lr


def trained(steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    optimizer = adamw(decay_groups(model, 0.1), 0.1, (0.9, 0.95))
    for _ in range(steps):
        step(model, optimizer)
    return model, optimizer


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model(torch.arange(12.0).view(3, 4)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize("before", [0, 3])
def test_warming_up_leaves_no_trace(before: int) -> None:
    model, optimizer = trained(before)
    wanted, again = trained(before)
    restore = remember(model, optimizer)
    for _ in range(3):
        step(model, optimizer)
    places = [p.data_ptr() for p in model.parameters()]
    restore()
    assert places == [p.data_ptr() for p in model.parameters()], "in place: a graph knows addresses"
    assert all(p.grad is None for p in model.parameters())
    for _ in range(2):
        step(model, optimizer)
        step(wanted, again)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), wanted.state_dict().values(), strict=True))


def test_the_lr_becomes_a_tensor_that_can_be_filled() -> None:
    classifier = nn.Module()
    classifier.encoder = nn.Module()
    classifier.encoder.blocks = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    classifier.head = nn.Linear(2, 2)
    optimizer = adamw(layer_groups(classifier, 0.05, 0.5), 1.0, (0.9, 0.999))
    capturable(optimizer)
    places = [group["lr"].data_ptr() for group in optimizer.param_groups]
    set_lr(optimizer, 2.0)
    assert [float(group["lr"]) for group in optimizer.param_groups] == [2.0 * group["lr_scale"] for group in optimizer.param_groups]
    assert places == [group["lr"].data_ptr() for group in optimizer.param_groups] and all(g["capturable"] for g in optimizer.param_groups)


def test_a_recorded_step_takes_one_shape() -> None:
    replays: list[int] = []
    place, loss = torch.zeros(2, 3), torch.tensor(0.5)
    recorded = Captured(SimpleNamespace(replay=lambda: replays.append(1)), (place,), loss)
    given = torch.ones(2, 3)
    assert recorded(given) is loss and torch.equal(place, given) and replays == [1]
    for wrong in (torch.ones(1, 3), torch.ones(2, 3).double()):
        with pytest.raises(ValueError, match=r"a graph has fixed shapes; keep every batch full"):
            recorded(wrong)
    assert replays == [1]


def test_without_a_gpu_there_is_no_graph() -> None:
    model, optimizer = trained(0)
    with pytest.raises(MinimaeError, match="CUDA graphs need model and inputs on a GPU, not on cpu"):
        capture(lambda: torch.zeros(()), model=model, optimizer=optimizer)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_graph_is_the_step_it_recorded() -> None:
    results = []
    for recorded in (False, True):
        model, optimizer = trained(0)
        model.cuda()
        capturable(optimizer)
        x = torch.arange(12.0, device="cuda").view(3, 4)

        def once(images: torch.Tensor, model: nn.Module = model, optimizer: torch.optim.Optimizer = optimizer) -> torch.Tensor:
            loss = model(images).square().sum()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return loss.detach()

        run = capture(once, x, model=model, optimizer=optimizer) if recorded else once
        for i in range(4):
            set_lr(optimizer, 0.1 / (1 + i))
            run(x + i)
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.allclose(*results, atol=1e-6)
