"""Fetching over a bad line, from a server on this machine: interrupted, cut short, changed, missing, wrong; by several at once."""

from __future__ import annotations

import hashlib
import http.server
import multiprocessing
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

import minimae
from minimae import MinimaeError, weights
from minimae.tasks.pretrain import Pretrained
from minimae.weights.official import ATTEMPTS, PUBLISHED, Published, download, published_file


@dataclass
class Server:
    """What is served, how it misbehaves, and what it was asked for. cut: bytes after which the next connections break."""

    body: bytes = b""
    etag: str = '"one"'
    cut: list[int] = field(default_factory=list)
    status: int = 200
    ranges: bool = True
    asked: list[str] = field(default_factory=list)
    address: str = ""

    @property
    def url(self) -> str:
        return f"{self.address}/pretrain/file.pth"


@pytest.fixture
def server() -> Iterator[Server]:
    told = Server(body=os.urandom(3_000_000))

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            begin = self.headers.get("Range", "")
            told.asked.append(begin or "all")
            if told.status != 200:
                self.send_error(told.status)
                return
            first = int(begin[6:-1]) if begin and told.ranges and self.headers.get("If-Range") == told.etag else 0
            if first >= len(told.body):
                self.send_error(416)
                return
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(told.body) - first))
            self.send_header("ETag", told.etag)
            self.end_headers()
            rest = told.body[first:]
            if told.cut:
                rest = rest[: told.cut.pop(0)]
            self.wfile.write(rest)

    with http.server.ThreadingHTTPServer(("localhost", 0), Handler) as running:
        told.address = f"http://localhost:{running.server_port}"
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield told
        running.shutdown()


def get(server: Server, target: Path, **options: Any) -> Path:
    return download(server.url, target, **{"quiet": True, "pause": 0.01, **options})


def test_a_whole_file(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "some" / "file.pth"
    assert get(server, target, quiet=False, md5=hashlib.md5(server.body).hexdigest()[:6]).read_bytes() == server.body
    assert "file.pth" in capsys.readouterr().err, "it shows how far it is"
    assert get(server, target) == target and server.asked == ["all"], "the second time it is there"
    assert {path.name for path in target.parent.iterdir()} <= {"file.pth", "file.pth.lock"}


def test_an_interrupted_one_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.cut = [1_000_000, 500_000]
    assert get(server, tmp_path / "file.pth").read_bytes() == server.body
    assert server.asked == ["all", "bytes=1000000-", "bytes=1500000-"]


def test_what_has_come_is_kept_for_the_next_call(server: Server, tmp_path: Path) -> None:
    server.cut = [400_000, 0, 0]
    with pytest.raises(
        MinimaeError, match=r"400,000 bytes are kept, and the next call resumes there; or fetch http.* and put it at .*file.pth"
    ):
        get(server, tmp_path / "file.pth")
    assert len(server.asked) == ATTEMPTS and not (tmp_path / "file.pth").exists()
    assert get(server, tmp_path / "file.pth").read_bytes() == server.body and server.asked[-1] == "bytes=400000-"


def test_a_file_that_has_changed_meanwhile_is_begun_again(server: Server, tmp_path: Path) -> None:
    server.cut = [400_000, 0, 0]
    with pytest.raises(MinimaeError):
        get(server, tmp_path / "file.pth")
    server.body, server.etag = os.urandom(900_000), '"two"'
    assert get(server, tmp_path / "file.pth").read_bytes() == server.body


def test_a_server_that_cannot_go_on_sends_it_all(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cut = False, [1_000_000]
    assert get(server, tmp_path / "file.pth").read_bytes() == server.body


def test_a_part_that_is_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.pth.partial").write_bytes(b"x" * 4_000_000)
    (tmp_path / "file.pth.partial-of").write_text(server.etag)
    assert get(server, tmp_path / "file.pth").read_bytes() == server.body


def test_a_wrong_checksum(server: Server, tmp_path: Path) -> None:
    with pytest.raises(MinimaeError, match=r"has the md5 [0-9a-f]{32}, not 8cad7c…: it was removed; try again"):
        get(server, tmp_path / "file.pth", md5="8cad7c")
    assert not [path for path in tmp_path.iterdir() if not path.name.endswith(".lock")]


def test_a_file_that_is_not_there(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(MinimaeError, match=r"the server answers 404 Not Found; fetch http.* in another way and put it at .*file.pth"):
        get(server, tmp_path / "file.pth")
    assert len(server.asked) == 1, "asking again would not help"


def test_no_network(tmp_path: Path) -> None:
    with pytest.raises(MinimaeError, match=r"cannot be fetched \(.*\): fetch http.* and put it at .*file.pth"):
        download("http://localhost:9/file.pth", tmp_path / "file.pth", quiet=True, pause=0.01)


def test_a_cache_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(MinimaeError, match="cannot write .*: set TORCH_HOME to a folder that can be written, or fetch"):
        get(server, tmp_path / "cache" / "file.pth")
    assert server.asked == []


def _fetch_in_a_process(url: str, target: Path) -> None:
    assert download(url, target, quiet=True).stat().st_size == 3_000_000


def test_two_processes_at_once_fetch_it_once(server: Server, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_fetch_in_a_process, args=(server.url, tmp_path / "file.pth")) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(60)
    assert [one.exitcode for one in both] == [0, 0] and server.asked == ["all"]
    assert (tmp_path / "file.pth").read_bytes() == server.body


# --- by name --------------------------------------------------------------------------------------------------------------


def test_names_say_where_and_what() -> None:
    assert {"mae-base", "mae-large-full", "mae-huge-pixels", "mae-large-pixels-gan", "mae-base-finetuned"} <= set(PUBLISHED) and len(
        PUBLISHED
    ) == 13
    assert PUBLISHED["mae-base"].url == "https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_base.pth"
    assert PUBLISHED["mae-huge-pixels"].target == "pixels" and PUBLISHED["mae-huge-full"].target == "normalised"


def test_weights_by_name(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = minimae.load("fashion-nano")
    assert isinstance(shipped, Pretrained)
    weights.save(shipped, tmp_path / "served.pth", "official")
    server.body = (tmp_path / "served.pth").read_bytes()
    here = Published(server.url, hashlib.md5(server.body).hexdigest()[:6])
    monkeypatch.setitem(PUBLISHED, "mae-base", here)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    for _ in range(2):
        found = minimae.load("mae-base")
        assert isinstance(found, Pretrained)
        assert all(torch.equal(a, b) for a, b in zip(found.model.state_dict().values(), shipped.model.state_dict().values(), strict=True))
    assert server.asked == ["all"] and (tmp_path / "cache" / "checkpoints" / "file.pth").is_file()
    assert capsys.readouterr().err.count("not for commercial use") == 1, "the licence is shown once"
    assert published_file("mae-base", tmp_path / "other", quiet=True).is_file() and len(server.asked) == 2


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(MinimaeError, match="no weights of that name, neither shipped nor published; did you mean 'mae-base-full'"):
        minimae.load("mae-base-ful")
