"""Open every page of the built site in a headless browser, as wide as a desk's screen and as narrow as a phone's, light and dark.

``python docs/check.py [FOLDER]`` prints what a reader would dislike: errors in the console, requests to the network, missing pictures,
maths that is still source, pages wider than the screen, crowded slides, a search that finds nothing; and what axe finds serious for
readers with disabilities, on the page that runs a model after a reconstruction, and on one page of each kind, or with ``--all`` on every
page that is not made from docstrings (minutes). Needs Chromium or Chrome on the PATH.
"""

from __future__ import annotations

import gzip
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FIRST_PAGE = 300_000
KINDS = ("index", "install", "bibliography", "search", "notebooks/03_a_vision_transformer", "api/model", "_modules/minimae/model/patches")
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
FAULTS = """() => {
  const faults = [], wide = document.documentElement.scrollWidth, screen = window.innerWidth
  if (wide > screen) {
    const out = [...document.querySelectorAll('article *')].filter(e => e.getBoundingClientRect().right > screen + 1)
    faults.push(`${wide} px wide on a screen of ${screen}: ` + out.slice(0, 3).map(e => `${e.tagName}.${e.className}`).join(' '))
  }
  for (const image of document.images) {
    if (image.loading !== 'lazy' && !image.naturalWidth) faults.push(`missing picture ${image.src}`)
    if (!image.alt) faults.push(`picture without alt text ${image.src}`)
  }
  const source = document.querySelectorAll('article .math').length
  const typeset = document.querySelectorAll('article .math mjx-container').length
  if (source && typeset < source) faults.push(`${source - typeset} of ${source} formulas are not typeset`)
  if (!document.querySelector('h1') && !location.pathname.includes('_modules')) faults.push('no title')
  return faults
}"""

CROWDED = """() => {
  const faults = []
  for (let number = 1; number <= Reveal.getTotalSlides(); number++, Reveal.next()) {
    const slide = Reveal.getCurrentSlide()
    const right = Math.max(...[...slide.querySelectorAll(':not(aside *)')].map(e => e.getBoundingClientRect().right))
    if (slide.scrollHeight > 721 || right > 1281) faults.push(`slide ${number} is ${slide.scrollHeight} px high, and ends at ${right} px`)
    if (parseFloat(slide.style.getPropertyValue('--size')) < 20) faults.push(`slide ${number} has small type`)
    for (const image of slide.querySelectorAll('img')) if (!image.naturalWidth || !image.alt) faults.push(`slide ${number}: ${image.alt}`)
  }
  return faults
}"""


def browser() -> str | None:
    """The path of a browser, or None."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def pages(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.html") if "_static" not in path.parts)


def look(tab: Any, url: str) -> list[str]:
    """The faults of one page in one size."""
    tab.goto(url)
    if tab.query_selector("article .math"):
        tab.wait_for_function("() => window.MathJax && MathJax.startup && MathJax.startup.promise", timeout=20_000)
        tab.evaluate("() => MathJax.startup.promise")
    return list(tab.evaluate(FAULTS))


def watch(tab: Any) -> list[str]:
    """A list that grows by what the pages of a tab complain about, and by what they ask the network for."""
    heard: list[str] = []
    tab.on("console", lambda message: heard.append(f"console: {message.text}"))
    tab.on("pageerror", lambda error: heard.append(f"error: {error}"))
    tab.on("request", lambda request: heard.append(f"network: {request.url}") if request.url.startswith("http") else None)
    return heard


def check(folder: Path, executable: str, *, every: bool = False) -> dict[str, list[str]]:
    """Faults by page; a page without any is not in it. every: axe runs on all pages. Raises ValueError when the folder holds no site."""
    from playwright.sync_api import sync_playwright

    if not (folder / "index.html").is_file():
        raise ValueError(f"there is no site in {folder}: make docs builds it")
    found: dict[str, list[str]] = {}
    with sync_playwright() as play:
        chrome = play.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for size, scheme in ((DESK, "light"), (PHONE, "dark")):
            tab = chrome.new_context(viewport=size, color_scheme=scheme).new_page()  # type: ignore[arg-type]
            heard = watch(tab)
            for page in pages(folder):
                heard.clear()
                faults = look(tab, page.as_uri())
                if faults or heard:
                    name = f"{page.relative_to(folder)} ({size['width']} px)"
                    found[name] = list(dict.fromkeys(faults + heard))
            if size is DESK and (weight := compressed(tab, (folder / "index.html").as_uri())) > FIRST_PAGE:
                found["index.html when it loads"] = [f"{weight:,} bytes, compressed; at most {FIRST_PAGE:,} are wanted"]
            if (folder / "lab.html").is_file():
                reconstruct(tab, (folder / "lab.html").as_uri())
                if faults := barriers(tab, context="article"):
                    found[f"lab.html in use ({size['width']} px)"] = faults
            for page in pages(folder):
                name = str(page.relative_to(folder))
                if name.removesuffix(".html") in KINDS or (every and not name.startswith(("api", "_modules"))):
                    look(tab, page.as_uri())
                    if faults := barriers(tab):
                        found.setdefault(f"{name} ({size['width']} px)", []).extend(faults)
            for deck in sorted((folder / "_static" / "slides").glob("*.html")) if size is DESK else []:
                heard.clear()
                if faults := [*crowded(tab, deck.as_uri()), *heard]:
                    found[f"slides/{deck.name}"] = faults
            if size is DESK and not hits(tab, folder, "mask"):
                found["search.html"] = ["the search finds nothing for 'mask'"]
        chrome.close()
    return found


def crowded(tab: Any, url: str) -> list[str]:
    """The slides of a deck, 1280 × 720, that lose something below or beside the screen, or that need type below 20 pixels to fit."""
    tab.set_viewport_size({"width": 1280, "height": 720})
    tab.goto(url)
    tab.wait_for_function("() => window.Reveal && Reveal.isReady()")
    faults = list(tab.evaluate(CROWDED))
    tab.set_viewport_size(DESK)
    return faults


def compressed(tab: Any, url: str) -> int:
    """What a page loads from this folder, in bytes, as a server would send it."""
    files: set[str] = set()
    tab.on("request", lambda request: files.add(request.url.partition("?")[0]))
    tab.goto(url)
    tab.wait_for_load_state("networkidle")
    paths = [Path(unquote(urlsplit(file).path)) for file in files if file.startswith("file:")]
    return sum(len(gzip.compress(path.read_bytes())) for path in paths if path.is_file())


def reconstruct(tab: Any, url: str) -> None:
    """Run the model of the page that has one, and show its attention."""
    tab.goto(url)
    tab.click("[data-lab=start]")
    tab.wait_for_function("() => document.querySelector('[data-lab=status]').textContent.startsWith('Reconstructed')", timeout=120_000)
    tab.check("[value=attention]")


def barriers(tab: Any, **where: str) -> list[str]:
    """What axe finds serious or critical on the page that is open."""
    from axe_playwright_python.sync_playwright import Axe

    violations = Axe().run(tab, options={"preload": False}, **where).response["violations"]
    return [f"axe: {v['id']}: {v['help']}: {v['nodes'][0]['html']}" for v in violations if v["impact"] in ("serious", "critical")]


def hits(tab: Any, folder: Path, word: str) -> int:
    """How many results the site's search shows for a word."""
    tab.goto((folder / "search.html").as_uri() + f"?q={word}")
    tab.wait_for_timeout(1500)
    return int(tab.evaluate("() => document.querySelectorAll('#search-results li').length"))


def main() -> None:
    every = "--all" in sys.argv
    folder = Path(next((word for word in sys.argv[1:] if word != "--all"), "docs/_build/html")).resolve()
    executable = browser()
    if executable is None:
        print(f"no browser ({', '.join(BROWSERS)}) on the PATH: the pages were not opened")
        return
    faults = check(folder, executable, every=every)
    for page, told in faults.items():
        print(page, *told, sep="\n  ")
    print(f"{len(pages(folder))} pages opened, as wide as a desk and as narrow as a phone: {len(faults) or 'none'} with faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
