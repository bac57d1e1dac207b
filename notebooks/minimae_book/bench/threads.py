"""``minimae bench threads``: images/s of real training runs under several thread policies, on a quiet machine and beside a busy process.

Every policy has its own process, because OpenMP reads its settings when torch is loaded. The processes take turns: one measures, the
others wait for a line on their standard input. A busy process is started and ended for each measurement that needs one.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from minimae.cli.allocator import keep_freed_memory
from minimae.data.images import Images
from minimae.devices import cores
from minimae.errors import MinimaeError
from minimae.model.sizes import Size
from minimae.recipes import FASHION
from minimae.tasks.pretrain import Pretrain, PretrainTask, build

from .command import describe_machine
from .results import keep, kept
from .running import Running

CONDITIONS = ("quiet", "beside a busy process")
SETTLED = 0.3  # only the last part of a measurement, this share, counts: by then the number of threads has settled

MODELS: dict[str, tuple[Pretrain, int, int, float]] = {  # recipe, pixels, channels, seconds of a measurement
    "demo": (FASHION, 28, 1, 3.0),
    "nano": (replace(FASHION, patch=4, depth=6), 28, 1, 3.0),
    "micro": (Pretrain(size="micro", batch=128, crop=None, flip=False), 32, 3, 10.0),
    "tiny": (Pretrain(size="tiny", patch=4, batch=64, crop=None, flip=False), 28, 3, 10.0),
}


def policies(count: int) -> dict[str, dict[str, str]]:
    """The environment of each policy, by its name. count: the cores."""
    return {
        "chosen by minimae": {},
        "one thread": {"OMP_NUM_THREADS": "1"},
        "all cores": {"OMP_NUM_THREADS": str(count)},
        "all cores, OMP_WAIT_POLICY=PASSIVE": {"OMP_NUM_THREADS": str(count), "OMP_WAIT_POLICY": "PASSIVE"},
    }


@dataclass(frozen=True)
class Row:
    """A model under a policy in a condition: images/s and threads at the end of each measurement."""

    model: str
    policy: str
    condition: str
    rates: tuple[float, ...]
    threads: tuple[int, ...]

    @property
    def rate(self) -> float:
        return median(self.rates)


def measure(name: str, seconds: float) -> dict[str, float]:
    """Train a model in the real loop for some seconds: images/s of the last part, and the threads at its end."""
    recipe, pixels, channels, _ = MODELS[name]
    images = Images("noise", torch.randint(0, 256, (1024, channels, pixels, pixels), dtype=torch.uint8), None, ())
    recipe = replace(recipe, epochs=1e6, warmup_epochs=0.0, base_lr=1e-6, log_every=10**9)
    step = Running(PretrainTask(recipe, images, build(recipe, images)), recipe)
    times = [time.perf_counter()]
    while times[-1] - times[0] <= seconds:
        step()
        times.append(time.perf_counter())
    count = step.inside(torch.get_num_threads)
    step.close()
    return {"rate": settled(times, recipe.batch), "threads": count}


def settled(times: Sequence[float], batch: int) -> float:
    """Images/s in the last part of a measurement, from the times at which its steps ended."""
    since = times[-1] - SETTLED * (times[-1] - times[0])
    first = max(i for i, at in enumerate(times[:-1]) if at <= since)
    return batch * (len(times) - 1 - first) / (times[-1] - times[first])


def serve(name: str, seconds: float) -> None:
    """Run in a policy's process: one measurement for each line it reads."""
    keep_freed_memory(os.environ)
    measure(name, 0.0)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(measure(name, seconds)), flush=True)


@contextlib.contextmanager
def beside(condition: str) -> Iterator[None]:
    """Inside, a process keeps one core busy, unless the condition is a quiet machine."""
    if condition == CONDITIONS[0]:
        yield
        return
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


class Server:
    """The process of one policy."""

    def __init__(self, model: str, seconds: float, extra: dict[str, str]) -> None:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
        environment = {name: value for name, value in os.environ.items() if name not in names} | extra
        command = [sys.executable, "-m", __name__, model, str(seconds)]
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.read()

    def read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise MinimaeError("a measuring process died; see its own message")
        return line

    def measure(self) -> dict[str, float]:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer: dict[str, float] = json.loads(self.read())
        return answer

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def compare(model: str, *, rounds: int, seconds: float | None = None, policy: dict[str, dict[str, str]] | None = None) -> list[Row]:
    """All policies in all conditions, in turn; every round begins with another policy."""
    wanted = policies(cores()) if policy is None else policy
    found: dict[tuple[str, str], list[dict[str, float]]] = {(name, condition): [] for condition in CONDITIONS for name in wanted}
    with contextlib.ExitStack() as ends:
        servers = {}
        for name, extra in wanted.items():
            servers[name] = Server(model, MODELS[model][3] if seconds is None else seconds, extra)
            ends.callback(servers[name].close)
        names = list(wanted)
        for number in range(rounds):
            for condition in CONDITIONS:
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    with beside(condition):
                        found[name, condition].append(servers[name].measure())
    return [
        Row(model, name, condition, tuple(a["rate"] for a in answers), tuple(int(a["threads"]) for a in answers))
        for (name, condition), answers in found.items()
    ]


def table(rows: Sequence[Row]) -> str:
    """Markdown: images/s in each condition, the range over the rounds, the threads at the end, and the share of the best policy there."""
    heads = " | ".join(f"{condition}: images/s | threads | of the best" for condition in CONDITIONS)
    lines = [f"| model | policy | {heads} |", "|---|---|" + "---:|" * 6]
    for model, policy in dict.fromkeys((row.model, row.policy) for row in rows):
        cells = []
        for condition in CONDITIONS:
            here = [row for row in rows if (row.model, row.condition) == (model, condition)]
            row = next(row for row in here if row.policy == policy)
            digits = 0 if row.rate >= 100 else 1
            spread = f"{min(row.rates):,.{digits}f}–{max(row.rates):,.{digits}f}"
            ends = "–".join(map(str, sorted(set(row.threads))))
            cells += [f"{row.rate:,.{digits}f} ({spread})", ends, f"{row.rate / max(r.rate for r in here):.0%}"]
        lines.append(f"| {model} | {policy} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class BenchThreadsCommand:
    """Compare thread policies on a CPU: real training, quiet and beside a busy process. Minutes; start it on a quiet machine."""

    models: tuple[str, ...] = ("demo", "tiny")
    """demo, nano, micro, tiny (patches of 4 on 28 pixels); each with the batch of its recipe."""
    rounds: int = 2
    """Each round measures every policy in both conditions; the table shows medians."""
    out: Path | None = None
    """A JSON file for the results; it replaces an earlier run of the same command on this machine."""

    def __call__(self) -> None:
        unknown = [name for name in self.models if name not in MODELS]
        if unknown or self.rounds < 1:
            raise ValueError(f"--models takes {', '.join(MODELS)}, not {unknown[0]}" if unknown else "--rounds must be at least 1")
        kept(self.out)
        rows: list[Row] = []
        for model in self.models:
            seconds = 2 * len(policies(1)) * self.rounds * MODELS[model][3]
            print(f"{model}: {size_of(model)}, batch {MODELS[model][0].batch}, about {seconds:.0f} s", flush=True)
            rows += compare(model, rounds=self.rounds)
        print(f"\n{table(rows)}")
        if self.out is not None:
            command = f"minimae bench threads --models {' '.join(self.models)} --rounds {self.rounds}"
            machine = {name: text for name, text in describe_machine(torch.device("cpu")).items() if name != "threads"}
            found = [{"model": r.model, "policy": r.policy, "condition": r.condition, "rates": [round(x, 1) for x in r.rates],
                      "threads": list(r.threads)} for r in rows]  # fmt: skip
            keep(self.out, {"command": command, "machine": machine, "rows": found})
            print(f"results in {self.out}")


def size_of(model: str) -> Size:
    recipe, pixels, channels, _ = MODELS[model]
    return recipe.size_at(pixels, channels)


def rows_of(run: dict[str, Any]) -> list[Row]:
    """The rows of a run that was saved in a file."""
    return [Row(**{**row, "rates": tuple(row["rates"]), "threads": tuple(row["threads"])}) for row in run["rows"]]


if __name__ == "__main__":
    serve(sys.argv[1], float(sys.argv[2]))
