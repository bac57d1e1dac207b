"""Hide most of a picture and let a trained model paint it (paper, Figures 2 to 4)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from minimae_book.figures import as_picture, masked_picture, reconstructions
from torch import Tensor

from ..data.augment import normalise, resize_matrix
from ..data.decoding import read_file
from ..data.pixels import as_pixels
from ..errors import MinimaeError
from ..model.masking import Mask, make_mask
from ..model.patches import pair, unpatchify
from ..train.loop import device_of
from ..train.precision import evaluating
from .pretrain import Pretrained

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

CAPTIONS = {
    "normalised": "The prediction is of normalised pixels; each patch's mean and contrast were taken from the original.",
    "pixels": "The prediction is of pixels, shown as it is; nothing was taken from the hidden patches.",
    "pca": "The prediction is of principal components of a patch, shown as pixels; nothing was taken from the hidden patches.",
}


def caption(trained: Pretrained, mask: Mask) -> str:
    """What a reader has to know to judge the pictures."""
    hidden = 100 * mask.masked.shape[1] / mask.n
    pasted = "In the painted picture the visible patches are the original's, because they are not trained."
    return f"{hidden:.0f} % of the patches hidden. {pasted} {CAPTIONS['pixels' if trained.pictures else trained.recipe.target]}"


@torch.no_grad()
def stages(trained: Pretrained, pixels: Any, mask: Mask) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Images ``b c height width`` and a mask → of each image three pictures: original, what the model saw, reconstruction.

    pixels: anything that :func:`minimae.data.pixels.as_pixels` takes. Raises MinimaeError for weights without a trained decoder.
    """
    if not trained.decoder:
        raise MinimaeError("these weights have no decoder, so nothing can be painted with them: choose weights with one (mae-base-full)")
    model, patch, statistics = (trained.pictures or trained.model).eval(), pair(trained.model.size.patch), trained.statistics
    images = normalise(as_pixels(pixels, trained.model.size.channels).to(device_of(model)), statistics)
    images = images.to(model.encoder.project.weight.dtype)
    mask = mask.to(images.device)
    with evaluating(images.device, trained.recipe.precision):
        painted = model.reconstruct(images, mask).painted
    spread = mask.binary[:, :, None].expand(-1, -1, patch[0] * patch[1])
    hidden = unpatchify(spread, patch, model.grid(images))[:, 0] > 0.5
    return [
        (as_picture(image, statistics), masked_picture(image, where, statistics), as_picture(paint, statistics))
        for image, where, paint in zip(images, hidden, painted, strict=True)
    ]


def reconstruct_batch(
    trained: Pretrained, pixels: Any, *, seed: int = 0, ids: Tensor | None = None, ratio: float | None = None
) -> tuple[Figure, str]:
    """Images ``b c height width`` → a figure (original, what the model saw, reconstruction), and its caption.

    pixels: anything that :func:`minimae.data.pixels.as_pixels` takes. ids: sample ids ``b``; with the seed they decide the masks.
    """
    pixels = as_pixels(pixels, trained.model.size.channels)
    ids = torch.arange(len(pixels)) if ids is None else ids
    ratio = trained.recipe.ratio if ratio is None else ratio
    mask = make_mask(ids, trained.model.grid(pixels), ratio=ratio, seed=seed)
    rows = stages(trained, pixels, mask)
    pairs = 1 if len(rows) < 4 else 2
    return reconstructions(rows, ("original", "what it saw", "painted"), pairs=pairs), caption(trained, mask)


def read_picture(path: Path, channels: int, *, bits: int | None = None) -> Tensor:
    """An image file → uint8 ``1 c height width``, upright, in grey (1) or RGB (3): read as those of a data set are.

    bits: how many bits of deeper pictures are used, see :mod:`minimae.data.depth`. Raises FileNotFoundError where nothing is, and as
    :func:`minimae.data.decoding.read_file` does.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no picture at {path}")
    picture = read_file(path, channels=channels, bits=bits)
    data = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return data.reshape(picture.height, picture.width, -1).permute(2, 0, 1)[None].contiguous()


def fit_to_model(pixels: Any, trained: Pretrained) -> Tensor:
    """Resize images so that they just cover the model's and the patch divides both sides: any size will do. → uint8."""
    pixels = as_pixels(pixels, trained.model.size.channels)
    pixels = pixels * 255 if pixels.is_floating_point() else pixels.float()
    (p1, p2), (height, width) = pair(trained.model.size.patch), pixels.shape[-2:]
    rows, columns = pair(trained.model.size.image)
    scale = max(rows / height, columns / width)
    new = [max(1, round(height * scale / p1)) * p1, max(1, round(width * scale / p2)) * p2]
    start = torch.zeros(1, device=pixels.device)
    whole = [resize_matrix(start, torch.full_like(start, old), old, n)[0] for old, n in zip((height, width), new, strict=True)]
    return (whole[0] @ pixels @ whole[1].T).round().clamp(0, 255).to(torch.uint8)
