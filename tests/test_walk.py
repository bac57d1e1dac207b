"""The way of one image through the package: from a JPEG file to the loss of a training step."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import minimae
from minimae.data import open_images
from minimae.tasks.loading import LoaderConfig
from minimae.tasks.pretrain import Pretrain, pretrain

PACKAGE = Path(minimae.__file__).parent
STAGES = ("data", "train", "tasks", "model")  # in the order in which an image should meet them


@dataclass
class Stay:
    """One entry of one of our functions; image: whether an argument or the result held the image."""

    module: str
    name: str
    parent: Stay | None
    image: bool = False
    reads: bool = False

    @property
    def stage(self) -> int | None:
        room = self.module.split("/")[0]
        return STAGES.index(room) if room in STAGES else None


def parts(value: Any, depth: int = 3) -> Iterator[Any]:
    """A value, and what lists, dictionaries and dataclasses hold."""
    yield value
    if depth and isinstance(value, (list, tuple)):
        for item in value[:4]:
            yield from parts(item, depth - 1)
    elif depth and isinstance(value, dict):
        for item in value.values():
            yield from parts(item, depth - 1)
    elif depth and is_dataclass(value) and not isinstance(value, type):
        for one in fields(value):
            yield from parts(getattr(value, one.name, None), depth - 1)


def holds_image(values: Iterable[Any]) -> bool:
    """Bytes of a JPEG, a PIL image, or an array or tensor with at least three axes: pixels, patches, tokens."""
    for value in (part for one in values for part in parts(one)):
        if isinstance(value, (torch.Tensor, np.ndarray)) and value.ndim >= 3 and not isinstance(value, torch.nn.Parameter):
            return True
        if isinstance(value, (bytes, bytearray, memoryview)) and bytes(value[:2]) == b"\xff\xd8":
            return True
        if type(value).__module__.startswith("PIL."):
            return True
    return False


class Trace:
    """Our functions that Python enters, from one backward pass to the next: ``steps[i]`` is what happened before the i-th."""

    def __init__(self) -> None:
        self.steps: list[list[Stay]] = [[]]
        self.open: dict[int, Stay] = {}
        self.lock = threading.Lock()

    def __call__(self, frame: FrameType, event: str, value: Any) -> None:
        code = frame.f_code
        if event not in ("call", "return") or (module := self.module_of(code)) is None:
            return
        with self.lock:
            if module == "backward":
                self.steps += [[]] if event == "call" else []
            elif event == "call":
                outer = frame.f_back
                while outer is not None and id(outer) not in self.open:
                    outer = outer.f_back
                stay = Stay(module, code.co_name, None if outer is None else self.open[id(outer)])
                held = [local for name, local in frame.f_locals.items() if name != "self" or isinstance(local, torch.Tensor)]
                stay.image = holds_image(held)
                self.open[id(frame)] = stay
                self.steps[-1].append(stay)
            elif (stay := self.open.pop(id(frame), None)) is not None:
                stay.image = stay.image or holds_image([value])
                stay.reads = ".jpg" in repr([v for v in frame.f_locals.values() if isinstance(v, (str, Path))])

    @cache  # noqa: B019
    def module_of(self, code: CodeType) -> str | None:
        """The module of our package that this code is in, ``backward`` for that of torch's tensors, and None for all others."""
        path = Path(code.co_filename)
        if code.co_name == "backward" and path.name == "_tensor.py":
            return "backward"
        return str(path.relative_to(PACKAGE)) if PACKAGE in path.parents and not code.co_name.startswith("<") else None

    def run(self, job: Any) -> list[Stay]:
        """The stays of the third step, by then a usual one, beginning where a file is read."""
        threading.setprofile(self)
        sys.setprofile(self)
        try:
            job()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
        step = self.steps[2]
        start = next(stay for stay in step if stay.reads)
        while start.parent is not None and start.parent in step:
            start = start.parent
        first = step.index(start)  # a loop that prefetches reads the next image after the loss of this one
        return [stay for stay in step[first:] + step[:first] if stay.image]


@pytest.fixture
def walk(tmp_path: Path) -> list[Stay]:
    rng = np.random.default_rng(0)
    for i in range(4):  # of several sizes, so that they are not read into memory at once
        path = tmp_path / "train" / "cat" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40 + i, 3), dtype=np.uint8)).save(path)
    size: dict[str, Any] = {"image": 32, "patch": 8, "width": 24, "heads": 2, "depth": 2, "decoder_width": 24, "decoder_depth": 1}
    recipe = Pretrain(data=str(tmp_path), batch=1, epochs=1, warmup_epochs=0, decoder_heads=2, **size)
    images = open_images(tmp_path, "train")
    return Trace().run(lambda: pretrain(recipe, images, quiet=True, reading=LoaderConfig(workers=0)))


def climbs(stays: Iterable[Stay]) -> int:
    """How often the image goes back to an earlier stage than the furthest it has seen; a visit of several functions counts once."""
    furthest, back, count = 0, False, 0
    for stage in (stay.stage for stay in stays if stay.stage is not None):
        count += stage < furthest and not back
        back = stage < furthest
        furthest = max(furthest, stage)
    return count


def returns(stays: Iterable[Stay]) -> int:
    """How often the image comes back to a room that it had left."""
    rooms = [module for module, _ in groupby(stay.module for stay in stays)]
    return len(rooms) - len(set(rooms))


def test_an_image_does_not_walk_far(walk: list[Stay], capsys: pytest.CaptureFixture[str]) -> None:
    """One training step on one JPEG of a folder, run by ``pretrain`` and traced with ``sys.setprofile``.

    A *stay* is an entry of a function of ours that holds the image in an argument or in its result, as bytes, pixels, patches or tokens;
    repeated entries of one function in a row count once. *Rooms* are the modules of these functions and *names* the functions, each
    counted once. A *climb* is a return to an earlier stage (data < train < tasks < model) than the image had reached, a *return* one to a
    room that it had left. Functions that see only indices, masks or numbers do not count, and neither do comprehensions and lambdas.
    """
    stays = [next(group) for _, group in groupby(walk, key=lambda stay: (stay.module, stay.name))]
    on_the_way = [stay for stay in stays if stay.stage != STAGES.index("model")]
    found = {
        "stays": len(stays), "rooms": len({s.module for s in stays}), "climbs": climbs(stays),
        "names": len({(s.module, s.name) for s in stays}),
        "returns outside the model": returns(on_the_way), "rooms outside the model": len({s.module for s in on_the_way}),
        "names outside the model": len({(s.module, s.name) for s in on_the_way}),
    }  # fmt: skip
    with capsys.disabled():
        print("\n" + "\n".join(f"{stay.module:28}{stay.name}" for stay in stays), found, sep="\n")
    assert found["climbs"] <= 2 and found["rooms"] <= 18 and found["names"] <= 41
    assert found["rooms outside the model"] <= 11 and found["names outside the model"] <= 26
