"""A folder of real JPEGs laid out as ImageNet, and the shards made of it: once for all tests, which only read them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from minimae.data.pack import pack
from minimae.data.photos import make_folder


@pytest.fixture(scope="session")
def jpegs(tmp_path_factory) -> Path:
    """3 classes, 6 + 2 images each, 75 to 125 pixels a side."""
    return make_folder(tmp_path_factory.mktemp("jpegs"), classes=3, train=6, val=2, share=0.25)


@pytest.fixture(scope="session")
def shards(jpegs, tmp_path_factory) -> Path:
    """The same in shards of 7, the short side 64 pixels."""
    out = tmp_path_factory.mktemp("shards")
    for split in ("train", "val"):
        pack(jpegs, split, out, side=64, shard_size=7, workers=1, quiet=True)
    return out


@pytest.fixture
def in_session() -> Callable[[int], list[int]]:
    """Tells the living processes of the session that a process had started."""

    def living(leader: int) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(session) == leader and state != "Z":
                found.append(int(path.parent.name))
        return found

    return living
