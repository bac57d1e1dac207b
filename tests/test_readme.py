"""README and the other pages as a reader uses them: Python in the order of the page, commands that are understood, quoted extras."""

import re
import shlex
from pathlib import Path

import pytest

from minimae.cli.parsing import understood
from minimae.cli.program import main

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, *languages: str) -> list[str]:
    return re.findall(rf"```(?:{'|'.join(languages)})\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The words after minimae of every command on a page, in code blocks."""
    lines = "\n".join(blocks(page, "sh", "bash", "bat")).replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines if re.match(r"\s*(?:\.venv\\Scripts\\|\.venv/bin/)?minimae\s", line)]
    return [[word for word in words[1:] if word != "&"] for words in found]


def test_the_snippets_run_in_the_order_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    snippets, names = [*blocks(ROOT / "README.md", "python"), *blocks(ROOT / "docs" / "using.md", "python")], {"__name__": "readme"}
    assert len(snippets) >= 2
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
    assert names["features"].shape == (8, names["size"].width)  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
def test_commands_are_understood(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-photos").mkdir()
    (tmp_path / "my-photos" / "a.jpg").touch()
    small = ["--limit", "40", "--batch", "20", "--epochs", "1", "--warmup-epochs", "0", "--depth", "1", "--device", "cpu"]
    assert main(["pretrain", "fashion-demo", *small, "--out", "runs/mine"]) == 0  # the page resumes it
    assert main(["recipes", "fashion-demo", "--save", "my.yaml"]) == 0  # another takes its recipe from this file
    for words in commands(page):
        if {"--help", "help"} & set(words):
            with pytest.raises(SystemExit):
                main(words)
        else:
            assert callable(understood(words)), words


def test_make_has_every_target_of_the_page() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"^make ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)) <= set(targets)


def test_extras_are_quoted_for_every_shell() -> None:
    written = [*PAGES, ROOT / "Makefile", *(ROOT / "data").glob("*.md")]
    written += [*(ROOT / "minimae").rglob("*.py"), *(ROOT / "notebooks").glob("*.py")]
    bare = re.compile(r"pip install[^\n`'\"]*?\s(?!['\"])[\w.]+\[\w")
    assert not [path.name for path in written if bare.search(path.read_text(encoding="utf-8"))]
    assert bare.search("pip install -e .[book]") and not bare.search('pip install -e ".[book]"')
