"""The loss to expect, from finished pre-trainings: ``python -m minimae_book.evidence.curves RUNS/jobs/models`` adds the curves.

Every subfolder that holds ``done.json`` is one run; runs that differ only in their seed make one curve.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from minimae.model.sizes import Size
from minimae.tasks.expected import CURVES, OPTIMISER, Reference, references, task_of
from minimae.tasks.pretrain import Pretrain
from minimae.train.checkpoint import CHECKPOINT, load_checkpoint
from minimae.train.loss_bands import PATIENCE, interpolate
from minimae.train.settings import from_dict

A_DECADE = 12  # points of a curve for each factor of ten in the images seen
LEAST = 0.05  # no band is narrower than ± 5 %
ROOM = 1.5  # tolerance: this many times the distance of the farthest run

Logged = Sequence[tuple[float, float]]  # images seen, loss


def curve(runs: Sequence[Logged], warmup: float) -> tuple[tuple[float, float], ...]:
    """The mean loss over runs and neighbouring logs, on a grid of images seen that grows by a constant factor."""
    bins: dict[int, list[tuple[float, float]]] = {}
    for seen, loss in (point for run in runs for point in run):
        if seen > warmup:
            bins.setdefault(math.floor(A_DECADE * math.log10(seen)), []).append((seen, loss))
    made = [(round(mean(seen for seen, _ in part)), round(mean(loss for _, loss in part), 4)) for _, part in sorted(bins.items())]
    end = max(seen for run in runs for seen, _ in run)
    last = mean(loss for run in runs for _, loss in run[-PATIENCE:])
    return (*(point for point in made if point[0] < end), (end, round(last, 4)))


def farthest(points: Logged, run: Logged) -> float:
    """The largest distance of a run from a curve, as a share of it: the least of every PATIENCE logs in a row, since one log is noisy."""
    apart = [loss / interpolate(points, seen) - 1 for seen, loss in run if points[0][0] <= seen <= points[-1][0]]
    rows = [apart[i : i + PATIENCE] for i in range(len(apart) - PATIENCE + 1)] or [apart]
    return max(max(min(row), -max(row), 0.0) for row in rows)


def read_run(folder: Path) -> tuple[dict[str, Any], Pretrain, Logged]:
    """A finished run: its task, its recipe, and its log. Raises OSError, KeyError or ValueError for other folders."""
    recipe = from_dict(Pretrain, json.loads((folder / "recipe.json").read_text(encoding="utf-8"))["recipe"])
    state = load_checkpoint(folder / CHECKPOINT, "pretrain")
    logs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    step = recipe.batch * recipe.accumulate
    images = round(logs[0]["step"] * step / logs[0]["epoch"])
    return (
        task_of(recipe, from_dict(Size, state["size"]), state["data"], images),
        recipe,
        [(log["step"] * step, log["loss"]) for log in logs],
    )


def gather_curves(folders: Iterable[Path]) -> list[Reference]:
    """One reference for every task that has runs with at least two seeds."""
    found: dict[str, tuple[dict[str, Any], dict[int, tuple[Pretrain, Logged]]]] = {}
    for folder in folders:
        task, recipe, logged = read_run(folder)
        _, seeds = found.setdefault(json.dumps(task, sort_keys=True), (task, {}))
        seeds[recipe.seed] = recipe, logged
    made = []
    for task, seeds in (found[key] for key in sorted(found)):
        if len(seeds) < 2:
            continue
        recipes, runs = zip(*seeds.values())
        points = curve(runs, recipes[0].warmup_epochs * task["images"])
        tolerance = max(LEAST, ROOM * max(farthest(points, run) for run in runs))
        optimizer = json.loads(json.dumps({name: getattr(recipes[0], name) for name in OPTIMISER}))
        made.append(Reference(task, optimizer, tuple(sorted(seeds)), points, round(tolerance, 3)))
    return made


def main() -> None:
    """Write the curves of the runs in a folder, beside the known curves of other tasks."""
    if len(sys.argv) != 2:
        sys.exit("python -m minimae_book.evidence.curves FOLDER, a folder of runs as minimae reproduce leaves them in jobs/models")
    made = gather_curves(sorted(done.parent for done in Path(sys.argv[1]).glob("*/done.json")))
    tasks = [one.task for one in made]
    lines = [json.dumps({**vars(one)}) for one in (*(one for one in references() if one.task not in tasks), *made)]
    CURVES.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    print(f"{len(made)} curves of these runs, {len(lines)} in all, are in {CURVES}")


if __name__ == "__main__":
    main()
