"""The way through ImageNet that the README shows, on a small folder of real JPEGs laid out like it: every command, every mistake."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from apart import apart

from minimae import MAE, size, weights
from minimae.cli import main
from minimae.cli.parsing import parse
from minimae.data.photos import make_folder
from minimae.tasks.pretrain import PretrainTask
from minimae.train.checkpoint import load_checkpoint

TINY = shlex.split("--image 32 --patch 8 --width 32 --depth 2 --heads 2 --decoder-width 16 --decoder-depth 1 --decoder-heads 2")
SHORT = shlex.split("--batch 8 --accumulate 1 --epochs 2 --warmup-epochs 0 --log-every 1 --device cpu --workers 1")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("imagenet"), classes=4, train=8, val=4, share=0.2)


@pytest.fixture(scope="module")
def shards(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed")
    assert main(["data", "pack", str(folder), str(out), "--side", "48", "--shard-size", "10", "--workers", "1"]) == 0
    assert main(["data", "verify", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "pretrain"
    assert main(["pretrain", "imagenet-base", "--data", str(shards), *TINY, *SHORT, "--out", str(out)]) == 0
    return out


def test_pre_training_prints_its_recipe_first(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["pretrain", "imagenet-base", "--data", str(shards), *TINY, *SHORT, "--epochs", "1", "--out", str(tmp_path / "run")]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert told.startswith("imagenet-base: pre-train ViT-B/16 for 800 epochs")
    assert "images, 1 epoch; peak" in told and re.search(r"steps +4 of 8 images", told) and "width 32" in told and "batch 8" in told
    whole = (tmp_path / "run" / "recipe.txt").read_text(encoding="utf-8")
    assert "Table 8" in whole and re.search(r"batch +8 +\(recipe: 512\)", whole)
    assert "images per step         8 = 8 × 1 accumulated" in whole
    assert "32 images, read as they are needed, 4 classes" in told


def test_from_shards_and_from_files_the_same_images_come_in_the_same_order(folder: Path, run: Path, tmp_path: Path) -> None:
    """The pixels differ (packing makes them smaller, and JPEG again), so the losses do, but only a little."""
    out = tmp_path / "files"
    assert main(["pretrain", "imagenet-base", "--data", str(folder), "--read-from", "files", *TINY, *SHORT, "--out", str(out)]) == 0
    one, other = (load_checkpoint(path / "checkpoint.pt")["history"] for path in (run, out))
    assert [p["loss"] for p in one] == pytest.approx([p["loss"] for p in other], rel=0.03)
    assert one[0]["loss"] != other[0]["loss"]


@pytest.mark.parametrize("how", [["--workers", "0"], ["--workers", "2"], ["--crop-on", "device"]])
def test_how_it_is_read_changes_nothing_that_is_learned(how: list[str], shards: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    assert main(["pretrain", "imagenet-base", "--data", str(shards), *TINY, *SHORT, *how, "--out", str(out)]) == 0
    one, other = (load_checkpoint(path / "checkpoint.pt") for path in (run, out))
    if "--workers" in how:
        assert all(torch.equal(one["model"][name], other["model"][name]) for name in one["model"])
    assert [p["loss"] for p in one["history"]] == pytest.approx([p["loss"] for p in other["history"]], rel=1e-3)


def test_several_views_of_each_image_that_is_read(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "views"
    assert main(["pretrain", "imagenet-base", "--data", str(shards), *TINY, *SHORT, "--repeats", "2", "--out", str(out)]) == 0
    assert load_checkpoint(out / "checkpoint.pt")["step"] == 8, "epochs count views: as many steps as without"


def test_every_protocol_starts_from_the_run(
    run: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--weights", str(run), "--data", str(shards), "--device", "cpu", "--workers", "1"]
    short = [*SHORT, "--epochs", "1"]
    assert main(["knn", "imagenet-base-knn", *given, "--k", "3"]) == 0
    assert main(["probe", *given, "--pool", "class"]) == 0
    assert "the fast path: cached features" in capsys.readouterr().out
    assert main(["probe", "imagenet-base-probe", *given, *short, "--out", str(tmp_path / "probe")]) == 0
    assert main(["finetune", "imagenet-base-finetune", *given, *short, "--out", str(tmp_path / "tuned")]) == 0
    assert main(["finetune", "imagenet-large-partial-0.5", *given, *short]) == 0
    told = capsys.readouterr().out
    for name in ("base-probe", "base-finetune", "large-partial-0.5"):
        assert f"minimae recipes imagenet-{name} shows the whole recipe" in told
    sources = {name: (tmp_path / name / "recipe.txt").read_text(encoding="utf-8") for name in ("probe", "tuned")}
    assert "Table 10" in sources["probe"] and "Table 9" in sources["tuned"]
    assert len(re.findall(r"on 32 labels, \d+ s: \d+\.\d\d % of 16 test images, last epoch", told)) == 3
    kept = json.loads((tmp_path / "tuned" / "result.json").read_text())
    assert 0 <= kept["top-1 %"] <= 100 and kept["test images"] == 16 and kept["steps"] == 4


def test_from_scratch_wants_no_weights(shards: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from dataclasses import replace

    from minimae import recipes
    from minimae.model.sizes import size

    small = size("nano", image=32, patch=8, channels=3, width=32, depth=2, heads=2)
    monkeypatch.setitem(recipes.RECIPES, "imagenet-base-scratch", replace(recipes.entry("imagenet-base-scratch"), size=small))
    assert main(["finetune", "imagenet-base-scratch", "--data", str(shards), *SHORT, "--epochs", "1"]) == 0
    told = capsys.readouterr().out
    assert "from scratch on 32 labels" in told and "minimae recipes imagenet-base-scratch shows the whole recipe" in told
    assert main(["finetune", "imagenet-base-finetune", "--data", str(shards)]) == 2
    assert "--weights is missing" in capsys.readouterr().err


def test_a_job_that_is_put_back_into_the_queue_goes_on(run: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "job"
    command = ["pretrain", "imagenet-base", "--data", str(shards), *TINY, *SHORT, "--out", str(out), "--auto-resume"]
    assert main(command) == 0
    first = load_checkpoint(out / "checkpoint.pt")
    assert main(command) == 0
    assert load_checkpoint(out / "checkpoint.pt")["seconds"] == first["seconds"], "nothing was left to do"
    assert main(command[:-1]) == 2
    assert "already holds a run" in capsys.readouterr().err


def test_a_reader_that_dies_during_a_step_is_reported_in_one_line(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def out_of_memory(self: PretrainTask, model: torch.nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        time.sleep(900)  # the death of the process interrupts this
        raise AssertionError("nothing was raised")

    monkeypatch.setattr(PretrainTask, "loss", out_of_memory)
    command = ["pretrain", "imagenet-base", "--data", str(shards), *TINY, *SHORT, "--out"]
    assert main([*command, str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert re.search(r"^minimae: a process that reads images died.*fewer --workers \(DataLoader worker .*Killed", told, re.M)
    assert "Traceback" not in told and not multiprocessing.active_children()
    monkeypatch.setenv("MINIMAE_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        main([*command, str(tmp_path / "loud")])


def test_it_can_be_taken_elsewhere(run: Path, tmp_path: Path) -> None:
    assert main(["export", str(run), str(tmp_path / "mae.safetensors")]) == 0
    one, other = weights.load(run), weights.load(tmp_path / "mae.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True))
    assert main(["export", str(run), str(tmp_path / "mae.safetensors" / "in a file")]) == 2


def test_the_whole_way_at_the_size_of_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At full width and one block: all of ViT-B takes 4 GB, most of them for the moments of AdamW."""
    few = ["--depth", "1", "--decoder-depth", "1"]
    assert main(["pretrain", "imagenet-base", *few, "--dry-run", "--device", "cpu", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert re.search(r"the real run: 1,024,933,600 images, [\d,.]+ hours at this speed; .*FLOP, .* GPU h", told)
    assert told.count("4 steps, loss") == 3 and "all stages of imagenet-base on 1 × cpu" in told
    kept = json.loads((tmp_path / "dry-run.json").read_text())
    assert set(kept["stages"]) == {"pretrain", "probe", "finetune"}
    for stage, images in (("pretrain", 800 * 1_281_167), ("probe", 90 * 1_281_167), ("finetune", 100 * 1_281_167)):
        found = kept["stages"][stage]
        assert found["hours"] == pytest.approx(images / found["images_per_s"] / 3600) and 0 <= found["waiting"] < 1
    weights_of = load_checkpoint(tmp_path / "pretrain" / "checkpoint.pt")["model"]
    with torch.device("meta"):
        whole = MAE(size("base", depth=1, decoder_depth=1)).state_dict()
    assert {name: w.shape for name, w in weights_of.items()} == {name: w.shape for name, w in whole.items()}, "nothing was made smaller"


# --- mistakes ---------------------------------------------------------------------------------------------------------


def spoiled(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "spoiled"))


def test_a_corrupt_jpeg_is_an_error_or_counted(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = spoiled(folder, tmp_path)
    broken = next((copy / "train").rglob("*.JPEG"))
    broken.write_bytes(broken.read_bytes()[:300])
    arguments = ["pretrain", "imagenet-base", "--data", str(copy), "--read-from", "files", *TINY, *SHORT]
    assert main([*arguments, "--out", str(tmp_path / "a")]) == 2
    told = capsys.readouterr().err
    assert broken.name in told and "--skip-corrupt" in told
    assert main([*arguments, "--out", str(tmp_path / "b"), "--skip-corrupt"]) == 0
    assert f"replaced by the next image: {broken}" in capsys.readouterr().err
    packing = ["data", "pack", str(copy), str(tmp_path / "packed"), "--splits", "train", "--workers", "1"]
    assert main(packing) == 2 and broken.name in capsys.readouterr().err
    assert main([*packing, "--skip-corrupt"]) == 0
    told = capsys.readouterr().out
    assert "31 images" in told and "left out 1" in told and broken.name in told


def test_a_truncated_shard(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = spoiled(shards, tmp_path)
    shard = sorted((copy / "train").glob("*.tar"))[1]
    shard.write_bytes(shard.read_bytes()[:-2000])
    assert main(["pretrain", "imagenet-base", "--data", str(copy), *TINY, *SHORT, "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert shard.name in told and "pack again" in told
    assert main(["data", "verify", str(copy)]) == 2
    assert shard.name in capsys.readouterr().err


def test_a_class_folder_that_is_empty(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = spoiled(folder, tmp_path)
    (copy / "train" / "n00000009").mkdir()
    (copy / "val" / "n00000009").mkdir()
    assert main(["pretrain", "imagenet-base", "--data", str(copy), *TINY, *SHORT, "--out", str(tmp_path / "run")]) == 2
    assert "n00000009: fill or remove that class folder" in capsys.readouterr().err


def test_a_wrong_number_of_classes(folder: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = spoiled(folder, tmp_path)
    shutil.rmtree(copy / "val" / "n00000002")
    tune = ["finetune", "imagenet-base-finetune", "--weights", str(run), "--data", str(copy), *SHORT, "--out", str(tmp_path / "tuned")]
    assert main(tune) == 2
    told = capsys.readouterr().err
    assert "must have the same classes" in told and "n00000002" in told and not (tmp_path / "tuned").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pretrain", "imagenet-base"], "ImageNet is not at"),
        (["pretrain", "imagenet-bas"], "did you mean 'imagenet-base'?"),
        (["pretrain", "imagenet-base-probe"], "imagenet-base-probe is a recipe for minimae probe, not for pretrain"),
        (["probe", "imagenet-base-finetune", "--weights", "x"], "is a recipe for minimae finetune"),
        (["recipes", "imagenet-hug"], "did you mean 'imagenet-huge'?"),
        (["pretrain", "fashion-demo", "--read-from", "files"], "--read-from files is for folders and packed shards"),
        (["pretrain", "fashion-demo", "--dry-run"], "--dry-run needs a recipe that comes with a probe and fine-tuning: imagenet-base, "),
        (["data", "pack", "nowhere", "out"], "nowhere"),
        (["data", "verify", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_answered_in_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert said in told and told.startswith("minimae: ") and "Traceback" not in told


def test_recipes_tell_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0 and main(["recipes", "imagenet-huge-finetune-448"]) == 0
    told = capsys.readouterr().out
    assert "imagenet-large-partial-0.5" in told and "87.8 % top-1" in told and "image                   448" in told


def test_the_page_shows_commands_that_exist() -> None:
    page = (Path(__file__).parents[2] / "docs" / "using.md").read_text(encoding="utf-8")
    block = page.split("## ImageNet")[1].split("```sh\n")[1].split("```")[0]
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert len(commands) == 10 and all(command[0] == "minimae" for command in commands)
    for command in commands:
        assert callable(parse(command[1:]))


# --- several processes ------------------------------------------------------------------------------------------------


def torchrun(*arguments: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "minimae", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, text=True, capture_output=True, timeout=240)


def test_two_processes_are_one(shards: Path, run: Path, tmp_path: Path) -> None:
    done = torchrun("pretrain", "imagenet-base", "--data", str(shards), *TINY, *SHORT, "--out", str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    assert "images per step         8 = 4 × 1 accumulated × 2 processes" in (tmp_path / "two" / "recipe.txt").read_text(encoding="utf-8")
    assert done.stdout.count("8 of 8 images, 2 epochs") == 1, "the first process speaks"
    one, other = (load_checkpoint(path / "checkpoint.pt") for path in (run, tmp_path / "two"))
    assert apart(one["model"], other["model"]) < 1e-6
    assert [p["loss"] for p in one["history"]] == pytest.approx([p["loss"] for p in other["history"]], abs=1e-6)
    assert (tmp_path / "two" / "report.html").is_file()

    tune = ["finetune", "imagenet-base-finetune", "--weights", str(run), "--data", str(shards), *SHORT, "--epochs", "1"]
    tune += shlex.split("--drop-path 0 --mixup 0 --cutmix 0")  # which are drawn in each process, among its own images
    done = torchrun(*tune, "--out", str(tmp_path / "tuned"), "--shard")
    assert done.returncode == 0, done.stderr
    assert main([*tune, "--out", str(tmp_path / "alone")]) == 0
    one, other = (load_checkpoint(tmp_path / name / "checkpoint.pt")["model"] for name in ("tuned", "alone"))
    assert apart(one, other) < 1e-5
    assert 0 <= json.loads((tmp_path / "tuned" / "result.json").read_text())["top-1 %"] <= 100
