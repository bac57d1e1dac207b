"""LARS: equal to the formula in float64, to timm's where they mean the same, and what it leaves alone (Table 10)."""

import pytest
import torch
from timm.optim import Lars

from minimae.train.lars import LARS, scaled_by_trust_ratio


def problem(dtype: torch.dtype = torch.float64) -> tuple[list[torch.Tensor], list[list[torch.Tensor]]]:
    """Parameters of a matrix, a bias, a 3-D tensor, and six steps of gradients."""
    g = torch.Generator().manual_seed(0)
    shapes = [(4, 7), (4,), (2, 3, 5)]
    parameters = [torch.randn(s, generator=g, dtype=torch.float64).to(dtype) for s in shapes]
    return parameters, [[torch.randn(s, generator=g, dtype=torch.float64).to(dtype) for s in shapes] for _ in range(6)]


def run(optimizer, parameters, gradients, lrs=None) -> list[torch.Tensor]:
    for i, step in enumerate(gradients):
        for p, g in zip(parameters, step):
            p.grad = g.clone()
        if lrs is not None:
            optimizer.param_groups[0]["lr"] = lrs[i]
        optimizer.step()
    return [p.detach() for p in parameters]


def by_hand(weights, gradients, lrs, *, momentum, weight_decay, trust) -> list[list[float]]:
    """The formula over lists of Python numbers."""
    result = []
    for k, weight in enumerate(weights):
        w, one_dimensional = weight.flatten().tolist(), weight.dim() == 1
        v = [0.0] * len(w)
        for lr, step in zip(lrs, gradients):
            g = step[k].flatten().tolist()
            if not one_dimensional:
                g = [a + weight_decay * b for a, b in zip(g, w)]
                scale = trust * sum(a * a for a in w) ** 0.5 / sum(a * a for a in g) ** 0.5
                g = [scale * a for a in g]
            v = [momentum * a + b for a, b in zip(v, g)]
            w = [a - lr * b for a, b in zip(w, v)]
        result.append(w)
    return result


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_it_equals_the_formula_step_by_step_in_float64(weight_decay: float, momentum: float) -> None:
    weights, gradients = problem()
    lrs = [0.5, 1.0, 6.4, 6.4, 2.0, 0.1]
    expected = by_hand(weights, gradients, lrs, momentum=momentum, weight_decay=weight_decay, trust=0.001)
    parameters = [torch.nn.Parameter(w) for w in weights]
    optimizer = LARS(parameters, 1.0, momentum=momentum, weight_decay=weight_decay)
    for found, wanted in zip(run(optimizer, parameters, gradients, lrs), expected):
        assert torch.allclose(found.flatten(), torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=1e-14)


def test_it_equals_timms_on_matrices_without_decay() -> None:
    weights, gradients = problem()
    ours, theirs = ([torch.nn.Parameter(weights[i].clone()) for i in (0, 2)] for _ in range(2))
    steps = [[g[0], g[2]] for g in gradients]
    a = run(LARS(ours, 6.4), ours, steps)
    b = run(Lars(theirs, lr=6.4, momentum=0.9, trust_coeff=0.001, eps=0.0, always_adapt=True), theirs, steps)
    assert all(torch.allclose(x, y, rtol=1e-12) for x, y in zip(a, b))


def test_trap_22_one_dimensional_parameters_are_neither_scaled_nor_decayed() -> None:
    weights, gradients = problem()
    bias, reference = torch.nn.Parameter(weights[1].clone()), torch.nn.Parameter(weights[1].clone())
    steps = [[g[1]] for g in gradients]
    ours = run(LARS([bias], 0.3, weight_decay=0.5), [bias], steps)
    assert torch.allclose(ours[0], run(torch.optim.SGD([reference], lr=0.3, momentum=0.9), [reference], steps)[0], rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_matrix_moves_by_the_same_share_of_its_length_whatever_its_gradient(scale: float) -> None:
    weights, gradients = problem()
    update = scaled_by_trust_ratio(weights[0], gradients[0][0] * scale, weight_decay=0.0, trust=0.001)
    assert float(update.norm() / weights[0].norm()) == pytest.approx(0.001, rel=1e-9)


def test_zero_weights_and_zero_gradients_are_not_scaled() -> None:
    zero, some = torch.zeros(3, 4), torch.randn(3, 4)
    assert torch.equal(scaled_by_trust_ratio(zero, some, weight_decay=0.0, trust=0.001), some)
    assert torch.equal(scaled_by_trust_ratio(some, zero, weight_decay=0.0, trust=0.001), zero)


def test_it_goes_on_from_its_state() -> None:
    weights, gradients = problem(torch.float32)
    whole, broken = ([torch.nn.Parameter(w.clone()) for w in weights] for _ in range(2))
    run(LARS(whole, 1.0), whole, gradients)
    first = LARS(broken, 1.0)
    run(first, broken, gradients[:3])
    second = LARS(broken, 1.0)
    second.load_state_dict(first.state_dict())
    run(second, broken, gradients[3:])
    assert all(torch.equal(a, b) for a, b in zip(whole, broken))


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"momentum": 1.0}, {"trust": 0.0}, {"weight_decay": -0.1}])
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="LARS needs"):
        LARS([torch.zeros(2, 2)], **{"lr": 1.0, **wrong})
