# ruff: noqa: E501
"""Whatever is wrong on a command line, in a file or in the environment: one line that a user can act on, and never a traceback."""

import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import minimae
from minimae.cli.commands import COMMANDS, command_class
from minimae.cli.mistakes import options, similar
from minimae.cli.parsing import defaults, parse, with_home
from minimae.cli.program import main
from minimae.errors import reason
from minimae.recipes import RECIPES
from minimae.weights import save

VALUES = ["", "-1", "0", "nan", "inf", "1e400", "x", "100000000000000000000", "1e-400", "0.5.5", "None", "~nobody-of-that-name/x", "×", "[1]", "-"]
START = {  # words with which a command would run, were it not for the value that is tried
    "pretrain": ["pretrain", "fashion-demo", "--limit", "60", "--batch", "20", "--epochs", "1", "--warmup-epochs", "0", "--depth", "1"],
    "knn": ["knn", "--weights", "fashion-nano", "--data", "fashion", "--limit", "40"],
    "finetune": ["finetune", "--weights", "fashion-nano", "--data", "fashion", "--limit", "60", "--epochs", "1", "--warmup-epochs", "0"],
    "reconstruct": ["reconstruct", "cat.png", "--weights", "fashion-nano"],
    "flops": ["flops", "tiny"], "data": ["data", "fashion"], "export": ["export", "fashion-nano", "out"],
}  # fmt: skip
SLOW = {"--compile", "--workers", "--download", "--help", "--no-help", "--bits"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 30), dtype=np.uint8)).save("cat.png")
    (tmp_path / "-c.png").write_bytes((tmp_path / "cat.png").read_bytes())
    return tmp_path


def parsed_only(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a command without its work, so that its words are read and checked, and nothing is trained."""
    for command in map(command_class, COMMANDS):
        monkeypatch.setattr(command, "__call__", lambda self: None)
    return main(words)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_value_of_any_option_ends_in_a_traceback(
    command: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    default: Any = defaults("pretrain", ["--help"]) if command == "pretrain" else None
    known = sorted(options(command, command_class(command), default).keys() - {"--help"})
    start = START.get(command, command.split())
    for i, (option, value) in enumerate(zip(known, itertools.cycle(VALUES))):
        forms = [option, value], [f"{option}={value}"], [option]
        for form in forms if len(known) < 20 else [forms[i % 3]]:
            assert parsed_only([*start, *form], monkeypatch) in (0, 2)
    told = capsys.readouterr().err.splitlines()
    assert all(line.startswith("minimae: ") for line in told) and bool(told) == bool(known)


@pytest.mark.parametrize("command", ["knn", "flops", "data", "reconstruct", "export"])
def test_no_value_ends_in_a_traceback_where_the_work_is_done_too(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = sorted(options(command, command_class(command)).keys() - SLOW - {"--limit"})
    for option, value in zip(known * 2, itertools.cycle(VALUES)):
        assert main([*START[command], f"{option}={value}"]) in (0, 2), (option, value)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "more",
    [["--seed", str(10**20)], ["--epochs", "inf"], ["--warmup-epochs", "nan"], ["--width", "0"], ["--patch", "0"], ["--depth", "0"],
     ["--ratio", "75"], ["--device", "gpu"], ["--device", ""], ["--image", "0"], ["--limit", "0"], ["--crop", "20", "100"], ["--heads", "0"],
     ["--fixed-crop", "87.5"], ["--jitter", "-1"], ["--size", "enormous"], ["--data", ""], ["--data", "~nobody-here/x"], ["--resume"],
     ["--out", "cat.png/run"], ["--log-every", "0"], ["--decoder-width", "7"], ["--wandb", "x"], ["--limit", str(10**30), "--batch", "500"]],
    ids=" ".join,
)  # fmt: skip
def test_what_a_careless_student_types(more: list[str], here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    code, told = main([*START["pretrain"], *more]), capsys.readouterr().err
    assert code == 2 or more[0] == "--limit"
    assert "Traceback" not in told and (code == 0 or "minimae: " in told)


@pytest.mark.parametrize(("word", "meant"), [
    ("--mask-ratio", "--ratio"), ("-epochs", "--epochs"), ("epochs", "--epochs"), ("--Epochs", "--epochs"), ("--learning-rate", "--base-lr"),
    ("--lr", "--base-lr"), ("--batch-size", "--batch"), ("--batch_size", "--batch"), ("--img", "--image"), ("--image-size", "--image"),
    ("--patch-size", "--patch"), ("--epoch", "--epochs"), ("--no_flip", "--no-flip"), ("--masking", "--sampling"), ("--zebra", None),
    ("--warmup", "--warmup-epochs"), ("--output", "--out"), ("--weigth-decay", "--weight-decay"),
])  # fmt: skip
def test_the_option_that_was_meant(word: str, meant: str | None) -> None:
    known = options("pretrain", command_class("pretrain"), defaults("pretrain", ["--help"]))
    assert similar(word, known) == meant


@pytest.mark.parametrize(("words", "said"), [
    (["pretrain", "fashion-demo", "epochs=3"], "did you mean --epochs=3?"), (["finetune", "epochs=3"], "did you mean --epochs=3?"),
    (["pretrain", "fashion-demo", "--resume"], "minimae pretrain --resume runs/fashion-demo"), (["help", "knm"], "did you mean 'knn'?"),
    (["pretrain", "--resume", "--out", "x"], "needs the folder"), (["knn", "--weights", "x", "cifar10-knn"], "the recipe comes first"),
    (["pretrain", "fashion-demo", "--device", "gpu"], "did you mean 'cuda'?"), (["bench", "loader", "--device", "gpu"], "'cuda'?"),
    (["flops", "tiny", "--ratio", "75"], "did you mean 0.75?"), (["data", "cifar10"], "--data-root"), (["flops", "tiny", "small"], "'small'"),
    (["pretrain", "fashion-demo", "--data", "cifar10"], "--data-root"), (["knn", "--weights", "cat.png"], "is a picture (PNG), not weights"),
    (["reconstruct", "cat.png", "--weights", "./cat.png"], "is a picture (PNG), not weights"), (["knn"], "--weights"),
    (["reconstruct", "cat.png", "--weights", "fashion-nano", "--out", "figure.docx"], "cannot write figure.docx"),
    (["pretrain", "fashion-demo", "--watch", "knn", "prob"], "--watch has no 'prob'; did you mean 'probe'? Known: knn, probe, rank"),
    (["reconstruct", "-c.png"], "for the file of this name, write ./-c.png"), (["data", "cat.png"], "cat.png is a file, and a folder"),
    (["flops", "tiny", "cat.png"], "'cat.png' is one word too many"),
    (["pretrain", "fashion-demo", "--betas", "1", "1"], "betas are two numbers from 0 to below 1 (0.9 0.95), not (1.0, 1.0)"),
    (["knn", "--weights", "photos-tiny"], "these weights were trained on tiny-imagenet, which is not here: name labelled images with --data"),
    (["pretrain", "my-pictures", "--data", ".", "--out", "runs/x"], "runs/x lies among the pictures of ., and would be taken for one of"),
    (["finetune", "--weights", "fashion-nano", "--data", ".", "--out", "."], ". lies among the pictures of ., and would be taken for one of"),
    (["probe", "cifar10-probe", "--weights", "fashion-nano", "--data", ".", "--out", "a"], "a lies among the pictures of ., and would be"),
    (["convert", "a", "b", "--to", "oficial"], "--to has no 'oficial'; did you mean 'official'? Known: minimae, official, huggingface"),
])  # fmt: skip
def test_one_line_names_the_way_out(words: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    told = capsys.readouterr().err
    assert said in told and told.startswith("minimae: ") and told.count("\n") == 1


def test_resume_goes_with_no_other_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["--limit", "60", "--batch", "20", "--epochs", "1", "--warmup-epochs", "0", "--depth", "1"]
    assert main(["pretrain", "fashion-demo", *start, "--out", "run"]) == 0
    for more, said in (
        (["fashion-nano", "--resume", "run"], "the run in run is one of fashion-demo, not fashion-nano"),
        (["--resume", "run", "--out", "other"], "--resume continues the run in run, and --out names other"),
    ):
        assert main(["pretrain", *more]) == 2 and said in capsys.readouterr().err
    assert main(["pretrain", "fashion-demo", "--resume", "run", "--out", "./run"]) == 0


def test_a_name_without_an_ending_gets_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reconstruct", "cat.png", "cat.png", "--weights", "fashion-nano", "--out", "new/result"]) == 0
    assert main(["export", "fashion-nano", "small"]) == 0 and main(["reconstruct", "cat.png", "--weights", "small.safetensors"]) == 0
    assert {p.name for p in (here / "new").iterdir()} == {"result-1.png", "result-2.png"} and "result-1.png" in capsys.readouterr().out


def test_a_picture_that_would_fill_the_memory_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("1", (14_000, 14_000)).save("bomb.png")
    assert main(["reconstruct", "bomb.png", "--weights", "fashion-nano"]) == 2
    assert "bomb.png" in (told := capsys.readouterr().err) and told.count("\n") == 1


def test_a_tilde_is_the_home_folder_wherever_it_stands(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("USERPROFILE", str(here))
    assert with_home("--out=~/x") == f"--out={here / 'x'}" and with_home("~/x") == str(here / "x") and with_home("a~/x") == "a~/x"
    made = parse(["pretrain", "fashion-demo", "--out=~/x", "--data=~/set", "--data-root=~/sets"])
    assert (made.out, made.recipe.data, made.where.data_root) == (here / "x", str(here / "set"), here / "sets")
    made = parse(["convert", "~/a", "~/b.pth", "--to=timm"])
    assert (made.weights, made.out) == (str(here / "a"), here / "b.pth")
    (here / "~old").touch()
    assert with_home("~old") == str(here / "~old")
    assert main(["reconstruct", "~/cat.png", "--weights=fashion-nano", "--out=~/y"]) == 0 and (here / "y.png").is_file()


MISSING = [
    (["pretrain", "photos-micro"], "skimage", "minimae[book]"),
    (["data", "sample", "new"], "skimage", "minimae[book]"),
    (["convert", "fashion-nano", "x.onnx", "--to", "program"], "onnxscript", "minimae[onnx]"),
    (["data", "flowers102"], "scipy", "minimae[book]"),
    # before training, not after it
    (["reproduce", "loss", "--budget", "smoke"], "scipy", "minimae[book]"),
    (["reproduce", "detection", "--budget", "smoke"], "pycocotools", "minimae[dense]"),
    (["segment", "shapes", "--limit", "8", "--weights", "none", "--out", "run"], "torchmetrics", "minimae[dense]"),
    (["detect", "shapes", "--limit", "8", "--weights", "none", "--out", "run"], "pycocotools", "minimae[dense]"),
]


@pytest.mark.parametrize(("words", "library", "command"), MISSING, ids=[library + " " + words[0] for words, library, _ in MISSING])
def test_a_package_that_is_not_installed_is_named(
    words: list[str], library: str, command: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name == library or name.startswith(f"{library}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    assert main(words) == 2
    assert f'pip install "{command}"' in (told := capsys.readouterr().err) and told.count("\n") == 1
    assert not (here / "run").exists() and not (here / "runs").exists(), "nothing was trained"


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'onnx'", name="onnx.helper"), ImportError("x needs y: pip install y")])
def test_any_failed_import_says_what_to_install(
    error: ImportError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(self: Any) -> None:
        raise error

    monkeypatch.setattr(command_class("recipes"), "__call__", fails)
    assert main(["recipes"]) == 2 and "pip install" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "value"), [
    ("image_size", {"height": 28}), ("image_size", "big"), ("image_size", [1, 2, 3]), ("image_size", 28.5), ("num_attention_heads", "many"),
    ("num_attention_heads", [3]), ("layer_norm_eps", {}), ("mask_ratio", "most"), ("decoder_num_attention_heads", {}), ("id2label", [1]),
])  # fmt: skip
def test_a_config_of_other_types_is_refused_by_field(name: str, value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = minimae.load("fashion-nano")
    save(trained, tmp_path / "hf", "huggingface")
    path = tmp_path / "hf" / "config.json"
    config = {k: v for k, v in json.loads(path.read_text(encoding="utf-8")).items() if k != "minimae"}
    path.write_text(json.dumps({**config, name: value}), encoding="utf-8")
    assert main(["convert", str(tmp_path / "hf"), str(tmp_path / "x.pth"), "--to", "official", "--no-strict"]) == 2
    assert name in (told := capsys.readouterr().err) and "Traceback" not in told


def test_a_reason_ends_after_a_whole_word() -> None:
    text = "Expected one of cpu, cuda, ipu, xpu, mkldnn, opengl, opencl, ideep, hip, ve, fpga, maia, xla, lazy, vulkan, mps"
    assert reason(text, 60) == "Expected one of cpu, cuda, ipu, xpu, mkldnn, opengl, …"
    assert len(reason("x" * 500)) == 120 and reason(ValueError()) == "ValueError" and reason("one\ntwo") == "one"
    assert reason("\n\nfirst") == "first" and reason(KeyError("a")) == "'a'"


# What help says


def help_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("words", [*(c.split() for c in COMMANDS), ["probe", "cifar10-probe"], ["finetune", "fashion-finetune"]], ids=" ".join)
def test_every_option_has_words(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(words, capsys)
    assert "noqa" not in text and max(map(len, text.splitlines()[1:])) <= 80
    rows: list[str] = []
    for line in text.splitlines()[2:]:
        begins = re.match(r"[│|]? {0,2}--?[a-z]", line) is not None
        line = line.strip("│| ").rstrip()
        if begins:
            rows.append(line)
        elif rows and line:
            rows[-1] += "  " + line
    assert rows
    silent = [row for row in rows if "  (default:" in row.replace("(required)", "(default:") and row.split("  ", 1)[1].strip().startswith("(")]
    assert not silent


def test_help_names_the_recipe_and_the_list_of_commands_fits(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("pretrain", "knn", "probe", "finetune"):
        assert "[RECIPE]" in help_of([command], capsys)
    assert "[RECIPE]" in help_of(["knn", "cifar10-knn"], capsys)
    assert main(["help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80 and all(f"  {name} " in text for name in COMMANDS)
    with pytest.raises(SystemExit):
        main(["help", "pretrain"])
    assert "usage: minimae pretrain" in capsys.readouterr().out
    assert all(RECIPES[name].what for name in RECIPES)


@pytest.mark.parametrize(("words", "said"), [
    (["convert"], "minimae convert needs IN (A name, a run folder, or a file or folder of another library; its layout is detected); OUT (The file"),
    (["knn"], "minimae knn needs --weights PATH (Shipped weights by name,"), (["export", "x"], "minimae export needs OUT (The file or folder to write) (minimae"),
    (["data", "pack"], "needs FOLDER (The folder: "), (["race"], "minimae race needs {5,15,45} (How long"), (["flops"], "needs SIZE (A named size"),
])  # fmt: skip
def test_what_is_missing_is_named(words: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    told = capsys.readouterr().err
    assert said in told and "required" not in told and told.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_what_comes_first_by_what_it_is(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    usage = help_of(command.split(), capsys).split("\n\n")[0]
    assert not re.search(r"(?<!-)\b(STR|PATH|INT)\b", re.sub(r"\[--.*?\](?= |$)", "", usage))
