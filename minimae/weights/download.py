"""Downloading a large file: with progress, resumed where it broke off, checked, and once for all processes that want it.

``torch.hub.download_url_to_file`` begins again after each break, and its checksum is another (SHA-256) than the authors publish.
"""

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

ATTEMPTS = 3


def download(url: str, target: Path, *, md5: str | None = None, quiet: bool = False, timeout: float = 30.0, pause: float = 1.0) -> Path:
    """The file at ``target``, downloaded from ``url`` if it is not there yet.

    md5: the checksum or its first digits, if known. What has arrived is kept beside the target as .partial and resumed, in this call
    (three attempts, ``pause`` seconds apart) and in the next. Several processes may want the same file: one downloads, the others wait.
    Raises MinimaeError that says where to put the file by hand when it cannot be downloaded, and for a wrong checksum.
    """
    if target.is_file():
        return target
    by_hand = f"fetch {url} in another way and put it at {target}"
    partial = target.with_name(target.name + ".partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock")):
            if target.is_file():  # another process was quicker
                return target
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    download_rest(url, partial, quiet=quiet, timeout=timeout)
                    break
                except urllib.error.HTTPError as error:
                    if error.code == 416 and partial.exists():  # the part is as long as the file, or longer
                        partial.unlink()
                        continue
                    raise MinimaeError(f"{url} cannot be fetched: the server answers {error.code} {error.reason}; {by_hand}") from None
                except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
                    if attempt == ATTEMPTS:
                        have = f"{partial.stat().st_size:,} bytes" if partial.exists() else ""
                        kept = f"{have} are kept, and the next call resumes there; or " if have else ""
                        what = getattr(error, "reason", None) or error or type(error).__name__
                        raise MinimaeError(f"{url} cannot be fetched ({what}): {kept}{by_hand}") from None
                    time.sleep(pause)
            check(partial, md5, url)
            partial.replace(target)
            tag_file(partial).unlink(missing_ok=True)
    except OSError as error:
        raise MinimaeError(f"cannot write {target} ({error}): set TORCH_HOME to a folder that can be written, or {by_hand}") from None
    return target


def download_rest(url: str, partial: Path, *, quiet: bool, timeout: float) -> None:
    """Bring ``partial`` to its whole length, from where it is. A file that has changed on the server since then is begun again."""
    have, tag = partial.stat().st_size if partial.exists() else 0, tag_file(partial)
    version = tag.read_text(encoding="utf-8") if have and tag.exists() else ""
    ranges = {"Range": f"bytes={have}-", "If-Range": version} if version else {}  # without it the parts could be of two versions
    response: Any = urllib.request.urlopen(urllib.request.Request(url, headers={"User-Agent": "minimae"} | ranges), timeout=timeout)
    with response:
        have = have if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        tag.write_text(response.headers.get("ETag") or response.headers.get("Last-Modified") or "", encoding="utf-8")
        bar: Any = {"unit": "B", "unit_scale": True, "unit_divisor": 1024, "desc": url.rpartition("/")[2], "disable": quiet}
        with open(partial, "ab" if have else "wb") as file, tqdm(total=total, initial=have, **bar) as progress:
            while block := response.read(1 << 20):
                file.write(block)
                progress.update(len(block))
    if total is not None and partial.stat().st_size < total:
        raise ConnectionError(f"the connection ended after {partial.stat().st_size:,} of {total:,} bytes")


def tag_file(partial: Path) -> Path:
    """Keeps the server's tag of this version of the file while it is incomplete."""
    return partial.with_name(partial.name + "-of")


def check(partial: Path, md5: str | None, url: str) -> None:
    """Raises MinimaeError for a wrong checksum, and removes the file."""
    if md5 is None:
        return
    digest = hashlib.md5(usedforsecurity=False)
    with open(partial, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if not digest.hexdigest().startswith(md5):
        with contextlib.suppress(OSError):
            partial.unlink()
            tag_file(partial).unlink(missing_ok=True)
        raise MinimaeError(
            f"what came from {url} has the md5 {digest.hexdigest()}, not {md5}…: it was removed; try again, and report it if it stays so"
        )
