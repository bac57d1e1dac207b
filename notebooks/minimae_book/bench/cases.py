"""One step of each model, for three tasks: pre-training, features of whole images, fine-tuning. Same images, sizes and optimizer.

Training is timed in the real loop, :func:`minimae.train.loop.fit`, from uint8 pixels to the update. The rivals' models replace ours
in the same task. Only the rows named "the usual loop" differ.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from minimae.data.augment import normalise
from minimae.data.images import Images
from minimae.model.mae import MAE
from minimae.model.masking import keep_count, mask_from_noise
from minimae.model.patches import pair
from minimae.model.sizes import Size, flops
from minimae.model.vit import Encoder
from minimae.tasks.finetune import Classifier, Finetune
from minimae.tasks.pretrain import Pretrain, PretrainTask
from minimae.train.distributed import blocks_of
from minimae.train.order import from_step
from minimae.train.precision import autocast
from minimae.train.task import exact_inputs

from . import rivals
from .running import Pooled, RivalTask, Running, Sized, Tuned, TunedTask
from .timing import Step

TaskName = Literal["pretrain", "features", "finetune"]
Compiled = Literal["", "blocks", "whole"]
CLASSES = 1000


@dataclass(frozen=True, eq=False)
class Setting:
    """What all cases of a run share. source: two batches of uint8 noise on the device, with labels."""

    size: Size
    batch: int
    device: torch.device
    precision: str
    ratio: float = 0.75
    seed: int = 0
    source: Images = field(init=False)
    mae: MAE = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        pixels = torch.randint(0, 256, (2 * self.batch, self.size.channels, *pair(self.size.image)), dtype=torch.uint8)
        labels = torch.randint(CLASSES, (2 * self.batch,))
        source = Images("noise", pixels, labels, tuple(map(str, range(CLASSES)))).to(self.device)
        for name, value in {"source": source, "mae": MAE(self.size)}.items():
            object.__setattr__(self, name, value)

    @property
    def statistics(self) -> tuple[Tensor, Tensor]:
        mean, std = self.source.statistics
        return mean.to(self.device), std.to(self.device)

    def images(self, count: int) -> Tensor:
        """The first images, normalised: float ``count c height width`` on the device."""
        return normalise(self.source.pixels[:count], self.statistics)

    def settings(self, kind: type[Any], *, compiled: Compiled, graph: bool) -> Any:
        """The recipe of a training task: the defaults of its kind, with endless epochs."""
        threads = torch.get_num_threads() if self.device.type == "cpu" else None
        how: dict[str, Any] = {"batch": self.batch, "precision": self.precision, "seed": self.seed, "threads": threads, "graph": graph}
        how |= {"ratio": self.ratio} if kind is Pretrain else {}
        return kind(**how, compile=compiled == "blocks", epochs=1e9, warmup_epochs=0.0, base_lr=1.5e-4)

    def tera(self, task: TaskName) -> float:
        """TFLOP for one image in the paper's layout, the same for all models, so TFLOP/s compare like images/s."""
        cost = flops(self.size, self.ratio if task == "pretrain" else None, paper=True)
        return (cost.forward if task == "features" else cost.step) / 1e12


@dataclass(frozen=True, eq=False)
class Built:
    """A model ready to run: its step, the tensors it holds, and how far its loss or features differ from ours (None: not compared)."""

    step: Step
    module: nn.Module
    optimizer: torch.optim.Optimizer | None = None
    difference: float | None = None

    def close(self) -> None:
        """End the run, if there is one."""
        if isinstance(self.step, Running):
            self.step.close()

    def held(self) -> list[Tensor]:
        state = [] if self.optimizer is None else [v for s in self.optimizer.state.values() for v in s.values() if isinstance(v, Tensor)]
        return [*self.module.parameters(), *self.module.buffers(), *state]


def running(task: Any, module: nn.Module) -> Built:
    """A task in our loop."""
    step = Running(task, task.recipe)
    return Built(step, module, step.optimizer)


def compile_whole(module: nn.Module, how: Compiled) -> None:
    """Compile the whole model. (The loop compiles blocks one by one, which is quick because they are alike.)"""
    if how == "whole":
        module.compile()


def ours_pretrain(setting: Setting, *, compiled: Compiled = "", graph: bool = False) -> Built:
    """Our pre-training, masks included: they are made on the device from (seed, epoch, sample id)."""
    model = copy.deepcopy(setting.mae).to(setting.device)
    compile_whole(model, compiled)
    return running(PretrainTask(setting.settings(Pretrain, compiled=compiled, graph=graph), setting.source, model), model)


def rival_pretrain(setting: Setting, make: Callable[[MAE, float], nn.Module], *, compiled: Compiled = "", usual: bool = False) -> Built:
    """A rival's pre-training; it draws its own masks."""
    theirs = make(setting.mae, setting.ratio).to(setting.device)
    few, n = setting.images(2), setting.size.grid[0] * setting.size.grid[1]
    noise = torch.rand(len(few), n, device=setting.device)
    with torch.no_grad():
        ours = copy.deepcopy(setting.mae).to(setting.device)
        wanted = ours(few, mask_from_noise(noise, keep_count(n, setting.ratio))).loss
        difference = float((theirs(few, noise=noise) - wanted).abs())
    compile_whole(theirs, compiled)
    recipe = setting.settings(Pretrain, compiled="", graph=False)
    task = RivalTask(recipe, setting.source, Sized(theirs, setting.size))  # type: ignore[arg-type]
    built = usual_loop(setting, task, theirs) if usual else running(task, theirs)
    return replace(built, difference=difference)


def usual_loop(setting: Setting, task: PretrainTask, module: nn.Module) -> Built:
    """As in early implementations: fp16 with a scaler on a GPU in half precision, and a wait for the loss in each step."""
    module.train()
    precision = "fp16" if setting.device.type == "cuda" and setting.precision != "fp32" else setting.precision
    optimizer = task.optimizer(1.5e-4)
    scaler = torch.amp.GradScaler(setting.device.type, enabled=precision == "fp16")
    batches = task.loader(from_step(0, task.recipe, task.images))

    def step() -> float:
        inputs = exact_inputs(task, next(batches))
        with autocast(setting.device, precision):
            loss = task.loss(task.model, *inputs)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return Built(step, module, optimizer)


def features(setting: Setting, make: Callable[[Encoder], nn.Module], *, compiled: Compiled = "") -> Built:
    """Features of whole images from their pixels, without gradients."""
    model = Pooled(make(setting.mae.encoder)).to(setting.device).eval()
    difference = distance(setting, model)
    if compiled == "blocks":
        for block in blocks_of(model):
            block.compile()
    compile_whole(model, compiled)
    statistics = setting.statistics

    def step() -> Tensor:
        images = normalise(setting.source.pixels[: setting.batch], statistics)
        with torch.no_grad(), autocast(setting.device, setting.precision):
            found: Tensor = model(images)
        return found

    return Built(step, model, difference=difference)


def finetune(setting: Setting, make: Callable[[Encoder], nn.Module] | None, *, compiled: Compiled = "", graph: bool = False) -> Built:
    """Fine-tuning on a thousand classes: the norm follows the mean of the patch tokens; no drop path. None stands for our model."""
    classifier = Classifier(setting.mae.encoder, CLASSES)  # its encoder has no norm, so a copy has none
    model: Any = (classifier if make is None else Tuned(make(classifier.encoder), classifier)).to(setting.device)
    compile_whole(model, compiled)
    recipe = setting.settings(Finetune, compiled=compiled, graph=graph)
    return running(TunedTask(recipe, setting.source, setting.statistics, model), model)


@torch.no_grad()
def distance(setting: Setting, model: nn.Module) -> float:
    """The largest difference between its features and ours, in float32, on two images."""
    ours = Pooled(copy.deepcopy(setting.mae.encoder)).to(setting.device).eval()
    images = setting.images(2)
    return float((model(images) - ours(images)).abs().max())


OURS, TIMM, BIG = "minimae", "timm blocks", "transformers"
DEFAULTS = f"{TIMM}, the usual loop"


def steps_of(task: TaskName) -> tuple[Callable[..., Built], dict[str, Callable[..., Built]]]:
    """How our step of a task is built, and those of the rivals, by name."""
    if task == "pretrain":
        return ours_pretrain, {
            TIMM: partial(rival_pretrain, make=rivals.timm_mae),
            BIG: partial(rival_pretrain, make=rivals.transformers_mae),
        }
    build: Callable[..., Built] = features if task == "features" else finetune
    own: Any = copy.deepcopy if task == "features" else None
    makers: dict[str, Callable[[Encoder], nn.Module]] = {TIMM: rivals.timm_encoder, BIG: rivals.transformers_encoder}
    return partial(build, make=own), {name: partial(build, make=make) for name, make in makers.items()}


def cases(task: TaskName, device: torch.device, *, compiled: bool = True, quick: bool = False) -> dict[str, Callable[[Setting], Built]]:
    """The rows of a task, by name: ours first; compiled ones on request, graphs on a GPU. quick: leave out models compiled as a whole."""
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
        rows[DEFAULTS] = partial(rival_pretrain, make=partial(rivals.timm_mae, fused=False), usual=True)
    gpu = device.type == "cuda"
    if quick:  # blocks are alike, so compiling one of them is enough; the rivals are compiled as a whole
        rows = {name: row for name, row in rows.items() if "whole" not in name and ("compiled" not in name or name.startswith(OURS))}
    return {name: row for name, row in rows.items() if (gpu or "graph" not in name) and (compiled or "compiled" not in name)}
