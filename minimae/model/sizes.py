"""Named sizes, their parameters and their cost in floating-point operations (paper, Section 4 and Table 2)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from ..errors import nearest
from .checks import check_sides
from .masking import keep_count
from .patches import Pair, grid_of, pair


@dataclass(frozen=True)
class Size:
    """Widths, depths and heads of encoder and decoder; patch and image in pixels."""

    width: int
    depth: int
    heads: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int
    patch: int | Pair
    image: int | Pair
    channels: int = 3
    mlp_ratio: int = 4
    eps: float = 1e-6  # added to the variance in every LayerNorm
    class_tokens: int = 1  # the paper has one; Pixio (arXiv 2512.15715) has eight

    def __post_init__(self) -> None:
        for what, width, heads in (("encoder", self.width, self.heads), ("decoder", self.decoder_width, self.decoder_heads)):
            if heads < 1 or width % heads or width % 4:
                raise ValueError(f"{what}: the width must be a multiple of the heads and of 4, not {width} with {heads} heads")
        for what in ("depth", "decoder_depth", "channels", "class_tokens"):
            if getattr(self, what) < 1:
                raise ValueError(f"{what.replace('_', ' ')} {getattr(self, what)} must be at least 1")
        check_sides("image", self.image)
        check_sides("patch", self.patch)
        grid_of(self.image, self.patch)

    @property
    def grid(self) -> Pair:
        """Rows and columns of patches."""
        return grid_of(self.image, self.patch)

    @property
    def values(self) -> int:
        """Values in one patch: p1·p2·c."""
        return pair(self.patch)[0] * pair(self.patch)[1] * self.channels


# base, large and huge: Section 4 and Table 2 of the paper, with the decoder of Table 1 (8 blocks, 512 wide, 16 heads).
# tiny and small: the widths of DeiT (arXiv 2012.12877, Table 1), with a decoder of the same proportion.
# nano and micro are ours, for 28-pixel and 32-pixel images on two CPU cores.
SIZES = {
    "nano": Size(96, 6, 3, 64, 2, 2, patch=4, image=28, channels=1),
    "micro": Size(128, 8, 4, 96, 2, 3, patch=4, image=32),
    "tiny": Size(192, 12, 3, 128, 4, 4, patch=16, image=224),
    "small": Size(384, 12, 6, 256, 4, 8, patch=16, image=224),
    "base": Size(768, 12, 12, 512, 8, 16, patch=16, image=224),
    "large": Size(1024, 24, 16, 512, 8, 16, patch=16, image=224),
    "huge": Size(1280, 32, 16, 512, 8, 16, patch=14, image=224),
}


# Other libraries' names for the fields of a size.
ELSEWHERE = {
    "img_size": "image", "image_size": "image", "patch_size": "patch", "in_chans": "channels", "num_channels": "channels",
    "embed_dim": "width", "dim": "width", "hidden_size": "width", "num_heads": "heads", "num_layers": "depth",
    "decoder_embed_dim": "decoder_width", "decoder_dim": "decoder_width", "decoder_num_heads": "decoder_heads",
}  # fmt: skip


def size(given: Size | str, **changes: object) -> Size:
    """A named size, or a given one, with any field changed. Raises ValueError for unknown names and fields, with the nearest known one.

    >>> import minimae
    >>> minimae.size("tiny", patch=4, image=32).grid
    (8, 8)
    """
    known = [f.name for f in fields(Size)]
    for field in changes:
        if field not in known:
            near = f"; here it is {ELSEWHERE[field]!r}." if field in ELSEWHERE else nearest(field, known)
            raise ValueError(f"a size has no field {field!r}{near}")
    if isinstance(given, str) and given not in SIZES:
        raise ValueError(f"unknown size {given!r}{nearest(given, SIZES)}")
    if not isinstance(given, str | Size):
        raise ValueError(f"a size is one of {', '.join(SIZES)}, or a minimae.Size, not {given!r}")
    return replace(SIZES[given] if isinstance(given, str) else given, **changes)  # type: ignore[arg-type]


resolve = size  # for functions that have an argument of that name


@dataclass(frozen=True)
class Flops:
    """Floating-point operations for one image, matmuls only; one multiply-add is two operations."""

    encoder: int
    decoder: int
    projection: int
    other: int

    @property
    def forward(self) -> int:
        """Blocks, patch projection, decoder embedding and prediction."""
        return self.encoder + self.decoder + self.projection + self.other

    @property
    def step(self) -> int:
        """Forward and backward. No gradient flows into the pixels: three forward passes, less one patch projection."""
        return 3 * self.forward - self.projection


def block_flops(t: int, d: int, *, mlp_ratio: int = 4, queries: int | None = None) -> int:
    """One transformer block on t tokens of width d: 24·t·d² + 4·t²·d when every token is a query and the MLP is 4 wide."""
    q = t if queries is None else queries
    return 4 * t * d * d + (4 + 4 * mlp_ratio) * q * d * d + 4 * q * t * d


def flops(s: Size, ratio: float | None = 0.75, *, m: int | None = None, mask_tokens_in_encoder: bool = False, paper: bool = False) -> Flops:
    """The cost of one pre-training image.

    paper: every patch is projected and predicted, as the paper describes it. Otherwise as this package computes: only visible patches
    are projected, and only ``m`` patches (default: the masked ones) are predicted and are queries in the last decoder block.
    ``ratio=None`` counts the encoder alone on the whole image (features, probing).
    """
    n = s.grid[0] * s.grid[1]
    keep = n if ratio is None else keep_count(n, ratio)
    m = n - keep if m is None else m
    every = s.class_tokens + keep + min(m, n - keep)
    t = every if mask_tokens_in_encoder else s.class_tokens + keep
    encoder = s.depth * block_flops(t, s.width, mlp_ratio=s.mlp_ratio)
    projection = 2 * (n if paper else keep) * s.values * s.width
    if ratio is None:
        return Flops(encoder, 0, projection, 0)
    d = s.decoder_width
    decoder = (s.decoder_depth - 1) * block_flops(every, d) + block_flops(every, d, queries=None if paper else m)
    return Flops(encoder, decoder, projection, 2 * t * s.width * d + 2 * (n if paper else m) * d * s.values)


def block_parameters(d: int, mlp_ratio: int = 4) -> int:
    """Weights and biases of one block: qkv, projection, two MLP layers, two norms."""
    return (4 + 2 * mlp_ratio) * d * d + (9 + mlp_ratio) * d


def parameters(s: Size) -> tuple[int, int]:
    """Parameters of the encoder (learned), and of encoder and decoder (with both tables of fixed positions; Table 2, Section 4)."""
    n, d = s.grid[0] * s.grid[1], s.decoder_width
    encoder = s.depth * block_parameters(s.width, s.mlp_ratio) + s.width * (s.values + 1) + (2 + s.class_tokens) * s.width
    decoder = s.decoder_depth * block_parameters(d) + d * (s.width + 1) + d + 2 * d + s.values * (d + 1)
    return encoder, encoder + decoder + (1 + n) * (s.width + d)
