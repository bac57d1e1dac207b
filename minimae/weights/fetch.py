"""Fetching a large file: with progress, going on where it was interrupted, checked, and once for all processes that want it."""

from __future__ import annotations

import contextlib
import hashlib
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

from filelock import FileLock
from tqdm import tqdm

from ..errors import MinimaeError

CHUNK = 1 << 20
ATTEMPTS = 3


def fetch(url: str, target: Path, *, md5: str | None = None, quiet: bool = False, timeout: float = 30.0, pause: float = 1.0) -> Path:
    """The file at ``target``, fetched from ``url`` if it is not there yet.

    md5: the checksum or its first digits, if known. What has arrived is kept beside the target as .partial and gone on with, in this
    call (three attempts, ``pause`` seconds apart) and in the next.
    Several processes may ask for the same file: one fetches, the others wait.

    Raises MinimaeError that says where to put the file by hand when it cannot be fetched, and for a wrong checksum (the file is removed).
    """
    if target.is_file():
        return target
    by_hand = f"fetch {url} in another way and put it at {target}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock")):
            if target.is_file():  # another process was quicker
                return target
            partial = target.with_name(target.name + ".partial")
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    download(url, partial, quiet=quiet, timeout=timeout)
                    break
                except urllib.error.HTTPError as error:
                    raise MinimaeError(f"{url} cannot be fetched: the server answers {error.code} {error.reason}; {by_hand}") from None
                except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
                    if attempt == ATTEMPTS:
                        kept = (
                            f"{partial.stat().st_size:,} bytes are kept, and the next call goes on there; or " if partial.exists() else ""
                        )
                        raise MinimaeError(f"{url} cannot be fetched ({reason(error)}): {kept}{by_hand}") from None
                    time.sleep(pause)
            check(partial, md5, url)
            partial.replace(target)
            tag_of(partial).unlink(missing_ok=True)
    except OSError as error:
        raise MinimaeError(f"cannot write {target} ({error}): set TORCH_HOME to a folder that can be written, or {by_hand}") from None
    return target


def download(url: str, partial: Path, *, quiet: bool, timeout: float) -> None:
    """Bring ``partial`` to its whole length, from where it is. A file that has changed on the server since then is begun again."""
    have, tag = partial.stat().st_size if partial.exists() else 0, tag_of(partial)
    request = urllib.request.Request(url, headers={"User-Agent": "minimae"})
    if have and tag.exists():
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag.read_text(encoding="utf-8"))
    try:
        answer: Any = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # there is nothing after what we have: it is whole, or it is something else
            raise
        partial.unlink()
        answer = urllib.request.urlopen(urllib.request.Request(url, headers={"User-Agent": "minimae"}), timeout=timeout)
    with answer:
        have = have if answer.status == 206 else 0
        length = answer.headers.get("Content-Length")
        whole = None if length is None else have + int(length)
        if (named := answer.headers.get("ETag") or answer.headers.get("Last-Modified")) is not None:
            tag.write_text(named, encoding="utf-8")
        else:
            tag.unlink(missing_ok=True)  # without a name for this version of the file, going on would be a gamble
        how: dict[str, Any] = {"unit": "B", "unit_scale": True, "unit_divisor": 1024, "desc": url.rpartition("/")[2], "disable": quiet}
        with open(partial, "ab" if have else "wb") as file, tqdm(total=whole, initial=have, **how) as bar:
            while block := answer.read(CHUNK):
                file.write(block)
                bar.update(len(block))
    if whole is not None and partial.stat().st_size < whole:
        raise ConnectionError(f"the connection ended after {partial.stat().st_size:,} of {whole:,} bytes")


def tag_of(partial: Path) -> Path:
    """Where the server's name for this version of the file is kept while it is incomplete."""
    return partial.with_name(partial.name + "-of")


def check(partial: Path, md5: str | None, url: str) -> None:
    """Raises MinimaeError for another checksum than was wanted, and removes the file."""
    if md5 is None:
        return
    with open(partial, "rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest() if hasattr(hashlib, "file_digest") else digest(file)
    if not found.startswith(md5):
        with contextlib.suppress(OSError):
            partial.unlink()
            tag_of(partial).unlink(missing_ok=True)
        raise MinimaeError(f"what came from {url} has the md5 {found}, not {md5}…: it was removed; try again, and tell us if it stays so")


def digest(file: Any) -> str:
    """The md5 of a file, for Python 3.10."""
    found = hashlib.md5(usedforsecurity=False)
    while block := file.read(CHUNK):
        found.update(block)
    return found.hexdigest()


def reason(error: Exception) -> str:
    """What happened, in a few words."""
    return str(getattr(error, "reason", None) or error or type(error).__name__)
