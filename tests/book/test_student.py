"""Student copies: nothing of a solution is in them, they run from top to bottom, and every point is still to be earned."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from minimae_book.own import PARTS
from nbclient import NotebookClient

from notebooks import build

chapter = pytest.mark.parametrize("script", build.chapters(), ids=lambda path: path.stem)


def tagged(notebook: Any, tag: str) -> list[Any]:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def copy_of(script: Path) -> Any:
    return build.student_copy(nbformat.read(script.with_suffix(".ipynb"), as_version=4))


def execute(notebook: Any, folder: Path) -> Any:
    """The notebook, run in a folder. Raises when a cell does."""
    where = {"metadata": {"path": str(folder)}}
    return NotebookClient(notebook, timeout=300, kernel_name="python3", record_timing=False, resources=where).execute()


def names_in(source: str) -> tuple[set[str], set[str]]:
    """Names that a cell defines, and all that it mentions."""
    tree = ast.parse("".join(line for line in source.splitlines(keepends=True) if not line.lstrip().startswith(("%", "!"))))
    defined = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    defined |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    defined |= {(a.asname or a.name).split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}
    return defined, {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}


def about_exercises(notebook: Any) -> Any:
    """A student copy with the code cells that use a student's functions, and the cells that define what those need.

    The others are those of the chapter, cell for cell (the first test below), and nbval runs them there.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    theirs = set().union(*(names_in(cell.source)[0] for cell in tagged(notebook, "exercise")))
    needed: set[str] = set()
    chosen = []
    for cell in reversed(cells):
        defined, mentioned = names_in(cell.source)
        if mentioned & theirs or defined & needed or "exercise" in cell.metadata.get("tags", []):
            chosen.insert(0, cell)
            needed |= mentioned
    return nbformat.from_dict({**notebook, "cells": chosen})


def result(cell: Any) -> str:
    return next(output.data["text/plain"] for output in cell.outputs if output.output_type == "execute_result")


@chapter
def test_no_solution_is_left(script: Path) -> None:
    chapter, copy = nbformat.read(script.with_suffix(".ipynb"), as_version=4), copy_of(script)
    nbformat.validate(copy)
    solutions = tagged(chapter, "solution")
    assert len(solutions) == len(tagged(copy, "exercise")) == len(tagged(copy, "exercise-point")) >= 3
    text = "\n".join(cell.source for cell in copy.cells)
    assert "solution_" not in text, "a cell that needs a solution would stop"
    for cell in solutions:
        written = [line for line in cell.source.splitlines() if line.startswith("    return ") and len(line) > 20]
        assert not [line for line in written if line in text]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in copy.cells if cell.cell_type == "code")
    kept = [cell for cell in chapter.cells if cell not in solutions and cell.source != build.FOLDED]
    handed_out = [cell for cell in copy.cells if cell not in tagged(copy, "exercise-point")]
    for given, cell in zip(handed_out, kept, strict=True):
        folded_part = "hide-input" in cell.metadata.get("tags", []) and any(tag.startswith("package:") for tag in cell.metadata.tags)
        if folded_part:
            assert re.match(r"from minimae(_book)?\..* import .*  # not shown in this copy; \w+\?\? shows it$", given.source)
        else:
            assert given.source == cell.source


@chapter
def test_nbgrader_finds_what_it_needs(script: Path) -> None:
    cells = [cell for cell in copy_of(script).cells if "nbgrader" in cell.metadata]
    names = [cell.metadata.nbgrader.grade_id for cell in cells]
    assert len(set(names)) == len(names)
    for cell in cells:
        told = cell.metadata.nbgrader
        assert told.schema_version == 3 and told.grade != told.solution and not told.task
        assert told.locked == told.grade and told.get("points", 0) in ((1, 2, 3) if told.grade else (0,))


@chapter
def test_an_exercise_is_worth_its_stars(script: Path) -> None:
    copy, count = copy_of(script), 0
    for cell in copy.cells:
        if exercises := re.findall(r"^\*\*\d+ (★+)", cell.source, re.M) if cell.cell_type == "markdown" else []:
            count = len(exercises[-1])
        if "exercise-point" in cell.metadata.get("tags", []):
            assert cell.metadata.nbgrader.points == count and cell.source.startswith(f"{count} * int(check.ch{script.stem[:2]}_")


def test_the_rubric_gives_the_points_of_the_notebooks() -> None:
    page = (build.HERE.parent / "docs" / "teaching.md").read_text(encoding="utf-8")
    assert build.points_table() in page, "print it with: python notebooks/build.py --points"
    assert f"all {len(PARTS)} |" in page
    points = [cell.metadata.nbgrader.points for script in build.chapters() for cell in tagged(copy_of(script), "exercise-point")]
    assert f"| all | {len(points)} exercises | {sum(points)} |" in page


@pytest.mark.slow
@chapter
def test_it_runs_and_no_point_is_given(script: Path, tmp_path: Path) -> None:
    notebook = about_exercises(copy_of(script))
    assert len(tagged(notebook, "exercise-point")) >= 3
    execute(notebook, tmp_path)
    assert all(result(cell).startswith("… not written yet") for cell in tagged(notebook, "exercise-check"))
    assert all(result(cell) == "0" for cell in tagged(notebook, "exercise-point"))


def test_who_solves_it_gets_the_point(tmp_path: Path) -> None:
    script = build.chapters("00")[0]
    chapter, copy = nbformat.read(script.with_suffix(".ipynb"), as_version=4), copy_of(script)
    solution = tagged(chapter, "solution")[0].source.replace("solution_", "")
    needed = [tagged(copy, "setup")[0], tagged(copy, "exercise")[0], tagged(copy, "exercise-point")[0]]
    needed[1].source = solution
    copy.cells = needed
    assert result(execute(copy, tmp_path).cells[2]) == "1"
    needed[1].source = solution.replace("1 - ratio", "ratio")
    assert result(execute(copy, tmp_path).cells[2]) == "0"


def test_copies_are_written_and_other_files_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    written = build.write_student_copies(tmp_path)
    assert [path.stem for path in written] == [script.stem for script in build.chapters()]
    assert (tmp_path / "images" / "open-in-colab.svg").is_file() and (tmp_path / "mine.txt").read_text() == "keep me"
    assert len(build.write_student_copies(tmp_path)) == len(written), "a second time"


@chapter
def test_the_teachers_copy_holds_marked_solutions(script: Path) -> None:
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    source = build.student_copy(notebook, regions=True)
    for given, solved, solution in zip(tagged(notebook, "exercise"), tagged(source, "exercise"), tagged(notebook, "solution"), strict=True):
        region = re.compile(r"### BEGIN SOLUTION\n(.*?)\n *### END SOLUTION", re.S)
        compile(solved.source, script.stem, "exec")
        assert (inside := region.findall(solved.source)) and all(part.strip() and part.rstrip() in solution.source for part in inside)
        assert region.sub('raise NotImplementedError("your turn")', solved.source) == given.source, "what nbgrader takes out is the stub"
    assert not tagged(source, "solution")
