"""Exported weights: small, complete, and safe to open."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from minimae import MAE, MinimaeError, make_mask, weights
from minimae.data.images import Images
from minimae.tasks.finetune import Classifier
from minimae.tasks.pretrain import Pretrain, Pretrained, build
from minimae.tasks.reconstruct import caption, reconstruction_triplets


@pytest.fixture
def trained() -> Pretrained:
    pixels = torch.randint(0, 256, (20, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = Images("noise", pixels)
    recipe = Pretrain(size="nano", patch=7, depth=2)
    return Pretrained(build(recipe, images).eval(), recipe, images.statistics)


def test_an_export_alone_gives_the_model_back_in_half_precision(trained: Pretrained, tmp_path: Path) -> None:
    path = tmp_path / "noise.safetensors"
    weights.save(trained, path, half=True)
    again = weights.load(path)
    assert again.recipe == trained.recipe and again.model.size == trained.model.size
    assert torch.equal(torch.stack(again.statistics), torch.stack(trained.statistics))
    for name, value in trained.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value.half().float())
    count = sum(p.numel() for p in trained.model.parameters())
    assert 2 * count < path.stat().st_size < 2 * count + 20_000
    assert [p.name for p in tmp_path.iterdir()] == ["noise.safetensors"]
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode, "others may read it"


def test_a_second_decoder_draws_the_pictures(trained: Pretrained, tmp_path: Path) -> None:
    pictures = MAE(trained.model.size, target="pixels").eval()
    pictures.encoder = trained.model.encoder
    path = tmp_path / "two.safetensors"
    weights.save(replace(trained, pictures=pictures), path, half=True)
    again = weights.load(path)
    assert again.pictures is not None and again.pictures.encoder is again.model.encoder
    for name, value in pictures.decoder.state_dict().items():
        assert torch.equal(again.pictures.decoder.state_dict()[name], value.half().float())
    mask = make_mask(torch.arange(1), again.model.size.grid)
    pixels = torch.full((1, 1, 28, 28), 7, dtype=torch.uint8)  # black: a picture that borrows the brightness of hidden patches is black too
    [(_, _, borrowed)] = reconstruction_triplets(replace(again, pictures=None), pixels, mask)
    [(_, _, own)] = reconstruction_triplets(again, pixels, mask)
    assert abs(borrowed - 7 / 255).max() < 0.02 < abs(own - 7 / 255).max()
    assert "nothing comes from the hidden patches" in caption(again, mask)
    larger = weights.load(path, image=56)
    assert isinstance(larger, Pretrained) and larger.pictures is not None and larger.pictures.decoder.positions.shape[0] == 1 + 64


def test_loaded_models_print_themselves_in_two_lines(trained: Pretrained) -> None:
    assert repr(trained).count("\n") == 1 and "width=96" in repr(trained) and "target='normalised'" in repr(trained)
    classified = weights.Classified(Classifier(trained.model.encoder, 300), trained.statistics, tuple(f"class {i}" for i in range(300)))
    assert repr(classified).count("\n") == 1 and "300 classes (class 0, class 1" in repr(classified) and len(repr(classified)) < 400


def test_a_truncated_or_foreign_file_is_named(trained: Pretrained, tmp_path: Path) -> None:
    path = tmp_path / "noise.safetensors"
    weights.save(trained, path, half=True)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MinimaeError, match=r"noise.safetensors is damaged"):
        weights.load(path)
    path.write_bytes(b"not weights")
    with pytest.raises(MinimaeError, match=r"noise.safetensors is damaged"):
        weights.load(path)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(MinimaeError, match="no checkpoint at fashion-nanno"):
        weights.load("fashion-nanno")
