"""Targets of the prediction, and the loss (paper, Section 3 "Reconstruction target", Table 1d).

Everything is computed in float32 (float64 for such images), even under autocast.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..devices import full_precision


def patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch, over all its pixels and channels together: ``b n (p1 p2 c)`` → two ``b n 1``.

    The variance is unbiased, and 1e-6 is added inside the square root. So the loss of predicting zero for normalised
    pixels is (values − 1) / values, not 1. Raises ValueError for patches of a single value.
    """
    if patches.shape[-1] < 2:
        raise ValueError("a patch of one value has no standard deviation: choose target='pixels', or patches of at least 2 values")
    patches = patches.to(torch.promote_types(patches.dtype, torch.float32))
    return patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + 1e-6).sqrt()


class PixelTarget(nn.Module):
    """The pixels of a patch as they are (after the normalisation of the dataset)."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.values = values

    def forward(self, patches: Tensor) -> Tensor:
        """Patches ``b n (p1 p2 c)`` → targets ``b n values``."""
        return patches.to(torch.promote_types(patches.dtype, torch.float32))

    def picture(self, predicted: Tensor, patches: Tensor) -> Tensor:
        """Predictions ``b n values`` → pixels ``b n (p1 p2 c)``. This target does not use the true patches."""
        return predicted


class NormalisedTarget(PixelTarget):
    """The pixels of a patch less its mean, divided by its standard deviation: the better target (Table 1d)."""

    def forward(self, patches: Tensor) -> Tensor:
        """Patches ``b n (p1 p2 c)`` → targets ``b n values``."""
        mean, std = patch_statistics(patches)
        return (patches - mean) / std

    def picture(self, predicted: Tensor, patches: Tensor) -> Tensor:
        """Predictions → pixels, with mean and standard deviation of the true patches: a leak that a caption must state."""
        mean, std = patch_statistics(patches)
        return predicted * std + mean


class PCATarget(PixelTarget):
    """The first coefficients of a patch in a principal component analysis of training patches (Table 1d; 96 there)."""

    mean: Tensor
    components: Tensor

    def __init__(self, values: int, coefficients: int = 96) -> None:
        super().__init__(min(coefficients, values))
        self.register_buffer("mean", torch.zeros(values))
        self.register_buffer("components", torch.eye(values)[:, : self.values].contiguous())

    def fit(self, patches: Tensor) -> PCATarget:
        """Compute mean and components from patches ``… (p1 p2 c)``; a few thousand are enough. Returns itself."""
        rows = patches.flatten(0, -2).double()
        if len(rows) <= self.values:
            raise ValueError(f"{self.values} coefficients need more than {self.values} patches to fit on, not {len(rows)}")
        self.mean.copy_(rows.mean(0))
        directions = torch.linalg.eigh((rows - rows.mean(0)).T @ (rows - rows.mean(0))).eigenvectors
        self.components.copy_(directions.flip(1)[:, : self.values])
        return self

    def forward(self, patches: Tensor) -> Tensor:
        """Patches ``b n (p1 p2 c)`` → coefficients ``b n values``."""
        with full_precision(patches.device):  # autocast would multiply in half precision
            return (patches.to(torch.promote_types(patches.dtype, torch.float32)) - self.mean) @ self.components

    def picture(self, predicted: Tensor, patches: Tensor) -> Tensor:
        """Coefficients → pixels; omitted components stay at their mean."""
        with full_precision(predicted.device):
            return predicted.to(self.mean.dtype) @ self.components.T + self.mean


TARGETS: dict[str, type[PixelTarget]] = {"pixels": PixelTarget, "normalised": NormalisedTarget, "pca": PCATarget}


def patch_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each patch: two ``b m values`` → ``b m``, at least in float32."""
    return (predicted.to(torch.promote_types(target.dtype, torch.float32)) - target).square().mean(dim=-1)
