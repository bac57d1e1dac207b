"""Image files → one uint8 tensor: decoded in threads, resized and cropped to one size, damaged files named."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor

from .access import file_bytes
from .labels import as_labels
from .optional import need
from .source import Images, choose

GREY = (0.299, 0.587, 0.114)  # red, green and blue in a grey value (ITU-R BT.601, as Pillow does it)


def from_files(
    name: str,
    paths: Sequence[Path],
    labels: Sequence[int] | None = None,
    classes: tuple[str, ...] = (),
    *,
    image: int | None = None,
    channels: int | None = None,
    skip_corrupt: bool = False,
    limit: int | None = None,
) -> Images:
    """Decode these files into Images; a sample id is the place of its file in ``paths``.

    image: resize the short side (bicubic, antialiased) and crop the centre to ``image`` × ``image`` pixels.
    channels: 1 or 3; by default 1 when every file is grey, else 3. limit: that many files, evenly from the classes.
    Raises ValueError for a damaged file (with ``skip_corrupt`` it is listed in ``skipped``) and for sizes that differ, MinimaeError for
    a file that the system does not hand over: missing, not permitted, too many open files.
    """
    chosen = torch.arange(len(paths))
    targets = None if labels is None else as_labels(name, labels, len(paths), classes)
    if limit is not None and limit < len(paths):
        chosen = choose(targets, len(paths), limit).sort().values
    pixels, kept, skipped = decode([paths[i] for i in chosen], image=image, channels=channels, skip_corrupt=skip_corrupt)
    ids = chosen[kept]
    return Images(name, pixels, None if targets is None else targets[ids], classes, ids, skipped)


def decode(
    paths: Sequence[Path], *, image: int | None = None, channels: int | None = None, skip_corrupt: bool = False
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Files → pixels uint8 ``N c height width``, the places int64 ``N`` of the files that could be read, and the others with reasons."""
    need("PIL.Image", why="reading image files")
    kept: list[int] = []
    skipped: list[str] = []
    pixels, grey = np.empty((0, 3, 0, 0), np.uint8), True
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        work = map if _tiny(paths) else pool.map
        for place, picture in enumerate(work(lambda path: _read(path, image, skip_corrupt), paths)):
            if isinstance(picture, str):
                skipped.append(picture)
                continue
            if not kept:  # memory is taken as it is filled; one channel of a grey image is kept three times until the end
                pixels = np.empty((len(paths), 3, *picture.shape[:2]), np.uint8)
            if picture.shape[:2] != pixels.shape[2:]:
                (height, width), (h, w) = pixels.shape[2:], picture.shape[:2]
                pool.shutdown(cancel_futures=True)
                raise ValueError(
                    f"image sizes differ: {paths[kept[0]]} has {height}×{width} pixels, {paths[place]} has {h}×{w}; "
                    "say which size all shall have, for example image=64 (--image 64)"
                )
            pixels[len(kept)] = picture.transpose(2, 0, 1) if picture.ndim == 3 else picture
            grey = grey and picture.ndim == 2
            kept.append(place)
    if not kept:
        raise ValueError(f"none of {len(paths)} image files could be read; the first: {skipped[0]}")
    read = torch.from_numpy(pixels[: len(kept)])
    read = read[:, :1].clone() if grey else read
    return read if channels is None else convert(read, channels), torch.tensor(kept), tuple(skipped)


def _tiny(paths: Sequence[Path]) -> bool:
    """Whether the files are so small that threads would only wait for each other (measured: 32-pixel JPEGs take twice as long)."""
    return all(p.is_file() and p.stat().st_size < 8192 for p in paths[:16])


def _read(path: Path, image: int | None, skip_corrupt: bool) -> np.ndarray | str:
    """A file → uint8 ``height width`` (grey) or ``height width 3``; or, when it is damaged and may be skipped, the reason."""
    from PIL import Image, ImageOps

    data = file_bytes(path)
    try:
        with Image.open(io.BytesIO(data)) as opened:
            ImageOps.exif_transpose(opened, in_place=True)
            picture = fit(eight_bits(opened), image)
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises a dozen types for damaged files
        if skip_corrupt:
            return f"{path}: {error}"
        raise ValueError(f"{path} cannot be read ({error}); repair or remove it, or leave such files out with --skip-corrupt") from error
    return np.array(picture)


def eight_bits(picture: Any) -> Any:
    """A Pillow image of any mode → "L" (grey) or "RGB". Sixteen bits are scaled down; Pillow alone would cut them off."""
    from PIL import Image

    if picture.mode.startswith("I"):
        picture = Image.fromarray((np.asarray(picture).astype(np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    return picture.convert("L" if picture.mode in ("1", "L", "LA", "La") else "RGB")


def fit(picture: Any, image: int | None) -> Any:
    """The centre square of a Pillow image, resized to ``image`` pixels each way (bicubic, antialiased); None leaves it as it is."""
    if image is None or picture.size == (image, image):
        return picture
    from PIL import Image

    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return picture.resize((image, image), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))


def convert(pixels: Tensor, channels: int) -> Tensor:
    """uint8 ``N c height width`` → the same with 1 or 3 channels: colour to grey by weights, grey to colour by repeating."""
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (colour), not {channels}")
    if pixels.shape[1] == channels:
        return pixels
    if channels == 3:
        return repeat(pixels, "n 1 height width -> n c height width", c=3).contiguous()
    weights = torch.tensor(GREY)[:, None, None]
    return torch.cat([(part * weights).sum(1, keepdim=True).round().byte() for part in pixels.split(1024)])


def resize(pixels: Tensor, image: int) -> Tensor:
    """uint8 ``N c height width`` → ``N c image image``: the short side resized (bicubic, antialiased), the centre cropped."""
    height, width = pixels.shape[-2:]
    if (height, width) == (image, image):
        return pixels
    share = image / min(height, width)
    size = max(image, round(height * share)), max(image, round(width * share))
    top, left = (size[0] - image) // 2, (size[1] - image) // 2
    done = []
    for part in pixels.split(1024):
        grown = F.interpolate(part.float(), size, mode="bicubic", antialias=True, align_corners=False)
        done.append(grown[..., top : top + image, left : left + image].round().clamp(0, 255).byte())
    return torch.cat(done)
