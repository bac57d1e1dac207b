"""What all tests share: the same numbers in each run, one thread for each process, a folder for temporary files."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, ROOT / "notebooks")))  # processes that tests start use this code

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded, for the processes and kernels that tests start too

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

torch.set_num_threads(1)
settings.register_profile("same-every-time", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("same-every-time")


MOST_GROWTH = 600  # MiB
SLOWEST = ("tests/test_site.py", "notebooks/", "tests/book/test_student.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest modules come first, so that at the end no process waits for another (Makefile)."""
    items.sort(key=lambda item: next((i for i, start in enumerate(SLOWEST) if item.nodeid.startswith(start)), len(SLOWEST)))


def memory() -> int:
    """The most that this process has ever held, in MiB; 0 where that is not known."""
    if sys.platform != "linux":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@pytest.fixture(scope="session", autouse=True)
def leaves_nothing_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Temporary files of the processes that tests start lie in one folder, which is deleted at the end.

    torchrun, killed processes and the compiler leave theirs. The path is short: that of a Unix socket has at most 108 characters.
    """
    tmp_path_factory.getbasetemp()  # not in there; pytest deletes it
    with pytest.MonkeyPatch.context() as patch:
        folder = tempfile.mkdtemp(prefix="mt-")
        patch.setenv("TMPDIR", folder)
        yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def stays_small() -> Iterator[None]:
    """No test makes its process much larger: several run at a time, and what was freed stays with the process (Makefile)."""
    before = memory()
    yield
    assert memory() - before <= MOST_GROWTH, "this test takes too much memory: use a smaller model, torch.device('meta') or a process"


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same torch seed, whichever tests ran before it."""
    torch.manual_seed(0)
