"""Slides of the chapters: figures, predictions and exercises are on them, solutions, checks and folded cells are not."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from notebooks import build

chapter = pytest.mark.parametrize("script", build.chapters(), ids=lambda path: path.stem)
HIDDEN = ("solution", "exercise-check", "hide-input", "install", "setup")
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABh6FO1AAAAABJRU5ErkJggg=="


@pytest.fixture(scope="module")
def slides() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_slides", build.HERE.parent / "docs" / "slides.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code(notebook: Any, hidden: bool) -> list[Any]:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell for cell in cells if hidden == bool(set(HIDDEN) & set(cell.metadata.get("tags", [])))]


def on_slides(deck: Any) -> list[Any]:
    return [cell for cell in deck.cells if cell.metadata.slideshow.slide_type != "notes"]


@chapter
def test_nothing_that_is_folded_is_in_a_deck(slides: ModuleType, script: Path) -> None:
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    before = nbformat.writes(notebook)
    deck = slides.deck(notebook)
    assert nbformat.writes(notebook) == before
    nbformat.validate(deck)
    visible = "\n".join(cell.source for cell in code(notebook, hidden=False))
    folded = {line.strip() for cell in code(notebook, hidden=True) for line in cell.source.splitlines()}
    folded = {line for line in folded if len(line) > 20 and line not in visible}
    assert len(folded) > 20
    text = "\n".join(cell.source for cell in deck.cells)
    assert [line for line in folded if line in text] == []
    assert not re.search(r"\bsolution_|\bcheck\.ch\d\d|^assert ", text, re.M)


@chapter
def test_figures_predictions_and_exercises_are_on_slides(slides: ModuleType, script: Path) -> None:
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    deck = slides.deck(notebook)
    shown = "\n".join(cell.source for cell in on_slides(deck))
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown").partition("\n## Appendix")[0]
    captions = re.findall(r"^\*Figure (\d+\.\d+): ", text, re.M)
    assert captions and re.findall(r"^\*Figure (\d+\.\d+): ", shown, re.M) == captions
    assert shown.count("data:image/png") == len(captions)
    exercises = re.findall(r"^\*\*(\d+ ★+ [^*]+)\*\*", text, re.M)
    assert len(exercises) >= 2 and all(exercise in shown for exercise in exercises)
    asked = [cell for cell in on_slides(deck) if "question" in cell.metadata.get("tags", [])]
    appendix = "\n".join(cell.source for cell in notebook.cells).partition("\n## Appendix")[0]
    assert len(asked) == len(re.findall(r"book\.predict\(|^predict\(", appendix, re.M)) >= 1
    starts = [cell for cell in deck.cells if cell.metadata.slideshow.slide_type in ("slide", "subslide")]
    assert 15 <= len(starts) <= 80 and all(cell.source.startswith("#") for cell in starts)
    assert starts[0].source.startswith(f"# {script.stem[:2]} · ")


def test_each_kind_of_cell_is_shown_or_left_out(slides: ModuleType) -> None:
    cells = [new_markdown_cell("# 01 · Title\n\n**The promise.** You read it.\n\nPlain words.\n\nYou can\n\n- a goal")]
    cells += [new_code_cell(f"secret = '{tag}'", metadata={"tags": [tag]}) for tag in HIDDEN]
    cells += [
        new_markdown_cell(
            "Long before. This is a **term**. Not shown, with a [link](other.ipynb).\n\n<details><summary>Answer</summary>\n\n?\n</details>"
        ),
        new_code_cell('seen = 1\nassert seen == 1\n\n\ndef f():\n    """First.\n\n    More.\n    """\n    return seen'),
        new_code_cell(
            "draw()", outputs=[new_output("display_data", {"image/png": PICTURE})], metadata={"mystnb": {"image": {"alt": 'A "dot".'}}}
        ),
        new_markdown_cell("*Figure 1.1: a dot.*\n\nWhat is it?"),
        new_code_cell("book.predict('a', 1)", outputs=[new_output("stream", text="How many?\nYour guess: 1")]),
        new_markdown_cell("## Appendix\n\n- a list"),
    ]
    deck = slides.deck(new_notebook(cells=cells))
    shown = "\n".join(cell.source for cell in on_slides(deck))
    for part in (
        "# 01 · Title",
        "You read it",
        "- a goal",
        "Long before.\n\nThis is a **term**.",
        "seen = 1",
        '"""First."""',
        "*Figure 1.1: a dot.*",
        "How many?",
    ):
        assert part in shown
    assert 'alt="A &quot;dot&quot;."' in shown
    for part in ("secret", "Plain words", "Not shown", "Answer", "assert", "More", "draw()", "What is it?", "Your guess", "a list"):
        assert part not in shown
    notes = "\n".join(cell.source for cell in deck.cells if cell not in on_slides(deck))
    assert "Plain words" in notes and "<details open>" in notes and "with a link." in notes


def test_long_code_is_cut_between_functions_and_nothing_is_lost(slides: ModuleType) -> None:
    functions = [f"def f{i}():\n" + "\n".join(f"    x{j} = {j}" for j in range(9)) for i in range(5)]
    parts = slides.pieces(new_code_cell("\n\n\n".join(functions), outputs=[new_output("stream", text="5")]))
    assert len(parts) > 1 and all(part.source.startswith("def f") for part in parts)
    assert "".join("".join(part.source.split()) for part in parts) == "".join("".join(functions).split())
    assert [len(part.outputs) for part in parts] == [0] * (len(parts) - 1) + [1]


def test_a_deck_needs_no_network(slides: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("sphinx_revealjs", reason="the extra docs is not installed")
    slides.vendor(tmp_path)
    page = slides.page(build.chapters("05")[0])  # it has formulas
    (tmp_path / "deck.html").write_text(page, encoding="utf-8")
    loaded = re.findall(
        r"<(?:script|img)[^>]*\ssrc=\"(?!data:)([^\"]+)|<link[^>]*\shref=\"([^\"]+)|\bfrom '([^']+)'|@import (?:url)?\(?['\"]([^'\"]+)",
        page,
    )
    files = [name for names in loaded for name in names if name]
    assert len(files) == 5 and all((tmp_path / name).is_file() for name in files), files
    fonts = re.findall(r"@import url\(([^)]+)\)", (tmp_path / "vendor/dist/theme/white.css").read_text(encoding="utf-8"))
    assert fonts and all((tmp_path / "vendor/dist/theme" / name).is_file() for name in fonts)
    assert page.count('<aside class="notes">') >= 15 and "\\mathrm{softmax}" in page
