"""minimae: masked autoencoders (He et al., arXiv 2111.06377), compact, complete and exact.

>>> import torch, minimae
>>> mae = minimae.MAE("tiny", patch=4, image=32)
>>> out = mae(torch.randn(8, 3, 32, 32), ratio=0.75)
>>> out.loss.backward()

*Sample ids*: every random choice (the mask, the crop, the flip of an image) is a function of a seed, the epoch and the id of the sample,
an integer of yours for each image. The same id gets the same mask in every batch, on every machine:

>>> mask = minimae.make_mask(ids=torch.tensor([7, 3]), grid=(8, 8), ratio=0.75, seed=0, epoch=2)
>>> torch.equal(mask.keep[1:], minimae.make_mask(torch.tensor([3]), (8, 8), epoch=2).keep)
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import Interrupted, MinimaeError
from .lazy import submodules
from .model.calls import (
    block_mask,
    drop_path,
    flops,
    grid_mask,
    grid_of,
    keep_count,
    make_mask,
    mask_from_noise,
    parameters,
    patch_loss,
    patch_statistics,
    patchify,
    random_mask,
    resize_positions,
    sincos_1d,
    sincos_2d,
    take,
    uniforms,
    unpatchify,
    user_mask,
)
from .model.decoder import Decoder
from .model.mae import MAE, MAEOutput, Pictures
from .model.masking import Mask
from .model.sizes import SIZES, Size, size
from .model.targets import NormalisedTarget, PCATarget, PixelTarget
from .model.vit import MLP, Attention, Block, Encoder
from .moved import redirect, renamed

if TYPE_CHECKING:
    from .weights import load, save

__version__ = "0.7.0"

__all__ = [
    "MAE", "MLP", "SIZES", "Attention", "Block", "Decoder", "Encoder", "Interrupted", "MAEOutput", "Mask", "MinimaeError",
    "NormalisedTarget", "PCATarget", "Pictures", "PixelTarget", "Size", "block_mask", "drop_path", "flops", "grid_mask", "grid_of",
    "keep_count", "load", "make_mask", "mask_from_noise", "parameters", "patch_loss", "patch_statistics", "patchify", "random_mask",
    "resize_positions", "save", "sincos_1d", "sincos_2d", "size", "take", "uniforms", "unpatchify", "user_mask",
]  # fmt: skip

Pictures.painted = renamed("painted", "inpainted")  # type: ignore[attr-defined]

if not TYPE_CHECKING:  # minimae.load, minimae.data.load … import what they need on first use
    __getattr__, __dir__ = submodules(__name__, __path__, hidden=redirect(), functions={"load": "weights", "save": "weights"})
