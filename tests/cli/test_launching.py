"""docs/launching.md: its scripts are scripts, its commands exist, and two machines can be played on one."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from minimae.cli.parsing import parse
from minimae.train.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "launching.md").read_text(encoding="utf-8")
SMALL = shlex.split(
    "--width 32 --depth 2 --heads 2 --decoder-width 16 --decoder-depth 1 --decoder-heads 2 --batch 16 --accumulate 1 --limit 160 "
    "--warmup-epochs 0 --log-every 1 --save-every 0 --device cpu"
)


def blocks() -> list[str]:
    return re.findall(r"```(?:sh|bash)\n(.*?)```", PAGE, re.DOTALL)


def commands() -> list[list[str]]:
    """The words after minimae, of every command on the page."""
    lines = "\n".join(blocks()).replace("\\\n", " ").splitlines() + re.findall(r"`((?:torchrun|minimae) [^`]+)`", PAGE)
    found = [shlex.split(line, comments=True) for line in lines if "minimae" in line and not line.startswith("#")]
    return [[word for word in line[line.index("minimae") + 1 :] if word != "&"] for line in found]


@pytest.mark.parametrize("script", blocks())
def test_scripts_are_scripts(script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_commands_exist() -> None:
    assert len(commands()) == 13
    for words in commands():
        assert callable(parse(words)), words


@pytest.mark.parametrize(("name", "shown"), [("benchmarks", "loader"), ("photographs", "CIFAR-10 (JPEG)")])
def test_a_page_is_made_of_what_was_measured(name: str, shown: str) -> None:
    spec = importlib.util.spec_from_file_location(f"{name}_page", ROOT / "docs" / f"{name}.py")
    assert spec and spec.loader
    spec.loader.exec_module(made := importlib.util.module_from_spec(spec))
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert shown in text and made.page(text) == text, f"python docs/{name}.py puts it right"
    rows = [line for line in text.splitlines() if line.startswith("| ") and line[-3].isdigit()]
    other = text.replace(rows[0], rows[0].replace(rows[0][-3], "x"), 1)
    assert made.page(other) == text != other
    assert name != "benchmarks" or {"nano", "base", "tiny", "loader"} <= set(made.parts())


def machine(number: int, port: int, out: Path, *words: str) -> subprocess.Popen[str]:
    """One of two machines: a torchrun with one process, which meets the other at a port of this machine."""
    meet = ["--nnodes=2", "--nproc-per-node=1", "--max-restarts=2", "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}"]
    host = ["--rdzv-id=two", f"--rdzv-conf=is_host={number == 0}", "--local-addr=localhost", "--monitor-interval=0.2"]
    command = [sys.executable, "-m", "torch.distributed.run", *meet, *host, "-m", "minimae", "pretrain", "fashion-demo", *SMALL, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, "--out", str(out)], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def two_machines(out: Path, *words: str) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    return [machine(number, port, out, *words) for number in range(2)]


def ended(machines: list[subprocess.Popen[str]]) -> str:
    told = [one.communicate(timeout=240)[0] for one in machines]
    assert all(one.returncode == 0 for one in machines), "\n\n".join(told)
    return "\n".join(told)


def worker(machine: subprocess.Popen[str]) -> int:
    """The training process that a torchrun started."""
    children = Path(f"/proc/{machine.pid}/task/{machine.pid}/children")
    for _ in range(600):
        if found := children.read_text().split():
            return int(found[0])
        time.sleep(0.1)
    raise AssertionError("it started nothing")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
def test_one_of_two_machines_loses_its_process(tmp_path: Path) -> None:
    """Its torchrun starts another, and so does that of the other machine, which has lost nothing: they count restarts otherwise."""
    ended(two_machines(tmp_path / "whole", "--epochs", "3"))
    machines = two_machines(tmp_path / "hurt", "--epochs", "3")
    for _ in range(1200):
        if (tmp_path / "hurt" / "checkpoint.pt").exists():
            break
        time.sleep(0.1)
    os.kill(worker(machines[1]), signal.SIGKILL)
    told = ended(machines)
    assert "Signal 9" in told or "exitcode: -9" in told or "SIGKILL" in told, told
    one, other = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "hurt"))
    assert one["step"] == other["step"] == 30 and one["processes"] == 2
    assert all(torch.equal(one["model"][name], other["model"][name]) for name in one["model"])
