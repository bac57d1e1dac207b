"""Every way to train, for four steps of the real loop on a simulated GPU: no tensor on another device, and no wait after the first step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from simulation import Simulation, gpu, outside, training

from minimae.data.images import Images
from minimae.data.workers import Workers
from minimae.tasks.finetune import Classifier, Finetune, FinetuneTask
from minimae.tasks.loading import LoaderConfig
from minimae.tasks.pretrain import Pretrain, PretrainTask, build
from minimae.tasks.probe_train import LinearProbe, Probe, ProbeTask
from minimae.train import loop, step
from minimae.train.ema import Averaged

LENGTH: dict[str, Any] = {"batch": 8, "epochs": 2, "warmup_epochs": 0, "log_every": 3}
SHAPE: dict[str, Any] = {"size": "nano", "image": 16, "patch": 4, "width": 16, "depth": 2, "heads": 2, "decoder_width": 16}
PRETRAIN = Pretrain(**SHAPE, decoder_depth=1, decoder_heads=2, **LENGTH)
FINETUNE, PROBE = Finetune(**LENGTH), Probe(**LENGTH)

pretrainings: dict[str, dict[str, Any]] = {
    "as usual": {},
    "pixels, block, jitter": {"target": "pixels", "sampling": "block", "jitter": 0.4},
    "pca, grid, fixed crop, all": {"target": "pca", "sampling": "grid", "crop": None, "fixed_crop": 0.875, "loss_on": "all"},
    "mask tokens, no crop": {"mask_tokens_in_encoder": True, "crop": None, "flip": False},
    "accumulated, views, clipped": {"accumulate": 2, "repeats": 2, "batch": 4, "clip": 1.0},
    "fp32": {"precision": "fp32"},
    "fp16": {"precision": "fp16", "clip": 1.0},
    "graph": {"graph": True},
}
finetunings: dict[str, dict[str, Any]] = {
    "as usual": {},
    "mixing, erasing, average": {"mixup": 0.8, "cutmix": 1.0, "erasing": 0.25, "ema": 0.99},
    "mixing by batch": {"mixup": 0.8, "cutmix": 1.0, "mix_by": "batch"},
    "mixup alone": {"mixup": 0.8},
    "randaugment": {"randaugment": (9.0, 0.5), "mixup": 0.8, "erasing": 0.25},
    "last blocks": {"tune": 0.5},
    "no crop, other size": {"crop": None, "image": 24},
    "fp32": {"precision": "fp32"},
    "fp16": {"precision": "fp16"},
    "graph, mixing": {"graph": True, "mixup": 0.8, "erasing": 0.25, "ema": 0.99},
}
probes: dict[str, dict[str, Any]] = {
    "as usual": {},
    "mean, no crop": {"pool": "mean", "crop": None},
    "fp16": {"precision": "fp16"},
    "graph": {"graph": True},
}


@pytest.fixture(scope="module")
def images() -> Images:
    pixels = torch.randint(0, 256, (16, 3, 20, 18), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Images("noise", pixels, torch.arange(16) % 4, ("a", "b", "c", "d"))


def train(simulation: Simulation, task: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four steps of the loop; a recorded step is carried out each time, and refused when anything comes from the host."""

    def capture(compute: Any, *inputs: torch.Tensor, model: Any, optimizer: Any) -> Any:
        assert all(x.device.type == "cuda" for x in inputs)
        assert all(group["lr"].device.type == "cuda" and group.get("capturable", True) for group in optimizer.param_groups)

        def replay(*given: torch.Tensor) -> torch.Tensor:
            assert [x.shape for x in given] == [x.shape for x in inputs]
            return compute(*given)

        return replay

    monkeypatch.setattr(step, "capture", capture)
    with training(simulation, task):
        result = loop.fit(task, recipe, quiet=True)
    assert result.steps == 4 and simulation.waits == []


@pytest.mark.parametrize("name", pretrainings)
def test_pre_training(name: str, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(PRETRAIN, **pretrainings[name])
    model = build(recipe, images)
    with gpu() as simulation:
        train(simulation, PretrainTask(recipe, images, simulation.module(model)), recipe, monkeypatch)


def on_the_host(read: Any) -> Any:
    """What workers do for RandAugment: in their own processes, with real tensors, and handed over in memory that is page-locked."""

    def call(*args: Any) -> Any:
        batch, *rest = outside(read)(*args)
        return batch._replace(**{name: x.pin_memory() for name, x in batch._asdict().items() if isinstance(x, torch.Tensor)}), *rest

    return call


@pytest.mark.filterwarnings("ignore:'pin_memory' argument")
@pytest.mark.parametrize("name", finetunings)
def test_fine_tuning(name: str, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(FINETUNE, **finetunings[name])
    classifier = Classifier(build(PRETRAIN, images).encoder, 4, drop_path=0.1, image=recipe.image, tune=recipe.tune)
    model = classifier if recipe.ema is None else Averaged(classifier, recipe.ema)
    if recipe.randaugment is not None:
        monkeypatch.setattr(Workers, "__next__", on_the_host(Workers.__next__))
    with gpu() as simulation:
        task = FinetuneTask(recipe, images, images.statistics, simulation.module(model), reading=LoaderConfig(workers=0))
        train(simulation, task, recipe, monkeypatch)


@pytest.mark.parametrize("name", probes)
def test_the_probe(name: str, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(PROBE, **probes[name])
    model = LinearProbe(build(PRETRAIN, images).encoder, 4, pool=recipe.pool)
    with gpu() as simulation:
        train(simulation, ProbeTask(recipe, images, images.statistics, simulation.module(model)), recipe, monkeypatch)
