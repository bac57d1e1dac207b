"""The committed results and the page about them: complete, whole, and of one mind."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from minimae_book.evidence.budgets import BUDGETS, Budget
from minimae_book.evidence.catalogue import CLAIMS
from minimae_book.evidence.claims import Claim
from minimae_book.evidence.results import RECORDED, compared, recorded
from minimae_book.evidence.verdicts import judge
from PIL import Image

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "evidence.md"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("evidence_page", DOCS / "evidence.py")
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


made = pytest.mark.parametrize(
    ("claim", "budget"),
    [(CLAIMS[path.stem], BUDGETS[path.parent.name]) for path in sorted(RECORDED.glob("*/*.json"))],
    ids=lambda one: one.name,
)


@made
def test_a_result_was_made_by_the_claim_as_it_is(claim: Claim, budget: Budget) -> None:
    found = recorded(claim.name, budget.name)
    assert [mark.place for mark in found.marks] == [point.place for point in claim.points(budget)]
    assert all(len(mark.values) == len(found.seeds) >= 3 for mark in found.marks)
    assert found.seeds == budget.seeds[: len(found.seeds)] and found.says == claim.says and found.scale == budget.what
    marks = {mark.place: mark for mark in found.marks}
    assert found.findings == judge(claim.expects(budget), marks)
    base = claim.recipe(budget)
    assert {name: value for name, value in found.recipe.items() if name in ("epochs", "ratio", "base_lr", "batch", "patch")} == {
        name: getattr(base, name) for name in ("epochs", "ratio", "base_lr", "batch", "patch")
    }
    assert found.recipe["data"].removeprefix("./") == base.data
    assert found.environments and all(e["device"] == "cpu" for e in found.environments)
    assert compared(found, found)[0]


@made
def test_the_seeds_differ(claim: Claim, budget: Budget) -> None:
    marks = recorded(claim.name, budget.name).marks
    learned = [mark for mark in marks if mark.measure.endswith("(%)") and mark.x not in ("pixels", "untrained")]
    assert all(len(set(mark.values)) > 1 for mark in learned)


def test_shared_runs_have_one_value() -> None:
    """The plain recipe is part of several claims, and has the same accuracies in all of them."""
    places = [("mask-tokens", "without"), ("decoder-depth", 1), ("decoder-width", 64), ("target", "normalised"), ("loss", "masked"),
              ("augmentation", "none"), ("longer", 20.0)]  # fmt: skip
    values = {tuple(recorded(name).at((measure, "MAE", x)).values) for name, x in places for measure in ("linear probe (%)",)}
    assert len(values) == 1


def test_every_result_is_on_the_page_and_nothing_else_lies_there(maker: ModuleType) -> None:
    shown = maker.shown()
    assert {(path.stem, path.parent.name) for path in RECORDED.glob("*/*")} == set(shown.values())
    assert set(shown.values()) >= {(name, "laptop") for name, claim in CLAIMS.items() if not claim.budgets}
    assert {path.stem for path in (DOCS / "images" / "evidence").glob("*")} == set(shown)


def test_the_page_is_made_of_the_results(maker: ModuleType) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert maker.page(text) == text, "python docs/evidence.py puts it right"
    other = text.replace("**holds**", "**fails**", 1)
    assert maker.page(other) == text != other


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS.values() if (RECORDED / "laptop" / f"{claim.name}.json").is_file()])
def test_each_claim_has_its_reasons_and_its_figure(claim: Claim) -> None:
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.M | re.S))
    why = re.search(r"^\*\*Why\.\*\* (.+)", sections[claim.name], re.M | re.S)
    assert why and len(why[1]) > 120 and claim.says in sections[claim.name]
    with Image.open(DOCS / "images" / "evidence" / f"{claim.name}.png") as picture:
        assert picture.size[0] > 400
