"""The recipe of a fine-tuning run (paper, Tables 9 and 11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..data.mixing import Mixing
from ..model.patches import Pair
from ..train.settings import Settings
from .partial import check_blocks


@dataclass(frozen=True, kw_only=True)
class Finetune(Settings):
    """Everything that decides a fine-tuning run. The defaults suit the small networks of the book and a thousand labels."""

    batch: int = 50
    epochs: float = 30.0
    warmup_epochs: float = 5.0
    base_lr: float = 2e-2
    floor_lr: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.999)
    layer_decay: float = 0.75
    """The lr shrinks by this factor from each layer to the one below it; 1 gives every layer the same."""
    drop_path: float = 0.1
    """How often the last block is skipped in training; earlier blocks less often, the first never."""
    label_smoothing: float = 0.1
    """Share of the target that is spread over all classes."""
    crop: tuple[float, float] | None = (0.8, 1.0)
    """Share of the area that a random crop keeps; None takes the whole image."""
    flip: bool = True
    """Mirror images left to right, at random."""
    image: int | Pair | None = None
    """Height and width to train and test at, in pixels; positions are resized. None keeps those of the encoder."""
    randaugment: tuple[float, float] | None = None
    """RandAugment's magnitude, of 10, and its standard deviation: 9 0.5 in the paper."""
    erasing: float = 0.0
    """Share of the images in which a rectangle becomes noise: 0.25 in the paper."""
    mixup: float = 0.0
    """α of the share in which two images are blended: 0.8 in the paper. With cutmix too, an image takes one of the two."""
    cutmix: float = 0.0
    """α of the share of a rectangle that is pasted from another image: 1.0 in the paper."""
    mix_by: Literal["image", "batch"] = "image"
    """image: each image draws a share of its own, whatever the batch. batch: one draw for a forward pass, as the paper's authors do;
    then the result also depends on how many processes share a step."""
    ema: float | None = None
    """Decay of a moving average of the weights, evaluated instead of the last ones: 0.9999 from scratch in the paper."""
    tune: float | None = None
    """Tune only the last blocks: 0, 0.5 (the MLP of the last one), 1, 2, …; None tunes everything."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mixing and self.batch % 2:
            raise ValueError(f"mixup and cutmix pair the images of a batch, so --batch must be even, not {self.batch}")
        if self.mixing and self.repeats > 1:
            raise ValueError("mixup and cutmix would mix views of one image: leave them out, or take --repeats 1")
        if self.mix_by not in ("image", "batch"):
            raise ValueError(f"mix_by is 'image' or 'batch', not {self.mix_by!r}")
        for name in ("drop_path", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is a share of at least 0 and below 1 (0.1 in the paper), not {getattr(self, name)}")
        if not 0 <= self.erasing <= 1:
            raise ValueError(f"erasing is a share of the images between 0 and 1 (0.25 in the paper), not {self.erasing}")
        if self.randaugment is not None and not (0 <= self.randaugment[0] <= 10 and self.randaugment[1] >= 0):
            raise ValueError(f"randaugment is a magnitude between 0 and 10 and its std (9 0.5 in the paper), not {self.randaugment}")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ValueError(f"ema is a decay in [0, 1) (0.9999 in the paper), or None for no average, not {self.ema}")
        if self.tune is not None:
            check_blocks(self.tune)

    @property
    def mixing(self) -> Mixing:
        return Mixing(self.mixup, self.cutmix)
