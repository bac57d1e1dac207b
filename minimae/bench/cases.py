"""One step of each model, for three tasks: pre-training, features of whole images, fine-tuning. Same images, sizes and optimiser."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import MinimaeError
from ..mae import MAE
from ..masking import keep_count, make_mask, mask_from_noise
from ..patches import pair
from ..sizes import Size, flops
from ..tasks.finetune import Classifier
from ..training.graphs import capturable, capture
from ..training.loop import autocast
from ..training.optimisers import decay_groups
from ..vit import Encoder
from . import rivals
from .timing import Step

TaskName = Literal["pretrain", "features", "finetune"]
Compiled = Literal["", "blocks", "whole"]
CLASSES = 1000


@dataclass(frozen=True, eq=False)
class Setting:
    """What all cases of a run share. images: float ``b c height width`` on the device, as after normalisation."""

    size: Size
    batch: int
    device: torch.device
    precision: str
    ratio: float = 0.75
    seed: int = 0
    images: Tensor = field(init=False)
    labels: Tensor = field(init=False)
    ids: Tensor = field(init=False)
    mae: MAE = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        height, width = pair(self.size.image)
        values = {
            "images": torch.randn(self.batch, self.size.channels, height, width).to(self.device),
            "labels": torch.randint(CLASSES, (self.batch,)).to(self.device),
            "ids": torch.arange(self.batch, device=self.device),
            "mae": MAE(self.size),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def tera(self, task: TaskName) -> float:
        """TFLOP for one image as the paper lays the model out, the same for all of them: so a rate of TFLOP/s compares like images/s."""
        cost = flops(self.size, self.ratio if task == "pretrain" else None, paper=True)
        return (cost.forward if task == "features" else cost.step) / 1e12


@dataclass(frozen=True, eq=False)
class Built:
    """A model ready to run: its step, the tensors it holds, and by how much its loss or features differ from ours (None: not compared)."""

    step: Step
    module: nn.Module
    optimiser: torch.optim.Optimizer | None = None
    difference: float | None = None

    def held(self) -> list[Tensor]:
        state = [] if self.optimiser is None else [v for s in self.optimiser.state.values() for v in s.values() if isinstance(v, Tensor)]
        return [*self.module.parameters(), *self.module.buffers(), *state]


def training(
    setting: Setting, module: nn.Module, loss_of: Callable[[], Tensor], *, usual: bool = False, graph: bool = False
) -> tuple[Step, torch.optim.Optimizer]:
    """A step: forward, backward, AdamW. The loss stays on the device.

    usual: as first implementations did it, fp16 with a scaler where a GPU may use half precision, and waiting for the loss each time.
    graph: recorded as a CUDA graph.
    """
    module.train()
    precision = "fp16" if usual and setting.device.type == "cuda" and setting.precision != "fp32" else setting.precision
    optimiser = torch.optim.AdamW(decay_groups(module, 0.05), lr=1.5e-4, betas=(0.9, 0.95), fused=True)
    scaler = torch.amp.GradScaler(setting.device.type, enabled=precision == "fp16")

    def step() -> Tensor:
        with autocast(setting.device, precision):
            loss = loss_of()
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        optimiser.zero_grad(set_to_none=True)
        return loss.detach()

    if graph:
        if precision == "fp16":
            raise MinimaeError("the scaler of fp16 is not recorded; a graph wants bf16 or fp32")
        capturable(optimiser)
        return capture(step, model=module, optimiser=optimiser), optimiser
    return (lambda: float(step())) if usual else step, optimiser


def compile_as(module: nn.Module, how: Compiled) -> None:
    """blocks: every block for itself, as the loop does; they are alike, so that is quick. whole: in one piece."""
    if how == "whole":
        module.compile()
    elif how == "blocks":
        for blocks in (part for part in module.modules() if isinstance(part, nn.ModuleList)):
            for block in blocks:
                block.compile()


def ours_pretrain(setting: Setting, *, compiled: Compiled = "", graph: bool = False) -> Built:
    """Our pre-training step, masks included: they are made on the device from (seed, epoch, sample id)."""
    model = copy.deepcopy(setting.mae).to(setting.device)
    compile_as(model, compiled)
    epoch = torch.zeros_like(setting.ids)

    def loss() -> Tensor:
        epoch.add_(1)
        mask = make_mask(setting.ids, setting.size.grid, ratio=setting.ratio, seed=setting.seed, epoch=epoch)
        value: Tensor = model(setting.images, mask).loss
        return value

    step, optimiser = training(setting, model, loss, graph=graph)
    return Built(step, model, optimiser)


def rival_pretrain(setting: Setting, make: Callable[[MAE, float], nn.Module], *, compiled: Compiled = "", usual: bool = False) -> Built:
    """A rival's pre-training step; it draws its own masks."""
    theirs = make(setting.mae, setting.ratio).to(setting.device)
    few, n = setting.images[:2], setting.size.grid[0] * setting.size.grid[1]
    noise = torch.rand(len(few), n, device=setting.device)
    with torch.no_grad():
        ours = copy.deepcopy(setting.mae).to(setting.device)
        wanted = ours(few, mask_from_noise(noise, keep_count(n, setting.ratio))).loss
        difference = float((theirs(few, noise=noise) - wanted).abs())
    compile_as(theirs, compiled)
    step, optimiser = training(setting, theirs, lambda: theirs(setting.images), usual=usual)
    return Built(step, theirs, optimiser, difference)


class Pooled(nn.Module):
    """A body that gives tokens, and the mean of its patch tokens: images → ``b d``."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.body(images)
        return tokens[:, 1:].mean(1)


def features(setting: Setting, make: Callable[[Encoder], nn.Module], *, compiled: Compiled = "") -> Built:
    """Features of whole images, without gradients."""
    model = Pooled(make(setting.mae.encoder)).to(setting.device).eval()
    difference = distance(setting, model)
    compile_as(model, compiled)

    def step() -> Tensor:
        with torch.no_grad(), autocast(setting.device, setting.precision):
            found: Tensor = model(setting.images)
        return found

    return Built(step, model, difference=difference)


def finetune(setting: Setting, make: Callable[[Encoder], nn.Module], *, compiled: Compiled = "", graph: bool = False) -> Built:
    """A step of fine-tuning on a thousand classes: the norm follows the mean of the patch tokens; no drop path in any of them."""
    classifier = Classifier(setting.mae.encoder, CLASSES)  # has no norm inside its encoder, so a copy of it has none
    body = Pooled(make(classifier.encoder))
    model = nn.Sequential(body, classifier.norm, classifier.head).to(setting.device)
    compile_as(model, compiled)
    step, optimiser = training(setting, model, lambda: F.cross_entropy(model(setting.images), setting.labels), graph=graph)
    return Built(step, model, optimiser)


@torch.no_grad()
def distance(setting: Setting, model: nn.Module) -> float:
    """The largest difference between its features and ours, in float32, on two images."""
    ours = Pooled(copy.deepcopy(setting.mae.encoder)).to(setting.device).eval()
    return float((model(setting.images[:2]) - ours(setting.images[:2])).abs().max())


OURS, TIMM, BIG = "minimae", "timm blocks", "transformers"
USUAL = f"{TIMM}, the usual loop"


def steps_of(task: TaskName) -> tuple[Callable[..., Built], dict[str, Callable[..., Built]]]:
    """How our step of a task is built, and those of the rivals by name."""
    if task == "pretrain":
        return ours_pretrain, {
            TIMM: partial(rival_pretrain, make=rivals.timm_mae),
            BIG: partial(rival_pretrain, make=rivals.transformers_mae),
        }
    build: Callable[..., Built] = features if task == "features" else finetune
    makers: dict[str, Callable[[Encoder], nn.Module]] = {TIMM: rivals.timm_encoder, BIG: rivals.transformers_encoder}
    return partial(build, make=copy.deepcopy), {name: partial(build, make=make) for name, make in makers.items()}


def cases(task: TaskName, device: torch.device, *, compiled: bool = True) -> dict[str, Callable[[Setting], Built]]:
    """The rows of a task, by name: ours first; compiled ones if asked for, graphs on a GPU."""
    ours, theirs = steps_of(task)
    rows: dict[str, Callable[[Setting], Built]] = {
        f"{OURS}, eager": ours,
        f"{OURS}, compiled": partial(ours, compiled="blocks"),
        f"{OURS}, compiled whole": partial(ours, compiled="whole"),
    }
    if task != "features":
        rows[f"{OURS}, CUDA graph"] = partial(ours, graph=True)
        rows[f"{OURS}, compiled, CUDA graph"] = partial(ours, graph=True, compiled="blocks")
    for name, build in theirs.items():
        rows[f"{name}, eager"] = build
        rows[f"{name}, compiled"] = partial(build, compiled="whole")
    if task == "pretrain":
        rows[USUAL] = partial(rival_pretrain, make=partial(rivals.timm_mae, fused=False), usual=True)
    gpu = device.type == "cuda"
    return {name: row for name, row in rows.items() if (gpu or "graph" not in name) and (compiled or "compiled" not in name)}
