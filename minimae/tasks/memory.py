"""Check whether the features of all images fit into memory, with what is computed from them; choose a pool that does."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import MinimaeError
from ..model.sizes import Size
from .features import Pool

SMALLER: tuple[Pool, ...] = ("tokens", "blocks", "mean")  # from the most values an image to the fewest
ROOM = 4e9  # most bytes that a linear probe takes when no pool was given
COPIES = 4  # of the features in memory: raw, standardised, and the part that is fitted on; 2.7 are allocated, the allocator keeps the rest
SOLVER = 38  # vectors as long as the weights: L-BFGS keeps 35, for ten steps, ten changes of the gradient and a line search
GROUPS = Path("/sys/fs/cgroup")  # control groups of version 2; those of version 1 lie in folders
COSINES = 2**30  # bytes of cosines that nearest neighbours compute at a time


def feature_width(size: Size, pool: Pool) -> int:
    """Values per image."""
    return size.width * {"mean": 1, "class": 1, "blocks": size.depth, "tokens": size.grid[0] * size.grid[1]}[pool]


@dataclass(frozen=True)
class Need:
    """What an evaluation on cached features keeps in memory. classes: 0 for nearest neighbours, which have no weights."""

    size: Size
    train: int
    test: int
    classes: int = 0

    def bytes(self, pool: Pool) -> int:
        """Peak memory, roughly."""
        solver = SOLVER * self.classes
        return int(4 * feature_width(self.size, pool) * (COPIES * (self.train + self.test) + solver)) + (0 if solver else COSINES)

    def words(self, pool: Pool) -> str:
        layer = f" and a layer of {self.classes:,} classes" if self.classes else ""
        images = f"{self.train:,} + {self.test:,} images at {feature_width(self.size, pool):,} values each"
        return f"{pool} features of {images}{layer} take about {gigabytes(self.bytes(pool))}"

    def choose(self) -> tuple[Pool, str]:
        """The first of :data:`SMALLER` that fits into :data:`ROOM`, and why it is not tokens. Raises MinimaeError if none fits."""
        room = min(ROOM, free_memory())
        for pool in SMALLER:
            if self.bytes(pool) <= room:
                why = f"pool {pool}: {self.words(SMALLER[0])}; without --pool, at most {gigabytes(room)} are used"
                return pool, why if pool != SMALLER[0] else ""
        raise MinimaeError(f"{self.words(SMALLER[-1])}, more than {gigabytes(room)}: use fewer images (--limit, --labels), or a recipe")

    def check(self, pool: Pool) -> None:
        """Raises MinimaeError, with the sizes, when this pool takes more memory than is free."""
        if self.bytes(pool) > (free := free_memory()):
            fits = [f"--pool {other} ({gigabytes(self.bytes(other))})" for other in SMALLER if self.bytes(other) <= free]
            instead = ", or ".join([*fits, "fewer images (--limit)"])
            raise MinimaeError(f"{self.words(pool)}, and {gigabytes(free)} are free: use {instead}")


def gigabytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"


def free_memory() -> int:
    """Bytes that this process may still allocate, by all known limits; 2^62 if none is known."""
    return min(bounds(), default=2**62)


def bounds() -> Iterator[int]:
    """Free bytes of the machine, of its control group, and within ``ulimit -v``."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        yield 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    for folder, most, now, total in (("", "max", "current", ""), ("memory", "limit_in_bytes", "usage_in_bytes", "total_")):
        with contextlib.suppress(OSError, ValueError):  # ValueError: "max", which is no limit
            allowed, used, parts = ((GROUPS / folder / f"memory.{name}").read_text(encoding="utf-8") for name in (most, now, "stat"))
            cache = sum(int(line.split()[1]) for line in parts.splitlines() if line.startswith(f"{total}inactive_file "))
            yield max(0, int(allowed) - int(used) + cache)  # files that were read stay in memory only until it is needed
    with contextlib.suppress(OSError, ValueError, ImportError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        if limit != resource.RLIM_INFINITY:
            yield max(0, limit - pages * os.sysconf("SC_PAGE_SIZE"))
