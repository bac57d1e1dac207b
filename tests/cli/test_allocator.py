"""Freed memory stays in the process of a command, unless the environment says otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from minimae.cli import program
from minimae.cli.allocator import keep_freed_memory, set_by_user

ROOT = Path(__file__).resolve().parents[2]
GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
BLOCKS = """
import os, resource, sys
import numpy as np
from minimae.cli.allocator import keep_freed_memory
done = keep_freed_memory(os.environ)
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3): np.ones(8 << 20, dtype=np.uint8)
before = faults()
for _ in range(20): np.ones(8 << 20, dtype=np.uint8)
print(done, (faults() - before) // 20)
"""


def faults_per_block(**extra: str) -> tuple[bool, int]:
    """Whether memory is kept, and the page faults of allocating, filling and freeing 8 MiB (2,048 pages) again and again."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    environment |= extra
    done = subprocess.run([sys.executable, "-c", BLOCKS], env=environment, capture_output=True, text=True, check=True).stdout.split()
    return done[0] == "True", int(done[1])


@GLIBC
def test_freed_blocks_are_used_again_without_page_faults() -> None:
    assert faults_per_block() == (True, 0)


@GLIBC
def test_the_environment_decides_if_it_says_something() -> None:
    kept, faults = faults_per_block(MALLOC_MMAP_THRESHOLD_="1048576")
    assert not kept and faults > 1
    assert not keep_freed_memory({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1"})
    assert set_by_user({"MALLOC_ARENA_MAX": "1", "GLIBC_TUNABLES": "glibc.cpu.x=1"}) == {"MALLOC_ARENA_MAX": "1"}


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory({}) is False


def test_a_command_keeps_memory_when_it_is_the_program_itself_only(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[bool] = []
    monkeypatch.setattr(program, "keep_freed_memory", lambda environment: called.append(True))
    assert program.main(["--version"]) == 0 and called == []
    monkeypatch.setattr(sys, "argv", ["minimae", "--version"])
    assert program.main() == 0 and called == [True]


@GLIBC
def test_the_benchmark_says_how_memory_is_allocated() -> None:
    code = (
        "import os, torch; from minimae.cli.allocator import keep_freed_memory; from minimae_book.bench.command import describe_machine; "
        "name = lambda: describe_machine(torch.device('cpu'))['memory allocator']; "
        "first = name(); keep_freed_memory(os.environ); print(first, name(), sep=' | ')"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "the system's defaults | freed memory is kept"
