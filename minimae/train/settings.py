"""Settings of every training run, whatever its task."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from ..errors import nearest

Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The part of a recipe that the loop reads. Learning rates are base rates: per 256 images of an optimizer step."""

    epochs: float = 100.0
    """How often each training image is seen, on average."""
    batch: int = 256
    """Images per forward pass of one process."""
    repeats: int = 1
    """Views of each image that is read, side by side in the batch: each has its own crop and mask. It saves reading, not computing."""
    accumulate: int = 1
    """Forward passes per optimizer step."""
    base_lr: float = 1.5e-4
    """Peak learning rate × 256 / (batch × accumulate × processes)."""
    floor_lr: float = 0.0
    """Where the cosine ends."""
    warmup_epochs: float = 10.0
    """Epochs of linear warm-up."""
    weight_decay: float = 0.05
    """How strongly weights are pulled towards zero; biases and norms are exempt."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay rates of AdamW's two moments."""
    clip: float | None = None
    """Gradients are clipped to this norm; None does not clip. The norm is logged either way."""
    precision: Precision = "auto"
    """auto is bf16 autocast on a GPU with bf16 units, fp16 with a loss scaler on an older one, float32 elsewhere."""
    compile: bool = False
    """Compile the blocks with torch.compile."""
    graph: bool = False
    """Record a step as a CUDA graph and replay it: for small models on a GPU, where launching kernels takes longer than running them."""
    shard: bool = False
    """Under torchrun: FSDP2 (each process holds a part of the model) instead of DDP (each holds a copy)."""
    wandb: str | None = None
    """A project at Weights & Biases to send the metrics to, if wandb is installed."""
    threads: int | None = None
    """Threads of a CPU; by default one for a small model, and all cores for a larger one (fewer when other programs need them)."""
    seed: int = 0
    """Seed of the initial weights, the order of the images, masks and crops: the same seed gives the same run."""
    log_every: int = 20
    """Optimizer steps between two lines of metrics.jsonl."""
    save_every: float = 60.0
    """Seconds between two checkpoints; longer if saving takes more than a twentieth of that time. 0 saves after every step."""
    keep: int = 2
    """How many of the last checkpoints are kept."""
    keep_every: float | None = None
    """Also keep a checkpoint for good every this many epochs."""
    profile: bool = False
    """Profile a few early steps with torch.profiler; ui.perfetto.dev shows the trace.json in the folder of the run."""

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{f.name} must be a finite number, not {value}")
        for name in ("epochs", "batch", "repeats", "accumulate", "base_lr", "log_every", "keep"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0, not {getattr(self, name)}")
        for name in ("floor_lr", "warmup_epochs", "weight_decay", "save_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        refusals = {
            f"seed must be a whole number of 64 bits, from -2^63 to 2^63 - 1, not {self.seed}": not -(2**63) <= self.seed < 2**63,
            f"keep_every is a number of epochs above 0, or None to keep the last ones only, not {self.keep_every}":
                self.keep_every is not None and not self.keep_every > 0,
            f"threads must be at least 1, or None to let minimae choose, not {self.threads}": self.threads is not None and self.threads < 1,
            f"betas are two numbers from 0 to below 1 (0.9 0.95), not {self.betas}": not all(0 <= beta < 1 for beta in self.betas),
            f"clip must be greater than 0, or None for no clipping, not {self.clip}": self.clip is not None and not self.clip > 0,
            f"a warm-up of {self.warmup_epochs} epochs does not fit into {self.epochs} epochs: give a shorter --warmup-epochs too":
                self.warmup_epochs > self.epochs,
            f"a batch of {self.batch} cannot be filled with {self.repeats} views of each image: it must be a multiple":
                self.batch % self.repeats != 0,
            "--graph records a whole step: it needs --accumulate 1, --precision bf16 or fp32, and no --shard":
                self.graph and (self.accumulate > 1 or self.precision == "fp16" or self.shard),
            "fp16 with its loss scaler does not go with --shard: take --precision bf16 or fp32": self.shard and self.precision == "fp16",
            f"unknown precision {self.precision!r}; choose one of {', '.join(get_args(Precision))}":
                self.precision not in get_args(Precision),
        }  # fmt: skip
        for message, refused in refusals.items():
            if refused:
                raise ValueError(message)

    def images_per_step(self, processes: int = 1) -> int:
        """Images of an optimizer step: batch × accumulate × processes."""
        return self.batch * self.accumulate * processes

    def steps(self, images: int, processes: int = 1) -> int:
        """Optimizer steps on a set of this many images. Raises ValueError when one step needs more images than there are."""
        window = self.images_per_step(processes)
        if window > images:
            parts = " × ".join(str(n) for n in (self.batch, self.accumulate, processes)[: 3 if processes > 1 else 2])
            raise ValueError(
                f"one optimizer step takes {parts} = {window} images, but there are only {images}: "
                f"lower --batch or --accumulate until their product is at most {images}"
            )
        return max(1, round(self.epochs * images / window))


def from_dict(cls: type, values: dict[str, Any]) -> Any:
    """A recipe read from JSON: lists become tuples. Unknown fields are an error."""
    known = {f.name for f in fields(cls)}
    for name in values:
        if name not in known:
            raise ValueError(f"{cls.__name__} has no field {name!r}{nearest(name, known)}")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
