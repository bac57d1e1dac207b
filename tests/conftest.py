"""Settings that every test shares: the same numbers each run, one thread per process, no time limits on a busy machine."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded, for the processes and kernels that tests start too

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("same-every-time", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("same-every-time")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same torch seed, whichever tests ran before it."""
    torch.manual_seed(0)
