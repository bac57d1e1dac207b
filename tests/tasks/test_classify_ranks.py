"""Fine-tuning with every part of Table 9 and EMA, partial fine-tuning, and the probe with LARS: two processes equal one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from apart import apart
from classify_ranks import TASKS, train

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of two processes."""
    folder = tmp_path_factory.mktemp("two")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*launch, str(HERE / "classify_ranks.py"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("shard", [False, True], ids=["DDP", "FSDP2"])
@pytest.mark.parametrize("what", TASKS)
def test_two_processes_equal_one(two: Path, tmp_path: Path, what: str, shard: bool) -> None:
    train(what, tmp_path)
    folders = (tmp_path, two / f"{what}-{shard}")
    losses = [[json.loads(line)["loss"] for line in (f / "metrics.jsonl").read_text().splitlines()] for f in folders]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6) and len(losses[0]) == 15
    one, other = (torch.load(f / "checkpoint.pt", weights_only=True)["model"] for f in folders)
    assert apart(one, other) < 1e-6
