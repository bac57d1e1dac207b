"""Make the embedded sample from the complete Fashion-MNIST: the same bytes on every machine.

    python data/make_fashion.py /usr/share/datasets/fashion-mnist      (Debian: apt-get install dataset-fashion-mnist)

Takes 1,000 training and 200 test images of each class, chosen by a seeded hash, and writes four IDX files to data/fashion.
"""

import gzip
import sys
from pathlib import Path

import numpy as np

from minimae.data.fashion import FILES, read_fashion

SEED = 20211111  # the day the paper appeared
COUNTS = {"train": 10_000, "test": 2_000}


def write_idx(path: Path, array: np.ndarray) -> None:
    """The inverse of :func:`minimae.data.fashion.read_idx`, gzipped, without a time stamp: the same images give the same bytes."""
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(head + array.tobytes(), 9, mtime=0))


def main(source: Path, target: Path = Path(__file__).parent / "fashion") -> None:
    target.mkdir(exist_ok=True)
    for split, count in COUNTS.items():
        images = read_fashion(source, split).balanced_subset(count, seed=SEED)
        assert images.labels is not None
        write_idx(target / f"{FILES[split]}-images-idx3-ubyte.gz", images.pixels[:, 0].numpy())
        write_idx(target / f"{FILES[split]}-labels-idx1-ubyte.gz", images.labels.byte().numpy())
        print(f"{split}: {len(images):,} images, {images.labels.bincount().tolist()} of each class")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
