"""The recipe of a pre-training run (paper, Table 8), and the model that it describes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..data.augment import Augmentation
from ..data.types import ImageDataset
from ..model.mae import MAE
from ..model.patches import Pair, pair
from ..model.sizes import Size, size
from ..model.units import predicted_count
from ..train.settings import Settings

MOST_PATCHES = 4096  # of an image whose size was not given; the paper has 196
# Fields of a Size that a recipe may change.
OVERRIDES = ("image", "patch", "width", "depth", "heads", "decoder_width", "decoder_depth", "decoder_heads", "class_tokens")


@dataclass(frozen=True, kw_only=True)
class Pretrain(Settings):
    """All settings of a pre-training run."""

    data: str = "fashion"
    """A dataset by name, or a folder of images."""
    size: str = "nano"
    """A named size; the fields below override parts of it."""
    image: int | Pair | None = None
    """Height and width in pixels, one number or two; None takes the dataset's."""
    patch: int | Pair | None = None
    """Height and width of a patch in pixels; it must divide the image."""
    width: int | None = None
    """Channels of a token in the encoder; a multiple of its heads."""
    depth: int | None = None
    """Blocks of the encoder."""
    heads: int | None = None
    """Attention heads of the encoder."""
    decoder_width: int | None = None
    """Channels of a token in the decoder."""
    decoder_depth: int | None = None
    """Blocks of the decoder."""
    decoder_heads: int | None = None
    """Attention heads of the decoder."""
    class_tokens: int | None = None
    """Class tokens: one in the paper."""
    channels: int | None = None
    """1 (grey) or 3 (colour): images are converted; None takes the dataset's."""
    init: str | None = None
    """Trained weights to start from: a name, a run, or a file, ours or another library's. The encoder must have this recipe's size."""
    init_decoder: bool = True
    """With --init, take the decoder too if it fits; otherwise it starts fresh. A line is printed."""
    ratio: float = 0.75
    """Share of the patches that are hidden, between 0 and 1."""
    sampling: Literal["random", "block", "grid"] = "random"
    """Which patches are hidden: random ones, large blocks, or all but a regular grid."""
    unit: int = 1
    """Hide or keep squares of unit × unit patches whole: 2 or 4 in a later work, Pixio."""
    predict: float = 1.0
    """Share of the hidden patches that is predicted, different ones in each epoch: faster. A third in a later work, CrossMAE."""
    target: Literal["pixels", "normalised", "pca"] = "normalised"
    """What to predict for a hidden patch: its pixels, its pixels normalised by their own mean and standard deviation, or the principal
    components of its pixels. Losses of different targets cannot be compared."""
    loss_on: Literal["masked", "all"] = "masked"
    """Compute the loss on the hidden patches, or on all."""
    mask_tokens_in_encoder: bool = False
    """Give the encoder a mask token for each hidden patch, instead of leaving these patches out: slower, and worse in the paper."""
    crop: tuple[float, float] | None = (0.2, 1.0)
    """Share of the area that a random crop keeps; None takes the whole image."""
    fixed_crop: float | None = None
    """Instead, a square crop of fixed size at a random position: its side as a share of the shorter side of the image (0.875)."""
    jitter: float = 0.0
    """How far brightness, contrast, saturation and hue move at random; 0.4 is usual, 0 is the paper's choice."""
    flip: bool = True
    """Mirror images left to right, at random."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in OVERRIDES:
            value = getattr(self, name)
            if value is not None and min(pair(value)) < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if self.predict != 1 and self.loss_on == "all":
            raise ValueError(f"loss_on='all' predicts every patch, so predict cannot be {self.predict}")
        _ = self.augmentation  # its constructor checks the fields

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(scale=self.crop, flip=self.flip, fixed=self.fixed_crop, jitter=self.jitter)

    def size_for(self, images: ImageDataset) -> Size:
        """The resolved size for these images. Without ``image`` it is their own size or, if that varies, the usual size for photographs.

        Raises ValueError when patch, image or widths do not fit together, and when ``image`` has to be given.
        """
        if self.image is not None:
            return self.size_at(self.image, images.channels)
        default = size(self.size)
        image = images.image or default.image
        if images.image is None and min(pair(image)) < 224:
            raise ValueError(f"the pictures of {images.name} have several sizes: give the model's size in pixels, for example --image 96")
        (height, width), (p1, p2) = pair(image), pair(self.patch or default.patch)
        if (count := (height // p1) * (width // p2)) > MOST_PATCHES:  # unresized photographs
            raise ValueError(
                f"images of {height}×{width} pixels would be {count:,} patches of {p1}×{p2}, too many to attend to: give the size in "
                "pixels that the model takes, for example --image 96 (or image= in the recipe)"
            )
        return self.size_at(image, images.channels)

    def size_at(self, image: int | Pair, channels: int) -> Size:
        """The resolved size for images of these pixels (unless the recipe has its own) and channels. Raises the same errors."""
        changes: dict[str, Any] = {name: value for name in OVERRIDES if (value := getattr(self, name)) is not None}
        resolved = size(self.size, **{"image": image, **changes, "channels": channels})
        predicted_count(resolved.grid, ratio=self.ratio, unit=self.unit, share=self.predict)
        return resolved

    def mae(self, size: Size) -> MAE:
        """A model of this size with the recipe's target, loss and use of mask tokens, initialised from torch's generator."""
        return MAE(size, target=self.target, loss_on=self.loss_on, mask_tokens_in_encoder=self.mask_tokens_in_encoder)
