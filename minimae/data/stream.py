"""Open a folder of pictures, or the shards that :mod:`.pack` makes of them, as files that are read when needed.

Class folders are those of ImageNet (``train/<class>/*.JPEG``, ``val/<class>/*.JPEG``). Both give an image the same index, label and
sample id, and so the same crops and masks.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from .files import ImageFiles, with_channels
from .folder import SPLITS, listing, no_folder, splits_of, with_test_part
from .shards import INDEX, packed, read_index, split_folder
from .verify import wrong_split


def open_stream(
    root: Path,
    split: str = "train",
    *,
    channels: int | None = None,
    bits: int | None = None,
    hold_out: float | None = None,
    limit: int | None = None,
) -> ImageFiles:
    """Open the shards in a folder if there are any, otherwise its pictures. Raises as :func:`open_shards` and :func:`.folder.listing` do.

    channels: 1 or 3; by default 1 when every file is grey, else 3. bits: how many bits of deeper pictures are used.
    hold_out: if there is no test part, this share of each class (0.2) is the test split, chosen by the seed, and the rest is the
    training split. By default all images are the training split, and there is no other.
    """
    if not root.is_dir():
        raise no_folder(root)
    shards = packed(root)
    parts = [name for name in SPLITS["test"] if (root / name).is_dir()] if shards else splits_of(root)
    share = None if split == "val" or any(name in parts for name in SPLITS["test"]) else hold_out
    part = split if share is None else "train"
    files = open_shards(root, part, channels=channels) if shards else open_folder(root, part, channels=channels, bits=bits)
    return (files if share is None else with_test_part(files, split, share)).limited(limit)


def open_folder(root: Path, split: str = "train", *, channels: int | None = None, bits: int | None = None) -> ImageFiles:
    """The images of one split of a folder, found but not decoded. Raises as :func:`.folder.listing` does."""
    return with_channels(replace(listing(root, split), bits=bits), channels)


def open_shards(root: Path, split: str = "train", *, channels: int | None = None) -> ImageFiles:
    """The images of one split of a folder that :func:`.pack.pack` made, in the order of their sample ids.

    Raises FileNotFoundError without an index or a shard, ValueError for an index that cannot be read, a shard whose length differs from
    the index, or classes that differ from those of the training split.
    """
    folder = split_folder(root, split)
    index = read_index(folder / INDEX)
    if wrong_split(index, folder):
        raise ValueError(f"{folder} holds shards of the split {index.split}: move them back, or pack again")
    train = root / "train" / INDEX
    if folder.name != "train" and train.is_file() and (wanted := read_index(train).classes) != index.classes:
        differ = sorted(set(wanted) ^ set(index.classes))
        raise ValueError(f"{train.parent} and {folder} must have the same classes; only in one: {', '.join(differ)}")
    for shard in index.shards:
        path = folder / shard.file
        if not path.is_file():
            raise FileNotFoundError(f"the shard {path} is missing: pack again (finished shards are kept)")
        if (size := path.stat().st_size) != shard.bytes:
            raise ValueError(f"the shard {path} has {size:,} bytes, not {shard.bytes:,}: pack again (finished shards are kept)")
    ids = torch.tensor(index.ids)
    order = ids.argsort()
    files = torch.arange(len(index.shards)).repeat_interleave(torch.tensor([shard.images for shard in index.shards]))
    span = torch.tensor([index.offsets, index.lengths]).T[order].contiguous()
    labels = None if index.labels is None else torch.tensor(index.labels)[order]
    names = np.array([os.fsencode(shard.file) for shard in index.shards])
    return with_channels(ImageFiles(index.name, folder, names, files[order], span, labels, index.classes, ids[order]), channels)
