"""Read a picture's file, and separate two kinds of failure: the system refused, or the file is damaged.

Only a damaged file may be left out on request. A disk that is not mounted, a file that this user may not read, or too many open
files would otherwise pass for a thousand damaged pictures.
"""

from __future__ import annotations

import errno
from pathlib import Path

from ..errors import MinimaeError

REMEDIES = {
    errno.ENOENT: "the file is gone, a link leads nowhere, or the disk is not mounted",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "let this user read it"),
    errno.EMFILE: "raise the limit (ulimit -n 4096), or use fewer --workers",
    errno.ENFILE: "close other programs, or use fewer --workers",
    errno.EIO: "the disk or the network failed",
}


class SystemFailure(MinimaeError):
    """The system could not read a file: the picture is not damaged, so it must not be left out."""


def file_bytes(path: str | Path, offset: int = 0, length: int = -1) -> bytes:
    """The bytes of a file, or a part of them. Raises SystemFailure, with the path and what to do, when they cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(length)
    except OSError as error:
        raise system_failure(path, error) from error


def system_failure(where: str | Path, error: OSError) -> SystemFailure:
    """One line about a system error: what could not be read, why, and what to do."""
    remedy = REMEDIES.get(error.errno or 0, "the pictures themselves are not damaged")
    return SystemFailure(f"cannot read {shown(where)}: {error.strerror or error}; {remedy}")


def shown(path: str | Path) -> str:
    """A path for a one-line message: line breaks and undecodable bytes are escaped."""
    text = str(path).encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
