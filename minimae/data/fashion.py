"""Fashion-MNIST: photographs of clothes, 28×28 grey, ten classes (Xiao et al., arXiv 1708.07747; MIT licence).

A balanced sample of 10,000 training and 2,000 test images comes with this project; the complete set (60,000 and
10,000) is read from a folder that holds the four IDX files, as torchvision or Debian's package leave them.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch

from .images import Images
from .optional import need

CLASSES = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
FILES = {"train": "train", "test": "t10k"}
COMPLETE = {"train": 60_000, "test": 10_000}
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
# A built wheel carries the sample inside the package; a checkout has it beside the package, in data/.
SAMPLE = (Path(__file__).parents[1] / "_sample" / "fashion", Path(__file__).parents[2] / "data" / "fashion")


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes, gzipped or not → uint8 array. A damaged file raises ValueError with its name.

    The format: two zeros, 8 for "unsigned byte", the number of axes; then each length as four bytes, big end first; then the values.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}): fetch it again") from None
    if len(raw) >= 4 and raw[:3] == b"\0\0\x08" and len(raw) >= 4 + 4 * raw[3]:
        sizes = [int.from_bytes(raw[at : at + 4], "big") for at in range(4, 4 + 4 * raw[3], 4)]
        values = np.frombuffer(raw, np.uint8, offset=4 + 4 * len(sizes))
        if len(values) == np.prod(sizes, dtype=object):  # Python integers: absurd lengths must not wrap around
            return values.reshape(sizes)
    raise ValueError(f"{path} is not a complete IDX file of bytes: fetch it again")


def write_idx(path: Path, array: np.ndarray) -> None:
    """The inverse of :func:`read_idx`, gzipped, without a time stamp, so that the same images give the same bytes."""
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(head + array.tobytes(), 9, mtime=0))


def read_fashion(folder: Path, split: str, *, name: str = "fashion") -> Images:
    """Both IDX files of a split in a folder → Images. Raises FileNotFoundError when they are not there."""
    found = []
    for kind in ("images-idx3", "labels-idx1"):
        choices = [folder / f"{FILES[split]}-{kind}-ubyte{end}" for end in (".gz", "")]
        if not any(path.is_file() for path in choices):
            raise FileNotFoundError(f"no {choices[0].name} in {folder}")
        found.append(read_idx(next(path for path in choices if path.is_file())))
    pixels, labels = found
    return Images(name, torch.from_numpy(pixels.copy())[:, None], torch.from_numpy(labels.astype(np.int64)), CLASSES)


def sample(split: str) -> Images:
    """The sample that comes with this project: 10,000 training or 2,000 test images, as many of each class."""
    for folder in SAMPLE:
        if folder.is_dir():
            return read_fashion(folder, split)
    raise FileNotFoundError(f"the Fashion-MNIST sample is in neither {SAMPLE[0]} nor {SAMPLE[1]}: install minimae again")


def complete(split: str, root: Path, *, download: bool = False) -> Images:
    """All 60,000 training or 10,000 test images, from ``root``, torchvision's folder below it, or Debian's package.

    ``download`` fetches what is missing through torchvision. Otherwise FileNotFoundError says how to get it;
    ValueError when the folder holds another number of images, such as the sample.
    """
    downloaded = root / "FashionMNIST" / "raw"
    found = _first_with(split, (root, downloaded, DEBIAN))
    if found is None and download:
        torchvision = need("torchvision", why="downloading Fashion-MNIST")
        try:
            torchvision.datasets.FashionMNIST(root, download=True)
        except (OSError, RuntimeError) as error:
            raise OSError(f"fashion-full could not be downloaded ({error}); or put the four IDX files into {downloaded}") from error
        found = _first_with(split, (downloaded,))
    if found is None:
        raise FileNotFoundError(
            f"fashion-full is not in {root}, {downloaded} or {DEBIAN}: fetch it with `minimae data fashion-full --download`, on Debian "
            f"with `apt-get install dataset-fashion-mnist`, or put the four IDX files into {downloaded}"
        )
    images = read_fashion(found, split, name="fashion-full")
    if len(images) != COMPLETE[split]:
        raise ValueError(f"{found} holds {len(images):,} {split} images, the complete Fashion-MNIST {COMPLETE[split]:,}: give another root")
    return images


def _first_with(split: str, folders: tuple[Path, ...]) -> Path | None:
    return next((f for f in folders if any(f.glob(f"{FILES[split]}-images-idx3-ubyte*"))), None)
