"""Every function that takes images or a model takes them on a GPU, and images and masks on the host with a model on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from minimae_book.evidence.dense import patch_classes
from simulation import GPU, Simulation, gpu
from torch import Tensor, nn

from minimae.data.files import convert
from minimae.data.images import Images
from minimae.data.pixels import as_pixels
from minimae.data.views import resize_on_device
from minimae.model.masking import make_mask
from minimae.tasks.evaluation import logits_of
from minimae.tasks.features import extract, pixel_features
from minimae.tasks.finetune import Classifier
from minimae.tasks.pretrain import Pretrain, Pretrained, build
from minimae.tasks.probe import standardise
from minimae.tasks.reconstruct import fit_to_model
from minimae.train import cuda_graph, distributed
from minimae.train.cuda_graph import capture

SHAPE: dict[str, Any] = {"size": "nano", "image": 16, "patch": 4, "width": 16, "depth": 2, "heads": 2, "decoder_width": 16}
RECIPE = Pretrain(**SHAPE, decoder_depth=1, decoder_heads=2)


@pytest.fixture(scope="module")
def images() -> Images:
    pixels = torch.randint(0, 256, (16, 3, 20, 18), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Images("noise", pixels, torch.arange(16) % 4, ("a", "b", "c", "d"))


@pytest.mark.parametrize("where", ["host", "GPU"])
@pytest.mark.parametrize("pool", ["mean", "class", "blocks", "tokens"])
def test_features_end_on_the_host(pool: Any, where: str, images: Images) -> None:
    model, statistics = build(RECIPE, images), images.statistics
    with gpu() as simulation:
        pixels = images.pixels[:, :, :16, :16]
        pixels = pixels if where == "host" else simulation.empty(pixels)
        encoder = simulation.module(model.encoder)
        with simulation.mode:
            found = extract(encoder, pixels, statistics, pool=pool)
        assert found.device.type == "cpu" and found.dtype == torch.float32


@pytest.mark.parametrize("where", ["host", "GPU"])
def test_classes_end_on_the_host(where: str, images: Images) -> None:
    classifier = Classifier(build(RECIPE, images).encoder, 4, image=(20, 16))
    images = replace(images, pixels=images.pixels[..., :16])
    statistics = images.statistics
    with gpu() as simulation:
        given = images if where == "host" else simulation.images(images)
        model = simulation.module(classifier)
        with simulation.mode:
            assert logits_of(model, given, statistics).argmax(1).device.type == "cpu"


def functions(simulation: Simulation, images: Images, trained: Pretrained) -> dict[str, Callable[[], Any]]:
    there = simulation.images(images)
    features, semantic = simulation.empty(torch.zeros(16, 8)), simulation.empty(torch.zeros(2, 16, 16, dtype=torch.int64))
    pixels, boxes = there.pixels, simulation.empty(torch.zeros(16, 4))
    return {
        "pixel_features": lambda: pixel_features(there, images.statistics),
        "subset": lambda: there.subset([0, 1, 2]).pixels,
        "convert": lambda: convert(pixels, 1),
        "resize_on_device": lambda: resize_on_device(pixels, boxes, boxes, (8, 8)),
        "as_pixels": lambda: as_pixels(simulation.empty(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)), 3),
        "fit_to_model": lambda: fit_to_model(pixels[:1], trained),
        "make_mask": lambda: make_mask(there.ids, (4, 4), sampling="block").keep,
        "standardise": lambda: standardise(features, features)[0],
        "patch_classes": lambda: patch_classes(semantic, 4, 5),
    }


NAMES = ["pixel_features", "subset", "convert", "resize_on_device", "as_pixels", "fit_to_model"]
NAMES += ["make_mask", "standardise", "patch_classes"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_given_on_a_gpu_stays_there(name: str, images: Images) -> None:
    trained = Pretrained(build(RECIPE, images), RECIPE, images.statistics)
    with gpu() as simulation:
        given = functions(simulation, images, trained)
        assert set(given) == set(NAMES)
        with simulation.mode:
            assert given[name]().device == GPU


def test_a_step_is_captured_on_its_own_gpu_beside_the_loaders_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that pins memory may call what a capture in the global mode forbids; and random numbers go on as if nothing had been."""
    said: list[Any] = []

    class Nothing:
        def __init__(self, *_: Any, **how: Any) -> None:
            said.extend(how.items())

        def __enter__(self) -> Nothing:
            return self

        def __exit__(self, *_: object) -> None: ...

        def wait_stream(self, other: Any) -> None: ...

    with gpu() as simulation:
        monkeypatch.setattr(cuda_graph, "on_device", lambda device: said.append(device) or Nothing())
        for name in ("Stream", "stream", "CUDAGraph", "graph", "current_stream"):
            monkeypatch.setattr(torch.cuda, name, Nothing)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: "as it was")
        monkeypatch.setattr(torch.cuda, "set_rng_state", said.append)
        model = simulation.module(nn.Linear(2, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr=torch.tensor(0.1))
        x = simulation.empty(torch.zeros(1, 2))
        with simulation.mode, torch.no_grad():
            capture(lambda given: model(given).sum(), x, model=model, optimizer=optimizer)
    assert said == [GPU, ("capture_error_mode", "thread_local"), "as it was"]


def test_a_loss_is_read_only_where_waiting_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """``all_reduce_mean`` is the one place where the loop reads from the device; it says so to torch's debug mode."""
    entered: list[torch.device] = []
    original = distributed.allow_sync
    monkeypatch.setattr(distributed, "allow_sync", lambda device: entered.append(device) or original(device))
    assert distributed.all_reduce_mean(Tensor([0.5]).sum(), 2.0, device=torch.device("cpu")) == [0.5, 2.0]
    assert entered == [torch.device("cpu")]
