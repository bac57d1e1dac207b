"""The files that a public project has, and the pages that are made from the program: complete, well formed, and in step with each other."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
import yaml

import minimae
from minimae.cli.commands import COMMANDS

ROOT = Path(__file__).resolve().parent.parent


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation), "required by the format"
    assert citation["version"] == minimae.__version__ and citation["license"] == "MIT" and citation["type"] == "software"
    assert "2111.06377" in citation["references"][0]["url"]


@pytest.mark.parametrize("form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.name)
def test_the_forms_of_issues_are_well_formed(form: Path) -> None:
    read = yaml.safe_load(form.read_text(encoding="utf-8"))
    if form.name == "config.yml":
        assert all({"name", "url", "about"} == set(link) for link in read["contact_links"])
        return
    assert read["name"] and read["description"]
    fields = read["body"]
    assert all(field["type"] in ("textarea", "input", "markdown") and field["attributes"]["label"] for field in fields)
    assert len({field["id"] for field in fields}) == len(fields) and any(field["validations"]["required"] for field in fields)


def test_the_workflow_runs_the_same_commands_and_says_that_it_was_not_run() -> None:
    text = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    steps = [step.get("run", "") for step in yaml.safe_load(text)["jobs"]["test"]["steps"]]
    assert steps[-2:] == ["make run", "make test"] and "has not been run" in text.splitlines()[0]
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_release_notes_are_the_section_of_a_version() -> None:
    notes, log = load("notes").notes, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for version in re.findall(r"^## (\d+\.\d+\.\d+)", log, re.MULTILINE):
        text = notes(version)
        assert text and text in log and "\n## " not in text and log.index(f"## {version}") < log.index(text)
    assert notes() == notes(minimae.__version__)
    with pytest.raises(ValueError, match="has no version 9.9.9; it has 0.7.0"):
        notes("9.9.9")
    done = subprocess.run([sys.executable, str(ROOT / "docs" / "notes.py"), "9.9.9"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1


def test_search_knows_the_chapter_that_defines_a_term() -> None:
    defined = load("search").defined()
    expected = {
        "patch": "01_patches",
        "mask ratio": "02_masking_by_shuffling",
        "mask token": "05_filling_the_blanks",
        "linear probe": "09_probing",
    }
    assert {term: defined[term] for term in expected} == {term: f"notebooks/{page}" for term, page in expected.items()}
    assert len(defined) > 40 and all((ROOT / f"{page}.ipynb").is_file() for page in defined.values())


def test_the_logo_is_a_small_picture_with_a_description() -> None:
    logo = ROOT / "docs" / "_static" / "logo.svg"
    root = ElementTree.parse(logo).getroot()
    assert root.tag.endswith("svg") and root.get("aria-label") and root.get("viewBox") == "0 0 64 64" and logo.stat().st_size < 2000


def test_the_readme_fits_on_a_screen_before_its_details() -> None:
    first = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## ")[0]
    assert first.count("\n") <= 50 and first.count("](docs/images/") == 1 and first.count("\nmake ") == 2 and "docs/runs.md" in first


def test_the_page_of_the_commands_is_what_the_program_prints() -> None:
    reference = load("reference")
    text = reference.commands(["flops", "data verify"])
    assert "A named size: nano, micro, tiny" in text and "## minimae data verify" in text
    assert all(f"\n  {name} " in text for name in COMMANDS), "the list of all commands"
