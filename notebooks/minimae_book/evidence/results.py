"""From measurements to a result: marks, findings, one JSON file; and the results that come with the package."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minimae.cli.report import write_json
from minimae.errors import MinimaeError

from .budgets import Budget
from .claims import Claim, Place, Point, X
from .evaluations import Question
from .jobs import Store
from .verdicts import DIGITS, Finding, Mark, judge, verdict

RECORDED = Path(__file__).parent / "recorded"


@dataclass(frozen=True)
class Outcome:
    """A tested claim, to be saved as JSON, drawn, and compared."""

    claim: str
    says: str
    source: str
    axis: str
    paper: Mapping[str, Mapping[str, Sequence[tuple[X, float]]]]
    paper_axis: str
    budget: str
    scale: str
    command: str
    seeds: tuple[int, ...]
    marks: tuple[Mark, ...]
    findings: tuple[Finding, ...]
    recipe: dict[str, Any]
    environments: tuple[dict[str, str], ...]
    seconds: dict[str, float]

    @property
    def verdict(self) -> str:
        return verdict(self.findings)

    def at(self, place: Place) -> Mark:
        """The mark at a position on the axis. Raises KeyError when there is none."""
        for mark in self.marks:
            if mark.place == place:
                return mark
        raise KeyError(place)

    def line(self, measure: str, line: str = "MAE") -> list[Mark]:
        """The marks of one line, in the order of the axis."""
        return [mark for mark in self.marks if (mark.measure, mark.line) == (measure, line)]

    @property
    def measures(self) -> list[str]:
        return list(dict.fromkeys(mark.measure for mark in self.marks))

    def table(self) -> str:
        """The marks as text: mean ± standard deviation over the seeds."""
        rows = []
        for measure in self.measures:
            for name in dict.fromkeys(mark.line for mark in self.marks if mark.measure == measure):
                cells = (f"{mark.x}: {mark.mean:.1f} ± {mark.std:.1f}" for mark in self.line(measure, name))
                rows.append(f"{measure}, {name}: " + " · ".join(cells))
        return "\n".join(rows)


def gather(claim: Claim, budget: Budget, points: Sequence[Point], store: Store, command: str) -> Outcome:
    """The outcome of a claim whose jobs are all done."""
    marks, environments, questions, models = [], [], 0.0, {}
    recipe, by_measure = asdict(claim.recipe(budget)), questions_of(points)
    for point in points:
        values, counts = [], []
        for seed in budget.seeds:
            job = point.job(seed)
            answer = store.answer(job)
            assert answer is not None, "gather comes after run"
            values.append(round(float(answer["value"]), 3))
            counts.append([int(one) for one in answer.get("right", "")])
            questions += answer["seconds"]
            environments.append(answer["environment"])
            if job.start.trained:
                models[job.start.key] = json.loads((store.model(job.start) / "done.json").read_text(encoding="utf-8"))
        right = "".join(DIGITS[sum(seeds)] for seeds in zip(*counts, strict=True))
        differs = changes(point, recipe, by_measure[point.measure])
        marks.append(Mark(point.measure, point.line, point.x, tuple(values), differs, len(right), right))
    by_place = {mark.place: mark for mark in marks}
    unique = [dict(items) for items in dict.fromkeys(tuple(sorted(e.items())) for e in environments)]
    seconds = {"pre-training": sum(model["seconds"] for model in models.values()), "questions": questions}
    return Outcome(
        claim=claim.name, says=claim.says, source=claim.source, axis=claim.axis, paper=claim.paper, paper_axis=claim.paper_axis,
        budget=budget.name, scale=budget.what, command=command, seeds=budget.seeds, marks=tuple(marks),
        findings=judge(claim.expects(budget), by_place),
        recipe={**recipe, "questions": by_measure},
        environments=tuple(unique), seconds={name: round(value) for name, value in seconds.items()},
    )  # fmt: skip


def questions_of(points: Sequence[Point]) -> dict[str, Any]:
    """One evaluation of every measure, for the first seed."""
    questions: dict[str, Any] = {}
    for point in points:
        questions.setdefault(point.measure, fields(point.job(0).question))
    return questions


def fields(question: Question) -> dict[str, Any]:
    """All fields of an evaluation."""
    return {"kind": type(question).__name__, **asdict(question)}


def changes(point: Point, recipe: dict[str, Any], question: dict[str, Any]) -> dict[str, Any]:
    """What differs from this recipe and this evaluation, for the first seed. For an untrained network, only its shape would matter."""
    job = point.job(0)
    before, after = flat(question), flat(fields(job.question))
    asked_otherwise = {f"question {name}": value for name, value in after.items() if name not in before or before[name] != value}
    if not job.start.trained:
        return {"trained": False, **asked_otherwise}
    return {name: value for name, value in asdict(job.start.recipe).items() if value != recipe[name]} | asked_otherwise


def flat(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Nested fields by their path: {"recipe": {"tune": 1}} → {"recipe tune": 1}."""
    found: dict[str, Any] = {}
    for name, value in nested.items():
        found |= {f"{name} {inner}": v for inner, v in flat(value).items()} if isinstance(value, dict) else {name: value}
    return found


def save(outcome: Outcome, path: Path) -> None:
    """Write the outcome as JSON, with the verdict in words."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"claim": outcome.claim, "verdict": outcome.verdict, **asdict(outcome)})


def read(path: Path) -> Outcome:
    """An outcome from its file. Raises MinimaeError when the file is not an outcome."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content.pop("verdict")
        marks = tuple(Mark(**{**mark, "values": tuple(mark["values"])}) for mark in content.pop("marks"))
        findings = tuple(Finding(**finding) for finding in content.pop("findings"))
        paper = {m: {name: [tuple(p) for p in points] for name, points in drawn.items()} for m, drawn in content.pop("paper").items()}
        lists = {name: tuple(content.pop(name)) for name in ("seeds", "environments")}
        return Outcome(marks=marks, findings=findings, paper=paper, **lists, **content)  # type: ignore[arg-type]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise MinimaeError(f"{path} is not a result of minimae reproduce ({type(error).__name__}: {error})") from None


def recorded(claim: str, budget: str = "laptop") -> Outcome:
    """The result that comes with the package. Raises MinimaeError, with how to get it, when there is none."""
    path = RECORDED / budget / f"{claim}.json"
    if not path.is_file():
        raise MinimaeError(f"no result of {claim} at {budget} comes with minimae; minimae reproduce {claim} --budget {budget} makes it")
    return read(path)


def compared(outcome: Outcome, before: Outcome) -> tuple[bool, str]:
    """Does a new run agree with the recorded one? → whether every mean lies within the spread, and a sentence.

    Two runs of n seeds differ by chance: 3 standard errors of the difference of two means are allowed, and at least 1.
    """
    apart = []
    for mark in outcome.marks:
        if mark.measure.startswith("time"):
            continue
        old = before.at(mark.place)
        allowed = max(1.0, 3 * math.hypot(mark.error, old.error))
        apart.append((abs(mark.mean - old.mean) / allowed, abs(mark.mean - old.mean), mark))
    worst, far, mark = max(apart, key=lambda one: one[0])
    largest = max(distance for _, distance, _ in apart)
    if worst <= 1:
        return True, f"as recorded with the package: no mean is farther than {largest:.2f} from the one there, within the spread"
    return False, f"not as recorded: {mark.measure}, {mark.line}, {mark.x} is {mark.mean:.1f}, {far:.1f} from the recorded mean"
