"""What is read before the first step: by workers, and by the process that needs it only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from minimae.cli.report import report_pretraining
from minimae.data.files import ImageFiles
from minimae.data.loader import in_memory
from minimae.data.photos import make_folder
from minimae.data.stream import open_folder
from minimae.tasks import loading
from minimae.tasks.loading import LoaderConfig, some
from minimae.tasks.pretrain import Pretrain, Pretrained, PretrainTask, build, pretrain
from minimae.train.distributed import World

RECIPE = Pretrain(
    size="nano", image=16, patch=4, width=16, depth=1, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2, target="pca",
    epochs=1, warmup_epochs=0, batch=8, log_every=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> ImageFiles:
    return open_folder(make_folder(tmp_path_factory.mktemp("photos"), classes=2, train=12, val=1, share=0.1))


def test_workers_read_the_same_images(stream: ImageFiles) -> None:
    alone, together = (some(stream, 20, image=(16, 16), workers=workers) for workers in (0, 2))
    assert torch.equal(alone.pixels, together.pixels) and torch.equal(alone.ids, together.ids)


def test_baseline_pca_and_report_are_read_by_workers(stream: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def watched(part: ImageFiles, *, workers: int = 0, **how: Any) -> Any:
        asked.append((len(part), workers))
        return in_memory(part, workers=workers, **how)

    monkeypatch.setattr(loading, "in_memory", watched)
    model, result = pretrain(RECIPE, stream, reading=LoaderConfig(workers=1))
    assert asked == [(24, 1), (24, 1)], "the components of PCA, and the loss of a trivial baseline"
    report_pretraining(tmp_path, Pretrained(model, RECIPE, stream.statistics), stream, stream, result, device="cpu", workers=1)
    assert asked[2:] == [(24, 1), (8, 0)], "the baseline once more, and eight pictures to show"


def test_only_the_first_process_reads(stream: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others get the components from it, and write no log that a baseline would belong to."""
    sent: list[torch.Tensor] = []
    monkeypatch.setattr("minimae.tasks.pretrain.world", lambda: World(1, 2))
    monkeypatch.setattr("minimae.tasks.pretrain.broadcast_tensors", lambda *tensors: sent.extend(tensors))
    monkeypatch.setattr(loading, "in_memory", lambda *_, **__: pytest.fail("read images"))
    model = build(RECIPE, stream)
    assert {id(tensor) for tensor in sent} == {id(model.target.mean), id(model.target.components)}
    assert PretrainTask(RECIPE, stream, model).expected() is None
