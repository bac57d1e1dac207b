"""A folder of pictures → shards of small JPEGs: packed once, read fast ever after.

The short side becomes 256 pixels (a picture that has fewer stays as it is), which turns the 140 GB of ImageNet into about 22 and
makes decoding cheap. Training crops from such shards are a little softer than from the originals. The images of a split lie
shuffled, so that WebDataset's sequential readers meet mixed classes too; :func:`.stream.open_shards` puts them back in order.
"""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..errors import MinimaeError
from ..noise import permutation
from .decoding import decode, encode, read_header, scale_of
from .folder import Listing, listing
from .shards import INDEX, Index, checksum, joined, read_index, write_index, write_shard
from .workers import cores, held, ignore, noted_interrupts

FULL = (errno.ENOSPC, errno.EDQUOT)
_shared: dict[str, Any] = {}  # in a worker process: the counter of images, and the request to stop


def shrink(data: bytes, *, side: int, quality: int) -> bytes:
    """The bytes of an image file → a JPEG in which the short side has ``side`` pixels (antialiased bicubic), upright.

    A plain JPEG that is no larger stays byte for byte as it is; it is decoded to see that it is whole. Raises what Pillow raises
    for a damaged file. A JPEG more than four times as large is decoded at half size or less first, with at least twice the pixels wanted.
    """
    header = read_header(data)
    small = min(header.height, header.width) <= side
    scale = 1 if small else scale_of(header, header.height, header.width, wanted=(2 * side, 2 * side))
    picture = decode(header, scale)
    if small:
        return data if header.plain else encode(picture, max(quality, 95))
    from PIL import Image

    height, width = header.height, header.width
    # The long side is cut off, not rounded, as torchvision does it: resize 256, centre crop 224 stays what it was.
    size = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
    whole = (0, 0, width / scale, height / scale)  # a reduced picture may end within its last pixel
    return encode(picture.resize(size, Image.Resampling.BICUBIC, box=whole), quality)


@dataclass(frozen=True)
class Job:
    """One shard to be made: which images of the listing, where to, and how."""

    name: str
    path: Path
    root: Path
    files: list[str]
    ids: list[int]
    labels: list[int] | None
    classes: tuple[str, ...]
    recipe: dict[str, Any]


def make(job: Job) -> Index:
    """Write one shard and the index beside it. Unreadable pictures are left out and listed. Raises OSError when writing fails."""
    skipped: list[str] = []

    def samples() -> Iterator[tuple[int, bytes, int | None]]:
        for i, (name, sample) in enumerate(zip(job.files, job.ids)):
            if _shared and _shared["stop"].is_set():
                raise InterruptedError("stopped")
            path = job.root / name
            try:
                small = shrink(path.read_bytes(), side=job.recipe["side"], quality=job.recipe["quality"])
            except MemoryError:
                raise
            except Exception as error:  # Pillow raises a dozen types for damaged files
                skipped.append(f"{path}: {error}")
            else:
                yield sample, small, None if job.labels is None else job.labels[i]
            if _shared:
                with _shared["done"].get_lock():
                    _shared["done"].value += 1

    shard, ids, offsets, lengths = write_shard(job.path, samples())
    label_of = dict(zip(job.ids, job.labels or []))
    labels = None if job.labels is None else [label_of[i] for i in ids]
    index = Index(job.name, job.recipe, job.classes, (shard,), ids, offsets, lengths, labels, tuple(skipped))
    write_index(job.path.with_suffix(".json"), index)
    return index


def finished(job: Job) -> Index | None:
    """The index of a shard that is there and whole by its checksum; else None. ValueError when it was packed in another way."""
    beside = job.path.with_suffix(".json")
    if not beside.is_file():
        return None
    try:
        index = read_index(beside)
    except ValueError:
        return None
    if index.recipe != job.recipe:
        raise ValueError(
            f"{job.path.parent} holds shards of other pictures or other settings ({_settings(index.recipe)}, not {_settings(job.recipe)}): "
            "choose another folder, or remove them"
        )
    whole = job.path.is_file() and job.path.stat().st_size == index.shards[0].bytes and checksum(job.path) == index.shards[0].sha256
    return index if whole else None


def _settings(recipe: dict[str, Any]) -> str:
    return ", ".join(f"{key} {str(value)[:12]}" for key, value in recipe.items())


def jobs_of(found: Listing, split_folder: Path, name: str, *, side: int, quality: int, shard_size: int) -> list[Job]:
    """The shards of a listing: a function of the listing and the settings alone, whoever makes them."""
    order = permutation(0, "split", 0, len(found.names)).tolist()
    listed = "\0".join([*found.names, "", *found.classes])
    digest = hashlib.sha256(os.fsencode(listed)).hexdigest()
    recipe = {"side": side, "quality": quality, "shard_size": shard_size, "files": digest}
    jobs = []
    for number, first in enumerate(range(0, len(order), shard_size)):
        places = order[first : first + shard_size]
        labels = None if found.labels is None else [found.labels[i] for i in places]
        names = [found.names[i] for i in places]
        jobs.append(Job(name, split_folder / f"{number:06d}.tar", found.root, names, places, labels, found.classes, recipe))
    return jobs


def pack(
    root: Path,
    split: str,
    out: Path,
    *,
    side: int = 256,
    quality: int = 90,
    shard_size: int = 4096,
    workers: int | None = None,
    quiet: bool = False,
) -> Index:
    """Pack one split of a folder into ``out/split``; returns its index. Called again, it goes on where it was stopped.

    workers: processes, by default one for each core that this process may use. The shards do not depend on it, byte for byte.
    Pictures that cannot be read are left out and listed in the index. Raises MinimaeError for a full disk (finished shards stay) and for
    a process that died, ValueError for wrong settings or a folder that holds other shards, and as :func:`.folder.listing` does.
    """
    for what, value, least, most in (("side", side, 1, 1 << 14), ("quality", quality, 1, 100), ("shard_size", shard_size, 1, 10**8)):
        if not least <= value <= most:
            raise ValueError(f"{what} must be between {least} and {most}, not {value}")
    found = listing(root, split)
    target = out / split
    if target.resolve() == found.root.resolve():
        raise ValueError(f"{target} holds the pictures themselves: give another folder for the shards")
    jobs = jobs_of(found, target, root.resolve().name, side=side, quality=quality, shard_size=shard_size)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tqdm(total=len(found.names), desc=f"pack {split}", unit="image", disable=quiet, dynamic_ncols=True) as bar:
            done: dict[Path, Index] = {}
            for job in jobs:
                index = finished(job)
                if index is not None:
                    done[job.path] = index
                    bar.update(len(job.ids))
            todo = [job for job in jobs if job.path not in done]
            workers = min(cores() if workers is None else workers, len(todo))
            done |= _one_by_one(todo, bar) if workers <= 1 else _in_processes(todo, workers, bar)
        index = joined([done[job.path] for job in jobs])
        write_index(target / INDEX, index)
    except OSError as error:
        if error.errno not in FULL:
            raise
        ready = len(list(target.glob("*.tar")))
        raise MinimaeError(
            f"the disk is full at {target}: {ready} of {len(jobs)} shards are finished and stay; make room and run the same command again"
        ) from error
    return index


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
    told: dict[str, Any] = {"mp_context": context, "initializer": _start_worker, "initargs": (stop, count)}
    with noted_interrupts() as interrupts, ProcessPoolExecutor(workers, **told) as pool:
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
    parent = multiprocessing.parent_process()
    assert parent is not None

    def leave_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()


def verify(out: Path, *, quiet: bool = False) -> list[str]:
    """Compare every shard below ``out`` with its checksum: what is wrong, one line each; nothing when all is well.

    Raises FileNotFoundError when there are no shards.
    """
    folders = [folder for folder in (out, *(out / split for split in ("train", "val", "test"))) if any(folder.glob("*.tar*"))]
    if not folders:
        raise FileNotFoundError(f"{out} holds no shards")
    wrong = []
    for folder in folders:
        try:
            index = read_index(folder / INDEX)
        except (FileNotFoundError, ValueError) as error:
            wrong.append(str(error))
            continue
        for shard in tqdm(index.shards, desc=f"verify {folder}", unit="shard", disable=quiet, dynamic_ncols=True):
            path = folder / shard.file
            if not path.is_file():
                wrong.append(f"{path} is missing")
            elif path.stat().st_size != shard.bytes:
                wrong.append(f"{path} has {path.stat().st_size:,} bytes, not {shard.bytes:,}")
            elif checksum(path) != shard.sha256:
                wrong.append(f"{path} has another checksum")
        listed = {shard.file for shard in index.shards}
        wrong += [f"{path} is in no index" for path in sorted(folder.glob("*.tar*")) if path.name not in listed]
    return wrong
