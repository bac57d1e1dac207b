"""Several processes are one: the same weights as one process, whoever dies, stops or is added on the way. On CPUs, with gloo."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from apart import apart
from ranks import main
from torch import Tensor, nn

from minimae.errors import MinimaeError
from minimae.train import distributed
from minimae.train.checkpoint import load_checkpoint
from minimae.train.distributed import World
from minimae.train.order import batch_at, from_step
from minimae.train.settings import Settings

SCRIPT = Path(__file__).with_name("ranks.py")
SERVER = multiprocessing.get_context("forkserver")  # its processes start with torch loaded
SERVER.set_forkserver_preload(["minimae.tasks.pretrain", "minimae.train.loop"])
pytestmark = pytest.mark.slow


def launch(folder: Path, how: str = "run", *, ranks: int = 1, restarts: int = 0, code: int = 0, **fields: Any) -> str:
    """Run ranks.py on this many processes → what they print. torchrun starts them where its own behaviour is tested."""
    if restarts or how == "count":
        torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", f"--max-restarts={restarts}"]
        command = [sys.executable, "-m", *torchrun, str(SCRIPT), str(folder), json.dumps(fields), how]
        done = subprocess.run(command, text=True, capture_output=True, timeout=240)
        codes, printed = {done.returncode}, done.stdout + done.stderr
    else:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        shared = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        outputs = [folder / f"rank-{rank}.log" for rank in range(ranks)]
        processes = [
            SERVER.Process(target=one_rank, args=(output, {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, folder, fields, how))
            for rank, output in enumerate(outputs)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(240)
        codes, printed = {process.exitcode for process in processes}, "".join(output.read_text() for output in outputs)
        for output in outputs:
            output.unlink()
    assert codes == {code}, printed
    return printed


def one_rank(output: Path, environment: dict[str, str], *arguments: Any) -> None:
    """A rank in a process of its own, which writes what it prints to a file."""
    os.environ.update(environment)
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    main(*arguments)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return lambda: tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def alone(folders: Any) -> dict[str, Any]:
    """One process, two epochs of 96 images, 16 an optimizer step in two halves: 12 steps."""
    folder = folders()
    launch(folder, epochs=2, batch=8, accumulate=2)
    return result(folder)


def result(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "weights.pt", weights_only=True)


def same_weights(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(torch.equal(one["model"][name], other["model"][name]) for name in one["model"])


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    return max(apart(one["model"], other["model"]), max(abs(a - b) for a, b in zip(one["losses"], other["losses"], strict=True)))


def test_two_processes_are_one(alone: dict[str, Any], folders: Any) -> None:
    launch(folder := folders(), ranks=2, epochs=2, batch=8)
    assert difference(alone, result(folder)) < 1e-6
    assert same_weights(alone, result(folder)), "to the bit, even"


def test_accumulation_is_the_large_batch(alone: dict[str, Any], folders: Any) -> None:
    launch(folder := folders(), epochs=2, batch=16)
    assert difference(alone, result(folder)) < 2e-6
    launch(folder := folders(), ranks=2, epochs=2, batch=4, accumulate=2)
    assert difference(alone, result(folder)) < 2e-6


def test_sharded_is_not_different(alone: dict[str, Any], folders: Any) -> None:
    told = launch(folder := folders(), ranks=2, epochs=2, batch=8, shard=True)
    assert difference(alone, result(folder)) < 1e-6
    assert "checkpoints ['checkpoint-00000011.pt', 'checkpoint.pt']" in told, "the last two, in the form that every run has"


def test_from_two_processes_to_one_to_the_bit(alone: dict[str, Any], folders: Any) -> None:
    told = launch(folder := folders(), ranks=2, epochs=2, batch=8, die=4, signal=15)
    assert told.count("Saved at step") == 2 and not (folder / "weights.pt").exists()
    launch(folder, "resume", epochs=2, batch=8, accumulate=2)
    assert same_weights(alone, result(folder)) and difference(alone, result(folder)) < 1e-6


def test_from_shards_to_one_process(alone: dict[str, Any], folders: Any) -> None:
    launch(folder := folders(), ranks=2, epochs=2, batch=8, shard=True, die=4, signal=15)
    launch(folder, "resume", epochs=2, batch=8, accumulate=2)
    assert difference(alone, result(folder)) < 1e-6


def test_from_a_copy_each_to_shards_and_back(alone: dict[str, Any], folders: Any) -> None:
    """DDP; then FSDP2; then DDP again, from moments that were sharded."""
    launch(folder := folders(), ranks=2, epochs=2, batch=4, accumulate=2, die=4, signal=15)
    (folder / "once").unlink()
    launch(folder, "resume", ranks=2, epochs=2, batch=4, accumulate=2, shard=True, die=4, signal=15)
    assert load_checkpoint(folder / "checkpoint.pt")["step"] == 8 and not (folder / "weights.pt").exists()
    launch(folder, "resume", ranks=2, epochs=2, batch=8)
    assert difference(alone, result(folder)) < 1e-6


def test_a_process_that_is_killed_is_started_again(alone: dict[str, Any], folders: Any) -> None:
    launch(folder := folders(), "auto", ranks=2, restarts=1, epochs=2, batch=8, die=7, signal=9)
    assert (folder / "once").exists(), "it did die"
    assert same_weights(alone, result(folder)) and difference(alone, result(folder)) < 1e-6


def test_other_images_a_step_are_refused(folders: Any) -> None:
    launch(folder := folders(), ranks=2, epochs=1, batch=8)
    told = launch(folder, "resume", code=1, epochs=1, batch=8)
    assert re.search(r"other settings \(processes: 2 → 1, which changes batch", told)


def test_gradients_are_exchanged_once_a_step(folders: Any) -> None:
    told = launch(folders(), "count", ranks=2, epochs=1, batch=4, accumulate=2)
    assert re.findall(r"exchanges (\d+)", told) == ["6", "6"], "six steps of two passes: six exchanges, in each process"


@pytest.mark.parametrize(("shard", "who"), [(False, 0), (True, 0)])
def test_a_disk_that_is_full_stops_all_and_spoils_nothing(shard: bool, who: int, folders: Any) -> None:
    told = launch(folder := folders(), ranks=2, code=1, epochs=2, batch=8, shard=shard, die=3, who=who, signal=0)
    says = re.findall(r"MinimaeError: (.*)", told)
    assert len(says) == 2 and all("could not save" in line for line in says), "both stop, and both say why"
    assert not list(folder.glob("*.partial")), "what could not be finished takes no room"
    fields = {"epochs": 2, "batch": 8, "accumulate": 2}
    launch(folder, "resume", **fields)
    assert result(folder)["losses"][0] > 0 and len(result(folder)["losses"]) == 12, "what was there before could be read"


def test_who_takes_what() -> None:
    settings, images = Settings(batch=4, accumulate=2, epochs=3, warmup_epochs=0), 40
    parts = {rank: [next(rows) for _ in range(6)] for rank in range(3) for rows in [from_step(0, settings, images, World(rank, 3))]}
    taken = torch.cat([parts[rank][micro][0] for micro in range(6) for rank in range(3)])
    assert torch.equal(taken, batch_at(0, 72, images, settings.seed)[0]), "every image once, in the order of one process"
    later = from_step(2, settings, images, World(1, 3))
    assert torch.equal(next(later)[0], parts[1][4][0]), "a plan can begin at any step"


def test_every_start_has_a_name_of_its_own() -> None:
    store, names = torch.distributed.HashStore(), []
    store.set("call-1", "one that died before it was answered")
    for _ in range(2):
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(lambda rank: distributed.rendezvous_key(store, rank, 3, 20.0), range(3)))
        assert len(set(found)) == 1
        names.append(found[0])
    assert names[0] != names[1]
    with pytest.raises(MinimaeError, match=r"process\(es\) 3 of 4 did not join within 1 s"), ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda rank: distributed.rendezvous_key(store, rank, 4, 1.0), range(3)))


def test_alone_nothing_is_asked_of_anybody() -> None:
    assert distributed.world() == distributed.World(0, 1) and distributed.world().main
    model = nn.Linear(2, 2)
    assert distributed.wrap_distributed(model, shard=True) is model
    assert distributed.all_reduce_mean(1.5, Tensor([2.0])[0], True, device=torch.device("cpu")) == [1.5, 2.0, 1.0]
    assert distributed.join({}, "cpu") == distributed.join({"RANK": "0", "WORLD_SIZE": "1"}, "cpu") == "cpu"
    distributed.leave()


def test_a_device_without_float64_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[torch.dtype] = []
    monkeypatch.setattr(Tensor, "to", lambda self, device: sent.append(self.dtype) or self)
    assert distributed.all_reduce_mean(1.5, Tensor([2.0])[0], True, device=torch.device("mps")) == [1.5, 2.0, 1.0]
    assert set(sent) == {torch.float32}


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(MinimaeError, match="process 1 of this machine has no GPU of its own: 1 are here"):
        distributed.join({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, "cuda")


def test_fp16_is_not_sharded() -> None:
    with pytest.raises(ValueError, match="does not go with --shard"):
        Settings(shard=True, precision="fp16")
