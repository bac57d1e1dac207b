"""``minimae reconstruct``: your own photo of any size, the shipped photographs, an animation; and nothing comes from hidden patches."""

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from minimae_book import demo as demo_module
from minimae_book.figures import mask_ratios
from minimae_book.figures.style import figure
from minimae_book.photographs import GROWING, shipped_photographs
from PIL import Image

import minimae
from minimae.cli import main
from minimae.data.augment import normalise
from minimae.errors import Interrupted, MinimaeError
from minimae.model.masking import make_mask, user_mask
from minimae.tasks.reconstruct import (
    GREY_BLUE,
    LARGEST,
    TITLES,
    WINDOWS,
    fit_to_model,
    predict_in_windows,
    reconstruction_triplets,
    starts,
)

TRAINED = minimae.load("photos-tiny")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.open(shipped_photographs()[0]).resize((72, 64)).save("holiday.jpg")
    return tmp_path


def test_the_default_is_the_model_of_photographs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reconstruct", "holiday.jpg", "--animate", "new/mask.gif"]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "weights: photos-tiny, trained on tiny-imagenet, in colour"
    assert others[0].startswith("reconstruction.png: 75 % of the patches hidden. Visible patches are pasted")
    assert "nothing comes from the hidden patches" in others[0] and others[1].startswith("new/mask.gif: ")
    with Image.open("new/mask.gif") as moving, Image.open("reconstruction.png") as figure:
        assert moving.n_frames == len(GROWING) and min(figure.size) > 900
        hidden = []
        for i in range(len(GROWING)):
            moving.seek(i)
            frame = np.asarray(moving.convert("RGB")).astype(int)[:, moving.width // 3 : 2 * moving.width // 3]
            hidden.append((abs(frame - 255 * np.array(GREY_BLUE)).max(-1) < 12).mean())
    assert hidden == sorted(hidden) and hidden[0] < 0.2 and hidden[-1] > 0.8


@pytest.mark.parametrize("words", [
    ["reconstruct", "holiday.jpg", "--out", "holiday.jpg"], ["reconstruct", "holiday.jpg", "--out", "../here/holiday.jpg"],
    ["reconstruct", "holiday.gif", "--animate", "holiday.gif"], ["reconstruct", "a-2.png", "holiday.jpg", "--out", "a.png"],
    ["reconstruct", "holiday.jpg", "--out", "a.gif", "--animate", "a.gif"], ["export", "net.safetensors", "net.safetensors", "--half"],
    ["recipes", "fashion-demo", "--save", "my.json"],
    ["evaluate", "--weights", "net.safetensors", "--predictions", "a.csv", "--confusion", "a.csv"],
    ["evaluate", "--weights", "net.safetensors", "--confusion", "net.safetensors"],
])  # fmt: skip
def test_nothing_of_the_users_is_replaced(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in ("holiday.jpg", "holiday.gif", "a-2.png"):
        Image.new("RGB", (64, 64), (200, 30, 30)).save(name)
    Path("my.json").write_text("{}")
    minimae.save(minimae.load("fashion-nano"), Path("net.safetensors"))
    before = {path: path.read_bytes() for path in Path().iterdir()}
    assert main(words) == 2
    assert re.search("would be overwritten|already exists", capsys.readouterr().err)
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


def test_a_small_model_takes_one_thread(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One image at a time is little work: with two threads on two busy cores the command took seven times as long."""
    seen: list[int] = []
    monkeypatch.setattr("minimae.train.threads.cores", lambda share=1: 4)
    monkeypatch.setattr("minimae.cli.show.ratio_figure", lambda *a, **k: seen.append(torch.get_num_threads()) or (figure(1, 1), ""))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        assert main(["reconstruct", "holiday.jpg"]) == 0 and seen == [1]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("words", [["--weights", "fashion-nano"], ["--weights", "fashion-nano", "--animate", "a.webp"], ["--seed", "3"]])
def test_a_grey_picture_too(words: list[str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.open("holiday.jpg").convert("L").save("grey.png")
    assert main(["reconstruct", "grey.png", *words]) == 0
    assert ("in grey" if "fashion-nano" in words else "in colour") in capsys.readouterr().out


def test_without_a_picture_shipped_ones_are_shown(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    photographs = shipped_photographs()
    licence = (photographs[0].parent / "LICENSE.md").read_text(encoding="utf-8")
    assert len(photographs) == 4 and all(f"`{path.name}`" in licence for path in photographs)
    assert {Image.open(path).size for path in photographs} == {(432, 288)}
    monkeypatch.setattr("minimae_book.photographs.shipped_photographs", lambda: photographs[:1])
    assert main(["reconstruct", "--out", "a.png"]) == 0 and main(["reconstruct", "--weights", "fashion-nano", "--out", "b.png"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith("a.png: ") and said[3].startswith("b.png: ")
    assert Path("a.png").is_file() and Path("b.png").is_file()


def test_the_main_job_ends_with_photographs(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its training and comparison are tested elsewhere, and left out."""
    trained = minimae.load("fashion-nano")
    monkeypatch.setattr(demo_module, "pretrain", lambda *a, **k: (trained.model, SimpleNamespace(loss=0.5, seen=1, seconds=1.0)))
    monkeypatch.setattr(demo_module, "pretraining_parts", lambda *a: ([], "As expected."))
    monkeypatch.setattr(demo_module, "compare", lambda *a, **k: demo_module.Comparison())
    monkeypatch.setattr(demo_module, "comparison", lambda *a: figure(1, 1))
    monkeypatch.setattr("minimae_book.photographs.shipped_photographs", lambda: shipped_photographs()[:1])
    demo_module.demo(Path("demo"))
    *_, page, last = capsys.readouterr().out.splitlines()
    assert "demo/report.html" in page and last.startswith("Photographs, 75 % hidden: demo/photographs.png")
    assert Path("demo/photographs.png").stat().st_size > 50_000
    assert "nothing comes from the hidden patches" in Path("demo/report.html").read_text(encoding="utf-8")


def test_a_stopped_main_job_can_continue(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stops(*_: Any, **__: Any) -> None:
        raise Interrupted("stopped. Saved at step 3; continue with: minimae pretrain --resume demo", 2)

    monkeypatch.setattr(demo_module, "pretrain", stops)
    assert main(["demo", "--out", "demo"]) == 2
    told = capsys.readouterr().err
    assert "stopped; start the same command again to continue: the pre-training is in demo (after" in told and "--resume" not in told


@pytest.mark.parametrize(("words", "said"), [
    (["notes.jpg"], "notes.jpg cannot be read as a picture"), (["absent.jpg"], "no picture at absent.jpg"), (["thin.png"], "too thin"),
    (["holiday.jpg", "--animate", "film.mp4"], "ends in .gif, .png or .webp"), (["--animate", "a.gif"], "an animation needs a picture"),
    (["holiday.jpg", "--out", "holiday.jpg/a.png"], "cannot write holiday.jpg/a.png"),
])  # fmt: skip
def test_one_line_says_what_is_wrong(words: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.jpg").write_text("not a picture", encoding="utf-8")
    Image.new("RGB", (2000, 4)).save("thin.png")
    assert main(["reconstruct", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and error.startswith("minimae: ")


@settings(max_examples=20, deadline=None)
@example(short=900, ratio=1.5, tall=True)
@given(short=st.integers(1, 100), ratio=st.floats(1, 32), tall=st.booleans())
def test_any_size_and_shape_fits(short: int, ratio: float, tall: bool) -> None:
    long = int(short * ratio)
    image = torch.zeros(1, 3, *((long, short) if tall else (short, long)), dtype=torch.uint8)
    height, width = fit_to_model(image, TRAINED).shape[-2:]
    least, most = sorted((height, width))
    assert height % 4 == width % 4 == 0 and 64 <= least <= 64 * WINDOWS and (height >= width if tall else width >= height)
    assert least == 64 or height * width <= LARGEST * 64 * 64 * 1.05
    assert abs(most - least * long / short) <= 4 + 2 * long / short
    assert least <= max(64, short + 2), "no photo is made larger than it is, unless it is smaller than the model's images"


def test_what_is_too_thin_is_refused() -> None:
    with pytest.raises(MinimaeError, match="1 × 100 pixels is too thin: cut it to at most 32 : 1"):
        fit_to_model(torch.zeros(1, 3, 1, 100, dtype=torch.uint8), TRAINED)


@pytest.mark.parametrize("sides", [(64, 64), (64, 96), (84, 72)])
@pytest.mark.parametrize("ratio", [0.5, 0.9])
def test_hidden_pixels_change_nothing(sides: tuple[int, int], ratio: float) -> None:
    grid = (sides[0] // 4, sides[1] // 4)
    mask = make_mask(torch.arange(1), grid, ratio=ratio, seed=5)
    hidden = mask.binary.view(1, 1, *grid).repeat_interleave(4, 2).repeat_interleave(4, 3).bool()
    one, two = torch.rand(2, 1, 3, *sides, generator=torch.Generator().manual_seed(1))
    two = torch.where(hidden, two, one)
    [(_, seen, first)], [(_, same, second)] = (reconstruction_triplets(TRAINED, image, mask) for image in (one, two))
    assert not torch.equal(one, two) and torch.equal(seen, same) and torch.equal(first, second)
    visible = ~hidden[0, 0]
    assert torch.allclose(first[visible], one[0].permute(1, 2, 0)[visible], atol=1e-5), "the visible patches are pasted"
    [(_, _, borrowed)] = reconstruction_triplets(replace(TRAINED, pictures=None), two, mask)
    [(_, _, other)] = reconstruction_triplets(replace(TRAINED, pictures=None), one, mask)
    assert not torch.equal(borrowed, other), "the decoder of normalised pixels does borrow, and would fail this test"


@given(window=st.integers(1, 40), more=st.integers(0, 200))
def test_windows_cover_and_overlap_by_half(window: int, more: int) -> None:
    found = starts(window + more, window)
    assert found[0] == 0 and found[-1] == more and found == sorted(found)
    assert all(b - a <= (window + 1) // 2 for a, b in pairwise(found))


@torch.no_grad()
def test_windows_are_blended_by_their_distance_from_the_edge() -> None:
    """Against a loop over windows and pixels in float64."""
    model = TRAINED.pictures
    assert model is not None
    image = normalise(torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)), TRAINED.statistics)
    mask = make_mask(torch.arange(1), (16, 24))
    total, weights = np.zeros((3, 64, 96)), np.zeros((64, 96))
    for x in (0, 8):
        part = user_mask(mask.binary.view(1, 16, 24)[:, :, x : x + 16], (16, 16))
        predicted = model.reconstruct(image[..., 4 * x : 4 * x + 64], part).predicted[0].double().numpy()
        for i in range(64):
            for j in range(64):
                weight = min(i + 0.5, 63.5 - i) * min(j + 0.5, 63.5 - j)
                total[:, i, 4 * x + j] += weight * predicted[:, i, j]
                weights[i, 4 * x + j] += weight
    assert np.allclose(predict_in_windows(model, image, mask)[0].numpy(), total / weights, atol=1e-4)


def test_where_nothing_is_visible_the_mean_colour_is_shown() -> None:
    removed = torch.ones(1, 16, 64)
    removed[:, :, :4] = 0
    [(_, _, reconstructed)] = reconstruction_triplets(TRAINED, torch.rand(1, 3, 64, 256), user_mask(removed, (16, 64)))
    assert torch.allclose(reconstructed[:, -64:], TRAINED.statistics[0].expand(64, 64, 3), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (64, 640), (96, 32), (28, 28)])
def test_the_figure_fits_the_picture(height: int, width: int, tmp_path: Path) -> None:
    fig = mask_ratios([[np.zeros((height, width, 3))] * 3] * 5, [0.75, 0.5, 0.8, 0.9, 0.95], TITLES)
    fig.savefig(tmp_path / "a.png", dpi=40)
    large, small = [part.axes for part in fig.subfigs]
    assert len(large) == 3 and len(small) == 8 and large[1].get_title() == "what it saw: 75 % hidden"
    boxes = [axes.get_position() for axes in large]
    assert (len({round(box.y0, 3) for box in boxes}) == 3) == (width > 2.5 * height), "a panorama's stages stand below each other"
