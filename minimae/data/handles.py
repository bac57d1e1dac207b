"""Files that are kept open, so that reading a part takes a single call."""

from __future__ import annotations

import errno
import os

from .access import system_failure

MOST_OPEN = 512  # most files held open by one process, and at most a quarter of its limit


def most_open() -> int:
    """How many files this process may hold open for reading: the system's limit is 256 on macOS and 1,024 on most Linux systems."""
    try:
        import resource
    except ImportError:  # Windows
        return MOST_OPEN
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_OPEN if limit == resource.RLIM_INFINITY else max(1, min(MOST_OPEN, limit // 4))


class FileCache:
    """Files kept open for reading, each process its own: a copy in another process starts with none."""

    def __init__(self) -> None:
        self.open: dict[str, int] = {}

    def __reduce__(self) -> tuple[type[FileCache], tuple[()]]:
        return FileCache, ()

    def read(self, path: str, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset`` on; fewer where the file ends. Raises SystemFailure."""
        try:
            if not hasattr(os, "pread"):
                with open(path, "rb") as file:
                    file.seek(offset)
                    return file.read(length)
            if path not in self.open:
                self.open[path] = self._opened(path)
            return os.pread(self.open[path], length, offset)  # moves no file position, so a forked process may share the file
        except OSError as error:
            raise system_failure(path, error) from error

    def _opened(self, path: str) -> int:
        """A file descriptor. When too many files are open, the one opened first is closed."""
        while len(self.open) >= most_open():
            os.close(self.open.pop(next(iter(self.open))))
        try:
            return os.open(path, os.O_RDONLY)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or not self.open:
                raise
            self.close()  # other code in this process holds the rest
            return os.open(path, os.O_RDONLY)

    def close(self) -> None:
        while self.open:
            os.close(self.open.popitem()[1])

    def __del__(self) -> None:
        self.close()
