"""The tables and figures of evidence.md, from the results that come with the package: python docs/evidence.py puts them into the page.

minimae reproduce all --budget laptop --out runs/reproduce
minimae reproduce pre-training --budget full --out runs/reproduce
python docs/evidence.py runs/reproduce      copies the results into the package first
python docs/evidence.py
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from minimae_book.evidence import CLAIMS, Outcome, picture, recorded
from minimae_book.evidence.budgets import LAPTOP
from minimae_book.evidence.results import RECORDED

from minimae.tasks.expected import FIELDS, references, task_of
from minimae.train.loss_bands import interpolate

HERE = Path(__file__).resolve().parent
BUDGET = "laptop"
RUN = [name for name in CLAIMS if (RECORDED / BUDGET / f"{name}.json").is_file()]
SHOWN = {**{name: (name, BUDGET) for name in RUN}, "pre-training-full": ("pre-training", "full")}  # place on the page: claim, budget


def cells(values: list[str]) -> str:
    return f"| {' | '.join(values)} |"


def verdicts() -> str:
    """All claims in one table."""
    rows = ["| claim | in the paper | at this scale | comparisons as claimed | core minutes |", "|---|---|---|---:|---:|"]
    for name, claim in ((name, CLAIMS[name]) for name in RUN):
        found = recorded(name, BUDGET)
        right = sum(finding.ok for finding in found.findings)
        minutes = f"{sum(found.seconds.values()) / 60:.0f}"
        link = f"[{name}](#{name}): {claim.says}"
        rows.append(cells([link, claim.source, f"**{found.verdict}**", f"{right} of {len(found.findings)}", minutes]))
    return "\n".join(rows)


def numbers(found: Outcome) -> str:
    """Every mark: mean ± standard deviation over the seeds."""
    rows = []
    for measure in found.measures:
        lines = list(dict.fromkeys(mark.line for mark in found.marks if mark.measure == measure))
        xs = list(dict.fromkeys(mark.x for mark in found.marks if mark.measure == measure))
        head = [f"{measure}; {found.axis}:", *(f"{x:g}" if isinstance(x, float | int) else x for x in xs)]
        rows += [cells(head), cells(["---", *["---:"] * len(xs)])]
        for line in lines:
            by_x = {mark.x: mark for mark in found.line(measure, line)}
            rows.append(cells([line, *(f"{by_x[x].mean:.1f} ± {by_x[x].std:.1f}" if x in by_x else "–" for x in xs)]))
        rows.append("")
    return "\n".join(rows).rstrip()


def section(place: str) -> str:
    """What stands between the marks of a result: command, figure, numbers, comparisons."""
    found = recorded(*SHOWN[place])
    compared = [f"- {'yes' if f.ok else '**no**'}: {f.says} ({f.difference:+.1f} ± {f.margin:.1f})" for f in found.findings]
    panels = "measured here on the left, the paper's own numbers on the right, each on its own scale"
    parts = [
        f"```sh\n{found.command}\n```",
        f"![{found.says} {panels}](images/evidence/{place}.png)",
        numbers(found),
        f"At this scale: **{found.verdict}**.\n\n" + "\n".join(compared),
    ]
    return "\n\n".join(parts)


def curves() -> str:
    """What loss to expect, task by task: what differs from the plain one, and the loss on the way."""
    known = sorted(references(), key=lambda one: (one.task["data"], one.task["epochs"]))
    plain = next(one.task for one in known if one.task == task_of(LAPTOP.pretrain, LAPTOP.pretrain.size_at(28, 1), "fashion", 10_000))
    rows = ["| data | epochs | otherwise | loss after a quarter | half | all | band | seeds |", "|---|---:|---|---:|---:|---:|---:|---|"]
    for one in known:
        shape = {name: value for name, value in one.task["size"].items() if value != plain["size"][name]}
        fields = {name: one.task[name] for name in FIELDS if name != "epochs" and one.task[name] != plain[name]}
        told = ", ".join(f"{name} {value}".replace("_", " ") for name, value in {**fields, **shape}.items()) or "–"
        end = one.points[-1][0]
        losses = [f"{interpolate(one.points, share * end):.3f}" for share in (0.25, 0.5, 1)]
        seeds = ", ".join(map(str, one.seeds))
        rows.append(cells([one.task["data"], f"{one.task['epochs']:g}", told, *losses, f"± {100 * one.tolerance:.0f} %", seeds]))
    return "\n".join(rows)


def environment() -> str:
    """Where the results come from."""
    machines = dict.fromkeys(
        f"{e['processor']}, torch {e['torch']}, {e['threads']} thread for each of two processes"
        for name in RUN
        for e in recorded(name, BUDGET).environments
    )
    seeds = ", ".join(map(str, recorded("loss", BUDGET).seeds))
    return f"Budget `{BUDGET}`: {recorded('loss', BUDGET).scale}. Seeds {seeds}. Machine: {'; '.join(machines)}."


def page(text: str) -> str:
    """The page with every part put between its marks."""
    parts = {"verdicts": verdicts(), "curves": curves(), "environment": environment(), **{place: section(place) for place in SHOWN}}
    for name, part in parts.items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = place.subn(lambda found, part=part: f"{found[1]}\n{part}\n\n{found[2]}", text)
        assert count == 1, f"evidence.md has {count} places for {name}"
    return text


if __name__ == "__main__":
    if len(sys.argv) > 1:
        for budget in dict.fromkeys(budget for _, budget in SHOWN.values()):
            (RECORDED / budget).mkdir(parents=True, exist_ok=True)
            for result in sorted((Path(sys.argv[1]) / budget).glob("*.json")):
                shutil.copy(result, RECORDED / budget)
    path = HERE / "evidence.md"
    path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")
    (HERE / "images" / "evidence").mkdir(exist_ok=True)
    for place, shown in SHOWN.items():
        picture(recorded(*shown)).savefig(HERE / "images" / "evidence" / f"{place}.png")
