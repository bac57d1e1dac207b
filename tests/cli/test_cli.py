"""The command line as a person uses it: every command on the embedded sample, and one clear line for each mistake."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minimae import __version__, weights
from minimae.cli.commands import COMMANDS, command_class
from minimae.cli.parsing import parse
from minimae.cli.program import main
from minimae.recipes import my_pictures
from minimae.train.checkpoint import load_checkpoint, save_checkpoint
from minimae.weights import load_pretrained

FAST = ["--limit", "200", "--batch", "40", "--epochs", "2", "--warmup-epochs", "1", "--depth", "2", "--patch", "7", "--device", "cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "quick"
    assert main(["pretrain", "fashion-demo", *FAST, "--out", str(out)]) == 0
    return out


def test_a_run_folder_can_be_opened_by_a_person(run: Path) -> None:
    names = {"recipe.json", "recipe.txt", "environment.json", "metrics.jsonl", "checkpoint.pt"}
    names |= {"loss.png", "metrics.png", "reconstructions.png", "report.html"}
    assert {p.name for p in run.iterdir()} - {"tensorboard"} == names
    assert json.loads((run / "recipe.json").read_text())["batch"] == 40
    page = (run / "report.html").read_text()
    assert page.count("<figure>") == 3 and page.count("alt=") == 3 and "http" not in page.replace("http-equiv", "")
    for figure in ("loss.png", "metrics.png", "reconstructions.png"):
        with Image.open(run / figure) as picture:
            assert picture.width > 600 and np.asarray(picture.convert("L")).std() > 10


def test_every_question_can_be_asked_of_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = ["--weights", str(run), "--limit", "200", "--device", "cpu"]
    assert main(["knn", *weights, "--k", "5"]) == 0
    assert main(["probe", *weights, "--pool", "mean", "--labels", "100"]) == 0
    assert main(["finetune", *weights, "--labels", "100", "--epochs", "1", "--warmup-epochs", "0", "--batch", "50"]) == 0
    assert main(["finetune", *weights, "--scratch", "--epochs", "1", "--warmup-epochs", "0", "--out", str(run.parent / "tuned")]) == 0
    told = capsys.readouterr().out
    assert "5-NN, mean features:" in told and "linear probe, mean features, 100 labels" in told
    assert "fine-tuned on 100 labels" in told and "from scratch on 200 labels" in told
    tuned = run.parent / "tuned"
    assert {"checkpoint.pt", "report.html", "metrics.png", "result.json"} <= {path.name for path in tuned.iterdir()}
    again = ["finetune", "--weights", str(tuned), *weights[2:], "--epochs", "1", "--warmup-epochs", "0"]
    for words, said in (([], True), (["--scratch"], False)):
        assert main([*again, *words]) == 0 and (f"continues from {tuned}" in capsys.readouterr().out) == said
    files = ["--predictions", str(tuned / "new" / "p.csv"), "--confusion", str(tuned / "c.csv")]
    assert main(["evaluate", "--weights", str(tuned), "--limit", "50", "--device", "cpu", *files]) == 0
    rows = [line.split(",") for line in (tuned / "new" / "p.csv").read_text(encoding="utf-8").splitlines()[1:]]
    counts = [line.split(",")[1:] for line in (tuned / "c.csv").read_text(encoding="utf-8").splitlines()[1:]]
    right = sum(row[2] == row[3] for row in rows)
    assert len(rows) == 50 and sum(int(counts[i][i]) for i in range(10)) == right
    assert f": {2 * right:.2f} % (top-5 " in capsys.readouterr().out


def test_your_own_photo_of_any_size_is_reconstructed(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = tmp_path / "my-photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 133, 3), dtype=np.uint8)).save(photo)
    out = tmp_path / "pictures" / "mine.png"
    assert main(["reconstruct", str(photo), "--weights", str(run), "--out", str(out)]) == 0
    assert out.is_file() and "% of the patches hidden" in capsys.readouterr().out
    assert main(["reconstruct", str(photo), str(photo), "--weights", str(run / "checkpoint.pt"), "--out", str(out), "--ratio", "0.5"]) == 0
    assert {p.name for p in out.parent.iterdir()} == {"mine.png", "mine-1.png", "mine-2.png"}


def test_a_run_is_not_overwritten_but_resumed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "fashion-demo", *FAST, "--out", str(run)]) == 2
    assert f"already holds a run: continue it with --resume {run}" in capsys.readouterr().err
    before = load_checkpoint(run / "checkpoint.pt")
    assert main(["pretrain", "--resume", str(run), "--limit", "200", "--device", "cpu"]) == 0
    assert load_pretrained(run).recipe.batch == 40
    after = load_checkpoint(run / "checkpoint.pt")
    assert all(torch.equal(before["model"][name], after["model"][name]) for name in before["model"])
    assert [before[name] for name in ("step", "history", "settings")] == [after[name] for name in ("step", "history", "settings")]


def test_a_resumed_run_takes_its_recipe_as_it_was_saved_last(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    state = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    state |= {"processes": 2, "settings": {**state["settings"], "batch": 20, "epochs": 3.0}}  # two processes, and more epochs since
    save_checkpoint(tmp_path / "run" / "checkpoint.pt", state)
    recipe = parse(["pretrain", "--resume", str(tmp_path / "run")]).recipe
    assert (recipe.batch, recipe.accumulate, recipe.epochs) == (20, 2, 3.0), "not the first --batch 40 --epochs 2"
    assert parse(["pretrain", "--resume", str(tmp_path / "run"), "--epochs", "5"]).recipe.epochs == 5.0


def test_flops_prints_the_papers_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["flops", "all"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[2:]}
    for name, values in {
        "base": ("85.65 M", "111.91 M", "8.59 GF", "10.55 GF", "58.45 GF"),
        "large": ("303.10 M", "329.54 M", "30.44 GF", "10.55 GF", "124.22 GF"),
        "huge": ("630.44 M", "657.07 M", "82.48 GF", "14.02 GF", "290.98 GF"),
    }.items():
        assert all(value in rows[name] for value in values)


def test_data_lists_and_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data"]) == 0 and main(["data", "fashion"]) == 0
    told = capsys.readouterr().out
    assert "cifar10" in told and "fashion: 10,000 images, 1 × 28 × 28, 10 classes" in told


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    assert (command_class(command).__doc__ or "").split(":")[0].split(",")[0][:30] in told.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pretrian"], "unknown command 'pretrian'; did you mean 'pretrain'?"),
        (["pretrain"], "needs a recipe: fashion-demo"),
        (["pretrain", "fashion-nanno"], "did you mean 'fashion-nano'?"),
        (["pretrain", "fashion-demo", "--data", "fashio"], "did you mean 'fashion'?"),
        (["pretrain", "fashion-demo", "--data", "./nowhere"], "nowhere"),
        (["pretrain", "fashion-demo", "--patch", "5"], "resize or crop it to 25×25 or 30×30"),
        (["pretrain", "fashion-demo", "--ratio", "0.999"], "keeps 0 of"),
        (["pretrain", "fashion-demo", "--ratio", "0"], "between 0 and 1"),
        (["pretrain", "fashion-demo", "--batch", "99999"], "there are only 10000"),
        (["pretrain", "fashion-demo", "--width", "50"], "the width must be a multiple of the heads"),
        (["pretrain", "fashion-demo", "--device", "cuda:99"], "--device cpu"),
        (["pretrain", "cifar10"], "unknown recipe 'cifar10'; did you mean 'cifar10-tiny'?"),
        (["pretrain", "cifar10-tiny", "--data-root", "empty"], "--download"),
        (["knn", "--weights", "nowhere"], "no checkpoint at"),
        (["reconstruct", "absent.jpg", "--weights", "nowhere"], "no checkpoint at"),
        (["flops", "bas"], "did you mean 'base'?"),
    ],
)
def test_a_mistake_is_answered_in_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert said in told and told.startswith("minimae: ") and "Traceback" not in told


def test_an_unwritable_folder_is_told_before_the_first_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main(["pretrain", "fashion-demo", *FAST, "--out", str(tmp_path / "file" / "run")]) == 2
    assert "choose another folder with --out" in capsys.readouterr().err


def test_an_option_that_does_not_exist_leaves_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "fashion-demo", "--bach", "3"]) == 2
    assert "no option --bach; did you mean --batch?" in capsys.readouterr().err


def test_corrupt_images_are_named_or_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for i in range(44):
        folder = tmp_path / "set" / ("train" if i < 40 else "test") / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (28, 28), dtype=np.uint8)).save(folder / f"{i:02}.png")
    (tmp_path / "set" / "train" / "a" / "00.png").write_bytes(b"broken")
    arguments = ["pretrain", "fashion-demo", "--data", str(tmp_path / "set"), *FAST[2:], "--batch", "8", "--out", str(tmp_path / "run")]
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert "00.png" in told and "--skip-corrupt" in told
    assert main([*arguments, "--skip-corrupt"]) == 0
    assert "left out 1 damaged file" in capsys.readouterr().out


def test_tracebacks_are_shown_on_request() -> None:
    command = [sys.executable, "-m", "minimae", "flops", "bas"]
    quiet, loud = (
        subprocess.run(command, capture_output=True, text=True, env=os.environ | extra) for extra in ({}, {"MINIMAE_TRACEBACK": "1"})
    )
    assert quiet.returncode == 2 and "Traceback" not in quiet.stderr
    assert "Traceback" in loud.stderr


def test_a_run_says_in_a_few_lines_what_it_does_and_keeps_the_whole_recipe(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run.parent / "brief"
    assert main(["pretrain", "fashion-demo", *FAST, "--ratio", "0.5", "--out", str(out)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) <= 12 and "ratio 0.5" in "".join(told) and "10 of 40 images" in "".join(told)
    assert not any("GPU h" in line for line in told) and told[-1].startswith("Predicting the mean scores ")
    whole = (out / "recipe.txt").read_text(encoding="utf-8")
    assert "GPU h" in whole and "ratio                   0.5   (recipe: 0.75)" in whole
    assert main(["finetune", "fashion-finetune", "--weights", str(out), "--labels", "100", "--epochs", "1", "--warmup-epochs", "0",
                 "--limit", "200", "--device", "cpu", "--out", str(out / "tuned")]) == 0  # fmt: skip
    assert len(capsys.readouterr().out.splitlines()) <= 10 and "starts from" in (out / "tuned" / "recipe.txt").read_text(encoding="utf-8")


def test_old_names_work_for_a_version_with_a_notice(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["pretrain", "imagenet-base", "--rehearse"]).dry_run
    assert str(parse(["data", "rehearsal", "folder"]).root) == "folder"
    assert [line.split(";")[0] for line in capsys.readouterr().err.splitlines()] == [
        "minimae: --rehearse is now --dry-run", "minimae: data rehearsal is now data sample",
    ]  # fmt: skip


def test_the_recipe_for_a_folder_follows_its_number_of_pictures(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(70):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    made = parse(["pretrain", "my-pictures", "--data", str(tmp_path)])
    assert made.recipe == replace(my_pictures(70), data=str(tmp_path))
    shards = str(tmp_path_factory.mktemp("shards"))
    assert main(["data", "pack", str(tmp_path), shards, "--splits", "train"]) == 0
    assert parse(["pretrain", "my-pictures", "--data", shards]).recipe == replace(my_pictures(70), data=shards)
    capsys.readouterr()
    made = parse(["pretrain", "my-pictures", f"--data={tmp_path}", "--limit", "40", "--epochs", "3", "--warmup-epochs", "0"])
    assert made.recipe == replace(my_pictures(40), data=str(tmp_path), epochs=3.0, warmup_epochs=0.0)
    assert main(["pretrain", "my-pictures"]) == 2 and "--data FOLDER" in capsys.readouterr().err
    assert main(["pretrain", "my-pictures", "--data", "cifar10", "--data-root", str(tmp_path / "sets")]) == 2
    assert str(tmp_path / "sets") in capsys.readouterr().err
    run = tmp_path_factory.mktemp("runs") / "run"
    assert main(["recipes", "my-pictures", "--save", str(tmp_path / "mine.json")]) == 0
    assert main(["pretrain", str(tmp_path / "mine.json"), "--out", str(run)]) == 2
    assert "no images are named" in capsys.readouterr().err and not run.exists()
    quick = ["--epochs", "0.5", "--warmup-epochs", "0", "--depth", "1", "--device", "cpu", "--out", str(run)]
    assert main(["pretrain", "my-pictures", "--data", str(tmp_path), *quick]) == 0
    told = capsys.readouterr().out
    assert "changed  epochs 0.5, warmup_epochs 0.0" in told and "learned nothing yet. Try more than 2 optimizer steps" in told
    assert "Training images." in (run / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["knn", "probe", "finetune"])
def test_the_sample_stands_in_for_the_complete_set(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minimae.data.fashion.DEBIAN", tmp_path)
    words = [command, "--weights", "fashion-nano", "--limit", "60", "--device", "cpu"]
    quick = ["--epochs", "1", "--warmup-epochs", "0", "--batch", "30"] if command == "finetune" else []
    assert main([*words, *quick]) == 0
    assert "fashion-full is missing: --data fashion" in capsys.readouterr().out
    assert main([*words, *quick, "--data", "fashion-full"]) == 2 and "--download" in capsys.readouterr().err


def test_other_data_that_is_not_there_can_be_replaced(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = load_pretrained(run)
    away = replace(trained, recipe=replace(trained.recipe, data="gone/folder"))
    weights.save(away, tmp_path / "away.safetensors")
    assert main(["knn", "--weights", str(tmp_path / "away.safetensors")]) == 2
    assert "were trained on gone/folder, which is not here: name labelled images with --data" in capsys.readouterr().err


def test_the_program_loads_only_what_a_command_needs() -> None:
    code = "minimae.cli.program.main(['flops', 'tiny']); print({'minimae_book.bench', 'minimae_book.evidence'} & {*sys.modules})"
    start = "import minimae.cli.program, sys; assert not {'minimae_book', 'matplotlib'} & {*sys.modules}; "
    assert subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, check=True).stdout.endswith("set()\n")


def test_the_version_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(__file__).resolve().parents[2]
    assert main(["--version"]) == 0 and capsys.readouterr().out.strip() == __version__
    assert f'\nversion = "{__version__}"\n' in (root / "pyproject.toml").read_text(encoding="utf-8")
    assert f"\n## {__version__} " in (root / "CHANGELOG.md").read_text(encoding="utf-8")
    pinned = re.findall(r"minimae(?:\[\w+\])?==([\d.]+)\.\*", (root / "docs" / "teaching.md").read_text(encoding="utf-8"))
    assert pinned == [__version__.rpartition(".")[0]]
