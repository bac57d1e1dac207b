"""Hide most of an image and let a trained model reconstruct it (paper, Figures 2 to 4)."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ..data.augment import normalise, resize_matrix
from ..data.decoding import read_file
from ..data.pixels import as_pixels
from ..devices import device_of
from ..errors import MinimaeError
from ..model.mae import MAE
from ..model.masking import Mask, user_mask
from ..model.patches import pair, unpatchify
from ..model.units import make_partial_mask
from ..train.precision import evaluating
from .pretrained import Pretrained, Statistics

Triplet = tuple[Tensor, Tensor, Tensor]  # original, what the model saw, reconstruction: each ``height width 3``, float in [0, 1]
TITLES = ("original", "what it saw", "reconstruction")
GREY_BLUE = (0.62, 0.66, 0.74)  # hidden patches; no photograph has this colour
WINDOWS, LARGEST, THINNEST = 3, 24, 32  # a photograph in image sizes of its model: short side, area at most; longest side : short side
CAPTIONS = {
    "normalised": "The model predicts normalised pixels; the mean and contrast of each patch come from the original.",
    "pixels": "The model predicts pixels, shown as they are; nothing comes from the hidden patches.",
    "pca": "The model predicts principal components, shown as pixels; nothing comes from the hidden patches.",
}


def caption(trained: Pretrained, mask: Mask) -> str:
    """What a reader must know to judge the reconstructions."""
    hidden = 100 * mask.masked.shape[1] / mask.n
    pasted = "Visible patches are pasted from the original, because the model is not trained on them."
    return f"{hidden:.0f} % of the patches hidden. {pasted} {CAPTIONS['pixels' if trained.pictures else trained.recipe.target]}"


def as_pictures(images: Tensor, statistics: Statistics) -> Tensor:
    """Normalised images ``b c height width`` → ``b height width 3`` in [0, 1], on the CPU. Of more than three channels, the first three."""
    mean, std = (x.cpu()[:, None, None] for x in statistics)
    pixels = (images.cpu().float() * std + mean).clamp(0, 1)
    pixels = pixels[:, :3] if pixels.shape[1] >= 3 else pixels[:, :1].expand(-1, 3, -1, -1)
    return rearrange(pixels, "b c height width -> b height width c").contiguous()


def starts(length: int, window: int) -> list[int]:
    """The starts of windows that cover the length and overlap by half or more."""
    return torch.linspace(0, length - window, 1 + math.ceil(2 * (length - window) / window)).round().int().tolist()


def predict_in_windows(model: MAE, images: Tensor, mask: Mask) -> Tensor:
    """Images larger than the model's → predictions ``b c height width``, blended from half-overlapping windows of the model's own size.

    A window in which everything is hidden predicts 0, the dataset's mean.
    """
    (height, width), (rows, columns), (p1, p2) = model.grid(images), model.size.grid, pair(model.size.patch)
    hidden = mask.binary.unflatten(1, (height, width))
    down, across = (1 - torch.linspace(1 / n - 1, 1 - 1 / n, n, device=images.device).abs() for n in (rows * p1, columns * p2))
    weight = down[:, None] * across
    total, weights = torch.zeros_like(images), torch.zeros_like(images[:1, :1])
    for y in starts(height, rows):
        for x in starts(width, columns):
            window = (..., slice(y * p1, (y + rows) * p1), slice(x * p2, (x + columns) * p2))
            weights[window] += weight
            for i, part in enumerate(hidden[:, y : y + rows, x : x + columns]):
                if 0 < part.mean() < 1:  # something is visible, and something is hidden
                    predicted = model.reconstruct(images[i : i + 1][window], user_mask(part[None], (rows, columns))).predicted[0]
                    total[i][window] += predicted * weight
    return total / weights


@torch.no_grad()
def reconstruction_triplets(trained: Pretrained, pixels: Any, mask: Mask) -> list[Triplet]:
    """Images ``b c height width`` and a mask → for each image: the original, what the model saw, and the reconstruction.

    pixels: anything that :func:`minimae.data.pixels.as_pixels` takes. → float32 ``height width 3`` in [0, 1], on the CPU.
    Raises MinimaeError for weights without a trained decoder.
    """
    if not trained.decoder:
        raise MinimaeError("these weights have no decoder, so they cannot reconstruct: choose weights with one (mae-base-full)")
    model, statistics = (trained.pictures or trained.model).eval(), trained.statistics
    images = normalise(as_pixels(pixels, trained.size.channels).to(device_of(model)), statistics).to(model.encoder.project.weight.dtype)
    mask = mask.to(images.device)
    patch, grid = pair(trained.size.patch), model.grid(images)
    hidden = unpatchify(mask.binary[:, :, None].expand(-1, -1, patch[0] * patch[1]), patch, grid)[:, 0] > 0.5
    windows = trained.pictures and all(side >= window for side, window in zip(grid, trained.size.grid)) and grid != trained.size.grid
    with evaluating(images.device, trained.recipe.precision):
        predicted = predict_in_windows(model, images, mask) if windows else model.reconstruct(images, mask).predicted
    reconstructed = torch.where(hidden[:, None], predicted, images)
    original = as_pictures(images, statistics)
    seen = torch.where(hidden.cpu()[..., None], torch.tensor(GREY_BLUE), original)
    return list(zip(original, seen, as_pictures(reconstructed, statistics), strict=True))


def reconstruct_batch(
    trained: Pretrained, pixels: Any, *, seed: int = 0, ids: Tensor | None = None, ratio: float | None = None
) -> tuple[list[Triplet], str]:
    """Images ``b c height width`` → their triplets under masks made from seed and ids, and a caption.

    pixels: anything that :func:`minimae.data.pixels.as_pixels` takes. ids: sample ids ``b``, by default 0, 1, …
    """
    pixels = as_pixels(pixels, trained.size.channels)
    ids, grid, recipe = torch.arange(len(pixels)) if ids is None else ids, trained.model.grid(pixels), trained.recipe
    unit = recipe.unit if all(side % recipe.unit == 0 for side in grid) else 1
    mask = make_partial_mask(ids, grid, ratio=recipe.ratio if ratio is None else ratio, seed=seed, unit=unit)
    return reconstruction_triplets(trained, pixels, mask), caption(trained, mask)


def read_picture(path: Path, channels: int, *, bits: int | None = None) -> Tensor:
    """An image file → uint8 ``1 c height width``, upright, in grey (1) or RGB (3), read as the images of a dataset are.

    bits: bits used by deeper images, see :mod:`minimae.data.decoding`. Raises FileNotFoundError for a missing file, and as
    :func:`minimae.data.decoding.read_file` does.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no picture at {path}")
    return as_pixels(read_file(path, channels=channels, bits=bits), channels)


def fit_to_model(pixels: Any, trained: Pretrained) -> Tensor:
    """Resize images of any size to one that the patch divides. → uint8.

    They just cover the model's size; with a decoder of pictures, up to :data:`WINDOWS` times that. Raises MinimaeError for a thin image.
    """
    pixels = as_pixels(pixels, trained.size.channels)
    pixels = pixels * 255 if pixels.is_floating_point() else pixels.float()
    (p1, p2), (height, width) = pair(trained.size.patch), pixels.shape[-2:]
    if max(height, width) > THINNEST * min(height, width):
        raise MinimaeError(f"a picture of {height} × {width} pixels is too thin: cut it to at most {THINNEST} : 1")
    rows, columns = pair(trained.size.image)
    cover = scale = max(rows / height, columns / width)
    if trained.pictures:
        scale = max(cover, min(1, WINDOWS * cover, math.sqrt(LARGEST * rows * columns / (height * width))))
    new = [max(1, round(height * scale / p1)) * p1, max(1, round(width * scale / p2)) * p2]
    start = torch.zeros(1, device=pixels.device)
    whole = [resize_matrix(start, torch.full_like(start, old), old, n)[0] for old, n in zip((height, width), new, strict=True)]
    return (whole[0] @ pixels @ whole[1].T).round().clamp(0, 255).to(torch.uint8)


def __getattr__(name: str) -> Any:
    if name != "stages":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn("minimae.tasks.reconstruct.stages is now reconstruction_triplets", DeprecationWarning, stacklevel=2)
    return reconstruction_triplets
