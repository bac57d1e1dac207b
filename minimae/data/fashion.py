"""Fashion-MNIST: photographs of clothes, 28×28 grey, ten classes (Xiao et al., arXiv 1708.07747; MIT licence).

A balanced sample of 10,000 training and 2,000 test images comes with this project; the complete set (60,000 and
10,000) is read from a folder that holds the four IDX files, as torchvision or Debian's package leave them.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch

from .source import Images

CLASSES = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
FILES = {"train": "train", "test": "t10k"}


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes, gzipped or not → uint8 array. A damaged file raises ValueError with its name."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged ({error}): fetch it again") from None
    sizes = np.frombuffer(raw, ">u4", raw[3] if len(raw) > 4 else 0, 4) if len(raw) > 16 or raw[:4] == b"\0\0\x08\x01" else []
    if raw[:3] != b"\0\0\x08" or len(raw) != 4 + 4 * len(sizes) + int(np.prod(sizes, dtype=np.int64)):
        raise ValueError(f"{path} is not a complete IDX file of bytes: fetch it again")
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * len(sizes)).reshape(sizes)


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
