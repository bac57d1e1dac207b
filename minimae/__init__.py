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

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

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
from .moved import redirect

if TYPE_CHECKING:
    from .tasks.finetune import Classifier
    from .tasks.pretrain import Pretrained
    from .weights import Classified


def load(source: str | Path | Mapping[str, Any] | nn.Module, **options: Any) -> Pretrained | Classified:
    """Trained weights: by name, shipped ("fashion-nano") or the authors' ("mae-base", fetched); from a run; or another library's.

    source: a name, a file, a folder, tensors by name, or a live model of timm or Hugging Face transformers.

    → a :class:`minimae.tasks.pretrain.Pretrained` (model, recipe, statistics; ``features(images)``), or a
    :class:`minimae.weights.Classified`. options: see :func:`minimae.weights.load`. Never runs code from a file. Raises MinimaeError.
    """
    from .weights.registry import load_any

    return load_any(source, **options)


def save(model: MAE | Classifier | Pretrained | Classified, path: str | Path, *, statistics: Any = None, **about: Any) -> Path:
    """Keep a model from a loop of your own for :func:`load`: ``minimae.save(mae, "mine.safetensors", statistics=images.statistics)``.

    statistics: mean and standard deviation of each channel, by which the images were normalised. about: ratio and data of a MAE, classes
    of a classifier. → the path. Raises ValueError for what does not fit, MinimaeError when the file cannot be written.
    """
    from .weights.registry import save as write

    return write(model, path, statistics=statistics, **about)


__version__ = "0.6.0"

__all__ = [
    "MAE",
    "MLP",
    "SIZES",
    "Attention",
    "Block",
    "Decoder",
    "Encoder",
    "Interrupted",
    "MAEOutput",
    "Mask",
    "MinimaeError",
    "NormalisedTarget",
    "PCATarget",
    "Pictures",
    "PixelTarget",
    "Size",
    "block_mask",
    "drop_path",
    "flops",
    "grid_mask",
    "grid_of",
    "keep_count",
    "load",
    "make_mask",
    "mask_from_noise",
    "parameters",
    "patch_loss",
    "patch_statistics",
    "patchify",
    "random_mask",
    "resize_positions",
    "save",
    "sincos_1d",
    "sincos_2d",
    "size",
    "take",
    "uniforms",
    "unpatchify",
    "user_mask",
]

if not TYPE_CHECKING:  # minimae.data.load(…) and the like, without importing the submodule first
    __getattr__, __dir__ = submodules(__name__, __path__, hidden=redirect())
