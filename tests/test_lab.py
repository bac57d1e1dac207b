"""The page that runs models in the browser, opened from disk: its numbers are PyTorch's. Skipped where there is no browser."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from minimae.data.augment import normalise
from minimae.model.mae import MAE
from minimae.model.masking import SAMPLERS, make_mask, user_mask

ROOT = Path(__file__).resolve().parent.parent
RECONSTRUCT = """async (name, pictures) => {
  const model = await lab.load(name), found = []
  for (const [picture, hidden] of pictures) {
    const { predicted, masked } = await lab.reconstruct(Uint8Array.from(picture), hidden, model)
    const { map } = await lab.call({ attended: model.size.depth - 1 })
    found.push({ predicted: Array.from(predicted), masked, map: Array.from(map) })
  }
  return found
}"""
MASKS = "cases => cases.map(([sampling, seed, grid, ratio]) => masks[sampling](seed, grid, ratio).keep)"
Evaluate = Callable[..., Any]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs" / "_static" / "lab", folder / "_static" / "lab")
    load("lab").write(folder / "_static" / "lab")
    body = (ROOT / "docs" / "lab.html").read_text(encoding="utf-8")
    path = folder / "lab.html"
    path.write_text(f'<!doctype html><html lang="en"><meta charset="utf-8"><title>lab</title><h1>Lab</h1>{body}', encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chromium(page: Path) -> Iterator[Any]:
    """The page in a tab of Chromium, with a list of what it logs and asks the network for."""
    api = pytest.importorskip("playwright.sync_api", reason="the extra docs is not installed")
    check = load("check")
    if check.browser() is None:
        pytest.skip("no Chromium or Chrome here: the page in the browser is not tested")
    with api.sync_playwright() as play:
        chrome = play.chromium.launch(executable_path=check.browser(), args=["--no-sandbox"])
        tab = chrome.new_page(viewport={"width": 390, "height": 844})
        tab.heard = check.watch(tab)
        tab.goto(page.as_uri())
        yield tab
        chrome.close()


@pytest.fixture(scope="module")
def firefox(page: Path) -> Iterator[Any]:
    driver = load("firefox")
    if driver.installed() is None:
        pytest.skip("no Firefox here: the page in the browser is not tested in Firefox")
    with driver.Firefox(driver.installed()) as tab:
        tab.open(page.as_uri(), 390, 844)
        yield tab


@pytest.fixture(params=["chromium", "firefox"])
def evaluate(request: pytest.FixtureRequest) -> Evaluate:
    """Runs a JavaScript function in the page."""
    tab = request.getfixturevalue(request.param)
    if request.param == "firefox":
        return tab.evaluate  # type: ignore[no-any-return]
    return lambda function, *arguments: tab.evaluate(f"given => ({function})(...given)", list(arguments))


@pytest.mark.parametrize("name", ["photos-tiny", "fashion-nano"])
@torch.no_grad()
def test_predictions_and_attention_are_those_of_pytorch(name: str, evaluate: Evaluate) -> None:
    trained = load("lab").with_pixels(name)
    model, size = trained.pictures, trained.size
    assert isinstance(model, MAE)
    ratios = (0.75, 0.4) if name == "fashion-nano" else (0.75,)  # the larger model takes half a second
    pixels = torch.randint(0, 256, (len(ratios), size.channels, *trained.model.encoder.size.grid), dtype=torch.uint8)
    pixels = pixels.repeat_interleave(4, 2).repeat_interleave(4, 3)  # one colour a patch, and pixels of their own
    pixels = pixels // 2 + torch.randint(0, 128, pixels.shape, dtype=torch.uint8)
    drawn = [make_mask(torch.tensor([i]), size.grid, ratio=ratio) for i, ratio in enumerate(ratios)]
    given = [[x.permute(1, 2, 0).flatten().tolist(), mask.binary[0].int().tolist()] for x, mask in zip(pixels, drawn)]
    for x, mask, found in zip(pixels, drawn, evaluate(RECONSTRUCT, name, given)):
        image, mask = normalise(x[None], trained.statistics), user_mask(mask.binary, size.grid)
        expected = model.decoder(model.encoder(image, mask), mask)[0]
        assert found["masked"] == mask.masked[0].tolist()
        assert torch.allclose(torch.tensor(found["predicted"]).view_as(expected), expected, atol=1e-3, rtol=0)
        before = model.encoder.features(image, mask)[-2]
        attended = model.encoder.blocks[-1].attention.weights(model.encoder.blocks[-1].norm1(before)).mean(1)[0]
        assert torch.allclose(torch.tensor(found["map"]).view_as(attended), attended, atol=1e-4)


def test_a_seed_gives_the_mask_of_the_package(evaluate: Evaluate) -> None:
    cases = [
        (sampling, seed, grid, ratio)
        for sampling in SAMPLERS for grid in ((16, 16), (7, 7)) for ratio in (0.5, 0.75, 0.9) for seed in (0, 1, 2**31 + 7, *range(10, 15))
    ]  # fmt: skip
    for (sampling, seed, grid, ratio), keep in zip(cases, evaluate(MASKS, cases)):
        mask = make_mask(torch.tensor([0]), grid, ratio=ratio, sampling=sampling, seed=seed)
        assert keep == mask.keep[0].tolist(), (sampling, seed, grid, ratio)


def test_a_visitor_can_use_it(chromium: Any, tmp_path: Path) -> None:
    tab = chromium
    chromium.reload()
    tab.heard.clear()

    def status(text: str) -> None:
        tab.wait_for_function("text => document.querySelector('[data-lab=status]').textContent.includes(text)", arg=text, timeout=60_000)

    tab.click("[data-lab=start]")
    tab.select_option("[data-lab=model]", "fashion-nano")  # while the other one is loaded
    tab.click("[data-lab=start]")
    status("Reconstructed in")
    assert "12 of 49 patches visible, 76 % hidden" in tab.inner_text("[data-lab=count]")
    tab.focus("[data-lab=masked]")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press(" ")
    assert tab.inner_text("[data-lab=count]").split(" of ")[0] in ("11", "13")
    painted = tab.inner_text("[data-lab=cursor]")
    tab.keyboard.press("Shift+ArrowDown")
    assert painted.startswith("row 1, column 2, ") and tab.inner_text("[data-lab=cursor]") == painted.replace("row 1", "row 2")
    tab.click("[data-lab=clear]")
    status("Nothing is hidden")
    tab.click("[data-lab=invert]")
    status("leave at least one patch visible")
    tab.select_option("[data-lab=sampling]", "grid")
    status("Reconstructed in")
    tab.check("[value=attention]")
    tab.click("[data-lab=masked]", position={"x": 5, "y": 5})
    status("is looked at most by")
    (tmp_path / "note.png").write_text("no picture")
    tab.set_input_files("[data-lab=file]", tmp_path / "note.png")
    status("cannot read note.png as a picture")
    tab.set_input_files("[data-lab=file]", ROOT / "data" / "photos" / "coffee.jpg")
    status("is looked at most by")
    assert tab.heard == [] and tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_firefox_paints_with_the_keyboard(firefox: Any, page: Path) -> None:
    count = "() => document.querySelector('[data-lab=count]').textContent"
    firefox.open(page.as_uri(), 390, 844)
    firefox.events.clear()
    firefox.evaluate("() => new Promise(done => setInterval(() => lab.pictures['photos-tiny'] && document.images[0] && done(), 20))")
    firefox.evaluate("() => document.querySelector('[data-lab=masked]').focus()")
    before = firefox.evaluate(count)
    firefox.press("\ue014 ")  # arrow to the right, space
    after = firefox.evaluate(count)
    assert before == "64 of 256 patches visible, 75 % hidden" and after.split(" of ")[0] in ("63", "65")
    assert firefox.evaluate("() => document.documentElement.scrollWidth") <= 390 and firefox.events == []


FIGURE = '<div data-figure="{}" data-pictures="{}"></div>'


def test_moving_figures_say_what_the_package_says(chromium: Any, page: Path) -> None:
    shutil.copy(ROOT / "docs" / "_static" / "figures.js", page.parent)
    places = [("grid", "_static/lab/pictures.js"), ("shuffle", ""), ("growing", "_static/lab/growing.js")]
    body = "".join(FIGURE.format(*place) for place in places) + '<script src="figures.js"></script>'
    (page.parent / "figures.html").write_text(f'<!doctype html><meta charset="utf-8">{body}', encoding="utf-8")
    tab = chromium
    tab.heard.clear()
    tab.goto((page.parent / "figures.html").as_uri())

    def move(figure: str, nth: int, value: float) -> str:
        """What a figure says after one of its sliders was moved."""
        slider = tab.locator(f"[data-figure={figure}] input").nth(nth)
        slider.evaluate("(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')) }", value)
        return str(tab.inner_text(f"[data-figure={figure}] [role=status]"))

    noise = torch.tensor([0.35, 0.2, 0.81, 0.94, 0.5, 0.57])
    order = noise.argsort()
    assert move("shuffle", 4, 0.5) == (
        f"keep: {str(order[:2].tolist())[1:-1]}; masked: {str(order[2:].tolist())[1:-1]}; restore: {str(order.argsort().tolist())[1:-1]}"
    )
    for order, count in (("(h w)", range(12)), ("(w h)", torch.arange(12).view(4, 3).T.flatten().tolist())):
        tab.select_option("[data-figure=grid] select", order)
        move("grid", 0, 4)
        assert tab.locator("[data-figure=grid] text").all_text_contents() == [str(number) for number in count]
        tab.locator("[data-figure=grid] [role=button]").nth(6).press("Enter")
        assert f"= {list(count)[6]}." in tab.inner_text("[data-figure=grid] [role=status]")
    mask = make_mask(torch.tensor([0]), (16, 16), ratio=0.98)
    assert move("growing", 0, 11).startswith(f"{mask.masked.shape[1]} of 256 patches hidden (98 %)")
    assert tab.locator("[data-figure=growing] rect").count() == mask.masked.shape[1] and tab.heard == []
