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
    """All settings of a fine-tuning run. The defaults suit the small networks of the book and a thousand labels."""

    batch: int = 50
    epochs: float = 30.0
    warmup_epochs: float = 5.0
    base_lr: float = 2e-2
    floor_lr: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.999)
    layer_decay: float = 0.75
    """The learning rate shrinks by this factor from each layer to the one below it; 1 gives all layers the same."""
    drop_path: float = 0.1
    """How often the last block is skipped in training; earlier blocks less often, the first never."""
    label_smoothing: float = 0.1
    """Share of the target that is spread evenly over all classes."""
    crop: tuple[float, float] | None = (0.8, 1.0)
    """Share of the area that a random crop keeps; None takes the whole image."""
    flip: bool = True
    """Mirror images left to right, at random."""
    image: int | Pair | None = None
    """Height and width of images in training and evaluation, in pixels; positions are resized. None keeps the encoder's."""
    randaugment: tuple[float, float] | None = None
    """RandAugment's magnitude (0 to 10) and its standard deviation: 9 0.5 in the paper."""
    erasing: float = 0.0
    """Share of the images in which a rectangle becomes noise: 0.25 in the authors' code."""
    mixup: float = 0.0
    """α of mixup, which blends two images: 0.8 in the paper. With cutmix too, each image gets one of the two."""
    cutmix: float = 0.0
    """α of cutmix, which pastes a rectangle of another image: 1.0 in the paper."""
    mix_by: Literal["image", "batch"] = "image"
    """image: each image has its own random share, whatever the batch. batch: one share for a forward pass, as in the authors' code; the
    result then depends on the number of processes too."""
    ema: float | None = None
    """Decay of a moving average of the weights, which is evaluated instead of them: 0.9999 from scratch in the paper."""
    tune: float | None = None
    """Train only the last blocks: 0, 0.5 (the MLP of the last one), 1, 2, …; None trains everything."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for wrong, message in (
            (self.mixing and self.batch % 2, f"mixup and cutmix pair the images of a batch, so --batch must be even, not {self.batch}"),
            (self.mixing and self.repeats > 1, "mixup and cutmix would mix views of one image: leave them out, or take --repeats 1"),
            (self.mix_by not in ("image", "batch"), f"mix_by is 'image' or 'batch', not {self.mix_by!r}"),
            (not 0 <= self.drop_path < 1, f"drop_path is a share in [0, 1) (0.1 in the paper), not {self.drop_path}"),
            (not 0 < self.layer_decay <= 1, f"layer_decay is a factor in (0, 1] (0.75 in the paper), not {self.layer_decay}"),
            (not 0 <= self.label_smoothing < 1, f"label_smoothing is a share in [0, 1) (0.1 in the paper), not {self.label_smoothing}"),
            (not 0 <= self.erasing <= 1, f"erasing is a share of the images in [0, 1] (0.25 in the authors' code), not {self.erasing}"),
            (self.ema is not None and not 0 <= self.ema < 1, f"ema is a decay in [0, 1) (0.9999 in the paper), or None, not {self.ema}"),
        ):
            if wrong:
                raise ValueError(message)
        if self.randaugment is not None and not (0 <= self.randaugment[0] <= 10 and self.randaugment[1] >= 0):
            raise ValueError(f"randaugment is a magnitude between 0 and 10 and its std (9 0.5 in the paper), not {self.randaugment}")
        if self.tune is not None:
            check_blocks(self.tune)

    @property
    def mixing(self) -> Mixing:
        return Mixing(self.mixup, self.cutmix)
