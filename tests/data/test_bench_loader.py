"""The benchmark measures every way that can be gone, and says why others cannot."""

import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
import tyro

import minimae
from minimae.data.bench_loader import Way, bench, plan, table, ways
from minimae.data.commands import BenchLoaderCommand, PackCommand, VerifyCommand
from minimae.data.stream import Stream, open_stream
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


class SlowStream(Stream):
    """Reading an image takes 20 ms, without work for a processor."""

    def bytes_of(self, place: int) -> bytes:
        time.sleep(0.02)
        return super().bytes_of(place)


def test_a_loop_that_takes_long_hardly_waits_and_a_fast_one_does(jpegs):
    stream = open_stream(jpegs)
    slow = SlowStream(**{field.name: getattr(stream, field.name) for field in fields(stream)})
    way = Way("slow", slow)  # a batch of 8 takes 160 ms
    long, short = (bench([way], image=16, batch=8, batches=2, repeats=1, workers=1, step=s, quiet=True)[0] for s in (0.5, 0.0))
    assert long.waiting < 0.2 and short.waiting > 0.8 and short.delivered < 70


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
    assert "train: 18 images in 2 shards" in said and "all shards are whole" in said
    assert "packed, cropped on the device" in said and "not measured: full-size JPEG: none given" in said
    (out / "val/000000.tar").write_bytes(b"")
    with pytest.raises(MinimaeError, match="000000.tar has 0 bytes"):
        tyro.cli(VerifyCommand, args=[str(out)])()


def test_importing_the_loader_imports_neither_torchvision_nor_pillow():
    code = "import sys, minimae.data.loader, minimae.data.pack; print([m for m in ('torchvision', 'PIL') if m in sys.modules])"
    root = Path(minimae.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout.strip() == "[]"
