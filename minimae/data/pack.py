"""A folder of pictures → shards of small JPEGs: packed once, then read fast.

Training crops from such shards are a little softer than from the originals. The images of a split are shuffled, so that WebDataset's
sequential readers get mixed classes too; :func:`.stream.open_shards` puts them back in order.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset
from tqdm import tqdm

from ..devices import cores
from ..errors import MinimaeError
from .folder import listing, scan
from .jobs import Job, finished, jobs_of, make
from .shards import INDEX, PARTIAL, Index, joined, write_index
from .workers import Workers, locked


def pack(
    root: Path,
    split: str,
    out: Path,
    *,
    side: int = 256,
    quality: int = 90,
    shard_size: int = 4096,
    bits: int | None = None,
    workers: int | None = None,
    skip_corrupt: bool = False,
    quiet: bool = False,
) -> Index:
    """Pack one split of a folder into ``out/split``; returns its index. Called again, it continues where it stopped.

    bits: how many bits of deeper pictures are used, by default those that the files state (:mod:`.decoding`).
    workers: processes, by default one for each core that this process may use. The shards do not depend on it, byte for byte.
    skip_corrupt: leave damaged pictures out and list them in the index; they are tried again by the next call.
    Raises MinimaeError for a damaged picture, for one that the system cannot read, for a full disk (finished shards stay), for a
    dead worker process, and while another process packs into this folder; ValueError for wrong settings or a folder that holds other
    shards; and as :func:`.folder.listing` does.
    """
    limits = (("side", side, 1, 1 << 14), ("quality", quality, 1, 100), ("shard_size", shard_size, 1, 10**8), ("bits", bits, 8, 32))
    for what, value, least, most in limits:
        if value is not None and not least <= value <= most:
            raise ValueError(f"{what} must be between {least} and {most}, not {value}")
    if workers is not None and workers < 0:
        raise ValueError(f"workers must be at least 0, not {workers}")
    files = listing(root, split)
    target = out / split
    if files.root.resolve() in (target.resolve(), *target.resolve().parents):
        raise ValueError(f"{target} lies among the pictures themselves: give another folder for the shards")
    if out.is_dir() and (others := scan(out)[0]):
        raise ValueError(f"{out} holds pictures, such as {others[0]}: give another folder for the shards")
    recipe = {"side": side, "quality": quality, "shard_size": shard_size} | ({} if bits is None else {"bits": bits})
    jobs = jobs_of(files, split, target, recipe, skip_corrupt=skip_corrupt)
    try:
        with locked(target):
            index = joined(_shards(jobs, target, workers, quiet))
            if not index.ids:
                raise MinimaeError(f"none of {len(files)} pictures in {files.root} could be read; the first: {index.skipped[0]}")
            write_index(target / INDEX, index)
    except OSError as error:
        ready = len(list(target.glob("[0-9]*.json")))
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = f"the disk is full at {target}" if full else f"cannot write into {target} ({error.strerror or error})"
        remedy = f"{'make room' if full else 'fix that'} and run the same command again"
        raise MinimaeError(f"{what}: {ready} of {len(jobs)} shards are finished and kept; {remedy}") from error
    return index


def _shards(jobs: list[Job], target: Path, workers: int | None, quiet: bool) -> list[Index]:
    """The indexes of all shards; missing shards are made. Raises ValueError when the folder holds other shards."""
    done = {job.path: index for job in jobs if (index := finished(job)) is not None}
    ours = {job.path.name for job in jobs}
    other = next((path for path in sorted(target.glob("*.tar*")) if path.name.removesuffix(PARTIAL) not in ours), None)
    if other is not None:
        raise ValueError(f"{other} is none of the {len(jobs)} shards of these pictures and settings: choose another folder, or remove it")
    todo = [job for job in jobs if job.path not in done]
    workers = min(cores() if workers is None else workers, len(todo))
    made = Workers(_Jobs(), todo, workers if workers > 1 else 0, prefetch=1, timeout=0)
    with tqdm(total=len(jobs), initial=len(done), desc=f"pack {target.name}", unit="shard", disable=quiet, dynamic_ncols=True) as bar:
        try:
            for job, index in zip(todo, made, strict=True):
                done[job.path] = index
                bar.update()
        finally:  # after an error, a killed worker may leave half a shard
            made.close()
            for path in target.glob(f"*{PARTIAL}"):
                path.unlink()
    return [done[job.path] for job in jobs]


class _Jobs(Dataset[Any]):
    """Makes the shard of a job → its index, or the error."""

    def __getitem__(self, job: Job) -> Index | Exception:
        try:
            return make(job)
        except (MinimaeError, OSError) as error:
            return error
