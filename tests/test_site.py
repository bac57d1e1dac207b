"""The site: it builds without a warning and without a network, and every page has what it needs. Skipped where Sphinx is not installed."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("myst_nb", reason="the extra docs is not installed")
ROOT = Path(__file__).resolve().parent.parent
FETCHED = {"img": "src", "script": "src", "iframe": "src", "source": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built from a copy of the tree, so that what ``make docs`` made is left alone."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("docs", "notebooks", "minimae", "data"):
        ignored = shutil.ignore_patterns("_build", "downloads", "__pycache__")
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    shutil.copy(ROOT / "CHANGELOG.md", tree)
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-q", "-W", "--keep-going", "docs", "html"]
    built = subprocess.run(command, cwd=tree, text=True, capture_output=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return tree / "html"


class Page(HTMLParser):
    """What a page fetches, links to, and names; and its pictures' alt texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.names: set[str] = set()
        self.alts: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.names.add(given.get("id") or "")
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.fetched.append(given["href"])
        if tag in FETCHED and given.get(FETCHED[tag]):
            self.fetched.append(given[FETCHED[tag]])
        if tag == "img":
            self.alts.append(given.get("alt"))


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}


def faults_of(path: Path, page: Page, pages: dict[Path, Page]) -> list[str]:
    """What a page fetches from elsewhere, or links to in vain."""
    faults = [f"fetches {url}" for url in page.fetched if urlsplit(url).netloc]
    faults += [f"has a picture without alt text ({len(page.alts)} pictures)"] if not all(page.alts) else []
    for url in [*page.fetched, *page.links]:
        parts = urlsplit(url)
        if parts.scheme or parts.netloc or not (parts.path or parts.fragment):
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not target.exists():
            faults.append(f"leads to {url}, which is not there")
        elif target in pages and parts.fragment and unquote(parts.fragment) not in pages[target].names:
            faults.append(f"leads to {url}, which has no such place")
    return faults


@pytest.mark.slow
def test_every_page_is_whole_without_a_network(pages: dict[Path, Page], site: Path) -> None:
    assert {site / "notebooks" / f"{path.stem}.html" for path in (ROOT / "notebooks").glob("*.ipynb")} <= set(pages)
    found = {str(path.relative_to(site)): faults for path, page in pages.items() if (faults := faults_of(path, page, pages))}
    assert found == {}


@pytest.mark.slow
def test_solutions_are_folded_and_pictures_described(pages: dict[Path, Page], site: Path) -> None:
    text = (site / "notebooks" / "00_a_picture_mostly_missing.html").read_text(encoding="utf-8")
    assert text.count("cell_input_collapsed") + text.count('class="hide above-input"') >= 3 or text.count("<details") >= 3 + 5
    assert any("Three pictures of a cup of coffee" in (alt or "") for page in pages.values() for alt in page.alts)
    assert "get_ipython().run_line_magic" not in text, "the install cell is for Colab, not for the site"


@pytest.mark.slow
def test_it_can_be_searched(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert all(word in index for word in ("unshuffl", "decod", "patchifi"))


def test_the_reference_lists_every_public_module_once() -> None:
    reference = load("reference")
    listed = Counter(re.findall(r"automodule:: (\S+)", "".join(reference.page(name) for name in reference.PAGES)))
    assert set(listed) == set(reference.modules()) and set(listed.values()) == {1}
    assert {"minimae.model.vit", "minimae.cli", "minimae_book.checks.ch05", "minimae_book.bench", "minimae.random"} <= set(listed)
    assert [name for name in reference.PAGES if f"api/{name}\n" not in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")] == []


def test_pages_lose_what_they_do_not_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    sources = ("_static/scripts/fontawesome.js?digest=1", "searchindex.js", "a.js")
    scripts = "".join(f'<script src="{source}"></script>' for source in sources)
    for name in ("index.html", "search.html"):
        (tmp_path / name).write_text(f'{scripts}<table class="table"></table><script>console.log("hi")</script>')
    load("finish").lighten(tmp_path)
    index, search = ((tmp_path / name).read_text() for name in ("index.html", "search.html"))
    assert Page(index).fetched == ["a.js"] and Page(search).fetched == ["searchindex.js", "a.js"]
    assert 'tabindex="0"' in index and "console" not in search


def test_moving_figures_have_their_static_twins() -> None:
    moving = ast.literal_eval(re.search(r"^MOVING = (\{.*?^\})", (ROOT / "docs" / "conf.py").read_text(encoding="utf-8"), re.M | re.S)[1])
    figures = (ROOT / "docs" / "_static" / "figures.js").read_text(encoding="utf-8")
    for chapter, (code, figure, _) in moving.items():
        script = (ROOT / "notebooks" / f"{chapter}.py").read_text(encoding="utf-8")
        assert script.count(code) == 1, f"{chapter} has no cell with {code}: MOVING in docs/conf.py says below which cell a figure moves"
        assert f"  {figure}(root) {{" in figures


def test_a_page_with_faults_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    text = '<a href="gone.html">x</a><a href="#nowhere">y</a><img src="https://cdn.example.org/a.png"><script src="b.js"></script>'
    page = Page(text)
    faults = " ".join(faults_of(path, page, {path: page}))
    assert not path.exists() and "fetches https://cdn.example.org/a.png" in faults and "without alt text" in faults
    path.write_text(text)
    faults = " ".join(faults_of(path, page, {path: page}))
    assert "gone.html, which is not there" in faults and "b.js, which is not there" in faults
    assert "#nowhere, which has no such place" in faults


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_browser_sees_what_is_wrong(tmp_path: Path) -> None:
    check = load("check")
    if check.browser() is None:
        pytest.skip("no Chromium or Chrome here")
    with pytest.raises(ValueError, match="make docs builds it"):
        check.check(tmp_path, check.browser())
    body = '<article><img src="gone.png"><p style="width: 900px">wide</p></article><script>console.error("oh")</script>'
    (tmp_path / "index.html").write_text(f"<meta name=viewport content='width=device-width'>{body}")
    (tmp_path / "search.html").write_text("<h1>search</h1>")
    faults = check.check(tmp_path, check.browser())
    told = " ".join(faults["index.html (360 px)"])
    assert all(word in told for word in ("wide on a screen of 360", "missing picture", "without alt text", "no title", "console: oh"))
    assert faults["search.html"] == ["the search finds nothing for 'mask'"]
