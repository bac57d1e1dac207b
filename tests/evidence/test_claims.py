"""The claims: every one can be run at every budget, its comparisons have their marks, and its numbers of the paper are the paper's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from minimae_book import evidence
from minimae_book.evidence.budgets import BUDGETS, COLOUR, FULL, GPU, LAPTOP, SMOKE, Budget, budget_named
from minimae_book.evidence.catalogue import CLAIMS, claim_named, claims_of_modules
from minimae_book.evidence.claims import PROBE, SCRATCH_LINE, TUNED, Claim, elsewhere
from minimae_book.evidence.evaluations import Cost, Linear, Patches, Tune
from minimae_book.evidence.jobs import Start

from minimae.model.sizes import parameters
from minimae.recipes import step_flops

WANTED = {
    "pre-training", "mask-ratio", "sampling", "mask-tokens", "decoder-depth", "decoder-width", "target", "loss", "augmentation", "longer",
    "partial", "transfer", "dense", "detection", "segmentation", "prompt",
}  # fmt: skip

each = pytest.mark.parametrize("claim", CLAIMS.values(), ids=lambda claim: claim.name)
at_each = pytest.mark.parametrize("budget", BUDGETS.values(), ids=lambda budget: budget.name)


def test_the_claims_are_those_of_the_paper() -> None:
    assert set(CLAIMS) == WANTED
    with pytest.raises(ValueError, match="unknown claim 'mask-ration'; did you mean 'mask-ratio'"):
        claim_named("mask-ration")
    with pytest.raises(ValueError, match="unknown budget 'laptpo'; did you mean 'laptop'"):
        budget_named("laptpo")


@each
@at_each
def test_a_comparison_is_between_marks_that_are_measured(claim: Claim, budget: Budget) -> None:
    points = claim.points(budget)
    places = [point.place for point in points]
    assert len(places) == len(set(places)), "each place once"
    expects = claim.expects(budget)
    assert expects and all(e.first in places and e.second in places and e.first != e.second for e in expects)
    assert len({e.says for e in expects}) == len(expects)
    keys = {point.place: point.job(0).key for point in points}
    same = [e for e in expects if keys[e.first] == keys[e.second]]
    assert not same, "a comparison of a thing with itself"


@each
@at_each
def test_seeds_make_other_jobs_and_recipes_fit_their_images(claim: Claim, budget: Budget) -> None:
    for point in claim.points(budget):
        first, second = point.job(0), point.job(1)
        assert first.key != second.key or (isinstance(first.question, Cost | Patches) and not first.start.trained)
        recipe = first.start.recipe
        if first.start.trained:
            assert recipe.seed == 0 and second.start.recipe.seed == 1
            assert recipe.steps(min(budget.limit or 10**9, 2000 if recipe.data == "shapes" else 4200)) >= 1
        recipe.size_at(recipe.image or 28, first.start.channels or 1)  # raises when widths, heads, patch and image do not go together


@each
def test_one_thing_changes_within_a_claim(claim: Claim) -> None:
    """Each pre-training differs from the plain one in the fields of its axis, and in the length of its warm-up."""
    allowed = {
        "mask-ratio": {"ratio", "epochs"}, "sampling": {"sampling", "ratio", "epochs"}, "mask-tokens": {"mask_tokens_in_encoder"},
        "decoder-depth": {"decoder_depth"}, "decoder-width": {"decoder_width"}, "target": {"target"}, "loss": {"loss_on"},
        "augmentation": {"crop", "fixed_crop", "jitter", "flip"}, "longer": {"epochs"}, "transfer": {"data", "epochs"},
    }.get(claim.name, set())  # fmt: skip
    for point in claim.points(LAPTOP):
        start: Start = point.job(0).start
        if claim.recipe(LAPTOP) == LAPTOP.pretrain and start.trained:
            before, after = vars(LAPTOP.pretrain), vars(start.recipe)
            assert {name for name in after if after[name] != before[name]} <= allowed | {"warmup_epochs"}, point.place
            share = LAPTOP.pretrain.warmup_epochs / LAPTOP.pretrain.epochs
            assert start.recipe.warmup_epochs == pytest.approx(share * start.recipe.epochs)


def test_from_scratch_has_its_own_recipe_and_the_same_images() -> None:
    points = {(p.line, p.x): p.job(2) for p in CLAIMS["pre-training"].points(LAPTOP)}
    for labels in LAPTOP.ladder:
        tuned, scratch = points["MAE", labels], points[SCRATCH_LINE, labels]
        assert isinstance(tuned.question, Tune) and isinstance(scratch.question, Tune)
        assert (
            tuned.question.labels == scratch.question.labels == labels and tuned.question.recipe.seed == scratch.question.recipe.seed == 2
        )
        assert tuned.start.trained and not scratch.start.trained
        assert scratch.question.recipe.base_lr != tuned.question.recipe.base_lr


def test_other_sets_are_seen_as_often() -> None:
    here = LAPTOP.pretrain.epochs * 10_000
    for name, images in (("photos", 4200), ("shapes", 2000)):
        assert elsewhere(LAPTOP.pretrain, name).epochs * images == pytest.approx(here, rel=0.02)
    assert elsewhere(LAPTOP.pretrain, "fashion") == LAPTOP.pretrain
    assert elsewhere(FULL.pretrain, "photos").epochs == round(FULL.pretrain.epochs * 60_000 / 4200)
    assert elsewhere(LAPTOP.pretrain, "photos", limit=300).epochs == LAPTOP.pretrain.epochs, "all have as many"
    assert elsewhere(replace(LAPTOP.pretrain, data="my/pictures"), "fashion").epochs == LAPTOP.pretrain.epochs


def test_transfer_to_the_set_it_learned_from_has_no_point_twice() -> None:
    claim, other = CLAIMS["transfer"], budget_named("smoke", data="shapes")
    places = [point.place for point in claim.points(other)]
    assert len(set(places)) == len(places) == 3 and min(p.job(0).start.recipe.epochs for p in claim.points(other)) >= 1
    assert [(e.first, e.second) for e in claim.expects(other)] == [(places[1], places[0])]


def test_the_numbers_of_the_paper() -> None:
    ratio = CLAIMS["mask-ratio"].paper
    assert ratio[TUNED]["MAE"][0] == (10, 83.2) and (75, 73.5) in ratio[PROBE]["MAE"] and len(ratio[PROBE]["MAE"]) == 10
    assert CLAIMS["decoder-depth"].paper[PROBE]["MAE"] == [(1, 65.5), (2, 70.0), (4, 71.9), (8, 73.5), (12, 73.3)]
    assert CLAIMS["sampling"].paper[TUNED]["MAE"][2] == ("block 75 %", 82.8)
    assert CLAIMS["target"].paper[TUNED]["MAE"] == [("pixels", 84.9), ("normalised", 85.4), ("pca", 84.6)]
    assert CLAIMS["partial"].paper[TUNED]["MAE"][1] == (0.5, 79.1)
    assert CLAIMS["longer"].paper[TUNED]["MAE"][-1] == (1600.0, 85.1)
    assert CLAIMS["detection"].paper["box AP (%)"]["MAE"] == [("ViT-B", 50.3), ("ViT-L", 53.3)]
    assert {claim.name for claim in CLAIMS.values() if not claim.paper} == {"prompt"}  # a question that nobody answered


def test_both_questions_are_asked_where_the_paper_asks_both() -> None:
    for name in ("mask-ratio", "sampling", "decoder-depth", "decoder-width", "target", "loss", "augmentation", "longer"):
        kinds = {type(point.job(0).question) for point in CLAIMS[name].points(LAPTOP)}
        assert kinds == {Tune, Linear}, name


def test_a_budget_asks_only_its_own_judges() -> None:
    """In colour the probe alone: fine-tuning would cost as much as pre-training."""
    for name in ("mask-ratio", "sampling", "augmentation", "longer", "decoder-depth", "decoder-width"):
        points = CLAIMS[name].points(COLOUR)
        assert {point.measure for point in points} == {PROBE} == {expect.first[0] for expect in CLAIMS[name].expects(COLOUR)}
        assert all(point.job(0).question == Linear(data="cifar10", seed=0, labels=5000, test=5000) for point in points)
    assert COLOUR.pretrain.size_at(32, 3).grid == (8, 8) and len(COLOUR.seeds) == 10


def test_a_module_of_its_own_adds_a_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file claim_NAME.py beside the catalogue is enough."""
    text = "from dataclasses import replace\nfrom .catalogue import CLAIMS\nCLAIM = replace(CLAIMS['loss'], name='new')\n"
    (tmp_path / "claim_new.py").write_text(text)
    (tmp_path / "helpers.py").write_text("raise AssertionError('not a claim')")
    monkeypatch.setattr(evidence, "__path__", [*evidence.__path__, str(tmp_path)])
    assert [claim.name for claim in claims_of_modules() if claim.name not in CLAIMS] == ["new"]


def test_the_gpu_budget_is_of_at_most_six_million_parameters_and_another_data_set_can_take_its_place() -> None:
    recipe = GPU.pretrain
    assert parameters(recipe.size_at(32, 3))[0] < 6e6 and recipe.graph
    other = budget_named("smoke", data="shapes")
    assert other.pretrain == replace(SMOKE.pretrain, data="shapes")
    assert all(p.job(0).question.data == "shapes" for p in CLAIMS["target"].points(other))
    assert other.what == f"shapes, at the scale of: {SMOKE.what}" and budget_named("colour", data="./cifar10").what == COLOUR.what


@each
def test_a_claim_takes_less_than_half_an_hour_on_a_gpu_that_does_as_well_as_it_must(claim: Claim) -> None:
    """40,000 images/s in pre-training ViT-T/4 on 32 pixels, the least that is asked of one H200, are 35 TFLOP/s."""
    images = {"cifar10": 50_000, "photos": 4200, "shapes": 2000}
    rate = 40_000 * step_flops(GPU.pretrain, GPU.pretrain.size_at(32, 3))
    trained: dict[str, float] = {}
    asked = 0.0
    for job in (point.job(seed) for point in claim.points(GPU) for seed in GPU.seeds):
        recipe, question = job.start.recipe, job.question
        size = recipe.size_at(recipe.image or 32, 3)
        if job.start.trained:
            trained[job.start.key] = step_flops(recipe, size) * recipe.epochs * images[recipe.data]
        if isinstance(question, Tune):
            asked += step_flops(question.recipe, size) * question.recipe.epochs * question.labels
    assert 33e12 < rate < 37e12 and (sum(trained.values()) + asked) / rate < 30 * 60
