"""Images that the tests of training share."""

from __future__ import annotations

import pytest
import torch

from minimae.data.images import Images


@pytest.fixture
def images() -> Images:
    pixels = torch.randint(0, 256, (40, 1, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return Images("noise", pixels, torch.arange(40) % 4, ("a", "b", "c", "d"))
