"""Maps of features from an encoder, for tasks that predict something at every position: segmentation, detection, prompts.

The tokens of the patches, laid out in rows and columns, are a map ``b d h w``. The images may have any size: positions are resized.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..model.patches import Pair, grid_of, pair
from ..model.vit import Encoder
from ..model.windows import in_windows
from .partial import at_image


def for_maps(encoder: Encoder, image: int | Pair | None = None) -> Encoder:
    """A copy of the encoder for images of this size, by default its own. A classifier's encoder, which has no norm, gets a fresh one."""
    encoder = at_image(encoder, encoder.size.image if image is None else image)
    encoder.mask_token = None
    if isinstance(encoder.norm, nn.Identity):  # a classifier's norm is after the mean
        encoder.norm = nn.LayerNorm(encoder.size.width, eps=encoder.size.eps)
    return encoder


def pad_to_patch(images: Tensor, patch: int | Pair) -> Tensor:
    """Add zeros at the bottom and on the right until the patch divides the height and the width. After normalisation, 0 is the mean."""
    (height, width), (p1, p2) = images.shape[-2:], pair(patch)
    return F.pad(images, (0, -width % p2, 0, -height % p1))


def spatial_maps(
    encoder: Any, images: Tensor, taps: Sequence[int] | None = None, *, window: int | None = None, full: int = 4, recompute: bool = False
) -> list[Tensor]:
    """The patch tokens as maps: images ``b c (h p1) (w p2)``, normalised → a list of ``b d h w``, one for each tap.

    encoder: :class:`minimae.Encoder` or :class:`minimae.weights.timm.TimmEncoder`. Class token and registers are left out.
    taps: after which blocks, from 0 (−1 is the last one), without the last norm. None means one map, after the last norm.
    window: all but ``full`` blocks attend within windows of this many patches on a side (:func:`minimae.model.windows.in_windows`).
    recompute: gradient checkpointing. Each block is computed again in the backward pass, so its intermediate values need no memory.
    Raises ValueError for images that the patch does not divide (see :func:`pad_to_patch`) and for blocks that do not exist.
    """
    h, w = grid_of((images.shape[-2], images.shape[-1]), encoder.size.patch)
    vit = getattr(encoder, "vit", encoder)  # timm's model inside its wrapper
    depth = len(vit.blocks)
    if not all(-depth <= tap < depth for tap in taps or ()):
        raise ValueError(f"this encoder has {depth} blocks, from 0 to {depth - 1}, and maps after {list(taps or ())} were requested")
    x, wanted, after = encoder.embed(images), {tap % depth for tap in taps or ()}, {}
    for i, block in enumerate(vit.blocks if window is None else in_windows(vit.blocks, (h, w), window, full=full)):
        x = checkpoint(block, x, use_reentrant=False) if recompute and torch.is_grad_enabled() else block(x)
        if i in wanted:
            after[i] = x
    norm = vit.fc_norm if isinstance(vit.norm, nn.Identity) and hasattr(vit, "fc_norm") else vit.norm
    tokens = [norm(x)] if taps is None else [after[tap % depth] for tap in taps]
    return [rearrange(each[:, -h * w :], "b (h w) d -> b d h w", h=h) for each in tokens]
