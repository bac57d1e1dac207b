"""``minimae reproduce`` at the smallest budget: every claim runs to its figure and its verdict, and what is done is not done again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from minimae_book.evidence import command, results
from minimae_book.evidence.budgets import PROBE, TUNED
from minimae_book.evidence.catalogue import CLAIMS
from minimae_book.evidence.jobs import Store
from minimae_book.evidence.results import read
from minimae_book.evidence.verdicts import HOLDS, NOT, PARTLY, UNDECIDED
from PIL import Image

from minimae.cli.program import main
from minimae.errors import Interrupted, MinimaeError


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all claims, so that they share what they share."""
    return tmp_path_factory.mktemp("reproduce")


def reproduce(*words: str, out: Path) -> int:
    return main(["reproduce", *words, "--budget", "smoke", "--device", "cpu", "--out", str(out)])


@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_runs_to_its_end(name: str, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce(name, out=out) == 0
    told = capsys.readouterr().out
    outcome = read(out / "smoke" / f"{name}.json")
    assert outcome.verdict in (HOLDS, PARTLY, NOT, UNDECIDED) and f"→ {outcome.verdict}; " in told
    assert outcome.command == f"minimae reproduce {name} --budget smoke" and outcome.seeds == (0, 1)
    assert all(len(mark.values) == 2 for mark in outcome.marks) and all(str(finding) in told for finding in outcome.findings)
    for mark in outcome.marks:  # the accuracies are those of the test images
        counted = sum("0123456789".index(digit) for digit in mark.right)
        assert not mark.images or counted / mark.images / 2 * 100 == pytest.approx(mark.mean, abs=1e-3)
        assert bool(mark.images) == (mark.measure in (TUNED, PROBE)) and mark.images == len(mark.right)
    assert outcome.environments[0]["torch"] == torch.__version__ and outcome.recipe["data"] in ("fashion", "shapes")
    assert set(outcome.seconds) == {"pre-training", "questions"} and min(outcome.seconds.values()) >= 0
    written = json.loads((out / "smoke" / f"{name}.json").read_text())
    assert written["verdict"] == outcome.verdict and written["recipe"]["questions"]
    told = [(mark.measure, str(mark.changes)) for mark in outcome.marks]
    assert len(set(told)) == len(told), "what differs between two marks is written down"
    with Image.open(out / "smoke" / f"{name}.png") as picture:
        assert picture.size[0] > 400 and len(picture.convert("L").getcolors()) > 10, "a figure with something in it"


def test_what_is_done_is_not_done_again_and_agrees_with_itself(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reproduce("loss", out=out) == 0
    kept = tmp_path / "smoke"
    kept.mkdir()
    before = (out / "smoke" / "loss.json").read_text()
    (kept / "loss.json").write_text(before)
    for module in (results, command):
        monkeypatch.setattr(module, "RECORDED", tmp_path)
    monkeypatch.setattr(Store, "train", None)
    monkeypatch.setattr(Store, "ask", None)
    capsys.readouterr()
    assert reproduce("loss", out=out) == 0
    assert "as recorded with the package: no mean is farther than 0.00" in capsys.readouterr().out
    assert (out / "smoke" / "loss.json").read_text() == before


def test_seeds_can_be_added_later_and_none_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first seeds run alone, are the same numbers afterwards, and one pre-training of each is enough."""
    asked: list[int] = []
    ask = Store.ask
    monkeypatch.setattr(Store, "ask", lambda store, job: (asked.append(job.start.recipe.seed), ask(store, job))[1])
    assert reproduce("loss", "--seeds", "1", out=tmp_path) == 0
    first = read(tmp_path / "smoke" / "loss.json")
    assert first.seeds == (0,) and first.command == "minimae reproduce loss --budget smoke --seeds 1" and set(asked) == {0}
    asked.clear()
    assert reproduce("loss", out=tmp_path) == 0
    both = read(tmp_path / "smoke" / "loss.json")
    assert both.seeds == (0, 1) and set(asked) == {1}
    assert [mark.values[:1] for mark in both.marks] == [mark.values for mark in first.marks]


def test_a_stopped_command_leaves_as_many_runs_of_each_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds are the outer loop: every claim has its first seed before any has its second."""
    order: list[int] = []
    monkeypatch.setattr(command, "run", lambda jobs, store: order.extend(job.start.recipe.seed for job in jobs))
    monkeypatch.setattr(command, "gather", lambda *_: (_ for _ in ()).throw(MinimaeError("stopped")))
    assert reproduce("loss", "target", out=tmp_path) == 2
    assert order == sorted(order) and set(order) == {0, 1}


@pytest.mark.parametrize(("signals", "code"), [((2,), 2), ((15,), 0), ((), 2)], ids=["Ctrl-C", "SIGTERM", "not known"])
def test_a_stopped_command_can_continue(
    signals: tuple[int, ...], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Store, "train", lambda *_: (_ for _ in ()).throw(Interrupted("stopped. Nothing was saved (no --out)", *signals)))
    assert reproduce("loss", out=tmp_path) == code
    told = capsys.readouterr().err
    assert f"stopped; start the same command again to continue: finished jobs are in {tmp_path} (after" in told and "Nothing" not in told


def test_other_data_have_a_folder_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[tuple[str, Path]] = []
    monkeypatch.setattr(command, "run", lambda *_: None)
    monkeypatch.setattr(command, "gather", lambda *given: given[-1])
    monkeypatch.setattr(command, "save", lambda outcome, where: (saved.append((outcome, where)), 1 / 0))
    for name in ("my shapes", "fashion"):
        with pytest.raises(ZeroDivisionError):
            reproduce("loss", "--data", f"some/{name}", out=tmp_path)
    again = "minimae reproduce loss --budget smoke --data"
    assert saved == [(f"{again} 'some/my shapes'", tmp_path / "smoke-my shapes" / "loss.json"),
                     (f"{again} some/fashion", tmp_path / "smoke" / "loss.json")]  # fmt: skip


def test_the_list_tells_every_claim_and_every_budget(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["reproduce"], ["reproduce", "--list"]):
        assert main(words) == 0
        told = capsys.readouterr().out
        assert all(claim.says in told and claim.source in told for claim in CLAIMS.values())
        assert all(f"\n  {name}" in told for name in ("smoke", "laptop", "colour", "full", "gpu"))
        rows = {line.split()[0]: line for line in told.splitlines() if line.split() and line.split()[0] in CLAIMS}
        for path in results.RECORDED.glob("*/*.json"):
            if path.parent.name in command.SHOWN:
                found = read(path)
                assert f"{found.verdict} ({len(found.seeds)}, " in rows[path.stem]


def test_missing_images_are_no_fault_of_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = ["--data-root", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    assert main(["reproduce", "loss", "--budget", "smoke", "--data", "cifar10", "--device", "cpu", *folders]) == 2
    told = capsys.readouterr().err
    assert "--download" in told and "--out" not in told


def test_all_are_those_that_the_budget_is_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--data-root", str(tmp_path / "none"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["reproduce", "all", "--budget", "colour", *where]) == 2
    told = capsys.readouterr()
    assert "left out, because the budget colour is not for them: " in told.out and "--download" in told.err
    left = told.out.splitlines()[0].partition(": ")[2].split(", ")
    assert left == [name for name, claim in CLAIMS.items() if claim.budgets and "colour" not in claim.budgets] != []


@pytest.mark.parametrize(
    "words, message",
    [
        (["ratio"], "unknown claim 'ratio'; did you mean 'mask-ratio'"),
        (["all", "loss"], "all cannot be combined"),
        (["loss", "--budget", "smoke", "--seeds", "3"], "the budget smoke has 2 seeds, so --seeds must be between 1 and that, not 3"),
        (["prompt", "--budget", "full"], "prompt cannot be tested at the budget full, only at smoke, laptop"),
        (["loss", "--threads", "0"], "--threads must be at least 1, not 0"),
        (["loss", "--budget", "gpu"], "there is no GPU here: take --budget laptop"),
        (
            ["loss", "--budget", "smoke", "--data", "cifra10"],
            "unknown dataset 'cifra10', and there is no such folder; did you mean 'cifar10'",
        ),
    ],
)
def test_what_cannot_be_is_told_in_a_line(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", *words, "--device", "cpu", "--out", str(tmp_path / "new")]) == 2
    assert message in capsys.readouterr().err
