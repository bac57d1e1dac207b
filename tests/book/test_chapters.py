"""Every chapter keeps what the book promises. (That its cells run and print what they print is nbval's test: see pyproject.toml.)"""

from __future__ import annotations

import ast
import re
import warnings
from pathlib import Path

import guards
import nbformat
import pytest
from minimae_book.checks import names

from minimae import moved
from notebooks import build

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = build.chapters()
CORE = ["random", *(f"model.{name}" for name in ("patches", "masking", "positions", "vit", "decoder", "targets", "mae"))]
NOT_BUILT = {("random", "seeded")}  # for transforms of a user's own

chapter = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def committed(script: Path) -> guards.Notebook:
    return nbformat.read(script.with_suffix(".ipynb"), as_version=4)


def number(script: Path) -> int:
    return int(script.stem[:2])


def source_of(module: str) -> str:
    return (ROOT / "minimae" / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")


def test_the_chapters_are_numbered_without_gaps() -> None:
    numbers = [number(script) for script in SCRIPTS]
    assert numbers == list(range(len(numbers)))
    assert {path.stem for path in SCRIPTS} == {path.stem for path in build.HERE.glob("*.ipynb")}


@chapter
def test_notebook_and_script_are_one(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert build.script_of(committed(script)) == text, f"run: python notebooks/build.py {script.stem}"
    assert [cell.id for cell in committed(script).cells] == [cell.id for cell in build.notebook_of(script).cells]
    nbformat.validate(committed(script))


@chapter
def test_it_ran_from_top_to_bottom(script: Path) -> None:
    assert guards.run_in_order(committed(script)) == []


@chapter
def test_it_promises_results(script: Path) -> None:
    assert guards.promises_results(committed(script)) == []


@chapter
def test_it_is_small(script: Path) -> None:
    assert guards.small_enough(script.with_suffix(".ipynb")) == []


@chapter
def test_it_keeps_its_budget(script: Path) -> None:
    assert guards.within_budget(committed(script), build.BUDGET_SECONDS.get(script.stem[:2])) == []


def test_the_book_is_run_in_less_than_half_an_hour() -> None:
    took = [committed(script).metadata["minimae"]["seconds"] for script in SCRIPTS]
    assert sum(took[:9]) <= 15 * 60 and sum(took) <= 25 * 60


def test_the_minutes_are_those_of_reading_it_and_seven_hours_in_all() -> None:
    stated = {script: int(re.search(r"^Minutes: (\d+)\.", guards.prose(committed(script)), re.M)[1]) for script in SCRIPTS}
    read = {script: guards.reading_minutes(committed(script)) for script in SCRIPTS}
    assert {script.stem: (stated[script], read[script]) for script in SCRIPTS if abs(stated[script] - read[script]) > 6} == {}
    assert sum(stated.values()) <= 7 * 60
    stars = [len(found) for script in SCRIPTS for found in re.findall(r"^\*\*\d (★+) ", guards.prose(committed(script)), re.M)]
    told = re.search(r"makes (\w+) hours for all", (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8"))[1]
    hours = round(sum({1: 5, 2: 10, 3: 20}[count] for count in stars) / 60)
    assert told == ("ten", "eleven", "twelve", "thirteen")[hours - 10]


@chapter
def test_figures_have_words(script: Path) -> None:
    assert guards.figures_have_words(committed(script), number(script)) == []


@chapter
def test_figures_are_sharp(script: Path) -> None:
    book = committed(script)
    assert guards.figures_are_sharp(book) == []


@chapter
def test_links_lead_somewhere(script: Path) -> None:
    assert guards.links_lead_somewhere(committed(script), script.parent) == []


@chapter
def test_it_has_the_shape_of_a_chapter(script: Path) -> None:
    assert guards.has_the_shape_of_a_chapter(committed(script), number(script)) == []


@chapter
def test_cells_are_short(script: Path) -> None:
    assert guards.cells_are_short(committed(script)) == []


@chapter
def test_axes_are_spelt_alike(script: Path) -> None:
    assert guards.axes_are_spelt_alike(committed(script)) == []


@pytest.mark.parametrize("module", CORE)
def test_the_package_spells_them_so_too(module: str) -> None:
    assert guards.odd_axes(source_of(module)) == []


@chapter
def test_what_it_builds_is_the_package(script: Path) -> None:
    assert guards.equal_to_the_package(committed(script)) == []


def test_every_function_of_the_core_is_built_in_a_chapter() -> None:
    built = {
        (tag.removeprefix("package:minimae."), name)
        for script in SCRIPTS
        for cell in guards.code(committed(script), "package:")
        for tag in guards.tags_of(cell)
        for name in guards.definitions(cell.source)
    }
    wanted = {
        (module, node.name)
        for module in CORE
        for node in ast.parse(source_of(module)).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    }
    assert wanted - built == NOT_BUILT


@chapter
def test_exercises_are_complete(script: Path) -> None:
    assert guards.exercises_are_complete(committed(script), number(script)) == []


def test_every_check_is_used() -> None:
    used = {name for script in SCRIPTS for name in re.findall(r"check\.(ch\d\d_\w+)", script.read_text(encoding="utf-8"))}
    assert used == set(names())


@chapter
def test_it_uses_no_name_that_is_on_its_way_out(script: Path) -> None:
    imports = [node for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = [node.module or "" for node in imports if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names]
    assert [module for module in modules if moved.new_name(module)] == []
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        for node in imports:
            exec(compile(ast.Module([node], []), str(script), "exec"), {"__name__": "__main__"})


@chapter
def test_it_opens_elsewhere(script: Path) -> None:
    notebook = committed(script)
    assert build.badges(script.stem) in notebook.cells[0].source
    (install,) = guards.code(notebook, "install")
    assert install.source.strip() == build.install_cell()
