"""The comparison of thread policies: what is measured, that policies take turns, and that the busy process ends."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from minimae_book.bench import threads
from minimae_book.bench.results import as_json
from minimae_book.bench.threads import CONDITIONS, Row, compare, policies, rows_of, settled, table

from minimae.cli.program import main


def test_the_speed_is_that_of_the_end() -> None:
    slow_then_fast = [float(i) for i in range(8)] + [7.0 + 0.25 * i for i in range(1, 13)]  # 7 s at 1 step/s, 3 s at 4
    assert settled(slow_then_fast, batch=10) == pytest.approx(40.0)
    assert settled([0.0, 2.0], batch=10) == pytest.approx(5.0)


def test_policies_differ_in_the_environment_alone() -> None:
    assert policies(4) == {
        "chosen by minimae": {},
        "one thread": {"OMP_NUM_THREADS": "1"},
        "all cores": {"OMP_NUM_THREADS": "4"},
        "all cores, OMP_WAIT_POLICY=PASSIVE": {"OMP_NUM_THREADS": "4", "OMP_WAIT_POLICY": "PASSIVE"},
    }


def test_policies_take_turns_and_begin_with_another_in_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class Fake:
        def __init__(self, model: str, seconds: float, extra: dict[str, str]) -> None:
            self.name = extra["NAME"]

        def measure(self) -> dict[str, float]:
            order.append(self.name)
            return {"rate": float(len(order)), "threads": 1}

        def close(self) -> None:
            order.append(self.name.upper())

    class Busy:
        def __init__(self, command: list[str]) -> None:
            order.append("[")

        def kill(self) -> None:
            order.append("]")

        def wait(self) -> None: ...

    monkeypatch.setattr(threads, "Server", Fake)
    monkeypatch.setattr(threads.subprocess, "Popen", Busy)
    rows = compare("demo", rounds=2, policy={"a": {"NAME": "a"}, "b": {"NAME": "b"}})
    assert "".join(order) == "ab[a][b]ba[b][a]BA"
    assert [(row.policy, row.condition) for row in rows] == [(name, condition) for condition in CONDITIONS for name in "ab"]
    assert rows[0].rates == (1.0, 10.0), "the first, and after it the tenth entry"


ROWS = [
    Row("demo", "one thread", CONDITIONS[0], (1000.0, 1200.0, 1100.0), (1, 1, 1)),
    Row("demo", "all cores", CONDITIONS[0], (2000.0, 2200.0, 2100.0), (2, 2, 2)),
    Row("demo", "one thread", CONDITIONS[1], (900.0, 1000.0, 950.0), (1, 1, 1)),
    Row("demo", "all cores", CONDITIONS[1], (80.0, 90.5, 85.0), (2, 1, 2)),
]


def test_the_table_says_what_was_measured() -> None:
    one, all_cores = table(ROWS).splitlines()[2:]
    assert one == "| demo | one thread | 1,100 (1,000–1,200) | 1 | 52% | 950 (900–1,000) | 1 | 100% |"
    assert all_cores == "| demo | all cores | 2,100 (2,000–2,200) | 2 | 100% | 85.0 (80.0–90.5) | 1–2 | 9% |"


def test_a_real_measurement_trains_with_the_threads_of_its_policy() -> None:
    server = threads.Server("demo", 0.05, {"OMP_NUM_THREADS": "1"})
    try:
        answer = server.measure()
    finally:
        server.close()
    assert answer["rate"] > 0 and answer["threads"] == 1 and server.process.returncode is not None


def test_the_busy_process_ends_with_the_measurement() -> None:
    started: list[threads.subprocess.Popen[bytes]] = []
    original = threads.subprocess.Popen

    def noted(command: list[str]) -> threads.subprocess.Popen[bytes]:
        assert command[0] == sys.executable
        started.append(original(command))
        return started[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads.subprocess, "Popen", noted)
        with pytest.raises(ZeroDivisionError), threads.beside(CONDITIONS[1]):
            assert started[0].poll() is None
            raise ZeroDivisionError
        with threads.beside(CONDITIONS[0]):
            pass
    assert len(started) == 1 and started[0].returncode is not None


def test_the_command_keeps_what_it_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(threads, "compare", lambda model, rounds: ROWS)
    assert main(["bench", "threads", "--models", "demo", "--rounds", "3", "--out", str(tmp_path / "threads.json")]) == 0
    [run] = json.loads((tmp_path / "threads.json").read_text())
    assert run["command"] == "minimae bench threads --models demo --rounds 3" and rows_of(run) == ROWS
    assert "| demo | one thread | 1,100" in capsys.readouterr().out
    assert main(["bench", "threads", "--models", "huge"]) == 2
    assert "--models takes demo, nano, micro, tiny, not huge" in capsys.readouterr().err


def test_the_table_appears_on_the_page_when_it_was_measured(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    spec = importlib.util.spec_from_file_location("benchmarks_page", root / "docs" / "benchmarks.py")
    assert spec and spec.loader
    spec.loader.exec_module(made := importlib.util.module_from_spec(spec))
    made.HERE = tmp_path
    for name in ("benchmarks.json", "loader.json"):
        (tmp_path / name).write_text("[]")
    assert made.parts() == {}
    machine = {"processor": "two cores", "torch": "2", "memory allocator": "freed memory is kept"}
    threads.keep(tmp_path / "threads.json", {"command": "minimae bench threads", "machine": machine, "rows": as_json(ROWS)})
    page = made.page((root / "docs" / "benchmarks.md").read_text(encoding="utf-8"))
    assert "Not measured yet: `minimae bench threads" not in page and "| demo | one thread | 1,100" in page and "two cores, torch 2" in page
