"""Image files → one uint8 tensor: decoded in threads, shown in one size, damaged files named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from einops import repeat
from torch import Tensor

from ..model.patches import Pair, pair
from .choose import choose
from .decoding import header_size, read_file
from .images import Images
from .labels import as_labels
from .optional import need
from .views import evaluated

LARGE = 1 << 28  # above this many bytes of pixels, all headers are read first
GREY = (0.299, 0.587, 0.114)  # red, green and blue in a grey value (ITU-R BT.601, as Pillow does it)


class SizesDiffer(ValueError):
    """Pictures of several sizes where one size is required."""


def from_files(
    name: str,
    paths: Sequence[Path],
    labels: Sequence[int] | None = None,
    classes: tuple[str, ...] = (),
    *,
    image: int | Pair | None = None,
    channels: int | None = None,
    bits: int | None = None,
    skip_corrupt: bool = False,
    limit: int | None = None,
    ids: Sequence[int] | None = None,
    notes: tuple[str, ...] = (),
) -> Images:
    """Decode these files into Images.

    image: height and width of all, which are shown as evaluation sees them (:func:`.views.evaluated`); by default as they are.
    channels: 1 or 3; by default 1 when every file is grey, else 3. bits: how many bits of deeper pictures are used
    (:mod:`.depth`). limit: that many files, evenly from the classes. ids: sample ids, by default the indices of the files in ``paths``.
    Raises ValueError for a damaged file (with ``skip_corrupt`` it is listed in ``skipped``), SizesDiffer for sizes that
    differ, SystemFailure for a file that the system cannot read: missing, not permitted, too many open files.
    """
    chosen = torch.arange(len(paths))
    targets = None if labels is None else as_labels(name, labels, len(paths), classes)
    if limit is not None and limit < len(paths):
        chosen = choose(targets, len(paths), limit).sort().values
    wanted = [paths[i] for i in chosen]
    pixels, kept, skipped = decode(wanted, image=image, channels=channels, bits=bits, skip_corrupt=skip_corrupt)
    places = chosen[kept]
    numbers = places if ids is None else torch.tensor(ids, dtype=torch.int64)[places]
    return Images(name, pixels, None if targets is None else targets[places], classes, numbers, skipped, notes)


def decode(
    paths: Sequence[Path],
    *,
    image: int | Pair | None = None,
    channels: int | None = None,
    bits: int | None = None,
    skip_corrupt: bool = False,
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Files → pixels uint8 ``N c height width``, the places int64 ``N`` of the files that could be read, and the others with reasons."""
    need("PIL.Image", why="reading image files")
    shown = None if image is None else pair(image)
    kept: list[int] = []
    skipped: list[str] = []
    pixels, grey = np.empty((0, 3, 0, 0), np.uint8), True
    if image is None:
        check_sizes(paths)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        work = map if _tiny(paths) else pool.map
        for place, picture in enumerate(work(lambda path: _read(path, shown, channels, bits, skip_corrupt), paths)):
            if isinstance(picture, str):
                skipped.append(picture)
                continue
            if not kept:  # memory is taken as it is filled; one channel of a grey image is kept three times until the end
                pixels = np.empty((len(paths), 3, *picture.shape[:2]), np.uint8)
            if picture.shape[:2] != pixels.shape[2:]:
                pool.shutdown(cancel_futures=True)
                raise SizesDiffer(sizes_differ(paths[kept[0]], pixels.shape[2:], paths[place], picture.shape[:2]))
            pixels[len(kept)] = picture.transpose(2, 0, 1) if picture.ndim == 3 else picture
            grey = grey and picture.ndim == 2
            kept.append(place)
    if not kept:
        raise ValueError(f"none of {len(paths)} image files could be read; the first: {skipped[0]}")
    read = torch.from_numpy(pixels[: len(kept)])
    return read[:, :1].clone() if grey and channels != 3 else read, torch.tensor(kept), tuple(skipped)


def check_sizes(paths: Sequence[Path]) -> None:
    """Raises SizesDiffer when two headers differ, before many large pictures are decoded. Rotation is only known after decoding."""
    known = ((path, found) for path in paths if (found := header_size(path)) is not None)
    first, size = next(known, (None, (0, 0)))
    if first is None or len(paths) * 3 * size[0] * size[1] <= LARGE:
        return
    for path, found in known:
        if sorted(found) != sorted(size):
            raise SizesDiffer(sizes_differ(first, size, path, found))


def sizes_differ(one: Path, its: Sequence[int], other: Path, theirs: Sequence[int]) -> str:
    """The message about two pictures of other height and width."""
    sizes = f"{one} has {its[0]}×{its[1]} pixels, {other} has {theirs[0]}×{theirs[1]}"
    return f"image sizes differ: {sizes}; give one size for all, for example image=64 (--image 64)"


def _tiny(paths: Sequence[Path]) -> bool:
    """Whether the files are so small that threads would only wait for each other (measured: 32-pixel JPEGs take twice as long)."""
    return all(p.is_file() and p.stat().st_size < 8192 for p in paths[:16])


def _read(path: Path, image: Pair | None, channels: int | None, bits: int | None, skip_corrupt: bool) -> np.ndarray | str:
    """A file → uint8 ``height width`` (grey) or ``height width 3``; or, when it is damaged and may be skipped, the reason."""
    try:
        picture = read_file(path, channels=channels, bits=bits)
    except ValueError as error:
        if skip_corrupt:
            return str(error)
        raise ValueError(f"{error}; repair or remove it, or leave such files out with --skip-corrupt") from error
    return np.array(picture if image is None else evaluated(picture, image))


def convert(pixels: Tensor, channels: int) -> Tensor:
    """uint8 ``N c height width`` → the same with 1 or 3 channels: colour to grey by weights, grey to colour by repeating."""
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (colour), not {channels}")
    if pixels.shape[1] == channels:
        return pixels
    if channels == 3:
        return repeat(pixels, "n 1 height width -> n c height width", c=3).contiguous()
    weights = torch.tensor(GREY, device=pixels.device)[:, None, None]
    return torch.cat([(part * weights).sum(1, keepdim=True).round().byte() for part in pixels.split(1024)])


def resize(pixels: Tensor, image: int | Pair) -> Tensor:
    """uint8 ``N c height width`` → ``N c h w`` of ``image`` pixels: each shown as evaluation sees it, equal to files of these pixels.

    Pillow does it, on the host. The result is on the device of the pixels.
    """
    if tuple(pixels.shape[-2:]) == pair(image):
        return pixels
    Image = need("PIL.Image", why="resizing images")
    done = np.empty((*pixels.shape[:2], *pair(image)), np.uint8)
    for planes, kept in zip(pixels.numpy(force=True), done, strict=True):
        for plane, target in zip(planes, kept, strict=True):  # Pillow resizes each channel by itself, too
            target[...] = np.asarray(evaluated(Image.fromarray(plane), pair(image)))
    return torch.from_numpy(done).to(pixels.device)
