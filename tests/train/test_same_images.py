"""A resumed run is tied to its images: others are refused in words, and the printed command goes on with those it was started with."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from minimae import MinimaeError, data
from minimae.cli.program import main
from minimae.data.images import Images
from minimae.tasks.finetune import Finetune, finetune
from minimae.tasks.pretrain import Pretrain, build, pretrain
from minimae.train import run as run_module
from minimae.train.checkpoint import load_checkpoint
from minimae.train.resume import differences, identity

TINY = Pretrain(
    size="nano", image=8, width=16, depth=1, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2,
    epochs=2, warmup_epochs=1, batch=8, base_lr=0.05, save_every=0.0,
)  # fmt: skip
SMALL = shlex.split("--width 32 --depth 1 --heads 2 --decoder-width 16 --decoder-heads 2 --patch 7 --warmup-epochs 0 --device cpu")
QUICK = [*SMALL, "--batch", "32"]


def noise(count: int = 40, seed: int = 1, labels: torch.Tensor | None = None) -> Images:
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Images("noise", pixels, torch.arange(count) % 4 if labels is None else labels, ("a", "b", "c", "d"))


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (lambda: noise(48), "images: 40 → 48"),
        (lambda: noise().subset(range(39)), "images: 40 → 39"),
        (lambda: noise(80).subset(range(40, 80)), "other ids; other contents"),
        (lambda: noise(seed=2), "other contents"),
        (lambda: noise(labels=torch.arange(40) % 3), "other labels"),
        (lambda: replace(noise(), classes=tuple("abcde")), "classes: 4 → 5"),
    ],
)
def test_other_images_are_refused_in_words(others: Callable[[], Images], said: str, tmp_path: Path) -> None:
    pretrain(TINY, noise(), tmp_path, quiet=True)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(MinimaeError, match=f"was trained on other images .*{said}.*give the same images"):
        pretrain(replace(TINY, epochs=3), others(), tmp_path, resume=True, quiet=True)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_other_labels_of_fine_tuning_are_refused(tmp_path: Path) -> None:
    images, recipe = noise(), Finetune(epochs=2, warmup_epochs=0, batch=8)
    encoder = build(TINY, images).encoder
    finetune(recipe, encoder, images.balanced_subset(16), images.statistics, tmp_path, quiet=True)
    with pytest.raises(MinimaeError, match="other images .*images: 16 → 24"):
        finetune(recipe, encoder, images.balanced_subset(24), images.statistics, tmp_path, resume=True, quiet=True)
    with pytest.raises(MinimaeError, match="other images .*statistics"):
        mean, std = images.statistics
        finetune(recipe, encoder, images.balanced_subset(16), (mean + 0.1, std), tmp_path, resume=True, quiet=True)


def test_a_checkpoint_of_version_05_knows_its_statistics_only(tmp_path: Path) -> None:
    pretrain(TINY, noise(), tmp_path, quiet=True)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    torch.save({name: value for name, value in state.items() if name not in ("images", "threads")}, tmp_path / "checkpoint.pt")
    pretrain(TINY, noise(), tmp_path, resume=True, quiet=True)
    with pytest.raises(MinimaeError, match="other images .*statistics: "):
        pretrain(TINY, noise(seed=2), tmp_path, resume=True, quiet=True)


def pictures(folder: Path, count: int = 8, *, suffix: str = "png") -> Path:
    for i in range(count):
        for split in ("train", "val"):
            path = folder / split / "ab"[i % 2] / f"{i:02d}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = torch.randint(0, 256, (32, 32, 3), generator=torch.Generator().manual_seed(i), dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(path)
    return folder


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_set_is_the_same_wherever_it_lies_and_however_it_is_read(suffix: str, tmp_path: Path) -> None:
    ways: list[Any] = ["memory", "files"]
    pictures(tmp_path / "here", suffix=suffix)
    before = identity(data.open_images(tmp_path / "here", read_from="memory"))
    (tmp_path / "here").rename(tmp_path / "there")
    for way in ways:
        assert not differences({"images": before}, {"images": identity(data.open_images(tmp_path / "there", read_from=way))})
    pictures(tmp_path / "there", 9, suffix=suffix)
    for way in ways:
        assert differences({"images": before}, {"images": identity(data.open_images(tmp_path / "there", read_from=way))}) == [
            "images: 8 → 9"
        ]


def test_a_picture_that_was_replaced_is_noticed(tmp_path: Path) -> None:
    folder = pictures(tmp_path)
    before = identity(data.open_images(folder, read_from="files"))
    Image.new("RGB", (32, 32), (0, 90, 200)).save(folder / "train" / "a" / "02.png")
    assert differences({"images": before}, {"images": identity(data.open_images(folder, read_from="files"))}) == ["other contents"]


# --- the command that is printed ------------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Run a command, stop it after two steps, and return the words of the command that it prints for going on."""

    def run(*words: str) -> list[str]:
        original = run_module.Agreement.passed
        calls: list[int] = []

        def passed(self: Any) -> bool:
            calls.append(1)
            self.stop = original(self) or len(calls) >= 2
            return bool(self.stop)

        with monkeypatch.context() as patch:
            patch.setattr(run_module.Agreement, "passed", passed)
            assert main(list(words)) == 0
        said = capsys.readouterr().err
        assert "Saved at step 2 of" in said, said
        return shlex.split(said.partition("continue with: minimae ")[2].rpartition(" (after")[0])

    return run


def test_the_printed_command_of_pretraining_goes_on_with_its_images(stopped: Any, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "a run"  # a name that a shell must see quoted
    again = stopped("pretrain", "fashion-demo", *QUICK, "--limit", "128", "--epochs", "2", "--out", str(out))
    assert again == ["pretrain", "--resume", str(out)]
    assert main([*again, "--limit", "160"]) == 2
    assert "was trained on other images (images: 128 → 160" in capsys.readouterr().err
    assert main(["pretrain", "fashion-demo", *again[1:]]) == 0, "naming the recipe again changes nothing"
    assert main(again) == 0
    state = load_checkpoint(out / "checkpoint.pt")
    assert state["step"] == 8 and state["images"]["images"] == 128
    assert main([*again, "--epochs", "3"]) == 0
    said = capsys.readouterr().err
    assert "extended from 2 to 3 epochs: the cosine now ends at step 12 instead of 8, so at step 8 the learning rate goes from" in said
    assert load_checkpoint(out / "checkpoint.pt")["step"] == 12
    assert main([*again, "--epochs", "1"]) == 2 and "epochs: 3.0 → 1.0" in capsys.readouterr().err


def test_the_printed_commands_of_fine_tuning_and_probe_go_on_with_their_labels(stopped: Any, tmp_path: Path, capsys: Any) -> None:
    base = tmp_path / "base"
    assert main(["pretrain", "fashion-demo", *QUICK, "--limit", "64", "--epochs", "0.5", "--out", str(base)]) == 0
    how = ["--weights", str(base), "--limit", "96", "--batch", "16", "--epochs", "2", "--warmup-epochs", "0", "--device", "cpu"]
    for name, words in (("finetune", ["--labels", "48"]), ("probe", [])):
        out = tmp_path / name
        recipe = ["imagenet-base-probe"] if name == "probe" else []
        again = stopped(name, *recipe, *how, *words, "--accumulate", "1", "--out", str(out))
        assert again == [name, "--out", str(out), "--resume"]
        assert main(again) == 0, capsys.readouterr().err
        state = load_checkpoint(out / "checkpoint.pt")
        assert state["images"]["images"] == (48 if name == "finetune" else 96) and state["step"] == (6 if name == "finetune" else 12)
    assert main(["finetune", "--out", str(tmp_path / "finetune"), "--resume", "--labels", "60"]) == 2
    assert "was trained on other images (images: 48 → 60" in capsys.readouterr().err


def test_the_same_pictures_under_another_path_go_on(stopped: Any, tmp_path: Path, capsys: Any) -> None:
    folder, out = pictures(tmp_path / "here"), tmp_path / "run"
    words = [*SMALL, "--image", "28", "--batch", "4", "--epochs", "3"]
    stopped("pretrain", "fashion-demo", "--data", str(folder), *words, "--out", str(out))
    folder.rename(tmp_path / "there")
    assert main(["pretrain", "--resume", str(out), "--data", str(tmp_path / "there")]) == 0, capsys.readouterr().err
    assert load_checkpoint(out / "checkpoint.pt")["step"] == 6
