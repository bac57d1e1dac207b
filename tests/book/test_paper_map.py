"""The paper map leaves nothing of the paper out, and what it names exists; so do the links of the pages beside the book."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import guards
import nbformat
import pytest

from notebooks import build

ROOT = Path(__file__).resolve().parents[2]
MAP = ROOT / "notebooks" / "paper-map.md"
TABLES = [f"Table 1{letter}" for letter in "abcdef"] + [f"Table {number}" for number in range(2, 14)]
FIGURES = [f"Figure {number}" for number in range(1, 10)]
SECTIONS = [f"Section {number}" for number in ("3", "4.1", "4.2", "4.3")]
SECTIONS += [f"Appendix {part}" for part in ("A.1", "A.2", "A.3", "A.4", "A.5", "B", "C")]

Faults = list[str]


def rows(text: str) -> list[list[str]]:
    """The cells of all rows of all Markdown tables, without heads and rules."""
    lines = text.splitlines()
    heads = {i for i, line in enumerate(lines, start=-1) if re.fullmatch(r"\|(?:\s*:?-+:?\s*\|)+", line)}
    found = [line for i, line in enumerate(lines) if line.startswith("|") and i not in heads and i - 1 not in heads]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found]


def links(text: str, target: str) -> list[tuple[str, str]]:
    """What is said and where it leads, for links whose target matches a pattern."""
    return re.findall(rf"\[([^\]]+)\]\(({target})\)", text)


# What can be wrong with a map, one function each


def left_out(text: str) -> Faults:
    """Sections, tables and figures of the paper that no row is about."""
    named = " ".join(re.findall(r"\*\*(.+?)\*\*", " ".join(row[0] for row in rows(text))))
    return [f"no row is about {what}" for what in [*SECTIONS, *TABLES, *FIGURES] if not re.search(rf"{re.escape(what)}(?![\w.])", named)]


def lost_links(text: str) -> Faults:
    return guards.dead_links(text, MAP.parent)


def lost_functions(text: str) -> Faults:
    """Names of the package that are not defined in the module behind their link."""
    found = links(text, r"\.\./minimae/[\w/]+\.py")
    return [f"{path} defines no {name.strip('`')}" for name, path in found if name.strip("`") not in names_in(MAP.parent / path)]


def lost_tests(text: str) -> Faults:
    """Tests, named in words, that are not in the file behind their link."""
    found = links(text, r"\.\./tests/[\w/]+\.py")
    known = {path: {squashed(name) for name in names_in(MAP.parent / path)} for _, path in found}
    return [f"{path} has no test {words!r}" for words, path in found if squashed(f"test {words}") not in known[path]]


def lost_headings(text: str) -> Faults:
    """Headings that are not in the chapter behind their link, and links to chapters that name none."""
    faults = []
    for said, name in links(text, r"[^)\s]+\.ipynb"):
        number, _, heading = said.partition(" · ")
        if not heading or not name.startswith(f"{number}_"):
            faults.append(f"[{said}] should be [{name[:2]} · heading]")
        elif heading not in headings_in(MAP.parent / name):
            faults.append(f"{name} has no heading {heading!r}")
    return faults


def unsaid(text: str) -> Faults:
    """Rows that neither lead to a chapter nor say that there is none; and rows without function or test that do not say so."""
    faults = []
    for row in rows(text):
        told = " ".join(row)
        if ".ipynb" not in told and "not yet" not in told:
            faults.append(f"{row[0]}: neither a chapter nor 'not yet'")
        if (not re.search(r"\.\./(notebooks/)?minimae", told) or "../tests/" not in told) and "not yet" not in told:
            faults.append(f"{row[0]}: no function or no test, and no 'not yet'")
    return faults


@lru_cache
def names_in(path: Path) -> frozenset[str]:
    """Functions, classes, and ``Class.method`` of a source file. Empty when there is no such file."""
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
    top = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    inner = [f"{a.name}.{b.name}" for a in top if isinstance(a, ast.ClassDef) for b in a.body if isinstance(b, ast.FunctionDef)]
    return frozenset([node.name for node in top] + inner)


def squashed(words: str) -> str:
    """Letters and digits alone: a test's name and the words for it are equal then."""
    return re.sub(r"[^a-z0-9]", "", words.lower())


@lru_cache
def headings_in(path: Path) -> frozenset[str]:
    if not path.is_file():
        return frozenset()
    return frozenset(re.findall(r"^#+ +(.+?) *$", guards.prose(nbformat.read(path, as_version=4)), re.M))


CHECKS: dict[str, Callable[[str], Faults]] = {
    "complete": left_out,
    "links": lost_links,
    "functions": lost_functions,
    "tests": lost_tests,
    "headings": lost_headings,
    "honest": unsaid,
}


@pytest.mark.parametrize("check", CHECKS)
def test_the_map_is_right(check: str) -> None:
    assert CHECKS[check](MAP.read_text(encoding="utf-8")) == []


# Each of these notices

ALL = "\n".join(f"| **{what}** x | not yet | – | – |" for what in [*SECTIONS, *TABLES, *FIGURES])
FUNCTION, TEST = "[`Mask.restore`](../minimae/model/masking.py)", "[take equals indexing, row by row](../tests/model/test_masking.py)"
SOUND = f"""# A map

| in the paper | chapter | function | test |
|---|---|---|---|
| **Figure 1** | {" | ".join(["[01 · There and back](01_patches.ipynb)", FUNCTION, TEST])} |
{ALL}
"""
BROKEN = [
    ("complete", "| **Table 1c** x ", "| Table 1c x ", "no row is about Table 1c"),
    ("complete", "**Table 13**", "**Table 14**", "no row is about Table 13"),
    ("complete", "**Figure 9**", "**Figure 99**", "no row is about Figure 9"),
    ("complete", "**Section 4.2**", "**Section 4.25**", "no row is about Section 4.2"),
    ("links", "../minimae/model/masking.py", "../minimae/maskings.py", "../minimae/maskings.py leads nowhere"),
    ("links", "01_patches.ipynb", "01_patch.ipynb", "01_patch.ipynb leads nowhere"),
    ("functions", "`Mask.restore`", "`Mask.unshuffle`", "defines no Mask.unshuffle"),
    ("functions", "../minimae/model/masking.py", "../minimae/model/patches.py", "defines no Mask.restore"),
    ("tests", "row by row", "row for row", "has no test 'take equals indexing, row for row'"),
    ("tests", "../tests/model/test_masking.py", "../tests/model/test_vit.py", "has no test"),
    ("headings", "There and back", "There and back again", "has no heading 'There and back again'"),
    ("headings", "[01 ·", "[02 ·", "should be [01 · heading]"),
    ("headings", "01 · There and back", "the chapter", "should be [01 · heading]"),
    ("honest", "| **Table 4** x | not yet |", "| **Table 4** x | later |", "**Table 4** x: neither a chapter"),
    ("honest", TEST, "–", "no function or no test"),
]


@pytest.mark.parametrize("check", CHECKS)
def test_a_sound_map_passes(check: str) -> None:
    assert CHECKS[check](SOUND) == []


@pytest.mark.parametrize(("check", "old", "new", "told"), BROKEN, ids=[f"{check}: {new}" for check, _, new, _ in BROKEN])
def test_a_broken_map_is_noticed(check: str, old: str, new: str, told: str) -> None:
    assert old in SOUND
    faults = CHECKS[check](SOUND.replace(old, new))
    assert any(told in fault for fault in faults), faults


# The pages beside the book

GENERATED = {"_build", "api", "notebooks"}  # of docs/; conf.py writes the reference, the chapters and the change log there
API_PAGES = set(re.findall(r"(?m)^api/(\w+)$", (ROOT / "docs" / "index.md").read_text(encoding="utf-8")))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if not GENERATED & set(page.relative_to(ROOT / "docs").parts[:-1] if "docs" in page.parts else ())]
PAGES = [page for page in PAGES if page != ROOT / "docs" / "changelog.md"]


def page_faults(text: str, folder: Path) -> Faults:
    """Dead links of a page; in docs/ the chapters are where the site has them, in notebooks/."""
    if folder == ROOT / "docs":
        text = text.replace("](notebooks/", "](../notebooks/")
        text = re.sub(r"\]\(api/(\w+)\.md(#[\w-]*)?", lambda found: "](index.md" if found[1] in API_PAGES else found[0], text)
    return guards.dead_links(text, folder)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_the_pages_lead_somewhere(page: Path) -> None:
    assert page_faults(page.read_text(encoding="utf-8"), page.parent) == []


def test_a_dead_link_of_a_page_is_noticed() -> None:
    assert page_faults("[a](notebooks/01_patches.ipynb) [b](choices.md) [c](api/model.md#minimaerandom)", ROOT / "docs") == []
    assert page_faults("[a](notebooks/01_patch.ipynb)", ROOT / "docs") == ["../notebooks/01_patch.ipynb leads nowhere"]
    assert page_faults("[a](docs/choice.md)", ROOT) == ["docs/choice.md leads nowhere"]


def test_the_change_log_can_be_shown_anywhere() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [target for _, target in links(text, r"[^)]+") if not target.startswith("https://")] == []
    versions = re.findall(r"^## (\d+\.\d+\.\d+) (?:\(unreleased\)|– \d{4}-\d\d-\d\d)$", text, re.M)
    assert len(versions) == text.count("\n## ") == text.count("### For coursework") >= 2


def test_every_work_is_cited_and_known() -> None:
    references = (ROOT / "docs" / "references.bib").read_text(encoding="utf-8")
    known = re.findall(r"^@\w+\{(\w+),", references, re.M)
    assert len(re.findall(r"^@\w+\{\w+,$.*?^\}$", references, re.M | re.S)) == len(known) == references.count("\n}"), "an entry is open"
    assert references.count("{") == references.count("}")
    cited = re.findall(r"\{cite(?::\w)?\}`(\w+)`", (ROOT / "docs" / "bibliography.md").read_text(encoding="utf-8"))
    assert len(known) == len(set(known)) and sorted(cited) == sorted(known)


def test_the_teachers_table_is_that_of_the_chapters() -> None:
    page = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    told = {row[0]: row[1:4] for row in rows(page) if len(row) == 5 and row[0][:2].isdigit()}
    for script in build.chapters():
        text, (title,) = script.read_text(encoding="utf-8"), re.findall(r"^# # (.+)$", script.read_text(encoding="utf-8"), re.M)
        minutes, budget = re.search(r"^# Minutes: (\d+)\.", text, re.M)[1], build.BUDGET_SECONDS[script.stem[:2]]
        assert told.pop(title.replace(" · ", " ")) == [minutes, f"{budget} s", str(text.count('tags=["exercise"]'))]
    assert told == {}
