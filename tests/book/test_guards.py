"""Each guard of the book is awake: a sound little chapter passes them all, and every way to break it is noticed."""

from __future__ import annotations

import base64
import copy
import inspect
import io
from collections.abc import Callable
from pathlib import Path

import guards
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from minimae.model import patches
from notebooks import build


def png(*rows: str) -> str:
    """A picture in base64: a dot is a white pixel, anything else a black one."""
    image, file = Image.new("L", (len(rows[0]), len(rows))), io.BytesIO()
    image.putdata([255 * (pixel == ".") for row in rows for pixel in row])
    image.save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


PNG, CUT_OFF = png("....", ".##.", ".##.", "...."), png("....", ".###", ".###", "....")
SHOWN = {"image/png": {"width": 1, "smallest_text": 9.0}}
QUESTIONS = "\n".join(f"{i}. Why?\n<details><summary>Answer</summary>So.</details>" for i in range(1, 6))
GOALS = "- one\n- two\n- three"


def exercise(number: int) -> list:
    told = {"grade": False, "solution": True, "locked": False, "schema_version": 3, "task": False, "grade_id": f"ch01-ex{number}"}
    check = f"check.ch01_f{number}(f{number})"
    passed = new_output("execute_result", {"text/plain": "○ solution: well done"}, execution_count=1)
    return [
        new_markdown_cell(f"**{number} ★★ Do it.** Write it."),
        new_code_cell(f"def f{number}():\n    raise NotImplementedError('your turn')", metadata={"tags": ["exercise"], "nbgrader": told}),
        new_code_cell(check, metadata={"tags": ["exercise-check"]}),
        new_markdown_cell("*The solution is folded below.*"),
        new_code_cell(
            f"def solution_f{number}():\n    return 1\n\n\ncheck.ch01_f{number}(solution_f{number})",
            metadata={"tags": ["solution", "hide-input"], "jupyter": {"source_hidden": True}},
            outputs=[passed],
        ),
    ]


def sound() -> guards.Notebook:
    """A little chapter 01 that keeps every promise."""
    drawn, alt = new_output("display_data", {"image/png": PNG}, metadata=SHOWN), {"image": {"alt": "A black square in the middle."}}
    printed = new_output("stream", name="stdout", text="(1, 2)\n")
    built = guards.definitions(inspect.getsource(patches))["grid_of"]
    cells = [
        new_markdown_cell(f"# 01 · A title\n\n**The promise.** All.\n\nMinutes: 5. Needs: chapter 00.\n\n{GOALS}"),
        new_code_cell("import torch", metadata={"tags": ["setup"]}),
        new_markdown_cell("See [the script](build.py) and [the paper](https://arxiv.org/abs/2111.06377).\n\n> **Paper.** Equation 1."),
        new_code_cell(built, metadata={"tags": ["package:minimae.model.patches"]}),
        new_code_cell("print((1, 2))", metadata={"tags": ["nbval-check-output"]}, outputs=[printed]),
        new_code_cell("print((1, 2))  # again", metadata={"tags": ["nbval-check-output"]}, outputs=[printed]),
        new_code_cell('rearrange(x, "b c (h p1) (w p2) -> b (h w) (p1 p2 c)")'),
        new_code_cell('predict("count", 3, ask="How many?")'),
        new_code_cell('reveal("count", 4)', metadata={"mystnb": alt}, outputs=[drawn]),
        new_markdown_cell("*Figure 1.1: your guess.*\n\n## Where this lives\n\n## Break it: a bug"),
        *(cell for number in (1, 2, 3) for cell in exercise(number)),
        new_markdown_cell(f"## Summary\n\nDone.\n\n## Five questions\n\n{QUESTIONS}\n\nNext: more."),
    ]
    notebook = new_notebook(cells=cells, metadata={"minimae": {"seconds": 12}})
    for count, cell in enumerate(guards.code(notebook), start=1):
        cell.execution_count = count
    return notebook


HERE = build.HERE
GUARDS: dict[str, Callable[[guards.Notebook], list[str]]] = {
    "run in order": guards.run_in_order,
    "results": guards.promises_results,
    "budget": lambda notebook: guards.within_budget(notebook, 20),
    "figures": lambda notebook: guards.figures_have_words(notebook, 1),
    "sharp": guards.figures_are_sharp,
    "links": lambda notebook: guards.links_lead_somewhere(notebook, HERE),
    "shape": lambda notebook: guards.has_the_shape_of_a_chapter(notebook, 1),
    "short": guards.cells_are_short,
    "axes": guards.axes_are_spelt_alike,
    "package": guards.equal_to_the_package,
    "exercises": lambda notebook: guards.exercises_are_complete(notebook, 1),
}


@pytest.mark.parametrize("guard", GUARDS)
def test_a_sound_chapter_passes(guard: str) -> None:
    assert GUARDS[guard](sound()) == []


def find(notebook: guards.Notebook, text: str) -> guards.Cell:
    return next(cell for cell in notebook.cells if text in cell.source)


def say(old: str, new: str) -> Callable[[guards.Notebook], None]:
    def change(notebook: guards.Notebook) -> None:
        cell = find(notebook, old)
        cell.source = cell.source.replace(old, new)

    return change


def on(text: str, change: Callable[[guards.Cell], object]) -> Callable[[guards.Notebook], object]:
    return lambda notebook: change(find(notebook, text))


def drop(text: str) -> Callable[[guards.Notebook], None]:
    return lambda notebook: notebook.cells.remove(find(notebook, text))


ERROR = nbformat.from_dict({"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []})
STDERR = nbformat.from_dict({"output_type": "stream", "name": "stderr", "text": "careful"})
WRONG = nbformat.from_dict({"output_type": "execute_result", "data": {"text/plain": "✗ wrong: no"}, "metadata": {}, "execution_count": 1})
LONG = "\n".join(f"x{i} = {i}" for i in range(30))

BROKEN: list[tuple[str, Callable[[guards.Notebook], object], str]] = [
    ("run in order", on("(1, 2)", lambda c: c.update(execution_count=99)), "top to bottom"),
    ("run in order", on("(1, 2)", lambda c: c.update(execution_count=None)), "top to bottom"),
    ("run in order", on("(1, 2)", lambda c: c.outputs.append(ERROR)), "stopped with ValueError"),
    ("run in order", on("(1, 2)", lambda c: c.outputs.append(STDERR)), "stderr"),
    ("results", on("(1, 2)", lambda c: c.update(outputs=[])), "prints none"),
    ("results", on("(1, 2)", lambda c: c.metadata.update(tags=[])), "only 1 cells"),
    ("budget", lambda n: n.metadata["minimae"].update(seconds=21), "ran 21 s, its budget is 20"),
    ("budget", lambda n: n.metadata.clear(), "how long"),
    ("figures", on("reveal", lambda c: c.metadata.clear()), "without alt text"),
    ("figures", say("*Figure 1.1", "*Figure 1.2"), "no caption"),
    ("figures", say("*Figure 1.1: your guess.*", ""), "no caption"),
    ("figures", on("reveal", lambda c: c.outputs.append(c.outputs[0])), "draws 2 figures"),
    ("figures", on("reveal", lambda c: c.update(outputs=[])), "draws nothing"),
    ("sharp", on("reveal", lambda c: c.outputs[0].metadata.clear()), "of 4 pixels, shown as 4"),
    ("sharp", on("reveal", lambda c: c.outputs[0].metadata["image/png"].update(smallest_text=6.0)), "on a phone 6.0 pixels high"),
    ("sharp", on("reveal", lambda c: c.outputs[0].data.update({"image/png": CUT_OFF})), "cut off at the right"),
    ("sharp", on("reveal", lambda c: c.outputs[0].data.update({"image/jpeg": PNG})), "PNG or SVG is expected"),
    ("links", say("build.py", "no-such.py"), "leads nowhere"),
    ("links", say("https://", "http://"), "not https"),
    ("shape", say("# 01", "# 02"), "title"),
    ("shape", say("**The promise.**", "Promise:"), "promise"),
    ("shape", say("- three", ""), "goals"),
    ("shape", say("> **Paper.**", "Paper:"), "paper box"),
    ("shape", say("Break it", "A bug"), "break-it"),
    ("shape", say("Where this lives", "And so"), "lives"),
    ("shape", say("## Summary", "## End"), "summary"),
    ("shape", say("5. Why?\n<details><summary>Answer</summary>So.</details>", "5. Why?"), "five questions"),
    ("shape", say("Next: more", "The end"), "what comes next"),
    ("shape", drop("predict"), "nothing is predicted"),
    ("shape", say('reveal("count"', 'reveal("other"'), "each guess once"),
    ("short", say("print((1, 2))  # again", LONG), "30 lines in one cell"),
    ("axes", say("b c (h p1)", "n c (h p3)"), "p3"),
    ("axes", say("b (h w) (p1 p2 c)", "b (h w) (p1 p2 q)"), "has q"),
    ("package", say("def grid_of", "def grid_off"), "has no grid_off"),
    ("package", say("return", "return 0,"), "is not the one"),
    ("package", on("def grid_of", lambda c: c.update(source="1 + 1")), "defines nothing"),
    ("exercises", drop("def f3"), "at least three"),
    ("exercises", say("**2 ★★", "**2"), "exercise 2 has no text"),
    ("exercises", say("raise NotImplementedError('your turn')", "return 1"), "is no stub"),
    ("exercises", on("def f1", lambda c: c.metadata.nbgrader.update(grade_id="x")), "nbgrader"),
    ("exercises", on("def f1", lambda c: c.metadata.pop("nbgrader")), "nbgrader"),
    ("exercises", on("check.ch01_f1", lambda c: c.metadata.clear()), "followed by its check"),
    ("exercises", on("return 1\n", lambda c: c.metadata.pop("jupyter")), "not folded"),
    ("exercises", on("return 1\n", lambda c: c.update(outputs=[WRONG])), "does not pass"),
    ("exercises", on("return 1\n", lambda c: c.metadata.update(tags=[])), "no solution"),
    ("exercises", on("return 1\n", lambda c: c.update(source=c.source.replace("solution_", ""))), "a name of its own"),
]


@pytest.mark.parametrize(("guard", "damage", "told"), BROKEN, ids=[f"{guard}: {told}" for guard, _, told in BROKEN])
def test_a_broken_chapter_is_noticed(guard: str, damage: Callable[[guards.Notebook], object], told: str) -> None:
    notebook = copy.deepcopy(sound())
    damage(notebook)
    faults = GUARDS[guard](notebook)
    assert any(told in fault for fault in faults), faults


def test_a_budget_is_wanted_and_at_most_three_minutes() -> None:
    assert guards.within_budget(sound(), None) == ["it has no budget in BUDGET_SECONDS of notebooks/build.py"]
    assert "more than 180" in guards.within_budget(sound(), 200)[0]


def test_a_large_notebook_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "01_large.ipynb"
    path.write_bytes(b" " * (guards.BYTES_A_NOTEBOOK + 1))
    assert guards.small_enough(path) == ["01_large.ipynb has 2,000,001 bytes, more than 2,000,000"]


def test_a_script_that_has_drifted_is_noticed(tmp_path: Path) -> None:
    script = tmp_path / "01_a_title.py"
    notebook = sound()
    notebook.metadata = build.METADATA
    script.write_text(build.script_of(notebook), encoding="utf-8")
    assert build.script_of(build.notebook_of(script)) == script.read_text(encoding="utf-8")
    notebook.cells[3].source += "\n# one more line"
    assert build.script_of(notebook) != script.read_text(encoding="utf-8")


def test_links_to_headings_are_followed(tmp_path: Path) -> None:
    (tmp_path / "map.md").write_text("# The paper map\n\n## Table 1: what, and why\n", encoding="utf-8")
    assert guards.dead_links("[a](map.md#table-1-what-and-why) [b](map.md#the-paper-map)", tmp_path) == []
    assert guards.dead_links("[a](map.md#table-2)", tmp_path) == ["map.md#table-2: map.md has no heading 'table-2'"]


def test_definitions_leave_out_docstrings_and_layout() -> None:
    one = guards.definitions('def f(a: int = 1) -> int:\n    """Told."""\n    return a  # why\n')
    two = guards.definitions("def f(a: int=1) -> int:\n    return (a)\n")
    assert one == two != guards.definitions("def f(a: int = 2) -> int:\n    return a\n")
