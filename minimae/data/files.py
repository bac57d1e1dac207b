"""Image files → one uint8 tensor: decoded in threads, in one size, damaged files named. And other sizes and colours of such a tensor."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from ..model.patches import Pair, pair
from .images import Images
from .optional import need
from .stream import ImageFiles
from .types import DamagedImage
from .views import evaluated

SMALL = 8192  # bytes of a file below which threads would only wait for each other: 32-pixel JPEGs take twice as long
GREY = (0.299, 0.587, 0.114)  # red, green and blue in a grey value (ITU-R BT.601, as Pillow does it)


class SizesDiffer(ValueError):
    """Pictures of several sizes where one size is required."""


def read_images(files: ImageFiles, *, image: int | Pair | None = None, skip_corrupt: bool = False) -> Images:
    """Decode all files into memory.

    image: height and width of all, which are shown as evaluation sees them (:func:`.views.evaluated`); by default as they are.
    Raises DamagedImage (with ``skip_corrupt`` such files are listed in ``skipped``), SizesDiffer, and SystemFailure for a file that the
    system cannot read: missing, not permitted, too many open files.
    """
    kept: list[int] = []
    skipped: list[str] = []
    pixels = np.empty((0, 0, 0, 0), np.uint8)
    threads = 1 if len(files.bytes_of(0)) < SMALL else min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        for index, picture in enumerate(pool.map(lambda i: _read(files, i, image, skip_corrupt), range(len(files)))):
            if isinstance(picture, str):
                skipped.append(picture)
                continue
            if not kept:  # memory is taken as it is filled
                pixels = np.empty((len(files), files.channels, *picture.shape[:2]), np.uint8)
            if picture.shape[:2] != pixels.shape[2:]:
                pool.shutdown(cancel_futures=True)
                sizes = [
                    f"{files.where(i)} has {height}×{width} pixels"
                    for i, (height, width) in ((kept[0], pixels.shape[2:]), (index, picture.shape[:2]))
                ]
                raise SizesDiffer(f"image sizes differ: {', '.join(sizes)}; give one size for all, for example image=64 (--image 64)")
            pixels[len(kept)] = picture.transpose(2, 0, 1) if picture.ndim == 3 else picture
            kept.append(index)
    if not kept:
        raise ValueError(f"none of {len(files)} image files could be read; the first: {skipped[0]}")
    whole = files.subset(kept)
    return Images(
        files.name, torch.from_numpy(pixels[: len(kept)]), whole.labels, whole.classes, whole.ids, tuple(skipped), files.notes,
        files.fixed_statistics,
    )  # fmt: skip


def _read(files: ImageFiles, index: int, image: int | Pair | None, skip_corrupt: bool) -> np.ndarray | str:
    """An image → uint8 ``height width`` (grey) or ``height width 3``; or, when it is damaged and may be skipped, the reason."""
    try:
        picture = files.picture(index)
    except DamagedImage as error:
        if skip_corrupt:
            return str(error)
        raise DamagedImage(f"{error}; repair or remove it, or leave such files out with --skip-corrupt") from error
    return np.array(picture if image is None else evaluated(picture, pair(image)))


def convert(pixels: Tensor, channels: int) -> Tensor:
    """uint8 ``N c height width`` → the same with 1 or 3 channels: colour to grey by weights, grey to colour by repeating."""
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (colour), not {channels}")
    if pixels.shape[1] == channels:
        return pixels
    if channels == 3:
        return pixels.repeat(1, 3, 1, 1)
    weights = torch.tensor(GREY, device=pixels.device)[:, None, None]
    return torch.cat([(part * weights).sum(1, keepdim=True).round().byte() for part in pixels.split(1024)])


def resize(pixels: Tensor, image: int | Pair) -> Tensor:
    """uint8 ``N c height width`` → ``N c h w`` of ``image`` pixels, as evaluation sees them. Equal to files of these pixels.

    Pillow does it, on the host. The result is on the device of the pixels.
    """
    if tuple(pixels.shape[-2:]) == pair(image):
        return pixels
    Image = need("PIL.Image", why="resizing images")
    planes = pixels.flatten(0, 1).numpy(force=True)  # Pillow resizes each channel by itself, too
    resized = np.stack([np.asarray(evaluated(Image.fromarray(plane), pair(image))) for plane in planes])
    return torch.from_numpy(resized).unflatten(0, pixels.shape[:2]).to(pixels.device)
