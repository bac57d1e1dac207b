"""What is printed reaches every terminal: in any encoding, and into a pipe whose reader has left."""

import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minimae.cli import main
from minimae.cli.commands import COMMANDS
from minimae.cli.terminal import SPELLED, Output, any_terminal

ROOT = Path(__file__).resolve().parents[2]
TINY = ["--limit", "40", "--batch", "20", "--epochs", "1", "--warmup-epochs", "0", "--depth", "1", "--device", "cpu"]
ENCODINGS = ["cp1251", "cp437", "koi8-r", "ascii", "utf-8"]


class Narrow(io.TextIOWrapper):
    """A terminal of one encoding, as strict as Python makes it."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors="strict", write_through=True)

    def text(self) -> str:
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode(self.encoding)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("Gemälde") / "Ёлка × 2.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_is_enough(encoding: str, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    screen, errors = Narrow(encoding), Narrow(encoding)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", errors)
    codes = [main(words) for words in (["data", "fashion"], ["recipes"], ["recipes", "fashion-demo"], ["flops", "all"], ["help"])]
    codes += [main(["pretrain", "fashion-demo", *TINY, "--out", "Ёлка"]), main(["knn", "--weights", "Ёлка", "--limit", "40", "--k", "3"])]
    codes += [main(["reconstruct", str(picture), "--weights", "fashion-nano", "--out", "Ёлка/×.png"]), main(["reproduce", "--list"])]
    assert codes == [0] * len(codes)
    assert main(["reconstruct", "Ёлка.png", "--weights", "fashion-nano"]) == 2
    for command in COMMANDS:
        with pytest.raises(SystemExit, match="0|None"):
            main([*command.split(), "--help"])
    assert ("1 × 28 × 28" if encoding == "utf-8" else "1 x 28 x 28") in screen.text()
    said = "Ёлка" if encoding in ("cp1251", "koi8-r", "utf-8") else r"\u0401\u043b\u043a\u0430"
    assert said in errors.text() and said in screen.text()
    assert Path("Ёлка/×.png").is_file()


def test_a_plain_locale_is_enough_for_a_whole_run(tmp_path: Path) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "OMP_NUM_THREADS": "1"}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONIOENCODING"} | plain
    command = [sys.executable, "-m", "minimae", "pretrain", "fashion-demo", *TINY]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert b"1 x 28 x 28" in done.stdout


def test_what_stands_for_a_character_is_ascii_and_the_rest_stays_readable() -> None:
    assert all(spelled.isascii() for spelled in SPELLED.values())
    screen = Narrow("ascii")
    Output(screen, ends=True).write("4 × 4 ± 1 … \udcff\n")
    assert screen.text() == "4 x 4 +/- 1 ... \\udcff\n"


def closed_pipe() -> int:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("command", ["recipes", "data", "flops all", "reproduce --list", "knn --help", "help", "--version"])
def test_a_reader_that_leaves_is_no_error(command: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    with os.fdopen(closed_pipe(), "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as stop:
            main(command.split())
        assert stop.value.code == 0
        pipe.write("what comes after it goes nowhere, also as the file is closed")
    assert capfd.readouterr().err == ""


def test_a_whole_process_ends_quietly_when_its_reader_has_left() -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipe = closed_pipe()
    done = subprocess.run([sys.executable, "-m", "minimae", "recipes"], stdout=pipe, stderr=subprocess.PIPE, env=environment)
    os.close(pipe)
    assert (done.returncode, done.stderr) == (0, b"")


def test_progress_that_nobody_reads_does_not_end_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with os.fdopen(closed_pipe(), "w", encoding="utf-8", buffering=1) as pipe:
        monkeypatch.setattr(sys, "stderr", pipe)
        assert main(["pretrain", "fashion-demo", *TINY, "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["data"]) == 2
    assert "No space left" in capsys.readouterr().err


def test_streams_are_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with any_terminal():
        assert isinstance(sys.stdout, Output)
    assert (sys.stdout, sys.stderr) == before


def test_several_processes_speak_with_one_voice_and_one_alone_is_heard(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert main(["--version"]) == 0 and capsys.readouterr().out
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["--version"]) == 0 and not capsys.readouterr().out


SCRIPTS = [p for folder in ("minimae", "data", "docs", "notebooks") for p in sorted((ROOT / folder).rglob("*.py"))]


def without_encoding(source: str) -> list[str]:
    """Calls that read or write text in whatever encoding the machine prefers."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(k.arg in ("encoding", None) for k in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given_modes = [*node.args, *(k.value for k in node.keywords if k.arg == "mode")]
        modes = [part.value for mode in given_modes for part in ast.walk(mode) if isinstance(part, ast.Constant)]
        text = name == "fdopen" or (isinstance(node.func, ast.Name) and name == "open")
        given = {"read_text": 1, "write_text": 2}.get(name)
        if (given is not None and len(node.args) < given) or (text and not any("b" in str(mode) for mode in modes)):
            found.append(f"line {node.lineno}: {name}")
    return found


def test_text_files_are_utf_8_on_every_machine() -> None:
    found = {str(path.relative_to(ROOT)): without_encoding(path.read_text(encoding="utf-8")) for path in SCRIPTS}
    assert not {name: calls for name, calls in found.items() if calls}


def test_a_missing_encoding_is_noticed() -> None:
    assert without_encoding("open(p)\nopen(p, 'w')\np.read_text()\np.write_text(t)\nopen(p, mode='a')") == [
        "line 1: open", "line 2: open", "line 3: read_text", "line 4: write_text", "line 5: open"
    ]  # fmt: skip
    assert not without_encoding("open(p, 'rb')\np.read_text(encoding='utf-8')\nimages.open(p)\np.write_text(t, encoding='utf-8')")
