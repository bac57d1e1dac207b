"""The linear probe as the paper trains it: random crops, a frozen encoder, one linear layer, LARS (paper, Appendix A.1 and Table 10).

:mod:`minimae.tasks.probe` is faster on small datasets: it caches features and uses no crops. Its numbers are not comparable.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.augment import augmented, normalise
from ..data.types import Batch, ImageDataset, Statistics
from ..devices import device_of
from ..model.vit import Encoder
from ..train.distributed import world
from ..train.lars import ScaledLARS
from ..train.loop import fit
from ..train.settings import Settings
from ..train.task import Result
from .evaluation import classes_of
from .finetune import FinetuneTask
from .loading import DEFAULTS, LoaderConfig


@dataclass(frozen=True, kw_only=True)
class Probe(Settings):
    """All settings of a linear probe. The defaults are those of Table 10 (betas are not used)."""

    batch: int = 16384
    epochs: float = 90.0
    warmup_epochs: float = 10.0
    base_lr: float = 0.1
    weight_decay: float = 0.0
    momentum: float = 0.9
    """LARS momentum: the share of the last update in the next one."""
    trust: float = 0.001
    """LARS: how far a weight matrix moves at a learning rate of 1, as a share of its norm."""
    pool: Literal["class", "mean"] = "class"
    """Classify the class token, or the mean of the patch tokens, after the last norm."""
    crop: tuple[float, float] | None = (0.08, 1.0)
    """Share of the area that a random crop keeps; None takes the whole image. (The paper gives no range; this is the usual one.)"""
    flip: bool = True
    """Mirror images left to right, at random."""


class FeatureNorm(nn.BatchNorm1d):
    """BatchNorm without affine (eps 1e-6) for frozen features ``b d``, with the statistics of all processes (which have equal batches).

    torch's SyncBatchNorm needs a GPU. Frozen features have no gradient, so exchanging two vectors is enough.
    """

    def __init__(self, d: int) -> None:
        super().__init__(d, affine=False, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or world().size == 1:
            return super().forward(x)
        with torch.no_grad():
            x = x.float()
            wide = x.double()  # the difference of two squares needs more digits
            moments = torch.stack([wide.mean(0), wide.square().mean(0)])
            dist.all_reduce(moments)
            mean, square = moments / world().size
            variance, count = (square - mean.square()).clamp(min=0), len(x) * world().size
            assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.float(), self.momentum)
            self.running_var.lerp_((variance * count / max(1, count - 1)).float(), self.momentum)
            return (x - mean.float()) / (variance.float() + self.eps).sqrt()


class LinearProbe(nn.Module):
    """A frozen encoder, a BatchNorm without affine, a linear layer: images ``b c height width`` → logits ``b classes``.

    The encoder stays in eval mode and gets no gradient. The BatchNorm brings features to one scale, so one learning rate suits all
    models; with accumulation its statistics are those of one forward pass.
    """

    def __init__(self, encoder: Encoder, classes: int, *, pool: str = "class") -> None:
        super().__init__()
        if pool not in ("class", "mean"):
            raise ValueError(f"the probe reads the 'class' token or the 'mean' of the patch tokens, not {pool!r}")
        self.encoder = copy.deepcopy(encoder)
        self.encoder.mask_token = None
        self.encoder.requires_grad_(False)
        self.pool = pool
        d = encoder.size.width
        self.norm = FeatureNorm(d)
        self.head = nn.Linear(d, classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def train(self, mode: bool = True) -> Any:
        """As usual, but the encoder stays in eval mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            tokens = self.encoder(images)
        c = self.encoder.size.class_tokens
        logits: Tensor = self.head(self.norm((tokens[:, :c] if self.pool == "class" else tokens[:, c:]).mean(1)))
        return logits


@dataclass
class ProbeTask(FinetuneTask):
    """The step of the linear probe: crop, flip, normalise, classify."""

    recipe: Probe  # type: ignore[assignment]
    model: LinearProbe  # type: ignore[assignment]
    kind: str = field(default="probe", init=False)

    @property
    def transform(self) -> None:
        """None: the probe does not use RandAugment."""
        return None

    def optimizer(self, lr: float) -> torch.optim.Optimizer:
        r = self.recipe
        return ScaledLARS(self.model.head.parameters(), lr, momentum=r.momentum, weight_decay=r.weight_decay, trust=r.trust)

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        assert batch.labels is not None
        images = augmented(batch, self.augmentation, seed=self.recipe.seed, size=self.image)
        return normalise(images, self.statistics), batch.labels

    def loss(self, model: nn.Module, *inputs: Tensor) -> Tensor:
        images, labels = inputs
        return F.cross_entropy(model(images), labels)


def train_probe(
    recipe: Probe, encoder: Encoder, images: ImageDataset, statistics: Statistics, out: Path | None = None, *, resume: bool = False,
    quiet: bool = False, reading: LoaderConfig = DEFAULTS,
) -> tuple[LinearProbe, Result]:  # fmt: skip
    """Train a linear layer on a frozen copy of the encoder. Its accuracy: :func:`minimae.tasks.evaluation.evaluate`."""
    torch.manual_seed(recipe.seed)
    model = LinearProbe(encoder, classes_of(images), pool=recipe.pool).to(device_of(encoder))
    task = ProbeTask(recipe, images, statistics, model, reading=reading)
    result = fit(task, recipe, out, resume=resume, quiet=quiet)
    return task.model, result
