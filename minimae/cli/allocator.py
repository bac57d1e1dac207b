"""Keep freed memory in the process, so that the next training step need not request it from the kernel again.

By default glibc returns large freed blocks to the kernel, and the next step waits for fresh, zeroed pages: thousands of page
faults a step, which are slow on small virtual machines.
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
from collections.abc import Mapping

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # <malloc.h>
_kept: list[bool] = []  # the result of the last call: glibc has no function that returns the settings


def set_by_user(environment: Mapping[str, str]) -> dict[str, str]:
    """Environment variables by which the user configures the allocator."""
    names = [name for name in environment if name.startswith("MALLOC_")]
    names += ["GLIBC_TUNABLES"] if "glibc.malloc" in environment.get("GLIBC_TUNABLES", "") else []
    return {name: environment[name] for name in names}


def keep_freed_memory(environment: Mapping[str, str]) -> bool:
    """Configure glibc so that it never returns freed memory to the kernel; → whether that worked. The user's settings take precedence.

    Call it at the start of a program, as ``minimae`` does. Other C libraries are left alone. The two settings belong together: the
    first alone would still leave every large block to mmap, which returns it at once.
    """
    if set_by_user(environment) or platform.libc_ver()[0] != "glibc":
        return False
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        _kept[:] = [bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))]
    return kept()


def kept() -> bool:
    """Whether :func:`keep_freed_memory` has taken effect in this process."""
    return _kept == [True]
