"""From times to a table: rates, shares of the machine's peak rate, ratios round by round; printed and saved."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from minimae.errors import MinimaeError, reason

from .cases import OURS, Built, Setting, TaskName, cases
from .ceilings import Ceilings, ceilings, peak
from .timing import cpu_peak, gpu_peak, interleave

FIRST = f"{OURS}, eager"
SAME = 1e-3  # a loss or feature that differs by more is not the same maths (TF32 keeps 10 bits)


@dataclass(frozen=True)
class Row:
    """One line. Medians over the rounds; ``ratio`` is this row's images/s over those of ours in eager mode, in the same round.

    of_matmul: TFLOP/s over those of a plain matrix product in the same rounds. mfu: over the GPU's data sheet. gigabytes: the most that
    tensors took during a step (weights, optimizer state, activations). note: the reason for missing numbers, or a remark on them.
    """

    task: str
    name: str
    images_per_s: float | None = None
    tflops: float | None = None
    of_matmul: float | None = None
    mfu: float | None = None
    gigabytes: float | None = None
    ratio: float | None = None
    difference: float | None = None
    rounds: tuple[float, ...] = ()
    note: str = ""


def measure(
    setting: Setting,
    task: TaskName,
    *,
    rounds: int,
    steps: int,
    compiled: bool,
    only: Sequence[str] = (),
    quick: bool = False,
    warmup: int = 2,
    say: Callable[[str], None] = print,
) -> tuple[list[Row], Ceilings]:
    """Build, warm up and time every row of a task. A row that cannot be built gives the reason; the others continue."""
    device, built, memory, notes = setting.device, {}, {}, {}
    there = cases(task, device, compiled=compiled, quick=quick)
    rows = {n: b for n, b in there.items() if n == FIRST or not only or any(o in n for o in only)}
    for name, build in rows.items():
        say(f"{task}: preparing {name}")
        before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
        try:
            built[name], memory[name] = prepare(build, setting, warmup, before)
        except ImportError as error:
            notes[name] = f"not installed: {error.name or error}"
        except Exception as error:  # a rival may raise any error, and then that is the result
            notes[name] = f"did not run: {reason(error)}"
        gc.collect()
    if FIRST not in built:
        advice = "; try a smaller --batch or --size" if "memory" in notes[FIRST].lower() else ""
        raise MinimaeError(f"{task}: our own step {notes[FIRST]}{advice}")
    say(f"{task}: {rounds} rounds of {steps} steps each")
    tops: list[Ceilings] = []  # measured before every round, so that a busy machine slows both
    running = {name: b.step for name, b in built.items()}
    try:
        before_round = lambda: tops.append(ceilings(device, setting.precision))  # noqa: E731
        times = interleave(running, rounds=rounds, count=steps, device=device, before=before_round)
    finally:
        for one in built.values():
            one.close()
    top = Ceilings(median(t.matmul for t in tops), median(t.copy for t in tops))
    sheet = peak(torch.cuda.get_device_name(device), setting.precision) if device.type == "cuda" else None
    return [
        row_of(setting, task, name, times[name], times[FIRST], top, sheet, memory[name], built[name].difference)
        if name in built
        else Row(task, name, note=notes[name])
        for name in rows
    ], top


def prepare(build: Callable[[Setting], Built], setting: Setting, warmup: int, before: int) -> tuple[Built, int]:
    """Build a row and run it until everything is compiled and allocated → what was built, and its peak memory in bytes."""
    gpu = setting.device.type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats(setting.device)
    built = build(setting)
    for _ in range(warmup):
        built.step()
    if not gpu:
        return built, cpu_peak(built.step, [*built.held(), setting.source.pixels])
    at_first = torch.cuda.max_memory_allocated(setting.device) - before  # a graph takes its memory while it is recorded
    later = gpu_peak(built.step, before, setting.device)
    return built, max(at_first, later) if getattr(built.step, "graph", False) else later


def row_of(
    setting: Setting, task: TaskName, name: str, times: list[float], first: list[float], top: Ceilings, sheet: float | None,
    memory: int, difference: float | None,
) -> Row:  # fmt: skip
    """The line of one row, from its seconds per step in every round and those of our eager step."""
    rate = median(setting.batch / t for t in times)
    tflops = rate * setting.tera(task)
    apart = difference is not None and not difference <= SAME
    return Row(
        task, name, rate, tflops, tflops / top.matmul, None if sheet is None else tflops / sheet, memory / 1e9,
        median(a / b for a, b in zip(first, times)), difference, tuple(setting.batch / t for t in times),
        f"not the same maths: differs by {difference:.2g}" if apart else "",
    )  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table that is readable as plain text too."""
    heads = ("task", "model", "images/s", "× minimae, eager", "TFLOP/s", "of matmul", "MFU", "peak memory", "note")
    columns = list(zip(heads, *([r.task, r.name, *numbers(r), r.note] for r in rows)))
    drawn = []
    for head, *cells in columns:
        if head == "MFU" and set(cells) == {"–"}:  # no data sheet
            continue
        width, left = max(len(head), *map(len, cells)), head in ("task", "model", "note")
        rule = "-" * width if left else "-" * (width - 1) + ":"
        drawn.append([head.ljust(width), rule, *(cell.ljust(width) if left else cell.rjust(width) for cell in cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*drawn))


def numbers(row: Row) -> list[str]:
    """The measured cells of a line; a dash for a missing value."""
    if row.images_per_s is None:
        return ["–"] * 6
    mfu = "–" if row.mfu is None else f"{row.mfu:.1%}"
    rate = f"{row.images_per_s:,.{0 if row.images_per_s >= 100 else 2}f}"
    memory = row.gigabytes or 0.0
    taken = f"{memory:.2f} GB" if memory >= 1 else f"{memory * 1e3:.0f} MB"
    return [rate, f"{row.ratio:.2f}", f"{row.tflops:.3g}", f"{row.of_matmul:.0%}", mfu, taken]


def summary(rows: Sequence[Row]) -> list[str]:
    """Our fastest row against every rival, task by task, from medians of ratios."""
    lines = []
    for task in dict.fromkeys(r.task for r in rows):
        done = [r for r in rows if r.task == task and r.ratio is not None]
        best = max((r for r in done if r.name.startswith(OURS)), key=lambda r: r.ratio or 0.0)
        against = [f"{(best.ratio or 0) / (r.ratio or 1):.2f}× {r.name}" for r in done if not r.name.startswith(OURS)]
        lines.append(f"{task}: {best.name} is {', '.join(against)}" if against else f"{task}: no rival was measured")
    return lines


def kept(path: Path | None) -> list[dict[str, Any]]:
    """The runs in a JSON file of runs. Raises MinimaeError for another file, OSError where none can be: call it before measuring."""
    if path is None:
        return []
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return []
    try:
        runs = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(runs, list) or not all(run["command"] and run["machine"] for run in runs):
            raise TypeError
        return runs
    except (ValueError, TypeError, KeyError):
        raise MinimaeError(f"{path} is there and does not hold results of minimae bench; give another file with --out") from None


def keep(path: Path, run: dict[str, Any]) -> None:
    """Put a run into a JSON file of runs: it replaces an earlier one with the same command on the same machine, or is added."""
    runs = [old for old in kept(path) if (old["command"], old["machine"]) != (run["command"], run["machine"])]
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps([*runs, run], indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def as_json(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Rows as plain values, to four digits."""

    def short(value: Any) -> Any:
        return float(f"{value:.4g}") if isinstance(value, float) else [short(v) for v in value] if isinstance(value, tuple) else value

    return [{name: short(value) for name, value in asdict(row).items()} for row in rows]
