"""Commands from their start to their end on two processes, DDP and FSDP2: they exit with 0, and say what one process says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from minimae.cli import main
from minimae.data.photos import make_folder
from minimae.train.checkpoint import load_checkpoint

HERE = Path(__file__).parent
SHORT = "--limit 64 --batch 8 --epochs 1 --warmup-epochs 0 --log-every 1 --device cpu"
pytestmark = pytest.mark.slow


def commands(out: Path, shard: str) -> dict[str, list[str]]:
    """The way from pre-training to every question, in one folder."""
    start = f"--weights {out}/pretrain"
    words = {
        "pretrain": f"pretrain fashion-demo {SHORT} --depth 2 --target pca --out {out}/pretrain {shard}",
        "probe": f"probe cifar10-probe {start} {SHORT} --accumulate 1 --out {out}/probe {shard}",
        "finetune": f"finetune {start} {SHORT} --drop-path 0 --out {out}/finetune {shard}",
        "average": f"finetune {start} {SHORT} --drop-path 0 --ema 0.5 --base-lr 0.1 --out {out}/average {shard}",
    }
    return {name: shlex.split(line) for name, line in words.items()}


def dry_run(folder: Path, out: Path) -> list[str]:
    """A dry run of a sharded run in half precision, on images of one's own."""
    tiny = "--image 16 --patch 8 --width 16 --depth 2 --heads 2 --decoder-width 16 --decoder-depth 1 --decoder-heads 2 --workers 1"
    given = f"--data {folder} --read-from files --precision bf16 --shard --device cpu"
    return shlex.split(f"pretrain imagenet-base --dry-run {tiny} {given} --out {out}")


def dense(out: Path) -> list[list[str]]:
    """Train on drawn scenes, resume with the very words of the start, which give the batch of one process, and measure again."""
    start = "shapes --limit 8 --weights none --image 64 --epochs 2 --warmup-epochs 0 --batch 4 --device cpu"
    detector = "--finest 8 --levels 2 --channels 16 --box-width 16 --proposals 16 --rois 16"
    words = {"segment": "--workers 0", "detect": f"--workers 0 {detector}", "prompt": ""}
    lines = [[f"{name} {start} {more} --out {out}/{name}" for more in (given, f"{given} --resume")] for name, given in words.items()]
    again = [f"{name} shapes --limit 8 --weights {out}/{name} --device cpu" for name in words]
    return [shlex.split(line) for line in [line for pair in lines for line in pair] + again]


def questions(out: Path) -> list[list[str]]:
    """What is asked of frozen features: of 63 images, which two processes cannot share evenly, and of one."""
    start = f"--weights {out}/pretrain --limit 63 --device cpu"
    few = f"knn --weights {out}/pretrain --limit 1 --k 1 --device cpu"
    whole = f"evaluate --weights {out}/finetune --limit 63 --device cpu"
    lines = (few, whole, f"knn {start} --k 3", f"knn {start} --k 3 --pool tokens", f"probe {start}", f"probe {start} --pool mean")
    return [shlex.split(line) for line in lines]


def accuracies(text: str) -> list[str]:
    return [line for line in text.splitlines() if re.match(r"\d+-NN, |linear probe, |.* test images of ", line)]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of one process."""
    out = tmp_path_factory.mktemp("one")
    assert [main(command) for command in commands(out, "").values()] == [0, 0, 0, 0]
    return out


@pytest.fixture(scope="module")
def two(one: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of two processes: ``ddp`` and ``fsdp``, and what they printed."""
    out = tmp_path_factory.mktemp("two")
    lines = [command for name, shard in (("ddp", ""), ("fsdp", "--shard")) for command in commands(out / name, shard).values()]
    photos = make_folder(out / "photos", classes=3, train=20, val=2, share=0.1)
    lines += [dry_run(photos, out / "dry-run"), *questions(one), *dense(out / "dense")]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(HERE / "commands_ranks.py")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, json.dumps(lines), str(out / "codes")], env=environment, capture_output=True, text=True, timeout=240)
    codes = [json.loads((out / f"codes-{rank}.json").read_text()) for rank in (0, 1)]
    assert codes == [[0] * len(lines)] * 2, done.stderr[-4000:]
    (out / "stdout").write_text(done.stdout)
    return out


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_end_with_what_one_ends_with(one: Path, two: Path, kind: str) -> None:
    for name in commands(one, ""):
        losses = [[point["loss"] for point in load_checkpoint(out / name / "checkpoint.pt")["history"]] for out in (one, two / kind)]
        assert losses[0] == pytest.approx(losses[1], abs=1e-5) and len(losses[0]) == 8, name
        if name == "pretrain":
            assert (two / kind / name / "report.html").is_file() and (two / kind / name / "reconstructions.png").is_file()
        else:
            alone, together = (json.loads((out / name / "result.json").read_text()) for out in (one, two / kind))
            assert together["test images"] == 64 and together["top-1 %"] == pytest.approx(alone["top-1 %"], abs=100 / 64 + 1e-6), name


def test_frozen_features_are_shared_and_asked_by_the_first_process(one: Path, two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [main(command) for command in questions(one)] == [0] * 6
    alone, together = (accuracies(text) for text in (capsys.readouterr().out, (two / "stdout").read_text()))
    assert len(alone) == 6 and together == alone


def test_a_dry_run_runs_every_stage_with_the_options_and_images_given(two: Path) -> None:
    kept = json.loads((two / "dry-run" / "dry-run.json").read_text())
    assert "the real run: 48,000 images" in (told := (two / "stdout").read_text()) and "FLOP × 48,000 images" in told, "800 epochs of 60"
    assert list(kept["stages"]) == ["pretrain", "probe", "finetune"] and (two / "dry-run" / "pretrain" / "report.html").is_file()
    for name, epochs in (("pretrain", 800), ("probe", 90), ("finetune", 100)):
        state = load_checkpoint(two / "dry-run" / name / "checkpoint.pt")
        assert (state["settings"]["precision"], state["settings"]["shard"], state["processes"]) == ("bf16", True, 2), name
        assert state["step"] == 4 and state["data"] == "photos", name
        assert name == "pretrain" or len(state["classes"]) == 3
        stage = kept["stages"][name]
        assert stage["hours"] == pytest.approx(epochs * 60 / stage["images_per_s"] / 3600), "as many images as there are in the folder"


def test_a_segmenter_is_measured_on_the_pixels_of_all_processes(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", "shapes", "--limit", "8", "--weights", str(two / "dense" / "segment"), "--device", "cpu"]) == 0
    [score] = re.findall(r"mean IoU [\d.]+ %, pixel accuracy [\d.]+ %", capsys.readouterr().out)
    assert (two / "stdout").read_text().count(score) == 3


def test_dense_tasks_resume_with_their_first_words_and_the_first_process_prints(two: Path) -> None:
    told = (two / "stdout").read_text()
    words = {"segment": ("mean IoU %", "mean IoU {:.1f}"), "detect": ("box AP %", "boxes: AP {:.1f} "), "prompt": ("box %", "box {:.1f}")}
    for name, (score, line) in words.items():
        value = json.loads((two / "dense" / name / "result.json").read_text())[score]
        assert told.count(line.format(value)) == 3, f"{name}: trained, resumed, measured again"
        state = load_checkpoint(two / "dense" / name / "checkpoint.pt")
        assert (state["processes"], state["settings"]["batch"], state["settings"]["accumulate"]) == (2, 2, 1), name
