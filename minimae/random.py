"""Random numbers with an address: each is a hash of (seed, stream, epoch, sample id, index).

Numbers from a generator depend on the draws before them, and so on batch size, workers and restarts. A hash does not: the same
five integers give the same number on every device, so each image keeps its own mask and crop.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

# One stream for each use, so that the mask of an image is independent of its crop.
STREAMS = {"mask": 1, "crop": 2, "flip": 3, "order": 4, "shapes": 5, "split": 6, "step": 7, "photos": 8}
STREAMS |= {"jitter": 16, "mix": 17, "erase": 19, "erased": 20, "prompt": 21, "predict": 22}

_GOLDEN = -7046029254386353131  # 2^64 / golden ratio, as a signed 64-bit integer
_MIX = (-4658895280553007687, -7723592293110705685)  # the two multipliers of the SplitMix64 finaliser


def _finalise(x: Tensor) -> Tensor:
    """SplitMix64's mixing of 64 bits; int64 products wrap, and ``>>`` is masked into a logical shift."""
    x = (x ^ ((x >> 30) & 0x3_FFFF_FFFF)) * _MIX[0]
    x = (x ^ ((x >> 27) & 0x1F_FFFF_FFFF)) * _MIX[1]
    return x ^ ((x >> 31) & 0x1_FFFF_FFFF)


def hash_bits(seed: int, stream: str, epoch: int | Tensor, ids: Tensor, count: int) -> Tensor:
    """64 hashed bits for each sample id and index: ids ``b`` → int64 ``b count``, on the device of ``ids``.

    epoch: one number, or int64 ``b`` for a batch that spans two epochs.
    """
    if stream not in STREAMS:
        raise ValueError(f"unknown random stream {stream!r}; known: {', '.join(STREAMS)}")
    key = torch.zeros((), dtype=torch.int64, device=ids.device)
    for part in (seed, STREAMS[stream], epoch):
        key = _finalise((key ^ part) + _GOLDEN)
    rows = _finalise((key ^ ids.to(torch.int64)) + _GOLDEN)
    index = torch.arange(count, device=ids.device, dtype=torch.int64)
    return _finalise((rows[:, None] ^ index) + _GOLDEN)


def uniforms(seed: int, stream: str, epoch: int | Tensor, ids: Tensor, count: int) -> Tensor:
    """Uniform float32 numbers in [0, 1): ids ``b`` → ``b count``.

    float32 holds 24 random bits. Half precision would hold 11 bits, and masks would depend on ties.
    """
    top = (hash_bits(seed, stream, epoch, ids, count) >> 40) & 0xFF_FFFF
    return top.to(torch.float32) * 2.0**-24


def permutation(seed: int, stream: str, epoch: int, length: int) -> Tensor:
    """A shuffled ``arange(length)`` that depends on (seed, stream, epoch) alone."""
    ids = torch.arange(length)
    return hash_bits(seed, stream, epoch, ids, 1)[:, 0].argsort(stable=True)


@contextmanager
def seeded(seed: int, epoch: int, sample: int, *, stream: str = "transform") -> Iterator[None]:
    """Inside, the generators of torch (on the CPU), numpy and Python start from (seed, epoch, sample id); afterwards they are restored.

    So a random transform gives an image the same result in any worker, batch and run. A generator that a transform has created itself,
    such as ``numpy.random.default_rng()``, is not affected.
    """
    bits = int.from_bytes(hashlib.blake2b(f"{seed} {stream} {epoch} {sample}".encode(), digest_size=8).digest(), "big")
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(bits)
    np.random.seed(bits & 0xFFFF_FFFF)
    random.seed(bits)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])
