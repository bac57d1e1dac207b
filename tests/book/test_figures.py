"""What all figures share: one colour for hidden patches, two pixels of a file for each of the page, text that a phone can show."""

from __future__ import annotations

import ast
import io
import re
from pathlib import Path

import guards
import numpy as np
import pytest
from minimae_book.figures import style
from minimae_book.predictions import predict, reveal
from PIL import Image

from minimae.tasks.reconstruct import GREY_BLUE
from notebooks import build

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "notebooks" / "minimae_book"
DRAWING = [*(BOOK / "figures").glob("*.py"), *(BOOK / "evidence").glob("*.py"), *BOOK.glob("[lp]*.py"), *build.chapters()]
PALETTES = {"COLOURS", "BACKGROUND", "IGNORED"}  # of objects and classes, which need more colours than the style has


def colours_in(source: str) -> list[str]:
    """Colours that a source spells out, as "#RRGGBB" or as three shares, outside the palettes."""
    tree, found = ast.parse(source), []
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node]
        if {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)} <= PALETTES and targets != [node]:
            continue
        for part in ast.walk(node):
            if isinstance(part, ast.Constant) and isinstance(part.value, str) and re.fullmatch(r"#[0-9A-Fa-f]{6}", part.value):
                found.append(part.value)
            if isinstance(part, ast.Tuple | ast.List) and len(part.elts) == 3:
                shares = [element.value for element in part.elts if isinstance(element, ast.Constant) and type(element.value) is float]
                found += [ast.unparse(part)] if np.allclose(shares, GREY_BLUE[: len(shares)], atol=0.06) and len(shares) == 3 else []
    return found


@pytest.mark.parametrize("path", DRAWING, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_colours_have_their_one_place(path: Path) -> None:
    assert path.stem == "style" or colours_in(path.read_text(encoding="utf-8")) == []


def test_a_colour_that_is_spelt_out_is_found() -> None:
    assert colours_in("def f():\n    g(fill='#9EA8BD', edge=(0.6, 0.65, 0.72))") == ["#9EA8BD", "(0.6, 0.65, 0.72)"]
    assert colours_in("COLOURS = ('#56B4E9',)\nbetas = (0.9, 0.95, 0.1)") == []


def test_hidden_patches_have_one_colour_in_figures_reconstructions_and_on_the_site() -> None:
    assert style.HIDDEN is GREY_BLUE
    script = (ROOT / "docs" / "_static" / "figures.js").read_text(encoding="utf-8")
    assert f"rgb({', '.join(str(round(255 * share)) for share in style.HIDDEN)})" in script


def test_a_png_has_twice_the_pixels_that_it_is_shown_with() -> None:
    fig = style.figure(3.0, 1.5)
    axes = style.plain(fig.subplots())
    axes.set_xlabel("steps", fontsize=10)
    axes.imshow(np.random.default_rng(0).random((8, 8, 3)))
    data, shown = style.png(fig)
    image = Image.open(io.BytesIO(data))
    assert image.size == (720, 360) and shown["width"] == 360 and "height" not in shown, "a narrow page keeps the proportions"
    assert image.mode == "P" and image.convert("RGB").getpixel((0, 0)) == (255, 255, 255), "the ground is white on dark pages too"
    assert shown["smallest_text"] == round(10 / 72 * 120, 1), "a figure narrower than the phone is not shrunk"
    wide, _ = style.chart(style.WIDTH, 2.0)
    wide.axes[0].set_title("small", fontsize=6)
    assert style.png(wide)[1]["smallest_text"] == round(6 / 72 * 390 / style.WIDTH, 1) < 8.5


def test_titles_are_folded_between_words() -> None:
    assert style.fold("random, 75 % of the patches", 1.2) == "random, 75\u00a0%\nof the patches"
    assert style.fold("reconstruction", 1.0) == "recon-\nstruction" and style.fold("reconstruction", 1.2) == "reconstruction"
    assert style.fold("predictions", 0.5) == "predictions"
    assert style.fold("one\ntwo", 3) == "one\ntwo"


GUESSES = [(5, 93, "% hidden"), (9.0, 9.0, ""), (None, 3, "of three"), (1e6, -2.5, "of all operations in the image")]


@pytest.mark.parametrize(("guess", "truth", "unit"), GUESSES)
def test_a_guess_and_the_answer_stand_in_one_line(guess: float | None, truth: float, unit: str) -> None:
    predict("line", guess, ask="?")
    fig = reveal("line", truth, unit=unit)
    assert Image.open(io.BytesIO(style.png(fig)[0])).height <= 90
    words, scale = [text.get_window_extent() for text in fig.texts], fig.axes[0].bbox
    assert all(box.x0 >= 0 and box.x1 <= fig.bbox.width for box in words)
    assert words[0].x1 < scale.x0 and all(box.x0 > scale.x1 for box in words[1:]), "text and scale do not overlap"


def test_pictures_of_claims_are_sharp() -> None:
    for path in (ROOT / "docs" / "images" / "evidence").glob("*.png"):
        with Image.open(path) as image:
            assert image.width == style.WIDTH * style.INCH * style.SHARP, f"{path.name}: run python docs/evidence.py"


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "images").rglob("*.png")), ids=lambda path: path.stem)
def test_pictures_of_the_pages_are_whole(path: Path) -> None:
    assert guards.cut_off(path.read_bytes()) == [], "text or a line touches the edge"
