"""The masked autoencoder: encode the visible patches, predict the masked ones, compute the loss (paper, Figure 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .checks import check_shape, checked_mask
from .decoder import Decoder
from .masking import Mask, make_mask, take
from .patches import Pair, grid_of, patchify, unpatchify
from .sizes import Size, resolve
from .targets import TARGETS, patch_loss
from .vit import Encoder


@dataclass(frozen=True, eq=False)
class MAEOutput:
    """One forward pass.

    loss: scalar. predicted: ``b m values``, or ``b n values`` when the loss is on all patches. patch_losses: ``b m`` or ``b n``.
    mask: the one used. latent: ``b t d``.
    """

    loss: Tensor
    predicted: Tensor
    patch_losses: Tensor
    mask: Mask
    latent: Tensor


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images ``b c height width`` of a reconstruction, in the units of the input.

    masked: masked patches set to 0 (the dataset's mean). predicted: predictions everywhere.
    inpainted: predictions in the masked patches and the original in the visible ones, which are not trained.
    """

    original: Tensor
    masked: Tensor
    inpainted: Tensor
    predicted: Tensor


class MAE(nn.Module):
    """An asymmetric encoder and decoder, trained by filling in masked patches: ``MAE("tiny", patch=4, image=32)``.

    size: a Size or its name; further keywords change its fields. target: pixels, normalised (the paper's best) or pca.
    loss_on: masked (the paper's) or all. mask_tokens_in_encoder: the ablation of Table 1c. Images are float and normalised.
    """

    def __init__(
        self, size: Size | str, *, target: str = "normalised", loss_on: str = "masked", mask_tokens_in_encoder: bool = False, **changes: Any
    ) -> None:
        super().__init__()
        size = resolve(size, **changes)
        if target not in TARGETS:
            raise ValueError(f"unknown target {target!r}; choose one of {', '.join(TARGETS)}")
        if loss_on not in ("masked", "all"):
            raise ValueError(f"the loss is taken on 'masked' or on 'all' patches, not on {loss_on!r}")
        self.size, self.loss_on = size, loss_on
        self.target = TARGETS[target](size.values)
        self.encoder = Encoder(size, mask_tokens=mask_tokens_in_encoder)
        self.decoder = Decoder(size, values=self.target.values, mask_token=not mask_tokens_in_encoder)

    def grid(self, images: Tensor) -> Pair:
        """Rows and columns of patches in these images."""
        check_shape(images, self.size.channels)
        return grid_of((images.shape[-2], images.shape[-1]), self.size.patch)

    def draw(self, images: Tensor, *, ratio: float = 0.75, ids: Tensor | None = None, seed: int | None = None, epoch: int = 0) -> Mask:
        """A random mask, a new one at every call unless ids or a seed fix it (see :func:`make_mask`)."""
        grid, fresh = self.grid(images), 0 if ids is not None else int(torch.randint(2**62, ()))
        ids = torch.arange(len(images), device=images.device) if ids is None else ids
        return make_mask(ids, grid, ratio=ratio, seed=fresh if seed is None else seed, epoch=epoch)

    def forward(self, images: Tensor, mask: Mask | None = None, **options: Any) -> MAEOutput:
        """Images ``b c height width`` and a mask, or options of :meth:`draw` → the loss and all intermediate results (Section 3)."""
        mask = self.draw(images, **options) if mask is None else checked_mask(mask, options)
        every = self.loss_on == "all"
        latent = self.encoder(images, mask)
        predicted = self.decoder(latent, mask, grid=self.grid(images), every=every)
        patches = patchify(images, self.size.patch)
        target = self.target(patches if every else take(patches, mask.masked))
        losses = patch_loss(predicted, target)
        return MAEOutput(losses.mean(), predicted, losses, mask, latent)

    def reconstruct(self, images: Tensor, mask: Mask | None = None, **options: Any) -> Pictures:
        """Images and a mask, or options of :meth:`draw` → reconstructions (Figures 2 to 4)."""
        mask = self.draw(images, **options) if mask is None else checked_mask(mask, options)
        grid, patch = self.grid(images), self.size.patch
        patches = patchify(images, patch)
        predicted = self.decoder(self.encoder(images, mask), mask, grid=grid, every=True)
        pixels = self.target.picture(predicted.to(patches.dtype), patches)
        hidden = mask.binary[:, :, None].to(patches.dtype)
        inpainted = patches * (1 - hidden) + pixels * hidden
        return Pictures(images, *(unpatchify(x, patch, grid) for x in (patches * (1 - hidden), inpainted, pixels)))
