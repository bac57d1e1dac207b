"""What the book promises, as functions of a notebook: each returns its faults, one sentence each. No fault, no list.

tests/book/test_guards.py breaks a small notebook for each of them; tests/book/test_chapters.py holds them against the chapters.
"""

from __future__ import annotations

import ast
import base64
import importlib
import inspect
import io
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

ALPHABET = set("bchwnkmdte") | {"p1", "p2"}  # one alphabet for axes; words (heads, height) are free
LINES_A_CELL = 20  # not counted: blank lines, docstrings; classes and functions of the package may need more
BYTES_A_NOTEBOOK = 2_000_000
SECONDS_A_CHAPTER = 180
PIXELS_ACROSS, TEXT_ON_A_PHONE = 720, 8.5  # pixels of a page: the widest figure; the smallest text on a phone 390 pixels wide

Notebook = Any  # nbformat's NotebookNode: a dict whose keys are attributes too
Cell = Any


def code(notebook: Notebook, *tags: str) -> list[Cell]:
    """The code cells; with tags only those that carry one of them, or one that begins so when the tag ends in a colon."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell for cell in cells if not tags or any(_carries(cell, tag) for tag in tags)]


def prose(notebook: Notebook) -> str:
    """All Markdown of a notebook."""
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def tags_of(cell: Cell) -> list[str]:
    return list(cell.metadata.get("tags", []))


def _carries(cell: Cell, tag: str) -> bool:
    return any(t.startswith(tag) if tag.endswith(":") else t == tag for t in tags_of(cell))


def _first(cell: Cell) -> str:
    return repr(cell.source.strip().splitlines()[0][:70]) if cell.source.strip() else "an empty cell"


def outputs(notebook: Notebook) -> Iterator[tuple[Cell, Any]]:
    for cell in code(notebook):
        for output in cell.get("outputs", []):
            yield cell, output


def images(cell: Cell) -> list[Any]:
    return [output for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]


# How it was run


def run_in_order(notebook: Notebook) -> list[str]:
    """Every code cell has run, once, from top to bottom, and none of them failed or warned."""
    counts = [cell.get("execution_count") for cell in code(notebook)]
    faults = [] if counts == list(range(1, len(counts) + 1)) else [f"the cells were not run once from top to bottom: {counts}"]
    faults += [f"{_first(cell)} stopped with {output['ename']}" for cell, output in outputs(notebook) if output.output_type == "error"]
    faults += [f"{_first(cell)} writes to stderr" for cell, output in outputs(notebook) if output.get("name") == "stderr"]
    return faults


def promises_results(notebook: Notebook) -> list[str]:
    """At least two cells print something that the tests compare, and each of those did print."""
    compared = code(notebook, "nbval-check-output")
    faults = [] if len(compared) >= 2 else [f"only {len(compared)} cells have the tag nbval-check-output"]
    return faults + [f"{_first(cell)} promises a result and prints none" for cell in compared if not cell.get("outputs")]


def small_enough(path: Path) -> list[str]:
    size = path.stat().st_size
    return [f"{path.name} has {size:,} bytes, more than {BYTES_A_NOTEBOOK:,}"] if size > BYTES_A_NOTEBOOK else []


def within_budget(notebook: Notebook, budget: int | None) -> list[str]:
    """The chapter has a budget of at most three minutes, and the committed run kept it."""
    if budget is None:
        return ["it has no budget in BUDGET_SECONDS of notebooks/build.py"]
    took = notebook.metadata.get("minimae", {}).get("seconds")
    faults = [f"a budget of {budget} s is more than {SECONDS_A_CHAPTER} s"] if budget > SECONDS_A_CHAPTER else []
    if took is None:
        return [*faults, "it does not say how long it ran: make it with notebooks/build.py"]
    return [*faults, f"it ran {took} s, its budget is {budget} s"] if took > budget else faults


def reading_minutes(notebook: Notebook) -> float:
    """The main line, without appendix, hints and solutions: 200 words a minute, 3 s a line, 20 s a figure, 60 s a guess, and the run."""
    words = lines = figures = guesses = 0
    for cell in notebook.cells:
        before, appendix, _ = cell.source.partition("## Appendix")
        if cell.cell_type == "markdown":
            words += len(re.sub(r"<details>.*?</details>", "", before, flags=re.S).split())
        elif not {"hide-input", "remove-cell", "setup", "exercise-check"} & set(tags_of(cell)):
            lines += sum(bool(line.strip()) for line in cell.source.splitlines())
            figures += "mystnb" in cell.metadata
            guesses += "book.predict(" in cell.source
        if appendix:
            break
    return words / 200 + lines * 3 / 60 + figures * 20 / 60 + guesses + notebook.metadata["minimae"]["seconds"] / 60


# What a reader sees


def figures_have_words(notebook: Notebook, chapter: int) -> list[str]:
    """Each figure has alt text, and the next cell is its caption: *Figure N.1: …*, *Figure N.2: …*, in this order."""
    faults, number = [], 0
    for cell, following in zip(notebook.cells, [*notebook.cells[1:], None]):
        if cell.cell_type != "code":
            continue
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        if not images(cell):
            faults += [f"{_first(cell)} has alt text and draws nothing"] if alt else []
            continue
        number += 1
        if len(images(cell)) > 1:
            faults.append(f"{_first(cell)} draws {len(images(cell))} figures: one a cell, so that each has its words")
        if len(alt) < 20:
            faults.append(f"{_first(cell)} draws a figure without alt text")
        told = following.source.strip() if following is not None and following.cell_type == "markdown" else ""
        if not re.match(rf"\*Figure {chapter}\.{number}: \S", told):
            faults.append(f"the figure of {_first(cell)} has no caption *Figure {chapter}.{number}: …* below it")
    captions = re.findall(r"^\*Figure ", prose(notebook), re.M)
    return faults if len(captions) == number else [*faults, f"{len(captions)} captions for {number} figures"]


def figures_are_sharp(notebook: Notebook) -> list[str]:
    """Figures are SVG, or PNG with two pixels for each of the page; whole, no wider than a column, with text that a phone can show."""
    faults = []
    for cell, output in outputs(notebook):
        for kind in (kind for kind in output.get("data", {}) if kind.startswith("image/") and kind != "image/svg+xml"):
            if kind != "image/png":
                faults.append(f"{_first(cell)} draws {kind}: PNG or SVG is expected")
                continue
            data = base64.b64decode(output.data[kind])
            (pixels,) = struct.unpack(">I", data[16:20])  # the width in the header of a PNG
            shown = output.get("metadata", {}).get(kind, {})
            width = shown.get("width", pixels)
            if pixels < 2 * width:
                faults.append(f"{_first(cell)} draws a figure of {pixels} pixels, shown as {width}: twice as many are expected")
            elif width > PIXELS_ACROSS or shown.get("smallest_text", 0) < TEXT_ON_A_PHONE:
                text = f"its text on a phone {shown.get('smallest_text')} pixels high"
                faults.append(f"{_first(cell)} draws a figure {width} pixels wide, {text}")
            faults += [f"{_first(cell)} draws a figure that is cut off at the {side}" for side in cut_off(data)]
    return faults


def cut_off(png: bytes) -> list[str]:
    """The sides at which something dark touches the edge, such as a title without room."""
    image = Image.open(io.BytesIO(png)).convert("L")
    w, h = image.size
    edges = {"top": (0, 0, w, 1), "bottom": (0, h - 1, w, h), "left": (0, 0, 1, h), "right": (w - 1, 0, w, h)}
    return [side for side, part in edges.items() if image.crop(part).getextrema()[0] < 200]


def links_lead_somewhere(notebook: Notebook, folder: Path) -> list[str]:
    """Links and pictures in the text point to files that exist, or to https."""
    return dead_links(prose(notebook), folder)


def dead_links(text: str, folder: Path) -> list[str]:
    """The links of a Markdown text that lead nowhere: files that are not there, headings that are not in them, plain http."""
    faults = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if target.startswith("https://"):
            continue
        if "://" in target:
            faults.append(f"{target} is not https")
        elif path and not (folder / path).exists():
            faults.append(f"{target} leads nowhere")
        elif anchor and path.endswith((".md", ".py")) and anchor not in anchors((folder / path).read_text(encoding="utf-8")):
            faults.append(f"{target}: {path} has no heading {anchor!r}")
    return faults


def anchors(markdown: str) -> set[str]:
    """The names by which a code host knows the headings of a Markdown text."""
    headings = re.findall(r"^#+ +(.+)$", markdown, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def has_the_shape_of_a_chapter(notebook: Notebook, chapter: int) -> list[str]:
    """Title, promise, minutes, goals, a prediction with its reveal, paper, a break-it lab, summary, five questions, what is next."""
    text, first = prose(notebook), notebook.cells[0].source
    source = "\n".join(cell.source for cell in code(notebook))
    wanted = {
        "a title '# NN · …'": re.match(rf"# {chapter:02d} · \S", first),
        "a promise": "**The promise.**" in first,
        "minutes and what it needs": re.search(r"^Minutes: \d+\. Needs: ", first, re.M),
        "three to five goals": 3 <= len(re.findall(r"^- ", first, re.M)) <= 5,
        "a paper box": "> **Paper.**" in text,
        "a summary": "\n## Summary\n" in text,
        "five questions with folded answers": text.count("<details><summary>Answer</summary>") == 5,
        "what comes next": re.search(r"\bNext: ", text),
        "a setup cell": len(code(notebook, "setup")) == 1,
    }
    if chapter > 0:
        wanted["a break-it lab"] = re.search(r"^##+ Break[ -]it\b", text, re.M)
        wanted["'where this lives'"] = re.search(r"^##+ Where (this|it|all this) lives", text, re.M)
    faults = [f"what is expected is {what}" for what, ok in wanted.items() if not ok]
    guessed, revealed = (re.findall(rf"\b{verb}\(\s*\"([\w-]+)\"", source) for verb in ("predict", "reveal"))
    faults += [] if guessed else ["nothing is predicted"]
    faults += [] if guessed == revealed else [f"predicted {guessed}, revealed {revealed}: each guess once, before its reveal"]
    return faults


def cells_are_short(notebook: Notebook) -> list[str]:
    """A cell has one thought. Not counted: blank lines, imports and docstrings; a class or function of the package may need more."""
    faults = []
    for cell in code(notebook):
        tree = _without_docstrings(ast.parse(cell.source))
        tree.body = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
        lines = len(ast.unparse(tree).splitlines())
        if lines > LINES_A_CELL and not _carries(cell, "package:"):
            faults.append(f"{_first(cell)}: {lines} lines in one cell")
    return faults


def axes_are_spelt_alike(notebook: Notebook) -> list[str]:
    """Single letters in einops strings are those of the one alphabet."""
    faults = []
    for cell in code(notebook):
        faults += [f"{pattern!r} has {', '.join(sorted(odd))}" for pattern, odd in odd_axes(cell.source)]
    return faults


def odd_axes(source: str) -> list[tuple[str, set[str]]]:
    """The einops strings of a source that name an axis by a letter outside the alphabet."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[\w\s()]+->[\w\s()]+", node.value):
            names = set(re.findall(r"[a-z]\w*", node.value))
            if odd := {name for name in names if re.fullmatch(r"[a-z]\d?", name)} - ALPHABET:
                found.append((node.value, odd))
    return found


# What is in the package


def equal_to_the_package(notebook: Notebook) -> list[str]:
    """Each function, class and constant of a cell tagged ``package:module`` is the module's, statement for statement."""
    faults = []
    for cell in code(notebook, "package:"):
        (module,) = (tag.removeprefix("package:") for tag in tags_of(cell) if tag.startswith("package:"))
        theirs = definitions(inspect.getsource(importlib.import_module(module)))
        mine = definitions(cell.source)
        faults += [] if mine else [f"{_first(cell)} is tagged {module} and defines nothing"]
        for name, text in mine.items():
            if name not in theirs:
                faults.append(f"{module} has no {name}")
            elif text != theirs[name]:
                faults.append(f"{name} is not the one of {module}:\n{_first_difference(text, theirs[name])}")
    return faults


def definitions(source: str) -> dict[str, str]:
    """Top-level functions, classes and constants of a source by name, without docstrings, comments and layout."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = ast.unparse(_without_docstrings(node))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                found[ast.unparse(target)] = ast.unparse(node)
    return found


def _without_docstrings(tree: Any) -> Any:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def _first_difference(mine: str, theirs: str) -> str:
    pairs = zip([*mine.splitlines(), "(nothing)"], [*theirs.splitlines(), "(nothing)"])
    return next(f"  chapter: {a.strip()}\n  package: {b.strip()}" for a, b in pairs if a != b)


# Exercises


def exercises_are_complete(notebook: Notebook, chapter: int) -> list[str]:
    """At least three: stars in the text, a stub, its check, the solution folded, with what nbgrader wants to know."""
    faults, stubs = [], [i for i, cell in enumerate(notebook.cells) if _carries(cell, "exercise")]
    if len(stubs) < 3:
        faults.append(f"{len(stubs)} exercises: at least three are expected")
    for number, i in enumerate(stubs, start=1):
        cells = notebook.cells[i - 1 : i + 5]
        stub, name = cells[1], f"exercise {number}"
        if not re.search(rf"\*\*{number} (★{{1,3}}) \S", cells[0].source):
            faults.append(f"{name} has no text '**{number} ★ …**' before it")
        if "raise NotImplementedError" not in stub.source:
            faults.append(f"{name} is no stub")
        told = stub.metadata.get("nbgrader", {})
        wanted = {"grade": False, "solution": True, "locked": False, "task": False, "schema_version": 3}
        if {**told, **wanted, "grade_id": f"ch{chapter:02d}-ex{number}"} != told:
            faults.append(f"{name} has other nbgrader metadata than {wanted} and grade_id ch{chapter:02d}-ex{number}: {dict(told)}")
        solution = cells[4] if len(cells) > 4 else stub
        if not _carries(cells[2], "exercise-check"):
            faults.append(f"{name} is not followed by its check")
        elif not _carries(solution, "solution") or re.sub(r"\((\w+)\)$", r"(solution_\1)", cells[2].source.strip()) not in solution.source:
            faults.append(f"{name} has no solution, with a name of its own (solution_…), that passes the same check")
        elif not _folded(solution):
            faults.append(f"the solution of {name} is not folded")
        elif "NotImplementedError" in solution.source:
            faults.append(f"the solution of {name} is a stub")
        elif (said := _said(solution)) and not said.startswith("○ solution"):
            faults.append(f"the solution of {name} does not pass: {said}")
        own = re.search(r"\((\w+)\)$", cells[2].source.strip())
        if own and re.match("(?i)my", own[1]):
            faults += _own_part(name, cells[2].source.strip(), notebook)
    return faults


def _own_part(name: str, check: str, notebook: Notebook) -> list[str]:
    """A part of the package that the reader writes first, MyBlock or my_patchify: later cells use it if it is right."""
    wanted = check.replace("(", ", ").replace(")", ", ")
    uses = [cell for cell in code(notebook) if f"book.use({wanted}" in cell.source]
    return [] if uses else [f"{name} writes a part of the package, so a cell should say book.use({wanted}…)"]


def _folded(cell: Cell) -> bool:
    return _carries(cell, "hide-input") and bool(cell.metadata.get("jupyter", {}).get("source_hidden"))


def _said(cell: Cell) -> str:
    results = [output for output in cell.get("outputs", []) if output.output_type == "execute_result"]
    return results[-1]["data"].get("text/plain", "") if results else ""
