"""``minimae reproduce``: a claim of the paper, tested; a figure beside the paper's, and every number with its seeds."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from minimae import data
from minimae.cli.options import pick_device
from minimae.data.images import Images
from minimae.data.optional import need
from minimae.devices import set_device
from minimae.errors import MinimaeError
from minimae.train import threads

from ..figures.results import Effect, claim_panels
from ..stopping import same_command
from .budgets import BUDGETS, Budget, budget_named
from .catalogue import CLAIMS, claim_named
from .claims import Claim
from .jobs import Store, run
from .results import RECORDED, Outcome, compared, gather, read, recorded, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOGARITHMIC = ("labelled images", "epochs of pre-training", "decoder width")


@dataclass(frozen=True, kw_only=True)
class ReproduceCommand:
    """Test a claim of the paper at a scale of your choice: minimae reproduce CLAIM; --list lists the claims."""

    claims: Positional[Annotated[tuple[str, ...], arg(metavar="[CLAIM …]")]] = ()
    """One or more claims, or all."""
    list: bool = False
    """List the claims, their recorded verdicts, and the budgets."""
    budget: Literal["smoke", "laptop", "colour", "full", "gpu"] = "laptop"
    """For each claim: smoke, under a minute. laptop, under an hour of one core. colour, CIFAR-10, one to three hours of one core.
    full, all of Fashion-MNIST, hours. gpu, one GPU, under half an hour."""
    seeds: int | None = None
    """Run only this many seeds of the budget, the first ones; more can be added later, and nothing is repeated."""
    out: Path = Path("runs/reproduce")
    """Folder for results, figures, weights. Finished jobs there are not repeated, and a second process may work in it too."""
    data_root: Path = data.DOWNLOADS
    """Folder of downloaded data sets."""
    download: bool = False
    """Fetch the data set if it is missing."""
    data: str | None = None
    """A data set or a folder to use instead of the budget's. If its name is another, the results go to OUT/BUDGET-NAME."""
    device: str = "auto"
    """cpu, cuda, cuda:1 …; auto takes the GPU if there is one."""
    threads: int | None = None
    """Threads on a CPU; by default one for small models. With two processes on two cores, 1 each."""

    def __call__(self) -> None:
        if self.list or not self.claims:
            print(listing())
            return
        if "all" in self.claims and len(self.claims) > 1:
            raise ValueError("all cannot be combined with claims: name claims, or say all")
        every = self.claims == ("all",)
        chosen = list(CLAIMS.values()) if every else [claim_named(name) for name in self.claims]
        if self.threads is not None:
            threads.fix(self.threads)
        budget = budget_named(self.budget, data=self.data, seeds=self.seeds)
        if unfit := [claim.name for claim in chosen if claim.budgets and budget.name not in claim.budgets]:
            if not every:
                raise ValueError(f"{unfit[0]} cannot be tested at the budget {budget.name}, only at {', '.join(CLAIMS[unfit[0]].budgets)}")
            print(f"left out, because the budget {budget.name} is not for them: {', '.join(unfit)}", flush=True)
            chosen = [claim for claim in chosen if claim.name not in unfit]
        for library in ("scipy.stats", *(("torchmetrics", "pycocotools") if {"segmentation", "detection"} & {c.name for c in chosen} else ())):
            need(library, why="the result")  # now, not after hours
        device = set_device(pick_device(self.device))
        if self.budget == "gpu" and device == "cpu":
            raise MinimaeError("the budget gpu records CUDA graphs, and there is no GPU here: take --budget laptop")
        if self.threads is None:
            start = budget.pretrain
            threads.in_this_process(start.size_at(start.image or 32, budget.channels), start, device=device)
        store = Store(self.out / "jobs", self.opener(), device, lambda text: print(text, flush=True))
        print(f"{budget.name}: {budget.what}; on {device}, to {self.out}", flush=True)
        with same_command(self.out, "finished jobs are"):
            for seed in budget.seeds[:-1]:  # seed by seed, so that a stopped command leaves equally many of each claim
                run([point.job(seed) for claim in chosen for point in claim.points(budget)], store)
            for claim in chosen:
                self.test(claim, budget, store)

    def test(self, claim: Claim, budget: Budget, store: Store) -> None:
        """Do what is left of a claim's jobs; save and print the result."""
        points = claim.points(budget)
        print(f"\n{claim.name} ({claim.source}): {claim.says}", flush=True)
        run([point.job(seed) for seed in budget.seeds for point in points], store)
        outcome = gather(claim, budget, points, store, self.again(claim))
        usual = budget.what == BUDGETS[budget.name].what
        where = self.out / (budget.name if usual else f"{budget.name}-{Path(budget.pretrain.data).resolve().name}") / f"{claim.name}.json"
        save(outcome, where)
        picture(outcome).savefig(where.with_suffix(".png"))
        print("\n".join([outcome.table(), *map(str, outcome.findings), f"→ {outcome.verdict}; {where} and .png"]))
        if self.data is None and (RECORDED / budget.name / f"{claim.name}.json").is_file():
            print(compared(outcome, recorded(claim.name, budget.name))[1])

    def opener(self) -> Any:
        """How jobs open images: each set once in a process."""

        @lru_cache(maxsize=12)
        def opened(name: str, split: str, image: int | None, channels: int | None, limit: int | None) -> Images:
            how: dict[str, Any] = {"image": image, "channels": channels, "limit": limit}
            return data.load(name, split, root=self.data_root, download=self.download, **how)

        def load(name: str, split: str, *, image: int | None = None, channels: int | None = None, limit: int | None = None) -> Images:
            return opened(name, split, image, channels, limit)

        return load

    def again(self, claim: Claim) -> str:
        """The command that repeats a claim."""
        extra = "".join(f" --{name} {shlex.quote(str(value))}" for name in ("seeds", "data") if (value := getattr(self, name)) is not None)
        return f"minimae reproduce {claim.name} --budget {self.budget}{extra}"


def picture(outcome: Outcome) -> Figure:
    """The figure of an outcome: a row for every measure, with our numbers, the differences behind the claim, and the paper's numbers."""
    ours: dict[str, dict[str, Any]] = {}
    for mark in outcome.marks:
        ours.setdefault(mark.measure, {}).setdefault(mark.line, []).append((mark.x, mark.mean, mark.std))
    effects: dict[str, list[Effect]] = {}
    for found in outcome.findings:
        if found.low is not None and found.high is not None:
            row = (
                found.says.removeprefix(f"{found.measure.split(' (')[0]}: "),
                found.outcome,
                found.threshold,
                found.difference,
                found.low,
                found.high,
            )
            effects.setdefault(found.measure, []).append(row)
    log = outcome.axis in LOGARITHMIC
    return claim_panels(ours, outcome.paper, axis=outcome.axis, paper_axis=outcome.paper_axis, log=log, effects=effects,
                        here=f"measured here, {len(outcome.seeds)} seeds")  # fmt: skip


SHOWN = ("laptop", "colour")  # budgets with recorded results for most claims


def listing() -> str:
    """All claims: where the paper makes them, the verdicts in the results that come with the package, and the budgets."""
    lines = [f"{'claim':15}{'in the paper':24}" + "".join(f"{name:22}" for name in SHOWN) + "what is claimed"]
    for claim in CLAIMS.values():
        lines.append(f"{claim.name:15}{claim.source:24}" + "".join(f"{result_of(claim.name, name):22}" for name in SHOWN) + claim.says)
    budgets = [f"  {budget.name:8}{budget.what}; {len(budget.seeds)} seeds" for budget in BUDGETS.values()]
    notes = ["In brackets: seeds, and minutes of one core. Claims share runs, so all together take less than the sum."]
    return "\n".join([*lines, "", *notes, "minimae reproduce CLAIM --budget BUDGET:", *budgets])


def result_of(claim: str, budget: str) -> str:
    """The recorded verdict of a claim, with seeds and core minutes."""
    path = RECORDED / budget / f"{claim}.json"
    if not path.is_file():
        return "–"
    found = read(path)
    return f"{found.verdict} ({len(found.seeds)}, {sum(found.seconds.values()) / 60:.0f})"
