"""Make the notebooks from their scripts: ``python notebooks/build.py [NN …]`` (all chapters, or those whose names begin so).

A chapter is edited as ``NN_name.py`` (jupytext's py:percent); this runs it from top to bottom and writes ``NN_name.ipynb`` with its
outputs, and nothing in it that tells where or when it was made but the seconds it took. A chapter that stops, or that writes to
stderr, is not written. ``--times`` prints what the committed notebooks took, ``--points`` what their exercises are worth;
``--student FOLDER`` writes copies without solutions and outputs for students, ``--nbgrader FOLDER`` the same with marked solutions for
nbgrader's folder source/. ``--keep-outputs [NN …]`` copies changed cells into the notebooks without running them: for changes that cannot
alter what a cell prints.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import sys
import textwrap
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
CELL_TIMEOUT = 180  # seconds; no chapter may take longer as a whole
BUDGET_SECONDS = {  # of each chapter, on two cores
    "00": 90, "01": 40, "02": 60, "03": 60, "04": 60, "05": 60, "06": 90, "07": 170, "08": 170, "09": 110, "10": 180, "11": 150,
    "12": 120, "13": 90, "14": 170,
}  # fmt: skip
REPOSITORY = "minimae/minimae"  # on GitHub: the only place of the address in badges, install cells and the site's links
PUBLISHED = False  # True once it can be reached: then badges for Colab and Binder stand under every title
# After a change of either: build.py --keep-outputs
INSTALL = """\
import os
from importlib import invalidate_caches
from importlib.util import find_spec

from IPython import get_ipython

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: with models this small, a second thread mostly waits
if find_spec("minimae") is None:  # on Colab and Binder
    get_ipython().run_line_magic("pip", "install -q 'minimae[book] @ git+https://github.com/{repository}'")
    invalidate_caches()
    if find_spec("minimae") is None:
        raise ImportError("minimae was not installed; pip's message above says why. It needs Python 3.10 or newer, and a network")
"""
FOLDED = "*The solution is folded below. Try the exercise before you open it.*"
METADATA = nbformat.from_dict(
    {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "jupytext": {"text_representation": {"extension": ".py", "format_name": "percent"}},
    }
)


def chapters(*beginnings: str) -> list[Path]:
    """The scripts of the book in reading order; with arguments those whose names begin with one of them."""
    found = sorted(path for path in HERE.glob("*.py") if re.match(r"\d\d_", path.name))
    return [path for path in found if not beginnings or path.stem.startswith(beginnings)]


def install_cell() -> str:
    """The cell that installs the package where it is missing."""
    return INSTALL.format(repository=REPOSITORY).strip()


def badges(chapter: str) -> str:
    """The line under a chapter's title: where else it can be opened. Nothing until the repository is public."""
    if not PUBLISHED:
        return ""
    colab = f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/{chapter}.ipynb"
    binder = f"https://mybinder.org/v2/gh/{REPOSITORY}/main?labpath=notebooks%2F{chapter}.ipynb"
    return f"[![Open in Colab](images/open-in-colab.svg)]({colab}) [![Open in Binder](images/open-in-binder.svg)]({binder})"


def notebook_of(script: Path) -> Any:
    """The notebook of a script, not yet run. Its cells are named by their place, so that a diff shows what changed."""
    notebook = jupytext.read(script, fmt="py:percent")
    for place, cell in enumerate(notebook.cells):
        cell["id"] = f"{script.stem[:2]}-{place:03d}"
        if "install" in cell.metadata.get("tags", []):
            cell["source"] = install_cell()
    if line := badges(script.stem):
        notebook.cells[0]["source"] = notebook.cells[0].source.replace("\n\n", f"\n\n{line}\n\n", 1)
    notebook.metadata = deepcopy(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def script_of(notebook: Any) -> str:
    """The text of the script that belongs to a notebook: what ``NN_name.py`` must hold."""
    bare = nbformat.from_dict({**notebook, "metadata": {k: v for k, v in notebook.metadata.items() if k in ("kernelspec", "jupytext")}})
    text = re.sub(r"(?m)^# \[!\[Open in Colab\].*\n#\n", "", jupytext.writes(bare, fmt="py:percent"))
    return re.sub(r"(?m)^# +(?:jupytext_version|format_version): .*\n", "", text)


def run(script: Path) -> Any:
    """The notebook of a script with the outputs of a run in its own folder. Raises CellExecutionError, or ValueError for warnings."""
    notebook = notebook_of(script)
    started = time.perf_counter()
    os.environ["MINIMAE_STATIC"] = "1"  # pictures instead of sliders
    NotebookClient(
        notebook, timeout=CELL_TIMEOUT, kernel_name="python3", record_timing=False, resources={"metadata": {"path": str(script.parent)}}
    ).execute()
    seconds = round(time.perf_counter() - started)
    notebook.metadata["language_info"] = nbformat.from_dict({"name": "python"})
    notebook.metadata["minimae"] = nbformat.from_dict({"seconds": seconds})
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise ValueError(f"{script.name} writes to stderr:\n{output['text']}\nin the cell\n{cell.source}")
    return notebook


def keep_outputs(script: Path) -> Any:
    """The notebook of a changed script with its old outputs: for changes that cannot alter what a cell prints."""
    notebook, before = notebook_of(script), nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    if len(notebook.cells) != len(before.cells):
        sys.exit(f"{script.stem}: cells were added or removed, so it has to run: build.py {script.stem[:2]}")
    for new, old in zip(notebook.cells, before.cells, strict=True):
        old.source, old.metadata = new.source, {**old.metadata, **new.metadata}
    return before


def student_copy(notebook: Any, *, regions: bool = False) -> Any:
    """A chapter as a course hands it out: stubs to fill in, no solutions, no outputs; nbgrader can collect and grade it.

    An exercise cell carries nbgrader's metadata in the chapter already. After each check comes a locked cell worth a point for each
    star. Its value is these points if the check passes, otherwise 0: nbgrader takes that number as the score, and "run all" goes on.
    With ``regions`` the exercise cells hold the solution between ### BEGIN SOLUTION and ### END SOLUTION: that is what a teacher
    puts into nbgrader's folder source/, where ``nbgrader generate_assignment`` takes them out.
    """
    copy, cells, exercise, points = deepcopy(notebook), [], None, stars(notebook)
    for cell in copy.cells:
        tags = cell.metadata.get("tags", [])
        if "solution" in tags and regions:
            exercise["source"] = with_region(exercise.source, cell.source)
        if "solution" in tags or cell.source.strip() == FOLDED:
            continue
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
        if "hide-input" in tags and (module := next((tag[8:] for tag in tags if tag.startswith("package:")), None)):
            written = [node.name for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
            cell["source"] = f"from {module} import {', '.join(written)}  # not shown in this copy; {written[0]}?? shows it"
        cells.append(cell)
        exercise = cell if "exercise" in tags else exercise
        if "exercise-check" in tags:
            worth = points[exercise.metadata["nbgrader"]["grade_id"]]
            name = f"{exercise.metadata['nbgrader']['grade_id']}-point"
            told = {"grade": True, "points": worth, "solution": False, "locked": True, "task": False, "schema_version": 3, "grade_id": name}
            told = {"tags": ["exercise-point"], "nbgrader": told}
            source = f"{worth} * int({cell.source.strip()}.ok)  # {worth} point{'s' * (worth > 1)}"
            point = nbformat.v4.new_code_cell(source, metadata=told)
            cells.append(nbformat.from_dict({**point, "id": name}))
    copy.cells = cells
    copy.metadata.pop("minimae", None)
    copy.metadata.pop("jupytext", None)
    return copy


def stars(notebook: Any) -> dict[str, int]:
    """How many stars each exercise has, by its grade_id."""
    found, count = {}, 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            count = max([len(given) for given in re.findall(r"^\*\*\d+ (★+) ", cell.source, re.M)][-1:], default=count)
        elif "exercise" in cell.metadata.get("tags", []):
            found[cell.metadata["nbgrader"]["grade_id"]] = count
    return found


def points_table() -> str:
    """The points of each chapter's exercises, one for each star, and their sum."""
    rows = {path.stem[:2]: list(stars(nbformat.read(path.with_suffix(".ipynb"), as_version=4)).values()) for path in chapters()}
    lines = [f"| {name} | {' + '.join(map(str, given))} | {sum(given)} |" for name, given in rows.items()]
    total = f"| all | {sum(map(len, rows.values()))} exercises | {sum(map(sum, rows.values()))} |"
    return "\n".join(["| chapter | points of its exercises | sum |", "|---|---|---|", *lines, total])


def with_region(stub: str, solution: str) -> str:
    """A stub with the bodies of the solution's functions, marked as nbgrader wants it, in place of the lines that raise."""
    lines = stub.splitlines()
    functions = [node for node in ast.walk(ast.parse(stub)) if isinstance(node, ast.FunctionDef)]
    solved = {node.name.removeprefix("solution_"): node for node in ast.walk(ast.parse(solution)) if isinstance(node, ast.FunctionDef)}
    raising = sorted((node for node in ast.walk(ast.parse(stub)) if isinstance(node, ast.Raise)), key=lambda node: node.lineno)
    for line in reversed(raising):
        node = solved[max((f for f in functions if f.lineno <= line.lineno), key=lambda f: f.lineno).name]
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        given, indent = solution.splitlines()[body[0].lineno - 1 : body[-1].end_lineno], " " * line.col_offset
        own = textwrap.indent(textwrap.dedent("\n".join(given)), indent)
        lines[line.lineno - 1 : line.lineno] = [f"{indent}### BEGIN SOLUTION", own, f"{indent}### END SOLUTION"]
    return "\n".join(lines)


def write_student_copies(folder: Path, *, regions: bool = False) -> list[Path]:
    """Student copies of the committed notebooks, with the pictures they show. Files in the folder with other names are left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(HERE / "images", folder / "images", dirs_exist_ok=True)
    written = []
    for script in chapters():
        path = folder / script.with_suffix(".ipynb").name
        nbformat.write(student_copy(nbformat.read(script.with_suffix(".ipynb"), as_version=4), regions=regions), path)
        written.append(path)
    return written


def times() -> str:
    """A table of what each committed notebook took, and of what it may take."""
    rows = []
    for script in chapters():
        seconds = nbformat.read(script.with_suffix(".ipynb"), 4).metadata["minimae"]["seconds"]
        rows.append((script.stem, seconds, BUDGET_SECONDS[script.stem[:2]]))
    lines = [f"| {name} | {seconds} | {budget} |" for name, seconds, budget in rows]
    total = f"| all | {sum(row[1] for row in rows)} | {sum(row[2] for row in rows)} |"
    return "\n".join(["| chapter | seconds | budget |", "|---|---|---|", *lines, total])


def main() -> None:
    if sys.argv[1:] in (["--help"], ["-h"]):
        print(__doc__.strip())
        return
    if sys.argv[1:] in (["--times"], ["--points"]):
        print(times() if sys.argv[1] == "--times" else points_table())
        return
    if len(sys.argv) == 3 and sys.argv[1] in ("--student", "--nbgrader"):
        written = write_student_copies(Path(sys.argv[2]), regions=sys.argv[1] == "--nbgrader")
        print(f"{len(written)} notebooks are in {sys.argv[2]}")
        return
    only_cells = sys.argv[1:2] == ["--keep-outputs"]
    names = sys.argv[1 + only_cells :]
    if unknown := [name for name in names if not chapters(name)]:
        sys.exit(f"no chapter begins with {' or '.join(unknown)}; there are {', '.join(path.stem for path in chapters())}")
    for script in chapters(*names):
        notebook = keep_outputs(script) if only_cells else run(script)
        nbformat.write(notebook, script.with_suffix(".ipynb"))
        written = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
        script.write_text(script_of(written), encoding="utf-8")  # jupytext's own form: blank lines, order of metadata
        print(f"{script.stem}: {notebook.metadata['minimae']['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
