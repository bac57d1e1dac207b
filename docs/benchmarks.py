"""The tables and figures of benchmarks.md, from what the benchmarks wrote: python docs/benchmarks.py puts them into the page.

minimae bench --size nano --batch 256 --steps 4 --rounds 7 --threads 2 --out docs/benchmarks.json
minimae bench loader --batch 32 --workers 1 --step-ms 1000 --out docs/loader.json
minimae bench threads --out docs/threads.json
python docs/benchmarks.py
"""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from minimae_book.bench import threads
from minimae_book.bench.cases import OURS
from minimae_book.bench.results import Row, summary, table
from minimae_book.figures.style import BLUE, GREEN, GREY, NOTE, ORANGE, WIDTH, figure, plain, png

from minimae.errors import counted

HERE = Path(__file__).resolve().parent
KNOWN = {field.name for field in fields(Row)}


def read(name: str) -> list[dict[str, Any]]:
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def rows_of(run: dict[str, Any]) -> list[Row]:
    return [Row(**{**row, "rounds": tuple(row["rounds"])}) for row in run["rows"]]


def size_of(run: dict[str, Any]) -> str:
    return re.search(r"--size (\S+)", run["command"])[1]


def parts() -> dict[str, str]:
    """What stands between the marks of the page, by name."""
    found = {}
    for run in read("benchmarks.json"):
        machine, rows = run["machine"], rows_of(run)
        ceiling = "; ".join(f"{task}: {top['matmul TFLOP/s']:.3g} TFLOP/s" for task, top in run["ceilings"].items())
        where = f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}, timm {machine['timm']}"
        where += f", transformers {machine['transformers']}; allocator: `{machine['memory allocator']}`."
        lines = "\n".join(f"- {line}" for line in summary(rows))
        about = f"{where} A plain matrix product reached {ceiling}."
        found[size_of(run)] = f"```sh\n{run['command']}\n```\n\n{table(rows)}\n\n{lines}\n\n{about}"
    for run in read("loader.json"):
        m = run["machine"]
        lines = ["| way | kB a file | images/s of one core (range) | waiting | cores for 5,000 images/s |", "|---|---:|---:|---:|---:|"]
        for row in run["rows"]:
            waiting = "–" if row["waiting"] is None else f"{row['waiting']:.1%}"
            rate, least, most = (f"{row[name]:,.0f}" for name in ("per_core", "least", "most"))
            lines.append(f"| {row['name']} | {row['kilobytes']:.0f} | {rate} ({least}–{most}) | {waiting} | {5000 / row['per_core']:.0f} |")
        step = f", beside a step of {m['step_ms']:g} ms for {m['batch']} images"
        about = f"{m['machine']}; {counted(m['workers'], 'worker')}{step}; medians of {m['repeats']} interleaved repeats."
        command = f"minimae bench loader --batch {m['batch']} --workers {m['workers']} --step-ms {m['step_ms']:g}"
        found["loader"] = f"```sh\n{command}\n```\n\n" + "\n".join(lines) + f"\n\n{about}"
    for run in read("threads.json") if (HERE / "threads.json").is_file() else []:
        m, rows = run["machine"], threads.rows_of(run)
        about = f"{m['processor']}, torch {m['torch']}; allocator: {m['memory allocator']}; "
        about += f"medians of {len(rows[0].rates)} interleaved rounds (range)."
        found["threads"] = f"```sh\n{run['command']}\n```\n\n{threads.table(rows)}\n\n{about}"
    if (HERE / "gpu.json").is_file():
        found["gpu"] = gpu(json.loads((HERE / "gpu.json").read_text(encoding="utf-8")))
    return found


def gpu(run: dict[str, Any]) -> str:
    """What was run on a GPU: the checks, the step of a small model, and the larger models in eager mode."""
    m, results, steps = run["machine"], run["checks"]["results"], run["steps"]
    hold, ways = sum(result["ok"] for result in results.values()), sum(name.startswith("no waits") for name in results)
    apart = {name: f"{value:.1g}" for name, value in results["graph: pretrain"]["figures"].items() if not isinstance(value, list)}
    first = steps["rows"][0]["images_per_s"]
    lines = [
        f"One {m['device']}, {m['cores']} cores, torch {m['torch']}, {run['date']}.",
        f"\n```sh\n{run['checks']['command']}\n```\n",
        f"{hold} of {len(results)} checks passed. Steps 2 to 20 of {ways} ways to train ran with",
        '`torch.cuda.set_sync_debug_mode("error")`: the host never waits for the GPU, except where the loss is read.',
        "Recorded and ordinary steps end with weights that differ by",
        f"{apart['fp32, recorded']} (float32) and {apart['bf16, recorded']} (bf16) of the distance moved; two ordinary runs differ by",
        f"{apart['fp32, run twice']} and {apart['bf16, run twice']}. Checkpoints of the GPU are read and resumed on a CPU.",
        f"\nThe loop with a small model ({steps['recipe']}), one run each, not interleaved, after the first ten steps:\n",
        "| command | images/s | × eager |",
        "|---|---:|---:|",
        *(f"| `{row['command']}` | {row['images_per_s']:,} | {row['images_per_s'] / first:.2f} |" for row in steps["rows"]),
    ]
    for bench in run["bench"]:
        top = bench["ceilings"]["pretrain"]
        ceiling = f"A plain matrix product reached {top['matmul TFLOP/s']:.0f} TFLOP/s, a copy {top['copy GB/s'] / 1000:.1f} TB/s."
        lines += [f"\n```sh\n{bench['command']}\n```\n", table(rows_of(bench)), "", ceiling]
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with every part put between its marks."""
    for name, part in parts().items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = place.subn(lambda found, part=part: f"{found[1]}\n{part}\n\n{found[2]}", text)
        assert count == 1, f"benchmarks.md has {count} places for {name}"
    return text


def ratios_figure() -> Any:
    """Every row's speed over that of our eager step, one panel for each size and task."""
    panels = [(size_of(run), task, [r for r in rows_of(run) if r.task == task and r.ratio]) for run in read("benchmarks.json")
              for task in dict.fromkeys(r["task"] for r in run["rows"])]  # fmt: skip
    height = sum(0.28 * len(rows) + 0.5 for *_, rows in panels)
    drawn = figure(WIDTH, height)
    all_axes = drawn.subplots(len(panels), 1, sharex=True, height_ratios=[len(rows) + 1 for *_, rows in panels])
    for axes, (size, task, rows) in zip(all_axes, panels, strict=True):
        ours = rows[0].rounds
        for y, row in enumerate(reversed(rows)):
            each = [a / b for a, b in zip(row.rounds, ours, strict=True)]
            axes.barh(y, row.ratio, color=BLUE if row.name.startswith(OURS) else GREY, height=0.7)
            axes.plot(each, [y] * len(each), ".", color=ORANGE, markersize=4)
            axes.annotate(f"{row.ratio:.2f}", (max([1, row.ratio, *each]), y), (6, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(rows)), [row.name for row in reversed(rows)])
        axes.set_title(f"{size}: {task}", loc="left", fontsize=10)
        axes.axvline(1, color="black", linewidth=0.8)
        plain(axes).grid(axis="y", visible=False)
    drawn.supxlabel("images/s over those of minimae, eager (bar: median; dots: each round)", fontsize=10)
    all_axes[-1].margins(x=0.08)
    return drawn


def loader_figure() -> Any:
    """Images/s of one core by each way, and the share of a step that waits."""
    run = read("loader.json")[-1]
    rows = run["rows"][::-1]
    drawn = figure(WIDTH, 2 * (0.4 * len(rows) + 0.6))
    above, below = drawn.subplots(2, 1)
    for y, row in enumerate(rows):
        above.barh(y, row["per_core"], color=BLUE, height=0.6)
        above.plot([row["least"], row["most"]], [y, y], color=ORANGE, linewidth=2)
        above.annotate(f"{row['per_core']:.0f}", (row["most"], y), (6, 0), textcoords="offset points", va="center")
        waiting = 100 * (row["waiting"] or 0)
        below.barh(y, waiting, color=GREEN, height=0.6)
        below.annotate(f"{waiting:.1f} %", (waiting, y), (6, 0), textcoords="offset points", va="center")
    above.set_xlabel("images/s of one core (bar: median; line: range)")
    below.axvline(3, color=GREY, linestyle="--", linewidth=1)
    below.annotate("goal: less than 3 %", (3, len(rows) - 0.55), (-4, 0), textcoords="offset points", ha="right", color=NOTE)
    below.set_xlabel(f"% of the time waiting (step of {run['machine']['step_ms'] / 1000:g} s)")
    for axes in (above, below):
        plain(axes).grid(axis="y", visible=False)
        axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
        axes.margins(x=0.15)
        axes.set_xlim(left=0)
    return drawn


if __name__ == "__main__":
    path = HERE / "benchmarks.md"
    path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")
    for name, draw in (("benchmarks", ratios_figure), ("loader", loader_figure)):
        (HERE / "images" / f"{name}.png").write_bytes(png(draw())[0])
