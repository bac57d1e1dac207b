"""Slides of the chapters, as they are committed: ``python docs/slides.py FOLDER`` writes one deck for each, for reveal.js.

A slide has a figure with its caption, code with what it prints, the question of a prediction, an exercise, a list, or the sentences that
define a term. The rest of the text is in the speaker's notes (key S). Solutions, checks and folded cells are left out. The decks need no
network: reveal.js comes from the package sphinx-revealjs, MathJax from sphinx-mathjax-offline, and both are copied into FOLDER/vendor.
"""

from __future__ import annotations

import ast
import html
import re
import shutil
import struct
import sys
from base64 import b64decode
from copy import deepcopy
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import nbformat
from nbconvert import SlidesExporter
from nbconvert.preprocessors import TagRemovePreprocessor

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from notebooks.build import FOLDED, chapters  # noqa: E402

HIDDEN = {"install", "setup", "solution", "exercise-check", "hide-input", "exercise-point"}
LEFT_OUT = re.compile(r"Appendix")
IMPORTED = re.compile(r"Where (this|it|all this) lives")
VERDICT = re.compile(r"\bbook\.use\(|\bcheck\.ch\d")
DETAILS = re.compile(r"<details>.*?</details>", re.S)
HINTS = re.compile(r"<details><summary>Hint.*?</details>", re.S)
HEIGHT = 590  # pixels below the heading of a slide of 1280 × 720
CODE = 29  # pixels of a line of code
SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-Z*`])")
BACKWARDS = ("This ", "These ", "It ", "They ", "Their ", "Both ", "So ", "Such ")  # sentences that need the one before


def lines(text: str, width: int) -> int:
    """How many lines a text takes at this many characters a line."""
    return sum(1 + max(0, len(line) - 1) // width for line in text.splitlines())


def shown(block: str) -> str:
    """What a slide shows of a block of Markdown: lists, tables, quotes, formulas, exercises; the defining sentences of a paragraph."""
    if re.match(r"([-*>|] ?|\d+\. |\$\$|```)", block) and not block.startswith(("*Figure", "**")):
        return block
    if re.match(r"\*\*[^*]+[.:?]\*\*", block):  # "**3 ★★ Your block.** …", "**The promise.** …"
        return block
    sentences = [" ".join(sentence.split()) for sentence in SENTENCES.split(block)]
    asked = next((i for i, sentence in enumerate(reversed(sentences)) if not sentence.endswith("?")), len(sentences))
    chosen = set(range(len(sentences) - asked, len(sentences)))
    chosen |= {i for i, sentence in enumerate(sentences) if re.search(r"\*\*\w[^*]*\*\*", sentence)}
    chosen |= {i - 1 for i in chosen if i and sentences[i].startswith(BACKWARDS)}
    return "\n\n".join(sentences[i] for i in sorted(chosen))


def pieces(cell: Any) -> list[Any]:
    """A code cell, or its parts if it is too long for one slide, cut between functions, else at a blank line. The last has the outputs."""
    rows = cell.source.splitlines()
    blank = [i for i, row in enumerate(rows) if i and not row.strip()]
    between = [i for i in blank if rows[i + 1 : i + 2] and rows[i + 1].strip() and not rows[i + 1].startswith(" ")]
    if CODE * len(rows) < HEIGHT or not blank:
        return [cell]
    middle = min(between or blank, key=lambda i: abs(i - len(rows) // 2))
    first, second = ("\n".join(part).strip("\n") for part in (rows[:middle], rows[middle:]))
    tags = {"tags": cell.metadata.get("tags", [])}
    return [
        *pieces(nbformat.v4.new_code_cell(first, metadata=tags)),
        *pieces(nbformat.v4.new_code_cell(second, metadata=tags, outputs=cell.outputs)),
    ]


def condensed(source: str) -> str:
    """A cell without the asserts between its other statements; of each docstring, the first line."""
    rows, tree = source.splitlines(), ast.parse(source)
    documented = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node)]
    cuts = [(node.lineno - 1, node.end_lineno, []) for node in tree.body if isinstance(node, ast.Assert)]
    for text in (node.body[0] for node in documented):
        if text.end_lineno > text.lineno:
            cuts.append((text.lineno - 1, text.end_lineno, [rows[text.lineno - 1] + '"""']))
    for first, last, instead in sorted(cuts, reverse=True):
        rows[first:last] = instead
    return "\n".join(rows).strip("\n")


class Deck:
    """The cells of a deck, slide by slide."""

    def __init__(self) -> None:
        self.cells: list[Any] = []
        self.slide: list[Any] = []
        self.notes: list[str] = []
        self.heading, self.kind, self.height, self.left_out = "", "slide", 0, False

    def flush(self) -> None:
        """End the slide, if there is something on it."""
        if not self.slide or self.left_out:
            self.slide, self.notes = [], [] if self.left_out else self.notes
            return
        heading = nbformat.v4.new_markdown_cell(f"## {self.heading}")
        notes = nbformat.v4.new_markdown_cell("\n\n".join(self.notes).replace("<details>", "<details open>"))
        kinds = [self.kind, *["-"] * len(self.slide), "notes"]
        for cell, kind in zip([heading, *self.slide, notes], kinds):
            cell.metadata["slideshow"] = {"slide_type": kind}
            self.cells.append(cell)
        self.slide, self.notes, self.kind, self.height = [], [], "subslide", 0

    def add(self, cell: Any, height: int) -> None:
        """Put a cell on the slide, or on the next one if it is full."""
        if self.height + height > HEIGHT:
            self.flush()
        self.slide.append(cell)
        self.height += height

    def alone(self, cell: Any) -> None:
        """A slide with nothing but this."""
        self.flush()
        self.add(cell, HEIGHT)

    def section(self, heading: str, level: int) -> None:
        self.flush()
        self.heading = heading
        if level < 3:
            self.kind, self.left_out = "slide", bool(LEFT_OUT.match(heading))

    def text(self, source: str) -> None:
        """A Markdown cell: headings end a slide, captions belong to the figure above, and what is not shown becomes notes."""
        source = re.sub(r"\[([^\]]+)\]\((?!https)[^)]+\)", r"\1", source)
        before = ""
        for block in re.split(r"\n\n+", DETAILS.sub("", source)):
            block = block.strip()
            if title := re.match(r"(#+) (.+)", block):
                self.section(title[2], len(title[1]))
                block = ""
            elif block.startswith("*Figure") and self.slide and self.slide[0].source.startswith("<img"):
                self.slide[0].source += f"\n\n{block}"
                block = ""
            elif self.heading == "Summary":
                block = "\n".join(f"- {' '.join(sentence.split())}" for sentence in SENTENCES.split(block))
                self.add(nbformat.v4.new_markdown_cell(block), 38 * lines(block, 88))
            elif part := shown(block):
                lead = f"{before}\n\n" if part.startswith(("- ", "1. ", "|")) and before and len(before) < 200 and not shown(before) else ""
                exercise = "★" in part[:12]  # with its stub it has a slide of its own
                if exercise:
                    self.flush()
                self.add(nbformat.v4.new_markdown_cell(lead + part), 0 if exercise else 14 + 38 * lines(lead + part, 88))
            before = block
        self.notes.append(HINTS.sub("", source))

    def code(self, cell: Any) -> None:
        """A code cell with what it prints; of a figure only the picture, of a prediction only the question."""
        cell.source = condensed(cell.source)
        if not cell.source or VERDICT.search(cell.source):
            return
        pictures = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
        printed = "\n".join(str(output.get("text") or output.get("data", {}).get("text/plain", "")) for output in cell.outputs)
        if "\nYour guess: " in printed:
            self.slide = [given for given in self.slide if given.cell_type == "code" or "?" not in given.source]  # the same question
            self.alone(nbformat.v4.new_markdown_cell(printed.partition("\nYour guess: ")[0], metadata={"tags": ["question"]}))
            self.flush()
        elif pictures:
            alt = html.escape(cell.metadata.get("mystnb", {}).get("image", {}).get("alt", ""), quote=True)
            picture = f'<img alt="{alt}" src="data:image/png;base64,{"".join(pictures[0].split())}">'
            width, height = struct.unpack(">II", b64decode(pictures[0])[16:24])
            tags = ["figure", "tall"] if height > 0.7 * width else ["figure"]
            self.alone(nbformat.v4.new_markdown_cell(picture, metadata={"tags": tags}))
        elif not IMPORTED.match(self.heading):
            for part in pieces(cell):
                self.add(part, CODE * (lines(part.source, 100) + lines(printed, 100)) + 24)
            if "exercise" in cell.metadata.get("tags", []):
                self.flush()


def deck(notebook: Any) -> Any:
    """A chapter as a notebook of slides for nbconvert; the chapter is left as it is."""
    removed, _ = TagRemovePreprocessor(remove_cell_tags=HIDDEN, enabled=True).preprocess(deepcopy(notebook), {})
    made = Deck()
    for cell in removed.cells:
        if cell.cell_type == "code":
            made.code(cell)
        elif cell.source.strip() != FOLDED:
            made.text(cell.source)
    made.flush()
    made.cells[0].source = made.cells[0].source.removeprefix("#")  # the title of the chapter
    metadata = {"title": made.cells[0].source.removeprefix("# "), "language_info": {"name": "python"}}
    return nbformat.v4.new_notebook(cells=made.cells, metadata=metadata)


def page(script: Path) -> str:
    """The deck of a chapter as an HTML page that expects the folder vendor beside it."""
    notebook = deck(nbformat.read(script.with_suffix(".ipynb"), as_version=4))
    exporter = SlidesExporter(
        reveal_url_prefix="vendor", reveal_theme="white", exclude_input_prompt=True, exclude_output_prompt=True,
        raw_template=(HERE / "slides.html.j2").read_text(encoding="utf-8"),
    )  # fmt: skip
    return str(exporter.from_notebook_node(notebook, {"metadata": {"name": script.stem}})[0])


def vendor(folder: Path) -> None:
    """Copy what the decks load: reveal.js with its speaker's view, and MathJax."""
    reveal = Path(str(distribution("sphinx-revealjs").locate_file("sphinx_revealjs")))
    mathjax = Path(str(distribution("sphinx-mathjax-offline").locate_file("sphinx-mathjax-offline")))
    unused = shutil.ignore_patterns("*.map", "*.esm.js", "*.eot", "*.ttf")
    for part in ("dist", "plugin/notes"):
        shutil.copytree(reveal / "_static" / "revealjs" / part, folder / "vendor" / part, ignore=unused, dirs_exist_ok=True)
    shutil.copy(reveal / "_static" / "revealjs" / "LICENSE", folder / "vendor")
    shutil.copy(mathjax / "static" / "mathjax" / "tex-svg.js", folder / "vendor")


def write(folder: Path) -> int:
    """Write the decks of all chapters, and what they load. → how many."""
    vendor(folder)
    for script in chapters():
        (folder / f"{script.stem}.html").write_text(page(script), encoding="utf-8")
    return len(chapters())


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    print(f"{write(Path(sys.argv[1]))} decks are in {sys.argv[1]}")
