"""The paper's claims as evaluations of encoders: the points and the comparisons of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from minimae.tasks.pretrain import Pretrain

from .ablations import ABLATIONS
from .budgets import PROBE, TUNED, Budget
from .evaluations import Cost, Linear, Patches, Tune
from .jobs import Job, Start

X = float | str
Place = tuple[str, str, X]  # measure, line, position on the axis
MAE_LINE, SCRATCH_LINE = "MAE", "from scratch"


@dataclass(frozen=True)
class Point:
    """One mark of a figure: the same job, run once for every seed."""

    measure: str
    line: str
    x: X
    job: Callable[[int], Job]

    @property
    def place(self) -> Place:
        return self.measure, self.line, self.x


@dataclass(frozen=True)
class Expect:
    """A comparison that supports the claim: the mean at ``first`` is above that at ``second``.

    by: by more than this much. slack: not above, but at most this much below. within: neither this much above nor this much below
    (where the claim is that something hardly matters).
    """

    says: str
    first: Place
    second: Place
    by: float = 0.0
    slack: float | None = None
    within: float | None = None

    @property
    def threshold(self) -> float:
        """The smallest difference at which the comparison is as claimed."""
        return -self.slack if self.slack is not None else -self.within if self.within is not None else self.by


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, with the points and comparisons that test it.

    paper: {measure: {line: [(x, value), …]}}, the paper's own numbers, over ``paper_axis``. points and expects depend on the budget.
    recipe: the pre-training at the head of a result; points state their changes to it. budgets: where it can be tested; empty means all.
    """

    name: str
    says: str
    source: str
    axis: str
    points: Callable[[Budget], list[Point]]
    expects: Callable[[Budget], list[Expect]]
    paper: Mapping[str, Mapping[str, Sequence[tuple[X, float]]]] = field(default_factory=dict)
    paper_axis: str = ""
    recipe: Callable[[Budget], Pretrain] = lambda budget: budget.pretrain
    budgets: tuple[str, ...] = ()


# --- points -----------------------------------------------------------------------------------------------------------


def start(budget: Budget, *, seed: int, trained: bool = True, **changes: Any) -> Start:
    """An encoder of this budget, with some fields of its recipe changed."""
    recipe = shortened(replace(budget.pretrain, seed=seed), changes.pop("epochs", budget.pretrain.epochs))
    return Start(recipe=replace(recipe, **changes), trained=trained, channels=budget.channels, limit=budget.limit)


def shortened(recipe: Pretrain, epochs: float) -> Pretrain:
    """The recipe for another length; the warm-up keeps its share of the length."""
    return replace(recipe, epochs=epochs, warmup_epochs=recipe.warmup_epochs * epochs / recipe.epochs)


def tune(
    budget: Budget, seed: int, *, scratch: bool = False, labels: int | None = None, data: str = "", blocks: float | None = None
) -> Tune:
    """Fine-tuning as this budget does it."""
    recipe = replace(budget.scratch if scratch else budget.tune, seed=seed, tune=blocks)
    return Tune(recipe=recipe, data=data or budget.pretrain.data, labels=labels or budget.labels, test=budget.test)


def tuned(
    budget: Budget, line: str, x: X, *, scratch: bool = False, labels: int | None = None, blocks: float | None = None, **changes: Any
) -> Point:
    """A point: pre-train with these changes, or not at all, then fine-tune."""

    def job(seed: int) -> Job:
        question = tune(budget, seed, scratch=scratch, labels=labels, blocks=blocks)
        return Job(start(budget, seed=seed, trained=not scratch, **changes), question)

    return Point(TUNED, line, x, job)


def both(budget: Budget, x: X, *, line: str = MAE_LINE, **changes: Any) -> list[Point]:
    """A point for every evaluation of the budget: pre-train with these changes, then evaluate."""
    data, labels, test = budget.pretrain.data, budget.probe_labels, budget.test

    def job(seed: int) -> Job:
        return Job(start(budget, seed=seed, **changes), Linear(data=data, seed=seed, labels=labels, test=test))

    return [point for point in (tuned(budget, line, x, **changes), Point(PROBE, line, x, job)) if point.measure in budget.judges]


def sweep(budget: Budget, rows: Mapping[X, Mapping[str, Any]]) -> list[Point]:
    """The points of every row: {x: changes}."""
    return [point for x, changes in rows.items() for point in both(budget, x, **changes)]


def mae(measure: str, x: X) -> Place:
    return measure, MAE_LINE, x


# --- what each claim changes ------------------------------------------------------------------------------------------


def by_labels(b: Budget) -> list[Point]:
    return [tuned(b, line, n, labels=n, scratch=line == SCRATCH_LINE) for n in b.ladder for line in (MAE_LINE, SCRATCH_LINE)]


def ratios(b: Budget) -> dict[X, dict[str, Any]]:
    return {r: {"ratio": r / 100, "epochs": b.mask_epochs} for r in b.ratios}


def samplings(b: Budget) -> dict[X, dict[str, Any]]:
    named = {"random 75 %": ("random", 0.75), "block 50 %": ("block", 0.5), "block 75 %": ("block", 0.75), "grid 75 %": ("grid", 0.75)}
    return {name: {"sampling": how, "ratio": ratio, "epochs": b.mask_epochs} for name, (how, ratio) in named.items()}


WITH, WITHOUT = "with mask tokens", "without"


def mask_tokens(b: Budget) -> list[Point]:
    rows: dict[X, dict[str, Any]] = {WITH: {"mask_tokens_in_encoder": True}, WITHOUT: {}}
    points = sweep(b, rows)
    for what, measure in (("flops", "FLOPs (× without)"), ("time", "time of a step (× without)")):
        for x, changes in rows.items():

            def job(seed: int, what: Any = what, changes: Any = changes) -> Job:
                plain = start(b, seed=seed, trained=False)
                return Job(plain, Cost(recipe=replace(plain.recipe, **changes), against=plain.recipe, what=what))

            points.append(Point(measure, MAE_LINE, x, job))
    return points


def decoder_depths(b: Budget) -> dict[X, dict[str, Any]]:
    return {d: {"decoder_depth": d} if d != b.depths[0] else {} for d in sorted(b.depths)}


def decoder_widths(b: Budget) -> dict[X, dict[str, Any]]:
    usual = b.pretrain.size_at(b.pretrain.image or 28, b.channels).decoder_width
    return {w: {"decoder_width": w} if w != usual else {} for w in b.widths}


TARGETS: dict[X, dict[str, Any]] = {name: {"target": name} for name in ("pixels", "normalised", "pca")}
LOSSES: dict[X, dict[str, Any]] = {name: {"loss_on": name} for name in ("masked", "all")}
CROPS: dict[X, dict[str, Any]] = {
    "none": {"crop": None, "flip": False},
    "fixed crop": {"crop": None, "fixed_crop": 0.875, "flip": True},
    "random-size crop": {"crop": (0.2, 1.0), "flip": True},
    "+ colour jitter": {"crop": (0.2, 1.0), "flip": True, "jitter": 0.4},
}


def lengths(b: Budget) -> dict[X, dict[str, Any]]:
    return {e: {"epochs": e} for e in b.epochs}


def partially(b: Budget) -> list[Point]:
    return [tuned(b, MAE_LINE, n, blocks=n) for n in b.blocks]


def transfers(b: Budget) -> list[Point]:
    """Pre-training on each set, and none, compared on two sets of labels: the usual one, and drawn shapes."""
    points = []
    for target in dict.fromkeys((b.pretrain.data, "shapes")):
        for source in dict.fromkeys(("nothing", *b.sources, b.pretrain.data)):

            def job(seed: int, source: str = source, target: str = target) -> Job:
                begin = start(b, seed=seed)
                from_scratch = source == "nothing"
                recipe = begin.recipe if from_scratch else elsewhere(begin.recipe, source, limit=b.limit)
                return Job(replace(begin, recipe=recipe, trained=not from_scratch), tune(b, seed, data=target, scratch=from_scratch))

            points.append(Point(TUNED, f"learns {target}", source, job))
    return points


IMAGES = {"fashion": 10_000, "fashion-full": 60_000, "cifar10": 50_000, "photos": 4200, "shapes": 2000}  # in the training splits


def elsewhere(recipe: Pretrain, source: str, *, limit: int | None = None) -> Pretrain:
    """The recipe on another dataset, at the same size and for the same number of images seen: a smaller one gets more epochs.

    limit: at most this many images of each set are used. A set that is not in the table counts as 10,000.
    """
    if source == recipe.data:
        return recipe
    here, there = (min(IMAGES.get(name, 10_000), limit or 10**9) for name in (recipe.data, source))
    return replace(shortened(recipe, max(1, round(recipe.epochs * here / there))), data=source)


IOU = "mean IoU (%)"


def dense(b: Budget) -> list[Point]:
    def job(seed: int, trained: bool, pixels: bool) -> Job:
        begin = Start(recipe=replace(b.dense, seed=seed), trained=trained, channels=3, limit=b.limit)
        return Job(begin, Patches(data=b.dense.data, scenes=b.scenes, pixels=pixels))

    rows = {"pixels": (False, True), "untrained": (False, False), "MAE": (True, False)}
    return [Point(IOU, "linear head", x, lambda seed, t=t, p=p: job(seed, t, p)) for x, (t, p) in rows.items()]  # type: ignore[misc]


# --- the paper's numbers ----------------------------------------------------------------------------------------------


def table(axis: str, xs: Sequence[X]) -> dict[str, Mapping[str, Sequence[tuple[X, float]]]]:
    """An axis of Table 1 or of a figure, as in the recipes, over these names."""
    variants = ABLATIONS[axis]
    found = {
        measure: [(x, value) for x, value in zip(xs, values, strict=True) if value is not None]
        for measure, values in ((TUNED, [v.finetuned for v in variants]), (PROBE, [v.linear for v in variants]))
    }
    return {measure: {MAE_LINE: points} for measure, points in found.items()}


BLH = ("ViT-B", "ViT-L", "ViT-H")


def lines(**named: Sequence[float]) -> dict[str, Sequence[tuple[X, float]]]:
    """{line: values for B, L and, if there are three, H} → points."""
    return {name.replace("_", " "): list(zip(BLH, values)) for name, values in named.items()}


def changes_in(axis: str, name: str) -> list[Any]:
    return [variant.changes[name] for variant in ABLATIONS[axis]]
