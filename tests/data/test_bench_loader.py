"""The benchmark measures every way that can be gone, and says why others cannot."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tyro
from minimae_book.bench import loader as bench_loader
from minimae_book.bench.loader import BenchLoaderCommand, Way, bench, plan, table, ways

import minimae
from minimae.cli.data import PackCommand, VerifyCommand
from minimae.data.stream import open_stream
from minimae.errors import MinimaeError


def test_every_way_is_measured(jpegs, shards):
    compared, missing = ways(open_stream(jpegs), open_stream(shards))
    assert [way.where for way in compared] == ["host", "device"] * 2 and missing == []
    rows = bench(compared, image=32, batch=4, batches=1, repeats=2, workers=0, step=0.001, quiet=True)
    assert [row.name for row in rows] == [way.name for way in compared]
    for row in rows:
        assert 0 < row.least <= row.per_core <= row.most and row.delivered > 0 and 0 <= row.waiting < 1 and row.kilobytes > 0
    text = table(rows, workers=0, step=0.001, batch=4)
    assert all(row.name in text for row in rows) and "%" in text and "torch" in text


class Clock:
    """Stands for the module time: only sleeping and waiting for images take any."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class OneWorker:
    """Stands for a loader: one worker takes 160 ms for a batch, and keeps two ready."""

    def __init__(self, clock: Clock, batches: int) -> None:
        self.clock, self.waited, self.ready, self.left = clock, 0.0, [0.16, 0.32], batches

    def __iter__(self) -> "OneWorker":
        return self

    def __next__(self) -> object:
        if not self.left:
            raise StopIteration
        self.left -= 1
        ready = self.ready.pop(0)
        wait = max(0.0, ready - self.clock.now)
        self.waited += wait
        self.clock.now += wait
        self.ready.append(max(self.clock.now, self.ready[-1]) + 0.16)  # there is room for another batch
        return object()


@pytest.mark.parametrize(("step", "waiting", "delivered"), [(0.5, 0.0, 8 / 0.5), (0.0, 1.0, 8 / 0.16), (0.1, 0.375, 8 / 0.16)])
def test_a_long_step_waits_for_nothing_and_a_short_one_for_the_worker(jpegs, monkeypatch, step, waiting, delivered):
    clock = Clock()
    monkeypatch.setattr(bench_loader, "time", clock)
    monkeypatch.setattr(bench_loader, "Loader", lambda stream, plan, **how: OneWorker(clock, len([*plan])))
    monkeypatch.setattr(bench_loader, "_rate", lambda way, part, image: 1.0)
    [row] = bench([Way("slow", open_stream(jpegs))], image=16, batch=8, batches=2, repeats=1, workers=1, step=step, quiet=True)
    assert row.waiting == pytest.approx(waiting, abs=1e-9) and row.delivered == pytest.approx(delivered)


def test_the_plan_goes_round(jpegs):
    places = [p.tolist() for p, _ in plan(5, 4, 2)]
    assert places == [[0, 1, 2, 3], [4, 0, 1, 2]]


def test_the_commands_pack_verify_and_measure(jpegs, tmp_path, capsys):
    out = tmp_path / "packed"
    tyro.cli(PackCommand, args=[str(jpegs), str(out), "--side", "48", "--workers", "1", "--shard-size", "9"])()
    tyro.cli(VerifyCommand, args=[str(out)])()
    few = {"image": 32, "batch": 4, "batches": 1, "repeats": 1, "workers": 0}
    tyro.cli(BenchLoaderCommand, args=["--packed", str(out), *(x for k, v in few.items() for x in (f"--{k}", str(v)))])()
    said = capsys.readouterr().out
    assert "train: 18 images in 2 shards" in said and "all shards are intact" in said
    assert "packed, cropped on the device" in said and "not measured: full-size JPEG: none given" in said
    (out / "val/000000.tar").write_bytes(b"")
    with pytest.raises(MinimaeError, match="000000.tar has 0 bytes"):
        tyro.cli(VerifyCommand, args=[str(out)])()


def test_only_what_was_measured_is_recorded(jpegs, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_loader, "bench", lambda *_, **__: [])
    how = {"workers": 0, "device": "cpu", "out": tmp_path / "loader.json"}
    BenchLoaderCommand(data=jpegs, **how)()
    BenchLoaderCommand(**how)()
    first, second = (run["machine"] for run in json.loads((tmp_path / "loader.json").read_text()))
    assert first["data"] == str(jpegs) and "packed" not in first
    assert (second["data"], second["packed"]) == ("photographs", "photographs, packed")
    with pytest.raises(ValueError, match="--repeats must be at least 1, not 0"):
        BenchLoaderCommand(repeats=0)()


def test_importing_the_loader_imports_neither_torchvision_nor_pillow():
    code = "import sys, minimae.data.loader, minimae.data.pack; print([m for m in ('torchvision', 'PIL') if m in sys.modules])"
    root = Path(minimae.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout.strip() == "[]"
