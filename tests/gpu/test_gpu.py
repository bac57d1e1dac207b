"""The checks of check_gpu.py as tests, where there is a GPU."""

from __future__ import annotations

import check_gpu
import pytest
import torch


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("name", check_gpu.checks())
def test_on_a_gpu(name: str) -> None:
    found = check_gpu.carry_out(name, "cuda")
    assert found["ok"], found["faults"]
