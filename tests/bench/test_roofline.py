"""The count of a training step: torch's own formulas, the package's count, and a step that is really computed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from minimae_book.bench.roofline import KINDS, REST, Recorder, by_kind, counted, roofline_seconds, step_of

from minimae import MAE, flops, size

NANO = size("nano")


def test_an_operation_reads_its_inputs_and_writes_its_outputs() -> None:
    x, y = torch.ones(6, 5), torch.ones(5, 4, dtype=torch.float32)
    with Recorder() as recorder:
        _ = x.t()  # a view moves nothing
        _ = x + x
        _ = (x @ y).to(torch.bfloat16)
    assert {(o.kind, o.flops, o.nbytes): n for o, n in recorder.operations.items()} == {
        (REST, 0, 4 * 90): 1, ("matrix products", 2 * 6 * 5 * 4, 4 * (30 + 20 + 24)): 1, (REST, 0, (4 + 2) * 24): 1,
    }  # fmt: skip


@pytest.mark.parametrize("changes", [{}, {"depth": 1, "decoder_depth": 4, "patch": 7}, {"width": 64, "heads": 2, "image": (28, 56)}])
def test_what_is_counted_for_one_block_holds_for_all(changes: dict[str, Any]) -> None:
    shape = size("nano", **changes)
    assert step_of(shape, 3) == counted(shape, 3, 0.75)


@pytest.mark.parametrize("ratio", [0.5, 0.75])
def test_the_products_are_those_of_the_package_and_attention_computes_its_scores_twice(ratio: float) -> None:
    found = step_of(NANO, 5, ratio=ratio)
    attention = sum(o.flops for o in found.operations.elements() if o.kind == "attention")  # 2 products forward, 5 backward
    assert sum(o.flops for o in found.operations.elements()) - attention // 7 == 5 * flops(NANO, ratio).step


def test_activations_are_what_autograd_keeps_in_a_real_step() -> None:
    kept = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x
        return x

    mae = MAE(NANO)
    weights = {p.untyped_storage().data_ptr() for p in mae.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), torch.autocast("cpu", dtype=torch.bfloat16):
        loss = mae(torch.randn(4, 1, 28, 28), seed=0).loss
    assert loss.requires_grad
    real = sum(x.untyped_storage().nbytes() for at, x in kept.items() if at not in weights)
    assert step_of(NANO, 4).activations == pytest.approx(real, rel=0.01)


def test_the_longer_of_two_times_decides_for_each_operation() -> None:
    assert roofline_seconds([(100, 1), (1, 100)], peak=10, bandwidth=20) == 10 + 5
    found = step_of(NANO, 2)
    times = by_kind(found, 1e12, 1e11)
    assert set(times) == {*KINDS, REST} and min(times.values()) > 0
    pairs = [(o.flops, o.nbytes) for o in found.operations.elements()]
    assert sum(times.values()) == pytest.approx(1e6 * roofline_seconds(pairs, 1e12, 1e11) / 2)


def test_a_decoder_of_one_block_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 blocks"):
        step_of(replace(NANO, decoder_depth=1), 2)
