"""A chapter opened elsewhere: badges and install cell have one address, set in one place, and the install cell works from a wheel."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from notebooks import build

ROOT = build.HERE.parent
chapter = pytest.mark.parametrize("script", build.chapters(), ids=lambda path: path.stem)


@chapter
def test_badges_and_install_cell_follow_the_address(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = build.REPOSITORY
    monkeypatch.setattr(build, "REPOSITORY", "school/course")
    monkeypatch.setattr(build, "PUBLISHED", True)
    notebook = build.notebook_of(script)
    title, line, _ = notebook.cells[0].source.split("\n\n", 2)
    assert title.startswith("# ") and line.count("/school/course/") == 2 and line.count(f"{script.stem}.ipynb") == 2
    assert all((script.parent / picture).is_file() for picture in re.findall(r"\]\((images/[^)]+)\)", line))
    (install,) = [cell for cell in notebook.cells if "install" in cell.metadata.get("tags", [])]
    assert "git+https://github.com/school/course'" in install.source
    rest = "\n".join(cell.source for cell in notebook.cells if cell is not install)
    assert f"github.com/{old}" not in rest and f"/gh/{old}" not in rest
    assert build.script_of(notebook) == script.read_text(encoding="utf-8").replace(f"github.com/{old}'", "github.com/school/course'")


def test_all_pages_give_the_same_address() -> None:
    files = [ROOT / "README.md", ROOT / "CITATION.cff", *(ROOT / "docs").glob("*.md"), *(ROOT / ".github").rglob("*.*ml")]
    found = {name for file in files for name in re.findall(r"github\.com/([\w-]+/minimae)\b", file.read_text(encoding="utf-8"))}
    assert found == {build.REPOSITORY}


@pytest.mark.parametrize("names", [["99"], ["05", "99"]])
def test_only_the_chapter_that_is_not_there_is_named(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["build.py", "--keep-outputs", *names])
    with pytest.raises(SystemExit, match="no chapter begins with 99; there are 00_"):
        build.main()


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an empty environment, where only the libraries that minimae needs can be imported, and a wheel of minimae."""
    folder = tmp_path_factory.mktemp("elsewhere")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    venv.create(folder / "venv", symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder / "venv"), "platbase": str(folder / "venv")}))
    (site / "libraries.pth").write_text(str(folder / "libraries"))
    for name in ("empty", "libraries"):
        (folder / name).mkdir()
    for library in Path(sysconfig.get_path("purelib")).iterdir():
        if not library.name.startswith("minimae"):
            (folder / "libraries" / library.name).symlink_to(library)
    return folder


@pytest.mark.slow
def test_the_install_cell_installs_a_wheel_where_the_package_is_missing(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("check_install", ROOT / "tests" / "installs" / "check_install.py")
    assert spec and spec.loader
    spec.loader.exec_module(script := importlib.util.module_from_spec(spec))
    python = elsewhere / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    monkeypatch.delenv("PYTHONPATH", raising=False)
    found = subprocess.run([python, "-c", "import torch, minimae"], cwd=elsewhere / "empty", text=True, capture_output=True)
    assert "No module named 'minimae'" in found.stderr
    (wheel,) = elsewhere.glob("*.whl")
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # what is needed besides is there
    place = script.open_chapter(python, wheel, elsewhere / "empty", "6")  # the install cell, the imports, a photograph and weights
    assert Path(place).is_relative_to(elsewhere / "venv")


def test_a_failed_installation_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("IPython.get_ipython", lambda: type("Shell", (), {"run_line_magic": lambda *words: None})())
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(ImportError, match="Python 3.10 or newer"):
        exec(build.install_cell(), {})
