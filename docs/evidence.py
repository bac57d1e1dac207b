"""The tables and figures of evidence.md, from the results that come with the package: python docs/evidence.py puts them into the page.

minimae reproduce all --budget laptop --out runs/reproduce
minimae reproduce sampling --budget colour --data ./cifar10 --out runs/reproduce      and so on
minimae reproduce pre-training --budget full --out runs/reproduce
python docs/evidence.py runs/reproduce      copies the results into the package first
python docs/evidence.py
"""

from __future__ import annotations

import re
import shutil
import sys
from collections import Counter
from pathlib import Path

from minimae_book.evidence import CLAIMS, Outcome, picture, recorded
from minimae_book.evidence.budgets import BUDGETS, LAPTOP
from minimae_book.evidence.results import RECORDED
from minimae_book.evidence.verdicts import NO, UNDECIDED, YES
from minimae_book.figures.style import png

from minimae.tasks.expected import FIELDS, references, task_of
from minimae.train.loss_bands import interpolate

HERE = Path(__file__).resolve().parent
SCALES = ("laptop", "colour")  # budgets in the table of verdicts


def shown() -> dict[str, tuple[str, str]]:
    """The recorded results by their marks on the page: claim and budget."""
    results = sorted((path.stem, path.parent.name) for path in RECORDED.glob("*/*.json"))
    return {name if budget == "laptop" else f"{name}-{budget}": (name, budget) for name, budget in results}


def cells(values: list[str]) -> str:
    return f"| {' | '.join(values)} |"


def verdicts() -> str:
    """All claims in one table."""
    rows = ["| claim | in the paper | " + " | ".join(f"`{scale}`" for scale in SCALES) + " |", "|---|---|" + "---|" * len(SCALES)]
    results = set(shown().values())
    for name, claim in CLAIMS.items():
        told = [in_short(recorded(name, scale)) if (name, scale) in results else "–" for scale in SCALES]
        if set(told) != {"–"}:
            rows.append(cells([f"[{name}](#{name}): {claim.says}", claim.source, *told]))
    return "\n".join(rows)


def in_short(found: Outcome) -> str:
    """The verdict, with the comparisons behind it."""
    told = Counter(finding.outcome for finding in found.findings)
    parts = ", ".join(f"{told[outcome]} {outcome}" for outcome in (YES, UNDECIDED, NO) if told[outcome])
    return f"**{found.verdict}**: {parts}; {len(found.seeds)} seeds, {sum(found.seconds.values()) / 60:.0f} min"


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


def chance(p: float | None) -> str:
    """A p-value in words."""
    return "p unknown" if p is None else "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def section(place: str) -> str:
    """What stands between the marks of a result: command, figure, numbers, comparisons."""
    found = recorded(*shown()[place])
    compared = [f"- {f.outcome}: {f.says} ({f.numbers}; {chance(f.p)})" for f in found.findings]
    paper = ", the paper's own numbers on the right" if found.paper else ""
    panels = f"Measured here{' on the left' * bool(paper)}{paper}, the differences below, each on its own scale"
    parts = [
        f"```sh\n{found.command}\n```",
        f"![{found.says} {panels}](images/evidence/{place}.png)",
        numbers(found),
        f"Verdict with {len(found.seeds)} seeds: **{found.verdict}**.\n\n" + "\n".join(compared),
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
    """Where the results come from: a line for every budget."""
    lines = []
    for budget in sorted({budget for _, budget in shown().values()}):
        found = [recorded(*result) for result in shown().values() if result[1] == budget]
        machines = dict.fromkeys(f"{e['processor']}, torch {e['torch']}, {e['threads']} thread" for one in found for e in one.environments)
        lines.append(f"- `{budget}`: {found[0].scale}. Machine: {'; '.join(machines)}.")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with every part put between its marks; a mark of a result that is not there yet gets the command that makes it."""
    parts = {"verdicts": verdicts(), "curves": curves(), "environment": environment(), **{place: section(place) for place in shown()}}
    marks = re.findall(r"^<!-- (\S+) -->$", text, re.MULTILINE)
    for name in [*parts, *(mark for mark in marks if mark not in parts and mark.endswith("-colour"))]:
        claim = name.removesuffix("-colour")
        part = parts.get(name, f"Not run yet:\n\n```sh\nminimae reproduce {claim} --budget colour\n```")
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = place.subn(lambda found, part=part: f"{found[1]}\n{part}\n\n{found[2]}", text)
        assert count == 1, f"evidence.md has {count} places for {name}"
    return text


if __name__ == "__main__":
    if len(sys.argv) > 1:
        for result in sorted(Path(sys.argv[1]).glob("*/*.json")):
            if result.parent.name in BUDGETS.keys() - {"smoke"}:  # others are of other data
                (RECORDED / result.parent.name).mkdir(parents=True, exist_ok=True)
                shutil.copy(result, RECORDED / result.parent.name)
    path = HERE / "evidence.md"
    path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")
    (HERE / "images" / "evidence").mkdir(exist_ok=True)
    for place, result in shown().items():
        (HERE / "images" / "evidence" / f"{place}.png").write_bytes(png(picture(recorded(*result)))[0])
