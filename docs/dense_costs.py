"""Memory and time of segmentation, detection and prompts, as docs/dense.md gives them: python docs/dense_costs.py

Memory is what a training step keeps for the backward pass, without weights; time is processor time of one core. Nothing is read: the
pictures are random, and hold one square object each.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import minimae
from minimae import Encoder
from minimae.data.objects import Objects
from minimae.tasks.detect import Detect, Detector
from minimae.tasks.prompt import Prompt, PromptTask, promptable
from minimae.tasks.segmenter import Segmenter

STATISTICS = torch.full((3,), 0.45), torch.full((3,), 0.26)
MIB = 2**20


def kept(model: nn.Module, forward: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """MiB that a forward pass keeps for the backward pass, every storage once and without parameters; and its result."""
    weights, sizes = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        result = forward()
    return sum(sizes.values()) / MIB, result


def seconds(step: Callable[[], Any], repeats: int = 3) -> float:
    """Processor time of a step: the least of some, after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        started = time.process_time()
        step()
        times.append(time.process_time() - started)
    return min(times[1:])


def segmentation() -> None:
    """Encoders of 512 pixels with heads of 150 classes, without the logits at full size."""
    for name in ("tiny", "base"):
        encoder = Encoder(minimae.size(name, image=512))
        for head in ("mask", "linear"):
            for recompute in (False, True):
                model = Segmenter(encoder, 150, head=head, recompute=recompute).train()  # type: ignore[arg-type]
                memory, _ = kept(model, lambda model=model: model(torch.randn(1, 3, 512, 512)))  # type: ignore[misc]
                print(f"segment: {name}, {head} head, recompute {recompute}: {memory:.0f} MiB", flush=True)
    encoder = Encoder(minimae.size("tiny", image=256))
    models = [Segmenter(encoder, 150, recompute=recompute).train() for recompute in (False, True)]
    times = [seconds(lambda model=model: model(torch.randn(1, 3, 256, 256)).mean().backward()) for model in models]  # type: ignore[misc]
    print(f"segment: tiny at 256 px with recompute takes {times[1] / times[0]:.2f} times as long", flush=True)


def detection() -> None:
    """Six blocks, 96 wide, patch 8, and the size of photos-tiny; the default heads; two pictures with an object each."""
    small = [("nano", 8, 64, None, False), ("nano", 8, 128, None, False), ("tiny", 4, 128, None, False), ("tiny", 4, 128, 8, False)]
    large = [("nano", 8, 512, window, recompute) for window in (None, 14) for recompute in (False, True)]
    for name, patch, image, window, recompute in small + large:
        recipe = Detect(image=image, window=window, full=2, recompute=recompute)
        torch.manual_seed(0)
        model = Detector(Encoder(minimae.size(name, image=image, patch=patch, channels=3)), 1, STATISTICS, recipe).train()
        mask = torch.zeros(1, image, image, dtype=torch.uint8)
        mask[:, image // 4 : image // 2, image // 4 : image // 2] = 1
        box = torch.tensor([[image / 4, image / 4, image / 2, image / 2]])
        target = {"boxes": box, "labels": torch.ones(1, dtype=torch.int64), "masks": mask}

        def step(model: Any = model, image: int = image, target: Any = target) -> Tensor:
            losses: dict[str, Tensor] = model([torch.rand(3, image, image) for _ in range(2)], [target, target])
            return torch.stack(list(losses.values())).sum()

        memory, _ = kept(model, step)
        took = seconds(lambda: step().backward())
        what = f"{name}, patch {patch}, {image} px, window {window}, recompute {recompute}"
        print(f"detect: {what}: {took / 2:.2f} s and {memory / 2:.0f} MiB a picture", flush=True)


def prompts() -> None:
    """Steps of three clicks on four objects."""
    small = minimae.size("nano", depth=4, image=64, patch=8, channels=3)
    for size in (small, minimae.size("tiny")):
        side = int(size.image)  # type: ignore[arg-type]
        for frozen in (True, False):
            recipe = Prompt(batch=4, frozen=frozen)
            model = promptable(recipe, Encoder(size)).train()
            maps = torch.zeros(4, side, side, dtype=torch.int16)
            maps[:, side // 4 : side // 2, side // 4 : side // 2] = 1
            pixels, four = torch.randint(0, 256, (4, 3, side, side), dtype=torch.uint8), torch.arange(4)
            objects = Objects(name="squares", pixels=pixels, maps=maps, picture=four, number=torch.ones_like(four), ids=four)
            task = PromptTask(recipe, objects, STATISTICS, model)
            inputs = task.inputs(next(iter(task.loader(iter([(four, 0 * four)])))))  # type: ignore[arg-type]
            model.train()
            memory, _ = kept(model, lambda: task.loss(model, *inputs))  # noqa: B023
            took = seconds(lambda: task.loss(model, *inputs).backward())  # noqa: B023
            what = f"{size.width} wide, {side} px, {'frozen' if frozen else 'trained'}"
            print(f"prompt: {what}: {memory / 4:.1f} MiB and {1000 * took / 4:.0f} ms an object", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    segmentation()
    detection()
    prompts()
