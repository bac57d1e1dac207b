"""The recipe of a detector: how it is trained, and the sizes of its parts."""

from __future__ import annotations

from dataclasses import dataclass

from ..model.sizes import Size, flops
from ..train.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Detect(Settings):
    """All settings of a detector. The defaults suit pictures of 64 to 256 pixels on two CPU cores; COCO's are in recipes/dense.py."""

    epochs: float = 30.0
    batch: int = 8
    base_lr: float = 3.2e-2
    floor_lr: float = 1e-6
    warmup_epochs: float = 2.0
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float | None = 1.0
    layer_decay: float = 0.75
    """The learning rate shrinks by this factor from each layer of the encoder to the one below it; 1 gives all layers the same."""
    drop_path: float = 0.0
    """How often the last block is skipped in training; earlier blocks less often, the first never."""
    frozen: bool = False
    """Train only the pyramid and the heads, with a frozen encoder."""
    image: int = 128
    """Side in pixels of the square into which every picture is fitted: a multiple of twice the largest stride."""
    scale: tuple[float, float] = (0.5, 1.5)
    """Range of a random scale in training: at 1 a picture just fits into the square; larger ones are cropped, smaller ones padded."""
    flip: bool = True
    """Mirror images left to right, at random."""
    window: int | None = None
    """Patches on a side of the windows within which most blocks attend; None is full attention in every block."""
    full: int = 4
    """How many blocks attend to the whole picture when there are windows, evenly spaced; the others stay within windows."""
    recompute: bool = False
    """Gradient checkpointing: compute each block again in the backward pass, for a third more time and a fraction of the memory."""
    finest: int = 4
    """Stride in pixels of the finest map of the pyramid."""
    levels: int = 3
    """Maps of the pyramid, each of half the resolution of the one before; one more, coarser, is for proposals only."""
    channels: int = 64
    """Channels of these maps, and of the mask head."""
    anchors: float = 4.0
    """Side of the anchor boxes on a map, in strides of the map."""
    proposal_convs: int = 1
    """Convolutions in front of the proposals."""
    box_convs: int = 0
    """Convolutions of the box head; 0 means two linear layers; otherwise one follows."""
    box_width: int = 128
    """Width of these layers."""
    proposals: int = 100
    """Number of boxes that the first stage passes to the heads."""
    rois: int = 64
    """How many of these boxes train the heads, for each picture."""
    detections: int = 100
    """Largest number of objects predicted in a picture; COCO's protocol counts at most 100."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for wrong, message in (
            (self.repeats != 1 or self.graph, "a detector needs --repeats 1 and no --graph, because the number of objects varies"),
            (not 0 <= self.drop_path < 1, f"drop_path is a share in [0, 1), not {self.drop_path}"),
            (not 0 < self.layer_decay <= 1, f"layer_decay is a factor in (0, 1], not {self.layer_decay}"),
            (not 0 < self.scale[0] <= self.scale[1], f"scale takes two positive numbers, the smaller first (0.5 1.5), not {self.scale}"),
            (self.window is not None and self.window < 1, f"a window has at least one patch on a side, not {self.window}"),
            (self.finest < 1 or self.finest & (self.finest - 1), f"finest is a stride in pixels, a power of two, not {self.finest}"),
            (min(self.levels, self.channels, self.proposals, self.rois, self.detections) < 1,
             "levels, channels, proposals, rois and detections must be at least 1"),
        ):  # fmt: skip
            if wrong:
                raise ValueError(message)
        if self.image < 1 or self.image % self.coarsest:
            raise ValueError(f"image must be a multiple of {self.coarsest} pixels, not {self.image}")

    @property
    def strides(self) -> list[int]:
        """The strides of the pyramid's maps, in pixels."""
        return [self.finest * 2**level for level in range(self.levels)]

    @property
    def coarsest(self) -> int:
        """The stride of the extra map for proposals."""
        return 2 * self.strides[-1]

    def step_flops(self, size: Size) -> int:
        """Operations of the encoder for a training picture: three forward passes, or one if it is frozen. The heads are not counted."""
        encoder, (h, w), d = flops(size, None), size.grid, size.width
        s, t = self.window or max(h, w), 1 + h * w
        inside = -(-h // s) * -(-w // s) * s**2 * (1 + s**2)  # pairs of tokens that attend to each other in windows
        saved = 0 if self.window is None else (size.depth - self.full) * 4 * d * (t**2 - inside)
        return encoder.forward - saved if self.frozen else encoder.step - 3 * saved
