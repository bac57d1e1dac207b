"""The benchmark: that the rivals are the same maths, that the numbers follow from the times, and that the table says what was measured."""

from __future__ import annotations

import json
import math
import shlex
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from minimae_book.bench import cases as case_module
from minimae_book.bench import results as result_module
from minimae_book.bench import rivals, timing
from minimae_book.bench.cases import BIG, DEFAULTS, OURS, TIMM, Setting, cases
from minimae_book.bench.ceilings import Ceilings, ceilings, peak
from minimae_book.bench.results import Row, as_json, keep, measure, summary, table
from minimae_book.bench.running import RivalTask, Running, Sized
from minimae_book.bench.timing import bytes_of, cpu_peak, interleave, seconds
from torch import nn

from minimae import MAE, size
from minimae.cli import main
from minimae.errors import MinimaeError
from minimae.model.masking import mask_from_noise
from minimae.model.sizes import flops
from minimae.tasks.pretrain import Pretrain, PretrainTask
from minimae.train import step
from minimae.train.order import from_step
from minimae.weights import official

CPU = torch.device("cpu")
SMALL = size("nano", image=16, patch=4, channels=3, width=24, depth=2, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2)
OPTIONS = shlex.split("--size nano --image 16 --patch 8 --batch 2 --steps 1 --rounds 2 --device cpu --threads 1")


@pytest.fixture(scope="module")
def mae() -> MAE:
    torch.manual_seed(0)
    model = MAE(SMALL)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)  # no zeros and ones that could hide a missing copy
    return model


# --- rivals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [rivals.timm_mae, partial(rivals.timm_mae, fused=False), rivals.transformers_mae])
def test_rivals_compute_our_loss_and_our_gradients(make: Any, mae: MAE) -> None:
    images, noise = torch.randn(3, 3, 16, 16), torch.rand(3, 16)
    ours = mae(images, mask_from_noise(noise, 4)).loss
    theirs = make(mae, 0.75)
    loss = theirs(images, noise=noise)
    assert loss.item() == pytest.approx(ours.item(), abs=1e-5)
    mae.zero_grad()
    ours.backward()
    loss.backward()
    lengths = [sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None) for model in (theirs, mae)]
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-4)


@pytest.mark.parametrize("make", [rivals.timm_encoder, rivals.transformers_encoder])
def test_rivals_find_our_features(make: Any, mae: MAE) -> None:
    images = torch.randn(2, 3, 16, 16)
    theirs = make(mae.encoder).eval()
    assert (theirs(images) - mae.encoder.eval()(images)).abs().max() < 1e-5


@pytest.mark.parametrize("how", ["timm", "transformers"])
def test_without_its_library_a_rival_is_not_there_and_the_others_are(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == how]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, how, None)
    rows, _ = measure(Setting(SMALL, 2, CPU, "fp32"), "features", rounds=1, steps=1, compiled=False, say=lambda text: None)
    gone = [row for row in rows if row.images_per_s is None]
    assert [row.name for row in gone] == [f"{TIMM if how == 'timm' else BIG}, eager"] and gone[0].note.startswith("not installed")
    assert "not installed" in table(rows) and len(rows) == 3


def test_a_part_that_is_not_known_is_an_error(mae: MAE) -> None:
    class Renamed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.novel = nn.Linear(2, 2)

    with pytest.raises(ValueError, match="Renamed and our model differ in 'blocks.0.attn.proj.bias'"):
        rivals.copy_weights(Renamed(), mae.encoder, official.NAMES)


# --- rows -------------------------------------------------------------------------------------------------------------


def test_which_rows_there_are() -> None:
    on_cpu, on_gpu = cases("pretrain", CPU), cases("pretrain", torch.device("cuda"))
    assert next(iter(on_cpu)) == f"{OURS}, eager" and DEFAULTS in on_cpu
    assert set(on_gpu) - set(on_cpu) == {f"{OURS}, CUDA graph", f"{OURS}, compiled, CUDA graph"}
    assert not any("compiled" in name for name in cases("pretrain", CPU, compiled=False))
    quick = cases("pretrain", torch.device("cuda"), quick=True)
    assert [*quick] == [f"{OURS}, eager", f"{OURS}, compiled", f"{OURS}, CUDA graph", f"{OURS}, compiled, CUDA graph", f"{TIMM}, eager",
                        f"{BIG}, eager", DEFAULTS]  # fmt: skip
    assert not any("graph" in name for name in cases("features", torch.device("cuda"))), "there is no step to record"


@pytest.mark.parametrize("task", ["pretrain", "features", "finetune"])
def test_every_row_runs_and_has_its_numbers(task: Any) -> None:
    rows, top = measure(Setting(SMALL, 2, CPU, "fp32"), task, rounds=2, steps=1, compiled=False, say=lambda text: None)
    ours, *others = rows
    assert ours.ratio == 1.0 and top.matmul > 0 and len(others) == (3 if task == "pretrain" else 2)
    cost = flops(SMALL, 0.75 if task == "pretrain" else None, paper=True)
    each = (cost.forward if task == "features" else cost.step) / 1e12
    for row in rows:
        assert row.images_per_s and row.note == "" and len(row.rounds) == 2
        assert row.tflops == pytest.approx(row.images_per_s * each) and row.of_matmul == pytest.approx(row.tflops / top.matmul)
        assert row.mfu is None and row.gigabytes and row.gigabytes > 0
        assert row.difference is None or row.difference < 1e-4


@pytest.mark.parametrize("make", [case_module.ours_pretrain, partial(case_module.rival_pretrain, make=rivals.timm_mae)])
def test_a_step_is_one_of_the_real_loop_from_pixels_to_the_update(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.dtype, str]] = []
    usual = step.exact_inputs

    def exact_inputs(task: Any, batch: Any) -> Any:
        seen.append((batch.pixels.dtype, type(task).__name__))
        return usual(task, batch)

    monkeypatch.setattr(step, "exact_inputs", exact_inputs)
    built = make(Setting(SMALL, 8, CPU, "fp32"))
    before = [p.detach().clone() for p in built.module.parameters()]
    assert len(seen) == 1, "the first step is taken when a row is made"
    for taken in (2, 3):
        built.step()
        assert len(seen) == taken
    assert all(dtype == torch.uint8 for dtype, _ in seen)
    changed = [not torch.equal(a, b) for a, b in zip(before, built.module.parameters()) if b.requires_grad]
    assert all(changed) and built.optimizer is not None and len(built.held()) > 3 * len(changed)
    built.close()


def test_rivals_get_the_images_that_ours_get() -> None:
    setting = Setting(SMALL, 4, CPU, "fp32")
    recipe = setting.settings(Pretrain, compiled="", graph=False)
    ours = PretrainTask(recipe, setting.source, setting.mae)
    theirs = RivalTask(recipe, setting.source, Sized(rivals.timm_mae(setting.mae, 0.75), SMALL))  # type: ignore[arg-type]
    for (places, epochs), _ in zip(from_step(0, recipe, 8), range(3)):
        batch = setting.source.batch(places, epochs)
        assert torch.equal(ours.inputs(batch)[0], theirs.inputs(batch)[0])


def test_our_step_does_learn() -> None:
    setting = Setting(SMALL, 8, CPU, "fp32")
    images, mask = setting.images(16), mask_from_noise(torch.rand(16, 16), 4)
    built = case_module.ours_pretrain(setting)
    with torch.no_grad():
        before = float(setting.mae(images, mask).loss)
        for _ in range(40):
            built.step()
        after = float(built.module(images, mask).loss)
    built.close()
    assert after < before


# --- the loop between two steps -----------------------------------------------------------------------------------------


class Counting(PretrainTask):
    """Counts its steps, notes their threads, and may fail in one."""

    steps, fails = 0, 0
    threads: set[int]

    def loss(self, model: Any, *inputs: Any) -> torch.Tensor:
        self.steps += 1
        self.threads = {*getattr(self, "threads", ()), threading.get_ident()}
        if self.steps == self.fails:
            raise RuntimeError("no memory left")
        return super().loss(model, *inputs)


def counting(fails: int = 0) -> Counting:
    setting = Setting(SMALL, 2, CPU, "fp32")
    task = Counting(setting.settings(Pretrain, compiled="", graph=False), setting.source, setting.mae)
    task.fails = fails
    return task


def test_a_run_goes_on_by_one_step_when_it_is_called_and_ends_when_closed() -> None:
    task = counting()
    run = Running(task, task.recipe)
    assert task.steps == 1
    run()
    run()
    assert task.steps == 3 and run.inside(threading.get_ident) in task.threads and task.threads != {threading.get_ident()}
    run.close()
    run.close()
    assert task.steps == 3 and not run._thread.is_alive()
    with pytest.raises(MinimaeError, match="the run is over"):
        run()


def test_an_error_of_a_run_is_raised_where_it_was_called() -> None:
    with pytest.raises(RuntimeError, match="no memory left"):
        Running(task := counting(fails=1), task.recipe)
    run = Running(task := counting(fails=3), task.recipe)
    run()
    with pytest.raises(RuntimeError, match="no memory left"):
        run()
    assert not run._thread.is_alive()


def test_other_maths_are_told() -> None:
    setting = Setting(SMALL, 2, CPU, "fp32")
    row = result_module.row_of(setting, "features", "x", [1.0], [1.0], Ceilings(1.0, 1.0), None, 10, 0.5)
    assert row.note == "not the same maths: differs by 0.5"
    assert result_module.row_of(setting, "features", "x", [1.0], [1.0], Ceilings(1.0, 1.0), None, 10, math.nan).note


def test_a_rival_that_fails_says_so_and_ours_must_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(setting: Setting) -> Any:
        raise RuntimeError("out of memory\nand much more")

    setting, how = Setting(SMALL, 2, CPU, "fp32"), {"rounds": 1, "steps": 1, "compiled": False, "say": lambda text: None}
    usual = cases("features", CPU, compiled=False)
    monkeypatch.setattr(result_module, "cases", lambda *a, **k: {**usual, f"{TIMM}, eager": broken})
    rows, _ = measure(setting, "features", **how)  # type: ignore[arg-type]
    assert [row.note for row in rows] == ["", "did not run: out of memory", ""]
    monkeypatch.setattr(result_module, "cases", lambda *a, **k: {**usual, f"{OURS}, eager": broken})
    with pytest.raises(MinimaeError, match="our own step did not run: out of memory; try a smaller --batch"):
        measure(setting, "features", **how)  # type: ignore[arg-type]


def test_only_some_rows() -> None:
    setting = Setting(SMALL, 2, CPU, "fp32")
    rows, _ = measure(setting, "pretrain", rounds=1, steps=1, compiled=False, only=["usual"], say=lambda text: None)
    assert [row.name for row in rows] == [f"{OURS}, eager", DEFAULTS]


# --- times and memory -------------------------------------------------------------------------------------------------


def test_rounds_are_interleaved_and_begin_with_another_each_time() -> None:
    order: list[str] = []
    steps = {name: partial(order.append, name) for name in "abc"}
    times = interleave(steps, rounds=4, count=2, device=CPU, before=partial(order.append, "|"))
    assert "".join(order) == "|aabbcc|bbccaa|ccaabb|aabbcc" and {name: len(t) for name, t in times.items()} == {"a": 4, "b": 4, "c": 4}


def test_seconds_are_seconds_of_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def step() -> None:
        now[0] += 0.02

    assert seconds(step, 3, CPU) == pytest.approx(0.02)


@pytest.mark.parametrize("kind", ["mps", "xpu"])
def test_times_include_the_work_that_a_device_still_has(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(getattr(torch, kind), "synchronize", lambda *device: order.append("|"))
    seconds(partial(order.append, "s"), 2, torch.device(kind))
    assert "".join(order) == "|ss|"


def test_memory_is_what_was_held_at_once() -> None:
    held = torch.zeros(1000)

    def step() -> None:
        for _ in range(3):
            x = torch.ones(50_000)  # 200 kB
            del x, _
        a, b = torch.ones(100_000), torch.ones(25_000)  # 500 kB together
        del a, b

    assert cpu_peak(step, [held]) == pytest.approx(4000 + 500_000, rel=0.02)
    assert bytes_of([held, held[:10], held.view(10, 100)]) == 4000, "what shares memory counts once"


def test_ceilings_are_rates() -> None:
    top = ceilings("cpu", side=256, repeats=2)
    assert 1e-4 < top.matmul < 100 and 0.1 < top.copy < 10_000


def test_data_sheets() -> None:
    assert peak("NVIDIA H200", "bf16") == 989.0 and peak("NVIDIA H200", "fp32") == 494.0
    assert peak("NVIDIA H100 PCIe", "bf16") == 756.0 and peak("NVIDIA H100 80GB HBM3", "fp16") == 989.0
    assert peak("NVIDIA L40S", "bf16") == 362.0 and peak("NVIDIA L4", "bf16") == 121.0 and peak("NVIDIA A100-SXM4-80GB", "bf16") == 312.0
    assert peak("Tesla V100-SXM2-16GB", "bf16") is None and peak("Tesla V100-SXM2-16GB", "fp16") == 125.0
    assert peak("Tesla V100-PCIE-32GB", "fp16") == 112.0 and peak("NVIDIA H100 NVL", "bf16") is None
    assert peak("AMD EPYC", "fp32") is None


# --- table and file -----------------------------------------------------------------------------------------------------


ROWS = [
    Row("pretrain", f"{OURS}, eager", 1234.5, 1.2, 0.5, None, 2.5, 1.0, None, (1234.5,)),
    Row("pretrain", f"{OURS}, compiled", 2469.0, 2.4, 0.9, None, 0.25, 2.0, None, (2469.0,)),
    Row("pretrain", f"{TIMM}, eager", 12.345, 0.6, 0.2, None, 0.0125, 0.8, 0.0, (12.345,)),
    Row("pretrain", f"{BIG}, eager", note="not installed: transformers"),
]


def test_the_table_reads_well() -> None:
    lines = table(ROWS).splitlines()
    assert len({len(line) for line in lines}) == 1, "aligned"
    assert "MFU" not in lines[0] and "12.35" in lines[4] and "1,23" in lines[2] and "2.50 GB" in lines[2] and "250 MB" in lines[3]
    assert lines[5].count("–") == 5 and "not installed: transformers" in lines[5]
    assert "38.2%" in table([replace(ROWS[0], mfu=0.382)])


def test_the_summary_compares_our_fastest() -> None:
    assert summary(ROWS) == [f"pretrain: {OURS}, compiled is 2.50× {TIMM}, eager"]
    assert summary(ROWS[:2]) == ["pretrain: no rival was measured"]


def test_results_are_kept_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "some" / "bench.json"
    run: dict[str, Any] = {"command": "minimae bench --size nano", "machine": {"processor": "a"}, "rows": as_json(ROWS)}
    keep(path, run)
    keep(path, {**run, "machine": {"processor": "b"}})
    keep(path, {**run, "rows": []})
    kept = json.loads(path.read_text())
    assert [(r["machine"]["processor"], len(r["rows"])) for r in kept] == [("b", 4), ("a", 0)]
    assert kept[0]["rows"][0]["images_per_s"] == 1234.0 or kept[0]["rows"][0]["images_per_s"] == 1235.0
    path.write_text("{}")
    with pytest.raises(MinimaeError, match="does not hold results of minimae bench; give another file"):
        keep(path, run)
    assert path.read_text() == "{}"
    monkeypatch.setattr("minimae_book.bench.command.measure", None)
    for words in (["bench"], ["bench", "loader"], ["bench", "threads"]):
        assert main([*words, "--out", str(path)]) == 2, "before anything is measured"
        assert "does not hold results of minimae bench" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    threads = torch.get_num_threads()
    assert main(["bench", *OPTIONS, "--no-compile", "--tasks", "pretrain", "features", "--out", str(out)]) == 0
    torch.set_num_threads(threads)
    told = capsys.readouterr().out
    assert "a plain matrix product reaches" in told and "have not been run" in told and f"× {TIMM}, eager" in told
    [run] = json.loads(out.read_text())
    assert run["command"].startswith("minimae bench --size nano --batch 2 --steps 1 --rounds 2 --image 16 --patch 8 --device cpu")
    assert run["command"].endswith("--tasks pretrain features --no-compile") and run["machine"]["timm"] and run["precision"] == "fp32"
    assert [row["task"] for row in run["rows"]] == ["pretrain"] * 4 + ["features"] * 3 and run["note"]


def test_several_sizes_and_quickly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from minimae_book.bench import command

    asked: list[tuple[Any, ...]] = []

    def measured(setting: Setting, task: str, **how: Any) -> tuple[list[Row], Ceilings]:
        asked.append((setting.size.width, task, how["rounds"], how["quick"]))
        return ROWS, Ceilings(1.0, 1.0)

    monkeypatch.setattr(command, "measure", measured)
    out = tmp_path / "bench.json"
    assert main(["bench", "--size", "nano", "micro", "--image", "32", "--batch", "2", "--device", "cpu", "--quick", "--out", str(out)]) == 0
    assert asked == [(96, "pretrain", 3, True), (128, "pretrain", 3, True)]
    commands = [run["command"] for run in json.loads(out.read_text())]
    start = "minimae bench --size {} --batch 2 --steps 2 --rounds 3 --image 32 --device cpu --tasks pretrain --quick"
    assert commands == [start.format("nano"), start.format("micro")]
    assert main(["bench", "--size", "nano", "bas"]) == 2 and "did you mean 'base'" in capsys.readouterr().err


@pytest.mark.slow
def test_compiled_blocks_compute_the_same() -> None:
    setting = Setting(SMALL, 2, CPU, "fp32")
    weights = []
    for compiled in ("", "blocks"):
        built = case_module.ours_pretrain(setting, compiled=compiled)  # type: ignore[arg-type]
        built.step()
        built.close()
        weights.append(torch.cat([p.detach().flatten() for p in built.module.parameters()]))
    assert (weights[0] - weights[1]).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--batch", "0"], "--batch must be at least 1"),
        (["--size", "bas"], "did you mean 'base'"),
        (["--device", "mps"], "minimae bench runs on cpu and cuda, not on mps"),
    ],
)
def test_mistakes(wrong: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *wrong]) == 2
    assert said in capsys.readouterr().err


def test_a_gpu_that_is_not_here_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    assert main(["bench", "--device", "cuda"]) == 2
    assert "the device 'cuda' cannot be used here" in capsys.readouterr().err


def test_the_machine_is_named_without_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    from minimae_book.bench import command

    monkeypatch.setenv("MALLOC_MMAP_MAX_", "0")
    monkeypatch.setattr(command.importlib.metadata, "version", lambda name: SimpleNamespace(name=name))
    machine = command.describe_machine(CPU)
    import platform

    assert platform.node() not in map(str, machine.values()) or not platform.node()
    assert "MALLOC_MMAP_MAX_=0" in machine["memory allocator"]
