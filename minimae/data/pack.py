"""A folder of pictures → shards of small JPEGs: packed once, then read fast.

Training crops from such shards are a little softer than from the originals. The images of a split lie shuffled, so that WebDataset's
sequential readers meet mixed classes too; :func:`.stream.open_shards` puts them back in order.
"""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..devices import cores
from ..errors import MinimaeError
from .access import file_bytes, shown
from .folder import listing
from .jobs import Job, add, jobs_of, shrink
from .shards import INDEX, PARTIAL, Index, checksum, joined, read_index, write_index, write_shard
from .verify import mismatch, verify
from .workers import end_with_parent, held, ignore, locked, noted_interrupts

__all__ = ["make", "pack", "shrink", "verify"]

FULL = (errno.ENOSPC, errno.EDQUOT)
_shared: dict[str, Any] = {}  # in a worker process: the counter of images, and the request to stop


def make(job: Job) -> Index:
    """Write one shard and the index beside it. Damaged pictures are left out and listed, if the job says so.

    Raises SystemFailure when a picture cannot be read, MinimaeError for a damaged one, and OSError when writing fails.
    """
    skipped: list[str] = []
    stamp, source = job.stamp(), hashlib.sha256()

    def samples() -> Iterator[tuple[int, bytes, int | None]]:
        for i, (name, sample) in enumerate(zip(job.files, job.ids)):
            if _shared and _shared["stop"].is_set():
                raise InterruptedError("stopped")
            path = job.root / name
            data = file_bytes(path)
            add(source, data)
            try:
                small = job.shrunk(data)
            except MemoryError:
                raise
            except Exception as error:  # Pillow raises a dozen types for damaged files
                if not job.skip:
                    remedy = "repair or remove it, or leave such files out with --skip-corrupt"
                    raise MinimaeError(f"{shown(path)} cannot be read ({error}); {remedy}") from None
                skipped.append(f"{shown(path)}: {error}")
            else:
                yield sample, small, None if job.labels is None else job.labels[i]
            if _shared:
                with _shared["done"].get_lock():
                    _shared["done"].value += 1

    shard, ids, offsets, lengths = write_shard(job.path, samples())
    shard = replace(shard, stamp=stamp, source=source.hexdigest())
    label_of = dict(zip(job.ids, job.labels or []))
    labels = None if job.labels is None else [label_of[i] for i in ids]
    index = Index(job.name, job.recipe, job.classes, (shard,), ids, offsets, lengths, labels, tuple(skipped), job.split)
    write_index(job.path.with_suffix(".json"), index)
    return index


def finished(job: Job) -> Index | None:
    """The index of an intact shard made from the current pictures; None when it must be made again.

    Pictures that were left out are tried again. Raises ValueError for other settings, SystemFailure as :func:`make` does.
    """
    try:
        index = read_index(job.path.with_suffix(".json"))
    except (FileNotFoundError, ValueError):
        return None
    if index.recipe != job.recipe:
        other = _difference(index.recipe, job.recipe)
        raise ValueError(f"{job.path.parent} holds shards of {other}: choose another folder, or remove them")
    packed, [shard] = set(index.ids), index.shards
    kept = [i for i, sample in enumerate(job.ids) if sample in packed]
    labels = None if job.labels is None else [job.labels[i] for i in kept]
    of_job = (shard.file, index.ids, index.labels, index.classes) == (job.path.name, [job.ids[i] for i in kept], labels, job.classes)
    if not of_job or index.split not in ("", job.split) or not job.path.is_file():
        return None
    if job.path.stat().st_size != shard.bytes or checksum(job.path) != shard.sha256 or mismatch(job.path, index) is not None:
        return None
    left_out = [job.root / name for name, sample in zip(job.files, job.ids) if sample not in packed]
    if left_out and (not job.skip or any(map(job.readable, left_out))):
        return None
    return index if job.unchanged(shard) else None


def _difference(packed: dict[str, Any], wanted: dict[str, Any]) -> str:
    """How the settings or pictures of existing shards differ from those of this call, as text."""
    keys = [key for key in {**packed, **wanted} if packed.get(key) != wanted.get(key) and key != "files"]
    if not keys:
        return "other pictures (some were added, removed or renamed since)"
    theirs, ours = (", ".join(f"{key} {recipe.get(key)}" for key in keys) for recipe in (packed, wanted))
    return f"other settings ({theirs}, not {ours})"


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

    bits: how many bits of deeper pictures are used, by default those that the files state (:mod:`.depth`).
    workers: processes, by default one for each core that this process may use. The shards do not depend on it, byte for byte.
    skip_corrupt: leave damaged pictures out and list them in the index; they are tried again by the next call.
    Raises MinimaeError for a damaged picture, for one that the system cannot read, for a full disk (finished shards stay), for a
    dead worker process, and while another process packs into this folder; ValueError for wrong settings or a folder that holds other
    shards; and as :func:`.folder.listing` does.
    """
    limits = (("side", side, 1, 1 << 14), ("quality", quality, 1, 100), ("shard_size", shard_size, 1, 10**8), ("bits", bits or 8, 8, 32))
    for what, value, least, most in limits:
        if not least <= value <= most:
            raise ValueError(f"{what} must be between {least} and {most}, not {value}")
    if workers is not None and workers < 0:
        raise ValueError(f"workers must be at least 0, not {workers}")
    found = listing(root, split)
    target = out / split
    if found.root.resolve() in (target.resolve(), *target.resolve().parents):
        raise ValueError(f"{target} lies among the pictures themselves: give another folder for the shards")
    how: dict[str, Any] = {"side": side, "quality": quality, "shard_size": shard_size, "bits": bits, "skip_corrupt": skip_corrupt}
    jobs = jobs_of(found, split, target, root.resolve().name, **how)
    try:
        with locked(target):
            index = joined(_shards(jobs, target, workers, quiet))
            if not index.ids:
                raise MinimaeError(f"none of {len(found.names)} pictures in {found.root} could be read; the first: {index.skipped[0]}")
            write_index(target / INDEX, index)
    except OSError as error:
        ready = len(list(target.glob("[0-9]*.json")))
        full = error.errno in FULL
        what = f"the disk is full at {target}" if full else f"cannot write into {target} ({error.strerror or error})"
        remedy = f"{'make room' if full else 'fix that'} and run the same command again"
        raise MinimaeError(f"{what}: {ready} of {len(jobs)} shards are finished and stay; {remedy}") from error
    return index


def _shards(jobs: list[Job], target: Path, workers: int | None, quiet: bool) -> list[Index]:
    """The indexes of all shards; missing shards are made. Raises ValueError when the folder holds others."""
    ours = {job.path.name for job in jobs}
    images = sum(len(job.ids) for job in jobs)
    with tqdm(total=images, desc=f"pack {target.name}", unit="image", disable=quiet, dynamic_ncols=True) as bar:
        done: dict[Path, Index] = {}
        for job in jobs:
            index = finished(job)
            if index is not None:
                done[job.path] = index
                bar.update(len(job.ids))
        other = next((path for path in sorted(target.glob("*.tar*")) if path.name.removesuffix(PARTIAL) not in ours), None)
        if other is not None:
            strange = f"none of the {len(jobs)} shards of these pictures and settings"
            raise ValueError(f"{other} is {strange}: choose another folder, or remove it")
        todo = [job for job in jobs if job.path not in done]
        workers = min(cores() if workers is None else workers, len(todo))
        done |= _one_by_one(todo, bar) if workers <= 1 else _in_processes(todo, workers, bar)
    return [done[job.path] for job in jobs]


def _one_by_one(jobs: list[Job], bar: Any) -> dict[Path, Index]:
    done = {}
    for job in jobs:
        done[job.path] = make(job)
        bar.update(len(job.ids))
    return done


def _in_processes(jobs: list[Job], workers: int, bar: Any) -> dict[Path, Index]:
    """Make shards in processes. Whatever goes wrong, the others are asked to stop, and no process is left behind."""
    context = multiprocessing.get_context("spawn")
    stop, count = context.Event(), context.Value("q", 0)
    before = bar.n
    options: dict[str, Any] = {"mp_context": context, "initializer": _start_worker, "initargs": (stop, count)}
    with noted_interrupts() as interrupts, ProcessPoolExecutor(workers, **options) as pool:
        with held(signal.SIGINT):  # the processes start in submit
            running: dict[Future[Index], Job] = {pool.submit(make, job): job for job in jobs}
        done: dict[Path, Index] = {}
        try:
            waiting = set(running)
            while waiting:
                ready, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                if interrupts:
                    raise KeyboardInterrupt
                for future in ready:
                    done[running[future].path] = future.result()
                bar.update(before + count.value - bar.n)
        except BrokenProcessPool:
            raise MinimaeError("a process that packed died (out of memory?): run the same command again, with fewer --workers") from None
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
    return done


def _start_worker(stop: Any, count: Any) -> None:
    """In a worker process: Ctrl-C is the parent's to handle, and nobody works for a parent that is gone."""
    _shared.update(stop=stop, done=count)
    ignore(signal.SIGINT)
    end_with_parent()
