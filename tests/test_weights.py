"""Exported weights: small, complete, and safe to open."""

from pathlib import Path

import pytest
import torch

from minimae import MinimaeError, weights
from minimae.data.source import Images
from minimae.tasks.pretrain import Pretrain, Pretrained, build


@pytest.fixture
def trained() -> Pretrained:
    pixels = torch.randint(0, 256, (20, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = Images("noise", pixels)
    recipe = Pretrain(size="nano", patch=7, depth=2)
    return Pretrained(build(recipe, images).eval(), recipe, images.statistics)


def test_an_export_alone_gives_the_model_back_in_half_precision(trained: Pretrained, tmp_path: Path) -> None:
    path = tmp_path / "noise.safetensors"
    weights.export(trained, path)
    again = weights.load(path)
    assert again.recipe == trained.recipe and again.model.size == trained.model.size
    assert torch.equal(torch.stack(again.statistics), torch.stack(trained.statistics))
    for name, value in trained.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value.half().float())
    count = sum(p.numel() for p in trained.model.parameters())
    assert 2 * count < path.stat().st_size < 2 * count + 20_000
    assert [p.name for p in tmp_path.iterdir()] == ["noise.safetensors"]


def test_a_truncated_or_foreign_file_is_named(trained: Pretrained, tmp_path: Path) -> None:
    path = tmp_path / "noise.safetensors"
    weights.export(trained, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MinimaeError, match=r"noise.safetensors is damaged"):
        weights.load(path)
    path.write_bytes(b"not weights")
    with pytest.raises(MinimaeError, match=r"noise.safetensors is damaged"):
        weights.load(path)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(MinimaeError, match="no checkpoint at fashion-nanno"):
        weights.load("fashion-nanno")
