"""Train a promptable segmenter: a simulated user clicks, looks at the mask, and clicks again (Segment Anything, Section 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.augment import normalise
from ..data.objects import Objects
from ..data.optional import need
from ..data.types import Batch, Statistics
from ..devices import device_of
from ..model.patches import Pair
from ..model.sizes import Size
from ..model.vit import Encoder
from ..random import uniforms
from ..train.checkpoint import load_checkpoint, load_weights
from ..train.loop import fit
from ..train.optim import adamw, layer_groups
from ..train.order import Order
from ..train.precision import evaluating
from ..train.run import Callback
from ..train.settings import Settings, from_dict
from ..train.task import Result, Task
from .clicks import first_prompts, next_click
from .promptable import Masks, Promptable

FOCAL, DICE, QUALITY = 20.0, 1.0, 1.0  # weights of the three losses


@dataclass(frozen=True, kw_only=True)
class Prompt(Settings):
    """All settings of a promptable segmenter's training. An epoch shows every object once."""

    batch: int = 16
    epochs: float = 20.0
    warmup_epochs: float = 0.5
    base_lr: float = 4.8e-2
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float | None = 1.0
    decoder_width: int = 96
    """Channels of a token in the decoder; a multiple of its heads and of 4."""
    decoder_depth: int = 2
    """Two-way steps of the decoder."""
    decoder_heads: int = 4
    """Attention heads of the decoder."""
    image: int | Pair | None = None
    """Height and width in pixels; pictures are scaled to fit, and positions are resized. None keeps the encoder's."""
    frozen: bool = True
    """Train the decoder alone. The features of all pictures are then computed once."""
    layer_decay: float = 0.75
    """The learning rate shrinks by this factor from each layer of the encoder to the one below it; 1 gives all layers the same."""
    clicks: int = 3
    """Rounds of a step: after each, the simulated user corrects the mask that is expected to be best."""
    boxes: float = 0.25
    """Share of the objects whose first prompt is a box instead of a click."""
    flip: bool = True
    """Mirror pictures left to right, at random."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for wrong, message in (
            (self.clicks < 1, f"clicks must be at least 1, not {self.clicks}"),
            (self.decoder_depth < 1, f"decoder_depth must be at least 1, not {self.decoder_depth}"),
            (not 0 < self.layer_decay <= 1, f"layer_decay is a factor in (0, 1], not {self.layer_decay}"),
            (not 0 <= self.boxes <= 1, f"boxes is a share of the objects in [0, 1], not {self.boxes}"),
            (self.decoder_heads < 1 or self.decoder_width % self.decoder_heads or self.decoder_width % 4,
             f"decoder_width must be a multiple of decoder_heads and of 4, not {self.decoder_width} with {self.decoder_heads} heads"),
            (self.graph, "--graph cannot record the simulated user, who looks at the masks: leave it out"),
            (self.repeats > 1, "every object has prompts of its own: leave out --repeats"),
        ):  # fmt: skip
            if wrong:
                raise ValueError(message)


def mask_losses(logits: Tensor, masks: Tensor) -> Tensor:
    """20 × focal + dice of every mask: logits ``b m h w``, the truth bool ``b h w`` → ``b m``."""
    focal = need("torchvision.ops", why="the focal loss").sigmoid_focal_loss
    truth = masks[:, None].expand_as(logits).float()
    inside = logits.sigmoid()
    dice = 1 - (2 * (inside * truth).sum((2, 3)) + 1) / (inside.sum((2, 3)) + truth.sum((2, 3)) + 1)
    return FOCAL * focal(logits, truth).mean((2, 3)) + DICE * dice


def overlap(inside: Tensor, masks: Tensor) -> Tensor:
    """Intersection over union of every mask with the truth: bool ``b m h w`` and bool ``b h w`` → float32 ``b m``."""
    truth = masks[:, None]
    return (inside & truth).sum((2, 3)) / (inside | truth).sum((2, 3)).clamp(min=1)


def prompt_loss(out: Masks, masks: Tensor) -> Tensor:
    """The mean loss of a batch, at the size of the logits. Trains only the best of the three masks, but the quality of all three."""
    coarse = F.adaptive_avg_pool2d(masks.float(), (out.logits.shape[2], out.logits.shape[3])) >= 0.5
    losses = mask_losses(out.logits, coarse)
    error = (out.quality - overlap(out.logits > 0, coarse)).square().mean(1)
    return (losses.amin(1) + QUALITY * error).mean()


@dataclass
class PromptTask(Task):
    """The step: a first prompt for each object, then corrections; prompts are random by (seed, epoch, object).

    An item of the order is an object. With a frozen encoder, the features of all pictures and their mirror images are computed once.
    """

    recipe: Prompt
    dataset: Objects
    statistics: Statistics
    model: Promptable
    data: str = field(default="", kw_only=True)
    kind: str = field(default="prompt", init=False)

    def __post_init__(self) -> None:
        self.device = device_of(self.model)
        self.dataset = self.dataset.to(self.device)
        self.encoded = None
        if self.recipe.frozen:
            views = [self.dataset.pixels, self.dataset.pixels.flip(-1)][: 1 + self.recipe.flip]
            self.encoded = torch.stack([encoded(self.model, pixels, self.statistics) for pixels in views])

    def optimizer(self, lr: float) -> torch.optim.Optimizer:
        return adamw(layer_groups(self.model, self.recipe.weight_decay, self.recipe.layer_decay), lr, self.recipe.betas)

    def metadata(self) -> dict[str, Any]:
        about = {"size": asdict(self.model.encoder.size), "statistics": tuple(x.cpu() for x in self.statistics)}
        return {**about, "data": self.data or self.dataset.name, **super().metadata()}

    def loader(self, order: Order) -> Iterator[Batch]:
        """Batches whose labels are the indices of objects."""
        for index, epochs in order:
            index, objects = index.to(self.device), self.dataset
            yield Batch(objects.pixels[objects.picture[index]], index, objects.ids[index], epochs.to(self.device))

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        index, objects, seed = batch.labels, self.dataset, self.recipe.seed
        assert index is not None
        masks, mirrored = objects.masks(index), torch.zeros_like(index)
        if self.recipe.flip:
            mirrored = (uniforms(seed, "flip", batch.epochs, batch.ids, 1)[:, 0] < 0.5).long()
            masks = torch.where(mirrored[:, None, None] > 0, masks.flip(-1), masks)
        u = uniforms(seed, "prompt", batch.epochs, batch.ids, 6)
        if self.encoded is not None:
            return self.encoded[mirrored, objects.picture[index]], masks, u
        pixels = torch.where(mirrored[:, None, None, None] > 0, batch.pixels.flip(-1), batch.pixels)
        return normalise(pixels, self.statistics), masks, u

    def loss(self, model: nn.Module, *inputs: Tensor) -> Tensor:
        images, masks, u = inputs
        prompts = first_prompts(masks, u, boxes=self.recipe.boxes)
        losses = []
        for click in range(self.recipe.clicks):
            if click:
                prompts += next_click(masks, out.chosen((masks.shape[1], masks.shape[2])))  # noqa: F821  of the round before
            out: Masks = model(images, prompts)
            losses.append(prompt_loss(out, masks))
            images = out.patches
        return torch.stack(losses).mean()


@torch.no_grad()
def encoded(model: Promptable, pixels: Tensor, statistics: Statistics, *, batch: int = 100) -> Tensor:
    """Pictures uint8 ``N c height width`` of the model's size → patches ``N n d``, on the device of the model."""
    device = device_of(model)
    model.eval()
    with evaluating(device):
        return torch.cat([model.encode(normalise(part.to(device), statistics)).float() for part in pixels.split(batch)])


def promptable(recipe: Prompt, encoder: Encoder) -> Promptable:
    """A copy of an encoder with a fresh prompt decoder, whose initial weights depend on the recipe's seed alone."""
    torch.manual_seed(recipe.seed)
    decoder = {"width": recipe.decoder_width, "depth": recipe.decoder_depth, "heads": recipe.decoder_heads}
    return Promptable(encoder, **decoder, frozen=recipe.frozen, image=recipe.image).to(device_of(encoder))


def train_prompts(
    recipe: Prompt, encoder: Encoder, objects: Objects, statistics: Statistics, out: Path | None = None, *,
    resume: bool = False, quiet: bool = False, data: str = "", callbacks: Sequence[Callback] = (),
) -> tuple[Promptable, Result]:  # fmt: skip
    """Train a promptable segmenter on objects at its size (:func:`minimae.data.objects.objects_of`); the encoder is copied.

    data: the name or folder that opens these pictures again, kept with the run.
    """
    model = promptable(recipe, encoder)
    task = PromptTask(recipe, objects, statistics, model, data=data)
    result = fit(task, recipe, out, resume=resume, quiet=quiet, callbacks=callbacks)
    return task.model.eval(), result


def load_promptable(path: Path) -> tuple[Promptable, dict[str, Any]]:
    """The promptable segmenter in a run folder or checkpoint, and its settings, statistics, data and step.

    Raises MinimaeError when the file is missing, damaged or from another task.
    """
    state = load_checkpoint(path, "prompt")
    model = promptable(from_dict(Prompt, state["settings"]), Encoder(from_dict(Size, state["size"])))
    load_weights(model, state["model"], path)
    return model.eval(), {name: state[name] for name in ("settings", "statistics", "data", "step")}
