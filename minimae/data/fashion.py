"""Fashion-MNIST: photographs of clothes, 28×28 grey, ten classes (Xiao et al., arXiv 1708.07747; MIT licence).

A balanced sample of 10,000 training and 2,000 test images comes with this project. The complete set (60,000 and 10,000) is read from
a folder that holds the four IDX files, as torchvision or Debian's package leave them.
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


def sample(split: str) -> Images:
    """The sample that comes with this project: 10,000 training or 2,000 test images, as many of each class."""
    folder = next((folder for folder in SAMPLE if folder.is_dir()), None)
    if folder is None:
        raise FileNotFoundError(f"the Fashion-MNIST sample is in neither {SAMPLE[0]} nor {SAMPLE[1]}: install minimae again")
    return read_fashion(folder, split)


def complete(name: str, split: str, root: Path, *, download: bool = False) -> Images:
    """All 60,000 training or 10,000 test images, from ``root``, torchvision's folder below it, or Debian's package.

    ``download`` fetches what is missing through torchvision. Otherwise raises FileNotFoundError, with instructions to get it, and
    ValueError when the folder holds a different number of images, such as the sample.
    """
    raw = root / "FashionMNIST" / "raw"
    folders = [folder for folder in (root, raw, DEBIAN) if any(folder.glob(f"{FILES[split]}-images-idx3-ubyte*"))]
    if download and folders[:1] in ([], [raw]):  # torchvision keeps what is whole, and fetches the rest of a stopped download
        datasets = need("torchvision.datasets", why="downloading Fashion-MNIST")
        try:
            datasets.FashionMNIST(root, download=True)
        except (OSError, RuntimeError) as error:
            raise OSError(f"{name} could not be downloaded ({error}); or put the four IDX files into {raw}") from error
        folders = [raw]
    if not folders:
        raise FileNotFoundError(
            f"{name} is not in {root}, {raw} or {DEBIAN}: fetch it with `minimae data {name} --download`, on Debian "
            f"with `apt-get install dataset-fashion-mnist`, or put the four IDX files into {raw}"
        )
    images = read_fashion(folders[0], split, name=name)
    if len(images) != COMPLETE[split]:
        count = f"{len(images):,} {split} images, the complete Fashion-MNIST {COMPLETE[split]:,}"
        raise ValueError(f"{folders[0]} holds {count}: give another root")
    return images


def read_fashion(folder: Path, split: str, *, name: str = "fashion") -> Images:
    """Both IDX files of a split in a folder → Images. Raises FileNotFoundError when they are not there."""
    arrays = []
    for kind in ("images-idx3", "labels-idx1"):
        choices = [folder / f"{FILES[split]}-{kind}-ubyte{end}" for end in (".gz", "")]
        path = next((path for path in choices if path.is_file()), None)
        if path is None:
            raise FileNotFoundError(f"no {choices[0].name} in {folder}")
        arrays.append(read_idx(path))
    return Images(name, torch.from_numpy(arrays[0].copy())[:, None], torch.from_numpy(arrays[1].astype(np.int64)), CLASSES)


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes, gzipped or not → uint8 array. A damaged file raises ValueError with its name.

    The format: two zeros, 8 for "unsigned byte", the number of axes; then each length as four bytes, big-endian; then the values.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}): fetch it again") from None
    if len(raw) >= 4 and raw[:3] == b"\0\0\x08" and len(raw) >= 4 + 4 * raw[3]:
        sizes = np.frombuffer(raw, ">u4", raw[3], 4).tolist()  # Python integers: absurd lengths must not wrap around
        values = np.frombuffer(raw, np.uint8, offset=4 + 4 * len(sizes))
        if len(values) == np.prod(sizes, dtype=object):
            return values.reshape(sizes)
    raise ValueError(f"{path} is not a complete IDX file of bytes: fetch it again")
